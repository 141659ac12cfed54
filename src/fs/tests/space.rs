//! Space: allocation, holes, seeking, sharing, and a store that is full.

use super::*;
use crate::device::{Device, Memory};
use crate::fixtures::{Hooked, Hooks};
use AllocateMode::*;
use parking_lot::Mutex;
use std::sync::Weak;

fn fallocate(t: &T, f: (NodeId, Handle), at: u64, len: u64, mode: AllocateMode) -> Result<()> {
    t.fs.fallocate(&USER, f.0, f.1, at, len, mode)
}

#[test]
fn allocation_keeps_content_and_reads_as_zeros() {
    let t = T::new();
    let f = t.create(ROOT, "f");
    t.write(f, 10, b"small");
    t.fs.commit().unwrap();
    fallocate(&t, f, 0, 10_000, KeepSize).unwrap();
    assert_eq!((t.attr(f.0).size, t.attr(f.0).blocks), (15, 24));
    fallocate(&t, f, 5_000, 1_000_000, Extend).unwrap();
    assert_eq!(t.attr(f.0).size, 1_005_000);
    let mut expected = vec![0; 1_005_000];
    expected[10..15].copy_from_slice(b"small");
    assert!(t.read(f, 0, 2_000_000) == expected);
    t.fs.commit().unwrap();
    assert!(t.read(f, 0, 2_000_000) == expected);
    let blocks = t.fs.volume().live_blocks();
    t.write(f, 500_000, &[0; 70_000]);
    t.write(f, 600_000, &[0; 7_000]);
    t.fs.commit().unwrap();
    assert_eq!(t.fs.volume().live_blocks(), blocks, "zeros do not give allocated space back");
    assert_eq!(t.fs.lseek(f.0, f.1, 4096, SeekTarget::Data), Err(Error::NoSuchOffset));
    assert_eq!(fallocate(&t, f, 0, 0, Extend), Err(Error::Invalid));
    assert_eq!(fallocate(&t, f, u64::MAX, 5, Extend), Err(Error::FileTooBig));
    assert_eq!(fallocate(&t, f, 0, 1 << 50, Extend), Err(Error::NoSpace));
}

#[test]
fn punching_and_zeroing() {
    for commit in [false, true] {
        for mode in [PunchHole, ZeroRange, ZeroRangeKeepSize] {
            for (from, to) in
                [(0, 100), (5, 5000), (4096, 8192), (4000, 300_000), (1, 4096), (250_000, 400_000)]
            {
                let t = T::new();
                let f = t.create(ROOT, "f");
                let mut model = vec![3u8; 300_000];
                t.write(f, 0, &model);
                if commit {
                    t.fs.commit().unwrap();
                }
                fallocate(&t, f, from, to - from, mode).unwrap();
                if mode == ZeroRange && to > 300_000 {
                    model.resize(to as usize, 0);
                }
                let end = model.len().min(to as usize);
                model[from as usize..end].fill(0);
                assert!(t.read(f, 0, 1 << 20) == model, "{mode:?} {from}..{to}");
                t.fs.commit().unwrap();
                assert!(t.read(f, 0, 1 << 20) == model, "{mode:?} {from}..{to} committed");
                let last = if to >= 300_000 { 74 } else { to / 4096 };
                let whole = last.saturating_sub(from.div_ceil(4096));
                let expected = if mode == PunchHole { 74 - whole } else { t.fs.volume().live_blocks() };
                assert_eq!(t.fs.volume().live_blocks(), expected, "{mode:?} {from}..{to}");
                assert_eq!(t.attr(f.0).blocks, expected * 8);
            }
        }
    }
}

#[test]
fn seeking_sees_delayed_and_committed_data() {
    let t = T::new();
    let f = t.create(ROOT, "f");
    t.resize(f.0, 1 << 30);
    let seek = |at, target| t.fs.lseek(f.0, f.1, at, target);
    assert_eq!(seek(0, SeekTarget::Data), Err(Error::NoSuchOffset));
    assert_eq!(seek(5, SeekTarget::Hole), Ok(5));
    t.write(f, 1 << 20, &[1; 300_000]);
    t.write(f, 1 << 25, b"x");
    for _ in 0..2 {
        assert_eq!(seek(0, SeekTarget::Data), Ok(1 << 20));
        assert_eq!(seek((1 << 20) + 7, SeekTarget::Data), Ok((1 << 20) + 7));
        assert_eq!(seek(1 << 20, SeekTarget::Hole), Ok((1 << 20) + 303_104));
        assert_eq!(seek((1 << 20) + 303_104, SeekTarget::Data), Ok(1 << 25));
        assert_eq!(seek(1 << 25, SeekTarget::Hole), Ok((1 << 25) + 4096));
        assert_eq!(seek((1 << 25) + 4096, SeekTarget::Data), Err(Error::NoSuchOffset));
        t.fs.commit().unwrap();
    }
    assert_eq!(seek(1 << 30, SeekTarget::Hole), Err(Error::NoSuchOffset));
    let small = t.create(ROOT, "s");
    t.write(small, 0, b"abc");
    t.fs.commit().unwrap();
    assert_eq!(t.fs.lseek(small.0, small.1, 1, SeekTarget::Data), Ok(1));
    assert_eq!(t.fs.lseek(small.0, small.1, 1, SeekTarget::Hole), Ok(3));
}

fn copy(t: &T, from: ((NodeId, Handle), u64), to: ((NodeId, Handle), u64), len: u64) -> Result<u64> {
    t.fs.copy_range(&USER, from.0.0, from.0.1, from.1, to.0.0, to.0.1, to.1, len)
}

#[test]
fn copies_share_blocks_until_they_are_overwritten() {
    let t = T::new();
    let (a, b) = (t.create(ROOT, "a"), t.create(ROOT, "b"));
    let data: Vec<u8> = (0..1_000_003u32).map(|i| (i / 7) as u8 | 1).collect();
    t.write(a, 0, &data);
    t.write(b, 0, b"short");
    let before = t.fs.volume().space().free;
    assert_eq!(copy(&t, (a, 0), (b, 0), u64::MAX / 4), Ok(1_000_003));
    assert!(before - t.fs.volume().space().free < 10_000, "nothing but the tail may have been written");
    assert!(t.read(b, 0, 2_000_000) == data);
    t.write(a, 5000, b"changed");
    t.write(b, 400_000, &[0; 100_000]);
    t.fs.commit().unwrap();
    let mut expected = data.clone();
    expected[400_000..500_000].fill(0);
    assert!(t.read(b, 0, 2_000_000) == expected);
    expected = data.clone();
    expected[5000..5007].copy_from_slice(b"changed");
    assert!(t.read(a, 0, 2_000_000) == expected);
    // Not on block borders, inside one file, and past the end.
    assert_eq!(copy(&t, (a, 3), (b, 9), 10_000), Ok(10_000));
    assert_eq!(t.read(b, 9, 10_000), expected[3..10_003]);
    assert_eq!(copy(&t, (a, 0), (a, 4096), 8192), Err(Error::Invalid));
    assert_eq!(copy(&t, (a, 0), (a, 1 << 21), 8192), Ok(8192));
    assert_eq!(t.read(a, 1 << 21, 9000), expected[..8192]);
    assert_eq!(copy(&t, (b, 1 << 30), (a, 0), 5), Ok(0));
    for name in ["a", "b"] {
        t.fs.unlink(&USER, ROOT, name.as_bytes()).unwrap();
    }
    t.fs.close().unwrap();
    assert_eq!(t.fs.volume().live_blocks(), 0);
}

#[test]
fn small_files_and_snapshots_are_copied_by_value() {
    let t = T::new();
    let s = t.create(ROOT, "s");
    t.write(s, 0, b"inline");
    t.fs.commit().unwrap();
    let to = t.create(ROOT, "to");
    t.write(to, 0, &[1; 9000]);
    assert_eq!(copy(&t, (s, 0), (to, 4096), 100), Ok(6));
    assert_eq!(t.read(to, 4095, 8), b"\x01inline\x01");
    let big = t.put(ROOT, "big", &[5; 500_000]);
    let snap = t.snapshot("one");
    t.resize(big, 0);
    let old = t.open(t.find(snap, "big").unwrap(), RO);
    let new = t.open(big, RW);
    assert_eq!(copy(&t, (old, 0), (new, 0), 1 << 30), Ok(500_000));
    assert!(t.cat(ROOT, "big") == vec![5; 500_000]);
}

#[test]
fn one_request_copies_so_much_by_value_and_no_more() {
    const MIB: u64 = 1 << 20;
    let t = T::new();
    let (now, len) = (t.create(ROOT, "now"), 20 * MIB);
    for at in 0..20 {
        t.write(now, at * MIB, &[at as u8 + 1; MIB as usize]);
    }
    t.fs.commit().unwrap();
    let snap = t.snapshot("s");
    let old = t.open(t.find(snap, "now").unwrap(), RO);
    // Blocks of a snapshot, and what does not lie on block borders.
    for (from, at) in [(old, 0), (now, 1)] {
        let (to, mut done) = (t.create(ROOT, &format!("copy {at}")), 0);
        while done < len - at {
            let copied = copy(&t, (from, at + done), (to, done), u64::MAX / 4).unwrap();
            let is_rest = done + copied == len - at;
            assert!(copied == 8 * MIB || copied < 8 * MIB && is_rest, "{copied} after {done}");
            done += copied;
        }
        assert_eq!(t.attr(to.0).size, len - at);
        for n in 0..20 {
            assert_eq!(t.read(to, n * MIB, 5), [n as u8 + 1; 5]);
        }
    }
    // Sharing is not bounded by that.
    let shared = t.create(ROOT, "shared");
    assert_eq!(copy(&t, (now, 0), (shared, 0), u64::MAX / 4), Ok(len));
}

#[test]
fn a_full_store_refuses_writes_and_deletes_files() {
    let options = FsOptions { dirty_bytes_max: 1 << 18, ..FsOptions::default() };
    for chunk in [1000, 4096, 200_000] {
        let t = T::with(2 << 20, options.clone());
        let f = t.create(ROOT, "f");
        let mut at = 0;
        let refused = loop {
            match t.fs.write(f.0, f.1, at, &vec![1; chunk], false) {
                Ok(n) => at += n as u64,
                Err(e) => break e,
            }
        };
        assert_eq!(refused, Error::NoSpace);
        assert!(at > 1 << 20, "{at}");
        assert_eq!(t.attr(f.0).size, at, "a refused write changes nothing");
        t.fs.commit().unwrap();
        assert!(t.read(f, 0, 4 << 20).iter().all(|b| *b == 1));
        t.resize(f.0, 5);
        t.fs.unlink(&USER, ROOT, b"f").unwrap();
        t.fs.release(f.0, f.1);
        t.fs.forget(f.0);
        t.put(ROOT, "again", &vec![2; 1 << 20]); // at once: the commits that it takes are made
        t.fs.commit().unwrap();
        assert!(t.cat(ROOT, "again") == vec![2; 1 << 20]);
    }
}

#[test]
fn delayed_blocks_all_over_a_file_hold_little_space() {
    let t = T::with(256 << 20, FsOptions::default());
    let f = t.put(ROOT, "f", &[1; 1 << 20]);
    t.snapshot("s");
    let f = t.open(f, RW);
    let available = || t.fs.volume().space().available;
    let before = available();
    // In an order in which no neighbours follow each other.
    for n in 0..200 {
        t.write(f, n * 101 % 256 * 4096, &[2; 4096]);
    }
    // Each twice and with two freed references in two copies of what they are in; and some leaves and buckets, in two copies.
    let (blocks, nodes) = (200 * (2 * 4096 + 2 * 64 * 4), 30 * 2 * 16384);
    let seen = before - available();
    assert!((blocks..blocks + nodes).contains(&seen), "{seen}, expected {blocks} and up to {nodes}");
    t.fs.commit().unwrap();
    assert!(available() > before - (1 << 20), "what is held comes back");
}

#[test]
fn commits_have_space_for_delayed_blocks_in_a_full_store() {
    let mut rng = fastrand::Rng::with_seed(4);
    for spread in [1, 64] {
        let t = T::with(0, FsOptions::default());
        let (f, rest) = (t.create(ROOT, "f"), t.create(ROOT, "rest"));
        let most = t.fs.statfs(ROOT).unwrap().available_bytes - (6 << 20);
        fallocate(&t, rest, 0, most, Extend).unwrap();
        let (mut expected, mut refused) = (vec![0; 1500], 0);
        for round in 1..6 {
            let name = format!("s{round}");
            t.snapshot(&name);
            let full = refused + 2;
            for _ in 0..1000 {
                if refused == full {
                    break;
                }
                // Descending, and far from each other: in extents of their own.
                let (end, n) = (rng.usize(1..expected.len()), rng.usize(1..40));
                for block in (end.saturating_sub(n)..end).rev() {
                    match t.fs.write(f.0, f.1, block as u64 * spread * 4096, &[round; 4096], false) {
                        Ok(_) => expected[block] = round,
                        Err(e) => {
                            assert_eq!(e, Error::NoSpace);
                            refused += 1;
                            break;
                        }
                    }
                }
            }
            t.fs.commit().expect("what was accepted has space");
            for (block, expected) in expected.iter().enumerate() {
                let seen = t.read(f, block as u64 * spread * 4096, 1);
                assert_eq!(seen.first().unwrap_or(&0), expected, "block {block}, spread {spread}");
            }
            t.fs.rmdir(&USER, SNAPDIR, name.as_bytes()).unwrap();
        }
        assert!(refused > 2, "{refused}");
    }
}

#[test]
fn what_comes_and_goes_all_the_time_takes_little_space() {
    let t = T::new();
    let f = t.create(ROOT, "f");
    let mut most = 0;
    for _ in 0..40 {
        fallocate(&t, f, 0, 64 << 20, Extend).unwrap();
        most = most.max(t.fs.volume().space().used);
        t.resize(f.0, 0);
    }
    // What was freed since the last commit, the same of the one before it, and what is in use.
    assert!(most < 800 << 20, "{most}");
}

#[test]
fn what_is_said_to_be_available_can_be_allocated() {
    for bytes in [48 << 20, 300 << 20, 14 << 30] {
        let t = T::with(bytes, FsOptions::default());
        t.put(ROOT, "old", &[1; 3_000_000]);
        t.snapshot("s");
        for round in 0..2 {
            let available = t.fs.statfs(ROOT).unwrap().available_bytes;
            assert!(available > bytes / 2, "{available} of {bytes}");
            let f = t.create(ROOT, "f");
            assert_eq!(fallocate(&t, f, 0, available - 65_536, Extend), Ok(()), "{bytes}, round {round}");
            t.fs.release(f.0, f.1);
            t.fs.unlink(&USER, ROOT, b"f").unwrap();
            t.fs.forget(f.0);
            (0..4).for_each(|_| t.fs.commit().unwrap());
        }
    }
}

#[test]
fn a_store_at_rest_gives_the_host_its_space_back_and_then_writes_no_more() {
    let device = Arc::new(Memory::new(1 << 40));
    let t = T::on(Volume::made_on(device.clone()), FsOptions::default());
    let before = device.available();
    let f = t.create(ROOT, "f");
    fallocate(&t, f, 0, 1 << 30, Extend).unwrap();
    (0..3).for_each(|_| t.fs.tick().unwrap());
    assert!(before - device.available() > 1 << 30);
    t.fs.release(f.0, f.1);
    t.fs.unlink(&USER, ROOT, b"f").unwrap();
    t.fs.forget(f.0);
    (0..2).for_each(|_| t.fs.tick().unwrap());
    assert!(device.available() + (128 << 20) >= before, "{before} became {}", device.available());
    let epoch = t.fs.volume().epoch();
    (0..3).for_each(|_| t.fs.tick().unwrap());
    assert_eq!(t.fs.volume().epoch(), epoch, "nothing is left to commit");
}

#[test]
fn what_little_was_freed_wakes_no_store_at_rest() {
    let t = T::new();
    t.put(ROOT, "f", &[1; 1 << 20]);
    t.fs.tick().unwrap();
    t.fs.unlink(&USER, ROOT, b"f").unwrap();
    t.fs.tick().unwrap();
    let epoch = t.fs.volume().epoch();
    (0..3).for_each(|_| t.fs.tick().unwrap());
    assert_eq!(t.fs.volume().epoch(), epoch);
}

#[test]
fn what_a_reader_holds_up_is_not_waited_for() {
    let t = T::with(64 << 20, FsOptions::default());
    t.put(ROOT, "old", &vec![3; 24 << 20]);
    t.fs.commit().unwrap();
    // As a long `check` does.
    let reader = t.fs.volume().live(crate::format::LineId::MAIN).unwrap();
    t.fs.unlink(&USER, ROOT, b"old").unwrap();
    crate::fs::content::purge_all_unlinked(&t.fs.commits, t.head());
    let f = t.create(ROOT, "f");
    let started = || t.fs.commits.started();
    let refused = (0..64u64).find_map(|n| {
        let before = started();
        let written = t.fs.write(f.0, f.1, n << 20, &vec![5; 1 << 20], false);
        (written == Err(Error::NoSpace)).then(|| started() - before)
    });
    assert!((1..=4).contains(&refused.expect("it is full")), "{refused:?} commits for nothing");
    drop(reader);
    assert_eq!(t.fs.write(f.0, f.1, 40 << 20, &vec![5; 1 << 20], false), Ok(1 << 20));
}

/// Notes, of each long write, whether changes were held up meanwhile.
#[derive(Default)]
struct Watch {
    fs: Mutex<Weak<Fs>>,
    held_up: Mutex<Vec<bool>>,
}

impl Hooks for Watch {
    fn before_write(&self, bytes: usize) {
        if let Some(fs) = self.fs.lock().upgrade().filter(|_| bytes >= 256 << 10) {
            self.held_up.lock().push(fs.heads.main().gate.try_write().is_none());
        }
    }
}

#[test]
fn delayed_content_that_is_copied_is_written_while_others_go_on() {
    let device = Arc::new(Hooked::over(Memory::new(256 << 20), Watch::default()));
    let t = T::on(Volume::made_on(device.clone()), FsOptions::default());
    let (from, to) = (t.create(ROOT, "from"), t.create(ROOT, "to"));
    let piece = |n: u64| vec![n as u8 + 1; 32 << 10];
    (0..64).for_each(|n| t.write(from, n * (32 << 10), &piece(n)));
    *device.hooks.fs.lock() = Arc::downgrade(&t.fs);
    assert_eq!(copy(&t, (from, 0), (to, 0), 2 << 20), Ok(2 << 20));
    let held_up = std::mem::take(&mut *device.hooks.held_up.lock());
    assert!(!held_up.is_empty() && !held_up.contains(&true), "{held_up:?}");
    (0..64).for_each(|n| assert_eq!(t.read(to, n * (32 << 10), 32 << 10), piece(n)));
    t.fs.commit().unwrap();
    t.prove();
    assert_eq!(t.fs.volume().live_blocks(), 2 * (2 << 20) / 4096, "shared");
}
