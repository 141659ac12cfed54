//! Node numbers: what the kernel and `stat` see as inode numbers, and what is in them.

use super::file_type::FileType;

/// The number of a node as the kernel and `stat` see it: its kind in the highest 2 bits, a slot in 22, an inode number in
/// the lowest 40.
///
/// The slot is that of a line or a snapshot; the main line has slot 0. Unique over all lines and snapshots that there are,
/// and the same after each mount.
///
/// A kernel keeps one place for a directory: the same number under two names moves from one to the other. So a directory
/// of a snapshot that is reached in another way than through its name in the `.snapshots` of the root has a number that
/// says which way: the last kind, seven bits for the way, 15 for the slot. Other files have one number, whatever the way.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub struct NodeId(pub u64);

impl NodeId {
    /// Root of the main line.
    pub const ROOT: NodeId = NodeId(1);
    /// Bits of an inode number.
    pub const INO_BITS: u32 = 40;
    /// Bits of a slot.
    pub const SLOT_BITS: u32 = 22;
    /// Bits of a slot beside a way.
    const WAY_SLOT_BITS: u32 = 15;

    /// The node of kind `kind` that belongs to inode `ino` of what has slot `slot`.
    pub const fn of_kind(kind: NodeKind, slot: u32, ino: u64) -> NodeId {
        assert!(ino < 1 << Self::INO_BITS && slot < 1 << Self::SLOT_BITS);
        let above = (kind as u64) << Self::SLOT_BITS | slot as u64;
        NodeId(above << Self::INO_BITS | ino)
    }
    /// Inode `ino` of the line with slot `slot`.
    pub const fn live(slot: u32, ino: u64) -> NodeId {
        NodeId::of_kind(NodeKind::Live, slot, ino)
    }
    /// Inode `ino` of the snapshot with slot `slot`.
    pub const fn snapshot(slot: u32, ino: u64) -> NodeId {
        NodeId::of_kind(NodeKind::Snapshot, slot, ino)
    }
    /// The `.snapshots` directory of directory `ino` of the line with slot `slot`.
    pub const fn snapdir(slot: u32, ino: u64) -> NodeId {
        NodeId::of_kind(NodeKind::Snapdir, slot, ino)
    }
    /// The `.clones` directory in the root of the line with slot `slot`.
    pub const fn clonedir(slot: u32) -> NodeId {
        NodeId::of_kind(NodeKind::Snapdir, slot, 0)
    }
    /// The node of another inode in the same tree. Of a directory of a snapshot: on the way from the root.
    pub fn sibling(self, ino: u64) -> NodeId {
        NodeId::in_tree(self.tree(), ino)
    }
    /// The node of inode `ino` in a tree: see [`NodeId::tree`].
    pub fn in_tree(tree: u32, ino: u64) -> NodeId {
        debug_assert!(ino < 1 << Self::INO_BITS && tree < 1 << (Self::SLOT_BITS + 2));
        NodeId(u64::from(tree) << Self::INO_BITS | ino)
    }
    /// The node of what has a name in this directory.
    pub fn child(self, ino: u64, kind: FileType) -> NodeId {
        match self.way() {
            Some(way) if kind == FileType::Directory => NodeId::on_way(self.slot(), way.down(), ino),
            _ => self.sibling(ino),
        }
    }
    /// A directory of a snapshot that was reached on a way of its own. Without one where the number has no room for both:
    /// a kernel then moves the directory between its names.
    pub fn on_way(slot: u32, way: Option<Way>, ino: u64) -> NodeId {
        match way {
            Some(way) if slot < 1 << Self::WAY_SLOT_BITS => {
                let field = u32::from(way.0) << Self::WAY_SLOT_BITS | slot;
                NodeId::of_kind(NodeKind::Virtual, field, ino)
            }
            _ => NodeId::snapshot(slot, ino),
        }
    }
    /// The way on which it was reached.
    pub fn way(self) -> Option<Way> {
        let way = self.field() >> Self::WAY_SLOT_BITS;
        let on_way = self.0 >> (Self::INO_BITS + Self::SLOT_BITS) == 3 && way <= u32::from(Way::BY_AGE_MAX);
        on_way.then_some(Way(way as u8))
    }
    /// What is beside kind and inode.
    fn field(self) -> u32 {
        (self.0 >> Self::INO_BITS) as u32 & ((1 << Self::SLOT_BITS) - 1)
    }
    /// What it is.
    pub fn kind(self) -> NodeKind {
        match self.0 >> (Self::INO_BITS + Self::SLOT_BITS) {
            0 => NodeKind::Live,
            1 => NodeKind::Snapshot,
            2 => NodeKind::Snapdir,
            _ if self.way().is_some() => NodeKind::Snapshot,
            _ => NodeKind::Virtual,
        }
    }
    /// Slot of its line or snapshot.
    pub fn slot(self) -> u32 {
        match self.way() {
            Some(_) => self.field() & ((1 << Self::WAY_SLOT_BITS) - 1),
            None => self.field(),
        }
    }
    /// All numbers that an inode of a snapshot has, on whatever way it was reached.
    pub fn of_snapshot(slot: u32, ino: u64) -> impl Iterator<Item = NodeId> {
        let ways = (0..=Way::BY_AGE_MAX).map(move |way| NodeId::on_way(slot, Some(Way(way)), ino));
        std::iter::once(NodeId::snapshot(slot, ino)).chain(ways)
    }
    /// Kind and slot: the same for all nodes of a tree, and of no other.
    pub fn tree(self) -> u32 {
        match self.way() {
            Some(_) => NodeId::snapshot(self.slot(), 0).tree(),
            None => (self.0 >> Self::INO_BITS) as u32,
        }
    }
    /// Inode number in its tree.
    pub fn ino(self) -> u64 {
        self.0 & ((1 << Self::INO_BITS) - 1)
    }
    /// True for a node that can be written.
    pub fn is_live(self) -> bool {
        self.kind() == NodeKind::Live
    }
    /// True for a virtual `.snapshots` or `.clones` directory. `mkdir`, `rmdir` and `rename` there may take long and need the
    /// kernel's help: a transport must not answer them on its last request thread ([`Operations::rmdir_at_once`] it may).
    pub fn is_snapdir(self) -> bool {
        self.kind() == NodeKind::Snapdir
    }
}

/// What the number of a node stands for.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[repr(u8)]
pub enum NodeKind {
    /// An inode of a line.
    Live = 0,
    /// An inode of a snapshot.
    Snapshot = 1,
    /// A `.snapshots` directory; with inode 0, which no directory has, the `.clones` of a line.
    Snapdir = 2,
    /// Any other directory that is in no tree.
    Virtual = 3,
}

/// How a directory of a snapshot was reached, if not through the snapshot's name in the `.snapshots` of the root: by the
/// number of levels up to the directory whose `.snapshots` it was, and whether the snapshot was named or picked by its age.
/// What a snapshot holds never moves, so this tells the place.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Way(u8);

impl Way {
    /// From the root, picked by its age. Below are levels up to a snapshot that was named, above one that was picked.
    const ROOT_BY_AGE: u8 = 64;
    /// Most levels that have a number.
    const NAMED_MAX: u8 = Self::ROOT_BY_AGE - 1;
    const BY_AGE_MAX: u8 = 126;

    /// The way to a directory in its own `.snapshots`.
    pub fn enter(from: Entrance, root: bool) -> Option<Way> {
        match (from, root) {
            (Entrance::Name, true) => None,
            (Entrance::Name, false) => Some(Way(0)),
            (Entrance::Age, true) => Some(Way(Self::ROOT_BY_AGE)),
            (Entrance::Age, false) => Some(Way(Self::ROOT_BY_AGE + 1)),
        }
    }
    /// The way to a directory in the one that was reached on this.
    pub fn down(self) -> Option<Way> {
        match self.0 {
            Self::ROOT_BY_AGE => Some(self),
            Self::NAMED_MAX | Self::BY_AGE_MAX.. => None,
            levels => Some(Way(levels + 1)),
        }
    }
    /// The way to the directory above. None: that is the `.snapshots` which the way begins at.
    pub fn up(self) -> Option<Way> {
        match self.0 {
            0 => None,
            Self::ROOT_BY_AGE => Some(self),
            levels if levels == Self::ROOT_BY_AGE + 1 => None,
            levels => Some(Way(levels - 1)),
        }
    }
}

/// By what a snapshot was found in a `.snapshots`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Entrance {
    /// Its name.
    Name,
    /// Its age, such as `@latest`.
    Age,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_of_nodes_do_not_collide_at_their_limits() {
        let (last_slot, last_ino) = ((1 << NodeId::SLOT_BITS) - 1, (1 << NodeId::INO_BITS) - 1);
        let mut all = std::collections::HashSet::new();
        for kind in [NodeKind::Live, NodeKind::Snapshot, NodeKind::Snapdir, NodeKind::Virtual] {
            // The lower numbers of the last kind are ways into snapshots.
            let slots = if kind == NodeKind::Virtual { vec![last_slot] } else { vec![0, 1, last_slot] };
            for slot in slots {
                for ino in [1, 2, last_ino] {
                    let node = NodeId::of_kind(kind, slot, ino);
                    assert_eq!((node.kind(), node.slot(), node.ino()), (kind, slot, ino));
                    assert_eq!(node.sibling(7), NodeId::of_kind(kind, slot, 7));
                    assert!(all.insert(node));
                }
            }
        }
        let way = Way::enter(Entrance::Name, false);
        let node = NodeId::on_way(7, way, last_ino);
        assert_eq!(
            (node.kind(), node.slot(), node.ino(), node.way()),
            (NodeKind::Snapshot, 7, last_ino, way)
        );
        assert!(all.insert(node) && node.tree() == NodeId::snapshot(7, 1).tree());
        assert_eq!(NodeId::live(0, 1), NodeId::ROOT);
        assert_eq!(NodeId::of_kind(NodeKind::Virtual, last_slot, last_ino), NodeId(u64::MAX));
    }
}
