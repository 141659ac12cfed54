//! Random histories of a whole volume on the simulated device: writes, snapshots, clones, rollbacks, deletions, commits
//! and power cuts, against maps in memory, with the auditor after each commit.

use super::*;
use crate::check::{self, Depth};
use crate::device::{CrashPolicy, Sim};
use crate::format::view::Consistency;
use crate::format::{Copies, Extent, Key, Kind};
use std::collections::BTreeMap;

const SIZE: u64 = 256 << 20;

type Content = BTreeMap<u64, Vec<u8>>;

#[derive(Clone, Default, PartialEq)]
struct Model {
    heads: BTreeMap<ViewId, Content>,
    live: ViewId,
    snapshots: BTreeMap<Vec<u8>, Content>,
}

fn open(sim: &Arc<Sim>) -> Arc<Volume> {
    let options = OpenOptions { access: Access::ReadWrite, cache_bytes: 1 << 20 };
    let volume = Volume::open(sim.clone(), options).expect("a store that was cut off opens");
    let recovered = volume.recover(&mut NothingAbove);
    assert_eq!(recovered.damage, None);
    volume.commit(&mut |_| Ok(())).unwrap();
    volume
}

fn content(view: &View) -> Content {
    view.range(&Key::MIN, &Key::MAX)
        .map(|r| {
            let (key, value) = r.unwrap();
            if key.kind == Kind::Extent as u8 {
                let extent = Extent::decode(&value).unwrap();
                let mut out = vec![0; extent.len_bytes() as usize];
                view.read_extent(&extent, 0, &mut out).unwrap();
                (key.object, out)
            } else {
                (key.object, value.to_vec())
            }
        })
        .collect()
}

/// What the volume holds.
fn observe(volume: &Volume) -> Model {
    let heads: Vec<ViewId> = {
        let state = volume.state.read();
        let heads = state.history.views().filter(|v| v.role == crate::format::view::Role::Head);
        heads.map(|v| v.id).filter(|id| !state.deletes.contains(id)).collect()
    };
    let head = |id: ViewId| (id, content(&volume.head(id).unwrap()));
    let snapshot = |s: SnapshotInfo| (s.name, content(&volume.snapshot(s.id).unwrap()));
    Model {
        heads: heads.into_iter().map(head).collect(),
        live: volume.live_id(),
        snapshots: volume.snapshots().into_iter().map(snapshot).collect(),
    }
}

fn compare(volume: &Volume, model: &Model, seed: u64) {
    let seen = observe(volume);
    assert_eq!(seen.heads.len(), model.heads.len(), "seed {seed}");
    for (id, expected) in &model.heads {
        assert!(seen.heads.get(id) == Some(expected), "seed {seed}: head {} differs", id.0);
    }
    assert_eq!(seen.live, model.live, "seed {seed}");
    let names = |m: &Model| m.snapshots.keys().cloned().collect::<Vec<_>>();
    assert_eq!(names(&seen), names(model), "seed {seed}");
    for (name, expected) in &model.snapshots {
        assert!(seen.snapshots[name] == *expected, "seed {seed}: snapshot {name:?} differs");
    }
}

/// After a power cut: the longest prefix of the history that the volume holds. `past` begins with what was durable.
fn find_prefix(volume: &Volume, past: &[Model], seed: u64) -> Model {
    let seen = observe(volume);
    let held = past.iter().rev().find(|model| seen == **model);
    held.unwrap_or_else(|| panic!("seed {seed}: the volume is in none of {} states", past.len())).clone()
}

fn audit(volume: &Volume, seed: u64) {
    let report = check::check_space(volume, Depth::Data).unwrap();
    if !report.is_clean() {
        let c = volume.committed().unwrap();
        for r in &c.records {
            eprintln!("{r:?}");
            for e in c.dead_list(r.list).unwrap() {
                eprintln!("   dead {e:x?}");
            }
        }
        eprintln!("jobs {:?}", c.jobs);
    }
    assert!(report.is_clean(), "seed {seed}: {:#?}", report.problems);
}

fn write(volume: &Volume, head: ViewId, content: &mut Content, rng: &mut fastrand::Rng) {
    let object = rng.u64(16..400);
    let (inline, extent) = (Key::new(object, Kind::Inline, 0), Key::new(object, Kind::Extent, 0));
    let data = vec![rng.u8(1..); if rng.bool() { rng.usize(1..2000) } else { 4096 * rng.usize(1..40) }];
    let small = data.len() < 4096;
    let staged = (!small).then(|| volume.stage(&data[..data.len().min(131072)]).unwrap());
    let mut txn = volume.begin_on(head).unwrap();
    txn.reserve(Need { items: 4, ..Need::default() }, Purpose::Write).unwrap();
    let old = txn.view().get(&extent).unwrap().map(|v| Extent::decode(&v).unwrap());
    if let Some(old) = old {
        txn.free(&old);
        txn.remove(&extent).unwrap();
    }
    txn.remove(&inline).unwrap();
    content.remove(&object);
    match (rng.u8(0..10), staged) {
        (0, _) => {}
        (_, None) => {
            txn.insert(inline, &data).unwrap();
            content.insert(object, data);
        }
        (_, Some(staged)) => {
            let extents = txn.publish(staged);
            txn.insert(extent, &extents[0].encode()).unwrap();
            for rest in &extents[1..] {
                txn.free(rest);
            }
            content.insert(object, data[..extents[0].len_bytes() as usize].to_vec());
        }
    }
}

/// A second reference to the blocks of one object under another.
fn share(volume: &Volume, head: ViewId, content: &mut Content, rng: &mut fastrand::Rng) {
    let (from, to) =
        (Key::new(rng.u64(16..400), Kind::Extent, 0), Key::new(rng.u64(400..500), Kind::Extent, 0));
    let mut txn = volume.begin_on(head).unwrap();
    let Some(source) = txn.view().get(&from).unwrap().map(|v| Extent::decode(&v).unwrap()) else { return };
    if let Some(old) = txn.view().get(&to).unwrap().map(|v| Extent::decode(&v).unwrap()) {
        txn.free(&old);
    }
    let whole = txn.share(&source);
    txn.insert(to, &whole.encode()).unwrap();
    content.insert(to.object, content[&from.object].clone());
}

fn history(seed: u64, steps: usize) {
    let mut rng = fastrand::Rng::with_seed(seed);
    let mut sim = Arc::new(Sim::new(SIZE, seed));
    let copies = if seed.is_multiple_of(3) { Copies::One } else { Copies::Two };
    Volume::create_with(sim.clone(), SIZE, [seed as u8; 16], (0, 0), copies).unwrap();
    let mut volume = open(&sim);
    let live = volume.live_id();
    let mut model = Model { heads: [(live, Content::new())].into(), live, snapshots: BTreeMap::new() };
    // States since the last that is durable, this one included.
    let mut past = vec![model.clone()];
    let mut names = 0;
    // Views that somebody reads, and what they must show, whatever becomes of their heads and snapshots.
    let mut readers: Vec<(View, Content)> = Vec::new();
    for _ in 0..steps {
        if past.last() != Some(&model) {
            past.push(model.clone());
        }
        let heads: Vec<_> = model.heads.keys().copied().collect();
        let head = heads[rng.usize(..heads.len())];
        let snapshot = |rng: &mut fastrand::Rng| {
            let all = volume.snapshots();
            (!all.is_empty()).then(|| all[rng.usize(..all.len())].clone())
        };
        let dice = rng.u8(0..100);
        match dice {
            0..=49 => write(&volume, head, model.heads.get_mut(&head).unwrap(), &mut rng),
            50..=55 => share(&volume, head, model.heads.get_mut(&head).unwrap(), &mut rng),
            56..=70 => {
                names += 1;
                let name = format!("s{names}").into_bytes();
                let new = NewSnapshot {
                    name: &name,
                    created: (1, 2),
                    consistency: Consistency::FileSystem,
                    pause_ns: &|| 7,
                };
                let (_, durable) = volume.create_snapshot(&new, &mut |_| Ok(())).unwrap();
                model.snapshots.insert(name, model.heads[&model.live].clone());
                if durable {
                    past.clear();
                }
            }
            71..=78 => {
                if let Some(s) = snapshot(&mut rng) {
                    volume.delete_snapshot(s.id).unwrap();
                    model.snapshots.remove(&s.name);
                }
            }
            79..=81 if heads.len() < 4 => {
                if let Some(s) = snapshot(&mut rng) {
                    let id = volume.clone_snapshot(s.id, (3, 4)).unwrap();
                    model.heads.insert(id, model.snapshots[&s.name].clone());
                }
            }
            82..=83 if head != model.live => {
                volume.drop_head(head).unwrap();
                model.heads.remove(&head);
            }
            84..=85 => {
                volume.promote(head).unwrap();
                model.live = head;
            }
            86..=90 => {
                volume.commit(&mut |_| Ok(())).unwrap();
                past.clear();
                audit(&volume, seed);
            }
            91..=93 => {
                if volume.sync().unwrap() {
                    past.clear();
                }
            }
            94 => {
                if let Some(s) = snapshot(&mut rng) {
                    names += 1;
                    let name = format!("r{names}").into_bytes();
                    volume.rename_snapshot(s.id, &name).unwrap();
                    let moved = model.snapshots.remove(&s.name).unwrap();
                    model.snapshots.insert(name, moved);
                }
            }
            95 => {
                // Killed: everything that was written is there, flushed or not.
                readers.clear();
                drop(volume);
                volume = open(&sim);
                compare(&volume, &model, seed);
                past.clear();
                audit(&volume, seed);
            }
            96..=97 => {
                readers.clear();
                drop(volume);
                sim = Arc::new(sim.crash(CrashPolicy::Random(rng.u64(..))));
                volume = open(&sim);
                if past.is_empty() {
                    past.push(model);
                }
                model = find_prefix(&volume, &past, seed);
                past.clear();
                audit(&volume, seed);
            }
            98 => {
                if let Some(s) = snapshot(&mut rng) {
                    let view = volume.snapshot(s.id).unwrap();
                    readers.push((View::clone(&view), model.snapshots[&s.name].clone()));
                }
                readers.push((volume.head(head).unwrap(), model.heads[&head].clone()));
                readers.drain(..readers.len().saturating_sub(5));
            }
            _ => {
                compare(&volume, &model, seed);
                for (view, expected) in &readers {
                    assert!(
                        content(view) == *expected,
                        "seed {seed}: a reader of view {} differs",
                        view.id().0
                    );
                }
                let stay = rng.usize(..=readers.len());
                readers.truncate(stay);
            }
        }
    }
    readers.clear();
    compare(&volume, &model, seed);
    // Without snapshots and clones the space is what the live tree needs, whatever happened before.
    for head in model.heads.keys().filter(|h| **h != model.live) {
        volume.drop_head(*head).unwrap();
    }
    volume.snapshots().iter().for_each(|s| volume.delete_snapshot(s.id).unwrap());
    for _ in 0..6 {
        volume.commit(&mut |_| Ok(())).unwrap();
    }
    audit(&volume, seed);
    let state = volume.committed().unwrap();
    assert_eq!((state.records.len(), state.jobs.len()), (1, 0), "seed {seed}");
    let meta = (2 * state.space_map.len() as u64 + 8) * copies.node_bytes();
    let (used, live) = (volume.space().used, state.records[0].referenced);
    assert!(used <= live + meta, "seed {seed}: {used} bytes in use for {live} of live data");
}

#[test]
fn random_histories() {
    for seed in 0..150 {
        history(seed, 150);
    }
}

#[test]
fn long_history() {
    history(4711, 1500);
}
