//! The changes of two sides, held against each other.
//!
//! What was chosen. Content, attributes (with access lists) and extended attributes of an inode are one unit each; two
//! sides may have changed different ones of them, or the same one in the same way. Content is compared by its bytes where
//! both have written; what an earlier merge brought was not written. A time of modification alone is no reason to
//! contradict: it goes with the content, gives way to other attributes, and of two the later is taken, also where both
//! have written the same. Everything that is derived (times and link counts of directories, link counts, space) never
//! contradicts. Which side is which makes no difference to whether they contradict, nor to what comes out. A number is not enough to know a file by: of two stores that had a past in common each has given
//! out the same ones since. Where the source has another file than base or target it is taken over with a number of its own.

use super::conflict::{Conflict, ConflictEnd, ConflictKind};
use super::side::{Changed, Side, Touched, differs, has_same_content};
use crate::format::Ino;
use crate::format::inode::Inode;
use crate::fs::difference::{FileAt, Name, Paths, has_content, names_of};
use crate::fs::items::Items;
use crate::fs::transfer::{Aspects, Plan, Takeover};
use crate::ops::FileType;
use crate::volume::{View, VolumeError};
use std::collections::{BTreeMap, BTreeSet};

type Result<T> = std::result::Result<T, VolumeError>;

/// What became of it.
#[derive(Debug)]
pub enum Merged {
    /// The plan that brings to the target what the source has changed.
    Clean(Plan),
    /// They contradict: all in which they do, in the order of their paths.
    Conflicts(Vec<Conflict>),
}

/// Brings what `source` has changed since `base` to `target`, which has changed since as well. Costs what both have
/// changed.
pub fn three_way(base: &View, source: &View, target: &View) -> Result<Merged> {
    let mut found = ThreeWay {
        base,
        source: Side::of(base, source)?,
        target: Side::of(base, target)?,
        paths: [base, source, target].map(Paths::new),
        apart: BTreeMap::new(),
        plan: Plan::default(),
        conflicts: Vec::new(),
    };
    found.number_apart()?;
    for ino in found.source.inodes.keys().copied().collect::<Vec<_>>() {
        found.inode(ino)?;
    }
    found.entries()?;
    if found.conflicts.is_empty() {
        found.circles()?;
    }
    if found.conflicts.is_empty() {
        return Ok(Merged::Clean(found.plan));
    }
    let mut conflicts = found.conflicts;
    conflicts.sort_by(|a, b| (a.path(), a.kind).cmp(&(b.path(), b.kind)));
    conflicts.dedup();
    Ok(Merged::Conflicts(conflicts))
}

struct ThreeWay<'v> {
    base: &'v View,
    source: Side<'v>,
    target: Side<'v>,
    /// Of base, source and target.
    paths: [Paths<'v>; 3],
    /// Numbers of the source that are another file's in the base or the target, and what stands for them in the plan.
    apart: BTreeMap<Ino, Ino>,
    plan: Plan,
    conflicts: Vec<Conflict>,
}

/// Attributes of both ends of an inode that both sides have.
struct Pair {
    source: Inode,
    target: Inode,
}

impl ThreeWay<'_> {
    /// Finds the files of the source that are others than what has their number in the target.
    fn number_apart(&mut self) -> Result<()> {
        let added = self.source.inodes.iter().filter(|(_, touched)| touched.is_added());
        for (ino, touched) in added {
            // One without a name has its number still.
            let there = self.target.view.inode(*ino)?;
            let is_same = touched.now.as_ref().zip(there).is_none_or(|(now, there)| now.is_same_file(&there));
            if touched.is_another || !is_same {
                self.apart.insert(*ino, Ino(Plan::FRESH.0 + self.apart.len() as u64));
            }
        }
        Ok(())
    }

    /// What stands in the plan for a number of the source.
    fn own(&self, ino: Ino) -> Ino {
        self.apart.get(&ino).copied().unwrap_or(ino)
    }

    /// An inode that the source has touched.
    fn inode(&mut self, ino: Ino) -> Result<()> {
        let Some(touched) = self.source.inodes.get(&ino) else { return Ok(()) };
        let (was, is) = (touched.before.is_some(), touched.now.is_some() && !touched.is_another);
        if let Some(own) = self.apart.get(&ino) {
            self.plan.inodes.insert(*own, Takeover { from: ino, aspects: Aspects::ALL });
            if !was {
                return Ok(());
            }
        }
        let in_target = |touched: &Touched| touched.now.is_some() && !touched.is_another;
        let is_in_target = self.target.inodes.get(&ino).map_or(was, in_target);
        let contradicts = match (was, is, is_in_target) {
            (true, true, true) => return self.changed_by_source(ino),
            (false, true, true) => return self.new_in_both(ino),
            (false, true, false) => {
                self.take(ino, Aspects::ALL);
                false
            }
            (true, false, true) => is_kept_by(&self.target, ino)?,
            (true, true, false) => is_kept_by(&self.source, ino)?,
            (_, false, _) => false,
        };
        if contradicts { self.clash(ConflictKind::Removal, ino) } else { Ok(()) }
    }

    fn take(&mut self, ino: Ino, aspects: Aspects) {
        if aspects != Aspects::NOTHING {
            self.plan.inodes.insert(ino, Takeover { from: ino, aspects });
        }
    }

    /// What both sides have of an inode, if both have touched it.
    fn pair(&self, ino: Ino) -> Option<Pair> {
        let now = |side: &Side<'_>| side.inodes.get(&ino)?.now.clone();
        Some(Pair { source: now(&self.source)?, target: now(&self.target)? })
    }

    /// What is in the base and on both sides.
    fn changed_by_source(&mut self, ino: Ino) -> Result<()> {
        let changed = self.source.changed(ino)?;
        let Changed { attributes, xattrs, content, times } = changed;
        let mut take = Aspects { attributes: attributes || times, times: false, xattrs, content };
        if let Some(pair) = self.pair(ino) {
            let other = self.target.changed(ino)?;
            let [here, there] = self.ends(ino, &pair);
            let apart = differs(here, there, xattrs && other.xattrs)?;
            let (mut clashes, mut is_alike) = (Vec::new(), false);
            if attributes && other.attributes {
                clashes.extend(apart.attributes.then_some(ConflictKind::Attributes));
            }
            if xattrs && other.xattrs {
                take.xattrs = false;
                clashes.extend(apart.xattrs.then_some(ConflictKind::Xattrs));
            }
            if content && other.content {
                // What was written over with the same is no change.
                is_alike = has_same_content(here, there)?;
                take.content = !is_alike && self.source.has_other_content(ino)?;
                let both = take.content && self.target.has_other_content(ino)?;
                clashes.extend(both.then_some(ConflictKind::Content));
            }
            // A time alone gives way to other attributes, and the earlier one to the later one.
            let has_time = times
                && (!other.content || is_alike)
                && !apart.attributes
                && (!other.times || is_later(&pair));
            take.attributes = attributes && !other.attributes || has_time;
            // The same bytes may lie elsewhere: that they are the same is known here alone.
            take.times = is_alike && times && take.attributes && (!other.times || is_later(&pair));
            clashes.into_iter().try_for_each(|kind| self.clash(kind, ino))?;
            self.names(ino)?;
        }
        self.take(ino, take);
        Ok(())
    }

    /// What is on both sides and not in the base: an earlier merge has brought it over.
    fn new_in_both(&mut self, ino: Ino) -> Result<()> {
        let Some(pair) = self.pair(ino) else { return Ok(()) };
        let [here, there] = self.ends(ino, &pair);
        let apart = differs(here, there, true)?;
        let content = has_content(pair.source.kind) && !has_same_content(here, there)?;
        let clashes = [
            (content, ConflictKind::Content),
            (apart.attributes, ConflictKind::Attributes),
            (apart.xattrs, ConflictKind::Xattrs),
        ];
        for (_, kind) in clashes.into_iter().filter(|(is, _)| *is) {
            self.clash(kind, ino)?;
        }
        if apart.times && !apart.attributes && !content && is_later(&pair) {
            self.take(ino, Aspects { attributes: true, times: true, ..Aspects::NOTHING });
        }
        self.names(ino)
    }

    fn ends<'a>(&'a self, ino: Ino, pair: &'a Pair) -> [FileAt<'a>; 2] {
        [(self.source.view, &pair.source), (self.target.view, &pair.target)].map(|(view, inode)| FileAt {
            view,
            ino,
            inode,
        })
    }

    /// Whether both sides have dealt with the names of an inode so that it can be told where it is to be.
    fn names(&mut self, ino: Ino) -> Result<()> {
        let [Some(source), Some(target)] = [&self.source, &self.target].map(|side| side.inodes.get(&ino))
        else {
            return Ok(());
        };
        let set = |names: &[Name]| names.iter().cloned().collect::<BTreeSet<_>>();
        let [gone, also_gone] = [source, target].map(|touched| set(&touched.gone));
        let come: BTreeSet<Name> =
            source.come.iter().map(|(dir, name)| (self.own(*dir), name.clone())).collect();
        let also_come = set(&target.come);
        // Both have moved the same name away, or have given it to what is new: they must have meant the same.
        let both = source.before.is_none() || !gone.is_disjoint(&also_gone);
        let is_lost =
            !gone.is_empty() && !also_gone.is_empty() && come.is_empty() && also_come.is_empty() && {
                let left = names_of(self.base, ino)?;
                left.iter().all(|name| gone.contains(name) || also_gone.contains(name))
            };
        if is_lost || both && come != also_come { self.clash(ConflictKind::Names, ino) } else { Ok(()) }
    }

    /// Names of which at least one side says something else than the base.
    fn entries(&mut self) -> Result<()> {
        let (mut below, mut same_name) = (BTreeSet::new(), Vec::new());
        let mut wanted = Vec::new();
        for ((dir, name), (was, now)) in &self.source.entries {
            let (own, now) = (self.own(*dir), now.map(|ino| self.own(ino)));
            // What was in the directory of the base, if that is another now, and what is in this one.
            if own == *dir || was.is_some() {
                wanted.push(((*dir, name.clone()), now.filter(|_| own == *dir)));
            }
            if own != *dir && now.is_some() {
                wanted.push(((own, name.clone()), now));
            }
        }
        for (name, now) in &wanted {
            match self.target.entries.get(name) {
                Some((_, then)) if then == now => continue,
                Some(_) => same_name.push(name.clone()),
                None => drop(self.plan.entries.insert(name.clone(), *now)),
            }
            if now.is_some() && self.target.has_removed(name.0) {
                below.insert(name.0);
            }
        }
        let added = self.target.entries.iter().filter(|(_, (_, now))| now.is_some());
        let dirs = added.map(|(name, _)| name.0).filter(|dir| !self.target.has_another(*dir));
        below.extend(dirs.filter(|dir| self.source.has_removed(*dir)));
        below.into_iter().try_for_each(|dir| self.clash(ConflictKind::Below, dir))?;
        same_name.iter().try_for_each(|name| self.clash_of_name(name))
    }

    /// Directories that both sides have moved, so that one would be inside of itself.
    fn circles(&mut self) -> Result<()> {
        let moved = |side: &Side<'_>| -> Vec<Ino> {
            let moved = side.inodes.iter().filter(|(_, touched)| touched.moved_to().is_some());
            moved.map(|(ino, _)| *ino).collect()
        };
        // Each side by itself has none.
        if moved(&self.target).is_empty() {
            return Ok(());
        }
        for ino in moved(&self.source) {
            let circle = self.way_up(ino)?;
            if let Some(other) = circle.iter().find(|dir| self.is_moved_by_target(**dir)) {
                let [base, source] = [0, 1].map(|i| self.paths[i].first(ino));
                let conflict = Conflict {
                    kind: ConflictKind::Circle,
                    base: base?,
                    source: ConflictEnd { path: source?, did: vec!["moved"] },
                    target: ConflictEnd { path: self.paths[2].first(*other)?, did: vec!["moved"] },
                };
                self.conflicts.push(conflict);
            }
        }
        Ok(())
    }

    fn is_moved_by_target(&self, dir: Ino) -> bool {
        self.target.inodes.get(&dir).is_some_and(|touched| touched.moved_to().is_some())
    }

    /// The directories from one upwards as they would be, if they lead back to it.
    fn way_up(&self, dir: Ino) -> Result<Vec<Ino>> {
        let (mut at, mut way, mut seen) = (dir, Vec::new(), BTreeSet::new());
        while at != Ino::ROOT && seen.insert(at) {
            way.push(at);
            let touched = |side: &Side<'_>, ino: Ino| side.inodes.get(&ino).and_then(Touched::new_parent);
            // A number of its own is the source's alone; and the number that it has there is another's here.
            let apart = self.apart.iter().find(|(_, own)| **own == at).map(|(ino, _)| *ino);
            let here = apart.is_none().then_some(at);
            let there = apart.or(here.filter(|at| !self.apart.contains_key(at)));
            let parent = there.and_then(|ino| touched(&self.source, ino)).map(|parent| self.own(parent));
            let parent = match (parent.or_else(|| touched(&self.target, here?)), here) {
                (Some(parent), _) => Some(parent),
                (None, Some(at)) => self.target.view.inode(at)?.map(|inode| inode.parent),
                (None, None) => None,
            };
            let Some(parent) = parent else { break };
            at = parent;
        }
        if at != dir {
            way.clear();
        }
        Ok(way)
    }

    /// Both sides contradict each other about an inode.
    fn clash(&mut self, kind: ConflictKind, ino: Ino) -> Result<()> {
        let [base, source, target] = &mut self.paths;
        let conflict = Conflict {
            kind,
            base: base.first(ino)?,
            source: ConflictEnd { path: source.first(ino)?, did: self.source.deeds(ino)? },
            target: ConflictEnd { path: target.first(ino)?, did: self.target.deeds(ino)? },
        };
        self.conflicts.push(conflict);
        Ok(())
    }

    /// The same about what has a name.
    fn clash_of_name(&mut self, name: &Name) -> Result<()> {
        let was = self.base.find_name(name.0, &name.1)?.is_some();
        let [base, source, target] = &mut self.paths;
        let conflict = Conflict {
            kind: ConflictKind::SameName,
            base: if was { Some(base.of(name)?) } else { None },
            source: end_of_name(&self.source, source, name)?,
            target: end_of_name(&self.target, target, name)?,
        };
        self.conflicts.push(conflict);
        Ok(())
    }
}

fn end_of_name(side: &Side<'_>, paths: &mut Paths<'_>, name: &Name) -> Result<ConflictEnd> {
    let Some((was, is)) = side.entries.get(name) else { return Ok(ConflictEnd::default()) };
    let Some(is) = is else {
        let moved = was.and_then(|was| side.inodes.get(&was)).is_some_and(|touched| touched.now.is_some());
        return Ok(ConflictEnd { path: None, did: vec![if moved { "moved" } else { "removed" }] });
    };
    let is_new = side.inodes.get(is).is_some_and(Touched::is_added);
    let did = match (was, is_new) {
        (Some(_), _) => "replaced",
        (None, true) => "added",
        (None, false) => "moved",
    };
    Ok(ConflictEnd { path: Some(paths.of(name)?), did: vec![did] })
}

fn is_later(pair: &Pair) -> bool {
    let key = |inode: &Inode| (inode.mtime.secs, inode.mtime.nanos);
    pair.source.kind != FileType::Directory && key(&pair.source) > key(&pair.target)
}

/// True if a side has changed an inode, or has given it a name: so it did not want it removed.
fn is_kept_by(side: &Side<'_>, ino: Ino) -> Result<bool> {
    let Some(touched) = side.inodes.get(&ino) else { return Ok(false) };
    let changed = side.changed(ino)?;
    let other = changed.attributes || changed.xattrs || !touched.come.is_empty();
    Ok(other || changed.content && side.has_other_content(ino)?)
}
