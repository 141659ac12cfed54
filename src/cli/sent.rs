//! `list --sent`: what each other store was sent last. It holds nothing; what is sent there next is told against it, also when it
//! is gone here.

use super::engine::{Backend, OpenFor, StreamOrder};
use super::streams::{StoreEnd, written};
use super::{output, streaming};
use crate::ctl::Failure;
use crate::names;
use crate::ops::{NodeId, Timestamp};
use serde_json::{Value, json};
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

pub(super) fn list(backend: &dyn Backend, target: &Path, json: bool) -> Result<(), Failure> {
    let end = StoreEnd::open(backend, target, OpenFor::Look)?;
    let told = end.ask(&StreamOrder::Identities { at: NodeId::ROOT, all: false });
    end.close()?;
    let told = told?;
    let peers: Vec<&Value> = told["peers"].as_array().into_iter().flatten().collect();
    if json {
        return written(output::print_json(&peers.into_iter().map(of_programs).collect()));
    }
    if peers.is_empty() {
        eprintln!("nothing was sent to another store");
        return Ok(());
    }
    let rows: Vec<Vec<String>> = peers.into_iter().map(row).collect();
    written(output::print(&output::table(&["SENT LAST", "TO STORE", "AT", "WHEN", "HERE"], &rows, &[])))
}

fn sent(peer: &Value) -> Option<Timestamp> {
    peer["sent_secs"].as_i64().map(|secs| Timestamp { secs, nanos: 0 })
}

fn of_programs(peer: &Value) -> Value {
    let mut object = json!({
        "store": peer["store"], "identity": peer["identity"], "here": peer["here"],
        "created": streaming::created(peer).map(output::rfc3339), "sent": sent(peer).map(output::rfc3339),
    });
    for key in ["name", "to"] {
        match names::get(peer, key) {
            Some(name) => names::put(&mut object, key, OsStr::from_bytes(&name)),
            None => object[key] = Value::Null,
        }
    }
    object
}

fn row(peer: &Value) -> Vec<String> {
    let shown = |key: &str| names::get(peer, key).map(|name| names::shown_bytes(&name)).unwrap_or_default();
    let store = peer["store"].as_str().and_then(|store| store.get(..8)).unwrap_or("?").to_string();
    let here = if peer["here"] == true { "yes" } else { "no" };
    vec![shown("name"), store, shown("to"), sent(peer).map(output::local).unwrap_or_default(), here.into()]
}
