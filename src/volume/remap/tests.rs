//! The remap against a map of single blocks; content that moves while it is read; power cuts and failures at every call of a
//! move. What moves in random histories is in the tests of the volume.

use super::Remap;
use crate::check::{self, Depth};
use crate::device::{CrashPolicy, Device, Memory, Mirror, Op, Persistence, RESERVED_BYTES, Sim};
use crate::fixtures::{Hooked, Hooks, together_labels};
use crate::format::deadlist::DeadEntry;
use crate::format::provenance::Provenance;
use crate::format::remap::RemapRecord;
use crate::format::view::Consistency;
use crate::format::{BlockAddr, Epoch, Extent, Key, Kind, LineId, ViewId};
use crate::volume::{
    Access, NewSnapshot, NothingAbove, OpenOptions, RINGS, View, Volume, level_states, newest_superblock,
};
use parking_lot::Mutex;
use std::collections::BTreeMap;
use std::sync::Arc;

const SIZE: u64 = 64 << 20;

/// (birth, old block) -> (new block, doubled), in blocks.
type Blocks = BTreeMap<(u64, u64), (u64, bool)>;

fn agree(remap: &Remap, blocks: &Blocks, seed: u64) {
    let mut found = Blocks::new();
    for r in remap.iter() {
        for i in 0..r.len / 4096 {
            let (old, new) = (r.old.0 / 4096 + i, r.new.0 / 4096 + i);
            assert_eq!(found.insert((r.birth.0, old), (new, r.doubled)), None);
        }
    }
    assert_eq!(found, *blocks, "seed {seed}");
    assert_eq!(remap.is_empty(), blocks.is_empty());
}

#[test]
fn equals_a_map_of_blocks() {
    for seed in 0..40 {
        let mut rng = fastrand::Rng::with_seed(seed);
        let (mut remap, mut blocks) = (Remap::default(), Blocks::new());
        let mut items: BTreeMap<u64, RemapRecord> = BTreeMap::new();
        for _ in 0..600 {
            let (birth, old, len) = (rng.u64(1..4), rng.u64(1..60), rng.u64(1..9));
            let range = old..old + len;
            match rng.u8(0..10) {
                0..=4 => {
                    let new = rng.u64(100..260);
                    let taken = |b: &u64| (new..new + len).contains(b);
                    let fits = range.clone().all(|b| !blocks.contains_key(&(birth, b)))
                        && !blocks.values().any(|(b, _)| taken(b));
                    let (old, new) = (BlockAddr(old * 4096), BlockAddr(new * 4096));
                    let record =
                        RemapRecord { old, birth: Epoch(birth), len: len * 4096, new, doubled: true };
                    assert_eq!(remap.insert(&record), fits);
                    if fits {
                        range.for_each(|b| {
                            blocks.insert((birth, b), (new.0 / 4096 + b - old.0 / 4096, true));
                        });
                    }
                }
                5..=7 => {
                    let entry = DeadEntry { addr: old * 4096, len: len * 4096, birth: Epoch(birth) };
                    let mut expected = Vec::new();
                    for b in range {
                        match blocks.remove(&(birth, b)) {
                            Some((new, true)) => expected.extend([new, b]),
                            Some((new, false)) => expected.push(new),
                            None => expected.push(b),
                        }
                    }
                    let released = remap.release(&entry);
                    let mut released: Vec<u64> =
                        released.iter().flat_map(|(a, l)| a / 4096..(a + l) / 4096).collect();
                    expected.sort_unstable();
                    released.sort_unstable();
                    assert_eq!(released, expected, "seed {seed}");
                }
                8 => {
                    let mut doubled: Vec<u64> =
                        blocks.iter().filter(|(_, v)| v.1).map(|((_, old), _)| *old).collect();
                    blocks.values_mut().for_each(|v| v.1 = false);
                    let mut let_go: Vec<u64> =
                        remap.settle().iter().flat_map(|(a, l)| a / 4096..(a + l) / 4096).collect();
                    doubled.sort_unstable();
                    let_go.sort_unstable();
                    assert_eq!(let_go, doubled);
                }
                _ => {
                    let crcs = (0..len as u32).collect();
                    let extent = Extent {
                        raw_addr: BlockAddr(old * 4096),
                        birth: Epoch(birth),
                        len: (len * 4096) as u32,
                        crcs,
                        frame: None,
                        home: None,
                    };
                    let mut at = 0;
                    for part in remap.resolve(&extent) {
                        for (i, crc) in part.extent().crcs.iter().enumerate() {
                            let b = old + at;
                            let place = blocks.get(&(birth, b)).map_or(b, |(new, _)| *new);
                            assert_eq!((part.addr() / 4096 + i as u64, u64::from(*crc)), (place, at));
                            at += 1;
                        }
                    }
                    assert_eq!(at, len);
                }
            }
            for (new, record) in remap.take_changes() {
                match record {
                    Some(record) => drop(items.insert(new, record)),
                    None => drop(items.remove(&new)),
                }
            }
            agree(&remap, &blocks, seed);
        }
        // What was told of changes is the whole table.
        let mut again = Remap::default();
        assert!(items.values().all(|record| again.insert(record)));
        agree(&again, &blocks, seed);
    }
}

const KEY: Key = Key { object: 16, kind: Kind::Extent as u8, rest: 0 };

fn put(volume: &Volume, byte: u8, blocks: usize) -> Extent {
    let staged = volume.stage(&vec![byte; 4096 * blocks]).unwrap();
    let mut txn = volume.begin(LineId::MAIN).unwrap();
    if let Some(old) = txn.view().get(&KEY).unwrap().map(|v| Extent::decode(&v).unwrap()) {
        txn.free(&old);
    }
    let extent = txn.publish(staged).remove(0);
    txn.insert(KEY, &extent.encode()).unwrap();
    extent
}

fn commit(volume: &Volume) -> crate::volume::Result<()> {
    volume.commit(&mut |_| Ok(()))
}

fn snapshot(volume: &Volume, name: &[u8]) -> ViewId {
    let new = NewSnapshot {
        name,
        created: (1, 2),
        consistency: Consistency::Crash,
        provenance: &Provenance::default(),
        pause_ns: &|| 1,
        identity: None,
    };
    volume.create_snapshot(LineId::MAIN, &new, &mut |_| Ok(())).unwrap().0
}

fn bytes(view: &View) -> Vec<u8> {
    let extent = extent(view);
    let mut out = vec![0; extent.len_bytes() as usize];
    view.read_extent(&extent, 0, &mut out).unwrap();
    out
}

fn extent(view: &View) -> Extent {
    Extent::decode(&view.get(&KEY).unwrap().unwrap()).unwrap()
}

fn clean(volume: &Volume) {
    let report = check::check_space(volume, Depth::Data).unwrap();
    assert!(report.is_clean(), "{:#?}", report.problems);
}

/// Does something once, right before the first read of a place.
#[derive(Default)]
struct Meddling(Mutex<Option<(u64, Meddle)>>);

type Meddle = Box<dyn FnOnce() + Send>;

impl Hooks for Meddling {
    fn before_read(&self, at: u64) {
        let due = self.0.lock().take_if(|(place, _)| *place == at);
        due.into_iter().for_each(|(_, meddle)| meddle());
    }
}

/// Between the moment in which a reader knows a place and the one in which it reads there, content moves, its place becomes
/// free and is written over.
#[test]
fn a_reader_whose_place_moves_reads_the_other_place() {
    let device = Arc::new(Hooked::over(Memory::new(SIZE), Meddling::default()));
    let volume = Volume::made_on(device.clone());
    let old = put(&volume, 1, 8);
    let id = snapshot(&volume, b"s");
    put(&volume, 2, 8);
    commit(&volume).unwrap();
    let view = volume.snapshot(id).unwrap();
    let place = old.raw_addr.0;
    let mover = volume.clone();
    let meddle = move || {
        let view = mover.snapshot(id).unwrap();
        assert_eq!(mover.copy_out(&view, &[extent(&view)]).unwrap(), 8 * 4096);
        (0..4).for_each(|_| commit(&mover).unwrap());
        // Free by now, so somebody else gets it.
        mover.shared.store().write_raw(place, &[9; 8 * 4096]).unwrap();
        assert!(mover.shared.store().not_allocated(vec![(place, 8 * 4096)]).is_some());
    };
    *device.hooks.0.lock() = Some((place, Box::new(meddle)));
    assert!(bytes(&view) == [1; 8 * 4096], "not what is at the old place");
    assert!(device.hooks.0.lock().is_none(), "it was read there");
    assert_eq!(volume.damage().bad, 0, "and that is no damage");
    // What is bad at the place that counts is.
    let moved = volume.shared.places.resolve(&old)[0].addr();
    assert_ne!(moved, place);
    device.write_at(moved, &[3; 4096]).unwrap();
    let mut out = vec![0; 8 * 4096];
    assert!(view.read_extent(&old, 0, &mut out).is_err());
    assert_eq!(volume.damage().bad, 1);
}

fn open(sim: &Arc<Sim>) -> Arc<Volume> {
    let options = OpenOptions { access: Access::ReadWrite, cache_bytes: 1 << 20 };
    let volume = Volume::open(sim.clone(), options).unwrap();
    assert_eq!(volume.recover(&mut NothingAbove).damage, None);
    volume
}

/// A snapshot's content, 8 blocks of 1, and the head's, 8 blocks of 2.
fn parted() -> Sim {
    let sim = Arc::new(Sim::new(SIZE, 1));
    Volume::create(sim.clone(), SIZE, [1; 16], (0, 0)).unwrap();
    let volume = open(&sim);
    put(&volume, 1, 8);
    snapshot(&volume, b"s");
    put(&volume, 2, 8);
    commit(&volume).unwrap();
    drop(volume);
    sim.clone_image()
}

/// Copy, both commits of a move, the end of the quarantine, and the end of the reference.
fn story(volume: &Volume) -> crate::volume::Result<()> {
    let found = volume.find_snapshot(LineId::MAIN, b"s").unwrap();
    let view = volume.snapshot(found.id)?;
    volume.copy_out(&view, &[extent(&view).slice(4096, 3 * 4096), extent(&view).slice(5 * 4096, 4096)])?;
    (0..4).try_for_each(|_| commit(volume))?;
    drop(view);
    volume.delete_snapshot(LineId::MAIN, found.id)?;
    (0..4).try_for_each(|_| commit(volume))
}

fn is_whole(volume: &Volume) {
    clean(volume);
    assert!(bytes(&volume.live(LineId::MAIN).unwrap()) == [2; 8 * 4096]);
    if let Some(found) = volume.find_snapshot(LineId::MAIN, b"s") {
        assert!(bytes(&volume.snapshot(found.id).unwrap()) == [1; 8 * 4096]);
    }
}

#[test]
fn a_cut_at_any_call_of_a_move_leaves_all_content() {
    let made = parted();
    for cut in 1.. {
        let sim = Arc::new(made.clone_image());
        let volume = open(&sim);
        sim.set_crash_at(sim.changes() + cut);
        let done = story(&volume);
        drop(volume);
        for policy in [CrashPolicy::DropAll, CrashPolicy::KeepAll, CrashPolicy::Random(cut)] {
            let volume = open(&Arc::new(sim.crash(policy)));
            is_whole(&volume);
            // What was begun is brought to an end, again and again.
            (0..3).for_each(|_| commit(&volume).unwrap());
            is_whole(&volume);
            if volume.find_snapshot(LineId::MAIN, b"s").is_some() {
                story(&volume).unwrap();
                is_whole(&volume);
            }
            assert_eq!(volume.committed().unwrap().remap.len(), 0, "records go with the last reference");
        }
        if done.is_ok() {
            break;
        }
    }
}

#[test]
fn a_failure_at_any_call_of_a_move_leaves_all_content() {
    let made = parted();
    for op in [Op::Read, Op::Write, Op::Flush] {
        for nth in 1.. {
            let sim = Arc::new(made.clone_image());
            let volume = open(&sim);
            sim.fail(op, nth, Persistence::Once);
            let done = story(&volume);
            let read_only = volume.is_read_only();
            drop(volume);
            let struck = sim.faults_struck() > 0;
            assert!(done.is_err() == struck || op == Op::Read, "{op:?} {nth}: {done:?}");
            assert!(read_only || op == Op::Read || !struck, "{op:?} {nth}");
            let volume = open(&Arc::new(sim.clone_image()));
            is_whole(&volume);
            if !struck {
                break;
            }
        }
    }
}

/// A side of a mirror that is one state older keeps what it has that proves, whatever the other has in that place, and gets what
/// has moved since if the other has that.
#[test]
fn an_older_side_keeps_moved_content_that_proves_and_gets_what_it_lacks() {
    let together = |sims: &[Arc<Sim>; 2]| {
        let [a, b] = together_labels();
        Arc::new(Mirror::together([(sims[0].clone(), a), (sims[1].clone(), b)], 7))
    };
    // When it moved, whether the newer side has it still, and whether the older one has all but the superblock.
    for (moves_late, is_rotten, has_all) in
        [(false, true, false), (false, true, true), (true, true, true), (true, false, false)]
    {
        let what = format!("late {moves_late}, rotten {is_rotten}, all {has_all}");
        let made = parted();
        let sims = [0, 1].map(|_| Arc::new(made.clone_image()));
        let volume =
            Volume::open(together(&sims), OpenOptions { access: Access::ReadWrite, cache_bytes: 1 << 20 });
        let volume = volume.unwrap();
        assert_eq!(volume.recover(&mut NothingAbove).damage, None);
        let view = volume.snapshot(volume.find_snapshot(LineId::MAIN, b"s").unwrap().id).unwrap();
        let moves = || volume.copy_out(&view, &[extent(&view).slice(4096, 3 * 4096)]).unwrap();
        if !moves_late {
            moves();
        }
        put(&volume, 2, 8);
        (0..2).for_each(|_| commit(&volume).unwrap());
        let old = sims[1].clone_image();
        if moves_late {
            moves();
        }
        put(&volume, 3, 8);
        let state = newest_superblock(&old).unwrap().seq;
        commit(&volume).unwrap();
        assert_eq!(newest_superblock(&*sims[0]).unwrap().seq, state + 1, "{what}");
        let moved = volume.committed().unwrap().remap.iter().next().unwrap().new.0;
        let (newer, all) = (Arc::new(sims[0].clone_image()), sims[1].clone_image());
        drop((view, volume));
        let older = if has_all { all } else { old.clone_image() };
        RINGS.iter().for_each(|(at, len)| older.write_at(*at, &old.peek(*at, *len)).unwrap());
        assert_eq!(newest_superblock(&older).unwrap().seq, state, "{what}");
        if is_rotten {
            newer.write_at(moved, &[9; 4096]).unwrap();
        }
        let sims = [newer, Arc::new(older)];
        let mirror = together(&sims);
        level_states(&mirror).unwrap();
        assert_eq!(mirror.sides(), [0, 1], "{what}");
        drop(mirror);
        assert!(sims[1].peek(moved, 3 * 4096) == [1; 3 * 4096], "{what}");
        // With superblocks and the log it has all that the newer state needs.
        let log = (RESERVED_BYTES, newest_superblock(&*sims[0]).unwrap().log_bytes);
        for (at, len) in RINGS.into_iter().chain([log]) {
            sims[1].write_at(at, &sims[0].peek(at, len)).unwrap();
        }
        let volume = open(&sims[1]);
        clean(&volume);
        assert!(bytes(&volume.live(LineId::MAIN).unwrap()) == [3; 8 * 4096], "{what}");
    }
}

/// What moves is copied once, and costs no write but that and its records.
#[test]
fn a_move_costs_one_copy() {
    let sim = Arc::new(parted());
    let volume = open(&sim);
    commit(&volume).unwrap();
    let view = volume.snapshot(volume.find_snapshot(LineId::MAIN, b"s").unwrap().id).unwrap();
    let content = extent(&view);
    let before = volume.io();
    volume.copy_out(&view, &[content]).unwrap();
    let copied = volume.io() - before;
    assert_eq!((copied.reads, copied.writes, copied.written_bytes), (1, 1, 8 * 4096));
    // A second time nothing is left to do.
    commit(&volume).unwrap();
    assert_eq!(volume.copy_out(&view, &[extent(&view)]).unwrap(), 0);
}
