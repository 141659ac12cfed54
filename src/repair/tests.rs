//! Each kind of derived data is spoiled behind its checksums; the repair makes it right and changes nothing else.

use super::*;
use crate::check::{Depth, check};
use crate::device::mirror::{NewSide, Present, open_sides, part_for_repair, write_label};
use crate::device::{CrashPolicy, Op, RESERVED_BYTES, Sim};
use crate::fixtures::{
    ADMIN, RW, SNAPDIR, blocks_below, flip, live_root, mount, new_store, open, overwrite, put, snapshot,
    together_labels, write_superblock, zero,
};
use crate::format::deadlist::{Bucket, DeadEntry, encode_chunk};
use crate::format::job::Job;
use crate::format::superblock::{RING_SLOTS, SLOT_BYTES, Superblock};
use crate::format::view::{Role, ViewRecord};
use crate::format::{Epoch, Extent, Key, Kind, LineId, ViewId};
use crate::ops::{NodeId, Operations};
use crate::store::RangeSet;
use crate::volume::examine::examine;
use crate::volume::history::Meta;
use crate::volume::mend::{self, Mending};
use crate::volume::{Access, FillFrom, RINGS, View, Volume, compare_sides, newest_and_before, ring};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

const SIZE: u64 = 128 << 20;

type Content = BTreeMap<String, Vec<u8>>;

/// A store with snapshots, a clone, a hidden view, shared blocks and long dead lists.
struct Sample {
    sim: Sim,
    content: Content,
}

impl Sample {
    fn new() -> Sample {
        let sim = new_store(SIZE);
        let fs = mount(sim.clone());
        let volume = fs.volume().clone();
        let mut files = Vec::new();
        let fill = |node, at: u64, len: usize, with: u8| overwrite(&fs, node, at, &vec![with; len]);
        for n in 0..700_u64 {
            let data = vec![1 + n as u8 % 200; 4096 * (1 + n as usize % 3)];
            files.push(put(&fs, NodeId::ROOT, &format!("file{n}"), &data));
        }
        let from = fs.open(&ADMIN, files[2], RW).unwrap();
        let to = fs.open(&ADMIN, files[5], RW).unwrap();
        fs.commit().unwrap();
        fs.copy_range(&ADMIN, files[2], from, 0, files[5], to, 8192, 12288).unwrap();
        for round in 0..4_u64 {
            snapshot(&fs, &format!("s{round}"));
            // Only every second file: what dies does not lie together, so the lists are long.
            for (n, node) in files.iter().enumerate().filter(|(n, _)| n % 2 == round as usize % 2) {
                fill(*node, 0, 4096, (n as u8 % 100) + 100 + round as u8);
            }
        }
        let branch = volume.find_snapshot(LineId::MAIN, b"s1").unwrap().id;
        let clone = volume
            .create_line(b"clone", branch, (5, 6), &crate::format::provenance::Provenance::default())
            .unwrap()
            .id;
        fs.commit().unwrap();
        // Changes of the clone: other blocks for every fifth extent.
        let extents: Vec<_> =
            volume.live(clone).unwrap().range(&Key::MIN, &Key::MAX).map(|i| i.unwrap()).collect();
        let extents = extents.into_iter().filter(|(key, _)| key.kind == Kind::Extent as u8);
        let staged: Vec<_> = extents
            .step_by(5)
            .map(|(key, value)| (key, Extent::decode(&value).unwrap()))
            .map(|(key, old)| (key, volume.stage(&vec![3; old.len_bytes() as usize]).unwrap(), old))
            .collect();
        let mut txn = volume.begin(clone).unwrap();
        for (key, staged, old) in staged {
            txn.free(&old);
            let new = txn.publish(staged).remove(0);
            txn.insert(key, &new.encode()).unwrap();
        }
        drop(txn);
        // So that nothing needs the snapshot whole.
        let other = volume.find_snapshot(LineId::MAIN, b"s2").unwrap().id;
        volume.set_base(clone, Some(&volume.snapshot(other).unwrap())).unwrap();
        fs.rmdir(&ADMIN, SNAPDIR, b"s1").unwrap();
        for n in (0..700).step_by(9) {
            fs.unlink(&ADMIN, NodeId::ROOT, format!("file{n}").as_bytes()).unwrap();
        }
        fs.release(files[2], from);
        fs.release(files[5], to);
        snapshot(&fs, "last");
        fill(files[1], 4096, 30_000, 77);
        fs.close().unwrap();
        drop((fs, volume));
        let sample = Sample {
            sim: sim.clone_image(),
            content: content(&open(sim.clone(), Access::ReadOnly).unwrap()),
        };
        assert_eq!(check_files(&sample.device()), [] as [String; 0]);
        sample
    }

    fn device(&self) -> Arc<Sim> {
        Arc::new(self.sim.clone_image())
    }

    /// Spoils the meta tree.
    fn with(&self, change: &mut dyn FnMut(&mut Meta<'_, '_>) -> crate::tree::Result<()>) -> Arc<Sim> {
        let device = self.device();
        let state = state(&device);
        mend::write(&state, &state.allocated, &mut |meta, _| Ok(change(meta)?)).unwrap();
        device
    }

    /// Repairs, and proves that all is right again and nothing else changed.
    fn mends(&self, device: &Arc<Sim>, words: &str) {
        let writes = device.counts().writes;
        let dry = run(device.clone(), Mode::DryRun, Depth::Metadata).unwrap();
        assert!(dry.found.iter().any(|f| f.contains(words)), "{words:?} is not in {:#?}", dry.found);
        assert_eq!(dry.left, [] as [String; 0], "{words}");
        assert_eq!(device.counts().writes, writes, "a dry run writes nothing");
        let done = run(device.clone(), Mode::Write, Depth::Data).unwrap();
        assert_eq!((&done.found, &done.rebuilt, &done.left), (&dry.found, &dry.rebuilt, &vec![]), "{words}");
        self.is_right(device, words);
    }

    fn is_right(&self, device: &Arc<Sim>, what: &str) {
        let volume = open(device.clone(), Access::ReadOnly).unwrap();
        assert_eq!(check(&volume, Depth::Data).unwrap().problems, [] as [String; 0], "{what}");
        assert!(content(&volume) == self.content, "{what}: content has changed");
        let writes = device.counts().writes;
        let again = run(device.clone(), Mode::Write, Depth::Metadata).unwrap();
        assert_eq!(
            (again.found.len(), again.rebuilt.len(), again.left.len()),
            (0, 0, 0),
            "{what}: {again:?}"
        );
        assert_eq!(device.counts().writes, writes, "{what}: nothing more to write");
        // It can be used, and everything can be deleted.
        let fork = Arc::new(device.clone_image());
        let volume = open(fork.clone(), Access::ReadWrite).unwrap();
        for line in volume.lines().into_iter().filter(|l| l.id != LineId::MAIN) {
            volume.drop_line(line.id).unwrap();
        }
        volume
            .snapshots(LineId::MAIN)
            .iter()
            .for_each(|s| volume.delete_snapshot(LineId::MAIN, s.id).unwrap());
        for _ in 0..8 {
            volume.commit(&mut |_| Ok(())).unwrap();
        }
        let mut problems = check(&volume, Depth::Metadata).unwrap().problems;
        problems.truncate(5);
        assert_eq!(problems, [] as [String; 0], "{what}, later");
    }
}

fn state(device: &Arc<Sim>) -> crate::volume::audit::Committed {
    let newest = ring::read(&**device).unwrap().states.remove(0);
    examine(device.clone(), newest).unwrap().state
}

fn check_files(device: &Arc<Sim>) -> Vec<String> {
    check(&open(device.clone(), Access::ReadOnly).unwrap(), Depth::Data).unwrap().problems
}

fn content(volume: &Volume) -> Content {
    let mut all = Content::new();
    let mut add = |name: &str, view: &View| {
        for item in view.range(&Key::MIN, &Key::MAX) {
            let (key, value) = item.unwrap();
            let mut bytes = value.to_vec();
            if key.kind == Kind::Extent as u8 {
                let extent = Extent::decode(&value).unwrap();
                bytes = vec![0; extent.len_bytes() as usize];
                view.read_extent(&extent, 0, &mut bytes).unwrap();
            }
            all.insert(format!("{name} {key:?}"), bytes);
        }
    };
    add("live", &volume.live(LineId::MAIN).unwrap());
    for s in volume.snapshots(LineId::MAIN) {
        add(&String::from_utf8_lossy(&s.name), &volume.snapshot(s.id).unwrap());
    }
    all
}

fn view_key(id: ViewId) -> Key {
    Key::new(0, Kind::View, id.0)
}

/// Buckets of a list with at least two chunks.
fn long_bucket(device: &Arc<Sim>) -> (Key, Bucket) {
    let state = state(device);
    let lists: BTreeSet<u64> = state
        .records
        .iter()
        .filter(|r| r.role != Role::Hidden)
        .filter(|r| r.prev.is_some_and(|p| state.history.get(p).unwrap().role == Role::Snapshot))
        .map(|r| r.list)
        .collect();
    let buckets = state.list_items().map(Result::unwrap).filter(|(key, _)| lists.contains(&key.object));
    let mut buckets = buckets
        .filter(|(k, _)| k.kind == Kind::DeadBucket as u8)
        .map(|(k, v)| (k, Bucket::decode(&v).unwrap()));
    buckets.find(|(_, b)| b.chunks > 1).expect("a long list")
}

#[test]
fn a_sound_store_is_left_alone() {
    let sample = Sample::new();
    sample.is_right(&sample.device(), "as it was");
}

#[test]
fn counters_of_views() {
    let sample = Sample::new();
    let device = sample.device();
    for record in state(&device).records.iter().filter(|r| r.role != Role::Hidden) {
        for (name, change) in [
            ("referenced", (|r| r.referenced += 4096) as fn(&mut ViewRecord)),
            ("written", |r| r.written = 0),
            ("exclusive", |r| r.exclusive += 1 << 20),
        ] {
            let mut wrong = record.clone();
            change(&mut wrong);
            if wrong == *record || (name == "exclusive" && record.role == Role::Head) {
                continue;
            }
            let above = state(&device).history.children(record.id).to_vec();
            let visible = |id: &ViewId| state(&device).history.get(*id).unwrap().role != Role::Hidden;
            if name == "exclusive" && (above.len() != 1 || !visible(&above[0])) {
                continue;
            }
            let device =
                sample.with(&mut |meta| meta.edit.insert(meta.root, &view_key(record.id), &wrong.encode()));
            sample.mends(&device, &format!("view {}: {name} is", record.id.0));
        }
    }
}

#[test]
fn dead_lists() {
    let sample = Sample::new();
    let (at, bucket) = long_bucket(&sample.device());
    let chunk = |seq| Key::new(bucket.oid, Kind::DeadChunk, seq);
    let put = |bucket: Bucket| sample.with(&mut |meta| meta.edit.insert(meta.root, &at, &bucket.encode()));
    sample.mends(&put(Bucket { bytes: bucket.bytes + 4096, ..bucket }), "counts");
    sample.mends(&put(Bucket { count: bucket.count - 1, ..bucket }), "counts");
    sample.mends(&put(Bucket { chunks: bucket.chunks + 7, ..bucket }), "counts");
    sample.mends(&put(Bucket { oid: bucket.oid + 1_000_000, ..bucket }), "belong to no view");
    let gone = sample.with(&mut |meta| meta.edit.remove(meta.root, &at).map(drop));
    sample.mends(&gone, "dead bytes are missing");
    let gone = sample.with(&mut |meta| meta.edit.remove(meta.root, &chunk(1)).map(drop));
    sample.mends(&gone, "dead bytes are missing");
    let spoiled = sample.with(&mut |meta| meta.edit.insert(meta.root, &chunk(0), b"nonsense"));
    sample.mends(&spoiled, "dead list chunk has 8 bytes");
    let spoiled = sample.with(&mut |meta| meta.edit.insert(meta.root, &at, b"nonsense"));
    sample.mends(&spoiled, "dead list bucket has 8 bytes");
    let entry = DeadEntry { addr: 64 << 20, len: 4096, birth: Epoch(1) };
    let more = sample.with(&mut |meta| meta.edit.insert(meta.root, &chunk(0), &encode_chunk(&[entry])));
    sample.mends(&more, "listed ones make no sense");
    let stray = Key::new(5_000_000, Kind::DeadChunk, 3);
    let more = sample.with(&mut |meta| meta.edit.insert(meta.root, &stray, &encode_chunk(&[entry])));
    sample.mends(&more, "1 items of dead lists belong to no view");
    let stray = Key::new(5_000_000, Kind::DeadBucket, 3);
    let more = sample.with(&mut |meta| meta.edit.insert(meta.root, &stray, &bucket.encode()));
    sample.mends(&more, "1 items of dead lists belong to no view");
}

#[test]
fn lists_above_a_hidden_view_are_made_to_agree() {
    let sample = Sample::new();
    let device = sample.device();
    let state = state(&device);
    let hidden = state.records.iter().find(|r| r.role == Role::Hidden).expect("a hidden view").id;
    let above =
        state.records.iter().find(|r| r.prev == Some(hidden) && !state.dead_list(r.list).unwrap().is_empty());
    let list = above.expect("something died above it").list;
    let at = state.list_items().map(|i| i.unwrap().0).find(|k| k.object == list).unwrap();
    let bucket = state.list_items().map(Result::unwrap).find(|(k, _)| *k == at).unwrap().1;
    let bucket = Bucket::decode(&bucket).unwrap();
    let first = Key::new(bucket.oid, Kind::DeadChunk, 0);
    let device = sample.with(&mut |meta| meta.edit.remove(meta.root, &first).map(drop));
    let done = run(device.clone(), Mode::Write, Depth::Metadata).unwrap();
    assert_eq!((done.left.len(), done.notes.len()), (0, 1), "{done:#?}");
    let volume = open(device.clone(), Access::ReadOnly).unwrap();
    assert!(check(&volume, Depth::Data).unwrap().is_clean() && content(&volume) == sample.content);
}

#[test]
fn extra_references() {
    let sample = Sample::new();
    let refs = state(&sample.device()).extra_refs;
    let (addr, len, n) = refs[0];
    let key = |addr| Key::new(0, Kind::ExtraRefs, addr);
    let item = |len: u64, n: u64| [len.to_le_bytes(), n.to_le_bytes()].concat();
    let put =
        |at: u64, value: Vec<u8>| sample.with(&mut |meta| meta.edit.insert(meta.root, &key(at), &value));
    let gone = sample.with(&mut |meta| meta.edit.remove(meta.root, &key(addr)).map(drop));
    sample.mends(&gone, "referred to more often than counted");
    sample.mends(&put(addr, item(len, u64::from(n) + 3)), "referred to less often than counted");
    sample.mends(&put(addr, item(len, 0)), "make no sense");
    sample.mends(&put(addr, vec![1, 2, 3]), "extra reference item of 3 bytes");
    sample.mends(&put(addr + 4096, item(4096, 1)), "make no sense");
    sample.mends(&put(100 << 20, item(8192, 2)), "nothing refers to it (leak)");
}

#[test]
fn the_space_map() {
    let sample = Sample::new();
    let before = state(&sample.device());
    for ptr in &before.space_map {
        let device = sample.device();
        zero(&device, ptr);
        assert!(open(device.clone(), Access::ReadOnly).is_err(), "without its map the store does not open");
        sample.mends(&device, "space map: ");
    }
    let with = |allocated: RangeSet| {
        let device = sample.device();
        mend::write(&state(&device), &allocated, &mut |_, _| Ok(())).unwrap();
        device
    };
    let mut more = before.allocated.clone();
    assert!(more.insert(100 << 20, 1 << 20));
    sample.mends(&with(more), "nothing refers to it (leak)");
    let mut less = before.allocated.clone();
    let (last, len) = data(&before).into_iter().max().unwrap();
    assert!(less.remove(last, len));
    sample.mends(&with(less), "referred to, but free");
    let device = sample.device();
    let wrong = Superblock { allocated: before.superblock.allocated + 4096, ..before.superblock.clone() };
    write_superblock(&*device, &wrong);
    sample.mends(&device, "bytes are allocated, the superblock");
}

/// Ranges of content of all views.
fn data(state: &crate::volume::audit::Committed) -> Vec<(u64, u64)> {
    let roots = state.records.iter().filter_map(|r| r.root);
    let extents = roots.flat_map(|root| blocks_below(state, &root).extents);
    extents.map(|(_, extent)| (extent.raw_addr.0, extent.len_bytes())).collect()
}

#[test]
fn nodes_of_the_meta_tree_that_hold_dead_lists() {
    let sample = Sample::new();
    let state = state(&sample.device());
    let all = blocks_below(&state, &state.superblock.meta_root).nodes;
    let (mut mended, mut left) = (0, 0);
    for (ptr, _) in &all {
        let device = sample.device();
        flip(&device, ptr, 500, 4);
        let dry = run(device.clone(), Mode::DryRun, Depth::Metadata).unwrap();
        if dry.found.is_empty() {
            assert!(dry.left[0].contains("records of views or lines are lost"), "{dry:?}");
            let done = run(device.clone(), Mode::Write, Depth::Metadata).unwrap();
            assert!(!done.left.is_empty() && device.counts().writes == 0);
            left += 1;
            continue;
        }
        let done = run(device.clone(), Mode::Write, Depth::Metadata).unwrap();
        assert_eq!(done.left, [] as [String; 0], "{done:#?}");
        let volume = open(device.clone(), Access::ReadOnly).unwrap();
        assert!(check(&volume, Depth::Data).unwrap().is_clean() && content(&volume) == sample.content);
        mended += 1;
    }
    assert!(mended >= 2 && left >= 1, "{mended} of {} mended, {left} left", all.len());
}

#[test]
fn a_job_of_which_a_part_is_lost() {
    let sample = Sample::new();
    let device = sample.device();
    let before = state(&device);
    let head = before.records.iter().find(|r| r.role == Role::Head && r.line != LineId::MAIN).unwrap();
    // As if the clone had been dropped: its tree waits for a job.
    let root = head.root.unwrap();
    let volume = open(device.clone(), Access::ReadWrite).unwrap();
    let reader = volume.live(head.line).unwrap();
    volume.drop_line(head.line).unwrap();
    volume.commit(&mut |_| Ok(())).unwrap();
    drop((reader, volume));
    let now = state(&device);
    let job = Job::FreeTree { root, newer_than: Epoch(0), cursor: Key::MIN };
    mend::write(&now, &now.allocated, &mut |meta, next_id| {
        *next_id += 1;
        Ok(meta.edit.insert(meta.root, &Key::new(0, Kind::Job, *next_id), &job.encode())?)
    })
    .unwrap();
    zero(&device, &root);
    // Commits do what can be done of it, and what lay behind the lost node stays allocated.
    let passed = Arc::new(device.clone_image());
    let volume = open(passed.clone(), Access::ReadWrite).unwrap();
    volume.commit(&mut |_| Ok(())).unwrap();
    assert!(!volume.has_background_work());
    drop(volume);
    let done = run(passed.clone(), Mode::Write, Depth::Metadata).unwrap();
    assert!(done.left.is_empty(), "{done:#?}");
    assert!(check(&open(passed, Access::ReadOnly).unwrap(), Depth::Data).unwrap().is_clean());
    let done = run(device.clone(), Mode::Write, Depth::Metadata).unwrap();
    assert!(done.found.iter().any(|f| f.contains("background job")) && done.left.is_empty(), "{done:#?}");
    let volume = open(device.clone(), Access::ReadWrite).unwrap();
    assert!(content(&volume) == sample.content);
    volume.commit(&mut |txn| txn.insert(Key::new(99, Kind::Inline, 0), b"x")).unwrap();
}

#[test]
fn slots_of_the_rings() {
    let sample = Sample::new();
    let ring = RESERVED_BYTES / 2;
    let used: Vec<u64> = (0..RING_SLOTS)
        .map(|n| n * SLOT_BYTES as u64)
        .filter(|at| sample.sim.peek(*at, 1 << 12).iter().any(|b| *b != 0))
        .collect();
    assert!(used.len() > 4);
    for at in used.iter().flat_map(|at| [*at, at + ring]) {
        let device = sample.device();
        device.flip(at + 77, 1);
        sample.mends(&device, "is damaged, the other ring has state");
        let device = sample.device();
        device.zero(at, SLOT_BYTES as u64);
        sample.mends(&device, "is empty, the other ring has state");
        let device = sample.device();
        device.make_unreadable(at, 512);
        sample.mends(&device, "cannot be read");
    }
    let device = sample.device();
    device.zero(0, ring);
    sample.mends(&device, "slot 1 of ring A is empty");
    // Two rings, each with a sector that is gone: every state is still there.
    let device = sample.device();
    device.make_unreadable(used[0], 512);
    device.make_unreadable(used[1] + ring, 512);
    assert!(open(device.clone(), Access::ReadOnly).is_ok());
    sample.mends(&device, "cannot be read");
}

#[test]
fn lost_trees_are_left_alone_and_their_space_is_kept() {
    let sample = Sample::new();
    let before = state(&sample.device());
    let all = blocks_below(&before, &live_root(&before)).nodes;
    for (ptr, level) in all.iter().step_by(5).chain(&all[..1]) {
        let device = sample.device();
        zero(&device, ptr);
        let writes = device.counts().writes;
        let done = run(device.clone(), Mode::Write, Depth::Metadata).unwrap();
        assert!(done.left.iter().any(|l| l.contains("block at")), "{done:#?}");
        assert_eq!((done.found.len(), device.counts().writes), (0, writes), "level {level}: {done:#?}");
        // With something derived that is wrong, that is mended, and nothing becomes free.
        let mut wrong = before.allocated.clone();
        let (last, len) = data(&before).into_iter().max().unwrap();
        assert!(wrong.remove(last, len));
        let device = sample.device();
        mend::write(&state(&device), &wrong, &mut |_, _| Ok(())).unwrap();
        let ptr_is_old = before.allocated.contains(ptr.addr.0, u64::from(ptr.len));
        assert!(ptr_is_old);
        zero(&device, ptr);
        let done = run(device.clone(), Mode::Write, Depth::Metadata).unwrap();
        assert!(!done.left.is_empty(), "{done:#?}");
        let after = state(&device);
        for (addr, len) in data(&before) {
            let missed = done.found.is_empty() && addr == last;
            assert!(missed || after.allocated.contains(addr, len), "{addr:#x} must stay in use");
        }
    }
    // Without a map it is not known what is free, so nothing is written at all.
    let device = sample.device();
    zero(&device, &all[0].0);
    let newest = before.space_map.last().unwrap();
    zero(&device, newest);
    let writes = device.counts().writes;
    let done = run(device.clone(), Mode::Write, Depth::Metadata).unwrap();
    assert!(done.left.iter().any(|l| l.contains("cannot be made again")), "{done:#?}");
    assert_eq!(device.counts().writes, writes);
}

#[test]
fn blocks_that_two_own_are_left_alone() {
    let sample = Sample::new();
    let before = state(&sample.device());
    let leaf =
        blocks_below(&before, &live_root(&before)).nodes.iter().find(|(_, level)| *level == 0).unwrap().0;
    let hidden = before.records.iter().find(|r| r.role == Role::Hidden).unwrap();
    let list = before.records.iter().find(|r| r.prev == Some(hidden.id)).unwrap().list;
    // A dead list that names a block of a live tree: what is to be believed is not for a repair to say.
    let entry = DeadEntry { addr: leaf.addr.0, len: 16384, birth: hidden.epoch };
    let bucket = Bucket { bytes: 16384, count: 1, oid: 7_000_000, chunks: 1 };
    let device = sample.with(&mut |meta| {
        meta.edit.insert(meta.root, &Key::new(bucket.oid, Kind::DeadChunk, 0), &encode_chunk(&[entry]))?;
        meta.edit.insert(meta.root, &Key::new(list, Kind::DeadBucket, 0), &bucket.encode())
    });
    let writes = device.counts().writes;
    let done = run(device.clone(), Mode::Write, Depth::Metadata).unwrap();
    assert!(!done.left.is_empty() && done.rebuilt.is_empty(), "{done:#?}");
    assert_eq!(device.counts().writes, writes);
}

#[test]
fn a_repair_that_is_cut_off() {
    let sample = Sample::new();
    let before = state(&sample.device());
    let (at, bucket) = long_bucket(&sample.device());
    let ptr = *before.space_map.last().unwrap();
    let no_map = sample.device();
    zero(&no_map, &ptr);
    let no_list = sample.with(&mut |meta| meta.edit.remove(meta.root, &at).map(drop));
    let bad_sum = sample.with(&mut |meta| {
        meta.edit.insert(meta.root, &at, &Bucket { bytes: bucket.bytes * 2, ..bucket }.encode())
    });
    no_list.flip(0x1000 + 99, 1);
    let mut points = 0;
    for (name, damaged) in [("map", no_map), ("list", no_list), ("sum", bad_sum)] {
        for nth in 1.. {
            let device = Arc::new(damaged.clone_image());
            device.set_crash_at(device.changes() + nth);
            let done = run(device.clone(), Mode::Write, Depth::Metadata);
            if !device.is_crashed() {
                break;
            }
            assert!(done.is_err());
            for policy in [CrashPolicy::KeepAll, CrashPolicy::DropAll, CrashPolicy::Random(nth)] {
                let after = Arc::new(device.crash(policy));
                points += 1;
                match open(after.clone(), Access::ReadOnly) {
                    Ok(volume) => assert!(content(&volume) == sample.content, "{name} at {nth}"),
                    Err(e) => assert!(name == "map", "{name} at {nth}: {e}"),
                }
                let again = run(after.clone(), Mode::Write, Depth::Metadata).unwrap();
                assert_eq!(again.left, [] as [String; 0], "{name} at {nth}");
                sample.is_right(&after, name);
            }
        }
    }
    println!("{points} crash points");
    // A device that fails: the repair fails, and the old state stands.
    let device = sample.device();
    zero(&device, &ptr);
    device.fail(Op::Flush, 1, crate::device::Persistence::Once);
    assert!(run(device.clone(), Mode::Write, Depth::Metadata).is_err());
    let device = Arc::new(device.clone_image());
    sample.mends(&device, "space map");
}

#[test]
fn a_log_that_was_not_replayed_is_kept() {
    let sample = Sample::new();
    let device = sample.device();
    let fs = mount(device.clone());
    for n in 0..40_u64 {
        let (entry, handle) =
            fs.create(&ADMIN, NodeId::ROOT, format!("later{n}").as_bytes(), 0o644, RW).unwrap();
        fs.write(entry.attr.node, handle, 0, &vec![n as u8 + 1; 50_000], false).unwrap();
        fs.fsync(entry.attr.node, handle, crate::ops::SyncScope::All).unwrap();
    }
    snapshot(&fs, "unwritten");
    fs.unlink(&ADMIN, NodeId::ROOT, b"file5").unwrap();
    // Killed here: what was acknowledged is in the log alone.
    let killed = Arc::new(device.crash(CrashPolicy::KeepAll));
    drop(fs);
    let expected = content(mount(Arc::new(killed.clone_image())).volume());
    assert!(expected != sample.content);
    let before = state(&killed);
    assert!(expected.keys().any(|k| k.starts_with("unwritten")));
    for (name, newest) in [("map", before.space_map.last()), ("nothing", None)] {
        let device = Arc::new(killed.clone_image());
        if let Some(ptr) = newest {
            zero(&device, ptr);
        } else {
            let mut record = before.records[0].clone();
            record.written += 4096;
            let allocated = before.allocated.clone();
            let mending = Mending { records: vec![record], allocated, ..Mending::default() };
            mend::commit(&state(&device), &mending).unwrap();
        }
        let done = run(device.clone(), Mode::Write, Depth::Metadata).unwrap();
        assert!(!done.rebuilt.is_empty() && done.left.is_empty(), "{name}: {done:#?}");
        let fs = mount(device.clone());
        assert!(content(fs.volume()) == expected, "{name}: the log was replayed");
        assert_eq!(check(fs.volume(), Depth::Data).unwrap().problems, [] as [String; 0], "{name}");
    }
}

#[test]
fn bad_copies_of_blocks() {
    let sample = Sample::new();
    let before = state(&sample.device());
    let mut blocks = blocks_below(&before, &live_root(&before)).nodes;
    blocks.extend(blocks_below(&before, &before.superblock.meta_root).nodes);
    blocks.extend(before.space_map.iter().map(|ptr| (*ptr, 0)));
    for (n, (ptr, _)) in blocks.iter().enumerate() {
        let places: Vec<(u64, u64)> = ptr.ranges().collect();
        assert_eq!(places.len(), 2, "metadata is kept twice");
        let device = sample.device();
        device.flip(places[n % 2].0 + 600, 8);
        sample.mends(&device, "is bad, another is good");
        assert!(run(device, Mode::DryRun, Depth::Metadata).unwrap().found.is_empty());
    }
}

/// A repair whose nodes may be born no later than the state that it mends, because the log goes on from that, puts them to places
/// that a side which was away has in use, too, for all that it knows. It gets them all the same.
#[test]
fn a_side_that_was_away_gets_what_a_repair_has_written() {
    let sample = Sample::new();
    let device = sample.device();
    {
        let fs = mount(device.clone());
        fs.volume().set_mirrored(true).unwrap();
        fs.close().unwrap();
    }
    let before = state(&device);
    let mut leaky = before.allocated.clone();
    let mut free_from = before.space().start;
    for (addr, len) in before.allocated.iter() {
        if addr > free_from {
            leaky.insert(free_from, addr - free_from);
        }
        free_from = addr + len;
    }
    leaky.insert(free_from, SIZE * 3 / 4 - free_from);
    mend::write(&before, &leaky, &mut |_, _| Ok(())).unwrap();
    let fs = mount(device.clone());
    let (entry, handle) = fs.create(&ADMIN, NodeId::ROOT, b"later", 0o644, RW).unwrap();
    fs.write(entry.attr.node, handle, 0, &[7; 50_000], false).unwrap();
    fs.fsync(entry.attr.node, handle, crate::ops::SyncScope::All).unwrap();
    let killed = device.crash(CrashPolicy::KeepAll);
    drop(fs);
    let sims = together_labels().map(|label| {
        let sim = Arc::new(killed.clone_image());
        write_label(&*sim, &label).unwrap();
        sim
    });
    let present = |sim: &Arc<Sim>| {
        let (newest, before) = newest_and_before(&**sim).unwrap();
        Present::read(sim.clone(), (newest.epoch.0, before.0), newest.seq).unwrap()
    };
    part_for_repair(present(&sims[0]), 3).unwrap();
    let done = run(sims[0].clone(), Mode::Write, Depth::Metadata).unwrap();
    assert!(!done.rebuilt.is_empty() && done.left.is_empty(), "{done:#?}");
    let opening = open_sides(present(&sims[0]), Some(present(&sims[1])), false, 4).unwrap();
    let mirror = Arc::new(opening.mirror);
    let fs = mount(mirror.clone());
    let theirs = opening.behind.expect("the other is behind").label.unwrap();
    let from = FillFrom::of_side(sims[1].clone(), &mirror.label().unwrap(), &theirs, mirror.reached_epoch());
    fs.volume().note_rest(&from, &mirror.label_to_fill().unwrap(), &*sims[1]).unwrap();
    let limit = std::time::Duration::from_secs(600);
    let new = NewSide { device: sims[1].clone(), path: Vec::new(), partner_path: Vec::new(), limit };
    mirror.join(new, &RINGS).unwrap();
    let filled = fs.volume().fill(&mirror, &from, &mut |_| std::ops::ControlFlow::Continue(())).unwrap();
    assert!(filled.copied < filled.total, "{filled:?}");
    assert_eq!(compare_sides(fs.volume(), &mirror).unwrap().differing, [] as [u64; 0]);
    let expected = content(fs.volume());
    fs.close().unwrap();
    drop((fs, mirror));
    let alone = open(sims[1].clone(), Access::ReadOnly).unwrap();
    assert_eq!(check(&alone, Depth::Data).unwrap().problems, [] as [String; 0]);
    assert!(content(&alone) == expected);
}
