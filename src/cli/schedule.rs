//! `schedule`, `prune`: snapshots that are taken by themselves, and which of them stay; through the daemon, or on a store that
//! is not mounted.

use super::engine::{Backend, OpenFor, StoreOptions};
use super::output::{self, local, parse_rfc3339};
use super::schedule_args::{PruneArgs, ScheduleArgs, WhichArgs};
use super::schedule_file;
use super::schedule_order::{ScheduleOrder, ScheduleWish, encode};
use super::served;
use super::snapshots::daemon_for_changes;
use super::usage;
use crate::ctl::{Code, Failure};
use crate::names;
use crate::ops::NodeId;
use crate::schedule::{DEFAULT_SCHEDULE, Schedule, parse_rules};
use serde_json::Value;
use std::ffi::OsString;
use std::io::Read;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

/// What is said while the clock is not believed.
const CLOCK_DISTRUSTED: &str =
    "the clock was set, or is not where one would think: nothing is deleted by it for an hour";
/// Longest file of schedules.
const FILE_BYTES_MAX: u64 = 1 << 20;

pub(super) fn run(backend: &dyn Backend, args: &ScheduleArgs) -> Result<(), Failure> {
    let wish = wanted(args)?;
    let is_run = wish == ScheduleWish::Run;
    let answer = ask(backend, &args.target, &args.which, wish)?;
    let printed = if is_run {
        print_runs(&answer, args.json.json)
    } else if args.what.export {
        print_file(&answer, args)
    } else if args.json.json {
        output::print_json(&answer["schedules"])
    } else {
        output::print(&told(&answer, args))
    };
    printed.map_err(|e| Failure::new(Code::Other, e))
}

fn wanted(args: &ScheduleArgs) -> Result<ScheduleWish, Failure> {
    if let Some(file) = &args.what.from {
        return from_file(file).map(ScheduleWish::Replace);
    }
    if args.what.remove {
        return Ok(ScheduleWish::Remove);
    }
    if args.what.run {
        return Ok(ScheduleWish::Run);
    }
    if args.rules.is_empty() {
        return Ok(ScheduleWish::Tell);
    }
    from_words(&args.rules, &args.which).map(ScheduleWish::Set)
}

fn from_words(rules: &[OsString], which: &WhichArgs) -> Result<Schedule, Failure> {
    let words: Vec<String> = rules.iter().map(names::shown).collect();
    let (rules, name) = (words.join(" "), which.name.as_deref().unwrap_or(DEFAULT_SCHEDULE));
    parse_rules(name, &rules).map_err(|e| usage::wrong(&format!("{rules}: {e}")))
}

fn from_file(file: &Path) -> Result<Vec<Schedule>, Failure> {
    let shown = names::shown(file);
    let read = || -> std::io::Result<String> {
        let mut text = String::new();
        std::fs::File::open(file)?.take(FILE_BYTES_MAX + 1).read_to_string(&mut text)?;
        if text.len() as u64 > FILE_BYTES_MAX {
            return Err(std::io::Error::other("it is too long to be a file of schedules"));
        }
        Ok(text)
    };
    let text = read().map_err(|e| Failure::new(Code::Invalid, format!("{shown}: {e}")))?;
    schedule_file::read(&text).map_err(|e| Failure::new(Code::Invalid, format!("{shown}: {e}")))
}

fn ask(
    backend: &dyn Backend,
    target: &Path,
    which: &WhichArgs,
    wish: ScheduleWish,
) -> Result<Value, Failure> {
    let clone = which.clone.as_ref().map(|name| name.as_bytes().to_vec());
    let order = ScheduleOrder { at: NodeId::ROOT, clone, name: which.name.clone(), wish };
    let looks = matches!(order.wish, ScheduleWish::Tell | ScheduleWish::Explain | ScheduleWish::Simulate(..));
    let found = if looks { served::connect(target) } else { daemon_for_changes(target) };
    // What is not mounted is opened.
    let client = served::if_any(found)?;
    let answer = match &client {
        Some(client) if !looks => Some(served::change(client, "schedule", encode(&order))?),
        client => served::ask_found(client.as_ref(), target, "schedule", encode(&order))?,
    };
    if let Some(answer) = answer {
        return Ok(answer);
    }
    let access = if looks { OpenFor::LookAsMounted } else { OpenFor::Work };
    let engine = backend.open(target, &StoreOptions { access, ..StoreOptions::default() })?;
    let answer = engine.schedule(&order, &mut |_| true);
    engine.close()?;
    answer
}

fn list<'v>(value: &'v Value, key: &str) -> &'v [Value] {
    value[key].as_array().map(Vec::as_slice).unwrap_or_default()
}

fn text<'v>(value: &'v Value, key: &str) -> &'v str {
    value[key].as_str().unwrap_or_default()
}

fn when(value: &Value) -> String {
    value.as_str().and_then(parse_rfc3339).map_or("-".into(), local)
}

fn name_of(value: &Value) -> String {
    names::get(value, "name").map(|name| names::shown_bytes(&name)).unwrap_or_default()
}

/// Says what the state of a mount says of its schedules in words, each by itself.
pub(super) fn shorten(status: &mut Value) {
    let Some(all) = status.get("schedules").and_then(Value::as_array) else { return };
    let told: Value = all.iter().map(in_words).collect();
    status["schedules"] = told;
}

/// How one is doing, in a line.
fn in_words(s: &Value) -> String {
    let line = names::get(s, "line").filter(|line| line != b".");
    let of = line.map(|line| format!(" of {}", names::shown_bytes(&line))).unwrap_or_default();
    let count = output::counted(s["snapshots"].as_u64().unwrap_or(0), "snapshot");
    let next =
        if text(s, "timer") == "off" { "timer=off".into() } else { format!("next {}", when(&s["next"])) };
    let last = when(&s["last"]);
    let mut told = format!("{}{of}: {}; {count}, last {last}, {next}", text(s, "name"), text(s, "rules"));
    if let Some(error) = s["error"].as_str() {
        told += &format!("; {error}");
    }
    if s["clock_distrusted"] == true {
        told += &format!("; {CLOCK_DISTRUSTED}");
    }
    told
}

fn told(answer: &Value, args: &ScheduleArgs) -> String {
    let all = list(answer, "schedules");
    if all.is_empty() {
        let target = names::shown(&args.target);
        return format!("no schedule; such as: snapfs schedule {target} every=15m keep=24h,7d,4w,12mo\n");
    }
    let rows: Vec<Vec<String>> = all
        .iter()
        .map(|s| {
            let next = if text(s, "timer") == "off" { "(timer=off)".into() } else { when(&s["next"]) };
            let count = s["snapshots"].as_u64().unwrap_or(0).to_string();
            vec![text(s, "name").into(), text(s, "rules").into(), count, when(&s["last"]), next]
        })
        .collect();
    let mut out = output::table(&["NAME", "RULES", "SNAPSHOTS", "LAST", "NEXT"], &rows, &[2]);
    for s in all {
        if let Some(error) = s["error"].as_str() {
            out += &format!("{}: {error}\n", text(s, "name"));
        }
        if s["clock_distrusted"] == true {
            out += &format!("{}: {CLOCK_DISTRUSTED}\n", text(s, "name"));
        }
    }
    out
}

fn print_file(answer: &Value, args: &ScheduleArgs) -> Result<(), String> {
    let all = list(answer, "schedules").iter();
    let all = all.filter(|s| args.which.name.as_ref().is_none_or(|name| text(s, "name") == name));
    let parsed = all.map(|s| parse_rules(text(s, "name"), text(s, "rules")).map_err(|e| e.to_string()));
    output::print(&schedule_file::written(&parsed.collect::<Result<Vec<_>, _>>()?))
}

fn print_runs(answer: &Value, json: bool) -> Result<(), String> {
    if json {
        return output::print_json(&answer["runs"]);
    }
    let mut out = String::new();
    for run in list(answer, "runs") {
        if run["taken"].is_object() {
            out += &format!("taken {} ({})\n", name_of(&run["taken"]), text(run, "schedule"));
        }
        for gone in list(run, "deleted") {
            out += &format!("deleted {} ({})\n", name_of(gone), text(run, "schedule"));
        }
        if let Some(kept_back) = run["kept_back"].as_u64().filter(|kept_back| *kept_back > 0) {
            let kept_back = output::counted(kept_back, "snapshot");
            out += &format!(
                "{}: {kept_back} no rule keeps stay for now: {CLOCK_DISTRUSTED}\n",
                text(run, "schedule")
            );
        }
    }
    output::print(&out)
}

pub(super) fn prune(backend: &dyn Backend, args: &PruneArgs) -> Result<(), Failure> {
    let wish = match (args.what.simulate, args.what.dry_run || args.what.explain) {
        (Some(secs), _) => ScheduleWish::Simulate(secs, given(args)?),
        (None, true) => ScheduleWish::Explain,
        (None, false) => ScheduleWish::Prune,
    };
    let answer = ask(backend, &args.target, &args.which, wish)?;
    let json = args.json.json;
    let printed = if args.what.simulate.is_some() {
        if json { output::print_json(&answer["simulated"]) } else { output::print(&simulated(&answer)) }
    } else if args.what.dry_run || args.what.explain {
        let all = list(&answer, "snapshots").iter();
        // What is no schedule's is not deleted by this.
        let is_wanted = |s: &&Value| args.what.explain || s["goes"] == true && s["schedule"].is_string();
        let all: Vec<Value> = all.filter(is_wanted).cloned().collect();
        if !all.iter().any(|s| s["schedule"].is_string()) && args.what.explain && !json {
            eprintln!(
                "no schedule of this line has taken any (snapfs schedule {})",
                names::shown(&args.target)
            );
        }
        if json { output::print_json(&Value::Array(all)) } else { output::print(&explained(&all)) }
    } else {
        print_runs(&answer, json)
    };
    printed.map_err(|e| Failure::new(Code::Other, e))
}

/// Rules that are only to be simulated.
fn given(args: &PruneArgs) -> Result<Vec<Schedule>, Failure> {
    match &args.from {
        Some(file) => {
            let all = from_file(file)?;
            let none =
                || Failure::new(Code::Invalid, format!("{}: there is no schedule in it", names::shown(file)));
            if all.is_empty() { Err(none()) } else { Ok(all) }
        }
        None if args.rules.is_empty() => Ok(Vec::new()),
        None => from_words(&args.rules, &args.which).map(|schedule| vec![schedule]),
    }
}

fn reasons(value: &Value) -> String {
    list(value, "because").iter().filter_map(Value::as_str).collect::<Vec<_>>().join("; ")
}

fn explained(all: &[Value]) -> String {
    if all.is_empty() {
        return String::new();
    }
    let row = |s: &Value| {
        let goes = if s["goes"] == true { "goes" } else { "stays" };
        let schedule = s["schedule"].as_str().unwrap_or("-");
        vec![name_of(s), schedule.into(), goes.into(), reasons(s)]
    };
    let rows: Vec<Vec<String>> = all.iter().map(row).collect();
    output::table(&["SNAPSHOT", "SCHEDULE", "", "BECAUSE"], &rows, &[])
}

fn simulated(answer: &Value) -> String {
    let mut out = String::new();
    for s in list(answer, "simulated") {
        let number = |key: &str| s[key].as_u64().unwrap_or(0);
        out += &format!(
            "{}: {}\n{} taken until {}, {} at once at most, {} left\n",
            text(s, "schedule"),
            text(s, "rules"),
            number("taken"),
            when(&s["until"]),
            number("most_at_once"),
            number("left"),
        );
        let rows: Vec<Vec<String>> = list(s, "moments")
            .iter()
            .map(|m| vec![when(&m["at"]), m["snapshots"].as_u64().unwrap_or(0).to_string()])
            .collect();
        out += &output::table(&["AT", "SNAPSHOTS"], &rows, &[1]);
        let rows: Vec<Vec<String>> =
            list(s, "snapshots").iter().map(|left| vec![when(&left["created"]), reasons(left)]).collect();
        out += &output::table(&["LEFT AT THE END", "BECAUSE"], &rows, &[]);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_status_tells_of_schedules_in_words() {
        let mut status = json!({"schedules": [
            {"name": "default", "rules": "every=1h keep=24h", "snapshots": 3, "timer": "off", "last": null, "next": null,
                "error": "the store is full", "clock_distrusted": false, "line": "."},
            {"name": "own", "rules": "every=1d", "snapshots": 1, "timer": "on", "last": null, "next": null,
                "error": null, "clock_distrusted": true, "line": ".clones/c"},
        ]});
        shorten(&mut status);
        let first = "default: every=1h keep=24h; 3 snapshots, last -, timer=off; the store is full";
        let second = format!("own of .clones/c: every=1d; 1 snapshot, last -, next -; {CLOCK_DISTRUSTED}");
        assert_eq!(output::fields(&status), format!("schedules: {first}\nschedules: {second}\n"));
        for mut none in [json!({"schedules": null}), json!({})] {
            let before = none.clone();
            shorten(&mut none);
            assert_eq!(none, before);
        }
    }
}
