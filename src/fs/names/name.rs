//! Names in live directories: which are allowed, and adding and removing them.
//!
//! A directory entry, its link item and the directory's count and times change together, here and nowhere else. Link
//! counts are the caller's.

use crate::format::dirent::name_hash;
use crate::format::link::{Links, link_hash};
use crate::format::{Ino, Key, Kind};
use crate::fs::attributes::flags::{self, check_removal};
use crate::fs::error::{damaged, inconsistent};
use crate::fs::heads::{Change, Heads};
use crate::fs::items::Items;
use crate::fs::options::{CLONEDIR_NAME, ClonedirMode, SnapdirMode};
use crate::limits::NAME_BYTES_MAX;
use crate::ops::{Error, FileType, Result};

/// Refuses what is no name.
pub fn check_name(name: &[u8]) -> Result<()> {
    if name.len() > NAME_BYTES_MAX {
        return Err(Error::NameTooLong);
    }
    if name.is_empty() || name.contains(&b'/') || name.contains(&0) {
        return Err(Error::Invalid);
    }
    Ok(())
}

/// True if this name stands for `.snapshots` in the live directory.
pub fn is_snapdir(heads: &Heads, dir: Ino, name: &[u8]) -> bool {
    let options = &heads.options;
    name == options.snapdir_name
        && options.snapdir != SnapdirMode::Disabled
        && (dir == Ino::ROOT || options.snapdir_everywhere)
}

/// True if this name stands for `.clones` in the live directory.
pub fn is_clonedir(heads: &Heads, dir: Ino, name: &[u8]) -> bool {
    dir == Ino::ROOT && name == CLONEDIR_NAME && heads.options.clonedir != ClonedirMode::Disabled
}

/// True if this name stands for a directory that is in no tree.
pub fn is_reserved(heads: &Heads, dir: Ino, name: &[u8]) -> bool {
    is_snapdir(heads, dir, name) || is_clonedir(heads, dir, name)
}

/// Refuses what cannot be the name of something new in a live directory.
pub fn check_new_name(heads: &Heads, dir: Ino, name: &[u8]) -> Result<()> {
    check_name(name)?;
    if name == b"." || name == b".." || is_reserved(heads, dir, name) {
        return Err(Error::Exists);
    }
    Ok(())
}

/// Refuses what cannot be the name of something to take out of a live directory.
pub fn check_old_name(heads: &Heads, dir: Ino, name: &[u8]) -> Result<()> {
    check_name(name)?;
    match name {
        b"." => Err(Error::Invalid),
        b".." => Err(Error::NotEmpty),
        _ if is_reserved(heads, dir, name) => Err(Error::NotPermitted),
        _ => Ok(()),
    }
}

/// Adds a name that is not there.
pub fn add_name(change: &mut Change<'_>, dir: Ino, name: &[u8], ino: Ino, kind: FileType) -> Result<()> {
    flags::check_addition(&change.known(dir)?)?;
    let hash = name_hash(name);
    let mut bucket = change.bucket(dir, hash)?;
    let link_key = Key::new(ino.0, Kind::Link, link_hash(dir, name));
    let mut links = links(change, ino, &link_key)?;
    if !bucket.add(name, ino, kind) || !links.add(dir, name) {
        return Err(Error::LimitReached);
    }
    change.put(Key::new(dir.0, Kind::Dirent, hash), bucket.encode());
    change.put(link_key, links.encode());
    touch_directory(change, dir, 1)
}

/// Takes out a name that is there.
pub fn remove_name(change: &mut Change<'_>, dir: Ino, name: &[u8], ino: Ino) -> Result<()> {
    check_removal(change, dir, ino)?;
    let hash = name_hash(name);
    let mut bucket = change.bucket(dir, hash)?;
    let link_key = Key::new(ino.0, Kind::Link, link_hash(dir, name));
    let mut links = links(change, ino, &link_key)?;
    if bucket.remove(name).is_none() || !links.remove(dir, name) {
        return Err(inconsistent(ino, "directory entry and link item do not match").into());
    }
    let dirent_key = Key::new(dir.0, Kind::Dirent, hash);
    if bucket.entries.is_empty() {
        change.delete(dirent_key);
    } else {
        change.put(dirent_key, bucket.encode());
    }
    if links.names.is_empty() {
        change.delete(link_key);
    } else {
        change.put(link_key, links.encode());
    }
    touch_directory(change, dir, -1)
}

fn links(change: &Change<'_>, ino: Ino, key: &Key) -> Result<Links> {
    Ok(change.with(key, |value| match value {
        Some(v) => Links::decode(v).map_err(|e| damaged(ino, e)),
        None => Ok(Links::default()),
    })?)
}

fn touch_directory(change: &mut Change<'_>, dir: Ino, names: i64) -> Result<()> {
    let mut inode = change.known(dir)?;
    inode.size = inode
        .size
        .checked_add_signed(names)
        .ok_or_else(|| inconsistent(dir, "counts fewer names than it has"))?;
    inode.mtime = change.now;
    inode.ctime = change.now;
    change.put_inode(dir, &inode);
    Ok(())
}

/// Changes the number of subdirectories that a directory counts.
pub fn add_subdirectories(change: &mut Change<'_>, dir: Ino, by: i32) -> Result<()> {
    let mut inode = change.known(dir)?;
    inode.nlink = match inode.nlink.checked_add_signed(by) {
        Some(n) if n > crate::limits::LINKS_MAX => return Err(Error::TooManyLinks),
        Some(n) if n >= 2 => n,
        _ => return Err(inconsistent(dir, "counts fewer subdirectories than it has").into()),
    };
    change.put_inode(dir, &inode);
    Ok(())
}
