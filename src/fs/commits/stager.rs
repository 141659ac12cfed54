//! What it takes to put content of a head onto the device.

use crate::format::Ino;
use crate::format::inode::Inode;
use crate::fs::heads::Head;
use crate::fs::items::{goes_home, in_force};
use crate::volume::{ContentRun, View, Volume, VolumeError};

/// Puts content of one head onto the device.
#[derive(Clone, Copy)]
pub struct Stager<'a> {
    /// The volume.
    pub volume: &'a Volume,
    /// Whose content it is.
    pub head: &'a Head,
}

impl Stager<'_> {
    /// The head as of now.
    pub fn view(&self) -> Result<View, VolumeError> {
        // A line that was rolled back has another.
        self.volume.live(self.head.line).and_then(|view| match view.id() == self.head.view {
            true => Ok(view),
            false => Err(VolumeError::NoSuchView),
        })
    }

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
        if self.goes_home(view, inode)? {
            return Ok(None);
        }
        Ok(in_force(view, inode)?.0.level())
    }

    /// True for a file whose content goes home: it is not compressed, and zeros of it have a place.
    pub fn goes_home(&self, view: &View, inode: &Inode) -> std::result::Result<bool, VolumeError> {
        Ok(self.volume.knows_homes() && goes_home(view, inode)?)
    }

    /// A part to stage: of so many bytes at an offset of a file. Content that did not pay lately is not tried.
    pub fn part(&self, ino: Ino, offset: u64, len: u64, level: Option<u8>) -> ContentRun {
        ContentRun { len, offset, level: level.filter(|_| self.head.misses.allow(ino, len)) }
    }
}
