//! Orders about the trash, and how they travel to a daemon.

use crate::ctl::{Code, Failure};
use crate::names;
use serde_json::{Value, json};
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;

/// What is to be brought back.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct UndeleteOrder {
    /// Snapshots, or `.clones/NAME`: names, and patterns of names.
    pub names: Vec<Vec<u8>>,
    /// What the only one of them is called from then on, if not as before.
    pub new: Option<Vec<u8>>,
    /// Nothing is to be done, only told.
    pub dry_run: bool,
}

/// What is to be done about the trash of a line.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum TrashOrder {
    /// To bring back what these names and patterns mean.
    Undelete(UndeleteOrder),
    /// To have these go for good, by names and patterns, or all.
    Empty(Vec<Vec<u8>>),
    /// To tell what is in it.
    Tell,
}

/// To what is sent.
pub(super) fn encode(order: &TrashOrder) -> Value {
    match order {
        TrashOrder::Undelete(order) => {
            let mut object = json!({"order": "undelete", "dry_run": order.dry_run});
            let all: Vec<&OsStr> = order.names.iter().map(|name| OsStr::from_bytes(name)).collect();
            names::put_list(&mut object, "names", &all);
            if let Some(new) = &order.new {
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
    let missing = || Failure::new(Code::Invalid, "the request names nothing to bring back");
    Ok(match args["order"].as_str().unwrap_or_default() {
        "undelete" => {
            let names =
                names::get_list(args, "names").filter(|names| !names.is_empty()).ok_or_else(missing)?;
            let (new, dry_run) = (names::get(args, "as"), args["dry_run"] == true);
            TrashOrder::Undelete(UndeleteOrder { names, new, dry_run })
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
            TrashOrder::Undelete(UndeleteOrder { names: vec![name.clone()], new: None, dry_run: false }),
            TrashOrder::Undelete(UndeleteOrder {
                names: vec![name.clone(), b"night*".to_vec()],
                new: Some(b"b".to_vec()),
                dry_run: true,
            }),
            TrashOrder::Empty(Vec::new()),
            TrashOrder::Empty(vec![name, b".clones/c".to_vec()]),
            TrashOrder::Tell,
        ] {
            assert_eq!(decode(&encode(&order)), Ok(order));
        }
        assert!(decode(&json!({})).is_err() && decode(&json!({"order": "undelete"})).is_err());
    }
}
