//! How often the device was called, and for how many bytes.

use std::cell::Cell;
use std::marker::PhantomData;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// Device calls since the store was opened.
#[derive(Default)]
pub struct IoCounts {
    pub(super) reads: AtomicU64,
    pub(super) read_bytes: AtomicU64,
    pub(super) writes: AtomicU64,
    pub(super) written_bytes: AtomicU64,
    pub(super) flushes: AtomicU64,
    /// Read calls of threads that others waited for.
    pub(super) waited_for: AtomicU64,
    /// Writes and flushes of such.
    pub(super) writes_waited_for: AtomicU64,
}

thread_local! {
    static WAITED_FOR: Cell<usize> = const { Cell::new(0) };
}

/// Held by a thread while others may wait for it that want nothing from the device: what it reads and writes meanwhile is counted.
#[derive(Debug)]
pub struct WaitedFor(PhantomData<*const ()>);

impl WaitedFor {
    /// From now on.
    #[allow(clippy::new_without_default, reason = "it says when it begins")]
    pub fn new() -> WaitedFor {
        WAITED_FOR.set(WAITED_FOR.get() + 1);
        WaitedFor(PhantomData)
    }

    pub(super) fn is_this_thread() -> bool {
        WAITED_FOR.get() > 0
    }
}

impl Drop for WaitedFor {
    fn drop(&mut self) {
        WAITED_FOR.set(WAITED_FOR.get() - 1);
    }
}

/// [`IoCounts`] at one moment.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct IoSnapshot {
    /// Read calls.
    pub reads: u64,
    /// Bytes read.
    pub read_bytes: u64,
    /// Write calls.
    pub writes: u64,
    /// Bytes written.
    pub written_bytes: u64,
    /// Flush calls.
    pub flushes: u64,
}

impl std::ops::Sub for IoSnapshot {
    type Output = IoSnapshot;
    fn sub(self, o: IoSnapshot) -> IoSnapshot {
        IoSnapshot {
            reads: self.reads - o.reads,
            read_bytes: self.read_bytes - o.read_bytes,
            writes: self.writes - o.writes,
            written_bytes: self.written_bytes - o.written_bytes,
            flushes: self.flushes - o.flushes,
        }
    }
}

impl IoCounts {
    pub(super) fn now(&self) -> IoSnapshot {
        IoSnapshot {
            reads: self.reads.load(Relaxed),
            read_bytes: self.read_bytes.load(Relaxed),
            writes: self.writes.load(Relaxed),
            written_bytes: self.written_bytes.load(Relaxed),
            flushes: self.flushes.load(Relaxed),
        }
    }
}
