//! What a node number stands for.

use crate::format::{Ino, ViewId};
use crate::ops::NodeId;

/// Which tree a node is of.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Place {
    /// A writable tree.
    Live(Ino),
    /// A snapshot.
    Snapshot(ViewId, Ino),
    /// The `.snapshots` of this live directory.
    Snapdir(Ino),
}

/// Where `node` is.
pub fn place(node: NodeId) -> Place {
    let ino = Ino(node.ino());
    if node.is_live() {
        Place::Live(ino)
    } else if node.is_snapdir() {
        Place::Snapdir(ino)
    } else {
        Place::Snapshot(ViewId(node.view()), ino)
    }
}

/// The node of the `.snapshots` in a live directory.
pub fn snapdir_node(dir: Ino) -> NodeId {
    NodeId::new(NodeId::SNAPDIR_VIEW, dir.0)
}
