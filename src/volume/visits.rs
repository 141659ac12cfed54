//! How many records of lines and snapshots were looked at: for tests of what it costs to look often. Elsewhere nothing is counted.

/// One was looked at by this thread.
#[cfg(test)]
pub(crate) fn count() {
    VISITS.with(|visits| visits.set(visits.get() + 1));
}

/// The same where nobody asks.
#[cfg(not(test))]
pub(crate) fn count() {}

/// How many this thread has looked at.
#[cfg(test)]
pub(crate) fn so_far() -> u64 {
    VISITS.with(std::cell::Cell::get)
}

#[cfg(test)]
thread_local! {
    static VISITS: std::cell::Cell<u64> = const { std::cell::Cell::new(0) };
}
