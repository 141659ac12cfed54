//! The inode item: attributes of one file, directory or other node, 128 bytes.
//!
//! A record that decodes has a known type, nanoseconds below a second and zeros where nothing is defined yet. It does
//! not know its own number, and says nothing about names, content or extended attributes beyond hints.

use super::{CompressionProperty, FormatError, Ino, LayoutProperty, bad};
use crate::ops::{FileFlags, FileType, Timestamp};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned, little_endian as le};

/// Length of an encoded inode.
pub const INODE_BYTES: usize = 128;

/// Permission bits, set-id bits and sticky bit.
pub const MODE_BITS: u32 = 0o7777;

/// Attributes of an inode.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Inode {
    /// What it is.
    pub kind: FileType,
    /// Permission bits with set-id and sticky bits.
    pub mode: u32,
    /// Names of a file; 2 plus subdirectories of a directory; 0 when it has lost its last name.
    pub nlink: u32,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Device number of a device node.
    pub rdev: u32,
    /// True if it has an `Inline` item. In a file that is the content of the first block, without the zeros behind it
    /// (the size may be larger), and no extent maps that block.
    pub has_inline: bool,
    /// True if it has, or had, an extended attribute.
    pub has_xattr: bool,
    /// Bytes of a file, length of a link's target, number of names in a directory.
    pub size: u64,
    /// Space of its content in 512-byte units.
    pub blocks: u64,
    /// Last access.
    pub atime: Timestamp,
    /// Last change of content.
    pub mtime: Timestamp,
    /// Last change of anything.
    pub ctime: Timestamp,
    /// Creation.
    pub btime: Timestamp,
    /// Directory that holds this directory; the root holds itself. 0 for everything else.
    pub parent: Ino,
    /// Incarnation.
    pub generation: u64,
    /// How its content is to be compressed, or that of new files in it; `None`: as the root says.
    pub compression: Option<CompressionProperty>,
    /// Where content goes that is written over, or that of new files in it; `None`: as the root says.
    pub layout: Option<LayoutProperty>,
    /// What `chattr` has set.
    pub flags: FileFlags,
}

/// What of an inode its user has chosen: what a restore and a merge take over, and what a difference tells of. Neither times,
/// nor what follows from names and content.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct UserAttributes {
    mode: u32,
    owner: (u32, u32),
    rdev: u32,
    compression: Option<CompressionProperty>,
    layout: Option<LayoutProperty>,
    flags: FileFlags,
}

impl UserAttributes {
    /// The words for those that differ.
    pub fn differences(&self, other: &UserAttributes) -> impl Iterator<Item = &'static str> {
        let all = [
            ("mode", self.mode != other.mode),
            ("owner", self.owner != other.owner),
            ("flags", self.flags != other.flags),
            ("compression", self.compression != other.compression),
            ("layout", self.layout != other.layout),
            ("device", self.rdev != other.rdev),
        ];
        all.into_iter().filter(|(_, differs)| *differs).map(|(word, _)| word)
    }
}

#[derive(Clone, Copy, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
struct RawInode {
    /// Type in bits 12..=15 as in `st_mode`, permissions below.
    mode: le::U32,
    nlink: le::U32,
    uid: le::U32,
    gid: le::U32,
    rdev: le::U32,
    /// Bit 0: has an inline item. Bit 1: has extended attributes.
    flags: le::U32,
    size: le::U64,
    blocks: le::U64,
    secs: [le::I64; 4],
    nanos: [le::U32; 4],
    parent: le::U64,
    generation: le::U64,
    /// Kind (0 none, 1 off, 2 zstd), level, 1 if copied from a directory.
    compression: [u8; 3],
    /// See [`FILE_FLAGS`].
    file_flags: u8,
    /// 0 none, 1 row, 2 cow; 1 if copied from a directory.
    layout: [u8; 2],
    reserved: [u8; 18],
}
const _: () = assert!(size_of::<RawInode>() == INODE_BYTES);

const HAS_INLINE: u32 = 1;
const HAS_XATTR: u32 = 2;

/// What `chattr` sets, bit by bit.
type FlagOf = fn(&mut FileFlags) -> &mut bool;
const FILE_FLAGS: [FlagOf; 5] =
    [|f| &mut f.immutable, |f| &mut f.append_only, |f| &mut f.no_dump, |f| &mut f.no_atime, |f| &mut f.sync];

fn encode_flags(mut flags: FileFlags) -> u8 {
    (0..).zip(FILE_FLAGS).map(|(bit, of)| u8::from(*of(&mut flags)) << bit).sum()
}

fn decode_flags(bits: u8) -> Result<FileFlags, FormatError> {
    if u32::from(bits) >> FILE_FLAGS.len() != 0 {
        return bad!("inode has unknown flags of chattr {bits:#x}");
    }
    let mut flags = FileFlags::default();
    (0..).zip(FILE_FLAGS).for_each(|(bit, of)| *of(&mut flags) = bits >> bit & 1 != 0);
    Ok(flags)
}

/// Types and their numbers, as in the upper bits of `st_mode` and on disk in directory entries.
const TYPES: [(FileType, u8); 7] = [
    (FileType::Fifo, 1),
    (FileType::CharDevice, 2),
    (FileType::Directory, 4),
    (FileType::BlockDevice, 6),
    (FileType::Regular, 8),
    (FileType::Symlink, 10),
    (FileType::Socket, 12),
];

/// The number of a type (that of `d_type` and of `st_mode >> 12`).
pub fn type_number(kind: FileType) -> u8 {
    TYPES.iter().find(|t| t.0 == kind).map_or(0, |t| t.1)
}

/// The type of a number.
pub fn type_from_number(n: u8) -> Option<FileType> {
    TYPES.iter().find(|t| t.1 == n).map(|t| t.0)
}

impl Inode {
    /// What its user has chosen. Whoever gives inodes a new field decides here whether it is such a thing.
    pub fn user_attributes(&self) -> UserAttributes {
        let Inode {
            mode,
            uid,
            gid,
            rdev,
            compression,
            layout,
            flags,
            // What it is, by which a file is told from another.
            kind: _,
            generation: _,
            btime: _,
            // What follows from names and content.
            nlink: _,
            has_inline: _,
            has_xattr: _,
            size: _,
            blocks: _,
            parent: _,
            atime: _,
            mtime: _,
            ctime: _,
        } = *self;
        UserAttributes { mode, owner: (uid, gid), rdev, compression, layout, flags }
    }

    /// Takes over what the user of another has chosen.
    pub fn set_user_attributes(&mut self, from: &UserAttributes) {
        let UserAttributes { mode, owner, rdev, compression, layout, flags } = *from;
        (self.mode, self.rdev, self.flags) = (mode, rdev, flags);
        ((self.uid, self.gid), self.compression, self.layout) = (owner, compression, layout);
    }

    /// To the value of a tree item.
    pub fn encode(&self) -> [u8; INODE_BYTES] {
        let times = [self.atime, self.mtime, self.ctime, self.btime];
        let flags = u32::from(self.has_inline) * HAS_INLINE + u32::from(self.has_xattr) * HAS_XATTR;
        let raw = RawInode {
            mode: (u32::from(type_number(self.kind)) << 12 | self.mode & MODE_BITS).into(),
            nlink: self.nlink.into(),
            uid: self.uid.into(),
            gid: self.gid.into(),
            rdev: self.rdev.into(),
            flags: flags.into(),
            size: self.size.into(),
            blocks: self.blocks.into(),
            secs: times.map(|t| t.secs.into()),
            nanos: times.map(|t| t.nanos.into()),
            parent: self.parent.0.into(),
            generation: self.generation.into(),
            compression: CompressionProperty::encode(self.compression),
            file_flags: encode_flags(self.flags),
            layout: LayoutProperty::encode(self.layout),
            reserved: [0; 18],
        };
        zerocopy::transmute!(raw)
    }

    /// From the value of a tree item.
    pub fn decode(bytes: &[u8]) -> Result<Inode, FormatError> {
        let Ok(raw) = RawInode::read_from_bytes(bytes) else {
            return bad!("inode item has {} bytes, expected {INODE_BYTES}", bytes.len());
        };
        let mode = raw.mode.get();
        let kind = if mode >> 16 == 0 { type_from_number((mode >> 12) as u8) } else { None };
        let Some(kind) = kind else {
            return bad!("inode mode {mode:#o} has no known type");
        };
        let flags = raw.flags.get();
        if flags & !(HAS_INLINE | HAS_XATTR) != 0 || raw.reserved != [0; 18] {
            return bad!("inode has unknown flags {flags:#x} or reserved bytes");
        }
        if raw.nanos.iter().any(|n| n.get() >= 1_000_000_000) {
            return bad!("inode time has 10^9 nanoseconds or more");
        }
        let parent = Ino(raw.parent.get());
        if parent >= Ino::END || (kind == FileType::Directory) != (parent.0 != 0) {
            return bad!("inode parent {} does not fit its type {kind:?}", parent.0);
        }
        let time = |i: usize| Timestamp { secs: raw.secs[i].get(), nanos: raw.nanos[i].get() };
        Ok(Inode {
            kind,
            mode: mode & MODE_BITS,
            nlink: raw.nlink.get(),
            uid: raw.uid.get(),
            gid: raw.gid.get(),
            rdev: raw.rdev.get(),
            has_inline: flags & HAS_INLINE != 0,
            has_xattr: flags & HAS_XATTR != 0,
            size: raw.size.get(),
            blocks: raw.blocks.get(),
            atime: time(0),
            mtime: time(1),
            ctime: time(2),
            btime: time(3),
            parent,
            generation: raw.generation.get(),
            compression: CompressionProperty::decode(raw.compression)?,
            layout: LayoutProperty::decode(raw.layout)?,
            flags: decode_flags(raw.file_flags)?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::format::{Compression, Layout};

    fn sample() -> Inode {
        let t = |n: i64| Timestamp { secs: -n, nanos: n as u32 };
        Inode {
            kind: FileType::Directory,
            mode: 0o2755,
            nlink: 3,
            uid: 1,
            gid: u32::MAX,
            rdev: 0,
            has_inline: false,
            has_xattr: true,
            size: u64::MAX,
            blocks: 8,
            atime: t(1),
            mtime: t(2),
            ctime: t(3),
            btime: t(4),
            parent: Ino(1),
            generation: 9,
            compression: Some(CompressionProperty { value: Compression::Zstd(7), inherited: true }),
            layout: Some(LayoutProperty { value: Layout::Cow, inherited: false }),
            flags: FileFlags { append_only: true, sync: true, ..FileFlags::default() },
        }
    }

    #[test]
    fn round_trip_of_every_type() {
        for (kind, number) in TYPES {
            let parent = if kind == FileType::Directory { Ino(7) } else { Ino(0) };
            let inode = Inode { kind, parent, ..sample() };
            assert_eq!(Inode::decode(&inode.encode()), Ok(inode));
            assert_eq!(type_from_number(number), Some(kind));
        }
    }

    #[test]
    fn refuses_what_it_does_not_know() {
        let good = sample().encode();
        assert!(Inode::decode(&good[1..]).is_err());
        for (at, value) in [
            (1, 0xf0),
            (2, 1),
            (20, 4),
            (75, 0xff),
            (127, 1),
            (88, 0),
            (104, 3),
            (105, 0),
            (106, 2),
            (107, 0x20),
            (108, 3),
            (109, 2),
            (110, 1),
        ] {
            let mut bytes = good;
            bytes[at] = value;
            assert!(Inode::decode(&bytes).is_err(), "byte {at}");
        }
    }
}
