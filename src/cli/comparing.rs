//! What the daemon does for an order to compare two views: changes, paths or a patch, in parts.

use super::engine::{DiffOrder, DiffTold};
use super::refusal::{told, told_view};
use super::told_change::encode_change;
use crate::ctl::Failure;
use crate::fs::Fs;
use crate::names;
use crate::ops::NodeId;
use serde_json::{Value, json};
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

/// Changes of paths in one line of an answer.
const CHANGES_TOLD: usize = 256;
/// Bytes of a patch in one line of an answer, at most.
const PATCH_BYTES_TOLD: usize = 1 << 20;

/// Does it: objects for `put`, until it has enough.
pub(super) fn answer(
    fs: &Fs,
    store: &Path,
    order: &DiffOrder,
    put: &mut dyn FnMut(Value) -> bool,
) -> Result<(), Failure> {
    let at = order.under.map_or(NodeId::ROOT, NodeId);
    let view = |word: &[u8]| fs.view_of_word(at, word).map_err(|e| told_view(word, &e));
    let compared = fs.compare(view(&order.from)?, view(&order.to)?, order.under.map(NodeId));
    let compared = compared.map_err(|e| told(store, &e))?;
    if order.told == DiffTold::Paths {
        let paths = compared.into_paths().map_err(|e| told(store, &e))?;
        for some in paths.chunks(CHANGES_TOLD) {
            let mut object = json!({});
            let some: Vec<_> = some.iter().map(|path| OsStr::from_bytes(path)).collect();
            names::put_list(&mut object, "paths", &some);
            if !put(object) {
                break;
            }
        }
        return Ok(());
    }
    if order.told == DiffTold::Changes {
        // Whoever takes the answer slowly keeps no view.
        let changes = compared.into_changes();
        for some in changes.chunks(CHANGES_TOLD) {
            let some: Vec<Value> = some.iter().map(encode_change).collect();
            if !put(json!({"changes": some})) {
                break;
            }
        }
        return Ok(());
    }
    let mut all = |part: Vec<u8>| {
        part.chunks(PATCH_BYTES_TOLD).all(|piece| {
            let mut object = json!({});
            names::put(&mut object, "patch", OsStr::from_bytes(piece));
            put(object)
        })
    };
    compared.patch(&mut all).map_err(|e| told(store, &e))
}
