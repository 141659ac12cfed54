//! All heads of a store, and what every request needs: the volume below, the clock, open files, the way back to the kernel.
//!
//! The lowest room with a state of its own. It knows what a change is and how to begin one, and nothing of what requests
//! mean. Lock order: a gate, then the volume's transaction. The table of open files, the reference to the kernel and the
//! list of what is to be told to it are leaves.

use super::around::Around;
use super::change::Change;
use super::handle::{Handles, Open};
use super::head::{Gate, Head};
use super::node::{Place, place};
use crate::clock::Clock;
use crate::format::Ino;
use crate::format::inode::Inode;
use crate::fs::items::Items;
use crate::fs::options::FsOptions;
use crate::ops::{Error, Handle, KernelRef, NoKernel, NodeId, OpenFlags, Result};
use crate::volume::{View, Volume};
use parking_lot::{Mutex, RwLock};
use std::sync::Arc;

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
    main: Arc<Head>,
    kernel: RwLock<KernelRef>,
    /// Nodes that lost set-id bits by a request whose answer does not say so: the kernel has to be told.
    fallen: Mutex<Vec<NodeId>>,
}

impl Heads {
    /// The heads of a volume, with what the replay of its log has found.
    pub fn new(volume: Arc<Volume>, options: FsOptions, clock: Clock, main: Gate) -> Heads {
        Heads {
            volume,
            options,
            clock,
            handles: Handles::default(),
            main: Arc::new(Head::new(NodeId::ROOT, main)),
            kernel: RwLock::new(Arc::new(NoKernel)),
            fallen: Mutex::default(),
        }
    }

    /// All of them, in the order in which their gates are locked.
    pub fn all(&self) -> Vec<Arc<Head>> {
        vec![self.main.clone()]
    }

    /// The head that the root of a mount shows.
    pub fn main(&self) -> &Arc<Head> {
        &self.main
    }

    /// The head that a node is of, and its inode number there.
    pub fn find(&self, node: NodeId) -> Result<(Arc<Head>, Ino)> {
        match place(node) {
            Place::Live(ino) => Ok((self.main.clone(), ino)),
            Place::Snapshot(..) | Place::Snapdir(_) => Err(Error::Stale),
        }
    }

    /// The head and inode of a node that is to be changed.
    pub fn target(&self, node: NodeId) -> Result<(Arc<Head>, Ino)> {
        match place(node) {
            Place::Live(_) => self.find(node),
            Place::Snapshot(..) => Err(Error::ReadOnly),
            Place::Snapdir(_) => Err(Error::NotPermitted),
        }
    }

    /// The state of a head as of now.
    pub fn view(&self, _head: &Head) -> View {
        self.volume.live()
    }

    /// Starts a change of a head. Waits for every other change.
    pub fn change<'a>(&'a self, head: &'a Head) -> Result<Change<'a>> {
        if self.is_read_only() {
            return Err(Error::ReadOnly);
        }
        let gate = head.gate.write();
        let txn = self.volume.begin();
        Ok(Change::new(head, gate, txn, self.clock.now(), &self.fallen))
    }

    /// Delayed data of all of them, in bytes.
    pub fn delayed_bytes(&self) -> u64 {
        self.main.gate.read().dirty.bytes()
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
        match place(node) {
            Place::Live(_) => Ok(Arc::new(self.view(&self.find(node)?.0))),
            Place::Snapshot(view, _) => Ok(self.volume.snapshot(view)?),
            Place::Snapdir(_) => Err(Error::Invalid),
        }
    }

    /// The view of a node through an open handle, which outlives the deletion of a snapshot.
    pub fn view_through(&self, node: NodeId, handle: Option<Handle>) -> Result<Arc<View>> {
        let open = handle.map(|h| self.handles.get(node, h)).transpose()?;
        match open.and_then(|open| open.view.clone()) {
            Some(view) => Ok(view),
            None => self.view_of(node),
        }
    }

    /// An inode of a head.
    pub fn live_inode(&self, head: &Head, ino: Ino) -> Result<Inode> {
        self.view(head).inode(ino)?.ok_or(Error::Stale)
    }

    /// The inode of a node of a head or of a snapshot.
    pub fn inode(&self, node: NodeId) -> Result<Inode> {
        self.view_of(node)?.inode(Ino(node.ino()))?.ok_or(Error::Stale)
    }

    /// Opens a node that `check` has looked at, which says how. `view` is the snapshot that it is of, none for a head.
    pub fn open(
        &self,
        node: NodeId,
        view: Option<Arc<View>>,
        check: impl FnOnce(&Inode) -> Result<OpenFlags>,
    ) -> Result<Handle> {
        let ino = Ino(node.ino());
        let head = view.is_none().then(|| self.find(node)).transpose()?;
        // Under the gate, so that a purge sees the handle or the inode is seen to be gone.
        let _gate = head.as_ref().map(|(head, _)| head.gate.read());
        let inode = match (&view, &head) {
            (Some(view), _) => view.inode(ino)?,
            (None, Some((head, _))) => self.view(head).inode(ino)?,
            (None, None) => None,
        };
        let flags = check(&inode.ok_or(Error::Stale)?)?;
        Ok(self.handles.add(Open { node, flags, view, around: Around::default() }))
    }

    /// Opens a directory that no tree holds.
    pub fn open_virtual(&self, node: NodeId, flags: OpenFlags) -> Handle {
        self.handles.add(Open { node, flags, view: None, around: Around::default() })
    }

    /// Connects the way back to the kernel.
    pub fn set_kernel(&self, kernel: KernelRef) {
        *self.kernel.write() = kernel;
    }

    /// The way back to the kernel.
    pub fn kernel(&self) -> KernelRef {
        self.kernel.read().clone()
    }

    /// The generation that live inodes have.
    pub fn generation(&self) -> u64 {
        1
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
