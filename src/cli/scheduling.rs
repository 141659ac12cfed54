//! What is done for orders about schedules on an open store, by the daemon or by a command that has opened it.

use super::output::rfc3339;
use super::refusal::{told, told_clone};
use super::schedule_order::{ScheduleOrder, ScheduleWish};
use crate::ctl::{Code, Failure};
use crate::format::LineId;
use crate::fs::{Fs, OtherSnapshot, RuledSnapshot, ScheduleRun, ScheduleState};
use crate::names;
use crate::ops::{Error, Timestamp};
use crate::schedule::{SCHEDULES_MAX, Schedule, Simulated, simulate};
use crate::volume::SnapshotInfo;
use serde_json::{Value, json};
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::time::{Duration, Instant};

/// So often whoever waits for a simulation is told how far it is.
const PROGRESS_INTERVAL: Duration = Duration::from_millis(50);
/// Moments of a simulation that are told.
const MOMENTS_TOLD: u64 = 12;

/// Carries one out, and says what came of it: an object. What takes long and changes nothing says how far it is, and ends when it is
/// told by false that nobody waits any more.
pub(super) fn carry_out(
    fs: &Fs,
    store: &Path,
    order: &ScheduleOrder,
    put: &mut dyn FnMut(Value) -> bool,
) -> Result<Value, Failure> {
    let fails = |e: Error| told(store, &e);
    let line = match &order.clone {
        None => fs.line_at(order.at).map_err(fails)?,
        Some(clone) => {
            let found = fs.volume().find_line(clone).filter(|_| !clone.is_empty());
            found.ok_or_else(|| told_clone(clone, &Error::NotFound))?.id
        }
    };
    let there = fs.volume().line(line).map_err(|e| fails(e.into()))?.schedules;
    let name = order.name.as_deref();
    let is_new = match &order.wish {
        ScheduleWish::Set(_) | ScheduleWish::Replace(_) => true,
        ScheduleWish::Simulate(_, given) => !given.is_empty(),
        _ => false,
    };
    if let Some(name) = name.filter(|name| !is_new && !there.iter().any(|s| s.name == **name)) {
        let all: Vec<&str> = there.iter().map(|s| &s.name[..]).collect();
        let what = if all.is_empty() { "it has none".into() } else { format!("it has {}", all.join(", ")) };
        return Err(Failure::new(Code::NotFound, format!("the line has no schedule '{name}': {what}")));
    }
    match &order.wish {
        ScheduleWish::Tell => {}
        ScheduleWish::Set(schedule) => {
            let mut all = there;
            match all.iter_mut().find(|other| other.name == schedule.name) {
                Some(old) => *old = schedule.clone(),
                None => all.push(schedule.clone()),
            }
            set(fs, store, line, all)?;
        }
        ScheduleWish::Replace(all) => set(fs, store, line, all.clone())?,
        ScheduleWish::Remove if name.is_none() && there.len() > 1 => {
            let all: Vec<&str> = there.iter().map(|s| &s.name[..]).collect();
            let what = format!("the line has several schedules; say which with --name: {}", all.join(", "));
            return Err(Failure::new(Code::Invalid, what));
        }
        ScheduleWish::Remove => {
            let left = there.into_iter().filter(|s| name.is_some_and(|name| name != s.name));
            set(fs, store, line, left.collect())?;
        }
        ScheduleWish::Run => return Ok(runs(&fs.run_schedules(line, name).map_err(fails)?)),
        ScheduleWish::Prune => return Ok(runs(&fs.prune_schedules(line, name).map_err(fails)?)),
        ScheduleWish::Explain => {
            let all = fs.rule_schedules(line, name).map_err(fails)?;
            let others = if name.is_none() { fs.rule_others(line).map_err(fails)? } else { Vec::new() };
            let all = all.iter().map(ruled).chain(others.iter().map(other));
            return Ok(json!({"snapshots": all.collect::<Vec<_>>()}));
        }
        ScheduleWish::Simulate(secs, given) => {
            let all = if given.is_empty() { &there } else { given };
            let all: Vec<&Schedule> = all.iter().filter(|s| name.is_none_or(|name| name == s.name)).collect();
            if all.is_empty() && !given.is_empty() {
                let what = format!("none of these is called '{}'", name.unwrap_or_default());
                return Err(Failure::new(Code::NotFound, what));
            }
            return Ok(simulated(fs, line, (&all, *secs), put));
        }
    }
    Ok(json!({"schedules": fs.schedule_states(Some(line)).iter().map(state).collect::<Vec<_>>()}))
}

fn set(fs: &Fs, store: &Path, line: LineId, all: Vec<Schedule>) -> Result<(), Failure> {
    if all.len() > SCHEDULES_MAX {
        let what =
            format!("a line has {SCHEDULES_MAX} schedules at most: remove one first (--remove --name)");
        return Err(Failure::new(Code::Invalid, what));
    }
    fs.set_schedules(line, all).map_err(|e| match e {
        Error::ReadOnly if !fs.volume().is_read_only() => {
            let what = "nothing changes in a line that was received: schedule a clone of it";
            Failure::new(Code::ReadOnly, what)
        }
        e => told(store, &e),
    })
}

fn time(secs: i64) -> String {
    rfc3339(Timestamp { secs, nanos: 0 })
}

fn snapshot(s: &SnapshotInfo) -> Value {
    let mut object = json!({"created": rfc3339(Timestamp { secs: s.created.0, nanos: s.created.1 })});
    names::put(&mut object, "name", OsStr::from_bytes(&s.name));
    object
}

/// How a schedule is doing.
pub(super) fn state(s: &ScheduleState) -> Value {
    let mut object = json!({
        "name": s.schedule.name, "rules": s.schedule.to_string(), "snapshots": s.snapshots,
        "timer": if s.schedule.by_hand { "off" } else { "on" },
        "last": s.last.map(|(secs, nanos)| rfc3339(Timestamp { secs, nanos })),
        "next": s.next.map(time), "error": s.error, "clock_distrusted": s.clock_distrusted,
    });
    let line = if s.line.is_empty() { b".".to_vec() } else { [&b".clones/"[..], &s.line].concat() };
    names::put(&mut object, "line", OsStr::from_bytes(&line));
    object
}

/// How all of a store are doing: for `status`.
pub(super) fn states(fs: &Fs) -> Value {
    let all = fs.schedule_states(None);
    if all.is_empty() { Value::Null } else { Value::Array(all.iter().map(state).collect()) }
}

fn runs(all: &[ScheduleRun]) -> Value {
    let one = |run: &ScheduleRun| {
        json!({
            "schedule": run.schedule, "taken": run.taken.as_ref().map(snapshot),
            "deleted": run.gone.iter().map(snapshot).collect::<Vec<_>>(), "kept_back": run.kept_back,
        })
    };
    json!({"runs": all.iter().map(one).collect::<Vec<_>>()})
}

fn ruled(r: &RuledSnapshot) -> Value {
    let mut object = snapshot(&r.snapshot);
    let goes = r.thinned.is_some() || r.ruling.goes();
    object["schedule"] = r.schedule.clone().into();
    object["goes"] = goes.into();
    object["because"] = match r.thinned {
        Some(why) => json!([why]),
        None => r.ruling.0.iter().map(|why| why.words()).collect::<Vec<_>>().into(),
    };
    if goes && r.thinned.is_none() {
        object["because"] = json!(["no rule keeps it"]);
    }
    object["rules"] = r.ruling.0.iter().map(|why| why.word()).collect::<Vec<_>>().into();
    object
}

/// One that is no schedule's.
fn other(s: &OtherSnapshot) -> Value {
    let mut object = snapshot(&s.snapshot);
    object["schedule"] = Value::Null;
    object["goes"] = s.goes.into();
    object["because"] = json!([s.because]);
    object["rules"] = json!([]);
    object
}

/// What there would be by these schedules, of which those that have the name of one that holds begin with what it took.
fn simulated(
    fs: &Fs,
    line: LineId,
    (schedules, secs): (&[&Schedule], u64),
    put: &mut dyn FnMut(Value) -> bool,
) -> Value {
    let (mut all, mut asked) = (Vec::new(), None::<Instant>);
    for schedule in schedules.iter().copied() {
        let (now, there) = fs.taken_by(line, schedule);
        let mut moments = Vec::new();
        let step = secs.div_ceil(MOMENTS_TOLD).max(1);
        let mut next = now.saturating_add_unsigned(step);
        let done = simulate(schedule, &there, now, secs, &mut |at, count| {
            while at >= next {
                moments.push(json!({"at": time(next), "snapshots": count}));
                next = next.saturating_add_unsigned(step);
            }
            if asked.is_some_and(|asked| asked.elapsed() < PROGRESS_INTERVAL) {
                return true;
            }
            asked = Some(Instant::now());
            put(json!({"schedule": schedule.name, "simulated_until": time(at)}))
        });
        let Some(done) = done else { break };
        all.push(outcome(schedule, &done, moments));
    }
    json!({"simulated": all})
}

fn outcome(schedule: &Schedule, done: &Simulated, moments: Vec<Value>) -> Value {
    let left = done.left.iter().map(|(taken, ruling)| {
        let because: Vec<String> = ruling.0.iter().map(|why| why.words()).collect();
        json!({"created": time(taken.at), "because": because})
    });
    json!({
        "schedule": schedule.name, "rules": schedule.to_string(), "until": time(done.until), "taken": done.taken,
        "most_at_once": done.most, "left": done.left.len(), "moments": moments, "snapshots": left.collect::<Vec<_>>(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixtures::{mount, new_store};
    use crate::ops::NodeId;

    /// A simulation says how far it is, and ends when nobody waits for it any more.
    #[test]
    fn a_simulation_ends_with_whoever_waits_for_it() {
        let fs = mount(new_store(64 << 20));
        let rules = |name: &str| crate::schedule::parse_rules(name, "every=1m keep=all").unwrap();
        fs.set_schedules(LineId::MAIN, vec![rules("one"), rules("two")]).unwrap();
        let wish = ScheduleWish::Simulate(30 * 86_400, Vec::new());
        let order = ScheduleOrder { at: NodeId::ROOT, clone: None, name: None, wish };
        for waits in [false, true] {
            let mut told = 0;
            let answer = carry_out(&fs, Path::new("store"), &order, &mut |_| {
                told += 1;
                waits
            });
            let outcomes = answer.unwrap()["simulated"].as_array().unwrap().len();
            assert_eq!((outcomes, told > 0), (if waits { 2 } else { 0 }, true));
            assert!(waits || told == 1, "{told}");
        }
    }
}
