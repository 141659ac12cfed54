//! Calls that may never return: made in a thread of their own, and waited for only so long.

use std::sync::mpsc;
use std::time::Duration;

/// What `call` returns, if it does so in time. A call that does not goes on, and ends with the process at the latest.
pub(super) fn within<T: Send + 'static>(
    limit: Duration,
    call: impl FnOnce() -> T + Send + 'static,
) -> Option<T> {
    let (done, result) = mpsc::channel();
    let thread = std::thread::Builder::new().name("patience".into());
    thread.spawn(move || drop(done.send(call()))).ok()?; // nobody may wait any more
    result.recv_timeout(limit).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_call_that_does_not_return_is_given_up() {
        assert_eq!(within(Duration::from_secs(60), || 7), Some(7));
        let (never, end) = mpsc::channel::<()>();
        assert_eq!(within(Duration::from_millis(10), move || end.recv()), None);
        drop(never);
    }
}
