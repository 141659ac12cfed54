//! `.clones`: the virtual directory that shows the clones of the store, and their making.
//!
//! The root of each line has one, and what is made there begins as that line is. All of them show the same clones, whose
//! names are unique in the store. A clone has one node whatever way leads to it: its files can be written, and a kernel keeps
//! what was written by node. It keeps one place for a directory too, so what it is told of names in the `.clones` of the main
//! line it may keep; what it is told in others it forgets at once, and asks again.
//!
//! Nothing about it is stored. Clones are made, renamed and dropped one at a time, and so are snapshots meanwhile.

use super::snapdir::{OneAtATime, Past, check_snapshot_name};
use crate::format::inode::Inode;
use crate::format::line::LineRecord;
use crate::format::provenance::{Provenance, Reason};
use crate::format::{Ino, LineId, ViewId};
use crate::fs::attributes::{attr, entry, time_of};
use crate::fs::difference::has_changed;
use crate::fs::heads::{Head, Stale};
use crate::fs::listing::Listing;
use crate::fs::options::CLONEDIR_NAME;
use crate::ops::{Attr, Entry, Error, FileType, NodeId, RenameMode, Result};
use crate::volume::{ReserveFor, View, VolumeError};
use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

/// Cookies of clones are their line numbers plus this: behind `.` and `..`.
const COOKIE_BASE: u64 = 3;
/// Clones looked at together while a `.clones` is listed.
const LIST_BATCH: usize = 256;
/// That of the root of a mount.
pub const MAIN_CLONEDIR: NodeId = NodeId::clonedir(0);

/// For how long the kernel may keep what it is told of a `.clones`, and names in it.
pub fn clonedir_ttl(clonedir: NodeId) -> Duration {
    if clonedir == MAIN_CLONEDIR { Duration::MAX } else { Duration::ZERO }
}

/// When a clone goes.
#[derive(Clone, Copy)]
pub enum CloneEnd<'v> {
    /// At once, whoever uses it.
    Now,
    /// Unless it is in use, or no longer to go by itself.
    Unused,
    /// Unless it has changed since this view of it.
    UnchangedSince(&'v View),
    /// At once, whoever uses it, into the trash; for good, if there is no room for that. By whom.
    ToTrash(&'v Provenance),
}

/// The way to a clone from the root of the main line.
pub fn path_of(name: &[u8]) -> Vec<u8> {
    [CLONEDIR_NAME, b"/", name].concat()
}

impl Past {
    /// Makes a clone of a line as it is now, durable when this returns: everything whose `write` returned before the call
    /// is in. Nothing is copied or walked. On an error nothing is left.
    pub fn create_clone(&self, from: &Arc<Head>, name: &[u8], provenance: &Provenance) -> Result<Arc<Head>> {
        self.check_clone_name(name, provenance.reason)?;
        self.have_room_ahead(ReserveFor::Record, std::slice::from_ref(from))?;
        let held = self.one_at_a_time();
        loop {
            if let Some(made) = self.clone_held(from, name, provenance, &held)? {
                return Ok(made);
            }
        }
    }

    /// None if it is to be tried again: the line was thawed in between.
    fn clone_held(
        &self,
        from: &Arc<Head>,
        name: &[u8],
        provenance: &Provenance,
        _held: &OneAtATime<'_>,
    ) -> Result<Option<Arc<Head>>> {
        let heads = &self.commits.heads;
        self.check_clone_name(name, provenance.reason)?;
        let (frost, mut is_late) = (heads.frost_of(from), false);
        self.write_back(from)?;
        self.commits.have_room_for_records(ReserveFor::Record)?;
        // A commit brings in what each head holds back: it must know all of them.
        let no_commit = self.commits.hold_off();
        let now = heads.clock.now();
        let made = self.commits.complete(std::slice::from_ref(from), &mut |_| (), &mut |prepare| {
            is_late = frost.is_some() && heads.frost_of(from) != frost;
            if is_late {
                return Err(VolumeError::NoSuchView); // as for a snapshot
            }
            heads.volume.clone_line(from.line, name, (now.secs, now.nanos), provenance, prepare)
        });
        if is_late {
            return Ok(None);
        }
        let (line, durable) = made?;
        let head = heads.add(&line);
        drop(no_commit);
        if !durable && let Err(e) = self.commits.commit() {
            self.take_back_clone(line.id);
            return Err(e);
        }
        self.forget_clonedir();
        Ok(Some(head))
    }

    /// The same that begins as a snapshot is.
    pub fn create_clone_of(&self, from: ViewId, name: &[u8], provenance: &Provenance) -> Result<Arc<Head>> {
        self.commits.heads.check_writable()?;
        self.have_room_ahead(ReserveFor::Record, &[])?;
        self.create_clone_held(from, name, provenance, &self.one_at_a_time())
    }

    /// The same for whoever keeps others from the snapshots already.
    pub fn create_clone_held(
        &self,
        from: ViewId,
        name: &[u8],
        provenance: &Provenance,
        _held: &OneAtATime<'_>,
    ) -> Result<Arc<Head>> {
        let heads = &self.commits.heads;
        self.check_clone_name(name, provenance.reason)?;
        self.commits.have_room_for_records(ReserveFor::Record)?;
        let no_commit = self.commits.hold_off();
        let now = heads.clock.now();
        let line = heads.volume.create_line(name, from, (now.secs, now.nanos), provenance)?;
        let head = heads.add(&line);
        drop(no_commit);
        if let Err(e) = self.commits.sync() {
            self.take_back_clone(line.id);
            return Err(e);
        }
        self.forget_clonedir();
        Ok(head)
    }

    /// A clone that could not be made durable was not made.
    fn take_back_clone(&self, line: LineId) {
        let _no_commit = self.commits.hold_off();
        // A volume that takes no changes any more shows it until it is opened again, and ends with what is durable.
        if self.commits.heads.volume.take_back_line(line).is_ok() {
            self.commits.heads.remove(line);
        }
    }

    /// Refuses a name for a clone that cannot be one or is taken, and one clone too many.
    pub(super) fn check_clone_name(&self, name: &[u8], reason: Reason) -> Result<()> {
        check_snapshot_name(name, reason)?;
        self.commits.heads.check_writable()?;
        let volume = &self.commits.heads.volume;
        let max = volume.line(LineId::MAIN)?.terms.clones_max;
        match volume.find_line(name) {
            Some(_) => Err(Error::Exists),
            None if max.is_some_and(|max| volume.clone_count().0 >= max as usize) => Err(Error::LimitReached),
            None => Ok(()),
        }
    }

    /// Drops a clone, with its snapshots: its name at once, its space in the background. What is open in it is so no more.
    pub fn drop_clone(&self, name: &[u8]) -> Result<()> {
        let line = self.commits.heads.volume.find_line(name).ok_or(Error::NotFound)?;
        self.drop_line_if(line.id, CloneEnd::Now)
    }

    /// Drops a clone that has not changed since this view of it; refused as busy otherwise.
    pub fn drop_merged(&self, clone: &LineRecord, view: &View) -> Result<()> {
        self.drop_line_if(clone.id, CloneEnd::UnchangedSince(view))
    }

    /// Gives a clone another name.
    pub fn rename_clone(&self, name: &[u8], new: &[u8]) -> Result<()> {
        let _kept = self.under_way.keep_covers();
        self.refuse_uncovering(name)?;
        let durable = self.move_clone(name, new)?;
        if name != new {
            self.tell_clonedir(name);
        }
        durable
    }

    /// Refuses what would drop the name of a clone on which a trial covers something.
    fn refuse_uncovering(&self, name: &[u8]) -> Result<()> {
        let heads = &self.commits.heads;
        let head = heads.volume.find_line(name).and_then(|line| heads.of_line(&line));
        match head.map(|head| self.covers_on(&head)).transpose()? {
            Some(covers) if !covers.is_empty() => Err(Error::Busy),
            _ => Ok(()),
        }
    }

    /// Drops a line; whoever has its name is told by the caller, and here whoever has those of its snapshots.
    pub fn drop_line(&self, line: LineId) -> Result<()> {
        self.drop_line_as(line, CloneEnd::Now)
    }

    fn drop_line_as(&self, line: LineId, end: CloneEnd<'_>) -> Result<()> {
        self.drop_line_at(line, end)?.1
    }

    /// Drops a line that may be in use, and tells of its name.
    pub fn drop_line_if(&self, line: LineId, end: CloneEnd<'_>) -> Result<()> {
        let (name, durable) = self.drop_line_at(line, end)?;
        self.tell_clonedir(&name);
        durable
    }

    /// Unless it is refused, its name, which is gone then, and whether that is durable.
    fn drop_line_at(&self, line: LineId, end: CloneEnd<'_>) -> Result<(Vec<u8>, Result<()>)> {
        let heads = &self.commits.heads;
        heads.check_writable()?;
        if line == heads.main().line && line != LineId::MAIN {
            return Err(Error::Busy); // it is the root of the mount
        }
        // What goes into the trash has all that was written in it.
        let is_kept = matches!(end, CloneEnd::ToTrash(_));
        let now: Vec<_> = heads.of_line(&heads.volume.line(line)?).into_iter().filter(|_| is_kept).collect();
        self.have_room_ahead(ReserveFor::Delete, &now)?;
        let held = self.one_at_a_time();
        let record = heads.volume.line(line)?;
        let head = heads.of_line(&record).filter(|_| line != LineId::MAIN).ok_or(Error::Stale)?;
        heads.check_thawed(&head)?;
        if !self.covers_on(&head)?.is_empty() {
            return Err(Error::Busy); // nested trials are there
        }
        let own = heads.volume.own_snapshots(line);
        if own.iter().any(|s| self.is_in_use_here(s.id)) {
            return Err(Error::Busy);
        }
        if matches!(end, CloneEnd::Unused) && self.is_in_use(&record, &head) {
            return Err(Error::Busy);
        }
        self.commits.have_room_for_records(ReserveFor::Delete)?;
        let mut kept = false;
        let remove = || {
            heads.volume.drop_line(line)?;
            heads.remove(line);
            Ok(())
        };
        match end {
            CloneEnd::Now => {
                let _no_commit = self.commits.hold_off();
                remove()?;
            }
            CloneEnd::ToTrash(by) => {
                kept = self.trash_line(&head, by)?;
                if !kept {
                    let _no_commit = self.commits.hold_off();
                    remove()?;
                }
            }
            CloneEnd::Unused => {
                // Whoever has opened something is answered, and nobody opens anything until it is gone.
                let mut done = Err(Error::Busy);
                self.commits.between_answers(&mut || {
                    let ends = |now: LineRecord| self.still_ends(&now, &head);
                    if !self.is_open(&head) && heads.volume.line(line).is_ok_and(ends) {
                        done = remove();
                    }
                });
                done?;
            }
            CloneEnd::UnchangedSince(view) => {
                let _no_commit = self.commits.hold_off();
                // Nobody changes it in between.
                let _gate = head.gate.write();
                // Who has a file open for writing is not done, though nothing may have come of it yet.
                let tree = head.node(Ino::ROOT).tree();
                let is_written = heads.handles.writers().iter().any(|node| node.tree() == tree);
                if is_written || head.delayed_bytes() > 0 || has_changed(view, &heads.view(&head)?)? {
                    return Err(Error::Busy);
                }
                heads.volume.drop_merged_line(line)?;
                heads.remove(line);
            }
        }
        let (kernel, root) = (heads.kernel(), head.node(Ino::ROOT));
        // Pages that the kernel holds are no file's any more.
        let files = heads.handles.make_stale(&head, Stale::All);
        let open = heads.handles.all().into_iter().filter(|node| node.tree() == root.tree());
        let all: BTreeSet<_> = files.into_iter().chain(open).collect();
        all.into_iter().for_each(|node| kernel.invalidate_node(node));
        kernel.detach_below(root, &path_of(&record.name));
        self.forget_clonedir();
        drop(held);
        if kept {
            return Ok((record.name, self.commits.sync_what_is_done()));
        }
        // Clones that were made from it have shown them too.
        let names: Vec<_> = own.into_iter().map(|s| s.name).collect();
        self.tell_gone(&names);
        let durable = self.end_trial(&record).and_then(|()| self.commits.sync_what_is_done());
        Ok((record.name, durable))
    }

    /// Unless it is refused the old name is gone; whether that is durable.
    fn move_clone(&self, name: &[u8], new: &[u8]) -> Result<Result<()>> {
        check_snapshot_name(new, Reason::User)?;
        let heads = &self.commits.heads;
        heads.check_writable()?;
        self.have_room_ahead(ReserveFor::Record, &[])?;
        let _held = self.one_at_a_time();
        let line = heads.volume.find_line(name).ok_or(Error::NotFound)?;
        if name == new {
            return Ok(Ok(()));
        }
        self.commits.have_room_for_records(ReserveFor::Record)?;
        {
            // As with snapshots: not while a commit is open, and with a record of its own.
            let _no_commit = self.commits.hold_off();
            heads.volume.rename_line(line.id, new)?;
        }
        self.forget_clonedir();
        Ok(self.commits.sync_what_is_done())
    }

    /// A name has gone from all `.clones` without a request in that of the main line: the kernel is told, where it is. If
    /// another clone has it by now the kernel asks again.
    pub(super) fn tell_clonedir(&self, name: &[u8]) {
        self.settle_covers();
        self.commits.heads.kernel().drop_names(vec![(MAIN_CLONEDIR, name.to_vec())]);
    }

    /// The kernel keeps what `stat` shows of the `.clones` of the main line until it is told.
    pub fn forget_clonedir(&self) {
        self.commits.heads.kernel().forget_attributes(MAIN_CLONEDIR);
    }

    /// `mkdir` in a `.clones`, by this user.
    pub fn make_in_clonedir(&self, clonedir: NodeId, name: &[u8], user: u32) -> Result<Entry> {
        let head = self.commits.heads.line_of(clonedir)?;
        let provenance = Provenance { user: Some(user), ..Provenance::default() };
        let made = self.create_clone(&head, name, &provenance)?;
        self.find_in_clonedir(clonedir, name).or_else(|e| {
            // What cannot be shown to whoever made it was not made.
            self.drop_line(made.line)?;
            Err(e)
        })
    }

    /// `rmdir` in a `.clones` by this user, of which the kernel knows by itself.
    pub fn remove_in_clonedir(&self, clonedir: NodeId, name: &[u8], user: u32) -> Result<()> {
        let head = self.commits.heads.line_of(clonedir)?;
        let line = self.commits.heads.volume.find_line(name).ok_or(Error::NotFound)?;
        if line.id == head.line {
            return Err(Error::Busy); // nobody can stand in what is going
        }
        let by = Provenance { user: Some(user), ..Provenance::default() };
        let end = self.end_by_user(line.id, &by);
        match clonedir {
            MAIN_CLONEDIR => self.drop_line_as(line.id, end),
            _ => self.drop_line_if(line.id, end),
        }
    }

    /// `rename` inside a `.clones`.
    pub fn rename_in_clonedir(
        &self,
        clonedir: NodeId,
        name: &[u8],
        new: &[u8],
        mode: RenameMode,
    ) -> Result<()> {
        match mode {
            RenameMode::Exchange | RenameMode::Whiteout => Err(Error::Invalid),
            RenameMode::NoReplace if name == new => Err(Error::Exists),
            RenameMode::NoReplace | RenameMode::Replace => {
                // A request waits for nobody who may wait for requests.
                let _kept = self.under_way.keep_covers_now().ok_or(Error::Busy)?;
                if clonedir != MAIN_CLONEDIR {
                    self.refuse_uncovering(name)?; // in that the kernel moves the name, and drops nothing
                }
                let durable = self.move_clone(name, new)?;
                if clonedir != MAIN_CLONEDIR && name != new {
                    self.tell_clonedir(name);
                }
                durable
            }
        }
    }

    /// What `stat` shows of a `.clones`.
    pub fn clonedir_attr(&self, clonedir: NodeId) -> Result<Attr> {
        // Who may make, rename and drop clones is decided by the root of the mount, whatever line this is in.
        let heads = &self.commits.heads;
        let inode = heads.live_inode(&heads.main(), Ino::ROOT)?;
        self.root_above(clonedir)?;
        let (count, newest) = self.commits.heads.volume.clone_count();
        let time = newest.map_or(inode.btime, time_of);
        Ok(Attr {
            mode: 0o755,
            nlink: 2 + count as u32,
            size: 0,
            blocks: 0,
            atime: time,
            mtime: time,
            ctime: time,
            ..attr(&self.commits.heads, clonedir, &inode)
        })
    }

    /// A `.clones` as the answer to a lookup. It stays where it is for ever.
    pub fn clonedir_entry(&self, clonedir: NodeId) -> Result<Entry> {
        let (attr, ttl) = (self.clonedir_attr(clonedir)?, clonedir_ttl(clonedir));
        let generation = self.commits.heads.generation(clonedir, FileType::Directory)?;
        Ok(Entry { attr, generation, entry_ttl: ttl, attr_ttl: ttl })
    }

    /// The root that has a `.clones`.
    fn root_above(&self, clonedir: NodeId) -> Result<(Arc<Head>, Inode)> {
        let head = self.commits.heads.line_of(clonedir)?;
        let inode = self.commits.heads.live_inode(&head, Ino::ROOT)?;
        Ok((head, inode))
    }

    /// Finds a clone by name.
    pub fn find_in_clonedir(&self, clonedir: NodeId, name: &[u8]) -> Result<Entry> {
        match name {
            b"." => return self.clonedir_entry(clonedir),
            b".." => {
                let (head, inode) = self.root_above(clonedir)?;
                return entry(&self.commits.heads, head.node(Ino::ROOT), &inode);
            }
            _ => {}
        }
        let own = self.commits.heads.line_of(clonedir)?.line;
        let line = self.commits.heads.volume.find_line(name);
        // No kernel takes a directory in itself.
        let line = line.filter(|line| line.id != own).ok_or(Error::NotFound)?;
        self.clone_entry(clonedir, &line)?.ok_or(Error::NotFound)
    }

    /// The root of a clone, unless it is going.
    fn clone_entry(&self, clonedir: NodeId, line: &LineRecord) -> Result<Option<Entry>> {
        let heads = &self.commits.heads;
        let Some(head) = heads.of_line(line) else { return Ok(None) };
        let inode = heads.live_inode(&head, Ino::ROOT)?;
        let found = entry(heads, head.node(Ino::ROOT), &inode)?;
        Ok(Some(Entry { entry_ttl: clonedir_ttl(clonedir), ..found }))
    }

    /// Lists the clones, oldest first.
    pub fn list_clonedir(&self, mut listing: Listing) -> Result<()> {
        let (head, _) = self.root_above(listing.node)?;
        if !listing.give_dots(head.node(Ino::ROOT))? {
            return Ok(());
        }
        loop {
            let after = LineId(listing.after.saturating_sub(COOKIE_BASE)).max(LineId::MAIN);
            let batch = self.commits.heads.volume.lines_after(after, LIST_BATCH);
            let Some(last) = batch.last().map(|line| line.id.0 + COOKIE_BASE) else { return Ok(()) };
            for line in batch.iter().filter(|line| line.id != head.line) {
                // A clone may be dropped while they are listed.
                let Some(head) = self.commits.heads.of_line(line) else { continue };
                let found = match self.clone_entry(listing.node, line) {
                    Ok(None) | Err(Error::Stale) => continue,
                    Ok(Some(found)) => Ok(Entry { entry_ttl: Duration::ZERO, ..found }),
                    Err(e) => Err(e),
                };
                // A listing takes no locks: what it tells of names is not kept. One that cannot be read has a name.
                let (node, cookie) = (head.node(Ino::ROOT), line.id.0 + COOKIE_BASE);
                let plus = listing.plus;
                listing.plus = plus && found.is_ok();
                let more = listing.give(cookie, node, FileType::Directory, &line.name, || found)?;
                listing.plus = plus;
                if !more {
                    return Ok(());
                }
            }
            listing.after = last;
        }
    }
}
