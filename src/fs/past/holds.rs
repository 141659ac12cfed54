//! Holds of snapshots, and the age of the store by which they end.
//!
//! What has passed is found out here ([`AgeClock`]) and noted in the store only while something waits for it: a hold that ends, a copy that holds its snapshot, something in the trash.
//! A hold that is put while time is still owed to the store for days in which nobody had it open ends as much later: never
//! before its time has really passed.

use super::applications::Reached;
use super::snapdir::Past;
use crate::clock::Clock;
use crate::format::ViewId;
use crate::format::age::AgeRecord;
use crate::format::hold::HoldRecord;
use crate::format::hydration::{CopyHold, HydrationRecord};
use crate::format::ids::COUNTER_MAX;
use crate::format::provenance::{MadeBy, Provenance};
use crate::fs::heads::Head;
use crate::names;
use crate::ops::{Error, Result};
use crate::schedule::AgeClock;
use crate::sys::process;
use crate::volume::{NewHold, ReserveFor};
use std::sync::Arc;
use std::time::Duration;

/// The age of the store is noted after so many seconds if something has changed since, so that a commit is due anyway.
const NOTED_SECS: u64 = 60;
/// And after so many in any case.
const NOTED_AT_REST_SECS: u64 = 3600;

/// For so long a snapshot is held for a copy that does not go on, in seconds: whatever is in its way has a month to get out of it.
pub const COPY_KEPT_SECS: u64 = 30 * 24 * 3600;

/// For how long something is to stay: a tag, and seconds after which it ends.
#[derive(Clone, Copy)]
pub struct HoldTerms<'t> {
    /// What the hold is called.
    pub tag: &'t str,
    /// None: until it is released.
    pub after: Option<u64>,
}

/// The time of day and what has passed, times in which the machine slept included.
pub fn moment(clock: &Clock) -> (i64, Duration) {
    let passed = match clock {
        Clock::System => process::since_boot(),
        Clock::Manual(_) => clock.passed(),
    };
    (clock.now().secs, passed)
}

impl Past {
    /// How old the store is.
    pub fn age(&self) -> AgeRecord {
        self.look_at_age(false).0
    }

    /// The same for what begins now: and how much may come to be believed later of what was before.
    pub(super) fn age_for_new(&self) -> (AgeRecord, u64) {
        self.look_at_age(!self.commits.heads.volume.waits_for_age())
    }

    fn look_at_age(&self, anew: bool) -> (AgeRecord, u64) {
        let heads = &self.commits.heads;
        let now = moment(&heads.clock);
        let mut clock = self.ageing.clock.lock();
        let clock = clock.get_or_insert_with(|| AgeClock::new(heads.volume.age(), now));
        clock.look(now);
        if anew {
            clock.begin_anew();
        }
        (clock.age(), clock.owed())
    }

    /// When something ends by the time of day, in seconds since 1970, that ends at an age of the store: if the clock is right.
    pub fn time_of_age(&self, ends: u64) -> i64 {
        let left = ends.saturating_sub(self.age().secs);
        self.commits.heads.clock.now().secs.saturating_add_unsigned(left)
    }

    /// Holds a snapshot of a line's own. Durable when this returns.
    pub fn hold(
        &self,
        head: &Head,
        view: ViewId,
        terms: &HoldTerms<'_>,
        by: &Provenance,
    ) -> Result<HoldRecord> {
        self.commits.heads.check_writable()?;
        self.have_room_ahead(ReserveFor::Record, &[])?;
        let hold = self
            .with_new_hold(terms, by, |new| self.commits.heads.volume.hold_snapshot(head.line, view, new))?;
        self.commits.sync()?;
        Ok(hold)
    }

    /// The same in place of the hold of that tag, if there is one.
    pub fn renew_hold(
        &self,
        head: &Head,
        view: ViewId,
        terms: &HoldTerms<'_>,
        by: &Provenance,
    ) -> Result<HoldRecord> {
        self.commits.heads.check_writable()?;
        self.have_room_ahead(ReserveFor::Record, &[])?;
        let hold =
            self.with_new_hold(terms, by, |new| self.commits.heads.volume.renew_hold(head.line, view, new))?;
        self.commits.sync()?;
        Ok(hold)
    }

    /// Until when a copy that begins or goes on now holds its snapshot.
    pub fn hold_of_copy(&self) -> Result<CopyHold> {
        let (age, owed) = self.age_for_new();
        self.commits.heads.volume.note_age(age)?;
        Ok(CopyHold::Until(age.secs.saturating_add(COPY_KEPT_SECS).saturating_add(owed).min(COUNTER_MAX - 1)))
    }

    fn with_new_hold<T>(
        &self,
        terms: &HoldTerms<'_>,
        by: &Provenance,
        act: impl FnOnce(&NewHold<'_>) -> T,
    ) -> T {
        let (age, owed) = self.age_for_new();
        let after = terms.after.map(|after| after.saturating_add(owed));
        let since_secs = self.commits.heads.clock.now().secs;
        act(&NewHold { tag: terms.tag, since_secs, age, after, by })
    }

    /// Makes a snapshot that is held from the first moment on. As [`Past::take_snapshot`].
    pub fn take_held_snapshot(
        &self,
        head: &Arc<Head>,
        name: &[u8],
        (provenance, reached): (&Provenance, Reached<'_>),
        terms: &HoldTerms<'_>,
    ) -> Result<ViewId> {
        let by = Provenance { description: Vec::new(), method: MadeBy::Layout, ..provenance.clone() };
        self.have_room_ahead(ReserveFor::Record, std::slice::from_ref(head))?;
        self.with_new_hold(terms, &by, |hold| {
            self.snapshot_with(head, (name, provenance, reached), Some(hold), &self.one_at_a_time())
        })
    }

    /// Lets a hold of a snapshot of a line's own go. Durable when this returns. `NotFound` if there is none of that tag.
    pub fn release(&self, head: &Head, view: ViewId, tag: &str) -> Result<()> {
        self.commits.heads.check_writable()?;
        self.have_room_ahead(ReserveFor::Delete, &[])?;
        let volume = &self.commits.heads.volume;
        volume.release_snapshot(head.line, view, tag).map_err(|e| match e.into() {
            Error::Stale => Error::NotFound,
            e => e,
        })?;
        self.commits.sync()
    }

    /// Ends the holds whose time is over, has go what was long enough in the trash, and notes how old the store is. For a timer: it has to be asked often.
    pub fn keep_holds(&self) -> Result<()> {
        let volume = &self.commits.heads.volume;
        if self.commits.heads.is_read_only() {
            return Ok(());
        }
        // Also while nothing waits for it: a clock that goes well is believed by who holds something then.
        let age = self.age();
        if !volume.waits_for_age() {
            return Ok(());
        }
        for hold in volume.ended_holds(age.secs) {
            match volume.end_hold(hold.number) {
                Ok(()) => log::info!("the hold '{}' of snapshot {} has ended", hold.tag, hold.view.0),
                Err(crate::volume::VolumeError::NoSuchView) => {}
                Err(e) => return Err(e.into()),
            }
        }
        for copy in volume.ended_copies(age.secs) {
            // It may have gone on since.
            let end = |copy: &mut HydrationRecord| {
                if matches!(copy.hold, CopyHold::Until(ends) if ends <= age.secs) {
                    copy.hold = CopyHold::Ended;
                }
            };
            match volume.change_hydration(copy.number, end) {
                Ok(now) if now.hold != CopyHold::Ended => {}
                Ok(_) => log::info!(
                    "snapshot {} is held no longer for the copy in {}, which has not gone on for long",
                    copy.view.0,
                    names::shown_bytes(&copy.path)
                ),
                Err(crate::volume::VolumeError::NoSuchView) => {}
                Err(e) => return Err(e.into()),
            }
        }
        self.keep_trash(age.secs)?;
        let noted = volume.age().secs;
        let is_due = age.secs >= noted.saturating_add(NOTED_AT_REST_SECS)
            || age.secs >= noted.saturating_add(NOTED_SECS) && self.commits.has_changes();
        if is_due { self.note_age() } else { Ok(()) }
    }

    /// Notes how old the store is, if something waits for that and somebody has looked.
    pub fn note_age(&self) -> Result<()> {
        let volume = &self.commits.heads.volume;
        if volume.is_read_only() || !volume.waits_for_age() || self.ageing.clock.lock().is_none() {
            return Ok(());
        }
        volume.note_age(self.age())?;
        self.commits.outlive()
    }
}
