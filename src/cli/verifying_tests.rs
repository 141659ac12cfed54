//! What is read of both stores when a snapshot is held against its copy.

use super::super::line_args::Json;
use super::*;
use crate::clock::Clock;
use crate::device::{Op, Sim};
use crate::fixtures::{self, blocks_below, bytes, mkdir, overwrite, put, snapshot};
use crate::fs::{Fs, FsOptions, ReceiveOrder, SendOrder};
use crate::volume::{Access, Volume};
use std::path::PathBuf;
use std::sync::Arc;

const STORE_BYTES: u64 = 256 << 20;
const CONTENT_BYTES: usize = 48 << 20;

fn open(sim: &Arc<Sim>) -> Arc<Fs> {
    let volume = fixtures::open(sim.clone(), Access::ReadWrite).unwrap();
    Fs::open(volume, FsOptions::default(), Clock::manual(1000)).unwrap()
}

fn new_store(uuid: u8) -> Arc<Sim> {
    let sim = Arc::new(Sim::new(STORE_BYTES, uuid.into()));
    Volume::create(sim.clone(), STORE_BYTES, [uuid; 16], (0, 0)).unwrap();
    sim
}

/// Where content of any snapshot is: address, bytes.
fn places(fs: &Fs) -> Vec<(u64, u64)> {
    let state = fs.volume().committed().unwrap();
    let roots = state.records.iter().filter_map(|record| record.root);
    roots.flat_map(|root| blocks_below(&state, &root).data).collect()
}

fn verify(here: &Arc<Fs>, there: &Arc<Fs>) -> u8 {
    let [here, there] = [here, there].map(|fs| StoreEnd::Here(fs.clone(), PathBuf::from("/store")));
    let args = VerifyArgs {
        target: PathBuf::from("/store"),
        view: "one".into(),
        with: PathBuf::from("/store"),
        json: Json { json: true },
    };
    compare(&here, &there, &args).unwrap()
}

#[test]
fn a_copy_is_verified_without_a_byte_of_content_being_read() {
    let sims = [new_store(1), new_store(2)];
    let [from, to] = [open(&sims[0]), open(&sims[1])];
    let dir = mkdir(&from, NodeId::ROOT, "d");
    (0..300).for_each(|n| {
        put(&from, dir, &format!("f{n}"), &bytes(n, 5000));
    });
    let big = put(&from, NodeId::ROOT, "big", &bytes(1, CONTENT_BYTES));
    snapshot(&from, "one");
    let one = from.snapshots().remove(0);
    let order = SendOrder { snapshot: &one, base: None, gone: None, resume: None };
    let mut stream = Vec::new();
    from.send(&order, &mut stream, &mut |_| true).unwrap();
    to.receive(&mut &stream[..], &ReceiveOrder::default(), &mut |_, _| ()).unwrap();
    // What is written later is no part of it.
    overwrite(&from, big, 0, &bytes(2, 100_000));
    [&from, &to].iter().for_each(|fs| fs.close().unwrap());
    // Nothing is in memory, and no sum is kept that was counted before: both count.
    let sims = sims.map(|sim| Arc::new(sim.clone_image()));
    let stores = [open(&sims[0]), open(&sims[1])];
    let content = [places(&stores[0]), places(&stores[1])];
    sims.iter().for_each(|sim| sim.start_recording());
    assert_eq!(verify(&stores[0], &stores[1]), 0);
    for ((sim, places), which) in sims.iter().zip(&content).zip(["here", "there"]) {
        assert!(places.iter().map(|(_, len)| len).sum::<u64>() >= CONTENT_BYTES as u64);
        let reads: Vec<_> = sim.take_recording().into_iter().filter(|call| call.op == Op::Read).collect();
        let bytes: u64 = reads.iter().map(|call| call.len).sum();
        assert!(bytes > 0 && bytes < CONTENT_BYTES as u64 / 50, "{which}: {bytes} bytes");
        let is_content = |at: u64, len: u64| places.iter().any(|(from, n)| at < from + n && *from < at + len);
        let of_content = reads.iter().find(|call| is_content(call.offset, call.len));
        assert_eq!(of_content, None, "{which}");
    }
    // It is found all the same where they differ: the checksums of content are in the trees.
    let (from, to) = (&stores[0], &stores[1]);
    let file = fixtures::find(to, "big");
    overwrite(to, file, 8192, &bytes(3, 4096));
    snapshot(to, "other");
    let other = to.snapshots().pop().unwrap();
    let [mine, theirs] = [(from, &one), (to, &other)].map(|(fs, snapshot)| {
        let view = fs.volume().snapshot(snapshot.id).unwrap();
        fs.sums_of(&view, &mut |_, _| ()).unwrap()
    });
    assert_ne!(mine, theirs);
}
