//! TEMPORARY stand-in for the volume: an ordered map in memory, cloned per snapshot. Not crash safe, not fast.

use crate::format::extent::EXTENT_BYTES_MAX;
use crate::format::{BLOCK_BYTES, BlockAddr, Epoch, Extent, Ino, Key, Kind, ViewId};
use crate::ops::Timestamp;
use parking_lot::{Mutex, RwLock, RwLockWriteGuard};
use std::collections::BTreeMap;
use std::sync::Arc;

#[derive(Clone, PartialEq, Eq, Debug)]
pub enum VolumeError {
    Corrupt { what: String },
    Device(String),
    NoSpace,
    ReadOnly(String),
    NoSuchView,
    NameTaken,
    BadName,
    LimitReached(&'static str),
}
impl std::fmt::Display for VolumeError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{self:?}")
    }
}
impl std::error::Error for VolumeError {}
type Result<T> = std::result::Result<T, VolumeError>;

pub struct Item(Vec<u8>);
impl std::ops::Deref for Item {
    type Target = [u8];
    fn deref(&self) -> &[u8] {
        &self.0
    }
}
#[derive(Clone, Debug)]
pub struct SnapshotInfo {
    pub id: ViewId,
    pub name: Vec<u8>,
    pub created: Timestamp,
    pub epoch: Epoch,
    pub referenced: u64,
    pub exclusive: u64,
    pub written: u64,
}
pub struct Space {
    pub total: u64,
    pub free: u64,
    pub available: u64,
}
pub struct Need {
    pub items: u32,
    pub data_bytes: u64,
}
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Purpose {
    Write,
    Delete,
}
#[derive(Default)]
struct Store {
    blocks: BTreeMap<u64, Option<Box<[u8]>>>,
    refs: BTreeMap<u64, i32>,
    next: u64,
    total: u64,
    pending: u64,
    snapshots: Vec<(SnapshotInfo, Arc<View>)>,
    next_view: u32,
}
impl Store {
    fn used(&self) -> u64 {
        self.blocks.len() as u64 * BLOCK_BYTES
    }
}
#[derive(Clone)]
pub struct View {
    map: Arc<BTreeMap<Key, Vec<u8>>>,
    store: Arc<Mutex<Store>>,
    id: ViewId,
    epoch: Epoch,
}
pub struct Volume {
    live: RwLock<View>,
    store: Arc<Mutex<Store>>,
}
pub struct Staged {
    store: Arc<Mutex<Store>>,
    extents: Vec<Extent>,
}
impl Drop for Staged {
    fn drop(&mut self) {
        let mut s = self.store.lock();
        for e in &self.extents {
            for b in 0..e.len_bytes() / BLOCK_BYTES {
                s.blocks.remove(&(e.addr.0 + b * BLOCK_BYTES));
            }
        }
    }
}
pub struct Range {
    view: View,
    next: Option<Key>,
    to: Key,
}
impl Iterator for Range {
    type Item = Result<(Key, Item)>;
    fn next(&mut self) -> Option<Self::Item> {
        let from = self.next?;
        if from >= self.to {
            return None;
        }
        let (k, v) = self.view.map.range(from..self.to).next()?;
        self.next = Some(k.successor());
        Some(Ok((*k, Item(v.clone()))))
    }
}
impl View {
    pub fn get(&self, key: &Key) -> Result<Option<Item>> {
        Ok(self.map.get(key).map(|v| Item(v.clone())))
    }
    pub fn last_at_or_before(&self, key: &Key, floor: &Key) -> Result<Option<(Key, Item)>> {
        Ok(self.map.range(*floor..=*key).next_back().map(|(k, v)| (*k, Item(v.clone()))))
    }
    pub fn range(&self, from: &Key, to: &Key) -> Range {
        Range { view: self.clone(), next: Some(*from), to: *to }
    }
    pub fn read_extent(&self, ext: &Extent, from: u64, out: &mut [u8]) -> Result<()> {
        assert!(from % BLOCK_BYTES == 0 && out.len() as u64 % BLOCK_BYTES == 0);
        assert!(from + out.len() as u64 <= ext.len_bytes());
        let s = self.store.lock();
        for (i, chunk) in out.chunks_mut(BLOCK_BYTES as usize).enumerate() {
            match s.blocks.get(&(ext.addr.0 + from + i as u64 * BLOCK_BYTES)) {
                Some(Some(b)) if !ext.is_unwritten() => chunk.copy_from_slice(b),
                Some(_) => chunk.fill(0),
                None => panic!("read of a freed block at {}", ext.addr),
            }
        }
        Ok(())
    }
    pub fn id(&self) -> ViewId {
        self.id
    }
    pub fn epoch(&self) -> Epoch {
        self.epoch
    }
}
pub struct Txn<'a> {
    live: RwLockWriteGuard<'a, View>,
}
impl Txn<'_> {
    pub fn view(&self) -> &View {
        &self.live
    }
    pub fn reserve(&mut self, need: Need, purpose: Purpose) -> Result<()> {
        let mut s = self.live.store.lock();
        let bytes = need.data_bytes + u64::from(need.items.min(1)) * BLOCK_BYTES;
        if purpose == Purpose::Write && s.used() + s.pending + bytes > s.total {
            return Err(VolumeError::NoSpace);
        }
        s.pending += need.data_bytes;
        Ok(())
    }
    pub fn insert(&mut self, key: Key, value: &[u8]) -> Result<()> {
        assert!(value.len() <= 4160, "value of {} bytes", value.len());
        Arc::make_mut(&mut self.live.map).insert(key, value.to_vec());
        Ok(())
    }
    pub fn remove(&mut self, key: &Key) -> Result<bool> {
        Ok(Arc::make_mut(&mut self.live.map).remove(key).is_some())
    }
    pub fn publish(&mut self, mut staged: Staged) -> Vec<Extent> {
        let mut out = std::mem::take(&mut staged.extents);
        let mut s = self.live.store.lock();
        for e in &mut out {
            e.birth = self.live.epoch;
            count(&mut s, e, 1);
        }
        out
    }
    pub fn free(&mut self, ext: &Extent) {
        count(&mut self.live.store.lock(), ext, -1);
    }
    pub fn share(&mut self, ext: &Extent) -> Extent {
        count(&mut self.live.store.lock(), ext, 1);
        Extent { birth: self.live.epoch, ..ext.clone() }
    }
    pub fn next_ino(&mut self) -> Result<Ino> {
        let key = Key::new(u64::MAX, Kind::Orphan, 0);
        let n = self
            .live
            .map
            .get(&key)
            .map_or(Ino::FIRST_FREE.0, |v| u64::from_le_bytes(v[..].try_into().unwrap()));
        self.insert(key, &(n + 1).to_le_bytes())?;
        Ok(Ino(n))
    }
}
fn count(s: &mut Store, ext: &Extent, by: i32) {
    for b in 0..ext.len_bytes() / BLOCK_BYTES {
        let addr = ext.addr.0 + b * BLOCK_BYTES;
        let n = s.refs.entry(addr).or_insert(0);
        *n += by;
        assert!(*n >= 0, "block {addr:#x} freed twice");
        if *n == 0 && s.snapshots.is_empty() {
            s.refs.remove(&addr);
            s.blocks.remove(&addr);
        }
    }
}
impl Volume {
    pub fn memory(total: u64) -> Arc<Volume> {
        let store = Arc::new(Mutex::new(Store { next: 1 << 20, total, next_view: 1, ..Store::default() }));
        let live = View { map: Arc::default(), store: store.clone(), id: ViewId(0), epoch: Epoch(1) };
        Arc::new(Volume { live: RwLock::new(live), store })
    }
    /// References held by the live tree, in blocks (tests).
    pub fn live_blocks(&self) -> u64 {
        self.store.lock().refs.values().filter(|n| **n > 0).map(|n| *n as u64).sum()
    }
    /// Items of the live tree (tests).
    pub fn live_items(&self) -> Vec<Key> {
        self.live.read().map.keys().copied().filter(|k| k.object != u64::MAX).collect()
    }
    pub fn live(&self) -> View {
        self.live.read().clone()
    }
    pub fn begin(&self) -> Txn<'_> {
        Txn { live: self.live.write() }
    }
    pub fn snapshot(&self, id: ViewId) -> Result<Arc<View>> {
        let s = self.store.lock();
        s.snapshots.iter().find(|x| x.0.id == id).map(|x| x.1.clone()).ok_or(VolumeError::NoSuchView)
    }
    pub fn snapshots(&self) -> Vec<SnapshotInfo> {
        self.store.lock().snapshots.iter().map(|s| s.0.clone()).collect()
    }
    pub fn find_snapshot(&self, name: &[u8]) -> Option<SnapshotInfo> {
        self.snapshots().into_iter().find(|s| s.name == name)
    }
    pub fn create_snapshot(
        &self,
        name: &[u8],
        created: Timestamp,
        prepare: &mut dyn FnMut(&mut Txn) -> Result<()>,
    ) -> Result<ViewId> {
        if self.find_snapshot(name).is_some() {
            return Err(VolumeError::NameTaken);
        }
        let mut txn = self.begin();
        prepare(&mut txn)?;
        let mut s = self.store.lock();
        let id = ViewId(s.next_view);
        s.next_view += 1;
        s.pending = 0;
        let view = Arc::new(View { id, ..txn.live.clone() });
        let epoch = txn.live.epoch;
        let info =
            SnapshotInfo { id, name: name.into(), created, epoch, referenced: 0, exclusive: 0, written: 0 };
        s.snapshots.push((info, view));
        drop(s);
        txn.live.epoch = epoch.next();
        Ok(id)
    }
    pub fn rename_snapshot(&self, id: ViewId, new: &[u8]) -> Result<()> {
        if self.find_snapshot(new).is_some() {
            return Err(VolumeError::NameTaken);
        }
        let mut s = self.store.lock();
        let snap = s.snapshots.iter_mut().find(|s| s.0.id == id).ok_or(VolumeError::NoSuchView)?;
        snap.0.name = new.into();
        Ok(())
    }
    pub fn delete_snapshot(&self, id: ViewId) -> Result<()> {
        let at = self.snapshots().iter().position(|s| s.id == id).ok_or(VolumeError::NoSuchView)?;
        let gone = self.store.lock().snapshots.remove(at);
        drop(gone);
        Ok(())
    }
    pub fn commit(&self, prepare: &mut dyn FnMut(&mut Txn) -> Result<()>) -> Result<()> {
        let mut txn = self.begin();
        prepare(&mut txn)?;
        txn.live.epoch = txn.live.epoch.next();
        self.store.lock().pending = 0;
        Ok(())
    }
    pub fn stage(&self, data: &[u8]) -> Result<Staged> {
        self.stage_with(data.len() as u64, |at| Some(data[at..at + 4096].into()))
    }
    pub fn stage_unwritten(&self, len: u64) -> Result<Staged> {
        self.stage_with(len, |_| None)
    }
    fn stage_with(&self, len: u64, block: impl Fn(usize) -> Option<Box<[u8]>>) -> Result<Staged> {
        assert!(len > 0 && len % BLOCK_BYTES == 0);
        let mut s = self.store.lock();
        if s.used() + len > s.total {
            return Err(VolumeError::NoSpace);
        }
        let mut extents = Vec::new();
        let base = s.next;
        s.next += len;
        for at in (0..len).step_by(BLOCK_BYTES as usize) {
            s.blocks.insert(base + at, block(at as usize));
        }
        for at in (0..len).step_by(EXTENT_BYTES_MAX as usize) {
            let part = (len - at).min(EXTENT_BYTES_MAX);
            let crcs = if block(0).is_some() { vec![7; (part / BLOCK_BYTES) as usize] } else { Vec::new() };
            extents.push(Extent { addr: BlockAddr(base + at), birth: Epoch(1), len: part as u32, crcs });
        }
        Ok(Staged { store: self.store.clone(), extents })
    }
    pub fn space(&self) -> Space {
        let s = self.store.lock();
        let free = s.total.saturating_sub(s.used());
        Space { total: s.total, free, available: free.saturating_sub(s.pending) }
    }
    pub fn is_read_only(&self) -> bool {
        false
    }
    pub fn dirty_bytes(&self) -> u64 {
        0
    }
}
