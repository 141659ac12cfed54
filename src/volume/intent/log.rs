//! The log of an open volume: its end in memory, and what is written and flushed of it.

use crate::format::log::{Effects, FLUSH_BYTES, HEADER_BYTES, RecordHeader};
use crate::format::{Epoch, LineId};
use crate::limits::RESERVED_BYTES;
use crate::store::{Result, Store, StoreError};
use parking_lot::{Condvar, Mutex};
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

/// Kept free for the records of marks: one of this session's last commit, and one of the next session's first.
const KEPT_BYTES: u64 = 2 * FLUSH_BYTES;

/// So much of the ring is written over at once.
const WIPE_BYTES: u64 = 256 << 10;

/// The log of an open volume. Any thread. Lock order: the writer, then the tail; the flusher's lock is a leaf.
pub struct Log {
    bytes: u64,
    generation: u64,
    tail: Mutex<Tail>,
    /// Whoever writes, one at a time; a buffer to write from.
    writer: Mutex<Vec<u8>>,
    flusher: Mutex<Flusher>,
    flushed: Condvar,
    /// A write failed: what it was to write is lost to whoever comes later. Changed with the writer held.
    failed: AtomicBool,
    /// False while the log of an earlier session is in force.
    recording: AtomicBool,
}

/// The end of the log. Positions count bytes and never start anew; one is found at its remainder in the ring.
struct Tail {
    /// Where a replay would start.
    oldest: u64,
    /// Position of the next record.
    head: u64,
    /// End of the last record.
    prev_end: u64,
    /// Everything before this is on the device and flushed.
    durable: u64,
    /// The greatest `durable` that a record tells of.
    durable_told: u64,
    /// Position of the first byte in `bytes`: start of a block.
    start: u64,
    /// What may not be written yet, up to `head`, from the start of a block.
    bytes: Vec<u8>,
    /// End of the last record that tells of something.
    told_end: u64,
    /// Epoch and line of the last record.
    last: (Epoch, LineId),
    /// Something is in `bytes` that was not written.
    unwritten: bool,
    /// Records that did not fit: since the last mark, and before it.
    lost: bool,
    lost_before_mark: bool,
    /// Position of the record that the last mark has put, which begins the log once the commit is done.
    beginning: Option<u64>,
}

#[derive(Default)]
struct Flusher {
    busy: bool,
    failed: bool,
    durable: u64,
}

impl Log {
    /// A log of `bytes` bytes that goes on at `head`, the start of a block. It records from the first
    /// [`Log::release`] on.
    pub fn new(bytes: u64, head: u64, generation: u64) -> Log {
        let tail = Tail {
            oldest: head,
            head,
            prev_end: head,
            durable: head,
            durable_told: head,
            start: head,
            bytes: Vec::new(),
            told_end: head,
            last: (Epoch(0), LineId::MAIN),
            unwritten: false,
            lost: false,
            lost_before_mark: false,
            beginning: None,
        };
        Log {
            bytes,
            generation,
            tail: Mutex::new(tail),
            writer: Mutex::default(),
            flusher: Mutex::default(),
            flushed: Condvar::new(),
            failed: AtomicBool::new(false),
            recording: AtomicBool::new(false),
        }
    }

    /// The same log, behind what an earlier session left, which stays in force until the first [`Log::release`].
    pub fn after(self, start: u64, end: u64) -> Log {
        let log = Log::new(self.bytes, end.next_multiple_of(FLUSH_BYTES), self.generation);
        log.tail.lock().oldest = start;
        log
    }

    /// Session that records carry.
    pub fn generation(&self) -> u64 {
        self.generation
    }

    /// Length of the ring.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Position behind the last record.
    pub fn head(&self) -> u64 {
        self.tail.lock().head
    }

    /// True if records are kept.
    pub fn is_recording(&self) -> bool {
        self.recording.load(Relaxed)
    }

    /// Takes no more records: what changes from now on is in none. Called with the state locked.
    pub fn end(&self) {
        let _tail = self.tail.lock();
        self.recording.store(false, Relaxed);
    }

    /// Bytes in use.
    pub fn used_bytes(&self) -> u64 {
        let tail = self.tail.lock();
        tail.head - tail.oldest
    }

    /// True if a session that records has logged nothing since the last mark.
    pub fn is_at_beginning(&self) -> bool {
        self.is_recording() && self.tail.lock().beginning().is_some()
    }

    /// True while something is in no record that a replay would reach: only a commit makes it durable.
    pub fn is_behind(&self) -> bool {
        let tail = self.tail.lock();
        tail.lost || tail.lost_before_mark
    }

    /// Appends what a transaction did. Called with the state locked, so in the order of history.
    pub fn append(&self, line: LineId, epoch: Epoch, effects: &Effects) {
        if effects.is_empty() {
            return;
        }
        let mut tail = self.tail.lock();
        if !self.is_recording() {
            // The old session's log is still in force: the first commit ends it.
            tail.lost = true;
            return;
        }
        if tail.lost || !self.put(&mut tail, epoch, line, effects.bytes(), KEPT_BYTES) {
            tail.lost = true;
        }
    }

    /// Writes everything appended so far.
    pub fn write_out(&self, store: &Store) -> Result<()> {
        self.write(store, false).map(drop)
    }

    /// Writes the record that the last mark has put, unless whoever logged something since has written it with that. A
    /// flush must follow.
    pub fn write_beginning(&self, store: &Store) -> Result<()> {
        self.write(store, true).map(drop)
    }

    /// Writes everything appended; returns the end of the last record. Before a flush (`seal`) the next record is moved
    /// to the next block.
    fn write(&self, store: &Store, seal: bool) -> Result<u64> {
        let mut buffer = self.writer.lock();
        if self.failed.load(Relaxed) {
            return Err(StoreError::Device("an earlier write of the log failed".into()));
        }
        let (start, end) = {
            let mut tail = self.tail.lock();
            if seal {
                tail.align();
            }
            if !tail.unwritten {
                return Ok(tail.prev_end);
            }
            tail.unwritten = false;
            let (start, end) = (tail.start, tail.prev_end);
            // The block that more will be added to stays.
            std::mem::swap(&mut *buffer, &mut tail.bytes);
            let whole = whole_blocks(buffer.len());
            tail.bytes.clear();
            tail.bytes.extend_from_slice(&buffer[whole..]);
            tail.start += whole as u64;
            (start, end)
        };
        let whole = buffer.len().next_multiple_of(FLUSH_BYTES as usize);
        buffer.resize(whole, 0);
        let at = start % self.bytes;
        let first = (buffer.len() as u64).min(self.bytes - at) as usize;
        let mut written = store.write_raw(RESERVED_BYTES + at, &buffer[..first]);
        if first < buffer.len() {
            written = written.and_then(|()| store.write_raw(RESERVED_BYTES, &buffer[first..]));
        }
        self.failed.store(written.is_err(), Relaxed);
        written.map(|()| end)
    }

    /// Makes everything appended so far durable, with one flush for all who ask meanwhile. False if the log does not
    /// hold all of it: then a commit has to.
    pub fn sync(&self, store: &Store) -> Result<bool> {
        let target = {
            let tail = self.tail.lock();
            if !self.is_recording() || tail.lost || tail.lost_before_mark {
                return Ok(false);
            }
            if tail.durable >= tail.told_end {
                return Ok(true);
            }
            tail.told_end
        };
        let mut flusher = self.flusher.lock();
        loop {
            if flusher.failed {
                return Err(StoreError::Device("an earlier flush of the log failed".into()));
            }
            if flusher.durable >= target {
                return Ok(true);
            }
            if !flusher.busy {
                break;
            }
            self.flushed.wait(&mut flusher);
        }
        flusher.busy = true;
        drop(flusher);
        let done = self.write(store, true).and_then(|end| store.flush().map(|()| end));
        let mut flusher = self.flusher.lock();
        flusher.busy = false;
        match &done {
            Ok(end) => {
                flusher.durable = flusher.durable.max(*end);
                let mut tail = self.tail.lock();
                tail.durable = tail.durable.max(*end);
            }
            Err(_) => flusher.failed = true,
        }
        drop(flusher);
        self.flushed.notify_all();
        done.map(|_| true)
    }

    /// Writes a record without effects behind what was flushed, if no record says yet that it was.
    pub fn tell_flushed(&self, store: &Store) -> Result<()> {
        let mut tail = self.tail.lock();
        if tail.durable <= tail.durable_told || tail.lost || tail.lost_before_mark {
            return Ok(());
        }
        let (epoch, line) = tail.last;
        if !self.put(&mut tail, epoch, line, &[], KEPT_BYTES) {
            return Ok(());
        }
        drop(tail);
        self.write_out(store)
    }

    /// Appends a record. False if there is no room for it beside `kept` bytes.
    fn put(&self, tail: &mut Tail, epoch: Epoch, line: LineId, effects: &[u8], kept: u64) -> bool {
        let len = HEADER_BYTES as u64 + effects.len() as u64;
        let room = self.bytes - (tail.head - tail.oldest);
        if len.next_multiple_of(FLUSH_BYTES) + kept > room || len > u64::from(u32::MAX) {
            return false;
        }
        let header = RecordHeader {
            len: len as u32,
            generation: self.generation,
            lsn: tail.head,
            prev_end: tail.prev_end,
            durable: tail.durable,
            epoch,
            line,
        };
        header.seal(effects, &mut tail.bytes);
        tail.head = header.end();
        tail.prev_end = tail.head;
        tail.unwritten = true;
        if !effects.is_empty() {
            tail.told_end = tail.head;
        }
        tail.durable_told = tail.durable;
        tail.last = (epoch, line);
        true
    }

    /// The place that divides what a commit contains from what comes later, and whether a record stands there: one
    /// without effects at the start of a block, so that a log that is missing is told from an empty one. The commit has it
    /// written and flushes it before a superblock names it. `line` and `epoch` are those of what comes later. Called with the
    /// state locked.
    pub fn mark(&self, line: LineId, epoch: Epoch) -> (u64, bool) {
        let mut tail = self.tail.lock();
        if let Some(place) = tail.beginning() {
            return (place, true);
        }
        tail.align();
        if std::mem::take(&mut tail.lost) {
            tail.lost_before_mark = true;
            // No record ends here: a replay that does not start behind it stops.
            tail.prev_end = 0;
        }
        let place = tail.head;
        let begins = self.put(&mut tail, epoch, line, &[], 0);
        tail.beginning = begins.then_some(place);
        (place, begins)
    }

    /// A commit has made everything before `mark` durable: its space is free. Recording begins with the first.
    pub fn release(&self, mark: u64) {
        let mut tail = self.tail.lock();
        tail.oldest = mark;
        tail.durable = tail.durable.max(mark);
        tail.durable_told = tail.durable_told.max(mark);
        tail.lost_before_mark = false;
        self.recording.store(true, Relaxed);
    }
}

impl Log {
    /// Writes zeros over all of the ring that is not in force, and returns how much that was. What is appended meanwhile is
    /// left alone. A flush must follow.
    pub fn wipe(&self, store: &Store) -> Result<u64> {
        let zeros = vec![0; WIPE_BYTES as usize];
        let (mut at, mut wiped, mut end) = (0, 0, None);
        loop {
            // Nobody writes records meanwhile, so none comes to be where zeros go.
            let _writer = self.writer.lock();
            {
                let tail = self.tail.lock();
                at = tail.head.next_multiple_of(FLUSH_BYTES).max(at);
                let to = (tail.oldest + self.bytes) / FLUSH_BYTES * FLUSH_BYTES;
                end.get_or_insert(to);
            }
            let Some(left) = end.and_then(|end| end.checked_sub(at)).filter(|left| *left > 0) else {
                return Ok(wiped);
            };
            let place = at % self.bytes;
            let part = left.min(WIPE_BYTES).min(self.bytes - place);
            store.write_raw(RESERVED_BYTES + place, &zeros[..part as usize])?;
            at += part;
            wiped += part;
        }
    }
}

impl Tail {
    /// Position of the last mark's record, if nothing was logged since.
    fn beginning(&self) -> Option<u64> {
        self.beginning.filter(|place| self.told_end <= *place && !self.lost && !self.lost_before_mark)
    }

    /// Moves the next record to the start of a block.
    fn align(&mut self) {
        let to = self.head.next_multiple_of(FLUSH_BYTES);
        let len = (to - self.start) as usize;
        self.bytes.resize(len, 0);
        self.head = to;
        if !self.unwritten {
            self.forget_whole_blocks();
        }
    }

    /// Drops blocks that nothing will be added to.
    fn forget_whole_blocks(&mut self) {
        let whole = whole_blocks(self.bytes.len());
        self.bytes.drain(..whole);
        self.start += whole as u64;
    }
}

/// Bytes of `len` in whole blocks.
fn whole_blocks(len: usize) -> usize {
    len / FLUSH_BYTES as usize * FLUSH_BYTES as usize
}
