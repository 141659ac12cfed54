//! What readers keep, what a full and fragmented store still does, and what fails half-way.

use super::*;
use crate::device::{Op, Sim};
use crate::format::age::AgeRecord;
use crate::format::provenance::Provenance;
use crate::format::view::Consistency;
use crate::format::{BLOCK_BYTES, Extent, Key, Kind, LineId, ViewId};
use crate::store::Alloc;
use std::sync::Arc;

fn key(object: u64) -> Key {
    Key::new(object, Kind::Extent, 0)
}

fn put(volume: &Volume, object: u64, data: &[u8]) -> Result<()> {
    let staged = volume.stage(data)?;
    let mut txn = volume.begin(LineId::MAIN).unwrap();
    txn.reserve(Need { items: 2, ..Need::default() }, ReserveFor::Write)?;
    let old = txn.view().get(&key(object))?.map(|v| Extent::decode(&v).unwrap());
    for (i, extent) in txn.publish(staged).into_iter().enumerate() {
        if i == 0 { txn.insert(key(object), &extent.encode())? } else { txn.free(&extent) }
    }
    old.iter().for_each(|old| txn.free(old));
    Ok(())
}

fn take(volume: &Volume, object: u64) -> Result<()> {
    let mut txn = volume.begin(LineId::MAIN).unwrap();
    txn.reserve(Need { items: 1, ..Need::default() }, ReserveFor::Delete)?;
    if let Some(old) = txn.view().get(&key(object))?.map(|v| Extent::decode(&v).unwrap()) {
        txn.free(&old);
        txn.remove(&key(object))?;
    }
    Ok(())
}

fn commit(volume: &Volume) {
    volume.commit(&mut |_| Ok(())).expect("a commit always has its space");
}

fn snapshot(volume: &Volume, name: &[u8]) -> ViewId {
    let new = NewSnapshot {
        name,
        created: (1, 2),
        consistency: Consistency::FileSystem,
        provenance: &Provenance::default(),
        pause_ns: &|| 1,
        identity: None,
    };
    let (id, durable) = volume.create_snapshot(LineId::MAIN, &new, &mut |_| Ok(())).unwrap();
    assert!(durable, "the log has it");
    id
}

#[test]
fn a_reader_keeps_a_deleted_snapshot() {
    let volume = Volume::memory(32 << 20);
    for n in 0..100 {
        put(&volume, 100 + n, &[n as u8 + 1; 65536]).unwrap();
    }
    let id = snapshot(&volume, b"s");
    (0..100).for_each(|n| take(&volume, 100 + n).unwrap());
    commit(&volume);
    let view = volume.snapshot(id).unwrap();
    volume.delete_snapshot(LineId::MAIN, id).unwrap();
    (0..4).for_each(|_| commit(&volume));
    for n in 0.. {
        if put(&volume, 1000 + n, &[0xee; 65536]).is_err() {
            break;
        }
    }
    commit(&volume);
    for n in 0..100 {
        let extent = Extent::decode(&view.get(&key(100 + n)).unwrap().unwrap()).unwrap();
        let mut out = vec![0; extent.len_bytes() as usize];
        view.read_extent(&extent, 0, &mut out).expect("nobody has written over it");
        assert!(out.iter().all(|b| *b == n as u8 + 1));
    }
    drop(view);
    let before = volume.space().available;
    (0..4).for_each(|_| commit(&volume));
    assert!(volume.space().available > before + (6 << 20), "then its space comes back");
}

#[test]
fn what_a_commit_has_written_is_not_kept_for_it_any_more() {
    let volume = Volume::memory(32 << 20);
    let held = Need { items: 1, data_bytes: 2 << 20, leaves: 470, ..Need::default() };
    volume.begin(LineId::MAIN).unwrap().reserve(held, ReserveFor::Write).unwrap();
    commit(&volume);
    let staged = volume.stage(&vec![1; 16 << 20]).expect("nothing is held");
    assert_eq!(staged.len_bytes(), 16 << 20);
}

#[test]
fn commits_have_space_in_a_full_store_of_single_blocks() {
    let volume = Volume::memory(48 << 20);
    let mut rng = fastrand::Rng::with_seed(9);
    let block = [7; BLOCK_BYTES as usize];
    let mut last = 0;
    while put(&volume, 100 + last, &block).is_ok() {
        last += 1;
        if last % 256 == 0 {
            commit(&volume);
        }
    }
    commit(&volume);
    for round in 0..6 {
        // Every other block becomes free: nowhere is room for a node but in what is kept for them.
        for n in (round % 2..last).step_by(2) {
            while let Err(e) = take(&volume, 100 + n) {
                assert!(matches!(e, VolumeError::NoSpace), "{e}");
                commit(&volume);
            }
            if n % 512 < 2 {
                commit(&volume);
            }
        }
        (0..3).for_each(|_| commit(&volume));
        let mut written = 0;
        loop {
            let object = 100_000 + rng.u64(..) % 1_000_000;
            // A commit brings in what it is said to bring in: then it fits, or the store is full.
            if put(&volume, object, &block).is_err() {
                commit(&volume);
                if put(&volume, object, &block).is_err() {
                    break;
                }
            }
            written += 1;
            if written % 128 == 0 {
                commit(&volume);
            }
        }
        commit(&volume);
        assert!(written > last / 20, "round {round}: {written} of {last} free single blocks were of use");
        last = 0;
        for item in volume.live_items().into_iter().filter(|k| k.kind == Kind::Extent as u8) {
            let mut txn = volume.begin(LineId::MAIN).unwrap();
            txn.reserve(Need { items: 2, ..Need::default() }, ReserveFor::Delete).unwrap();
            let value = txn.view().get(&item).unwrap().unwrap().to_vec();
            txn.remove(&item).unwrap();
            txn.insert(key(100 + last), &value).unwrap();
            last += 1;
            drop(txn);
            if last % 256 == 0 {
                commit(&volume);
            }
        }
        commit(&volume);
    }
    let report = crate::check::check_space(&volume, crate::check::Depth::Data).unwrap();
    assert!(report.is_clean(), "{:#?}", report.problems);
}

#[test]
fn a_preparation_that_fails_half_way_is_never_committed() {
    let volume = Volume::memory(32 << 20);
    let failed = volume.commit(&mut |_| Err(VolumeError::NoSpace));
    assert!(failed.is_err() && !volume.is_read_only(), "nothing was changed");
    volume.begin(LineId::MAIN).unwrap().insert(key(99), &[1]).unwrap();
    let used = volume.space().used;
    let failed = volume.commit(&mut |txn| {
        txn.insert(key(100), &[1])?;
        txn.remove(&key(99))?;
        let staged =
            volume.stage_reserved(&[1; 8192], &[ContentRun { len: 8192, offset: 0, level: None }])?;
        txn.publish(staged);
        Err(VolumeError::Corrupt { what: "a leaf".into() })
    });
    assert!(failed.is_err() && !volume.is_read_only(), "{:?}", volume.read_only_reason());
    assert_eq!(volume.space().used, used);
    assert_eq!(volume.live_items(), [key(99)]);
    volume.commit(&mut |txn| txn.insert(key(101), &[1])).unwrap();
    assert_eq!(volume.live_items(), [key(99), key(101)]);
}

#[test]
fn the_first_change_finds_its_space_secured() {
    let sim = Arc::new(Sim::new(8 << 30, 1));
    drop(Volume::made_on(sim.clone()));
    let options = OpenOptions { access: Access::ReadWrite, cache_bytes: 1 << 20 };
    let volume = Volume::open(sim.clone(), options).unwrap();
    volume.recover(&mut NothingAbove);
    let store = volume.shared.store();
    let wanted = volume.kept_at_rest();
    assert!(wanted > store.ahead_bytes() && store.alloc().free_bytes() < wanted);
    std::thread::scope(|s| {
        let ahead = s.spawn(|| volume.keep_space_ahead());
        let secured = |a: &Alloc| a.free_bytes() >= wanted && a.next_to_back_for_copies(1 << 20).is_none();
        while !secured(&store.alloc()) && !ahead.is_finished() {
            std::thread::yield_now();
        }
        volume.end_space_ahead();
    });
    let secured = store.alloc().free_bytes();
    assert!(secured >= wanted, "{secured} of {wanted}");
    sim.start_recording();
    put(&volume, 1, &[1; 65536]).unwrap();
    volume.rest();
    put(&volume, 2, &[2; 65536]).unwrap();
    assert!(sim.take_recording().iter().all(|call| !matches!(call.op, Op::Back | Op::Discard)));
    // Nor has its commit to ask where the second copies are to go.
    for object in 3..6 {
        sim.start_recording();
        put(&volume, object, &[2; 65536]).unwrap();
        commit(&volume);
        assert!(sim.take_recording().iter().all(|call| call.op != Op::Back));
    }
}

/// Bytes that a commit writes, and what was known before to be needed for it.
fn commit_of(volume: &Volume, prepare: crate::volume::commit::Prepare<'_>) -> (u64, u64) {
    let required = volume.required_bytes(&volume.state.read());
    let before = volume.io().written_bytes;
    volume.commit(prepare).unwrap();
    (volume.io().written_bytes - before, required)
}

#[test]
fn many_deletions_are_spread_over_commits() {
    const SNAPSHOTS: usize = 2000;
    let device = Arc::new(crate::device::Memory::new(4 << 30));
    let volume = Volume::made_on(device.clone());
    let made = |line, name: String| {
        let (name, created) = (name.into_bytes(), (0, 0));
        let consistency = Consistency::Crash;
        let new = NewSnapshot {
            name: &name,
            created,
            consistency,
            provenance: &Provenance::default(),
            pause_ns: &|| 0,
            identity: None,
        };
        volume.create_snapshot(line, &new, &mut |_| Ok(())).unwrap().0
    };
    put(&volume, 1, &[1; 4096]).unwrap();
    let origin = made(LineId::MAIN, "origin".into());
    let line = volume.create_line(b"many", origin, (0, 0), &Provenance::default()).unwrap().id;
    for n in 0..SNAPSHOTS as u64 {
        let mut txn = volume.begin(line).unwrap();
        txn.insert(Key::new(1000 + n % 50, Kind::Inline, 0), &n.to_le_bytes()).unwrap();
        drop(txn);
        made(line, format!("{n} {}", "x".repeat(200)));
        if n % 100 == 0 {
            volume.commit(&mut |_| Ok(())).unwrap();
        }
    }
    volume.commit(&mut |_| Ok(())).unwrap();
    volume.drop_line(line).unwrap();
    let views = |volume: &Volume| volume.state.read().history.views().count();
    let (all, most) = (views(&volume), volume.deletes_at_once(&volume.state.read()));
    assert!((32..300).contains(&most));
    let mut commits = 0;
    let mut left = all;
    let mut opened = None;
    let mut volume = volume;
    while volume.needs_commit() || volume.has_background_work() {
        let (written, required) = commit_of(&volume, &mut |_| Ok(()));
        let needed = required + volume.reserve_bytes / 2;
        assert!(written <= needed, "{written} bytes written of {needed}");
        let now = views(&volume);
        assert!(left - now <= most, "{} deletions in one commit", left - now);
        (left, commits) = (now, commits + 1);
        if commits == 3 {
            // The rest is found again after a crash.
            drop(volume);
            let options = OpenOptions { access: Access::ReadWrite, cache_bytes: 4 << 20 };
            volume = Volume::open(device.clone(), options).unwrap();
            volume.recover(&mut NothingAbove);
            opened = Some(views(&volume));
        }
    }
    assert!(commits >= SNAPSHOTS / most && opened.is_some_and(|n| n > 1000), "{commits} {opened:?}");
    assert_eq!((left, volume.snapshots(LineId::MAIN).len()), (2, 1));
}

#[test]
fn what_many_lines_hold_back_is_counted() {
    const LINES: usize = 200;
    let volume = Volume::memory(4 << 30);
    put(&volume, 1, &[1; 4096]).unwrap();
    let consistency = Consistency::Crash;
    // Records of other views lie between, so that those of the lines are in many leaves.
    let mut lines = Vec::new();
    for n in 0..LINES * 8 {
        let name = format!("{n} {}", "x".repeat(200)).into_bytes();
        let new = NewSnapshot {
            name: &name,
            created: (0, 0),
            consistency,
            provenance: &Provenance::default(),
            pause_ns: &|| 0,
            identity: None,
        };
        let (id, _) = volume.create_snapshot(LineId::MAIN, &new, &mut |_| Ok(())).unwrap();
        if n % 8 == 0 {
            lines.push(volume.create_line(&name, id, (0, 0), &Provenance::default()).unwrap().id);
        }
        if n % 100 == 0 {
            volume.commit(&mut |_| Ok(())).unwrap();
        }
    }
    volume.commit(&mut |_| Ok(())).unwrap();
    for line in &lines {
        let mut txn = volume.begin(*line).unwrap();
        let blocks = 1;
        let leaves = Need::leaves(blocks, None);
        let need = Need { data_bytes: blocks * BLOCK_BYTES, leaves, later: 1, ..Need::default() };
        txn.reserve(need, ReserveFor::Write).unwrap();
        // As whoever reserves does: what nobody goes on to use is not held.
        txn.note(|_| ());
    }
    let (written, required) = commit_of(&volume, &mut |txn| {
        for line in &lines {
            txn.switch_to(*line)?;
            txn.insert(Key::new(2, Kind::Inline, 0), &[1; 40])?;
            txn.insert(Key::new(3, Kind::Orphan, 3), &[])?;
        }
        Ok(())
    });
    let records = super::space::record_nodes(&volume.state.read());
    assert_eq!(records, 0, "all were written");
    assert!(written <= required, "{written} bytes written of {required}");
    for line in lines {
        volume.drop_line(line).unwrap();
    }
    let (written, required) = commit_of(&volume, &mut |_| Ok(()));
    let needed = required + volume.reserve_bytes / 2;
    assert!(written <= needed, "{written} bytes written of {needed}");
}

#[test]
fn what_a_commit_has_frozen_stays_promised_until_it_is_written() {
    let volume = Volume::memory(3 << 30);
    let staged = volume.stage_unwritten(2 << 30).unwrap();
    let extents = volume.begin(LineId::MAIN).unwrap().publish(staged);
    commit(&volume);
    let consistency = Consistency::FileSystem;
    let new = NewSnapshot {
        name: b"s",
        created: (1, 2),
        consistency,
        provenance: &Provenance::default(),
        pause_ns: &|| 1,
        identity: None,
    };
    volume.create_snapshot(LineId::MAIN, &new, &mut |_| Ok(())).unwrap();
    commit(&volume);
    // As many entries of a dead list as there are blocks.
    for some in extents.chunks(512) {
        let mut txn = volume.begin(LineId::MAIN).unwrap();
        txn.reserve(Need { items: 100, ..Need::default() }, ReserveFor::Delete).unwrap();
        for extent in some {
            (0..extent.len_bytes() / BLOCK_BYTES)
                .for_each(|n| txn.free(&extent.slice(n * BLOCK_BYTES, BLOCK_BYTES)));
        }
    }
    let mut session = volume.begin_commit().unwrap();
    session.freeze(&mut |_| Ok(())).unwrap();
    let mut writers = Vec::new();
    while let Ok(staged) = volume.stage_unwritten(1 << 20) {
        writers.push(staged);
    }
    assert!(writers.len() > 100);
    session.finish().unwrap();
}

#[test]
fn what_is_promised_is_not_given_back_to_the_host() {
    let sim = Arc::new(Sim::new(8 << 30, 1));
    sim.set_space_limit(500 << 20);
    let volume = Volume::made_on(sim.clone());
    put(&volume, 1, &[1; 65536]).unwrap();
    let mut session = volume.begin_commit().unwrap();
    session.freeze(&mut |_| Ok(())).unwrap();
    {
        let mut txn = volume.begin(LineId::MAIN).unwrap();
        let need = Need { items: 1, data_bytes: 100 << 20, leaves: 100, ..Need::default() };
        txn.reserve(need, ReserveFor::Write).unwrap();
        txn.insert(key(7), &[1]).unwrap();
    }
    session.finish().unwrap();
    // Somebody else takes all that the host has left.
    sim.set_space_limit(sim.backed_bytes());
    let len = 100 << 20;
    let run = ContentRun { len, offset: 0, level: None };
    volume.stage_reserved(&vec![7; len as usize], &[run]).unwrap();
}

fn to_trash(by: &Provenance) -> NewTrash<'_> {
    NewTrash { since_secs: 1, age: AgeRecord::default(), after: 1000, by }
}

/// Nobody waits for a commit to be told what is known.
#[test]
fn what_is_in_the_trash_is_told_while_a_commit_is_written() {
    let volume = Volume::memory(32 << 20);
    put(&volume, 1, &[1; 65536]).unwrap();
    commit(&volume);
    let id = snapshot(&volume, b"s");
    take(&volume, 1).unwrap();
    commit(&volume);
    volume.trash_snapshot(LineId::MAIN, id, &to_trash(&Provenance::default())).unwrap();
    commit(&volume);
    let told = volume.trash_bytes().unwrap();
    assert!(told.0 == 1 && told.1 >= 65536, "{told:?}");
    let _committer = volume.committer.lock();
    let (say, said) = std::sync::mpsc::channel();
    let other = volume.clone();
    std::thread::spawn(move || say.send(other.trash_bytes().unwrap()));
    assert_eq!(said.recv_timeout(std::time::Duration::from_secs(20)), Ok(told));
}

/// What goes with a clone is paid for before it goes: its snapshots in the trash, too.
#[test]
fn the_end_of_a_clone_is_refused_if_its_snapshots_in_the_trash_have_no_room() {
    const TRASHED: u64 = 200;
    let by = Provenance::default();
    let new = to_trash(&by);
    for is_in_trash in [true, false] {
        let volume = Volume::memory(128 << 20);
        put(&volume, 1, &[1; 65536]).unwrap();
        let made = |line, name: String| {
            let new = NewSnapshot {
                name: name.as_bytes(),
                created: (0, 0),
                consistency: Consistency::Crash,
                provenance: &by,
                pause_ns: &|| 0,
                identity: None,
            };
            volume.create_snapshot(line, &new, &mut |_| Ok(())).unwrap().0
        };
        let long = "x".repeat(200);
        let origin = made(LineId::MAIN, "origin".into());
        let line = volume.create_line(b"clone", origin, (0, 0), &by).unwrap().id;
        // Records of other views lie between, so that those of its snapshots are in many leaves.
        for n in 0..TRASHED {
            let id = made(line, format!("{n} {long}"));
            volume.trash_snapshot(line, id, &new).unwrap();
            for k in 0..4 {
                made(LineId::MAIN, format!("{n} {k} {long}"));
            }
            if n % 20 == 0 {
                commit(&volume);
            }
        }
        if is_in_trash {
            volume.trash_line(line, &new, &mut |_| Ok(())).unwrap();
        }
        commit(&volume);
        let full = (0..).find_map(|n| put(&volume, 10_000 + n, &[2; 65536]).err());
        assert!(matches!(full, Some(VolumeError::NoSpace)), "{full:?}");
        commit(&volume);
        let number = volume.trash().pop().unwrap().number;
        let end = || match is_in_trash {
            true => volume.empty_trash(number).map(drop),
            false => volume.drop_merged_line(line),
        };
        let ended = end();
        assert!(matches!(ended, Err(VolumeError::NoSpace)), "{is_in_trash}: {ended:?}");
        commit(&volume);
        (0..400).for_each(|n| take(&volume, 10_000 + n).unwrap());
        (0..3).for_each(|_| commit(&volume));
        end().unwrap();
        assert!(volume.trash().is_empty());
        (0..3).for_each(|_| commit(&volume));
    }
}
