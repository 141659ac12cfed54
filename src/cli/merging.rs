//! What the daemon does for `merge` and `rebase`, and how that travels.

use super::engine::{MergeRequest, MergeWay};
use super::output::counted;
use super::refusal::told_clone;
use super::restoring;
use crate::ctl::{Code, Failure};
use crate::format::provenance::{Provenance, Reason};
use crate::fs::{Conflict, ConflictEnd, Fs, MergeOrder, MergeRefusal, Refusal};
use crate::names;
use crate::ops::{Error, NodeId};
use serde_json::{Value, json};
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;

/// Conflicts in one line of an answer.
const TOLD_AT_ONCE: usize = 256;
const WAYS: [(&str, MergeWay); 3] =
    [("merge", MergeWay::Merge), ("keep", MergeWay::MergeAndKeep), ("rebase", MergeWay::Rebase)];

/// A request as it travels.
pub(super) fn encode(name: &[u8], way: MergeWay, dry_run: bool) -> Value {
    let word = WAYS.iter().find(|(_, of)| *of == way).map(|(word, _)| *word);
    let mut request = json!({"way": word, "dry_run": dry_run});
    names::put(&mut request, "name", OsStr::from_bytes(name));
    request
}

/// The other way; who asks, and for which reason, is told by `provenance`.
pub(super) fn decode(
    args: &Value,
    at: NodeId,
    provenance: impl FnOnce(Reason) -> Provenance,
) -> Result<MergeRequest, Failure> {
    let missing = || Failure::new(Code::Invalid, "the request says nothing that can be merged");
    let word = args.get("way").and_then(Value::as_str);
    let way = WAYS.iter().find(|(way, _)| Some(*way) == word).map(|(_, way)| *way).ok_or_else(missing)?;
    let reason = if way == MergeWay::Rebase { Reason::Rebase } else { Reason::Merge };
    Ok(MergeRequest {
        at,
        name: names::get(args, "name").ok_or_else(missing)?,
        way,
        dry_run: args.get("dry_run").and_then(Value::as_bool).unwrap_or(false),
        provenance: provenance(reason),
    })
}

/// Does what is asked for.
pub(super) fn serve(
    fs: &Fs,
    request: &MergeRequest,
    progress: &mut dyn FnMut(Value) -> bool,
) -> Result<Value, Failure> {
    let order = MergeOrder { at: request.at, clone: &request.name, way: request.way };
    let done = match request.dry_run {
        true => fs.rehearse_merge(&order).map(|changes| (changes, json!({}))),
        false => fs.merge(&order, &request.provenance).map(|done| {
            let mut answer = json!({"dropped": done.dropped});
            if let Some((before, after)) = &done.guards {
                names::put(&mut answer, "before", OsStr::from_bytes(&before.name));
                names::put(&mut answer, "after", OsStr::from_bytes(&after.name));
            }
            (done.changes, answer)
        }),
    };
    match done {
        Ok((changes, answer)) => {
            restoring::tell(&changes, progress);
            Ok(answer)
        }
        Err(MergeRefusal::Conflicts(all)) => {
            let lines = line_names(fs, request);
            all.chunks(TOLD_AT_ONCE).all(|some| {
                let some: Vec<Value> =
                    some.iter().map(|conflict| encode_conflict(conflict, &lines)).collect();
                progress(json!({"conflicts": some}))
            });
            Ok(json!({}))
        }
        Err(other) => Err(refused(&request.name, other)),
    }
}

/// What people call the source and the target.
fn line_names(fs: &Fs, request: &MergeRequest) -> [Vec<u8>; 2] {
    let volume = fs.volume();
    let line = fs.line_at(request.at).ok().and_then(|line| volume.line(line).ok());
    let line = line_name(&line.map(|line| line.name).unwrap_or_default());
    let clone = line_name(&request.name);
    if request.way == MergeWay::Rebase { [line, clone] } else { [clone, line] }
}

fn line_name(name: &[u8]) -> Vec<u8> {
    if name.is_empty() { b".".to_vec() } else { [b".clones/", name].concat() }
}

/// One conflict, with what people call its source and its target.
pub(super) fn encode_conflict(conflict: &Conflict, lines: &[Vec<u8>; 2]) -> Value {
    let put = |object: &mut Value, key: &str, path: &[u8]| {
        names::put(object, key, OsStr::from_bytes(if path.is_empty() { b"." } else { path }));
    };
    let end = |end: &ConflictEnd, line: &[u8]| {
        let mut object = json!({"did": end.did});
        put(&mut object, "line", line);
        end.path.iter().for_each(|path| put(&mut object, "path", path));
        object
    };
    let mut object = json!({"conflict": conflict.kind.name(), "why": conflict.kind.sentence()});
    put(&mut object, "path", conflict.path());
    conflict.base.iter().for_each(|path| put(&mut object, "base_path", path));
    object["source"] = end(&conflict.source, &lines[0]);
    object["target"] = end(&conflict.target, &lines[1]);
    object
}

/// A refusal as a sentence.
fn refused(name: &[u8], refusal: MergeRefusal) -> Failure {
    let shown = names::shown_bytes(name);
    let writers = |paths: Vec<String>, all: usize, whose: &str| {
        let more = if all > paths.len() { format!(" and {} more", all - paths.len()) } else { String::new() };
        let what =
            format!("files {whose} are open for writing: {}{more}; close them first", paths.join(", "));
        Failure::new(Code::Busy, format!("{shown}: {what}"))
    };
    match refusal {
        MergeRefusal::CloneWriters(paths, all) => writers(paths, all, "of the clone"),
        MergeRefusal::Refused(Refusal::Writers(paths, all)) => writers(paths, all, "that would change"),
        MergeRefusal::Refused(Refusal::Uncovers(lost)) => restoring::uncovers(&lost),
        MergeRefusal::Refused(Refusal::Failed(Error::Busy)) => {
            Failure::new(Code::Busy, format!("{shown}: in use"))
        }
        MergeRefusal::Refused(Refusal::Failed(e) | Refusal::Path(_, e) | Refusal::View(_, e)) => {
            told_clone(name, &e)
        }
        MergeRefusal::OtherLine(line) => {
            let line = names::shown_bytes(&line_name(&line));
            let what = format!("it was made from {line}: name a path in that line as MNT");
            Failure::new(Code::Invalid, format!("{shown}: {what}"))
        }
        MergeRefusal::Itself => {
            let what = "MNT is in this clone itself: name a path in the line that it was made from as MNT";
            Failure::new(Code::Invalid, format!("{shown}: {what}"))
        }
        MergeRefusal::NoBase => {
            let what = "what it was last compared with was taken back since; take what you need by 'snapfs restore', or \
                        begin with a new clone";
            Failure::new(Code::Invalid, format!("{shown}: {what}"))
        }
        MergeRefusal::Conflicts(all) => {
            let conflicts = counted(all.len() as u64, "conflict");
            Failure::new(Code::Other, format!("{shown}: {conflicts} with the other side"))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_travel() {
        for (_, way) in WAYS {
            let args = encode(b"a \xff", way, way == MergeWay::Rebase);
            let request = decode(&args, NodeId(7), Provenance::from).unwrap();
            assert_eq!((request.name.as_slice(), request.way, request.at), (&b"a \xff"[..], way, NodeId(7)));
            let reason = if way == MergeWay::Rebase { Reason::Rebase } else { Reason::Merge };
            assert_eq!((request.dry_run, request.provenance), (way == MergeWay::Rebase, reason.into()));
        }
        assert!(decode(&json!({"name": "x"}), NodeId::ROOT, Provenance::from).is_err());
    }
}
