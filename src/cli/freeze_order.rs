//! Orders to freeze lines or thaw them, and how they travel to a daemon.

use super::freeze_args::TIMEOUT_MAX;
use crate::ctl::{Code, Failure};
use crate::format::provenance::Provenance;
use crate::fs::FreezeOrder;
use crate::ops::NodeId;
use serde_json::{Value, json};
use std::time::Duration;

/// What is wanted of frosts.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum FrostWish {
    /// One.
    Freeze(FreezeOrder),
    /// The end of the one that the line of this node is in; if any are given, only if it is one of these.
    Thaw(NodeId, Vec<u64>),
    /// The end of this one, as if there had been none.
    CallOff(u64),
    /// The end of all of them, for good.
    End,
}

/// An order to freeze: of all lines, and for so many seconds at most.
pub(super) fn encode(all: bool, timeout: u64) -> Value {
    json!({"all": all, "timeout": timeout})
}

/// Which frosts somebody has begun, for a request.
pub(super) fn put_numbers(request: &mut Value, numbers: &[u64]) {
    if !numbers.is_empty() {
        request["frosts"] = json!(numbers);
    }
}

/// The other way.
pub(super) fn decode_numbers(args: &Value) -> Result<Vec<u64>, Failure> {
    let Some(said) = args.get("frosts") else { return Ok(Vec::new()) };
    let numbers = said.as_array().and_then(|all| all.iter().map(Value::as_u64).collect());
    numbers.ok_or_else(|| Failure::new(Code::Invalid, format!("these are no numbers of freezes: {said}")))
}

/// The other way of an order to freeze.
pub(super) fn decode(args: &Value, at: NodeId, by: Provenance) -> Result<FrostWish, Failure> {
    let timeout = args.get("timeout").and_then(Value::as_u64).filter(|secs| (1..=TIMEOUT_MAX).contains(secs));
    let timeout = timeout
        .ok_or_else(|| Failure::new(Code::Invalid, "the request has no 'timeout' that makes sense"))?;
    let all = args.get("all").and_then(Value::as_bool).unwrap_or(false);
    Ok(FrostWish::Freeze(FreezeOrder { at, all, timeout: Duration::from_secs(timeout), by }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn orders_travel() {
        let (at, by) = (NodeId::ROOT, Provenance::default());
        let timeout = Duration::from_secs(7);
        let order = FrostWish::Freeze(FreezeOrder { at, all: true, timeout, by: by.clone() });
        assert_eq!(decode(&encode(true, 7), at, by.clone()), Ok(order));
        let mut thaw = json!({});
        assert_eq!(decode_numbers(&thaw), Ok(vec![]));
        put_numbers(&mut thaw, &[3, 1 << 50]);
        assert_eq!(decode_numbers(&thaw), Ok(vec![3, 1 << 50]));
        for wrong in [json!({"frosts": 3}), json!({"frosts": [3, "x"]})] {
            assert!(decode_numbers(&wrong).is_err());
        }
        for wrong in [json!({}), encode(false, 0), json!({"timeout": "soon"})] {
            assert!(decode(&wrong, at, by.clone()).is_err(), "{wrong}");
        }
    }
}
