//! Reading a log back: the records of one session from a position on, up to the first that does not follow.
//!
//! Reads the device alone. Whatever the bytes are, the result is a list of records whose checksums hold, in order.

use crate::device::Device;
use crate::format::log::{FLUSH_BYTES, HEADER_BYTES, RecordHeader};
use crate::format::superblock::Superblock;
use crate::limits::RESERVED_BYTES;

/// How far behind the end of the records is looked for one that proves that it is no end.
const LOOK_AHEAD_BYTES: u64 = 4 << 20;
/// Read at once.
const READ_BYTES: u64 = 64 << 10;

/// A record as it was found.
pub struct LogRecord {
    pub header: RecordHeader,
    bytes: Vec<u8>,
}

impl LogRecord {
    /// False if it only says what had been flushed.
    pub fn tells(&self) -> bool {
        !self.effects().is_empty()
    }

    /// All of it, as it is in the log.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Bytes of its effects.
    pub fn effects(&self) -> &[u8] {
        self.bytes.get(HEADER_BYTES..).unwrap_or_default()
    }
}

/// A session's records.
#[derive(Default)]
pub struct FoundLog {
    pub records: Vec<LogRecord>,
    /// Where the first of them is.
    pub start: u64,
    /// Everything before this position had been flushed, as records say.
    pub durable: u64,
    /// Where the last record ends.
    pub end: u64,
    /// Why the end is no ordinary one: records are missing that had been flushed.
    pub damage: Option<String>,
}

/// Reads the records that a state does not contain.
pub fn scan(device: &dyn Device, superblock: &Superblock) -> FoundLog {
    scan_sides(device, device.sides(), superblock)
}

/// The same of some sides alone.
pub fn scan_sides(device: &dyn Device, sides: Vec<usize>, superblock: &Superblock) -> FoundLog {
    let (bytes, start, generation) = (superblock.log_bytes, superblock.log_start, superblock.log_generation);
    let ring = |side| Ring { device, side, bytes, at: 0, window: Vec::new(), error: None };
    let mut rings: Vec<Ring<'_>> = sides.into_iter().map(ring).collect();
    let limit = start.saturating_add(bytes);
    let mut found = FoundLog { start, end: start, durable: start, ..FoundLog::default() };
    while let Some(record) = next(&mut rings, &found, start, limit, generation) {
        found.durable = found.durable.max(record.header.durable);
        found.end = record.header.end();
        found.records.push(record);
    }
    let is_missing = found.records.is_empty();
    // Where nothing need be, it does not matter what can be read.
    let matters = superblock.log_begins || !is_missing;
    let ahead = unreadable(&rings).filter(|_| matters);
    let ahead = ahead.or_else(|| look_ahead(&mut rings, &found, limit, generation));
    found.damage = ahead.or_else(|| (superblock.log_begins && is_missing).then(|| no_beginning(start)));
    found
}

/// Why it cannot be read, if that is so on every side.
fn unreadable(rings: &[Ring<'_>]) -> Option<String> {
    let errors: Option<Vec<&String>> = rings.iter().map(|ring| ring.error.as_ref()).collect();
    errors?.first().map(ToString::to_string)
}

fn no_beginning(start: u64) -> String {
    format!(
        "the log has no record at {start}, where it begins: it is an older copy, or was emptied or replaced"
    )
}

/// The record behind those found: right behind the last, or, after a flush, at the start of the next block.
fn next(
    rings: &mut [Ring<'_>],
    found: &FoundLog,
    start: u64,
    limit: u64,
    generation: u64,
) -> Option<LogRecord> {
    let block = found.end.next_multiple_of(FLUSH_BYTES);
    let places = if block == found.end { vec![block] } else { vec![found.end, block] };
    places.into_iter().find_map(|at| {
        let record = read(rings, at, limit, generation)?;
        (record.header.prev_end == found.end || at == start).then_some(record)
    })
}

/// The record at a place, from whichever side proves it.
fn read(rings: &mut [Ring<'_>], at: u64, limit: u64, generation: u64) -> Option<LogRecord> {
    rings.iter_mut().find_map(|ring| read_side(ring, at, limit, generation))
}

fn read_side(ring: &mut Ring<'_>, at: u64, limit: u64, generation: u64) -> Option<LogRecord> {
    if at.saturating_add(HEADER_BYTES as u64) > limit {
        return None;
    }
    let header = ring.header(at)?;
    if header.generation != generation || header.lsn != at || header.end() > limit {
        return None;
    }
    let bytes = ring.read(at, u64::from(header.len))?;
    header.proves(&bytes).then_some(LogRecord { header, bytes })
}

/// A record behind the end that was made when the end had been flushed with what followed: that is missing.
fn look_ahead(rings: &mut [Ring<'_>], found: &FoundLog, limit: u64, generation: u64) -> Option<String> {
    let from = found.end.next_multiple_of(FLUSH_BYTES);
    let to = limit.min(from.saturating_add(LOOK_AHEAD_BYTES));
    (from..to).step_by(FLUSH_BYTES as usize).find_map(|at| {
        let header = read(rings, at, limit, generation)?.header;
        (header.durable > found.end)
            .then(|| format!("the log ends at {} and had been flushed up to {}", found.end, header.durable))
    })
}

/// The ring of one side as a line of places.
struct Ring<'a> {
    device: &'a dyn Device,
    side: usize,
    bytes: u64,
    /// Position of the window: a multiple of its unit.
    at: u64,
    window: Vec<u8>,
    /// The first error of the device.
    error: Option<String>,
}

impl Ring<'_> {
    /// What stands there, if it is a header: that is asked of each block behind the records.
    fn header(&mut self, at: u64) -> Option<RecordHeader> {
        if !(self.at..self.at + self.window.len() as u64).contains(&at) {
            self.load(at)?;
        }
        let from = (at - self.at) as usize;
        match self.window.get(from..from + HEADER_BYTES) {
            Some(bytes) => RecordHeader::peek(bytes),
            None => RecordHeader::peek(&self.read(at, HEADER_BYTES as u64)?),
        }
    }

    fn read(&mut self, at: u64, len: u64) -> Option<Vec<u8>> {
        let mut out = Vec::new();
        let (mut at, end) = (at, at.checked_add(len)?);
        while at < end {
            if at < self.at || at >= self.at + self.window.len() as u64 {
                self.load(at)?;
            }
            let from = (at - self.at) as usize;
            let part = (end - at).min((self.window.len() - from) as u64) as usize;
            out.extend_from_slice(self.window.get(from..from + part)?);
            at += part as u64;
        }
        Some(out)
    }

    /// Moves the window to the block at `at`.
    fn load(&mut self, at: u64) -> Option<()> {
        let at = at - at % FLUSH_BYTES;
        let place = at % self.bytes;
        self.window.resize(READ_BYTES.min(self.bytes - place) as usize, 0);
        self.at = at;
        match self.device.read_side(self.side, RESERVED_BYTES + place, &mut self.window) {
            Ok(()) => Some(()),
            Err(e) => {
                self.window.clear();
                self.error.get_or_insert(format!("the log cannot be read: {e}"));
                None
            }
        }
    }
}
