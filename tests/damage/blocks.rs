//! Damage behind the checksums: flipped, zeroed, replaced, unreadable and cut off.

use snapfs::check::{self, Depth};
use snapfs::device::{Device, Sim};
use snapfs::format::superblock::SLOT_BYTES;
use snapfs::ops::*;
use snapfs::volume::Access;
use std::sync::Arc;

use crate::fixtures::{ADMIN, Hooked, Hooks, RW, SNAPDIR};
use crate::observe::{Seen, observe};
use crate::sample::{Sample, mount, open};

/// Fewer cases would mean that the sample has shrunk.
const CASES_MIN: usize = 300;

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Harm {
    Flip,
    Zero,
    Replace,
    Unreadable,
}

const HARMS: [Harm; 4] = [Harm::Flip, Harm::Zero, Harm::Replace, Harm::Unreadable];

/// What a damaged store does.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Outcome {
    /// It is refused.
    Refused,
    /// Reading or checking tells of the damage.
    Told,
    /// Nothing of the newest state was hit.
    Unaffected,
}

/// Opens and reads everything, and checks. Panics if anything that is delivered differs from the model.
fn outcome(device: Arc<dyn Device>, model: &Seen, what: &str) -> Outcome {
    let Ok(volume) = open(device, Access::ReadOnly) else { return Outcome::Refused };
    let mut told = false;
    match mount(volume.clone()) {
        Ok(fs) => {
            let seen = observe(&fs);
            assert_eq!(seen.lie(model), None, "{what}: wrong data was delivered");
            told |= !seen.errors.is_empty();
            told |= seen.facts.len() < model.facts.len();
            assert!(
                told || seen.facts.len() == model.facts.len(),
                "{what}: something is missing, and nobody was told"
            );
        }
        Err(_) => told = true,
    }
    told |= check::check(&volume, Depth::Data).map_or(true, |report| !report.is_clean());
    if told { Outcome::Told } else { Outcome::Unaffected }
}

/// Changes a damaged store as if nothing had happened: errors are fine, and so is success, but nothing may panic, and
/// what can be read of what was not changed stays right.
fn go_on(sim: &Sim, model: &Seen, what: &str) {
    let device = Arc::new(sim.clone_image());
    let Ok(volume) = open(device.clone(), Access::ReadWrite) else { return };
    let Ok(fs) = mount(volume) else { return };
    let done = || -> Result<()> {
        let dir = fs.lookup(&ADMIN, NodeId::ROOT, b"b")?.attr.node;
        let (entry, handle) = fs.create(&ADMIN, dir, b"new", 0o600, RW)?;
        fs.write(entry.attr.node, handle, 0, &[1; 10_000], false)?;
        fs.rmdir(&ADMIN, SNAPDIR, b"one")?;
        fs.unlink(&ADMIN, dir, b"hard")?;
        fs.commit()?;
        fs.commit()?;
        fs.unlink(&ADMIN, dir, b"new")?;
        fs.commit()
    };
    let changed = done().is_ok();
    let closed = fs.close().is_ok();
    drop(fs);
    if let Ok(fs) = open(device, Access::ReadOnly).and_then(mount) {
        let mut seen = observe(&fs);
        // Counts and times of what was changed are not those of the model.
        seen.facts.retain(|path, _| path.ends_with("content") || path.ends_with("target"));
        seen.facts.remove("live/b/new content");
        assert_eq!(
            seen.lie(model),
            None,
            "{what}: after changes ({changed}, {closed}) wrong data is delivered"
        );
    }
}

fn harm(sim: &Sim, harm: Harm, at: u64, len: u64, other: u64, rng: &mut fastrand::Rng) {
    match harm {
        Harm::Flip => sim.flip(at + rng.u64(..len), 1 << rng.u8(0..8)),
        Harm::Zero => sim.zero(at, len),
        Harm::Replace => {
            sim.write_at(at, &sim.peek(other, len)).unwrap();
            sim.flush().unwrap();
        }
        Harm::Unreadable => sim.make_unreadable(at, len),
    }
}

#[test]
fn every_metadata_block_and_some_data_blocks() {
    let sample = Sample::new();
    let mut rng = fastrand::Rng::with_seed(42);
    assert_eq!(outcome(Arc::new(sample.sim.clone_image()), &sample.seen, "sound"), Outcome::Unaffected);
    let mut places: Vec<(Vec<u64>, u64, bool)> =
        sample.metadata.iter().map(|p| (vec![p.addr.0, p.copy.0], u64::from(p.len), true)).collect();
    for _ in 0..60 {
        let (addr, len) = sample.data[rng.usize(..sample.data.len())];
        places.push((vec![addr + rng.u64(..len / 4096) * 4096], 4096, false));
    }
    let metadata = sample.metadata.len() as u64;
    let mut counts = [0; 2];
    for (n, (copies, len, is_metadata)) in places.iter().enumerate() {
        let other = places[(n + 1) % metadata as usize].0[0];
        for kind in HARMS {
            let what = format!("{kind:?} of {len} bytes at {copies:#x?}");
            let sim = sample.sim.clone_image();
            copies.iter().for_each(|at| harm(&sim, kind, *at, *len, other, &mut rng));
            if kind == Harm::Flip && *is_metadata {
                go_on(&sim, &sample.seen, &what);
            }
            let found = outcome(Arc::new(sim), &sample.seen, &what);
            counts[usize::from(found == Outcome::Refused)] += 1;
            assert_ne!(found, Outcome::Unaffected, "{what} went unseen");
        }
    }
    let [told, refused] = counts;
    println!("{metadata} metadata blocks, {} cases: {told} told, {refused} refused", told + refused);
    assert!(told + refused >= CASES_MIN, "only {} cases", told + refused);
}

#[test]
fn either_copy_of_metadata_is_enough() {
    let sample = Sample::new();
    let mut rng = fastrand::Rng::with_seed(44);
    let (mut cases, mut healed) = (0, 0);
    for (n, ptr) in sample.metadata.iter().enumerate() {
        let other = sample.metadata[(n + 1) % sample.metadata.len()].addr.0;
        for (kind, at) in HARMS.into_iter().flat_map(|kind| [(kind, ptr.addr.0), (kind, ptr.copy.0)]) {
            let what = format!("{kind:?} of one copy at {at:#x}");
            let sim = Arc::new(sample.sim.clone_image());
            harm(&sim, kind, at, u64::from(ptr.len), other, &mut rng);
            let fs = open(sim.clone(), Access::ReadOnly).and_then(mount).expect("the other copy serves");
            let seen = observe(&fs);
            assert!(seen.errors.is_empty() && seen.facts == sample.seen.facts, "{what}: {:?}", seen.errors);
            let report = check::check(fs.volume(), Depth::Metadata).expect("it can be read");
            assert!(!report.is_clean(), "{what}: the check must tell");
            drop(fs);
            let volume = open(sim.clone(), Access::ReadWrite).expect("the other copy serves");
            let fs = mount(volume).expect("the other copy serves");
            assert_eq!(observe(&fs).lie(&sample.seen), None, "{what}");
            // What nobody reads on the way stays as it is: lists of the dead, second copies.
            if fs.volume().damage().healed > 0 {
                assert_eq!(at, ptr.addr.0, "{what}: only what is read is healed");
                assert_eq!(sim.peek(at, 16384), sample.sim.peek(at, 16384), "{what}: with other bytes");
                healed += 1;
            }
            cases += 1;
        }
    }
    println!("{cases} cases, {healed} healed by reading");
    assert!(cases >= CASES_MIN && healed > cases / 4);
}

#[test]
fn superblock_slots() {
    let sample = Sample::new();
    let mut rng = fastrand::Rng::with_seed(43);
    let slots = sample.slots();
    let mut unaffected = 0;
    for at in &slots {
        let other = slots[rng.usize(..slots.len())];
        for kind in [Harm::Flip, Harm::Zero, Harm::Replace] {
            let what = format!("{kind:?} of the slot at {at:#x}");
            let sim = sample.sim.clone_image();
            harm(&sim, kind, *at, SLOT_BYTES as u64, other, &mut rng);
            // The other ring has a copy of each.
            assert_eq!(outcome(Arc::new(sim), &sample.seen, &what), Outcome::Unaffected, "{what}");
            unaffected += 1;
        }
    }
    println!("{} slots, {unaffected} cases, all served by the other ring", slots.len());
    for ring in [0, snapfs::device::RESERVED_BYTES / 2] {
        let sim = sample.sim.clone_image();
        sim.make_unreadable(ring, 4096);
        let found = outcome(Arc::new(sim), &sample.seen, "unreadable ring");
        assert_eq!(found, Outcome::Unaffected);
    }
    let sim = sample.sim.clone_image();
    slots.iter().for_each(|at| sim.zero(*at, SLOT_BYTES as u64));
    assert_eq!(outcome(Arc::new(sim), &sample.seen, "no slot"), Outcome::Refused);
}

#[test]
fn losing_the_newest_superblock_loses_nothing() {
    let sample = Sample::new();
    let newest = |at: &u64| {
        let slot = sample.sim.peek(*at, SLOT_BYTES as u64);
        snapfs::format::superblock::Superblock::decode(&slot).map_or(0, |sb| sb.seq)
    };
    let slots = sample.slots();
    let seq = slots.iter().map(newest).max().unwrap();
    let sim = sample.sim.clone_image();
    for at in slots.iter().filter(|at| newest(at) == seq) {
        sim.flip(*at + 100, 1);
    }
    // The state before is whole: its blocks are not reused before the next but one commit. The log has what came later.
    let found = outcome(Arc::new(sim), &sample.seen, "newest superblock lost");
    assert_ne!(found, Outcome::Refused);
}

/// Ends early.
struct CutOff(u64);

impl Hooks for CutOff {
    fn size(&self, _bytes: u64) -> u64 {
        self.0
    }
}

#[test]
fn a_store_that_was_cut_off() {
    let sample = Sample::new();
    let size = sample.sim.size();
    let last = sample.metadata.iter().map(|p| p.addr.0).chain(sample.data.iter().map(|d| d.0)).max().unwrap();
    for cut in 1..60 {
        let from = last / 60 * cut / 4096 * 4096;
        let what = format!("cut off at {from:#x}");
        let short = Hooked::over(sample.sim.clone_image(), CutOff(from.max(4096)));
        assert_eq!(outcome(Arc::new(short), &sample.seen, &what), Outcome::Refused, "{what}");
        // A segment file that was cut reads as zeros.
        let zeros = sample.sim.clone_image();
        zeros.zero(from, size - from);
        assert_ne!(outcome(Arc::new(zeros), &sample.seen, &what), Outcome::Unaffected, "{what}");
    }
}
