//! `init`, `status`, `info`, `check`: stores and mounts.

use super::args::{CheckArgs, InitArgs, StatusArgs, TargetArgs};
use super::engine::{Backend, InitOptions, OpenFor, StoreOptions};
use super::served;
use super::{freeze, mirror, output, schedule};
use crate::check::Depth;
use crate::ctl::{Code, Failure, registry};
use crate::format::Copies;
use crate::names;
use serde_json::{Value, json};

/// How an object is shown.
fn show(value: &Value, as_json: bool) -> Result<(), Failure> {
    let result = if as_json { output::print_json(value) } else { output::print(&output::fields(value)) };
    result.map_err(|e| Failure::new(Code::Other, e))
}

pub(super) fn init(backend: &dyn Backend, args: &InitArgs) -> Result<(), Failure> {
    let metadata_copies = Copies::from_number(args.metadata_copies).unwrap_or_default();
    let options =
        InitOptions { size: args.size, metadata_copies, compression: args.compression, force: args.force };
    let made = backend.init(&args.store, &options)?;
    if args.json.json { show(&made, true) } else { Ok(()) }
}

pub(super) fn status(args: &StatusArgs) -> Result<(), Failure> {
    if let Some(target) = &args.target {
        let mut status = served::connect(target)?.call("status", json!({}), &mut |_| {})?;
        if !args.json.json {
            mirror::shorten(&mut status);
            schedule::shorten(&mut status);
            freeze::shorten(&mut status);
        }
        return show(&status, args.json.json);
    }
    let all = registry::all();
    if args.json.json {
        let records = all.iter().map(|d| d.record.to_json()).collect();
        return show(&Value::Array(records), true);
    }
    let row = |d: &registry::FoundMount| {
        let r = &d.record;
        let of = |name: &Vec<u8>| format!("@{}", names::shown_bytes(name));
        let snapshot = r.snapshot.as_ref().map_or(String::new(), of);
        // The path that it had when it was mounted may lead elsewhere by now.
        let is_there = registry::StoreId::of(&r.store).is_ok_and(|id| id == r.store_id);
        let moved = if is_there { "" } else { " (moved, removed or covered)" };
        vec![
            names::shown(&r.mountpoint),
            names::shown(&r.store) + &snapshot + moved,
            r.pid.to_string(),
            r.started.clone(),
        ]
    };
    let rows: Vec<Vec<String>> = all.iter().map(row).collect();
    output::print(&output::table(&["MOUNTPOINT", "STORE", "PID", "STARTED"], &rows, &[2]))
        .map_err(|e| Failure::new(Code::Other, e))
}

pub(super) fn info(backend: &dyn Backend, args: &TargetArgs) -> Result<(), Failure> {
    let info = match served::ask(&args.target, "info", json!({}))? {
        Some(info) => info,
        None => {
            let look = StoreOptions { access: OpenFor::Look, ..StoreOptions::default() };
            let engine = backend.open(&args.target, &look)?;
            let info = engine.info();
            engine.close()?;
            info
        }
    };
    show(&info, args.json.json)
}

/// Findings make the command fail with [`Code::Damaged`], which is exit code 3.
pub(super) fn check(backend: &dyn Backend, args: &CheckArgs) -> Result<(), Failure> {
    let report = match served::ask(&args.target, "check", json!({"data": args.data}))? {
        Some(report) => report,
        None => {
            let depth = if args.data { Depth::Data } else { Depth::Metadata };
            let report = backend.check(&args.target, depth, &mut |_| {})?;
            json!({"findings": report.findings, "summary": report.summary})
        }
    };
    let findings: Vec<&str> =
        report["findings"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
    if args.json.json {
        show(&report, true)?;
    } else {
        let text: String = findings.iter().map(|f| format!("{f}\n")).collect();
        let text = text + &output::fields(&report["summary"]);
        output::print(&text).map_err(|e| Failure::new(Code::Other, e))?;
    }
    match findings.len() {
        0 => Ok(()),
        n => Err(Failure::new(Code::Damaged, format!("{}: {n} findings", names::shown(&args.target)))),
    }
}
