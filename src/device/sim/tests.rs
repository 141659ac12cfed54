//! Crashes, faults and the books of the simulated disk.

use std::collections::BTreeSet;

use super::super::tests::read;
use super::disk::GARBAGE;
use super::*;
use crate::device::{Counts, Device, DeviceError};

const BLOCK: u64 = 4096;
const SIZE: u64 = 1 << 40;

fn sectors(device: &Sim, offset: u64, count: u64) -> Vec<u8> {
    let bytes = device.peek(offset, count * 512);
    bytes
        .chunks(512)
        .inspect(|sector| assert!(sector.iter().all(|byte| *byte == sector[0])))
        .map(|s| s[0])
        .collect()
}

#[test]
fn crashes_keep_what_was_flushed() {
    let sim = Sim::new(SIZE, 1);
    sim.write_at(0, &[1; 8192]).unwrap();
    sim.flush().unwrap();
    sim.write_at(BLOCK, &[2; 4096]).unwrap();
    sim.write_at(SIZE - BLOCK, &[3; 4096]).unwrap();
    let dropped = sim.crash(CrashPolicy::DropAll);
    assert_eq!(read(&dropped, 0, 8192), [1; 8192]);
    assert_eq!(read(&dropped, SIZE - BLOCK, BLOCK), [GARBAGE; 4096]);
    let kept = sim.crash(CrashPolicy::KeepAll);
    assert_eq!(kept.peek(0, SIZE.min(3 * BLOCK)), sim.peek(0, 3 * BLOCK));
    assert_eq!(read(&kept, SIZE - BLOCK, BLOCK), [3; 4096]);
    assert_eq!(kept.counts().reads, 1);
}

#[test]
fn random_crashes_reorder_and_tear() {
    let sim = Sim::with_fresh_content(SIZE, 1, 0);
    sim.write_at(0, &[1; 4096]).unwrap();
    sim.flush().unwrap();
    sim.write_at(0, &[2; 4096]).unwrap();
    sim.write_at(0, &[3; 4096]).unwrap();
    sim.write_at(BLOCK, &[4; 4096]).unwrap();
    let mut outcomes = BTreeSet::new();
    for seed in 0..500 {
        let crashed = sim.crash(CrashPolicy::Random(seed));
        let outcome = sectors(&crashed, 0, 16);
        assert_eq!(
            outcome,
            sectors(&sim.crash(CrashPolicy::Random(seed)), 0, 16),
            "a seed means one outcome"
        );
        assert!(outcome[..8].iter().all(|byte| (1..=3).contains(byte)));
        assert!(outcome[8..].iter().all(|byte| [0, 4].contains(byte)));
        outcomes.insert(outcome);
    }
    let whole = |first: u8, second: u8| [[first; 8], [second; 8]].concat();
    for first in [1, 2, 3] {
        for second in [0, 4] {
            assert!(outcomes.contains(&whole(first, second)), "{first} then {second}");
        }
    }
    assert!(outcomes.iter().any(|outcome| outcome[..8] != [outcome[0]; 8]), "some are torn");
    assert!(outcomes.iter().any(|o| o[0] == 2 && o[7] == 3), "torn in any order");
}

#[test]
fn shuffled_crashes_let_an_older_write_win() {
    let sim = Sim::with_fresh_content(SIZE, 1, 0);
    for byte in 1..=3 {
        sim.write_at(0, &[byte; 512]).unwrap();
    }
    let outcomes: BTreeSet<u8> =
        (0..100).map(|seed| sim.crash(CrashPolicy::Shuffled(seed)).peek(0, 1)[0]).collect();
    assert_eq!(outcomes, BTreeSet::from([0, 1, 2, 3]), "any of the writes may be the last, or none is done");
    let sim = Sim::with_fresh_content(SIZE, 1, 0);
    sim.write_at(0, &[1; 4096]).unwrap();
    sim.write_at(512, &[2; 512]).unwrap();
    let reordered = (0..100).any(|seed| sectors(&sim.crash(CrashPolicy::Shuffled(seed)), 0, 8) == [1; 8]);
    assert!(reordered, "the wide write may come last");
}

#[test]
fn discards_show_and_may_be_lost() {
    let sim = Sim::new(SIZE, 1);
    sim.write_at(0, &[1; 12288]).unwrap();
    sim.flush().unwrap();
    assert_eq!(sim.backed_bytes(), 3 * BLOCK);
    sim.discard(BLOCK, SIZE - BLOCK);
    assert_eq!(sim.backed_bytes(), BLOCK);
    assert_eq!(read(&sim, 0, BLOCK), [1; 4096]);
    assert_eq!(read(&sim, BLOCK, 2 * BLOCK), [0xDD; 8192]);
    assert_eq!(read(&sim, 3 * BLOCK, BLOCK), [GARBAGE; 4096]);
    let dropped = sim.crash(CrashPolicy::DropAll);
    assert_eq!((read(&dropped, 0, 3 * BLOCK), dropped.backed_bytes()), (vec![1; 12288], 3 * BLOCK));
    for seed in 0..50 {
        assert_eq!(read(&sim.crash(CrashPolicy::Random(seed)), 0, BLOCK), [1; 4096]);
    }
    sim.flush().unwrap();
    let flushed = sim.crash(CrashPolicy::DropAll);
    assert_eq!((read(&flushed, BLOCK, BLOCK), flushed.backed_bytes()), (vec![0xDD; 4096], BLOCK));
}

#[test]
fn backing_can_be_lost_in_a_crash() {
    let sim = Sim::new(SIZE, 1);
    sim.back(0, BLOCK).unwrap();
    sim.flush().unwrap();
    sim.back(BLOCK, BLOCK).unwrap();
    assert_eq!(sim.crash(CrashPolicy::DropAll).backed_bytes(), BLOCK);
    assert_eq!(sim.crash(CrashPolicy::KeepAll).backed_bytes(), 2 * BLOCK);
}

#[test]
fn power_goes_at_a_chosen_call() {
    let run = |sim: &Sim| -> Result<(), DeviceError> {
        sim.back(0, 2 * BLOCK)?;
        sim.write_at(0, &[1; 4096])?;
        sim.flush()?;
        sim.write_at(BLOCK, &[1; 4096])?;
        sim.flush()
    };
    let whole = Sim::new(SIZE, 1);
    run(&whole).unwrap();
    assert_eq!(whole.changes(), 5);
    for nth in 1..=5 {
        let sim = Sim::new(SIZE, 1);
        sim.set_crash_at(nth);
        assert!(run(&sim).unwrap_err().to_string().contains("crashed"));
        assert!(sim.is_crashed() && sim.read_at(0, &mut [0]).is_err() && sim.flush().is_err());
        let after = sim.crash(CrashPolicy::DropAll);
        assert_eq!(after.peek(0, 1), [if nth > 3 { 1 } else { GARBAGE }]);
        assert_eq!(after.peek(BLOCK, 1), [GARBAGE]);
        assert_eq!(sim.crash(CrashPolicy::KeepAll).peek(BLOCK, 1), [if nth > 4 { 1 } else { GARBAGE }]);
        assert!(!after.is_crashed());
    }
}

#[test]
fn chosen_calls_fail() {
    let sim = Sim::new(SIZE, 1);
    sim.fail(Op::Write, 2, Persistence::Once);
    sim.fail(Op::Flush, 1, Persistence::Forever);
    sim.fail(Op::Back, 1, Persistence::Once);
    sim.fail(Op::Read, 1, Persistence::Once);
    sim.write_at(0, &[1; 4096]).unwrap();
    let error = sim.write_at(0, &[2; 4096]).unwrap_err().to_string();
    assert!(error.contains("injected") && error.contains("Write"), "{error}");
    sim.write_at(BLOCK, &[3; 4096]).unwrap();
    assert!(sectors(&sim, 0, 8).iter().all(|byte| [1, 2].contains(byte)));
    assert!(sim.flush().is_err() && sim.flush().is_err());
    assert!(matches!(sim.back(0, BLOCK), Err(DeviceError::NoSpace)));
    sim.back(0, BLOCK).unwrap();
    assert!(sim.read_at(0, &mut [0]).is_err());
    assert_eq!(read(&sim, BLOCK, 4), [3; 4]);
    assert_eq!(
        sim.crash(CrashPolicy::DropAll).peek(BLOCK, 1),
        [GARBAGE],
        "a failed flush makes nothing durable"
    );
}

#[test]
fn writes_go_astray() {
    let sim = Sim::new(SIZE, 1);
    sim.write_at(0, &[1; 4096]).unwrap();
    sim.lose_writes(100, 1, Persistence::Once);
    sim.write_at(0, &[2; 4096]).unwrap();
    assert_eq!(read(&sim, 0, BLOCK), [1; 4096]);
    sim.misdirect_writes(0, BLOCK, 8 * BLOCK, Persistence::Forever);
    sim.write_at(0, &[3; 4096]).unwrap();
    sim.write_at(0, &[4; 4096]).unwrap();
    assert_eq!((read(&sim, 0, 1), read(&sim, 8 * BLOCK, BLOCK)), (vec![1], vec![4; 4096]));
    sim.write_at(BLOCK, &[5; 4096]).unwrap();
    assert_eq!(read(&sim, BLOCK, BLOCK), [5; 4096]);
}

#[test]
fn the_nth_write_goes_astray() {
    let sim = Sim::new(SIZE, 1);
    sim.lose_nth_write(2);
    sim.misdirect_nth_write(3, 8 * BLOCK);
    for byte in 1..=4 {
        sim.write_at(u64::from(byte) * BLOCK, &[byte; 4096]).unwrap();
    }
    let found: Vec<u8> = [1, 2, 3, 4, 8].map(|block| read(&sim, block * BLOCK, 1)[0]).to_vec();
    assert_eq!(found, [1, GARBAGE, GARBAGE, 4, 3]);
}

#[test]
fn reads_return_what_is_not_there() {
    let sim = Sim::new(SIZE, 1);
    sim.write_at(0, &[1; 8192]).unwrap();
    let older = sim.clone_image();
    sim.write_at(0, &[2; 8192]).unwrap();
    sim.read_stale(BLOCK, BLOCK, &older, Persistence::Once);
    assert_eq!(read(&sim, 0, BLOCK), [2; 4096]);
    let mixed = read(&sim, 0, 2 * BLOCK);
    assert!(mixed[..4096] == [2; 4096] && mixed[4096..] == [1; 4096], "only the range is stale");
    assert_eq!(read(&sim, BLOCK, BLOCK), [2; 4096], "and only once");
    sim.write_at(4 * BLOCK, &[5; 4096]).unwrap();
    sim.misdirect_reads(BLOCK, BLOCK, 4 * BLOCK, Persistence::Forever);
    assert_eq!(read(&sim, BLOCK + 512, 512), [5; 512]);
    assert_eq!(read(&sim, BLOCK, BLOCK), [5; 4096]);
    sim.nth_read_is_stale(2, &older);
    let found: Vec<u8> = (0..3).map(|_| read(&sim, 0, 1)[0]).collect();
    assert_eq!((found, sim.faults_struck()), (vec![2, 1, 2], 4));
}

#[test]
fn a_host_breaks_its_promise_of_space() {
    let sim = Sim::new(SIZE, 1);
    sim.back(0, BLOCK).unwrap();
    sim.fail_for_space(Op::Write, 1, Persistence::Once);
    sim.fail_for_space(Op::Flush, 1, Persistence::Once);
    assert!(matches!(sim.write_at(0, &[1; 4096]), Err(DeviceError::NoSpace)));
    assert!(matches!(sim.flush(), Err(DeviceError::NoSpace)));
    sim.write_at(0, &[1; 4096]).unwrap();
}

#[test]
fn content_decays() {
    let sim = Sim::new(SIZE, 1);
    sim.write_at(0, &[7; 4096]).unwrap();
    sim.flush().unwrap();
    let before = sim.clone_image();
    sim.corrupt(512, 100, 5);
    sim.zero(1024, 512);
    sim.flip(0, 0x80);
    for device in [&sim, &sim.crash(CrashPolicy::DropAll)] {
        let bytes = read(device, 0, BLOCK);
        assert_eq!(bytes[0], 0x87);
        assert!(bytes[512..612].iter().all(|byte| *byte != 7) && bytes[1..512].iter().all(|byte| *byte == 7));
        assert!(bytes[1024..1536].iter().all(|byte| *byte == 0));
    }
    assert_eq!(read(&before, 0, BLOCK), [7; 4096], "forks share nothing that changes");
    sim.make_unreadable(BLOCK - 1, 1);
    assert!(sim.read_at(0, &mut [0; 4096]).is_err());
    assert_eq!(read(&sim, 0, BLOCK - 1)[0], 0x87);
    sim.write_at(0, &[7; 4096]).unwrap();
    assert_eq!(read(&sim, 0, BLOCK), [7; 4096]);
}

#[test]
fn forks_carry_unsynced_changes() {
    let sim = Sim::new(SIZE, 1);
    sim.write_at(0, &[1; 4096]).unwrap();
    let fork = sim.clone_image();
    assert_eq!(read(&fork, 0, BLOCK), [1; 4096]);
    assert_eq!(fork.crash(CrashPolicy::DropAll).peek(0, 1), [GARBAGE]);
    fork.flush().unwrap();
    assert_eq!(fork.crash(CrashPolicy::DropAll).peek(0, 1), [1]);
    assert_eq!(sim.crash(CrashPolicy::DropAll).peek(0, 1), [GARBAGE]);
}

#[test]
fn calls_are_counted_and_recorded() {
    let sim = Sim::new(SIZE, 1);
    sim.back(0, BLOCK).unwrap();
    let before = sim.counts();
    sim.start_recording();
    sim.write_at(0, &[1; 4096]).unwrap();
    sim.flush().unwrap();
    sim.read_at(0, &mut [0; 512]).unwrap();
    sim.discard(0, BLOCK);
    let expected = Counts {
        reads: 1,
        writes: 1,
        flushes: 1,
        backs: 0,
        discards: 1,
        bytes_read: 512,
        bytes_written: 4096,
    };
    assert_eq!(sim.counts().since(&before), expected);
    let calls: Vec<_> = sim.take_recording().iter().map(|call| (call.op, call.offset, call.len)).collect();
    assert_eq!(calls, [(Op::Write, 0, 4096), (Op::Flush, 0, 0), (Op::Read, 0, 512), (Op::Discard, 0, 4096)]);
    assert!(sim.take_recording().is_empty());
}

#[test]
fn the_same_seed_gives_the_same_run() {
    let run = |seed| {
        let sim = Sim::new(SIZE, seed);
        sim.fail(Op::Write, 1, Persistence::Forever);
        for at in 0..16 {
            assert!(sim.write_at(at * BLOCK, &[1; 4096]).is_err());
        }
        sim.peek(0, 16 * BLOCK)
    };
    assert!(run(1) == run(1));
    assert!(run(1) != run(2));
}
