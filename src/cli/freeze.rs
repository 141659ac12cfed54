//! `freeze` and `thaw`, through the daemon.

use super::freeze_args::{FreezeArgs, ThawArgs};
use super::freeze_order;
use super::hooks::own_frosts;
use super::output;
use super::snapshots::{daemon_for_changes, put_maker, written};
use crate::ctl::Failure;
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

pub(super) fn thaw(args: &ThawArgs) -> Result<(), Failure> {
    let mut request = json!({});
    let own = if args.of.is_empty() { own_frosts::noted() } else { args.of.clone() };
    freeze_order::put_numbers(&mut request, &own);
    let thawed = daemon_for_changes(&args.target)?.call("thaw", request, &mut |_| {})?;
    if args.json.json { written(output::print_json(&thawed)) } else { Ok(()) }
}
