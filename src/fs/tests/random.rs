//! Random changes of two files against arrays of bytes, with snapshots that must stay as they were.

use super::*;

const SIZE_MAX: u64 = 600_000;

/// Whether content is compressed: then a part of it cannot be.
#[derive(Clone, Copy, PartialEq)]
enum Stored {
    Plain,
    Compressed,
    /// Written over in place, and brought home in between.
    AtHome,
}

struct Model {
    stored: Stored,
    files: [Vec<u8>; 2],
    snapshots: Vec<(NodeId, [Vec<u8>; 2])>,
}

fn spot(r: &mut fastrand::Rng, max: u64) -> u64 {
    let at = r.u64(0..=max);
    match r.u8(0..3) {
        0 => at,
        1 => at - at % 4096,
        _ => at % 6000,
    }
}

/// Makes some of it impossible to compress.
fn spoil(data: &mut [u8], r: &mut fastrand::Rng) {
    for part in data.chunks_mut(5000) {
        if r.u8(0..3) == 0 {
            let len = r.usize(0..=part.len());
            r.fill(&mut part[..len]);
        }
    }
}

fn step(t: &T, m: &mut Model, open: &[(NodeId, Handle); 2], r: &mut fastrand::Rng) {
    let which = r.usize(0..2);
    let f = open[which];
    let size = m.files[which].len() as u64;
    let at = spot(r, SIZE_MAX / 2);
    let len = spot(r, SIZE_MAX / 2).max(1);
    let end = (at + len) as usize;
    match r.u8(0..20) {
        0..=7 => {
            let byte = if r.u8(0..4) == 0 { 0 } else { r.u8(1..) };
            let mut data = vec![byte; len as usize];
            if m.stored == Stored::Compressed {
                spoil(&mut data, r);
            }
            t.write(f, at, &data);
            let file = &mut m.files[which];
            file.resize(file.len().max(end), 0);
            file[at as usize..end].copy_from_slice(&data);
        }
        8..=9 => {
            t.resize(f.0, at);
            m.files[which].resize(at as usize, 0);
        }
        10..=13 => {
            let mode = *r
                .choice(&[
                    AllocateMode::Extend,
                    AllocateMode::KeepSize,
                    AllocateMode::PunchHole,
                    AllocateMode::ZeroRange,
                    AllocateMode::ZeroRangeKeepSize,
                ])
                .unwrap();
            t.fs.fallocate(&USER, f.0, f.1, at, len, mode).unwrap();
            let file = &mut m.files[which];
            if matches!(mode, AllocateMode::Extend | AllocateMode::ZeroRange) {
                file.resize(file.len().max(end), 0);
            }
            if !matches!(mode, AllocateMode::Extend | AllocateMode::KeepSize) {
                let to = file.len().min(end);
                file[to.min(at as usize)..to].fill(0);
            }
        }
        14..=16 => {
            let other = r.usize(0..2);
            let to = spot(r, SIZE_MAX / 2);
            let n = len.min(size.saturating_sub(at));
            let overlap = which == other && at < to + n && to < at + n;
            let copied = t.fs.copy_range(&USER, f.0, f.1, at, open[other].0, open[other].1, to, len);
            if overlap {
                assert_eq!(copied, Err(Error::Invalid));
                return;
            }
            assert_eq!(copied, Ok(n));
            if n > 0 {
                let bytes = m.files[which][at as usize..(at + n) as usize].to_vec();
                let target = &mut m.files[other];
                target.resize(target.len().max((to + n) as usize), 0);
                target[to as usize..(to + n) as usize].copy_from_slice(&bytes);
            }
        }
        17 if m.stored == Stored::AtHome => drop(t.fs.bring_content_home(1 << r.u32(12..21)).unwrap()),
        17..=18 => t.fs.commit().unwrap(),
        _ => {
            if m.snapshots.len() < 6 {
                let node = t.snapshot(&format!("s{}", r.u64(..)));
                m.snapshots.push((node, m.files.clone()));
            }
        }
    }
}

/// Everything reads as the model says, blocks are counted right, and data is where `lseek` says.
fn compare(t: &T, m: &Model, open: &[(NodeId, Handle); 2], seed: u64, i: usize) {
    for (f, expected) in open.iter().zip(&m.files) {
        assert_eq!(t.attr(f.0).size, expected.len() as u64, "seed {seed} step {i}");
        let got = t.read(*f, 0, 1 << 20);
        let wrong = got.iter().zip(expected).position(|(a, b)| a != b);
        assert!(got == *expected, "seed {seed} step {i}: first difference {wrong:?}");
        let mut at = 0;
        while let Ok(data) = t.fs.lseek(f.0, f.1, at, SeekTarget::Data) {
            assert!(expected[at as usize..data as usize].iter().all(|b| *b == 0), "seed {seed} step {i}");
            at = t.fs.lseek(f.0, f.1, data, SeekTarget::Hole).unwrap();
            assert!(at > data);
        }
        assert!(
            expected[(at as usize).min(expected.len())..].iter().all(|b| *b == 0),
            "seed {seed} step {i}"
        );
    }
}

fn random_changes(seed: u64, stored: Stored) {
    let mut r = fastrand::Rng::with_seed(seed);
    let options = FsOptions { dirty_bytes_max: 1 << r.u32(17..26), ..FsOptions::default() };
    let t = T::with(1 << 30, options);
    if stored == Stored::Compressed {
        t.compress(ROOT, "zstd:1");
    }
    if stored == Stored::AtHome {
        t.fs.setxattr(&SUPER, ROOT, b"user.snapfs.layout", b"cow", XattrMode::Set).unwrap();
    }
    let open = [t.create(ROOT, "0"), t.create(ROOT, "1")];
    let mut m = Model { stored, files: Default::default(), snapshots: Vec::new() };
    for i in 0..if stored == Stored::AtHome { 150 } else { 60 } {
        step(&t, &mut m, &open, &mut r);
        compare(&t, &m, &open, seed, i);
    }
    t.fs.commit().unwrap();
    if stored == Stored::AtHome {
        while t.fs.bring_content_home(1 << 20).unwrap().more {
            compare(&t, &m, &open, seed, usize::MAX);
            t.prove();
        }
    }
    compare(&t, &m, &open, seed, usize::MAX);
    for (node, files) in &m.snapshots {
        for (name, expected) in ["0", "1"].iter().zip(files) {
            assert!(t.cat(*node, name) == *expected, "seed {seed}");
        }
    }
    if stored != Stored::Compressed {
        let counted: u64 = open.iter().map(|f| t.fs.heads.inode(f.0).unwrap().blocks).sum();
        assert_eq!(counted, t.fs.volume().live_blocks() * 8, "seed {seed}: blocks of inodes");
    }
    t.prove();
    for name in [b"0", b"1"] {
        t.fs.unlink(&USER, ROOT, name).unwrap();
    }
    t.fs.close().unwrap();
    t.prove();
    assert_eq!(t.fs.volume().live_blocks(), 0, "seed {seed}");
    assert_eq!(t.fs.volume().live_items().len(), 1, "seed {seed}");
}

fn rounds() -> u64 {
    std::env::var("SNAPFS_TEST_ROUNDS").ok().and_then(|n| n.parse().ok()).unwrap_or(60)
}

#[test]
fn random_changes_match_the_model() {
    (0..rounds()).for_each(|seed| random_changes(seed, Stored::Plain));
}

#[test]
fn random_changes_of_compressed_files_match_the_model() {
    (0..rounds()).for_each(|seed| random_changes(seed, Stored::Compressed));
}

#[test]
fn random_changes_of_files_at_home_match_the_model() {
    (0..rounds()).for_each(|seed| random_changes(seed, Stored::AtHome));
}

#[test]
fn writers_readers_and_commits_at_the_same_time() {
    all_at_the_same_time(Stored::Plain);
}

#[test]
fn compressed_writers_readers_and_commits_at_the_same_time() {
    all_at_the_same_time(Stored::Compressed);
}

fn all_at_the_same_time(stored: Stored) {
    let options = FsOptions { dirty_bytes_max: 1 << 20, ..FsOptions::default() };
    let t = T::with(1 << 30, options);
    if stored == Stored::Compressed {
        t.compress(ROOT, "zstd:1");
    }
    let files: Vec<_> = (0..3).map(|i| t.create(ROOT, &i.to_string())).collect();
    let done = std::sync::atomic::AtomicBool::new(false);
    std::thread::scope(|scope| {
        let committer = scope.spawn(|| {
            let mut n = 0;
            while !done.load(std::sync::atomic::Ordering::Relaxed) {
                t.fs.commit().unwrap();
                n += 1;
                if n % 16 == 0 {
                    t.snapshot(&format!("s{n}"));
                    t.fs.delete_snapshot(format!("s{n}").as_bytes()).unwrap();
                }
            }
        });
        let writers: Vec<_> = files
            .iter()
            .enumerate()
            .map(|(seed, f)| {
                let t = &t;
                scope.spawn(move || {
                    let mut r = fastrand::Rng::with_seed(seed as u64);
                    let mut model: Vec<u8> = Vec::new();
                    for _ in 0..400 {
                        let (at, len) = (r.usize(..300_000), r.usize(1..90_000));
                        let byte = r.u8(..);
                        t.write(*f, at as u64, &vec![byte; len]);
                        model.resize(model.len().max(at + len), 0);
                        model[at..at + len].fill(byte);
                        if r.u8(..16) == 0 {
                            t.resize(f.0, at as u64);
                            model.truncate(at);
                        }
                        let (from, n) = (r.usize(..400_000), r.usize(1..50_000));
                        let end = model.len().min(from + n);
                        assert!(t.read(*f, from as u64, n) == model[from.min(end)..end]);
                    }
                })
            })
            .collect();
        writers.into_iter().for_each(|w| w.join().unwrap());
        done.store(true, std::sync::atomic::Ordering::Relaxed);
        committer.join().unwrap();
    });
    for i in 0..3 {
        t.fs.unlink(&USER, ROOT, i.to_string().as_bytes()).unwrap();
    }
    t.fs.close().unwrap();
    assert_eq!(t.fs.volume().live_blocks(), 0);
    t.prove();
}
