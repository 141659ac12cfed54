//! What has become of the old files of a head in the last minute or two: how many are gone, and the points that have them still.
//!
//! A file is old if it was there at the newest point, which its number tells. It is gone once when it has lost its last name, or when half
//! of its content was cut off or written over. Costs a look at one number for what is young, else a lock that is a leaf.
//! What the point has that was kept last is counted apart: it is lost to nobody. A file is taken to be in that only if it was there,
//! and if its time of change, which no user sets, is well before; what cannot be told counts as lost.
//! What follows from all this is decided above (`past`).

use crate::format::{Ino, ViewId};
use crate::ops::Timestamp;
use crate::volume::View;
use parking_lot::Mutex;
use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

/// Files of which it is remembered at most how much of them was written over. Of others that counts no more.
const FILES_REMEMBERED: usize = 1 << 16;
/// What is gone is judged anew when it has grown by one in so many.
const GROWTH_SHARE: u64 = 8;
/// In seconds: a kernel tells of a change no later than this, with the time at which it was made.
const TOLD_WITHIN_SECS: i64 = 120;

/// A part of a file that a change takes away.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct LostPart {
    /// The file.
    pub ino: Ino,
    /// Its size before.
    pub size: u64,
    /// Bytes that are cut off or written over; none if the file has no name any more.
    pub bytes: Option<u64>,
    /// When anything of it was changed before.
    pub changed: Timestamp,
}

/// How much is gone.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct GoneFiles {
    /// Files.
    pub files: u64,
    /// Their sizes.
    pub bytes: u64,
}

impl std::ops::Add for GoneFiles {
    type Output = GoneFiles;
    fn add(self, other: GoneFiles) -> GoneFiles {
        GoneFiles {
            files: self.files.saturating_add(other.files),
            bytes: self.bytes.saturating_add(other.bytes),
        }
    }
}

impl std::ops::Sub for GoneFiles {
    type Output = GoneFiles;
    fn sub(self, other: GoneFiles) -> GoneFiles {
        GoneFiles {
            files: self.files.saturating_sub(other.files),
            bytes: self.bytes.saturating_sub(other.bytes),
        }
    }
}

/// A state of the head that is kept for now.
#[derive(Clone)]
pub struct RollingPoint {
    /// It.
    pub view: Arc<View>,
    /// When: seconds and nanoseconds since 1970.
    pub created: (i64, u32),
    /// The same as time that has passed.
    pub passed: Duration,
    /// The first number that no file had at it.
    pub young_from: Ino,
}

/// The point that was kept last.
#[derive(Clone, Copy)]
pub struct KeptPoint {
    /// Its view.
    pub id: ViewId,
    /// When it was kept, as time that has passed.
    pub kept: Duration,
    /// When it was made, by the clock, and until when nothing had changed since, as time that has passed.
    pub created: (i64, Duration),
    young_from: Ino,
}

impl KeptPoint {
    /// True if it has all of a file that is old now.
    fn has(&self, part: &LostPart) -> bool {
        part.ino < self.young_from && part.changed.secs.saturating_add(TOLD_WITHIN_SECS) < self.created.0
    }
}

/// What is gone, and how much of it the point has that was kept last.
#[derive(Clone, Copy, Default)]
struct Counted {
    all: GoneFiles,
    kept: GoneFiles,
}

/// Of an old file that was written over: so many bytes of so many.
#[derive(Clone, Copy, Default)]
struct WrittenOver {
    bytes: u64,
    size: u64,
    /// It counts as gone already.
    is_gone: bool,
    /// The point that was kept last has what was there.
    is_kept: bool,
}

/// Points, and what is gone since.
#[derive(Default)]
struct Watched {
    newest: Option<RollingPoint>,
    gone: Counted,
    /// Of all that is lost, so many files when it was last looked whether that is much.
    judged: u64,
    /// The point before that, if something had gone between the two, and that.
    earlier: Option<(RollingPoint, Counted)>,
    /// Old files that were written over.
    written_over: HashMap<Ino, WrittenOver>,
    kept: Option<KeptPoint>,
}

/// The trip wire of a head. Any thread may call any method.
#[derive(Default)]
pub struct Tripwire {
    /// The first number that was given to no file at the newest point. 0: nothing is watched.
    young_from: AtomicU64,
    /// Nobody has to see to a point before a change.
    armed: AtomicBool,
    /// Held while the first point is made.
    arming: Mutex<()>,
    watched: Mutex<Watched>,
}

impl Tripwire {
    /// Has `arm` be called before the first change, by one thread; others wait for it.
    pub fn before_change(&self, arm: impl FnOnce()) {
        if !self.armed.load(Ordering::Acquire) {
            let _arming = self.arming.lock();
            if !self.armed.load(Ordering::Acquire) {
                arm();
                self.armed.store(true, Ordering::Release);
            }
        }
    }

    /// Has there be a newest point.
    pub fn roll(&self, point: RollingPoint) {
        let young_from = point.young_from;
        let mut watched = self.watched.lock();
        let gone = std::mem::take(&mut watched.gone);
        let before = watched.newest.replace(point);
        let earlier = before.filter(|_| gone.all.files > 0).map(|before| (before, gone));
        let let_go = std::mem::replace(&mut watched.earlier, earlier);
        watched.written_over.clear();
        watched.judged = 0;
        self.young_from.store(young_from.0, Ordering::Relaxed);
        drop(watched);
        drop(let_go);
    }

    /// Nothing has changed since the newest point, which is as good as one of now.
    pub fn rest(&self, passed: Duration) {
        let mut watched = self.watched.lock();
        watched.newest.iter_mut().for_each(|point| point.passed = passed);
        let earlier = watched.earlier.take();
        drop(watched);
        drop(earlier);
    }

    /// Watches nothing any more, and keeps nothing. True if it did.
    pub fn let_go(&self) -> bool {
        let watched = std::mem::take(&mut *self.watched.lock());
        self.young_from.store(0, Ordering::Relaxed);
        watched.newest.is_some()
    }

    /// True once a change has asked for a point.
    pub fn is_armed(&self) -> bool {
        self.armed.load(Ordering::Acquire)
    }

    /// True if so much more is lost than when this was asked last that it is worth another look.
    pub fn has_grown(&self) -> bool {
        let mut watched = self.watched.lock();
        let files = watched.lost().files;
        let has_grown = files > watched.judged + watched.judged / GROWTH_SHARE;
        if has_grown {
            watched.judged = files;
        }
        has_grown
    }

    /// Counts anew from the newest point on.
    pub fn forget_gone(&self) {
        let mut watched = self.watched.lock();
        (watched.gone, watched.judged) = (Counted::default(), 0);
        let earlier = watched.earlier.take();
        drop(watched);
        drop(earlier);
    }

    /// The point is kept, when so much time has passed: counts anew, and apart what it has.
    pub fn keep(&self, point: &RollingPoint, kept: Duration) {
        let created = (point.created.0, point.passed);
        let kept = KeptPoint { id: point.view.id(), kept, created, young_from: point.young_from };
        self.watched.lock().kept = Some(kept);
        self.forget_gone();
    }

    /// The point that was kept last, if that is known still.
    pub fn kept(&self) -> Option<KeptPoint> {
        self.watched.lock().kept
    }

    /// What it has counts as lost with the rest, from the beginning on.
    pub fn forget_kept(&self) {
        let mut watched = self.watched.lock();
        watched.kept = None;
        watched.gone.kept = GoneFiles::default();
        watched.earlier.iter_mut().for_each(|(_, gone)| gone.kept = GoneFiles::default());
        watched.written_over.values_mut().for_each(|over| over.is_kept = false);
    }

    /// A change has taken this away.
    pub fn note(&self, lost: &[LostPart]) {
        let young_from = self.young_from.load(Ordering::Relaxed);
        let mut lost = lost.iter().filter(|part| part.ino.0 < young_from).peekable();
        if lost.peek().is_none() {
            return;
        }
        let mut watched = self.watched.lock();
        for part in lost {
            watched.note(part);
        }
    }

    /// How much is gone since the older of the points.
    pub fn gone(&self) -> GoneFiles {
        self.watched.lock().all_gone().all
    }

    /// How much of that the point does not have that was kept last.
    pub fn lost(&self) -> GoneFiles {
        self.watched.lock().lost()
    }

    /// The newest point.
    pub fn newest(&self) -> Option<RollingPoint> {
        self.watched.lock().newest.clone()
    }

    /// All points that there are, the older one first: what any of them has stays.
    pub fn points(&self) -> Vec<RollingPoint> {
        let watched = self.watched.lock();
        let earlier = watched.earlier.as_ref().map(|(point, _)| point);
        earlier.into_iter().chain(&watched.newest).cloned().collect()
    }

    /// The point at which nothing of what is gone was gone yet.
    pub fn before_it_was_gone(&self) -> Option<RollingPoint> {
        let watched = self.watched.lock();
        watched.earlier.as_ref().map(|(point, _)| point).or(watched.newest.as_ref()).cloned()
    }
}

impl Watched {
    fn all_gone(&self) -> Counted {
        let earlier = self.earlier.as_ref().map_or(Counted::default(), |(_, gone)| *gone);
        Counted { all: self.gone.all + earlier.all, kept: self.gone.kept + earlier.kept }
    }

    fn lost(&self) -> GoneFiles {
        let gone = self.all_gone();
        gone.all - gone.kept
    }

    fn note(&mut self, part: &LostPart) {
        let known = self.written_over.get(&part.ino).copied();
        if known.is_some_and(|known| known.is_gone) {
            return;
        }
        // What was there at the newest point is what the first part was taken from.
        let is_kept = || self.kept.is_some_and(|kept| kept.has(part));
        let mut over = known.unwrap_or_else(|| WrittenOver { is_kept: is_kept(), ..WrittenOver::default() });
        over.size = over.size.max(part.size);
        over.bytes = over.bytes.saturating_add(part.bytes.unwrap_or(0));
        over.is_gone = part.bytes.is_none() || over.size > 0 && over.bytes.saturating_mul(2) >= over.size;
        if over.is_gone {
            let one = GoneFiles { files: 1, bytes: over.size };
            self.gone.all = self.gone.all + one;
            if over.is_kept {
                self.gone.kept = self.gone.kept + one;
            }
        }
        // What has no name loses nothing more that counts.
        if part.bytes.is_some() && (known.is_some() || self.written_over.len() < FILES_REMEMBERED) {
            self.written_over.insert(part.ino, over);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lost(ino: u64, size: u64, bytes: Option<u64>) -> LostPart {
        LostPart { ino: Ino(ino), size, bytes, changed: Timestamp { secs: 1000, nanos: 0 } }
    }

    fn counted(parts: &[(u64, u64, Option<u64>)]) -> GoneFiles {
        let wire = Tripwire::default();
        wire.young_from.store(10, Ordering::Relaxed);
        for (ino, size, bytes) in parts {
            wire.note(&[lost(*ino, *size, *bytes)]);
        }
        wire.gone()
    }

    #[test]
    fn a_file_is_gone_once_and_only_if_it_is_old() {
        let gone = |files, bytes| GoneFiles { files, bytes };
        assert_eq!(counted(&[(2, 100, None), (3, 0, None), (10, 100, None)]), gone(2, 100));
        // Half of it, in pieces; then all of it; then its name.
        assert_eq!(counted(&[(2, 100, Some(49))]), gone(0, 0));
        assert_eq!(counted(&[(2, 100, Some(30)), (2, 100, Some(20))]), gone(1, 100));
        assert_eq!(counted(&[(2, 100, Some(100)), (2, 100, Some(100)), (2, 100, None)]), gone(1, 100));
        // Cut off in steps, and written anew.
        assert_eq!(counted(&[(2, 100, Some(30)), (2, 70, Some(70)), (2, 50, Some(50))]), gone(1, 100));
        assert_eq!(counted(&[(2, 0, Some(0)), (2, 0, Some(0))]), gone(0, 0));
        let wire = Tripwire::default();
        wire.note(&[lost(2, 9, None)]);
        assert_eq!((wire.gone(), wire.let_go()), (gone(0, 0), false));
        let (mut first, mut second) = (0, 0);
        wire.before_change(|| first += 1);
        wire.before_change(|| second += 1);
        assert_eq!((first, second), (1, 0));
    }

    #[test]
    fn what_was_kept_is_not_lost() {
        let wire = Tripwire::default();
        wire.young_from.store(10, Ordering::Relaxed);
        let created = (1000 + TOLD_WITHIN_SECS + 1, Duration::ZERO);
        let kept = KeptPoint { id: ViewId(7), kept: Duration::ZERO, created, young_from: Ino(5) };
        wire.watched.lock().kept = Some(kept);
        // Of two that were there one is changed in two steps; one came later; one may have been changed since.
        let later = LostPart { changed: Timestamp { secs: 1001, nanos: 0 }, ..lost(4, 100, None) };
        wire.note(&[lost(2, 100, None), lost(3, 100, Some(40)), lost(7, 10, None), later]);
        let changed = Timestamp { secs: 3000, nanos: 0 };
        wire.note(&[LostPart { changed, ..lost(3, 100, Some(40)) }]);
        let count = |files, bytes| GoneFiles { files, bytes };
        assert_eq!((wire.gone(), wire.lost()), (count(4, 310), count(2, 110)));
        wire.forget_kept();
        assert_eq!((wire.gone(), wire.lost(), wire.kept().is_none()), (count(4, 310), count(4, 310), true));
    }
}
