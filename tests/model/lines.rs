//! The model of a store: its lines, and what happens between them.
//!
//! What is asked of a model is asked of the line at hand ([`Model::turn_to`]), as the commands of a shell mean its
//! directory: a model reads and writes like that [`Line`]. What several lines have to do with each other is here: they
//! begin as a snapshot is, show the snapshots from below it as their own, and go with those that were made of them.
//! Numbers, of inodes, snapshots and lines alike, are never reused. What is deleted is in `trash`.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::{Deref, DerefMut};
use std::sync::Arc;

use snapfs::ops::{Caller, Error};

use crate::merging::three_way;
use crate::reference::{
    self, Base, Body, Brought, Expect, Id, Inode, Line, Snapshot, Tree, Why, is_long, no, refuse_if,
};
use crate::trash::Trash;

/// How the names of guards begin that nobody has been told, because the power was cut first.
const UNKNOWN: &[u8] = b"@?";

/// Number of a line in the model.
pub type LineKey = u64;
/// The main line.
pub const MAIN: LineKey = 0;

/// The whole store.
#[derive(Clone)]
pub struct Model {
    pub(crate) lines: BTreeMap<LineKey, Arc<Line>>,
    at: LineKey,
    /// What was deleted first is first.
    pub(crate) trash: Vec<Trash>,
    /// Whether what is deleted gets there.
    pub keeps_trash: bool,
    /// The next number; the runner carries it over a crash.
    pub next: u64,
}

impl Deref for Model {
    type Target = Line;

    fn deref(&self) -> &Line {
        &self.lines[&self.at]
    }
}

impl DerefMut for Model {
    fn deref_mut(&mut self) -> &mut Line {
        Arc::make_mut(self.lines.get_mut(&self.at).expect("the line at hand exists"))
    }
}

impl Model {
    /// An empty store whose root has these attributes.
    pub fn new(mode: u32, uid: u32, gid: u32) -> Model {
        Model {
            lines: BTreeMap::from([(MAIN, Arc::new(Line::new(mode, uid, gid)))]),
            at: MAIN,
            trash: Vec::new(),
            keeps_trash: false,
            next: 2,
        }
    }

    /// The line at hand.
    pub fn at(&self) -> LineKey {
        self.at
    }

    /// Takes a line to hand; the main line if it is gone.
    pub fn turn_to(&mut self, line: LineKey) {
        self.at = if self.lines.get(&line).is_some_and(|line| !line.is_trashed) { line } else { MAIN };
    }

    /// All lines that are not in the trash, the main line first.
    pub fn lines(&self) -> impl ExactSizeIterator<Item = (LineKey, &Line)> + Clone {
        self.all_lines().filter(|(_, line)| !line.is_trashed).collect::<Vec<_>>().into_iter()
    }

    /// The same with those in the trash.
    pub(crate) fn all_lines(&self) -> impl Iterator<Item = (LineKey, &Line)> + Clone {
        self.lines.iter().map(|(key, line)| (*key, &**line))
    }

    /// The main line.
    pub fn main(&self) -> &Line {
        &self.lines[&MAIN]
    }

    /// A line that exists.
    pub fn line(&self, line: LineKey) -> &Line {
        &self.lines[&line]
    }

    /// The lines that are not as they were in `before`.
    pub fn changed_since<'a>(&'a self, before: &'a Model) -> impl Iterator<Item = LineKey> + 'a {
        let same = |key, line| before.lines.get(key).is_some_and(|old| Arc::ptr_eq(old, line));
        self.lines.iter().filter(move |(key, line)| !same(*key, *line)).map(|(key, _)| *key)
    }

    /// The line of that name.
    pub fn find_line(&self, name: &[u8]) -> Option<LineKey> {
        self.lines().find(|(_, line)| line.name == name).map(|(key, _)| key)
    }

    pub fn take_number(&mut self) -> u64 {
        self.next += 1;
        self.next - 1
    }

    /// Forgets files without names that `open` does not hold, in all lines; returns them.
    pub fn drop_orphans(&mut self, open: impl Fn(LineKey, Id) -> bool) -> Vec<(LineKey, Id)> {
        let mut gone = Vec::new();
        for (key, line) in &mut self.lines {
            let orphans = line.orphans(|id| open(*key, id));
            if !orphans.is_empty() {
                let line = Arc::make_mut(line);
                orphans.iter().for_each(|id| drop(line.live.remove(id)));
            }
            gone.extend(orphans.into_iter().map(|id| (*key, id)));
        }
        gone
    }

    /// mkdir, mknod, symlink and create.
    pub fn make(&mut self, caller: &Caller, dir: Id, name: &[u8], mode: u32, body: Body) -> Expect<Id> {
        let id = self.next;
        self.make_as(id, caller, dir, name, mode, body)?;
        Ok(self.take_number())
    }

    /// Between two files, each with its line. By a caller without privileges; as on Linux a range must not overlap itself.
    pub fn copy(
        &mut self,
        from: (LineKey, Id),
        at: u64,
        to: (LineKey, Id),
        to_at: u64,
        len: u64,
    ) -> Expect<u64> {
        let data = self.line(from.0).content(from.1).read(at, len);
        let len = data.len() as u64;
        refuse_if(&[(from == to && at < to_at + len && to_at < at + len, Error::Invalid)])?;
        self.copied(&data, to, to_at)
    }

    /// The same of bytes that are in no line.
    pub fn copied(&mut self, data: &[u8], to: (LineKey, Id), to_at: u64) -> Expect<u64> {
        if !data.is_empty() {
            let target = Arc::make_mut(self.lines.get_mut(&to.0).expect("a file's line exists"));
            target.write(to.1, to_at, data, true)?;
        }
        Ok(data.len() as u64)
    }

    /// The snapshots that a line shows, oldest first: what is left of those below it as it was made, and its own. Of several that have one
    /// name its own, else the newest.
    pub fn shown(&self, line: LineKey) -> Vec<(&[u8], &Snapshot)> {
        let inherited = &self.lines[&line].inherited;
        let all = self.all_lines().flat_map(|(of, l)| l.snapshots.iter().map(move |(name, s)| (of, name, s)));
        let mut shown: Vec<_> = all.filter(|(of, _, s)| *of == line || inherited.contains(&s.id)).collect();
        shown.sort_by_key(|(of, _, s)| (*of == line, s.id));
        let mut newest = BTreeMap::new();
        for (_, name, s) in shown {
            newest.insert(&name[..], s);
        }
        let mut shown: Vec<_> = newest.into_iter().collect();
        shown.sort_by_key(|(_, s)| s.id);
        shown
    }

    /// The snapshot that the line at hand shows under that name.
    pub fn find_snapshot(&self, name: &[u8]) -> Option<&Snapshot> {
        self.shown(self.at).into_iter().find(|(n, _)| *n == name).map(|(_, s)| s)
    }

    /// Refuses a name that a snapshot of the line at hand cannot get: `lines` are those that will show it.
    pub(crate) fn check_snapshot_name(&self, name: &[u8], lines: &[LineKey]) -> Expect<()> {
        let taken = lines.iter().any(|line| self.shown(*line).iter().any(|(n, _)| *n == name));
        refuse_if(&[
            (is_long(name), Error::NameTooLong),
            (is_long(name) || matches!(name.first(), None | Some(b'.' | b'@')), Error::Invalid),
            (taken, Error::Exists),
        ])
    }

    /// Keeps the line at hand.
    pub fn snap(&mut self, name: &[u8]) -> Expect<u64> {
        self.check_snapshot_name(name, &[self.at])?;
        let id = self.take_number();
        let (tree, past) = (Arc::new(self.live.clone()), self.past.clone());
        let snapshot = Snapshot { id, tree, past, why: Why::Asked, held: BTreeSet::new() };
        self.past.push(id);
        self.snapshots.insert(name.to_vec(), snapshot);
        Ok(id)
    }

    /// Fails unless the line at hand has a snapshot of its own under that name.
    pub(crate) fn own_snapshot(&self, name: &[u8]) -> Expect<u64> {
        match (self.snapshots.get(name), self.find_snapshot(name)) {
            (Some(own), _) => Ok(own.id),
            (None, Some(_)) => no(Error::NotPermitted),
            (None, None) => no(Error::NotFound),
        }
    }

    /// Deletes a snapshot of the line at hand, or has it in the trash.
    pub fn unsnap(&mut self, name: &[u8]) -> Expect<u64> {
        let id = self.own_snapshot(name)?;
        refuse_if(&[(!self.snapshots[name].held.is_empty(), Error::Busy)])?;
        let snapshot = self.snapshots.remove(name).expect("it is its own");
        if self.keeps_trash {
            self.trash_snapshot(name, snapshot);
        }
        Ok(id)
    }

    pub fn rename_snapshot(&mut self, name: &[u8], to: &[u8]) -> Expect<()> {
        let id = self.own_snapshot(name).map_err(|mut errors| {
            errors.extend(self.check_snapshot_name(to, &[]).err().into_iter().flatten());
            errors
        })?;
        self.check_snapshot_name(to, &self.shown_by(self.at, id))?;
        let snapshot = self.snapshots.remove(name).expect("checked");
        self.snapshots.insert(to.to_vec(), snapshot);
        Ok(())
    }

    /// The lines that show a snapshot of a line, or will when it is there again.
    pub(crate) fn shown_by(&self, line: LineKey, id: u64) -> Vec<LineKey> {
        let heirs = self.all_lines().filter(|(_, line)| line.inherited.contains(&id)).map(|(key, _)| key);
        heirs.chain([line]).collect()
    }

    /// Keeps the line at hand under a name of the system's own, or one that is not known; returns the number.
    pub fn guard(&mut self, name: Option<&[u8]>, why: Why) -> u64 {
        let id = self.take_number();
        let unknown = [UNKNOWN, id.to_string().as_bytes()].concat();
        let tree = Arc::new(self.live.clone());
        let guard = Snapshot { id, tree, past: self.past.clone(), why, held: BTreeSet::new() };
        self.past.push(id);
        self.snapshots.insert(name.unwrap_or(&unknown).to_vec(), guard);
        id
    }

    /// The line at hand becomes what a snapshot is, with a guard before.
    pub fn switch(&mut self, target: &Snapshot, name: Option<&[u8]>) -> u64 {
        let id = self.guard(name, Why::Switch);
        self.become_snapshot(target);
        id
    }

    /// A snapshot of a clone's own whose name another one has that a second line shows.
    pub fn name_of_both(&self, clone: LineKey, onto: LineKey) -> bool {
        !self.names_of_both(clone, onto).is_empty()
    }

    /// The same, of a name that nobody has given: such get others in a promotion.
    pub fn automatic_name_of_both(&self, clone: LineKey, onto: LineKey) -> bool {
        self.names_of_both(clone, onto).iter().any(|name| name.starts_with(b"@"))
    }

    fn names_of_both(&self, clone: LineKey, onto: LineKey) -> Vec<&[u8]> {
        let taken = self.shown(onto);
        let own = self.line(clone).snapshots.iter();
        own.filter(|(name, own)| taken.iter().any(|(other, s)| other == *name && s.id != own.id))
            .map(|(name, _)| &name[..])
            .collect()
    }

    /// The line at hand becomes what a clone is, which is no more, with a guard before.
    pub fn promote(&mut self, clone: LineKey, name: Option<&[u8]>) -> u64 {
        self.part_for_promotion(clone);
        let id = self.guard(name, Why::Switch);
        self.hand_over_trash(clone, self.at);
        let clone = self.lines.remove(&clone).expect("the runner names one that exists");
        self.live = reachable(&clone.live);
        self.past.clone_from(&clone.past);
        self.snapshots.extend(clone.snapshots.clone());
        id
    }

    /// With the names that guards have, given those of all snapshots of each line; none if there are others.
    pub fn with_known_guards(&self, names: impl Fn(&[u8]) -> Vec<Vec<u8>>) -> Option<Model> {
        let mut known = self.clone();
        for line in known.lines.values_mut() {
            let mut guards: Vec<_> =
                line.snapshots.iter().filter(|(name, _)| name.starts_with(UNKNOWN)).collect();
            if guards.is_empty() {
                continue;
            }
            guards.sort_by_key(|(_, s)| s.id);
            let guards: Vec<Vec<u8>> = guards.into_iter().map(|(name, _)| name.clone()).collect();
            let mut found = names(&line.name);
            found.retain(|name| !line.snapshots.contains_key(name));
            if found.len() != guards.len() {
                return None;
            }
            let line = Arc::make_mut(line);
            for (unknown, name) in guards.iter().zip(found) {
                let guard = line.snapshots.remove(unknown).expect("found");
                line.snapshots.insert(name, guard);
            }
        }
        Some(known)
    }

    /// The line at hand becomes what a snapshot that it shows is; numbers of inodes stay.
    pub fn roll_back(&mut self, name: &[u8]) {
        let snapshot = self.find_snapshot(name).expect("the runner names one that is shown").clone();
        self.become_snapshot(&snapshot);
    }

    /// The same, of a snapshot.
    pub fn become_snapshot(&mut self, snapshot: &Snapshot) {
        self.rebase_for_rollback(snapshot);
        self.live = reachable(&snapshot.tree);
        self.past = [&snapshot.past[..], &[snapshot.id]].concat();
    }

    /// The tree of the line at hand once all that a snapshot has is put back into it: what is open stays so.
    pub fn restored(&self, snapshot: &Snapshot) -> Tree {
        let mut tree = reachable(&snapshot.tree);
        for (id, inode) in &mut tree {
            let known = |i: &Inode| (i.mode, i.uid, i.gid, i.xattrs.clone(), i.body.clone());
            let is_same = self.live.get(id).is_some_and(|now| known(now) == known(inode));
            if inode.is_dir() && !is_same {
                Arc::make_mut(inode).mtime = None;
            }
        }
        for (id, inode) in &self.live {
            if !tree.contains_key(id) {
                let unnamed = Inode { links: 0, ..(**inode).clone() };
                tree.insert(*id, Arc::new(unnamed));
            }
        }
        tree
    }

    /// The guards of what can be taken back of the line at hand: before, and of a change at once after it.
    pub fn last_undoable(&self) -> Option<(&Snapshot, Option<&Snapshot>)> {
        let mut guards: Vec<_> = self.snapshots.values().filter(|s| s.why != Why::Asked).collect();
        guards.sort_by_key(|s| s.id);
        let last = guards.pop()?;
        match last.why {
            Why::Switch => Some((last, None)),
            // Of a change both have to be there.
            Why::Changed => {
                let before =
                    guards.pop().filter(|s| matches!(s.why, Why::Change(_)) && s.id + 1 == last.id)?;
                Some((before, Some(last)))
            }
            Why::Change(_) | Why::Asked => None,
        }
    }

    /// The tree of the line at hand once a change at once is taken back; none if it contradicts what has changed since.
    pub fn taken_back(&self, before: &Snapshot, after: &Snapshot) -> Option<Tree> {
        three_way(&after.tree, &before.tree, &self.live)
    }

    /// The tree of `to` with what `from` has changed since the base of a clone, if that has one; none in it if the sides
    /// contradict.
    pub fn merged(&self, clone: LineKey, from: LineKey, to: LineKey) -> Option<Option<Tree>> {
        let base = self.line(clone).base.as_ref()?;
        Some(three_way(&base.tree, &self.line(from).live, &self.line(to).live))
    }

    /// Has a clone be compared with what one side was that gave to the other, under that number: the next one is that of the
    /// guard of the other, if anything was brought over.
    pub fn bring_together(&mut self, clone: LineKey, [with, other]: [LineKey; 2], number: u64) {
        let tree = Arc::new(reachable(&self.line(with).live));
        let is_guarded = self.line(other).past.last() == Some(&(number + 1));
        let brought = Some(Brought { until: number + u64::from(is_guarded), by_merge: with == clone });
        self.line_mut(with).past.push(number);
        let clone = self.line_mut(clone);
        let before = clone.base.as_ref().map(|base| base.number);
        clone.base = Some(Base { number, tree, before, brought });
    }

    /// Has nothing be compared with that any more for having been brought together; what began as that stays.
    pub fn part(&mut self, number: u64) {
        for line in self.lines.values_mut() {
            let is_parted = |base: &Base| base.number == number && base.brought.is_some();
            if line.base.as_ref().is_some_and(is_parted) {
                Arc::make_mut(line).base = None;
            }
        }
    }

    /// To change a line that exists.
    pub(crate) fn line_mut(&mut self, line: LineKey) -> &mut Line {
        Arc::make_mut(self.lines.get_mut(&line).expect("the runner names one that exists"))
    }

    /// The line with which a merge compares one; none if any will do, for all are gone that it could be. What is in the trash
    /// is gone.
    pub(crate) fn compared_with(&self, line: LineKey) -> Option<LineKey> {
        let of = self.line(line);
        let is_there = |key: &LineKey| self.lines.get(key).is_some_and(|line| !line.is_trashed);
        let owner = |id: &u64| {
            let own = self.all_lines().find(|(_, line)| line.snapshots.values().any(|s| s.id == *id));
            let oldest = || self.all_lines().find(|(_, line)| line.past.contains(id));
            own.or_else(oldest).map(|(key, _)| key).filter(|key| *key != line && is_there(key))
        };
        let from = of.from.filter(is_there);
        from.or_else(|| of.past.iter().rev().find_map(owner))
    }

    /// Lines that are compared with that one since both were brought together so that this holds of it.
    fn brought_together_with(&self, line: LineKey, holds: impl Fn(&Base, Brought) -> bool) -> Vec<LineKey> {
        let holds =
            |of: &Line| of.base.as_ref().is_some_and(|base| base.brought.is_some_and(|b| holds(base, b)));
        let found = self
            .all_lines()
            .filter(|(key, of)| holds(of) && self.compared_with(*key).is_none_or(|with| with == line));
        found.map(|(key, _)| key).collect()
    }

    /// Has lines be compared with nothing any more.
    fn forget_bases(&mut self, of: Vec<LineKey>) {
        of.into_iter().for_each(|line| self.line_mut(line).base = None);
    }

    /// What the line at hand is compared with, and others with it, once it becomes what a snapshot is.
    fn rebase_for_rollback(&mut self, to: &Snapshot) {
        let lacks = |brought: Brought| to.id <= brought.until;
        self.forget_bases(self.brought_together_with(self.at, |_, brought| lacks(brought)));
        let base = self.base.as_ref();
        if self.inherited.contains(&to.id) {
            // It begins anew.
            let before = base.map(|base| base.number);
            if before != Some(to.id) {
                let tree = Arc::new(reachable(&to.tree));
                self.base = Some(Base { number: to.id, tree, before, brought: None });
            }
        } else if base.and_then(|base| base.brought).is_some_and(lacks) {
            self.base = None;
        }
    }

    /// The same once the line at hand becomes what a clone is: all goes from it that it had after what both have in common.
    fn part_for_promotion(&mut self, clone: LineKey) {
        let there = &self.line(clone).past;
        let common: Vec<u64> = self.past.iter().copied().filter(|id| there.contains(id)).collect();
        let last = common.iter().copied().max().unwrap_or(0);
        let lacks = |base: &Base, until: u64| last <= until && !common.contains(&base.number);
        let mut parted = self.brought_together_with(self.at, |base, brought| lacks(base, brought.until));
        parted.retain(|line| *line != clone);
        let until = |base: &Base| base.brought.map_or(base.number, |brought| brought.until);
        if self.base.as_ref().is_some_and(|base| lacks(base, until(base))) {
            parted.push(self.at);
        }
        self.forget_bases(parted);
    }

    /// The same once a line goes: what was merged into it is nowhere else, but for what it had when it was merged itself.
    pub(crate) fn part_for_end(&mut self, line: LineKey) {
        let merged_at = |base: &Base| base.brought.filter(|b| b.by_merge).map(|_| base.number);
        let kept = self.line(line).base.as_ref().and_then(merged_at).unwrap_or(0);
        self.forget_bases(
            self.brought_together_with(line, |base, _| merged_at(base).is_some_and(|at| at > kept)),
        );
    }

    /// A line that begins as a snapshot is, which exists: none of its files without names.
    pub fn fork(&mut self, name: &[u8], from: u64) -> Expect<LineKey> {
        refuse_if(&[(self.find_line(name).is_some(), Error::Exists)])?;
        let all = self.all_lines().flat_map(|(key, line)| line.snapshots.values().map(move |s| (key, s)));
        let (of, snapshot) =
            all.into_iter().find(|(_, s)| s.id == from).expect("the runner names one that exists");
        let past = [&snapshot.past[..], &[from]].concat();
        let live = reachable(&snapshot.tree);
        Ok(self.add_line(name, live, past, of, from))
    }

    /// A line that begins as the one at hand is: none of its files without names. Between the two is a new point, or, if
    /// nothing has changed since, the newest.
    pub fn clone_line(&mut self, name: &[u8], newest: Option<u64>) -> Expect<LineKey> {
        refuse_if(&[(self.find_line(name).is_some(), Error::Exists)])?;
        let point = newest.unwrap_or_else(|| {
            let point = self.take_number();
            self.past.push(point);
            point
        });
        Ok(self.add_line(name, reachable(&self.live), self.past.clone(), self.at, point))
    }

    fn add_line(&mut self, name: &[u8], live: Tree, past: Vec<u64>, from: LineKey, number: u64) -> LineKey {
        let (name, snapshots, inherited) = (name.to_vec(), BTreeMap::new(), past.clone());
        let key = self.take_number();
        let base = Some(Base { number, tree: Arc::new(live.clone()), before: None, brought: None });
        let line = Line { name, live, snapshots, inherited, past, from: Some(from), base, is_trashed: false };
        self.lines.insert(key, Arc::new(line));
        key
    }

    /// Deletes a line with its snapshots, or has it in the trash. Lines that were made of these stay.
    pub fn drop_line(&mut self, line: LineKey) -> Expect<()> {
        refuse_if(&[(line == MAIN, Error::Stale), (self.line(line).is_held(), Error::Busy)])?;
        self.part_for_end(line);
        if self.keeps_trash {
            self.trash_line(line);
            self.turn_to(self.at);
        } else {
            self.drop_merged(line);
        }
        Ok(())
    }

    /// The same of a clone of which all is in another line: it goes for good, with what of it is in the trash.
    pub fn drop_merged(&mut self, clone: LineKey) {
        self.forget_trash_of(clone);
        self.lines.remove(&clone);
        self.turn_to(self.at);
    }

    pub fn rename_line(&mut self, line: LineKey, name: &[u8]) -> Expect<()> {
        refuse_if(&[(line == MAIN, Error::Stale), (self.find_line(name).is_some(), Error::Exists)])?;
        Arc::make_mut(self.lines.get_mut(&line).expect("the runner names one that exists")).name =
            name.to_vec();
        Ok(())
    }
}

/// A tree without what has no name.
pub fn reachable(tree: &Tree) -> Tree {
    let mut tree = tree.clone();
    let named: std::collections::BTreeSet<Id> = reference::paths(&tree).into_values().collect();
    tree.retain(|id, _| named.contains(id));
    tree
}
