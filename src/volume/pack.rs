//! Content before it is staged: cut where frames end, and compressed where that is wanted and pays.
//!
//! What comes out does not depend on how many threads worked on it.

use crate::format::Frame;
use crate::format::extent::EXTENT_BYTES_MAX;
use crate::store::Codec;
use rayon::prelude::*;

/// Less is compressed sooner than other threads are awake.
const POOL_BYTES_MIN: usize = 192 << 10;

/// Contiguous content of one file, in whole blocks, that is staged with others.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ContentRun {
    /// Its length in bytes.
    pub len: u64,
    /// Where in the file it begins: frames end where multiples of 128 KiB do.
    pub offset: u64,
    /// Level of zstd, if it is to be compressed.
    pub level: Option<u8>,
}

/// What became of a [`ContentRun`] that was to be compressed.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Gain {
    /// Frames that were tried.
    pub tried: u32,
    /// Of these, the ones behind the last that paid.
    pub failed_last: u32,
}

/// Content on its way to an extent.
pub(super) struct Chunk<'a> {
    pub content: &'a [u8],
    /// As in [`ContentRun`].
    level: Option<u8>,
    /// Its frame, and where that begins in the packed bytes.
    pub frame: Option<(Frame, usize)>,
}

impl Chunk<'_> {
    pub fn stored_len(&self) -> u64 {
        self.frame.map_or(self.content.len() as u64, |(frame, _)| u64::from(frame.stored_len))
    }
}

/// All content of some parts, in order.
pub(super) struct Packed<'a> {
    pub chunks: Vec<Chunk<'a>>,
    /// The frames.
    pub bytes: Vec<u8>,
    /// What became of each part.
    pub gains: Vec<Gain>,
}

/// Cuts and compresses the parts that make up `data`.
pub(super) fn pack<'a>(codec: &Codec, data: &'a [u8], parts: &[ContentRun]) -> Packed<'a> {
    let (mut chunks, mut ends, mut rest) = (Vec::new(), Vec::new(), data);
    for part in parts {
        let (content, tail) = rest.split_at(part.len as usize);
        rest = tail;
        cut(content, part, &mut chunks);
        ends.push(chunks.len());
    }
    let bytes = compress(codec, &mut chunks);
    let mut start = 0;
    let of_part = |end: usize| {
        let part = &chunks[start..end];
        start = end;
        let tried = part.iter().filter(|chunk| chunk.level.is_some()).count();
        let failed = part.iter().rev().take_while(|chunk| chunk.frame.is_none()).count();
        Gain { tried: tried as u32, failed_last: failed.min(tried) as u32 }
    };
    let gains = ends.into_iter().map(of_part).collect();
    Packed { chunks, bytes, gains }
}

fn cut<'a>(content: &'a [u8], part: &ContentRun, chunks: &mut Vec<Chunk<'a>>) {
    let (level, frame) = (part.level, None);
    if level.is_none() {
        return chunks.push(Chunk { content, level, frame });
    }
    let (mut rest, mut offset) = (content, part.offset);
    while !rest.is_empty() {
        let len = (EXTENT_BYTES_MAX - offset % EXTENT_BYTES_MAX).min(rest.len() as u64);
        let (content, tail) = rest.split_at(len as usize);
        chunks.push(Chunk { content, level, frame });
        (rest, offset) = (tail, offset + len);
    }
}

/// Makes frames of chunks, with several threads where it is much; returns their bytes.
fn compress(codec: &Codec, chunks: &mut [Chunk]) -> Vec<u8> {
    let wanted = chunks.iter().filter(|chunk| chunk.level.is_some()).map(|chunk| chunk.content.len());
    let is_much = wanted.sum::<usize>() >= POOL_BYTES_MIN;
    let mut bytes = Vec::new();
    match if is_much { codec.pool() } else { None } {
        None => chunks.iter_mut().for_each(|chunk| compress_one(codec, chunk, &mut bytes)),
        Some(pool) => {
            let alone = |chunk: &mut Chunk| {
                let mut bytes = Vec::new();
                compress_one(codec, chunk, &mut bytes);
                bytes
            };
            let packed: Vec<Vec<u8>> = pool.install(|| chunks.par_iter_mut().map(alone).collect());
            for (chunk, packed) in chunks.iter_mut().zip(packed) {
                chunk.frame = chunk.frame.map(|(frame, _)| (frame, bytes.len()));
                bytes.extend_from_slice(&packed);
            }
        }
    }
    bytes
}

fn compress_one(codec: &Codec, chunk: &mut Chunk, bytes: &mut Vec<u8>) {
    let from = bytes.len();
    let frame = chunk.level.and_then(|level| codec.pack(level, chunk.content, bytes));
    chunk.frame = frame.map(|frame| (frame, from));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_number_of_threads_packs_the_same() {
        let mut rng = fastrand::Rng::with_seed(1);
        for round in 0..40 {
            let (mut parts, mut data) = (Vec::new(), Vec::new());
            for _ in 0..rng.usize(1..12) {
                let blocks = if rng.bool() { rng.usize(1..8) } else { rng.usize(1..300) };
                let (offset, level) = (rng.u64(..1000) * 4096, rng.bool().then_some(1));
                parts.push(ContentRun { len: blocks as u64 * 4096, offset, level });
                let runs = rng.bool();
                data.extend((0..blocks * 4096).map(|i| if runs { (i / 99) as u8 } else { rng.u8(..) }));
            }
            let alone = pack(&Codec::with_threads(1), &data, &parts);
            for threads in [2, 3, 16] {
                let codec = Codec::with_threads(threads);
                let packed = pack(&codec, &data, &parts);
                assert_eq!(packed.gains, alone.gains, "round {round}, {threads} threads");
                assert!(packed.bytes == alone.bytes);
                let shape =
                    |p: &Packed| p.chunks.iter().map(|c| (c.content.len(), c.frame)).collect::<Vec<_>>();
                assert_eq!(shape(&packed), shape(&alone));
            }
            assert_eq!(alone.chunks.iter().flat_map(|c| c.content).count(), data.len());
        }
    }
}
