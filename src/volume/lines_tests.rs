//! What several lines of a volume have to do with each other, and what there is only so much of: names, slots, generations,
//! space that is held back, and the log.

use super::tests::{SIZE, audit, content, new_snapshot, open, put};
use super::*;
use crate::device::{CrashPolicy, Sim};
use crate::format::provenance::Provenance;
use crate::format::{Copies, Generation, LineId, Slot};
use std::sync::Arc;

/// What is held back for each line comes in at one instant, and so is in one commit: at every place where it is cut
/// off all of it is there, or none.
#[test]
fn a_commit_is_of_all_lines() {
    let made = Arc::new(Sim::new(SIZE, 1));
    Volume::create(made.clone(), SIZE, [1; 16], (0, 0)).unwrap();
    let lines = {
        let volume = open(&made);
        let from = new_snapshot(&volume, LineId::MAIN, b"s").unwrap();
        let mut lines = vec![LineId::MAIN];
        lines.extend(
            [&b"a"[..], b"b"]
                .map(|name| volume.create_line(name, from, (0, 0), &Provenance::default()).unwrap().id),
        );
        volume.commit(&mut |_| Ok(())).unwrap();
        lines
    };
    let mut all = 0;
    for cut in 1.. {
        let sim = Arc::new(made.clone_image());
        let options = OpenOptions { access: Access::ReadWrite, cache_bytes: 1 << 20 };
        let volume = Volume::open(sim.clone(), options).unwrap();
        volume.recover(&mut NothingAbove);
        sim.set_crash_at(sim.changes() + cut);
        // The first commit of a session: the log has nothing of it.
        let done = volume.commit(&mut |txn| {
            for line in &lines {
                txn.switch_to(*line)?;
                assert_eq!(txn.line(), *line);
                put(txn, 20 + line.0, b"held");
            }
            Ok(())
        });
        drop(volume);
        let volume = open(&Arc::new(sim.crash(CrashPolicy::Random(cut))));
        let held = |line: &&LineId| content(&volume.live(**line).unwrap()).contains_key(&(20 + line.0));
        let held = lines.iter().filter(held).count();
        assert!(held == 0 || held == lines.len(), "cut {cut}: {held} of {} lines", lines.len());
        audit(&volume, cut);
        all += usize::from(held > 0);
        if done.is_ok() {
            assert_eq!(held, lines.len());
            break;
        }
    }
    assert!(all >= 1);
}

/// A line that was made from one that is gone, and of which something was brought elsewhere.
#[test]
fn a_line_that_goes_is_compared_with_nothing_any_more() {
    let sim = Arc::new(Sim::new(SIZE, 2));
    Volume::create_with(sim.clone(), SIZE, [2; 16], (0, 0), Copies::Two).unwrap();
    let volume = open(&sim);
    let clone = |from: LineId, name: &[u8]| {
        volume.clone_line(from, name, (3, 4), &Provenance::default(), &mut |_| Ok(())).unwrap().0.id
    };
    // Nothing of its past is of another line.
    let why = Provenance::default();
    let first = volume
        .begin_receiving(b"first", None, (0, 0), crate::format::terms::Terms::default(), &why)
        .unwrap()
        .id;
    let second = clone(first, b"second");
    volume.drop_line(first).unwrap();
    put(&mut volume.begin(second).unwrap(), 20, b"own");
    let point = volume.nameless_point(second, (0, 0)).unwrap();
    volume.set_base(second, Some(&point)).unwrap();
    drop(point);
    put(&mut volume.begin(second).unwrap(), 20, b"newer");
    volume.drop_line(second).unwrap();
    drop(volume);
    let volume = open(&sim);
    assert_eq!(volume.lines().len(), 1);
    audit(&volume, 2);
}

#[test]
fn names_of_a_line_include_those_from_its_origin() {
    let volume = Volume::memory(SIZE);
    let main = LineId::MAIN;
    let first = new_snapshot(&volume, main, b"first").unwrap();
    let second = new_snapshot(&volume, main, b"second").unwrap();
    new_snapshot(&volume, main, b"third").unwrap();
    let line = volume.create_line(b"clone", second, (0, 0), &Provenance::default()).unwrap().id;
    let names = |line| volume.snapshots(line).into_iter().map(|s| s.name).collect::<Vec<_>>();
    assert_eq!(names(line), [&b"first"[..], b"second"]);
    assert!(matches!(new_snapshot(&volume, line, b"first"), Err(VolumeError::NameTaken)));
    let own = new_snapshot(&volume, line, b"third").unwrap();
    assert_eq!(names(line), [&b"first"[..], b"second", b"third"]);
    assert_eq!(volume.find_snapshot(line, b"third").unwrap().id, own);
    assert_ne!(volume.find_snapshot(main, b"third").unwrap().id, own);
    // Through the line that it is not of, and to a name that an heir has given.
    assert!(matches!(volume.rename_snapshot(line, first, b"x"), Err(VolumeError::Inherited)));
    assert!(matches!(volume.delete_snapshot(line, first), Err(VolumeError::Inherited)));
    new_snapshot(&volume, line, b"heir's").unwrap();
    assert!(matches!(volume.rename_snapshot(main, first, b"heir's"), Err(VolumeError::NameTaken)));
    volume.rename_snapshot(main, first, b"1st").unwrap();
    assert_eq!(names(line)[0], b"1st");
    // The origin goes, and what was below it stays.
    volume.delete_snapshot(main, second).unwrap();
    (0..3).for_each(|_| volume.commit(&mut |_| Ok(())).unwrap());
    volume.delete_snapshot(line, own).unwrap();
    assert!(matches!(
        volume.create_line(b"clone", first, (0, 0), &Provenance::default()),
        Err(VolumeError::NameTaken)
    ));
    assert!(matches!(volume.drop_line(main), Err(VolumeError::NoSuchView)));
    assert_eq!(names(line), [&b"1st"[..], b"heir's"]);
    audit(&volume, 0);
}

/// Nothing is half-made when there is no slot or generation.
#[test]
fn without_a_slot_nothing_is_made() {
    let volume = Volume::memory(SIZE);
    let main = LineId::MAIN;
    let id = new_snapshot(&volume, main, b"s").unwrap();
    volume.commit(&mut |_| Ok(())).unwrap();
    let before = (volume.snapshots(main), volume.lines(), volume.epoch());
    let refused = || {
        let full = |e| matches!(e, VolumeError::LimitReached(_));
        assert!(new_snapshot(&volume, main, b"t").is_err_and(full));
        assert!(volume.check_numbers_for_two().is_err_and(full));
        assert!(volume.create_line(b"c", id, (0, 0), &Provenance::default()).is_err_and(full));
        assert_eq!((volume.snapshots(main), volume.lines(), volume.epoch()), before);
        assert!(!volume.needs_commit());
    };
    volume.check_numbers_for_two().unwrap();
    let taken: Vec<Slot> = {
        let mut state = volume.state.write();
        std::iter::from_fn(|| {
            let slot = state.lines.slots.find()?;
            state.lines.slots.take(slot).then_some(slot)
        })
        .collect()
    };
    refused();
    let epoch = volume.epoch();
    {
        let mut state = volume.state.write();
        state.lines.slots.leave(taken[0], None, epoch);
        state.lines.slots.release(epoch, None, |_| false, |_| false);
    }
    assert!(volume.check_numbers_for_two().is_err(), "one is not enough");
    assert!(volume.state.write().lines.slots.take(taken[0]));
    {
        let mut state = volume.state.write();
        taken.iter().for_each(|slot| state.lines.slots.leave(*slot, None, epoch));
        state.lines.slots.release(epoch, None, |_| false, |_| false);
        state.lines.slots.use_generation(Generation(u32::MAX));
    }
    refused();
    assert!(volume.rollback(main, id, (0, 0)).is_err_and(|e| matches!(e, VolumeError::LimitReached(_))));
    audit(&volume, 0);
}

/// What each line holds back has its own space: another line that holds as much needs as much.
#[test]
fn what_lines_hold_back_adds_up() {
    let volume = Volume::memory(SIZE);
    let main = LineId::MAIN;
    let from = (0..9).map(|n| new_snapshot(&volume, main, &[b'a' + n]).unwrap()).next_back().unwrap();
    let line = volume.create_line(b"clone", from, (0, 0), &Provenance::default()).unwrap().id;
    let need = Need { data_bytes: 20 * 4096, leaves: 3, later: 5, ..Need::default() };
    let mut txn = volume.begin(main).unwrap();
    let mut held = vec![volume.budget_bytes(txn.state_mut())];
    for line in [main, line, main] {
        txn.switch_to(line).unwrap();
        txn.reserve(need, ReserveFor::Write).unwrap();
        held.push(volume.budget_bytes(txn.state_mut()));
    }
    let added: Vec<u64> = held.windows(2).map(|w| w[1] - w[0]).collect();
    assert_eq!(added[0], added[1], "buckets and the way to orphans are those of a line");
    assert!(added[2] < added[0], "of one line they are counted once");
}

/// Whoever logs something while a commit is under way takes the record that begins the log along.
#[test]
fn the_beginning_of_the_log_costs_nothing_beside_another_record() {
    let cost = |meanwhile: u64| {
        let sim = Arc::new(Sim::new(SIZE, 1));
        Volume::create(sim.clone(), SIZE, [1; 16], (0, 0)).unwrap();
        let volume = open(&sim);
        let change = |object| put(&mut volume.begin(LineId::MAIN).unwrap(), object, b"value");
        change(20);
        let mut session = volume.begin_commit().unwrap();
        session.freeze(&mut |_| Ok(())).unwrap();
        let before = volume.io();
        (0..meanwhile).for_each(|n| change(21 + n));
        session.finish().unwrap();
        let io = volume.io() - before;
        change(30);
        volume.sync().unwrap();
        let expected = content(&volume.live(LineId::MAIN).unwrap());
        for policy in [CrashPolicy::DropAll, CrashPolicy::KeepAll] {
            let again = open(&Arc::new(sim.crash(policy)));
            assert_eq!(content(&again.live(LineId::MAIN).unwrap()), expected);
        }
        (io.writes, io.written_bytes, io.flushes)
    };
    assert_eq!(cost(0), cost(1));
}
