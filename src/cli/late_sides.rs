//! Sides of a mirror that take part no more, and of which calls have not returned: held until these have, for they may
//! change the side still.

use super::held_side::{HeldSide, late};
use super::sides::real_path;
use crate::ctl::{Code, Failure};
use crate::device::Mirror;
use crate::device::bystander::Beside;
use crate::names;
use parking_lot::Mutex;
use std::mem::ManuallyDrop;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

/// How long a side that is let go of is waited for: longer than calls take that nobody waits for.
const LATE_WAIT: Duration = Duration::from_secs(1);

/// Takes out of a list what is meant.
fn take_out(sides: &mut Vec<HeldSide>, is_meant: impl Fn(&HeldSide) -> bool) -> Vec<HeldSide> {
    let (these, others) = std::mem::take(sides).into_iter().partition(|side| is_meant(side));
    *sides = others;
    these
}

/// Those of one mirror. Any thread. Its lock is before those of the mirror.
pub(super) struct LateSides {
    mirror: Arc<Mirror>,
    sides: Arc<Mutex<Vec<HeldSide>>>,
}

impl LateSides {
    /// None.
    pub(super) fn new(mirror: &Arc<Mirror>) -> LateSides {
        LateSides { mirror: mirror.clone(), sides: Arc::default() }
    }

    /// Lets go of a side, when its calls have returned.
    pub(super) fn let_go(&self, side: HeldSide) {
        if self.mirror.have_returned(side.device(), LATE_WAIT) {
            return;
        }
        let (mirror, sides, device) = (self.mirror.clone(), self.sides.clone(), side.device().clone());
        self.sides.lock().push(side);
        let waits = move || {
            while !mirror.have_returned(&device, LATE_WAIT) {}
            let these = take_out(&mut sides.lock(), |side| Arc::ptr_eq(side.device(), &device));
            // Closed when nobody waits for the lock.
            drop((these, device));
        };
        if let Err(e) = std::thread::Builder::new().name("mirror-late".into()).spawn(waits) {
            log::warn!("a side of which calls have not returned is held until the next order: {e}");
        }
    }

    /// Refuses a side that left and that late calls may still change.
    pub(super) fn refuse(&self, path: &Path, limit: Duration, beside: &Beside) -> Result<(), Failure> {
        let real = real_path(path, limit, beside).ok_or_else(|| late(path, limit))?;
        let (returned, is_here) = {
            let mut sides = self.sides.lock();
            let returned = take_out(&mut sides, |side| self.mirror.pending_calls_of(side.device()) == 0);
            (returned, sides.iter().any(|side| real.as_ref() == Some(&side.path)))
        };
        // Closed when nobody waits for the lock.
        drop(returned);
        if !is_here {
            return Ok(());
        }
        let what =
            "calls of this side from before it left have not returned: it cannot come back before they have";
        Err(Failure::new(Code::Busy, format!("{}: {what}", names::shown(path))))
    }

    /// Lets go of all of them, and of others, as soon as their calls have returned, or with this process.
    pub(super) fn close(&self, others: impl Iterator<Item = HeldSide>) {
        let late = std::mem::take(&mut *self.sides.lock());
        let pends = |side: &HeldSide| !self.mirror.have_returned(side.device(), LATE_WAIT);
        for side in late.into_iter().chain(others).filter(pends) {
            let (mirror, side) = (self.mirror.clone(), ManuallyDrop::new(side));
            let waits = move || {
                while !mirror.have_returned(side.device(), LATE_WAIT) {}
                drop(ManuallyDrop::into_inner(side));
            };
            if let Err(e) = std::thread::Builder::new().name("mirror-late".into()).spawn(waits) {
                log::warn!("a side of which calls have not returned is held until this process ends: {e}");
            }
        }
    }
}
