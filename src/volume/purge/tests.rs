//! A secret in extents and in a leaf, purged; cut at every call, failing at every call, shared, moved, purged twice. Afterwards
//! the whole device is searched for it.

use super::{Ordered, PurgeOrder};
use crate::check::{self, Depth};
use crate::device::mirror::{NewSide, read_label, write_label};
use crate::device::{CrashPolicy, Device, Mirror, Op, Persistence, Sim};
use crate::fixtures::together_label;
use crate::format::provenance::Provenance;
use crate::format::purge::PURGED_INLINE;
use crate::format::view::Consistency;
use crate::format::{Extent, Key, Kind, LineId, ViewId};
use crate::volume::{
    Access, FillFrom, Need, NewSnapshot, NothingAbove, OpenOptions, PlaceSet, RINGS, ReserveFor, Result,
    View, Volume, VolumeError, WipedBytes,
};
use std::sync::Arc;

pub(super) const SIZE: u64 = 32 << 20;
/// In no other content.
const SECRET: &[u8; 16] = b"s3cr3t-0123-key!";
pub(super) const FILE: u64 = 16;
pub(super) const SMALL: u64 = 17;
pub(super) const NEIGHBOUR: u64 = 18;
pub(super) const OTHER: u64 = 19;

pub(super) fn open(device: Arc<dyn Device>) -> Arc<Volume> {
    let options = OpenOptions { access: Access::ReadWrite, cache_bytes: 1 << 20 };
    let volume = Volume::open(device, options).unwrap();
    assert_eq!(volume.recover(&mut NothingAbove).damage, None);
    volume
}

pub(super) fn commit(volume: &Volume) -> Result<()> {
    volume.commit(&mut |_| Ok(()))
}

pub(super) fn secret(blocks: usize) -> Vec<u8> {
    SECRET.repeat(blocks * 256)
}

pub(super) fn put(volume: &Volume, ino: u64, content: &[u8]) -> Result<Extent> {
    let key = Key::new(ino, Kind::Extent, 0);
    let staged = volume.stage(content)?;
    let mut txn = volume.begin(LineId::MAIN)?;
    txn.reserve(Need { items: 4, ..Need::default() }, ReserveFor::Write)?;
    if let Some(old) = txn.view().get(&key)?.map(|v| Extent::decode(&v).unwrap()) {
        txn.free(&old);
    }
    let extent = txn.publish(staged).remove(0);
    txn.insert(key, &extent.encode())?;
    Ok(extent)
}

pub(super) fn put_small(volume: &Volume, ino: u64, content: &[u8]) -> Result<()> {
    let mut txn = volume.begin(LineId::MAIN)?;
    txn.reserve(Need { items: 4, ..Need::default() }, ReserveFor::Write)?;
    txn.insert(Key::new(ino, Kind::Inline, 0), content)
}

pub(super) fn remove(volume: &Volume, ino: u64) -> Result<()> {
    let mut txn = volume.begin(LineId::MAIN)?;
    for kind in [Kind::Inline, Kind::Extent] {
        let key = Key::new(ino, kind, 0);
        let Some(value) = txn.view().get(&key)?.map(|v| v.to_vec()) else { continue };
        if kind == Kind::Extent {
            txn.free(&Extent::decode(&value).unwrap());
        }
        txn.remove(&key)?;
    }
    Ok(())
}

/// `cp --reflink`, `times` in one epoch.
pub(super) fn share(volume: &Volume, from: u64, to: u64, times: u64) {
    for n in 0..times {
        let mut txn = volume.begin(LineId::MAIN).unwrap();
        txn.reserve(Need { items: 4, ..Need::default() }, ReserveFor::Write).unwrap();
        let source = extent(txn.view(), from).unwrap();
        let shared = txn.share(&source).unwrap().remove(0);
        txn.insert(Key::new(to + n, Kind::Extent, 0), &shared.encode()).unwrap();
    }
}

pub(super) fn snapshot(volume: &Volume, name: &[u8]) -> Result<ViewId> {
    let new = NewSnapshot {
        name,
        created: (1, 2),
        consistency: Consistency::Crash,
        provenance: &Provenance::default(),
        pause_ns: &|| 1,
        identity: None,
    };
    Ok(volume.create_snapshot(LineId::MAIN, &new, &mut |_| Ok(()))?.0)
}

pub(super) fn extent(view: &View, ino: u64) -> Option<Extent> {
    let item = view.get(&Key::new(ino, Kind::Extent, 0)).unwrap();
    item.map(|value| Extent::decode(&value).unwrap())
}

pub(super) fn read(view: &View, ino: u64) -> Result<Vec<u8>> {
    let extent = extent(view, ino).unwrap();
    let mut out = vec![0; extent.len_bytes() as usize];
    view.read_extent(&extent, 0, &mut out).map(|()| out)
}

pub(super) fn small(view: &View, ino: u64) -> Vec<u8> {
    view.get(&Key::new(ino, Kind::Inline, 0)).unwrap().unwrap().to_vec()
}

pub(super) fn of(volume: &Volume, name: &[u8]) -> Arc<View> {
    volume.snapshot(volume.find_snapshot(LineId::MAIN, name).unwrap().id).unwrap()
}

pub(super) fn clean(volume: &Volume) {
    let report = check::check_space(volume, Depth::Data).unwrap();
    assert!(report.is_clean(), "{:#?}", report.problems);
}

/// Searches a device for the secret.
pub(super) fn has_secret(device: &dyn Device, sides: &[usize]) -> bool {
    let mut bytes = vec![0; 1 << 20];
    let zeros = vec![0; 4096];
    (0..device.size()).step_by(bytes.len()).any(|at| {
        sides.iter().any(|side| {
            device.read_side(*side, at, &mut bytes).unwrap();
            let blocks = bytes.chunks(4096).filter(|block| **block != zeros[..]);
            { blocks }.any(|block| block.windows(16).any(|found| found == SECRET))
        })
    })
}

/// The secret of these in some snapshots is to go.
pub(super) fn order(volume: &Volume, names: &[&[u8]], inodes: &[u64]) -> Result<Ordered> {
    let nothing_moves = volume.hold_content();
    while volume.is_moving() {
        commit(volume)?;
    }
    let (mut places, mut leaves) = (PlaceSet::default(), Vec::new());
    let mut edited = Vec::new();
    for name in names {
        let view = of(volume, name);
        edited.push(view.id());
        for ino in inodes {
            if let Some(extent) = extent(&view, *ino) {
                places.add(&view, &extent);
            }
            if let Some(place) = view.leaf_of(&Key::new(*ino, Kind::Inline, 0))? {
                let item = view.get(&Key::new(*ino, Kind::Inline, 0))?;
                let contents = [(*ino, item.iter().map(|item| item.to_vec()).collect())].into();
                leaves.extend(volume.leaf_without(&place, &contents)?);
            }
        }
    }
    let places = places.ranges();
    let known = volume.extra_references(&places);
    let order = PurgeOrder { places, known, leaves, edited, secs: 77, ..PurgeOrder::default() };
    volume.order_purge(&nothing_moves, order)?;
    commit(volume)?;
    Ok(volume.ordered().unwrap())
}

/// What no tree leads to.
pub(super) fn wipe(volume: &Volume) -> Result<WipedBytes> {
    let until = volume.epoch();
    (0..3).try_for_each(|_| commit(volume))?;
    let mut wiping = volume.begin_wiping(until)?;
    assert!(wiping.free(&mut |_| true)?);
    commit(volume)?;
    assert!(wiping.reserved(&mut |_| true)?);
    let wiped = wiping.end();
    commit(volume).map(|()| wiped)
}

/// What is left to do of a purge.
pub(super) fn finish(volume: &Volume) -> Result<()> {
    volume.write_over_purged()?;
    commit(volume)?;
    wipe(volume).map(drop)
}

/// A snapshot `s` with secrets, which the head does not have any more. A neighbour of the small one has changed since.
pub(super) fn made_on(device: Arc<dyn Device>) {
    Volume::create(device.clone(), SIZE, [1; 16], (0, 0)).unwrap();
    let volume = open(device);
    put(&volume, FILE, &secret(8)).unwrap();
    put_small(&volume, SMALL, SECRET).unwrap();
    put_small(&volume, NEIGHBOUR, b"one").unwrap();
    put(&volume, OTHER, &[5; 4096]).unwrap();
    commit(&volume).unwrap();
    snapshot(&volume, b"r").unwrap();
    put_small(&volume, NEIGHBOUR, b"two").unwrap();
    snapshot(&volume, b"s").unwrap();
    remove(&volume, FILE).unwrap();
    remove(&volume, SMALL).unwrap();
    commit(&volume).unwrap();
}

pub(super) fn made() -> Sim {
    let sim = Arc::new(Sim::with_fresh_content(SIZE, 1, 0));
    made_on(sim.clone());
    sim.clone_image()
}

pub(super) fn is_purged(volume: &Volume) {
    for (name, neighbour) in [(b"r", b"one"), (b"s", b"two")] {
        let view = of(volume, name);
        assert!(matches!(read(&view, FILE), Err(VolumeError::Purged(_))));
        assert_eq!(small(&view, SMALL), PURGED_INLINE);
        assert_eq!(small(&view, NEIGHBOUR), neighbour);
        assert!(read(&view, OTHER).unwrap() == [5; 4096]);
        assert_eq!(volume.find_snapshot(LineId::MAIN, name).unwrap().edited, Some(77));
    }
    assert_eq!(small(&volume.live(LineId::MAIN).unwrap(), NEIGHBOUR), b"two");
}

pub(super) fn is_whole(volume: &Volume) {
    for name in [b"r", b"s"] {
        assert!(read(&of(volume, name), FILE).unwrap() == secret(8));
        assert_eq!(small(&of(volume, name), SMALL), SECRET);
    }
}

/// Everything goes, and with the last reference what tells of it.
fn end(volume: &Volume) {
    for name in [b"s", b"r"] {
        volume.delete_snapshot(LineId::MAIN, volume.find_snapshot(LineId::MAIN, name).unwrap().id).unwrap();
        commit(volume).unwrap();
        clean(volume);
    }
    while volume.has_background_work() {
        commit(volume).unwrap();
    }
    commit(volume).unwrap();
    clean(volume);
    let state = volume.committed().unwrap();
    assert!(state.remap.purged.is_empty() && state.leaves.is_empty());
}

pub(super) const BOTH: &[&[u8]] = &[b"r", b"s"];

pub(super) fn story(volume: &Volume) -> Result<()> {
    assert_eq!(order(volume, BOTH, &[FILE, SMALL])?, Ordered::Held);
    is_purged(volume);
    clean(volume);
    finish(volume)
}

#[test]
fn a_secret_is_nowhere_afterwards() {
    let sim = Arc::new(made());
    assert!(has_secret(&*sim, &[0]));
    let volume = open(sim.clone());
    let counted = volume.find_snapshot(LineId::MAIN, b"s").unwrap().referenced;
    let place = extent(&of(&volume, b"s"), FILE).unwrap().raw_addr.0;
    story(&volume).unwrap();
    is_purged(&volume);
    clean(&volume);
    assert!(!has_secret(&*sim, &[0]));
    assert_eq!(volume.damage().bad, 0);
    let free = volume.shared.store().not_allocated(vec![(place, 8 * 4096)]);
    assert!(free.is_some(), "the space is back");
    assert_eq!(volume.find_snapshot(LineId::MAIN, b"s").unwrap().referenced, counted, "as references count");
    (0..3).for_each(|_| commit(&volume).unwrap());
    assert!(!volume.committed().unwrap().leaves.is_empty());
    assert!(!volume.shared.store().rewrites().is_purged(0, SIZE), "leaves and places are anybody's again");
    drop(volume);
    let volume = open(sim.clone());
    is_purged(&volume);
    clean(&volume);
    end(&volume);
}

#[test]
fn a_cut_at_any_call_leaves_all_or_nothing_and_goes_on() {
    let made = made();
    for cut in 1.. {
        let sim = Arc::new(made.clone_image());
        let volume = open(sim.clone());
        sim.set_crash_at(sim.changes() + cut);
        let done = story(&volume);
        drop(volume);
        for policy in [CrashPolicy::DropAll, CrashPolicy::KeepAll, CrashPolicy::Random(cut)] {
            let after = Arc::new(sim.crash(policy));
            let volume = open(after.clone());
            clean(&volume);
            let was_held = volume.find_snapshot(LineId::MAIN, b"s").unwrap().edited.is_some();
            if was_held {
                is_purged(&volume);
                if volume.has_purged_left() {
                    finish(&volume).unwrap();
                }
            } else {
                is_whole(&volume);
                story(&volume).unwrap();
            }
            is_purged(&volume);
            clean(&volume);
            assert!(!volume.has_purged_left());
            assert!(!has_secret(&*after, &[0]), "cut {cut} {policy:?}");
            if cut % 8 == 0 {
                end(&volume);
            }
        }
        if done.is_ok() {
            break;
        }
    }
}

#[test]
fn a_failure_at_any_call_brings_nothing_back() {
    let made = made();
    for op in [Op::Write, Op::Flush] {
        for nth in 1.. {
            let sim = Arc::new(made.clone_image());
            let volume = open(sim.clone());
            sim.fail(op, nth, Persistence::Once);
            let done = story(&volume);
            drop(volume);
            let struck = sim.faults_struck() > 0;
            assert_eq!(done.is_err(), struck, "{op:?} {nth}: {done:?}");
            let volume = open(Arc::new(sim.clone_image()));
            clean(&volume);
            match volume.find_snapshot(LineId::MAIN, b"s").unwrap().edited {
                Some(_) => is_purged(&volume),
                None => is_whole(&volume),
            }
            if !struck {
                break;
            }
        }
    }
}

/// Equal references, of one epoch and of several, and a part of them gone by the time.
#[test]
fn references_to_one_place_go_one_by_one() {
    let sim = Arc::new(Sim::with_fresh_content(SIZE, 1, 0));
    Volume::create(sim.clone(), SIZE, [1; 16], (0, 0)).unwrap();
    let volume = open(sim.clone());
    put(&volume, FILE, &secret(8)).unwrap();
    share(&volume, FILE, 30, 3);
    commit(&volume).unwrap();
    share(&volume, 30, 40, 2);
    snapshot(&volume, b"s").unwrap();
    remove(&volume, 31).unwrap();
    commit(&volume).unwrap();
    let place = extent(&of(&volume, b"s"), FILE).unwrap().raw_addr.0;
    assert_eq!(order(&volume, &[b"s"], &[FILE]).unwrap(), Ordered::Held);
    // While it is held, one of them goes.
    remove(&volume, 40).unwrap();
    commit(&volume).unwrap();
    clean(&volume);
    let live = volume.live(LineId::MAIN).unwrap();
    assert!(matches!(read(&live, 32), Err(VolumeError::Purged(_))), "shared, so it is gone there too");
    assert!(volume.begin(LineId::MAIN).unwrap().share(&extent(&live, 32).unwrap()).is_err());
    drop(live);
    finish(&volume).unwrap();
    clean(&volume);
    assert!(!has_secret(&*sim, &[0]));
    // The place is somebody else's, and purged again.
    let mut filled = Vec::new();
    for n in 100.. {
        let got = put(&volume, n, &secret(8)).unwrap();
        filled.push(n);
        if got.raw_addr.0 <= place && place < got.raw_addr.0 + got.len_bytes() {
            break;
        }
        commit(&volume).unwrap();
    }
    let last = *filled.last().unwrap();
    assert!(read(&volume.live(LineId::MAIN).unwrap(), last).unwrap() == secret(8));
    snapshot(&volume, b"t").unwrap();
    filled.iter().for_each(|n| remove(&volume, *n).unwrap());
    commit(&volume).unwrap();
    // Whoever had what was purged before has nothing of what is there now.
    let (mut places, now, before) = (PlaceSet::default(), of(&volume, b"t"), of(&volume, b"s"));
    filled.iter().for_each(|n| places.add(&now, &extent(&now, *n).unwrap()));
    assert!(places.has_some_of(&now, &extent(&now, last).unwrap()));
    assert!(!places.has_some_of(&before, &extent(&before, FILE).unwrap()));
    let found = volume.inodes_at(&places).unwrap();
    assert!(found.iter().all(|(_, ino)| filled.contains(&ino.0)) && !found.is_empty(), "{found:?}");
    drop((now, before));
    assert_eq!(order(&volume, &[b"t"], &filled).unwrap(), Ordered::Held);
    finish(&volume).unwrap();
    clean(&volume);
    assert!(!has_secret(&*sim, &[0]));
    let held: Vec<_> = volume.committed().unwrap().remap.purged.held().collect();
    assert!(held.iter().all(|(_, held)| held.wiped) && !held.is_empty(), "it stays until it is let go of");
    for ino in [FILE, 30, 32, 41] {
        remove(&volume, ino).unwrap();
        commit(&volume).unwrap();
        clean(&volume);
    }
    for name in [b"t", b"s"] {
        volume.delete_snapshot(LineId::MAIN, volume.find_snapshot(LineId::MAIN, name).unwrap().id).unwrap();
        (0..3).for_each(|_| commit(&volume).unwrap());
        clean(&volume);
    }
    while volume.has_background_work() {
        commit(&volume).unwrap();
    }
    assert!(volume.committed().unwrap().remap.purged.is_empty());
}

/// A part of a file was purged by way of another, which shared it: the rest is proved, and goes when it is asked for.
#[test]
fn the_rest_of_what_was_purged_in_part_goes_too() {
    for moved in [false, true] {
        let sim = Arc::new(Sim::with_fresh_content(SIZE, 1, 0));
        Volume::create(sim.clone(), SIZE, [1; 16], (0, 0)).unwrap();
        let volume = open(sim.clone());
        put(&volume, FILE, &secret(8)).unwrap();
        let mut txn = volume.begin(LineId::MAIN).unwrap();
        txn.reserve(Need { items: 4, ..Need::default() }, ReserveFor::Write).unwrap();
        let part = extent(txn.view(), FILE).unwrap().slice(8192, 8192);
        let shared = txn.share(&part).unwrap().remove(0);
        txn.insert(Key::new(OTHER, Kind::Extent, 0), &shared.encode()).unwrap();
        drop(txn);
        snapshot(&volume, b"s").unwrap();
        [FILE, OTHER].iter().for_each(|ino| remove(&volume, *ino).unwrap());
        commit(&volume).unwrap();
        let view = of(&volume, b"s");
        let whole = extent(&view, FILE).unwrap();
        if moved {
            volume.copy_out(&view, &[whole.slice(0, 4096)]).unwrap();
        }
        drop(view);
        assert_eq!(order(&volume, &[b"s"], &[OTHER]).unwrap(), Ordered::Held);
        finish(&volume).unwrap();
        clean(&volume);
        let view = of(&volume, b"s");
        let mut out = vec![0; 16384];
        view.read_extent(&whole, 16384, &mut out).unwrap();
        assert!(out == secret(4) && read(&view, FILE).is_err() && has_secret(&*sim, &[0]));
        // A check finds damage in the rest.
        let at = view.runs_of(&whole).last().unwrap().1 - 4096;
        let good = sim.peek(at, 4096);
        sim.corrupt(at, 4096, 1);
        assert!(!check::check_space(&volume, Depth::Data).unwrap().is_clean());
        sim.write_at(at, &good).unwrap();
        drop(view);
        clean(&volume);
        assert_eq!(order(&volume, &[b"s"], &[FILE]).unwrap(), Ordered::Held);
        assert!(read(&of(&volume, b"s"), FILE).is_err());
        finish(&volume).unwrap();
        clean(&volume);
        assert!(!has_secret(&*sim, &[0]));
        volume.delete_snapshot(LineId::MAIN, volume.find_snapshot(LineId::MAIN, b"s").unwrap().id).unwrap();
        (0..3).for_each(|_| commit(&volume).unwrap());
        while volume.has_background_work() {
            commit(&volume).unwrap();
        }
        commit(&volume).unwrap();
        clean(&volume);
        assert!(volume.committed().unwrap().remap.purged.is_empty());
    }
}

#[test]
fn what_has_moved_is_wiped_where_it_is() {
    let sim = Arc::new(made());
    let volume = open(sim.clone());
    let view = of(&volume, b"s");
    let old = extent(&view, FILE).unwrap();
    volume.copy_out(&view, &[old.slice(4096, 3 * 4096)]).unwrap();
    commit(&volume).unwrap();
    drop(view);
    story(&volume).unwrap();
    is_purged(&volume);
    clean(&volume);
    assert!(!has_secret(&*sim, &[0]));
    end(&volume);
}

#[test]
fn both_sides_of_a_mirror_lose_it_though_one_is_away() {
    let sims = [1, 2].map(|n| Arc::new(Sim::with_fresh_content(SIZE, n, 0)));
    for (sim, side) in sims.iter().zip([1, 2]) {
        write_label(&**sim, &together_label(side)).unwrap();
    }
    let [a, b] = sims.clone();
    let both = Arc::new(Mirror::together([(a, together_label(1)), (b, together_label(2))], 7));
    let mirror: Arc<dyn Device> = both.clone();
    made_on(mirror.clone());
    {
        let volume = open(mirror.clone());
        volume.set_mirrored(true).unwrap();
        commit(&volume).unwrap();
    }
    let volume = open(mirror.clone());
    assert!(sims.iter().all(|sim| has_secret(&**sim, &[0])));
    // The one is lost while the other is written over.
    assert_eq!(order(&volume, BOTH, &[FILE, SMALL]).unwrap(), Ordered::Held);
    sims[1].fail(Op::Write, 1, Persistence::Once);
    volume.write_over_purged().unwrap();
    commit(&volume).unwrap();
    let wiped = wipe(&volume).unwrap();
    assert!(wiped.lacks_a_side && !wiped.is_all());
    is_purged(&volume);
    assert!(!has_secret(&*sims[0], &[0]) && has_secret(&*sims[1], &[0]));
    assert!(volume.has_purged_left() && !volume.purge_goes_on(), "not without the other side");
    // It comes back, and gets what is in use.
    while both.states()[1].as_ref().is_some_and(|side| side.pending_calls > 0) {
        std::thread::yield_now();
    }
    assert!(both.forget_lost());
    let (ours, theirs) = (both.label().unwrap(), read_label(&*sims[1]).unwrap().unwrap());
    let from = FillFrom::of_side(sims[1].clone(), &ours, &theirs, both.reached_epoch());
    let limit = std::time::Duration::from_secs(600);
    let device: Arc<dyn Device> = sims[1].clone();
    both.join(NewSide { device, path: Vec::new(), partner_path: Vec::new(), limit }, &RINGS).unwrap();
    assert!(volume.wipe_when_filled());
    commit(&volume).unwrap();
    assert!(!volume.purge_goes_on(), "it is not there yet");
    volume.fill(&both, &from, &mut |_| std::ops::ControlFlow::Continue(())).unwrap();
    assert!(has_secret(&*sims[1], &[0]), "in free space, which nobody copies to");
    assert!(volume.purge_goes_on());
    assert!(wipe(&volume).unwrap().is_all() && !volume.has_purged_left());
    is_purged(&volume);
    clean(&volume);
    assert!(!sims.iter().any(|sim| has_secret(&**sim, &[0])));
}

type Files = std::collections::BTreeMap<u64, Option<Vec<u8>>>;

/// What a view must have: none where it was purged.
fn agrees(view: &View, files: &Files) {
    for (ino, content) in files {
        match (read(view, *ino), content) {
            (Ok(found), Some(wanted)) => assert!(found == *wanted, "{ino}"),
            (Err(VolumeError::Purged(_)), None) => {}
            (found, wanted) => panic!("{ino}: {:?}, {}", found.map(|_| ()), wanted.is_some()),
        }
    }
}

/// Files, copies, snapshots, deletions and purges at random; each commit is audited, which counts all space, lists and counters
/// anew.
#[test]
fn random_histories_with_purges() {
    for seed in 0..30 {
        let mut rng = fastrand::Rng::with_seed(seed);
        let sim = Arc::new(Sim::with_fresh_content(SIZE, seed, 0));
        Volume::create(sim.clone(), SIZE, [1; 16], (0, 0)).unwrap();
        let mut volume = open(sim.clone());
        let (mut live, mut snapshots): (Files, Vec<(Vec<u8>, Files)>) = Default::default();
        for step in 0..80u64 {
            let ino = rng.u64(100..108);
            match rng.u8(..12) {
                0..=3 => {
                    let content = vec![rng.u8(1..); 4096 * rng.usize(1..9)];
                    put(&volume, ino, &content).unwrap();
                    live.insert(ino, Some(content));
                }
                4 | 5 => {
                    let from = rng.u64(100..108);
                    let Some(Some(content)) = live.get(&from).cloned() else { continue };
                    if live.contains_key(&ino) {
                        continue;
                    }
                    share(&volume, from, ino, 1);
                    live.insert(ino, Some(content));
                }
                6 if live.remove(&ino).is_some() => remove(&volume, ino).unwrap(),
                7 | 8 => {
                    let name = format!("s{step}").into_bytes();
                    snapshot(&volume, &name).unwrap();
                    snapshots.push((name, live.clone()));
                }
                9 if !snapshots.is_empty() => {
                    let (name, _) = snapshots.remove(rng.usize(..snapshots.len()));
                    let found = volume.find_snapshot(LineId::MAIN, &name).unwrap().id;
                    volume.delete_snapshot(LineId::MAIN, found).unwrap();
                }
                10 if !snapshots.is_empty() => {
                    let (name, files) = &snapshots[rng.usize(..snapshots.len())];
                    let Some((ino, Some(_))) = files.iter().nth(rng.usize(..8)) else { continue };
                    let (name, ino) = (name.clone(), *ino);
                    let view = of(&volume, &name);
                    if rng.bool() {
                        volume.copy_out(&view, &[extent(&view, ino).unwrap()]).unwrap();
                    }
                    (0..rng.u8(..3)).for_each(|_| commit(&volume).unwrap());
                    drop(view);
                    let nothing_moves = volume.hold_content();
                    commit(&volume).unwrap();
                    while volume.is_moving() {
                        commit(&volume).unwrap();
                    }
                    let view = of(&volume, &name);
                    let mut places = PlaceSet::default();
                    places.add(&view, &extent(&view, ino).unwrap());
                    let all = snapshots.iter_mut().map(|(name, files)| (of(&volume, name), files));
                    let head = (Arc::new(volume.live(LineId::MAIN).unwrap()), &mut live);
                    for (view, files) in all.chain([head]) {
                        for (ino, content) in files.iter_mut() {
                            if places.has_some_of(&view, &extent(&view, *ino).unwrap()) {
                                *content = None;
                            }
                        }
                    }
                    let ranges = places.ranges();
                    let known = volume.extra_references(&ranges);
                    let order = PurgeOrder { places: ranges, known, secs: 1, ..PurgeOrder::default() };
                    drop(view);
                    volume.order_purge(&nothing_moves, order).unwrap();
                    commit(&volume).unwrap();
                    assert_eq!(volume.ordered(), Some(Ordered::Held), "seed {seed}");
                    drop(nothing_moves);
                    if rng.bool() {
                        volume.write_over_purged().unwrap();
                    }
                }
                _ => {
                    volume.write_over_purged().unwrap();
                    commit(&volume).unwrap();
                    clean(&volume);
                    if rng.u8(..4) == 0 {
                        drop(volume);
                        volume = open(sim.clone());
                        commit(&volume).unwrap();
                    }
                }
            }
            agrees(&volume.live(LineId::MAIN).unwrap(), &live);
            snapshots.iter().for_each(|(name, files)| agrees(&of(&volume, name), files));
        }
        live.keys().for_each(|ino| remove(&volume, *ino).unwrap());
        for (name, _) in &snapshots {
            let found = volume.find_snapshot(LineId::MAIN, name).unwrap().id;
            volume.delete_snapshot(LineId::MAIN, found).unwrap();
        }
        commit(&volume).unwrap();
        while volume.has_background_work() {
            commit(&volume).unwrap();
        }
        volume.write_over_purged().unwrap();
        (0..2).for_each(|_| commit(&volume).unwrap());
        clean(&volume);
        let state = volume.committed().unwrap();
        assert!(state.remap.purged.is_empty(), "seed {seed}: {:?}", state.remap.purged);
    }
}
