//! What a side has that went on by itself and would lose, in words. Nothing is written to it.

use super::sides::HeldSide;
use crate::clock::Clock;
use crate::device::Overlay;
use crate::format::LineId;
use crate::fs::{Fs, FsOptions};
use crate::names;
use crate::ops::NodeId;
use crate::volume::{Access, OpenOptions, Volume};
use std::collections::BTreeSet;
use std::sync::Arc;

/// Names that are told at most.
const TOLD_MAX: usize = 20;
const CACHE_BYTES: usize = 16 << 20;

/// Snapshots and clones that `fs` has not, and what changed in the live tree since the last snapshot that both have.
pub(super) fn told(side: &HeldSide, fs: &Fs, parted_at: u64) -> String {
    look(side, fs, parted_at).unwrap_or_else(|e| {
        format!("everything that was changed there since state {parted_at} (it cannot be looked at: {e})")
    })
}

fn look(side: &HeldSide, ours: &Fs, parted_at: u64) -> Result<String, String> {
    let device = Arc::new(Overlay::new(side.device.clone()));
    let options = OpenOptions { access: Access::ReadWrite, cache_bytes: CACHE_BYTES };
    let volume = Volume::open(device, options).map_err(|e| e.to_string())?;
    let theirs =
        Fs::open(volume.clone(), FsOptions::default(), Clock::System).map_err(|e| format!("{e:?}"))?;
    let mut lost = Vec::new();
    let known: BTreeSet<_> =
        ours.volume().snapshots(LineId::MAIN).into_iter().map(|s| (s.name, s.created)).collect();
    let snapshots = volume.snapshots(LineId::MAIN);
    let alone = snapshots.iter().filter(|s| !known.contains(&(s.name.clone(), s.created)));
    put(&mut lost, "snapshots", alone.map(|s| names::shown_bytes(&s.name)).collect());
    let lines: BTreeSet<_> = ours.volume().lines().into_iter().map(|line| line.name).collect();
    let clones = volume.lines().into_iter().filter(|line| !lines.contains(&line.name));
    put(&mut lost, "clones", clones.map(|line| names::shown_bytes(&line.name)).collect());
    let base = snapshots.iter().rev().find(|s| known.contains(&(s.name.clone(), s.created)));
    match base {
        Some(base) => {
            let view = |word: &[u8]| theirs.view_of_word(NodeId::ROOT, word).map_err(|e| format!("{e:?}"));
            let compared = theirs.compare(view(&base.name)?, view(b"@live")?, None);
            let changes = compared.map_err(|e| format!("{e:?}"))?.into_changes();
            let what = format!("changes since {}", names::shown_bytes(&base.name));
            put(&mut lost, &what, changes.iter().map(|c| names::shown_bytes(&c.path)).collect());
        }
        None => lost.push(format!("every change of files since state {parted_at}")),
    }
    Ok(if lost.is_empty() { "nothing but times of access".into() } else { lost.join("; ") })
}

fn put(lost: &mut Vec<String>, what: &str, mut names: Vec<String>) {
    if names.is_empty() {
        return;
    }
    let all = names.len();
    names.truncate(TOLD_MAX);
    let more = if all > TOLD_MAX { format!(" and {} more", all - TOLD_MAX) } else { String::new() };
    lost.push(format!("{what}: {}{more}", names.join(", ")));
}
