//! Two simulated disks as one, and a disk that hangs.

use super::*;
use crate::device::hanging::Hanging;
use crate::device::{Device, DeviceError, Mirror, Op, Persistence, Sim};
use crate::fixtures::{Hooked, Hooks, together_label};
use crate::format::mirror::{LABEL_ADDRS, LABEL_BYTES, Label, Standing};
use parking_lot::Mutex;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

const SIZE: u64 = 64 << 20;
const AT: u64 = 8 << 20;
/// Longer than a sound disk needs on a busy machine, and no longer than a test may wait.
const LIMIT_MS: u32 = 400;
const LIMIT: Duration = Duration::from_millis(LIMIT_MS as u64);

fn label(side: u64) -> Label {
    Label { limit_ms: LIMIT_MS, ..together_label(side) }
}

fn disk(side: u64) -> Sim {
    let sim = Sim::with_fresh_content(SIZE, side, 0);
    write_label(&sim, &label(side)).unwrap();
    sim
}

fn pair() -> ([Arc<Sim>; 2], Mirror) {
    let sims = [1, 2].map(|n| Arc::new(disk(n)));
    let [a, b] = sims.clone();
    (sims, Mirror::together([(a, label(1)), (b, label(2))], 7))
}

fn standing(device: &dyn Device) -> Standing {
    read_label(device).unwrap().unwrap().standing
}

fn wait_for_calls(mirror: &Mirror, side: usize) {
    while mirror.states()[side].as_ref().is_some_and(|s| s.pending_calls > 0) {
        std::thread::yield_now();
    }
}

#[test]
fn each_call_goes_to_both_sides_once() {
    let (sims, mirror) = pair();
    let before = sims.clone().map(|sim| sim.counts());
    mirror.back(AT, 1 << 20).unwrap();
    mirror.write_at(AT, &[3; 8192]).unwrap();
    mirror.flush().unwrap();
    mirror.discard(AT + 8192, 4096);
    for (sim, before) in sims.iter().zip(before) {
        let counts = sim.counts().since(&before);
        let of = (counts.writes, counts.bytes_written, counts.flushes, counts.backs, counts.discards);
        assert_eq!(of, (1, 8192, 1, 1, 1));
        assert_eq!(sim.peek(AT, 8192), [3; 8192]);
    }
    let mut read = vec![0; 8192];
    mirror.read_at(AT, &mut read).unwrap();
    assert_eq!(read, [3; 8192]);
    let reads: u64 = sims.iter().map(|sim| sim.counts().bytes_read).sum();
    assert_eq!(reads, 8192, "a read is of one side");
}

/// How often each was read.
fn reads_of(disks: &[Arc<Hanging>; 2]) -> [u64; 2] {
    disks.clone().map(|disk| disk.sim.counts().reads)
}

/// Two disks whose calls wait until they are let go, and nobody is lost for that.
fn two_that_may_wait() -> ([Arc<Hanging>; 2], Mirror) {
    let disks = [1, 2].map(|side| Hanging::new(disk(side)));
    let [a, b] = disks.clone();
    let mirror = Mirror::together([(a, together_label(1)), (b, together_label(2))], 7);
    mirror.write_at(AT, &[3; 4096]).unwrap();
    (disks, mirror)
}

fn wait_until(what: &str, is_so: impl Fn() -> bool) {
    let until = std::time::Instant::now() + Duration::from_secs(60);
    while !is_so() {
        assert!(std::time::Instant::now() < until, "{what}");
        std::thread::yield_now();
    }
}

/// Calls of a side of which nobody has the answer.
fn under_way(mirror: &Mirror, side: usize) -> usize {
    let member = mirror.members.read()[side].clone();
    member.map_or(0, |member| member.side.calls_under_way())
}

fn read_right(mirror: &Mirror) {
    let mut read = [0; 4096];
    mirror.read_at(AT, &mut read).unwrap();
    assert_eq!(read, [3; 4096]);
}

/// A disk that is slow, or busy with whatever, has calls that have not returned: no read waits behind these.
#[test]
fn while_one_side_is_busy_all_reads_are_of_the_other() {
    let work: [Question; 3] = [
        ("a read", |m| m.read_at(AT, &mut [0; 4096]).unwrap()),
        ("a write", |m| m.write_at(AT + 4096, &[1; 4096]).unwrap()),
        ("a flush", |m| m.flush().unwrap()),
    ];
    for busy in 0..2 {
        for (what, ask) in work {
            let (disks, mirror) = two_that_may_wait();
            disks[busy].hang(true);
            std::thread::scope(|s| {
                let asked = s.spawn(|| match what {
                    "a read" => mirror.read_side(busy, AT, &mut [0; 4096]).unwrap(),
                    _ => ask(&mirror),
                });
                wait_until(what, || disks[busy].waiting() == 1 && disks[1 - busy].waiting() == 0);
                // What the other had to do of it is done.
                wait_until(what, || under_way(&mirror, 1 - busy) == 0);
                let before = reads_of(&disks);
                (0..100).for_each(|_| read_right(&mirror));
                let after = reads_of(&disks);
                let [own, other] = [busy, 1 - busy].map(|n| after[n] - before[n]);
                assert_eq!((own, other), (0, 100), "side {busy} is busy with {what}");
                assert!(!asked.is_finished());
                disks[busy].hang(false);
                asked.join().unwrap();
            });
            assert_eq!(mirror.sides(), [0, 1]);
        }
    }
}

/// A fast side that hangs beside a slow one gets the reads that came while nobody knew, and no others.
#[test]
fn a_fast_side_that_hangs_beside_a_slow_one_has_no_reads_any_more() {
    for fast in 0..2 {
        let (disks, mirror) = two_that_may_wait();
        let sides = mirror.members.read().clone().map(|member| member.unwrap().side);
        for (n, micros) in [(fast, 90), (1 - fast, 7000)] {
            (0..8).for_each(|_| sides[n].reads.note(Duration::from_micros(micros), 4096));
        }
        disks[fast].hang(true);
        std::thread::scope(|s| {
            let asked = s.spawn(|| mirror.read_side(fast, AT, &mut [0; 4096]).unwrap());
            wait_until("a read hangs", || disks[fast].waiting() == 1);
            wait_until("it is silent for long", || sides[fast].silent_for() > Duration::from_millis(20));
            let before = reads_of(&disks);
            (0..20).for_each(|_| read_right(&mirror));
            let after = reads_of(&disks);
            assert_eq!([fast, 1 - fast].map(|n| after[n] - before[n]), [0, 20], "side {fast} hangs");
            disks[fast].hang(false);
            asked.join().unwrap();
        });
        assert_eq!(mirror.sides(), [0, 1]);
    }
}

/// As long as both have the same to do, reads that come at once are shared out evenly.
#[test]
fn reads_that_come_at_once_are_made_on_both_sides() {
    let (disks, mirror) = two_that_may_wait();
    let before = reads_of(&disks);
    disks.iter().for_each(|disk| disk.hang(true));
    std::thread::scope(|s| {
        for n in 1..=8 {
            s.spawn(|| read_right(&mirror));
            // No more than four of each are under way, and the rest wait for these.
            wait_until("the read is under way", || under_way(&mirror, 0) + under_way(&mirror, 1) == n);
            let [a, b] = [0, 1].map(|side| under_way(&mirror, side));
            assert!(a.abs_diff(b) <= 1, "of {n} reads {a} are of one side and {b} of the other");
        }
        disks.iter().for_each(|disk| disk.hang(false));
    });
    let after = reads_of(&disks);
    assert_eq!([0, 1].map(|n| after[n] - before[n]), [4, 4]);
    assert_eq!(mirror.sides(), [0, 1]);
}

/// Reads of a slow side and of a fast one, when so many read at once until so many reads were made.
fn reads_of_slow_and_fast(slow: usize, readers: usize, reads: u64) -> [u64; 2] {
    let disks = [1, 2].map(|side| Arc::new(disk(side)));
    let takes_long = Takes(Duration::from_millis(10));
    let mut both: [Arc<dyn Device>; 2] = disks.clone().map(|disk| disk as Arc<dyn Device>);
    both[slow] = Arc::new(Hooked::over_shared(disks[slow].clone(), takes_long));
    let [a, b] = both;
    let mirror = Mirror::together([(a, together_label(1)), (b, together_label(2))], 7);
    let before = disks.clone().map(|disk| disk.counts().reads);
    let left = AtomicU64::new(reads);
    let is_left =
        || left.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| left.checked_sub(1)).is_ok();
    std::thread::scope(|s| {
        for _ in 0..readers {
            s.spawn(|| {
                while is_left() {
                    mirror.read_at(AT, &mut [0; 4096]).unwrap();
                }
            });
        }
    });
    assert_eq!(mirror.sides(), [0, 1]);
    [slow, 1 - slow].map(|n| disks[n].counts().reads - before[n])
}

/// Whoever reads from a slow disk and a fast one is not served at the pace of the slow one, whichever is the first, alone or beside
/// others. The slow one has a few of the reads, as long as it is not known to be slow, and to see whether it still is.
#[test]
fn of_a_slow_side_and_a_fast_one_the_fast_one_has_the_reads() {
    for slow in 0..2 {
        for readers in [1, 4] {
            let [of_slow, of_fast] = reads_of_slow_and_fast(slow, readers, 640);
            println!("side {slow} is slow, {readers} readers: {of_slow} reads of it, {of_fast} of the other");
            assert_eq!(of_slow + of_fast, 640);
            assert!(of_slow <= 40, "side {slow} is slow, {readers} readers: {of_slow} reads of it");
        }
    }
}

/// Each read takes so long.
struct Takes(Duration);

impl Hooks for Takes {
    fn before_read(&self, _at: u64) {
        std::thread::sleep(self.0);
    }
}

#[test]
fn a_side_that_fails_is_left_out_durably_before_a_flush_returns() {
    for (op, lost) in [(Op::Write, 0), (Op::Write, 1), (Op::Flush, 0), (Op::Flush, 1), (Op::Back, 1)] {
        let (sims, mirror) = pair();
        sims[lost].fail(op, 1, Persistence::Once);
        mirror.back(AT, 8192).unwrap();
        mirror.write_at(AT, &[3; 4096]).unwrap();
        mirror.flush().unwrap();
        let survivor = sims[1 - lost].crash(crate::device::CrashPolicy::DropAll);
        let ours = read_label(&survivor).unwrap().unwrap();
        assert_eq!((ours.standing, ours.parted_from), (Standing::Alone, 99), "{op:?} {lost}");
        assert_eq!(survivor.peek(AT, 4096), [3; 4096]);
        // Everything goes on without it, and it is told.
        mirror.write_at(AT, &[4; 4096]).unwrap();
        mirror.flush().unwrap();
        wait_for_calls(&mirror, lost);
        assert_eq!(standing(&*sims[lost]), Standing::Stale);
        assert_eq!(sims[1 - lost].peek(AT, 4096), [4; 4096]);
    }
}

#[test]
fn when_both_sides_fail_it_is_an_error_and_nobody_is_left_out() {
    let (sims, mirror) = pair();
    sims.iter().for_each(|sim| sim.fail(Op::Write, 1, Persistence::Once));
    assert!(mirror.write_at(AT, &[3; 4096]).is_err());
    assert_eq!(mirror.sides(), [0, 1]);
    assert!(sims.iter().all(|sim| standing(&**sim) == Standing::Together));
}

#[test]
fn a_side_that_is_full_is_left_out_and_one_that_both_are_is_told() {
    let (sims, mirror) = pair();
    sims[1].set_space_limit(sims[1].backed_bytes());
    mirror.back(AT, 1 << 20).unwrap();
    assert_eq!(mirror.sides(), [0]);
    let (sims, mirror) = pair();
    sims.iter().for_each(|sim| sim.set_space_limit(sim.backed_bytes()));
    assert!(matches!(mirror.back(AT, 1 << 20), Err(DeviceError::NoSpace)));
    assert_eq!(mirror.sides(), [0, 1]);
}

#[test]
fn a_side_that_hangs_stops_nothing_and_comes_back_only_when_its_calls_have_returned() {
    for op in [Op::Write, Op::Flush, Op::Read] {
        let (a, b) = (Arc::new(disk(1)), Hanging::new(disk(2)));
        let mirror = Mirror::together([(a.clone(), label(1)), (b.clone(), label(2))], 7);
        b.hang(true);
        match op {
            Op::Write => mirror.write_at(AT, &[5; 4096]).unwrap(),
            Op::Flush => mirror.flush().unwrap(),
            // A read asks one side, and the other if that says nothing.
            _ => assert!(mirror.read_side(1, AT, &mut [0; 4096]).is_err()),
        }
        mirror.flush().unwrap();
        assert_eq!(mirror.sides(), [0]);
        assert_eq!(standing(&*a), Standing::Alone);
        mirror.write_at(AT, &[6; 4096]).unwrap();
        let new = || NewSide {
            device: b.clone(),
            path: Vec::new(),
            partner_path: Vec::new(),
            limit: Duration::from_millis(u64::from(LIMIT_MS)),
        };
        assert!(mirror.states()[1].as_ref().unwrap().pending_calls > 0);
        let refused = mirror.join(new(), &[]).unwrap_err().to_string();
        assert!(refused.contains("have not returned"), "{refused}");
        b.hang(false);
        wait_for_calls(&mirror, 1);
        assert_eq!(standing(&b.sim), Standing::Stale, "it was told when it listened again");
        mirror.join(new(), &[]).unwrap();
        assert_eq!(standing(&b.sim), Standing::Incomplete);
        mirror.copy(AT, 1 << 20).unwrap();
        mirror.complete().unwrap();
        assert_eq!(b.sim.peek(AT, 4096), a.peek(AT, 4096));
        let [ours, theirs] = [read_label(&*a), read_label(&b.sim)].map(|l| l.unwrap().unwrap());
        assert_eq!(meet(&ours, &theirs), Both::Together);
    }
}

/// Whichever side hangs, the other is served by whoever is not held up in it, however many calls are.
#[test]
fn many_calls_that_hang_in_either_side_leave_threads_for_the_other() {
    for hangs in 0..2 {
        let hung = Hanging::new(disk(hangs as u64 + 1));
        let sound = Arc::new(disk(2 - hangs as u64));
        let mut both: [Arc<dyn Device>; 2] = [hung.clone(), sound.clone()];
        both.rotate_right(hangs);
        let [a, b] = both;
        let mirror = Mirror::together([(a, label(1)), (b, label(2))], 7);
        hung.hang(true);
        std::thread::scope(|s| {
            for n in 0..12u64 {
                let mirror = &mirror;
                // Some of them in parts.
                let len = if n % 3 == 0 { 600 << 10 } else { 4096 };
                s.spawn(move || mirror.write_at(AT + (n << 20), &vec![n as u8 + 1; len]).unwrap());
            }
        });
        assert_eq!(mirror.sides(), [1 - hangs]);
        for n in 0..12u64 {
            assert_eq!(sound.peek(AT + (n << 20), 4096), [n as u8 + 1; 4096], "{hangs} {n}");
        }
        mirror.flush().unwrap();
        assert_eq!(standing(&*sound), Standing::Alone);
        hung.hang(false);
        wait_for_calls(&mirror, hangs);
    }
}

#[test]
fn much_at_once_is_the_same_on_both_sides_and_fails_as_a_whole() {
    let content: Vec<u8> = (0..3_000_000u32).map(|n| (n / 4096) as u8 ^ n as u8).collect();
    let content = &content[..content.len() / 4096 * 4096];
    let (sims, mirror) = pair();
    mirror.write_at(AT, content).unwrap();
    for sim in &sims {
        assert!(sim.peek(AT, content.len() as u64) == content);
    }
    // The third part of it is not written on one side.
    sims[0].fail(Op::Write, 3, Persistence::Once);
    mirror.write_at(AT, &content[4096..]).unwrap();
    assert_eq!(mirror.sides(), [1]);
    assert!(sims[1].peek(AT, content.len() as u64 - 4096) == content[4096..]);
}

#[test]
fn what_is_written_while_a_side_is_filled_is_not_undone_by_the_copy() {
    let (a, b) = (Arc::new(disk(1)), Arc::new(Sim::new(SIZE, 9)));
    let mirror = Mirror::solo(a.clone(), 3);
    let new = NewSide {
        device: b.clone(),
        path: Vec::new(),
        partner_path: Vec::new(),
        limit: Duration::from_secs(600),
    };
    mirror.join(new, &[]).unwrap();
    std::thread::scope(|s| {
        let writers: Vec<_> = (0..3u64)
            .map(|n| {
                let mirror = &mirror;
                s.spawn(move || {
                    let mut rng = fastrand::Rng::with_seed(n);
                    for round in 0..400u64 {
                        let at = AT + (rng.u64(0..64) * 3 + n) * 4096;
                        mirror.write_at(at, &[round as u8; 4096]).unwrap();
                    }
                })
            })
            .collect();
        while writers.iter().any(|writer| !writer.is_finished()) {
            for piece in 0..3 {
                mirror.copy(AT + piece * 256 * 1024, 256 * 1024).unwrap();
            }
        }
    });
    mirror.complete().unwrap();
    assert!(a.peek(AT, 64 * 3 * 4096) == b.peek(AT, 64 * 3 * 4096));
}

fn new_side(device: Arc<dyn Device>) -> NewSide {
    let limit = Duration::from_millis(u64::from(LIMIT_MS));
    NewSide { device, path: Vec::new(), partner_path: Vec::new(), limit }
}

#[test]
fn a_filling_that_failed_leaves_no_word_that_a_later_flush_says_of_equals() {
    let (sims, mirror) = pair();
    sims[1].fail(Op::Write, 1, Persistence::Once);
    mirror.write_at(AT, &[3; 4096]).unwrap();
    mirror.flush().unwrap();
    wait_for_calls(&mirror, 1);
    // Nothing is flushed from here on: the first filling fails, the second does not.
    mirror.join(new_side(sims[1].clone()), &[]).unwrap();
    sims[1].fail(Op::Write, 1, Persistence::Once);
    assert!(mirror.copy(AT, 1 << 20).is_err());
    wait_for_calls(&mirror, 1);
    mirror.join(new_side(sims[1].clone()), &[]).unwrap();
    mirror.copy(AT, 1 << 20).unwrap();
    mirror.complete().unwrap();
    mirror.flush().unwrap();
    assert_eq!(mirror.sides(), [0, 1]);
    let [ours, theirs] = sims.map(|sim| read_label(&*sim).unwrap().unwrap());
    assert_eq!((ours.standing, theirs.standing), (Standing::Together, Standing::Together));
    assert_eq!(meet(&ours, &theirs), Both::Together);
}

#[test]
fn a_loss_that_no_flush_has_met_is_told_before_the_side_comes_back() {
    let (sims, mirror) = pair();
    sims[1].fail(Op::Write, 1, Persistence::Once);
    mirror.write_at(AT, &[3; 4096]).unwrap();
    sims[1].fail(Op::Write, 1, Persistence::Forever);
    wait_for_calls(&mirror, 1);
    assert!(mirror.join(new_side(sims[1].clone()), &[]).is_err());
    let [ours, theirs] = sims.map(|sim| read_label(&*sim).unwrap().unwrap());
    assert_eq!(meet(&ours, &theirs), Both::FirstAhead);
}

#[test]
fn a_side_whose_partner_was_parted_is_the_last() {
    let (sims, mirror) = pair();
    let [first, second] = mirror.members.read().clone().map(|member| member.unwrap().side);
    mirror.part().unwrap();
    // Reads that began before and are late.
    assert!(mirror.lose(&second, "late"), "nobody waits for it");
    assert!(!mirror.lose(&first, "late"), "there is no other");
    mirror.write_at(AT, &[3; 4096]).unwrap();
    mirror.flush().unwrap();
    assert_eq!((mirror.sides(), standing(&*sims[0])), (vec![0], Standing::Alone));
}

#[test]
fn the_only_side_that_serves_may_take_its_time_while_another_is_filled() {
    let (a, b) = (Hanging::new(Sim::new(SIZE, 1)), Arc::new(Sim::new(SIZE, 2)));
    let mirror = Mirror::solo(a.clone(), 3);
    mirror.join(NewSide { limit: Duration::from_millis(50), ..new_side(b.clone()) }, &[]).unwrap();
    a.hang(true);
    std::thread::scope(|s| {
        let write = s.spawn(|| mirror.write_at(AT, &[5; 4096]));
        while b.peek(AT, 4096) != [5; 4096] {
            std::thread::yield_now();
        }
        // The other has answered long ago, and this one takes several times what it may.
        std::thread::sleep(Duration::from_millis(200));
        a.hang(false);
        write.join().unwrap().unwrap();
    });
    assert_eq!(a.sim.peek(AT, 4096), [5; 4096]);
    mirror.flush().unwrap();
}

#[test]
fn a_new_side_that_hangs_keeps_nobody_but_the_order_and_that_not_for_long() {
    let (a, b) = (Arc::new(disk(1)), Hanging::new(Sim::new(SIZE, 2)));
    let mirror = Mirror::solo(a.clone(), 3);
    b.hang(true);
    let limit = Duration::from_secs(600);
    std::thread::scope(|s| {
        let joined = s.spawn(|| mirror.join(NewSide { limit, ..new_side(b.clone()) }, &[]));
        while b.waiting() == 0 {
            std::thread::yield_now();
        }
        // Who flushes and who asks how the sides are wait for nothing.
        mirror.write_at(AT, &[5; 4096]).unwrap();
        mirror.flush().unwrap();
        assert_eq!(mirror.states().iter().flatten().count(), 1);
        b.hang(false);
        joined.join().unwrap().unwrap();
    });
    let b = Hanging::new(disk(2));
    let mirror = Mirror::together([(a.clone(), label(1)), (b.clone(), label(2))], 7);
    b.hang(true);
    let parted = mirror.part().unwrap();
    assert!(parted.call(|device| device.flush()).is_err(), "it is late");
    assert!(mirror.left(&parted).is_err() && parted.pending_calls() > 0);
    mirror.flush().unwrap();
    let mirror = Mirror::solo(a, 3);
    let refused = mirror.join(NewSide { limit: Duration::from_millis(20), ..new_side(b.clone()) }, &[]);
    assert!(refused.unwrap_err().to_string().contains("did not answer"));
    b.hang(false);
}

#[test]
fn a_side_that_does_not_say_how_much_space_it_has_is_asked_once() {
    let (a, b) = (Arc::new(disk(1)), Hanging::new(disk(2)));
    let mirror = Mirror::together([(a.clone(), label(1)), (b.clone(), label(2))], 7);
    b.hang(true);
    assert_eq!(mirror.available(), a.available());
    assert_eq!(mirror.sides(), [0]);
    b.hang(false);
}

#[test]
fn a_path_that_no_label_has_room_for_is_refused() {
    let mirror = Mirror::solo(Arc::new(disk(1)), 3);
    let new = NewSide { partner_path: vec![b'p'; 4000], ..new_side(Arc::new(Sim::new(SIZE, 2))) };
    assert!(mirror.join(new, &[]).unwrap_err().to_string().contains("too long"));
}

/// A question of the device, by name.
type Question = (&'static str, fn(&Mirror));

/// Everything that a device can be asked, of a mirror whose first or second side hangs.
#[test]
fn no_question_is_held_up_by_a_side_that_hangs() {
    let questions: [Question; 17] = [
        ("size", |m| assert_eq!(m.size(), SIZE)),
        ("read_at", |m| m.read_at(AT, &mut [0; 4096]).unwrap()),
        ("read_one", |m| {
            let mut block = [0; 4096];
            // Whoever proves what is read asks the other side.
            let read = m.read_one(AT, &mut block);
            read.or_else(|_| m.read_side(m.sides()[0], AT, &mut block)).unwrap();
        }),
        ("sides", |m| assert!(!m.sides().is_empty())),
        ("write_at", |m| m.write_at(AT, &[1; 4096]).unwrap()),
        ("write_side", |m| {
            let written = [0, 1].map(|n| m.write_side(n, AT, &[1; 4096]).is_ok());
            assert_eq!(written.iter().filter(|done| **done).count(), 1);
        }),
        ("flush", |m| m.flush().unwrap()),
        ("flush_inherited", |m| m.flush_inherited().unwrap()),
        ("back", |m| m.back(AT, 4096).unwrap()),
        ("discard", |m| m.discard(AT, 4096)),
        ("release and will_need", |m| {
            m.release(AT, 4096);
            m.will_need(AT, 4096);
        }),
        ("stored", |m| assert_eq!(m.stored(), [(AT, 4096)])),
        ("all_stored", |m| assert_eq!(m.all_stored().unwrap(), [(AT, 4096)])),
        ("kept_parts", |m| assert_eq!(m.kept_parts(), Some(vec![(AT, 4096, 2048)]))),
        ("available", |m| assert!(m.available() > 0)),
        ("describe and how the sides are", |m| {
            assert_eq!(m.describe(), "a disk that hangs");
            assert_eq!(m.states().iter().flatten().count(), 2);
        }),
        ("location, birth and limit_met", |m| {
            assert_eq!(m.location().path, Some("/disks/one".into()));
            assert_eq!((m.birth(AT), m.limit_met()), (None, None));
        }),
    ];
    for (what, ask) in questions {
        for hangs in 0..2 {
            let disks = [1, 2].map(|side| Hanging::new(disk(side)));
            let [a, b] = disks.clone();
            let mirror = Arc::new(Mirror::together([(a, label(1)), (b, label(2))], 7));
            disks[hangs].hang(true);
            let asked = mirror.clone();
            let answered = crate::device::patience::patiently(20 * LIMIT, move |_| ask(&asked));
            assert!(answered.is_some(), "{what} of a mirror whose side {hangs} hangs");
            mirror.flush().unwrap();
            assert_eq!(mirror.sides(), [1 - hangs], "{what}");
            disks[hangs].hang(false);
        }
    }
}

#[test]
fn what_is_stored_is_what_either_side_has_and_what_is_kept_what_both_have() {
    let [a, b] =
        [(1, (AT, 3 << 20)), (2, (AT + (1 << 20), 3 << 20))].map(|(n, at)| Hanging::with(disk(n), at));
    let mirror = Mirror::together([(a.clone(), label(1)), (b, label(2))], 7);
    assert_eq!(mirror.stored(), [(AT, 4 << 20)]);
    assert_eq!(mirror.all_stored().unwrap(), [(AT, 4 << 20)]);
    assert_eq!(mirror.kept_parts(), Some(vec![(AT + (1 << 20), 2 << 20, 3 << 19)]));
    // One that does not tell leaves it to the other.
    let mirror = Mirror::together([(a, label(1)), (Arc::new(disk(2)), label(2))], 7);
    assert_eq!(mirror.kept_parts(), Some(vec![(AT, 3 << 20, 3 << 19)]));
}

#[test]
fn a_thread_that_cannot_be_had_is_tried_again_by_who_waits() {
    type Ask = fn(&Mirror);
    let asks: [Ask; 4] = [
        |m| m.write_at(AT, &[5; 4096]).unwrap(),
        |m| m.write_at(AT, &vec![5; 600 << 10]).unwrap(),
        |m| m.read_side(1, AT, &mut [0; 4096]).unwrap(),
        |m| drop(m.location()),
    ];
    for ask in asks {
        let [a, b] = [1, 2].map(|n| Arc::new(disk(n)));
        let long = |side| Label { limit_ms: 600_000, ..label(side) };
        let mirror = Arc::new(Mirror::together([(a, long(1)), (b, long(2))], 7));
        mirror.crew.refuse_threads(7);
        let asked = mirror.clone();
        let answered = crate::device::patience::patiently(Duration::from_secs(20), move |_| ask(&asked));
        assert!(answered.is_some() && mirror.sides() == [0, 1]);
    }
}

/// Has one call fail an assertion.
struct Failing(Mutex<bool>);

impl Hooks for Failing {
    fn before_write(&self, _: usize) {
        assert!(!std::mem::take(&mut *self.0.lock()), "a call that fails, on purpose");
    }
}

#[test]
fn a_call_that_fails_an_assertion_has_returned_and_loses_its_side() {
    let sims = [1, 2].map(|n| Arc::new(disk(n)));
    let [a, b] = sims.clone();
    let failing = Arc::new(Hooked::over_shared(b, Failing(Mutex::new(true))));
    let mirror = Mirror::together([(a, together_label(1)), (failing.clone(), together_label(2))], 7);
    mirror.write_at(AT, &[5; 4096]).unwrap();
    assert_eq!(mirror.sides(), [0]);
    let state = mirror.states()[1].clone().unwrap();
    assert!(state.why.as_ref().is_some_and(|why| why.contains("assertion")), "{state:?}");
    mirror.flush().unwrap();
    wait_for_calls(&mirror, 1);
    mirror.join(new_side(failing), &[]).unwrap();
    mirror.copy(AT, 1 << 20).unwrap();
    mirror.complete().unwrap();
    assert_eq!(sims[1].peek(AT, 4096), [5; 4096]);
}

#[test]
fn a_device_that_was_late_once_is_asked_no_more_and_held_until_it_answers() {
    let b = Hanging::new(disk(2));
    let held = Arc::new(());
    let timed = Timed::new(b.clone(), "a disk".into(), (LIMIT, None), held.clone());
    assert!(timed.read_at(AT, &mut [0; 4096]).is_ok() && timed.available() > 0);
    b.hang(true);
    assert!(timed.write_at(AT, &[7; 4096]).unwrap_err().to_string().contains("did not answer"));
    let since = std::time::Instant::now();
    for _ in 0..1000 {
        assert!(timed.flush().unwrap_err().to_string().contains("did not answer"));
        assert_eq!((timed.birth(0), timed.stored(), timed.kept_parts()), (None, Vec::new(), None));
    }
    assert!(since.elapsed() < 100 * LIMIT, "it is not waited for again");
    assert_eq!(b.waiting(), 1);
    drop(timed);
    assert_eq!(Arc::strong_count(&held), 2, "what is late may still be written");
    b.hang(false);
    while Arc::strong_count(&held) > 1 {
        std::thread::yield_now();
    }
    assert_eq!(b.sim.peek(AT, 4096), [7; 4096]);
}

/// Whoever opens a block device that left is the only one who has it.
#[test]
fn a_side_that_left_is_let_go_of_when_its_calls_have_returned() {
    let (a, b) = (Arc::new(disk(1)), Arc::new(disk(2)));
    let mirror = Mirror::together([(a, label(1)), (b.clone(), label(2))], 7);
    drop(mirror.part().unwrap());
    let device: Arc<dyn Device> = b.clone();
    assert!(mirror.have_returned(&device, Duration::from_secs(20)));
    drop(device);
    let until = std::time::Instant::now() + Duration::from_secs(20);
    while Arc::strong_count(&b) > 1 {
        assert!(std::time::Instant::now() < until, "somebody has it still");
        std::thread::yield_now();
    }
}

/// A call that was made before a side left, or by an order that failed, may change its label later: so it does not come back
/// before that has returned.
#[test]
fn a_side_does_not_come_back_while_calls_from_before_it_left_are_on_their_way() {
    for never_came in [false, true] {
        let (a, b) = (Arc::new(disk(1)), Hanging::new(disk(2)));
        let mirror = Mirror::together([(a.clone(), label(1)), (b.clone(), label(2))], 7);
        let parted = mirror.part().unwrap();
        if never_came {
            drop(parted);
            b.hang(true);
            let late = mirror.join(new_side(b.clone()), &[]).unwrap_err();
            assert!(late.to_string().contains("did not answer"), "{late}");
        } else {
            b.hang(true);
            let stale = Label { number: 2, standing: Standing::Stale, ..parted.label.clone() };
            assert!(parted.call(move |device| write_label(device, &stale)).is_err(), "it is late");
        }
        let refused = mirror.join(new_side(b.clone()), &[]).unwrap_err();
        assert!(refused.to_string().contains("have not returned"), "{refused}");
        // Another may.
        let c = Arc::new(Sim::new(SIZE, 3));
        mirror.join(new_side(c), &[]).unwrap();
        mirror.give_up("it was a test");
        wait_for_calls(&mirror, 1);
        assert!(mirror.forget_lost());
        b.hang(false);
        let device: Arc<dyn Device> = b.clone();
        assert!(mirror.have_returned(&device, Duration::from_secs(60)));
        let before = read_label(&*b).unwrap().unwrap();
        mirror.join(new_side(b.clone()), &[]).unwrap();
        let theirs = read_label(&*b).unwrap().unwrap();
        assert_eq!((theirs.standing, theirs.number), (Standing::Incomplete, before.number + 1));
    }
}

/// Everything that is asked of one side or of both.
fn calls_of_sides() -> [Question; 10] {
    [
        ("read_at", |m| m.read_at(AT, &mut [0; 4096]).unwrap()),
        ("read_one", |m| m.read_one(AT, &mut [0; 4096]).unwrap()),
        ("read_side", |m| m.read_side(1, AT, &mut [0; 4096]).unwrap()),
        ("write_at", |m| m.write_at(AT, &[1; 4096]).unwrap()),
        ("write_at, much", |m| m.write_at(AT, &vec![1; 600 << 10]).unwrap()),
        ("write_side", |m| m.write_side(0, AT, &[1; 4096]).unwrap()),
        ("flush", |m| m.flush().unwrap()),
        ("location", |m| assert_eq!(m.location().path, Some("/disks/one".into()))),
        ("all_stored", |m| assert_eq!(m.all_stored().unwrap(), [(AT, 4096)])),
        ("available", |m| assert!(m.available() > 0)),
    ]
}

/// Both sides of a mirror with a limit of a second, which hang.
fn two_that_hang() -> ([Arc<Hanging>; 2], Mirror) {
    let disks = [1, 2].map(|side| Hanging::new(disk(side)));
    let [a, b] = disks.clone();
    let label = |side| Label { limit_ms: 1000, ..label(side) };
    let mirror = Mirror::together([(a, label(1)), (b, label(2))], 7);
    disks.iter().for_each(|disk| disk.hang(true));
    (disks, mirror)
}

#[test]
fn a_limit_that_is_set_is_on_both_sides_whatever_fails() {
    const LONG: Duration = Duration::from_secs(600);
    let label_of = |sim: &Sim| read_label(&sim.crash(crate::device::CrashPolicy::DropAll)).unwrap().unwrap();
    let (sims, mirror) = pair();
    assert_eq!(mirror.side_limit(), Some(LIMIT));
    mirror.set_side_limit(LONG).unwrap();
    let told = sims.clone().map(|sim| label_of(&sim)).map(|l| (l.limit_ms, l.standing, l.current, l.number));
    assert_eq!(told, [(600_000, Standing::Together, 99, 2); 2]);
    assert_eq!((mirror.side_limit(), mirror.time_limit()), (Some(LONG), LONG));
    // A side that does not take it is left out; the other has it, and says that it goes on alone.
    for (op, lost) in [(Op::Write, 0), (Op::Write, 1), (Op::Flush, 0), (Op::Flush, 1)] {
        let (sims, mirror) = pair();
        sims[lost].fail(op, 1, Persistence::Once);
        mirror.set_side_limit(LONG).unwrap();
        let ours = label_of(&sims[1 - lost]);
        assert_eq!(
            (ours.limit_ms, ours.standing, mirror.sides()),
            (600_000, Standing::Alone, vec![1 - lost])
        );
        mirror.set_side_limit(LIMIT).unwrap();
        assert_eq!(label_of(&sims[1 - lost]).limit_ms, LIMIT_MS);
    }
    // If neither takes it, it is as it was, and can be set again.
    let (sims, mirror) = pair();
    sims.iter().for_each(|sim| sim.fail(Op::Write, 1, Persistence::Once));
    assert!(mirror.set_side_limit(LONG).is_err());
    assert_eq!(mirror.time_limit(), LIMIT);
    mirror.set_side_limit(LONG).unwrap();
    assert_eq!(sims.clone().map(|sim| label_of(&sim).limit_ms), [600_000; 2]);
    // A power cut between the two labels: the next opening gives both what one of them has.
    let [a, b] = sims.clone().map(|sim| Arc::new(sim.clone_image()));
    let other = Label { number: 9, ..label(2) };
    write_label(&*b, &other).unwrap();
    let (ours, a, b): (_, Arc<dyn Device>, Arc<dyn Device>) = (label_of(&a), a, b);
    let mirror = Mirror::opened([(a.clone(), ours), (b.clone(), other)], 5, 7).unwrap();
    assert_eq!(mirror.time_limit(), LONG);
    assert_eq!([a, b].map(|side| read_label(&*side).unwrap().unwrap().limit_ms), [600_000; 2]);
    // One without another side has none.
    let mirror = Mirror::solo(Arc::new(disk(1)), 3);
    assert!(mirror.side_limit().is_none() && mirror.set_side_limit(LONG).is_err());
}

/// A suspended machine, or one disk under both: whichever goes on first, the other is not long after it.
#[test]
fn when_both_sides_stand_still_for_longer_than_the_limit_neither_is_lost() {
    let stand_still = |(what, ask): Question, first: usize, limits: u32| {
        let (disks, mirror) = two_that_hang();
        let limit = mirror.time_limit();
        std::thread::scope(|s| {
            let asked = s.spawn(|| ask(&mirror));
            // In the midst of the time that is given to who was asked or to its partner.
            std::thread::sleep(limit * limits + limit / 2);
            disks[first].hang(false);
            std::thread::sleep(limit / 20);
            disks[1 - first].hang(false);
            asked.join().unwrap();
        });
        mirror.flush().unwrap();
        assert_eq!(mirror.sides(), [0, 1], "{what}, {first} went on first after {limits} and a half");
    };
    std::thread::scope(|s| {
        for call in calls_of_sides() {
            for (first, limits) in [(0, 3), (1, 3), (0, 1), (1, 1)] {
                s.spawn(move || stand_still(call, first, limits));
            }
        }
    });
}

#[test]
fn a_side_that_hangs_is_left_behind_after_the_limit_and_one_short_question() {
    let hang = |(what, ask): Question| {
        let (disks, mirror) = two_that_hang();
        let limit = mirror.time_limit();
        // The one that is asked by name in some of them.
        let hangs = usize::from(what == "read_side");
        disks[1 - hangs].hang(false);
        let since = std::time::Instant::now();
        // Who asks that one by name has no answer.
        let _failed = catch_unwind(AssertUnwindSafe(|| ask(&mirror)));
        let took = since.elapsed();
        mirror.flush().unwrap();
        assert_eq!(mirror.sides(), [1 - hangs], "{what}");
        assert!(took >= limit && took < limit * 2, "{what} was held up for {took:?}");
        disks[hangs].hang(false);
    };
    std::thread::scope(|s| {
        for call in calls_of_sides() {
            s.spawn(move || hang(call));
        }
    });
}

/// What is made ready on two disks, to be done when they hang.
type Order = Box<dyn FnOnce() -> Result<(), String> + Send>;
/// How that is made ready, by name.
type Prepared = (&'static str, fn([Arc<Hanging>; 2]) -> Order);

/// Everything that waits for a side that takes part in nothing yet, or no more.
fn orders() -> [Prepared; 4] {
    [
        ("one that left", |[a, b]| {
            let mirror = Mirror::together([(a, label(1)), (b, label(2))], 7);
            let parted = mirror.part().unwrap();
            Box::new(move || mirror.left(&parted).map_err(|e| e.to_string()))
        }),
        ("one that left and has calls on their way", |[a, b]| {
            let mirror = Mirror::together([(a, label(1)), (b.clone(), label(2))], 7);
            let parted = mirror.part().unwrap();
            Box::new(move || {
                parted.side.send(|device| drop(device.flush()));
                mirror.join(new_side(b), &[]).map_err(|e| e.to_string())
            })
        }),
        ("one that is to come", |[a, b]| {
            let mirror = Mirror::solo(a, 3);
            Box::new(move || mirror.join(new_side(b), &[]).map_err(|e| e.to_string()))
        }),
        ("one that is asked what it is", |[a, b]| {
            let timed = Timed::new(b, "a disk".into(), (LIMIT, Some(bystander(a))), Arc::new(()));
            Box::new(move || timed.read_at(AT, &mut [0; 4096]).map_err(|e| e.to_string()))
        }),
    ]
}

#[test]
fn a_side_that_takes_part_in_nothing_is_late_only_if_another_answers_meanwhile() {
    let hanging = || [1, 2].map(|side| Hanging::new(disk(side)));
    std::thread::scope(|s| {
        for (what, order) in orders() {
            for (first, limits) in [(0, 3), (1, 3), (0, 1), (1, 1)] {
                s.spawn(move || {
                    let disks = hanging();
                    let order = order(disks.clone());
                    disks.iter().for_each(|disk| disk.hang(true));
                    let done = std::thread::spawn(order);
                    std::thread::sleep(LIMIT * limits + LIMIT / 2);
                    disks[first].hang(false);
                    std::thread::sleep(LIMIT / 20);
                    disks[1 - first].hang(false);
                    let done = done.join().unwrap();
                    assert_eq!(done, Ok(()), "{what}, {first} went on first after {limits} and a half");
                });
            }
            s.spawn(move || {
                let disks = hanging();
                let order = order(disks.clone());
                disks[1].hang(true);
                let since = std::time::Instant::now();
                let late = order().unwrap_err();
                assert!(late.contains("did not answer") || late.contains("not returned"), "{what}: {late}");
                assert!(since.elapsed() < LIMIT * 2, "{what} held up {:?}", since.elapsed());
                disks[1].hang(false);
            });
        }
    });
}

/// Whoever waits for both has the error of the one that answers, and nobody waits for the other for ever.
#[test]
fn a_side_that_hangs_beside_one_that_is_full_stops_nothing() {
    for another_call_loses_it in [false, true] {
        let (a, b) = (Arc::new(disk(1)), Hanging::new(disk(2)));
        let mirror = Mirror::together([(a.clone(), label(1)), (b.clone(), label(2))], 7);
        a.set_space_limit(a.backed_bytes());
        b.hang(true);
        std::thread::scope(|s| {
            let asked = s.spawn(|| mirror.back(AT, 1 << 20));
            if another_call_loses_it {
                assert!(mirror.leave_out(1, "it was taken away"));
            }
            let until = std::time::Instant::now() + 50 * LIMIT;
            while !asked.is_finished() && std::time::Instant::now() < until {
                std::thread::sleep(LIMIT / 20);
            }
            let is_stopped = !asked.is_finished();
            if is_stopped {
                b.hang(false);
            }
            let said = asked.join().unwrap();
            assert!(matches!(said, Err(DeviceError::NoSpace)), "{said:?}");
            assert!(!is_stopped, "it waited for one that hangs");
        });
        assert_eq!(mirror.sides(), [0]);
        b.hang(false);
        wait_for_calls(&mirror, 1);
        assert!(mirror.forget_lost());
    }
}

/// What a partner that answers nothing but errors would go on with is nothing.
#[test]
fn a_side_that_is_late_is_not_left_for_one_that_cannot_be_read() {
    let (a, b) = (Hanging::new(disk(1)), Arc::new(disk(2)));
    let mirror = Mirror::together([(a.clone(), label(1)), (b.clone(), label(2))], 7);
    a.hang(true);
    b.fail(Op::Read, 1, Persistence::Forever);
    std::thread::scope(|s| {
        let asked = s.spawn(|| mirror.read_side(0, AT, &mut [0; 4096]));
        std::thread::sleep(3 * LIMIT);
        a.hang(false);
        asked.join().unwrap().unwrap();
    });
    assert_eq!(mirror.sides(), [0, 1]);
}

#[test]
fn a_question_that_takes_long_and_goes_on_costs_no_side() {
    let questions: [Question; 4] = [
        ("stored", |m| assert_eq!(m.stored(), [(AT, 4096)])),
        ("all_stored", |m| assert_eq!(m.all_stored().unwrap(), [(AT, 4096)])),
        ("kept_parts", |m| assert_eq!(m.kept_parts(), Some(vec![(AT, 4096, 2048)]))),
        ("flush_inherited", |m| m.flush_inherited().unwrap()),
    ];
    let slow = |side| Hanging::slow(disk(side), (AT, 4096), (10, LIMIT / 4));
    for (what, ask) in questions {
        let (a, b) = (Hanging::new(disk(1)), slow(2));
        let mirror = Mirror::together([(a, label(1)), (b, label(2))], 7);
        ask(&mirror);
        mirror.flush().unwrap();
        assert_eq!(mirror.sides(), [0, 1], "{what}");
    }
    // So it is with a side that is being filled, and with one that is none.
    let mirror = Mirror::solo(Arc::new(disk(1)), 3);
    let b = slow(2);
    mirror.join(new_side(b.clone()), &[]).unwrap();
    assert_eq!(mirror.stored_there(), [(AT, 4096)]);
    let timed = Timed::new(b, "a disk".into(), (LIMIT, None), Arc::new(()));
    assert!(timed.all_stored().is_ok() && !timed.is_lost());
}

/// Labels in the places of a disk that can be read, by place.
fn labels_of(sim: &Sim) -> [Option<Label>; 4] {
    LABEL_ADDRS.map(|at| Label::decode(&sim.peek(at, LABEL_BYTES as u64)).ok().flatten())
}

/// A label that is known to be in force is written over by none, whichever write or flush of the next one fails.
fn is_there_still(sim: &Sim, label: &Label, what: &str) {
    let places = labels_of(sim);
    let kept = LABEL_ADDRS.iter().zip(&places).filter(|(at, _)| label.addrs().contains(at));
    assert!(kept.into_iter().all(|(_, found)| found.as_ref() == Some(label)), "{what}: {places:?}");
}

#[test]
fn a_label_that_failed_is_followed_by_one_in_its_place() {
    for (op, side) in [(Op::Write, 0), (Op::Write, 1), (Op::Flush, 0), (Op::Flush, 1)] {
        // Both labels of an opening.
        for n in 1.. {
            let sims = [1, 2].map(|n| Arc::new(disk(n)));
            sims[side].fail(op, n, Persistence::Once);
            let [a, b] = sims.clone();
            let mirror = Mirror::opened([(a, label(1)), (b, label(2))], 5, 7).unwrap();
            let what = format!("opening, {op:?} {n} of side {side}");
            if mirror.sides() == [0, 1] {
                assert_eq!(n, if op == Op::Write { 3 } else { 2 }, "{what}: it has not failed");
                break;
            }
            mirror.flush().unwrap();
            wait_for_calls(&mirror, side);
            is_there_still(&sims[side], &label(side as u64 + 1), &what);
            let [ours, theirs] = [1 - side, side].map(|n| read_label(&*sims[n]).unwrap().unwrap());
            assert_eq!(meet(&ours, &theirs), Both::FirstAhead, "{what}");
            assert_eq!((theirs.standing, theirs.number), (Standing::Stale, 2), "{what}");
        }
        // The labels of a side that is complete, and what a flush says after that.
        for n in 1.. {
            let sims = [1, 2].map(|n| Arc::new(Sim::new(SIZE, n)));
            let mirror = Mirror::solo(sims[0].clone(), 3);
            mirror.join(new_side(sims[1].clone()), &[]).unwrap();
            mirror.copy(AT, 1 << 20).unwrap();
            let before = sims.clone().map(|sim| read_label(&*sim).unwrap().unwrap());
            sims[side].fail(op, n, Persistence::Once);
            let done = mirror.complete();
            let what = format!("complete, {op:?} {n} of side {side}");
            if done.is_ok() {
                let calls = if op == Op::Write { 3 } else { 2 + side as u64 };
                assert_eq!(n, calls, "{what}: it has not failed");
                break;
            }
            mirror.give_up("it was a test");
            is_there_still(&sims[0], &before[0], &what);
            is_there_still(&sims[1], &before[1], &what);
            mirror.flush().unwrap();
            wait_for_calls(&mirror, 1);
            // That of the first was acknowledged if the second has failed.
            is_there_still(&sims[side], &before[side], &what);
            let [ours, theirs] = sims.clone().map(|sim| read_label(&*sim).unwrap().unwrap());
            assert_eq!((ours.standing, meet(&ours, &theirs)), (Standing::Alone, Both::FirstAhead), "{what}");
            // And it comes back, at whatever number it is.
            mirror.join(new_side(sims[1].clone()), &[]).unwrap();
            mirror.copy(AT, 1 << 20).unwrap();
            mirror.complete().unwrap();
            let [ours, theirs] = sims.map(|sim| read_label(&*sim).unwrap().unwrap());
            assert_eq!(meet(&ours, &theirs), Both::Together, "{what}");
        }
        // What goes on alone says so, at last.
        for n in 1.. {
            let (sims, mirror) = pair();
            let survivor = 1 - side;
            let other = if op == Op::Write { Op::Flush } else { Op::Write };
            sims[side].fail(Op::Write, 1, Persistence::Once);
            mirror.write_at(AT, &[3; 4096]).unwrap();
            wait_for_calls(&mirror, side);
            sims[survivor].fail(other, n, Persistence::Once);
            let what = format!("alone, {other:?} {n} of side {survivor}");
            if mirror.flush().is_ok() {
                assert_eq!(n, 3, "{what}: it has not failed");
                break;
            }
            let before = label(survivor as u64 + 1);
            is_there_still(&sims[survivor], &before, &what);
            mirror.flush().unwrap();
            is_there_still(&sims[survivor], &before, &what);
            assert_eq!(standing(&*sims[survivor]), Standing::Alone, "{what}");
        }
    }
}
