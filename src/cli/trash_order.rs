//! Orders about the trash, and how they travel to a daemon.

use crate::ctl::{Code, Failure};
use crate::names;
use serde_json::{Value, json};
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;

/// What is to be done about the trash of a line.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum TrashOrder {
    /// To bring this back, a snapshot or `.clones/NAME`; under another name if one is said.
    Undelete(Vec<u8>, Option<Vec<u8>>),
    /// To have these go for good, or all.
    Empty(Vec<Vec<u8>>),
    /// To tell what is in it.
    Tell,
}

/// To what is sent.
pub(super) fn encode(order: &TrashOrder) -> Value {
    match order {
        TrashOrder::Undelete(name, new) => {
            let mut object = json!({"order": "undelete"});
            names::put(&mut object, "name", OsStr::from_bytes(name));
            if let Some(new) = new {
                names::put(&mut object, "as", OsStr::from_bytes(new));
            }
            object
        }
        TrashOrder::Empty(all) => {
            let mut object = json!({"order": "empty"});
            let all: Vec<&OsStr> = all.iter().map(|name| OsStr::from_bytes(name)).collect();
            names::put_list(&mut object, "names", &all);
            object
        }
        TrashOrder::Tell => json!({"order": "tell"}),
    }
}

/// From what was received.
pub(super) fn decode(args: &Value) -> Result<TrashOrder, Failure> {
    let missing = || Failure::new(Code::Invalid, "the request has no 'name'");
    Ok(match args["order"].as_str().unwrap_or_default() {
        "undelete" => {
            TrashOrder::Undelete(names::get(args, "name").ok_or_else(missing)?, names::get(args, "as"))
        }
        "empty" => TrashOrder::Empty(names::get_list(args, "names").unwrap_or_default()),
        "tell" => TrashOrder::Tell,
        other => return Err(Failure::new(Code::Invalid, format!("the trash knows no order '{other}'"))),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn orders_arrive_as_they_were_sent() {
        let name = b"a \xff".to_vec();
        for order in [
            TrashOrder::Undelete(name.clone(), None),
            TrashOrder::Undelete(name.clone(), Some(b"b".to_vec())),
            TrashOrder::Empty(Vec::new()),
            TrashOrder::Empty(vec![name, b".clones/c".to_vec()]),
            TrashOrder::Tell,
        ] {
            assert_eq!(decode(&encode(&order)), Ok(order));
        }
        assert!(decode(&json!({})).is_err() && decode(&json!({"order": "undelete"})).is_err());
    }
}
