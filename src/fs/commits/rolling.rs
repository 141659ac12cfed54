//! Points that roll along with the line at the root of the mount: what they hold of it is there still when much of it is gone.
//!
//! One is made before the first change, and from then on by whoever keeps the time ([`Commits::roll`]); of a line at rest none,
//! and a snapshot that is as new serves as well. They hold what was let go of since, so none is kept while space is short.

use super::Commits;
use crate::format::provenance::Reason;
use crate::format::terms::Threshold;
use crate::format::{Ino, Key, ViewId};
use crate::fs::heads::{Head, RollingPoint};
use crate::ops::{Error, Result};
use crate::volume::{SnapshotInfo, View};
use std::cell::Cell;
use std::sync::Arc;
use std::time::Instant;

/// While less than one in so many bytes is free nothing is kept that might be wanted.
const FREE_SHARE_MIN: u64 = 10;
/// A snapshot of a schedule that is no older serves in the place of a point.
const YOUNG_SECS: i64 = 60;

impl Commits {
    /// Called before a change, with nothing held that a commit needs: sees to a point before the first.
    pub(super) fn arm_tripwire(&self) {
        if !self.heads.options.tripwire {
            return;
        }
        let head = self.heads.main();
        if !head.tripwire.is_armed() && !self.heads.is_read_only() {
            head.tripwire.before_change(|| {
                self.roll(&head).unwrap_or_else(|e| log::debug!("no point before the first change: {e}"));
            });
        }
    }

    /// Nothing is kept that might be wanted: there is little space left.
    pub fn is_short_of_space(&self) -> bool {
        let space = self.heads.volume.space();
        space.free < space.total / FREE_SHARE_MIN
    }

    /// Has the newest point be of now, unless nothing has changed since it was made. A line that is received, or that says that it
    /// is not wanted, has none, and while space is short no line has.
    pub fn roll(&self, head: &Arc<Head>) -> Result<()> {
        let (volume, wire) = (&self.heads.volume, &head.tripwire);
        let unwanted = volume.line(head.line)?.terms.tripwire == Some(Threshold::Never);
        if unwanted || head.is_received || self.is_short_of_space() {
            wire.let_go();
            return Ok(());
        }
        let now = self.heads.clock.now();
        let (created, passed) = ((now.secs, now.nanos), self.heads.clock.passed());
        let newest = volume.point_below(head.line);
        let kept = wire.newest().map(|point| point.view.id());
        let at_rest =
            newest.filter(|point| point.is_as_now && head.delayed_bytes() == 0).map(|point| point.id);
        let young = newest.and_then(|point| self.young_snapshot(point.id, now.secs));
        // A snapshot, or a point that somebody else has, is what the line is, or was just now.
        let (view, created) = match (at_rest.or(young.as_ref().map(|young| young.id)), young) {
            (Some(point), _) if kept == Some(point) => {
                if at_rest.is_some() {
                    wire.rest(passed);
                }
                return Ok(());
            }
            (Some(point), young) => (volume.point(point)?, young.map_or(created, |young| young.created)),
            (None, _) => {
                let _no_commit = self.hold_off();
                let closed = Cell::new(Instant::now());
                let pause_ns = || closed.get().elapsed().as_nanos() as u64;
                let made =
                    self.complete(std::slice::from_ref(head), &mut |at| closed.set(at), &mut |prepare| {
                        volume.rolling_point(head.line, created, &pause_ns, prepare)
                    })?;
                (made, created)
            }
        };
        let young_from = Ino(last_ino(&view)? + 1);
        wire.roll(RollingPoint { view, created, passed, young_from });
        Ok(())
    }
}

impl Commits {
    /// The snapshot of that number, if a schedule took it just now.
    fn young_snapshot(&self, id: ViewId, now: i64) -> Option<SnapshotInfo> {
        let info = self.heads.volume.snapshot_info(id)?;
        let is_young = (0..YOUNG_SECS).contains(&now.saturating_sub(info.created.0));
        (info.provenance.reason == Reason::Schedule && is_young).then_some(info)
    }
}

/// The greatest number that a file in a view has.
fn last_ino(view: &View) -> Result<u64> {
    let last = Key { object: Ino::END.0 - 1, kind: u8::MAX, rest: u64::MAX };
    let found = view.last_at_or_before(&last, &Key::MIN).map_err(Error::from)?;
    Ok(found.map_or(Ino::ROOT.0, |(key, _)| key.object))
}
