//! Inodes without a name: alive while they are open or the kernel knows them, then purged.
//!
//! In memory they are in the gate's `unlinked`; a commit gives each a record in the tree, and opening a file system
//! purges whatever has one. A purge goes in steps of bounded size, and the record goes last.

use super::Fs;
use super::intent::Note;
use super::items::decode_extent;
use super::truncate::STEP_ITEMS;
use crate::format::{Ino, Key, Kind, LineId};
use crate::ops::Result;
use crate::volume::Purpose;

fn record(ino: Ino) -> Key {
    Key::new(Ino::ORPHANS.0, Kind::Orphan, ino.0)
}

impl Fs {
    /// The kernel has dropped a live inode, or a handle of it was closed (`forgotten` says which).
    pub(super) fn drop_reference(&self, ino: Ino, forgotten: bool) {
        if !self.gate.read().unlinked.contains_key(&ino) {
            return;
        }
        let purge = {
            let mut gate = self.gate.write();
            let Some(state) = gate.unlinked.get_mut(&ino) else { return };
            *state |= forgotten;
            *state && !self.handles.is_open(ino)
        };
        if purge {
            self.purge_or_keep(ino);
        }
    }

    /// Purges every inode that has a record from before.
    pub(super) fn purge_orphans(&self) -> Result<()> {
        let view = self.volume.live(LineId::MAIN)?;
        let (from, to) = (record(Ino(0)), record(Ino::END));
        let mut found = Vec::new();
        for item in view.range(&from, &to) {
            found.push(Ino(item?.0.rest));
        }
        drop(view);
        if !found.is_empty() {
            log::info!("purging {} files that were deleted while open", found.len());
        }
        found.into_iter().for_each(|ino| self.purge_or_keep(ino));
        Ok(())
    }

    /// Purges every inode that has lost its name, open or not.
    pub(super) fn purge_all_unlinked(&self) {
        let all: Vec<Ino> = self.gate.read().unlinked.keys().copied().collect();
        all.into_iter().for_each(|ino| self.purge_or_keep(ino));
    }

    /// Purges; a damaged inode must not keep anybody from mounting or unmounting, so it stays, with its record.
    fn purge_or_keep(&self, ino: Ino) {
        if let Err(e) = self.with_space(|| self.purge(ino)) {
            log::warn!("inode {} without a name stays until the next mount: {e}", ino.0);
        }
    }

    /// Removes every item of an inode. Until the last step it counts as unlinked, so that a commit in between leaves
    /// its record.
    fn purge(&self, ino: Ino) -> Result<()> {
        let (from, to) =
            (Key { object: ino.0, kind: 0, rest: 0 }, Key { object: ino.0 + 1, kind: 0, rest: 0 });
        loop {
            let mut change = self.change()?;
            change.discard(ino, 0, u64::MAX);
            let mut items = Vec::new();
            for item in change.view().range(&from, &to).take(STEP_ITEMS) {
                let (key, value) = item?;
                let ext = match key.kind == Kind::Extent as u8 {
                    true => Some(decode_extent(&key, &value)?.1),
                    false => None,
                };
                items.push((key, ext));
            }
            let last = items.len() < STEP_ITEMS;
            change.reserve(items.len() + 1, Purpose::Delete)?;
            for (key, ext) in items {
                change.txn.remove(&key)?;
                if let Some(ext) = ext {
                    change.txn.free(&ext);
                }
            }
            if last {
                change.txn.remove(&record(ino))?;
                Note::Purged { ino }.put(&mut change.txn);
                change.gate.unlinked.remove(&ino);
                return Ok(());
            }
        }
    }
}
