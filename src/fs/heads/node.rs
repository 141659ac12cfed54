//! What a node number stands for.

use crate::format::{Ino, Slot};
use crate::ops::{NodeId, NodeKind};

/// Which tree a node is of.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Target {
    /// A writable tree.
    Live(Ino),
    /// A snapshot.
    Snapshot(Slot, Ino),
    /// The `.snapshots` of this live directory.
    Snapdir(Ino),
    /// The `.clones` of a line.
    Clonedir,
}

/// Where `node` is.
pub fn target(node: NodeId) -> Target {
    let ino = Ino(node.ino());
    match node.kind() {
        NodeKind::Live => Target::Live(ino),
        NodeKind::Snapshot => Target::Snapshot(Slot(node.slot()), ino),
        NodeKind::Snapdir if ino.0 == 0 => Target::Clonedir,
        NodeKind::Snapdir => Target::Snapdir(ino),
        // Nothing that is served here: no snapshot has this slot.
        NodeKind::Virtual => Target::Snapshot(Slot::MAIN, ino),
    }
}

/// The node of the `.snapshots` in a directory of a head.
pub fn snapdir_node(dir: NodeId) -> NodeId {
    NodeId::snapdir(dir.slot(), dir.ino())
}
