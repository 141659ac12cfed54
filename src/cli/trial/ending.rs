//! The end of a trial: what changed is shown, and the clone is merged, kept or dropped.
//!
//! A trial that nobody decides about loses nothing: its clone stays, under the name that it has, and it is said how to go on. So
//! does one that is to be merged and whose command failed, or that conflicts.

use crate::cli::args::{DiffArgs, DiffForm, Json, TryArgs};
use crate::cli::engine::{DiffOrder, DiffTold, MergeWay};
use crate::cli::merge::conflict_text;
use crate::cli::wire::encode_diff;
use crate::cli::{diff, merging, output, wire};
use crate::ctl::{Client, Code, Failure};
use crate::names;
use crate::ops::NodeId;
use crate::sys::process;
use serde_json::{Value, json};
use std::ffi::{OsStr, OsString};
use std::io::{self, IsTerminal};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

const FAILED: u8 = 1;
const CONFLICTS: u8 = 3;

/// A clone that a command was run on.
pub(super) struct Trial<'a> {
    pub(super) client: &'a Client,
    pub(super) args: &'a TryArgs,
    /// Of the clone.
    pub(super) name: Vec<u8>,
    /// The snapshot that it was made from.
    pub(super) step: Vec<u8>,
    /// Of the line that it was made from.
    pub(super) slot: u32,
}

/// What becomes of the clone.
enum Decision {
    Merge,
    Keep(OsString),
    Drop,
    /// It stays as it is.
    Nothing,
}

/// Refuses a name that a clone cannot be given in the end.
pub(super) fn check_free(client: &Client, name: &OsStr) -> Result<(), Failure> {
    let shown = names::shown(name);
    let bytes = name.as_bytes();
    if !(1..=255).contains(&bytes.len()) || matches!(bytes[0], b'.' | b'@') || bytes.contains(&b'/') {
        let what = "not a name for a clone: 1 to 255 bytes, no '/', not beginning with '.' or '@'";
        return Err(Failure::new(Code::Invalid, format!("{shown}: {what}")));
    }
    let clones = wire::decode_clones(&client.call("clones", json!({}), &mut |_| {})?)?;
    if clones.iter().any(|clone| clone.name == bytes) {
        return Err(Failure::new(Code::Exists, format!("{shown}: a clone of that name exists")));
    }
    Ok(())
}

/// What changed between two views.
pub(super) fn find_changes(client: &Client, order: &DiffOrder) -> Result<Vec<Value>, Failure> {
    let mut changes = Vec::new();
    client.stream("diff", encode_diff(order), &mut |piece| {
        changes.extend(piece["changes"].as_array().into_iter().flatten().cloned());
        true
    })?;
    Ok(changes)
}

/// Prints it, unless it is for JSON.
pub(super) fn print_changes(target: &Path, changes: &[Value], json: &Json) -> Result<(), Failure> {
    if json.json {
        return Ok(());
    }
    let args = DiffArgs {
        target: target.to_path_buf(),
        from: OsString::new(),
        to: OsString::new(),
        form: DiffForm { stat: false, name_only: false, patch: false },
        zero: false,
        json: Json { json: false },
    };
    diff::print_changes(&args, changes)
}

/// The exit code when the command has ended with `code`: nothing that fails afterwards takes the place of a code that says
/// something. It is told.
pub(super) fn code_of(code: u8, after: Result<(), Failure>) -> u8 {
    match after {
        Ok(()) => code,
        Err(f) => {
            eprintln!("snapfs: {f}");
            if code == 0 { FAILED } else { code }
        }
    }
}

impl Trial<'_> {
    /// Ends it; returns the exit code of the whole.
    pub(super) fn end(mut self, code: u8, interrupted: bool) -> u8 {
        let json = &self.args.json;
        let order = DiffOrder {
            from: self.step.clone(),
            to: [b".clones/", &self.name[..]].concat(),
            under: Some(NodeId::live(self.slot, NodeId::ROOT.ino()).0),
            told: DiffTold::Changes,
        };
        let changes = find_changes(self.client, &order);
        let changes = changes.map_err(|f| eprintln!("snapfs: what the command changed: {f}")).ok();
        let told = changes.as_ref().map_or(Ok(()), |all| print_changes(&self.args.target, all, json));
        let is_same = changes.as_ref().is_some_and(Vec::is_empty);
        if is_same && !json.json {
            eprintln!("snapfs: the command changed nothing");
        }
        // As with a step: a signal that the command has survived is no failure of it.
        let is_well = code == 0;
        let mut conflicts = Vec::new();
        let (outcome, done) = match self.decide(is_same, is_well, interrupted) {
            Decision::Merge => match self.merge() {
                Ok(found) if found.is_empty() => ("merged", Ok(())),
                Ok(found) => {
                    conflicts = found;
                    ("conflicts", Ok(()))
                }
                Err(f) => ("kept", Err(f)),
            },
            Decision::Keep(name) => ("kept", self.keep(&name)),
            Decision::Drop => ("dropped", self.drop_clone()),
            Decision::Nothing => ("kept", Ok(())),
        };
        let outcome = if done.is_ok() { outcome } else { "kept" };
        let is_there = matches!(outcome, "kept" | "conflicts");
        let print = |text: &str| output::print(text).map_err(|e| Failure::new(Code::Other, e));
        let mut told = told;
        if !conflicts.is_empty() {
            if !json.json {
                told = told.and(print(&conflicts.iter().map(conflict_text).collect::<String>()));
            }
            let count = output::counted(conflicts.len() as u64, "conflict");
            eprintln!("snapfs: {count} with what others changed: nothing was merged");
        }
        if is_there {
            self.tell_kept();
        }
        if json.json {
            let mut object = json!({
                "exit_code": code, "interrupted": interrupted, "outcome": outcome, "changes": changes,
                "conflicts": conflicts, "clone": null, "view_before": null,
            });
            if is_there {
                names::put(&mut object, "clone", OsStr::from_bytes(&self.name));
                names::put(&mut object, "view_before", OsStr::from_bytes(&self.step));
            }
            told = told.and(print(&format!("{object}\n")));
        }
        let code = if code == 0 && !conflicts.is_empty() { CONFLICTS } else { code };
        code_of(code_of(code, done), told)
    }

    fn decide(&self, is_same: bool, is_well: bool, interrupted: bool) -> Decision {
        let end = &self.args.end;
        match &end.keep {
            Some(name) => Decision::Keep(name.clone()),
            None if end.merge && is_well => Decision::Merge,
            None if end.merge && !is_same => {
                eprintln!("snapfs: the command failed: nothing is merged");
                Decision::Nothing
            }
            None if end.drop || is_same => Decision::Drop,
            None if interrupted || self.args.json.json => Decision::Nothing,
            None if io::stdin().is_terminal() && io::stderr().is_terminal() => ask(),
            None => Decision::Nothing,
        }
    }

    /// Takes over what changed, or finds what is in the way of that.
    fn merge(&self) -> Result<Vec<Value>, Failure> {
        let mut request = merging::encode(&self.name, MergeWay::Merge, false);
        request["user"] = process::effective_uid().into();
        names::put_list(&mut request, "command", &self.args.command);
        let mut conflicts = Vec::new();
        let answer = self.client.stream("merge", request, &mut |piece| {
            conflicts.extend(piece["conflicts"].as_array().into_iter().flatten().cloned());
            true
        })?;
        if conflicts.is_empty() && answer.is_some_and(|answer| answer["dropped"] == false) {
            let name = names::shown_bytes(&self.name);
            eprintln!("snapfs: what was tried is merged; the clone {name} is in use, and stays");
        }
        Ok(conflicts)
    }

    fn keep(&mut self, name: &OsStr) -> Result<(), Failure> {
        let mut request = json!({});
        names::put(&mut request, "name", OsStr::from_bytes(&self.name));
        names::put(&mut request, "new_name", name);
        self.client.call("rename_clone", request, &mut |_| {})?;
        self.name = name.as_bytes().to_vec();
        Ok(())
    }

    /// Throws the clone away.
    pub(super) fn drop_clone(&self) -> Result<(), Failure> {
        let mut request = json!({});
        names::put(&mut request, "name", OsStr::from_bytes(&self.name));
        self.client.call("drop", request, &mut |_| {}).map(drop)
    }

    fn tell_kept(&self) {
        let (name, target) = (names::shown_bytes(&self.name), names::shown(&self.args.target));
        eprintln!("snapfs: what the command made of it is the clone {name}, at .clones/{name} in the mount");
        eprintln!("snapfs: take it over with: snapfs merge {target} {name}");
        eprintln!("snapfs: throw it away with: snapfs drop {target} {name}");
    }
}

/// Asks until there is an answer. The end of the input is one.
fn ask() -> Decision {
    loop {
        eprint!("snapfs: merge, keep NAME, or drop? ");
        let mut line = String::new();
        match io::stdin().read_line(&mut line) {
            Ok(0) | Err(_) => return Decision::Nothing,
            Ok(_) => {}
        }
        match line.trim().split_once(' ').unwrap_or((line.trim(), "")) {
            ("merge" | "m", "") => return Decision::Merge,
            ("drop" | "d", "") => return Decision::Drop,
            ("keep" | "k", "") => return Decision::Nothing,
            ("keep" | "k", name) => return Decision::Keep(name.trim().into()),
            _ => {}
        }
    }
}
