//! What the files of a directory store look like after each call.

use super::super::tests::{Scratch, pattern, read};
use super::home::{Look, StoreFile};
use super::pieces::{LOG_END, SEGMENT_BYTES, SUPER_BYTES};
use super::*;
use crate::clock::Clock;
use crate::device::waited::{Awaited, awaited};
use crate::device::{Access, Device, RESERVED_BYTES};
use crate::ops::Timestamp;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

const BLOCK: u64 = 4096;

fn store() -> (Scratch, PathBuf, DirDevice) {
    let scratch = Scratch::new();
    let path = scratch.path("store");
    let device = DirDevice::create(&path, DirDevice::DEFAULT_SIZE).unwrap();
    (scratch, path, device)
}

fn len(path: &Path, name: &str) -> Option<u64> {
    fs::metadata(path.join(name)).ok().map(|metadata| metadata.len())
}

#[test]
fn addresses_map_to_files() {
    let (_scratch, path, device) = store();
    assert_eq!((len(&path, "super.a"), len(&path, "super.b")), (Some(SUPER_BYTES), Some(SUPER_BYTES)));
    assert_eq!(len(&path, "seg/00000000"), None);

    let border = 0x1b * SEGMENT_BYTES;
    device.back(border - BLOCK, 3 * BLOCK).unwrap();
    assert_eq!(len(&path, "seg/0000001a"), Some(SEGMENT_BYTES));
    assert_eq!(len(&path, "seg/0000001b"), Some(2 * BLOCK));
    device.write_at(border - BLOCK, &pattern(0, 3 * BLOCK, 2)).unwrap();
    assert_eq!(read(&device, border - BLOCK, 3 * BLOCK), pattern(0, 3 * BLOCK, 2));
    assert_eq!(fs::read(path.join("seg/0000001b")).unwrap(), &pattern(0, 3 * BLOCK, 2)[4096..]);

    device.write_at(SUPER_BYTES, &pattern(9, BLOCK, 2)).unwrap();
    assert_eq!(fs::read(path.join("super.b")).unwrap()[..4096], pattern(9, BLOCK, 2));
    device.discard(0, RESERVED_BYTES);
    assert_eq!(read(&device, SUPER_BYTES, BLOCK), pattern(9, BLOCK, 2), "superblocks are never discarded");
}

#[test]
fn segments_shrink_and_go() {
    let (_scratch, path, device) = store();
    for (number, first, name) in [(0, LOG_END, "seg/00000000"), (5, 0, "seg/00000005")] {
        let base = number * SEGMENT_BYTES + first;
        device.write_at(base, &pattern(0, 8 * BLOCK, 1)).unwrap();
        device.discard(base + 2 * BLOCK, BLOCK);
        assert_eq!(len(&path, name), Some(first + 8 * BLOCK));
        device.discard(base + 6 * BLOCK, 2 * BLOCK);
        assert_eq!(len(&path, name), Some(first + 6 * BLOCK));
        assert_eq!(read(&device, base + 3 * BLOCK, 3 * BLOCK), pattern(0, 8 * BLOCK, 1)[3 * 4096..6 * 4096]);

        // Past the end is damage, not zeros; the message names the file.
        let error = device.read_at(base + 5 * BLOCK, &mut [0; 8192]).unwrap_err().to_string();
        assert!(error.contains("shorter than expected") && error.contains(name), "{error}");

        let waiting = device.dirty.lock().files[&StoreFile::Segment(number as u32)].clone();
        device.discard(number * SEGMENT_BYTES, SEGMENT_BYTES);
        assert_eq!(len(&path, name), None);
        assert_eq!(waiting.file.metadata().unwrap().len(), 0, "the space does not wait for the next flush");
        let error = device.read_at(base, &mut [0; 4096]).unwrap_err().to_string();
        assert!(error.contains("missing") && error.contains(name), "{error}");

        device.write_at(base, &pattern(0, BLOCK, 4)).unwrap();
        device.flush().unwrap();
        assert_eq!(read(&device, base, BLOCK), pattern(0, BLOCK, 4));
    }
}

#[test]
fn lost_files_are_told_from_empty_ones() {
    let (_scratch, path, device) = store();
    device.write_at(RESERVED_BYTES, &pattern(0, BLOCK, 1)).unwrap();
    drop(device);
    fs::remove_file(path.join("super.a")).unwrap();
    let device = DirDevice::open(&path, DirDevice::DEFAULT_SIZE, Access::ReadWrite).unwrap();
    assert!(device.read_at(0, &mut [0; 4096]).unwrap_err().to_string().contains("super.a is missing"));
    assert_eq!(read(&device, RESERVED_BYTES, BLOCK), pattern(0, BLOCK, 1));
    device.write_at(0, &pattern(0, BLOCK, 1)).unwrap();
    assert_eq!(read(&device, 0, BLOCK), pattern(0, BLOCK, 1));
}

#[test]
fn flushes_cover_what_was_written() {
    let (_scratch, _path, device) = store();
    assert!(device.dirty.lock().files.is_empty() && !device.dirty.lock().names, "creation is durable");
    device.write_at(SEGMENT_BYTES, &pattern(0, BLOCK, 1)).unwrap();
    device.write_at(0, &pattern(0, BLOCK, 1)).unwrap();
    assert_eq!(device.dirty.lock().files.len(), 2);
    assert!(device.dirty.lock().names);
    device.flush().unwrap();
    assert!(device.dirty.lock().files.is_empty() && !device.dirty.lock().names);
    device.back(SEGMENT_BYTES, BLOCK).unwrap();
    assert!(device.dirty.lock().files.is_empty(), "backing that changes no length needs no flush");
    device.back(SEGMENT_BYTES, 2 * BLOCK).unwrap();
    assert_eq!(device.dirty.lock().files.len(), 1);
    device.read_at(0, &mut [0; 4096]).unwrap();
    assert_eq!(device.dirty.lock().files.len(), 1);
}

#[test]
fn what_the_host_keeps_is_told_by_file() {
    let (_scratch, path, device) = store();
    device.back(SEGMENT_BYTES, 8 << 20).unwrap();
    device.back(5 * SEGMENT_BYTES + (64 << 20), 1 << 20).unwrap();
    let parts = device.kept_parts().unwrap();
    let at: Vec<u64> = parts.iter().map(|(start, _, _)| start / SEGMENT_BYTES).collect();
    assert!(at.contains(&1) && at.contains(&5) && !at.contains(&2), "{at:?}");
    for (start, _, kept) in parts {
        let least = if start == SEGMENT_BYTES {
            8 << 20
        } else if start == 5 * SEGMENT_BYTES {
            1 << 20
        } else {
            0
        };
        assert!((least..least + (1 << 20)).contains(&kept), "{start}: {kept}");
    }
    let files = fs::read_dir(path.join("seg")).unwrap().count();
    assert_eq!(device.kept_parts().unwrap().len(), files, "nothing is made");
}

#[test]
fn handles_are_limited() {
    let (_scratch, _path, mut device) = store();
    device.segments.set_open_max(8);
    for number in 1..40 {
        device.write_at(number * SEGMENT_BYTES, &pattern(number, BLOCK, 1)).unwrap();
        assert!(device.segments.open_count() <= 9);
        assert!(device.dirty.lock().files.len() <= 9);
    }
    for number in 1..40 {
        assert_eq!(read(&device, number * SEGMENT_BYTES, BLOCK), pattern(number, BLOCK, 1));
    }
    assert!(device.segments.open_count() <= 9);
    device.discard(0, DirDevice::DEFAULT_SIZE / 1024);
    assert!(device.read_at(39 * SEGMENT_BYTES, &mut [0; 4096]).is_err());
}

#[test]
fn growth_and_deletion_race() {
    let (_scratch, _path, device) = store();
    // Each thread uses and discards its own block at the end of one segment, so that the file is truncated by one
    // while the others lengthen it.
    std::thread::scope(|scope| {
        for thread in 0..4_u64 {
            let device = &device;
            scope.spawn(move || {
                for round in 0..200 {
                    let offset = SEGMENT_BYTES + thread * BLOCK;
                    device.back(offset, BLOCK).unwrap();
                    device.write_at(offset, &pattern(round, BLOCK, thread)).unwrap();
                    assert_eq!(read(device, offset, BLOCK), pattern(round, BLOCK, thread));
                    device.discard(offset, BLOCK);
                }
            });
        }
    });
}

#[test]
fn what_is_stored_can_be_read() {
    let (_scratch, path, device) = store();
    let all = |device: &DirDevice| {
        let mut bytes = 0;
        for (at, len) in device.stored() {
            assert_eq!(read(device, at, len).len() as u64, len);
            bytes += len;
        }
        bytes
    };
    assert_eq!(all(&device), RESERVED_BYTES);
    device.write_at(RESERVED_BYTES + 5 * BLOCK, &pattern(1, BLOCK, 2)).unwrap();
    assert_eq!(all(&device), RESERVED_BYTES + 6 * BLOCK);
    device.back(LOG_END - BLOCK, 3 * BLOCK).unwrap();
    assert_eq!(all(&device), LOG_END + 2 * BLOCK);
    assert_eq!(device.all_stored().unwrap(), device.stored());
    // Of a file that cannot be opened it is not known: whoever needs all of it is told.
    fs::create_dir(path.join("seg/000000ff")).unwrap();
    assert!(device.all_stored().is_err());
    assert_eq!(all(&device), LOG_END + 2 * BLOCK);
}

#[test]
fn a_question_about_many_files_says_after_each_that_it_goes_on() {
    #[derive(Default)]
    struct Counts(AtomicUsize);
    impl Awaited for Counts {
        fn goes_on(&self) {
            self.0.fetch_add(1, Relaxed);
        }
    }
    let (_scratch, _path, device) = store();
    (1..=8).for_each(|n| device.write_at(n * SEGMENT_BYTES, &pattern(n, BLOCK, 1)).unwrap());
    let told = |ask: &dyn Fn()| {
        let counts = Arc::new(Counts::default());
        awaited(counts.clone(), ask);
        counts.0.load(Relaxed)
    };
    assert!(told(&|| assert_eq!(device.stored().len(), 9)) >= 8);
    assert!(told(&|| assert_eq!(device.all_stored().unwrap().len(), 9)) >= 8);
    assert!(told(&|| assert_eq!(device.kept_parts().unwrap().len(), 8)) >= 8);
    assert!(told(&|| device.flush_inherited().unwrap()) >= 8);
    // What keeps users waiting has its limit as a whole.
    assert_eq!(told(&|| device.write_at(9 * SEGMENT_BYTES, &pattern(9, BLOCK, 1)).unwrap()), 0);
    assert_eq!(told(&|| device.flush().unwrap()), 0);
}

#[test]
fn whoever_looks_whether_files_were_lost_holds_up_nobody_who_opens_one() {
    struct Looks(Arc<DirDevice>, AtomicUsize);
    impl Awaited for Looks {
        fn goes_on(&self) {
            self.1.fetch_add(usize::from(self.0.segments.is_unlocked()), Relaxed);
        }
    }
    let (_scratch, path, mut device) = store();
    device.segments.set_open_max(4);
    (1..=8).for_each(|n| device.write_at(n * SEGMENT_BYTES, &pattern(n, BLOCK, 1)).unwrap());
    let looks = Arc::new(Looks(Arc::new(device), AtomicUsize::new(0)));
    awaited(looks.clone(), || assert_eq!(looks.0.location().lost, None));
    assert!(looks.1.load(Relaxed) >= 8);
    fs::remove_file(path.join("seg/00000005")).unwrap();
    assert!(looks.0.location().lost.unwrap().contains("seg/00000005 was removed"));
}

#[test]
fn a_store_is_its_directory_and_not_its_path() {
    let (scratch, path, device) = store();
    device.write_at(SEGMENT_BYTES, &pattern(1, BLOCK, 1)).unwrap();
    let old = scratch.path("old");
    fs::rename(&path, &old).unwrap();
    let other = DirDevice::create(&path, DirDevice::DEFAULT_SIZE).unwrap();
    other.write_at(7 * SEGMENT_BYTES, &pattern(2, BLOCK, 2)).unwrap();
    other.write_at(SEGMENT_BYTES, &pattern(3, BLOCK, 2)).unwrap();

    device.write_at(7 * SEGMENT_BYTES, &pattern(4, BLOCK, 1)).unwrap();
    device.write_at(9 * SEGMENT_BYTES, &pattern(5, BLOCK, 1)).unwrap();
    device.flush().unwrap();
    device.flush_inherited().unwrap();
    device.discard(SEGMENT_BYTES, SEGMENT_BYTES);
    assert_eq!(device.numbers().unwrap(), [7, 9]);
    assert_eq!(other.numbers().unwrap(), [1, 7]);
    assert_eq!(read(&other, 7 * SEGMENT_BYTES, BLOCK), pattern(2, BLOCK, 2));
    assert_eq!(fs::read(old.join("seg/00000007")).unwrap(), pattern(4, BLOCK, 1));
    let place = device.location();
    assert_eq!((place.path.as_deref(), place.covered, place.lost), (Some(&*old), false, None));
    assert!(
        device.read_at(SEGMENT_BYTES, &mut [0; 4096]).unwrap_err().to_string().contains("old/seg/00000001")
    );
}

#[test]
fn a_file_that_was_taken_away_is_not_made_anew() {
    let (_scratch, path, mut device) = store();
    device.segments.set_open_max(2);
    for number in 1..20 {
        device.write_at(number * SEGMENT_BYTES, &pattern(number, BLOCK, 1)).unwrap();
    }
    device.flush().unwrap();
    assert_eq!(device.location().lost, None);
    for (n, take) in [(1, "seg/00000001"), (19, "seg/00000013")] {
        fs::rename(path.join(take), path.join("aside")).unwrap();
        assert!(device.location().lost.unwrap().contains(take));
        let write =
            || device.write_at(n * SEGMENT_BYTES, &pattern(1, BLOCK, 1)).and_then(|()| device.flush());
        if n == 1 {
            assert!(write().unwrap_err().to_string().contains("removed"));
            fs::write(path.join(take), pattern(1, BLOCK, 1)).unwrap();
            assert!(write().unwrap_err().to_string().contains("removed or replaced"));
            fs::rename(path.join("aside"), path.join(take)).unwrap();
        }
        assert_eq!(write().is_ok(), n == 1);
    }
}

#[test]
fn names_are_proved_anew_when_their_directory_has_changed() {
    for (slot, other) in [(StoreFile::Log, "other"), (StoreFile::Segment(1), "seg/other")] {
        names_are_proved_anew(slot, other);
    }
}

fn names_are_proved_anew(slot: StoreFile, other: &str) {
    let (scratch, path, device) = store();
    device.write_at(SEGMENT_BYTES, &pattern(1, BLOCK, 1)).unwrap();
    device.write_at(RESERVED_BYTES, &pattern(2, BLOCK, 1)).unwrap();
    // Until the next change has another time than those before, however coarse the host's clock is.
    let tick = |dir: &Path| {
        let changed = |path: &Path| fs::metadata(path).map(|file| (file.ctime(), file.ctime_nsec())).unwrap();
        let touched = scratch.path("touched");
        while !touched.exists() || changed(&touched) <= changed(dir) {
            fs::write(&touched, b"").unwrap();
        }
    };
    let now = || Clock::System.now();
    let later = Timestamp { secs: now().secs + 60, ..now() };
    let file = device.segments.find(slot).unwrap().unwrap();
    let proved = |time| {
        let look = Look::new(&device.home, time);
        let stamp = look.stamp(slot);
        device.segments.prove_names(&look).map(|()| device.segments.is_proved(slot, stamp))
    };
    // A change within the same step of the host's clock would not show.
    assert!(!proved(now()).unwrap());
    assert!(proved(later).unwrap());
    assert!(proved(now()).unwrap(), "it was found when the directory had last changed");
    let (name, aside) = (file.path(), path.join("aside"));
    let dir = name.parent().unwrap();
    tick(dir);
    fs::write(path.join(other), b"").unwrap();
    assert!(!device.segments.is_proved(slot, Look::new(&device.home, later).stamp(slot)));
    assert!(proved(later).unwrap());
    tick(dir);
    fs::rename(&name, &aside).unwrap();
    assert!(proved(later).is_err());
    fs::write(&name, b"another").unwrap();
    assert!(proved(later).is_err());
    // Where the link leads may be changed without the directory.
    fs::remove_file(&name).unwrap();
    std::os::unix::fs::symlink(&aside, &name).unwrap();
    assert!(!proved(later).unwrap());
    fs::rename(&aside, path.join("taken")).unwrap();
    assert!(proved(later).is_err());
}

#[test]
fn whatever_is_taken_fails_every_flush() {
    for taken in ["seg/00000001", "seg/00000002", "log", "super.a"] {
        let (_scratch, path, device) = store();
        device.write_at(RESERVED_BYTES, &pattern(1, BLOCK, 1)).unwrap();
        device.write_at(SEGMENT_BYTES, &pattern(1, BLOCK, 1)).unwrap();
        device.write_at(2 * SEGMENT_BYTES, &pattern(2, BLOCK, 1)).unwrap();
        device.flush().unwrap();
        drop(device);
        let device = DirDevice::open(&path, DirDevice::DEFAULT_SIZE, Access::ReadWrite).unwrap();
        device.write_at(SEGMENT_BYTES, &pattern(3, BLOCK, 1)).unwrap();
        device.flush().unwrap();
        fs::remove_file(path.join(taken)).unwrap();
        // Nothing is written to it, and it may never have been used since.
        let error = device.flush().unwrap_err().to_string();
        assert!(error.contains(taken) && error.contains("removed"), "{taken}: {error}");
        assert!(device.location().lost.unwrap().contains(taken));
    }
}

#[test]
fn files_that_are_cut_short_fail_the_flush() {
    let (_scratch, path, device) = store();
    device.write_at(SEGMENT_BYTES, &pattern(1, 3 * BLOCK, 1)).unwrap();
    device.flush().unwrap();
    let segment = fs::File::options().write(true).open(path.join("seg/00000001")).unwrap();
    segment.set_len(2 * BLOCK).unwrap();
    device.write_at(SEGMENT_BYTES, &pattern(2, BLOCK, 1)).unwrap();
    let error = device.flush().unwrap_err().to_string();
    assert!(error.contains("seg/00000001 was cut short"), "{error}");
    assert!(device.location().lost.unwrap().contains("cut short"));
}

#[test]
fn files_that_nobody_has_open_and_that_are_cut_short_are_known_to_be() {
    let (_scratch, path, mut device) = store();
    device.segments.set_open_max(4);
    for number in 1..20 {
        device.write_at(number * SEGMENT_BYTES, &pattern(number, 3 * BLOCK, 1)).unwrap();
    }
    // What is shortened by the store itself is not lost.
    device.discard(SEGMENT_BYTES + BLOCK, 2 * BLOCK);
    device.flush().unwrap();
    (10..20).for_each(|number| drop(read(&device, number * SEGMENT_BYTES, BLOCK)));
    assert_eq!(device.location().lost, None);
    let name = path.join("seg/00000003");
    let cut = |len| fs::File::options().write(true).open(&name).and_then(|file| file.set_len(len)).unwrap();
    cut(2 * BLOCK);
    let lost = || device.location().lost.expect("it is known");
    assert!(lost().contains("seg/00000003 was cut short"), "{}", lost());
    // Also when it is in use again, and by the flush of what is written to it.
    assert_eq!(read(&device, 3 * SEGMENT_BYTES, BLOCK), pattern(3, BLOCK, 1));
    assert!(lost().contains("seg/00000003 was cut short"), "{}", lost());
    device.write_at(3 * SEGMENT_BYTES, &pattern(4, BLOCK, 1)).unwrap();
    assert!(device.flush().unwrap_err().to_string().contains("seg/00000003 was cut short"));
    // One that is not of this opening.
    drop(device);
    let device = DirDevice::open(&path, DirDevice::DEFAULT_SIZE, Access::ReadWrite).unwrap();
    assert_eq!(device.location().lost, None);
    cut(BLOCK);
    assert!(device.location().lost.is_some(), "nobody has used it since");
}
