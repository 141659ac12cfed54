//! A whole salvage: finds the tree, makes the output, writes all names.

use super::output::Output;
use super::report::{Listener, SalvageError, Summary, Wanted};
use super::{names, source};
use crate::device::Device;
use crate::names::shown;
use std::path::Path;
use std::sync::Arc;

/// Writes what can be had of a view to `out`, a new or empty directory; without it nothing is written, and everything is
/// read and proved all the same.
pub fn run(
    device: &Arc<dyn Device>,
    wanted: &Wanted,
    out: Option<&Path>,
    listener: &mut dyn Listener,
) -> Result<Summary, SalvageError> {
    let found = source::find(device, wanted, &mut |p| listener.progress(p))?;
    let failed = |path: &Path, e: std::io::Error| SalvageError::Output(format!("{}: {e}", shown(path)));
    let output = out.map(|path| Output::create(path).map_err(|e| failed(path, e))).transpose()?;
    let mut summary = names::rescue(&found.items, output, listener)?;
    let (leaves, lost) = found.items.counts();
    summary.leaves = leaves as u64;
    summary.lost_ranges = lost as u64;
    summary.source = found.told;
    summary.unreadable_bytes = found.unreadable_bytes;
    summary.newer_states = found.newer_states;
    Ok(summary)
}
