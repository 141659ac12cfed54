//! The link item: names of an inode, as (parent, name) pairs that share a hash. From it a path can be told.
//!
//! Every directory entry has its pair here and every pair its entry. It does not say which name came first.

use super::dirent::VALUE_BYTES_MAX;
use super::{FormatError, Ino, bad};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned, little_endian as le};

/// Seed of the hash. On disk for ever.
const LINK_SEED: u64 = 0x736e_6170_6673_0002;

/// The `rest` of the key of the pair.
pub fn link_hash(parent: Ino, name: &[u8]) -> u64 {
    xxhash_rust::xxh3::xxh3_64_with_seed(name, LINK_SEED ^ parent.0.rotate_left(20))
}

/// Pairs of one inode that share a hash.
#[derive(Clone, Default, PartialEq, Eq, Debug)]
pub struct Links {
    /// (directory, name), distinct.
    pub names: Vec<(Ino, Vec<u8>)>,
}

#[derive(Clone, Copy, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
struct RawLink {
    parent: le::U64,
    name_len: u8,
    reserved: [u8; 3],
}
const _: () = assert!(size_of::<RawLink>() == 12);

impl Links {
    /// Adds a pair; false if there is no place for it.
    #[must_use]
    pub fn add(&mut self, parent: Ino, name: &[u8]) -> bool {
        self.names.push((parent, name.to_vec()));
        self.names.iter().map(|n| size_of::<RawLink>() + n.1.len()).sum::<usize>() <= VALUE_BYTES_MAX
    }

    /// Takes a pair out; true if it was there.
    pub fn remove(&mut self, parent: Ino, name: &[u8]) -> bool {
        let before = self.names.len();
        self.names.retain(|n| n.0 != parent || n.1 != name);
        self.names.len() < before
    }

    /// To the value of a tree item.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::new();
        for (parent, name) in &self.names {
            let raw = RawLink { parent: parent.0.into(), name_len: name.len() as u8, reserved: [0; 3] };
            out.extend_from_slice(raw.as_bytes());
            out.extend_from_slice(name);
        }
        out
    }

    /// From the value of a tree item.
    pub fn decode(mut bytes: &[u8]) -> Result<Links, FormatError> {
        let mut names = Vec::with_capacity(1);
        while !bytes.is_empty() {
            let Ok((raw, rest)) = RawLink::read_from_prefix(bytes) else {
                return bad!("link has {} bytes, fewer than 12", bytes.len());
            };
            let (parent, len) = (Ino(raw.parent.get()), usize::from(raw.name_len));
            if len == 0 || rest.len() < len || raw.reserved != [0; 3] {
                return bad!("link: name of {len} bytes in {}, or reserved bytes set", rest.len());
            }
            let pair = (parent, rest[..len].to_vec());
            if parent.0 == 0 || parent >= Ino::END || names.contains(&pair) {
                return bad!("link of parent {} is there twice or impossible", parent.0);
            }
            names.push(pair);
            bytes = &rest[len..];
        }
        if names.is_empty() {
            return bad!("link item is empty");
        }
        Ok(Links { names })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn round_trip_and_refusals() {
        let mut links = Links::default();
        assert!(links.add(Ino(1), b"a") && links.add(Ino(2), b"a"));
        let bytes = links.encode();
        assert_eq!(Links::decode(&bytes), Ok(links.clone()));
        for cut in 0..bytes.len() {
            assert!(cut == 13 || Links::decode(&bytes[..cut]).is_err(), "cut {cut}");
        }
        assert!(Links::decode(&[bytes.clone(), bytes].concat()).is_err());
        assert!(links.remove(Ino(1), b"a") && !links.remove(Ino(1), b"a"));
        assert_ne!(link_hash(Ino(1), b"a"), link_hash(Ino(2), b"a"));
    }
}
