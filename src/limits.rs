//! Every limit in one place, with the relations that must hold between them.

/// Least room of a store, in bytes: below it not even an empty store with its reserve fits.
pub const STORE_BYTES_MIN: u64 = 32 << 20;
/// Address space of a directory store unless a size is given: 64 TiB.
pub const STORE_BYTES_DEFAULT: u64 = 1 << 46;
/// Longest name of a file or snapshot in bytes.
pub const NAME_BYTES_MAX: usize = 255;
/// Most views (snapshots, heads, clones) that a store can make in its life: 2^24 - 2.
pub const VIEW_ID_MAX: u32 = (1 << 24) - 2;
/// Height of a tree at most; a taller one is damage.
pub const TREE_LEVEL_MAX: u8 = 12;
