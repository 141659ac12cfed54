//! `versions`, `log`: the past of a path, through the daemon of a mount; of all of a store that is not mounted, too.
//!
//! Answers come in pieces. A reader that goes away ends the work and is no trouble.

use super::args::{LogArgs, VersionsArgs};
use super::diff::{Sums, change_line};
use super::engine::{Backend, OpenFor, PathOrder, PathQuestion, StoreOptions};
use super::umount::how_it_is_frozen;
use super::{output, past_of_path, served};
use crate::ctl::{Client, Code, Failure, of_device, within};
use crate::names;
use crate::ops::NodeId;
use crate::sys::mount::major_minor;
use crate::sys::process::{self, user_name};
use serde_json::{Value, json};
use std::ffi::OsStr;
use std::fs;
use std::io::{self, BufWriter, Write};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// How soon a path is found that nothing keeps.
const SOON: Duration = Duration::from_secs(1);

/// A path as far as it is there: a directory by which a daemon is found, its number in the file system with the device
/// number, and names below it.
pub(super) struct Located {
    pub at: PathBuf,
    pub device: (u32, u32),
    pub dir: u64,
    pub names: Vec<Vec<u8>>,
}

impl Located {
    fn new(at: PathBuf, meta: &fs::Metadata, names: Vec<Vec<u8>>) -> Located {
        Located { at, device: major_minor(meta.dev()), dir: meta.ino(), names }
    }

    /// The request with the file system whose number is in it: a daemon of another refuses it.
    pub(super) fn proved(&self, request: Value) -> Value {
        of_device(request, self.device)
    }
}

/// Prints the versions of a path.
pub(super) fn versions(backend: &dyn Backend, args: &VersionsArgs) -> Result<(), Failure> {
    let mut out = Out::new();
    let (mut rows, json) = (Vec::new(), args.json.json);
    ask(backend, &args.path, PathQuestion::Versions, &mut |mount, mut version| {
        if let (Some(mount), Some(reach)) = (mount, names::get(&version, "reach")) {
            let reach =
                if reach == b"." { mount.to_path_buf() } else { mount.join(OsStr::from_bytes(&reach)) };
            names::put(&mut version, "reach", reach);
        }
        if json {
            return out.line(&version.to_string());
        }
        rows.push(version_row(&version));
        true
    })?;
    out.finish()?;
    if json {
        return Ok(());
    }
    let head = ["FROM", "TO", "SIZE", "MODIFIED", "CHANGED", "PATH"];
    output::print(&output::table(&head, &rows, &[2])).map_err(|e| Failure::new(Code::Other, e))
}

fn version_row(version: &Value) -> Vec<String> {
    let name = |key: &str| names::get(version, key).map_or("-".into(), |name| names::shown_bytes(&name));
    let number = |key: &str| version[key].as_u64().unwrap_or(0);
    let size = match version["type"].as_str() {
        Some("directory") => output::counted(number("size"), "name"),
        _ => output::size(number("size")),
    };
    let mtime = version["mtime"].as_str().and_then(output::parse_rfc3339).map_or("-".into(), output::local);
    let changed = version["changed"].as_array();
    let changed = changed.map(|all| all.iter().filter_map(Value::as_str).collect::<Vec<_>>().join(","));
    vec![name("from"), name("to"), size, mtime, changed.unwrap_or("-".into()), name("reach")]
}

/// Prints what happened to a path.
pub(super) fn log(backend: &dyn Backend, args: &LogArgs) -> Result<(), Failure> {
    let since = args.since.as_ref().map(|word| word.as_bytes().to_vec());
    let question = PathQuestion::Log { since, most: args.most.unwrap_or(u64::MAX) };
    let mut printer = LogPrinter { args, out: Out::new(), header: None, sums: Sums::default() };
    ask(backend, &args.path, question, &mut |_, piece| printer.take(&piece))?;
    printer.end_entry();
    printer.out.finish()
}

struct LogPrinter<'a> {
    args: &'a LogArgs,
    out: Out,
    /// Of the moment whose changes come, and whether anything was printed before.
    header: Option<Value>,
    sums: Sums,
}

impl LogPrinter<'_> {
    fn take(&mut self, piece: &Value) -> bool {
        if let Some(header) = piece.get("entry") {
            self.end_entry();
            let is_first = self.header.replace(header.clone()).is_none();
            return self.args.json.json || self.out.line(&header_text(header, is_first));
        }
        piece["changes"].as_array().into_iter().flatten().all(|change| self.change(change))
    }

    fn change(&mut self, change: &Value) -> bool {
        let Some(header) = &self.header else { return true };
        if self.args.stat {
            self.sums.add(change);
            return true;
        }
        if self.args.json.json {
            return self.out.line(&together(header, change).to_string());
        }
        let or_older = if header["first"] == true { " (then or before)" } else { "" };
        self.out.line(&format!("    {}{or_older}", change_line(change, false)))
    }

    /// With sums there is one line for each moment.
    fn end_entry(&mut self) {
        let sums = std::mem::take(&mut self.sums);
        let Some(header) = self.header.as_ref().filter(|_| self.args.stat) else { return };
        let text = match self.args.json.json {
            true => together(header, &sums.json()).to_string(),
            false => format!("    {}", sums.text().trim_end()),
        };
        self.out.line(&text);
    }
}

/// What the moment and the change say in one object.
fn together(header: &Value, change: &Value) -> Value {
    let mut all = header.as_object().cloned().unwrap_or_default();
    all.extend(change.as_object().cloned().unwrap_or_default());
    Value::Object(all)
}

fn header_text(header: &Value, is_first: bool) -> String {
    let name = names::get(header, "snapshot").unwrap_or_default();
    let mut text = if is_first { String::new() } else { "\n".to_string() };
    text +=
        &if name == b"@live" { "@live".into() } else { format!("snapshot {}", names::shown_bytes(&name)) };
    if let Some(time) = header["snapshot_created"].as_str().and_then(output::parse_rfc3339) {
        text += &format!(", {}", output::local(time));
    }
    if let Some(uid) = header["user"].as_u64().and_then(|uid| u32::try_from(uid).ok()) {
        text += &format!(", by {}", user_name(uid).map_or(uid.to_string(), |name| names::shown_bytes(&name)));
    }
    if let Some(reason) = header["reason"].as_str() {
        text += &format!(", {reason}");
    }
    for (key, sign) in [("description", ""), ("command", "$ ")] {
        if let Some(told) = names::get(header, key) {
            text += &format!("\n    {sign}{}", names::shown_bytes(&told));
        }
    }
    text
}

/// Asks about a path; `take` gets the mount point, if the path is in one, and each piece of the answer.
fn ask(
    backend: &dyn Backend,
    path: &Path,
    question: PathQuestion,
    take: &mut dyn FnMut(Option<&Path>, Value) -> bool,
) -> Result<(), Failure> {
    let mut order = PathOrder { question, dir: NodeId::ROOT.0, names: Vec::new(), of_snapshot: None };
    let located = locate_patiently(path)?;
    let client = match daemon_of(path, &located) {
        Err(f) if f.code == Code::NotMounted && located.names.len() <= 1 => {
            // The store itself: all that is in it.
            let look = StoreOptions { access: OpenFor::LookAsMounted, ..StoreOptions::default() };
            let engine = backend.open(path, &look)?;
            let done = engine.past_of_path(&order, &mut |piece| take(None, piece));
            engine.close()?;
            return done;
        }
        client => client?,
    };
    let record = client.record();
    let mount = record.snapshot.is_none().then(|| record.mountpoint.clone());
    order.of_snapshot = record.snapshot.clone();
    (order.dir, order.names) = (located.dir, located.names.clone());
    let request = located.proved(past_of_path::encode(&order));
    let answer = client.stream("past", request, &mut |piece| take(mount.as_deref(), piece));
    answer.map(drop).map_err(|f| about(path, f))
}

/// The daemon in whose mount a path is. A store stands for its mount elsewhere; the number of a directory in it, or in what
/// is mounted over the mount, is no number of that mount.
pub(super) fn daemon_of(path: &Path, located: &Located) -> Result<Client, Failure> {
    let client = Client::connect(&located.at)?;
    let record = client.record();
    if record.device == located.device {
        return Ok(client);
    }
    let is_over = fs::canonicalize(&located.at).is_ok_and(|real| real.starts_with(&record.mountpoint));
    let point = names::shown(&record.mountpoint);
    let what = if is_over {
        format!("another file system is mounted over the mount at {point}, and this is in that one")
    } else {
        format!("this is in the store of the mount at {point}, not in the mount: name the path below {point}")
    };
    Err(Failure::new(Code::Invalid, format!("{}: {what}", names::shown(path))))
}

/// A sentence about what was asked for, as the user has it.
fn about(path: &Path, f: Failure) -> Failure {
    match (f.code, f.message.split_once(": nothing is there")) {
        (Code::NotFound, Some((_, rest))) => {
            let message = format!("{}: nothing is there{rest}", names::shown(path));
            Failure { message, ..f }
        }
        _ => f,
    }
}

/// Finds the last directory on the way to a path in a mount whose daemon may not answer. Who waits for a thaw has a directory
/// locked, and nobody looks a name up in it meanwhile: that is no silent daemon.
pub(super) fn locate_patiently(path: &Path) -> Result<Located, Failure> {
    let find = || {
        let wanted = path.to_path_buf();
        move || locate(&wanted)
    };
    if let Some(found) = within(SOON, find()) {
        return found;
    }
    let status =
        served::mounted_above(path).and_then(|client| client.ask("status", json!({})).ok().flatten());
    if let Some(how) = status.as_ref().and_then(how_it_is_frozen) {
        let what =
            format!("it is {how}, which has a directory locked: thaw it (snapfs thaw), or try again later");
        return Err(Failure::new(Code::Busy, format!("{}: {what}", names::shown(path))));
    }
    Client::patiently(path, find())?
}

/// Finds the last directory on the way to a path; the path itself need not be there.
fn locate(path: &Path) -> Result<Located, Failure> {
    let failed = |e: io::Error| {
        let shown = names::shown(path);
        // Rights keep nobody out who has all of them.
        if e.kind() == io::ErrorKind::PermissionDenied && process::effective_uid() == 0 {
            let way = "have it mounted with -o allow_other (for users: user_allow_other in /etc/fuse.conf)";
            let what =
                format!("{shown}: the mount of another user lets nobody else in, not even root; {way}");
            return Failure::new(Code::Denied, what);
        }
        Failure::new(Code::NotFound, format!("{shown}: {e}"))
    };
    let mut at = std::path::absolute(path).map_err(failed)?;
    let mut below: Vec<Vec<u8>> = Vec::new();
    match fs::symlink_metadata(&at) {
        // A root has no name in its tree, whatever its mount point is called.
        Ok(meta) if meta.is_dir() && NodeId(meta.ino()).ino() == NodeId::ROOT.0 => {
            return Ok(Located::new(at, &meta, below));
        }
        _ => {}
    }
    loop {
        let Some(name) = at.file_name().map(|name| name.as_bytes().to_vec()) else {
            // It ends in `..`, or is the root of everything.
            let real = fs::canonicalize(&at).map_err(failed)?;
            if real == at {
                let meta = fs::metadata(&at).map_err(failed)?;
                return Ok(Located::new(at, &meta, below));
            }
            at = real;
            continue;
        };
        at.pop();
        below.insert(0, name);
        match fs::metadata(&at) {
            Ok(meta) if meta.is_dir() => return Ok(Located::new(at, &meta, below)),
            Ok(_) => {}
            Err(e) if matches!(e.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {}
            Err(e) => return Err(failed(e)),
        }
    }
}

/// Standard output, line by line.
struct Out {
    to: BufWriter<io::Stdout>,
    failed: Option<io::Error>,
}

impl Out {
    fn new() -> Out {
        Out { to: BufWriter::new(io::stdout()), failed: None }
    }

    /// False if there is nobody to read it, or no way to print it.
    fn line(&mut self, text: &str) -> bool {
        if self.failed.is_none() {
            self.failed = writeln!(self.to, "{text}").err();
        }
        self.failed.is_none()
    }

    fn finish(mut self) -> Result<(), Failure> {
        let failed = self.failed.take().or_else(|| self.to.flush().err());
        match failed.filter(|e| e.kind() != io::ErrorKind::BrokenPipe) {
            Some(e) => Err(Failure::new(Code::Other, format!("cannot write the output: {e}"))),
            None => Ok(()),
        }
    }
}
