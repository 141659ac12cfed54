//! Metadata that is kept twice: where the copies are, what reading one that is bad does, and what heals nothing.

use super::*;
use crate::device::{Device, Op, Persistence, Sim};
use crate::format::{BlockPtr, Copies, Epoch, Key, Kind, LineId, NODE_BYTES};
use crate::store::Damage;
use crate::tree::{Step, Visit, walk};
use std::sync::Arc;

const SIZE: u64 = 256 << 20;
const ITEMS: u64 = 20_000;

fn open(sim: &Arc<Sim>, access: Access) -> Result<Arc<Volume>> {
    Volume::open(sim.clone(), OpenOptions { access, cache_bytes: 1 << 20 })
}

fn key(n: u64) -> Key {
    Key::new(16 + n, Kind::Inline, 0)
}

fn value(n: u64) -> Vec<u8> {
    n.to_le_bytes().repeat(10)
}

/// A store with a tree of some levels, closed.
fn store(copies: Copies) -> Arc<Sim> {
    let sim = Arc::new(Sim::new(SIZE, 1));
    Volume::create_with(sim.clone(), SIZE, [5; 16], (0, 0), copies).unwrap();
    let volume = open(&sim, Access::ReadWrite).unwrap();
    let mut txn = volume.begin(LineId::MAIN).unwrap();
    for n in 0..ITEMS {
        txn.insert(key(n), &value(n)).unwrap();
    }
    drop(txn);
    volume.commit(&mut |_| Ok(())).unwrap();
    sim
}

/// Pointers of the live tree, of the meta tree and of the space map.
fn pointers(sim: &Arc<Sim>) -> Vec<BlockPtr> {
    let state = open(sim, Access::ReadOnly).unwrap().committed().unwrap();
    let mut all = state.space_map.clone();
    for root in state.records.iter().filter_map(|r| r.root).chain([state.superblock.meta_root]) {
        let visit = &mut |visit: Visit<'_>| {
            if let Visit::Node(ptr, ..) = visit {
                all.push(*ptr);
            }
            Ok(Step::Into)
        };
        walk(&state.pager, &root, Epoch(0), visit).unwrap();
    }
    all
}

fn peek(sim: &Sim, addr: crate::format::BlockAddr) -> Vec<u8> {
    sim.peek(addr.0, NODE_BYTES as u64)
}

/// Reads everything as a mount and a commit do.
fn read_all(volume: &Volume) -> Result<u64> {
    let view = volume.live(LineId::MAIN).unwrap();
    let mut count = 0;
    for (item, n) in view.range(&Key::MIN, &Key::MAX).zip(0..) {
        let (k, v) = item?;
        assert_eq!((k, v.to_vec()), (key(n), value(n)));
        count += 1;
    }
    Ok(count)
}

#[test]
fn every_block_has_a_copy_far_away_in_long_runs() {
    let sim = store(Copies::Two);
    let all = pointers(&sim);
    assert!(all.len() > 100, "{} blocks", all.len());
    for ptr in &all {
        assert!(ptr.addr.0.abs_diff(ptr.copy.0) >= SIZE / 4, "{ptr:?}");
        assert_eq!(peek(&sim, ptr.addr), peek(&sim, ptr.copy));
    }
    assert!(pointers(&store(Copies::One)).iter().all(|p| p.copy.0 == 0));

    let volume = open(&sim, Access::ReadWrite).unwrap();
    let mut txn = volume.begin(LineId::MAIN).unwrap();
    for n in 0..ITEMS {
        txn.insert(key(n), &value(n)).unwrap();
    }
    drop(txn);
    sim.start_recording();
    volume.commit(&mut |_| Ok(())).unwrap();
    let writes = sim.take_recording().into_iter().filter(|c| c.op == Op::Write);
    // Two regions for the trees, two for meta tree and space map, two rings, the beginning of the log.
    assert!(writes.clone().count() <= 7 + 2 * (2 << 20) / (1 << 20), "{:?}", writes.collect::<Vec<_>>());
}

#[test]
fn a_bad_block_is_healed_by_whoever_reads_it() {
    let sound = store(Copies::Two);
    let all = pointers(&sound);
    type Harm = fn(&Sim, u64);
    let harms: [Harm; 3] =
        [|s, at| s.corrupt(at, 100, 1), |s, at| s.zero(at, 16384), |s, at| s.make_unreadable(at + 4096, 512)];
    for (n, ptr) in all.iter().enumerate() {
        let sim = Arc::new(sound.clone_image());
        harms[n % harms.len()](&sim, ptr.addr.0);
        let volume = open(&sim, Access::ReadWrite).unwrap();
        assert_eq!(read_all(&volume).unwrap(), ITEMS, "{ptr:?}");
        assert_eq!(volume.damage(), Damage { healed: 1, bad: 0 }, "{ptr:?}");
        drop(volume);
        let mut now = vec![0; NODE_BYTES];
        sim.read_at(ptr.addr.0, &mut now).unwrap();
        assert!(now == peek(&sound, ptr.addr), "{ptr:?}: the place holds what it should");
        assert_eq!(open(&sim, Access::ReadWrite).unwrap().damage(), Damage::default());

        // Without a good copy it is an error, as ever.
        for at in [ptr.addr, ptr.copy] {
            sim.corrupt(at.0 + 64, 100, 2);
        }
        let read = open(&sim, Access::ReadWrite).and_then(|volume| read_all(&volume));
        assert!(matches!(read, Err(VolumeError::Corrupt { .. })), "{read:?}");
        assert!(peek(&sim, ptr.addr) != now, "{ptr:?}: nothing to heal it from");
    }
}

#[test]
fn a_reader_that_may_not_write_heals_nothing() {
    let sim = store(Copies::Two);
    // Opening does not read the first leaf.
    let state = open(&sim, Access::ReadOnly).unwrap().committed().unwrap();
    let mut leaves = Vec::new();
    let visit = &mut |visit: Visit<'_>| {
        if let Visit::Node(ptr, _, 0) = visit {
            leaves.push(*ptr);
        }
        Ok(Step::Into)
    };
    walk(&state.pager, &state.records[0].root.unwrap(), Epoch(0), visit).unwrap();
    sim.zero(leaves[0].addr.0, 4096);
    let writes = sim.counts().writes;
    let volume = open(&sim, Access::ReadOnly).unwrap();
    assert_eq!(read_all(&volume).unwrap(), ITEMS);
    assert_eq!(volume.damage(), Damage { healed: 0, bad: 1 });
    drop(volume);

    // After a failed write nobody knows what the device does.
    let volume = open(&sim, Access::ReadWrite).unwrap();
    volume.poison(&VolumeError::Device("gone".into()));
    assert_eq!(read_all(&volume).unwrap(), ITEMS);
    assert_eq!((volume.damage().healed, sim.counts().writes), (0, writes));
    drop(volume);

    // A place that cannot be written stays bad, and is no reason to fail.
    let volume = open(&sim, Access::ReadWrite).unwrap();
    sim.fail(Op::Write, 1, Persistence::Once);
    assert_eq!(read_all(&volume).unwrap(), ITEMS);
    assert_eq!(volume.damage(), Damage { healed: 0, bad: 1 });
    assert!(!volume.is_read_only());
}
