//! `snapfs scrub`: orders for the daemon of a mount, or a scrub of a store that is not mounted, to its end.

use super::args::ScrubArgs;
use super::engine::{Backend, Engine, OpenFor, ScrubOrder, StoreOptions};
use super::limit::UNLIMITED;
use super::output;
use super::served;
use super::wire::encode_order;
use crate::ctl::{Client, Code, Failure};
use crate::names;
use serde_json::Value;
use std::io::{IsTerminal, Write};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

/// How often a scrub that is waited for is looked at.
const LOOK_AGAIN: Duration = Duration::from_millis(200);

/// Who scrubs.
enum ScrubbedBy {
    /// The daemon of a mount.
    Daemon(Client),
    /// This process.
    Here(Arc<dyn Engine>),
}

impl ScrubbedBy {
    fn order(&self, order: ScrubOrder) -> Result<Value, Failure> {
        match self {
            ScrubbedBy::Daemon(client) => client.call("scrub", encode_order(order), &mut |_| {}),
            ScrubbedBy::Here(engine) => engine.scrub(order),
        }
    }
}

/// What stays bad makes the command fail with [`Code::Damaged`], which is exit code 3.
pub(super) fn run(backend: &dyn Backend, args: &ScrubArgs) -> Result<(), Failure> {
    let mut order = wanted(args);
    let place = match served::connect(&args.target) {
        Ok(client) => ScrubbedBy::Daemon(client),
        Err(f) if f.code == Code::NotMounted => {
            let access = if order == ScrubOrder::Status { OpenFor::Look } else { OpenFor::Work };
            ScrubbedBy::Here(backend.open(&args.target, &StoreOptions { access, ..StoreOptions::default() })?)
        }
        Err(f) => return Err(f),
    };
    let here = matches!(place, ScrubbedBy::Here(_));
    if let ScrubOrder::Start { limit } = &mut order {
        // Nobody else is in a store that is not mounted.
        *limit = limit.or(here.then_some(UNLIMITED));
    }
    let done = carry_out(&place, order, args);
    if let ScrubbedBy::Here(engine) = place {
        engine.close()?;
    }
    let status = done?;
    show(&status, args)?;
    if args.wait && matches!(order, ScrubOrder::Start { .. } | ScrubOrder::Resume { .. }) {
        came_to_its_end(&args.target, &status)?;
    }
    // Whoever only gave an order learns whether it was taken.
    let asked = args.wait || here || order == ScrubOrder::Status;
    if asked { verdict(&args.target, &status) } else { Ok(()) }
}

fn wanted(args: &ScrubArgs) -> ScrubOrder {
    let (o, limit) = (&args.order, args.limit);
    match (o.status, o.pause, o.resume, o.stop) {
        (true, ..) => ScrubOrder::Status,
        (_, true, ..) => ScrubOrder::Pause,
        (_, _, true, _) => ScrubOrder::Resume { limit },
        (_, _, _, true) => ScrubOrder::Stop,
        _ => ScrubOrder::Start { limit },
    }
}

fn carry_out(place: &ScrubbedBy, order: ScrubOrder, args: &ScrubArgs) -> Result<Value, Failure> {
    let here = matches!(place, ScrubbedBy::Here(_));
    let begins = matches!(order, ScrubOrder::Start { .. } | ScrubOrder::Resume { .. });
    let mut status = match place.order(order) {
        // One that is running, or was interrupted, is as good as a new one for who waits for its end.
        Err(f) if f.code == Code::Busy && (here || args.wait) => match place.order(ScrubOrder::Status)? {
            running if running["state"] == "running" => running,
            _ => return Err(f),
        },
        answer => answer?,
    };
    let mut progress = Progress::new(args);
    while status["state"] == "running" && (args.wait || (here && begins)) {
        progress.tell(&status)?;
        std::thread::sleep(LOOK_AGAIN);
        status = place.order(ScrubOrder::Status)?;
    }
    progress.end();
    Ok(status)
}

/// A line on the terminal that is written over, or a line of JSON for each change.
struct Progress {
    json: bool,
    terminal: bool,
    last: u64,
}

impl Progress {
    fn new(args: &ScrubArgs) -> Progress {
        Progress { json: args.json.json, terminal: std::io::stderr().is_terminal(), last: u64::MAX }
    }

    fn tell(&mut self, status: &Value) -> Result<(), Failure> {
        let number = |key: &str| status[key].as_u64().unwrap_or(0);
        let (done, total) = (number("done_bytes"), number("total_bytes"));
        if self.json && done != self.last {
            self.last = done;
            let mut line = status.clone();
            line.as_object_mut().into_iter().for_each(|o| drop(o.remove("findings")));
            return output::print(&format!("{line}\n")).map_err(|e| Failure::new(Code::Other, e));
        }
        if self.terminal && !self.json {
            let eta = status["eta_seconds"].as_u64().map(|s| format!(", {} left", output::duration(s)));
            let line = format!(
                "scrub: {}%, {} of {}, {}/s{}",
                done * 100 / total.max(1),
                output::size(done),
                output::size(total),
                output::size(number("rate_bytes")),
                eta.unwrap_or_default()
            );
            let mut err = std::io::stderr().lock();
            // Who does not see it misses nothing that counts.
            let _ = write!(err, "\r{line:<70}").and_then(|()| err.flush());
            self.last = done;
        }
        Ok(())
    }

    fn end(&self) {
        if self.terminal && !self.json && self.last != u64::MAX {
            eprintln!();
        }
    }
}

fn show(status: &Value, args: &ScrubArgs) -> Result<(), Failure> {
    let printed = if args.json.json && args.wait {
        output::print(&format!("{status}\n"))
    } else if args.json.json {
        output::print_json(status)
    } else {
        let all = status["findings"].as_array().map(Vec::as_slice).unwrap_or_default();
        let text: String = all.iter().map(sentence).collect();
        let mut fields = status.clone();
        fields.as_object_mut().into_iter().for_each(|o| drop(o.remove("findings")));
        output::print(&(text + &output::fields(&fields)))
    };
    printed.map_err(|e| Failure::new(Code::Other, e))
}

/// A finding for people.
fn sentence(finding: &Value) -> String {
    let list = |key: &str, before: &str| {
        let names: Vec<&str> =
            finding[key].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
        let total = finding[format!("{key}_total")].as_u64().unwrap_or(0);
        let more = total.saturating_sub(names.len() as u64);
        let more = if more > 0 { format!(" and {more} more") } else { String::new() };
        if names.is_empty() { String::new() } else { format!("{before}{}{more}", names.join(", ")) }
    };
    let what = finding["what"].as_str().unwrap_or_default();
    format!("{what}{}{}\n", list("files", "; file: "), list("snapshots", "; in: "))
}

/// Fails if somebody else had it stop before its end.
fn came_to_its_end(target: &Path, status: &Value) -> Result<(), Failure> {
    let what = match status["state"].as_str() {
        Some("paused") => "the scrub was paused: --resume goes on with it, --stop ends it",
        Some("stopped") => "the scrub was stopped before its end",
        _ => return Ok(()),
    };
    Err(Failure::new(Code::Busy, format!("{}: {what}", names::shown(target))))
}

fn verdict(target: &Path, status: &Value) -> Result<(), Failure> {
    let target = names::shown(target);
    if let Some(why) = status["failed"].as_str() {
        return Err(Failure::new(Code::Io, format!("{target}: the scrub does not go on: {why}")));
    }
    match status["blocks_bad"].as_u64() {
        None | Some(0) => Ok(()),
        Some(n) => {
            Err(Failure::new(Code::Damaged, format!("{target}: {n} bad blocks that cannot be healed")))
        }
    }
}
