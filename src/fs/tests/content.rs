//! Content: reading, writing, truncation, small files, holes.

use super::*;
use crate::device::{Call, Op, Sim};
use crate::format::{BLOCK_BYTES, Ino};
use crate::fs::attributes::Writer;
use crate::fs::content::change_of_size;
use crate::volume::{Access, OpenOptions, Volume};
use parking_lot::Mutex;
use std::collections::BTreeSet;
use std::time::{Duration, Instant};

#[test]
fn sparse_files_beyond_every_limit_of_32_bits() {
    let t = T::new();
    let f = t.create(ROOT, "f");
    for at in [1u64 << 32, 1 << 40, (1 << 62) - 3] {
        t.write(f, at, b"data");
        t.write(f, at + 10_000, &[5; 200_000]);
    }
    t.fs.commit().unwrap();
    for at in [1u64 << 32, 1 << 40, (1 << 62) - 3] {
        assert_eq!(t.read(f, at - 2, 8), b"\0\0data\0\0");
        assert_eq!(t.read(f, at + 9_999, 200_000)[..3], [0, 5, 5]);
    }
    assert!(t.attr(f.0).blocks < 2000);
    assert_eq!(t.fs.lseek(f.0, f.1, 0, SeekTarget::Data), Ok(1 << 32));
    let end = (1u64 << 63) - 4096;
    assert_eq!(t.fs.write(f.0, f.1, end - 1, b"xy", false), Err(Error::FileTooBig));
    t.write(f, end - 1, b"x");
    assert_eq!(t.attr(f.0).size, end);
    t.resize(f.0, 3);
    t.fs.commit().unwrap();
    assert_eq!((t.fs.volume().live_blocks(), t.read(f, 0, 10)), (0, vec![0; 3]));
}

#[test]
fn small_files_live_in_the_tree() {
    let t = T::new();
    let f = t.create(ROOT, "f");
    t.write(f, 0, b"hello");
    assert!(t.attr(f.0).blocks > 0);
    t.fs.commit().unwrap();
    assert_eq!(t.fs.volume().live_blocks(), 0);
    assert!(t.attr(f.0).blocks > 0);
    t.write(f, 2000, b"0123456789");
    t.fs.commit().unwrap();
    assert_eq!((t.fs.volume().live_blocks(), t.read(f, 0, 5)), (0, b"hello".to_vec()));
    t.write(f, 2040, b"0123456789");
    t.fs.commit().unwrap();
    assert_eq!(t.fs.volume().live_blocks(), 1);
    assert_eq!((t.read(f, 0, 5), t.read(f, 1999, 3)), (b"hello".to_vec(), b"\x0001".to_vec()));
    t.resize(f.0, 4);
    t.fs.commit().unwrap();
    t.resize(f.0, 10);
    assert_eq!(t.read(f, 0, 100), b"hell\0\0\0\0\0\0");
    t.resize(f.0, 0);
    t.write(f, 0, b"new");
    t.fs.commit().unwrap();
    assert_eq!((t.fs.volume().live_blocks(), t.read(f, 0, 100)), (0, b"new".to_vec()));
}

#[test]
fn growing_after_truncation_reads_zeros() {
    for commit in [false, true] {
        for len in [100u64, 5000, 300_000] {
            for cut in [0, 1, 50, 4096, 4097, 131_072, 131_073] {
                let t = T::new();
                let f = t.create(ROOT, "f");
                t.write(f, 0, &vec![7; len as usize]);
                if commit {
                    t.fs.commit().unwrap();
                }
                t.resize(f.0, cut);
                t.resize(f.0, len + 10_000);
                let mut expected = vec![7; len.min(cut) as usize];
                expected.resize(len as usize + 10_000, 0);
                assert!(t.read(f, 0, 1 << 20) == expected, "{len} cut to {cut}");
                t.fs.commit().unwrap();
                assert!(t.read(f, 0, 1 << 20) == expected, "{len} cut to {cut}, committed");
            }
        }
    }
}

#[test]
fn append_goes_to_the_end() {
    let t = T::new();
    let f = t.create(ROOT, "f");
    let a = t.open(f.0, OpenFlags { append: true, ..RW });
    t.write(f, 0, b"one");
    t.write(a, 0, b"two");
    t.write(a, 0, &[1; 200_000]);
    assert_eq!((t.attr(f.0).size, t.read(f, 0, 7)), (200_006, b"onetwo\x01".to_vec()));
}

#[test]
fn open_truncates_and_checks_what_it_opens() {
    let t = T::new();
    let f = t.put(ROOT, "f", b"content");
    let h = t.open(f, OpenFlags { truncate: true, ..RW });
    assert_eq!(t.attr(f).size, 0);
    assert_eq!(t.fs.open(&USER, ROOT, RW), Err(Error::IsADirectory));
    let r = t.open(f, RO);
    assert_eq!(t.fs.write(r.0, r.1, 0, b"x", false), Err(Error::BadHandle));
    assert_eq!(t.fs.write(ROOT, h.1, 0, b"x", false), Err(Error::BadHandle));
    t.fs.release(h.0, h.1);
    assert_eq!(t.fs.write(h.0, h.1, 0, b"x", false), Err(Error::BadHandle));
    let again = t.fs.create(&USER, ROOT, b"f", 0o644, OpenFlags { exclusive: true, ..RW });
    assert_eq!(again.map(|_| ()), Err(Error::Exists));
    assert!(t.fs.create(&USER, ROOT, b"f", 0o644, RW).is_ok());
}

#[test]
fn long_files_flush_by_themselves() {
    let options = FsOptions { dirty_bytes_max: 1 << 20, ..FsOptions::default() };
    let t = T::with(1 << 40, options);
    let f = t.create(ROOT, "f");
    for i in 0..2000u64 {
        t.write(f, i * 3000, &[i as u8 | 1; 3000]);
    }
    assert!(t.fs.volume().live_blocks() > 1000);
    for i in 0..2000u64 {
        assert_eq!(t.read(f, i * 3000, 3000), vec![i as u8 | 1; 3000]);
    }
}

/// Some change again, some are cut, some are fsynced, some are gone by the time of the commit.
#[test]
fn what_changes_between_the_passes_of_a_flush_is_as_it_was_last_written() {
    const FILES: u64 = 300;
    let t = T::new();
    let files: Vec<_> = (0..FILES).map(|n| t.create(ROOT, &format!("f{n}"))).collect();
    let mut content = vec![Vec::new(); FILES as usize];
    let (mut again, mut rng) = (0, fastrand::Rng::with_seed(3));
    for round in 1..=40_u8 {
        let write = |content: &mut Vec<Vec<u8>>, n: usize, at: usize| {
            let end = at + 9000;
            let len = content[n].len().max(end);
            content[n].resize(len, 0);
            content[n][at..end].fill(round);
            t.write(files[n], at as u64, &[round; 9000]);
        };
        (0..FILES as usize).for_each(|n| write(&mut content, n, 0));
        // Nobody keeps an fsync from committing meanwhile.
        let early = std::thread::scope(|s| {
            let stager = s.spawn(|| t.stage_early());
            while !stager.is_finished() {
                let n = rng.usize(0..files.len());
                match rng.u8(0..20) {
                    0 => {
                        t.resize(files[n].0, 5000);
                        content[n].resize(5000, 0);
                    }
                    1 => t.fs.fsync(files[n].0, files[n].1, SyncScope::Data).unwrap(),
                    _ => write(&mut content, n, rng.usize(0..30_000)),
                }
            }
            stager.join().unwrap()
        });
        again += u32::from(early.passes() > 1);
        (0..5).for_each(|n| write(&mut content, n, 4096));
        t.commit_after(early);
        assert_eq!(t.head().gate.read().dirty.bytes(), 0);
        for (file, content) in files.iter().zip(&content) {
            assert!(t.read(*file, 0, 1 << 20) == *content);
        }
    }
    t.prove();
    assert!(again > 0, "there was something left for a second pass");
}

#[test]
fn a_commit_is_asked_for_before_writers_have_to_make_it() {
    let t = T::with(1 << 40, FsOptions { dirty_bytes_max: 1 << 20, ..FsOptions::default() });
    let f = t.create(ROOT, "f");
    let delayed = || t.head().gate.read().dirty.bytes();
    let write = |n: u64| t.write(f, n * BLOCK_BYTES, &[n as u8 | 1; BLOCK_BYTES as usize]);
    let (now, later) = (Duration::ZERO, Duration::from_millis(50));
    (0..192).for_each(write);
    assert!(!t.fs.wait_for_pressure(now));
    (192..194).for_each(write);
    assert_eq!(delayed(), 194 * BLOCK_BYTES);
    assert!(t.fs.wait_for_pressure(now));
    // Asked for again, and made by somebody else meanwhile: there is nothing left to do.
    write(194);
    t.fs.commit().unwrap();
    // Nor does it cut the wait short: background work rests as long as it would have.
    let start = Instant::now();
    assert!(!t.fs.wait_for_pressure(later));
    assert!(start.elapsed() >= later);
    // Nobody commits in the background: whoever writes does.
    (195..2000).for_each(|n| {
        write(n);
        assert!(delayed() <= (1 << 20) + BLOCK_BYTES);
    });
    assert!(t.fs.volume().live_blocks() > 1500);
}

#[test]
fn files_of_many_extents_shrink_and_go() {
    let t = T::new();
    let f = t.create(ROOT, "f");
    for i in 0..5000u64 {
        t.write(f, i * 8192, &[1; 4096]);
    }
    t.fs.commit().unwrap();
    assert_eq!(t.attr(f.0).blocks, 40_000);
    t.resize(f.0, 8192 + 5);
    assert_eq!((t.attr(f.0).size, t.attr(f.0).blocks), (8197, 16));
    for i in 0..5000u64 {
        t.write(f, i * 8192, &[1; 4096]);
    }
    t.fs.commit().unwrap();
    t.fs.unlink(&USER, ROOT, b"f").unwrap();
    t.fs.release(f.0, f.1);
    t.fs.forget(f.0);
    assert_eq!((t.fs.volume().live_blocks(), t.fs.volume().live_items().len()), (0, 1));
}

#[test]
fn extended_attributes() {
    let t = T::new();
    let f = t.put(ROOT, "f", b"x");
    let set = |name: &str, value: &[u8], mode| t.fs.setxattr(&USER, f, name.as_bytes(), value, mode);
    let get = |name: &str| t.fs.getxattr(f, name.as_bytes());
    assert_eq!((get("user.a"), t.fs.listxattr(f)), (Err(Error::NoAttribute), Ok(vec![])));
    let big = vec![0xab; 65536];
    assert_eq!(set("user.a", b"1", XattrMode::Replace), Err(Error::NoAttribute));
    assert_eq!(set("user.a", b"", XattrMode::Create), Ok(()));
    assert_eq!(set("user.a", b"1", XattrMode::Create), Err(Error::Exists));
    assert_eq!(get("user.a"), Ok(vec![]));
    for len in [1024, 1025, 3072, 3073, 65536] {
        assert_eq!(set("user.a", &big[..len], XattrMode::Replace), Ok(()));
        assert_eq!(set("user.b", &big[..len], XattrMode::Set), Ok(()));
        assert_eq!(get("user.a").as_deref(), Ok(&big[..len]));
    }
    assert_eq!(set("user.a", &vec![0; 65537], XattrMode::Set), Err(Error::TooBig));
    assert_eq!(set("user.", b"1", XattrMode::Set), Err(Error::Invalid));
    assert_eq!(set("system.posix_acl_access", b"1", XattrMode::Set), Err(Error::Invalid));
    assert_eq!(set("system.nfs4_acl", b"1", XattrMode::Set), Err(Error::NotSupported));
    assert_eq!(set("user.snapfs.created", b"1", XattrMode::Set), Err(Error::NotPermitted));
    assert_eq!(set(&format!("user.{}", "n".repeat(251)), b"1", XattrMode::Set), Err(Error::TooSmall));
    let mut names: Vec<_> = t.fs.listxattr(f).unwrap().split(|b| *b == 0).map(<[u8]>::to_vec).collect();
    names.sort();
    assert_eq!(names, [b"".to_vec(), b"user.a".to_vec(), b"user.b".to_vec()]);
    for name in ["user.a", "user.b"] {
        assert_eq!(t.fs.removexattr(&USER, f, name.as_bytes()), Ok(()));
        assert_eq!(t.fs.removexattr(&USER, f, name.as_bytes()), Err(Error::NoAttribute));
    }
    t.fs.unlink(&USER, ROOT, b"f").unwrap();
    t.fs.forget(f);
    assert_eq!(t.fs.volume().live_items().len(), 1);
}

#[test]
fn the_host_may_drop_what_a_stream_left_behind_but_not_what_is_in_snapshots() {
    const LEN: u64 = 24 << 20;
    let device = Arc::new(Sim::new(256 << 20, 1));
    let t = T::on(Volume::made_on(device.clone()), FsOptions::default());
    let f = t.create(ROOT, "f");
    (0..LEN >> 20).for_each(|n| t.write(f, n << 20, &vec![n as u8 + 1; 1 << 20]));
    t.fs.mkdir(&SUPER, SNAPDIR, b"s", 0o755).unwrap();
    let of_snapshot = t.open(t.find(t.find(SNAPDIR, "s").unwrap(), "f").unwrap(), RO);
    let read = |file, step: usize| {
        device.start_recording();
        (0..LEN).step_by(1 << 20).for_each(|at| assert_eq!(t.read(file, at, step).len(), step));
        device.take_recording()
    };
    let calls = read(f, 1 << 20);
    let (mut read_to, mut released) = (0, 0);
    for call in &calls {
        match call.op {
            Op::Read => read_to = read_to.max(call.offset + call.len),
            Op::Release => {
                assert!(call.offset + call.len + (4 << 20) < read_to, "readers are not far from each other");
                released = released.max(call.offset + call.len);
            }
            _ => panic!("a read {call:?}"),
        }
    }
    assert!(read_to - released < 8 << 20, "read to {read_to:#x}, released to {released:#x}");
    let releases = |calls: &[Call]| calls.iter().filter(|call| call.op == Op::Release).count();
    assert_eq!(releases(&read(f, 4096)), 0, "small reads are no stream");
    assert_eq!(releases(&read(of_snapshot, 1 << 20)), 0, "other snapshots share it");
}

#[test]
fn the_leaves_of_a_stream_are_told_before_it_comes_there() {
    const LEN: u64 = 32 << 20;
    const PART: u64 = 128 << 10;
    let device = Arc::new(Sim::new(256 << 20, 1));
    let t = T::on(Volume::made_on(device.clone()), FsOptions::default());
    let f = t.create(ROOT, "f");
    (0..LEN >> 20).for_each(|n| t.write(f, n << 20, &vec![n as u8 + 1; 1 << 20]));
    t.snapshot("s");
    (0..LEN / 4096).step_by(2).for_each(|n| t.write(f, n * 4096, &[7; 4096]));
    t.fs.commit().unwrap();
    drop(t);
    let options = OpenOptions { access: Access::ReadWrite, cache_bytes: 64 << 20 };
    let volume = Volume::open(device.clone(), options).unwrap();
    let t = T::on(volume, FsOptions::default());
    let file = t.open(f.0, RO);
    device.start_recording();
    (0..LEN / PART).for_each(|n| assert_eq!(t.read(file, n * PART, PART as usize).len(), PART as usize));
    let calls = device.take_recording();
    let of = |op| calls.iter().filter(move |call| call.op == op).map(|call| (call.offset, call.len));
    let told: BTreeSet<_> = of(Op::WillNeed).collect();
    let leaves = of(Op::Read).filter(|call| told.contains(call)).count();
    let again = of(Op::WillNeed).count() - told.len();
    assert!(again <= 8, "each is told once, and a second time if two ranges meet in it: {again}");
    assert!(leaves >= 20 && leaves + 1 >= told.len(), "{leaves} of {} were read", told.len());
    let first = |op, at| calls.iter().position(|call| call.op == op && call.offset == at).unwrap();
    let late = told.iter().filter(|(at, _)| first(Op::Read, *at) < first(Op::WillNeed, *at)).count();
    assert_eq!(late, 0);
    let nodes = of(Op::Read).filter(|(_, len)| *len == crate::format::NODE_BYTES as u64).count();
    assert!(nodes <= leaves + 5, "{nodes} nodes were read, {leaves} of them were told");
    t.fs.release(file.0, file.1);
}

#[test]
fn the_host_is_told_what_lies_around_small_reads() {
    const LEN: u64 = 4 << 20;
    const CLUSTER: u64 = 64 << 10;
    let device = Arc::new(Sim::new(256 << 20, 1));
    let t = T::on(Volume::made_on(device.clone()), FsOptions::default());
    let f = t.create(ROOT, "f");
    (0..LEN >> 20).for_each(|n| t.write(f, n << 20, &vec![n as u8 + 1; 1 << 20]));
    t.fs.commit().unwrap();
    let file = t.open(f.0, RO);
    let needed = |at: u64, len: usize| {
        device.start_recording();
        assert_eq!(t.read(file, at, len).len(), len);
        let calls = device.take_recording();
        let read = calls.iter().position(|call| call.op == Op::Read).expect("it reads");
        let told = calls.iter().position(|call| call.op == Op::WillNeed);
        assert!(told.is_none_or(|told| told < read), "what is told late is of no use: {calls:?}");
        told.map(|told| (calls[read].offset - calls[told].offset, calls[told].len))
    };
    assert_eq!(needed(9 * CLUSTER, 4096), None, "nothing speaks for more");
    assert_eq!(needed(9 * CLUSTER + 40960, 4096), Some((40960, CLUSTER)), "a second block of a cluster");
    assert_eq!(needed(9 * CLUSTER + 8192, 4096), None, "it was told");
    (0..7).for_each(|n| assert_eq!(needed(n * CLUSTER, 4096), None));
    assert_eq!(needed(20 * CLUSTER + 4096, 8192), Some((4096, CLUSTER)), "an eighth of the file was touched");
    assert_eq!(needed(30 * CLUSTER, CLUSTER as usize), None, "nothing is left around it");

    // A block of its own on the device has nothing around it.
    t.write(f, 40 * CLUSTER + 4096, &[7; 4096]);
    t.fs.commit().unwrap();
    assert_eq!(needed(40 * CLUSTER + 4096, 4096), None);
    t.fs.release(file.0, file.1);
}

/// Operations in steps of so many items, with a commit between any two.
fn stepping(items: usize) -> FsOptions {
    let steps = Steps { items, bytes: 64 << 10, between: Between::Commit };
    FsOptions { steps, ..FsOptions::default() }
}

#[test]
fn a_commit_between_the_steps_of_a_truncation_finds_nothing_beyond_the_end() {
    const STRIDE: u64 = 8192;
    for (blocks, items) in [(600, 256), (300, 256), (40, 1), (10, 6)] {
        for waits in [0, 1, blocks] {
            let t = T::with(1 << 30, stepping(items));
            let f = t.create(ROOT, "f");
            let write = |n: u64, byte: u8| t.write(f, n * STRIDE, &[byte; 4096]);
            (0..blocks).for_each(|n| write(n, 1));
            t.fs.commit().unwrap();
            (blocks - waits..blocks).for_each(|n| write(n, 2));
            // Behind the last extent, too.
            t.write(f, (blocks + 3) * STRIDE, b"delayed alone");
            let (ino, end) = (Ino(f.0.ino()), 2 * STRIDE + if waits == 1 { 0 } else { 10 });
            // Every step but the last, with a commit behind it.
            drop(change_of_size(&t.fs.commits, t.head(), Writer::Privileged, ino, end).unwrap());
            assert!(t.attr(f.0).size < blocks * STRIDE);
            t.prove();
            t.resize(f.0, end);
            t.resize(f.0, (blocks + 9) * STRIDE);
            let rest = t.read(f, end, 8 << 20);
            assert_eq!(rest.len() as u64, (blocks + 9) * STRIDE - end);
            assert!(rest.iter().all(|b| *b == 0), "{blocks} in steps of {items}");
            t.fs.commit().unwrap();
            assert_eq!(t.fs.volume().live_blocks(), end.div_ceil(STRIDE));
            t.prove();
        }
    }
}

#[test]
fn a_file_of_delayed_blocks_alone_shrinks_in_steps_once_a_commit_has_placed_them() {
    let t = T::with(1 << 30, stepping(5));
    let f = t.create(ROOT, "f");
    (0..64).for_each(|n| t.write(f, n * 8192, &[3; 4096]));
    t.fs.commit().unwrap();
    (0..64).for_each(|n| t.write(f, n * 8192 + 100, b"newer"));
    t.resize(f.0, 0);
    t.fs.commit().unwrap();
    assert_eq!((t.fs.volume().live_blocks(), t.attr(f.0).blocks), (0, 0));
    t.prove();
}

#[test]
fn a_file_that_grows_keeps_space_beyond_its_end() {
    let steps = Steps { items: 2, ..Steps::default() };
    let t = T::with(1 << 30, FsOptions { steps, ..FsOptions::default() });
    let f = t.create(ROOT, "f");
    t.fs.fallocate(&USER, f.0, f.1, 0, 4 << 20, AllocateMode::KeepSize).unwrap();
    let blocks = t.attr(f.0).blocks;
    t.resize(f.0, 4096);
    assert_eq!((t.attr(f.0).blocks, t.attr(f.0).size), (blocks, 4096));
    t.prove();
}

#[test]
fn a_truncation_gives_space_beyond_the_end_back() {
    for size in [0, 10, 4096, 300_000] {
        let t = T::with(1 << 30, stepping(2));
        let f = t.create(ROOT, "f");
        t.write(f, 0, &vec![7; size as usize]);
        t.fs.commit().unwrap();
        let before = t.attr(f.0).blocks;
        for at in [1 << 20, 3 << 20, 5 << 20, 9 << 20] {
            t.fs.fallocate(&USER, f.0, f.1, at, 1 << 20, AllocateMode::KeepSize).unwrap();
        }
        assert!(t.attr(f.0).blocks >= 4 << 11, "it has the space that was asked for");
        t.resize(f.0, size);
        let after = t.attr(f.0);
        assert_eq!((after.size, after.blocks), (size, before));
        assert_eq!(t.read(f, 0, 1 << 20), vec![7; size as usize]);
        t.fs.commit().unwrap();
        t.prove();
    }
}

/// A kernel that says of which nodes it was told to forget the attributes.
#[derive(Default)]
struct Forgetful(Mutex<Vec<NodeId>>);

impl Kernel for Forgetful {
    fn write_back(&self, _nodes: &[(NodeId, u64)]) -> std::io::Result<()> {
        Ok(())
    }
    fn forget_attributes(&self, node: NodeId) {
        self.0.lock().push(node);
    }
    fn invalidate_node(&self, _node: NodeId) {}
    fn invalidate_entry(&self, _parent: NodeId, _name: &[u8]) {}
}

#[test]
fn the_kernel_forgets_a_number_of_blocks_that_it_was_told_and_that_changed() {
    let t = T::new();
    let kernel = Arc::new(Forgetful::default());
    t.fs.set_kernel(kernel.clone());
    let told = || std::mem::take(&mut *kernel.0.lock());
    t.compress(ROOT, "zstd");
    let files = ["asked", "nobody asked", "does not shrink"].map(|name| {
        let f = t.create(ROOT, name);
        let mut content = vec![7; 40_960];
        if name == "does not shrink" {
            fastrand::Rng::with_seed(1).fill(&mut content);
        }
        t.write(f, 0, &content);
        t.fs.release(f.0, f.1);
        f.0
    });
    assert_eq!([files[0], files[2]].map(|f| t.attr(f).blocks), [80, 80]);
    told();
    t.fs.commit().unwrap();
    assert_eq!(told(), [files[0]]);
    assert_eq!((t.attr(files[0]).blocks, t.attr(files[2]).blocks), (8, 80));
    t.fs.commit().unwrap();
    assert!(told().is_empty(), "once is enough");

    // What the kernel's own pages become, of a file that stays open.
    let f = t.create(ROOT, "open");
    t.write(f, 0, &[1; 8192]);
    t.fs.fsync(f.0, f.1, SyncScope::All).unwrap();
    assert_eq!((told(), t.attr(f.0).blocks), (vec![f.0], 16));
    t.fs.fsync(f.0, f.1, SyncScope::All).unwrap();
    assert!(told().is_empty());
    t.write(f, 8192, &[1; 4096]);
    t.fs.commit().unwrap();
    assert_eq!(told(), [f.0]);
    t.fs.release(f.0, f.1);
}

/// A kernel that notes which threads have it drained.
#[derive(Default)]
struct Drained(parking_lot::Mutex<Vec<std::thread::ThreadId>>);

impl Kernel for Drained {
    fn write_back(&self, _nodes: &[(NodeId, u64)]) -> std::io::Result<()> {
        Ok(())
    }
    fn drain(&self, _node: NodeId) {
        self.0.lock().push(std::thread::current().id());
    }
    fn invalidate_node(&self, _node: NodeId) {}
    fn invalidate_entry(&self, _parent: NodeId, _name: &[u8]) {}
}

#[test]
fn a_request_thread_that_seeks_never_waits_for_writes() {
    let t = T::new();
    let kernel = Arc::new(Drained::default());
    t.fs.set_kernel(kernel.clone());
    let node = t.put(ROOT, "f", &[1; 10_000]);
    let reader = t.open(node, RO);
    let done = std::sync::atomic::AtomicBool::new(false);
    let (mut at_once, mut aside) = (0, 0);
    std::thread::scope(|s| {
        s.spawn(|| {
            while !done.load(std::sync::atomic::Ordering::SeqCst) {
                let writer = t.open(node, RW);
                t.fs.release(writer.0, writer.1);
            }
        });
        while at_once < 2000 || aside < 2000 {
            match t.fs.lseek_at_once(node, reader.1, 0, SeekTarget::Hole) {
                Some(found) => {
                    assert_eq!(found, Ok(10_000));
                    at_once += 1;
                }
                None => aside += 1,
            }
        }
        done.store(true, std::sync::atomic::Ordering::SeqCst);
    });
    assert!(kernel.0.lock().is_empty());
    let _writer = t.open(node, RW);
    assert_eq!(t.fs.lseek_at_once(node, reader.1, 0, SeekTarget::Hole), None);
    assert_eq!(t.fs.lseek(node, reader.1, 0, SeekTarget::Hole), Ok(10_000));
    assert_eq!(*kernel.0.lock(), [std::thread::current().id()]);
}
