//! The sum over what is in a view: of a hash for each attribute set, name, extended attribute and block of content.
//!
//! A sum does not depend on the order of its parts, so it follows from that of another view and from what differs. No
//! address, birth, border of an extent or order of names is in it; a block of content counts by its checksum, and one of a
//! compressed frame by those of the frame, so nothing is read but the tree. It finds accidents; it is no signature.

use super::inodes::{InodeVisitor, visit_inodes};
use crate::format::dirent::NameBucket;
use crate::format::inode::{Inode, type_number};
use crate::format::xattr::{XattrValue, Xattrs};
use crate::format::{BLOCK_BYTES, Extent, FormatError, Ino, Key, Kind};
use crate::fs::error::damaged;
use crate::volume::{View, VolumeError};
use xxhash_rust::xxh3::xxh3_128_with_seed;

const SEED: u64 = 0x736e_6170_6673_0006;

/// What an item adds to the sum.
pub fn sum_of_item(key: &Key, value: &[u8]) -> Result<u128, VolumeError> {
    sum(key, value).map_err(|e| damaged(Ino(key.object), e))
}

fn sum(key: &Key, value: &[u8]) -> Result<u128, FormatError> {
    let mut parts = Parts { head: key.object.to_le_bytes().to_vec(), sum: 0 };
    match Kind::from_u8(key.kind) {
        Some(Kind::Inode) => {
            let inode = Inode::decode(value)?;
            // What follows from the rest, or from how it is stored.
            let inode = Inode { blocks: 0, has_inline: false, has_xattr: false, ..inode };
            parts.add(b'i', &[&inode.encode()]);
        }
        Some(Kind::Dirent) => {
            for entry in NameBucket::decode(value)?.entries {
                parts.add(b'n', &[&entry.ino.0.to_le_bytes(), &[type_number(entry.kind)], &entry.name]);
            }
        }
        Some(Kind::Xattr) => {
            for (name, value) in Xattrs::decode(value)?.entries {
                let len = [name.len() as u8];
                match value {
                    XattrValue::Short(value) => parts.add(b'x', &[&len, &name, &value]),
                    XattrValue::Long { number, len: bytes } => {
                        parts.add(b'l', &[&len, &name, &number.to_le_bytes(), &bytes.to_le_bytes()]);
                    }
                }
            }
        }
        Some(Kind::XattrData) => parts.add(b'd', &[&key.rest.to_le_bytes(), value]),
        Some(Kind::Inline) => parts.add(b'c', &[value]),
        Some(Kind::Extent) => parts.blocks(key.rest / BLOCK_BYTES, &Extent::decode(value)?),
        // Names are told by their directories.
        _ => {}
    }
    Ok(parts.sum)
}

struct Parts {
    /// The inode, to begin each part with.
    head: Vec<u8>,
    sum: u128,
}

impl Parts {
    fn add(&mut self, tag: u8, fields: &[&[u8]]) {
        let len = self.head.len();
        self.head.push(tag);
        fields.iter().for_each(|field| self.head.extend_from_slice(field));
        self.sum = self.sum.wrapping_add(xxh3_128_with_seed(&self.head, SEED));
        self.head.truncate(len);
    }

    fn blocks(&mut self, first: u64, extent: &Extent) {
        let frame = extent.frame.map(|frame| {
            let mut all = frame.pad.to_le_bytes().to_vec();
            all.extend_from_slice(&frame.content_len.to_le_bytes());
            extent.crcs.iter().for_each(|crc| all.extend_from_slice(&crc.to_le_bytes()));
            (xxh3_128_with_seed(&all, SEED).to_le_bytes(), u64::from(frame.from) / BLOCK_BYTES)
        });
        for n in 0..extent.len_bytes() / BLOCK_BYTES {
            let block = (first + n).to_le_bytes();
            match &frame {
                Some((frame, from)) => self.add(b'f', &[&block, frame, &(from + n).to_le_bytes()]),
                None if extent.is_unwritten() => self.add(b's', &[&block]),
                None => self.add(b'b', &[&block, &extent.crcs[n as usize].to_le_bytes()]),
            }
        }
    }
}

/// Sums inode by inode.
struct Sums<'t> {
    ino: Ino,
    sum: u128,
    tell: &'t mut dyn FnMut(Ino, u128),
}

impl InodeVisitor for Sums<'_> {
    type Error = VolumeError;

    fn begin(&mut self, ino: Ino, _: Option<&Inode>, _: Option<&Inode>) -> Result<(), VolumeError> {
        (self.ino, self.sum) = (ino, 0);
        Ok(())
    }

    fn item(&mut self, key: &Key, old: Option<&[u8]>, new: Option<&[u8]>) -> Result<(), VolumeError> {
        if let Some(old) = old {
            self.sum = self.sum.wrapping_sub(sum_of_item(key, old)?);
        }
        if let Some(new) = new {
            self.sum = self.sum.wrapping_add(sum_of_item(key, new)?);
        }
        Ok(())
    }

    fn end(&mut self) -> Result<(), VolumeError> {
        (self.tell)(self.ino, self.sum);
        Ok(())
    }
}

/// Tells for each inode of a view with a name, in order, the sum over what is in it.
pub fn sums_by_inode(view: &View, tell: &mut dyn FnMut(Ino, u128)) -> Result<(), VolumeError> {
    visit_inodes(None, view, &mut Sums { ino: Ino(0), sum: 0, tell })
}

/// The sum over what is in a view: counted from all of it, or from an older view whose sum is known.
pub fn sum_of(older: Option<(&View, u128)>, view: &View) -> Result<u128, VolumeError> {
    let mut total = older.map_or(0, |(_, sum)| sum);
    let mut add = |_, sum| total = total.wrapping_add(sum);
    visit_inodes(older.map(|(view, _)| view), view, &mut Sums { ino: Ino(0), sum: 0, tell: &mut add })?;
    Ok(total)
}
