//! Orders that a commit does not carry out, and who comes in between: nothing is left armed, marked or shut.

use super::tests::*;
use super::{Ordered, PurgeOrder};
use crate::device::Sim;
use crate::format::age::AgeRecord;
use crate::format::provenance::Provenance;
use crate::format::purge::PurgeRest;
use crate::format::{BlockAddr, Extent, Key, Kind, LineId};
use crate::volume::{Need, NewHold, NothingMoves, PlaceSet, ReserveFor, Result, Volume, VolumeError};
use std::sync::Arc;

/// Ready to be ordered: the secret in extents, in `s`.
fn ready(volume: &Volume) -> PurgeOrder {
    let view = of(volume, b"s");
    let mut places = PlaceSet::default();
    places.add(&view, &extent(&view, FILE).unwrap());
    let places = places.ranges();
    let known = volume.extra_references(&places);
    PurgeOrder { places, known, edited: vec![view.id()], secs: 9, ..PurgeOrder::default() }
}

fn ordered<'v>(volume: &'v Volume) -> NothingMoves<'v> {
    let held = volume.hold_content();
    volume.order_purge(&held, ready(volume)).unwrap();
    held
}

fn share_once(volume: &Volume, extent: &Extent) -> Result<()> {
    let mut txn = volume.begin(LineId::MAIN)?;
    txn.reserve(Need { items: 4, ..Need::default() }, ReserveFor::Write)?;
    let shared = txn.share(extent)?.remove(0);
    txn.insert(Key::new(50, Kind::Extent, 0), &shared.encode())
}

fn nothing_was_done(volume: &Volume) {
    is_whole(volume);
    clean(volume);
    assert!(!volume.has_purged_left());
    assert_eq!(volume.find_snapshot(LineId::MAIN, b"s").unwrap().edited, None);
}

/// What others came to share since it was planned is not taken from them.
#[test]
fn an_order_that_is_out_of_date_does_nothing() {
    let volume = open(Arc::new(made()));
    let extent = extent(&of(&volume, b"s"), FILE).unwrap();
    let order = ready(&volume);
    share_once(&volume, &extent).unwrap();
    let held = volume.hold_content();
    volume.order_purge(&held, order).unwrap();
    commit(&volume).unwrap();
    assert_eq!(volume.ordered(), Some(Ordered::Changed));
    nothing_was_done(&volume);
    share_once(&volume, &extent).unwrap();
}

/// What a purge has left to do stays noted until it is done itself, whatever else is ordered.
#[test]
fn what_is_left_of_a_purge_is_its_own() {
    let volume = open(Arc::new(made()));
    let held = volume.hold_content();
    let asked =
        |path: &[u8], all| PurgeRest { path: path.to_vec(), views: vec![of(&volume, b"s").id()], all };
    let order = |asked: Option<PurgeRest>, has_more| {
        let order = PurgeOrder { asked, has_more, secs: 9, ..PurgeOrder::default() };
        volume.order_purge(&held, order).unwrap();
        commit(&volume).unwrap();
        volume.ordered().unwrap()
    };
    let (one, two) = (asked(b"one", true), asked(b"two", true));
    assert_eq!(order(Some(one.clone()), true), Ordered::Held);
    assert_eq!(order(None, false), Ordered::Held);
    assert_eq!(order(Some(two.clone()), false), Ordered::Held);
    assert_eq!(order(Some(asked(b"one", false)), false), Ordered::Held, "what others have was to go, too");
    assert_eq!(order(Some(two), true), Ordered::Changed);
    assert_eq!(volume.purge_rest(), Some(one.clone()));
    let view = of(&volume, b"s").id();
    assert!(volume.delete_snapshot(LineId::MAIN, view).is_err(), "it is found from there");
    assert_eq!(order(Some(one), false), Ordered::Held);
    assert_eq!(volume.purge_rest(), None);
    volume.delete_snapshot(LineId::MAIN, view).unwrap();
}

/// The commit that was to carry it out could not begin: the next one does not.
#[test]
fn an_order_whose_commit_failed_is_not_carried_out_later() {
    let volume = open(Arc::new(made()));
    let _held = ordered(&volume);
    assert!(volume.commit(&mut |_| Err(VolumeError::NoSpace)).is_err());
    volume.cancel_purge();
    commit(&volume).unwrap();
    assert_eq!(volume.ordered(), None);
    nothing_was_done(&volume);
}

/// From the freeze on nobody comes to share what the commit takes away.
#[test]
fn nobody_shares_what_is_about_to_go() {
    let volume = open(Arc::new(made()));
    let extent = extent(&of(&volume, b"s"), FILE).unwrap();
    let _held = ordered(&volume);
    let mut session = volume.begin_commit().unwrap();
    session.freeze(&mut |_| Ok(())).unwrap();
    assert!(matches!(share_once(&volume, &extent), Err(VolumeError::Purged(_))));
    session.finish().unwrap();
    assert_eq!(volume.ordered(), Some(Ordered::Held));
    assert!(share_once(&volume, &extent).is_err());
    assert_eq!(volume.find_snapshot(LineId::MAIN, b"s").unwrap().edited, Some(9));
}

/// Somebody has put a hold on it since it was looked at.
#[test]
fn what_has_come_to_be_held_is_not_ordered() {
    let volume = open(Arc::new(made()));
    let held = volume.hold_content();
    let order = ready(&volume);
    let age = AgeRecord { secs: 0, at: 0 };
    let by = Provenance::default();
    let hold = NewHold { tag: "audit", since_secs: 1, age, after: None, by: &by };
    volume.hold_snapshot(LineId::MAIN, of(&volume, b"s").id(), &hold).unwrap();
    assert!(matches!(volume.order_purge(&held, order), Err(VolumeError::Held)));
    commit(&volume).unwrap();
    nothing_was_done(&volume);
}

/// Of two that had moved side by side, the last reference to one goes between the steps.
#[test]
fn a_place_that_would_stay_wiped_is_anybodys_once_nobody_refers_to_it() {
    let sim = Arc::new(Sim::with_fresh_content(SIZE, 1, 0));
    Volume::create(sim.clone(), SIZE, [1; 16], (0, 0)).unwrap();
    let volume = open(sim.clone());
    let files = [FILE, OTHER];
    files.iter().for_each(|ino| drop(put(&volume, *ino, &secret(4)).unwrap()));
    commit(&volume).unwrap();
    snapshot(&volume, b"r").unwrap();
    remove(&volume, OTHER).unwrap();
    snapshot(&volume, b"s").unwrap();
    remove(&volume, FILE).unwrap();
    commit(&volume).unwrap();
    let view = of(&volume, b"r");
    let both = files.map(|ino| extent(&view, ino).unwrap());
    volume.copy_out(&view, &both).unwrap();
    (0..2).for_each(|_| commit(&volume).unwrap());
    let mut places = PlaceSet::default();
    both.iter().for_each(|extent| places.add(&view, extent));
    assert!(places.ranges().len() == 1 && view.runs_of(&both[1])[0].0 != both[1].raw_addr.0);
    let (place, _) = view.runs_of(&both[1])[0];
    drop(view);
    assert_eq!(order(&volume, &[b"r"], &files).unwrap(), Ordered::Held);
    let first = volume.find_snapshot(LineId::MAIN, b"r").unwrap().id;
    volume.delete_snapshot(LineId::MAIN, first).unwrap();
    commit(&volume).unwrap();
    while volume.has_background_work() {
        commit(&volume).unwrap();
    }
    finish(&volume).unwrap();
    (0..3).for_each(|_| commit(&volume).unwrap());
    clean(&volume);
    let held: Vec<_> = volume.committed().unwrap().remap.purged.held().collect();
    assert!(matches!(held[..], [(_, held)] if held.wiped && held.len == 4 * 4096), "{held:?}");
    let (raw_addr, birth) = (BlockAddr(place), volume.epoch());
    let fresh = Extent { raw_addr, birth, len: 4096, crcs: vec![0], frame: None, home: None };
    assert!(!volume.shared.places.is_purged(&fresh));
    assert!(!volume.shared.store().rewrites().is_purged(place, 4 * 4096), "it is shut no more");
    assert!(read(&of(&volume, b"s"), FILE).is_err() && !has_secret(&*sim, &[0]));
}

/// Free space that had the secret, and was given to a file in advance.
#[test]
fn space_that_was_never_written_to_has_nothing_of_it() {
    let sim = Arc::new(made());
    let volume = open(sim.clone());
    let before: Vec<Extent> = (60..160).map(|n| put(&volume, n, &secret(32)).unwrap()).collect();
    commit(&volume).unwrap();
    (60..160).for_each(|n| remove(&volume, n).unwrap());
    (0..4).for_each(|_| commit(&volume).unwrap());
    for ino in 200.. {
        let staged = volume.stage_unwritten(128 << 10).unwrap();
        let mut txn = volume.begin(LineId::MAIN).unwrap();
        txn.reserve(Need { items: 64, ..Need::default() }, ReserveFor::Write).unwrap();
        let given = txn.publish(staged);
        for (n, extent) in (0..).zip(&given) {
            txn.insert(Key::new(ino, Kind::Extent, n << 20), &extent.encode()).unwrap();
        }
        drop(txn);
        let end = |e: &Extent| e.raw_addr.0 + e.len_bytes();
        let had = |e: &Extent| before.iter().any(|old| old.raw_addr.0 < end(e) && e.raw_addr.0 < end(old));
        if given.iter().any(had) {
            break;
        }
    }
    commit(&volume).unwrap();
    let view = of(&volume, b"s");
    // What has moved has given space as well.
    volume.copy_out(&view, &[extent(&view, OTHER).unwrap()]).unwrap();
    drop(view);
    assert_eq!(order(&volume, BOTH, &[FILE, SMALL]).unwrap(), Ordered::Held);
    volume.write_over_purged().unwrap();
    commit(&volume).unwrap();
    let wiped = wipe(&volume).unwrap();
    assert!(wiped.reserved >= 8 * 4096 && wiped.is_all(), "{wiped:?}");
    is_purged(&volume);
    assert!(!has_secret(&*sim, &[0]));
    clean(&volume);
}

/// What was deleted and is read when it is ordered nobody looks at; what is made and deleted later has nothing of it.
#[test]
fn only_what_was_deleted_before_is_waited_for() {
    let volume = open(Arc::new(made()));
    let deleted = |name: &[u8]| {
        let id = snapshot(&volume, name).unwrap();
        let reader = of(&volume, name);
        volume.delete_snapshot(LineId::MAIN, id).unwrap();
        commit(&volume).unwrap();
        reader
    };
    let before = deleted(b"before");
    assert_eq!(order(&volume, BOTH, &[FILE, SMALL]).unwrap(), Ordered::Held);
    let _later = deleted(b"later");
    volume.write_over_purged().unwrap();
    let wiped = wipe(&volume).unwrap();
    assert_eq!((wiped.read_snapshots, volume.has_purged_left(), volume.purge_goes_on()), (1, true, false));
    drop(before);
    (0..3).for_each(|_| commit(&volume).unwrap());
    assert!(volume.purge_goes_on());
    assert!(wipe(&volume).unwrap().is_all() && !volume.has_purged_left());
}
