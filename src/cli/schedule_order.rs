//! Orders about schedules, and how they travel to a daemon.

use crate::ctl::{Code, Failure};
use crate::names;
use crate::ops::NodeId;
use crate::schedule::{Schedule, is_schedule_name, parse_rules};
use serde_json::{Value, json};
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;

/// What is wanted of the schedules of a line.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum ScheduleWish {
    /// To tell of them.
    Tell,
    /// To have this one, in the place of one of its name.
    Set(Schedule),
    /// To have these, and no others.
    Replace(Vec<Schedule>),
    /// To have the named one no more, or none at all.
    Remove,
    /// To take what is due and delete what is to go.
    Run,
    /// To delete what is to go.
    Prune,
    /// To tell what is to become of each snapshot.
    Explain,
    /// To tell what there would be after so many seconds: by these rules, none of which is set, or by those that hold if there are none.
    Simulate(u64, Vec<Schedule>),
}

/// An order about the schedules of a line.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ScheduleOrder {
    /// A node of the line.
    pub at: NodeId,
    /// The clone that is meant in its place.
    pub clone: Option<Vec<u8>>,
    /// One schedule alone.
    pub name: Option<String>,
    /// What of it.
    pub wish: ScheduleWish,
}

/// As it travels: without its node, which whoever asks adds.
pub(super) fn encode(order: &ScheduleOrder) -> Value {
    let one = |s: &Schedule| json!({"name": s.name, "rules": s.to_string()});
    let mut object = match &order.wish {
        ScheduleWish::Tell => json!({"order": "tell"}),
        ScheduleWish::Set(schedule) => json!({"order": "set", "schedules": [one(schedule)]}),
        ScheduleWish::Replace(all) => {
            json!({"order": "replace", "schedules": all.iter().map(one).collect::<Vec<_>>()})
        }
        ScheduleWish::Remove => json!({"order": "remove"}),
        ScheduleWish::Run => json!({"order": "run"}),
        ScheduleWish::Prune => json!({"order": "prune"}),
        ScheduleWish::Explain => json!({"order": "explain"}),
        ScheduleWish::Simulate(secs, all) => {
            let all = all.iter().map(one).collect::<Vec<_>>();
            json!({"order": "simulate", "seconds": secs, "schedules": all})
        }
    };
    object["schedule"] = order.name.clone().into();
    if let Some(clone) = &order.clone {
        names::put(&mut object, "clone", OsStr::from_bytes(clone));
    }
    object
}

/// The other way.
pub(super) fn decode(args: &Value, at: NodeId) -> Result<ScheduleOrder, Failure> {
    let wrong = |what: &str| Failure::new(Code::Invalid, format!("an order about schedules {what}"));
    let one = |value: &Value| {
        let (name, rules) = (value["name"].as_str(), value["rules"].as_str());
        let (Some(name), Some(rules)) = (name, rules) else { return Err(wrong("without rules")) };
        if !is_schedule_name(name) {
            return Err(wrong("names one that is none"));
        }
        parse_rules(name, rules).map_err(|e| wrong(&format!("is wrong: {e}")))
    };
    let all = || -> Result<Vec<Schedule>, Failure> {
        args["schedules"].as_array().map(Vec::as_slice).unwrap_or_default().iter().map(one).collect()
    };
    let wish = match args["order"].as_str().unwrap_or_default() {
        "tell" => ScheduleWish::Tell,
        "set" => ScheduleWish::Set(all()?.pop().ok_or_else(|| wrong("without rules"))?),
        "replace" => ScheduleWish::Replace(all()?),
        "remove" => ScheduleWish::Remove,
        "run" => ScheduleWish::Run,
        "prune" => ScheduleWish::Prune,
        "explain" => ScheduleWish::Explain,
        "simulate" => {
            ScheduleWish::Simulate(args["seconds"].as_u64().ok_or_else(|| wrong("without a time"))?, all()?)
        }
        other => return Err(wrong(&format!("'{other}' is not known"))),
    };
    let name = args["schedule"].as_str().map(String::from);
    Ok(ScheduleOrder { at, clone: names::get(args, "clone"), name, wish })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn orders_travel() {
        let rules =
            |name: &str| parse_rules(name, "every=15m keep=24h,7d budget=20% free=5G always").unwrap();
        for wish in [
            ScheduleWish::Tell,
            ScheduleWish::Set(rules("a")),
            ScheduleWish::Replace(vec![rules("a"), rules("b.c")]),
            ScheduleWish::Replace(vec![]),
            ScheduleWish::Remove,
            ScheduleWish::Run,
            ScheduleWish::Prune,
            ScheduleWish::Explain,
            ScheduleWish::Simulate(u64::MAX, vec![]),
            ScheduleWish::Simulate(90 * 86_400, vec![rules("a"), rules("b.c")]),
        ] {
            for (clone, name) in [(None, None), (Some(b"a \xff".to_vec()), Some("x".to_string()))] {
                let order = ScheduleOrder { at: NodeId::ROOT, clone, name, wish: wish.clone() };
                assert_eq!(decode(&encode(&order), NodeId::ROOT), Ok(order));
            }
        }
        for bad in [
            json!({}),
            json!({"order": "dance"}),
            json!({"order": "set"}),
            json!({"order": "set", "schedules": [{"name": "a b", "rules": "every=1h keep=all"}]}),
            json!({"order": "set", "schedules": [{"name": "a", "rules": "every=1s keep=all"}]}),
            json!({"order": "simulate"}),
        ] {
            assert!(decode(&bad, NodeId::ROOT).is_err(), "{bad}");
        }
    }
}
