//! `freeze` and `thaw`, through the daemon.

use super::freeze_args::{FreezeArgs, ThawArgs};
use super::freeze_order;
use super::hooks::own_frosts;
use super::output;
use super::snapshots::{daemon_for_changes, put_maker, written};
use crate::clock;
use crate::ctl::Failure;
use crate::fuse::QUEUE_THREADS_MAX;
use crate::names;
use serde_json::{Value, json};

pub(super) fn freeze(args: &FreezeArgs) -> Result<(), Failure> {
    let mut request = freeze_order::encode(args.all, args.timeout);
    put_maker(&mut request, None);
    let frozen = daemon_for_changes(&args.target)?.call("freeze", request, &mut |_| {})?;
    if let Some(number) = frozen.get("number").and_then(Value::as_u64) {
        own_frosts::note(number);
    }
    if args.json.json { written(output::print_json(&frozen)) } else { Ok(()) }
}

/// Says what the state of a mount says of lines that are frozen in words.
pub(super) fn shorten(status: &mut Value) {
    let Some(all) = status.get("frozen").and_then(Value::as_array) else { return };
    let told: Value = all.iter().map(in_words).collect();
    status["frozen"] = told;
}

/// Which, by whom and for how long.
fn in_words(frost: &Value) -> String {
    let lines = names::get_list(frost, "lines").unwrap_or_default();
    let lines: Vec<String> = lines.iter().map(|line| names::shown_bytes(line)).collect();
    let by = names::get(frost, "command").map(|by| names::shown_bytes(&by)).unwrap_or_default();
    let user = frost["user"].as_u64().map(|user| format!(" of user {user}")).unwrap_or_default();
    let since = frost["since"].as_str().and_then(output::parse_rfc3339).map_or("-".into(), output::local);
    let left = clock::span(frost["seconds_left"].as_u64().unwrap_or(0).max(1));
    let waiting = waiting(frost);
    format!("{} by '{by}'{user} since {since}, for {left} more; {waiting} waiting", lines.join(", "))
}

/// How many changes wait for its end. Of what the kernel writes back of a tree no more are counted than have a thread that waits with
/// them: more may be queued behind these.
pub(super) fn waiting(frost: &Value) -> String {
    let count = frost["waiting"].as_u64().unwrap_or(0);
    let at_least = if count < QUEUE_THREADS_MAX as u64 { "" } else { "at least " };
    format!("{at_least}{}", output::counted(count, "change"))
}

pub(super) fn thaw(args: &ThawArgs) -> Result<(), Failure> {
    let mut request = json!({});
    let own = if args.of.is_empty() { own_frosts::noted() } else { args.of.clone() };
    freeze_order::put_numbers(&mut request, &own);
    let thawed = daemon_for_changes(&args.target)?.call("thaw", request, &mut |_| {})?;
    if args.json.json { written(output::print_json(&thawed)) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_status_tells_who_has_frozen_what_in_words() {
        let frost = json!({"number": 7, "since": null, "timeout_seconds": 60, "seconds_left": 30, "waiting": 1,
            "user": 1000, "command": "snapfs freeze mnt", "lines": [".", ".clones/c"]});
        let mut status = json!({"frozen": [frost]});
        assert_eq!(waiting(&json!({"waiting": 15})), "15 changes");
        assert_eq!(waiting(&json!({"waiting": 16})), "at least 16 changes");
        shorten(&mut status);
        let told = "frozen: ., .clones/c by 'snapfs freeze mnt' of user 1000 since -, for 30s more; 1 change waiting\n";
        assert_eq!(output::fields(&status), told);
    }
}
