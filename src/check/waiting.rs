//! What waits in the log of a store that nobody has open: it is replayed as a mount would do it, into memory, and what
//! comes of it is audited like any other state.
//!
//! The device is only read. What a mount would leave out, because nothing says that it had been flushed, is no damage.

use super::audit::check;
use super::report::{Depth, Report};
use crate::clock::Clock;
use crate::device::{Device, Overlay};
use crate::fs::{Fs, FsOptions};
use crate::volume::{Access, OpenOptions, Volume, VolumeError};
use std::sync::Arc;

/// Memory for clean nodes.
const CACHE_BYTES: usize = 64 << 20;

/// Proves what waits in the log, and adds to `report` what is wrong with it.
pub fn check_waiting(device: Arc<dyn Device>, depth: Depth, report: &mut Report) -> Result<(), VolumeError> {
    let options = OpenOptions { access: Access::ReadWrite, cache_bytes: CACHE_BYTES };
    let volume = match Volume::open(Arc::new(Overlay::new(device)), options) {
        Ok(volume) => volume,
        // A store that this program may only read keeps its log.
        Err(VolumeError::NotAStore(_)) => return Ok(()),
        Err(e) => return Err(e),
    };
    if !volume.has_log() {
        return Ok(());
    }
    let fs = match Fs::open(volume, FsOptions::default(), Clock::manual(0)) {
        Ok(fs) => fs,
        Err(e) => {
            report.problem(format!("what waits in the log cannot be made part of the store: {e}"));
            return Ok(());
        }
    };
    let recovered = fs.recovered();
    (report.log_records, report.log_bytes) = (recovered.records as u64, recovered.bytes);
    recovered.damage.iter().for_each(|what| report.problem(what.clone()));
    recovered.bad_content.iter().for_each(|what| report.problem(what.clone()));
    if let Err(e) = fs.commit() {
        if recovered.damage.is_none() {
            report.problem(format!("what waits in the log cannot be made part of the store: {e}"));
        }
        return Ok(());
    }
    let after = check(fs.volume(), depth)?;
    for what in after.problems {
        if !report.problems.contains(&what) {
            report.problem(format!("with what waits in the log: {what}"));
        }
    }
    Ok(())
}
