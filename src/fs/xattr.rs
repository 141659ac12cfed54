//! Extended attributes.
//!
//! Namespaces `user.`, `trusted.` and `security.` are stored as they come, access control lists as `acl` has them;
//! everything else is not offered. Names under `user.snapfs.` are made up and not stored: what snapshots say of themselves, and
//! properties of files. They are never listed: whoever copies a snapshot would copy them. Who may use which is the kernel's question.

use super::Fs;
use super::acl;
use super::change::Change;
use super::compress;
use super::error::{damaged, inconsistent};
use super::flags;
use super::inode::{Place, live_target, place};
use super::items::Items;
use crate::format::xattr::{PIECE_BYTES, SHORT_VALUE_BYTES_MAX, XattrValue, Xattrs, piece_rest, xattr_hash};
use crate::format::{Ino, Key, Kind};
use crate::limits::{XATTR_NAME_BYTES_MAX, XATTR_VALUE_BYTES_MAX};
use crate::ops::{Caller, Error, NodeId, Result, XattrMode};
use crate::volume::{Purpose, View, VolumeError};

/// Prefix of the attributes that describe a snapshot.
const OWN_PREFIX: &[u8] = b"user.snapfs.";

/// Refuses what is not offered.
fn check_xattr_name(name: &[u8]) -> Result<()> {
    if name.len() > XATTR_NAME_BYTES_MAX {
        return Err(Error::TooSmall);
    }
    if acl::is_acl(name) {
        return Ok(());
    }
    let prefix = [b"user.".as_slice(), b"trusted.", b"security."].into_iter().find(|p| name.starts_with(p));
    match prefix {
        Some(prefix) if name.len() == prefix.len() || name.contains(&0) => Err(Error::Invalid),
        Some(_) => Ok(()),
        None => Err(Error::NotSupported),
    }
}

fn bucket_key(ino: Ino, name: &[u8]) -> Key {
    Key::new(ino.0, Kind::Xattr, xattr_hash(name))
}

fn xattrs(items: &impl Items, ino: Ino, key: &Key) -> std::result::Result<Xattrs, VolumeError> {
    items.with(key, |value| match value {
        Some(v) => Xattrs::decode(v).map_err(|e| damaged(ino, e)),
        None => Ok(Xattrs::default()),
    })
}

impl Fs {
    /// See [`Operations::getxattr`](crate::ops::Operations::getxattr).
    pub(super) fn get_xattr(&self, node: NodeId, name: &[u8]) -> Result<Vec<u8>> {
        check_xattr_name(name)?;
        match place(node) {
            Place::Snapdir(_) => return Err(Error::NoAttribute),
            _ if name == compress::CHOICE || name == compress::SOURCE => {
                return self.compression_attribute(&*self.view_of(node)?, Ino(node.ino()), name);
            }
            Place::Snapshot(view, Ino::ROOT) if name.starts_with(OWN_PREFIX) => {
                let own = self.snapshot_attributes(view)?;
                let found = own.into_iter().find(|(n, _)| [OWN_PREFIX, n.as_bytes()].concat() == name);
                return found.map(|(_, v)| v.into_bytes()).ok_or(Error::NoAttribute);
            }
            _ => {}
        }
        let view = self.view_of(node)?;
        let ino = Ino(node.ino());
        if !view.inode(ino)?.ok_or(Error::Stale)?.has_xattr {
            return Err(Error::NoAttribute);
        }
        value(&view, ino, name)?.ok_or(Error::NoAttribute)
    }

    /// See [`Operations::listxattr`](crate::ops::Operations::listxattr).
    pub(super) fn list_xattr(&self, node: NodeId) -> Result<Vec<u8>> {
        let mut out = Vec::new();
        if let Place::Snapdir(_) = place(node) {
            return Ok(out);
        }
        let view = self.view_of(node)?;
        let ino = Ino(node.ino());
        if !view.inode(ino)?.ok_or(Error::Stale)?.has_xattr {
            return Ok(out);
        }
        for item in view.range(&Key::new(ino.0, Kind::Xattr, 0), &Key::new(ino.0, Kind::XattrData, 0)) {
            let bucket = Xattrs::decode(&item?.1).map_err(|e| damaged(ino, e))?;
            for (name, _) in bucket.entries {
                out.extend_from_slice(&name);
                out.push(0);
            }
        }
        Ok(out)
    }

    /// See [`Operations::setxattr`](crate::ops::Operations::setxattr).
    pub(super) fn set_xattr(
        &self,
        caller: &Caller,
        node: NodeId,
        name: &[u8],
        value: &[u8],
        mode: XattrMode,
    ) -> Result<()> {
        let ino = live_target(node)?;
        check_xattr_name(name)?;
        if name == compress::CHOICE {
            return self.set_compression(caller, node, value, mode);
        }
        if name.starts_with(OWN_PREFIX) {
            return Err(Error::NotPermitted);
        }
        if value.len() > XATTR_VALUE_BYTES_MAX {
            return Err(Error::TooBig);
        }
        if acl::is_acl(name) {
            return self.set_acl(caller, node, name, value, mode);
        }
        let mut change = self.change()?;
        let mut inode = change.known(ino)?;
        flags::check_change(&inode)?;
        let existed = change.take_xattr(ino, name)?;
        match mode {
            XattrMode::Create if existed => return Err(Error::Exists),
            XattrMode::Replace if !existed => return Err(Error::NoAttribute),
            _ => {}
        }
        change.add_xattr(ino, name, value)?;
        inode.has_xattr = true;
        inode.ctime = change.now;
        change.put_inode(ino, &inode);
        change.finish(Purpose::Write)
    }

    /// See [`Operations::removexattr`](crate::ops::Operations::removexattr).
    pub(super) fn remove_xattr(&self, caller: &Caller, node: NodeId, name: &[u8]) -> Result<()> {
        let ino = live_target(node)?;
        check_xattr_name(name)?;
        if name == compress::CHOICE {
            return self.set_compression(caller, node, b"inherit", XattrMode::Replace);
        }
        let mut change = self.change()?;
        let mut inode = change.known(ino)?;
        flags::check_change(&inode)?;
        if !change.take_xattr(ino, name)? {
            return Err(Error::NoAttribute);
        }
        inode.ctime = change.now;
        change.put_inode(ino, &inode);
        change.finish(Purpose::Delete)
    }
}

/// The value of an attribute in a view.
pub(super) fn value(view: &View, ino: Ino, name: &[u8]) -> std::result::Result<Option<Vec<u8>>, VolumeError> {
    match xattrs(view, ino, &bucket_key(ino, name))?.find(name) {
        Some(XattrValue::Short(bytes)) => Ok(Some(bytes.clone())),
        Some(XattrValue::Long { number, len }) => long_value(view, ino, *number, *len).map(Some),
        None => Ok(None),
    }
}

fn long_value(view: &View, ino: Ino, number: u64, len: u32) -> std::result::Result<Vec<u8>, VolumeError> {
    let mut out = Vec::with_capacity(len as usize);
    let from = Key::new(ino.0, Kind::XattrData, piece_rest(number, 0));
    let to = Key::new(ino.0, Kind::XattrData, piece_rest(number + 1, 0));
    for item in view.range(&from, &to) {
        out.extend_from_slice(&item?.1);
    }
    if out.len() != len as usize {
        return Err(inconsistent(ino, "a long extended attribute has not the length it should have"));
    }
    Ok(out)
}

impl Change<'_> {
    /// Takes an attribute out with its value; true if it was there. The caller puts the inode.
    pub fn take_xattr(&mut self, ino: Ino, name: &[u8]) -> Result<bool> {
        let key = bucket_key(ino, name);
        let mut bucket = xattrs(self, ino, &key)?;
        match bucket.remove(name) {
            None => return Ok(false),
            Some(XattrValue::Short(_)) => {}
            Some(XattrValue::Long { number, len }) => {
                for piece in 0..u64::from(len).div_ceil(PIECE_BYTES as u64) {
                    self.delete(Key::new(ino.0, Kind::XattrData, piece_rest(number, piece)));
                }
            }
        }
        if bucket.entries.is_empty() {
            self.delete(key);
        } else {
            self.put(key, bucket.encode());
        }
        Ok(true)
    }

    /// Adds an attribute that is not there. The caller puts the inode, which must say that it has some.
    pub fn add_xattr(&mut self, ino: Ino, name: &[u8], value: &[u8]) -> Result<()> {
        let key = bucket_key(ino, name);
        let mut bucket = xattrs(self, ino, &key)?;
        let stored = if value.len() <= SHORT_VALUE_BYTES_MAX {
            XattrValue::Short(value.to_vec())
        } else {
            let number = self.next_value_number(ino)?;
            for (piece, bytes) in value.chunks(PIECE_BYTES).enumerate() {
                self.put(Key::new(ino.0, Kind::XattrData, piece_rest(number, piece as u64)), bytes.to_vec());
            }
            XattrValue::Long { number, len: value.len() as u32 }
        };
        if !bucket.add(name, stored) {
            return Err(Error::LimitReached);
        }
        self.put(key, bucket.encode());
        Ok(())
    }

    /// A number above those of all long values of the inode.
    fn next_value_number(&self, ino: Ino) -> Result<u64> {
        let (floor, end) = (Key::new(ino.0, Kind::XattrData, 0), Key::new(ino.0, Kind::XattrData, u64::MAX));
        let stored = self.view().last_at_or_before(&end, &floor)?.map(|(key, _)| key.rest);
        let last = stored.max(self.last_collected(&floor, &end).map(|key| key.rest));
        let number = last.map_or(1, |rest| (rest >> 16) + 1);
        if number >> 48 != 0 { Err(Error::LimitReached) } else { Ok(number) }
    }
}
