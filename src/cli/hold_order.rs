//! Orders about holds of snapshots, and how they travel to a daemon.

use crate::clock::{SPAN_MAX, is_span};
use crate::ctl::{Code, Failure};
use crate::format::hold::{TAG_BYTES_MAX, is_tag};
use crate::names;
use serde_json::{Value, json};
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;

/// A hold to be put.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct WantedHold {
    /// What it is called.
    pub tag: String,
    /// After so many seconds it ends; none: when it is released.
    pub after: Option<u64>,
}

/// What is to be done about holds.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum HoldOrder {
    /// This snapshot is held.
    Put(Vec<u8>, WantedHold),
    /// A hold of this snapshot goes: the one of that tag, or the only one that there is.
    Release(Vec<u8>, Option<String>),
    /// To tell of all that hold snapshots of the line.
    Tell,
}

/// A tag, or why it is none.
pub(super) fn parse_tag(text: &str) -> Result<String, String> {
    match is_tag(text) {
        true => Ok(text.into()),
        false => Err(format!(
            "'{text}' is no tag: 1 to {TAG_BYTES_MAX} letters and digits of ASCII, and any of -_.:@+/="
        )),
    }
}

/// A hold as it travels.
pub(super) fn encode_wanted(hold: &WantedHold) -> Value {
    json!({"tag": hold.tag, "after": hold.after})
}

/// The other way.
pub(super) fn decode_wanted(v: &Value) -> Result<WantedHold, Failure> {
    let tag = parse_tag(v["tag"].as_str().unwrap_or_default());
    let tag = tag.map_err(|e| Failure::new(Code::Invalid, e))?;
    let after = v["after"].as_u64();
    if after.is_some_and(|after| !is_span(after)) {
        return Err(Failure::new(
            Code::Invalid,
            format!("a hold lasts from 1s to {SPAN_MAX}, or until it is released"),
        ));
    }
    Ok(WantedHold { tag, after })
}

/// To what is sent.
pub(super) fn encode(order: &HoldOrder) -> Value {
    match order {
        HoldOrder::Put(name, hold) => {
            let mut object = json!({"order": "put", "hold": encode_wanted(hold)});
            names::put(&mut object, "name", OsStr::from_bytes(name));
            object
        }
        HoldOrder::Release(name, tag) => {
            let mut object = json!({"order": "release", "tag": tag});
            names::put(&mut object, "name", OsStr::from_bytes(name));
            object
        }
        HoldOrder::Tell => json!({"order": "tell"}),
    }
}

/// From what was received.
pub(super) fn decode(args: &Value) -> Result<HoldOrder, Failure> {
    let name =
        || names::get(args, "name").ok_or_else(|| Failure::new(Code::Invalid, "the request has no 'name'"));
    Ok(match args["order"].as_str().unwrap_or_default() {
        "put" => HoldOrder::Put(name()?, decode_wanted(&args["hold"])?),
        "release" => HoldOrder::Release(name()?, args["tag"].as_str().map(str::to_string)),
        "tell" => HoldOrder::Tell,
        other => return Err(Failure::new(Code::Invalid, format!("holds know no order '{other}'"))),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn orders_arrive_as_they_were_sent() {
        let name = b"a \xff".to_vec();
        let hold = WantedHold { tag: "legal".into(), after: Some(50_000 * 604_800) };
        for order in [
            HoldOrder::Put(name.clone(), hold.clone()),
            HoldOrder::Put(name.clone(), WantedHold { after: None, ..hold }),
            HoldOrder::Release(name.clone(), None),
            HoldOrder::Release(name, Some("legal".into())),
            HoldOrder::Tell,
        ] {
            assert_eq!(decode(&encode(&order)), Ok(order));
        }
        for bad in [
            json!({}),
            json!({"order": "put", "name": "a"}),
            json!({"order": "put", "name": "a", "hold": {"tag": "a b"}}),
            json!({"order": "put", "name": "a", "hold": {"tag": "a", "after": 0}}),
            json!({"order": "put", "name": "a", "hold": {"tag": "a", "after": 50_000 * 604_800_u64 + 1}}),
            json!({"order": "release"}),
        ] {
            assert!(decode(&bad).is_err(), "{bad}");
        }
    }
}
