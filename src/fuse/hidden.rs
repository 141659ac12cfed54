//! The lookup-only directory `.snapfs-nodes` in the root of the mount: files by node id, for the flusher alone.
//!
//! A flusher without the capability for file handles (a normal user's) reaches the file that it must flush by opening
//! `MNT/.snapfs-nodes/NODE-GENERATION`. Only the flusher of this mount gets an answer; everybody else, the daemon too, is
//! told that there is no such name, and nobody can create it. It is never listed, and nothing in it is cached as a name.

use crate::ops::{Attr, FileType, NodeId, NodeKind, Timestamp};
use crate::sys::process;

/// Its name in the root.
pub(super) const NAME: &str = ".snapfs-nodes";

/// Its node: of a kind that no tree has.
pub(super) const NODE: NodeId = NodeId::of_kind(NodeKind::Virtual, 0, 1);

/// True for the name that is taken.
pub(super) fn is_name(parent: NodeId, name: &[u8]) -> bool {
    parent == NodeId::ROOT && name == NAME.as_bytes()
}

/// What `stat` says of the directory.
pub(super) fn attr() -> Attr {
    let zero = Timestamp { secs: 0, nanos: 0 };
    Attr {
        node: NODE,
        kind: FileType::Directory,
        mode: 0o700,
        nlink: 2,
        uid: process::effective_uid(),
        gid: process::effective_gid(),
        rdev: 0,
        size: 0,
        blocks: 0,
        atime: zero,
        mtime: zero,
        ctime: zero,
        btime: zero,
    }
}

/// Under which name in it a node can be opened.
pub(super) fn name(node: NodeId, generation: u64) -> String {
    format!("{}-{generation}", node.0)
}

/// Node and generation of a name in the directory: live nodes only.
pub(super) fn parse(name: &[u8]) -> Option<(NodeId, u64)> {
    let (node, generation) = std::str::from_utf8(name).ok()?.split_once('-')?;
    let node = NodeId(node.parse().ok()?);
    (node.is_live() && node.ino() != 0).then_some((node, generation.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_round_trip() {
        assert_eq!(parse(name(NodeId(77), 3).as_bytes()), Some((NodeId(77), 3)));
    }

    #[test]
    fn other_names_are_not_nodes() {
        for name in [&b"77"[..], b"x-1", b"-", b"0-1", b"77-", b"\xff-1"] {
            assert_eq!(parse(name), None);
        }
        assert_eq!(parse(format!("{}-1", NodeId::snapshot(5, 9).0).as_bytes()), None);
    }
}
