//! Restore: what was, once more, in the line as it is.
//!
//! Paths are looked up by name in both views. Onto itself, a path becomes what it was; elsewhere, it is copied with numbers
//! of its own. Blocks are shared in either case.

use super::difference::{PathChange, Paths, difference};
use super::file_system::Fs;
use super::heads::{Head, Target, target};
use super::names::check_new_name;
use super::transfer::{
    ChangeOrder, CopyOf, Done, Refusal, Settled, Sides, TakenFrom, between, change_at_once, copy_into,
    follow, put_back, rehearse_at_once,
};
use crate::format::Ino;
use crate::format::provenance::Provenance;
use crate::ops::{Error, NodeId, Result};
use crate::volume::{SnapshotInfo, View};
use std::sync::Arc;

/// A path as somebody names it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct NamedPath {
    /// A directory that is there: of a line, of a snapshot, or a `.snapshots`.
    pub at: NodeId,
    /// Names from there on, which may not be there.
    pub below: Vec<Vec<u8>>,
    /// What a copy of it is called.
    pub name: Vec<u8>,
}

/// What is to be restored.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct RestoreOrder {
    /// Paths of one line, or of one of its snapshots.
    pub paths: Vec<NamedPath>,
    /// The word for the view that they are taken from; none if the paths are of a snapshot.
    pub from: Option<Vec<u8>>,
    /// The directory that copies go into; none if the paths become what they were.
    pub to: Option<NodeId>,
}

/// What was restored.
pub struct Restored {
    /// What has changed, by path from the root of the line.
    pub changes: Vec<PathChange>,
    /// The line before and after; none if nothing has changed.
    pub guards: Option<(SnapshotInfo, SnapshotInfo)>,
}

impl Restored {
    /// Nothing was to be changed.
    pub(super) fn nothing() -> Restored {
        Restored { changes: Vec::new(), guards: None }
    }

    /// What a change at once has changed, by its guards. It is done, whatever there is to be told of it.
    pub(super) fn told(done: Done) -> Restored {
        let [before, after] = &done.views;
        let changes = difference(before, after, None).unwrap_or_else(|e| {
            log::warn!("what a change at once has changed cannot be told: {e}");
            Vec::new()
        });
        Restored { changes, guards: Some((done.before, done.after)) }
    }
}

/// From where, as it was found.
enum Origin {
    /// A line as it is.
    Line(Arc<Head>),
    /// A snapshot.
    Snapshot(Arc<View>),
}

/// A path as a list of names from the root of its line.
type Names = Vec<Vec<u8>>;

/// Paths, and where they are taken from.
struct Found {
    line: Arc<Head>,
    paths: Vec<Names>,
    from: Origin,
}

impl Fs {
    /// Restores paths, all or none: durable when this returns.
    pub fn restore(
        &self,
        order: &RestoreOrder,
        provenance: &Provenance,
    ) -> std::result::Result<Restored, Refusal> {
        let done = self
            .with_restore(order, provenance, |change, settle| change_at_once(&self.past, change, settle))?;
        Ok(done.map_or_else(Restored::nothing, Restored::told))
    }

    /// Makes the line that a node is of, all of it, what a snapshot is; nothing if it is that already.
    pub fn restore_line(
        &self,
        at: NodeId,
        view: &Arc<View>,
        provenance: &Provenance,
    ) -> std::result::Result<Option<Done>, Refusal> {
        let head = self.heads.at(at)?;
        let order = ChangeOrder { head: &head, other: None, provenance };
        change_at_once(&self.past, &order, &mut |sides| {
            let plan = between(sides.target, view)?;
            Ok(Some(Settled { plan, source: TakenFrom::View(view.clone()), base: None }))
        })
    }

    /// What a restore would change.
    pub fn rehearse_restore(
        &self,
        order: &RestoreOrder,
        provenance: &Provenance,
    ) -> std::result::Result<Vec<PathChange>, Refusal> {
        self.with_restore(order, provenance, |change, settle| rehearse_at_once(&self.past, change, settle))
    }

    fn with_restore<T>(
        &self,
        order: &RestoreOrder,
        provenance: &Provenance,
        act: impl FnOnce(
            &ChangeOrder<'_>,
            &mut dyn FnMut(&Sides<'_>) -> Result<Option<Settled>>,
        ) -> std::result::Result<T, Refusal>,
    ) -> std::result::Result<T, Refusal> {
        let found = self.find_paths(order)?;
        let head = match order.to {
            Some(dir) => self.heads.target(dir)?.0,
            None => found.line.clone(),
        };
        if let Some(dir) = order.to {
            for (path, named) in found.paths.iter().zip(&order.paths) {
                let checked = check_new_name(&self.heads, Ino(dir.ino()), &named.name);
                checked.map_err(|e| Refusal::Path(path.join(&b'/'), e))?;
            }
        }
        let other = match &found.from {
            Origin::Line(other) => Some(other).filter(|other| other.line != head.line),
            Origin::Snapshot(_) => None,
        };
        let change = ChangeOrder { head: &head, other, provenance };
        // The path that something is wrong with.
        let mut at = None;
        let done = act(&change, &mut |sides| {
            let (source, from) = match &found.from {
                Origin::Snapshot(view) => (&**view, TakenFrom::View(view.clone())),
                Origin::Line(_) => match sides.other {
                    Some(other) => (other, TakenFrom::Other),
                    None => (sides.target, TakenFrom::Target),
                },
            };
            for path in &found.paths {
                at = Some(path.clone());
                follow(source, path)?.ok_or(Error::NotFound)?;
            }
            let plan = match order.to {
                None => put_back(sides.target, source, &found.paths, &mut at)?,
                Some(dir) => {
                    let copies = found.paths.iter().zip(&order.paths);
                    let copies =
                        copies.map(|(path, named)| CopyOf { path: path.clone(), name: named.name.clone() });
                    copy_into(sides.target, Ino(dir.ino()), source, &copies.collect::<Vec<_>>(), &mut at)?
                }
            };
            at = None;
            Ok(Some(Settled { plan, source: from, base: None }))
        });
        match (done, at) {
            (Err(Refusal::Failed(e)), Some(path)) => Err(Refusal::Path(path.join(&b'/'), e)),
            (done, _) => done,
        }
    }

    /// Finds out which paths of which line are meant, and from which view they are to be taken.
    fn find_paths(&self, order: &RestoreOrder) -> std::result::Result<Found, Refusal> {
        let mut found: Option<Found> = None;
        for named in &order.paths {
            let (path, line, word) = self.find_path(named)?;
            let from = match (&order.from, &word) {
                (Some(word), None) | (None, Some(word)) => Some(word),
                _ => None,
            };
            let word = from.ok_or(Refusal::Failed(Error::Invalid))?;
            match &mut found {
                Some(found) if found.line.line != line.line => return Err(Error::CrossView.into()),
                Some(found) => found.paths.push(path),
                None => {
                    let at = line.node(Ino::ROOT);
                    let view = || self.past.view_of_word(at, word).map(Origin::Snapshot);
                    let from = match self.past.head_of_word(at, word) {
                        Ok(Some(head)) => Ok(Origin::Line(head)),
                        Ok(None) => view(),
                        Err(e) => Err(e),
                    };
                    let from = from.map_err(|e| Refusal::View(word.clone(), e))?;
                    found = Some(Found { line, paths: vec![path], from });
                }
            }
        }
        found.ok_or(Refusal::Failed(Error::Invalid))
    }

    /// A path from the root of its line; with the word for the snapshot that it leads through.
    fn find_path(&self, named: &NamedPath) -> Result<(Names, Arc<Head>, Option<Vec<u8>>)> {
        let (at, head) = (target(named.at), self.heads.at(named.at)?);
        let (view, dir, word, below) = match (at, named.below.split_first()) {
            (Target::Live(ino), _) => (Arc::new(self.heads.view(&head)?), ino, None, &named.below[..]),
            (Target::Snapshot(slot, ino), _) => {
                let info = self.volume().snapshot_by_slot(slot).ok_or(Error::Stale)?;
                (self.heads.snapshot_at(slot)?, ino, Some(info.name), &named.below[..])
            }
            (Target::Snapdir(ino), Some((word, below))) => {
                (Arc::new(self.heads.view(&head)?), ino, Some(word.clone()), below)
            }
            _ => return Err(Error::Invalid),
        };
        let way = Paths::new(&view).directory(dir)?;
        let names = way.split(|byte| *byte == b'/').filter(|name| !name.is_empty()).map(<[u8]>::to_vec);
        Ok((names.chain(below.iter().cloned()).collect(), head, word))
    }
}
