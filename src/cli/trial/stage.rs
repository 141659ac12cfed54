//! The program as a process of a trial: which one its arguments say.

use super::words::{STAGE, StageOrder};
use super::{inner, outer};
use std::ffi::OsString;

/// Is a process of a trial, to its end, if that is what the arguments of the program say. `None` if they do not; else its exit
/// code. Called before anything else is done.
pub(in crate::cli) fn run_stage(args: &[OsString]) -> Option<u8> {
    let [_, verb, order, command @ ..] = args else { return None };
    if verb != STAGE {
        return None;
    }
    match serde_json::from_str(order.to_str()?).ok()? {
        StageOrder::Outer(order) => Some(outer::run(&order, command)),
        StageOrder::Inner(order) => Some(inner::run(&order, command)),
    }
}
