//! What memory is needed in the long run: a year of minutes under a schedule, and ten thousand snapshots that are deleted.
//!
//! Each allocation is counted, so one test at a time runs here. The store is on a device in memory all of which is there from
//! the beginning: whatever comes on top is the file system's.

mod allocations;
#[path = "../common/fixtures.rs"]
mod fixtures;
#[path = "../common/minutes.rs"]
mod minutes;

use allocations::{Counted, live, most, resident};
use fixtures::{Hooked, Hooks, RW, USER, make, open};
use minutes::{Minutes, RULES};
use snapfs::check::{Depth, check};
use snapfs::clock::Clock;
use snapfs::device::{Device, Memory};
use snapfs::format::LineId;
use snapfs::fs::{Fs, FsOptions, PRUNED_AT_ONCE, Reason};
use snapfs::ops::{NodeId, Operations};
use snapfs::schedule::parse_rules;
use snapfs::volume::Access;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Instant;

#[global_allocator]
static ALLOCATOR: Counted = Counted;

/// 2026-01-05, a Monday.
const MONDAY: i64 = 1_767_571_200;
const MINUTE: i64 = 60;
const DAY: i64 = 86_400;

/// What memory is counted for is alone.
static ALONE: Mutex<()> = Mutex::new(());

fn alone() -> MutexGuard<'static, ()> {
    ALONE.lock().unwrap_or_else(|failed| failed.into_inner())
}

/// A device keeps what is discarded.
struct Keeps;

impl Hooks for Keeps {
    fn passes_discards(&self) -> bool {
        false
    }
}

/// A file system on so many MiB of memory, which are there already.
fn new_fs(mebibytes: u64, clock: &Clock) -> Arc<Fs> {
    let size = mebibytes << 20;
    let memory = Memory::with_space_limit(size, 2 * size);
    memory.back(0, size).unwrap();
    (0..mebibytes).for_each(|n| memory.write_at(n << 20, &[0]).unwrap());
    let device = Arc::new(Hooked::over(memory, Keeps));
    make(device.clone());
    Fs::open(open(device, Access::ReadWrite).unwrap(), FsOptions::default(), clock.clone()).unwrap()
}

/// In each minute something changes, and what is there is looked at. `SNAPFS_DAYS=366` makes it a year.
#[test]
fn minutes_under_a_schedule() {
    let _alone = alone();
    let days = std::env::var("SNAPFS_DAYS").ok().and_then(|days| days.parse().ok()).unwrap_or(4);
    let clock = Clock::manual(MONDAY);
    let fs = new_fs(64, &clock);
    fs.set_schedules(LineId::MAIN, vec![parse_rules("default", RULES).unwrap()]).unwrap();
    let (entry, handle) = fs.create(&USER, NodeId::ROOT, b"log", 0o644, RW).unwrap();
    let (file, rules, begun) = (entry.attr.node, Minutes::since(MONDAY, days), Instant::now());
    let (mut at_rest, mut taken) = (None, 0);
    for n in 0..days * DAY / MINUTE {
        assert_eq!(fs.write(file, handle, 0, &n.to_le_bytes(), false), Ok(8));
        while fs.keep_schedules() {}
        taken += 1;
        let now = MONDAY + n * MINUTE;
        let there = fs.volume().own_snapshots(LineId::MAIN);
        let times = there.iter().map(|s| s.created.0);
        assert!(times.eq(rules.left(now)), "after {n} minutes: {:?}", there);
        drop(there);
        if n % 5 == 4 {
            fs.tick().unwrap();
        }
        clock.advance(MINUTE * 1_000_000_000);
        if (n + 1) % (DAY / MINUTE) == 0 {
            let (day, count) = ((n + 1) / (DAY / MINUTE), fs.volume().snapshot_count(LineId::MAIN));
            let (now, peak) = (live(), most());
            // A snapshot that is there is known: its record, its name, where it is found.
            let known = count * (4 << 10);
            match at_rest {
                None => at_rest = Some(now.saturating_sub(known)),
                Some(first) => {
                    assert!(
                        now <= first + known + (256 << 10),
                        "{now} bytes on day {day}, {first} on the first"
                    );
                    assert!(
                        peak <= first + known + (2 << 20),
                        "{peak} bytes on day {day}, {first} on the first"
                    );
                }
            }
            if day % 30 == 0 || day == 1 || day == days {
                let (pauses, secs) = (fs.volume().removal_pauses(), begun.elapsed().as_secs());
                eprintln!(
                    "day {day}, after {secs} s: {count} snapshots; {} KiB, {} at most; resident {} KiB; {pauses:?}",
                    now >> 10,
                    peak >> 10,
                    resident() >> 10,
                );
            }
        }
    }
    fs.release(file, handle);
    while fs.volume().has_background_work() {
        fs.commit().unwrap();
    }
    let (pauses, count) = (fs.volume().removal_pauses(), fs.volume().snapshot_count(LineId::MAIN));
    assert!(pauses.count as usize >= taken - count, "{pauses:?}");
    // However many were deleted, no more than a step deletes went while others waited.
    assert!(pauses.views_most as usize <= PRUNED_AT_ONCE, "{pauses:?}");
    // While others wait for a deletion the device is asked for nothing.
    assert_eq!((fs.volume().reads_waited_for(), fs.volume().writes_waited_for()), (0, 0));
    let report = check(fs.volume(), Depth::Metadata).unwrap();
    assert!(report.is_clean() && report.views as usize <= count + 1, "{} views", report.views);
}

/// What is needed in memory to delete ten thousand, each with so many blocks of its own, beyond what is needed to have them.
fn needed_to_delete(blocks: u64) -> usize {
    const COUNT: usize = 10_000;
    let fs = new_fs(1536, &Clock::manual(MONDAY));
    let (entry, handle) = fs.create(&USER, NodeId::ROOT, b"file", 0o644, RW).unwrap();
    let node = entry.attr.node;
    let mut block = vec![1; 4096];
    for n in 0..COUNT {
        block[..8].copy_from_slice(&n.to_le_bytes());
        // Every second one: each is an extent of its own.
        for i in 0..blocks {
            fs.write(node, handle, i * 8192, &block, false).unwrap();
        }
        fs.create_snapshot_of(NodeId::ROOT, format!("s{n}").as_bytes(), Reason::User).unwrap();
        if n % 500 == 0 {
            fs.commit().unwrap();
        }
    }
    let settle = || {
        while fs.volume().needs_commit() || fs.volume().has_background_work() {
            fs.commit().unwrap();
        }
    };
    settle();
    let (all, used) = (fs.snapshots(), fs.volume().space().used);
    let (before, _) = (live(), most());
    let done = fs.delete_snapshots_of(NodeId::ROOT, &all, &mut |_| true).unwrap();
    assert!(all.len() == COUNT && done.iter().all(|done| done.is_ok()));
    settle();
    let needed = most() - before;
    let back = used - fs.volume().space().used;
    assert!(back >= COUNT as u64 * blocks * 4096, "{back}");
    assert!(live() <= before, "{} bytes after it, {before} before", live());
    fs.release(node, handle);
    eprintln!("{blocks} blocks each: {:?}", fs.volume().removal_pauses());
    needed
}

#[test]
fn deleting_ten_thousand_takes_no_more_however_much_each_holds() {
    let _alone = alone();
    let (few, many) = (needed_to_delete(1), needed_to_delete(8));
    eprintln!("deleting 10,000 snapshots: {} KiB, with eight times the blocks {} KiB", few >> 10, many >> 10);
    // A copy of what is known of each, to rehearse on, and of what is freed no more than a step does.
    assert!(few <= 12 << 20 && many <= few + (1 << 20), "{few} and {many} bytes");
}
