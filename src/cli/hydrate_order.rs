//! Orders about copies that are made in other stores in the background, as they travel to the daemon.

use crate::ctl::{Code, Failure};
use crate::names;
use serde_json::{Value, json};
use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;
use std::path::PathBuf;

/// What is to be done about copies of a snapshot.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum HydrateOrder {
    /// Begin one.
    Begin {
        /// In this store: an absolute path.
        to: PathBuf,
        /// Bytes a second at most: 0 as it is found right, the greatest number none.
        rate: u64,
        /// Who asks for it.
        user: Option<u32>,
    },
    /// Wait until they are told to go on, also over unmounting.
    Pause,
    /// Go on, and at once.
    Resume,
    /// Go on at another rate, or wait as before.
    Rate(u64),
    /// Give them up.
    Cancel,
    /// Let go of a store for a while, which somebody mounts.
    LetGo {
        /// Its path, absolute and without links.
        of: PathBuf,
    },
    /// Tell how they stand.
    Status,
}

/// To what is sent.
pub(super) fn encode(order: &HydrateOrder) -> Value {
    match order {
        HydrateOrder::Begin { to, rate, user } => {
            let mut object = json!({"order": "begin", "rate": rate, "user": user});
            names::put(&mut object, "to", to);
            object
        }
        HydrateOrder::LetGo { of } => {
            let mut object = json!({"order": "let_go"});
            names::put(&mut object, "to", of);
            object
        }
        HydrateOrder::Pause => json!({"order": "pause"}),
        HydrateOrder::Resume => json!({"order": "resume"}),
        HydrateOrder::Rate(rate) => json!({"order": "rate", "rate": rate}),
        HydrateOrder::Cancel => json!({"order": "cancel"}),
        HydrateOrder::Status => json!({"order": "status"}),
    }
}

/// From what was received.
pub(super) fn decode(args: &Value) -> Result<HydrateOrder, Failure> {
    let rate = args.get("rate").and_then(Value::as_u64).unwrap_or(0);
    Ok(match args.get("order").and_then(Value::as_str).unwrap_or_default() {
        "begin" => {
            let user = args.get("user").and_then(Value::as_u64).and_then(|user| u32::try_from(user).ok());
            HydrateOrder::Begin { to: store_of(args)?, rate, user }
        }
        "let_go" => HydrateOrder::LetGo { of: store_of(args)? },
        "pause" => HydrateOrder::Pause,
        "resume" => HydrateOrder::Resume,
        "rate" => HydrateOrder::Rate(rate),
        "cancel" => HydrateOrder::Cancel,
        "status" => HydrateOrder::Status,
        other => {
            let what = format!("copies in the background know no order '{other}'");
            return Err(Failure::new(Code::Invalid, what));
        }
    })
}

fn store_of(args: &Value) -> Result<PathBuf, Failure> {
    let path = names::get(args, "to").map(|path| PathBuf::from(OsString::from_vec(path)));
    let is_whole = |path: &PathBuf| path.is_absolute();
    path.filter(is_whole).ok_or_else(|| Failure::new(Code::Invalid, "the request has no absolute 'to'"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn orders_arrive_as_they_were_sent() {
        let to = PathBuf::from(OsString::from_vec(b"/disks/\xff two".to_vec()));
        use HydrateOrder::*;
        let of = to.clone();
        for order in [
            Begin { to, rate: u64::MAX, user: Some(7) },
            LetGo { of },
            Pause,
            Resume,
            Rate(7),
            Cancel,
            Status,
        ] {
            assert_eq!(decode(&encode(&order)), Ok(order));
        }
        for bad in [json!({}), json!({"order": "dance"}), json!({"order": "begin", "to": "relative"})] {
            assert!(decode(&bad).is_err(), "{bad}");
        }
    }
}
