//! Compression as files see it: the property, who follows which, and when trying is not worth the time.
//!
//! The property is in the inode and copied to what is made in a directory; an inode without it follows the root. It is
//! read and set as an extended attribute that is never listed. It says what becomes of content that is written from then
//! on and changes nothing that is stored. The first one in a store waits for a commit that keeps older programs out.

use super::Fs;
use super::change::Change;
use super::error::{damaged, inconsistent};
use super::flush::Stager;
use super::inode::live_target;
use super::items::Items;
use crate::format::inode::Inode;
use crate::format::link::Links;
use crate::format::{Compression, CompressionProperty, Ino, Key, Kind};
use crate::ops::{Caller, Error, FileType, NodeId, Result, XattrMode};
use crate::volume::{Gain, Part, Purpose, View, VolumeError};
use parking_lot::Mutex;
use std::collections::HashMap;

/// The attribute with the choice that is in force; `inherit` takes it away.
pub(super) const CHOICE: &[u8] = b"user.snapfs.compression";
/// The attribute that says where it is from.
pub(super) const SOURCE: &[u8] = b"user.snapfs.compression.source";

/// The choice for an inode, and where it is from.
fn in_force(
    items: &impl Items,
    inode: &Inode,
) -> std::result::Result<(Compression, &'static str), VolumeError> {
    if let Some(own) = inode.compression {
        return Ok((own.value, if own.inherited { "inherited" } else { "local" }));
    }
    let root = items.inode(Ino::ROOT)?.and_then(|root| root.compression);
    Ok(root.map_or((Compression::Off, "default"), |own| (own.value, "store")))
}

/// What something gets that is made in a directory, or gives up its own. The root's is followed, not copied.
pub(super) fn inherited(dir: Ino, inode: &Inode) -> Option<CompressionProperty> {
    let own = inode.compression.filter(|_| dir != Ino::ROOT)?;
    Some(CompressionProperty { inherited: true, ..own })
}

/// True for what has the property.
pub(super) fn has_property(kind: FileType) -> bool {
    matches!(kind, FileType::Regular | FileType::Directory)
}

impl Fs {
    /// The value of one of the two attributes in a view.
    pub(super) fn compression_attribute(&self, view: &View, ino: Ino, name: &[u8]) -> Result<Vec<u8>> {
        let inode = view.inode(ino)?.ok_or(Error::Stale)?;
        if !has_property(inode.kind) {
            return Err(Error::NoAttribute);
        }
        let (value, source) = in_force(view, &inode)?;
        Ok(if name == SOURCE { source.into() } else { value.to_string().into_bytes() })
    }

    /// Sets the property of a live inode from the value of the attribute.
    pub(super) fn set_compression(
        &self,
        caller: &Caller,
        node: NodeId,
        value: &[u8],
        mode: XattrMode,
    ) -> Result<()> {
        let ino = live_target(node)?;
        let own = match value {
            b"inherit" => None,
            _ => {
                let parsed = std::str::from_utf8(value).ok().and_then(Compression::parse);
                Some(CompressionProperty { value: parsed.ok_or(Error::Invalid)?, inherited: false })
            }
        };
        if own.is_some() && !self.volume.knows_compression() && !self.options.read_only {
            may_set(caller, &self.live_inode(ino)?)?;
            self.volume.allow_compression()?;
            self.commit()?;
        }
        let mut change = self.change()?;
        let mut inode = change.known(ino)?;
        may_set(caller, &inode)?;
        let existed = inode.compression.is_some_and(|own| !own.inherited);
        match mode {
            XattrMode::Create if existed => return Err(Error::Exists),
            XattrMode::Replace if !existed => return Err(Error::NoAttribute),
            _ => {}
        }
        inode.compression = match own {
            Some(own) => Some(own),
            None => change.above(ino, &inode)?,
        };
        inode.ctime = change.now;
        change.put_inode(ino, &inode);
        change.finish(Purpose::Write)
    }
}

/// The owner and root may.
fn may_set(caller: &Caller, inode: &Inode) -> Result<()> {
    let owner = caller.uid == 0 || caller.uid == inode.uid;
    if owner && has_property(inode.kind) { Ok(()) } else { Err(Error::NotPermitted) }
}

impl Change<'_> {
    /// What an inode inherits: from its directory, and if it has several names, from one of them.
    fn above(&self, ino: Ino, inode: &Inode) -> Result<Option<CompressionProperty>> {
        let dir = match inode.kind {
            FileType::Directory => inode.parent,
            _ => {
                let (from, to) = (Key::new(ino.0, Kind::Link, 0), Key::new(ino.0, Kind::Dirent, 0));
                let Some(first) = self.view().range(&from, &to).next() else { return Ok(None) };
                let links = Links::decode(&first?.1).map_err(|e| damaged(ino, e))?;
                let first = links.names.first().map(|(dir, _)| *dir);
                first.ok_or_else(|| inconsistent(ino, "has a link to nowhere"))?
            }
        };
        Ok(inherited(dir, &self.known(dir)?))
    }
}

impl Stager<'_> {
    /// The level at which content of a file is to be compressed, if it is.
    pub fn level(
        &self,
        view: &View,
        ino: Ino,
        inode: &Inode,
    ) -> std::result::Result<Option<u8>, VolumeError> {
        if !self.volume.knows_compression() || ino < Ino::FIRST_FREE {
            return Ok(None);
        }
        Ok(in_force(view, inode)?.0.level())
    }

    /// A part to stage: of so many bytes at an offset of a file. Content that did not pay lately is not tried.
    pub fn part(&self, ino: Ino, offset: u64, len: u64, level: Option<u8>) -> Part {
        Part { len, offset, level: level.filter(|_| self.misses.allow(ino, len)) }
    }
}

/// Frames in a row that must not have paid before a file is left alone.
const MISSES_MIN: u32 = 8;
/// For how many bytes a file is left alone at first, and at most.
const SKIP_BYTES_MIN: u64 = 1 << 20;
const SKIP_BYTES_MAX: u64 = 64 << 20;
/// Files that are remembered.
const FILES_MAX: usize = 4096;

/// Files whose content did not pay. For speed alone: it may forget at any time. Its lock is a leaf.
#[derive(Default)]
pub(super) struct Misses(Mutex<HashMap<Ino, Miss>>);

#[derive(Clone, Copy, Default)]
struct Miss {
    in_a_row: u32,
    /// Length of the last break, in bytes, and how much of it is left.
    skip_bytes: u64,
    skip_left: u64,
}

impl Misses {
    /// True if content of a file is worth trying now.
    fn allow(&self, ino: Ino, len: u64) -> bool {
        let mut files = self.0.lock();
        let Some(miss) = files.get_mut(&ino).filter(|miss| miss.skip_left >= len) else { return true };
        miss.skip_left -= len;
        false
    }

    /// Notes what became of a part of a file.
    pub fn learn(&self, ino: Ino, gain: Gain) {
        if gain.tried == 0 {
            return;
        }
        let mut files = self.0.lock();
        let before = match gain.failed_last == gain.tried {
            true => files.get(&ino).copied().unwrap_or_default(),
            false => Miss::default(),
        };
        let in_a_row = before.in_a_row.saturating_add(gain.failed_last);
        if in_a_row == 0 {
            files.remove(&ino);
            return;
        }
        let mut miss = Miss { in_a_row, ..before };
        if in_a_row >= MISSES_MIN {
            miss.skip_bytes = (before.skip_bytes * 2).clamp(SKIP_BYTES_MIN, SKIP_BYTES_MAX);
            miss.skip_left = miss.skip_bytes;
        }
        if files.len() >= FILES_MAX {
            files.clear();
        }
        files.insert(ino, miss);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn breaks_double_and_end_with_the_first_gain() {
        let (misses, ino) = (Misses::default(), Ino(20));
        let fail = |n: u32| misses.learn(ino, Gain { tried: n, failed_last: n });
        let skipped = || (0..).take_while(|_| !misses.allow(ino, 1 << 20)).count();
        fail(7);
        assert_eq!(skipped(), 0);
        misses.learn(ino, Gain::default());
        fail(1);
        assert_eq!(skipped(), 1);
        for expected in [2, 4, 8, 16, 32, 64, 64] {
            fail(1);
            assert_eq!(skipped(), expected);
        }
        misses.learn(ino, Gain { tried: 9, failed_last: 7 });
        assert_eq!(skipped(), 0);
        fail(1);
        assert_eq!(skipped(), 1);
        misses.learn(ino, Gain { tried: 1, failed_last: 0 });
        assert!(misses.0.lock().is_empty());
        (16..16 + 2 * FILES_MAX as u64).for_each(|n| misses.learn(Ino(n), Gain { tried: 1, failed_last: 1 }));
        assert!(misses.0.lock().len() <= FILES_MAX);
    }
}
