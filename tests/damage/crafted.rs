//! Damage with checksums made right again: what the decoders let through must not make anything panic.
//!
//! Every pointer to a changed block is found in the block that holds it, and changed with it, up to the superblock.
//! `SNAPFS_CRAFTED` is the number of images, `SNAPFS_SEED` the first seed.

use snapfs::check::{self, Depth};
use snapfs::device::{Device, RESERVED_BYTES, Sim};
use snapfs::format::superblock::{RING_SLOTS, SLOT_BYTES, Superblock};
use snapfs::format::{Copies, Epoch, Ino, ViewId};
use snapfs::ops::*;
use snapfs::volume::Access;
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use xxhash_rust::xxh3::xxh3_64_with_seed;

use crate::observe::observe;
use crate::sample::{RW, SNAPDIR, Sample, USER, mount, open};

/// Images that are tried.
const IMAGES: u64 = 200;

/// The metadata of a store in memory.
struct Image {
    sim: Sim,
    superblock: Superblock,
    blocks: BTreeMap<u64, Vec<u8>>,
    /// Address -> where the second copy is.
    copies: HashMap<u64, u64>,
    /// Address -> (address of a block with a pointer to it, offset of the pointer there).
    holders: HashMap<u64, Vec<(u64, usize)>>,
}

impl Image {
    fn new(sample: &Sample) -> Image {
        let slots = sample.slots();
        let decoded = slots.iter().map(|at| sample.sim.peek(*at, SLOT_BYTES as u64));
        let superblock =
            decoded.filter_map(|s| Superblock::decode(&s).ok()).max_by_key(|s| s.seq).expect("a superblock");
        let blocks: BTreeMap<u64, Vec<u8>> =
            sample.metadata.iter().map(|p| (p.addr.0, sample.sim.peek(p.addr.0, u64::from(p.len)))).collect();
        let checksums: HashMap<u64, u64> = sample.metadata.iter().map(|p| (p.addr.0, p.checksum)).collect();
        let mut holders: HashMap<u64, Vec<(u64, usize)>> = HashMap::new();
        for (holder, bytes) in &blocks {
            for at in 64..bytes.len() - 40 {
                let addr = word(bytes, at);
                if checksums.get(&addr).is_some_and(|sum| *sum == word(bytes, at + 24)) {
                    holders.entry(addr).or_default().push((*holder, at));
                }
            }
        }
        let copies = sample.metadata.iter().map(|p| (p.addr.0, p.copy.0)).collect();
        Image { sim: sample.sim.clone_image(), superblock, blocks, copies, holders }
    }

    fn copy(&self) -> Image {
        Image {
            sim: self.sim.clone_image(),
            superblock: self.superblock.clone(),
            blocks: self.blocks.clone(),
            copies: self.copies.clone(),
            holders: self.holders.clone(),
        }
    }

    /// Makes the checksum of a block right, and that of everything above it.
    fn reseal(&mut self, addr: u64) {
        let block = self.blocks.get_mut(&addr).expect("a metadata block");
        let sum = xxh3_64_with_seed(&block[8..], u64::from(block[12]));
        block[..8].copy_from_slice(&sum.to_le_bytes());
        for ptr in [Some(&mut self.superblock.meta_root), self.superblock.space_map.as_mut()] {
            if let Some(ptr) = ptr.filter(|p| p.addr.0 == addr) {
                ptr.checksum = sum;
            }
        }
        for (holder, at) in self.holders.get(&addr).cloned().unwrap_or_default() {
            if let Some(block) = self.blocks.get_mut(&holder)
                && word(block, at) == addr
            {
                block[at + 24..at + 32].copy_from_slice(&sum.to_le_bytes());
                self.reseal(holder);
            }
        }
    }

    fn device(&self) -> Arc<Sim> {
        let sim = self.sim.clone_image();
        for (addr, bytes) in &self.blocks {
            sim.write_at(*addr, bytes).unwrap();
            sim.write_at(self.copies[addr], bytes).unwrap();
        }
        let slot = self.superblock.encode();
        for ring in [0, RESERVED_BYTES / 2] {
            let at = ring + self.superblock.seq % RING_SLOTS * SLOT_BYTES as u64;
            sim.write_at(at, &slot).unwrap();
        }
        sim.flush().unwrap();
        Arc::new(sim)
    }
}

fn word(bytes: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(bytes[at..at + 8].try_into().unwrap())
}

fn odd(rng: &mut fastrand::Rng, old: u64) -> u64 {
    match rng.u8(0..9) {
        0 => 0,
        1 => u64::MAX,
        2 => old.wrapping_add(1),
        3 => old.wrapping_sub(1),
        4 => old.wrapping_mul(2),
        5 => old ^ 1 << rng.u8(0..64),
        6 => 1 << 63,
        7 => old.wrapping_add(4096),
        _ => rng.u64(..),
    }
}

fn mutate_block(block: &mut [u8], rng: &mut fastrand::Rng) {
    let used: Vec<usize> = (64..block.len() - 8).filter(|i| block[*i] != 0).collect();
    for _ in 0..rng.usize(1..4) {
        let at = match rng.u8(0..10) {
            0 => 13,
            1 => 14,
            2 => rng.usize(64..block.len() - 8),
            _ if used.is_empty() => 64,
            _ => used[rng.usize(..used.len())],
        };
        if rng.bool() || at < 64 {
            block[at] = odd(rng, u64::from(block[at])) as u8;
        } else {
            let at = at.min(block.len() - 8);
            let new = odd(rng, word(block, at));
            block[at..at + 8].copy_from_slice(&new.to_le_bytes());
        }
    }
}

fn mutate_superblock(sb: &mut Superblock, rng: &mut fastrand::Rng) {
    match rng.u8(0..11) {
        10 => sb.metadata_copies = Copies::One,
        0 => sb.epoch = Epoch(odd(rng, sb.epoch.0).max(1)),
        1 => sb.size = odd(rng, sb.size),
        2 => sb.allocated = odd(rng, sb.allocated),
        3 => sb.live = ViewId((odd(rng, u64::from(sb.live.0)) as u32).max(1)),
        4 => sb.next_view = odd(rng, u64::from(sb.next_view)) as u32,
        5 => sb.next_ino = Ino(odd(rng, sb.next_ino.0)),
        6 => sb.next_id = odd(rng, sb.next_id),
        7 => sb.seq = odd(rng, sb.seq),
        8 => sb.space_map = None,
        _ => sb.meta_root.birth = Epoch(odd(rng, sb.meta_root.birth.0).max(1)),
    }
}

/// Does everything with an image; errors are all right.
fn exercise(device: &Arc<Sim>) {
    if let Ok(volume) = open(Arc::new(device.clone_image()), Access::ReadOnly) {
        let _report = check::check(&volume, Depth::Data);
        if let Ok(fs) = mount(volume) {
            observe(&fs);
        }
    }
    let Ok(fs) = open(device.clone(), Access::ReadWrite).and_then(mount) else { return };
    let steps: [&dyn Fn() -> Result<()>; 8] = [
        &|| {
            let (entry, handle) = fs.create(&USER, NodeId::ROOT, b"new", 0o600, RW)?;
            fs.write(entry.attr.node, handle, 0, &[1; 200_000], false)?;
            fs.fallocate(&USER, entry.attr.node, handle, 0, 1 << 20, AllocateMode::Extend)?;
            fs.commit()
        },
        &|| fs.mkdir(&USER, SNAPDIR, b"four", 0).map(drop),
        &|| {
            let dir = fs.lookup(&USER, NodeId::ROOT, b"b")?.attr.node;
            fs.unlink(&USER, dir, b"hard")?;
            fs.rename(&USER, dir, b"later3", NodeId::ROOT, b"here", RenameMode::Replace)?;
            fs.rmdir(&USER, dir, b"moved").or(Ok(()))
        },
        &|| {
            let dir = fs.lookup(&USER, NodeId::ROOT, b"a")?.attr.node;
            for n in 1..100 {
                if let Ok(file) = fs.lookup(&USER, dir, format!("small{n}").as_bytes()) {
                    let set = SetAttr { size: Some(n * 20), ..SetAttr::default() };
                    fs.setattr(&USER, file.attr.node, None, &set)?;
                    fs.unlink(&USER, dir, format!("small{n}").as_bytes())?;
                    fs.forget(file.attr.node);
                }
            }
            Ok(())
        },
        &|| fs.rmdir(&USER, SNAPDIR, b"one"),
        &|| fs.rmdir(&USER, SNAPDIR, b"three"),
        &|| fs.commit(),
        &|| fs.statfs(NodeId::ROOT).map(drop),
    ];
    for step in steps {
        let _done = step();
    }
    let _ticked = (fs.tick(), fs.tick());
    let _closed = fs.close();
    let _report = check::check(fs.volume(), Depth::Data);
}

#[test]
fn no_crafted_image_makes_anything_panic() {
    let number = |name: &str, default| std::env::var(name).map_or(default, |v| v.parse().expect(name));
    let (first, count) = (number("SNAPFS_SEED", 0), number("SNAPFS_CRAFTED", IMAGES));
    let sample = Sample::new();
    let addrs: Vec<u64> = sample.metadata.iter().map(|p| p.addr.0).collect();
    let sound = Image::new(&sample);
    let mut failed = Vec::new();
    for seed in first..first + count {
        let mut rng = fastrand::Rng::with_seed(seed);
        let mut image = sound.copy();
        if rng.u8(0..8) == 0 {
            mutate_superblock(&mut image.superblock, &mut rng);
        } else {
            // Half of the changes hit the tables of the store: there are few of them among many nodes of trees.
            let roots = [Some(image.superblock.meta_root), image.superblock.space_map];
            let roots: Vec<u64> = roots.into_iter().flatten().map(|p| p.addr.0).collect();
            let addr =
                if rng.bool() { roots[rng.usize(..roots.len())] } else { addrs[rng.usize(..addrs.len())] };
            mutate_block(image.blocks.get_mut(&addr).expect("a block"), &mut rng);
            image.reseal(addr);
        }
        let device = image.device();
        if std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| exercise(&device))).is_err() {
            failed.push(seed);
        }
    }
    assert!(failed.is_empty(), "panics with seeds {failed:?}");
}
