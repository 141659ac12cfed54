//! Lines that are being received: each is worked on by one at a time, who receives it or who gives it up.
//!
//! Invariant: whoever publishes such a line or drops it is at work on it, so between a look at its record and what follows
//! from it nobody else ends it. A snapshot is received by one at a time too, in whatever stream it comes.

use crate::format::line::LineRecord;
use crate::format::{Identity, Ino, Key, Kind};
use parking_lot::Mutex;
use std::collections::BTreeSet;

/// In front of the number of a stream: the name of the line that it is received in.
const LINE_PREFIX: &str = ".receiving-";

/// The item that says how far a line is.
pub fn arrival_key() -> Key {
    Key::new(Ino::ARRIVAL.0, Kind::Arrival, 0)
}

/// What the line is called in which a stream is received.
pub fn arrival_name(stream: Identity) -> Vec<u8> {
    format!("{LINE_PREFIX}{stream}").into_bytes()
}

/// The stream that is received in a line.
pub(super) fn stream_of(line: &LineRecord) -> Option<Identity> {
    let name = std::str::from_utf8(&line.name).ok()?;
    Identity::parse(name.strip_prefix(LINE_PREFIX)?)
}

/// Streams, and snapshots that come in them, that somebody works on now. A leaf in the order of locks.
#[derive(Default)]
pub struct Arriving(Mutex<BTreeSet<Identity>>);

/// Work on some of them, until it is dropped.
pub struct AtWork<'a> {
    all: &'a Arriving,
    on: Vec<Identity>,
}

impl Drop for AtWork<'_> {
    fn drop(&mut self) {
        let mut all = self.all.0.lock();
        all.retain(|one| !self.on.contains(one));
    }
}

impl Arriving {
    /// Begins to work on all of these; none if somebody works on one of them.
    pub fn begin(&self, on: &[Identity]) -> Option<AtWork<'_>> {
        let mut all = self.0.lock();
        if on.iter().any(|one| all.contains(one)) {
            return None;
        }
        all.extend(on);
        Some(AtWork { all: self, on: on.to_vec() })
    }

    /// True if somebody works on this now.
    pub fn has(&self, one: Identity) -> bool {
        self.0.lock().contains(&one)
    }
}
