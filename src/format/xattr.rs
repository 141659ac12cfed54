//! The extended attribute item: a bucket of the attributes of one inode whose names share a hash.
//!
//! A short value is in the bucket; a long one is in `XattrData` pieces under a value number that is never given twice
//! to values that exist at the same time. Names in a bucket are distinct.

use super::dirent::VALUE_BYTES_MAX;
use super::{FormatError, bad};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned, little_endian as le};

/// Seed of the hash. On disk for ever.
const XATTR_SEED: u64 = 0x736e_6170_6673_0003;
/// Longest value kept in the bucket, in bytes.
pub const SHORT_VALUE_BYTES_MAX: usize = 1024;
/// Length of every piece of a long value but the last, in bytes.
pub const PIECE_BYTES: usize = 3072;
/// Longest value that decodes, in bytes.
const VALUE_LEN_MAX: u32 = 64 * 1024;

/// The `rest` of the key of the bucket of a name.
pub fn xattr_hash(name: &[u8]) -> u64 {
    xxhash_rust::xxh3::xxh3_64_with_seed(name, XATTR_SEED)
}

/// The `rest` of the key of a piece.
pub fn piece_rest(number: u64, piece: u64) -> u64 {
    number << 16 | piece
}

/// A value, or where it is.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum XattrValue {
    /// In the bucket.
    Short(Vec<u8>),
    /// In `XattrData` pieces.
    Long {
        /// Its number.
        number: u64,
        /// Its length in bytes.
        len: u32,
    },
}

/// Attributes of one inode that share a hash.
#[derive(Clone, Default, PartialEq, Eq, Debug)]
pub struct Xattrs {
    /// (name with prefix, value), names distinct.
    pub entries: Vec<(Vec<u8>, XattrValue)>,
}

#[derive(Clone, Copy, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
struct RawXattr {
    /// 0: the value follows the name.
    number: le::U64,
    value_len: le::U32,
    name_len: u8,
    reserved: [u8; 3],
}
const _: () = assert!(size_of::<RawXattr>() == 16);

impl Xattrs {
    /// The value of `name`.
    pub fn find(&self, name: &[u8]) -> Option<&XattrValue> {
        self.entries.iter().find(|e| e.0 == name).map(|e| &e.1)
    }

    /// Takes an attribute out.
    pub fn remove(&mut self, name: &[u8]) -> Option<XattrValue> {
        let at = self.entries.iter().position(|e| e.0 == name)?;
        Some(self.entries.remove(at).1)
    }

    /// Adds an attribute that is not there; false if there is no place for it.
    #[must_use]
    pub fn add(&mut self, name: &[u8], value: XattrValue) -> bool {
        self.entries.push((name.to_vec(), value));
        self.encode().len() <= VALUE_BYTES_MAX
    }

    /// To the value of a tree item.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::new();
        for (name, value) in &self.entries {
            let (number, len, bytes) = match value {
                XattrValue::Short(bytes) => (0, bytes.len() as u32, bytes.as_slice()),
                XattrValue::Long { number, len } => (*number, *len, [].as_slice()),
            };
            let raw = RawXattr {
                number: number.into(),
                value_len: len.into(),
                name_len: name.len() as u8,
                reserved: [0; 3],
            };
            out.extend_from_slice(raw.as_bytes());
            out.extend_from_slice(name);
            out.extend_from_slice(bytes);
        }
        out
    }

    /// From the value of a tree item.
    pub fn decode(mut bytes: &[u8]) -> Result<Xattrs, FormatError> {
        let mut entries: Vec<(Vec<u8>, XattrValue)> = Vec::with_capacity(1);
        while !bytes.is_empty() {
            let Ok((raw, rest)) = RawXattr::read_from_prefix(bytes) else {
                return bad!("extended attribute has {} bytes, fewer than 16", bytes.len());
            };
            let (name_len, len, number) = (usize::from(raw.name_len), raw.value_len.get(), raw.number.get());
            let here = if number == 0 { len as usize } else { 0 };
            if name_len == 0 || len > VALUE_LEN_MAX || rest.len() < name_len + here || number >> 48 != 0 {
                return bad!("extended attribute: name {name_len}, value {len}, {} bytes left", rest.len());
            }
            let name = rest[..name_len].to_vec();
            if raw.reserved != [0; 3] || name.contains(&0) || entries.iter().any(|e| e.0 == name) {
                return bad!("extended attribute name is there twice or holds zero, or reserved bytes set");
            }
            let value = match number {
                0 => XattrValue::Short(rest[name_len..name_len + here].to_vec()),
                number => XattrValue::Long { number, len },
            };
            entries.push((name, value));
            bytes = &rest[name_len + here..];
        }
        if entries.is_empty() {
            return bad!("extended attribute bucket is empty");
        }
        Ok(Xattrs { entries })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn round_trip_and_refusals() {
        let mut x = Xattrs::default();
        assert!(x.add(b"user.a", XattrValue::Short(b"value".to_vec())));
        assert!(x.add(b"user.b", XattrValue::Long { number: 5, len: 65536 }));
        let bytes = x.encode();
        assert_eq!(Xattrs::decode(&bytes), Ok(x.clone()));
        for cut in 0..bytes.len() {
            assert!(cut == 27 || Xattrs::decode(&bytes[..cut]).is_err(), "cut {cut}");
        }
        assert!(Xattrs::decode(&[bytes.clone(), bytes].concat()).is_err());
        assert_eq!(x.remove(b"user.a"), Some(XattrValue::Short(b"value".to_vec())));
        assert!(x.find(b"user.a").is_none() && x.find(b"user.b").is_some());
        assert!(!x.add(b"user.c", XattrValue::Short(vec![0; 4160])));
    }
}
