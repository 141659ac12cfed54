//! A device in main memory: for tests and benchmarks that need no faults.
//!
//! Invariant: the backed bytes never exceed the space limit. Memory is taken in chunks as they are written, not for
//! the whole address space. Nothing is durable, so `flush` does nothing. Ranges never written read as zeros.

use std::collections::HashMap;
use std::sync::Arc;

use parking_lot::{Mutex, RwLock};

use super::access::check_range;
use super::ranges::ByteRanges;
use super::{Device, DeviceError};

const CHUNK_BYTES: u64 = 1 << 20;
/// Backing is counted in whole blocks, as a host would.
const BLOCK_BYTES: u64 = 4096;

type Chunk = Arc<RwLock<Box<[u8]>>>;

/// A sparse device in memory. Calls on different chunks of 1 MiB never wait for each other's copying.
#[derive(Debug)]
pub struct Memory {
    size: u64,
    chunks: RwLock<HashMap<u64, Chunk>>,
    space: Mutex<Space>,
}

#[derive(Debug)]
struct Space {
    backed: ByteRanges,
    limit: u64,
}

impl Memory {
    /// A device of `size` bytes whose host can back all of it.
    #[must_use]
    pub fn new(size: u64) -> Memory {
        Memory::with_space_limit(size, size)
    }

    /// A device of `size` bytes whose host can back `limit` bytes.
    #[must_use]
    pub fn with_space_limit(size: u64, limit: u64) -> Memory {
        let space = Mutex::new(Space { backed: ByteRanges::default(), limit });
        Memory { size, chunks: RwLock::default(), space }
    }

    /// Changes what the host can back. Ranges that are backed already stay so.
    pub fn set_space_limit(&self, limit: u64) {
        self.space.lock().limit = limit;
    }

    fn chunk(&self, number: u64) -> Chunk {
        if let Some(chunk) = self.chunks.read().get(&number) {
            return chunk.clone();
        }
        let fresh = || Arc::new(RwLock::new(vec![0; CHUNK_BYTES as usize].into()));
        self.chunks.write().entry(number).or_insert_with(fresh).clone()
    }
}

impl Device for Memory {
    fn size(&self) -> u64 {
        self.size
    }

    fn read_at(&self, offset: u64, buf: &mut [u8]) -> Result<(), DeviceError> {
        check_range(self, offset, buf.len() as u64)?;
        for piece in pieces(offset, buf.len() as u64) {
            let target = &mut buf[piece.done..piece.done + piece.len];
            let chunk = self.chunks.read().get(&piece.number).cloned();
            match chunk {
                Some(chunk) => target.copy_from_slice(&chunk.read()[piece.start..piece.start + piece.len]),
                None => target.fill(0),
            }
        }
        Ok(())
    }

    fn write_at(&self, offset: u64, buf: &[u8]) -> Result<(), DeviceError> {
        self.back(offset, buf.len() as u64)?;
        for piece in pieces(offset, buf.len() as u64) {
            let chunk = self.chunk(piece.number);
            let source = &buf[piece.done..piece.done + piece.len];
            chunk.write()[piece.start..piece.start + piece.len].copy_from_slice(source);
        }
        Ok(())
    }

    fn flush(&self) -> Result<(), DeviceError> {
        Ok(())
    }

    fn back(&self, offset: u64, len: u64) -> Result<(), DeviceError> {
        check_range(self, offset, len)?;
        let start = offset / BLOCK_BYTES * BLOCK_BYTES;
        let end = (offset + len).next_multiple_of(BLOCK_BYTES);
        let space = &mut *self.space.lock();
        if space.backed.insert_within(start, end, space.limit) { Ok(()) } else { Err(DeviceError::NoSpace) }
    }

    fn discard(&self, offset: u64, len: u64) {
        let end = offset.saturating_add(len).min(self.size);
        if offset >= end {
            return;
        }
        self.space
            .lock()
            .backed
            .remove(offset.next_multiple_of(BLOCK_BYTES), end / BLOCK_BYTES * BLOCK_BYTES);
        let whole = offset.div_ceil(CHUNK_BYTES)..end / CHUNK_BYTES;
        self.chunks.write().retain(|number, _| !whole.contains(number));
    }

    fn available(&self) -> u64 {
        let space = self.space.lock();
        space.limit.saturating_sub(space.backed.total())
    }

    fn describe(&self) -> String {
        "memory".into()
    }
}

/// The part of a call that one chunk serves.
struct Piece {
    number: u64,
    /// Offset within the chunk.
    start: usize,
    len: usize,
    /// Offset within the caller's buffer.
    done: usize,
}

fn pieces(offset: u64, len: u64) -> impl Iterator<Item = Piece> {
    let mut done = 0;
    std::iter::from_fn(move || {
        let at = offset + done;
        let start = at % CHUNK_BYTES;
        let piece_len = (CHUNK_BYTES - start).min(len - done);
        let piece = Piece {
            number: at / CHUNK_BYTES,
            start: start as usize,
            len: piece_len as usize,
            done: done as usize,
        };
        done += piece_len;
        (piece_len > 0).then_some(piece)
    })
}
