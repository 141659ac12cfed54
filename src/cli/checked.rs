//! What a check has found, in the words of the commands.

use super::engine::CheckReport;
use super::refusal::COPIED;
use crate::check::{self, Depth};
use crate::volume::{Volume, VolumeError};
use serde_json::json;

/// The finding that it is one.
pub(super) fn told_copy(sound: bool) -> String {
    let proved = if sound {
        "all of it, content included, was proved and is sound, and"
    } else {
        "only if all of it were sound,"
    };
    format!("{COPIED}; {proved} 'snapfs check --repair' accepts it")
}

/// What a check of a volume found.
pub(super) fn report(volume: &Volume, depth: Depth) -> Result<CheckReport, VolumeError> {
    check::check(volume, depth).map(|report| listed_report(report, false))
}

/// The same, in the words of the commands; `offline` of a store that nobody has open.
pub(super) fn listed_report(report: check::Report, offline: bool) -> CheckReport {
    let mut summary = json!({
        "epoch": report.epoch,
        "views": report.views,
        "nodes": report.nodes,
        "items": report.items,
        "inodes": report.inodes,
        "snapshots_unchecked": report.snapshots_unchecked,
        "allocated_bytes": report.allocated_bytes,
        "proved_data_bytes": report.data_bytes,
    });
    if offline {
        summary["log_records_waiting"] = json!(report.log_records);
        summary["log_bytes_waiting"] = json!(report.log_bytes);
    }
    CheckReport { findings: report.problems, summary }
}
