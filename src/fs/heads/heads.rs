//! All heads of a store, and what every request needs: the volume below, the clock, open files, the way back to the kernel.
//!
//! The lowest room with a state of its own. It knows what a change is and how to begin one, and nothing of what requests
//! mean. Lock order: a gate, then the volume's transaction. The table of open files, the reference to the kernel and the
//! list of what is to be told to it are leaves.

use super::around::Around;
use super::change::Change;
use super::frost::{Frosts, HandingOver};
use super::handle::{Handles, Open};
use super::head::{Gate, Head};
use super::known_dirs::KnownDirs;
use super::node::{Target, target};
use super::shown::Shown;
use super::standstill::Standstill;
use super::told::Told;
use crate::clock::Clock;
use crate::format::inode::Inode;
use crate::format::line::LineRecord;
use crate::format::view::Consistency;
use crate::format::{Ino, LineId, Slot};
use crate::fs::items::Items;
use crate::fs::options::FsOptions;
use crate::ops::{Entry, Error, FileType, Handle, KernelRef, NoKernel, NodeId, OpenFlags, Opening, Result};
use crate::volume::{Turn, View, Volume, VolumeError};
use parking_lot::{Mutex, RwLock};
use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// How the kernel comes to what it opens.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum OpenBy {
    /// By a number that it has.
    Number,
    /// By a name, in the same request.
    Name,
}

/// Which file an answer names.
#[derive(Clone, Copy, Debug)]
pub struct NamedNode {
    node: NodeId,
    kind: FileType,
    generation: u64,
}

impl From<&Entry> for NamedNode {
    fn from(entry: &Entry) -> NamedNode {
        NamedNode { node: entry.attr.node, kind: entry.attr.kind, generation: entry.generation }
    }
}

/// What every room above works on. Any thread may call any method.
pub struct Heads {
    /// The volume below.
    pub volume: Arc<Volume>,
    /// What was chosen when the file system was opened.
    pub options: FsOptions,
    /// The time.
    pub clock: Clock,
    /// Open files and directories.
    pub handles: Handles,
    /// Numbers of blocks that the kernel keeps.
    pub shown: Shown,
    /// Directories that the kernel knows.
    pub known_dirs: KnownDirs,
    /// Whether a change at once is under way.
    pub standstill: Standstill,
    /// Lines that are frozen.
    pub frosts: Frosts,
    /// The stamp of when the last look began that found nothing to be done to bring content home; 0 for none.
    pub rested: AtomicU64,
    /// Commits that have ended.
    pub commits_ended: AtomicU64,
    main: RwLock<Arc<Head>>,
    /// The slot of the line at the root.
    top: Slot,
    /// The heads of all other lines, by the slot that is in their numbers.
    others: RwLock<BTreeMap<Slot, Arc<Head>>>,
    kernel: RwLock<KernelRef>,
    /// Nodes that lost set-id bits by a request whose answer does not say so: the kernel has to be told.
    fallen: Mutex<Vec<NodeId>>,
}

impl Heads {
    /// The heads of a volume, with what the replay of its log has found of each.
    pub fn new(
        volume: Arc<Volume>,
        options: FsOptions,
        clock: Clock,
        mut gates: BTreeMap<LineId, Gate>,
    ) -> Result<Heads> {
        let top = match &options.root {
            Some(name) => volume.find_line(name).ok_or(Error::NotFound)?,
            None => volume.line(LineId::MAIN)?,
        };
        let mut head = |line: &LineRecord, slot| {
            let gate = gates.remove(&line.id).unwrap_or_default();
            Arc::new(Head::new(line, slot, gate, volume.hold_line(line)))
        };
        let mut others = BTreeMap::new();
        let lines = volume.lines().into_iter().filter(|line| line.state.is_shown());
        for line in lines.filter(|line| line.id != top.id).collect::<Vec<_>>().iter() {
            // The line at the root has the numbers of the main line, and that has its.
            let slot = if line.id == LineId::MAIN { top.slot } else { line.slot };
            others.insert(slot, head(line, slot));
        }
        let main = head(&top, Slot::MAIN);
        let frosts = Frosts::opened_at(clock.now());
        Ok(Heads {
            volume,
            options,
            clock,
            handles: Handles::default(),
            shown: Shown::default(),
            known_dirs: KnownDirs::default(),
            standstill: Standstill::default(),
            frosts,
            rested: AtomicU64::new(0),
            commits_ended: AtomicU64::new(0),
            main: RwLock::new(main),
            top: top.slot,
            others: RwLock::new(others),
            kernel: RwLock::new(Arc::new(NoKernel)),
            fallen: Mutex::default(),
        })
    }

    /// True if all content that could be home as of the last commit is.
    pub fn content_was_looked_at(&self) -> bool {
        !self.volume.knows_homes() || self.rested.load(Relaxed) == self.stamp()
    }

    /// Another number after each commit and each snapshot. An epoch begins before its commit has ended, and what is free by
    /// that is to be seen only then.
    pub fn stamp(&self) -> u64 {
        self.commits_ended.load(Relaxed) + self.volume.epoch().0
    }

    /// True if all content that can be home is: nothing has changed since that was found.
    pub fn content_rests(&self) -> bool {
        self.content_was_looked_at() && (!self.volume.knows_homes() || !self.volume.needs_commit())
    }

    /// All of them, the main line's last.
    pub fn all(&self) -> Vec<Arc<Head>> {
        let mut all: Vec<_> = self.others.read().values().cloned().collect();
        all.push(self.main());
        all.sort_unstable_by_key(|head| Reverse(head.line));
        all
    }

    /// Takes in the head of a new line. The tree that it begins with may have inodes without a name: files that were open
    /// elsewhere.
    pub fn add(&self, line: &LineRecord) -> Arc<Head> {
        let head = Arc::new(Head::new(line, line.slot, Gate::default(), self.volume.hold_line(line)));
        *head.inherited.lock() = (!head.is_received).then_some(Ino(0));
        self.others.write().insert(line.slot, head.clone());
        head
    }

    /// Takes in the head that a line has got in the place of its own. Whoever calls keeps everybody from the state of the
    /// volume until then, so that nobody finds the one without the other.
    pub fn replace(&self, line: &LineRecord) {
        let slot = self.slot_of(line);
        let head = Arc::new(Head::forked(line, slot, self.volume.hold_line(line)));
        self.shown.drop_tree(head.node(Ino::ROOT).tree());
        if slot == Slot::MAIN {
            *self.main.write() = head;
        } else {
            self.others.write().insert(slot, head);
        }
    }

    /// Forgets the head of a line that is gone, with what is not in its tree.
    pub fn remove(&self, line: LineId) {
        self.others.write().retain(|_, head| head.line != line);
    }

    /// The slot that numbers of nodes of a line have here.
    pub fn slot_of(&self, line: &LineRecord) -> Slot {
        match line.id {
            id if id == self.main.read().line => Slot::MAIN,
            LineId::MAIN => self.top,
            _ => line.slot,
        }
    }

    /// The head that the root of a mount shows: that of the main line, unless another line was chosen.
    pub fn main(&self) -> Arc<Head> {
        self.main.read().clone()
    }

    /// The head of a line, if that is still there.
    pub fn of_line(&self, line: &LineRecord) -> Option<Arc<Head>> {
        let main = self.main();
        if line.id == main.line {
            return Some(main);
        }
        self.others.read().get(&self.slot_of(line)).filter(|head| head.line == line.id).cloned()
    }

    /// The head that a node is of, and its inode number there, whoever knows of it.
    pub fn find(&self, node: NodeId) -> Result<(Arc<Head>, Ino)> {
        match target(node) {
            Target::Live(ino) => Ok((self.line_of(node)?, ino)),
            Target::Snapshot(..) | Target::Snapdir(_) | Target::Clonedir => Err(Error::Stale),
        }
    }

    /// The head of the line that a live node is of, or a `.snapshots` shows.
    pub fn line_of(&self, node: NodeId) -> Result<Arc<Head>> {
        if node.slot() == Slot::MAIN.0 {
            return Ok(self.main());
        }
        self.known_line_of(node).inspect(|head| head.note_use())
    }

    /// The same for ourselves: the line is not used by this.
    pub fn known_line_of(&self, node: NodeId) -> Result<Arc<Head>> {
        if node.slot() == Slot::MAIN.0 {
            return Ok(self.main());
        }
        self.others.read().get(&Slot(node.slot())).cloned().ok_or(Error::Stale)
    }

    /// The head of the line that any node is of.
    pub fn at(&self, node: NodeId) -> Result<Arc<Head>> {
        let Target::Snapshot(slot, _) = target(node) else { return self.line_of(node) };
        let Some(snapshot) = self.volume.snapshot_by_slot(slot) else { return Err(Error::Stale) };
        self.of_line(&self.volume.line(snapshot.line)?).ok_or(Error::Stale)
    }

    /// The head and inode of a node that is to be changed.
    pub fn target(&self, node: NodeId) -> Result<(Arc<Head>, Ino)> {
        match target(node) {
            Target::Live(_) => match self.asked_to_change(node)? {
                (head, _) if head.is_received => Err(Error::ReadOnly),
                found => Ok(found),
            },
            Target::Snapshot(..) => Err(Error::ReadOnly),
            Target::Snapdir(_) | Target::Clonedir => Err(Error::NotPermitted),
        }
    }

    /// The head that a node is of about which the kernel asks. Stale if it asks about a file of an older head of the line.
    pub fn asked(&self, node: NodeId) -> Result<(Arc<Head>, Ino)> {
        let (head, ino) = self.find(node)?;
        if let Some(told) = head.told.as_ref().filter(|told| !told.has(ino)) {
            match self.view(&head)?.inode(ino)? {
                Some(inode) if inode.kind == FileType::Directory => told.add(ino),
                _ => return Err(Error::Stale),
            }
        }
        Ok((head, ino))
    }

    /// The same if it asks for a change without a handle. Somebody may have a file of an older head open who is meant: as long as
    /// that may be, it is stale. Whoever has come by a name is asked for that once more by the kernel.
    pub fn asked_to_change(&self, node: NodeId) -> Result<(Arc<Head>, Ino)> {
        let (head, ino) = self.asked(node)?;
        if head.told.as_ref().is_some_and(|told| !told.is_sure(ino)) && self.handles.are_stale(node) {
            return Err(Error::Stale);
        }
        Ok((head, ino))
    }

    /// The head that a node is of which the kernel opens in this way, and its inode number there.
    pub fn asked_to_open(&self, node: NodeId, by: OpenBy) -> Result<(Arc<Head>, Ino)> {
        match by {
            OpenBy::Number => self.asked(node),
            OpenBy::Name => self.find(node),
        }
    }

    /// The kernel is being told of this.
    pub fn tell(&self, named: &NamedNode) {
        self.note(named, Told::add);
    }

    /// The same of what it has asked to make: it puts away what it had by that number.
    pub fn tell_made(&self, named: &NamedNode) {
        self.note(named, Told::add_surely);
    }

    fn note(&self, named: &NamedNode, add: fn(&Told, Ino)) {
        let (Target::Live(ino), Ok(head)) = (target(named.node), self.known_line_of(named.node)) else {
            return;
        };
        if named.kind == FileType::Directory {
            self.known_dirs.answer(named.node);
        } else if let Some(told) = &head.told
            && named.generation == u64::from(head.generation(named.kind).0)
        {
            add(told, ino);
        }
    }

    /// The kernel gets this handle, so it has no other file by the number of the node any more.
    pub fn tell_opened(&self, node: NodeId, handle: Handle) {
        let open = self.handles.get_to_read(node, handle).ok().filter(|open| open.node.is_live());
        if let Some(told) = open.as_ref().and_then(|open| open.head.as_ref()?.told.as_ref()) {
            told.add_surely(Ino(node.ino()));
        }
    }

    /// The state of a head as of now. Stale if its line has another.
    pub fn view(&self, head: &Head) -> Result<View> {
        match self.volume.live(head.line) {
            Ok(view) if view.id() == head.view => Ok(view),
            Ok(_) | Err(VolumeError::NoSuchView) => Err(Error::Stale),
            Err(e) => Err(e.into()),
        }
    }

    /// Starts a change of a head. Waits for every other change; readers do not wait for it yet. Stale if its line has another.
    pub fn change<'a>(&'a self, head: &'a Head) -> Result<Change<'a>> {
        if self.is_read_only() || head.is_received {
            return Err(Error::ReadOnly);
        }
        let gate = Turn::of(&head.gate);
        let txn = match self.volume.begin(head.line) {
            Ok(txn) if txn.view().id() == head.view => txn,
            Ok(_) | Err(VolumeError::NoSuchView) => return Err(Error::Stale),
            Err(e) => return Err(e.into()),
        };
        Ok(Change::new(head, gate, txn, self.clock.now(), &self.fallen))
    }

    /// Delayed data of all of them, in bytes.
    pub fn delayed_bytes(&self) -> u64 {
        let others: u64 = self.others.read().values().map(|head| head.delayed_bytes()).sum();
        others + self.main.read().delayed_bytes()
    }

    /// The number of the frost that a line is in.
    pub fn frost_of(&self, head: &Head) -> Option<u64> {
        self.frosts.number_of(head.node(Ino::ROOT).tree())
    }

    /// What a snapshot of a line is that is to be taken in these frosts, if any are given: as after a crash if they were over before they were to be.
    pub fn level_of(&self, head: &Head, level: Consistency, frosts: &[u64]) -> Consistency {
        let is_missed = !frosts.is_empty() && self.frosts.is_missed(head.node(Ino::ROOT).tree(), frosts);
        if is_missed { Consistency::Crash } else { level }
    }

    /// Refuses what would change a line that is frozen. Whoever asks keeps snapshots off, as whoever freezes does.
    pub fn check_thawed(&self, head: &Head) -> Result<()> {
        if self.frost_of(head).is_some() { Err(Error::Frozen) } else { Ok(()) }
    }

    /// The same, and nobody begins to freeze it until what is returned is dropped: the kernel can be told of the line meanwhile.
    pub fn keep_thawed(&self, head: &Head) -> Result<HandingOver<'_>> {
        self.frosts.hand_over(head.node(Ino::ROOT).tree()).ok_or(Error::Frozen)
    }

    /// True if no change is taken.
    pub fn is_read_only(&self) -> bool {
        self.options.read_only || self.volume.is_read_only()
    }

    /// Refuses what would change anything on a file system that takes no changes.
    pub fn check_writable(&self) -> Result<()> {
        if self.is_read_only() { Err(Error::ReadOnly) } else { Ok(()) }
    }

    /// The view that holds a node of a head or of a snapshot.
    pub fn view_of(&self, node: NodeId) -> Result<Arc<View>> {
        match target(node) {
            Target::Live(_) => Ok(Arc::new(self.view(&self.asked(node)?.0)?)),
            Target::Snapshot(slot, _) => self.snapshot_at(slot),
            Target::Snapdir(_) | Target::Clonedir => Err(Error::Invalid),
        }
    }

    /// The view of the snapshot that has a slot.
    pub fn snapshot_at(&self, slot: Slot) -> Result<Arc<View>> {
        let info = self.volume.snapshot_by_slot(slot).ok_or(Error::Stale)?;
        Ok(self.volume.snapshot(info.id)?)
    }

    /// The view of a node through an open handle, which outlives the deletion of a snapshot.
    pub fn view_through(&self, node: NodeId, handle: Option<Handle>) -> Result<Arc<View>> {
        let open = handle.map(|h| self.handles.get_to_read(node, h)).transpose()?;
        match open.and_then(|open| open.view.clone()) {
            Some(view) => Ok(view),
            None => self.view_of(node),
        }
    }

    /// An inode of a head.
    pub fn live_inode(&self, head: &Head, ino: Ino) -> Result<Inode> {
        self.view(head)?.inode(ino)?.ok_or(Error::Stale)
    }

    /// The inode of a node of a head or of a snapshot.
    pub fn inode(&self, node: NodeId) -> Result<Inode> {
        self.view_of(node)?.inode(Ino(node.ino()))?.ok_or(Error::Stale)
    }

    /// Opens a node that `check` has looked at, which says how. `view` is the snapshot that it is of, none for a head.
    pub fn open(
        &self,
        (node, by): (NodeId, OpenBy),
        view: Option<Arc<View>>,
        check: impl FnOnce(&Inode) -> Result<OpenFlags>,
    ) -> Result<Opening> {
        let ino = Ino(node.ino());
        let head = view.is_none().then(|| self.asked_to_open(node, by)).transpose()?;
        let inode = match (&view, &head) {
            (Some(view), _) => view.inode(ino)?,
            (None, Some((head, _))) => self.view(head)?.inode(ino)?,
            (None, None) => None,
        };
        let inode = inode.ok_or(Error::Stale)?;
        let flags = check(&inode)?;
        let head = head.map(|(head, _)| head);
        let (kind, around) = (inode.kind, Around::default());
        let open = Open { node, kind, flags, view, head: head.clone(), around };
        let handle = match self.handles.add(open) {
            Opening::Done(handle) => handle,
            later => return Ok(later),
        };
        // No gate is held while an inode is read. A purge of one without a name that comes now sees the handle; one that
        // came before is seen here. What has a name loses it and is forgotten only while the kernel does not open it.
        if let Some(head) = head.filter(|_| inode.nlink == 0)
            && self.view(&head)?.inode(ino)?.is_none()
        {
            self.handles.remove(handle);
            return Err(Error::Stale);
        }
        Ok(Opening::Done(handle))
    }

    /// Opens a directory that no tree holds.
    pub fn open_virtual(&self, node: NodeId, flags: OpenFlags) -> Result<Handle> {
        let head = Some(self.line_of(node)?);
        let (kind, around) = (FileType::Directory, Around::default());
        self.handles.add(Open { node, kind, flags, view: None, head, around }).at_once()
    }

    /// Connects the way back to the kernel.
    pub fn set_kernel(&self, kernel: KernelRef) {
        *self.kernel.write() = kernel;
    }

    /// The way back to the kernel.
    pub fn kernel(&self) -> KernelRef {
        self.kernel.read().clone()
    }

    /// What tells the inode of a node, of this type, from another that had, or will have, the same number: part of file
    /// handles.
    pub fn generation(&self, node: NodeId, kind: FileType) -> Result<u64> {
        if node == NodeId::ROOT {
            return Ok(0); // the kernel knows the root by no other
        }
        let generation = match target(node) {
            Target::Live(_) | Target::Snapdir(_) | Target::Clonedir => {
                self.known_line_of(node)?.generation(kind)
            }
            Target::Snapshot(slot, _) => self.volume.snapshot_by_slot(slot).ok_or(Error::Stale)?.generation,
        };
        Ok(generation.0.into())
    }

    /// The kernel keeps the mode of a file for ever, and does not ask after a write that cost it set-id bits.
    pub fn tell_fallen(&self) {
        let fallen = std::mem::take(&mut *self.fallen.lock());
        if !fallen.is_empty() {
            let kernel = self.kernel();
            fallen.into_iter().for_each(|node| kernel.forget_attributes(node));
        }
    }
}
