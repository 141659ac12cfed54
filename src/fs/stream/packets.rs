//! Packets of a stream: gathered and written, or read and proved.
//!
//! Where one packet ends and the next begins follows from the changes alone, so whoever tells the same again makes the same
//! packets; those that the receiver has are counted and not made.

use super::stream_error::{Result, StreamError};
use crate::format::Identity;
use crate::format::stream::{HEADER_BYTES, ITEM_BYTES_MAX, PacketHeader, PacketKind, StreamChange};
use std::io::{Read, Write};

/// A packet ends when it has so many bytes,
const PACKET_BYTES: usize = 512 << 10;
/// or so many of them that are not content: all of it goes into one record of the log.
const ITEM_BYTES: usize = ITEM_BYTES_MAX / 2;

/// Writes the packets of a stream.
pub struct PacketWriter<'w> {
    out: &'w mut dyn Write,
    stream: Identity,
    next: u64,
    /// Packets before this one are not written.
    first: u64,
    payload: Vec<u8>,
    /// Bytes of the payload, with those of content that was left out.
    bytes: usize,
    item_bytes: usize,
    written: u64,
}

impl<'w> PacketWriter<'w> {
    /// Begins a stream with its first packet. Of the others, those before `first` are left out.
    pub fn begin(
        out: &'w mut dyn Write,
        stream: Identity,
        first: u64,
        begin: &[u8],
    ) -> Result<PacketWriter<'w>> {
        let packet = PacketHeader::seal(PacketKind::Begin, 0, None, begin);
        out.write_all(&packet).map_err(StreamError::Carrier)?;
        let (payload, written) = (Vec::new(), packet.len() as u64);
        Ok(PacketWriter { out, stream, next: 1, first, payload, bytes: 0, item_bytes: 0, written })
    }

    /// Adds a change that is no content.
    pub fn put(&mut self, change: &StreamChange<'_>) -> Result<()> {
        let before = self.payload.len();
        change.put(&mut self.payload);
        debug_assert!(StreamChange::take(&mut &self.payload[before..]).is_ok(), "nobody takes {change:?}");
        let added = self.payload.len() - before;
        self.bytes += added;
        self.item_bytes += added;
        if self.bytes >= PACKET_BYTES || self.item_bytes >= ITEM_BYTES { self.end_packet() } else { Ok(()) }
    }

    /// Adds content that takes so many bytes, which `make` reads if it is to be sent.
    pub fn put_content(&mut self, len: usize, make: impl FnOnce(&mut Vec<u8>) -> Result<()>) -> Result<()> {
        if self.next >= self.first {
            let before = self.payload.len();
            make(&mut self.payload)?;
            debug_assert_eq!(self.payload.len() - before, len);
        }
        self.bytes += len;
        if self.bytes >= PACKET_BYTES { self.end_packet() } else { Ok(()) }
    }

    fn end_packet(&mut self) -> Result<()> {
        if self.bytes > 0 {
            self.write(PacketKind::Changes)?;
        }
        Ok(())
    }

    fn write(&mut self, kind: PacketKind) -> Result<()> {
        if self.next >= self.first {
            let packet = PacketHeader::seal(kind, self.next, Some(self.stream), &self.payload);
            self.out.write_all(&packet).map_err(StreamError::Carrier)?;
            self.written += packet.len() as u64;
        }
        self.next += 1;
        self.payload.clear();
        (self.bytes, self.item_bytes) = (0, 0);
        Ok(())
    }

    /// Ends the stream with its last packet. How many packets and bytes it has, without those that were left out.
    pub fn end(mut self, end: &[u8]) -> Result<(u64, u64)> {
        self.end_packet()?;
        if self.first > self.next {
            let (last, first) = (self.next, self.first);
            let what = format!("the token says packet {first}, and the last packet of this stream is {last}");
            return Err(StreamError::Refused(what));
        }
        self.payload.extend_from_slice(end);
        self.write(PacketKind::End)?;
        self.out.flush().map_err(StreamError::Carrier)?;
        Ok((self.next, self.written))
    }
}

/// Reads the packets of a stream.
pub struct PacketReader<'r> {
    input: &'r mut dyn Read,
    /// Bytes that were read.
    pub offset: u64,
    /// The packet that was read last: its number, and where it begins.
    number: u64,
    begins: u64,
    stream: Option<Identity>,
    next: u64,
}

impl<'r> PacketReader<'r> {
    /// At the beginning of a stream.
    pub fn new(input: &'r mut dyn Read) -> PacketReader<'r> {
        PacketReader { input, offset: 0, number: 0, begins: 0, stream: None, next: 0 }
    }

    /// What the first packet has told: the stream, and the number of the next packet.
    pub fn go_on(&mut self, stream: Identity, next: u64) {
        (self.stream, self.next) = (Some(stream), next);
    }

    /// The stream says what cannot be, in the packet that was read last.
    pub fn bad(&self, what: impl std::fmt::Display) -> StreamError {
        StreamError::Bad(self.number, self.begins, what.to_string())
    }

    /// The next packet, whole: its kind, its number and what is in it.
    pub fn next(&mut self) -> Result<(PacketKind, u64, Vec<u8>)> {
        let (number, at) = (self.next, self.offset);
        (self.number, self.begins) = (number, at);
        let bad = |what: String| StreamError::Bad(number, at, what);
        let mut header = [0; HEADER_BYTES];
        self.read(&mut header)?;
        let packet = PacketHeader::decode(&header).map_err(|e| bad(e.0))?;
        let mut payload = vec![0; packet.len];
        self.read(&mut payload)?;
        if !packet.proves(&header, &payload, self.stream) {
            return Err(bad("its checksum is wrong, or it is of another stream".into()));
        }
        if packet.number != number {
            return Err(bad(format!("packet {} is here instead", packet.number)));
        }
        if (packet.kind == PacketKind::Begin) != (number == 0) {
            return Err(bad("a stream begins here, or does not where it must".into()));
        }
        self.next += 1;
        Ok((packet.kind, number, payload))
    }

    fn read(&mut self, out: &mut [u8]) -> Result<()> {
        self.input.read_exact(out).map_err(|e| match e.kind() {
            std::io::ErrorKind::UnexpectedEof => {
                let what =
                    format!("it ends in packet {}, {} bytes from its beginning", self.next, self.offset);
                StreamError::Carrier(std::io::Error::new(e.kind(), what))
            }
            _ => StreamError::Carrier(e),
        })?;
        self.offset += out.len() as u64;
        Ok(())
    }
}
