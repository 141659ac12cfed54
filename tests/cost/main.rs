//! What operations cost, in device calls and bytes: never in time.
//!
//! A snapshot of an idle store costs the same whatever the store holds, reading through a snapshot the same whatever
//! its age, and changes cost what they change.

#[path = "../common/fixtures.rs"]
mod fixtures;

use fixtures::{Hooked, Hooks, RW, USER, files_of, make, mkdir, read_whole};
use snapfs::clock::Clock;
use snapfs::device::{DeviceError, Memory};
use snapfs::format::LineId;
use snapfs::fs::{
    DELETED_AT_ONCE, Fs, FsOptions, MergeOrder, MergeWay, OpenForWriting, PathAsked, Provenance, Reason,
    Switched,
};
use snapfs::ops::{NodeId, Operations, SyncScope};
use snapfs::store::IoSnapshot;
use snapfs::volume::{Access, OpenOptions, Volume};
use std::sync::Arc;

const SIZE: u64 = 8 << 30;

/// What one snapshot of an idle store costs: a record in the log and one flush.
const IDLE_SNAPSHOT: IoSnapshot =
    IoSnapshot { reads: 0, read_bytes: 0, writes: 1, written_bytes: 4096, flushes: 1 };

fn open(device: &Arc<Memory>, cache_bytes: usize) -> Arc<Fs> {
    let options = OpenOptions { access: Access::ReadWrite, cache_bytes };
    files_of(Volume::open(device.clone(), options).expect("opens"))
}

fn new_store() -> (Arc<Memory>, Arc<Fs>) {
    let device = Arc::new(Memory::new(SIZE));
    make(device.clone());
    let fs = open(&device, 256 << 20);
    (device, fs)
}

/// Makes `count` small files, a thousand to a directory.
fn fill(fs: &Fs, count: u64) {
    let mut dir = NodeId::ROOT;
    for i in 0..count {
        if i % 1000 == 0 {
            dir = mkdir(fs, NodeId::ROOT, &format!("d{i}"));
        }
        let (entry, handle) = fs.create(&USER, dir, format!("f{i}").as_bytes(), 0o644, RW).unwrap();
        fs.release(entry.attr.node, handle);
    }
    settle(fs);
}

/// Commits until nothing is left to do.
fn settle(fs: &Fs) {
    for _ in 0..4 {
        fs.commit().unwrap();
    }
    assert!(!fs.volume().needs_commit() && !fs.volume().has_background_work());
}

fn cost<T>(fs: &Fs, work: impl FnOnce() -> T) -> (IoSnapshot, T) {
    let before = fs.volume().io();
    let done = work();
    (fs.volume().io() - before, done)
}

fn snapshot(fs: &Fs, name: &str) -> IoSnapshot {
    cost(fs, || fs.create_snapshot(name.as_bytes(), Reason::User).unwrap()).0
}

#[test]
fn an_idle_snapshot_costs_the_same_with_ten_files_and_a_million() {
    for count in [10, 1_000_000] {
        let (_, fs) = new_store();
        fill(&fs, count);
        assert_eq!(snapshot(&fs, "x"), IDLE_SNAPSHOT, "{count} files");
        settle(&fs);
        assert_eq!(clone(&fs, "x", None), IDLE_SNAPSHOT, "{count} files");
    }
}

#[test]
fn a_rollback_costs_the_same_with_ten_files_and_a_million() {
    let mut costs = Vec::new();
    for count in [10, 1_000_000] {
        let (_, fs) = new_store();
        fill(&fs, count);
        fs.create_snapshot(b"s", Reason::User).unwrap();
        let (file, handle) = fs.create(&USER, NodeId::ROOT, b"one more", 0o644, RW).unwrap();
        fs.release(file.attr.node, handle);
        settle(&fs);
        let to = fs.snapshot_of_word(NodeId::ROOT, b"s").unwrap();
        let why = Reason::Rollback.into();
        let begin = std::time::Instant::now();
        let (io, done) = cost(&fs, || fs.rollback(NodeId::ROOT, &to, OpenForWriting::Spared, &why).unwrap());
        println!("{count} files: {io:?} in {:?}", begin.elapsed());
        assert!(matches!(done, Switched::Done(_)));
        costs.push(io);
    }
    assert_eq!(costs, [IDLE_SNAPSHOT; 2], "a record of the log, and a flush");
}

/// Reads, writes and flushes of a split, on the side that stays and on the one that leaves.
fn split_of(count: u64) -> [(u64, u64, u64); 2] {
    use snapfs::device::mirror::NewSide;
    use snapfs::device::{Mirror, Sim};
    use snapfs::volume::{FillFrom, RINGS};
    use std::ops::ControlFlow;
    let sims = [1, 2].map(|seed| Arc::new(Sim::new(SIZE, seed)));
    make(sims[0].clone());
    let mirror = Arc::new(Mirror::solo(sims[0].clone(), 5));
    let options = OpenOptions { access: Access::ReadWrite, cache_bytes: 256 << 20 };
    let fs = files_of(Volume::open(mirror.clone(), options).expect("opens"));
    fill(&fs, count);
    fs.volume().set_mirrored(true).unwrap();
    fs.commit().unwrap();
    let limit = std::time::Duration::from_secs(600);
    let new = NewSide { device: sims[1].clone(), path: Vec::new(), partner_path: Vec::new(), limit };
    mirror.join(new, &RINGS).unwrap();
    fs.volume().fill(&mirror, &FillFrom::Nothing, &mut |_| ControlFlow::Continue(())).unwrap();
    settle(&fs);
    let before = sims.clone().map(|sim| sim.counts());
    fs.volume().split(&mirror, [3; 16]).unwrap();
    let counts = [0, 1].map(|n| sims[n].counts().since(&before[n]));
    counts.map(|counts| (counts.reads, counts.writes, counts.flushes))
}

#[test]
fn a_split_costs_the_same_with_ten_files_and_a_hundred_thousand() {
    let few = split_of(10);
    // Two labels on the side that stays, each with its flush, and work waits for the first; on the one that leaves what it
    // was sent is flushed, then its superblock, then its label.
    assert_eq!(few, [(0, 4, 2), (0, 4, 3)]);
    assert_eq!(split_of(100_000), few);
}

fn clone(fs: &Fs, name: &str, from: Option<&[u8]>) -> IoSnapshot {
    cost(fs, || fs.create_clone(NodeId::ROOT, name.as_bytes(), from, &Provenance::default()).unwrap()).0
}

#[test]
fn a_clone_costs_the_same_whether_none_or_ten_thousand_are_there() {
    let (_, fs) = new_store();
    fill(&fs, 1000);
    fs.create_snapshot(b"s", Reason::User).unwrap();
    settle(&fs);
    assert_eq!(clone(&fs, "of now", None), IDLE_SNAPSHOT);
    assert_eq!(clone(&fs, "of s", Some(b"s")), IDLE_SNAPSHOT);
    for n in 0..10_000 {
        fs.create_clone(NodeId::ROOT, format!("c{n}").as_bytes(), Some(b"s"), &Provenance::default())
            .unwrap();
    }
    settle(&fs);
    assert_eq!(clone(&fs, "of now, later", None), IDLE_SNAPSHOT);
    assert_eq!(clone(&fs, "of s, later", Some(b"s")), IDLE_SNAPSHOT);
    let (io, all) = cost(&fs, || fs.volume().clones());
    assert_eq!((io.reads, all.len()), (0, 10_004));
    settle(&fs);
    let (io, ()) = cost(&fs, || fs.drop_clone(b"c777").unwrap());
    assert_eq!(io, IDLE_SNAPSHOT, "to drop one is a record, too");
}

#[test]
fn snapshots_cost_the_same_whether_none_or_ten_thousand_are_there() {
    const COUNT: usize = 10_000;
    let (device, fs) = new_store();
    let (file, handle) = fs.create(&USER, NodeId::ROOT, b"f", 0o644, RW).unwrap();
    let (node, content) = (file.attr.node, |n: usize| vec![(n % 251) as u8 + 1; 8192]);
    settle(&fs);
    assert_eq!(snapshot(&fs, "first"), IDLE_SNAPSHOT);
    for n in 0..COUNT {
        fs.write(node, handle, 0, &content(n), false).unwrap();
        fs.create_snapshot(format!("s{n}").as_bytes(), Reason::User).unwrap();
    }
    settle(&fs);
    assert_eq!(snapshot(&fs, "last"), IDLE_SNAPSHOT);
    // The live tree goes on, so that what it keeps in memory is no part of any snapshot's tree.
    fs.write(node, handle, 0, &content(COUNT), false).unwrap();
    fs.release(node, handle);
    fs.close().unwrap();
    drop(fs);

    // Through the oldest, the middle and the newest, each read by a daemon that has nothing cached.
    let mut costs = Vec::new();
    for n in [0, COUNT / 2, COUNT - 1] {
        let fs = open(&device, 64 << 20);
        let info = fs.volume().find_snapshot(LineId::MAIN, format!("s{n}").as_bytes()).unwrap();
        let (io, out) = cost(&fs, || {
            let root = NodeId::snapshot(info.slot.0, 1);
            let found = fs.lookup(&USER, root, b"f").unwrap().attr.node;
            read_whole(&fs, found).unwrap()
        });
        assert_eq!(out, content(n), "snapshot {n}");
        costs.push(io);
    }
    assert!(costs.iter().all(|c| *c == costs[0]), "{costs:?}");
    // One node, which is the whole tree of this store, and one run of data.
    assert_eq!((costs[0].reads, costs[0].writes), (2, 0), "{costs:?}");

    let fs = open(&device, 64 << 20);
    let (io, list) = cost(&fs, || fs.snapshots());
    assert_eq!((list.len(), io), (COUNT + 2, IoSnapshot::default()), "listing reads nothing");
}

#[test]
fn an_fsync_costs_one_flush_and_no_superblock() {
    let (_, fs) = new_store();
    let (file, handle) = fs.create(&USER, NodeId::ROOT, b"f", 0o644, RW).unwrap();
    settle(&fs);
    for n in 0..100 {
        let (io, ()) = cost(&fs, || {
            fs.write(file.attr.node, handle, n * 4096, &[n as u8 + 1; 4096], false).unwrap();
            fs.fsync(file.attr.node, handle, SyncScope::Data).unwrap();
        });
        // The record holds the data: two blocks of the log.
        assert_eq!((io.writes, io.written_bytes, io.flushes, io.reads), (1, 8192, 1, 0));
    }
    let (io, ()) = cost(&fs, || fs.fsync(file.attr.node, handle, SyncScope::All).unwrap());
    assert_eq!(io, IoSnapshot::default(), "there is nothing left to flush");
    // That the last flush was one is told once, when there is time.
    let (io, ()) = cost(&fs, || (0..3).for_each(|_| fs.volume().tell_flushed()));
    assert_eq!((io.writes, io.written_bytes, io.flushes), (1, 4096, 0));
}

/// Whose flush takes its time, as that of a disk does.
struct SlowFlush;

impl Hooks for SlowFlush {
    fn before_flush(&self) -> Result<(), DeviceError> {
        std::thread::sleep(std::time::Duration::from_millis(2));
        Ok(())
    }
}

#[test]
fn those_who_wait_for_a_flush_share_the_next() {
    const WRITERS: u64 = 16;
    const ROUNDS: u64 = 50;
    let device = Arc::new(Hooked::over(Memory::new(SIZE), SlowFlush));
    make(device.clone());
    let options = OpenOptions { access: Access::ReadWrite, cache_bytes: 64 << 20 };
    let fs = files_of(Volume::open(device, options).expect("opens"));
    let open = |writer| fs.create(&USER, NodeId::ROOT, format!("f{writer}").as_bytes(), 0o644, RW).unwrap();
    let files: Vec<_> = (0..WRITERS).map(open).collect();
    settle(&fs);
    let (io, ()) = cost(&fs, || {
        std::thread::scope(|scope| {
            for (file, handle) in &files {
                let fs = &fs;
                scope.spawn(move || {
                    for n in 0..ROUNDS {
                        fs.write(file.attr.node, *handle, n * 4096, &[7; 4096], false).unwrap();
                        fs.fsync(file.attr.node, *handle, SyncScope::All).unwrap();
                    }
                });
            }
        });
    });
    println!("{} fsyncs took {} flushes", WRITERS * ROUNDS, io.flushes);
    assert!(io.flushes <= WRITERS * ROUNDS / 2, "{io:?}");
}

#[test]
fn a_commit_of_one_change_does_not_grow_with_the_store() {
    let mut costs = Vec::new();
    for count in [2_000, 40_000] {
        let (_, fs) = new_store();
        fill(&fs, count);
        let (io, ()) = cost(&fs, || {
            let (entry, handle) = fs.create(&USER, NodeId::ROOT, b"one more", 0o644, RW).unwrap();
            fs.release(entry.attr.node, handle);
            fs.commit().unwrap();
        });
        // Paths in two trees and the space map, each a few nodes of 16 KiB, twice; superblocks.
        assert!(io.written_bytes <= 2 * 14 * 16384 && io.flushes == 2, "{io:?}");
        costs.push(io);
    }
    println!("{costs:?}");
}

#[test]
fn a_commit_of_one_block_costs_eight_writes() {
    let (_, fs) = new_store();
    let (file, handle) = fs.create(&USER, NodeId::ROOT, b"f", 0o644, RW).unwrap();
    settle(&fs);
    fs.write(file.attr.node, handle, 0, &[1; 4096], false).unwrap();
    let (io, ()) = cost(&fs, || fs.commit().unwrap());
    // Of these one write of one block is the record that begins the log, and two are superblocks.
    assert_eq!((io.writes, io.written_bytes, io.flushes, io.reads), (8, 29 * 4096, 2, 0));
}

#[test]
fn a_difference_costs_what_differs() {
    const CHANGES: u64 = 100;
    for count in [20_000, 1_000_000] {
        let (device, fs) = new_store();
        fill(&fs, count);
        fs.create_snapshot(b"before", Reason::User).unwrap();
        for n in 0..CHANGES {
            let i = n * (count / CHANGES) + 7;
            let find = |dir, name: String| fs.lookup(&USER, dir, name.as_bytes()).unwrap().attr.node;
            let dir = find(NodeId::ROOT, format!("d{}", i / 1000 * 1000));
            let file = find(dir, format!("f{i}"));
            let handle = fs.open(&USER, file, RW).unwrap();
            fs.write(file, handle, 0, b"changed", false).unwrap();
            fs.release(file, handle);
        }
        settle(&fs);
        fs.close().unwrap();
        drop(fs);
        let fs = open(&device, 64 << 20);
        let compare = || {
            let view = |word: &[u8]| fs.view_of_word(NodeId::ROOT, word).unwrap();
            fs.compare(view(b"before"), view(b"@live"), None).unwrap().changes.len() as u64
        };
        let (cold, changes) = cost(&fs, compare);
        assert_eq!(changes, CHANGES);
        // Of each the leaf before and now, the one with its directory, and what is above them.
        assert!(cold.reads <= CHANGES * 7, "{count} files: {cold:?}");
        let begin = std::time::Instant::now();
        let (warm, _) = cost(&fs, compare);
        println!("{count} files: {} reads, then {} in {:?}", cold.reads, warm.reads, begin.elapsed());
        assert_eq!(warm, IoSnapshot::default(), "{count} files");
    }
}

#[test]
fn snapshots_in_which_nothing_happened_to_a_path_cost_nothing() {
    const SNAPSHOTS: u64 = 10_000;
    let (device, fs) = new_store();
    fill(&fs, 20_000);
    let find = |fs: &Fs, dir, name: &str| fs.lookup(&USER, dir, name.as_bytes()).unwrap().attr.node;
    let dir = find(&fs, NodeId::ROOT, "d10000");
    let file = find(&fs, dir, "f10500");
    assert_eq!(find(&fs, dir, "f10501").ino(), file.ino() + 1, "its neighbour is in the same leaf");
    let handle = fs.open(&USER, file, RW).unwrap();
    for n in 0..SNAPSHOTS {
        fs.write(file, handle, 0, &n.to_le_bytes(), false).unwrap();
        fs.create_snapshot(format!("s{n}").as_bytes(), Reason::User).unwrap();
        if n % 500 == 0 {
            fs.commit().unwrap();
        }
    }
    fs.release(file, handle);
    settle(&fs);
    fs.close().unwrap();
    drop(fs);
    for (path, rows, reads_max) in [
        ("d3000/f3500", 1, 20),
        ("d3000", 1, 20),
        ("d3000/never", 0, 20),
        // Each snapshot, and the present, has another leaf: the ways to it, of which the upper part is kept.
        ("d10000/f10501", 1, SNAPSHOTS * 3 + 20),
        ("d10000/f10500", SNAPSHOTS, SNAPSHOTS * 4 + 20),
    ] {
        let names = path.split('/').map(|name| name.as_bytes().to_vec()).collect();
        let asked = PathAsked { dir: NodeId::ROOT, names };
        let fs = open(&device, 64 << 20);
        let mut versions = 0;
        let (io, told) = cost(&fs, || {
            fs.versions(&asked, &mut |_| {
                versions += 1;
                true
            })
        });
        assert_eq!((told.is_ok(), versions), (rows > 0, rows), "{path}");
        println!("{path}: {versions} versions, {} reads", io.reads);
        assert!(io.reads <= reads_max && io.writes == 0, "{path}: {io:?}");
        let fs = open(&device, 64 << 20);
        let mut entries = 0;
        let (io, _) = cost(&fs, || {
            fs.path_log(&asked, None, &mut |_| {
                entries += 1;
                true
            })
        });
        let below_too = path == "d3000";
        assert_eq!(entries, rows, "{path}");
        assert!(io.reads <= if below_too { SNAPSHOTS * 4 + 20 } else { reads_max }, "log of {path}: {io:?}");
    }
}

#[test]
fn a_merge_costs_what_was_changed() {
    let mut costs = Vec::new();
    for count in [10, 10_000, 1_000_000] {
        let (_, fs) = new_store();
        fill(&fs, count);
        let root = fs.clone_line(LineId::MAIN, b"c").unwrap();
        settle(&fs);
        let change = |root: NodeId, from: u64| {
            for n in from..from + 5 {
                let dir = fs.lookup(&USER, root, b"d0").unwrap().attr.node;
                let file = fs.lookup(&USER, dir, format!("f{n}").as_bytes()).unwrap().attr.node;
                let handle = fs.open(&USER, file, RW).unwrap();
                fs.write(file, handle, 0, b"changed", false).unwrap();
                fs.release(file, handle);
            }
        };
        change(root, 0);
        change(NodeId::ROOT, 5);
        fs.commit().unwrap();
        let order = MergeOrder { at: NodeId::ROOT, clone: b"c", way: MergeWay::MergeAndKeep };
        let (io, done) = cost(&fs, || fs.merge(&order, &Provenance::from(Reason::Merge)).unwrap());
        assert_eq!((done.changes.len(), io.reads), (5, 0), "{count} files");
        costs.push(io);
    }
    assert!(costs.iter().all(|io| *io == costs[0]), "{costs:#?}");
}

/// Deleting 10,000 snapshots by one order costs a write of the log for each batch. What then comes back in the background takes
/// a bounded part of each commit, whatever waits.
#[test]
fn ten_thousand_snapshots_go_in_steps() {
    const COUNT: usize = 10_000;
    /// As many views as a commit takes out of the history at most.
    const EACH_COMMIT: usize = 256;
    let (_device, fs) = new_store();
    let (entry, handle) = fs.create(&USER, NodeId::ROOT, b"file", 0o644, RW).unwrap();
    let node = entry.attr.node;
    for n in 0..COUNT {
        fs.write(node, handle, 0, format!("{n:>4096}").as_bytes(), false).unwrap();
        fs.create_snapshot_of(NodeId::ROOT, format!("s{n}").as_bytes(), Reason::User).unwrap();
        if n % 500 == 0 {
            fs.commit().unwrap();
        }
    }
    settle(&fs);
    let used = fs.volume().space().used;
    let all = fs.snapshots();
    assert_eq!(all.len(), COUNT);
    let frees = fs.volume().would_free(all.iter().map(|s| s.id)).unwrap();
    assert!(frees > COUNT as u64 * 4096, "{frees}");
    let (mut steps, batches) = (0, COUNT.div_ceil(DELETED_AT_ONCE));
    let (deletion, done) = cost(&fs, || fs.delete_snapshots_of(NodeId::ROOT, &all, &mut |_| true).unwrap());
    assert!(done.iter().all(|done| done.is_ok()) && fs.snapshots().is_empty());
    assert!(deletion.flushes == 0 && deletion.writes as usize <= batches, "{deletion:?} for {batches}");
    let left = fs.volume().leftover().unwrap();
    assert_eq!((left.views, left.bytes), (COUNT, frees));
    let (mut before, mut most) = (left, IoSnapshot::default());
    while before.views + before.jobs > 0 {
        let (io, ()) = cost(&fs, || fs.commit().unwrap());
        let left = fs.volume().leftover().unwrap();
        assert!(left.views < before.views || left.jobs < before.jobs, "{before:?} {left:?}");
        assert!(
            before.views - left.views <= EACH_COMMIT && left.bytes <= before.bytes,
            "{before:?} {left:?}"
        );
        // The first writes that all of them have no name any more.
        if steps > 0 && io.written_bytes > most.written_bytes {
            most = io;
        }
        (before, steps) = (left, steps + 1);
    }
    assert!(steps >= COUNT / EACH_COMMIT, "{steps} steps");
    assert!(most.flushes <= 2 && most.writes <= 200 && most.written_bytes <= 12 << 20, "{most:?}");
    settle(&fs);
    let back = used - fs.volume().space().used;
    assert!(back >= frees, "{back} of {frees}");
    assert_eq!(fs.volume().reads_waited_for(), 0);
}

/// The point behind the trip wire is a record of the log and what was delayed, without a flush, whatever the store holds; and nothing while
/// nothing changes.
#[test]
fn a_rolling_point_costs_the_same_whatever_there_is() {
    let costs: Vec<IoSnapshot> = [10, 100_000]
        .into_iter()
        .map(|count| {
            let (device, fs) = new_store();
            fill(&fs, count);
            fs.close().unwrap();
            drop(fs);
            let access = OpenOptions { access: Access::ReadWrite, cache_bytes: 256 << 20 };
            let clock = Clock::manual(1000);
            let options = FsOptions { tripwire: true, ..FsOptions::default() };
            let fs = Fs::open(Volume::open(device, access).unwrap(), options, clock.clone()).unwrap();
            let (entry, handle) = fs.create(&USER, NodeId::ROOT, b"file", 0o644, RW).unwrap();
            let write = |n: u8| fs.write(entry.attr.node, handle, 0, &[n; 8192], false).unwrap();
            write(1);
            settle(&fs);
            write(2);
            clock.advance(61 * 1_000_000_000);
            let (rolled, ()) = cost(&fs, || fs.tend_tripwire());
            settle(&fs);
            clock.advance(61 * 1_000_000_000);
            let (rested, ()) = cost(&fs, || fs.tend_tripwire());
            assert_eq!(rested, IoSnapshot::default());
            rolled
        })
        .collect();
    assert_eq!((costs[0].writes, costs[0].flushes), (costs[1].writes, costs[1].flushes), "{costs:?}");
    assert!(
        costs.iter().all(|c| c.flushes == 0 && c.writes <= 2 && c.written_bytes <= 16 << 10),
        "{costs:?}"
    );
    // Of a tree that memory does not hold, the way to the last number that was given.
    assert!(costs[0].reads == 0 && costs[1].reads <= 8, "{costs:?}");
}
