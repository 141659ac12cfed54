//! `freeze` and `thaw`, through the daemon.

use super::freeze_args::{FreezeArgs, ThawArgs};
use super::freeze_order;
use super::output;
use super::snapshots::{daemon_for_changes, put_maker, written};
use crate::ctl::Failure;
use serde_json::json;

pub(super) fn freeze(args: &FreezeArgs) -> Result<(), Failure> {
    let mut request = freeze_order::encode(args.all, args.timeout);
    put_maker(&mut request, None);
    let frozen = daemon_for_changes(&args.target)?.call("freeze", request, &mut |_| {})?;
    if args.json.json { written(output::print_json(&frozen)) } else { Ok(()) }
}

pub(super) fn thaw(args: &ThawArgs) -> Result<(), Failure> {
    let thawed = daemon_for_changes(&args.target)?.call("thaw", json!({}), &mut |_| {})?;
    if args.json.json { written(output::print_json(&thawed)) } else { Ok(()) }
}
