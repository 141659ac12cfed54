//! What has become of the old files of a head in the last minute or two: how many are gone, and the points that have them still.
//!
//! A file is old if it was there at the newest point, which its number tells. It is gone once when it has lost its last name, or when half
//! of its content was cut off or written over. Costs a look at one number for what is young, else a lock that is a leaf.
//! What follows from all this is decided above (`past`).

use crate::format::Ino;
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

/// A part of a file that a change takes away.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct LostPart {
    /// The file.
    pub ino: Ino,
    /// Its size before.
    pub size: u64,
    /// Bytes that are cut off or written over; none if the file has no name any more.
    pub bytes: Option<u64>,
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

/// A state of the head that is kept for now.
#[derive(Clone)]
pub struct RollingPoint {
    /// It.
    pub view: Arc<View>,
    /// When: seconds and nanoseconds since 1970.
    pub created: (i64, u32),
    /// The same as time that has passed.
    pub passed: Duration,
}

/// Points, and what is gone since.
#[derive(Default)]
struct Watched {
    newest: Option<RollingPoint>,
    gone: GoneFiles,
    /// Of all that is gone, so many files when it was last looked whether that is much.
    judged: u64,
    /// The point before that, if something had gone between the two, and that.
    earlier: Option<(RollingPoint, GoneFiles)>,
    /// Bytes of old files that were written over, and the size that they had; of a file that counts as gone the most there can be.
    written_over: HashMap<Ino, (u64, u64)>,
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

    /// Has there be a newest point, with files of numbers below this.
    pub fn roll(&self, point: RollingPoint, young_from: Ino) {
        let mut watched = self.watched.lock();
        let gone = std::mem::take(&mut watched.gone);
        let before = watched.newest.replace(point);
        let earlier = before.filter(|_| gone.files > 0).map(|before| (before, gone));
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

    /// True if so much more is gone than when this was asked last that it is worth another look.
    pub fn has_grown(&self) -> bool {
        let mut watched = self.watched.lock();
        let files = watched.all_gone().files;
        let has_grown = files > watched.judged + watched.judged / GROWTH_SHARE;
        if has_grown {
            watched.judged = files;
        }
        has_grown
    }

    /// Counts anew from the newest point on.
    pub fn forget_gone(&self) {
        let mut watched = self.watched.lock();
        (watched.gone, watched.judged) = (GoneFiles::default(), 0);
        let earlier = watched.earlier.take();
        drop(watched);
        drop(earlier);
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
        self.watched.lock().all_gone()
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
    fn all_gone(&self) -> GoneFiles {
        self.gone + self.earlier.as_ref().map_or(GoneFiles::default(), |(_, gone)| *gone)
    }

    fn note(&mut self, part: &LostPart) {
        const WHOLE: (u64, u64) = (u64::MAX, u64::MAX);
        let known = self.written_over.get(&part.ino).copied();
        if known == Some(WHOLE) {
            return;
        }
        let (so_far, size) = known.unwrap_or_default();
        let size = size.max(part.size);
        let is_gone = part.bytes.is_none_or(|bytes| {
            let bytes = so_far.saturating_add(bytes);
            let is_gone = size > 0 && bytes.saturating_mul(2) >= size;
            if !is_gone && (known.is_some() || self.written_over.len() < FILES_REMEMBERED) {
                self.written_over.insert(part.ino, (bytes, size));
            }
            is_gone
        });
        if is_gone {
            self.gone = self.gone + GoneFiles { files: 1, bytes: size };
            // What has no name loses nothing more that counts.
            if part.bytes.is_some() && (known.is_some() || self.written_over.len() < FILES_REMEMBERED) {
                self.written_over.insert(part.ino, WHOLE);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counted(parts: &[(u64, u64, Option<u64>)]) -> GoneFiles {
        let wire = Tripwire::default();
        wire.young_from.store(10, Ordering::Relaxed);
        for (ino, size, bytes) in parts {
            wire.note(&[LostPart { ino: Ino(*ino), size: *size, bytes: *bytes }]);
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
        wire.note(&[LostPart { ino: Ino(2), size: 9, bytes: None }]);
        assert_eq!((wire.gone(), wire.let_go()), (gone(0, 0), false));
        let (mut first, mut second) = (0, 0);
        wire.before_change(|| first += 1);
        wire.before_change(|| second += 1);
        assert_eq!((first, second), (1, 0));
    }
}
