//! Snapshots that are being sent: by whom and since when. They are not deleted meanwhile.
//!
//! It is known in memory only: it ends with who sends them, and with the mount. What is to be there when a transfer was cut off
//! is a hold.

use crate::format::ViewId;
use parking_lot::Mutex;
use std::collections::BTreeMap;
use std::sync::Arc;

/// A snapshot that is being sent.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Departure {
    /// The snapshot.
    pub view: ViewId,
    /// Who sends it, where it is known.
    pub user: Option<u32>,
    /// Since when, in seconds since 1970 UTC.
    pub since_secs: i64,
}

/// All of them, by numbers, and the last of these. A leaf in the order of locks.
#[derive(Default)]
pub struct Departing(Mutex<(u64, BTreeMap<u64, Departure>)>);

/// One that goes on until this is dropped.
pub struct UnderDeparture {
    all: Arc<Departing>,
    number: u64,
}

impl Drop for UnderDeparture {
    fn drop(&mut self) {
        self.all.0.lock().1.remove(&self.number);
    }
}

impl Departing {
    /// Begins one.
    pub fn begin(self: &Arc<Self>, departure: Departure) -> UnderDeparture {
        let mut all = self.0.lock();
        all.0 += 1;
        let number = all.0;
        all.1.insert(number, departure);
        UnderDeparture { all: self.clone(), number }
    }

    /// All, oldest first.
    pub fn all(&self) -> Vec<Departure> {
        self.0.lock().1.values().copied().collect()
    }

    /// True if a snapshot is being sent.
    pub fn has(&self, view: ViewId) -> bool {
        self.0.lock().1.values().any(|departure| departure.view == view)
    }
}
