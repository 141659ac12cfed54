//! Every limit in one place, with the relations that must hold between them.

/// Least room of a store, in bytes: below it not even an empty store with its reserve fits.
pub const STORE_BYTES_MIN: u64 = 32 << 20;
/// Address space that only superblocks use: two rings of half this size.
pub const RESERVED_BYTES: u64 = 1 << 20;
/// Least length of the log, in bytes: what one operation writes at most must fit many times.
pub const LOG_BYTES_MIN: u64 = 1 << 20;
/// Greatest length of the log, in bytes. It ends 64 MiB into the address space.
pub const LOG_BYTES_MAX: u64 = (64 << 20) - RESERVED_BYTES;
/// Address space of a directory store unless a size is given: 64 TiB.
pub const STORE_BYTES_DEFAULT: u64 = 1 << 46;
/// Longest name of a file or snapshot in bytes.
pub const NAME_BYTES_MAX: usize = 255;
/// How long one side of a mirror may keep the other waiting, in seconds, as a user may say.
pub const SIDE_LIMIT_SECS: std::ops::RangeInclusive<u64> = 1..=3600;
/// The same if nobody says.
pub const SIDE_LIMIT_SECS_DEFAULT: u64 = 10;
/// Height of a tree at most; a taller one is damage.
pub const TREE_LEVEL_MAX: u8 = 12;

/// Longest target of a symbolic link, in bytes (what the kernel can pass on).
pub const SYMLINK_BYTES_MAX: usize = 4095;
/// Largest file: the last whole block below 8 EiB, so that every offset fits the kernel's signed 64 bits.
pub const FILE_BYTES_MAX: u64 = (1 << 63) - 4096;
/// Most names of one file, and most subdirectories (plus two) of one directory.
pub const LINKS_MAX: u32 = (1 << 31) - 1;
/// Longest name of an extended attribute, prefix included, in bytes.
pub const XATTR_NAME_BYTES_MAX: usize = 255;
/// Longest value of an extended attribute, in bytes.
pub const XATTR_VALUE_BYTES_MAX: usize = 64 * 1024;
/// Longest name of a snapshot, in bytes.
pub const SNAPSHOT_NAME_BYTES_MAX: usize = 255;
/// Longest file that is compared line by line for a patch, in bytes.
pub const PATCH_FILE_BYTES_MAX: u64 = 64 << 20;
/// Longest file content that is kept inside the tree instead of in blocks of its own, in bytes.
pub const INLINE_BYTES_MAX: u64 = 2048;
