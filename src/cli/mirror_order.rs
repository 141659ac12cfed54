//! Orders about the sides of a store, as they travel to its daemon, and how a side is told.

use crate::clock::rfc3339;
use crate::ctl::{Code, Failure};
use crate::device::mirror::SideState;
use crate::format::mirror::Standing;
use crate::names;
use crate::ops::Timestamp;
use serde_json::{Value, json};
use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// What is to be done about the sides of a store.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum MirrorOrder {
    /// Tell how they are.
    Status,
    /// Take in a second side.
    Attach {
        /// Where.
        path: PathBuf,
        /// What is there may be lost.
        force: bool,
        /// How long a side may keep the other waiting.
        limit: Option<Duration>,
    },
    /// Bring a side back that was here before.
    Resync {
        /// Where it is, if not where it was.
        with: Option<PathBuf>,
        /// The side that stays as it is.
        keep: Option<PathBuf>,
        /// What only the other has is lost.
        discard: bool,
        /// Nothing is done; only what would be is told.
        dry_run: bool,
    },
    /// Compare both.
    Verify,
    /// Go on with one side.
    Detach,
    /// Filling waits, or goes on.
    Pause(bool),
    /// Bytes a second at which a side is filled at most; 0: no limit.
    Rate(u64),
}

/// What is to become of changes that only the other side has.
#[derive(Clone, Copy)]
pub(super) enum Resync {
    /// They are received first.
    Receive,
    /// They are lost, as was asked for.
    Discard,
    /// Nothing is done.
    DryRun {
        /// They would be lost.
        discards: bool,
    },
}

impl Resync {
    /// As it was ordered.
    pub(super) fn of(dry_run: bool, discards: bool) -> Resync {
        match (dry_run, discards) {
            (true, _) => Resync::DryRun { discards },
            (false, true) => Resync::Discard,
            (false, false) => Resync::Receive,
        }
    }
}

/// To what is sent.
pub(super) fn encode(order: &MirrorOrder) -> Value {
    let mut object = match order {
        MirrorOrder::Status => json!({"order": "status"}),
        MirrorOrder::Attach { force, limit, .. } => {
            json!({"order": "attach", "force": force, "limit_ms": limit.map(|l| l.as_millis() as u64)})
        }
        MirrorOrder::Resync { discard, dry_run, .. } => {
            json!({"order": "resync", "discard": discard, "dry_run": dry_run})
        }
        MirrorOrder::Verify => json!({"order": "verify"}),
        MirrorOrder::Detach => json!({"order": "detach"}),
        MirrorOrder::Pause(paused) => json!({"order": "pause", "paused": paused}),
        MirrorOrder::Rate(rate) => json!({"order": "rate", "rate": rate}),
    };
    match order {
        MirrorOrder::Attach { path, .. } => names::put(&mut object, "path", path),
        MirrorOrder::Resync { with, keep, .. } => {
            for (key, path) in [("with", with), ("keep", keep)] {
                if let Some(path) = path {
                    names::put(&mut object, key, path);
                }
            }
        }
        _ => {}
    }
    object
}

/// From what was received.
pub(super) fn decode(args: &Value) -> Result<MirrorOrder, Failure> {
    let invalid = |what: String| Failure::new(Code::Invalid, what);
    let path = |key: &str| names::get(args, key).map(|path| PathBuf::from(OsString::from_vec(path)));
    let flag = |key: &str| args.get(key).and_then(Value::as_bool).unwrap_or(false);
    let number = |key: &str| args.get(key).and_then(Value::as_u64);
    Ok(match args.get("order").and_then(Value::as_str).unwrap_or_default() {
        "status" => MirrorOrder::Status,
        "attach" => MirrorOrder::Attach {
            path: path("path").ok_or_else(|| invalid("the request has no 'path'".into()))?,
            force: flag("force"),
            limit: number("limit_ms").map(Duration::from_millis),
        },
        "resync" => MirrorOrder::Resync {
            with: path("with"),
            keep: path("keep"),
            discard: flag("discard"),
            dry_run: flag("dry_run"),
        },
        "verify" => MirrorOrder::Verify,
        "detach" => MirrorOrder::Detach,
        "pause" => MirrorOrder::Pause(flag("paused")),
        "rate" => MirrorOrder::Rate(number("rate").unwrap_or_default()),
        other => return Err(invalid(format!("a mirror knows no order '{other}'"))),
    })
}

/// A side as an object, with where it is.
pub(super) fn encode_side(state: &SideState, path: Option<&Path>) -> Value {
    let label = state.label.as_ref();
    // One that is together has parted from nobody.
    let parted = label.filter(|l| l.standing != Standing::Together && l.parted_from > 0);
    let mut object = json!({
        "state": state.state,
        "why": state.why,
        "pending_calls": state.pending_calls,
        "standing": label.map(|l| format!("{:?}", l.standing).to_lowercase()),
        "generation": label.map(|l| format!("{:016x}", l.current)),
        "parted_from": parted.map(|l| format!("{:016x}", l.parted_from)),
        "parted_at": label.map(|_| parted.map_or(0, |l| l.parted_at)),
        "parted_since": parted.filter(|l| l.parted_secs != 0).map(|l| {
            rfc3339(Timestamp { secs: l.parted_secs, nanos: 0 })
        }),
    });
    names::put(&mut object, "path", path.unwrap_or(Path::new(&state.place)));
    object
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn orders_arrive_as_they_were_sent() {
        let path = || PathBuf::from(OsString::from_vec(b"/disks/\xff two".to_vec()));
        let limit = Some(Duration::from_millis(1500));
        for order in [
            MirrorOrder::Status,
            MirrorOrder::Attach { path: path(), force: true, limit },
            MirrorOrder::Attach { path: path(), force: false, limit: None },
            MirrorOrder::Resync { with: Some(path()), keep: None, discard: true, dry_run: false },
            MirrorOrder::Resync { with: None, keep: Some(path()), discard: false, dry_run: true },
            MirrorOrder::Verify,
            MirrorOrder::Detach,
            MirrorOrder::Pause(true),
            MirrorOrder::Rate(5 << 20),
        ] {
            assert_eq!(decode(&encode(&order)), Ok(order));
        }
        assert!(decode(&json!({"order": "dance"})).is_err());
        assert!(decode(&json!({"order": "attach"})).is_err());
    }
}
