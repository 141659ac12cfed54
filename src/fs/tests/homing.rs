//! Content that goes home: runs that come together again, what it costs, who keeps content away, and cuts at every write.

use super::*;
use crate::device::{CrashPolicy, Device, Op, Persistence, Sim};
use crate::fs::items::FromHome;
use crate::volume::{Access, OpenOptions};

pub(super) const BLOCK: u64 = 4096;

pub(super) fn cow(t: &T, node: NodeId) {
    t.fs.setxattr(&SUPER, node, b"user.snapfs.layout", b"cow", XattrMode::Set).unwrap();
}

/// (bytes away, runs).
pub(super) fn home(t: &T, node: NodeId) -> (u64, u64) {
    let view = t.fs.heads.view_of(node).unwrap();
    let ino = crate::format::Ino(node.ino());
    let inode = crate::fs::items::Items::inode(&*view, ino).unwrap().unwrap();
    let FromHome { away, runs, .. } = crate::fs::items::from_home(&view, ino, &inode).unwrap();
    (away, runs)
}

/// Until nothing moves any more: bytes copied out, and bytes that came home.
pub(super) fn rest(t: &T) -> (u64, u64) {
    t.fs.commit().unwrap();
    let (mut copied, mut moved) = (0, 0);
    for _ in 0..1000 {
        let step = t.fs.bring_content_home(1 << 20).unwrap();
        copied += step.copied;
        moved += step.moved;
        if !step.more {
            return (copied, moved);
        }
    }
    panic!("it never rests");
}

/// A file of so many blocks at one place.
pub(super) fn image(t: &T, blocks: u64) -> ((NodeId, Handle), Vec<u8>) {
    let f = t.create(ROOT, "image");
    let bytes: Vec<u8> = (0..blocks * BLOCK).map(|i| (i / 4096) as u8 | 1).collect();
    for (n, part) in bytes.chunks(128 << 10).enumerate() {
        t.write(f, (n as u64) * (128 << 10), part);
    }
    t.fs.commit().unwrap();
    (f, bytes)
}

pub(super) fn overwrite(t: &T, f: (NodeId, Handle), bytes: &mut [u8], block: u64, byte: u8) {
    let data = vec![byte; BLOCK as usize];
    t.write(f, block * BLOCK, &data);
    bytes[(block * BLOCK) as usize..((block + 1) * BLOCK) as usize].copy_from_slice(&data);
}

#[test]
fn runs_come_together_again_under_ten_snapshots() {
    let t = T::with(1 << 30, FsOptions::default());
    cow(&t, ROOT);
    let (f, mut bytes) = image(&t, 1024);
    let before = home(&t, f.0);
    assert_eq!(before.0, 0);
    let mut rng = fastrand::Rng::with_seed(1);
    let mut snapshots = Vec::new();
    for n in 0..10 {
        snapshots.push((t.snapshot(&format!("s{n}")), bytes.clone()));
        for _ in 0..250 {
            let (block, byte) = (rng.u64(0..1024), rng.u8(..));
            overwrite(&t, f, &mut bytes, block, byte);
        }
        t.fs.commit().unwrap();
        if n % 3 == 0 {
            // In the middle of it, too.
            t.fs.bring_content_home(256 << 10).unwrap();
            t.prove();
        }
    }
    assert!(home(&t, f.0).1 > 500, "scattered: {:?}", home(&t, f.0));
    let (copied, moved) = rest(&t);
    assert_eq!(home(&t, f.0), before);
    assert!(copied > 0 && moved > 0);
    assert!(t.read(f, 0, bytes.len()) == bytes);
    for (n, (node, expected)) in snapshots.iter().enumerate() {
        assert!(t.cat(*node, "image") == *expected, "snapshot {n}");
    }
    t.prove();
    // What was copied out goes with its snapshots.
    for n in 0..10 {
        t.fs.rmdir(&USER, SNAPDIR, format!("s{n}").as_bytes()).unwrap();
    }
    for _ in 0..5 {
        t.fs.commit().unwrap();
    }
    t.prove();
    assert_eq!(t.fs.volume().committed().unwrap().remap.len(), 0);
    assert!(t.read(f, 0, bytes.len()) == bytes);
}

#[test]
fn a_first_overwrite_is_copied_out_and_a_later_one_is_not() {
    let t = T::with(1 << 30, FsOptions::default());
    cow(&t, ROOT);
    let (f, mut bytes) = image(&t, 64);
    t.snapshot("s");
    (0..16).for_each(|n| overwrite(&t, f, &mut bytes, 3 * n, 7));
    assert_eq!(rest(&t), (16 * BLOCK, 16 * BLOCK), "each is copied out once and comes home once");
    (0..16).for_each(|n| overwrite(&t, f, &mut bytes, 3 * n, 8));
    assert_eq!(rest(&t), (0, 16 * BLOCK), "nobody needs what was at home");
    // At rest nothing is done, and nothing written.
    let before = t.fs.volume().io();
    assert_eq!(t.fs.bring_content_home(1 << 20).unwrap(), Default::default());
    assert_eq!((t.fs.volume().io() - before).writes, 0);
    assert!(!t.fs.content_is_away());
    assert!(t.read(f, 0, bytes.len()) == bytes);
    t.prove();
}

#[test]
fn zeros_have_a_place_and_space_that_was_asked_for_is_filled_where_it_is() {
    let t = T::new();
    t.compress(ROOT, "zstd");
    cow(&t, ROOT);
    let (f, mut bytes) = image(&t, 64);
    let runs = home(&t, f.0).1;
    (0..64).for_each(|n| overwrite(&t, f, &mut bytes, n, 0));
    rest(&t);
    assert_eq!((home(&t, f.0), t.attr(f.0).blocks), ((0, runs), 64 * 8));
    let space = t.create(ROOT, "space");
    t.fs.fallocate(&USER, space.0, space.1, 0, 64 * BLOCK, AllocateMode::Extend).unwrap();
    t.fs.commit().unwrap();
    let before = home(&t, space.0);
    let mut content = vec![0; 64 * BLOCK as usize];
    (0..64).rev().step_by(2).for_each(|n| overwrite(&t, space, &mut content, n, 5));
    rest(&t);
    assert_eq!(home(&t, space.0), before);
    assert!(t.read(space, 0, content.len()) == content);
    t.prove();
}

/// Where each block of a file is.
fn places(t: &T, node: NodeId) -> Vec<u64> {
    let (view, ino) = (t.fs.heads.view_of(node).unwrap(), crate::format::Ino(node.ino()));
    let all = crate::fs::items::extents::overlapping(&view, ino, 0, u64::MAX, usize::MAX).unwrap();
    let runs = all.iter().flat_map(|(_, extent)| view.runs_of(extent));
    runs.flat_map(|(from, to)| (from..to).step_by(BLOCK as usize)).collect()
}

/// Where content is when the layout of its file is set, at once or by its directory, is its home, in how many pieces it may be:
/// nothing moves then, and what is written over later comes to the same places.
#[test]
fn places_of_a_file_that_is_there_become_its_home() {
    for by_root in [false, true] {
        let t = T::with(1 << 30, FsOptions::default());
        let (f, mut bytes) = image(&t, 128);
        let old = bytes.clone();
        t.snapshot("before");
        for n in [3, 4, 40, 41, 42, 77, 100] {
            overwrite(&t, f, &mut bytes, n, 99);
            t.put(ROOT, &format!("between{n}"), &[1; 5000]);
            t.fs.commit().unwrap();
        }
        let (before, runs) = (places(&t, f.0), home(&t, f.0).1);
        assert!(runs >= 9 && before.len() == 128, "{runs} runs");
        assert!(!t.fs.volume().knows_homes());
        cow(&t, if by_root { ROOT } else { f.0 });
        assert!(t.fs.volume().knows_homes());
        assert_eq!((home(&t, f.0), rest(&t)), ((0, runs), (0, 0)), "nothing moves");
        assert_eq!(places(&t, f.0), before);
        // All of it, in any order, under a snapshot and without one.
        let mut order: Vec<u64> = (0..128).collect();
        for round in 0..3 {
            if round < 2 {
                t.snapshot(&format!("s{round}"));
            }
            fastrand::Rng::with_seed(round).shuffle(&mut order);
            for part in order.chunks(24) {
                part.iter().for_each(|n| overwrite(&t, f, &mut bytes, *n, (round * 50 + n % 50) as u8 + 1));
                t.fs.commit().unwrap();
            }
            let away = home(&t, f.0).0;
            assert!(away == 128 * BLOCK && places(&t, f.0) != before, "{away} bytes are away");
            let copied = if round < 2 { 128 * BLOCK } else { 0 };
            let (out, moved) = rest(&t);
            // What the first snapshot of all had there, and the file no more, is in nobody's way.
            assert_eq!((out, moved), (copied, 128 * BLOCK), "round {round}");
            assert_eq!((home(&t, f.0), places(&t, f.0)), ((0, runs), before.clone()), "round {round}");
            assert!(t.read(f, 0, bytes.len()) == bytes);
        }
        assert!(t.cat(t.find(SNAPDIR, "before").unwrap(), "image") == old);
        t.prove();
    }
}

#[test]
fn what_a_clone_or_a_copy_has_stays_and_so_does_what_took_its_place() {
    let t = T::with(1 << 30, FsOptions::default());
    cow(&t, ROOT);
    let (f, mut bytes) = image(&t, 64);
    let old = bytes.clone();
    let clone = t.mkdir(NodeId::clonedir(0), "c").unwrap();
    overwrite(&t, f, &mut bytes, 5, 9);
    assert_eq!(rest(&t), (0, 0));
    assert_eq!(home(&t, f.0).0, BLOCK, "the clone's content is where it was");
    assert!(t.cat(clone, "image") == old);
    t.prove();
    t.fs.drop_clone(b"c").unwrap();
    for _ in 0..4 {
        t.fs.commit().unwrap();
    }
    rest(&t);
    assert_eq!(home(&t, f.0).0, 0, "and now it is free");
    // The same with a copy that shares it.
    let copy = t.create(ROOT, "copy");
    let len = bytes.len() as u64;
    assert_eq!(t.fs.copy_range(&USER, f.0, f.1, 0, copy.0, copy.1, 0, len), Ok(len));
    let shared = bytes.clone();
    t.snapshot("s");
    overwrite(&t, f, &mut bytes, 6, 9);
    assert_eq!(rest(&t), (0, 0));
    assert_eq!(home(&t, f.0).0, BLOCK);
    assert!(t.cat(ROOT, "copy") == shared && t.cat(ROOT, "image") == bytes);
    t.prove();
}

/// What has only moved has not changed, and what was written over has, wherever it lies.
#[test]
fn differences_are_those_of_content_and_not_of_places() {
    let t = T::with(1 << 30, FsOptions::default());
    cow(&t, ROOT);
    let (f, mut bytes) = image(&t, 64);
    t.snapshot("a");
    overwrite(&t, f, &mut bytes, 5, 77);
    t.fs.commit().unwrap();
    t.snapshot("b");
    rest(&t);
    t.snapshot("c");
    let changed = |from: &str, to: &str| {
        let view = |name: &str| t.fs.heads.view_of(t.find(SNAPDIR, name).unwrap()).unwrap();
        let (old, new) = (view(from), view(to));
        let ino = crate::format::Ino(f.0.ino());
        let inode = |v: &crate::volume::View| crate::fs::items::Items::inode(v, ino).unwrap().unwrap();
        let (before, after) = (inode(&old), inode(&new));
        let file = |view, inode| crate::fs::difference::FileAt { view, ino, inode };
        !crate::fs::difference::is_same_content(file(&old, &before), file(&new, &after)).unwrap()
    };
    assert!(changed("a", "b") && changed("a", "c"), "home is the same place, and content another");
    assert!(!changed("b", "c"), "it came home in between");
}

/// Files of a store in a simulated device, which is cut off or fails at any of its calls.
fn on(sim: &Arc<Sim>) -> T {
    let options = OpenOptions { access: Access::ReadWrite, cache_bytes: 4 << 20 };
    let volume = Volume::open(sim.clone(), options).unwrap();
    T::on(volume, FsOptions::default())
}

/// A file of 16 blocks, a snapshot, and 4 of them written over. Returns what the snapshot and the file hold.
fn begun() -> (Sim, Vec<u8>, Vec<u8>, u64) {
    let sim = Arc::new(Sim::new(64 << 20, 1));
    Volume::create(sim.clone(), sim.size(), [1; 16], (0, 0)).unwrap();
    let t = on(&sim);
    cow(&t, ROOT);
    let (f, mut bytes) = image(&t, 16);
    let (old, runs) = (bytes.clone(), home(&t, f.0).1);
    t.snapshot("s");
    [1, 2, 7, 15].into_iter().for_each(|n| overwrite(&t, f, &mut bytes, n, 200));
    t.fs.commit().unwrap();
    (sim.clone_image(), old, bytes, runs)
}

fn try_to_rest(t: &T) -> Result<()> {
    for _ in 0..20 {
        if !t.fs.bring_content_home(1 << 20)?.more {
            return Ok(());
        }
    }
    panic!("it never rests");
}

fn is_whole(t: &T, old: &[u8], bytes: &[u8]) {
    let snapshot = t.find(SNAPDIR, "s").unwrap();
    assert!(t.cat(snapshot, "image") == old && t.cat(ROOT, "image") == bytes);
    t.prove();
}

#[test]
fn what_lies_in_one_run_is_read_at_once() {
    let sim = Arc::new(Sim::new(64 << 20, 1));
    Volume::create(sim.clone(), sim.size(), [1; 16], (0, 0)).unwrap();
    let t = on(&sim);
    cow(&t, ROOT);
    let (f, mut bytes) = image(&t, 64);
    t.snapshot("s");
    (0..64).step_by(2).for_each(|block| overwrite(&t, f, &mut bytes, block, 200));
    let reads = |t: &T, len: u64| {
        // The nodes of the tree are in memory.
        t.read(f, 0, len as usize);
        let before = sim.counts().reads;
        assert!(t.read(f, 0, len as usize) == bytes[..len as usize]);
        sim.counts().reads - before
    };
    t.fs.commit().unwrap();
    assert!(reads(&t, 64 * BLOCK) > 32, "scattered");
    rest(&t);
    // Part of a block at the end as well, and a piece of what was never written over.
    assert_eq!((reads(&t, 64 * BLOCK), reads(&t, 33 * BLOCK), reads(&t, 5000)), (1, 1, 1));
    // One that is bad spoils no other's answer.
    let view = t.fs.heads.view_of(f.0).unwrap();
    let at = crate::fs::items::extents::at(&view, crate::format::Ino(f.0.ino()), 10 * BLOCK);
    sim.flip(view.runs_of(&at.unwrap().unwrap().1)[0].0, 1);
    assert!(t.fs.read(f.0, f.1, 0, &mut vec![0; 64 * BLOCK as usize]).is_err());
    let mut block = vec![0; BLOCK as usize];
    t.fs.read(f.0, f.1, 9 * BLOCK, &mut block).unwrap();
    assert!(block == bytes[9 * BLOCK as usize..][..BLOCK as usize]);
    assert!(t.fs.read(f.0, f.1, 10 * BLOCK, &mut block).is_err());
}

#[test]
fn a_cut_at_any_write_of_it_costs_nothing_but_time() {
    let (made, old, bytes, runs) = begun();
    for cut in 1.. {
        let sim = Arc::new(made.clone_image());
        let t = on(&sim);
        sim.set_crash_at(sim.changes() + cut);
        let done = try_to_rest(&t).is_ok();
        drop(t);
        let t = on(&Arc::new(sim.crash(CrashPolicy::Random(cut))));
        is_whole(&t, &old, &bytes);
        rest(&t);
        is_whole(&t, &old, &bytes);
        assert_eq!(home(&t, t.find(ROOT, "image").unwrap()), (0, runs), "cut {cut}");
        if done {
            break;
        }
    }
}

#[test]
fn a_failure_at_any_call_of_it_leaves_all_content() {
    let (made, old, bytes, runs) = begun();
    for op in [Op::Read, Op::Write, Op::Flush] {
        for nth in 1.. {
            let sim = Arc::new(made.clone_image());
            let t = on(&sim);
            let before = sim.faults_struck();
            sim.fail(op, nth, Persistence::Once);
            let done = try_to_rest(&t);
            let struck = sim.faults_struck() > before;
            drop(t);
            let t = on(&Arc::new(sim.clone_image()));
            is_whole(&t, &old, &bytes);
            rest(&t);
            is_whole(&t, &old, &bytes);
            assert_eq!(home(&t, t.find(ROOT, "image").unwrap()), (0, runs), "{op:?} {nth}");
            if !struck {
                assert!(done.is_ok());
                break;
            }
        }
    }
}

/// Of what a snapshot has at a home a clone may have a part: that stays where it is, and the rest makes room.
#[test]
fn what_a_clone_has_a_part_of_makes_room_block_by_block() {
    let t = T::with(1 << 30, FsOptions::default());
    cow(&t, ROOT);
    let (f, mut bytes) = image(&t, 32);
    t.snapshot("s");
    t.mkdir(NodeId::clonedir(0), "c").unwrap();
    let clone = t.find(t.find(NodeId::clonedir(0), "c").unwrap(), "image").unwrap();
    t.write(f, 0, &[200; 8 * BLOCK as usize]);
    bytes[..8 * BLOCK as usize].fill(200);
    let g = t.open(clone, RW);
    t.fs.fallocate(&USER, clone, g.1, 0, 4 * BLOCK, AllocateMode::PunchHole).unwrap();
    let (copied, moved) = rest(&t);
    assert_eq!((copied, moved), (4 * BLOCK, 4 * BLOCK), "the blocks that the clone has not");
    assert!(t.read(f, 0, bytes.len()) == bytes);
    t.fs.commit().unwrap();
    t.prove();
    t.fs.release(g.0, g.1);
    t.fs.drop_clone(b"c").unwrap();
    (0..4).for_each(|_| t.fs.commit().unwrap());
    rest(&t);
    assert_eq!(home(&t, f.0).0, 0);
    t.prove();
}
