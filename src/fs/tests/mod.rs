//! Tests through [`Operations`](crate::ops::Operations), on a volume in memory.

mod at_once;
mod clones;
mod closing;
mod cold;
mod compression;
mod content;
mod deleting;
mod descriptions;
mod device;
mod difference;
mod expiry;
mod freezing;
mod guards;
mod held_paths;
mod holds;
mod homing;
mod homing_elsewhere;
mod homing_faults;
mod homing_uses;
mod lines;
mod merge;
mod merging;
mod merging_times;
mod names;
mod paths;
mod pause;
mod planning;
mod purged_traces;
mod purging;
mod purging_rest;
mod purging_room;
mod purging_trash;
mod random;
mod restore;
mod rollback;
mod room;
mod scarce;
mod schedules;
mod snapshots;
mod space;
mod stream_births;
mod stream_cases;
mod stream_changes;
mod stream_faults;
mod stream_merges;
mod stream_sizes;
mod stream_terms;
mod streams;
mod switch_kernel;
mod transfer;
mod trash;
mod trials;
mod tripwire;

use super::{Between, Fs, FsOptions, Steps};
use crate::clock::Clock;
pub(super) use crate::fixtures::{ADMIN as SUPER, RO, RW, SNAPDIR, USER};
use crate::fs::commits::{Stager, flush};
use crate::fs::heads::Head;
use crate::ops::*;
use crate::volume::Volume;
use std::sync::Arc;

pub(super) const ROOT: NodeId = NodeId::ROOT;

/// A file system and shorthands for what tests do all the time. Panics where a request fails.
pub(super) struct T {
    pub fs: Arc<Fs>,
    pub clock: Clock,
    /// The head that the root showed when it was opened.
    head: Arc<Head>,
}

impl T {
    pub fn new() -> T {
        T::with(1 << 40, FsOptions::default())
    }
    pub fn with(bytes: u64, options: FsOptions) -> T {
        T::on(Volume::memory(bytes), options)
    }
    pub fn on(volume: Arc<Volume>, options: FsOptions) -> T {
        let clock = Clock::manual(1000);
        let fs = Fs::open(volume, options, clock.clone()).unwrap();
        let head = fs.heads.main();
        T { fs, clock, head }
    }
    pub fn find(&self, dir: NodeId, name: &str) -> Result<NodeId> {
        self.fs.lookup(&USER, dir, name.as_bytes()).map(|e| e.attr.node)
    }
    pub fn create(&self, dir: NodeId, name: &str) -> (NodeId, Handle) {
        let (e, h) = self.fs.create(&USER, dir, name.as_bytes(), 0o644, RW).unwrap();
        (e.attr.node, h)
    }
    pub fn mkdir(&self, dir: NodeId, name: &str) -> Result<NodeId> {
        self.fs.mkdir(&USER, dir, name.as_bytes(), 0o755).map(|e| e.attr.node)
    }
    pub fn attr(&self, node: NodeId) -> Attr {
        self.fs.getattr(node, None).unwrap().0
    }
    pub fn write(&self, (node, handle): (NodeId, Handle), at: u64, data: &[u8]) {
        assert_eq!(self.fs.write(node, handle, at, data, false), Ok(data.len()));
    }
    pub fn read(&self, (node, handle): (NodeId, Handle), at: u64, len: usize) -> Vec<u8> {
        let mut out = vec![9; len];
        let read = self.fs.read(node, handle, at, &mut out).unwrap();
        out.truncate(read);
        out
    }
    pub fn open(&self, node: NodeId, flags: OpenFlags) -> (NodeId, Handle) {
        (node, self.fs.open(&USER, node, flags).unwrap())
    }
    /// Whole content by path from a directory.
    pub fn cat(&self, dir: NodeId, name: &str) -> Vec<u8> {
        let f = self.open(self.find(dir, name).unwrap(), RO);
        let out = self.read(f, 0, 1 << 24);
        self.fs.release(f.0, f.1);
        out
    }
    pub fn put(&self, dir: NodeId, name: &str, data: &[u8]) -> NodeId {
        let f = self.create(dir, name);
        self.write(f, 0, data);
        self.fs.release(f.0, f.1);
        f.0
    }
    pub fn resize(&self, node: NodeId, size: u64) {
        let set = SetAttr { size: Some(size), ..SetAttr::default() };
        self.fs.setattr(&USER, node, None, &set).unwrap();
    }
    /// Names of a directory, without dots.
    pub fn list(&self, dir: NodeId) -> Vec<String> {
        let handle = self.fs.opendir(&USER, dir).unwrap();
        let (mut names, mut after) = (Vec::new(), 0);
        loop {
            let before = names.len();
            let mut n = 0;
            self.fs
                .readdir(dir, handle, after, true, &mut |e| {
                    n += 1;
                    if n > 7 {
                        return false;
                    }
                    assert!(e.cookie > after, "cookies in order");
                    after = e.cookie;
                    names.push(String::from_utf8(e.name.clone()).unwrap());
                    true
                })
                .unwrap();
            if names.len() == before {
                break;
            }
        }
        self.fs.releasedir(dir, handle);
        assert_eq!(names[..2], [".", ".."]);
        names.split_off(2)
    }
    /// Sets the compression of a file or directory.
    pub fn compress(&self, node: NodeId, value: &str) {
        let name = b"user.snapfs.compression";
        self.fs.setxattr(&SUPER, node, name, value.as_bytes(), XattrMode::Set).unwrap();
    }
    /// The head that the root showed when it was opened.
    pub fn head(&self) -> &Head {
        &self.head
    }
    /// What puts its content onto the device.
    pub fn stager(&self) -> Stager<'_> {
        self.fs.commits.stager(self.head())
    }
    /// Puts what it holds back onto the device early.
    pub fn stage_early(&self) -> flush::Early {
        flush::stage_early(&[self.stager()]).remove(0)
    }
    /// The rest of a commit that has put this onto the device early.
    pub fn commit_after(&self, early: flush::Early) {
        let mut gate = self.head().gate.write();
        let mut found = Some(flush::look_through_all(&gate, self.stager(), early).unwrap());
        let prepare = &mut |txn: &mut crate::volume::Txn<'_>| {
            let placed = flush::complete(&gate, txn, found.take().unwrap())?;
            flush::settle_round(&mut gate, placed);
            Ok(())
        };
        self.fs.volume().commit(prepare).unwrap();
    }
    /// The newest committed state is sound, its content too.
    pub fn prove(&self) {
        let report = crate::check::check(self.fs.volume(), crate::check::Depth::Data).unwrap();
        assert!(report.is_clean(), "{report:?}");
    }
    /// Until no record fits any more.
    pub fn fill_log(&self) {
        let volume = self.fs.volume();
        while !volume.log_is_behind() {
            let mut txn = volume.begin(crate::format::LineId::MAIN).unwrap();
            txn.note(|out| out.resize(out.len() + (1 << 20), 0));
        }
    }
    pub fn snapshot(&self, name: &str) -> NodeId {
        self.mkdir(SNAPDIR, name).unwrap()
    }
}
