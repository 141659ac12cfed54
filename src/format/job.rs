//! The job record: background work on freed space that a crash must not lose. One item of the meta tree each.

use super::key::KEY_BYTES;
use super::pointer::RawPtr;
use super::{BlockPtr, Epoch, FormatError, Key, bad};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned, little_endian as le};

/// What is to be done, in bounded steps.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Job {
    /// Free every entry of a dead list, then the list.
    FreeList(u64),
    /// Forget a dead list: what it names belongs to older snapshots.
    DropList(u64),
    /// Free every block below `root` that was born after `newer_than`. Leaves before `cursor` are done already; inner
    /// nodes go last.
    FreeTree {
        /// Root of a tree that no view has any more.
        root: BlockPtr,
        /// Older blocks belong to a snapshot.
        newer_than: Epoch,
        /// First key that is not done.
        cursor: Key,
    },
}

#[derive(Clone, Copy, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
struct RawJob {
    kind: u8,
    cursor: [u8; KEY_BYTES],
    reserved: [u8; 6],
    list: le::U64,
    newer_than: le::U64,
    root: RawPtr,
}
const _: () = assert!(size_of::<RawJob>() == 80);

impl Job {
    /// To the value of its item.
    pub fn encode(&self) -> Vec<u8> {
        let mut raw = RawJob {
            kind: 1,
            cursor: [0; KEY_BYTES],
            reserved: [0; 6],
            list: 0.into(),
            newer_than: 0.into(),
            root: RawPtr::none(),
        };
        match self {
            Job::FreeList(list) => raw.list = (*list).into(),
            Job::DropList(list) => {
                raw.kind = 2;
                raw.list = (*list).into();
            }
            Job::FreeTree { root, newer_than, cursor } => {
                raw.kind = 3;
                raw.root = root.encode();
                raw.newer_than = newer_than.0.into();
                raw.cursor = cursor.encode();
            }
        }
        raw.as_bytes().to_vec()
    }

    /// From its item.
    pub fn decode(bytes: &[u8]) -> Result<Job, FormatError> {
        let Ok(raw) = RawJob::read_from_bytes(bytes) else {
            return bad!("job record has {} bytes, not 80", bytes.len());
        };
        if raw.reserved != [0; 6] {
            return bad!("job record has reserved bytes that are not zero");
        }
        match raw.kind {
            1 => Ok(Job::FreeList(raw.list.get())),
            2 => Ok(Job::DropList(raw.list.get())),
            3 => Ok(Job::FreeTree {
                root: raw.root.decode()?,
                newer_than: Epoch(raw.newer_than.get()),
                cursor: Key::decode(&raw.cursor),
            }),
            n => bad!("job is of kind {n}, known are 1..=3"),
        }
    }
}
