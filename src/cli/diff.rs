//! `diff`: what changed between two views, through the daemon of a mount or of a store that is not mounted.
//!
//! Answers come in pieces and are printed as they come. A reader that goes away ends the work and is no trouble.

use super::args::DiffArgs;
use super::engine::{Backend, DiffOrder, DiffTold, OpenFor, StoreOptions};
use super::output;
use super::served;
use super::wire::encode_diff;
use crate::ctl::{Code, Failure};
use crate::names;
use crate::sys::mount::major_minor;
use serde_json::{Value, json};
use std::fs;
use std::io::{self, BufWriter, Write};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;

const SAME: u8 = 0;
const DIFFERENT: u8 = 1;

/// Prints the difference, and returns the exit code that says whether there is one.
pub(super) fn run(backend: &dyn Backend, args: &DiffArgs) -> Result<u8, Failure> {
    let mut order = DiffOrder {
        from: args.from.as_bytes().to_vec(),
        to: args.to.as_bytes().to_vec(),
        under: None,
        told: match &args.form {
            form if form.patch => DiffTold::Patch,
            form if form.name_only && !args.json.json => DiffTold::Paths,
            _ => DiffTold::Changes,
        },
    };
    let mut printer = Printer::new(args);
    match served::connect(&args.target) {
        Ok(client) => {
            // A path elsewhere is that of the store itself.
            let meta = fs::metadata(&args.target).ok();
            let inside = meta.filter(|meta| major_minor(meta.dev()) == client.record().device);
            order.under = inside.map(|meta| meta.ino());
            client.stream("diff", encode_diff(&order), &mut |piece| printer.take(&piece))?;
        }
        Err(f) if f.code == Code::NotMounted => {
            let look = StoreOptions { access: OpenFor::LookAsMounted, ..StoreOptions::default() };
            let engine = backend.open(&args.target, &look)?;
            let done = engine.diff(&order, &mut |piece| printer.take(&piece));
            engine.close()?;
            done?;
        }
        Err(f) => return Err(f),
    }
    printer.finish()
}

/// Prints changes that were told before.
pub(super) fn print_changes(args: &DiffArgs, changes: &[Value]) -> Result<(), Failure> {
    let mut printer = Printer::new(args);
    printer.take(&json!({"changes": changes}));
    printer.finish().map(drop)
}

/// How many changes of a kind there are.
#[derive(Default)]
pub(super) struct Sums {
    /// By the order of [`SIGNS`].
    counts: [u64; SIGNS.len()],
    more_bytes: u64,
    less_bytes: u64,
}

const SIGNS: [(&str, &str); 5] =
    [("+", "added"), ("-", "removed"), ("M", "modified"), ("A", "attributes"), ("R", "renamed")];

impl Sums {
    /// Counts one.
    pub(super) fn add(&mut self, change: &Value) {
        let number = |key: &str| change[key].as_u64().unwrap_or(0);
        let at = SIGNS.iter().position(|(sign, _)| change["change"] == *sign);
        at.into_iter().for_each(|at| self.counts[at] += 1);
        let (before, now) = (number("old_size"), number("new_size"));
        // What has only moved is as large as it was; if it was written too, that is a change of its own.
        if change["change"] != "R" {
            self.more_bytes += now.saturating_sub(before);
            self.less_bytes += before.saturating_sub(now);
        }
    }

    /// For programs.
    pub(super) fn json(&self) -> Value {
        let mut sums = json!({"more_bytes": self.more_bytes, "less_bytes": self.less_bytes});
        SIGNS.iter().zip(self.counts).for_each(|((_, name), n)| sums[*name] = n.into());
        json!({"summary": sums})
    }

    /// For people: a line.
    pub(super) fn text(&self) -> String {
        let counts = SIGNS.iter().zip(self.counts).filter(|(_, n)| *n > 0);
        let counts: Vec<String> = counts.map(|((_, name), n)| format!("{n} {name}")).collect();
        let (more, less) = (output::size(self.more_bytes), output::size(self.less_bytes));
        format!("{}; +{more} -{less}\n", counts.join(", "))
    }
}

/// Prints pieces of the answer as they come.
pub(super) struct Printer<'a> {
    args: &'a DiffArgs,
    out: BufWriter<io::Stdout>,
    sums: Sums,
    differs: bool,
    failed: Option<io::Error>,
}

impl Printer<'_> {
    pub(super) fn new(args: &DiffArgs) -> Printer<'_> {
        Printer {
            args,
            out: BufWriter::new(io::stdout()),
            sums: Sums::default(),
            differs: false,
            failed: None,
        }
    }

    /// False if there is nobody to read it, or no way to print it.
    pub(super) fn take(&mut self, piece: &Value) -> bool {
        let printed = self.print(piece);
        self.failed = printed.err();
        self.failed.is_none()
    }

    fn print(&mut self, piece: &Value) -> io::Result<()> {
        if let Some(patch) = names::get(piece, "patch") {
            self.differs = true;
            return if self.args.json.json {
                writeln!(self.out, "{piece}")
            } else {
                self.out.write_all(&patch)
            };
        }
        for path in names::get_list(piece, "paths").into_iter().flatten() {
            self.differs = true;
            let text = match self.args.zero {
                true => [path.as_slice(), b"\0"].concat(),
                false => format!("{}\n", names::shown_bytes(&path)).into_bytes(),
            };
            self.out.write_all(&text)?;
        }
        for change in piece["changes"].as_array().into_iter().flatten() {
            self.differs = true;
            self.sums.add(change);
            let text = if self.args.json.json {
                format!("{change}\n").into_bytes()
            } else {
                format!("{}\n", change_line(change, self.args.form.stat)).into_bytes()
            };
            self.out.write_all(&text)?;
        }
        Ok(())
    }

    pub(super) fn finish(mut self) -> Result<u8, Failure> {
        if self.failed.is_none() && self.args.form.stat && (self.differs || self.args.json.json) {
            let sums = match self.args.json.json {
                true => format!("{}\n", self.sums.json()),
                false => self.sums.text(),
            };
            self.failed = self.out.write_all(sums.as_bytes()).err();
        }
        let failed = self.failed.take().or_else(|| self.out.flush().err());
        match failed.filter(|e| e.kind() != io::ErrorKind::BrokenPipe) {
            Some(e) => Err(Failure::new(Code::Other, format!("cannot write the output: {e}"))),
            None if self.differs => Ok(DIFFERENT),
            None => Ok(SAME),
        }
    }
}

/// A change for people. `stat`: with the sizes of what came and went.
pub(super) fn change_line(change: &Value, stat: bool) -> String {
    let slash = if change["type"] == "directory" { "/" } else { "" };
    let path = |key: &str| names::get(change, key).map(|path| names::shown_bytes(&path) + slash);
    let size = |key: &str| change[key].as_u64().map(output::size);
    let sign = change["change"].as_str().unwrap_or("?");
    let mut line = format!("{sign} ");
    if sign == "R" {
        line += &format!("{} -> ", path("old_path").unwrap_or_default());
    }
    line += &path("path").unwrap_or_default();
    let attributes = change["attributes"].as_array().into_iter().flatten().filter_map(Value::as_str);
    let mut notes: Vec<String> = Vec::new();
    match (size("old_size"), size("new_size")) {
        (Some(before), Some(now)) if sign == "M" => notes.push(format!("{before} -> {now}")),
        (Some(before), None) if stat => notes.push(format!("{before} -> -")),
        (None, Some(now)) if stat => notes.push(format!("- -> {now}")),
        _ => {}
    }
    notes.extend(attributes.map(str::to_string));
    let marks = ["replaced", "link"].into_iter().filter(|mark| change[*mark] == true);
    notes.extend(marks.map(str::to_string));
    if notes.is_empty() { line } else { format!("{line} ({})", notes.join(", ")) }
}
