//! The peer record: what another store has of this one, an item of the meta tree for each such store.

use super::hydration::STORE_PATH_MAX;
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
    /// When all of it was there, in seconds since 1970 UTC; 0 if that is not known.
    pub sent_secs: i64,
    /// Where that store was then, or nothing.
    pub path: Vec<u8>,
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
    /// To the value of a meta tree item: 72 bytes, the name, 8 bytes for each inode, and, if either is known, time and path.
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
        if self.sent_secs != 0 || !self.path.is_empty() {
            out.extend_from_slice(&self.sent_secs.to_le_bytes());
            out.extend_from_slice(&self.path);
        }
        out
    }

    /// From its item.
    pub fn decode(bytes: &[u8]) -> Result<PeerRecord, FormatError> {
        let Ok((raw, rest)) = RawPeer::read_from_prefix(bytes) else {
            return bad!("peer record has {} bytes, fewer than {RAW_BYTES}", bytes.len());
        };
        let Some((name, rest)) = rest.split_at_checked(raw.name_len.get().into()) else {
            return bad!("the name in a peer record is cut off");
        };
        let Some((inodes, sent)) = rest.split_at_checked(usize::from(raw.nameless.get()) * 8) else {
            return bad!("the inodes in a peer record are cut off");
        };
        let words = inodes.as_chunks::<8>().0;
        let (sent_secs, path) = match sent.split_first_chunk::<8>() {
            Some((secs, path)) => (i64::from_le_bytes(*secs), path),
            None if sent.is_empty() => (0, sent),
            None => return bad!("the time in a peer record is cut off"),
        };
        if name.len() > NAME_BYTES_MAX || path.len() > STORE_PATH_MAX {
            return bad!("peer record has a name of {} bytes and a path of {}", name.len(), path.len());
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
            sent_secs,
            path: path.to_vec(),
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
            sent_secs: 0,
            path: Vec::new(),
        };
        let bytes = record.encode();
        assert_eq!(PeerRecord::decode(&bytes), Ok(record.clone()));
        (0..bytes.len()).for_each(|len| assert!(PeerRecord::decode(&bytes[..len]).is_err(), "cut at {len}"));
        let sent = PeerRecord { sent_secs: -8, path: b"/mnt/copy".to_vec(), ..record.clone() };
        assert_eq!(PeerRecord::decode(&sent.encode()), Ok(sent.clone()));
        (1..8).for_each(|more| assert!(PeerRecord::decode(&sent.encode()[..bytes.len() + more]).is_err()));
        let far = PeerRecord { path: vec![b'/'; STORE_PATH_MAX + 1], ..sent };
        assert!(PeerRecord::decode(&far.encode()).is_err());
        let none = PeerRecord { epoch: Epoch(0), ..record };
        assert!(PeerRecord::decode(&none.encode()).is_err());
    }
}
