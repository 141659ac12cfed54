//! Whom a bad block hits: which files, and which snapshots and heads.
//!
//! What died in a view is dead in all views above it, so along a chain of snapshots the last one that still has the
//! block is found by bisection. Best effort: what cannot be read hits nobody, and says so by its own finding.

use crate::check::path_of;
use crate::format::dirent::NameBucket;
use crate::format::view::{Role, ViewRecord};
use crate::format::{BLOCK_BYTES, BlockPtr, Epoch, Extent, Ino, Key, Kind, LineId, PlacedExtent};
use crate::names;
use crate::tree::{self, Bounds, Child, Met, Pager, Span, Step, scan};
use crate::volume::remap::Remap;
use crate::volume::scrub::Pinned;

/// Most names of files that a lost node is told with.
const FILES_MAX: usize = 16;

/// A path for people; the number of an inode without one.
pub(super) fn path(pager: &Pager, root: &BlockPtr, ino: Ino) -> String {
    match path_of(pager, &Child::Stored(*root), ino) {
        Some(path) => names::shown_bytes(&path),
        None => format!("<inode {}>", ino.0),
    }
}

/// True if a tree maps the block at `addr` at this place of a file.
pub(super) fn maps(pager: &Pager, remap: &Remap, root: &BlockPtr, ino: Ino, offset: u64, addr: u64) -> bool {
    let (floor, key) = (Key::new(ino.0, Kind::Extent, 0), Key::new(ino.0, Kind::Extent, offset));
    let found = tree::last_at_or_before(pager, &Child::Stored(*root), &key, &floor);
    let Ok(Some((at, value))) = found else { return false };
    let inside = offset - at.rest;
    Extent::decode(&value).is_ok_and(|e| {
        if inside >= e.len_bytes() {
            return false;
        }
        let part = if e.is_compressed() { e } else { e.slice(inside, BLOCK_BYTES) };
        let is_at = |p: &PlacedExtent<'_>| (p.addr()..p.addr() + p.extent().stored_bytes()).contains(&addr);
        remap.resolve(&part).iter().any(is_at)
    })
}

/// Names of `first` and of all views above it whose trees have something: `has` tells of a root. Oldest first.
pub(super) fn views(state: &Pinned, first: &ViewRecord, has: &dyn Fn(&BlockPtr) -> bool) -> Vec<String> {
    let mut found = Vec::new();
    collect(state, first, has, &mut found);
    found.sort_by_key(|v| (v.role == Role::Head, v.epoch, v.id));
    let mut names: Vec<String> = found.iter().map(|v| name(state, v)).collect();
    // Snapshots of an idle store: they have the trees of heads.
    let heads: Vec<_> = found.iter().enumerate().filter(|(_, v)| v.role == Role::Head).collect();
    for (at, head) in heads.into_iter().rev() {
        let pending = state.superblock.pending.iter().filter(|p| p.line == head.line);
        names.splice(at..at, pending.map(|p| names::shown_bytes(&p.name)));
    }
    names
}

/// `first` has it.
fn collect<'a>(
    state: &'a Pinned,
    first: &'a ViewRecord,
    has: &dyn Fn(&BlockPtr) -> bool,
    found: &mut Vec<&'a ViewRecord>,
) {
    let get = |id| state.history.get(id);
    let mut chain = vec![first];
    while let [only] = state.history.children(chain[chain.len() - 1].id)
        && let Some(view) = get(*only).filter(|v| v.role != Role::Hidden)
    {
        chain.push(view);
    }
    let alive = 1 + chain[1..].partition_point(|v| v.root.is_some_and(|root| has(&root)));
    found.extend(&chain[..alive]);
    if alive < chain.len() {
        return;
    }
    let mut above = state.history.children(chain[alive - 1].id).to_vec();
    while let Some(view) = above.pop().and_then(get) {
        if view.role == Role::Hidden {
            above.extend(state.history.children(view.id));
        } else if view.root.is_some_and(|root| has(&root)) {
            collect(state, view, has, found);
        }
    }
}

fn name(state: &Pinned, view: &ViewRecord) -> String {
    match view.role {
        Role::Head if view.line == LineId::MAIN => "<live>".into(),
        Role::Head => match state.lines.iter().find(|l| l.id == view.line) {
            Some(line) => format!("<clone {}>", names::shown_bytes(&line.name)),
            None => format!("<deleted {}>", view.id.0),
        },
        _ if view.line == LineId::NONE => format!("<deleted {}>", view.id.0),
        _ => names::shown_bytes(&view.name),
    }
}

/// How many files of a tree have items in one of these spans, and the paths of some. Reads the names in the whole tree:
/// those of the files in a lost leaf are with the directories that they are in.
pub(super) fn files(pager: &Pager, root: &BlockPtr, spans: &[Span]) -> (u64, Vec<String>) {
    let inside =
        |ino: Ino| spans.iter().any(|s| s.least.object <= ino.0 && s.end.is_none_or(|e| ino.0 <= e.object));
    let (mut count, mut paths) = (0, Vec::new());
    let bounds = Bounds { newer_than: Epoch(0), from: Key::MIN };
    // It cannot fail: the visitor never does.
    let _whole = scan(pager, root, bounds, &mut |met| {
        if let Met::Item(key, value) = met
            && key.kind == Kind::Dirent as u8
            && let Ok(bucket) = NameBucket::decode(value)
        {
            for entry in bucket.entries.iter().filter(|e| inside(e.ino)) {
                count += 1;
                if paths.len() < FILES_MAX {
                    let dir = path(pager, root, Ino(key.object));
                    paths.push(format!("{}/{}", dir.trim_end_matches('/'), names::shown_bytes(&entry.name)));
                }
            }
        }
        Ok(Step::Into)
    });
    (count, paths)
}
