//! How snapshots travel over the control channel, and what the daemon does for each verb.
//!
//! Both ends are here, so that they cannot disagree. Names, sizes and exact times; nothing is formatted for people.

use super::delete_order;
use super::engine::{CloneRow, DiffOrder, DiffTold, Engine, ScrubOrder, SnapshotRow};
use super::feed;
use super::freeze_order::{self, FrostWish};
use super::hold_order;
use super::hydrate_order;
use super::merging;
use super::mirror_order;
use super::options::{self, Parsed};
use super::pipe::{self, Carriers};
use super::purge_order;
use super::{past_of_path, restoring, schedule_order, space_order, streaming, told_rollback, trash_order};
use crate::check::Depth;
use crate::ctl::{Code, Failure, Handler, Peer};
use crate::format::provenance::{COMMAND_BYTES_MAX, DESCRIPTION_BYTES_MAX, MadeBy, Provenance, Reason};
use crate::format::view::Consistency;
use crate::fs::{GoesOn, Reached};
use crate::names;
use crate::ops::{NodeId, Timestamp};
use serde_json::{Value, json};
use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Mounts at a place, as options say; the answer is an object that tells what.
pub(super) type AddPoint = Box<dyn Fn(&Path, &[OsString]) -> Result<Value, Failure> + Send + Sync>;

/// The daemon's verbs.
pub(super) struct Verbs {
    pub(super) engine: Arc<dyn Engine>,
    /// Connections for streams that are to come.
    pub(super) carriers: Carriers,
    /// Mounts a snapshot at one more place.
    pub(super) add: AddPoint,
    /// How it is mounted.
    pub(super) options: Parsed,
    /// What the daemon says of itself: the fields of `status` that the engine does not know.
    pub(super) about: Value,
}

impl Handler for Verbs {
    fn handle(
        &self,
        verb: &str,
        args: &Value,
        peer: &Peer,
        progress: &mut dyn FnMut(Value) -> bool,
    ) -> Result<Value, Failure> {
        match verb {
            "list" => {
                let mut all = match names::get(args, "clone") {
                    Some(clone) => self.engine.snapshots_of_clone(&clone)?,
                    None => self.engine.snapshots(at(args))?,
                };
                if args["methods"] == true {
                    all.iter_mut().for_each(|s| s.method = self.engine.method_of(s.id));
                }
                Ok(encode_all(&all))
            }
            "create" => {
                let provenance = Provenance { method: method(args)?, ..of_maker(args)? };
                let frosts = freeze_order::decode_numbers(args)?;
                let reached = Reached { level: reached(args)?, frosts: &frosts };
                let hold = args.get("hold").map(hold_order::decode_wanted).transpose()?;
                let asked = (&provenance, reached);
                let made = self.engine.create_as(at(args), &name(args, "name")?, asked, hold.as_ref())?;
                let unmake = || self.engine.unmake(at(args), &made.name, hold.as_ref(), &provenance);
                if let Some(layout) = args.get("layout").and_then(Value::as_str) {
                    self.engine.set_layout(at(args), layout).inspect_err(|_| unmake())?;
                }
                if let Some(order) = args.get("hydrate") {
                    let begin = hydrate_order::decode(order)
                        .and_then(|order| self.engine.hydrate(at(args), Some(&made.name), &order));
                    begin.inspect_err(|_| unmake())?;
                }
                Ok(encode(&made))
            }
            "freeze" => {
                let by = of_command(args, Reason::User);
                let frozen = self.engine.frost(&freeze_order::decode(args, at(args), by)?)?;
                if !peer.is_there() {
                    // Nobody will thaw what nobody knows to be frozen.
                    let number = frozen.get("number").and_then(Value::as_u64);
                    self.engine.frost(&FrostWish::CallOff(number.unwrap_or_default()))?;
                }
                Ok(frozen)
            }
            "thaw" => self.engine.frost(&FrostWish::Thaw(at(args), freeze_order::decode_numbers(args)?)),
            "hold" => {
                let by = of_command(args, Reason::User);
                self.engine.hold(at(args), &hold_order::decode(args)?, &by)
            }
            "trash" => self.engine.trash(at(args), &trash_order::decode(args)?),
            "hydrate" => {
                let order = hydrate_order::decode(args)?;
                self.engine.hydrate(at(args), names::get(args, "name").as_deref(), &order)
            }
            "purge" => self.engine.purge(&purge_order::decode(args)?),
            "rename" => {
                self.engine.rename(at(args), &name(args, "name")?, &name(args, "new_name")?)?;
                Ok(json!({}))
            }
            "describe" => {
                self.engine.describe(at(args), &name(args, "name")?, &description(args)?)?;
                Ok(json!({}))
            }
            "delete" => {
                self.engine.delete(at(args), &name(args, "name")?)?;
                Ok(json!({}))
            }
            "delete_meant" => {
                let by = of_command(args, Reason::User);
                self.engine.delete_meant(&delete_order::decode(args, at(args))?, &by, progress)
            }
            "clones" => Ok(Value::Array(self.engine.clones()?.iter().map(encode_clone).collect())),
            "clone" => {
                let (new, from) = (name(args, "name")?, names::get(args, "from"));
                let provenance = of_maker(args)?;
                let made = self.engine.create_clone(at(args), &new, from.as_deref(), &provenance)?;
                let [expire, idle] = ["expire", "idle"].map(|key| args.get(key).and_then(Value::as_u64));
                if expire.is_none() && idle.is_none() {
                    return Ok(encode_clone(&made));
                }
                let made = self.engine.end_clone(&new, expire, idle).inspect_err(|_| {
                    // What was not made as it was asked for was not made.
                    let _ = self.engine.drop_clone(&new);
                })?;
                Ok(encode_clone(&made))
            }
            "drop" => {
                let by = of_command(args, Reason::User);
                self.engine.discard_clone(&name(args, "name")?, &by, args["now"] == true)
            }
            "try" => {
                let provenance = of_command(args, Reason::Trial);
                Ok(encode_clone(&self.engine.begin_trial(at(args), &provenance, goes_on(peer))?))
            }
            "cover" => {
                let paths = names::get_list(args, "paths").unwrap_or_default();
                self.engine.cover_trial(&name(args, "name")?, paths)?;
                Ok(json!({}))
            }
            "step" => {
                let keep = args.get("keep").and_then(Value::as_u64).unwrap_or(u64::MAX) as usize;
                let provenance = of_command(args, Reason::Step);
                Ok(encode(&self.engine.take_step(at(args), &provenance, keep, goes_on(peer))?))
            }
            "rename_clone" => {
                self.engine.rename_clone(&name(args, "name")?, &name(args, "new_name")?)?;
                Ok(json!({}))
            }
            "rollback" => {
                Ok(told_rollback::encode(&self.engine.rollback(&told_rollback::order(at(args), args))?))
            }
            "promote" => {
                Ok(told_rollback::encode(&self.engine.promote(&told_rollback::promote_order(args))?))
            }
            "undo" => {
                let provenance = of_command(args, Reason::Undo);
                self.engine.undo(&told_rollback::order(at(args), args), &provenance, progress)
            }
            "mount" => {
                let point = PathBuf::from(OsString::from_vec(name(args, "point")?));
                (self.add)(&point, &name_list(args, "options"))
            }
            "options" => {
                let lists = name_list(args, "options");
                let sloppy = args.get("sloppy").and_then(Value::as_bool).unwrap_or(false);
                let new = options::parse_change(&self.options, &lists, sloppy);
                let new = new.map_err(|e| Failure::new(Code::Invalid, e))?;
                Ok(json!({"flags": new.mount.flags()}))
            }
            "status" => Ok(merged(&self.about, self.engine.status())),
            "info" => Ok(self.engine.info()),
            "diff" => {
                self.engine.diff(&diff_order(args)?, progress)?;
                Ok(json!({}))
            }
            pipe::CARRY => self.carriers.keep(args, peer),
            "stream" => streaming::answer(&*self.engine, &self.carriers, (args, at(args)), progress),
            "changes" => {
                self.engine.changes(&feed::decode(args)?, progress)?;
                Ok(json!({}))
            }
            "show" => self.engine.show(at(args), &name(args, "name")?),
            "past" => {
                self.engine.past_of_path(&past_of_path::decode(args)?, progress)?;
                Ok(json!({}))
            }
            "merge" => {
                let request = merging::decode(args, at(args), |reason| of_command(args, reason))?;
                self.engine.merge(&request, progress)
            }
            "restore" => {
                let provenance = of_command(args, Reason::Restore);
                restoring::answer(&*self.engine, args, &provenance, progress)
            }
            "mirror" => self.engine.mirror(&mirror_order::decode(args)?, progress),
            "split" => {
                let maker = Provenance { reason: Reason::Split, method: MadeBy::Mirror, ..of_maker(args)? };
                let frosts = freeze_order::decode_numbers(args)?;
                let asked = (&maker, Reached { level: reached(args)?, frosts: &frosts });
                let hold = args.get("hold").map(hold_order::decode_wanted).transpose()?;
                self.engine.split(at(args), &name(args, "name")?, asked, hold.as_ref())
            }
            "schedule" => self.engine.schedule(&schedule_order::decode(args, at(args))?, progress),
            "space" => self.engine.space(&space_order::decode(args, at(args))?, progress),
            "scrub" => self.engine.scrub(scrub_order(args)?),
            "check" => {
                let data = args.get("data").and_then(Value::as_bool).unwrap_or(false);
                let report = self.engine.check(if data { Depth::Data } else { Depth::Metadata })?;
                Ok(json!({"findings": report.findings, "summary": report.summary}))
            }
            _ => {
                let what = format!("the running daemon does not know '{verb}'; is it an older version?");
                Err(Failure::new(Code::UnknownVerb, what))
            }
        }
    }
}

/// Whoever asked goes on for as long as he keeps the connection.
fn goes_on(peer: &Peer) -> GoesOn {
    let peer = peer.clone();
    Box::new(move || peer.is_there())
}

/// An order as it travels.
pub(super) fn encode_order(order: ScrubOrder) -> Value {
    match order {
        ScrubOrder::Start { limit } => json!({"order": "start", "limit": limit}),
        ScrubOrder::Pause => json!({"order": "pause"}),
        ScrubOrder::Resume { limit } => json!({"order": "resume", "limit": limit}),
        ScrubOrder::Stop => json!({"order": "stop"}),
        ScrubOrder::Status => json!({"order": "status"}),
    }
}

fn scrub_order(args: &Value) -> Result<ScrubOrder, Failure> {
    let limit = args.get("limit").and_then(Value::as_u64);
    Ok(match text(args, "order")? {
        "start" => ScrubOrder::Start { limit },
        "pause" => ScrubOrder::Pause,
        "resume" => ScrubOrder::Resume { limit },
        "stop" => ScrubOrder::Stop,
        "status" => ScrubOrder::Status,
        other => {
            return Err(Failure::new(Code::Invalid, format!("a scrub knows no order '{other}'")));
        }
    })
}

/// Why something is made before a command is run, and by whom.
fn of_command(args: &Value, reason: Reason) -> Provenance {
    let user = args.get("user").and_then(Value::as_u64).and_then(|user| u32::try_from(user).ok());
    let mut command = names::get_list(args, "command").unwrap_or_default().join(&b' ');
    command.truncate(COMMAND_BYTES_MAX);
    Provenance { user, command, ..reason.into() }
}

/// By whom and by which command something is made that was asked for, and what that says of it.
fn of_maker(args: &Value) -> Result<Provenance, Failure> {
    Ok(Provenance { description: description(args)?, ..of_command(args, Reason::User) })
}

/// What is said about something; nothing if that is empty.
fn description(args: &Value) -> Result<Vec<u8>, Failure> {
    let description = names::get(args, "description").unwrap_or_default();
    if description.len() > DESCRIPTION_BYTES_MAX {
        let what = format!("a description has {DESCRIPTION_BYTES_MAX} bytes at most");
        return Err(Failure::new(Code::Invalid, what));
    }
    Ok(description)
}

/// By which method it is made.
fn method(args: &Value) -> Result<MadeBy, Failure> {
    let Some(said) = args.get("method") else { return Ok(MadeBy::Layout) };
    let known = said.as_str().and_then(MadeBy::from_name);
    known.ok_or_else(|| Failure::new(Code::Invalid, format!("no snapshot is made by the method {said}")))
}

/// What applications have done before.
fn reached(args: &Value) -> Result<Consistency, Failure> {
    let Some(said) = args.get("consistency") else { return Ok(Consistency::FileSystem) };
    let reached = said.as_str().and_then(Consistency::from_name);
    reached.ok_or_else(|| Failure::new(Code::Invalid, format!("nothing is consistent as {said}")))
}

/// The node that a request is about: where its target is in the mount.
fn at(args: &Value) -> NodeId {
    args.get("node").and_then(Value::as_u64).map_or(NodeId::ROOT, NodeId)
}

/// The root of the line or snapshot that a node is of.
pub(super) fn root_of(node: u64) -> u64 {
    NodeId(node).sibling(NodeId::ROOT.ino()).0
}

const DIFF_TOLD: [(DiffTold, &str); 3] =
    [(DiffTold::Changes, "changes"), (DiffTold::Paths, "paths"), (DiffTold::Patch, "patch")];

/// An order of a difference as it travels.
pub(super) fn encode_diff(order: &DiffOrder) -> Value {
    let told = DIFF_TOLD.iter().find(|(told, _)| *told == order.told).map(|(_, word)| *word);
    let mut object = json!({"under": order.under, "told": told});
    names::put(&mut object, "from", OsStr::from_bytes(&order.from));
    names::put(&mut object, "to", OsStr::from_bytes(&order.to));
    object
}

fn diff_order(args: &Value) -> Result<DiffOrder, Failure> {
    Ok(DiffOrder {
        from: name(args, "from")?,
        to: name(args, "to")?,
        under: args.get("under").and_then(Value::as_u64),
        told: match args.get("told") {
            None => DiffTold::Changes,
            Some(said) => {
                let told = DIFF_TOLD.iter().find(|(_, word)| said == word).map(|(told, _)| *told);
                told.ok_or_else(|| {
                    Failure::new(Code::Invalid, format!("a difference is not told as {said}"))
                })?
            }
        },
    })
}

fn text<'a>(args: &'a Value, key: &str) -> Result<&'a str, Failure> {
    let missing = || Failure::new(Code::Invalid, format!("the request has no '{key}'"));
    args.get(key).and_then(Value::as_str).ok_or_else(missing)
}

fn name(args: &Value, key: &str) -> Result<Vec<u8>, Failure> {
    let missing = || Failure::new(Code::Invalid, format!("the request has no '{key}'"));
    names::get(args, key).ok_or_else(missing)
}

fn name_list(args: &Value, key: &str) -> Vec<OsString> {
    names::get_list(args, key).unwrap_or_default().into_iter().map(OsString::from_vec).collect()
}

/// The fields of both objects; the second wins.
fn merged(a: &Value, b: Value) -> Value {
    let mut all = a.as_object().cloned().unwrap_or_default();
    if let Value::Object(b) = b {
        b.keys().for_each(|key| drop(all.remove(&names::hex_key(key)))); // the second may have no such form
        all.extend(b);
    }
    Value::Object(all)
}

/// One snapshot.
pub(super) fn encode(s: &SnapshotRow) -> Value {
    let mut object = json!({
        "id": s.id, "secs": s.created.secs, "nanos": s.created.nanos,
        "referenced": s.referenced, "exclusive": s.exclusive, "written": s.written,
        "reason": s.reason,
        "consistency": s.consistency.name(), "pause_us": s.pause_us,
    });
    names::put(&mut object, "name", OsStr::from_bytes(&s.name));
    if !s.held.is_empty() {
        object["held"] = json!(s.held);
    }
    if let Some(secs) = s.edited {
        object["edited"] = secs.into();
    }
    if let Some(method) = &s.method {
        object["method"] = method.as_str().into();
    }
    if !s.description.is_empty() {
        names::put(&mut object, "description", OsStr::from_bytes(&s.description));
    }
    object
}

fn encode_all(all: &[SnapshotRow]) -> Value {
    Value::Array(all.iter().map(encode).collect())
}

/// The other way.
pub(super) fn decode(v: &Value) -> Result<SnapshotRow, Failure> {
    let found = (|| {
        let number = |key: &str| v.get(key).and_then(Value::as_u64);
        Some(SnapshotRow {
            name: names::get(v, "name")?,
            id: number("id")?,
            created: Timestamp {
                secs: v.get("secs")?.as_i64()?,
                nanos: u32::try_from(number("nanos")?).ok()?,
            },
            referenced: number("referenced")?,
            exclusive: number("exclusive"),
            written: number("written")?,
            // A daemon of an older version tells neither.
            reason: v.get("reason").and_then(Value::as_str).unwrap_or("-").into(),
            description: names::get(v, "description").unwrap_or_default(),
            consistency: v.get("consistency").and_then(Value::as_str).and_then(Consistency::from_name)?,
            pause_us: number("pause_us")?,
            held: v["held"]
                .as_array()
                .into_iter()
                .flatten()
                .filter_map(Value::as_str)
                .map(Into::into)
                .collect(),
            edited: v.get("edited").and_then(Value::as_i64),
            method: v.get("method").and_then(Value::as_str).map(Into::into),
        })
    })();
    found.ok_or_else(|| Failure::new(Code::Version, "the daemon's answer cannot be understood"))
}

/// A list of them.
pub(super) fn decode_all(v: &Value) -> Result<Vec<SnapshotRow>, Failure> {
    v.as_array().map(Vec::as_slice).unwrap_or_default().iter().map(decode).collect()
}

/// One clone.
pub(super) fn encode_clone(c: &CloneRow) -> Value {
    let mut object = json!({
        "id": c.id, "secs": c.created.secs, "nanos": c.created.nanos, "reason": c.reason,
        "snapshots": c.snapshots,
        "referenced": c.referenced, "exclusive": c.exclusive, "written": c.written,
    });
    names::put(&mut object, "name", OsStr::from_bytes(&c.name));
    if let Some(origin) = &c.origin {
        names::put(&mut object, "origin", OsStr::from_bytes(origin));
    }
    if let Some(expires) = c.expires {
        object["expires"] = expires.secs.into();
    }
    if let Some(idle) = c.idle {
        object["idle"] = idle.into();
    }
    object
}

/// The other way.
pub(super) fn decode_clone(v: &Value) -> Result<CloneRow, Failure> {
    let found = (|| {
        let number = |key: &str| v.get(key).and_then(Value::as_u64);
        Some(CloneRow {
            name: names::get(v, "name")?,
            id: number("id")?,
            created: Timestamp {
                secs: v.get("secs")?.as_i64()?,
                nanos: u32::try_from(number("nanos")?).ok()?,
            },
            origin: names::get(v, "origin"),
            expires: v.get("expires").and_then(Value::as_i64).map(|secs| Timestamp { secs, nanos: 0 }),
            idle: number("idle"),
            reason: v.get("reason")?.as_str()?.into(),
            snapshots: number("snapshots")?,
            referenced: number("referenced")?,
            exclusive: number("exclusive")?,
            written: number("written")?,
        })
    })();
    found.ok_or_else(|| Failure::new(Code::Version, "the daemon's answer cannot be understood"))
}

/// A list of them.
pub(super) fn decode_clones(v: &Value) -> Result<Vec<CloneRow>, Failure> {
    v.as_array().map(Vec::as_slice).unwrap_or_default().iter().map(decode_clone).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn orders_travel() {
        use ScrubOrder::*;
        for order in [
            Start { limit: None },
            Start { limit: Some(7) },
            Pause,
            Resume { limit: Some(u64::MAX) },
            Stop,
            Status,
        ] {
            assert_eq!(scrub_order(&encode_order(order)), Ok(order));
        }
        assert!(scrub_order(&json!({"order": "dance"})).is_err());
    }

    #[test]
    fn a_clone_travels() {
        for origin in [None, Some(b".clones/\xff".to_vec())] {
            let c = CloneRow {
                name: b"a \xff".to_vec(),
                id: 7,
                created: Timestamp { secs: -5, nanos: 999_999_999 },
                expires: origin.as_ref().map(|_| Timestamp { secs: -9, nanos: 0 }),
                idle: origin.as_ref().map(|_| 60),
                origin,
                reason: "trial".into(),
                snapshots: 2,
                referenced: u64::MAX,
                exclusive: 0,
                written: 1,
            };
            assert_eq!(decode_clone(&encode_clone(&c)), Ok(c));
        }
        assert!(decode_clone(&json!({"name": "x"})).is_err());
    }

    #[test]
    fn orders_of_differences_travel() {
        for (told, _) in DIFF_TOLD {
            let (from, to) = (b"a\xff".to_vec(), b"@live".to_vec());
            let order = DiffOrder { from, to, under: Some(u64::MAX), told };
            assert_eq!(diff_order(&encode_diff(&order)), Ok(order));
        }
        assert!(diff_order(&json!({"from": "a"})).is_err());
        assert!(diff_order(&json!({"from": "a", "to": "b", "told": "dance"})).is_err());
    }

    #[test]
    fn a_snapshot_travels() {
        let s = SnapshotRow {
            name: b"a \xc3\xa9 \xff".to_vec(),
            id: 7,
            created: Timestamp { secs: -5, nanos: 999_999_999 },
            referenced: u64::MAX,
            exclusive: None,
            written: 1,
            reason: "schedule".into(),
            description: b"\xfe".to_vec(),
            consistency: Consistency::Application,
            pause_us: 3,
            held: vec!["legal".into(), "copy".into()],
            edited: Some(-9),
            method: Some("cow".into()),
        };
        assert_eq!(decode_all(&encode_all(std::slice::from_ref(&s))), Ok(vec![s]));
        assert!(decode(&json!({"name": "x"})).is_err());
    }
}
