//! What is in the way of content that goes home: choices that come in between, damage, no space, clones that come and go.

use super::homing::{BLOCK, cow, home, image, overwrite, rest};
use super::*;
use crate::device::{Device, Memory, Op, Persistence, Sim};
use crate::fixtures::{Hooked, Hooks};
use crate::volume::{Access, OpenOptions};
use parking_lot::Mutex;

/// Does something once, right before the next write.
#[derive(Default)]
struct Interrupted(Mutex<Option<Box<dyn FnOnce() + Send>>>);

impl Hooks for Interrupted {
    fn before_write(&self, _: usize) {
        let due = self.0.lock().take();
        due.into_iter().for_each(|deed| deed());
    }
}

/// A file with an extent for each of its blocks.
fn pieces(t: &T, blocks: u64) -> ((NodeId, Handle), Vec<u8>) {
    let f = t.create(ROOT, "image");
    let mut bytes = vec![0; (blocks * BLOCK) as usize];
    for first in [0, 1] {
        (first..blocks).step_by(2).for_each(|n| overwrite(t, f, &mut bytes, n, n as u8 | 1));
        t.fs.commit().unwrap();
    }
    (f, bytes)
}

fn text(len: usize) -> Vec<u8> {
    (0..len).map(|i| b"the same again, and again "[i % 26]).collect()
}

/// Each block is written over by itself, twice, and nothing is lost or freed twice.
fn write_over(t: &T, f: (NodeId, Handle), bytes: &mut [u8]) {
    t.fs.commit().unwrap();
    t.prove();
    assert!(t.read(f, 0, bytes.len()) == bytes);
    for n in 0..bytes.len() as u64 / BLOCK {
        overwrite(t, f, bytes, n, 200 + (n % 50) as u8);
        t.fs.commit().unwrap();
        assert!(t.read(f, 0, bytes.len()) == bytes, "block {n}");
    }
    rest(t);
    t.prove();
    assert!(t.read(f, 0, bytes.len()) == bytes);
}

#[test]
fn a_choice_that_comes_while_a_write_is_on_its_way() {
    let device = Arc::new(Hooked::over(Memory::new(1 << 30), Interrupted::default()));
    let t = T::on(Volume::made_on(device.clone()), FsOptions::default());
    t.compress(ROOT, "zstd");
    let (f, mut bytes) = pieces(&t, 32);
    bytes = text(bytes.len());
    let fs = t.fs.clone();
    *device.hooks.0.lock() = Some(Box::new(move || {
        fs.setxattr(&SUPER, f.0, b"user.snapfs.layout", b"cow", XattrMode::Set).unwrap();
    }));
    t.write(f, 0, &bytes);
    assert!(device.hooks.0.lock().is_none() && t.fs.volume().knows_homes());
    write_over(&t, f, &mut bytes);
}

#[test]
fn a_choice_that_comes_between_the_two_halves_of_a_commit() {
    let t = T::new();
    t.compress(ROOT, "zstd");
    cow(&t, ROOT);
    let (f, mut bytes) = pieces(&t, 32);
    overwrite(&t, f, &mut bytes, 3, 7);
    rest(&t);
    t.fs.setxattr(&SUPER, ROOT, b"user.snapfs.layout", b"row", XattrMode::Set).unwrap();
    bytes = text(bytes.len());
    for (n, part) in bytes.chunks(30_000).enumerate() {
        t.write(f, n as u64 * 30_000, part);
    }
    let early = t.stage_early();
    cow(&t, ROOT);
    t.commit_after(early);
    write_over(&t, f, &mut bytes);
}

/// The file system of a store on a simulated disk.
pub(super) fn on(sim: &Arc<Sim>) -> T {
    let options = OpenOptions { access: Access::ReadWrite, cache_bytes: 4 << 20 };
    T::on(Volume::open(sim.clone(), options).unwrap(), FsOptions::default())
}

/// A simulated store with two files that have content away from home.
fn two_away() -> (Arc<Sim>, T, [(NodeId, Handle); 2]) {
    let sim = Arc::new(Sim::new(64 << 20, 1));
    Volume::create(sim.clone(), sim.size(), [1; 16], (0, 0)).unwrap();
    let t = on(&sim);
    cow(&t, ROOT);
    let files = ["a", "b"].map(|name| t.create(ROOT, name));
    let mut bytes = vec![1; 16 * BLOCK as usize];
    for f in files {
        t.write(f, 0, &bytes);
    }
    t.fs.commit().unwrap();
    t.snapshot("s");
    for f in files {
        [2, 5, 9].into_iter().for_each(|n| overwrite(&t, f, &mut bytes, n, 99));
    }
    t.fs.commit().unwrap();
    (sim, t, files)
}

#[test]
fn a_file_that_cannot_be_read_is_passed_over() {
    let (sim, t, [a, b]) = two_away();
    let view = t.fs.heads.view_of(a.0).unwrap();
    let (_, extent) =
        crate::fs::items::extents::at(&view, crate::format::Ino(a.0.ino()), 2 * BLOCK).unwrap().unwrap();
    assert!(extent.is_away());
    drop(view);
    // Where the content is now, and once more the snapshot's, which is to be copied out.
    for addr in [extent.raw_addr.0, extent.home().addr.0 + 3 * BLOCK] {
        sim.corrupt(addr, BLOCK, 7);
    }
    rest(&t);
    assert!(home(&t, a.0).0 > 0);
    assert_eq!(home(&t, b.0).0, 0, "the other is home");
    // It is done for this time, and what is changed is committed.
    assert!(!t.fs.content_is_away());
    let c = t.put(ROOT, "c", b"content");
    t.fs.tick().unwrap();
    assert!(!t.fs.has_changes());
    assert_eq!(t.attr(c).size, 7);
}

#[test]
fn where_space_is_short_it_ends_and_so_does_nothing_else() {
    let t = T::with(64 << 20, FsOptions::default());
    cow(&t, ROOT);
    let (f, mut bytes) = image(&t, 64);
    t.snapshot("s");
    (0..64).step_by(2).for_each(|n| overwrite(&t, f, &mut bytes, n, 9));
    t.fs.commit().unwrap();
    // Somebody has all the space that there is.
    let mut held = Vec::new();
    for len in [1 << 20, 1 << 16, BLOCK as usize] {
        while let Ok(staged) = t.fs.volume().stage(&vec![3; len]) {
            held.push(staged);
        }
    }
    assert!(!t.fs.bring_content_home(1 << 20).unwrap().more);
    assert!(!t.fs.content_is_away(), "nothing more is tried until something has changed");
    assert!(home(&t, f.0).0 > 0);
    drop(held);
    t.put(ROOT, "more", b"content");
    t.fs.tick().unwrap();
    assert!(t.fs.content_is_away());
    rest(&t);
    assert_eq!(home(&t, f.0).0, 0);
    assert!(t.read(f, 0, bytes.len()) == bytes);
    t.prove();
}

/// What cannot move is looked at in steps, and looking asks for no commit.
#[test]
fn a_step_looks_at_so_much_and_no_more() {
    let t = T::with(1 << 30, FsOptions::default());
    cow(&t, ROOT);
    let blocks = 20_000;
    let (f, mut bytes) = image(&t, blocks);
    t.mkdir(NodeId::clonedir(0), "c").unwrap();
    (0..blocks).step_by(2).for_each(|n| overwrite(&t, f, &mut bytes, n, 9));
    t.fs.commit().unwrap();
    let epoch = t.fs.volume().epoch();
    let step = t.fs.bring_content_home(8 << 20).unwrap();
    assert!(step.more && !step.waits && step.copied + step.moved == 0, "{step:?}");
    let mut steps = 1;
    while t.fs.bring_content_home(8 << 20).unwrap().more {
        steps += 1;
        assert!(steps < 100);
    }
    assert_eq!(t.fs.volume().epoch(), epoch);
    assert!(!t.fs.content_is_away());
    assert_eq!(home(&t, f.0).0, blocks / 2 * BLOCK);
}

fn state_of(t: &T, node: NodeId) -> String {
    let value = t.fs.getxattr(node, b"user.snapfs.layout.home").unwrap();
    String::from_utf8(value).unwrap().split("state=").nth(1).unwrap().to_string()
}

#[test]
fn what_was_just_written_over_does_not_rest() {
    let t = T::with(1 << 30, FsOptions::default());
    cow(&t, ROOT);
    let (f, mut bytes) = image(&t, 64);
    rest(&t);
    assert_eq!(state_of(&t, f.0), "resting");
    bytes[..1 << 17].fill(4);
    t.write(f, 0, &bytes[..1 << 17]);
    assert_eq!(t.head().gate.read().dirty.count(crate::format::Ino(f.0.ino())), 0, "nothing is delayed");
    assert_eq!(state_of(&t, f.0), "moving");
    rest(&t);
    assert_eq!((state_of(&t, f.0), home(&t, f.0).0), ("resting".into(), 0));
    // In a round that goes on while others commit, what was passed already is written over.
    (0..8).for_each(|n| overwrite(&t, f, &mut bytes, n, 5));
    t.fs.commit().unwrap();
    t.mkdir(NodeId::clonedir(0), "c").unwrap();
    overwrite(&t, f, &mut bytes, 9, 6);
    t.fs.commit().unwrap();
    rest(&t);
    assert!(home(&t, f.0).0 > 0 && state_of(&t, f.0) == "resting", "the clone has its home");
    t.fs.drop_clone(b"c").unwrap();
    assert_eq!(state_of(&t, f.0), "moving", "now it may be free");
    (0..4).for_each(|_| t.fs.commit().unwrap());
    rest(&t);
    assert_eq!((state_of(&t, f.0), home(&t, f.0).0), ("resting".into(), 0));
}

/// Free places that are kept for what belongs there.
fn kept(t: &T) -> u64 {
    t.fs.volume().kept_for_homes()
}

#[test]
fn lines_that_come_and_go_in_the_middle_of_a_round() {
    let t = T::with(1 << 30, FsOptions::default());
    cow(&t, ROOT);
    let clone = t.mkdir(NodeId::clonedir(0), "c").unwrap();
    let (f, mut bytes) = image(&t, 64);
    let g = t.create(clone, "other");
    t.write(g, 0, &vec![1; 64 * BLOCK as usize]);
    t.fs.commit().unwrap();
    let mut other = vec![1; 64 * BLOCK as usize];
    for n in (0..64).step_by(2) {
        overwrite(&t, g, &mut other, n, 8);
        overwrite(&t, f, &mut bytes, n, 8);
    }
    // What was at home is gone, and out of quarantine.
    (0..4).for_each(|_| t.fs.commit().unwrap());
    let step = t.fs.bring_content_home(2 * BLOCK).unwrap();
    assert!(step.more && step.moved > 0);
    let before = kept(&t);
    assert!(before >= 60 * BLOCK, "{before}");
    t.fs.release(g.0, g.1);
    t.fs.drop_clone(b"c").unwrap();
    for _ in 0..40 {
        t.fs.bring_content_home(2 * BLOCK).unwrap();
        // Somebody takes what is not kept.
        t.put(ROOT, "thief", &vec![6; 128 << 10]);
        t.fs.unlink(&USER, ROOT, b"thief").unwrap();
    }
    rest(&t);
    assert_eq!(home(&t, f.0).0, 0, "all its homes were kept");
    assert!(t.read(f, 0, bytes.len()) == bytes);
    t.prove();
}

#[test]
fn what_is_cut_or_zeroed_in_part_comes_home_too() {
    let t = T::with(1 << 30, FsOptions::default());
    cow(&t, ROOT);
    let (f, mut bytes) = image(&t, 64);
    let runs = home(&t, f.0).1;
    let same = |what: &str| {
        rest(&t);
        assert_eq!(home(&t, f.0), (0, runs), "{what}");
        t.prove();
    };
    let zero = |mode, from: u64, len: u64, bytes: &mut [u8]| {
        t.fs.fallocate(&USER, f.0, f.1, from, len, mode).unwrap();
        bytes[from as usize..(from + len) as usize].fill(0);
        t.fs.commit().unwrap();
    };
    zero(AllocateMode::PunchHole, 5 * BLOCK + 100, 200, &mut bytes);
    same("a part of a block punched");
    zero(AllocateMode::ZeroRange, 9 * BLOCK, 8 * BLOCK, &mut bytes);
    same("blocks zeroed");
    zero(AllocateMode::ZeroRange, 20 * BLOCK + 7, 3 * BLOCK, &mut bytes);
    same("blocks and parts of blocks zeroed");
    let size = 50 * BLOCK + 99;
    t.resize(f.0, size);
    t.resize(f.0, 51 * BLOCK);
    bytes.truncate(51 * BLOCK as usize);
    bytes[size as usize..].fill(0);
    same("cut in the middle of a block");
    assert!(t.read(f, 0, bytes.len()) == bytes);
}

/// A failed device ends it, and says so.
#[test]
fn a_device_that_fails_ends_it() {
    let (sim, t, _) = two_away();
    sim.fail(Op::Write, 1, Persistence::Forever);
    let failed = (0..50).any(|_| t.fs.bring_content_home(1 << 20).is_err());
    assert!(failed && t.fs.volume().is_read_only());
    assert!(!t.fs.content_is_away());
}

/// What leaves a home as long as somebody reads an older state is waited for without a commit.
#[test]
fn what_a_reader_holds_up_asks_for_no_commits() {
    let t = T::with(1 << 30, FsOptions::default());
    cow(&t, ROOT);
    let (f, mut bytes) = image(&t, 64);
    rest(&t);
    let reader = t.fs.volume().live(crate::format::LineId::MAIN).unwrap();
    overwrite(&t, f, &mut bytes, 3, 9);
    t.fs.commit().unwrap();
    let epoch = t.fs.volume().epoch();
    for _ in 0..50 {
        assert!(t.fs.bring_content_home(1 << 20).unwrap().more);
    }
    assert!(t.fs.volume().epoch().0 <= epoch.0 + 3, "{:?} after {epoch:?}", t.fs.volume().epoch());
    assert_eq!(home(&t, f.0).0, BLOCK);
    drop(reader);
    rest(&t);
    assert_eq!(home(&t, f.0).0, 0);
}
