//! Each kind of damage to each kind of structure before each operation.
//!
//! Nothing panics, and whatever is delivered then or later is what was written. For what the operation itself changes the
//! state before and after it are both right; for a log that is cut off by damage, any state in between, and then it must
//! be told.

use snapfs::check::{self, Depth};
use snapfs::device::{Device, Sim};
use snapfs::format::superblock::SLOT_BYTES;
use snapfs::fs::Fs;
use snapfs::ops::*;
use snapfs::repair::{self, Mode};
use snapfs::volume::Access;
use std::sync::Arc;

use crate::fixtures::{ADMIN, RW, SNAPDIR};
use crate::observe::{Seen, observe};
use crate::resealed::Image;
use crate::sample::{Sample, mount, open};

/// A kind of damage.
#[derive(Clone, Copy, Debug)]
enum Harm {
    Flip,
    Zero,
    Garbage,
    /// What another structure has there.
    Swapped,
    /// Half of it is what was there before it was written.
    Torn,
    Unreadable,
    /// Reads return an earlier state.
    Stale,
}

const HARMS: [Harm; 7] =
    [Harm::Flip, Harm::Zero, Harm::Garbage, Harm::Swapped, Harm::Torn, Harm::Unreadable, Harm::Stale];

/// A structure: its name, where each of its copies is, their length.
struct Structure {
    name: &'static str,
    copies: Vec<u64>,
    len: u64,
}

fn structures(sample: &Sample) -> Vec<Structure> {
    let image = Image::new(sample);
    let slots = sample.slots();
    let seq_slot = |n: usize| slots[n % slots.len()];
    // Nodes and blocks tell their kind in byte 12 of their header.
    let kinds = |wanted: u8| {
        let of_kind = |addr: &&u64| image.blocks[*addr][12] == wanted;
        image.blocks.keys().filter(of_kind).copied().collect::<Vec<_>>()
    };
    let copy = |addr: u64| sample.metadata.iter().find(|p| p.addr.0 == addr).expect("a block").copy.0;
    let whole = |name, addr: u64| {
        let len = image.blocks[&addr].len() as u64;
        Structure { name, copies: vec![addr, copy(addr)], len }
    };
    let mut all = vec![
        Structure { name: "one superblock", copies: vec![seq_slot(0)], len: SLOT_BYTES as u64 },
        Structure { name: "every superblock", copies: slots.clone(), len: SLOT_BYTES as u64 },
        whole("root of the meta tree", image.superblock.meta_root.addr.0),
        whole("head of the space map", image.superblock.space_map.expect("a space map").addr.0),
    ];
    for (name, kind) in [("a leaf", 1), ("an inner node", 2)] {
        let found = kinds(kind);
        if let Some(addr) = found.get(found.len() / 2) {
            all.push(whole(name, *addr));
        }
    }
    let node = sample.metadata[sample.metadata.len() / 3];
    all.push(Structure { name: "one copy of a node", copies: vec![node.addr.0], len: u64::from(node.len) });
    let records = &image.records;
    for (name, n) in [("the first record of the log", 0), ("a record of the log", records.len() / 2)] {
        let (at, header, _) = &records[n];
        all.push(Structure { name, copies: vec![*at], len: u64::from(header.len) });
    }
    for (name, n) in [("content", sample.data.len() / 2), ("other content", sample.data.len() / 5)] {
        all.push(Structure { name, copies: vec![sample.data[n].0], len: 4096 });
    }
    all
}

/// Does it to every copy.
fn harm(sim: &Sim, older: &Sim, kind: Harm, structure: &Structure, other: u64) {
    for at in &structure.copies {
        let (at, len) = (*at, structure.len);
        match kind {
            Harm::Flip => sim.flip(at + len / 2, 4),
            Harm::Zero => sim.zero(at, len),
            Harm::Garbage => sim.corrupt(at, len, at),
            Harm::Swapped => overwrite(sim, at, &sim.peek(other, len)),
            Harm::Torn => overwrite(sim, at + len / 2, &vec![0xA5; (len - len / 2) as usize]),
            Harm::Unreadable => sim.make_unreadable(at, len),
            Harm::Stale => overwrite(sim, at, &older.peek(at, len)),
        }
    }
}

fn overwrite(sim: &Sim, at: u64, bytes: &[u8]) {
    sim.write_at(at, bytes).unwrap();
    sim.flush().unwrap();
}

/// An operation on a store that is damaged. Errors are all right.
type Operation = (&'static str, fn(&Arc<Sim>));

const OPERATIONS: [Operation; 9] = [
    ("nothing", |_| {}),
    ("check", |sim| {
        if let Ok(volume) = open(sim.clone(), Access::ReadOnly) {
            let _report = check::check(&volume, Depth::Data);
        }
    }),
    ("overwriting", |sim| {
        with(sim, |fs| {
            let b = fs.lookup(&ADMIN, NodeId::ROOT, b"b")?.attr.node;
            let file = fs.lookup(&ADMIN, b, b"logged3")?.attr.node;
            let handle = fs.open(&ADMIN, file, RW)?;
            fs.write(file, handle, 100, &fs_bytes(), false)?;
            fs.fsync(file, handle, SyncScope::All)
        })
    }),
    ("deleting files", |sim| {
        with(sim, |fs| {
            let b = fs.lookup(&ADMIN, NodeId::ROOT, b"b")?.attr.node;
            for n in 10..20 {
                fs.unlink(&ADMIN, b, format!("later{n}").as_bytes())?;
            }
            fs.commit()
        })
    }),
    ("making a snapshot", |sim| with(sim, |fs| fs.mkdir(&ADMIN, SNAPDIR, b"new", 0).map(drop))),
    ("deleting a snapshot", |sim| {
        with(sim, |fs| {
            fs.rmdir(&ADMIN, SNAPDIR, b"one")?;
            (0..4).try_for_each(|_| fs.tick())
        })
    }),
    ("a commit and a crash", |sim| {
        if let Ok(fs) = open(sim.clone(), Access::ReadWrite).and_then(mount) {
            let _done = fs.mkdir(&ADMIN, NodeId::ROOT, b"dir", 0o700).and_then(|_| fs.commit());
        }
    }),
    ("repair", |sim| {
        let _repaired = repair::run(sim.clone(), Mode::Write, Depth::Metadata);
    }),
    ("mounting twice", |sim| {
        with(sim, |_| Ok(()));
        with(sim, |fs| fs.commit());
    }),
];

fn fs_bytes() -> Vec<u8> {
    vec![0x77; 5000]
}

fn with(sim: &Arc<Sim>, work: impl FnOnce(&Fs) -> Result<()>) {
    let Ok(fs) = open(sim.clone(), Access::ReadWrite).and_then(mount) else { return };
    let _done = (work(&fs), fs.close());
}

/// Content and targets of links, under paths that no operation changes: times, sizes of directories and lists do change.
fn lasting(seen: &mut Seen) {
    seen.facts.retain(|path, _| {
        let lasts = path.ends_with(" content") || path.ends_with(" target");
        lasts && !path.starts_with("@new/") && !path.contains("logged3 ")
    });
}

#[test]
fn every_harm_to_every_structure_before_every_operation() {
    let (before, sample) = (Sample::new(), Sample::with_log());
    let mut model = Seen { facts: sample.seen.facts.clone(), errors: Vec::new() };
    // A log that cannot be replayed leaves an earlier state: what it had is right as well.
    let mut earlier = Seen { facts: before.seen.facts.clone(), errors: Vec::new() };
    lasting(&mut model);
    lasting(&mut earlier);
    let structures = structures(&sample);
    let (mut cases, mut told, mut refused) = (0, 0, 0);
    for (n, structure) in structures.iter().enumerate() {
        let other = structures[(n + 1) % structures.len()].copies[0];
        for kind in HARMS {
            for (operation, act) in OPERATIONS {
                let what = format!("{kind:?} of {}, then {operation}", structure.name);
                let sim = Arc::new(sample.sim.clone_image());
                harm(&sim, &before.sim, kind, structure, other);
                // What was there before may be what is there.
                let len = structure.len;
                let differs = |at: &u64| sim.peek(*at, len) != sample.sim.peek(*at, len);
                let harmed = matches!(kind, Harm::Unreadable) || structure.copies.iter().any(differs);
                act(&sim);
                cases += 1;
                let Ok(fs) = open(sim.clone(), Access::ReadOnly).and_then(mount) else {
                    refused += 1;
                    continue;
                };
                let mut seen = observe(&fs);
                let complains = !seen.errors.is_empty()
                    || fs.recovered().damage.is_some()
                    || check::check(fs.volume(), Depth::Data).map_or(true, |report| !report.is_clean());
                told += usize::from(complains);
                let harmless = structure.name.starts_with("one ") || !harmed;
                assert!(complains || harmless || operation != "nothing", "{what} goes unseen");
                lasting(&mut seen);
                let wrong = seen.facts.iter().find(|(path, value)| {
                    let is = |of: &Seen| of.facts.get(*path) == Some(*value);
                    // A log that ends in the middle may have made a file and not filled it.
                    let half = structure.name.contains("log") && path.contains("logged") && value.is_empty();
                    !is(&model) && !is(&earlier) && !half
                });
                assert!(wrong.is_none(), "{what}: wrong data is delivered at {:?}", wrong.map(|w| w.0));
            }
        }
    }
    println!(
        "{} structures x {} harms x {} operations: {cases} cases, {told} told, {refused} refused",
        structures.len(),
        HARMS.len(),
        OPERATIONS.len()
    );
    assert!(cases >= 500 && told + refused > cases / 3, "{cases} cases, {told} told, {refused} refused");
    assert!(structures.iter().all(|s| s.copies.iter().all(|at| *at < sample.sim.size())));
}
