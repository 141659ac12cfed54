//! What a side has that went on by itself and would lose, in words.

use crate::format::{LineId, ViewId};
use crate::fs::Fs;
use crate::names;
use crate::ops::NodeId;
use std::collections::BTreeSet;

/// Names that are told at most.
const TOLD_MAX: usize = 20;

/// Snapshots and clones that `ours` has not, and what changed in the live tree since the last snapshot that both have.
/// `heads` are snapshots of what is live there.
pub(super) fn told(theirs: &Fs, ours: &Fs, parted_at: u64, heads: &BTreeSet<ViewId>) -> String {
    look(theirs, ours, parted_at, heads).unwrap_or_else(|e| {
        format!("everything that was changed there since state {parted_at} (it cannot be looked at: {e})")
    })
}

fn look(theirs: &Fs, ours: &Fs, parted_at: u64, heads: &BTreeSet<ViewId>) -> Result<String, String> {
    let volume = theirs.volume();
    let mut lost = Vec::new();
    let known: BTreeSet<_> =
        ours.volume().snapshots(LineId::MAIN).into_iter().map(|s| (s.name, s.created)).collect();
    let mut snapshots = volume.snapshots(LineId::MAIN);
    snapshots.retain(|s| !heads.contains(&s.id));
    let alone = snapshots.iter().filter(|s| !known.contains(&(s.name.clone(), s.created)));
    put(&mut lost, "snapshots", alone.map(|s| names::shown_bytes(&s.name)).collect());
    let lines: BTreeSet<_> = ours.volume().lines().into_iter().map(|line| line.name).collect();
    let clones = volume.lines().into_iter().filter(|line| !lines.contains(&line.name));
    put(&mut lost, "clones", clones.map(|line| names::shown_bytes(&line.name)).collect());
    let base = snapshots.iter().rev().find(|s| known.contains(&(s.name.clone(), s.created)));
    match base {
        Some(base) => {
            let view = |word: &[u8]| theirs.view_of_word(NodeId::ROOT, word).map_err(|e| e.to_string());
            let compared = theirs.compare(view(&base.name)?, view(b"@live")?, None);
            let changes = compared.map_err(|e| e.to_string())?.into_changes();
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
