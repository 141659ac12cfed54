//! A stream: a snapshot, or what it differs in from another, as numbered packets of bytes.
//!
//! Each packet has a checksum over itself, and stands under its number in a stream whose number it is seeded with: one that is
//! damaged, cut, missing, doubled or from elsewhere is found before anything of it is used. Changes tell of items by key, of
//! content by file and offset, and of no place on any device. What they mean together is judged above.

use super::key::KEY_BYTES;
use super::leaf::VALUE_BYTES_MAX;
use super::provenance::Provenance;
use super::view::Consistency;
use super::{BLOCK_BYTES, Epoch, FormatError, Frame, Identity, Ino, Key, bad};
use super::{extent::EXTENT_BYTES_MAX, ids::COUNTER_MAX};
use crate::limits::{FILE_BYTES_MAX, NAME_BYTES_MAX};
use xxhash_rust::xxh3::{xxh3_64_with_seed, xxh3_128_with_seed};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned, little_endian as le};

/// Bytes of a packet's header.
pub const HEADER_BYTES: usize = 32;
/// Bytes behind it at most.
pub const PAYLOAD_BYTES_MAX: usize = 2 << 20;
/// Bytes of the changes of a packet at most, but for those of content: what one transaction takes in.
pub const ITEM_BYTES_MAX: usize = 64 << 10;
/// Version of streams that this program makes; it takes no other.
pub const VERSION: u32 = 1;
/// Older snapshots that a stream names at most.
pub const OLDER_MAX: usize = 1024;
/// No inode of a stream has this number or a greater one: half of all numbers stay with the store that receives it.
pub const INO_END: Ino = Ino(Ino::END.0 / 2);

const MAGIC: u32 = u32::from_le_bytes(*b"SnpT");
const FIRST_SEED: u64 = 0x5354;
const STREAM_SEED: u64 = 0x736e_6170_6673_0005;

/// What a packet holds.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum PacketKind {
    /// What is sent: always the first.
    Begin,
    /// Changes.
    Changes,
    /// The sum over everything: the last.
    End,
}

/// The head of a packet.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct PacketHeader {
    /// What it holds.
    pub kind: PacketKind,
    /// Its number, from 0.
    pub number: u64,
    /// Bytes behind the header.
    pub len: usize,
    checksum: u64,
}

#[derive(Clone, Copy, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
struct RawHeader {
    checksum: le::U64,
    magic: le::U32,
    len: le::U32,
    number: le::U64,
    kind: u8,
    reserved: [u8; 7],
}
const _: () = assert!(size_of::<RawHeader>() == HEADER_BYTES);

/// The seed of packets of a stream: that of its first one is known before its number is.
fn seed(stream: Option<Identity>) -> u64 {
    stream.map_or(FIRST_SEED, |stream| {
        let [a, b, c, d, e, f, g, h, ..] = stream.0;
        u64::from_le_bytes([a, b, c, d, e, f, g, h])
    })
}

impl PacketHeader {
    /// A whole packet: header and payload. The first of a stream has no stream.
    pub fn seal(kind: PacketKind, number: u64, stream: Option<Identity>, payload: &[u8]) -> Vec<u8> {
        let kind = match kind {
            PacketKind::Begin => 1,
            PacketKind::Changes => 2,
            PacketKind::End => 3,
        };
        let raw = RawHeader {
            checksum: 0.into(),
            magic: MAGIC.into(),
            len: (payload.len() as u32).into(),
            number: number.into(),
            kind,
            reserved: [0; 7],
        };
        let mut out = raw.as_bytes().to_vec();
        out.extend_from_slice(payload);
        let checksum = xxh3_64_with_seed(&out[8..], seed(stream));
        out[..8].copy_from_slice(&checksum.to_le_bytes());
        out
    }

    /// From its bytes; what follows is not proved yet.
    pub fn decode(bytes: &[u8; HEADER_BYTES]) -> Result<PacketHeader, FormatError> {
        let raw: &RawHeader = zerocopy::transmute_ref!(bytes);
        let len = raw.len.get() as usize;
        let kind = match raw.kind {
            1 => PacketKind::Begin,
            2 => PacketKind::Changes,
            3 => PacketKind::End,
            n => return bad!("a packet of kind {n}, known are 1..=3"),
        };
        if raw.magic.get() != MAGIC || raw.reserved != [0; 7] || len > PAYLOAD_BYTES_MAX {
            return bad!("no packet of a stream");
        }
        Ok(PacketHeader { kind, number: raw.number.get(), len, checksum: raw.checksum.get() })
    }

    /// True if header and payload are whole, and of that stream.
    pub fn proves(&self, header: &[u8; HEADER_BYTES], payload: &[u8], stream: Option<Identity>) -> bool {
        let mut hash = xxhash_rust::xxh3::Xxh3Builder::new().with_seed(seed(stream)).build();
        hash.update(&header[8..]);
        hash.update(payload);
        payload.len() == self.len && hash.digest() == self.checksum
    }
}

/// What changes are told against.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Against {
    /// Nothing: all of the snapshot is told.
    Nothing,
    /// The base, item by item.
    Base,
    /// The base as of an epoch: whatever is younger is told, also what may be as it was.
    Births(Epoch),
}

/// What a stream is of: its first packet.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct StreamBegin {
    /// The snapshot.
    pub identity: Identity,
    /// What it is told against.
    pub against: Against,
    /// The base, which the receiver has; none if all is told.
    pub base: Option<Identity>,
    /// The store that sends.
    pub store: [u8; 16],
    /// The snapshot's creation: seconds and nanoseconds since 1970 UTC.
    pub created: (i64, u32),
    /// What took part in it.
    pub consistency: Consistency,
    /// Number of the first packet after this one.
    pub goes_on_at: u64,
    /// Bytes that are to come, about.
    pub about_bytes: u64,
    /// The snapshot's name.
    pub name: Vec<u8>,
    /// What the base is called where it is sent.
    pub base_name: Vec<u8>,
    /// The clone that it is of, where it is sent; nothing for the main line.
    pub line_name: Vec<u8>,
    /// Why the snapshot was made, and by whom.
    pub provenance: Provenance,
    /// If it is told against something: what the line has that is older than the snapshot and could be the base as well, newest
    /// first. No part of the number of the stream.
    pub older: Vec<Identity>,
}

#[derive(Clone, Copy, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
struct RawBegin {
    version: le::U32,
    against: u8,
    consistency: u8,
    reserved: [u8; 2],
    identity: [u8; 16],
    base: [u8; 16],
    store: [u8; 16],
    epoch: le::U64,
    created_secs: le::I64,
    created_nanos: le::U32,
    goes_on_at: le::U64,
    about_bytes: le::U64,
    name_len: le::U16,
    base_name_len: le::U16,
    line_name_len: le::U16,
    older: le::U16,
    reserved2: [u8; 4],
}
const BEGIN_BYTES: usize = 104;
const _: () = assert!(size_of::<RawBegin>() == BEGIN_BYTES);

impl StreamBegin {
    /// The number of the stream: the same for whoever sends the same again.
    pub fn stream(&self) -> Identity {
        let (against, epoch) = self.against.numbers();
        let mut words = VERSION.to_le_bytes().to_vec();
        words.extend_from_slice(&self.identity.0);
        words.extend_from_slice(&self.base.map_or([0; 16], |base| base.0));
        words.push(against);
        words.extend_from_slice(&epoch.to_le_bytes());
        Identity(xxh3_128_with_seed(&words, STREAM_SEED).to_le_bytes())
    }

    /// To the payload of its packet.
    pub fn encode(&self) -> Vec<u8> {
        let (against, epoch) = self.against.numbers();
        let raw = RawBegin {
            version: VERSION.into(),
            against,
            consistency: self.consistency.number(),
            reserved: [0; 2],
            identity: self.identity.0,
            base: self.base.map_or([0; 16], |base| base.0),
            store: self.store,
            epoch: epoch.into(),
            created_secs: self.created.0.into(),
            created_nanos: self.created.1.into(),
            goes_on_at: self.goes_on_at.into(),
            about_bytes: self.about_bytes.into(),
            name_len: (self.name.len() as u16).into(),
            base_name_len: (self.base_name.len() as u16).into(),
            line_name_len: (self.line_name.len() as u16).into(),
            older: (self.older.len() as u16).into(),
            reserved2: [0; 4],
        };
        let mut out = raw.as_bytes().to_vec();
        [&self.name, &self.base_name, &self.line_name]
            .into_iter()
            .for_each(|name| out.extend_from_slice(name));
        self.provenance.encode(&mut out);
        self.older.iter().for_each(|identity| out.extend_from_slice(&identity.0));
        out
    }

    /// From the payload of its packet.
    pub fn decode(bytes: &[u8]) -> Result<StreamBegin, FormatError> {
        let Ok((raw, mut rest)) = RawBegin::read_from_prefix(bytes) else {
            return bad!("the beginning of a stream has {} bytes, fewer than {BEGIN_BYTES}", bytes.len());
        };
        if raw.version.get() != VERSION {
            return bad!("a stream of version {}, this program takes {VERSION}", raw.version.get());
        }
        let mut name = |len: le::U16| match rest.split_at_checked(len.get().into()) {
            Some((name, tail)) if name.len() <= NAME_BYTES_MAX => {
                rest = tail;
                Ok(name.to_vec())
            }
            _ => bad!("a name in a stream is cut off or too long"),
        };
        let names = [name(raw.name_len)?, name(raw.base_name_len)?, name(raw.line_name_len)?];
        let provenance = Provenance::take(&mut rest)?;
        let older = take_bytes(&mut rest, usize::from(raw.older.get()) * 16)?;
        let older: Vec<_> = older.as_chunks::<16>().0.iter().map(|bytes| Identity(*bytes)).collect();
        let base = (raw.base != [0; 16]).then_some(Identity(raw.base));
        let epoch = raw.epoch.get();
        let against = match (raw.against, base) {
            (1, None) if epoch == 0 => Against::Nothing,
            (2, Some(_)) if epoch == 0 => Against::Base,
            (3, Some(_)) if (1..=COUNTER_MAX).contains(&epoch) => Against::Births(Epoch(epoch)),
            (n, _) => return bad!("a stream told against {n} of epoch {epoch}"),
        };
        let Some(consistency) = Consistency::from_number(raw.consistency) else {
            return bad!("a stream of a snapshot with consistency {}", raw.consistency);
        };
        let [name, base_name, line_name] = names;
        let whole = rest.is_empty() && !name.is_empty() && raw.created_nanos.get() < 1_000_000_000;
        if !whole || raw.reserved != [0; 2] || raw.reserved2 != [0; 4] || raw.goes_on_at.get() == 0 {
            return bad!("the beginning of a stream has no name, no time, no next packet, or bytes too many");
        }
        if older.len() > OLDER_MAX || against == Against::Nothing && !older.is_empty() {
            return bad!("a stream names {} older snapshots", older.len());
        }
        if raw.identity == [0; 16] || base == Some(Identity(raw.identity)) {
            return bad!("a stream of a snapshot without an identity of its own");
        }
        Ok(StreamBegin {
            identity: Identity(raw.identity),
            against,
            base,
            store: raw.store,
            created: (raw.created_secs.get(), raw.created_nanos.get()),
            consistency,
            goes_on_at: raw.goes_on_at.get(),
            about_bytes: raw.about_bytes.get(),
            name,
            base_name,
            line_name,
            provenance,
            older,
        })
    }
}

impl Against {
    fn numbers(self) -> (u8, u64) {
        match self {
            Against::Nothing => (1, 0),
            Against::Base => (2, 0),
            Against::Births(epoch) => (3, epoch.0),
        }
    }
}

/// The last packet.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct StreamEnd {
    /// Sum over what is in the snapshot.
    pub digest: u128,
    /// Bytes of content that were sent, as they are stored.
    pub content_bytes: u64,
}

impl StreamEnd {
    /// To the payload of its packet.
    pub fn encode(&self) -> Vec<u8> {
        [&self.digest.to_le_bytes()[..], &self.content_bytes.to_le_bytes()].concat()
    }

    /// From the payload of its packet.
    pub fn decode(bytes: &[u8]) -> Result<StreamEnd, FormatError> {
        let Some((digest, rest)) = bytes.split_first_chunk::<16>() else {
            return bad!("the end of a stream is cut off");
        };
        let Ok(content_bytes) = rest.try_into().map(u64::from_le_bytes) else {
            return bad!("the end of a stream has {} bytes", bytes.len());
        };
        Ok(StreamEnd { digest: u128::from_le_bytes(*digest), content_bytes })
    }
}

/// Where content is taken from that the receiver has.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ContentSide {
    /// The base.
    Base,
    /// What has been received of this stream.
    Here,
}

/// Content that the receiver has: of a file, at an offset.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ContentPlace {
    /// Where.
    pub side: ContentSide,
    /// The file.
    pub ino: Ino,
    /// Offset in it, a multiple of 4096.
    pub offset: u64,
}

/// One thing that differs.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum StreamChange<'c> {
    /// An item, which is no extent, has a value.
    Set(Key, &'c [u8]),
    /// An item, which is no extent, is not there.
    Remove(Key),
    /// Of these inodes, up to and without the second, nothing is there.
    Clear(Ino, Ino),
    /// Of the items between these keys, of one inode and no extents, none is there: up to and without the second.
    ClearItems(Key, Key),
    /// A range of a file has no content: from and to.
    Hole(Ino, u64, u64),
    /// A range of a file is space without content: offset and length.
    Space(Ino, u64, u64),
    /// Content of a file.
    Content {
        /// The file.
        ino: Ino,
        /// Offset in it.
        offset: u64,
        /// Bytes of the file.
        len: u32,
        /// If it is compressed: how, and the part of the content that it is.
        frame: Option<Frame>,
        /// CRC-32C of each block that is stored.
        crcs: Vec<u32>,
        /// What is stored.
        stored: &'c [u8],
    },
    /// Content of a file that the receiver has elsewhere.
    Share {
        /// The file.
        ino: Ino,
        /// Offset in it.
        offset: u64,
        /// Bytes of the file.
        len: u32,
        /// Where it is.
        place: ContentPlace,
        /// Of the frame that is there, another piece: from this offset in its content on.
        piece: Option<u32>,
    },
}

/// Stands for no piece.
const NO_PIECE: u8 = 255;

impl StreamChange<'_> {
    /// Appends it.
    pub fn put(&self, out: &mut Vec<u8>) {
        match self {
            StreamChange::Set(key, value) => {
                out.push(1);
                out.extend_from_slice(&key.encode());
                out.extend_from_slice(&(value.len() as u16).to_le_bytes());
                out.extend_from_slice(value);
            }
            StreamChange::Remove(key) => {
                out.push(2);
                out.extend_from_slice(&key.encode());
            }
            StreamChange::Clear(from, to) => words(out, 3, &[from.0, to.0]),
            StreamChange::ClearItems(from, to) => {
                out.push(4);
                out.extend_from_slice(&from.encode());
                out.extend_from_slice(&to.encode());
            }
            StreamChange::Hole(ino, from, to) => words(out, 5, &[ino.0, *from, *to]),
            StreamChange::Space(ino, offset, len) => words(out, 6, &[ino.0, *offset, *len]),
            StreamChange::Content { ino, offset, len, frame, crcs, stored } => {
                words(out, 7, &[ino.0, *offset]);
                let blocks = |bytes: u32| (u64::from(bytes) / BLOCK_BYTES) as u8;
                out.extend_from_slice(&len.to_le_bytes());
                out.extend_from_slice(&(stored.len() as u32).to_le_bytes());
                out.extend_from_slice(&frame.map_or(0, |f| f.pad).to_le_bytes());
                out.push(frame.map_or(0, |f| blocks(f.content_len)));
                out.push(frame.map_or(0, |f| blocks(f.from)));
                crcs.iter().for_each(|crc| out.extend_from_slice(&crc.to_le_bytes()));
                out.extend_from_slice(stored);
            }
            StreamChange::Share { ino, offset, len, place, piece } => {
                words(out, 8, &[ino.0, *offset, place.ino.0, place.offset]);
                out.extend_from_slice(&len.to_le_bytes());
                out.push(if place.side == ContentSide::Base { 1 } else { 2 });
                out.push(piece.map_or(NO_PIECE, |from| (u64::from(from) / BLOCK_BYTES) as u8));
            }
        }
    }

    /// Bytes that a change of content takes with so many that are stored.
    pub fn content_len(stored: u64) -> usize {
        29 + 4 * (stored / BLOCK_BYTES) as usize + stored as usize
    }

    /// Takes one off the front.
    pub fn take<'c>(rest: &mut &'c [u8]) -> Result<StreamChange<'c>, FormatError> {
        let [tag] = take_array(rest)?;
        Ok(match tag {
            1 => {
                let (key, len) = (take_key(rest)?, u16::from_le_bytes(take_array(rest)?));
                if usize::from(len) > VALUE_BYTES_MAX {
                    return bad!("an item of {len} bytes in a stream");
                }
                StreamChange::Set(key, take_bytes(rest, len.into())?)
            }
            2 => StreamChange::Remove(take_key(rest)?),
            3 => {
                let (from, to) = (Ino(take_word(rest)?), Ino(take_word(rest)?));
                if from >= to || to > Ino::END {
                    return bad!("inodes {} to {} in a stream", from.0, to.0);
                }
                StreamChange::Clear(from, to)
            }
            4 => {
                let (from, to) = (take_key(rest)?, take_key(rest)?);
                if from >= to || from.object != to.object {
                    return bad!("items {from:?} to {to:?} in a stream");
                }
                StreamChange::ClearItems(from, to)
            }
            5 => {
                let (ino, from, to) = (take_ino(rest)?, take_word(rest)?, take_word(rest)?);
                range(from, to)?;
                StreamChange::Hole(ino, from, to)
            }
            6 => {
                let (ino, offset, len) = (take_ino(rest)?, take_word(rest)?, take_word(rest)?);
                range(offset, offset.saturating_add(len))?;
                if len > EXTENT_BYTES_MAX {
                    return bad!("space of {len} bytes in a stream");
                }
                StreamChange::Space(ino, offset, len)
            }
            7 => take_content(rest)?,
            8 => take_share(rest)?,
            n => return bad!("change {n} in a stream, known are 1..=8"),
        })
    }
}

fn take_content<'c>(rest: &mut &'c [u8]) -> Result<StreamChange<'c>, FormatError> {
    let (ino, offset) = (take_ino(rest)?, take_word(rest)?);
    let (len, stored_len) = (u32::from_le_bytes(take_array(rest)?), u32::from_le_bytes(take_array(rest)?));
    let pad = u16::from_le_bytes(take_array(rest)?);
    let [blocks, from] = take_array(rest)?.map(|n: u8| u32::from(n) * BLOCK_BYTES as u32);
    range(offset, offset.saturating_add(len.into()))?;
    let whole = u64::from(stored_len) <= EXTENT_BYTES_MAX && stored_len > 0;
    if !whole || !u64::from(stored_len).is_multiple_of(BLOCK_BYTES) || u64::from(len) > EXTENT_BYTES_MAX {
        return bad!("content of {len} bytes, {stored_len} stored, in a stream");
    }
    let frame = match blocks {
        0 if stored_len == len && pad == 0 && from == 0 => None,
        0 => return bad!("content of {len} bytes has {stored_len} stored, and no frame"),
        _ if u64::from(blocks) > EXTENT_BYTES_MAX
            || stored_len >= blocks
            || from.checked_add(len).is_none_or(|end| end > blocks)
            || u64::from(pad) >= BLOCK_BYTES =>
        {
            return bad!("{len} bytes from {from} of a frame of {blocks} bytes, {stored_len} stored");
        }
        _ => Some(Frame { stored_len, pad, content_len: blocks, from }),
    };
    let crcs = take_bytes(rest, stored_len as usize / BLOCK_BYTES as usize * 4)?;
    let crcs = crcs.as_chunks::<4>().0.iter().map(|crc| u32::from_le_bytes(*crc)).collect();
    let stored = take_bytes(rest, stored_len as usize)?;
    Ok(StreamChange::Content { ino, offset, len, frame, crcs, stored })
}

fn take_share<'c>(rest: &mut &'c [u8]) -> Result<StreamChange<'c>, FormatError> {
    let (ino, offset) = (take_ino(rest)?, take_word(rest)?);
    let (from, at) = (take_ino(rest)?, take_word(rest)?);
    let len = u32::from_le_bytes(take_array(rest)?);
    let [side, piece] = take_array(rest)?;
    range(offset, offset.saturating_add(len.into()))?;
    range(at, at.saturating_add(len.into()))?;
    if u64::from(len) > EXTENT_BYTES_MAX {
        return bad!("{len} bytes of shared content in a stream");
    }
    let side = match side {
        1 => ContentSide::Base,
        2 => ContentSide::Here,
        n => return bad!("content of side {n} in a stream"),
    };
    let piece = (piece != NO_PIECE).then(|| u32::from(piece) * BLOCK_BYTES as u32);
    if piece.is_some_and(|from| u64::from(from) + u64::from(len) > EXTENT_BYTES_MAX) {
        return bad!("a piece of {len} bytes behind the end of any frame");
    }
    Ok(StreamChange::Share { ino, offset, len, place: ContentPlace { side, ino: from, offset: at }, piece })
}

/// Whole blocks of a file.
fn range(from: u64, to: u64) -> Result<(), FormatError> {
    let blocks = from.is_multiple_of(BLOCK_BYTES) && to.is_multiple_of(BLOCK_BYTES);
    if from >= to || to > FILE_BYTES_MAX || !blocks {
        return bad!("range {from} to {to} of a file in a stream");
    }
    Ok(())
}

fn words(out: &mut Vec<u8>, tag: u8, words: &[u64]) {
    out.push(tag);
    words.iter().for_each(|word| out.extend_from_slice(&word.to_le_bytes()));
}

fn take_bytes<'c>(rest: &mut &'c [u8], len: usize) -> Result<&'c [u8], FormatError> {
    let Some((bytes, tail)) = rest.split_at_checked(len) else {
        return bad!("a change in a stream is cut off");
    };
    *rest = tail;
    Ok(bytes)
}

fn take_array<const N: usize>(rest: &mut &[u8]) -> Result<[u8; N], FormatError> {
    let mut bytes = [0; N];
    bytes.copy_from_slice(take_bytes(rest, N)?);
    Ok(bytes)
}

fn take_word(rest: &mut &[u8]) -> Result<u64, FormatError> {
    take_array(rest).map(u64::from_le_bytes)
}

fn take_ino(rest: &mut &[u8]) -> Result<Ino, FormatError> {
    match Ino(take_word(rest)?) {
        ino if ino == Ino::ROOT || (Ino::FIRST_FREE..INO_END).contains(&ino) => Ok(ino),
        ino => bad!("inode {} in a stream", ino.0),
    }
}

fn take_key(rest: &mut &[u8]) -> Result<Key, FormatError> {
    take_array::<KEY_BYTES>(rest).map(|bytes| Key::decode(&bytes))
}

/// How far a line has been received: in its tree, until it is whole.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ArrivalRecord {
    /// What is received.
    pub begin: StreamBegin,
    /// The number of the packet that comes next.
    pub next: u64,
    /// Bytes of packets that are in.
    pub received_bytes: u64,
}

impl ArrivalRecord {
    /// To the value of a tree item.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = self.next.to_le_bytes().to_vec();
        out.extend_from_slice(&self.received_bytes.to_le_bytes());
        out.extend_from_slice(&self.begin.encode());
        out
    }

    /// From the value of a tree item.
    pub fn decode(mut bytes: &[u8]) -> Result<ArrivalRecord, FormatError> {
        let (next, received_bytes) = (take_word(&mut bytes)?, take_word(&mut bytes)?);
        Ok(ArrivalRecord { begin: StreamBegin::decode(bytes)?, next, received_bytes })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::format::Kind;

    fn begin() -> StreamBegin {
        StreamBegin {
            identity: Identity([1; 16]),
            against: Against::Births(Epoch(7)),
            base: Some(Identity([2; 16])),
            store: [3; 16],
            created: (-5, 6),
            consistency: Consistency::Application,
            goes_on_at: 1,
            about_bytes: 9,
            name: b"monday".to_vec(),
            base_name: b"sunday".to_vec(),
            line_name: Vec::new(),
            provenance: Provenance { description: b"why".to_vec(), ..Provenance::default() },
            older: vec![Identity([8; 16]), Identity([9; 16])],
        }
    }

    fn changes() -> Vec<StreamChange<'static>> {
        let key = |kind, rest| Key::new(20, kind, rest);
        let place = ContentPlace { side: ContentSide::Base, ino: Ino(18), offset: 4096 };
        let frame = Frame { stored_len: 4096, pad: 7, content_len: 16384, from: 4096 };
        let stored: &[u8] = &[5; 4096];
        vec![
            StreamChange::Set(key(Kind::Dirent, 256), b"value"),
            StreamChange::Remove(key(Kind::Link, 5)),
            StreamChange::Clear(Ino(17), Ino(20)),
            StreamChange::ClearItems(key(Kind::Inode, 0), key(Kind::Inline, 0)),
            StreamChange::Hole(Ino(16), 0, FILE_BYTES_MAX),
            StreamChange::Space(Ino(16), 4096, 1 << 17),
            StreamChange::Content { ino: Ino(16), offset: 0, len: 4096, frame: None, crcs: vec![1], stored },
            StreamChange::Content {
                ino: Ino(1),
                offset: 0,
                len: 8192,
                frame: Some(frame),
                crcs: vec![1],
                stored,
            },
            StreamChange::Share { ino: Ino(16), offset: 8192, len: 4096, place, piece: None },
            StreamChange::Share { ino: Ino(16), offset: 8192, len: 4096, place, piece: Some(8192) },
        ]
    }

    #[test]
    fn everything_comes_back() {
        let mut bytes = Vec::new();
        changes().iter().for_each(|change| change.put(&mut bytes));
        let mut rest = &bytes[..];
        for change in changes() {
            assert_eq!(StreamChange::take(&mut rest), Ok(change));
        }
        assert!(rest.is_empty());
        let end = StreamEnd { digest: 1 << 90, content_bytes: 5 };
        assert_eq!(StreamEnd::decode(&end.encode()), Ok(end));
        for begin in [
            begin(),
            StreamBegin { against: Against::Base, ..begin() },
            StreamBegin { against: Against::Nothing, base: None, older: Vec::new(), ..begin() },
            StreamBegin { older: vec![Identity([8; 16]); OLDER_MAX], ..begin() },
        ] {
            assert_eq!(StreamBegin::decode(&begin.encode()), Ok(begin.clone()));
            let record = ArrivalRecord { begin, next: 4, received_bytes: 5 };
            assert_eq!(ArrivalRecord::decode(&record.encode()), Ok(record));
        }
    }

    #[test]
    fn every_flip_in_a_packet_is_found() {
        let stream = begin().stream();
        for (number, of) in [(0, None), (5, Some(stream))] {
            let frame = PacketHeader::seal(PacketKind::Changes, number, of, b"payload");
            let whole = |frame: &[u8], of| {
                let (header, payload) = frame.split_first_chunk::<HEADER_BYTES>().unwrap();
                let found = PacketHeader::decode(header).ok().filter(|found| found.number == number);
                found.is_some_and(|found| found.proves(header, payload, of))
            };
            assert!(whole(&frame, of));
            assert!(!whole(&frame, Some(Identity([4; 16]))), "of another stream");
            for at in 0..frame.len() {
                let mut bad = frame.clone();
                bad[at] ^= 4;
                assert!(!whole(&bad, of), "a flip at byte {at} went unseen");
            }
        }
    }

    #[test]
    fn what_is_cut_or_impossible_is_refused() {
        let whole = begin().encode();
        (0..whole.len()).for_each(|len| assert!(StreamBegin::decode(&whole[..len]).is_err(), "cut at {len}"));
        let named = |against, base, older| {
            let older = vec![Identity([8; 16]); older];
            StreamBegin::decode(&StreamBegin { against, base, older, ..begin() }.encode())
        };
        assert!(named(Against::Base, Some(Identity([2; 16])), OLDER_MAX + 1).is_err());
        assert!(named(Against::Nothing, None, 1).is_err());
        for change in changes() {
            let mut bytes = Vec::new();
            change.put(&mut bytes);
            (0..bytes.len())
                .for_each(|len| assert!(StreamChange::take(&mut &bytes[..len]).is_err(), "{change:?}"));
        }
        let wrong = [
            StreamChange::Clear(Ino(9), Ino(9)),
            StreamChange::Hole(Ino(16), 4096, 4096),
            StreamChange::Hole(Ino(16), 0, FILE_BYTES_MAX + 4096),
            StreamChange::Space(Ino(16), 1, 4096),
            StreamChange::Space(Ino(16), 4096, 1 << 18),
            StreamChange::Hole(Ino(2), 0, 4096),
            StreamChange::Hole(INO_END, 0, 4096),
        ];
        for change in wrong {
            let mut bytes = Vec::new();
            change.put(&mut bytes);
            assert!(StreamChange::take(&mut &bytes[..]).is_err(), "{change:?}");
        }
    }
}
