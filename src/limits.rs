//! Every limit that a user can meet, in one place. Each is documented in `docs/semantics.md`.
//!
//! A limit here is a promise of the interface; limits that follow from a layout are beside the layout in `format`.

/// Longest name in a directory, in bytes.
pub const NAME_BYTES_MAX: usize = 255;
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
/// Longest file content that is kept inside the tree instead of in blocks of its own, in bytes.
pub const INLINE_BYTES_MAX: u64 = 2048;
