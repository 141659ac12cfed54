//! What a node number stands for.

use crate::format::{Ino, Slot};
use crate::ops::{NodeId, NodeKind};

/// Which tree a node is of.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Place {
    /// A writable tree.
    Live(Ino),
    /// A snapshot.
    Snapshot(Slot, Ino),
    /// The `.snapshots` of this live directory.
    Snapdir(Ino),
}

/// Where `node` is.
pub fn place(node: NodeId) -> Place {
    let ino = Ino(node.ino());
    match node.kind() {
        NodeKind::Live => Place::Live(ino),
        NodeKind::Snapshot => Place::Snapshot(Slot(node.slot()), ino),
        NodeKind::Snapdir => Place::Snapdir(ino),
        // Nothing that is served here: no snapshot has this slot.
        NodeKind::Virtual => Place::Snapshot(Slot::MAIN, ino),
    }
}

/// The node of the `.snapshots` in a directory of the main line.
pub fn snapdir_node(dir: Ino) -> NodeId {
    NodeId::snapdir(Slot::MAIN.0, dir.0)
}
