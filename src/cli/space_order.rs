//! Questions about space, and how they travel to a daemon.

use crate::ctl::{Code, Failure};
use crate::names;
use crate::ops::NodeId;
use serde_json::{Value, json};
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;

/// What is asked.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum SpaceQuestion {
    /// What the space of the store is used for.
    Parts,
    /// What deleting these would bring back: snapshots of the line, and clones as `.clones/NAME`.
    Deletion(Vec<Vec<u8>>),
    /// Which snapshots of the line to delete so that so many bytes come back.
    Room(u64),
}

/// A question about the space of a store, or of a line.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct SpaceOrder {
    /// A node of the line.
    pub at: NodeId,
    /// What is asked.
    pub question: SpaceQuestion,
}

/// As it travels: without its node, which whoever asks adds.
pub(super) fn encode(question: &SpaceQuestion) -> Value {
    match question {
        SpaceQuestion::Parts => json!({"question": "parts"}),
        SpaceQuestion::Deletion(all) => {
            let mut object = json!({"question": "deletion"});
            let all: Vec<&OsStr> = all.iter().map(|name| OsStr::from_bytes(name)).collect();
            names::put_list(&mut object, "names", &all);
            object
        }
        SpaceQuestion::Room(bytes) => json!({"question": "room", "bytes": bytes}),
    }
}

/// The other way.
pub(super) fn decode(args: &Value, at: NodeId) -> Result<SpaceOrder, Failure> {
    let wrong = |what: &str| Failure::new(Code::Invalid, format!("a question about space {what}"));
    let question = match args["question"].as_str().unwrap_or_default() {
        "parts" => SpaceQuestion::Parts,
        "deletion" => SpaceQuestion::Deletion(
            names::get_list(args, "names").ok_or_else(|| wrong("does not say which names"))?,
        ),
        "room" => SpaceQuestion::Room(args["bytes"].as_u64().ok_or_else(|| wrong("does not say how much"))?),
        other => return Err(wrong(&format!("'{other}' is not known"))),
    };
    Ok(SpaceOrder { at, question })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn questions_travel() {
        let names = vec![b"a \xff".to_vec(), b".clones/x".to_vec()];
        for question in [SpaceQuestion::Parts, SpaceQuestion::Deletion(names), SpaceQuestion::Room(u64::MAX)]
        {
            let order = SpaceOrder { at: NodeId::ROOT, question };
            assert_eq!(decode(&encode(&order.question), NodeId::ROOT), Ok(order));
        }
        for bad in [json!({}), json!({"question": "deletion"}), json!({"question": "room", "bytes": "x"})] {
            assert!(decode(&bad, NodeId::ROOT).is_err(), "{bad}");
        }
    }
}
