//! Receiving over faults: a power cut at every write, each kind of failure at every call, and no space left. What is there
//! afterwards is all of it or nothing, and it goes on.

use super::stream_changes::some_change;
use super::streams::{same_tree, seen, store};
use super::*;
use crate::device::{CrashPolicy, Op, Persistence, Sim};
use crate::format::inode::Inode;
use crate::format::{Ino, Key, Kind, LineId};
use crate::fs::{ReceiveOrder, SendOrder, StreamError, parse_token};
use crate::volume::{Access, OpenOptions};
use std::ops::AddAssign;

/// A sender with two snapshots, and their streams: the first whole, the second as what differs.
fn sender() -> (T, Vec<u8>, Vec<u8>) {
    let (a, mut rng) = (store(1), fastrand::Rng::with_seed(3));
    (0..25).for_each(|_| some_change(&a, &mut rng));
    a.snapshot("one");
    (0..25).for_each(|_| some_change(&a, &mut rng));
    a.snapshot("two");
    let (one, two) = (a.send("one", None).0, a.send("two", Some("one")).0);
    (a, one, two)
}

fn opened(sim: &Arc<Sim>, cache_bytes: usize) -> T {
    let options = OpenOptions { access: Access::ReadWrite, cache_bytes };
    T::on(Volume::open(sim.clone(), options).unwrap(), FsOptions::default())
}

/// A receiver that has the first snapshot.
fn receiver(one: &[u8]) -> Arc<Sim> {
    let sim = Arc::new(Sim::new(1 << 30, 1));
    Volume::create(sim.clone(), 1 << 30, [2; 16], (0, 0)).unwrap();
    let t = opened(&sim, 4 << 20);
    t.receive(one).unwrap();
    t.fs.close().unwrap();
    Arc::new(sim.clone_image())
}

/// Sends the second snapshot again, from where the receiver is, until it is there.
fn finish(a: &T, b: &T) {
    let (snapshot, base) = (a.named("two"), a.named("one"));
    let resume = b.fs.arrivals().first().and_then(|arrival| parse_token(&arrival.token()));
    let order = SendOrder { snapshot: &snapshot, base: Some(&base), gone: None, resume };
    let mut stream = Vec::new();
    a.fs.send(&order, &mut stream, &mut |_| true).unwrap();
    let got = b.fs.receive(&mut &stream[..], &ReceiveOrder::default(), &mut |_, _| ()).unwrap();
    same_tree((a, &snapshot), (b, &got.snapshot), "at the end");
    assert!(b.fs.arrivals().is_empty());
}

/// All of the second snapshot is there, or nothing of it is to be seen.
fn all_or_nothing(a: &T, b: &T, what: &str) -> bool {
    let names: Vec<_> = b.fs.snapshots().into_iter().map(|s| s.name).collect();
    let live = seen(&b.fs.volume().live(LineId::MAIN).unwrap());
    let is_there = names.len() == 2;
    let wanted = if is_there { "two" } else { "one" };
    same_tree((a, &a.named(wanted)), (b, &b.named(wanted)), what);
    assert!(live == seen(&b.view_in(&b.named(wanted))), "{what}: the live tree is {wanted}");
    assert!(b.list(NodeId::clonedir(0)).is_empty(), "{what}");
    is_there
}

#[test]
fn a_power_cut_at_any_write_of_receiving_leaves_all_or_nothing() {
    let (a, one, two) = sender();
    let base = receiver(&one);
    let mut both = [false; 2];
    for n in 1.. {
        let sim = Arc::new(base.clone_image());
        let t = opened(&sim, 4 << 20);
        sim.set_crash_at(sim.changes() + n);
        let done = t.receive(&two).is_ok();
        let crashed = sim.is_crashed();
        for policy in [CrashPolicy::DropAll, CrashPolicy::KeepAll, CrashPolicy::Random(n)] {
            let b = opened(&Arc::new(sim.crash(policy)), 4 << 20);
            let what = format!("{n} {policy:?}");
            assert!(b.fs.volume().read_only_reason().is_none(), "{what}: {:?}", b.fs.recovered());
            let is_there = all_or_nothing(&a, &b, &what);
            assert!(is_there || !done, "{what}: it was answered");
            both[usize::from(is_there)] = true;
            if !is_there {
                finish(&a, &b);
            }
            b.fs.commit().unwrap();
            b.prove();
        }
        if !crashed {
            break;
        }
    }
    assert_eq!(both, [true; 2]);
}

#[test]
fn a_failure_of_any_call_while_receiving_leaves_all_or_nothing() {
    let (a, one, two) = sender();
    let base = receiver(&one);
    for op in [Op::Read, Op::Write, Op::Flush, Op::Back] {
        for n in 1.. {
            let sim = Arc::new(base.clone_image());
            let t = opened(&sim, 0);
            let struck = sim.faults_struck();
            sim.fail(op, n, Persistence::Once);
            let done = t.receive(&two);
            let has_struck = sim.faults_struck() > struck;
            let what = format!("{op:?} {n}: {done:?}");
            if !has_struck {
                assert!(done.is_ok(), "{what}");
                break;
            }
            let b = if t.fs.volume().is_read_only() {
                drop(t);
                opened(&Arc::new(sim.crash(CrashPolicy::KeepAll)), 4 << 20)
            } else {
                t
            };
            let is_there = all_or_nothing(&a, &b, &what);
            assert!(is_there || done.is_err(), "{what}");
            if !is_there {
                finish(&a, &b);
            }
            b.fs.commit().unwrap();
            b.prove();
        }
    }
}

#[test]
fn what_does_not_fit_leaves_nothing_but_what_waits() {
    let a = store(1);
    let mut rng = fastrand::Rng::with_seed(5);
    for n in 0..60 {
        let bytes: Vec<u8> = (0..1 << 20).map(|_| rng.u8(..)).collect();
        a.put(ROOT, &format!("f{n}"), &bytes);
    }
    a.snapshot("big");
    let (stream, _) = a.send("big", None);
    let sim = Arc::new(Sim::new(48 << 20, 1));
    Volume::create(sim.clone(), 48 << 20, [2; 16], (0, 0)).unwrap();
    let b = opened(&sim, 4 << 20);
    b.put(ROOT, "own", b"mine");
    assert!(matches!(b.receive(&stream), Err(StreamError::Failed(Error::NoSpace))));
    assert_eq!(b.list(ROOT), ["own"]);
    assert!(b.fs.snapshots().is_empty());
    let arrivals = b.fs.arrivals();
    assert!(arrivals.len() == 1 && arrivals[0].record.next > 5);
    b.fs.commit().unwrap();
    b.prove();
    assert!(b.fs.drop_arrival(arrivals[0].record.begin.stream()).unwrap());
    (0..20).for_each(|_| b.fs.tick().unwrap());
    assert!(b.fs.volume().space().free > 30 << 20, "{:?}", b.fs.volume().space());
    b.put(ROOT, "more", &vec![7; 8 << 20]);
    b.fs.commit().unwrap();
    b.prove();
}

/// Trees that no file system would make, sent by one that takes them for its own: what comes of them is refused if the auditor
/// finds anything in them, and taken if not.
#[test]
fn what_makes_no_sense_is_refused_whatever_its_checksums_say() {
    let mut rng = fastrand::Rng::with_seed(11);
    let (mut refused, mut taken) = (0, 0);
    for round in 0..400 {
        let a = store(1);
        (0..rng.usize(5..30)).for_each(|_| some_change(&a, &mut rng));
        a.snapshot("one");
        let b = store(2);
        b.receive(&a.send("one", None).0).unwrap();
        let volume = a.fs.volume();
        a.fs.commit().unwrap();
        let view = volume.live(LineId::MAIN).unwrap();
        let items: Vec<_> = view.range(&Key::MIN, &Key::MAX).map(|item| item.unwrap()).collect();
        let items: Vec<_> =
            items.into_iter().filter(|(key, v)| key.kind != Kind::Extent as u8 && !v.is_empty()).collect();
        {
            let mut txn = volume.begin(LineId::MAIN).unwrap();
            for _ in 0..rng.usize(1..3) {
                let (key, value) = &items[rng.usize(..items.len())];
                let mut value = value.to_vec();
                match rng.u8(0..4) {
                    0 => drop(txn.remove(key).unwrap()),
                    1 => {
                        let object = items[rng.usize(..items.len())].0.object;
                        txn.insert(Key { object, ..*key }, &value).unwrap();
                    }
                    _ => {
                        let at = rng.usize(..value.len());
                        value[at] = value[at].wrapping_add([1, 255, 16][rng.usize(..3)]);
                        if crate::format::item::prove(key, &value).is_ok() {
                            txn.insert(*key, &value).unwrap();
                        }
                    }
                }
            }
        }
        a.fs.commit().unwrap();
        let report = crate::check::check(volume, crate::check::Depth::Metadata).unwrap();
        let made = a.fs.create_snapshot(b"two", crate::fs::Reason::User);
        let Ok(_) = made else { continue };
        let (snapshot, base) = (a.named("two"), a.named("one"));
        let order = SendOrder { snapshot: &snapshot, base: Some(&base), gone: None, resume: None };
        let mut stream = Vec::new();
        if a.fs.send(&order, &mut stream, &mut |_| true).is_err() {
            continue;
        }
        let got = b.receive(&stream);
        // What is told does not carry all that may be wrong: what is taken is sound, whatever it came from.
        // Of the root more is asked here: a tree without one is that of a line that was never finished.
        let root = a.fs.volume().live(LineId::MAIN).unwrap().get(&Key::new(1, Kind::Inode, 0)).unwrap();
        let root = root.and_then(|item| Inode::decode(&item).ok());
        let is_rooted = root.is_some_and(|root| root.parent == Ino(1));
        assert!(got.is_ok() || !report.is_clean() || !is_rooted, "round {round}: {got:?}");
        (if got.is_ok() { &mut taken } else { &mut refused }).add_assign(1);
        if got.is_err() {
            assert_eq!(b.fs.snapshots().len(), 1);
        }
        b.fs.commit().unwrap();
        b.prove();
    }
    assert!(refused > 100 && taken > 5, "{refused} refused, {taken} taken");
}

/// How far something is has to be read to go on with it: when that fails it waits as before.
#[test]
fn a_read_that_fails_gives_up_nothing_of_what_has_come() {
    let a = store(1);
    let mut rng = fastrand::Rng::with_seed(5);
    let bytes: Vec<u8> = (0..4 << 20).map(|_| rng.u8(..)).collect();
    a.put(ROOT, "big", &bytes);
    a.snapshot("one");
    let one = a.send("one", None).0;
    let sim = Arc::new(Sim::new(1 << 30, 1));
    Volume::create(sim.clone(), 1 << 30, [2; 16], (0, 0)).unwrap();
    let t = opened(&sim, 4 << 20);
    assert!(t.receive(&one[..3 << 20]).is_err());
    let next = t.fs.arrivals()[0].record.next;
    assert!(next > 2);
    let resume = parse_token(&t.fs.arrivals()[0].token());
    t.fs.close().unwrap();
    let snapshot = a.named("one");
    let (order, mut rest) = (SendOrder { snapshot: &snapshot, base: None, gone: None, resume }, Vec::new());
    a.fs.send(&order, &mut rest, &mut |_| true).unwrap();
    let base = Arc::new(sim.clone_image());
    // A read that fails once is tried at another place.
    for persistence in [Persistence::Once, Persistence::Forever] {
        for n in 1.. {
            let sim = Arc::new(base.clone_image());
            let t = opened(&sim, 0);
            let struck = sim.faults_struck();
            sim.fail(Op::Read, n, persistence);
            let done = t.receive(&rest);
            if sim.faults_struck() == struck {
                assert!(done.is_ok(), "{n}: {done:?}");
                break;
            }
            drop(t);
            let b = opened(&Arc::new(sim.crash(CrashPolicy::KeepAll)), 4 << 20);
            let is_there = b.fs.snapshots().len() == 1;
            assert!(is_there || done.is_err(), "{n}");
            let waits = b.fs.arrivals().first().is_some_and(|arrival| arrival.record.next >= next);
            assert!(is_there || waits, "{n} {persistence:?}: {done:?}");
        }
    }
}
