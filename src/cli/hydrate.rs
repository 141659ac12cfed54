//! `hydrate`: copies that are made in other stores in the background are shown, directed and waited for.

use super::args::CreateArgs;
use super::engine::{Backend, HydrateOrder, OpenFor, StoreOptions};
use super::hydrate_args::{HydrateArgs, HydrateWord};
use super::hydrate_order;
use super::hydration::in_words;
use super::output;
use super::served;
use super::snapshots::{create_here, daemon_for_changes, written};
use super::usage;
use crate::ctl::{Code, Failure};
use crate::names;
use crate::ops::NodeId;
use crate::sys::process::effective_uid;
use serde_json::{Value, json};
use std::ffi::OsStr;
use std::io::{self, IsTerminal};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// How often it is asked how far a copy is that is waited for.
const LOOK_INTERVAL: Duration = Duration::from_millis(200);

/// An absolute path: the daemon has another working directory, and may have another one tomorrow.
fn absolute(to: &Path) -> Result<PathBuf, Failure> {
    let failed = |e: io::Error| Failure::new(Code::Invalid, format!("{}: {e}", names::shown(to)));
    std::path::absolute(to).map_err(failed)
}

fn request(name: Option<&OsStr>, order: &HydrateOrder) -> Value {
    let mut request = hydrate_order::encode(order);
    name.iter().for_each(|name| names::put(&mut request, "name", name));
    request
}

/// To begin a copy, by whom this is run.
fn begin(to: &Path, rate: Option<u64>) -> Result<HydrateOrder, Failure> {
    Ok(HydrateOrder::Begin { to: absolute(to)?, rate: rate.unwrap_or(0), user: Some(effective_uid()) })
}

fn order_of(args: &HydrateArgs) -> Result<Vec<HydrateOrder>, Failure> {
    if let Some(to) = &args.to {
        return Ok(vec![begin(to, args.rate)?]);
    }
    let word = args.word.map(|word| match word {
        HydrateWord::Pause => HydrateOrder::Pause,
        HydrateWord::Resume => HydrateOrder::Resume,
        HydrateWord::Cancel => HydrateOrder::Cancel,
    });
    Ok(args.rate.map(HydrateOrder::Rate).into_iter().chain(word).collect())
}

pub(super) fn run(backend: &dyn Backend, args: &HydrateArgs) -> Result<(), Failure> {
    let orders = order_of(args)?;
    let name = args.name.as_deref();
    let mut copies = None;
    if !orders.is_empty() {
        let client = daemon_for_changes(&args.target)?;
        for order in &orders {
            copies = Some(client.call("hydrate", request(name, order), &mut |_| {})?);
        }
    }
    if args.wait {
        return wait(&args.target, name, args.json.json);
    }
    let copies = match copies {
        Some(copies) => copies,
        None => ask(backend, &args.target, name)?,
    };
    match args.json.json {
        true => written(output::print_json(&copies)),
        // What was ordered is done.
        false if !orders.is_empty() => Ok(()),
        false => written(output::print(&text(&copies))),
    }
}

fn ask(backend: &dyn Backend, target: &Path, name: Option<&OsStr>) -> Result<Value, Failure> {
    if let Some(copies) = served::ask(target, "hydrate", request(name, &HydrateOrder::Status))? {
        return Ok(copies);
    }
    let look = StoreOptions { access: OpenFor::Look, ..StoreOptions::default() };
    let engine = backend.open(target, &look)?;
    let copies = engine.hydrate(NodeId::ROOT, name.map(OsStr::as_bytes), &HydrateOrder::Status);
    engine.close()?;
    copies
}

/// All copies, a line for each.
fn text(copies: &Value) -> String {
    let line = |copy: &Value| {
        let shown =
            |key: &str| names::get(copy, key).map(|name| names::shown_bytes(&name)).unwrap_or_default();
        format!("'{}' to {}: {}\n", shown("name"), shown("to"), in_words(copy))
    };
    let all: String = copies.as_array().into_iter().flatten().map(line).collect();
    if all.is_empty() { "no copies\n".into() } else { all }
}

/// `create --method background`: the copy is begun with the snapshot, or neither is there.
pub(super) fn create(args: &CreateArgs) -> Result<(), Failure> {
    let Some(to) = &args.to else {
        return Err(usage::wrong("--method background needs --to STORE2, where the copy goes"));
    };
    let order = begin(to, args.rate)?;
    create_here(args, Some(&order), args.json.json && !args.wait)?;
    if args.wait { wait(&args.target, Some(&args.name), args.json.json) } else { Ok(()) }
}

/// Waits until all copies are whole that are not yet; says on the way what is in the way of one.
fn wait(target: &Path, name: Option<&OsStr>, json: bool) -> Result<(), Failure> {
    let client = served::connect(target)?;
    let (is_shown, mut said) = (!json && io::stderr().is_terminal(), String::new());
    let mut last = json!([]);
    let done = loop {
        let copies = client.call("hydrate", request(name, &HydrateOrder::Status), &mut |_| {})?;
        let all = || copies.as_array().into_iter().flatten();
        let before = last.as_array().map_or(0, Vec::len);
        if all().count() < before {
            break Err(Failure::new(Code::NotFound, "a copy was given up"));
        }
        let Some(copy) = all().find(|copy| copy["state"] != "whole") else { break Ok(copies) };
        if all().all(|copy| matches!(copy["state"].as_str(), Some("whole" | "paused"))) {
            let what = "a copy is paused: 'snapfs hydrate MNT NAME resume' has it go on";
            break Err(Failure::new(Code::Busy, what));
        }
        let words = in_words(copy);
        if is_shown {
            eprint!("\r{words}\x1b[K");
        } else if copy["state"] == "waiting" && copy["trouble"].as_str() != Some(&said) {
            said = copy["trouble"].as_str().unwrap_or_default().to_string();
            eprintln!("snapfs: {}", names::sentence(&said));
        }
        last = copies;
        std::thread::sleep(LOOK_INTERVAL);
    };
    if is_shown {
        eprintln!();
    }
    let copies = done?;
    if json { written(output::print_json(&copies)) } else { Ok(()) }
}
