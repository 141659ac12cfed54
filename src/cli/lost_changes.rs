//! What a side has that went on by itself and would lose, in words: by the names under which lists show it.

use super::trashed;
use crate::format::line::LineRecord;
use crate::format::trash::{TrashRecord, Trashed};
use crate::format::{LineId, ViewId};
use crate::fs::Fs;
use crate::names;
use crate::ops::NodeId;
use crate::volume::Volume;
use std::collections::BTreeSet;

/// Names that are told at most.
const TOLD_MAX: usize = 20;

/// Snapshots and clones that `ours` has not, what is in the trash there or on its way there of these, and what changed in the live tree
/// since the last snapshot that both have.
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
    let clones = volume.clones().into_iter().filter(|clone| !lines.contains(&clone.line.name));
    put(&mut lost, "clones", clones.map(|clone| names::shown_bytes(&clone.line.name)).collect());
    put(&mut lost, "in the trash", in_trash(volume, ours.volume()));
    let here: BTreeSet<_> = ours.arrivals().iter().map(|arrival| arrival.record.begin.stream()).collect();
    let arrivals = theirs.arrivals().into_iter().map(|arrival| arrival.record.begin);
    let arrivals = arrivals.filter(|begin| !here.contains(&begin.stream()));
    put(&mut lost, "being received", arrivals.map(|begin| names::shown_bytes(&begin.name)).collect());
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

/// A name, and when what had it was made.
type Made = (Vec<u8>, (i64, u32));

/// Snapshots and lines of a store as they are called, or were before they got into the trash.
fn all_made(volume: &Volume) -> (BTreeSet<Made>, BTreeSet<Made>) {
    let (trash, lines) = (volume.trash(), volume.lines_with_trash());
    let own = lines.iter().flat_map(|line| volume.own_snapshots(line.id));
    let snapshots = own.chain(volume.trashed_snapshots()).map(|s| (s.name, s.created)).collect();
    let was_called =
        |id: LineId| trash.iter().find(|trash| matches!(trash.what, Trashed::Line(line, _) if line == id));
    let name = |line: &LineRecord| was_called(line.id).map_or(&line.name, |trash| &trash.name).clone();
    (snapshots, lines.iter().map(|line| (name(line), line.created)).collect())
}

/// What is in the trash of one and nowhere in the other, as it was called.
fn in_trash(theirs: &Volume, ours: &Volume) -> Vec<String> {
    let ((snapshots, lines), trashed) = (all_made(ours), theirs.trashed_snapshots());
    let is_here = |trash: &TrashRecord| match trash.what {
        Trashed::Snapshot(view, _) => {
            let found = trashed.iter().find(|s| s.id == view);
            found.is_some_and(|s| snapshots.contains(&(s.name.clone(), s.created)))
        }
        Trashed::Line(line, _) => {
            theirs.line(line).is_ok_and(|line| lines.contains(&(trash.name.clone(), line.created)))
        }
    };
    let all = theirs.trash().into_iter().filter(|trash| !is_here(trash));
    all.map(|trash| names::shown_bytes(&trashed::word(&trash))).collect()
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::device::Sim;
    use crate::fixtures::{ADMIN, SNAPDIR, bytes, find, mount, new_store, put as put_file, snapshot};
    use crate::fs::{Provenance, Reason, ReceiveOrder, SendOrder};
    use crate::ops::{Operations, XattrMode};
    use std::sync::Arc;

    /// A stream of a snapshot of another store, as far as it has come when the way breaks.
    fn cut_stream(name: &str) -> Vec<u8> {
        let sim = Arc::new(Sim::new(64 << 20, 1));
        Volume::create(sim.clone(), 64 << 20, [8; 16], (0, 0)).unwrap();
        let other = mount(sim);
        put_file(&other, NodeId::ROOT, "f", &bytes(1, 6 << 20));
        snapshot(&other, name);
        let found = other.volume().find_snapshot(LineId::MAIN, name.as_bytes()).unwrap();
        let (order, mut stream) =
            (SendOrder { snapshot: &found, base: None, gone: None, resume: None }, Vec::new());
        other.send(&order, &mut stream, &mut |_| true).unwrap();
        stream.truncate(stream.len() / 2);
        stream
    }

    #[test]
    fn what_would_be_lost_is_called_as_it_is_shown() {
        let sim = new_store(128 << 20);
        let fs = mount(sim.clone());
        fs.setxattr(&ADMIN, NodeId::ROOT, b"user.snapfs.trash", b"1h", XattrMode::Set).unwrap();
        for name in ["both", "deleted before"] {
            put_file(&fs, NodeId::ROOT, name, b"x");
            snapshot(&fs, name);
        }
        fs.create_clone(NodeId::ROOT, b"dropped before", None, &Provenance::from(Reason::User)).unwrap();
        fs.rmdir(&ADMIN, SNAPDIR, b"deleted before").unwrap();
        fs.rmdir(&ADMIN, NodeId::clonedir(0), b"dropped before").unwrap();
        fs.close().unwrap();
        drop(fs);
        let (ours, theirs) = (mount(Arc::new(sim.clone_image())), mount(sim));
        for name in ["tue", "wed"] {
            put_file(&theirs, NodeId::ROOT, name, b"x");
            snapshot(&theirs, name);
        }
        for name in [&b"c"[..], b"gone"] {
            theirs.create_clone(NodeId::ROOT, name, None, &Provenance::from(Reason::User)).unwrap();
        }
        theirs.rmdir(&ADMIN, SNAPDIR, b"tue").unwrap();
        theirs.rmdir(&ADMIN, NodeId::clonedir(0), b"gone").unwrap();
        let order = ReceiveOrder::default();
        assert!(theirs.receive(&mut &cut_stream("half")[..], &order, &mut |_, _| ()).is_err());
        assert_eq!(theirs.arrivals().len(), 1);
        assert!(find(&theirs, "wed").is_live());
        let told = told(&theirs, &ours, 7, &BTreeSet::new());
        let lists = "snapshots: wed; clones: c; in the trash: tue, .clones/gone; being received: half";
        assert_eq!(told, format!("{lists}; changes since both: deleted before, tue, wed"));
        assert_eq!(super::told(&ours, &ours, 7, &BTreeSet::new()), "changes since both: deleted before");
    }
}
