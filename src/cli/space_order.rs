//! Questions about space, and how they travel to a daemon.

use super::delete_order::{self, DeleteOrder};
use crate::ctl::{Code, Failure};
use crate::ops::NodeId;
use serde_json::{Value, json};

/// What is asked.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum SpaceQuestion {
    /// What the space of the store is used for.
    Parts,
    /// Which paths have the most content that only snapshots of the line have: so many of them.
    Paths(usize),
    /// What deleting these would bring back, clones as `.clones/NAME` among them.
    Deletion(DeleteOrder),
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
        SpaceQuestion::Deletion(order) => {
            let mut object = delete_order::encode(order);
            object["question"] = "deletion".into();
            object
        }
        SpaceQuestion::Paths(most) => json!({"question": "paths", "most": most}),
        SpaceQuestion::Room(bytes) => json!({"question": "room", "bytes": bytes}),
    }
}

/// The other way.
pub(super) fn decode(args: &Value, at: NodeId) -> Result<SpaceOrder, Failure> {
    let wrong = |what: &str| Failure::new(Code::Invalid, format!("a question about space {what}"));
    let question = match args["question"].as_str().unwrap_or_default() {
        "parts" => SpaceQuestion::Parts,
        "deletion" => SpaceQuestion::Deletion(delete_order::decode(args, at)?),
        "paths" => {
            let most = args["most"].as_u64().ok_or_else(|| wrong("does not say how many"))?;
            SpaceQuestion::Paths(usize::try_from(most).unwrap_or(usize::MAX))
        }
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
        let deletion = DeleteOrder {
            at: NodeId::ROOT,
            names: vec![b"a \xff".to_vec(), b".clones/x".to_vec()],
            before: Some(b"@-1h".to_vec()),
            after: None,
            dry_run: true,
            now: true,
            is_waited_for: false,
        };
        for question in [
            SpaceQuestion::Parts,
            SpaceQuestion::Paths(7),
            SpaceQuestion::Deletion(deletion),
            SpaceQuestion::Room(u64::MAX),
        ] {
            let order = SpaceOrder { at: NodeId::ROOT, question };
            assert_eq!(decode(&encode(&order.question), NodeId::ROOT), Ok(order));
        }
        for bad in [json!({}), json!({"question": "deletion"}), json!({"question": "room", "bytes": "x"})] {
            assert!(decode(&bad, NodeId::ROOT).is_err(), "{bad}");
        }
    }
}
