//! How questions about the past of a path travel over the control channel, and what the daemon finds for each.
//!
//! Both ends are here, so that they cannot disagree. An object for each version; for each moment of a log one, and others
//! with its changes, so that none grows with what happened.

use super::engine::{PathOrder, PathQuestion};
use super::output::rfc3339;
use super::refusal::{LIVE, told, told_snapshot, told_view};
use super::told_change::{encode_change, type_name};
use crate::ctl::{Code, Failure};
use crate::format::ViewId;
use crate::fs::{Fs, LogEntry, Moment, PathAsked, PathVersion, Reason};
use crate::names;
use crate::ops::{Error, NodeId, Timestamp};
use serde_json::{Value, json};
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

/// Changes in one object.
const CHANGES_TOLD: usize = 256;

/// A question as it travels.
pub(super) fn encode(order: &PathOrder) -> Value {
    let mut object = json!({"dir": order.dir});
    let path: Vec<&OsStr> = order.names.iter().map(|name| OsStr::from_bytes(name)).collect();
    names::put_list(&mut object, "names", &path);
    if let Some(snapshot) = &order.of_snapshot {
        names::put(&mut object, "of_snapshot", OsStr::from_bytes(snapshot));
    }
    if let PathQuestion::Log { since, most } = &order.question {
        object["log"] = json!({"most": most});
        if let Some(since) = since {
            names::put(&mut object["log"], "since", OsStr::from_bytes(since));
        }
    }
    object
}

/// The other way.
pub(super) fn decode(args: &Value) -> Result<PathOrder, Failure> {
    let found = (|| {
        let question = match args.get("log") {
            Some(log) => {
                PathQuestion::Log { since: names::get(log, "since"), most: log.get("most")?.as_u64()? }
            }
            None => PathQuestion::Versions,
        };
        Some(PathOrder {
            question,
            dir: args.get("dir")?.as_u64()?,
            names: names::get_list(args, "names")?,
            of_snapshot: names::get(args, "of_snapshot"),
        })
    })();
    found.ok_or_else(|| Failure::new(Code::Invalid, "the request does not say which path"))
}

/// Answers it.
pub(super) fn answer(
    fs: &Fs,
    store: &Path,
    order: &PathOrder,
    put: &mut dyn FnMut(Value) -> bool,
) -> Result<(), Failure> {
    let mut dir = NodeId(order.dir);
    if let Some(name) = &order.of_snapshot {
        let info = fs.snapshot_of_word(NodeId::ROOT, name);
        let info = info.map_err(|_| told_view(name, &Error::NotFound))?;
        dir = NodeId::snapshot(info.slot.0, dir.ino());
    }
    let asked = PathAsked { dir, names: order.names.clone() };
    let done = match &order.question {
        PathQuestion::Versions => {
            let way = fs.way_to_line(dir).map_err(|e| told(store, &e))?;
            fs.versions(&asked, &mut |version| put(encode_version(fs, &version, &way)))
        }
        PathQuestion::Log { since, most } => {
            let since = since.as_ref().map(|word| after(fs, dir, word)).transpose()?;
            let mut left = *most;
            let mut tell = |entry: LogEntry| {
                left -= 1;
                put_entry(&entry, put) && left > 0
            };
            if *most == 0 { Ok(()) } else { fs.path_log(&asked, since, &mut tell) }
        }
    };
    done.map_err(|e| match e {
        Error::NotFound => {
            let path = names::shown_bytes(&order.names.join(&b'/'));
            let what = "nothing is there, and nothing was in any snapshot";
            Failure::new(Code::NotFound, format!("{path}: {what}"))
        }
        e => told(store, &e),
    })
}

fn after(fs: &Fs, at: NodeId, word: &[u8]) -> Result<ViewId, Failure> {
    if word == LIVE || word.starts_with(b".clones/") {
        let what = "a log begins after a snapshot of the line (snapfs list)";
        return Err(Failure::new(Code::Invalid, format!("{}: {what}", names::shown_bytes(word))));
    }
    fs.snapshot_of_word(at, word).map(|info| info.id).map_err(|e| told_snapshot(word, &e))
}

/// A moment under a key, its time beside it.
fn put_moment(object: &mut Value, key: &str, moment: &Moment) {
    match moment {
        Moment::Present => names::put(object, key, OsStr::from_bytes(LIVE)),
        Moment::Snapshot(info) => {
            names::put(object, key, OsStr::from_bytes(&info.name));
            let (secs, nanos) = info.created;
            object[format!("{key}_created")] = rfc3339(Timestamp { secs, nanos }).into();
        }
    }
}

fn put_path(object: &mut Value, key: &str, path: &[u8]) {
    names::put(object, key, OsStr::from_bytes(if path.is_empty() { b"." } else { path }));
}

/// `way`: to the root of its line.
fn encode_version(fs: &Fs, version: &PathVersion, way: &[u8]) -> Value {
    let inode = &version.inode;
    let mut object = json!({
        "type": type_name(inode.kind), "size": inode.size, "mtime": rfc3339(inode.mtime),
        "mode": format!("{:04o}", inode.mode), "uid": inode.uid, "gid": inode.gid, "inode": version.ino.0,
        "changed": version.changed,
    });
    put_moment(&mut object, "from", &version.oldest);
    put_moment(&mut object, "to", &version.newest);
    put_path(&mut object, "path", &version.path);
    let snapshot = match &version.newest {
        Moment::Present => Some(Vec::new()),
        Moment::Snapshot(info) => fs.way_to_snapshot(&info.name),
    };
    if let Some(snapshot) = snapshot {
        let reach = [way, &snapshot, &version.path].concat();
        put_path(&mut object, "reach", reach.strip_suffix(b"/").unwrap_or(&reach));
    }
    object
}

/// What a snapshot says of its making.
fn put_provenance(object: &mut Value, moment: &Moment) {
    let Moment::Snapshot(info) = moment else { return };
    let told = &info.provenance;
    if told.reason != Reason::User {
        object["reason"] = told.reason.name().into();
    }
    if let Some(user) = told.user {
        object["user"] = user.into();
    }
    for (key, text) in [("description", &told.description), ("command", &told.command)] {
        if !text.is_empty() {
            names::put(object, key, OsStr::from_bytes(text));
        }
    }
}

fn put_entry(entry: &LogEntry, put: &mut dyn FnMut(Value) -> bool) -> bool {
    let mut header = json!({"first": entry.is_first});
    put_moment(&mut header, "snapshot", &entry.moment);
    put_provenance(&mut header, &entry.moment);
    put(json!({"entry": header}))
        && entry.changes.chunks(CHANGES_TOLD).all(|some| {
            let some = some.iter().map(|(change, is_link)| {
                let mut object = encode_change(change);
                if *is_link {
                    object["link"] = true.into();
                }
                if let (Some(old), Some(new)) = (change.old, change.new)
                    && old.ino != new.ino
                {
                    object["replaced"] = true.into();
                }
                object
            });
            put(json!({"changes": some.collect::<Vec<_>>()}))
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn questions_travel() {
        for question in [
            PathQuestion::Versions,
            PathQuestion::Log { since: None, most: u64::MAX },
            PathQuestion::Log { since: Some(b"@\xff".to_vec()), most: 0 },
        ] {
            for of_snapshot in [None, Some(b"\xfe".to_vec())] {
                let names = vec![b"a\xff".to_vec(), b"b".to_vec()];
                let order = PathOrder { question: question.clone(), dir: u64::MAX, names, of_snapshot };
                assert_eq!(decode(&encode(&order)), Ok(order));
            }
        }
        assert!(decode(&json!({"dir": 1})).is_err());
    }
}
