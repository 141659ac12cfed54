//! Damage with checksums made right again: what the decoders let through must not make anything panic.
//!
//! Every pointer to a changed block is found in the block that holds it, and changed with it, up to the superblock.
//! Records of the log are changed in the same way. `SNAPFS_CRAFTED` is the number of images, `SNAPFS_SEED` the first seed.

use snapfs::format::log::RecordHeader;
use snapfs::format::superblock::Superblock;
use snapfs::format::{Epoch, LineId};

use crate::resealed::{Image, change_superblock, exercise, word};
use crate::sample::Sample;

/// Images that are tried.
const IMAGES: u64 = 300;

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
    let which = rng.u8(0..14);
    let old = [sb.epoch.0, sb.size, sb.allocated, sb.next_line.0, sb.next_view.0, sb.next_ino.0];
    let old = old.into_iter().chain([
        sb.next_id,
        sb.seq,
        0,
        sb.meta_root.birth.0,
        0,
        sb.log_bytes,
        sb.log_start,
        u64::from(sb.next_generation.0),
    ]);
    let old = old.into_iter().nth(usize::from(which)).unwrap_or(0);
    change_superblock(sb, which, odd(rng, old));
}

/// Changes a few bytes or words of the effects, or of what the header says.
fn mutate_record((_, header, effects): &mut (u64, RecordHeader, Vec<u8>), rng: &mut fastrand::Rng) {
    for _ in 0..rng.usize(1..4) {
        let at = rng.usize(..effects.len().max(9));
        match rng.u8(0..8) {
            0 => header.epoch = Epoch(odd(rng, header.epoch.0)),
            1 => header.line = LineId(odd(rng, header.line.0)),
            2 => header.durable = odd(rng, header.durable),
            3..=5 if at + 8 <= effects.len() => {
                let new = odd(rng, word(effects, at));
                effects[at..at + 8].copy_from_slice(&new.to_le_bytes());
            }
            _ if at < effects.len() => effects[at] = odd(rng, u64::from(effects[at])) as u8,
            _ => {}
        }
    }
}

#[test]
fn no_crafted_image_makes_anything_panic() {
    let number = |name: &str, default| std::env::var(name).map_or(default, |v| v.parse().expect(name));
    let (first, count) = (number("SNAPFS_SEED", 0), number("SNAPFS_CRAFTED", IMAGES));
    let sample = Sample::with_log();
    let addrs: Vec<u64> = sample.metadata.iter().map(|p| p.addr.0).collect();
    let sound = Image::new(&sample);
    let mut failed = Vec::new();
    for seed in first..first + count {
        let mut rng = fastrand::Rng::with_seed(seed);
        let mut image = sound.copy();
        let kind = rng.u8(0..8);
        if kind == 0 {
            mutate_superblock(&mut image.superblock, &mut rng);
        } else if kind < 3 {
            let record = rng.usize(..image.records.len());
            mutate_record(&mut image.records[record], &mut rng);
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
