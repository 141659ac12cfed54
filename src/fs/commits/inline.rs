//! Small files: their delayed first block becomes an item of the tree.

use crate::format::inode::Inode;
use crate::format::{Ino, Key, Kind};
use crate::fs::error::inconsistent;
use crate::fs::heads::Dirty;
use crate::fs::items::Items;
use crate::volume::{Txn, VolumeError};

type Result<T> = std::result::Result<T, VolumeError>;

/// An inode that the log tells of.
pub fn inode(txn: &Txn, ino: Ino) -> Result<Inode> {
    txn.view().inode(ino)?.ok_or_else(|| inconsistent(ino, "is in the log and not in the tree"))
}

/// Makes the delayed first block of a small file its inline item. The block is still delayed.
pub fn inline_first_block(dirty: &Dirty, txn: &mut Txn, ino: Ino) -> Result<()> {
    let mut inode = inode(txn, ino)?;
    if let Some(block) = dirty.get(ino, 0) {
        let content = block.get(..inode.size as usize);
        let content = content.ok_or_else(|| inconsistent(ino, "is too long for an inline item"))?;
        txn.insert(Key::new(ino.0, Kind::Inline, 0), content)?;
        inode.has_inline = true;
        txn.insert(Key::new(ino.0, Kind::Inode, 0), &inode.encode())?;
    }
    Ok(())
}
