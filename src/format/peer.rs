//! The peer record: what another store has of this one, an item of the meta tree for each such store.

use super::ids::COUNTER_MAX;
use super::{Epoch, FormatError, Identity, Ino, LineId, ViewId, bad};
use crate::limits::NAME_BYTES_MAX;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned, little_endian as le};

/// What another store has.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct PeerRecord {
    /// The store.
    pub store: [u8; 16],
    /// The snapshot that it has, which may be gone here.
    pub identity: Identity,
    /// The line that this was of.
    pub line: LineId,
    /// The head of the line then.
    pub head: ViewId,
    /// Its point in time.
    pub epoch: Epoch,
    /// When it was made: seconds and nanoseconds since 1970 UTC.
    pub created: (i64, u32),
    /// What it was called.
    pub name: Vec<u8>,
    /// Inodes without a name that it had: these were not sent.
    pub nameless: Vec<Ino>,
}

#[derive(Clone, Copy, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
struct RawPeer {
    store: [u8; 16],
    identity: [u8; 16],
    line: le::U64,
    head: le::U64,
    epoch: le::U64,
    created_secs: le::I64,
    created_nanos: le::U32,
    name_len: le::U16,
    nameless: le::U16,
}
const RAW_BYTES: usize = 72;
const _: () = assert!(size_of::<RawPeer>() == RAW_BYTES);

impl PeerRecord {
    /// To the value of a meta tree item: 72 bytes, the name, and 8 bytes for each inode.
    pub fn encode(&self) -> Vec<u8> {
        let raw = RawPeer {
            store: self.store,
            identity: self.identity.0,
            line: self.line.0.into(),
            head: self.head.0.into(),
            epoch: self.epoch.0.into(),
            created_secs: self.created.0.into(),
            created_nanos: self.created.1.into(),
            name_len: (self.name.len() as u16).into(),
            nameless: (self.nameless.len() as u16).into(),
        };
        let mut out = raw.as_bytes().to_vec();
        out.extend_from_slice(&self.name);
        self.nameless.iter().for_each(|ino| out.extend_from_slice(&ino.0.to_le_bytes()));
        out
    }

    /// From its item.
    pub fn decode(bytes: &[u8]) -> Result<PeerRecord, FormatError> {
        let Ok((raw, rest)) = RawPeer::read_from_prefix(bytes) else {
            return bad!("peer record has {} bytes, fewer than {RAW_BYTES}", bytes.len());
        };
        let Some((name, inodes)) = rest.split_at_checked(raw.name_len.get().into()) else {
            return bad!("the name in a peer record is cut off");
        };
        let (words, left) = inodes.as_chunks::<8>();
        if name.len() > NAME_BYTES_MAX || !left.is_empty() || words.len() != usize::from(raw.nameless.get()) {
            return bad!("peer record has a name of {} bytes and {} for inodes", name.len(), inodes.len());
        }
        let numbers = [&raw.line, &raw.head, &raw.epoch].map(|number| number.get());
        if numbers.iter().any(|number| *number == 0 || *number > COUNTER_MAX) {
            return bad!("peer record with numbers {numbers:?}");
        }
        Ok(PeerRecord {
            store: raw.store,
            identity: Identity(raw.identity),
            line: LineId(raw.line.get()),
            head: ViewId(raw.head.get()),
            epoch: Epoch(raw.epoch.get()),
            created: (raw.created_secs.get(), raw.created_nanos.get()),
            name: name.to_vec(),
            nameless: words.iter().map(|word| Ino(u64::from_le_bytes(*word))).collect(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn round_trip_and_damage() {
        let record = PeerRecord {
            store: [1; 16],
            identity: Identity([2; 16]),
            line: LineId(3),
            head: ViewId(4),
            epoch: Epoch(5),
            created: (-6, 7),
            name: b"monday".to_vec(),
            nameless: vec![Ino(17), Ino(99)],
        };
        let bytes = record.encode();
        assert_eq!(PeerRecord::decode(&bytes), Ok(record.clone()));
        (0..bytes.len()).for_each(|len| assert!(PeerRecord::decode(&bytes[..len]).is_err(), "cut at {len}"));
        let none = PeerRecord { epoch: Epoch(0), ..record };
        assert!(PeerRecord::decode(&none.encode()).is_err());
    }
}
