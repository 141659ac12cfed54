//! Numbers that mean something, one type each.

/// Epochs, sequence numbers, ids and sizes are at most this, so that none overflows by counting on.
pub const COUNTER_MAX: u64 = 1 << 62;
/// Of identities. On disk for ever.
const IDENTITY_SEED: u64 = 0x736e_6170_6673_0004;
/// Of those that follow from content.
const CONTENT_SEED: u64 = 0x736e_6170_6673_0007;

/// Byte address on a device, a multiple of 4096. 0 means none.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug, Default)]
pub struct BlockAddr(pub u64);

/// Global time of the store: bumped at every commit and at every snapshot point. 0 means before everything.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug, Default)]
pub struct Epoch(pub u64);

/// Inode number inside a view, 1..2^40. 0 means none.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug, Default)]
pub struct Ino(pub u64);

/// A view: a head, a snapshot or a hidden view. Never reused. 0 means none.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug, Default)]
pub struct ViewId(pub u64);

/// A line: a writable tree with its past. Never reused. 0 means none: what is of no line is deleted.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug, Default)]
pub struct LineId(pub u64);

/// What the numbers of a line's or a snapshot's nodes carry: 22 bits. Reused, with a new [`Generation`].
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug, Default)]
pub struct Slot(pub u32);

/// Tells apart what has the same slot one after the other. Never reused. 0 means none.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug, Default)]
pub struct Generation(pub u32);

/// What tells a snapshot from all others in all stores, whatever it is called: a copy of it in another store has it too.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub struct Identity(pub [u8; 16]);

impl Identity {
    /// Of a snapshot that was made in a store: from what it keeps for ever.
    pub fn made_in(store: [u8; 16], view: ViewId, epoch: Epoch, created: (i64, u32)) -> Identity {
        let mut words = store.to_vec();
        let (secs, nanos) = created;
        for word in [view.0, epoch.0, secs as u64, nanos.into()] {
            words.extend_from_slice(&word.to_le_bytes());
        }
        Identity(xxhash_rust::xxh3::xxh3_128_with_seed(&words, IDENTITY_SEED).to_le_bytes())
    }

    /// Of what a head had, that is kept because it would be gone else: the same each time, as its content is.
    pub fn of_content(store: [u8; 16], line: LineId, digest: u128) -> Identity {
        let words = [&store[..], &line.0.to_le_bytes(), &digest.to_le_bytes()].concat();
        Identity(xxhash_rust::xxh3::xxh3_128_with_seed(&words, CONTENT_SEED).to_le_bytes())
    }

    /// From its text.
    pub fn parse(text: &str) -> Option<Identity> {
        let number = u128::from_str_radix(text, 16).ok().filter(|_| text.len() == 32);
        number.map(|n| Identity(n.to_be_bytes()))
    }
}

/// 32 hexadecimal digits.
impl std::fmt::Display for Identity {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl Ino {
    /// Root directory of every view.
    pub const ROOT: Ino = Ino(1);
    /// Owner of the orphan records.
    pub const ORPHANS: Ino = Ino(2);
    /// Owner of the record of an arrival, in a line that is being received.
    pub const ARRIVAL: Ino = Ino(3);
    /// First number that is given to a file.
    pub const FIRST_FREE: Ino = Ino(16);
    /// One past the largest.
    pub const END: Ino = Ino(1 << 40);
}

impl LineId {
    /// Of nothing that lives.
    pub const NONE: LineId = LineId(0);
    /// What the root of a mount shows.
    pub const MAIN: LineId = LineId(1);
}

impl Slot {
    /// The main line's.
    pub const MAIN: Slot = Slot(0);
    /// One past the largest.
    pub const END: Slot = Slot(1 << 22);
}

impl Epoch {
    /// The next epoch.
    pub fn next(self) -> Epoch {
        Epoch(self.0 + 1)
    }
}

impl std::fmt::Display for BlockAddr {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:#x}", self.0)
    }
}
