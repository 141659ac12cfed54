//! The mark: whether the file that it lies in belongs to a store that is open for writing, and which file that is. One
//! sector, so that a crash leaves the old or the new one.

use super::{FormatError, bad};
use xxhash_rust::xxh3::xxh3_64_with_seed;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned, little_endian as le};

/// Where the two marks are: behind the rings, and in a directory store in the files of these.
pub const MARK_ADDRS: [u64; 2] = [256 << 10, 768 << 10];
/// Bytes that are written for a mark.
pub const MARK_BYTES: usize = 4096;

const MAGIC: [u8; 8] = *b"SnpMark\n";
const SEED: u64 = 0x4D4B;

/// Which file it is: of all files that a file system has or had, as far as it tells.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct FileBirth {
    /// Inode number.
    pub inode: u64,
    /// When it was made: seconds since 1970,
    pub secs: u64,
    /// and nanoseconds.
    pub nanos: u32,
}

/// What a mark says.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Mark {
    /// The store was closed.
    Closed,
    /// The store is open for writing, or was when its daemon or host ended, and this is the file.
    Open(FileBirth),
}

#[derive(Clone, Copy, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
struct RawMark {
    checksum: le::U64,
    magic: [u8; 8],
    inode: le::U64,
    secs: le::U64,
    nanos: le::U32,
    open: u8,
    reserved: [u8; 27],
}
const RAW_BYTES: usize = 64;
const _: () = assert!(size_of::<RawMark>() == RAW_BYTES);

impl Mark {
    /// To what is written: the mark and zeros.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let birth = match self {
            Mark::Closed => FileBirth { inode: 0, secs: 0, nanos: 0 },
            Mark::Open(birth) => *birth,
        };
        let mut raw = RawMark {
            checksum: 0.into(),
            magic: MAGIC,
            inode: birth.inode.into(),
            secs: birth.secs.into(),
            nanos: birth.nanos.into(),
            open: u8::from(*self != Mark::Closed),
            reserved: [0; 27],
        };
        raw.checksum = xxh3_64_with_seed(&raw.as_bytes()[8..], SEED).into();
        let mut bytes = raw.as_bytes().to_vec();
        bytes.resize(MARK_BYTES, 0);
        bytes
    }

    /// From what was read. None where no mark was ever written.
    ///
    /// # Errors
    /// If it is neither zeros nor a mark.
    pub fn decode(bytes: &[u8]) -> Result<Option<Mark>, FormatError> {
        let Ok((raw, _)) = RawMark::ref_from_prefix(bytes) else {
            return bad!("a mark has {} bytes, not {RAW_BYTES}", bytes.len());
        };
        if raw.as_bytes() == [0; RAW_BYTES] {
            return Ok(None);
        }
        if raw.magic != MAGIC || raw.checksum.get() != xxh3_64_with_seed(&raw.as_bytes()[8..], SEED) {
            return bad!("the mark has a wrong magic number or checksum");
        }
        let birth = FileBirth { inode: raw.inode.get(), secs: raw.secs.get(), nanos: raw.nanos.get() };
        match (raw.open, raw.reserved) {
            (0, [0, ..]) => Ok(Some(Mark::Closed)),
            (1, [0, ..]) => Ok(Some(Mark::Open(birth))),
            (n, _) => bad!("the mark is of kind {n}, known are 0 and 1"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mark_is_read_back_and_damage_is_refused() {
        let open = Mark::Open(FileBirth { inode: 12, secs: 1 << 33, nanos: 5 });
        for mark in [Mark::Closed, open] {
            let bytes = mark.encode();
            assert_eq!(Mark::decode(&bytes), Ok(Some(mark)));
            for i in 0..RAW_BYTES {
                let mut bad = bytes.clone();
                bad[i] ^= 4;
                assert!(Mark::decode(&bad).is_err(), "a flip at byte {i} went unseen");
                assert!(Mark::decode(&bytes[..i]).is_err());
            }
        }
        assert_eq!(Mark::decode(&[0; MARK_BYTES]), Ok(None));
    }
}
