//! The codec: content into zstd frames and back, and the last frames that were read, decompressed.
//!
//! Contexts are pooled, so that nothing big is allocated for each extent. What a frame decompresses to is bounded by
//! the length that its extent says, whatever the bytes are. Nothing here reads or proves: bytes come in proved.

use crate::format::{BLOCK_BYTES, Frame, PlacedExtent};
use crate::sys::schedule::{self, Processors, ThreadId};
use parking_lot::Mutex;
use rayon::{ThreadPool, ThreadPoolBuilder};
use std::collections::VecDeque;
use std::sync::{Arc, OnceLock};
use zstd::bulk::{Compressor, Decompressor};

/// Less content than this is not worth a frame.
pub const CONTENT_BYTES_MIN: usize = 2 * BLOCK_BYTES as usize;
/// A sample is tried before as much as this or more.
const SAMPLED_BYTES_MIN: usize = 32 * 1024;
/// Two samples of this length: from a quarter and from three quarters on.
const SAMPLE_BYTES: usize = 4096;
/// What one of the samples must fit into.
const SAMPLE_PAYS_BYTES: usize = SAMPLE_BYTES - SAMPLE_BYTES / 16;
/// Frames that are kept decompressed.
const FRAMES_KEPT: usize = 32;
/// Contexts that are kept for reuse: as many threads may compress, or decompress, without making one.
const CONTEXTS_KEPT: usize = 4;

/// See the module. Any thread may call any method; its locks are leaves and held over no work.
pub struct Codec {
    threads: usize,
    /// Where they may run.
    processors: Option<Processors>,
    pool: OnceLock<Option<ThreadPool>>,
    packers: Mutex<Vec<Compressor<'static>>>,
    unpackers: Mutex<Vec<Unpacker>>,
    /// Most recently used first.
    kept: Mutex<VecDeque<Arc<Kept>>>,
}

/// What one reader needs.
pub(super) struct Unpacker {
    context: Decompressor<'static>,
    /// For what is stored.
    pub stored: Vec<u8>,
}

/// A frame that was proved and decompressed. Address and checksums of what is stored tell it from every other.
struct Kept {
    addr: u64,
    crcs: Vec<u32>,
    content: Vec<u8>,
}

impl Default for Codec {
    fn default() -> Codec {
        Codec::with_threads(std::thread::available_parallelism().map_or(1, usize::from).min(CONTEXTS_KEPT))
    }
}

impl Codec {
    /// One for which so many threads compress what comes at once.
    pub fn with_threads(threads: usize) -> Codec {
        Codec {
            threads,
            processors: Processors::allowed().ok(),
            pool: OnceLock::new(),
            packers: Mutex::default(),
            unpackers: Mutex::default(),
            kept: Mutex::default(),
        }
    }

    /// The threads that compress what comes at once, if there is more than one. Started when they are first wanted.
    pub fn pool(&self) -> Option<&ThreadPool> {
        let start = || {
            // Whoever wants them first may be bound to one processor.
            let processors = self.processors;
            let roam = move |_| {
                let _stays = processors.map(|all| schedule::set_processors(ThreadId::current(), &all));
            };
            let builder = ThreadPoolBuilder::new().num_threads(self.threads).start_handler(roam);
            let built = builder.thread_name(|_| "pack".into()).build();
            built.inspect_err(|e| log::warn!("one thread alone compresses: {e}")).ok()
        };
        if self.threads < 2 { None } else { self.pool.get_or_init(start).as_ref() }
    }

    /// Appends the frame of `content` (whole blocks, at most 128 KiB), padded to whole blocks, to `out`. `None`, with
    /// `out` as it was, where it does not pay: it must save an eighth and at least one block.
    pub fn pack(&self, level: u8, content: &[u8], out: &mut Vec<u8>) -> Option<Frame> {
        assert!(content.len().is_multiple_of(BLOCK_BYTES as usize), "content is whole blocks");
        if content.len() < CONTENT_BYTES_MIN {
            return None;
        }
        let mut packer = match self.packers.lock().pop() {
            Some(packer) => packer,
            None => Compressor::new(1).ok()?,
        };
        let start = out.len();
        let frame = pack_with(&mut packer, level, content, out);
        if frame.is_none() {
            out.truncate(start);
        }
        keep(&self.packers, packer);
        frame
    }

    /// Decompresses a frame without its padding into `out`, which it must fill exactly.
    ///
    /// # Errors
    /// What is wrong with the bytes.
    pub fn unpack(&self, frame: &[u8], out: &mut [u8]) -> Result<(), String> {
        let mut unpacker = self.unpacker()?;
        let done = unpacker.unpack(frame, out);
        self.put_back(unpacker);
        done
    }

    pub(super) fn unpacker(&self) -> Result<Unpacker, String> {
        if let Some(unpacker) = self.unpackers.lock().pop() {
            return Ok(unpacker);
        }
        let context = Decompressor::new().map_err(|e| e.to_string())?;
        Ok(Unpacker { context, stored: Vec::new() })
    }

    pub(super) fn put_back(&self, unpacker: Unpacker) {
        keep(&self.unpackers, unpacker);
    }

    /// Copies content of the frame of an extent from `start` on, if it is kept.
    pub(super) fn recall(&self, placed: &PlacedExtent<'_>, start: usize, out: &mut [u8]) -> bool {
        let found = {
            let mut kept = self.kept.lock();
            let at = kept.iter().position(|k| k.addr == placed.addr() && k.crcs == placed.extent().crcs);
            let found = at.and_then(|at| kept.remove(at));
            if let Some(found) = &found {
                kept.push_front(found.clone());
            }
            found
        };
        let content = found.as_ref().and_then(|k| k.content.get(start..start + out.len()));
        content.map(|content| out.copy_from_slice(content)).is_some()
    }

    /// A buffer for content of a frame: that of the one which was not used for longest.
    pub(super) fn buffer(&self) -> Vec<u8> {
        let mut kept = self.kept.lock();
        let oldest = if kept.len() >= FRAMES_KEPT { kept.pop_back() } else { None };
        drop(kept);
        oldest.and_then(|k| Arc::try_unwrap(k).ok()).map_or(Vec::new(), |k| k.content)
    }

    /// Keeps the content of the frame of an extent, which was proved.
    pub(super) fn remember(&self, placed: &PlacedExtent<'_>, content: Vec<u8>) {
        let new = Arc::new(Kept { addr: placed.addr(), crcs: placed.extent().crcs.clone(), content });
        let mut kept = self.kept.lock();
        kept.push_front(new);
        kept.truncate(FRAMES_KEPT);
    }
}

impl Unpacker {
    /// See [`Codec::unpack`].
    pub fn unpack(&mut self, frame: &[u8], out: &mut [u8]) -> Result<(), String> {
        unpack_with(&mut self.context, frame, out)
    }

    /// Decompresses the first `len` bytes of `self.stored`.
    pub fn unpack_stored(&mut self, len: usize, out: &mut [u8]) -> Result<(), String> {
        unpack_with(&mut self.context, &self.stored[..len], out)
    }
}

fn unpack_with(context: &mut Decompressor<'_>, frame: &[u8], out: &mut [u8]) -> Result<(), String> {
    match context.decompress_to_buffer(frame, out) {
        Ok(len) if len == out.len() => Ok(()),
        Ok(len) => Err(format!("it has {len} bytes of content, not {}", out.len())),
        Err(e) => Err(e.to_string()),
    }
}

fn keep<T>(pool: &Mutex<Vec<T>>, one: T) {
    let mut pool = pool.lock();
    if pool.len() < CONTEXTS_KEPT {
        pool.push(one);
    }
}

fn pack_with(packer: &mut Compressor<'_>, level: u8, content: &[u8], out: &mut Vec<u8>) -> Option<Frame> {
    if content.len() >= SAMPLED_BYTES_MIN && !sample_pays(packer, content) {
        return None;
    }
    packer.set_compression_level(i32::from(level)).ok()?;
    let block = BLOCK_BYTES as usize;
    let most = (content.len() / 8 * 7).min(content.len() - block) / block * block;
    let start = out.len();
    out.resize(start + most, 0);
    // What does not fit fails.
    let len = packer.compress_to_buffer(content, &mut out[start..]).ok()?;
    let stored_len = len.next_multiple_of(block);
    out.truncate(start + stored_len);
    out[start + len..].fill(0);
    Some(Frame {
        stored_len: stored_len as u32,
        pad: (stored_len - len) as u16,
        content_len: content.len() as u32,
        from: 0,
    })
}

fn sample_pays(packer: &mut Compressor<'_>, content: &[u8]) -> bool {
    let mut room = [0; SAMPLE_PAYS_BYTES];
    packer.set_compression_level(1).is_ok()
        && [content.len() / 4, content.len() / 4 * 3].into_iter().any(|at| {
            let sample = content.get(at..at + SAMPLE_BYTES).unwrap_or_default();
            packer.compress_to_buffer(sample, &mut room[..]).is_ok()
        })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::format::{BlockAddr, Epoch, Extent};

    fn mixed(rng: &mut fastrand::Rng, len: usize) -> Vec<u8> {
        (0..len).map(|i| if i % 3 == 0 { rng.u8(..) } else { (i / 5000 % 5) as u8 }).collect()
    }

    #[test]
    fn content_of_every_length_and_level_comes_back() {
        let (codec, mut rng) = (Codec::default(), fastrand::Rng::with_seed(1));
        for blocks in [2, 3, 7, 8, 31, 32] {
            for level in [1, 3, 9, 19] {
                let content = mixed(&mut rng, blocks * 4096);
                let mut out = vec![7; 10];
                let frame = codec.pack(level, &content, &mut out).expect("two thirds are runs");
                assert_eq!(out[..10], [7; 10]);
                assert_eq!(out.len() - 10, frame.stored_len as usize);
                assert!(frame.stored_len < frame.content_len && u64::from(frame.pad) < BLOCK_BYTES);
                let mut back = vec![1; content.len()];
                let end = out.len() - usize::from(frame.pad);
                assert!(out[end..].iter().all(|b| *b == 0));
                codec.unpack(&out[10..end], &mut back).unwrap();
                assert!(back == content);
                // A frame of another length than its extent says.
                assert!(codec.unpack(&out[10..end], &mut back[4096..]).is_err());
                assert!(codec.unpack(&out[10..end], &mut vec![0; content.len() + 4096]).is_err());
            }
        }
    }

    #[test]
    fn what_does_not_pay_is_left_as_it_is() {
        let (codec, mut rng) = (Codec::default(), fastrand::Rng::with_seed(2));
        let mut random = vec![0; 128 * 1024];
        rng.fill(&mut random);
        let mut out = vec![1, 2, 3];
        for content in [&random[..], &random[..8192], &[0; 4096], &[]] {
            assert_eq!(codec.pack(3, content, &mut out), None);
            assert_eq!(out, [1, 2, 3]);
        }
        // One block of fifteen is less than an eighth.
        random[57344..61440].fill(0);
        assert_eq!(codec.pack(3, &random[..61440], &mut out), None);
        random[49152..61440].fill(0);
        assert!(codec.pack(3, &random[..61440], &mut out).is_some());
    }

    #[test]
    fn any_bytes_are_an_error_and_not_a_crash() {
        let (codec, mut rng) = (Codec::default(), fastrand::Rng::with_seed(3));
        let content = mixed(&mut rng, 65536);
        let mut good = Vec::new();
        let frame = codec.pack(3, &content, &mut good).unwrap();
        good.truncate((frame.stored_len - u32::from(frame.pad)) as usize);
        let mut out = vec![0; content.len()];
        for len in 0..good.len().min(3000) {
            assert!(codec.unpack(&good[..len], &mut out).is_err());
        }
        for _ in 0..3000 {
            let mut bad = good.clone();
            for _ in 0..rng.usize(1..4) {
                let at = if rng.bool() { rng.usize(..20) } else { rng.usize(..bad.len()) };
                bad[at] = rng.u8(..);
            }
            let _ = codec.unpack(&bad, &mut out);
        }
        // A frame that says it has 2^60 bytes.
        let huge = [0x28, 0xb5, 0x2f, 0xfd, 0xe0, 0, 0, 0, 0, 0, 0, 0, 0x10, 3, 0, 0];
        assert!(codec.unpack(&huge, &mut out).is_err());
    }

    #[test]
    fn kept_frames_are_known_by_address_and_checksums() {
        let codec = Codec::default();
        let placed = |addr: u64, crc: u32| {
            let extent = Extent {
                raw_addr: BlockAddr(4096),
                birth: Epoch(1),
                len: 8192,
                crcs: vec![crc],
                frame: Some(Frame { stored_len: 4096, pad: 0, content_len: 8192, from: 0 }),
                home: None,
            };
            PlacedExtent::moved(extent, BlockAddr(addr))
        };
        let mut out = [0; 4096];
        assert!(!codec.recall(&placed(4096, 1), 0, &mut out));
        codec.remember(&placed(4096, 1), vec![5; 8192]);
        assert!(codec.recall(&placed(4096, 1), 4096, &mut out) && out == [5; 4096]);
        assert!(!codec.recall(&placed(4096, 2), 0, &mut out) && !codec.recall(&placed(8192, 1), 0, &mut out));
        for n in 2..2 + FRAMES_KEPT as u64 {
            assert_eq!(codec.buffer().is_empty(), n <= FRAMES_KEPT as u64);
            codec.remember(&placed(n * 4096, 1), vec![n as u8; 8192]);
        }
        assert!(!codec.recall(&placed(4096, 1), 0, &mut out), "the oldest went");
        assert!(codec.recall(&placed(8192, 1), 0, &mut out), "the next did not, and is the newest now");
        assert_eq!(codec.buffer(), [3; 8192], "the buffer of the oldest is used again");
    }
}
