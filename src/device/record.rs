//! A device that writes every changing call to a file, in the order in which they were carried out. A test needs that
//! to cut the power of the real program at any of them.
//!
//! An entry is written when its call has succeeded, before the caller hears of it: one byte for the call (`W`, `F`,
//! `B`, `D` for write, flush, back, discard), offset and length as little-endian 64-bit numbers, and the bytes that
//! were written. Changing calls wait for each other; reads are not recorded.

use super::{Device, DeviceError, StoreLocation};
use crate::format::mark::FileBirth;
use parking_lot::Mutex;
use std::fs::File;
use std::io::Write;
use std::path::Path;
use std::sync::Arc;

/// A recorded call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RecordedCall {
    /// `write_at`
    Write {
        /// First byte.
        offset: u64,
        /// What was written.
        data: Vec<u8>,
    },
    /// `flush`, of inherited writes as well
    Flush,
    /// `back`
    Back {
        /// First byte.
        offset: u64,
        /// Bytes.
        len: u64,
    },
    /// `discard`
    Discard {
        /// First byte.
        offset: u64,
        /// Bytes.
        len: u64,
    },
}

/// Any device, with a record of what is done to it.
pub struct Recorded {
    inner: Arc<dyn Device>,
    file: Mutex<File>,
}

impl Recorded {
    /// Appends to the record at `path`.
    pub fn new(inner: Arc<dyn Device>, path: &Path) -> std::io::Result<Recorded> {
        let file = File::options().create(true).append(true).open(path)?;
        Ok(Recorded { inner, file: Mutex::new(file) })
    }

    fn then_note(
        &self,
        (op, offset, len, data): (u8, u64, u64, &[u8]),
        call: impl FnOnce() -> Result<(), DeviceError>,
    ) -> Result<(), DeviceError> {
        let mut file = self.file.lock();
        call()?;
        let mut entry = Vec::with_capacity(17 + data.len());
        entry.push(op);
        entry.extend(offset.to_le_bytes());
        entry.extend(len.to_le_bytes());
        entry.extend(data);
        file.write_all(&entry).map_err(|source| DeviceError::Io { what: "writing the record".into(), source })
    }
}

/// The calls of a record, each with the length of the record when it was in it. `None` if the bytes are no record.
pub fn read_changes(mut record: &[u8]) -> Option<Vec<(u64, RecordedCall)>> {
    let total = record.len();
    let mut changes = Vec::new();
    while let Some((op, rest)) = record.split_first() {
        let (offset, rest) = rest.split_first_chunk().map(|(n, rest)| (u64::from_le_bytes(*n), rest))?;
        let (len, rest) = rest.split_first_chunk().map(|(n, rest)| (u64::from_le_bytes(*n), rest))?;
        record = rest;
        let change = match op {
            b'W' => {
                let (data, rest) = rest.split_at_checked(usize::try_from(len).ok()?)?;
                record = rest;
                RecordedCall::Write { offset, data: data.to_vec() }
            }
            b'F' => RecordedCall::Flush,
            b'B' => RecordedCall::Back { offset, len },
            b'D' => RecordedCall::Discard { offset, len },
            _ => return None,
        };
        changes.push(((total - record.len()) as u64, change));
    }
    Some(changes)
}

impl Device for Recorded {
    fn size(&self) -> u64 {
        self.inner.size()
    }

    fn read_at(&self, offset: u64, buf: &mut [u8]) -> Result<(), DeviceError> {
        self.inner.read_at(offset, buf)
    }

    fn write_at(&self, offset: u64, buf: &[u8]) -> Result<(), DeviceError> {
        self.then_note((b'W', offset, buf.len() as u64, buf), || self.inner.write_at(offset, buf))
    }

    fn flush(&self) -> Result<(), DeviceError> {
        self.then_note((b'F', 0, 0, &[]), || self.inner.flush())
    }

    fn flush_inherited(&self) -> Result<(), DeviceError> {
        self.then_note((b'F', 0, 0, &[]), || self.inner.flush_inherited())
    }

    fn back(&self, offset: u64, len: u64) -> Result<(), DeviceError> {
        self.then_note((b'B', offset, len, &[]), || self.inner.back(offset, len))
    }

    fn discard(&self, offset: u64, len: u64) {
        let noted = self.then_note((b'D', offset, len, &[]), || {
            self.inner.discard(offset, len);
            Ok(())
        });
        if let Err(e) = noted {
            log::error!("{e}");
        }
    }

    fn release(&self, offset: u64, len: u64) {
        self.inner.release(offset, len);
    }

    fn will_need(&self, offset: u64, len: u64) {
        self.inner.will_need(offset, len);
    }

    fn kept_parts(&self) -> Option<Vec<(u64, u64, u64)>> {
        self.inner.kept_parts()
    }

    fn stored(&self) -> Vec<(u64, u64)> {
        self.inner.stored()
    }

    fn all_stored(&self) -> Result<Vec<(u64, u64)>, DeviceError> {
        self.inner.all_stored()
    }

    fn lacks(&self, ranges: &[(u64, u64)]) -> Vec<(u64, u64)> {
        self.inner.lacks(ranges)
    }

    fn available(&self) -> u64 {
        self.inner.available()
    }

    fn describe(&self) -> String {
        self.inner.describe()
    }

    fn location(&self) -> StoreLocation {
        self.inner.location()
    }

    fn birth(&self, offset: u64) -> Option<FileBirth> {
        self.inner.birth(offset)
    }

    fn limit_met(&self) -> Option<String> {
        self.inner.limit_met()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::device::Sim;

    #[test]
    fn a_record_is_read_back_and_damage_is_refused() {
        let path = std::env::temp_dir().join(format!("snapfs-record-{}", std::process::id()));
        let device = Recorded::new(Arc::new(Sim::new(1 << 20, 1)), &path).unwrap();
        device.back(8192, 4096).unwrap();
        device.write_at(8192, &[7; 4096]).unwrap();
        device.flush().unwrap();
        device.discard(8192, 4096);
        let bytes = std::fs::read(&path).unwrap();
        std::fs::remove_file(&path).unwrap();
        let changes: Vec<RecordedCall> = read_changes(&bytes).unwrap().into_iter().map(|(_, c)| c).collect();
        let expected = [
            RecordedCall::Back { offset: 8192, len: 4096 },
            RecordedCall::Write { offset: 8192, data: vec![7; 4096] },
            RecordedCall::Flush,
            RecordedCall::Discard { offset: 8192, len: 4096 },
        ];
        assert_eq!(changes, expected);
        assert_eq!(read_changes(&bytes).unwrap().last().unwrap().0, bytes.len() as u64);
        for cut in [1, 16, 18, bytes.len() - 1] {
            assert_eq!(read_changes(&bytes[..cut]), None);
        }
        assert_eq!(read_changes(&[b'X'; 17]), None);
    }
}
