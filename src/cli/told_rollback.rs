//! How orders of `rollback`, `promote` and `undo` travel over the control channel, and what came of them.

use super::engine::{Cover, InTheWay, OpenForWriting, PromoteOrder, RollbackAnswer, RollbackOrder};
use crate::ctl::{Code, Failure};
use crate::names;
use crate::ops::NodeId;
use serde_json::{Value, json};
use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::PathBuf;

/// An order to roll back, without a node.
pub(super) fn request(view: &OsStr, force: bool, dry_run: bool) -> Value {
    let mut request = json!({"force": force, "dry_run": dry_run});
    names::put(&mut request, "view", view);
    request
}

/// An order as it came, about a node.
pub(super) fn order(at: NodeId, args: &Value) -> RollbackOrder {
    let is_set = |key: &str| args.get(key).and_then(Value::as_bool).unwrap_or(false);
    RollbackOrder {
        at,
        view: names::get(args, "view").unwrap_or_default(),
        writers: if is_set("force") { OpenForWriting::CutOff } else { OpenForWriting::Spared },
        dry_run: is_set("dry_run"),
    }
}

/// The same of a promotion.
pub(super) fn promote_order(args: &Value) -> PromoteOrder {
    PromoteOrder {
        name: names::get(args, "name").unwrap_or_default(),
        onto: names::get(args, "onto"),
        keep_as: names::get(args, "as"),
        writers: order(NodeId::ROOT, args).writers,
    }
}

/// What came of it, as it travels.
pub(super) fn encode(answer: &RollbackAnswer) -> Value {
    let mut object = json!({"root": answer.root.0});
    names::put(&mut object, "view", OsStr::from_bytes(&answer.view));
    if let Some(guard) = &answer.guard {
        names::put(&mut object, "guard", OsStr::from_bytes(guard));
    }
    encode_in_the_way(&mut object, &answer.in_the_way);
    object
}

/// What stands in the way, into an object.
pub(super) fn encode_in_the_way(object: &mut Value, in_the_way: &InTheWay) {
    let file = |(node, path): &(NodeId, Option<Vec<u8>>)| {
        let mut file = json!({"inode": node.0});
        if let Some(path) = path {
            names::put(&mut file, "path", OsStr::from_bytes(path));
        }
        file
    };
    object["open_for_writing"] = in_the_way.written.iter().map(file).collect();
    names::put_list(object, "mounts", &in_the_way.mounts);
    let cover = |cover: &Cover| {
        let mut object = json!({});
        names::put(&mut object, "clone", OsStr::from_bytes(&cover.trial));
        names::put(&mut object, "path", OsStr::from_bytes(&cover.path));
        object
    };
    object["trials"] = in_the_way.covers.iter().map(cover).collect();
}

/// The other way.
pub(super) fn decode(answer: &Value) -> Result<RollbackAnswer, Failure> {
    let found = (|| {
        let file = |file: &Value| Some((NodeId(file.get("inode")?.as_u64()?), names::get(file, "path")));
        let mounts = names::get_list(answer, "mounts")?.into_iter();
        let cover = |cover: &Value| {
            Some(Cover { trial: names::get(cover, "clone")?, path: names::get(cover, "path")? })
        };
        Some(RollbackAnswer {
            root: NodeId(answer.get("root")?.as_u64()?),
            view: names::get(answer, "view")?,
            guard: names::get(answer, "guard"),
            in_the_way: InTheWay {
                written: answer
                    .get("open_for_writing")?
                    .as_array()?
                    .iter()
                    .map(file)
                    .collect::<Option<_>>()?,
                mounts: mounts.map(|point| PathBuf::from(OsString::from_vec(point))).collect(),
                covers: answer.get("trials")?.as_array()?.iter().map(cover).collect::<Option<_>>()?,
            },
        })
    })();
    found.ok_or_else(|| Failure::new(Code::Version, "the daemon's answer cannot be understood"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn orders_and_answers_travel() {
        let sent = request(OsStr::from_bytes(b"a\xff"), true, false);
        let expected = RollbackOrder {
            at: NodeId(7),
            view: b"a\xff".to_vec(),
            writers: OpenForWriting::CutOff,
            dry_run: false,
        };
        assert_eq!(order(NodeId(7), &sent), expected);
        for guard in [None, Some(b"@before-rollback-\xff".to_vec())] {
            let answer = RollbackAnswer {
                root: NodeId(u64::MAX),
                view: b"\xfe".to_vec(),
                guard,
                in_the_way: InTheWay {
                    written: vec![(NodeId(5), Some(b"d/\xff".to_vec())), (NodeId(6), None)],
                    mounts: vec![PathBuf::from(OsStr::from_bytes(b"/m/\xff"))],
                    covers: vec![Cover { trial: b"@trial-\xff".to_vec(), path: b".clones/x".to_vec() }],
                },
            };
            assert_eq!(decode(&encode(&answer)), Ok(answer));
        }
        assert!(decode(&json!({"view": "x"})).is_err());
    }
}
