//! The directory entry item: a bucket of the entries of one directory whose names share a hash.
//!
//! Every entry keeps its slot as long as it lives, so that hash and slot together are a stable cookie for `readdir`.
//! Names in a bucket are distinct and so are slots. Order in the bucket means nothing.

use super::inode::{type_from_number, type_number};
use super::{FormatError, Ino, bad};
use crate::limits::NAME_BYTES_MAX;
use crate::names;
use crate::ops::FileType;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned, little_endian as le};

/// Seed of the hash of names. On disk for ever.
const NAME_SEED: u64 = 0x736e_6170_6673_0001;
/// Cookies of a bucket start here: 0 is "from the start", 1 is `.` and 2 is `..`.
const COOKIE_FIRST: u64 = 3;
/// Slots of a bucket: what fits the low 8 bits of a cookie.
const SLOTS: u8 = 252;
/// Largest value of a tree item, in bytes.
pub const VALUE_BYTES_MAX: usize = 4160;

/// Where a name belongs: the `rest` of its bucket's key. 55 bits of hash; the low 8 bits are left to the slot and the
/// top bit is zero, because cookies are signed for some readers.
pub fn name_hash(name: &[u8]) -> u64 {
    xxhash_rust::xxh3::xxh3_64_with_seed(name, NAME_SEED) & (u64::MAX >> 1) & !0xff
}

/// One name.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Dirent {
    /// What it names.
    pub ino: Ino,
    /// The type of that, so that a listing need not look at each inode.
    pub kind: FileType,
    /// Its place among names of the same hash.
    pub slot: u8,
    /// The name, 1..=255 bytes.
    pub name: Vec<u8>,
}

impl Dirent {
    /// The cookie of the entry in the bucket of `hash`.
    pub fn cookie(&self, hash: u64) -> u64 {
        hash | (u64::from(self.slot) + COOKIE_FIRST)
    }
}

/// Names of one directory that share a hash.
#[derive(Clone, Default, PartialEq, Eq, Debug)]
pub struct NameBucket {
    /// The entries.
    pub entries: Vec<Dirent>,
}

#[derive(Clone, Copy, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
struct RawDirent {
    ino: le::U64,
    kind: u8,
    slot: u8,
    name_len: u8,
    reserved: u8,
}
const _: () = assert!(size_of::<RawDirent>() == 12);

impl NameBucket {
    /// The entry of `name`.
    pub fn find(&self, name: &[u8]) -> Option<&Dirent> {
        self.entries.iter().find(|e| e.name == name)
    }

    /// True for what can be the name of an entry.
    pub fn is_proper(name: &[u8]) -> bool {
        let is_allowed = !name.contains(&0) && !name.contains(&b'/') && name != b"." && name != b"..";
        is_allowed && (1..=NAME_BYTES_MAX).contains(&name.len())
    }

    /// Adds a name that is not there; false if the bucket has no place for it, or nothing can be called so.
    #[must_use]
    pub fn add(&mut self, name: &[u8], ino: Ino, kind: FileType) -> bool {
        if !Self::is_proper(name) {
            return false;
        }
        let slot = (0..SLOTS).find(|s| self.entries.iter().all(|e| e.slot != *s));
        let Some(slot) = slot else { return false };
        self.entries.push(Dirent { ino, kind, slot, name: name.to_vec() });
        self.bytes() <= VALUE_BYTES_MAX
    }

    /// Takes a name out.
    pub fn remove(&mut self, name: &[u8]) -> Option<Dirent> {
        let at = self.entries.iter().position(|e| e.name == name)?;
        Some(self.entries.remove(at))
    }

    fn bytes(&self) -> usize {
        self.entries.iter().map(|e| size_of::<RawDirent>() + e.name.len()).sum()
    }

    /// To the value of a tree item.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(self.bytes());
        for e in &self.entries {
            let raw = RawDirent {
                ino: e.ino.0.into(),
                kind: type_number(e.kind),
                slot: e.slot,
                name_len: e.name.len() as u8,
                reserved: 0,
            };
            out.extend_from_slice(raw.as_bytes());
            out.extend_from_slice(&e.name);
        }
        out
    }

    /// From the value of a tree item.
    pub fn decode(mut bytes: &[u8]) -> Result<NameBucket, FormatError> {
        let mut entries: Vec<Dirent> = Vec::with_capacity(1);
        while !bytes.is_empty() {
            let Ok((raw, rest)) = RawDirent::read_from_prefix(bytes) else {
                return bad!("directory entry has {} bytes, fewer than 12", bytes.len());
            };
            let len = usize::from(raw.name_len);
            if len == 0 || rest.len() < len || raw.reserved != 0 {
                return bad!("directory entry: name of {len} bytes in {}, or reserved byte set", rest.len());
            }
            let (ino, kind) = (Ino(raw.ino.get()), type_from_number(raw.kind));
            let (Some(kind), true) = (kind, ino.0 != 0 && ino < Ino::END) else {
                return bad!("directory entry names inode {} of unknown type {}", ino.0, raw.kind);
            };
            let name = rest[..len].to_vec();
            if !Self::is_proper(&name) {
                return bad!("directory entry name '{}' is not allowed", names::shown_bytes(&name));
            }
            if raw.slot >= SLOTS || entries.iter().any(|e| e.slot == raw.slot || e.name == name) {
                return bad!("directory entry slot {} or its name is there twice, or too big", raw.slot);
            }
            entries.push(Dirent { ino, kind, slot: raw.slot, name });
            bytes = &rest[len..];
        }
        if entries.is_empty() {
            return bad!("directory entry bucket is empty");
        }
        Ok(NameBucket { entries })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_added_that_is_not_read_again() {
        for name in [&b""[..], b".", b"..", b"a/b", b"a\0", &[b'x'; 256], &[b'x'; 4000]] {
            let mut bucket = NameBucket::default();
            assert!(!bucket.add(name, Ino(20), FileType::Regular) && bucket.entries.is_empty());
        }
    }

    #[test]
    fn round_trip_slots_and_cookies() {
        let mut b = NameBucket::default();
        for (i, name) in [b"a".as_slice(), b"bb", &[b'x'; 255]].iter().enumerate() {
            assert!(b.add(name, Ino(20 + i as u64), FileType::Regular));
        }
        assert_eq!(NameBucket::decode(&b.encode()), Ok(b.clone()));
        assert_eq!(b.remove(b"a").map(|e| e.slot), Some(0));
        assert_eq!(b.find(b"bb").map(|e| e.cookie(0x100)), Some(0x104));
        assert!(b.add(b"c", Ino(30), FileType::Directory));
        assert_eq!(b.find(b"c").map(|e| e.slot), Some(0));
    }

    #[test]
    fn a_full_bucket_refuses() {
        let mut b = NameBucket::default();
        let mut name = vec![b'n'; 255];
        for i in 0..15 {
            name[0] = b'a' + i;
            assert!(b.add(&name, Ino(20), FileType::Regular));
        }
        name[0] = b'Z';
        assert!(!b.add(&name, Ino(20), FileType::Regular));
    }

    #[test]
    fn refuses_what_cannot_be() {
        let mut b = NameBucket::default();
        assert!(b.add(b"abc", Ino(20), FileType::Fifo));
        let good = b.encode();
        assert!(NameBucket::decode(&[]).is_err());
        for cut in 1..good.len() {
            assert!(NameBucket::decode(&good[..cut]).is_err(), "cut {cut}");
        }
        for (at, value) in [(8, 3), (9, 252), (10, 0), (11, 1), (12, b'/'), (0, 0)] {
            let mut bytes = good.clone();
            bytes[at] = value;
            assert!(NameBucket::decode(&bytes).is_err(), "byte {at}");
        }
        assert!(NameBucket::decode(&[good.clone(), good].concat()).is_err());
    }

    #[test]
    fn hashes_leave_room_for_cookies() {
        for name in [b"".as_slice(), b"a", b"zz"] {
            assert_eq!(name_hash(name) & (1 << 63 | 0xff), 0);
        }
    }
}
