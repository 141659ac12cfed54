//! Extended attributes as they are stored: in buckets of an inode, long values in pieces of their own.

use crate::format::xattr::{PIECE_BYTES, SHORT_VALUE_BYTES_MAX, XattrValue, Xattrs, piece_rest, xattr_hash};
use crate::format::{Ino, Key, Kind};
use crate::fs::error::{damaged, inconsistent};
use crate::fs::heads::Change;
use crate::fs::items::Items;
use crate::ops::{Error, Result};
use crate::volume::{View, VolumeError};
use std::collections::BTreeMap;

fn bucket_key(ino: Ino, name: &[u8]) -> Key {
    Key::new(ino.0, Kind::Xattr, xattr_hash(name))
}

fn xattrs(items: &impl Items, ino: Ino, key: &Key) -> std::result::Result<Xattrs, VolumeError> {
    items.with(key, |value| match value {
        Some(v) => Xattrs::decode(v).map_err(|e| damaged(ino, e)),
        None => Ok(Xattrs::default()),
    })
}

/// The value of an attribute in a view.
pub fn value(view: &View, ino: Ino, name: &[u8]) -> std::result::Result<Option<Vec<u8>>, VolumeError> {
    match xattrs(view, ino, &bucket_key(ino, name))?.find(name) {
        Some(XattrValue::Short(bytes)) => Ok(Some(bytes.clone())),
        Some(XattrValue::Long { number, len }) => long_value(view, ino, *number, *len).map(Some),
        None => Ok(None),
    }
}

/// All attributes of an inode, with their values.
pub fn all_xattrs(view: &View, ino: Ino) -> std::result::Result<BTreeMap<Vec<u8>, Vec<u8>>, VolumeError> {
    let mut all = BTreeMap::new();
    for item in view.range(&Key::new(ino.0, Kind::Xattr, 0), &Key::new(ino.0, Kind::XattrData, 0)) {
        for (name, value) in Xattrs::decode(&item?.1).map_err(|e| damaged(ino, e))?.entries {
            let value = match value {
                XattrValue::Short(bytes) => bytes,
                XattrValue::Long { number, len } => long_value(view, ino, number, len)?,
            };
            all.insert(name, value);
        }
    }
    Ok(all)
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

/// Takes an attribute out with its value; true if it was there. The caller puts the inode.
pub fn take_xattr(change: &mut Change<'_>, ino: Ino, name: &[u8]) -> Result<bool> {
    let key = bucket_key(ino, name);
    let mut bucket = xattrs(change, ino, &key)?;
    match bucket.remove(name) {
        None => return Ok(false),
        Some(XattrValue::Short(_)) => {}
        Some(XattrValue::Long { number, len }) => {
            for piece in 0..u64::from(len).div_ceil(PIECE_BYTES as u64) {
                change.delete(Key::new(ino.0, Kind::XattrData, piece_rest(number, piece)));
            }
        }
    }
    if bucket.entries.is_empty() {
        change.delete(key);
    } else {
        change.put(key, bucket.encode());
    }
    Ok(true)
}

/// Adds an attribute that is not there. The caller puts the inode, which must say that it has some.
pub fn add_xattr(change: &mut Change<'_>, ino: Ino, name: &[u8], value: &[u8]) -> Result<()> {
    let key = bucket_key(ino, name);
    let mut bucket = xattrs(change, ino, &key)?;
    let stored = if value.len() <= SHORT_VALUE_BYTES_MAX {
        XattrValue::Short(value.to_vec())
    } else {
        let number = next_value_number(change, ino)?;
        for (piece, bytes) in value.chunks(PIECE_BYTES).enumerate() {
            change.put(Key::new(ino.0, Kind::XattrData, piece_rest(number, piece as u64)), bytes.to_vec());
        }
        XattrValue::Long { number, len: value.len() as u32 }
    };
    if !bucket.add(name, stored) {
        return Err(Error::LimitReached);
    }
    change.put(key, bucket.encode());
    Ok(())
}

/// A number above those of all long values of the inode.
fn next_value_number(change: &Change<'_>, ino: Ino) -> Result<u64> {
    let (floor, end) = (Key::new(ino.0, Kind::XattrData, 0), Key::new(ino.0, Kind::XattrData, u64::MAX));
    let stored = change.view().last_at_or_before(&end, &floor)?.map(|(key, _)| key.rest);
    let last = stored.max(change.last_collected(&floor, &end).map(|key| key.rest));
    let number = last.map_or(1, |rest| (rest >> 16) + 1);
    if number >> 48 != 0 { Err(Error::LimitReached) } else { Ok(number) }
}
