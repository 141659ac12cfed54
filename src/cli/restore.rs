//! `restore`: files and subtrees as they were, through the daemon of their mount.
//!
//! A path that is not there any more is found by what is left of it: the deepest
//! directory that is there says which mount and line are meant.

use super::args::RestoreArgs;
use super::diff::{Sums, change_line};
use super::output;
use crate::ctl::{Client, Code, Failure, of_device};
use crate::names;
use crate::ops::NodeId;
use crate::sys::mount::major_minor;
use crate::sys::process;
use serde_json::{Value, json};
use std::collections::VecDeque;
use std::ffi::{OsStr, OsString};
use std::fs;
use std::io::{self, Write};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// Restores, or tells what that would change.
pub(super) fn run(args: &RestoreArgs) -> Result<(), Failure> {
    let paths = args.paths.iter().map(|path| found(path, Place::of)).collect::<Result<Vec<_>, _>>()?;
    let first = paths.first().ok_or_else(|| Failure::new(Code::Invalid, "nothing is to be restored"))?;
    let client = daemon_of(first)?;
    let to = args.to.as_ref().map(|dir| found(dir, Place::directory)).transpose()?;
    for place in paths.iter().chain(&to) {
        if place.device != first.device {
            let what = format!("{} and {} are in different mounts", first.shown, place.shown);
            return Err(Failure::new(Code::Invalid, what));
        }
    }
    if args.from.is_none() && paths.iter().any(|place| !place.may_name_a_snapshot()) {
        let what =
            format!("{}: from which view? Say --from VIEW, or name it as .snapshots/NAME/...", first.shown);
        return Err(Failure::new(Code::Invalid, what));
    }
    let request = by_whom(json!({"dry_run": args.dry_run, "to": to.map(|place| place.node)}));
    let mut request = of_device(request, first.device);
    request["paths"] = paths.iter().map(Place::encode).collect();
    if let Some(from) = &args.from {
        names::put(&mut request, "from", from);
    }
    let mut printer = ChangesTold::new(args.json.json, args.dry_run);
    let answer = client.stream("restore", request, &mut |piece| printer.take(&piece))?;
    printer.finish(&answer.unwrap_or_default())
}

/// A path as far as it is there, in a mount whose daemon may not answer.
fn found(path: &Path, find: fn(&Path) -> Result<Place, Failure>) -> Result<Place, Failure> {
    let wanted = path.to_path_buf();
    Client::patiently(path, move || find(&wanted))?
}

/// A request with who asks, and by which command.
pub(super) fn by_whom(mut request: Value) -> Value {
    request["user"] = process::effective_uid().into();
    names::put_list(&mut request, "command", &std::env::args_os().collect::<Vec<OsString>>());
    request
}

fn daemon_of(place: &Place) -> Result<Client, Failure> {
    match Client::connect(&place.base) {
        Ok(client) if client.record().device == place.device => Ok(client),
        Ok(_) => Err(Failure::new(Code::NotMounted, format!("{} is not in a mount of snapfs", place.shown))),
        Err(f) if f.code == Code::NotMounted => {
            let what = format!("{} is not in a mount of snapfs, or in that of another user", place.shown);
            Err(Failure::new(Code::NotMounted, what))
        }
        Err(f) => Err(f),
    }
}

/// Where a path is, as far as it is there.
struct Place {
    /// The deepest directory that is there; not through a symbolic link at the end of the path.
    base: PathBuf,
    node: u64,
    device: (u32, u32),
    below: VecDeque<OsString>,
    /// What a copy of it is called.
    name: OsString,
    shown: String,
}

impl Place {
    fn of(path: &Path) -> Result<Place, Failure> {
        let shown = names::shown(path);
        let wrong = |e: &dyn std::fmt::Display| Failure::new(Code::NotFound, format!("{shown}: {e}"));
        let mut base = std::path::absolute(path).map_err(|e| wrong(&e))?;
        let mut below = VecDeque::new();
        // A symbolic link is what it is, not what it leads to; on the way to it they are followed.
        let is_directory = |base: &Path, whole: bool| match whole {
            true => fs::symlink_metadata(base).is_ok_and(|meta| meta.is_dir()),
            false => fs::metadata(base).is_ok_and(|meta| meta.is_dir()),
        };
        while !is_directory(&base, below.is_empty()) {
            let name = base.file_name().ok_or_else(|| wrong(&"'..' follows what is not there"))?;
            below.push_front(name.to_os_string());
            base.pop();
        }
        let base = fs::canonicalize(&base).map_err(|e| wrong(&e))?;
        let meta = fs::metadata(&base).map_err(|e| wrong(&e))?;
        let name =
            below.back().map(OsString::as_os_str).or(base.file_name()).unwrap_or_default().to_os_string();
        Ok(Place { node: meta.ino(), device: major_minor(meta.dev()), base, below, name, shown })
    }

    /// A directory that must be there.
    fn directory(path: &Path) -> Result<Place, Failure> {
        let place = Place::of(&fs::canonicalize(path).unwrap_or(path.to_path_buf()))?;
        if place.below.is_empty() {
            return Ok(place);
        }
        Err(Failure::new(Code::NotFound, format!("{}: no such directory", names::shown(path))))
    }

    fn may_name_a_snapshot(&self) -> bool {
        !NodeId(self.node).is_live()
    }

    fn encode(place: &Place) -> Value {
        let mut object = json!({"at": place.node});
        names::put(&mut object, "name", &place.name);
        names::put_list(&mut object, "below", &Vec::from(place.below.clone()));
        object
    }
}

/// Prints what was told, as it comes.
pub(super) struct ChangesTold {
    json: bool,
    dry_run: bool,
    sums: Sums,
    any: bool,
    changes: Vec<Value>,
    failed: Option<io::Error>,
}

impl ChangesTold {
    pub(super) fn new(json: bool, dry_run: bool) -> ChangesTold {
        ChangesTold { json, dry_run, sums: Sums::default(), any: false, changes: Vec::new(), failed: None }
    }

    /// Takes a piece. What was changed is changed, whether anybody reads it or not.
    pub(super) fn take(&mut self, piece: &Value) -> bool {
        for change in piece["changes"].as_array().into_iter().flatten() {
            self.any = true;
            self.sums.add(change);
            if self.json {
                self.changes.push(change.clone());
            } else if self.dry_run {
                self.print(&format!("{}\n", change_line(change, false)));
            }
        }
        true
    }

    fn print(&mut self, text: &str) {
        if self.failed.is_none() {
            self.failed = io::stdout().lock().write_all(text.as_bytes()).err();
        }
    }

    pub(super) fn finish(mut self, answer: &Value) -> Result<(), Failure> {
        let guard = names::get(answer, "before");
        if self.json {
            let mut object = json!({"changed": self.any && !self.dry_run, "changes": self.changes});
            for key in ["before", "after"] {
                if let Some(name) = names::get(answer, key) {
                    names::put(&mut object, key, OsStr::from_bytes(&name));
                }
            }
            return output::print_json(&object).map_err(|e| Failure::new(Code::Other, e));
        }
        match guard {
            _ if !self.any => self.print("nothing differs\n"),
            Some(guard) => {
                let text =
                    format!("{}; before: {}\n", self.sums.text().trim_end(), names::shown_bytes(&guard));
                self.print(&text);
            }
            None => {
                let text = format!("would change: {}", self.sums.text());
                self.print(&text);
            }
        }
        match self.failed.filter(|e| e.kind() != io::ErrorKind::BrokenPipe) {
            Some(e) => Err(Failure::new(Code::Other, format!("cannot write the output: {e}"))),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::restoring::decode;
    use super::*;
    use crate::fs::{NamedPath, RestoreOrder};

    #[test]
    fn orders_travel() {
        let place = Place {
            base: PathBuf::from("/data/d"),
            node: 77,
            device: (0, 50),
            below: VecDeque::from([OsString::from("a"), OsString::from("b \u{e9}")]),
            name: "b \u{e9}".into(),
            shown: String::new(),
        };
        let mut request = json!({"paths": [Place::encode(&place)], "to": 5, "dry_run": true});
        names::put(&mut request, "from", "@-1h");
        let order = decode(&request).unwrap();
        let path = NamedPath {
            at: NodeId(77),
            below: vec![b"a".to_vec(), "b \u{e9}".as_bytes().to_vec()],
            name: "b \u{e9}".as_bytes().to_vec(),
        };
        assert_eq!(
            order,
            RestoreOrder { paths: vec![path], from: Some(b"@-1h".to_vec()), to: Some(NodeId(5)) }
        );
        assert!(decode(&json!({"paths": [{"at": "x"}]})).is_none());
    }

    #[test]
    fn a_place_is_the_deepest_directory_and_the_names_below() {
        let dir = std::env::temp_dir();
        let place = Place::of(&dir.join("not-there-at-all/b")).unwrap();
        assert_eq!(place.base, fs::canonicalize(&dir).unwrap());
        assert_eq!(place.below, ["not-there-at-all", "b"]);
        assert_eq!(place.name, "b");
        assert!(Place::of(&dir.join("not-there-at-all/..")).is_err());
        assert!(Place::of(&dir).unwrap().below.is_empty());
    }
}
