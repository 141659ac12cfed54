//! A device in memory that stops reads or writes where a test says so.

use crate::device::{Device, DeviceError, Memory, RESERVED_BYTES};
use parking_lot::{Condvar, Mutex};
use std::sync::Arc;

/// Reads that are still good, and writes that wait.
pub(super) struct Moody {
    memory: Memory,
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    /// So many reads are good, and those that follow find zeros.
    good_reads: Option<usize>,
    /// Writes at or after this offset wait.
    hold_from: Option<u64>,
    waiting: bool,
    /// So many of them go on.
    let_go: usize,
    /// Writes at or after this offset fail.
    fail_from: Option<u64>,
}

type Result = std::result::Result<(), DeviceError>;

impl Moody {
    pub fn new(bytes: u64) -> Arc<Moody> {
        let (state, changed) = (Mutex::default(), Condvar::new());
        Arc::new(Moody { memory: Memory::new(bytes), state, changed })
    }
    /// After `reads` more, reads find zeros.
    pub fn go_bad(&self, reads: usize) {
        self.state.lock().good_reads = Some(reads);
    }
    /// True if a read has found zeros; from here on all are good.
    pub fn get_well(&self) -> bool {
        self.state.lock().good_reads.take() == Some(0)
    }
    /// Has writes behind a log of `log_bytes` fail.
    pub fn fail(&self, log_bytes: u64) {
        self.state.lock().fail_from = Some(RESERVED_BYTES + log_bytes);
    }
    /// Has writes behind a log of `log_bytes` wait.
    pub fn hold(&self, log_bytes: u64) {
        self.state.lock().hold_from = Some(RESERVED_BYTES + log_bytes);
    }
    /// Waits until a write waits.
    pub fn await_held(&self) {
        let mut state = self.state.lock();
        while !state.waiting {
            self.changed.wait(&mut state);
        }
    }
    /// Lets the write go on that waits; the next waits again.
    pub fn let_one_go(&self) {
        let mut state = self.state.lock();
        assert!(std::mem::take(&mut state.waiting));
        state.let_go += 1;
        self.changed.notify_all();
    }
    /// Lets all go on.
    pub fn let_go(&self) {
        self.state.lock().hold_from = None;
        self.changed.notify_all();
    }
}

impl Device for Moody {
    fn size(&self) -> u64 {
        self.memory.size()
    }
    fn read_at(&self, offset: u64, buf: &mut [u8]) -> Result {
        match &mut self.state.lock().good_reads {
            None => {}
            Some(0) => {
                buf.fill(0);
                return Ok(());
            }
            Some(left) => *left -= 1,
        }
        self.memory.read_at(offset, buf)
    }
    fn write_at(&self, offset: u64, buf: &[u8]) -> Result {
        let mut state = self.state.lock();
        if state.fail_from.is_some_and(|from| offset >= from) {
            let (what, source) = ("a write".into(), std::io::ErrorKind::Other.into());
            return Err(DeviceError::Io { what, source });
        }
        while state.hold_from.is_some_and(|from| offset >= from) {
            if state.let_go > 0 {
                state.let_go -= 1;
                break;
            }
            state.waiting = true;
            self.changed.notify_all();
            self.changed.wait(&mut state);
        }
        drop(state);
        self.memory.write_at(offset, buf)
    }
    fn flush(&self) -> Result {
        self.memory.flush()
    }
    fn back(&self, offset: u64, len: u64) -> Result {
        self.memory.back(offset, len)
    }
    fn discard(&self, offset: u64, len: u64) {
        self.memory.discard(offset, len);
    }
    fn available(&self) -> u64 {
        self.memory.available()
    }
    fn describe(&self) -> String {
        "a moody device".into()
    }
}
