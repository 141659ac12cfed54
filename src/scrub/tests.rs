//! The scrub against brute force: planted damage of every kind, and histories that go on while it runs.

use super::*;
use crate::device::{CrashPolicy, Device, Sim};
use crate::fixtures::{ADMIN, blocks_below, mkdir, mount, new_store, open, overwrite, put};
use crate::format::provenance::Provenance;
use crate::format::scrub::{FINDINGS_MAX, ScrubState};
use crate::format::view::{Consistency, Role};
use crate::format::{BlockPtr, Epoch, Extent, Ino, Key, Kind, LineId, NODE_BYTES};
use crate::ops::{NodeId, Operations};
use crate::volume::audit::Committed;
use crate::volume::{Access, Need, NewSnapshot, ReserveFor, SnapshotInfo, Volume};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

pub(super) const SIZE: u64 = 128 << 20;

/// Runs a whole scrub.
pub(super) fn scrub(volume: &Volume) -> Scrub {
    let mut scrub = Scrub::start(volume, 0, 1);
    while scrub.is_unfinished() {
        scrub.step(volume, 1 << 20).unwrap();
    }
    scrub.save(volume, 2);
    scrub
}

/// Who has which blocks: address of a block of content -> views and paths; metadata blocks -> views.
#[derive(Default)]
pub(super) struct Truth {
    pub(super) content: BTreeMap<u64, (Vec<String>, String)>,
    nodes: BTreeMap<u64, (BlockPtr, Vec<String>)>,
    tables: Vec<BlockPtr>,
}

/// By reading every view whole.
pub(super) fn truth(volume: &Volume) -> Truth {
    let state = volume.committed().unwrap();
    let mut truth = Truth { tables: state.space_map.clone(), ..Truth::default() };
    let meta = blocks_below(&state, &state.superblock.meta_root);
    truth.tables.extend(meta.nodes.iter().map(|(ptr, _)| *ptr));
    let mut records = state.records.clone();
    records.sort_by_key(|r| (r.role == Role::Head, r.epoch));
    for record in records.iter().filter(|r| r.role != Role::Hidden) {
        let live = record.role == Role::Head && record.line == LineId::MAIN;
        let name =
            if live { "<live>".to_string() } else { String::from_utf8_lossy(&record.name).into_owned() };
        let root = record.root.unwrap();
        let below = blocks_below(&state, &root);
        for (ptr, _) in below.nodes {
            truth.nodes.entry(ptr.addr.0).or_insert((ptr, Vec::new())).1.push(name.clone());
        }
        for (key, extent) in below.extents.iter().filter(|(_, extent)| !extent.is_unwritten()) {
            for addr in blocks_of(&state, extent) {
                let path = || hits::path(&state.pager, &root, Ino(key.object));
                let (views, _) = truth.content.entry(addr).or_insert_with(|| (Vec::new(), path()));
                if views.last() != Some(&name) {
                    views.push(name.clone());
                }
            }
        }
    }
    truth
}

/// Addresses of the blocks in which the content of an extent is.
fn blocks_of(state: &Committed, extent: &Extent) -> Vec<u64> {
    state.remap.runs(extent).into_iter().flat_map(|(addr, len)| blocks(addr, len)).collect()
}

/// A file system with directories, files of all sizes and snapshots between which much changed.
fn sample() -> Arc<Sim> {
    let sim = new_store(SIZE);
    let fs = mount(sim.clone());
    let mut rng = fastrand::Rng::with_seed(7);
    let mut files = Vec::new();
    for d in 0..4 {
        let dir = mkdir(&fs, NodeId::ROOT, &format!("dir{d}"));
        for f in 0..150 {
            files.push((dir, f, put(&fs, dir, &format!("file{f}"), &[f; 700])));
        }
    }
    for n in 0..5 {
        for _ in 0..40 {
            let (_, _, node) = files[rng.usize(..files.len())];
            let data: Vec<u8> = (0..rng.usize(1..60_000)).map(|_| rng.u8(..)).collect();
            overwrite(&fs, node, rng.u64(0..40_000), &data);
        }
        let (dir, f, _) = files.swap_remove(rng.usize(..files.len()));
        fs.unlink(&ADMIN, dir, format!("file{f}").as_bytes()).unwrap();
        fs.create_snapshot(format!("s{n}").as_bytes(), crate::fs::Reason::User).unwrap();
    }
    fs.delete_snapshot(b"s2").unwrap();
    for _ in 0..4 {
        fs.commit().unwrap();
    }
    fs.close().unwrap();
    sim
}

#[test]
fn a_sound_store_is_read_once_and_whole() {
    let sim = sample();
    let volume = open(sim.clone(), Access::ReadWrite).unwrap();
    let before = sim.counts().bytes_read;
    let done = scrub(&volume);
    assert_eq!((done.record().state, done.record().bad, done.record().healed), (ScrubState::Finished, 0, 0));
    // All but what waits to be freed, and hardly anything twice.
    let (read, total) = (sim.counts().bytes_read - before, done.record().total_bytes);
    assert!(
        done.record().done_bytes <= total && done.record().done_bytes > total / 10 * 9,
        "{:?}",
        done.record()
    );
    assert!(read > total / 10 * 9 && read < total / 10 * 13, "{read} of {total}");
}

/// Nobody waits for a long run of metadata either.
#[test]
fn there_is_time_to_rest_after_all_that_is_read() {
    let volume = open(sample(), Access::ReadWrite).unwrap();
    let mut scrub = Scrub::start(&volume, 0, 1);
    let (send, rests) = std::sync::mpsc::channel();
    scrub.rest_with(move |bytes| send.send(bytes).unwrap());
    let mut read = 0;
    while scrub.is_unfinished() {
        read += scrub.step(&volume, 1 << 20).unwrap();
    }
    let rests: Vec<u64> = rests.try_iter().collect();
    assert_eq!(rests.iter().sum::<u64>(), read);
    let nodes = 2 * NODE_BYTES as u64;
    assert!(rests.iter().filter(|bytes| **bytes == nodes).count() > 20, "{rests:?}");
}

#[test]
fn bad_content_is_found_with_its_file_and_snapshots() {
    let sound = sample();
    let truth = truth(&open(sound.clone(), Access::ReadOnly).unwrap());
    let all: Vec<u64> = truth.content.keys().copied().collect();
    let mut rng = fastrand::Rng::with_seed(3);
    let mut kinds = BTreeMap::new();
    for round in 0..60 {
        let addr = all[rng.usize(..all.len())];
        is_found(&sound, &truth, (addr, round), &mut rng);
        *kinds.entry(truth.content[&addr].0.len()).or_insert(0) += 1;
    }
    assert!(kinds.len() >= 4, "blocks of one view and of several: {kinds:?}");
}

/// Spoils a block of content, in one of three ways: a scrub finds it, whose it is, and nothing else.
pub(super) fn is_found(sound: &Sim, truth: &Truth, (addr, how): (u64, u64), rng: &mut fastrand::Rng) {
    let sim = Arc::new(sound.clone_image());
    let (views, path) = &truth.content[&addr];
    match how % 3 {
        0 => sim.flip(addr + rng.u64(..4096), 1 << rng.u8(..8)),
        1 => sim.zero(addr, 4096),
        _ => sim.make_unreadable(addr + 512, 512),
    }
    let volume = open(sim.clone(), Access::ReadWrite).unwrap();
    let done = scrub(&volume);
    assert_eq!((done.record().bad, done.findings().len()), (1, 1), "{:?}", done.findings());
    let finding = &done.findings()[0];
    assert_eq!((finding.addr, finding.len, finding.files_total), (addr, 4096, 1));
    assert_eq!((&finding.views, &finding.files), (views, &vec![path.clone()]), "{addr:#x}");
    assert_eq!(volume.damage().bad, 1);
    // It is known after the next mount, too.
    volume.commit(&mut |_| Ok(())).unwrap();
    drop(volume);
    let again = Scrub::load(&open(sim.clone(), Access::ReadOnly).unwrap()).unwrap();
    assert_eq!((again.findings(), again.record()), (done.findings(), done.record()));
}

#[test]
fn metadata_is_healed_and_what_has_no_good_copy_is_told() {
    let sound = sample();
    let truth = truth(&open(sound.clone(), Access::ReadOnly).unwrap());
    let nodes = truth.nodes.values().map(|(ptr, views)| (*ptr, Some(views)));
    let all: Vec<_> = nodes.chain(truth.tables.iter().map(|ptr| (*ptr, None))).collect();
    assert!(all.len() > 40, "{} blocks", all.len());
    let mut told = 0;
    for (n, (ptr, views)) in all.into_iter().enumerate() {
        let harm = |sim: &Sim, addr: u64| match n % 3 {
            0 => sim.flip(addr + 100, 4),
            1 => sim.zero(addr, 512),
            _ => sim.make_unreadable(addr + 4096, 512),
        };
        for addr in [ptr.addr.0, ptr.copy.0] {
            let sim = Arc::new(sound.clone_image());
            let volume = open(sim.clone(), Access::ReadWrite).unwrap();
            harm(&sim, addr);
            let done = scrub(&volume);
            assert_eq!((done.record().healed, done.record().bad), (1, 0), "{ptr:?}: {:?}", done.findings());
            let mut now = vec![0; NODE_BYTES];
            sim.read_at(addr, &mut now).unwrap();
            assert!(now == sound.peek(addr, NODE_BYTES as u64), "{ptr:?}: what should be there is there");
            assert_eq!(volume.damage().bad, 0);
        }
        let sim = Arc::new(sound.clone_image());
        let volume = open(sim.clone(), Access::ReadWrite).unwrap();
        [ptr.addr.0, ptr.copy.0].iter().for_each(|addr| harm(&sim, *addr));
        let done = scrub(&volume);
        assert_eq!(done.record().state, ScrubState::Finished);
        // Of what is below a lost node nothing is known, so one finding stands for it.
        assert_eq!((done.record().healed, done.record().bad), (0, 1), "{ptr:?}: {:?}", done.findings());
        let finding = &done.findings()[0];
        if let Some(views) = views {
            assert_eq!((finding.addr, &finding.views), (ptr.addr.0, views), "{ptr:?}");
            told += usize::from(finding.files_total > 0);
        }
    }
    assert!(told > 10, "files are named: {told}");
}

#[test]
fn superblocks_are_healed() {
    let sim = sample();
    let volume = open(sim.clone(), Access::ReadWrite).unwrap();
    let state = volume.committed().unwrap().superblock;
    for ring in [0, crate::device::RESERVED_BYTES / 2] {
        let addr = ring + state.seq % 64 * 4096;
        let good = sim.peek(addr, 4096);
        sim.corrupt(addr + 60, 10, 3);
        let done = scrub(&volume);
        assert_eq!((done.record().healed, done.record().bad), (1, 0));
        assert!(sim.peek(addr, 4096) == good);
    }
    // A slot of before, as a crash between two writes leaves it, is no damage.
    sim.write_at(state.seq % 64 * 4096, &sim.peek((state.seq - 1) % 64 * 4096, 4096)).unwrap();
    let done = scrub(&volume);
    assert_eq!((done.record().healed, done.record().bad), (0, 0));
}

#[test]
fn a_scrub_that_was_cut_off_goes_on() {
    let sound = sample();
    let truth = truth(&open(sound.clone(), Access::ReadOnly).unwrap());
    let whole = scrub(&open(Arc::new(sound.clone_image()), Access::ReadOnly).unwrap()).record().done_bytes;
    for seed in 0..12 {
        let mut rng = fastrand::Rng::with_seed(seed);
        let mut sim = Arc::new(sound.clone_image());
        let planted: BTreeSet<u64> =
            (0..8).map(|_| *truth.content.keys().nth(rng.usize(..truth.content.len())).unwrap()).collect();
        planted.iter().for_each(|addr| sim.zero(*addr, 4096));
        let mut volume = open(sim.clone(), Access::ReadWrite).unwrap();
        let (mut running, mut read) = (Scrub::start(&volume, 0, 1), 0);
        while running.is_unfinished() {
            read += running.step(&volume, 1 << rng.u32(12..20)).unwrap();
            running.save(&volume, 2);
            if rng.u8(0..4) == 0 {
                running.unpin();
                volume.commit(&mut |_| Ok(())).unwrap();
                drop(volume);
                sim = Arc::new(sim.crash(CrashPolicy::DropAll));
                volume = open(sim.clone(), Access::ReadWrite).unwrap();
                running = Scrub::load(&volume).expect("it was written down");
            }
        }
        let found: BTreeSet<u64> = running.findings().iter().flat_map(|f| blocks(f.addr, f.len)).collect();
        assert_eq!(found, planted, "seed {seed}");
        assert!(read < whole / 10 * 15, "seed {seed}: {read} bytes read for {whole}");
    }
}

pub(super) fn blocks(addr: u64, len: u64) -> impl Iterator<Item = u64> {
    (addr..addr + len).step_by(4096)
}

#[test]
fn it_pauses_and_stops() {
    let sim = sample();
    let volume = open(sim.clone(), Access::ReadWrite).unwrap();
    let mut running = Scrub::start(&volume, 0, 1);
    assert!(running.step(&volume, 1 << 16).unwrap() > 0);
    running.set_state(ScrubState::Paused);
    running.save(&volume, 5);
    let cursor = running.record().cursor;
    assert_eq!(running.step(&volume, 1 << 16).unwrap(), 0, "paused");
    running = Scrub::load(&volume).unwrap();
    assert_eq!((running.record().state, running.record().cursor), (ScrubState::Paused, cursor));
    running.set_state(ScrubState::Running);
    running.step(&volume, 1 << 16).unwrap();
    running.set_state(ScrubState::Stopped);
    running.set_state(ScrubState::Running);
    assert_eq!(running.record().state, ScrubState::Stopped, "that was its end");
    running.save(&volume, 9);
    assert_eq!(Scrub::load(&volume).unwrap().record().ended_secs, 9);
}

#[test]
fn a_device_that_is_gone_is_no_damage() {
    let sim = sample();
    let volume = open(sim.clone(), Access::ReadWrite).unwrap();
    let mut running = Scrub::start(&volume, 0, 1);
    running.step(&volume, 1 << 16).unwrap();
    let cursor = running.record().cursor;
    sim.set_crash_at(sim.changes() + 1);
    assert!(sim.flush().is_err());
    assert!(running.step(&volume, 1 << 20).is_err());
    assert_eq!((running.record().bad, running.record().cursor), (0, cursor));
}

/// A history of a volume that goes on.
struct History {
    volume: Arc<Volume>,
    rng: fastrand::Rng,
    names: u32,
}

impl History {
    fn step(&mut self) {
        let (volume, rng) = (&self.volume, &mut self.rng);
        let lines: Vec<LineId> = volume.lines().iter().map(|l| l.id).collect();
        let line = lines[rng.usize(..lines.len())];
        let snapshots: Vec<SnapshotInfo> =
            volume.snapshots(line).into_iter().filter(|s| s.line == line).collect();
        let some = (!snapshots.is_empty()).then(|| snapshots[rng.usize(..snapshots.len())].id);
        match (rng.u8(0..100), some) {
            (0..=54, _) => (0..rng.usize(1..8)).for_each(|_| write(volume, line, rng)),
            (55..=69, _) => {
                self.names += 1;
                let name = format!("s{}", self.names).into_bytes();
                let consistency = Consistency::FileSystem;
                let new = NewSnapshot {
                    name: &name,
                    created: (1, 2),
                    consistency,
                    provenance: &Provenance::default(),
                    pause_ns: &|| 7,
                    identity: None,
                };
                volume.create_snapshot(line, &new, &mut |_| Ok(())).unwrap();
            }
            (70..=79, Some(id)) => volume.delete_snapshot(line, id).unwrap(),
            (80..=81, Some(id)) if lines.len() < 4 => {
                self.names += 1;
                let name = format!("c{}", self.names).into_bytes();
                drop(volume.create_line(&name, id, (3, 4), &Provenance::default()).unwrap());
            }
            (82..=83, _) if line != LineId::MAIN => volume.drop_line(line).unwrap(),
            (84, Some(id)) => drop(volume.rollback(line, id, (5, 6)).unwrap()),
            _ => volume.commit(&mut |_| Ok(())).unwrap(),
        }
    }
}

/// Writes, shares or removes one object of a head.
fn write(volume: &Volume, line: LineId, rng: &mut fastrand::Rng) {
    let key = Key::new(rng.u64(16..300), Kind::Extent, 0);
    let data = vec![rng.u8(1..); 4096 * rng.usize(1..12)];
    let staged = (rng.u8(0..4) > 0).then(|| volume.stage(&data).unwrap());
    let mut txn = volume.begin(line).unwrap();
    txn.reserve(Need { items: 4, ..Need::default() }, ReserveFor::Write).unwrap();
    let old = txn.view().get(&key).unwrap().map(|v| Extent::decode(&v).unwrap());
    let other = Key::new(rng.u64(300..330), Kind::Extent, 0);
    match (staged, &old) {
        (Some(staged), _) => {
            let extents = txn.publish(staged);
            txn.insert(key, &extents[0].encode()).unwrap();
            extents[1..].iter().for_each(|e| txn.free(e));
        }
        (None, Some(source)) if rng.bool() => {
            if let Some(gone) = txn.view().get(&other).unwrap().map(|v| Extent::decode(&v).unwrap()) {
                txn.free(&gone);
            }
            let shared = txn.share(source).unwrap();
            txn.insert(other, &shared[0].encode()).unwrap();
            shared[1..].iter().for_each(|e| txn.free(e));
            return;
        }
        _ => drop(txn.remove(&key).unwrap()),
    }
    old.iter().for_each(|old| txn.free(old));
}

/// Every block of content in the committed state with the oldest reference to it.
pub(super) fn content(volume: &Volume) -> BTreeMap<u64, Epoch> {
    let state = volume.committed().unwrap();
    let mut all = BTreeMap::new();
    for root in state.records.iter().filter(|r| r.role != Role::Hidden).filter_map(|r| r.root) {
        for (_, extent) in blocks_below(&state, &root).extents {
            for addr in blocks_of(&state, &extent) {
                let birth = all.entry(addr).or_insert(extent.birth);
                *birth = extent.birth.min(*birth);
            }
        }
    }
    all
}

/// Whatever is written, kept and deleted while the scrub runs: what is bad from its beginning to its end is found, and
/// nothing else.
fn scrub_under_change(seed: u64) -> usize {
    let sim = Arc::new(Sim::new(SIZE, seed));
    Volume::create(sim.clone(), SIZE, [seed as u8; 16], (0, 0)).unwrap();
    let mut history = History {
        volume: open(sim.clone(), Access::ReadWrite).unwrap(),
        rng: fastrand::Rng::with_seed(seed),
        names: 0,
    };
    (0..history.rng.usize(20..200)).for_each(|_| history.step());
    let volume = history.volume.clone();
    volume.commit(&mut |_| Ok(())).unwrap();
    let before = content(&volume);
    let mut planted = BTreeMap::new();
    for addr in before.keys() {
        if history.rng.u8(0..10) == 0 {
            sim.flip(addr + history.rng.u64(..4096), 1);
            planted.insert(*addr, sim.peek(*addr, 4096));
        }
    }
    let mut running = Scrub::start(&volume, 0, 1);
    let mut found = BTreeSet::new();
    while running.is_unfinished() {
        running.step(&volume, 1 << history.rng.u32(12..19)).unwrap();
        if history.rng.bool() {
            running.unpin();
        }
        (0..history.rng.usize(0..4)).for_each(|_| history.step());
        found.extend(running.bad.iter().copied());
    }
    volume.commit(&mut |_| Ok(())).unwrap();
    // A run of bad blocks is one finding; those beyond the first hundred are counted.
    found.extend(running.findings().iter().flat_map(|f| blocks(f.addr, f.len)));
    for addr in &found {
        assert!(planted.contains_key(addr), "seed {seed}: {addr:#x} is sound");
    }
    let after = content(&volume);
    let still = planted.iter().filter(|(addr, bytes)| {
        let same = after.get(addr).is_some_and(|birth| *birth <= running.record().until);
        same && sim.peek(**addr, 4096) == **bytes
    });
    let mut count = 0;
    for (addr, _) in still {
        let seen = found.contains(addr) || running.findings().len() as u64 == FINDINGS_MAX;
        assert!(seen, "seed {seed}: {addr:#x} is bad and was not found");
        count += 1;
    }
    count
}

#[test]
fn nothing_is_missed_or_invented_while_everything_changes() {
    let found: usize = (0..60).map(scrub_under_change).sum();
    assert!(found > 300, "{found} bad blocks were there from beginning to end");
}
