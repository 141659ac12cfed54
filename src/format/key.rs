//! Tree keys: (object, kind, rest), 17 bytes, ordered field by field.

/// Length of an encoded key.
pub const KEY_BYTES: usize = 17;

/// What an item is. The number is on disk.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
#[repr(u8)]
pub enum Kind {
    /// Attributes of an inode. `rest` 0.
    Inode = 1,
    /// Names of an inode: (parent, name) list. `rest`: hash of both.
    Link = 2,
    /// Directory entries whose names share a hash. `rest`: the hash.
    Dirent = 3,
    /// Extended attributes whose names share a hash. `rest`: the hash.
    Xattr = 4,
    /// A piece of a long extended attribute value. `rest`: value number << 16 | piece.
    XattrData = 5,
    /// Small file content or the target of a symbolic link. `rest` 0.
    Inline = 6,
    /// File content in blocks. `rest`: byte offset in the file.
    Extent = 7,
    /// An inode without a name. Object [`crate::format::Ino::ORPHANS`], `rest`: the inode number.
    Orphan = 8,
    /// A file that may have content away from home. Object [`crate::format::Ino::ORPHANS`], `rest`: the inode number.
    Away = 9,
    /// How far a line has been received. Object [`crate::format::Ino::ARRIVAL`], `rest` 0.
    Arrival = 10,
    /// Meta tree: a view record. Object 0, `rest`: the view id.
    View = 32,
    /// Meta tree: a line record. Object 0, `rest`: the line id.
    Line = 33,
    /// Meta tree: a birth bucket of a dead list. Object: dead list id, `rest`: bucket epoch.
    DeadBucket = 34,
    /// Meta tree: entries of a bucket. Object: bucket id, `rest`: sequence number.
    DeadChunk = 35,
    /// Meta tree: extra references of an address range. Object 0, `rest`: the address.
    ExtraRefs = 36,
    /// Meta tree: background work that a crash must not lose. Object 0, `rest`: the job id.
    Job = 37,
    /// Meta tree: how far a scrub got (`rest` 0), and what it found (`rest` from 1). Object 0.
    Scrub = 38,
    /// Meta tree: what another store has. Object 0, `rest`: the beginning of its identity.
    Peer = 39,
    /// Meta tree: where content of a snapshot is that has moved. Object 0, `rest`: the new address.
    Remap = 40,
    /// Meta tree: a copy of a snapshot that is made in another store. Object 0, `rest`: its number.
    Hydration = 41,
    /// Meta tree: a hold of a snapshot. Object 0, `rest`: its number.
    Hold = 44,
    /// Meta tree: how old the store is. Object 0, `rest` 0.
    Age = 45,
    /// Meta tree: what was deleted and can be brought back. Object 0, `rest`: its number.
    Trash = 46,
    /// Meta tree: a place whose content is purged, allocated still. Object 0, `rest`: the address.
    PurgeHeld = 48,
    /// Meta tree: references that lead to nothing. Object 0, `rest`: the address that they have.
    Purged = 49,
    /// Meta tree: a leaf that is not what pointers say. Object 0, `rest`: its address.
    PurgedLeaf = 50,
    /// Meta tree: a piece of such a leaf. Object 0, `rest`: the address of the piece.
    PurgedPiece = 51,
    /// Meta tree: what no tree leads to is being written over. Object 0, `rest` 0.
    PurgeWiping = 52,
    /// Meta tree: what a purge has left to do that is planned anew. Object 0, `rest`: the number of the piece.
    PurgeRest = 53,
}

impl Kind {
    /// From its number on disk.
    pub fn from_u8(n: u8) -> Option<Kind> {
        use Kind::*;
        [
            Age,
            Arrival,
            Away,
            DeadBucket,
            DeadChunk,
            Dirent,
            Extent,
            ExtraRefs,
            Hold,
            Hydration,
            Inline,
            Inode,
            Job,
            Line,
            Link,
            Orphan,
            Peer,
            PurgeHeld,
            PurgeRest,
            PurgeWiping,
            Purged,
            PurgedLeaf,
            PurgedPiece,
            Remap,
            Scrub,
            Trash,
            View,
            Xattr,
            XattrData,
        ]
        .into_iter()
        .find(|k| *k as u8 == n)
    }
}

/// A tree key. `object` is an inode number in a view's tree and an id of the named kind in the meta tree.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub struct Key {
    /// Inode number or id.
    pub object: u64,
    /// [`Kind`] as its number, so that bounds between kinds can be named.
    pub kind: u8,
    /// Offset, hash or 0.
    pub rest: u64,
}

impl Key {
    /// Below every key.
    pub const MIN: Key = Key { object: 0, kind: 0, rest: 0 };
    /// Above every key that is used.
    pub const MAX: Key = Key { object: u64::MAX, kind: u8::MAX, rest: u64::MAX };

    /// A key.
    pub fn new(object: u64, kind: Kind, rest: u64) -> Key {
        Key { object, kind: kind as u8, rest }
    }

    /// Big-endian, so that byte order is key order.
    pub fn encode(&self) -> [u8; KEY_BYTES] {
        let mut out = [0; KEY_BYTES];
        out[..8].copy_from_slice(&self.object.to_be_bytes());
        out[8] = self.kind;
        out[9..].copy_from_slice(&self.rest.to_be_bytes());
        out
    }

    /// From its bytes; any 17 bytes are a key.
    pub fn decode(bytes: &[u8; KEY_BYTES]) -> Key {
        let [o0, o1, o2, o3, o4, o5, o6, o7, kind, r0, r1, r2, r3, r4, r5, r6, r7] = *bytes;
        Key {
            object: u64::from_be_bytes([o0, o1, o2, o3, o4, o5, o6, o7]),
            kind,
            rest: u64::from_be_bytes([r0, r1, r2, r3, r4, r5, r6, r7]),
        }
    }

    /// The next key, for exclusive lower bounds.
    pub fn successor(&self) -> Key {
        let mut k = *self;
        k.rest = k.rest.wrapping_add(1);
        if k.rest == 0 {
            k.kind = k.kind.wrapping_add(1);
            if k.kind == 0 {
                k.object = k.object.saturating_add(1);
            }
        }
        k
    }
}
