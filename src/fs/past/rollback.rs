//! Rollback: a line gets a head that begins as one of its snapshots, while it is mounted and in use.
//!
//! What was open before is stale from then on, file by file and handle by handle; directories go on in the new head. In this
//! order, because a kernel knows a file by its number and by the generation of the head together, and can be told to drop
//! pages only of the one that it knows by a number now:
//!
//! 1. The kernel hands over what it holds of writers, and what is delayed goes to the device.
//! 2. All handles of files are refused changes, and the kernel drops the pages of what they are of: what it writes back for
//!    that is refused. No lock is held that a request needs. Whoever opens a file meanwhile comes next, in a further round; if he
//!    writes it, and is to be spared, that was all, and nobody who reads has noticed anything. If writers are cut off, reads
//!    are refused from here on too: they would miss what was refused.
//! 3. When nobody has opened one any more all handles are stale, and pages are dropped once more. Then, between two answers, when nobody has a file open any more: the guard and the new head, in one record.
//! 4. The kernel takes in what it was answered before, asks anew for each name of the line, and drops what it has of
//!    directories. Whatever fails then, the rest of this is done. Nobody freezes the line until then.
//!
//! A failure before 3 leaves the handles as they were. Nothing is walked: the cost is that of what the kernel knows.
//! A promotion, by which a line gets what a clone has, goes the same way for both (see `promote`).

use super::clonedir::{MAIN_CLONEDIR, path_of};
use super::snapdir::{OneAtATime, Past};
use super::underway::Cover;
use crate::format::dirent::NameBucket;
use crate::format::line::LineRecord;
use crate::format::provenance::Provenance;
use crate::format::view::Consistency;
use crate::format::{Ino, Key, Kind, LineId, ViewId};
use crate::fs::error::damaged;
use crate::fs::heads::{Head, Stale};
use crate::fs::items::{name_of, path_bytes};
use crate::ops::{Error, MountBelow, NodeId, Result};
use crate::volume::{NewSnapshot, Prepare, ReserveFor, SnapshotInfo, View, VolumeError};
use std::cell::OnceCell;
use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Makes a guard and gives its line another head; what is held back comes in by the second argument.
type Exchange<'e> =
    &'e mut dyn FnMut(&NewSnapshot<'_>, Prepare<'_>) -> std::result::Result<ViewId, VolumeError>;

/// A head, and files of it that are open for writing.
type Written<'h> = (&'h Arc<Head>, Vec<NodeId>);

/// Rounds in which files that were opened meanwhile are made stale before the head goes, at most; those of the last are made
/// stale when it has gone.
const ROUNDS_MAX: usize = 16;
/// More delayed content than this is put onto the device before anybody has to wait.
const DELAYED_BYTES_MIN: u64 = 1 << 20;

/// What stands in the way of a rollback.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct InTheWay {
    /// Files that are open for writing: their nodes, and their paths from the root of the mount if they have one.
    pub written: Vec<(NodeId, Option<Vec<u8>>)>,
    /// Where other file systems are mounted in the line.
    pub mounts: Vec<PathBuf>,
    /// Where trials that go on cover the line on a name of it.
    pub covers: Vec<Cover>,
}

impl InTheWay {
    /// True if there is nothing.
    pub fn is_empty(&self) -> bool {
        self.written.is_empty() && self.mounts.is_empty() && self.covers.is_empty()
    }
}

/// What becomes of files that are open for writing.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum OpenForWriting {
    /// They stand in the way.
    Spared,
    /// Whoever writes them gets an error from then on.
    CutOff,
}

/// How a rollback has ended.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Switched {
    /// It is done; this is the guard.
    Done(SnapshotInfo),
    /// Nothing was done.
    Refused(InTheWay),
}

impl Past {
    /// What stands in the way of other heads for these lines now.
    pub fn in_the_way(&self, cut: &[Arc<Head>]) -> Result<InTheWay> {
        let (heads, mut found) = (&self.commits.heads, InTheWay::default());
        for head in cut {
            found.written.extend(self.with_paths(head, heads.handles.written(head))?);
            found.mounts.extend(self.mounts_below(head)?.into_iter().map(|mount| mount.point));
            found.covers.extend(self.covers_on(head)?);
        }
        found.mounts.sort_unstable();
        found.mounts.dedup();
        found.covers.dedup();
        Ok(found)
    }

    /// What is mounted below the root of a line.
    pub(super) fn mounts_below(&self, head: &Head) -> Result<Vec<MountBelow>> {
        let found = self.commits.heads.kernel().mounts_below(&self.place_of(head)?);
        found.map_err(|e| Error::Io(format!("what is mounted below cannot be read: {e}")))
    }

    /// Files with their paths from the root of the mount.
    fn with_paths(&self, head: &Head, files: Vec<NodeId>) -> Result<Vec<(NodeId, Option<Vec<u8>>)>> {
        let (view, place) = (self.commits.heads.view(head)?, self.place_of(head)?);
        let path = |node: NodeId| path_bytes(&view, Ino(node.ino())).map(|way| below(&place, &way));
        Ok(files.into_iter().map(|node| (node, path(node))).collect())
    }

    /// What stands in the way, if it forbids that.
    fn refusal(&self, cut: &[Arc<Head>], writers: OpenForWriting) -> Result<Option<InTheWay>> {
        let found = self.in_the_way(cut)?;
        let is_below = !found.mounts.is_empty() || !found.covers.is_empty();
        let forbids = is_below || (writers == OpenForWriting::Spared && !found.is_empty());
        Ok(forbids.then_some(found))
    }

    /// The path of the root of a line in the mount.
    fn place_of(&self, head: &Head) -> Result<Vec<u8>> {
        let heads = &self.commits.heads;
        if head.node(Ino::ROOT) == NodeId::ROOT {
            return Ok(Vec::new());
        }
        Ok(path_of(&heads.volume.line(head.line)?.name))
    }

    /// Gives a line a head that begins as a snapshot that it shows; durable when this returns. What the line has now stays
    /// as an automatic snapshot, and newer snapshots stay too. Everything whose `write` returned before the call is in the
    /// guard. On an error, and if it is refused, nothing is left.
    pub fn roll_back(
        &self,
        line: LineId,
        to: ViewId,
        writers: OpenForWriting,
        why: &Provenance,
    ) -> Result<Switched> {
        self.have_room_to_switch(line)?;
        let _kept = self.under_way.keep_covers();
        self.roll_back_held(self.one_at_a_time(), line, to, writers, why)
    }

    /// Before a line gets another head: room for that, and for what the kernel holds of it. Called with nothing held.
    pub(super) fn have_room_to_switch(&self, line: LineId) -> Result<()> {
        let heads = &self.commits.heads;
        heads.check_writable()?;
        let now: Vec<_> = heads.of_line(&heads.volume.line(line)?).into_iter().collect();
        self.have_room_ahead(ReserveFor::Record, &now)
    }

    /// The same for whoever keeps others from the snapshots already, and covers of trials before.
    pub(super) fn roll_back_held(
        &self,
        held: OneAtATime<'_>,
        line: LineId,
        to: ViewId,
        writers: OpenForWriting,
        why: &Provenance,
    ) -> Result<Switched> {
        let heads = &self.commits.heads;
        heads.check_writable()?;
        let head = heads.of_line(&heads.volume.line(line)?).ok_or(Error::Stale)?;
        let name = self.automatic_name(&head, why.reason)?;
        let cut = std::slice::from_ref(&head);
        let switched = self.switch(held, cut, writers, (&name, why), &mut |guard, prepare| {
            let switched = &mut |line: &LineRecord| heads.replace(line);
            heads.volume.rollback_with_guard(head.line, to, guard, prepare, switched)
        });
        let (switched, durable) = switched?;
        durable.map(|()| switched)
    }

    /// Gives the first of these lines another head, by `exchange`, which makes a guard of that name; what there is of the
    /// others goes with it. How it went, and whether that is durable.
    pub(super) fn switch(
        &self,
        held: OneAtATime<'_>,
        cut: &[Arc<Head>],
        writers: OpenForWriting,
        guard: (&[u8], &Provenance),
        exchange: Exchange<'_>,
    ) -> Result<(Switched, Result<()>)> {
        // Until the kernel knows: it locks directories as it is told, and who waits for a thaw may have one locked. The way to a clone
        // is in the line at the root, unless that is frozen already, which forbids nothing here.
        let heads = &self.commits.heads;
        let _thawed = cut.iter().map(|head| heads.keep_thawed(head)).collect::<Result<Vec<_>>>()?;
        let _way = heads.frosts.hand_over(NodeId::ROOT.tree());
        if let Some(refused) = self.refusal(cut, writers)? {
            return Ok((Switched::Refused(refused), Ok(())));
        }
        // A line keeps its name meanwhile.
        let place = self.place_of(&cut[0])?;
        self.settle(cut)?;
        self.commits.have_room_for_records(ReserveFor::Record)?;
        let done = self.cut_off(cut, writers, &mut || self.exchange(cut, guard, &mut *exchange))?;
        let (guard, doubted) = match done {
            Ok(done) => done,
            Err(refused) => return Ok((Switched::Refused(refused), Ok(()))),
        };
        let volume = &heads.volume;
        // As long as nobody can delete or drop them.
        let (info, new) = (volume.snapshot_info(guard), volume.live(cut[0].line));
        let views = volume.snapshot(guard).and_then(|old| Ok((old, new?)));
        drop(held); // whoever waits for it may have locked a directory in which names are dropped now
        let durable = self.commits.sync_what_is_done();
        self.show_anew(&cut[0], &place, views.map_err(Error::from), doubted);
        Ok((Switched::Done(info.ok_or(Error::Stale)?), durable))
    }

    /// Has what the kernel and the heads hold back of them on the device, but for what comes meanwhile.
    fn settle(&self, cut: &[Arc<Head>]) -> Result<()> {
        cut.iter().try_for_each(|head| self.write_back(head))?;
        let delayed: u64 = cut.iter().map(|head| head.delayed_bytes()).sum();
        if delayed >= DELAYED_BYTES_MIN { self.commits.commit() } else { Ok(()) }
    }

    /// Does `exchange` when no file of these heads is open any more but through handles that are stale. With nothing done, who
    /// writes one and is to be spared.
    fn cut_off<T>(
        &self,
        cut: &[Arc<Head>],
        writers: OpenForWriting,
        exchange: &mut dyn FnMut() -> Result<T>,
    ) -> Result<std::result::Result<T, InTheWay>> {
        let (handles, kernel) = (&self.commits.heads.handles, self.commits.heads.kernel());
        let is_quiet = || !cut.iter().any(|head| handles.has_files(head));
        let make_stale = |stale| -> std::result::Result<Vec<NodeId>, Written<'_>> {
            let mut nodes = Vec::new();
            for head in cut {
                nodes.extend(match writers {
                    OpenForWriting::Spared => {
                        handles.make_stale_unless_written(head, stale).map_err(|written| (head, written))?
                    }
                    OpenForWriting::CutOff => handles.make_stale(head, stale),
                });
            }
            Ok(nodes)
        };
        let (mut done, mut late) = (None, Ok(Vec::new()));
        // Whoever only reads goes on as long as something may still be in the way. What a kernel has yet to write back is lost when
        // changes are refused: where somebody writes, nobody may read what is there without that.
        let may_be_refused = writers == OpenForWriting::Spared && !is_quiet();
        let mut stale = if may_be_refused { Stale::Changes } else { Stale::All };
        for round in 1..=ROUNDS_MAX {
            match make_stale(stale) {
                Ok(nodes) => nodes.into_iter().for_each(|node| kernel.drain(node)),
                Err(written) => {
                    late = Err(written);
                    break;
                }
            }
            self.commits.between_answers(&mut || {
                if round < ROUNDS_MAX {
                    if !is_quiet() {
                        return;
                    }
                    if stale < Stale::All {
                        stale = Stale::All;
                        return;
                    }
                } else {
                    late = make_stale(Stale::All);
                }
                done = late.is_ok().then(&mut *exchange);
            });
            if let Ok(nodes) = &mut late {
                nodes.drain(..).for_each(|node| kernel.drain(node));
            }
            if done.is_some() || late.is_err() {
                break;
            }
        }
        if !matches!(done, Some(Ok(_))) {
            cut.iter().for_each(|head| handles.make_good(head));
        }
        match (done, late) {
            (Some(done), _) => done.map(Ok),
            (None, Err((head, written))) => {
                Ok(Err(InTheWay { written: self.with_paths(head, written)?, ..InTheWay::default() }))
            }
            (None, Ok(_)) => Err(Error::Busy), // the last round ends one way or the other
        }
    }

    /// The guard and the new head, at one instant, with commits held off. True if the kernel asks anew for all names of the mount.
    fn exchange(
        &self,
        cut: &[Arc<Head>],
        (name, why): (&[u8], &Provenance),
        exchange: Exchange<'_>,
    ) -> Result<(ViewId, bool)> {
        let heads = &self.commits.heads;
        let (closed, now) = (OnceCell::new(), heads.clock.now());
        let pause_ns = || closed.get().map_or(Duration::ZERO, Instant::elapsed).as_nanos() as u64;
        let guard = NewSnapshot {
            name,
            created: (now.secs, now.nanos),
            consistency: Consistency::FileSystem,
            provenance: why,
            pause_ns: &pause_ns,
            identity: None,
        };
        let note_closed = &mut |at| closed.set(at).expect("changes are held up once");
        let guard = self.commits.complete(cut, note_closed, &mut |prepare| exchange(&guard, prepare))?;
        // A clone's rollback is no business of others: they keep what they know.
        let is_top = cut[0].node(Ino::ROOT) == NodeId::ROOT;
        // Nor are those on whose names a trial covers something.
        let all = is_top && self.under_way.covers().is_empty();
        Ok((guard, all && heads.kernel().doubt_all_names()))
    }

    /// Has the kernel forget what it knows of the tree of a head that is no more, by the line as it was and as it is. The line
    /// is that by now: what cannot be found out for this is left out.
    fn show_anew(&self, gone: &Head, place: &[u8], views: Result<(Arc<View>, View)>, doubted: bool) {
        let heads = &self.commits.heads;
        let (kernel, root) = (heads.kernel(), gone.node(Ino::ROOT));
        let known: BTreeSet<NodeId> =
            heads.known_dirs.of_tree(root.tree()).into_iter().chain([root]).collect();
        let known: Vec<NodeId> = known.into_iter().collect();
        let views = views.inspect_err(|e| log::warn!("the kernel may know a line as it was for longer: {e}"));
        let inos = || known.iter().map(|dir| Ino(dir.ino())).filter(|ino| *ino != Ino::ROOT);
        // Names that are linked from an answer of before count as asked for now.
        kernel.take_in(&known);
        if !(doubted && kernel.doubt_all_names()) {
            // With a name goes what is below and nobody has in use.
            if root == NodeId::ROOT {
                let names: BTreeSet<_> = match &views {
                    Ok((old, new)) => names_in_root(old).into_iter().chain(names_in_root(new)).collect(),
                    Err(_) => BTreeSet::new(),
                };
                kernel.drop_names(names.iter().map(|name| (root, name.clone())).collect());
                names.iter().for_each(|name| kernel.look_up(name));
            } else {
                self.settle_covers();
                // Whatever name it has by now.
                let line = heads.volume.line(gone.line).map(|line| line.name);
                let names = [place.strip_prefix(&path_of(b"")[..]).map(<[u8]>::to_vec), line.ok()];
                let names: BTreeSet<_> = names.into_iter().flatten().collect();
                kernel.drop_names(names.iter().map(|name| (MAIN_CLONEDIR, name.clone())).collect());
                kernel.look_up(place);
            }
            // What is in use keeps its place, and is looked for there.
            let named = |old: &View| inos().filter_map(|ino| name_of(old, ino)).collect::<Vec<_>>();
            let named = views.as_ref().map_or_else(|_| Vec::new(), |(old, _)| named(old));
            let named: Vec<_> =
                named.into_iter().map(|(parent, name)| (root.sibling(parent.0), name)).collect();
            kernel.doubt_names(&named);
        }
        known.iter().for_each(|dir| kernel.drain(*dir));
        if let Ok((old, new)) = &views {
            // Whoever stands in a directory that was moved finds it where it is now.
            let moved = moved_among(&known, old, new).into_iter();
            moved.filter_map(|ino| path_bytes(new, ino)).for_each(|way| kernel.look_up(&below(place, &way)));
        }
        self.forget_snapdirs();
        if root == NodeId::ROOT {
            self.forget_clonedir();
        }
    }
}

/// Those of these directories, but for roots, that have another name in the one view than in the other. They are looked up one
/// by one only if more than that differs in all between the two.
fn moved_among(dirs: &[NodeId], old: &View, new: &View) -> Vec<Ino> {
    let all: BTreeSet<Ino> = dirs.iter().map(|dir| Ino(dir.ino())).filter(|ino| *ino != Ino::ROOT).collect();
    let mut relinked = BTreeSet::new();
    let is_link = |key: &Key| key.kind == Kind::Link as u8;
    let mut left = all.len();
    for item in old.diff(new, &Key::MIN, &Key::MAX) {
        match item {
            Ok(item) if left > 0 => {
                relinked.extend(Some(item.key).filter(is_link).map(|key| Ino(key.object)))
            }
            _ => {
                relinked.clone_from(&all);
                break;
            }
        }
        left -= 1;
    }
    all.intersection(&relinked).copied().filter(|ino| name_of(old, *ino) != name_of(new, *ino)).collect()
}

/// The path of something in a line whose root is there.
fn below(place: &[u8], way: &[u8]) -> Vec<u8> {
    if place.is_empty() { way.to_vec() } else { [place, b"/", way].concat() }
}

/// Names in the root of a view, those that can be read.
fn names_in_root(view: &View) -> Vec<Vec<u8>> {
    let (from, to) = (Key::new(Ino::ROOT.0, Kind::Dirent, 0), Key::new(Ino::ROOT.0, Kind::Dirent, u64::MAX));
    let mut names = Vec::new();
    for item in view.range(&from, &to) {
        let bucket = item.map_err(Error::from);
        let bucket = bucket.and_then(|(_, value)| {
            NameBucket::decode(&value).map_err(|e| Error::from(damaged(Ino::ROOT, e)))
        });
        match bucket {
            Ok(bucket) => names.extend(bucket.entries.into_iter().map(|entry| entry.name)),
            Err(e) => {
                log::warn!("the kernel may know names of a line as it was for longer: {e}");
                break;
            }
        }
    }
    names
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fs::tests::{ROOT, T, USER};
    use crate::ops::{Operations, RenameMode};

    #[test]
    fn directories_that_moved_are_found_however_much_else_differs() {
        const DIRS: usize = 300;
        let t = T::new();
        let dirs: Vec<NodeId> = (0..DIRS).map(|n| t.mkdir(ROOT, &format!("d{n}")).unwrap()).collect();
        t.snapshot("s");
        let old = t.fs.view_of_word(ROOT, b"s").unwrap();
        let moved = |known: &[NodeId]| moved_among(known, &old, &t.fs.view_of_word(ROOT, b"@live").unwrap());
        assert!(moved(&dirs).is_empty());
        t.fs.rename(&USER, ROOT, b"d7", dirs[9], b"below", RenameMode::Replace).unwrap();
        t.put(ROOT, "f", b"x");
        assert_eq!((moved(&dirs), moved(&dirs[20..])), (vec![Ino(dirs[7].ino())], Vec::new()));
        for n in 0..DIRS {
            t.put(dirs[50], &format!("f{n}"), b"y");
        }
        assert_eq!(moved(&dirs), [Ino(dirs[7].ino())]);
    }
}
