//! The rules against an oracle that asks of each pair of snapshots, over random histories with clocks that jump, run backwards and
//! stand at 1970, with times in which nobody is there; and a year of minutes.

use super::*;
use crate::clock::{rfc3339, seconds_from_date};
use crate::ops::Timestamp;
use fastrand::Rng;
use std::collections::BTreeSet;
use std::time::Duration;

#[path = "../../tests/common/minutes.rs"]
mod minutes;

use minutes::{Minutes, RULES};

fn rules(text: &str) -> Schedule {
    parse_rules("default", text).unwrap_or_else(|e| panic!("{text}: {e}"))
}

fn at(y: i64, mo: i64, d: i64, h: i64, mi: i64) -> i64 {
    seconds_from_date(y, mo, d).unwrap() + h * 3600 + mi * 60
}

fn there(times: &[i64]) -> Vec<TakenSnapshot> {
    times.iter().map(|at| TakenSnapshot { at: *at, kept: None }).collect()
}

/// Times that stay.
fn left(schedule: &Schedule, times: &[i64], now: i64) -> Vec<i64> {
    let rulings = decide(schedule, &there(times), now);
    times.iter().zip(rulings).filter(|(_, ruling)| !ruling.goes()).map(|(at, _)| *at).collect()
}

#[test]
fn rules_are_read_and_written() {
    for (text, written) in [
        (
            "every=15m keep=24h,7d,4w,12mo,2y budget=20% free=5%",
            "every=15min keep=24h,7d,4w,12mo,2y budget=20% free=5%",
        ),
        ("  keep=2y,24h\tevery=1d on-change ", "every=1d keep=24h,2y"),
        ("every=1min keep=60min,30d always timer=off", "every=1min keep=60min,30d always timer=off"),
        ("every=3mo keep=all free=50G budget=1536MiB timer=on", "every=3mo keep=all budget=1536M free=50G"),
    ] {
        let schedule = rules(text);
        assert_eq!(schedule.to_string(), written);
        assert_eq!(rules(written), schedule);
    }
}

#[test]
fn what_is_wrong_is_told_with_its_column() {
    for (text, column, what) in [
        ("every=15m keep=24h,12m", 22, "12min or 12mo"),
        ("every=15m keep=m", 16, "could be minutes or months"),
        ("every=30s keep=24h", 9, "a minute is the shortest"),
        ("every=0m keep=24h", 7, "never"),
        ("every=m keep=24h", 7, "a number is missing"),
        ("every=15 keep=24h", 9, "a unit is missing"),
        ("every=15q keep=24h", 9, "'q' is no unit"),
        ("every=99999999999h keep=24h", 7, "too much"),
        ("every=1h keep=24h,,7d", 19, "nothing is said here"),
        ("every=1h keep=24h,7d,48h", 22, "hours were said before"),
        ("every=1h keep=0d", 15, "keeps nothing"),
        ("every=1h keep=24", 17, "a unit is missing"),
        ("every=1h keep=24h budget=0%", 26, "no amount of space"),
        ("every=1h keep=24h free=101%", 24, "no amount of space"),
        ("every=1h keep=24h free=", 24, "no amount of space"),
        ("every=1h  every=2h keep=24h", 11, "said before"),
        ("every=1h keep=24h always on-change", 26, "said before"),
        ("every=1h keep=24h timer=maybe", 25, "neither on nor off"),
        ("every keep=24h", 6, "a value is missing"),
        ("every=1h keep=24h always=1", 25, "stands alone"),
        ("every=1h keep=24h, 7d", 19, "nothing is said here"),
        ("every=1h hold=24h", 10, "'hold' is no rule"),
        ("every=1h keep=\u{e4}\u{f6}h x", 15, "no unit"),
        ("every=1h ", 9, "what is kept is missing"),
        ("keep=24h", 9, "how often is missing"),
        ("", 1, "how often is missing"),
    ] {
        let error = parse_rules("default", text).expect_err(text);
        assert_eq!(error.column, column, "{text}: {error}");
        assert!(error.what.contains(what), "{text}: {error}");
    }
}

/// The period that a moment is in, told by its date as it is written.
fn oracle_period(period: Period, secs: i64) -> i64 {
    let date = rfc3339(Timestamp { secs, nanos: 0 });
    let part = |from: usize, len: usize| date[from..from + len].parse::<i64>().unwrap();
    let (year, month) = (part(0, 4), part(5, 2));
    let since = |a: i64| (secs - a).div_euclid(1);
    let units = match period.unit {
        Unit::Minute => secs.div_euclid(60),
        Unit::Hour => secs.div_euclid(3600),
        Unit::Day => secs.div_euclid(86_400),
        // 1969-12-29 was a Monday.
        Unit::Week => since(seconds_from_date(1969, 12, 29).unwrap()).div_euclid(604_800),
        Unit::Month => year * 12 + (month - 1),
        Unit::Year => year,
    };
    units.div_euclid(i64::from(period.count))
}

/// What stays, asked of each pair of snapshots.
fn oracle(schedule: &Schedule, all: &[TakenSnapshot], now: i64) -> Vec<bool> {
    let mut rules: Vec<(Period, u32)> =
        schedule.keep.iter().map(|c| (Period { count: 1, unit: c.unit }, c.count)).collect();
    if let Some((finest, _)) = rules.first() {
        let (whole, part) = (finest.least_secs(), schedule.every.least_secs());
        let own = (1..).find(|n: &u64| n * part >= whole).unwrap();
        rules.push((schedule.every, own as u32));
    }
    let counted: Vec<usize> = (0..all.len()).filter(|i| all[*i].at <= now).collect();
    let numbers: Vec<Vec<i64>> =
        rules.iter().map(|(period, _)| all.iter().map(|s| oracle_period(*period, s.at)).collect()).collect();
    let later = |i: usize, j: usize| (all[j].at, j) > (all[i].at, i);
    let stays = |i: usize| {
        let special =
            i + 1 == all.len() || all[i].kept.is_some() || all[i].at > now || schedule.keep.is_empty();
        special
            || rules.iter().zip(&numbers).any(|((_, count), number)| {
                let newest = !counted.iter().any(|j| later(i, *j) && number[*j] == number[i]);
                let above: BTreeSet<i64> =
                    counted.iter().map(|j| number[*j]).filter(|n| *n > number[i]).collect();
                newest && above.len() < *count as usize
            })
    };
    (0..all.len()).map(stays).collect()
}

const SCHEDULES: [&str; 9] = [
    "every=15m keep=24h,7d,4w,12mo,2y",
    "every=1m keep=5min,4h,3d",
    "every=1h keep=3h,2d,2w,2mo,1y",
    "every=1d keep=4d,3w,2mo",
    "every=7min keep=3h,1d",
    "every=2h keep=1h,1y",
    "every=1w keep=2mo,2y",
    "every=3mo keep=1d,5y",
    "every=30min keep=all",
];

/// A machine: its clock, and what has passed.
struct Machine {
    now: i64,
    passed: i64,
}

impl Machine {
    fn seen(&self) -> (i64, Duration) {
        (self.now, Duration::from_secs(self.passed as u64))
    }
}

/// One random history. The number of snapshots taken.
fn history(seed: u64) -> u64 {
    let rng = &mut Rng::with_seed(seed);
    let schedule = rules(SCHEDULES[(seed % SCHEDULES.len() as u64) as usize]);
    let every = schedule.every.least_secs() as i64;
    let most = classes(&schedule).iter().map(|(_, of)| *of as usize).sum::<usize>() + 1;
    let honest = rng.u64(..3) == 0;
    let right = at(2024, 1 + rng.u64(..12) as i64, 1 + rng.u64(..28) as i64, 0, 0) + rng.u64(..86_400) as i64;
    let mut machine = Machine { now: right, passed: 0 };
    let (mut all, mut ever) = (Vec::<TakenSnapshot>::new(), Vec::<i64>::new());
    let (mut pace, mut begun, mut steady) = (Cadence::new(Duration::ZERO), 0, SteadyClock::default());
    // Those that no pruning has judged: taken since, or of a time to come then.
    let (mut taken, mut taken_since_begun, mut unjudged) = (0, 0, 0);
    for _ in 0..60 {
        let step = match rng.u64(..10) {
            0..7 => rng.u64(..2 * every as u64 + 2) as i64,
            7..9 => rng.u64(..30 * every as u64 + 2) as i64,
            _ => rng.u64(..400 * 86_400) as i64,
        };
        machine.now += step;
        machine.passed += step;
        if !honest && rng.u64(..8) == 0 {
            // Somebody sets the clock, by little or by years; or it starts over.
            machine.now = match rng.u64(..5) {
                0 => rng.u64(..100_000) as i64,
                1 => machine.now + rng.u64(..20 * 365 * 86_400) as i64,
                2 => (machine.now - rng.u64(..20 * 365 * 86_400) as i64).max(0),
                3 => machine.now + rng.u64(..7200) as i64 - 3600,
                _ => right + machine.passed,
            };
        }
        if rng.u64(..12) == 0 {
            // Nobody was there: what was remembered is gone.
            (pace, begun, taken_since_begun) = (Cadence::new(machine.seen().1), machine.passed, 0);
            steady = SteadyClock::default();
        }
        steady.look(machine.seen(), &all.iter().map(|s| s.at).collect::<Vec<_>>());
        let last = all.last().map(|s| s.at);
        if pace.is_due(schedule.every, last, machine.seen()) {
            if rng.u64(..6) == 0 {
                pace.found_nothing(schedule.every, machine.seen());
            } else {
                let at = machine.now;
                all.push(TakenSnapshot { at, kept: (!honest && rng.u64(..40) == 0).then_some("held") });
                ever.push(at);
                pace.took(machine.seen().1);
                (taken, taken_since_begun, unjudged) = (taken + 1, taken_since_begun + 1, unjudged + 1);
            }
            assert!(!pace.is_due(schedule.every, Some(machine.now), machine.seen()), "twice at once");
        }
        let periods = (machine.passed - begun) / every;
        assert!(taken_since_begun <= periods + 2, "{seed}: {taken_since_begun} in {periods} periods");
        if !honest && rng.u64(..9) == 0 && !all.is_empty() {
            all.remove(rng.usize(..all.len())); // a user deletes one
        }
        let rulings = decide(&schedule, &all, machine.now);
        let stay: Vec<bool> = rulings.iter().map(|ruling| !ruling.goes()).collect();
        if rng.u64(..4) == 0 {
            assert_eq!(stay, oracle(&schedule, &all, machine.now), "seed {seed}: {schedule} {all:?}");
        }
        assert!(stay.last().copied().unwrap_or(true), "the last one goes");
        let order = thinning_order(&all, &rulings);
        assert!(order.iter().all(|i| i + 1 != all.len() && all[*i].kept.is_none()));
        assert_eq!(order.len(), all.iter().rev().skip(1).filter(|s| s.kept.is_none()).count());
        if rng.u64(..2) == 0 && (honest || steady.is_trusted()) {
            let gone = stay.iter().filter(|stays| !**stays).count();
            let bound = (classes(&schedule).len() + 1) * unjudged;
            assert!(gone <= bound, "seed {seed}: {gone} go at once, {unjudged} are new");
            let mut stays = stay.into_iter();
            all.retain(|_| stays.next().unwrap_or(true));
            let strange = all.iter().filter(|s| s.kept.is_some() || s.at > machine.now).count();
            assert!(schedule.keep.is_empty() || all.len() <= most + strange);
            unjudged = all.iter().filter(|s| s.at > machine.now).count();
        }
    }
    if honest {
        // However often it was looked: the same as if all had been kept until now.
        let then: Vec<i64> = all.iter().map(|s| s.at).collect();
        assert_eq!(left(&schedule, &ever, machine.now), left(&schedule, &then, machine.now), "seed {seed}");
    }
    taken
}

#[test]
fn random_histories_are_as_the_oracle_says() {
    let taken: u64 = (0..24_000).map(history).sum();
    assert!(taken > 200_000, "{taken} snapshots in all: too few to mean anything");
}

/// Runs of a program that remembers nothing, often in each period, under a clock that somebody sets. How many snapshots there are.
fn forgetful_runs(seed: u64) -> u64 {
    let rng = &mut Rng::with_seed(seed);
    let schedule = rules(SCHEDULES[(seed % SCHEDULES.len() as u64) as usize]);
    let every = schedule.every.least_secs() as i64;
    let right = at(2024, 1 + rng.u64(..12) as i64, 1 + rng.u64(..28) as i64, 0, 0);
    let mut machine = Machine { now: right, passed: 0 };
    let (mut made, mut set, mut last_at, mut set_before) = (Vec::<i64>::new(), 0, 0, 0);
    let backwards = rng.u64(..8) == 0;
    for _ in 0..200 {
        let step = 1 + rng.u64(..every as u64 / 3) as i64;
        machine.passed += step;
        machine.now += if backwards { -step } else { step };
        if !backwards && rng.u64(..25) == 0 {
            set += 1;
            machine.now = match rng.u64(..4) {
                0 => rng.u64(..100_000) as i64,
                1 => machine.now + rng.u64(..20 * 365 * 86_400) as i64,
                2 => machine.now - rng.u64(..7200) as i64,
                _ => right + machine.passed,
            };
        }
        let (mut pace, mut steady) = (Cadence::new(machine.seen().1), SteadyClock::default());
        pace.is_asked_for();
        steady.look(machine.seen(), &made);
        if pace.is_due(schedule.every, made.last().copied(), machine.seen()) {
            made.push(machine.now);
            (last_at, set_before) = (machine.passed, set);
        }
        // Nothing is held up, by no more than little each time that somebody sets the clock.
        let (waited, times) = (machine.passed - last_at, set - set_before);
        assert!(waited <= (3 + times) * every, "seed {seed}: nothing in {waited} seconds, {schedule}");
        // In each time between the clock was as it is, one makes up for what was before, and one is of a period that was under way.
        let most = machine.passed / every + 2 * (set + 1);
        assert!(made.len() as i64 <= most, "seed {seed}: {} of {most}, {schedule}", made.len());
    }
    made.len() as u64
}

#[test]
fn who_remembers_nothing_neither_stops_nor_floods() {
    let taken: u64 = (0..4000).map(forgetful_runs).sum();
    assert!(taken > 80_000, "{taken} in all: too few to mean anything");
}

#[test]
fn who_begins_to_look_learns_from_snapshots_how_the_clock_has_gone() {
    let (now, minute) = (at(2026, 5, 4, 10, 0), 60);
    let is_trusted = |now: i64, made: &[i64], looks: &[i64]| {
        let mut steady = SteadyClock::default();
        let seen = |later: i64| (now + later, Duration::from_secs((100_000 + later) as u64));
        steady.look(seen(0), made);
        looks.iter().for_each(|later| steady.look(seen(*later), &[]));
        steady.is_trusted()
    };
    let before: Vec<i64> = (1..6).rev().map(|n| now - n * 15 * minute).collect();
    assert!(is_trusted(now, &[], &[]) && is_trusted(now, &before, &[]));
    assert!(is_trusted(now + 29 * 86_400, &before, &[]) && !is_trusted(now + 31 * 86_400, &before, &[]));
    assert!(!is_trusted(now - 86_400, &before, &[]) && !is_trusted(5, &before, &[]));
    // One of a wrong future, or of 1970, does not hide that: an hour of others does.
    for wrong in [at(2066, 1, 1, 0, 0), 30] {
        let jumped = |minutes: i64| {
            let since = (0..=minutes / 15).rev().map(|n| now - n * 15 * minute);
            [&before[..1], &[wrong], &since.collect::<Vec<_>>()].concat()
        };
        assert!(!is_trusted(now, &jumped(0), &[]) && !is_trusted(now, &jumped(45), &[]));
        assert!(is_trusted(now, &jumped(60), &[]));
        // What is left of the hour is watched.
        assert!(!is_trusted(now, &jumped(45), &[14 * minute]));
        assert!(is_trusted(now, &jumped(45), &[15 * minute]));
    }
    // A clock that was put right by a little is none that was set.
    assert!(is_trusted(now, &[now - 86_400, now - 20, now - 40], &[]));
}

#[test]
fn a_year_of_minutes() {
    let schedule = rules(RULES);
    let from = at(2024, 2, 1, 0, 0);
    let (minutes, mut compared) = (Minutes::since(from + 60, 366), 0);
    let year = simulate(&schedule, &[], from, 366 * 86_400, &mut |now, count| {
        compared += 1;
        assert_eq!(count, minutes.left(now).len(), "at {}", rfc3339(Timestamp { secs: now, nanos: 0 }));
        true
    });
    let year = year.unwrap();
    assert_eq!((year.taken, year.until), (366 * 1440, from + 366 * 86_400));
    assert!(year.most <= 60 + 24 + 30 + 12, "{} at once", year.most);
    assert_eq!(compared, 366 * 1440);
    // At the end the newest minute is that of its hour, day and month, and the newest of those before is the one before it.
    assert_eq!(year.left.len(), 60 + (24 - 2) + (30 - 2) + (12 - 2));
}

#[test]
fn the_pace_of_the_schedule_is_kept_for_one_unit() {
    let schedule = rules("every=15m keep=3h");
    let hour = at(2026, 5, 4, 10, 0);
    let times: Vec<i64> = (0..20).map(|n| hour + n * 900).collect();
    // The last four quarters, and the newest of the two hours before.
    let last = times[19];
    assert_eq!(left(&schedule, &times, last), [times[11], times[15], times[16], times[17], times[18], last]);
    let rulings = decide(&schedule, &there(&times), last);
    assert_eq!(rulings[19].0.len(), 3);
    assert_eq!(rulings[15].0[0].words(), "newest of its hour, 2 of 3");
    assert_eq!(rulings[15].0[0].word(), "1h:2/3");
}

#[test]
fn time_alone_takes_nothing_away() {
    let schedule = rules("every=1h keep=3h,2d,1y");
    let day = at(2024, 3, 1, 0, 0);
    let times: Vec<i64> = (0..30).map(|n| day + n * 3600).collect();
    let then = left(&schedule, &times, times[29]);
    for years in 1..40 {
        assert_eq!(left(&schedule, &then, times[29] + years * 31_556_952), then);
    }
    // One snapshot in 2064 takes the place of one in each class, and no more.
    let jumped = [&then[..], &[at(2064, 1, 1, 0, 0)]].concat();
    let after = left(&schedule, &jumped, at(2064, 1, 1, 0, 1));
    assert!(after.len() + 3 >= jumped.len(), "{after:?}");
    // With the clock back, it stays and is not counted.
    let back = [&jumped[..], &[times[29] + 3600]].concat();
    let rulings = decide(&schedule, &there(&back), times[29] + 3600);
    assert_eq!(rulings[back.len() - 2].0, [Because::TimeToCome]);
    // In 1970 nothing goes.
    assert_eq!(left(&schedule, &times, 5), times);
}

#[test]
fn what_something_keeps_stays_and_counts() {
    let schedule = rules("every=1d keep=2d");
    let day = at(2026, 1, 1, 0, 0);
    let mut all = there(&[day, day + 86_400, day + 2 * 86_400, day + 3 * 86_400]);
    all[0].kept = Some("held");
    all[2].kept = Some("being read");
    let rulings = decide(&schedule, &all, day + 4 * 86_400);
    let goes: Vec<bool> = rulings.iter().map(Ruling::goes).collect();
    assert_eq!(goes, [false, true, false, false]);
    assert_eq!(rulings[0].0, [Because::Kept("held")]);
    assert_eq!(rulings[0].0[0].words(), "it is held");
    assert!(rulings[2].0.iter().any(|why| why.words() == "it is being read"));
    assert_eq!(thinning_order(&all, &rulings), [1]);
}

#[test]
fn the_coarsest_class_is_thinned_first() {
    let schedule = rules("every=1h keep=4h,3d,2mo");
    let times = [at(2026, 1, 31, 23, 0), at(2026, 2, 1, 23, 0), at(2026, 2, 2, 23, 0), at(2026, 2, 3, 1, 0)];
    let all = there(&times);
    let rulings = decide(&schedule, &all, times[3]);
    assert!(rulings.iter().all(|ruling| !ruling.goes()));
    assert_eq!(thinning_order(&all, &rulings), [0, 1, 2]);
    // The hours of a day in which the oldest is of the finest class.
    let times = [at(2026, 2, 3, 1, 0), at(2026, 2, 3, 2, 0), at(2026, 2, 3, 3, 0)];
    let all = there(&times);
    assert_eq!(thinning_order(&all, &decide(&schedule, &all, times[2])), [0, 1]);
}

#[test]
fn one_makes_up_for_any_time_in_which_nobody_looked() {
    let every = Period { count: 15, unit: Unit::Minute };
    let noon = at(2026, 7, 1, 12, 0);
    let secs = Duration::from_secs;
    let mut pace = Cadence::new(Duration::ZERO);
    assert!(pace.is_due(every, None, (noon, secs(0))));
    assert!(pace.is_due(every, Some(noon - 86_400), (noon + 60, secs(0))));
    pace.took(secs(0));
    assert!(!pace.is_due(every, Some(noon + 60), (noon + 899, secs(839))));
    assert!(pace.is_due(every, Some(noon + 60), (noon + 900, secs(840))));
    pace.found_nothing(every, (noon + 900, secs(840)));
    assert!(!pace.is_due(every, Some(noon + 60), (noon + 1799, secs(1739))));
    assert!(pace.is_due(every, Some(noon + 60), (noon + 1800, secs(1740))));
    pace.failed(secs(1740));
    assert!(!pace.is_due(every, Some(noon + 60), (noon + 1859, secs(1799))));
    assert!(pace.is_due(every, Some(noon + 60), (noon + 1860, secs(1800))));
    let schedule = rules("every=15m keep=all");
    assert_eq!(pace.next(&schedule, Some(noon + 60), noon + 100), Some(noon + 900));
    assert_eq!(pace.next(&schedule, None, noon + 100), Some(noon + 100));
}

#[test]
fn a_clock_that_lies_takes_no_more_than_time_allows() {
    let every = Period { count: 1, unit: Unit::Hour };
    let noon = at(2026, 7, 1, 12, 0);
    let (mut pace, mut last, mut taken) = (Cadence::new(Duration::ZERO), Some(noon), 0);
    // Each minute it jumps a year ahead, for three hours.
    for minute in 0..180_i64 {
        let seen = (noon + minute * 31_556_952, Duration::from_secs(60 * minute as u64));
        if pace.is_due(every, last, seen) {
            pace.took(seen.1);
            (last, taken) = (Some(seen.0), taken + 1);
        }
    }
    assert_eq!(taken, 4);
    // It stands at 1970 after a start: one an hour, as time passes.
    let (mut pace, mut times) = (Cadence::new(Duration::ZERO), Vec::new());
    let mut last = Some(noon);
    for minute in 0..600_i64 {
        let seen = (minute * 60, Duration::from_secs(60 * minute as u64));
        if pace.is_due(every, last, seen) {
            pace.took(seen.1);
            last = Some(seen.0);
            times.push(minute);
        }
    }
    assert_eq!(times, [60, 120, 180, 240, 300, 360, 420, 480, 540]);
}

#[test]
fn who_begins_to_look_waits_for_no_wrong_future_longer_than_for_a_clock_to_be_put_right() {
    let noon = at(2026, 7, 1, 12, 0);
    for (unit, hours) in [(Unit::Minute, 0), (Unit::Hour, 1), (Unit::Day, 1), (Unit::Month, 1)] {
        let every = Period { count: 1, unit };
        let last = Some(noon + 40 * 366 * 86_400);
        let mut pace = Cadence::new(Duration::ZERO);
        let first = (0..48 * 60_i64).find(|minute| {
            pace.is_due(every, last, (noon + minute * 60, Duration::from_secs(60 * *minute as u64)))
        });
        assert_eq!(first, Some(if hours == 0 { 1 } else { hours * 60 }), "{every}");
        // Whoever asks has it at once; where the last one is less than a period ahead the calendar decides.
        pace.is_asked_for();
        assert!(pace.is_due(every, last, (noon, Duration::ZERO)));
        assert!(!pace.is_due(every, Some(noon + 50), (noon, Duration::ZERO)));
    }
}

#[test]
fn a_clock_that_was_set_is_watched_before_anything_goes() {
    let noon = at(2026, 7, 1, 12, 0);
    let hours = |n: u64| Duration::from_secs(3600 * n);
    let mut clock = SteadyClock::default();
    assert!(!clock.is_trusted());
    clock.look((noon, hours(0)), &[noon - 3600]);
    assert!(clock.is_trusted());
    clock.look((noon + 3600 * 24 * 365, hours(1)), &[]);
    assert!(!clock.is_trusted());
    clock.look((noon + 3600 * (24 * 365 + 1), hours(2)), &[]);
    assert!(clock.is_trusted());
    for newest in [noon + 1, noon - 31 * 86_400] {
        let mut clock = SteadyClock::default();
        clock.look((noon, hours(5)), &[newest]);
        assert!(!clock.is_trusted());
        clock.look((noon + 1800, hours(5) + hours(1) / 2), &[newest]);
        assert!(!clock.is_trusted());
        clock.look((noon + 3600, hours(6)), &[newest]);
        assert!(clock.is_trusted());
    }
}

#[test]
fn weeks_months_and_years_begin_where_they_do() {
    let period = |unit| Period { count: 1, unit };
    let monday = at(2026, 6, 29, 0, 0);
    assert_eq!(period(Unit::Week).next_after(monday - 1), Some(monday));
    assert_eq!(period(Unit::Month).next_after(monday), Some(at(2026, 7, 1, 0, 0)));
    assert_eq!(period(Unit::Year).next_after(monday), Some(at(2027, 1, 1, 0, 0)));
    assert_eq!(Period { count: 3, unit: Unit::Month }.next_after(monday), Some(at(2026, 7, 1, 0, 0)));
    let rng = &mut Rng::with_seed(7);
    for _ in 0..20_000 {
        let period = Period { count: 1 + rng.u64(..9) as u32, unit: Unit::ALL[rng.u64(..6) as usize] };
        let secs = rng.u64(..8_000 * 31_000_000) as i64 - 1_000_000_000;
        assert_eq!(period.number_at(secs), oracle_period(period, secs), "{period} {secs}");
        if let Some(next) = period.next_after(secs) {
            assert_eq!(period.number_at(next - 1), period.number_at(secs), "{period} {secs}");
            assert_eq!(period.number_at(next), period.number_at(secs) + 1, "{period} {secs}");
        }
    }
}

/// As [`simulate`], with all looked at in each step.
fn simulated_by_looking_at_all(
    schedule: &Schedule,
    there_is: &[TakenSnapshot],
    (from, secs): (i64, u64),
) -> (Simulated, Vec<usize>) {
    let end = from.saturating_add_unsigned(secs);
    let (mut all, mut counts) = (there_is.to_vec(), Vec::new());
    let (mut taken, mut most, mut now) = (0, all.len(), from);
    while let Some(next) = schedule.every.next_after(now).filter(|next| *next <= end) {
        now = next;
        all.push(TakenSnapshot { at: now, kept: None });
        taken += 1;
        let mut rulings = decide(schedule, &all, now).into_iter();
        all.retain(|_| rulings.next().is_some_and(|ruling| !ruling.goes()));
        most = most.max(all.len());
        counts.push(all.len());
    }
    let rulings = decide(schedule, &all, end);
    (Simulated { until: end, taken, most, left: all.into_iter().zip(rulings).collect() }, counts)
}

#[test]
fn a_simulation_by_steps_is_one_by_looking_at_all() {
    let from = 1_767_225_600;
    let there = |offsets: &[i64], kept: usize| -> Vec<TakenSnapshot> {
        let one =
            |(i, at): (usize, &i64)| TakenSnapshot { at: from + at, kept: (i == kept).then_some("held") };
        offsets.iter().enumerate().map(one).collect()
    };
    let befores = [
        there(&[], 0),
        there(&[-900_000, -86_400, -86_000, -7200, -3600, -60, -50, -50], 1),
        there(&[-500, 4000, -400, 90_000, -300], 2),
    ];
    for text in [
        "every=1h keep=24h,7d,4w",
        "every=15m keep=4h,2d",
        "every=1d keep=1d,2w,3mo",
        "every=1h keep=all",
        "every=6h keep=1d",
        "every=2d keep=5d,2w",
    ] {
        let schedule = rules(text);
        for (n, before) in befores.iter().enumerate() {
            let mut counts = Vec::new();
            let done = simulate(&schedule, before, from, 20 * 86_400, &mut |_, count| {
                counts.push(count);
                true
            });
            let done = done.unwrap();
            let looked = simulated_by_looking_at_all(&schedule, before, (from, 20 * 86_400));
            assert_eq!((done, counts), looked, "{text}, {n}");
        }
    }
}

#[test]
fn a_simulation_ends_when_nobody_wants_to_know_any_more() {
    let mut watched = 0;
    let done = simulate(&rules("every=1m keep=all"), &[], 0, 366 * 86_400, &mut |_, _| {
        watched += 1;
        watched < 3
    });
    assert_eq!((done, watched), (None, 3));
}

#[test]
fn a_simulation_costs_no_more_for_what_is_kept() {
    // A year of minutes, all kept: looking at all in each step would take days.
    let done = simulate(&rules("every=1m keep=all"), &[], 0, 366 * 86_400, &mut |_, _| true).unwrap();
    assert_eq!((done.taken, done.most), (366 * 1440, 366 * 1440));
}
