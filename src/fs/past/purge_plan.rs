//! What a purge of a path would take: the content of the path in the chosen snapshots, and whoever else has some of it.
//!
//! Only reads. Other snapshots and heads are asked for the same inodes; other inodes are looked for only where places have
//! several references.

use super::snapdir::Past;
use crate::format::dirent::{Dirent, NameBucket};
use crate::format::line::LineState;
use crate::format::link::Links;
use crate::format::{Ino, Key, Kind, LineId, ViewId};
use crate::fs::error::damaged;
use crate::fs::items::{Items, decode_extent, path_bytes};
use crate::ops::{Error, FileType, Result};
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
    /// The file, from the root.
    pub path: Vec<u8>,
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
    /// Places on the device.
    pub(super) places: PlaceSet,
    /// Their parts with their extra references, before it was looked at who has them.
    pub(super) known: Vec<(u64, u64, u32)>,
    /// Leaves with content, by number.
    pub(super) leaves: BTreeMap<u64, LeafPlace>,
    /// Inline content that goes.
    pub(super) inline: InlineContents,
    /// Snapshots that lose something.
    pub(super) edited: BTreeSet<ViewId>,
    /// What the kernel may have pages of: snapshots by slot, and heads.
    pub(super) in_snapshots: BTreeSet<(u32, Ino)>,
    pub(super) live: BTreeSet<(LineId, Ino)>,
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

    /// Nodes of trees that are written anew.
    pub fn leaf_count(&self) -> usize {
        self.leaves.len()
    }
}

/// A view that content is looked for in.
struct Seen {
    view: Arc<View>,
    line: LineId,
    line_name: Vec<u8>,
    /// None: a head.
    snapshot: Option<SnapshotInfo>,
}

impl Past {
    /// What the path has in these snapshots of the line, and who has it too. All that has changed has been committed.
    pub(super) fn plan_purge(&self, path: &[u8], chosen: &[ViewId]) -> Result<PurgePlan> {
        let (volume, mut plan) = (&self.commits.heads.volume, PurgePlan::default());
        let all = self.everything_seen()?;
        let chosen: BTreeSet<ViewId> = chosen.iter().copied().collect();
        let mut targets: BTreeSet<(ViewId, Ino)> = BTreeSet::new();
        let mut contents: BTreeMap<Ino, BTreeSet<Vec<u8>>> = BTreeMap::new();
        for seen in all.iter().filter(|seen| chosen.contains(&seen.view.id())) {
            let Some(info) = &seen.snapshot else { continue };
            let Some(entry) = find(&seen.view, path)? else { continue };
            let view = &seen.view;
            let mut found = PurgedIn { snapshot: info.clone(), ino: entry.ino, files: 0, size: 0 };
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
        let mut inodes: BTreeSet<Ino> = targets.iter().map(|(_, ino)| *ino).collect();
        plan.known = volume.extra_references(&plan.places.ranges());
        if plan.known.iter().any(|(.., extra)| *extra > 0) {
            inodes.extend(volume.inodes_at(&plan.places)?.into_iter().map(|(_, ino)| ino));
        }
        for seen in &all {
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
            if seen.snapshot.is_some()
                && let Some(leaf) = view.leaf_of(&Key::new(ino.0, Kind::Inline, 0))?
            {
                plan.leaves.insert(leaf.number(), leaf);
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
            None => drop(plan.live.insert((seen.line, ino))),
        }
        // What has no name here any more nobody finds.
        if let Some(path) = path_bytes(view, ino).filter(|_| !is_target) {
            plan.others.insert(seen.has_too(path));
        }
        Ok(())
    }

    /// All snapshots and heads, each once; of the trash nothing but what others show.
    fn everything_seen(&self) -> Result<Vec<Seen>> {
        let (volume, mut all, mut met) = (&self.commits.heads.volume, Vec::new(), BTreeSet::new());
        let lines = volume.lines();
        let in_trash = |line: LineId| lines.iter().any(|l| l.id == line && l.state == LineState::Trashed);
        for line in lines.iter().filter(|line| line.state != LineState::Trashed) {
            for info in volume.snapshots(line.id) {
                // Those of a clone in the trash are known by the lines that show them.
                if (info.line == line.id || in_trash(info.line)) && met.insert(info.id) {
                    let (view, line_name) = (volume.snapshot(info.id)?, line.name.clone());
                    all.push(Seen { view, line: line.id, line_name, snapshot: Some(info) });
                }
            }
            let view = Arc::new(volume.live(line.id)?);
            all.push(Seen { view, line: line.id, line_name: line.name.clone(), snapshot: None });
        }
        Ok(all)
    }
}

impl Seen {
    fn has_too(&self, path: Vec<u8>) -> HasToo {
        let snapshot = self.snapshot.as_ref().map(|info| info.name.clone());
        HasToo { line: self.line_name.clone(), snapshot, path }
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
