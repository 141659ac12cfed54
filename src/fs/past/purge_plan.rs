//! What a purge of a path would take: the content of the path in the chosen snapshots, and whoever else has some of it.
//!
//! Only reads. All views that have a tree are asked for the same inodes, those too that nobody can name: what lines are compared with, and what was
//! deleted and is read. Other inodes are looked for only where places have several references.

use super::snapdir::Past;
use crate::format::dirent::{Dirent, NameBucket};
use crate::format::line::LineState;
use crate::format::link::Links;
use crate::format::trash::{TrashRecord, Trashed};
use crate::format::{Ino, Key, Kind, LineId, ViewId};
use crate::fs::error::damaged;
use crate::fs::items::{Items, decode_extent, path_bytes};
use crate::ops::{Error, FileType, NodeId, Result};
use crate::volume::PlaceSet;
use crate::volume::purge::{InlineContents, LeafPlace};
use crate::volume::{SnapshotInfo, View};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// The path in one of the chosen snapshots.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct PurgedIn {
    /// The snapshot.
    pub snapshot: SnapshotInfo,
    /// It is in the trash.
    pub in_trash: bool,
    /// The file there, or the directory.
    pub ino: Ino,
    /// Files and symbolic links that it is, or that are below it.
    pub files: u64,
    /// Their size.
    pub size: u64,
}

/// Somebody else who has some of the content.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct HasToo {
    /// The name of a clone that is or has it, or nothing: the main line.
    pub line: Vec<u8>,
    /// The snapshot that has it, or none: the live tree.
    pub snapshot: Option<Vec<u8>>,
    /// It is in the trash, by itself or with its clone.
    pub in_trash: bool,
    /// The file, from the root.
    pub path: Vec<u8>,
}

/// A file of a live tree or clone that has no name any more, and is open.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct OpenWithoutName {
    /// The name of the clone, or nothing: the main line.
    pub line: Vec<u8>,
    /// As the kernel knows it.
    pub node: NodeId,
}

/// What would be purged.
#[derive(Default)]
pub struct PurgePlan {
    /// The path where it is.
    pub found: Vec<PurgedIn>,
    /// The files that it is in any of these.
    pub files: BTreeSet<Vec<u8>>,
    /// Who else loses content.
    pub others: BTreeSet<HasToo>,
    /// Files without a name that have some of it and are open.
    pub open: BTreeSet<OpenWithoutName>,
    /// Places on the device.
    pub(super) places: PlaceSet,
    /// Their parts with their extra references, before it was looked at who has them.
    pub(super) known: Vec<(u64, u64, u32)>,
    /// Leaves with content, by number.
    pub(super) leaves: BTreeMap<u64, LeafPlace>,
    /// Those of them in which the chosen snapshots have it.
    chosen_leaves: BTreeSet<u64>,
    /// Inline content that goes.
    pub(super) inline: InlineContents,
    /// Snapshots that lose something.
    pub(super) edited: BTreeSet<ViewId>,
    /// What the kernel may have pages of: snapshots by slot, and clones in the trash.
    pub(super) in_snapshots: BTreeSet<(u32, Ino)>,
    pub(super) in_trash: BTreeSet<NodeId>,
    live: BTreeSet<(LineId, Ino)>,
    /// Views that were looked at.
    pub(super) seen: BTreeSet<ViewId>,
}

impl PurgePlan {
    /// True if there is no content (any more) that could go.
    pub fn is_empty(&self) -> bool {
        self.places.ranges().is_empty() && self.leaves.is_empty()
    }

    /// True if a live tree or clone has some of it, with a name or without: what is live is not taken.
    pub fn is_live(&self) -> bool {
        !self.live.is_empty()
    }

    /// Bytes on the device that are written over and given back.
    pub fn stored_bytes(&self) -> u64 {
        self.places.bytes()
    }

    /// Leaves in the order in which they are to be rewritten. Content that others have is known from the chosen snapshots: if the
    /// rewriting is cut off anywhere, and planned anew, what is left is found.
    pub(super) fn leaves_in_order(&self) -> Vec<LeafPlace> {
        let of = |chosen: bool| {
            self.leaves.iter().filter(move |(leaf, _)| self.chosen_leaves.contains(leaf) == chosen)
        };
        of(false).chain(of(true)).map(|(_, leaf)| *leaf).collect()
    }

    /// Some of the places, side by side, with their extra references, part by part.
    pub(super) fn known_of(&self, places: &[(u64, u64)]) -> Vec<(u64, u64, u32)> {
        let (Some((from, _)), Some((last, len))) = (places.first(), places.last()) else { return Vec::new() };
        self.known.iter().filter(|(addr, ..)| (*from..last + len).contains(addr)).copied().collect()
    }

    /// Nodes of trees that are written anew.
    pub fn leaf_count(&self) -> usize {
        self.leaves.len()
    }
}

/// A view that content is looked for in.
struct Seen {
    view: Arc<View>,
    line: LineId,
    /// Of the line.
    slot: u32,
    line_name: Vec<u8>,
    /// None: a head.
    snapshot: Option<SnapshotInfo>,
    /// Out of sight, with its line or by itself.
    in_trash: bool,
    /// Of no line: nobody can name or change it.
    is_nobodys: bool,
}

impl Past {
    /// What the path has in these snapshots of the line, and who has it too. All that has changed has been committed.
    pub(super) fn plan_purge(&self, path: &[u8], chosen: &[ViewId]) -> Result<PurgePlan> {
        let (volume, mut plan) = (&self.commits.heads.volume, PurgePlan::default());
        self.check_purges_go_on()?;
        let all = self.everything_seen()?;
        plan.seen = all.iter().map(|seen| seen.view.id()).collect();
        let chosen: BTreeSet<ViewId> = chosen.iter().copied().collect();
        let mut targets: BTreeSet<(ViewId, Ino)> = BTreeSet::new();
        let mut contents: BTreeMap<Ino, BTreeSet<Vec<u8>>> = BTreeMap::new();
        for seen in all.iter().filter(|seen| chosen.contains(&seen.view.id())) {
            let Some(info) = &seen.snapshot else { continue };
            self.check_purges_go_on()?;
            let Some(entry) = find(&seen.view, path)? else { continue };
            let view = &seen.view;
            let (snapshot, in_trash) = (info.clone(), seen.in_trash);
            let mut found = PurgedIn { snapshot, in_trash, ino: entry.ino, files: 0, size: 0 };
            for (ino, file) in files_at(view, &entry, path)? {
                let Some(inode) = view.inode(ino)? else { continue };
                (found.files, found.size) = (found.files + 1, found.size.saturating_add(inode.size));
                plan.files.insert(file);
                // Another name of the same.
                if !targets.insert((view.id(), ino)) {
                    continue;
                }
                for_extents(view, ino, |extent| plan.places.add(view, extent))?;
                let inline = view.stored_inline(ino)?;
                if !inline.is_empty() {
                    contents.entry(ino).or_default().insert(inline);
                }
                plan.add_names(seen, ino, path)?;
            }
            plan.found.push(found);
        }
        // Oldest first, as they are listed.
        plan.found.sort_by_key(|found| found.snapshot.id);
        let mut inodes: BTreeSet<Ino> = targets.iter().map(|(_, ino)| *ino).collect();
        plan.known = volume.extra_references(&plan.places.ranges());
        if plan.known.iter().any(|(.., extra)| *extra > 0) {
            inodes.extend(volume.inodes_at(&plan.places)?.into_iter().map(|(_, ino)| ino));
        }
        for seen in &all {
            self.check_purges_go_on()?;
            for ino in &inodes {
                let is_target = targets.contains(&(seen.view.id(), *ino));
                self.look(seen, *ino, contents.get(ino), &mut plan, is_target)?;
            }
        }
        Ok(plan)
    }

    /// What one view has of it.
    fn look(
        &self,
        seen: &Seen,
        ino: Ino,
        contents: Option<&BTreeSet<Vec<u8>>>,
        plan: &mut PurgePlan,
        is_target: bool,
    ) -> Result<()> {
        let view = &seen.view;
        let mut has_some = false;
        for_extents(view, ino, |extent| has_some |= plan.places.has_some_of(view, extent))?;
        if let Some(contents) = contents
            && contents.contains(&view.stored_inline(ino)?)
        {
            has_some = true;
            plan.inline.insert(ino.0, contents.clone());
            if !seen.is_live() {
                match view.leaf_of(&Key::new(ino.0, Kind::Inline, 0))? {
                    Some(leaf) => {
                        plan.leaves.insert(leaf.number(), leaf);
                        if is_target {
                            plan.chosen_leaves.insert(leaf.number());
                        }
                    }
                    // The next commit writes it: a point that was made since the last one.
                    None => drop(plan.seen.remove(&view.id())),
                }
            }
        }
        if !has_some {
            return Ok(());
        }
        match &seen.snapshot {
            Some(info) => {
                plan.edited.insert(info.id);
                plan.in_snapshots.insert((info.slot.0, ino));
            }
            None if seen.in_trash => {
                plan.edited.insert(view.id());
                plan.in_trash.insert(NodeId::live(seen.slot, ino.0));
            }
            None if seen.is_nobodys => {
                plan.edited.insert(view.id());
                plan.in_snapshots.insert((seen.slot, ino));
            }
            None => drop(plan.live.insert((seen.line, ino))),
        }
        match path_bytes(view, ino) {
            Some(path) if !is_target && !seen.is_nobodys => drop(plan.others.insert(seen.has_too(path))),
            None if seen.is_live() => {
                let (line, node) = (seen.line_name.clone(), NodeId::live(seen.slot, ino.0));
                plan.open.insert(OpenWithoutName { line, node });
            }
            // What has no name here any more nobody finds.
            _ => {}
        }
        Ok(())
    }

    /// All snapshots and heads, each once, those in the trash and those of no line too. What is in the trash and shown elsewhere is told as it
    /// is shown.
    fn everything_seen(&self) -> Result<Vec<Seen>> {
        let (volume, mut all, mut met) = (&self.commits.heads.volume, Vec::new(), BTreeSet::new());
        let (trash, trashed) = (volume.trash(), volume.trashed_snapshots());
        let (in_trash, shown): (Vec<_>, Vec<_>) =
            volume.lines_with_trash().into_iter().partition(|line| line.state == LineState::Trashed);
        let lines_in_trash: BTreeSet<LineId> = in_trash.iter().map(|line| line.id).collect();
        for line in shown.into_iter().chain(in_trash) {
            let in_trash = lines_in_trash.contains(&line.id);
            let is_it = |trash: &&TrashRecord| matches!(trash.what, Trashed::Line(id, _) if id == line.id);
            let line_name = trash.iter().find(is_it).map_or(line.name, |trash| trash.name.clone());
            let seen = |view, snapshot: Option<SnapshotInfo>, in_trash| {
                let line_name = line_name.clone();
                let (line, slot) = (line.id, line.slot.0);
                Seen { view, line, slot, line_name, snapshot, in_trash, is_nobodys: false }
            };
            for info in volume.snapshots(line.id) {
                if (info.line == line.id || lines_in_trash.contains(&info.line)) && met.insert(info.id) {
                    all.push(seen(volume.snapshot(info.id)?, Some(info), in_trash));
                }
            }
            for info in trashed.iter().filter(|info| info.line == line.id) {
                all.push(seen(volume.point(info.id)?, Some(info.clone()), true));
            }
            all.push(seen(Arc::new(volume.live(line.id)?), None, in_trash));
        }
        all.extend(volume.views_of_no_line()?.into_iter().map(|(view, slot)| Seen {
            view,
            line: LineId::NONE,
            slot: slot.0,
            line_name: Vec::new(),
            snapshot: None,
            in_trash: false,
            is_nobodys: true,
        }));
        Ok(all)
    }
}

impl Seen {
    /// Somebody may change it: what it has is not taken.
    fn is_live(&self) -> bool {
        self.snapshot.is_none() && !self.in_trash && !self.is_nobodys
    }

    fn has_too(&self, path: Vec<u8>) -> HasToo {
        let snapshot = self.snapshot.as_ref().map(|info| info.name.clone());
        HasToo { line: self.line_name.clone(), snapshot, in_trash: self.in_trash, path }
    }
}

impl PurgePlan {
    /// Other names of the same file lose it as well, but for those that are below the path.
    fn add_names(&mut self, seen: &Seen, ino: Ino, path: &[u8]) -> Result<()> {
        let (from, to) = (Key::new(ino.0, Kind::Link, 0), Key::new(ino.0, Kind::Dirent, 0));
        for item in seen.view.range(&from, &to) {
            let links = Links::decode(&item?.1).map_err(|e| damaged(ino, e))?;
            for (parent, name) in links.names {
                let Some(dir) = path_bytes(&seen.view, parent) else { continue };
                let whole = if dir.is_empty() { name } else { [&dir[..], b"/", &name].concat() };
                let below = whole.strip_prefix(path).is_some_and(|rest| rest.is_empty() || rest[0] == b'/');
                if !below {
                    self.others.insert(seen.has_too(whole));
                }
            }
        }
        Ok(())
    }
}

impl Past {
    /// True if a snapshot has content that was not purged in a file or symbolic link at a path, or below it.
    pub fn has_content_at(&self, snapshot: ViewId, path: &[u8]) -> Result<bool> {
        let view = self.commits.heads.volume.snapshot(snapshot)?;
        let Some(at) = find(&view, path)? else { return Ok(false) };
        for (ino, _) in files_at(&view, &at, path)? {
            let mut has_some = !view.stored_inline(ino)?.is_empty();
            for_extents(&view, ino, |extent| has_some |= view.has_content_left(extent))?;
            if has_some {
                return Ok(true);
            }
        }
        Ok(false)
    }
}

fn for_extents(view: &View, ino: Ino, mut f: impl FnMut(&crate::format::Extent)) -> Result<()> {
    let (from, to) = (Key::new(ino.0, Kind::Extent, 0), Key::new(ino.0, Kind::Extent, u64::MAX));
    for item in view.range(&from, &to) {
        let (key, value) = item?;
        f(&decode_extent(&key, &value)?.1);
    }
    Ok(())
}

/// The files and symbolic links that are at a path, or below it, with their paths.
fn files_at(view: &View, at: &Dirent, path: &[u8]) -> Result<Vec<(Ino, Vec<u8>)>> {
    let (mut files, mut dirs) = (Vec::new(), Vec::new());
    match at.kind {
        FileType::Regular | FileType::Symlink => files.push((at.ino, path.to_vec())),
        FileType::Directory => dirs.push((at.ino, path.to_vec())),
        _ => return Err(Error::NotSupported),
    }
    while let Some((dir, path)) = dirs.pop() {
        let from = Key::new(dir.0, Kind::Dirent, 0);
        for item in view.range(&from, &Key { kind: from.kind + 1, ..from }) {
            let bucket = NameBucket::decode(&item?.1).map_err(|e| damaged(dir, e))?;
            for entry in bucket.entries {
                let below = [&path[..], b"/", &entry.name].concat();
                match entry.kind {
                    FileType::Regular | FileType::Symlink => files.push((entry.ino, below)),
                    FileType::Directory => dirs.push((entry.ino, below)),
                    // What it is called is all that it is.
                    _ => {}
                }
            }
        }
    }
    Ok(files)
}

/// What a path from the root is in a view.
fn find(view: &View, path: &[u8]) -> Result<Option<Dirent>> {
    let (mut dir, mut found) = (Ino::ROOT, None);
    for name in path.split(|byte| *byte == b'/').filter(|name| !name.is_empty()) {
        found = view.find_name(dir, name)?;
        let Some(entry) = &found else { return Ok(None) };
        dir = entry.ino;
    }
    Ok(found)
}
