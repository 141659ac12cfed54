//! Names in live directories: which are allowed, and adding and removing them.
//!
//! A directory entry, its link item and the directory's count and times change together, here and nowhere else. Link
//! counts are the caller's.

use super::change::Change;
use super::error::{damaged, inconsistent};
use super::flags;
use super::items::Items;
use super::{Fs, SnapdirMode};
use crate::format::dirent::name_hash;
use crate::format::link::{Links, link_hash};
use crate::format::{Ino, Key, Kind};
use crate::limits::NAME_BYTES_MAX;
use crate::ops::{Error, FileType, Result};

/// Refuses what is no name.
pub(super) fn check_name(name: &[u8]) -> Result<()> {
    if name.len() > NAME_BYTES_MAX {
        return Err(Error::NameTooLong);
    }
    if name.is_empty() || name.contains(&b'/') || name.contains(&0) {
        return Err(Error::Invalid);
    }
    Ok(())
}

impl Fs {
    /// True if this name stands for `.snapshots` in the live directory.
    pub(super) fn is_snapdir(&self, dir: Ino, name: &[u8]) -> bool {
        let options = &self.options;
        name == options.snapdir_name
            && options.snapdir != SnapdirMode::Disabled
            && (dir == Ino::ROOT || options.snapdir_everywhere)
    }

    /// Refuses what cannot be the name of something new in a live directory.
    pub(super) fn check_new_name(&self, dir: Ino, name: &[u8]) -> Result<()> {
        check_name(name)?;
        if name == b"." || name == b".." || self.is_snapdir(dir, name) {
            return Err(Error::Exists);
        }
        Ok(())
    }

    /// Refuses what cannot be the name of something to take out of a live directory.
    pub(super) fn check_old_name(&self, dir: Ino, name: &[u8]) -> Result<()> {
        check_name(name)?;
        match name {
            b"." => Err(Error::Invalid),
            b".." => Err(Error::NotEmpty),
            _ if self.is_snapdir(dir, name) => Err(Error::NotPermitted),
            _ => Ok(()),
        }
    }
}

impl Change<'_> {
    /// Adds a name that is not there.
    pub fn add_name(&mut self, dir: Ino, name: &[u8], ino: Ino, kind: FileType) -> Result<()> {
        flags::check_addition(&self.known(dir)?)?;
        let hash = name_hash(name);
        let mut bucket = self.bucket(dir, hash)?;
        let link_key = Key::new(ino.0, Kind::Link, link_hash(dir, name));
        let mut links = self.links(ino, &link_key)?;
        if !bucket.add(name, ino, kind) || !links.add(dir, name) {
            return Err(Error::LimitReached);
        }
        self.put(Key::new(dir.0, Kind::Dirent, hash), bucket.encode());
        self.put(link_key, links.encode());
        self.touch_directory(dir, 1)
    }

    /// Takes out a name that is there.
    pub fn remove_name(&mut self, dir: Ino, name: &[u8], ino: Ino) -> Result<()> {
        self.check_removal(dir, ino)?;
        let hash = name_hash(name);
        let mut bucket = self.bucket(dir, hash)?;
        let link_key = Key::new(ino.0, Kind::Link, link_hash(dir, name));
        let mut links = self.links(ino, &link_key)?;
        if bucket.remove(name).is_none() || !links.remove(dir, name) {
            return Err(inconsistent(ino, "directory entry and link item do not match").into());
        }
        let dirent_key = Key::new(dir.0, Kind::Dirent, hash);
        if bucket.entries.is_empty() {
            self.delete(dirent_key);
        } else {
            self.put(dirent_key, bucket.encode());
        }
        if links.names.is_empty() {
            self.delete(link_key);
        } else {
            self.put(link_key, links.encode());
        }
        self.touch_directory(dir, -1)
    }

    fn links(&self, ino: Ino, key: &Key) -> Result<Links> {
        Ok(self.with(key, |value| match value {
            Some(v) => Links::decode(v).map_err(|e| damaged(ino, e)),
            None => Ok(Links::default()),
        })?)
    }

    fn touch_directory(&mut self, dir: Ino, names: i64) -> Result<()> {
        let mut inode = self.known(dir)?;
        inode.size = inode
            .size
            .checked_add_signed(names)
            .ok_or_else(|| inconsistent(dir, "counts fewer names than it has"))?;
        inode.mtime = self.now;
        inode.ctime = self.now;
        self.put_inode(dir, &inode);
        Ok(())
    }

    /// Changes the number of subdirectories that a directory counts.
    pub fn add_subdirectories(&mut self, dir: Ino, by: i32) -> Result<()> {
        let mut inode = self.known(dir)?;
        inode.nlink = match inode.nlink.checked_add_signed(by) {
            Some(n) if n > crate::limits::LINKS_MAX => return Err(Error::TooManyLinks),
            Some(n) if n >= 2 => n,
            _ => return Err(inconsistent(dir, "counts fewer subdirectories than it has").into()),
        };
        self.put_inode(dir, &inode);
        Ok(())
    }
}
