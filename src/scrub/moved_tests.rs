//! Scrubs of files that are written over in place under snapshots: what has moved is read where it is, also while it moves.

use super::tests::*;
use super::*;
use crate::device::Sim;
use crate::fixtures::{
    ADMIN, SNAPDIR, bytes, find, mount, new_store, open, overwrite, put, read_whole, snapshot,
};
use crate::format::BLOCK_BYTES;
use crate::format::scrub::FINDINGS_MAX;
use crate::fs::Fs;
use crate::ops::{NodeId, Operations, XattrMode};
use crate::volume::Access;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

const BLOCKS: u64 = 300;

/// A store of which every file is written over in place, with some of these.
fn in_place(sim: &Arc<Sim>, files: u64) -> (Arc<Fs>, Vec<NodeId>) {
    let fs = mount(sim.clone());
    fs.setxattr(&ADMIN, NodeId::ROOT, b"user.snapfs.layout", b"cow", XattrMode::Set).unwrap();
    let file = |n| put(&fs, NodeId::ROOT, &format!("image{n}"), &bytes(n, (BLOCKS * BLOCK_BYTES) as usize));
    let nodes = (0..files).map(file).collect();
    fs.commit().unwrap();
    (fs, nodes)
}

fn write_over(fs: &Fs, node: NodeId, block: u64, seed: u64) {
    overwrite(fs, node, block * BLOCK_BYTES, &bytes(seed, BLOCK_BYTES as usize));
}

/// One with snapshots whose content was copied out, and with some content that is away from home.
fn sample() -> Arc<Sim> {
    let sim = new_store(SIZE);
    let (fs, nodes) = in_place(&sim, 2);
    for n in 0..4u64 {
        snapshot(&fs, &format!("s{n}"));
        for node in &nodes {
            (n..BLOCKS)
                .step_by(n as usize + 2)
                .for_each(|block| write_over(&fs, *node, block, 1000 * n + block));
        }
        fs.commit().unwrap();
        while fs.bring_content_home(8 << 20).unwrap().more {}
    }
    (0..BLOCKS).step_by(5).for_each(|block| write_over(&fs, nodes[0], block, 9000 + block));
    fs.close().unwrap();
    sim
}

/// Blocks to which content of snapshots has moved.
fn moved(sim: &Arc<Sim>) -> BTreeSet<u64> {
    let state = open(sim.clone(), Access::ReadOnly).unwrap().committed().unwrap();
    state.remap.iter().flat_map(|record| blocks(record.new.0, record.len)).collect()
}

#[test]
fn what_has_moved_is_read_once_and_where_it_is() {
    let sim = sample();
    let moved = moved(&sim);
    assert!(moved.len() > 300, "{} blocks have moved", moved.len());
    let volume = open(sim.clone(), Access::ReadWrite).unwrap();
    let before = sim.counts().bytes_read;
    let done = scrub(&volume);
    assert_eq!((done.record().bad, done.record().healed), (0, 0), "{:?}", done.findings());
    let (read, total) = (sim.counts().bytes_read - before, done.record().total_bytes);
    assert!(read > total / 10 * 9 && read < total / 10 * 13, "{read} of {total}");

    let truth = truth(&volume);
    assert!(moved.iter().all(|addr| truth.content.contains_key(addr)), "somebody has each");
    let (there, elsewhere): (Vec<u64>, Vec<u64>) =
        truth.content.keys().partition(|addr| moved.contains(*addr));
    let mut rng = fastrand::Rng::with_seed(3);
    for round in 0..40 {
        let of = if round % 2 == 0 { &there } else { &elsewhere };
        is_found(&sim, &truth, (of[rng.usize(..of.len())], round / 2), &mut rng);
    }
}

/// A history of files that are written over in place.
struct History {
    fs: Arc<Fs>,
    nodes: Vec<NodeId>,
    rng: fastrand::Rng,
    names: BTreeSet<u64>,
    /// Bytes that were copied out and that came home.
    moved: (u64, u64),
}

impl History {
    fn step(&mut self) {
        let (fs, rng) = (&self.fs, &mut self.rng);
        match rng.u8(0..16) {
            0..=5 => {
                for _ in 0..rng.u64(1..8) {
                    write_over(fs, self.nodes[rng.usize(..self.nodes.len())], rng.u64(..BLOCKS), rng.u64(..));
                }
            }
            6 => {
                let n = self.names.last().map_or(0, |last| last + 1);
                snapshot(fs, &format!("s{n}"));
                self.names.insert(n);
            }
            7 if self.names.len() > 2 => {
                let n = *self.names.iter().nth(rng.usize(..self.names.len() - 1)).unwrap();
                fs.rmdir(&ADMIN, SNAPDIR, format!("s{n}").as_bytes()).unwrap();
                self.names.remove(&n);
            }
            8..=13 => {
                let step = fs.bring_content_home(128 << 10).unwrap();
                self.moved.0 += step.copied;
                self.moved.1 += step.moved;
            }
            _ => fs.commit().unwrap(),
        }
    }
}

/// What is bad from the beginning of a scrub to its end is found, and nothing else, while content is copied out and comes home.
/// Returns how many of that there were, and what moved meanwhile.
fn scrub_while_content_moves(seed: u64) -> (usize, (u64, u64)) {
    let sim = new_store(SIZE);
    let (fs, nodes) = in_place(&sim, 6);
    let mut history = History {
        fs: fs.clone(),
        nodes,
        rng: fastrand::Rng::with_seed(seed),
        names: BTreeSet::new(),
        moved: (0, 0),
    };
    (0..history.rng.usize(30..120)).for_each(|_| history.step());
    fs.commit().unwrap();
    let volume = fs.volume();
    // Of three files some is bad, which does not move any more; the others go on moving.
    let rots = |path: &str| ["/image0", "/image1", "/image2"].contains(&path);
    let mut planted = BTreeMap::new();
    for (addr, _) in truth(volume).content.iter().filter(|(_, (_, path))| rots(path)) {
        if history.rng.u8(0..10) == 0 {
            sim.flip(addr + history.rng.u64(..4096), 1);
            planted.insert(*addr, sim.peek(*addr, 4096));
        }
    }
    history.moved = (0, 0);
    let mut running = Scrub::start(volume, 0, 1);
    let mut found = BTreeSet::new();
    while running.is_unfinished() {
        running.step(volume, 1 << history.rng.u32(14..19)).unwrap();
        if history.rng.bool() {
            running.unpin();
        }
        (0..history.rng.usize(0..6)).for_each(|_| history.step());
        found.extend(running.bad.iter().copied());
    }
    fs.commit().unwrap();
    found.extend(running.findings().iter().flat_map(|f| blocks(f.addr, f.len)));
    for addr in &found {
        assert!(planted.contains_key(addr), "seed {seed}: {addr:#x} is sound");
    }
    let after = content(volume);
    let mut count = 0;
    for (addr, bytes) in &planted {
        let same = after.get(addr).is_some_and(|birth| *birth <= running.record().until);
        if same && sim.peek(*addr, 4096) == *bytes {
            let seen = found.contains(addr) || running.findings().len() as u64 == FINDINGS_MAX;
            assert!(seen, "seed {seed}: {addr:#x} is bad and was not found");
            count += 1;
        }
    }
    for n in 3..6 {
        let file = find(&fs, &format!("image{n}"));
        assert!(read_whole(&fs, file).is_ok(), "seed {seed}: image{n} is sound");
    }
    (count, history.moved)
}

#[test]
fn nothing_is_missed_or_invented_while_content_moves() {
    let (mut found, mut copied, mut moved) = (0, 0, 0);
    for seed in 0..16 {
        let (count, (out, home)) = scrub_while_content_moves(seed);
        (found, copied, moved) = (found + count, copied + out, moved + home);
    }
    println!("{found} bad blocks found, {copied} bytes copied out, {moved} came home");
    assert!(found > 300, "{found} bad blocks were there from beginning to end");
    assert!(copied > 1 << 20 && moved > 1 << 20, "{copied} bytes copied out, {moved} came home");
}
