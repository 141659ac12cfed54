//! The items of one inode against each other: sizes, counts, content, extended attributes.
//!
//! Items come in the order of their keys, so the inode is known before everything else of it. Whether it has as many
//! names as its link count says is checked in `files`.
//!
//! Rules of content: extents do not overlap and are whole blocks. Content that is kept in the tree is short, and there
//! is no extent in the first block then. Beyond the end of a file there is only space without content.

use crate::format::dirent::{Dirent, NameBucket, name_hash};
use crate::format::inode::Inode;
use crate::format::link::{Links, link_hash};
use crate::format::purge::PURGED_INLINE;
use crate::format::xattr::{PIECE_BYTES, SHORT_VALUE_BYTES_MAX, XattrValue, Xattrs, xattr_hash};
use crate::format::{BLOCK_BYTES, Extent, FormatError, Ino, Key, Kind};
use crate::limits::{FILE_BYTES_MAX, INLINE_BYTES_MAX, SYMLINK_BYTES_MAX};
use crate::names;
use crate::ops::FileType;
use std::collections::BTreeMap;

/// Who is told what was read, to hold it against what other inodes say.
pub(super) trait Witness {
    /// An inode was read.
    fn saw_inode(&mut self, ino: Ino, inode: &Inode);
    /// An item besides the inode was read.
    fn saw_item(&mut self, ino: Ino);
    /// It has content away from home.
    fn saw_away(&mut self, ino: Ino);
    /// An entry of `dir` was read.
    fn saw_entry(&mut self, dir: Ino, entry: &Dirent);
    /// A link of `ino` was read.
    fn saw_link(&mut self, ino: Ino, parent: Ino, name: &[u8]);
    /// Something about an inode is not as it must be.
    fn problem(&mut self, ino: Ino, what: String);
}

/// What was read of one inode so far.
#[derive(Default)]
pub(super) struct Object {
    /// Its number; 0 before the first.
    pub ino: Ino,
    inode: Option<Inode>,
    /// The inode item is there and does not decode: what it would say is not missed.
    damaged: bool,
    /// Names in the directory.
    entries: u64,
    /// Length of the content in the tree.
    inline: Option<u64>,
    /// It only says that content was purged.
    inline_is_purged: bool,
    /// Bytes that extents map.
    mapped: u64,
    /// Where the last extent ends, and the last with content.
    end: u64,
    content_end: u64,
    /// True if an extent maps the first block.
    first_mapped: bool,
    /// Some of its content is away from home.
    away: bool,
    has_xattr: bool,
    /// Long values: number -> (length, pieces seen).
    long: BTreeMap<u64, (u64, u64)>,
}

type Checked = Result<(), String>;

fn format_error(e: FormatError) -> String {
    e.0
}

macro_rules! must {
    ($condition:expr, $($what:tt)*) => { if !$condition { return Err(format!($($what)*)); } };
}

impl Object {
    /// Nothing read yet.
    pub fn new(ino: Ino) -> Object {
        Object { ino, ..Object::default() }
    }

    /// Takes in an item.
    pub fn item(&mut self, auditor: &mut impl Witness, key: &Key, value: &[u8]) {
        if key.kind != Kind::Inode as u8 {
            auditor.saw_item(self.ino);
        }
        let checked = match Kind::from_u8(key.kind) {
            Some(Kind::Inode) => self.inode(auditor, key, value),
            Some(Kind::Link) => self.links(auditor, key, value),
            Some(Kind::Dirent) => self.dirents(auditor, key, value),
            Some(Kind::Xattr) => self.xattrs(key, value),
            Some(Kind::XattrData) => self.xattr_piece(key, value),
            Some(Kind::Inline) => self.inline(key, value),
            Some(Kind::Extent) => self.extent(key, value),
            _ => Err(format!("item of kind {} does not belong here", key.kind)),
        };
        if let Err(what) = checked {
            auditor.problem(self.ino, what);
        }
    }

    fn inode(&mut self, auditor: &mut impl Witness, key: &Key, value: &[u8]) -> Checked {
        must!(key.rest == 0, "inode item stands at {}", key.rest);
        self.damaged = true;
        let inode = Inode::decode(value).map_err(format_error)?;
        self.damaged = false;
        auditor.saw_inode(self.ino, &inode);
        self.inode = Some(inode);
        Ok(())
    }

    fn links(&mut self, auditor: &mut impl Witness, key: &Key, value: &[u8]) -> Checked {
        for (parent, name) in Links::decode(value).map_err(format_error)?.names {
            let found = names::shown_bytes(&name);
            must!(link_hash(parent, &name) == key.rest, "link '{found}' stands under the wrong hash");
            auditor.saw_link(self.ino, parent, &name);
        }
        Ok(())
    }

    fn dirents(&mut self, auditor: &mut impl Witness, key: &Key, value: &[u8]) -> Checked {
        let bucket = NameBucket::decode(value).map_err(format_error)?;
        self.entries += bucket.entries.len() as u64;
        for entry in &bucket.entries {
            auditor.saw_entry(self.ino, entry);
            let name = names::shown_bytes(&entry.name);
            must!(name_hash(&entry.name) == key.rest, "entry '{name}' stands under the wrong hash");
        }
        Ok(())
    }

    fn xattrs(&mut self, key: &Key, value: &[u8]) -> Checked {
        self.has_xattr = true;
        for (name, value) in Xattrs::decode(value).map_err(format_error)?.entries {
            let found = names::shown_bytes(&name);
            must!(xattr_hash(&name) == key.rest, "attribute '{found}' stands under the wrong hash");
            match value {
                XattrValue::Short(v) => {
                    let len = v.len();
                    must!(
                        len <= SHORT_VALUE_BYTES_MAX,
                        "attribute '{found}' has {len} bytes in its bucket, too many"
                    );
                }
                XattrValue::Long { number, len } => {
                    let twice = self.long.insert(number, (u64::from(len), 0)).is_some();
                    must!(!twice, "attribute '{found}' shares value {number} with another");
                    must!(
                        len as usize > SHORT_VALUE_BYTES_MAX,
                        "attribute '{found}' has {len} bytes in pieces, too few"
                    );
                }
            }
        }
        Ok(())
    }

    fn xattr_piece(&mut self, key: &Key, value: &[u8]) -> Checked {
        let (number, piece) = (key.rest >> 16, key.rest & 0xffff);
        let Some((len, pieces)) = self.long.get_mut(&number) else {
            // A purge that goes in steps takes the inode and the attributes first.
            must!(
                self.inode.is_none() && !self.damaged,
                "piece {piece} of value {number} belongs to no attribute"
            );
            return Ok(());
        };
        let from = piece * PIECE_BYTES as u64;
        let wanted = len.saturating_sub(from).min(PIECE_BYTES as u64);
        *pieces += 1;
        must!(
            value.len() as u64 == wanted && wanted > 0,
            "piece {piece} of value {number} has {} bytes, expected {wanted}",
            value.len()
        );
        Ok(())
    }

    fn inline(&mut self, key: &Key, value: &[u8]) -> Checked {
        must!(key.rest == 0, "content in the tree stands at {}", key.rest);
        self.inline = Some(value.len() as u64);
        self.inline_is_purged = value == PURGED_INLINE;
        let symlink = self.inode.as_ref().is_some_and(|i| i.kind == FileType::Symlink);
        let purged = self.inline_is_purged;
        must!(purged || !(symlink && value.contains(&0)), "target of the symbolic link holds a zero byte");
        Ok(())
    }

    fn extent(&mut self, key: &Key, value: &[u8]) -> Checked {
        let extent = Extent::decode(value).map_err(format_error)?;
        let (at, before) = (key.rest, self.end);
        must!(at % BLOCK_BYTES == 0, "extent at {at} does not start at a block");
        let end = at.saturating_add(extent.len_bytes());
        self.mapped += extent.occupied_bytes();
        self.end = end.max(before);
        self.first_mapped |= at == 0;
        self.away |= extent.is_away();
        if !extent.is_unwritten() {
            self.content_end = end;
        }
        must!(at >= before, "extent at {at} overlaps the one before, which ends at {before}");
        must!(end <= FILE_BYTES_MAX, "extent at {at} ends beyond the largest file");
        Ok(())
    }

    /// All items were read.
    pub fn finish(self, auditor: &mut impl Witness) {
        for (number, (len, pieces)) in &self.long {
            let wanted = len.div_ceil(PIECE_BYTES as u64);
            if *pieces != wanted && !self.damaged && self.inode.is_some() {
                let what = format!("attribute value {number} has {pieces} pieces instead of {wanted}");
                auditor.problem(self.ino, what);
            }
        }
        let Some(inode) = &self.inode else { return };
        if self.away {
            auditor.saw_away(self.ino);
        }
        for checked in [self.counts(inode), self.content(inode)] {
            if let Err(what) = checked {
                auditor.problem(self.ino, what);
            }
        }
    }

    fn counts(&self, inode: &Inode) -> Checked {
        let (size, blocks, mapped) = (inode.size, inode.blocks, self.mapped);
        must!(inode.has_xattr || !self.has_xattr, "has extended attributes, but its inode says not");
        must!(blocks == mapped / 512, "has {blocks} blocks of 512 bytes, its extents map {}", mapped / 512);
        let device = matches!(inode.kind, FileType::CharDevice | FileType::BlockDevice);
        must!(device || inode.rdev == 0, "has a device number, but is a {:?}", inode.kind);
        if inode.kind == FileType::Directory {
            let entries = self.entries;
            must!(size == entries, "directory counts {size} entries, but has {entries}");
        } else {
            must!(self.entries == 0, "has {} entries, but is a {:?}", self.entries, inode.kind);
        }
        Ok(())
    }

    fn content(&self, inode: &Inode) -> Checked {
        let (size, has) = (inode.size, self.inline.is_some());
        must!(
            inode.has_inline == has,
            "its inode says {} content in the tree, found {}",
            yes(inode.has_inline),
            yes(has)
        );
        let inline = self.inline.unwrap_or(0);
        match inode.kind {
            FileType::Regular => {
                must!(size <= FILE_BYTES_MAX, "size {size} is beyond the largest file");
                must!(
                    !(has && self.first_mapped),
                    "has content in the tree and an extent in the first block"
                );
                must!(
                    !has || self.inline_is_purged || (1..=size.min(INLINE_BYTES_MAX)).contains(&inline),
                    "has {inline} bytes of content in the tree, with a size of {size}"
                );
                must!(
                    self.content_end <= size.next_multiple_of(BLOCK_BYTES),
                    "has content up to {}, beyond its size of {size}",
                    self.content_end
                );
            }
            FileType::Symlink => {
                must!(
                    (inline == size || self.inline_is_purged)
                        && (1..=SYMLINK_BYTES_MAX as u64).contains(&size),
                    "symbolic link of size {size} has a target of {inline} bytes"
                );
                must!(self.mapped == 0, "has extents, but is a symbolic link");
            }
            kind => {
                must!(!has && self.mapped == 0, "has content, but is a {kind:?}");
                must!(kind == FileType::Directory || size == 0, "has a size of {size}, but is a {kind:?}");
            }
        }
        Ok(())
    }
}

fn yes(there: bool) -> &'static str {
    if there { "there is" } else { "no" }
}
