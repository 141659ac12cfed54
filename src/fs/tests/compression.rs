//! Compression: the property and who follows it, what is stored, frames that are cut, shared and freed, full stores.

use super::*;
use crate::device::{Device, Memory};
use crate::format::superblock::Superblock;
use crate::volume::{Access, OpenOptions};

const CHOICE: &[u8] = b"user.snapfs.compression";
const SOURCE: &[u8] = b"user.snapfs.compression.source";
const FRAME: usize = 128 * 1024;

/// About a quarter of it is random.
fn text(seed: u64, len: usize) -> Vec<u8> {
    let mut rng = fastrand::Rng::with_seed(seed);
    (0..len).map(|i| if i % 4 == 0 { rng.u8(..) } else { (i / 5000 % 7) as u8 + 1 }).collect()
}

fn random(seed: u64, len: usize) -> Vec<u8> {
    let mut bytes = vec![0; len];
    fastrand::Rng::with_seed(seed).fill(&mut bytes);
    bytes
}

fn compressing() -> T {
    let t = T::new();
    t.compress(ROOT, "zstd");
    t
}

fn get(t: &T, node: NodeId) -> (String, String) {
    let one = |name| String::from_utf8(t.fs.getxattr(node, name).unwrap()).unwrap();
    (one(CHOICE), one(SOURCE))
}

fn is(value: &str, source: &str) -> (String, String) {
    (value.into(), source.into())
}

fn set(t: &T, caller: &Caller, node: NodeId, value: &[u8]) -> Result<()> {
    t.fs.setxattr(caller, node, CHOICE, value, XattrMode::Set)
}

fn copy(t: &T, from: ((NodeId, Handle), u64), to: ((NodeId, Handle), u64), len: u64) {
    let done = t.fs.copy_range(&USER, from.0.0, from.0.1, from.1, to.0.0, to.0.1, to.1, len);
    assert_eq!(done, Ok(len));
}

#[test]
fn new_files_follow_their_directory_and_the_rest_the_root() {
    let t = T::new();
    let before = t.mkdir(ROOT, "before").unwrap();
    let old = t.put(before, "old", b"x");
    assert_eq!(get(&t, old), is("off", "default"));
    t.compress(ROOT, "zstd:7");
    assert_eq!(get(&t, ROOT), is("zstd:7", "local"));
    assert_eq!(get(&t, old), is("zstd:7", "store"));
    t.compress(before, "off");
    assert_eq!(get(&t, old), is("zstd:7", "store"), "what is there already stays");
    let inner = t.mkdir(before, "inner").unwrap();
    let new = t.put(inner, "new", b"x");
    assert_eq!(get(&t, new), is("off", "inherited"));
    t.compress(before, "zstd");
    assert_eq!(get(&t, inner), is("off", "inherited"));
    t.compress(inner, "inherit");
    t.compress(new, "inherit");
    assert_eq!((get(&t, inner), get(&t, new)), (is("zstd:3", "inherited"), is("zstd:3", "inherited")));
    t.compress(new, "zstd:19");
    let snap = t.snapshot("one");
    t.fs.removexattr(&USER, new, CHOICE).unwrap();
    assert_eq!(get(&t, new), is("zstd:3", "inherited"));
    t.compress(before, "inherit");
    t.compress(ROOT, "inherit");
    assert_eq!((get(&t, before), get(&t, ROOT)), (is("off", "default"), is("off", "default")));
    // A snapshot has what was in force then, and no copy takes it along.
    let then = t.find(t.find(t.find(snap, "before").unwrap(), "inner").unwrap(), "new").unwrap();
    assert_eq!(get(&t, then), is("zstd:19", "local"));
    assert_eq!(get(&t, snap), is("zstd:7", "local"));
    assert_eq!(t.fs.listxattr(then), Ok(Vec::new()));
    t.fs.commit().unwrap();
    t.prove();
}

#[test]
fn what_cannot_be_set() {
    let t = T::new();
    let f = t.put(ROOT, "f", b"x");
    for value in ["", "on", "zstd:0", "zstd:20", "lz4", "zstd:3 "] {
        assert_eq!(set(&t, &USER, f, value.as_bytes()), Err(Error::Invalid), "{value}");
    }
    let stranger = Caller { uid: 1001, ..USER };
    assert_eq!(set(&t, &stranger, f, b"zstd"), Err(Error::NotPermitted));
    assert!(!t.fs.volume().knows_compression(), "what was refused has changed nothing");
    assert_eq!(set(&t, &USER, f, b"zstd"), Ok(()));
    assert_eq!(set(&t, &SUPER, f, b"zstd:2"), Ok(()));
    let only = |mode| t.fs.setxattr(&USER, f, CHOICE, b"off", mode);
    assert_eq!(only(XattrMode::Create), Err(Error::Exists));
    assert_eq!(only(XattrMode::Replace), Ok(()));
    assert_eq!(t.fs.removexattr(&USER, f, CHOICE), Ok(()));
    assert_eq!(t.fs.removexattr(&USER, f, CHOICE), Err(Error::NoAttribute));
    assert_eq!(only(XattrMode::Replace), Err(Error::NoAttribute));
    assert_eq!(t.fs.setxattr(&SUPER, f, SOURCE, b"local", XattrMode::Set), Err(Error::NotPermitted));
    let pipe = t.fs.mknod(&USER, ROOT, b"pipe", FileType::Fifo, 0o600, 0).unwrap().attr.node;
    assert_eq!(set(&t, &USER, pipe, b"zstd"), Err(Error::NotPermitted));
    assert_eq!(t.fs.getxattr(pipe, CHOICE), Err(Error::NoAttribute));
    let snap = t.snapshot("one");
    assert_eq!(set(&t, &SUPER, snap, b"zstd"), Err(Error::ReadOnly));
    assert_eq!(set(&t, &SUPER, t.find(snap, "f").unwrap(), b"zstd"), Err(Error::ReadOnly));
}

#[test]
fn content_takes_less_space_and_reads_back() {
    for at_once in [true, false] {
        let t = compressing();
        let f = t.create(ROOT, "f");
        let data = text(1, 3_000_001);
        let step = if at_once { 1 << 20 } else { 10_000 };
        for (i, part) in data.chunks(step).enumerate() {
            t.write(f, (i * step) as u64, part);
        }
        t.fs.commit().unwrap();
        let blocks = t.attr(f.0).blocks;
        assert!(blocks * 512 < 3_000_000 / 2, "{blocks}");
        assert_eq!(blocks, t.fs.volume().live_blocks() * 8);
        assert!(t.read(f, 0, 4_000_000) == data);
        let mut rng = fastrand::Rng::with_seed(9);
        for _ in 0..500 {
            let (at, len) = (rng.usize(..data.len()), rng.usize(..200_000));
            assert!(t.read(f, at as u64, len) == data[at..data.len().min(at + len)]);
        }
        t.prove();
    }
}

#[test]
fn a_frame_is_read_once_by_who_reads_it_in_pieces() {
    let t = compressing();
    let f = t.create(ROOT, "f");
    let data = text(2, 8 * FRAME);
    t.write(f, 0, &data);
    t.fs.commit().unwrap();
    let before = t.fs.volume().io();
    for at in (0..data.len()).step_by(4096) {
        assert!(t.read(f, at as u64, 4096) == data[at..at + 4096]);
    }
    assert_eq!((t.fs.volume().io() - before).reads, 8);
}

#[test]
fn what_cannot_be_compressed_is_stored_as_it_is() {
    let t = compressing();
    let f = t.create(ROOT, "f");
    let (noise, words) = (random(3, 40 * FRAME), text(3, 80 * FRAME));
    t.write(f, 0, &noise);
    t.fs.commit().unwrap();
    assert_eq!(t.attr(f.0).blocks * 512, noise.len() as u64);
    // It is left alone for a while, and tried again.
    t.write(f, noise.len() as u64, &words);
    t.fs.commit().unwrap();
    let more = t.attr(f.0).blocks * 512 - noise.len() as u64;
    assert!(more < words.len() as u64 / 2, "{more}");
    // Single blocks, and files with nothing but small parts.
    let g = t.create(ROOT, "g");
    t.write(g, 0, &words[..4096]);
    t.fs.commit().unwrap();
    assert_eq!(t.attr(g.0).blocks, 8);
    assert!(t.read(f, 0, noise.len() + words.len()) == [noise, words].concat());
    t.prove();
}

#[test]
fn pieces_hold_their_frame_until_the_last_is_gone() {
    let t = compressing();
    let (f, g) = (t.create(ROOT, "f"), t.create(ROOT, "g"));
    let mut data = text(4, 2 * FRAME);
    t.write(f, 0, &data);
    t.fs.commit().unwrap();
    let whole = t.fs.volume().live_blocks();
    // The middle of the first is overwritten, by one block and by a long write; the rest goes on.
    t.write(f, 40_960, &[7; 4096]);
    data[40_960..45_056].fill(7);
    t.fs.commit().unwrap();
    t.prove();
    let (from, len) = (FRAME - 40_000, 80_000);
    t.write(f, from as u64, &random(5, len));
    data[from..from + len].copy_from_slice(&random(5, len));
    t.fs.commit().unwrap();
    assert!(t.read(f, 0, 1 << 20) == data);
    t.prove();
    // Holes, a copy of a part, and a snapshot of all that.
    t.fs.fallocate(&USER, f.0, f.1, 8192, 8192, AllocateMode::PunchHole).unwrap();
    data[8192..16_384].fill(0);
    copy(&t, (f, 4096), (g, 8192), 65_536);
    let mut copied = vec![0; 8192];
    copied.extend_from_slice(&data[4096..4096 + 65_536]);
    assert!(t.read(g, 0, 1 << 20) == copied);
    let snap = t.snapshot("one");
    t.resize(f.0, 20_000);
    t.write(g, 12_288, &[9; 4096]);
    t.fs.commit().unwrap();
    t.prove();
    assert!(t.read(f, 0, 1 << 20) == data[..20_000]);
    assert!(t.cat(snap, "f") == data && t.cat(snap, "g") == copied);
    t.resize(f.0, 0);
    t.fs.commit().unwrap();
    t.prove();
    copied[12_288..16_384].fill(9);
    assert!(t.read(g, 0, 1 << 20) == copied, "the copy has its own reference");
    assert!(t.attr(g.0).blocks * 512 <= copied.len() as u64);
    t.fs.delete_snapshot(b"one").unwrap();
    for name in ["f", "g"] {
        t.fs.unlink(&USER, ROOT, name.as_bytes()).unwrap();
    }
    for (node, handle) in [f, g] {
        t.fs.release(node, handle);
        t.fs.forget(node);
    }
    for _ in 0..4 {
        t.fs.commit().unwrap();
    }
    t.prove();
    assert_eq!(t.fs.volume().live_blocks(), 0);
    assert!(whole < 30, "{whole}");
}

#[test]
fn blocks_that_change_while_they_are_put_onto_the_device() {
    let t = compressing();
    let f = t.create(ROOT, "f");
    let mut data = text(6, 3 * FRAME);
    for round in 0..20_u64 {
        for (i, part) in data.chunks(30_000).enumerate() {
            t.write(f, i as u64 * 30_000, part);
        }
        let early = t.stage_early();
        let at = (round * 17_001 % 300_000) as usize;
        t.write(f, at as u64, &[round as u8; 5000]);
        data[at..at + 5000].fill(round as u8);
        t.commit_after(early);
        assert!(t.read(f, 0, 1 << 20) == data);
        t.prove();
    }
}

#[test]
fn a_full_store_of_compressed_files_can_be_emptied() {
    for chunk in [5000, 4096 * 3, 200_000] {
        let options = FsOptions { dirty_bytes_max: 1 << 18, ..FsOptions::default() };
        let t = T::with(2 << 20, options);
        t.compress(ROOT, "zstd:1");
        let f = t.create(ROOT, "f");
        let mut at = 0;
        let refused = loop {
            match t.fs.write(f.0, f.1, at, &text(at, chunk), false) {
                Ok(n) => at += n as u64,
                Err(e) => break e,
            }
        };
        assert_eq!((refused, t.attr(f.0).size), (Error::NoSpace, at));
        t.fs.commit().unwrap();
        // Holes inside of frames free nothing, and must not use up what deletions need.
        let punch = |from, len| t.fs.fallocate(&USER, f.0, f.1, from, len, AllocateMode::PunchHole);
        for hole in (0..at).step_by(FRAME / 2) {
            let done = punch(hole + 8192, 9000);
            assert!(matches!(done, Ok(()) | Err(Error::NoSpace)), "{done:?}");
        }
        punch(at / 8, at / 8).unwrap();
        t.resize(f.0, at / 2 + 77);
        t.fs.commit().unwrap();
        t.prove();
        t.fs.unlink(&USER, ROOT, b"f").unwrap();
        t.fs.release(f.0, f.1);
        t.fs.forget(f.0);
        t.put(ROOT, "again", &random(1, 1 << 20));
        t.fs.commit().unwrap();
        t.prove();
    }
}

#[test]
fn random_overwrites_of_a_nearly_full_store_are_refused_or_done() {
    let mut rng = fastrand::Rng::with_seed(11);
    let t = T::with(2 << 20, FsOptions { dirty_bytes_max: 1 << 18, ..FsOptions::default() });
    t.compress(ROOT, "zstd:1");
    let f = t.create(ROOT, "f");
    let mut data = text(12, 4 << 20);
    t.write(f, 0, &data);
    for i in 0..3000 {
        let at = rng.usize(..data.len() - 5000);
        let bytes = random(i, rng.usize(1..5000));
        match t.fs.write(f.0, f.1, at as u64, &bytes, false) {
            Ok(_) => data[at..at + bytes.len()].copy_from_slice(&bytes),
            Err(e) => assert_eq!(e, Error::NoSpace),
        }
        if i % 200 == 0 {
            t.fs.commit().unwrap();
            assert!(t.read(f, 0, 4 << 20) == data);
            t.prove();
        }
    }
    t.fs.commit().unwrap();
    assert!(t.read(f, 0, 4 << 20) == data);
}

fn newest(device: &Memory) -> Superblock {
    let slots = (0..64).map(|n| {
        let mut slot = vec![0; 4096];
        device.read_at(n * 4096, &mut slot).unwrap();
        Superblock::decode(&slot)
    });
    slots.filter_map(std::result::Result::ok).max_by_key(|sb| sb.seq).unwrap()
}

#[test]
fn a_store_says_that_it_needs_a_program_that_knows() {
    let size = 64 << 20;
    let device = Arc::new(Memory::new(size));
    Volume::create(device.clone(), size, [1; 16], (0, 0)).unwrap();
    let open = || {
        let options = OpenOptions { access: Access::ReadWrite, cache_bytes: 4 << 20 };
        T::on(Volume::open(device.clone(), options).unwrap(), FsOptions::default())
    };
    let t = open();
    let f = t.put(ROOT, "f", &text(1, 1 << 20));
    t.fs.commit().unwrap();
    assert_eq!(newest(&device).incompat, 0);
    // By the time that the property is there, and the log tells of it, every state to come back to says so.
    t.compress(ROOT, "zstd");
    assert_eq!(newest(&device).incompat, 1);
    t.put(ROOT, "g", &text(2, 1 << 20));
    drop(t);
    let t = open();
    assert_eq!(t.fs.recovered().damage, None);
    assert!(t.cat(ROOT, "f") == text(1, 1 << 20) && t.cat(ROOT, "g") == text(2, 1 << 20));
    assert!(t.attr(t.find(ROOT, "g").unwrap()).blocks * 512 < 1 << 19);
    assert_eq!(t.attr(f).blocks * 512, 1 << 20);
    t.compress(ROOT, "inherit");
    t.fs.commit().unwrap();
    assert_eq!(newest(&device).incompat, 1, "content is still compressed");
    t.prove();
}
