//! Volumes in memory, for tests.

use super::{Access, NothingAbove, OpenOptions, Volume};
use crate::device::{Device, Memory};
use crate::format::{BLOCK_BYTES, Extent, Key, Kind, LineId, Slot};
use std::sync::Arc;

impl Volume {
    /// A new store in memory with room for `bytes` and the overheads of an empty one.
    pub fn memory(bytes: u64) -> Arc<Volume> {
        let size = bytes.max(crate::limits::STORE_BYTES_MIN);
        Volume::made_on(Arc::new(Memory::new(size)))
    }

    /// A volume of all of `device`.
    pub fn made_on(device: Arc<dyn Device>) -> Arc<Volume> {
        Volume::create(device.clone(), device.size(), [1; 16], (0, 0)).unwrap();
        let options = OpenOptions { access: Access::ReadWrite, cache_bytes: 4 << 20 };
        let volume = Volume::open(device, options).unwrap();
        volume.recover(&mut NothingAbove);
        volume.commit(&mut |_| Ok(())).unwrap();
        volume
    }

    /// Free bytes that are kept for content that belongs there.
    pub fn kept_for_homes(&self) -> u64 {
        self.shared.store().alloc().kept_bytes()
    }

    /// True if nobody has the slot, or knows whoever had it.
    pub fn is_free(&self, slot: Slot) -> bool {
        self.state.read().lines.slots.is_free(slot)
    }

    /// Keys of the live tree.
    pub fn live_items(&self) -> Vec<Key> {
        self.live(LineId::MAIN).unwrap().range(&Key::MIN, &Key::MAX).map(|r| r.unwrap().0).collect()
    }

    /// Blocks that the extents of the live tree refer to.
    pub fn live_blocks(&self) -> u64 {
        let view = self.live(LineId::MAIN).unwrap();
        let items = view.range(&Key::MIN, &Key::MAX).map(|r| r.unwrap());
        let extents = items.filter(|(k, _)| k.kind == Kind::Extent as u8);
        extents.map(|(_, v)| Extent::decode(&v).unwrap().stored_bytes() / BLOCK_BYTES).sum()
    }
}
