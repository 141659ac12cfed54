//! The extent item: a run of file content in blocks, with a CRC-32C for each 4 KiB.

use super::{BLOCK_BYTES, BlockAddr, Epoch, FormatError, bad};
use std::borrow::Cow;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned, little_endian as le};

/// Longest extent in bytes.
pub const EXTENT_BYTES_MAX: u64 = 128 * 1024;

/// Content in compressed form, and which part of it an extent is. Several extents may be pieces of one frame; each is a
/// reference to all of it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Frame {
    /// Bytes on the device: a multiple of 4096, less than `content_len`.
    pub(crate) stored_len: u32,
    /// Zeros at the end of these, behind the compressed bytes; less than 4096.
    pub(crate) pad: u16,
    /// Bytes of content in all, a multiple of 4096.
    pub(crate) content_len: u32,
    /// Where in its content the extent begins, a multiple of 4096.
    pub(crate) from: u32,
}

/// A run of blocks. `fs` stores it under its file offset and never looks at the address.
///
/// Lengths are multiples of 4096. An unwritten extent holds space, reads as zeros and has no checksums.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Extent {
    /// First block, as the reference was made: its content may have moved since, see [`PlacedExtent`].
    pub(crate) raw_addr: BlockAddr,
    /// Epoch in which this reference was made.
    pub(crate) birth: Epoch,
    /// Length in bytes of the file.
    pub(crate) len: u32,
    /// CRC-32C of each stored block; empty exactly when unwritten.
    pub(crate) crcs: Vec<u32>,
    /// The compressed form, if it is compressed.
    pub(crate) frame: Option<Frame>,
    /// Where its content belongs, if that is elsewhere. Never of what is compressed.
    pub(crate) home: Option<ContentHome>,
}

/// Where content belongs that is elsewhere.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ContentHome {
    /// First block.
    pub(crate) addr: BlockAddr,
    /// Of the reference that was there last.
    pub(crate) birth: Epoch,
}

impl ContentHome {
    /// That of what begins `bytes` further on.
    fn shifted(self, bytes: u64) -> ContentHome {
        ContentHome { addr: BlockAddr(self.addr.0 + bytes), ..self }
    }
}

/// An extent, or a part of one, with the place where its content is. Only who resolves extents makes these, or who knows that
/// the content has just been put there.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct PlacedExtent<'a>(Cow<'a, Extent>);

impl<'a> PlacedExtent<'a> {
    /// What is where its reference says.
    pub(crate) fn in_place(extent: &'a Extent) -> PlacedExtent<'a> {
        PlacedExtent(Cow::Borrowed(extent))
    }

    /// What has moved.
    pub(crate) fn moved(extent: Extent, to: BlockAddr) -> PlacedExtent<'static> {
        PlacedExtent(Cow::Owned(Extent { raw_addr: to, ..extent }))
    }

    /// Makes one of this and what follows it, if that lies behind it on the device and neither is compressed or unwritten. Tells
    /// whether it has. What comes out may be longer than an extent of a tree.
    pub(crate) fn join(&mut self, next: &PlacedExtent<'_>) -> bool {
        let (this, next) = (&*self.0, &*next.0);
        let are_plain = [this, next].iter().all(|extent| !extent.is_compressed() && !extent.is_unwritten());
        if !are_plain || this.raw_addr.0 + this.len_bytes() != next.raw_addr.0 {
            return false;
        }
        let this = self.0.to_mut();
        this.len += next.len;
        this.crcs.extend_from_slice(&next.crcs);
        true
    }

    /// Where it is.
    pub fn addr(&self) -> u64 {
        self.0.raw_addr.0
    }

    /// The same, with as much of it as `extent` is.
    pub fn extent(&self) -> &Extent {
        &self.0
    }
}

#[derive(Clone, Copy, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
struct RawExtent {
    addr: le::U64,
    birth: le::U64,
    /// Bytes of the file that it covers.
    len: le::U32,
    /// Bytes on the device: equals `len` if it is not compressed.
    stored_len: le::U32,
    /// Bit 0: unwritten. Bit 1: away from home.
    flags: u8,
    /// 0: none. 1: zstd.
    compression: u8,
    /// Compressed: zeros at the end of what is stored.
    pad: le::U16,
    /// Compressed: blocks of content in the frame, and the first that the extent is.
    frame_blocks: u8,
    frame_from: u8,
    reserved: [u8; 2],
}

const RAW_BYTES: usize = 32;
const HOME_BYTES: usize = 16;
const _: () = assert!(size_of::<RawExtent>() == RAW_BYTES);
const UNWRITTEN: u8 = 1;
const AWAY: u8 = 2;
const ZSTD: u8 = 1;

impl Extent {
    /// Bytes of the file that it covers, 4096..=131072.
    pub fn len_bytes(&self) -> u64 {
        u64::from(self.len)
    }

    /// Bytes on the device from its address on that it refers to.
    pub fn stored_bytes(&self) -> u64 {
        u64::from(self.frame.map_or(self.len, |frame| frame.stored_len))
    }

    /// What it counts in the space of its file, a multiple of 512: a piece of a frame counts its share.
    pub fn occupied_bytes(&self) -> u64 {
        match self.frame {
            None => self.len_bytes(),
            Some(frame) => (self.len_bytes() * u64::from(frame.stored_len))
                .div_ceil(u64::from(frame.content_len))
                .next_multiple_of(512),
        }
    }

    /// True if it only holds space.
    pub fn is_unwritten(&self) -> bool {
        self.crcs.is_empty()
    }

    /// True if what is stored is not the content itself.
    pub fn is_compressed(&self) -> bool {
        self.frame.is_some()
    }

    /// The part `from..from + len` (multiples of 4096, inside) as an extent of its own: parts of what is not compressed refer
    /// to parts of it. What is compressed is taken whole here, or cut by [`Extent::cut`].
    pub fn slice(&self, from: u64, len: u64) -> Extent {
        assert!(
            !self.is_compressed() || (from, len) == (0, self.len_bytes()),
            "a piece {from}+{len} of a frame is one more reference to all of it"
        );
        self.cut(from, len)
    }

    /// As [`Extent::slice`], of what may be compressed: then it is a piece that refers to as much on the device as the whole.
    /// Whoever puts several pieces of a frame into trees takes a reference for each.
    pub fn cut(&self, from: u64, len: u64) -> Extent {
        assert!(from.is_multiple_of(BLOCK_BYTES) && len.is_multiple_of(BLOCK_BYTES) && len > 0);
        assert!(from + len <= self.len_bytes(), "slice {from}+{len} of {}", self.len);
        if let Some(frame) = self.frame {
            let frame = Some(Frame { from: frame.from + from as u32, ..frame });
            return Extent { len: len as u32, frame, ..self.clone() };
        }
        let crcs = if self.is_unwritten() {
            Vec::new()
        } else {
            self.crcs[(from / BLOCK_BYTES) as usize..((from + len) / BLOCK_BYTES) as usize].to_vec()
        };
        let (raw_addr, home) = (BlockAddr(self.raw_addr.0 + from), self.home.map(|home| home.shifted(from)));
        Extent { raw_addr, len: len as u32, crcs, home, ..*self }
    }

    /// Where its content belongs: where it is, unless it says otherwise.
    pub fn home(&self) -> ContentHome {
        self.home.unwrap_or(ContentHome { addr: self.raw_addr, birth: self.birth })
    }

    /// True if its content belongs elsewhere.
    pub fn is_away(&self) -> bool {
        self.home.is_some()
    }

    /// Of the frame of which this is a piece, another one: `len` bytes of its content, from `from` on.
    pub fn piece(&self, from: u32, len: u32) -> Option<Extent> {
        let frame =
            self.frame.filter(|frame| from.checked_add(len).is_some_and(|end| end <= frame.content_len))?;
        Some(Extent { len, frame: Some(Frame { from, ..frame }), ..self.clone() })
    }

    /// True if this, of another view at the same offset, is what was last at the home of `away`: of as many bytes.
    pub fn was_at_home_of(&self, away: &Extent) -> bool {
        let home = away.home();
        away.is_away() && !self.is_compressed() && (self.raw_addr, self.birth) == (home.addr, home.birth)
    }

    /// True if the home of `next` begins where that of this ends.
    pub fn home_is_followed_by(&self, next: &Extent) -> bool {
        self.home().addr.0 + self.len_bytes() == next.home().addr.0
    }

    /// The checksum of the block at an offset, if it is stored as it is.
    pub fn checksum_at(&self, offset: u64) -> Option<u32> {
        let block = (offset / BLOCK_BYTES) as usize;
        self.crcs.get(block).copied().filter(|_| !self.is_compressed())
    }

    /// True if both are the same reference, of as many bytes.
    pub fn is_same_reference(&self, other: &Extent) -> bool {
        (self.raw_addr, self.birth, self.len) == (other.raw_addr, other.birth, other.len)
    }

    /// This with a home: that of `before`, which it replaces and which has as many bytes.
    pub fn at_home_of(mut self, before: &Extent) -> Extent {
        let home = before.home();
        if !self.is_compressed() && !before.is_compressed() && home.addr != self.raw_addr {
            self.home = Some(home);
        }
        self
    }

    /// True if `next` goes on where this ends, on the device and in kind, so that the two may be one item.
    pub fn joins(&self, next: &Extent) -> bool {
        self.raw_addr.0 + self.len_bytes() == next.raw_addr.0
            && self.birth == next.birth
            && self.home.map(|home| home.shifted(self.len_bytes())) == next.home
            && self.is_unwritten() == next.is_unwritten()
            && !self.is_compressed()
            && !next.is_compressed()
            && self.len_bytes() + next.len_bytes() <= EXTENT_BYTES_MAX
    }

    /// This and `next` as one. Only if [`Self::joins`].
    pub fn join(mut self, next: &Extent) -> Extent {
        assert!(self.joins(next));
        self.len += next.len;
        self.crcs.extend_from_slice(&next.crcs);
        self
    }

    /// Length of [`Self::encode`]d bytes.
    pub fn encoded_len(&self) -> usize {
        RAW_BYTES + self.home.map_or(0, |_| HOME_BYTES) + 4 * self.crcs.len()
    }

    /// To the value of a tree item.
    pub fn encode(&self) -> Vec<u8> {
        let raw = RawExtent {
            addr: self.raw_addr.0.into(),
            birth: self.birth.0.into(),
            len: self.len.into(),
            stored_len: self.frame.map_or(self.len, |f| f.stored_len).into(),
            flags: if self.is_unwritten() { UNWRITTEN } else { 0 } | if self.is_away() { AWAY } else { 0 },
            compression: if self.is_compressed() { ZSTD } else { 0 },
            pad: self.frame.map_or(0, |f| f.pad).into(),
            frame_blocks: self.frame.map_or(0, |f| blocks(f.content_len)),
            frame_from: self.frame.map_or(0, |f| blocks(f.from)),
            reserved: [0; 2],
        };
        let mut out = Vec::with_capacity(self.encoded_len());
        out.extend_from_slice(raw.as_bytes());
        if let Some(home) = self.home {
            out.extend_from_slice(&home.addr.0.to_le_bytes());
            out.extend_from_slice(&home.birth.0.to_le_bytes());
        }
        for crc in &self.crcs {
            out.extend_from_slice(&crc.to_le_bytes());
        }
        out
    }

    /// From the value of a tree item.
    pub fn decode(bytes: &[u8]) -> Result<Extent, FormatError> {
        let Ok((raw, rest)) = RawExtent::read_from_prefix(bytes) else {
            return bad!("extent item has {} bytes, fewer than 32", bytes.len());
        };
        let (addr, len) = (raw.addr.get(), u64::from(raw.len.get()));
        if !is_address(addr) {
            return bad!("extent address {addr:#x} is zero or not a multiple of 4096");
        }
        if len == 0 || len % BLOCK_BYTES != 0 || len > EXTENT_BYTES_MAX {
            return bad!("extent length {len} is not a multiple of 4096 in 4096..=131072");
        }
        if raw.birth.get() == 0 || raw.flags & !(UNWRITTEN | AWAY) != 0 || raw.reserved != [0; 2] {
            return bad!("extent birth is 0, or it has unknown flags {:#x} or reserved bytes", raw.flags);
        }
        let frame = raw.frame()?;
        let (home, rest) = if raw.flags & AWAY == 0 { (None, rest) } else { home(rest)? };
        if home.is_some_and(|home| frame.is_some() || home.addr.0 == addr) {
            return bad!("extent is away from home, and compressed or at home");
        }
        let stored_len = frame.map_or(len, |f| u64::from(f.stored_len));
        let blocks = if raw.flags & UNWRITTEN != 0 { 0 } else { (stored_len / BLOCK_BYTES) as usize };
        if rest.len() != 4 * blocks {
            return bad!("extent item has {} bytes of checksums, expected {}", rest.len(), 4 * blocks);
        }
        let crcs = rest.chunks_exact(4).map(|c| u32::from_le_bytes([c[0], c[1], c[2], c[3]])).collect();
        let (raw_addr, birth) = (BlockAddr(addr), Epoch(raw.birth.get()));
        Ok(Extent { raw_addr, birth, len: len as u32, crcs, frame, home })
    }
}

/// True for what may be the first block of an extent.
fn is_address(addr: u64) -> bool {
    addr != 0 && addr.is_multiple_of(BLOCK_BYTES) && addr <= u64::MAX - EXTENT_BYTES_MAX
}

/// The home of an extent that is away, and what follows it.
fn home(bytes: &[u8]) -> Result<(Option<ContentHome>, &[u8]), FormatError> {
    let Some((raw, rest)) = bytes.split_first_chunk::<HOME_BYTES>() else {
        return bad!("extent item ends before its home");
    };
    let word = |at: usize| raw[at..at + 8].iter().rev().fold(0, |sum: u64, b| sum << 8 | u64::from(*b));
    let (addr, birth) = (word(0), word(8));
    if !is_address(addr) || birth == 0 {
        return bad!("extent has its home at {addr:#x}, of birth {birth}");
    }
    Ok((Some(ContentHome { addr: BlockAddr(addr), birth: Epoch(birth) }), rest))
}

/// Bytes (at most 128 KiB) as blocks.
fn blocks(bytes: u32) -> u8 {
    (u64::from(bytes) / BLOCK_BYTES) as u8
}

impl RawExtent {
    /// The frame, if it says that it is compressed.
    fn frame(&self) -> Result<Option<Frame>, FormatError> {
        let (len, stored_len) = (u64::from(self.len.get()), u64::from(self.stored_len.get()));
        let (first, total) = (u64::from(self.frame_from), u64::from(self.frame_blocks));
        if self.compression == 0 {
            if stored_len != len || self.pad.get() != 0 || first != 0 || total != 0 {
                return bad!(
                    "extent of {len} bytes is not compressed, but has {stored_len} bytes in a frame"
                );
            }
            return Ok(None);
        }
        if self.compression != ZSTD || self.flags & UNWRITTEN != 0 {
            return bad!("extent has compression {} and flags {:#x}", self.compression, self.flags);
        }
        let content_len = total * BLOCK_BYTES;
        if content_len > EXTENT_BYTES_MAX || first * BLOCK_BYTES + len > content_len {
            return bad!("extent is {len} bytes from block {first} of a frame of {total} blocks");
        }
        let pad = self.pad.get();
        if stored_len == 0
            || stored_len % BLOCK_BYTES != 0
            || stored_len >= content_len
            || u64::from(pad) >= BLOCK_BYTES
        {
            return bad!("frame of {content_len} bytes has {stored_len} bytes stored, {pad} of them unused");
        }
        Ok(Some(Frame {
            stored_len: stored_len as u32,
            pad,
            content_len: content_len as u32,
            from: (first * BLOCK_BYTES) as u32,
        }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn compressed() -> Extent {
        Extent {
            raw_addr: BlockAddr(1 << 20),
            birth: Epoch(7),
            len: 40960,
            crcs: vec![1, 2, 3],
            home: None,
            frame: Some(Frame { stored_len: 12288, pad: 100, content_len: 40960, from: 0 }),
        }
    }

    #[test]
    fn pieces_of_a_frame_round_trip_and_count_their_share() {
        let whole = compressed();
        assert_eq!(Extent::decode(&whole.encode()), Ok(whole.clone()));
        let piece = whole.cut(4096, 32768).cut(4096, 8192);
        assert_eq!(piece.frame.map(|f| f.from), Some(8192));
        assert_eq!((piece.len_bytes(), piece.stored_bytes(), piece.raw_addr), (8192, 12288, whole.raw_addr));
        assert_eq!(Extent::decode(&piece.encode()), Ok(piece.clone()));
        assert_eq!((whole.occupied_bytes(), piece.occupied_bytes()), (12288, 2560));
        assert!(!whole.joins(&piece) && !piece.joins(&whole));
    }

    #[test]
    fn homes_round_trip_and_follow_their_content() {
        let home = ContentHome { addr: BlockAddr(9 << 20), birth: Epoch(3) };
        let whole = Extent { crcs: (0..10).collect(), frame: None, home: Some(home), ..compressed() };
        assert_eq!(Extent::decode(&whole.encode()), Ok(whole.clone()));
        assert_eq!(whole.encode().len(), whole.encoded_len());
        let (front, back) = (whole.slice(0, 8192), whole.slice(8192, 32768));
        assert_eq!(back.home(), ContentHome { addr: BlockAddr((9 << 20) + 8192), birth: Epoch(3) });
        assert!(front.joins(&back) && front.join(&back) == whole);
        let elsewhere = Extent { home: Some(home), ..back.clone() };
        assert!(!whole.slice(0, 8192).joins(&elsewhere) && !whole.slice(0, 8192).joins(&at_home(&back)));
        assert_eq!(at_home(&whole).home().addr, whole.raw_addr);
        // Compressed, at home, no address, no birth, cut off.
        let mut bytes = whole.encode();
        bytes.truncate(40);
        assert!(Extent::decode(&bytes).is_err());
        let wrong = [(32, 1), (34, 0x10), (40, 0)];
        for (at, value) in wrong {
            let mut bytes = whole.encode();
            bytes[at] = value;
            let none = at == 34;
            bytes[35] = if none { 0 } else { bytes[35] };
            assert!(Extent::decode(&bytes).is_err(), "byte {at} {value:#x}");
        }
        assert!(Extent::decode(&Extent { home: Some(home), ..compressed() }.encode()).is_err());
    }

    fn at_home(extent: &Extent) -> Extent {
        Extent { home: None, ..extent.clone() }
    }

    #[test]
    fn impossible_frames_are_refused() {
        let good = compressed().cut(4096, 8192).encode();
        assert!(Extent::decode(&good).is_ok());
        // len, stored_len, flags, compression, pad, blocks of the frame, first block, reserved.
        for (at, value) in [(17, 0xb0), (21, 0x20), (21, 0), (24, 1), (25, 0), (25, 2), (27, 0x10)] {
            let mut bytes = good.clone();
            bytes[at] = value;
            assert!(Extent::decode(&bytes).is_err(), "byte {at} {value:#x}");
        }
        for (at, value) in [(28, 2), (28, 3), (28, 33), (28, 0), (29, 9), (29, 255), (30, 1), (31, 1)] {
            let mut bytes = good.clone();
            bytes[at] = value;
            assert!(Extent::decode(&bytes).is_err(), "byte {at} {value:#x}");
        }
    }
}
