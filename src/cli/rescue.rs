//! `check --repair` and `salvage`: what they print, and how they end.

use super::args::{CheckArgs, SalvageArgs};
use super::engine::Backend;
use super::output;
use super::served;
use crate::check::Depth;
use crate::ctl::{Code, Failure};
use crate::names;
use crate::repair::{Mode, Repair};
use crate::salvage::{Listener, Outcome, Rescued, SalvageProgress, Summary, Wanted};
use serde_json::{Value, json};
use std::ffi::OsStr;
use std::io::{self, BufWriter, IsTerminal, Stderr, Stdout, Write};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::time::{Duration, Instant};

/// How often progress is shown.
const SHOW_INTERVAL: Duration = Duration::from_millis(200);

/// Nobody may have the store open.
fn refuse_mounted(store: &Path) -> Result<(), Failure> {
    match served::connect(store) {
        Ok(_) => {
            let what = "it is mounted; unmount it first";
            Err(Failure::new(Code::Busy, format!("{}: {what}", names::shown(store))))
        }
        Err(f) if f.code == Code::NotMounted => Ok(()),
        Err(f) => Err(f),
    }
}

pub(super) fn repair(backend: &dyn Backend, args: &CheckArgs) -> Result<(), Failure> {
    refuse_mounted(&args.target)?;
    let depth = if args.data { Depth::Data } else { Depth::Metadata };
    let mode = if args.dry_run { Mode::DryRun } else { Mode::Write };
    let Repair { found, rebuilt, left, notes } = backend.repair(&args.target, mode, depth)?;
    let printed = if args.json.json {
        output::print_json(&json!({
            "dry_run": args.dry_run, "found": found, "rebuilt": rebuilt, "left": left, "notes": notes,
        }))
    } else {
        let done = if args.dry_run { "would rebuild" } else { "rebuilt" };
        let mut text = String::new();
        for (head, lines) in [("found", &found), (done, &rebuilt), ("left", &left), ("note", &notes)] {
            lines.iter().for_each(|line| text += &format!("{head}: {line}\n"));
        }
        if text.is_empty() {
            text += "nothing derived is wrong\n";
        }
        output::print(&text)
    };
    printed.map_err(|e| Failure::new(Code::Other, e))?;
    let store = names::shown(&args.target);
    if !left.is_empty() {
        let what = "is wrong that cannot be derived: restore from a backup, or use 'snapfs salvage'";
        return Err(Failure::new(Code::Damaged, format!("{store}: {} {what}", left.len())));
    }
    if args.dry_run && !found.is_empty() {
        return Err(Failure::new(
            Code::Damaged,
            format!("{store}: {}, nothing written", output::counted(found.len() as u64, "finding")),
        ));
    }
    Ok(())
}

/// Prints what comes out while it does.
struct Printer {
    json: bool,
    /// Whole files are told of, too.
    all: bool,
    out: BufWriter<Stdout>,
    /// The reader of the output went away: that is success, and nothing more is printed.
    closed: bool,
    terminal: Option<Stderr>,
    started: Instant,
    shown: Instant,
}

impl Printer {
    fn line(&mut self, line: &str) {
        if !self.closed {
            self.closed = writeln!(self.out, "{line}").is_err();
        }
    }

    fn clear(&mut self) {
        if let Some(terminal) = &mut self.terminal {
            let _ = write!(terminal, "\r\x1b[K");
        }
    }
}

impl Listener for Printer {
    fn progress(&mut self, progress: SalvageProgress) {
        if self.terminal.is_none() || self.shown.elapsed() < SHOW_INTERVAL {
            return;
        }
        self.shown = Instant::now();
        let text = describe(&progress, self.started.elapsed());
        self.clear();
        if let Some(terminal) = &mut self.terminal {
            let _ = write!(terminal, "{text}");
            let _ = terminal.flush();
        }
    }

    fn rescued(&mut self, rescued: Rescued) {
        if !self.all && rescued.state == Outcome::Whole && rescued.notes.is_empty() {
            return;
        }
        self.clear();
        let line = if self.json { entry_json(&rescued).to_string() } else { entry_text(&rescued) };
        self.line(&line);
    }
}

fn describe(progress: &SalvageProgress, elapsed: Duration) -> String {
    match *progress {
        SalvageProgress::Scanning { done, total } => {
            let rate = done as f64 / elapsed.as_secs_f64().max(0.001);
            let left = (total.saturating_sub(done)) as f64 / rate.max(1.0);
            format!(
                "looking for nodes: {} of {}, {}/s, {left:.0} s left",
                output::size(done),
                output::size(total),
                output::size(rate as u64)
            )
        }
        SalvageProgress::Files { names, bytes } => {
            format!("{names} names, {} of content", output::size(bytes))
        }
    }
}

fn word(state: Outcome) -> &'static str {
    match state {
        Outcome::Whole => "whole",
        Outcome::Damaged => "damaged",
        Outcome::Lost => "lost",
    }
}

fn entry_json(r: &Rescued) -> Value {
    let lost = r.content.lost.iter().map(|(offset, len)| json!({"offset": offset, "length": len}));
    let mut entry = json!({
        "type": r.kind.map(|kind| format!("{kind:?}").to_lowercase()),
        "size": r.content.size,
        "state": word(r.state),
        "lost": lost.collect::<Vec<_>>(),
        "missing_bytes": r.content.missing_bytes,
        "notes": r.notes,
    });
    names::put(&mut entry, "path", OsStr::from_bytes(&r.path));
    entry
}

fn entry_text(r: &Rescued) -> String {
    let path = names::shown_bytes(&r.path);
    let mut line = format!("{:<8} {:>10} {path}", word(r.state), output::size(r.content.size));
    for (offset, len) in &r.content.lost {
        line += &format!("\n    lost: {len} bytes at {offset}");
    }
    if r.content.missing_bytes > 0 {
        line += &format!("\n    lost: {} somewhere", output::counted(r.content.missing_bytes, "byte"));
    }
    r.notes.iter().for_each(|note| line += &format!("\n    {}", names::sentence(note)));
    line
}

fn summary_json(s: &Summary) -> Value {
    json!({
        "source": s.source, "whole": s.whole, "damaged": s.damaged, "lost": s.lost,
        "without_parent": s.without_parent, "content_bytes": s.bytes, "leaves": s.leaves,
        "lost_ranges": s.lost_ranges, "newer_states": s.newer_states, "unreadable_bytes": s.unreadable_bytes,
    })
}

pub(super) fn salvage(backend: &dyn Backend, args: &SalvageArgs) -> Result<(), Failure> {
    refuse_mounted(&args.store)?;
    let terminal = io::stderr();
    let mut printer = Printer {
        json: args.json.json,
        all: args.list || args.json.json,
        out: BufWriter::new(io::stdout()),
        closed: false,
        terminal: terminal.is_terminal().then_some(terminal),
        started: Instant::now(),
        shown: Instant::now(),
    };
    let wanted = Wanted {
        snapshot: args.snapshot.as_ref().map(|name| name.as_bytes().to_vec()),
        by_scan: args.scan,
        fsid: args.fsid,
    };
    let out = args.out.as_deref();
    let done = backend.salvage(&args.store, out, &wanted, &mut printer);
    printer.clear();
    let summary = done?;
    if printer.json {
        printer.line(&json!({"summary": summary_json(&summary)}).to_string());
    } else {
        summary.source.iter().for_each(|line| printer.line(&format!("from: {line}")));
        let mut fields = summary_json(&summary);
        if let Some(fields) = fields.as_object_mut() {
            fields.remove("source");
        }
        let text = output::fields(&fields);
        printer.line(text.trim_end());
    }
    let _ = printer.out.flush(); // a reader that went away is success
    if summary.is_whole() {
        return Ok(());
    }
    let Summary { whole, damaged, lost, newer_states, .. } = summary;
    let mut what = format!("{whole} names came out whole, {damaged} damaged, {lost} are lost");
    if newer_states > 0 {
        what += &format!("; {newer_states} newer states lead nowhere, see --scan");
    }
    Err(Failure::new(Code::Damaged, format!("{}: {what}", names::shown(&args.store))))
}
