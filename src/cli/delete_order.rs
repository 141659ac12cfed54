//! Orders to delete snapshots, and how they travel to a daemon.

use super::pattern;
use super::refusal::{LIVE, told_live};
use crate::ctl::{Code, Failure};
use crate::names;
use crate::ops::NodeId;
use serde_json::{Value, json};
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;

/// What answers say of that which has gone for good because there was no room for it in the trash: its names; of one, if it has.
pub(super) const NO_ROOM_IN_TRASH: &str = "no_room_in_trash";

/// Which snapshots of a line are to go.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct DeleteOrder {
    /// A node of the line.
    pub at: NodeId,
    /// Names, and patterns of names.
    pub names: Vec<Vec<u8>>,
    /// Of these, those that were made before the moment of this word.
    pub before: Option<Vec<u8>>,
    /// Those that were made after it.
    pub after: Option<Vec<u8>>,
    /// Nothing is to be done, only told.
    pub dry_run: bool,
    /// For good, and not into the trash.
    pub now: bool,
    /// Somebody waits for the space.
    pub is_waited_for: bool,
}

impl DeleteOrder {
    /// Carries it out where there are no patterns and times: name by name, and those that fail stay.
    pub fn by_name_alone(
        &self,
        delete: &mut dyn FnMut(&[u8]) -> Result<(), Failure>,
    ) -> Result<Value, Failure> {
        if self.dry_run || self.before.is_some() || self.after.is_some() {
            return Err(Failure::new(Code::UnknownVerb, "this store deletes snapshots by name alone"));
        }
        let (mut gone, mut kept) = (Vec::new(), Vec::new());
        for name in &self.names {
            match delete(name) {
                Ok(()) => gone.push(OsStr::from_bytes(name)),
                Err(f) => {
                    let mut one = json!({"why": f.message});
                    names::put(&mut one, "name", OsStr::from_bytes(name));
                    kept.push(one);
                }
            }
        }
        let mut answer = json!({"missing": [], "frees": null, "kept": kept});
        names::put_list(&mut answer, "deleted", &gone);
        Ok(answer)
    }
}

/// As it travels: without its node, which whoever asks adds.
pub(super) fn encode(order: &DeleteOrder) -> Value {
    let all: Vec<&OsStr> = order.names.iter().map(|name| OsStr::from_bytes(name)).collect();
    let mut object = json!({"dry_run": order.dry_run, "now": order.now, "wait": order.is_waited_for});
    names::put_list(&mut object, "names", &all);
    for (key, word) in [("before", &order.before), ("after", &order.after)] {
        if let Some(word) = word {
            names::put(&mut object, key, OsStr::from_bytes(word));
        }
    }
    object
}

/// The other way.
pub(super) fn decode(args: &Value, at: NodeId) -> Result<DeleteOrder, Failure> {
    let all = names::get_list(args, "names").filter(|all| !all.is_empty());
    Ok(DeleteOrder {
        at,
        names: all.ok_or_else(|| Failure::new(Code::Invalid, "the request names nothing to delete"))?,
        before: names::get(args, "before"),
        after: names::get(args, "after"),
        dry_run: args["dry_run"] == true,
        now: args["now"] == true,
        is_waited_for: args["wait"] == true,
    })
}

/// What a name is told as that has gone for good and should not have.
pub(super) fn told_no_room(name: &[u8]) -> String {
    format!("{}: gone for good: there was no room for it in the trash", names::shown_bytes(name))
}

/// What a name that meets nothing is told as.
pub(super) fn told_missing(name: &[u8], is_ranged: bool) -> String {
    let shown = names::shown_bytes(name);
    if name == LIVE {
        return told_live();
    }
    if name.starts_with(b".clones/") {
        return format!("{shown}: this is no snapshot; a clone goes with snapfs drop");
    }
    let range = if is_ranged { " of that time" } else { "" };
    if pattern::is_pattern(name) {
        format!("{shown}: it matches no snapshot{range} of the line's own")
    } else if name.starts_with(b"@") && !name.starts_with(b"@GMT-") {
        format!("{shown}: no snapshot{range} is called so, and here they go by their names (snapfs list)")
    } else {
        format!("{shown}: no such snapshot{range}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clone_is_pointed_to_where_it_goes() {
        assert!(told_missing(b".clones/c", false).contains("snapfs drop"));
        assert!(told_missing(b"c", false).contains("no such snapshot"));
    }

    #[test]
    fn orders_travel() {
        let some = |text: &[u8]| Some(text.to_vec());
        for (names, before, after, dry_run) in [
            (vec![b"a".to_vec()], None, None, false),
            (vec![b"night*".to_vec(), b"\xff".to_vec()], some(b"@-30d"), some(b"\xfe"), true),
        ] {
            let order = DeleteOrder {
                at: NodeId::ROOT,
                names,
                before,
                after,
                dry_run,
                now: !dry_run,
                is_waited_for: dry_run,
            };
            assert_eq!(decode(&encode(&order), NodeId::ROOT), Ok(order));
        }
        assert!(decode(&json!({}), NodeId::ROOT).is_err());
    }
}
