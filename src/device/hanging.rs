//! A disk whose calls hang until they are let go: for tests of who waits for it.

use super::waited::goes_on;
use super::{Device, DeviceError, Sim, StoreLocation};
use crate::format::mark::FileBirth;
use parking_lot::{Condvar, Mutex};
use std::sync::Arc;
use std::time::Duration;

/// A disk whose calls hang until they are let go.
pub(crate) struct Hanging {
    /// The disk itself, of which nothing hangs.
    pub(crate) sim: Sim,
    /// That they do, and how many.
    hangs: Mutex<(bool, usize)>,
    changed: Condvar,
    /// What it says is stored there.
    place: (u64, u64),
    /// So often it says that it goes on before it tells of its files, and how long each time takes.
    steps: (u32, Duration),
}

impl Hanging {
    pub(crate) fn new(sim: Sim) -> Arc<Hanging> {
        Hanging::with(sim, (8 << 20, 4096))
    }

    /// One that says that this is stored there, and half as much kept.
    pub(crate) fn with(sim: Sim, place: (u64, u64)) -> Arc<Hanging> {
        Hanging::slow(sim, place, (0, Duration::ZERO))
    }

    /// The same of one that looks for that in so many steps of this length.
    pub(crate) fn slow(sim: Sim, place: (u64, u64), steps: (u32, Duration)) -> Arc<Hanging> {
        Arc::new(Hanging { sim, hangs: Mutex::default(), changed: Condvar::new(), place, steps })
    }

    fn look(&self) {
        for _ in 0..self.steps.0 {
            std::thread::sleep(self.steps.1);
            goes_on();
        }
    }

    pub(crate) fn hang(&self, hangs: bool) {
        self.hangs.lock().0 = hangs;
        self.changed.notify_all();
    }

    fn pass(&self) -> &Sim {
        let mut hangs = self.hangs.lock();
        hangs.1 += 1;
        while hangs.0 {
            self.changed.wait(&mut hangs);
        }
        hangs.1 -= 1;
        &self.sim
    }

    /// Calls that hang.
    pub(crate) fn waiting(&self) -> usize {
        self.hangs.lock().1
    }
}

impl Device for Hanging {
    fn size(&self) -> u64 {
        self.sim.size()
    }
    fn read_at(&self, offset: u64, buf: &mut [u8]) -> Result<(), DeviceError> {
        self.pass().read_at(offset, buf)
    }
    fn write_at(&self, offset: u64, buf: &[u8]) -> Result<(), DeviceError> {
        self.pass().write_at(offset, buf)
    }
    fn flush(&self) -> Result<(), DeviceError> {
        self.pass().flush()
    }
    fn flush_inherited(&self) -> Result<(), DeviceError> {
        self.pass();
        self.look();
        self.sim.flush_inherited()
    }
    fn back(&self, offset: u64, len: u64) -> Result<(), DeviceError> {
        self.pass().back(offset, len)
    }
    fn discard(&self, offset: u64, len: u64) {
        self.pass().discard(offset, len);
    }
    fn available(&self) -> u64 {
        self.pass().available()
    }
    fn stored(&self) -> Vec<(u64, u64)> {
        self.pass();
        self.look();
        vec![self.place]
    }
    fn kept_parts(&self) -> Option<Vec<(u64, u64, u64)>> {
        self.pass();
        self.look();
        Some(vec![(self.place.0, self.place.1, self.place.1 / 2)])
    }
    fn release(&self, _: u64, _: u64) {
        self.pass();
    }
    fn will_need(&self, _: u64, _: u64) {
        self.pass();
    }
    fn describe(&self) -> String {
        self.pass();
        "a disk that hangs".into()
    }
    fn location(&self) -> StoreLocation {
        self.pass();
        StoreLocation { path: Some("/disks/one".into()), ..StoreLocation::default() }
    }
    fn birth(&self, _: u64) -> Option<FileBirth> {
        self.pass();
        None
    }
    fn limit_met(&self) -> Option<String> {
        self.pass();
        None
    }
}
