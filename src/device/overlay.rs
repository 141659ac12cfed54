//! A device in memory over another that is only read: what would become of a store if it were written to.
//!
//! The one below is never changed. A block that was written is taken from memory from then on; discarding brings back
//! nothing. Nothing is durable, so `flush` does nothing.

use super::access::check_range;
use super::{Device, DeviceError};
use parking_lot::RwLock;
use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::Arc;

const BLOCK_BYTES: u64 = 4096;

/// What was written over a device. Any thread may call; a write waits for reads of written blocks.
pub struct Overlay {
    below: Arc<dyn Device>,
    blocks: RwLock<HashMap<u64, Box<[u8]>>>,
}

impl Overlay {
    /// Nothing written yet.
    #[must_use]
    pub fn new(below: Arc<dyn Device>) -> Overlay {
        Overlay { below, blocks: RwLock::default() }
    }
}

/// The blocks of a range: the start of each, and the part of the buffer and of the block that it is.
fn pieces(offset: u64, len: usize) -> impl Iterator<Item = (u64, std::ops::Range<usize>, usize)> {
    let mut at = 0;
    std::iter::from_fn(move || {
        let place = offset + at as u64;
        let inside = (place % BLOCK_BYTES) as usize;
        let part = (BLOCK_BYTES as usize - inside).min(len - at);
        let piece = (place - inside as u64, at..at + part, inside);
        at += part;
        (part > 0).then_some(piece)
    })
}

impl Device for Overlay {
    fn size(&self) -> u64 {
        self.below.size()
    }

    fn read_at(&self, offset: u64, buf: &mut [u8]) -> Result<(), DeviceError> {
        check_range(self, offset, buf.len() as u64)?;
        let blocks = self.blocks.read();
        let written = |start: &u64| blocks.contains_key(start);
        if !pieces(offset, buf.len()).all(|(start, ..)| written(&start)) {
            self.below.read_at(offset, buf)?;
        }
        for (start, part, inside) in pieces(offset, buf.len()) {
            if let Some(block) = blocks.get(&start) {
                let len = part.len();
                buf[part].copy_from_slice(&block[inside..inside + len]);
            }
        }
        Ok(())
    }

    fn write_at(&self, offset: u64, buf: &[u8]) -> Result<(), DeviceError> {
        check_range(self, offset, buf.len() as u64)?;
        let mut blocks = self.blocks.write();
        for (start, part, inside) in pieces(offset, buf.len()) {
            let len = part.len();
            let block = match blocks.entry(start) {
                Entry::Occupied(block) => block.into_mut(),
                Entry::Vacant(place) => {
                    let mut block = vec![0; BLOCK_BYTES as usize];
                    if (len as u64) < BLOCK_BYTES {
                        self.below.read_at(start, &mut block)?;
                    }
                    place.insert(block.into())
                }
            };
            block[inside..inside + len].copy_from_slice(&buf[part]);
        }
        Ok(())
    }

    fn flush(&self) -> Result<(), DeviceError> {
        Ok(())
    }

    fn back(&self, offset: u64, len: u64) -> Result<(), DeviceError> {
        check_range(self, offset, len)
    }

    fn discard(&self, _offset: u64, _len: u64) {}

    fn available(&self) -> u64 {
        // What would be there for whoever writes; what is written here needs none of it.
        self.below.available()
    }

    fn describe(&self) -> String {
        self.below.describe()
    }
}

#[cfg(test)]
mod tests {
    use super::super::Memory;
    use super::*;

    #[test]
    fn what_is_written_stays_above() {
        let below = Arc::new(Memory::new(64 << 20));
        below.write_at(0, &[7; 3 * 4096]).unwrap();
        let overlay = Overlay::new(below.clone());
        overlay.write_at(4096 + 100, &[9; 5000]).unwrap();
        let (mut above, mut under) = (vec![0; 3 * 4096], vec![0; 3 * 4096]);
        overlay.read_at(0, &mut above).unwrap();
        below.read_at(0, &mut under).unwrap();
        assert!(under.iter().all(|b| *b == 7));
        let expected: Vec<u8> =
            (0..above.len()).map(|at| if (4196..9196).contains(&at) { 9 } else { 7 }).collect();
        assert_eq!(above, expected);
        assert!(overlay.read_at(64 << 20, &mut above).is_err());
    }
}
