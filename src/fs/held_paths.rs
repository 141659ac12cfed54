//! Which paths have the most content that only snapshots hold: what the head of a line has let go of, file by file.
//!
//! Neighbouring snapshots are compared, at the cost of what differs. On the way from the oldest snapshot of the line's own to its head,
//! what one has and the next has not; beside it, where the line was rolled back, what came to be there. So each block is counted once, under the
//! path that its file had when it was there last. Counted is content, as it is stored; a clone, or a file that shares blocks, may have it as well.
//! Memory is bounded: of very many files those with the least are put together.

use super::difference::Paths;
use super::file_system::Fs;
use super::heads::Head;
use crate::format::{Epoch, Extent, Ino, Key, Kind, ViewId};
use crate::ops::{NodeId, Result};
use crate::volume::{View, VolumeError, remap};
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

/// Files that are told apart at most.
const FILES_MAX: usize = 1 << 17;
/// A directory is not named if one thing in it has so many percent of what it has: that says more.
const TELLING_PERCENT: u64 = 80;

/// A path, and what only snapshots have of it and of what is below it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct HeldPath {
    /// From the root of the line, with a slash behind a directory.
    pub path: Vec<u8>,
    /// Bytes, as stored.
    pub bytes: u64,
    /// The name of the newest snapshot that has some of it.
    pub snapshot: Vec<u8>,
}

/// What only snapshots of a line have.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct HeldContent {
    /// Those with the most, the most first.
    pub paths: Vec<HeldPath>,
    /// All of it, in bytes.
    pub bytes: u64,
    /// What was put together, or has no path any more.
    pub of_others: u64,
}

/// What is known of a file.
#[derive(Clone, Copy)]
struct HeldFile {
    bytes: u64,
    /// The snapshot in which it is looked for.
    last: ViewId,
}

#[derive(Default)]
struct Files {
    all: HashMap<Ino, HeldFile>,
    of_others: u64,
}

impl Files {
    fn add(&mut self, ino: Ino, bytes: u64, last: ViewId) {
        if bytes == 0 {
            return;
        }
        let file = self.all.entry(ino).or_insert(HeldFile { bytes: 0, last });
        file.bytes += bytes;
        file.last = file.last.max(last);
        if self.all.len() > FILES_MAX {
            self.put_together();
        }
    }

    /// Half of them, those with the least.
    fn put_together(&mut self) {
        let mut sizes: Vec<u64> = self.all.values().map(|file| file.bytes).collect();
        let (_, least, _) = sizes.select_nth_unstable(FILES_MAX / 2);
        let (least, others) = (*least, &mut self.of_others);
        self.all.retain(|_, file| {
            let stays = file.bytes > least;
            *others += if stays { 0 } else { file.bytes };
            stays
        });
    }
}

impl Fs {
    /// The `most` paths of the line that a node is of with the most content that only its snapshots have. `progress` is told how many
    /// comparisons are done, of how many, and says by false that nobody wants to know any more.
    pub fn held_paths(
        &self,
        at: NodeId,
        most: usize,
        progress: &mut dyn FnMut(usize, usize) -> bool,
    ) -> Result<HeldContent> {
        let head = self.heads.at(at)?;
        let mut files = Files::default();
        self.compare_neighbours(&head, &mut files, progress)?;
        let mut held = HeldContent { of_others: files.of_others, ..HeldContent::default() };
        held.bytes = files.all.values().fold(files.of_others, |sum, file| sum.saturating_add(file.bytes));
        let mut tree = BTreeMap::new();
        let mut by_view: BTreeMap<ViewId, Vec<(Ino, u64)>> = BTreeMap::new();
        for (ino, file) in files.all {
            by_view.entry(file.last).or_default().push((ino, file.bytes));
        }
        for (id, files) in by_view {
            let view = self.volume().snapshot(id).ok();
            let mut paths = view.as_deref().map(Paths::new);
            for (ino, bytes) in files {
                match paths.as_mut().and_then(|paths| paths.first(ino).ok().flatten()) {
                    Some(path) => enter(&mut tree, &path, bytes, id),
                    None => held.of_others += bytes,
                }
            }
        }
        held.paths = self.most_telling(&tree, most);
        Ok(held)
    }

    fn compare_neighbours(
        &self,
        head: &Arc<Head>,
        files: &mut Files,
        progress: &mut dyn FnMut(usize, usize) -> bool,
    ) -> Result<()> {
        let (volume, now) = (self.volume(), self.past.present(head)?);
        let own: BTreeSet<ViewId> = volume.own_snapshots(head.line).iter().map(|s| s.id).collect();
        let lineage = volume.lineage(head.line)?;
        let below: HashMap<ViewId, Option<ViewId>> =
            lineage.snapshots.iter().map(|s| (s.id, s.below)).collect();
        let (mut on_the_way, mut at) = (BTreeSet::new(), lineage.newest_below);
        let mut above: HashMap<ViewId, Option<ViewId>> = HashMap::new();
        let mut last = None;
        while let Some(id) = at {
            above.insert(id, last);
            on_the_way.insert(id);
            (last, at) = (Some(id), below.get(&id).copied().flatten());
        }
        for (done, id) in own.iter().enumerate() {
            if !progress(done, own.len()) {
                return Ok(());
            }
            // One that is deleted meanwhile holds nothing any more.
            let Some(view) = open(volume.snapshot(*id))? else { continue };
            match above.get(id) {
                Some(Some(next)) => {
                    if let Some(next) = open(volume.snapshot(*next))? {
                        lost(&view, &next, &mut |ino, bytes| files.add(ino, bytes, *id))?;
                    }
                }
                Some(None) => lost(&view, &now, &mut |ino, bytes| files.add(ino, bytes, *id))?,
                None => {
                    let from = below.get(id).copied().flatten().map(|below| volume.snapshot(below));
                    let from = from.map(open).transpose()?.flatten();
                    let other = from.as_deref().unwrap_or(&now);
                    // What the other has not is what came to be.
                    lost(&view, other, &mut |ino, bytes| files.add(ino, bytes, *id))?;
                }
            }
        }
        progress(own.len(), own.len());
        Ok(())
    }

    /// Files and directories with the most; no directory of which something below says more.
    fn most_telling(&self, tree: &Tree, most: usize) -> Vec<HeldPath> {
        let is_telling = |(path, held): &(&Vec<u8>, &Held)| {
            !path.is_empty()
                && held.most_below.saturating_mul(100) < held.bytes.saturating_mul(TELLING_PERCENT)
        };
        let mut all: Vec<(&Vec<u8>, &Held)> = tree.iter().filter(is_telling).collect();
        all.sort_by(|a, b| b.1.bytes.cmp(&a.1.bytes).then_with(|| a.0.cmp(b.0)));
        all.truncate(most);
        let name = |id| self.volume().snapshot_info(id).map(|s| s.name).unwrap_or_default();
        let told = all.into_iter().map(|(path, held)| HeldPath {
            path: path.clone(),
            bytes: held.bytes,
            snapshot: name(held.last),
        });
        told.collect()
    }
}

fn open(view: std::result::Result<Arc<View>, VolumeError>) -> Result<Option<Arc<View>>> {
    match view {
        Err(VolumeError::NoSuchView) => Ok(None),
        view => Ok(Some(view?)),
    }
}

/// A path's share.
#[derive(Clone, Copy)]
struct Held {
    bytes: u64,
    /// Of a directory, what the one right below it has that has the most.
    most_below: u64,
    last: ViewId,
}

/// By path: directories with a slash behind.
type Tree = BTreeMap<Vec<u8>, Held>;

/// Adds a file to the directories that it is in.
fn enter(tree: &mut Tree, path: &[u8], bytes: u64, last: ViewId) {
    let mut below = 0;
    let ends = path.iter().enumerate().filter(|(_, byte)| **byte == b'/').map(|(at, _)| at + 1);
    let ends: Vec<usize> = std::iter::once(0).chain(ends).chain([path.len()]).collect();
    for end in ends.into_iter().rev() {
        let held = tree.entry(path[..end].to_vec()).or_insert(Held { bytes: 0, most_below: 0, last });
        held.bytes += bytes;
        held.last = held.last.max(last);
        held.most_below = held.most_below.max(below);
        below = held.bytes;
    }
}

/// Content that one view has and another has not, by file: what it refers to, each place once.
fn lost(old: &View, new: &View, put: &mut dyn FnMut(Ino, u64)) -> Result<()> {
    let mut of_file: Option<(u64, Places)> = None;
    for item in old.diff(new, &Key::MIN, &Key::MAX) {
        let item = item?;
        if item.key.kind != Kind::Extent as u8 {
            continue;
        }
        if let Some((object, places)) = of_file.take_if(|(object, _)| *object != item.key.object) {
            put(Ino(object), places.lost());
        }
        let (_, places) = of_file.get_or_insert_with(|| (item.key.object, Places::default()));
        for (value, there) in [(&item.old, &mut places.before), (&item.new, &mut places.now)] {
            let Some(value) = value else { continue };
            let extent = Extent::decode(value).map_err(VolumeError::from)?;
            // What was purged is nowhere.
            if !old.has_content_left(&extent) {
                continue;
            }
            let reference = remap::reference(&extent);
            there.push(Place {
                birth: reference.birth,
                start: reference.addr,
                end: reference.addr.saturating_add(reference.len),
            });
        }
    }
    if let Some((object, places)) = of_file {
        put(Ino(object), places.lost());
    }
    Ok(())
}

/// What a file refers to in two views.
#[derive(Default)]
struct Places {
    before: Vec<Place>,
    now: Vec<Place>,
}

/// Blocks that came to be together.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Place {
    birth: Epoch,
    start: u64,
    end: u64,
}

impl Places {
    /// Bytes that were there before and are not now.
    fn lost(self) -> u64 {
        let (before, now) = (joined(self.before), joined(self.now));
        let bytes: u64 = before.iter().map(|place| place.end - place.start).sum();
        let stays: u64 = before.iter().map(|place| overlap(place, &now)).sum();
        bytes - stays
    }
}

/// In order, and each block once.
fn joined(mut all: Vec<Place>) -> Vec<Place> {
    all.sort_unstable();
    all.dedup_by(|next, last| {
        let meet = next.birth == last.birth && next.start <= last.end;
        last.end = if meet { last.end.max(next.end) } else { last.end };
        meet
    });
    all
}

/// Bytes of a place that are in some of others, which are [`joined`].
fn overlap(place: &Place, others: &[Place]) -> u64 {
    let first = others.partition_point(|other| (other.birth, other.end) <= (place.birth, place.start));
    let meets = |other: &&Place| other.birth == place.birth && other.start < place.end;
    let meeting = others[first..].iter().take_while(meets);
    meeting.map(|other| other.end.min(place.end) - other.start.max(place.start)).sum()
}
