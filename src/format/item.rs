//! Whether an item can be one of a view's tree: its key is one that is given out, and its value decodes as its kind.
//!
//! Judges the item alone. What items say about each other is the auditor's.

use super::dirent::NameBucket;
use super::inode::Inode;
use super::leaf::VALUE_BYTES_MAX;
use super::link::Links;
use super::xattr::{PIECE_BYTES, Xattrs};
use super::{BLOCK_BYTES, Extent, FormatError, Ino, Key, Kind, bad};
use crate::limits::{FILE_BYTES_MAX, SYMLINK_BYTES_MAX};

/// Refuses a key that no item of a view's tree has.
pub fn prove_key(key: &Key) -> Result<(), FormatError> {
    let is_inode = |number: u64| {
        let ino = Ino(number);
        ino == Ino::ROOT || (Ino::FIRST_FREE..Ino::END).contains(&ino)
    };
    let fits = match Kind::from_u8(key.kind) {
        Some(Kind::Orphan | Kind::Away) => {
            key.object == Ino::ORPHANS.0 && is_inode(key.rest) && key.rest != Ino::ROOT.0
        }
        Some(Kind::Inode | Kind::Inline) => is_inode(key.object) && key.rest == 0,
        Some(Kind::Extent) => {
            is_inode(key.object) && key.rest.is_multiple_of(BLOCK_BYTES) && key.rest < FILE_BYTES_MAX
        }
        Some(Kind::Link | Kind::Dirent | Kind::Xattr | Kind::XattrData) => is_inode(key.object),
        _ => false,
    };
    if fits { Ok(()) } else { bad!("no item of a view has the key {key:?}") }
}

/// Refuses an item that no view's tree has.
pub fn prove(key: &Key, value: &[u8]) -> Result<(), FormatError> {
    prove_key(key)?;
    let len = value.len();
    let fits = match Kind::from_u8(key.kind) {
        Some(Kind::Inode) => Inode::decode(value).map(|_| true)?,
        Some(Kind::Link) => Links::decode(value).map(|_| true)?,
        Some(Kind::Dirent) => NameBucket::decode(value).map(|_| true)?,
        Some(Kind::Xattr) => Xattrs::decode(value).map(|_| true)?,
        Some(Kind::XattrData) => (1..=PIECE_BYTES).contains(&len),
        Some(Kind::Inline) => (1..=SYMLINK_BYTES_MAX).contains(&len),
        Some(Kind::Extent) => {
            let extent = Extent::decode(value)?;
            key.rest.checked_add(extent.len_bytes()).is_some_and(|end| end <= FILE_BYTES_MAX)
        }
        _ => value.is_empty(),
    };
    if fits && len <= VALUE_BYTES_MAX { Ok(()) } else { bad!("an item {key:?} of {len} bytes") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_that_nobody_gives_out_are_refused() {
        let refused = [
            Key::MIN,
            Key::MAX,
            Key::new(0, Kind::Inode, 0),
            Key::new(2, Kind::Inode, 0),
            Key::new(15, Kind::Inline, 0),
            Key::new(Ino::END.0, Kind::Inode, 0),
            Key::new(16, Kind::Inode, 1),
            Key::new(16, Kind::Extent, 4095),
            Key::new(16, Kind::Extent, FILE_BYTES_MAX),
            Key::new(2, Kind::Orphan, 1),
            Key::new(16, Kind::Orphan, 17),
            Key::new(0, Kind::View, 1),
            Key { object: 16, kind: 9, rest: 0 },
        ];
        for key in refused {
            assert!(prove_key(&key).is_err(), "{key:?}");
        }
        assert!(prove_key(&Key::new(1, Kind::Inode, 0)).is_ok());
        assert!(prove(&Key::new(2, Kind::Orphan, 16), b"").is_ok());
        assert!(prove(&Key::new(2, Kind::Orphan, 16), b"x").is_err());
        assert!(prove(&Key::new(16, Kind::Inode, 0), b"x").is_err());
        assert!(prove(&Key::new(16, Kind::XattrData, 9), &[0; PIECE_BYTES + 1]).is_err());
    }
}
