//! Superblocks and records of views that contradict each other, with all checksums right: opening tells it, and so does
//! the audit; what can be put right without a guess is, and no file is lost.

use snapfs::check::{self, Depth};
use snapfs::device::Sim;
use snapfs::format::superblock::{PendingPoint, Superblock};
use snapfs::format::view::Consistency;
use snapfs::format::{Epoch, Generation, Ino, LineId, Slot, ViewId};
use snapfs::ops::{NodeId, Operations};
use snapfs::volume::Access;
use std::sync::Arc;

use crate::fixtures::{RW, USER};
use crate::observe::observe;
use crate::resealed::Image;
use crate::sample::{Sample, mount, open};

/// How many snapshots there are; or what opening says, and the audit, which both refuse.
fn snapshots(device: &Arc<Sim>) -> Result<usize, String> {
    let opened = open(Arc::new(device.clone_image()), Access::ReadWrite).and_then(mount);
    let audited = open(Arc::new(device.clone_image()), Access::ReadOnly)
        .and_then(|volume| check::check(&volume, Depth::Metadata).map_err(|e| e.to_string()));
    match (opened, audited) {
        (Err(why), Err(again)) => {
            assert_eq!(why, again);
            Err(why)
        }
        (Ok(fs), Ok(report)) => {
            assert!(report.is_clean(), "{:?}", report.problems);
            Ok(fs.volume().snapshot_count(LineId::MAIN))
        }
        (opened, audited) => panic!("{:?}, but {:?}", opened.map(drop), audited.map(|r| r.problems)),
    }
}

/// A snapshot that only the superblock tells of, as a commit without anything else to say makes one.
fn pending(image: &mut Image) -> PendingPoint {
    let sb = &mut image.superblock;
    let point = PendingPoint {
        provenance: snapfs::format::provenance::Provenance::default(),
        id: sb.next_view,
        line: LineId::MAIN,
        slot: Slot(4000),
        generation: sb.next_generation,
        epoch: sb.epoch,
        created: (5, 6),
        pause_ns: 7,
        consistency: Consistency::Crash,
        name: b"crafted".to_vec(),
        identity: None,
    };
    (sb.next_view, sb.next_generation) = (ViewId(point.id.0 + 1), Generation(point.generation.0 + 1));
    point
}

#[test]
fn pending_snapshots_that_contradict_the_state() {
    let sound = Image::new(&Sample::new());
    let crafted = |points: &dyn Fn(&Superblock, PendingPoint) -> Vec<PendingPoint>| {
        let mut image = sound.copy();
        let good = pending(&mut image);
        image.superblock.pending = points(&image.superblock, good);
        snapshots(&image.device())
    };
    let before = snapshots(&sound.device()).unwrap();
    assert_eq!(crafted(&|_, good| vec![good]), Ok(before + 1));
    // With what cannot be read at all the slot is none, and the state before it is the newest.
    let is_refused = |said: Result<usize, String>| said.map_or_else(|why| !why.is_empty(), |n| n == before);
    type Wrong = (&'static str, fn(&Superblock, &mut PendingPoint));
    let wrong: [Wrong; 14] = [
        ("number 0", |_, p| p.id = ViewId(0)),
        ("the head's number", |_, p| p.id = ViewId(1)),
        ("a number that was not given out", |sb, p| p.id = sb.next_view),
        ("epoch 0", |_, p| p.epoch = Epoch(0)),
        ("an old epoch", |_, p| p.epoch = Epoch(2)),
        ("an epoch that is not closed", |sb, p| p.epoch = Epoch(sb.epoch.0 + 1)),
        ("no name", |_, p| p.name.clear()),
        ("a long name", |_, p| p.name = vec![b'n'; 256]),
        ("the name of another", |_, p| p.name = b"one".to_vec()),
        ("no line", |_, p| p.line = LineId::NONE),
        ("a line that there is not", |_, p| p.line = LineId(77)),
        ("the main line's slot", |_, p| p.slot = Slot::MAIN),
        ("a slot that cannot be", |_, p| p.slot = Slot(u32::MAX)),
        ("a generation that was not given out", |sb, p| p.generation = sb.next_generation),
    ];
    for (what, spoil) in wrong {
        let spoilt = crafted(&|sb, mut point| {
            spoil(sb, &mut point);
            vec![point]
        });
        assert!(is_refused(spoilt), "{what} is accepted");
    }
    let twice = crafted(&|_, good| vec![good.clone(), good]);
    assert!(is_refused(twice), "two of one number are accepted");
}

#[test]
fn two_snapshots_of_one_name() {
    let sound = Image::new(&Sample::with_pair());
    let renamed = |name: &[u8; 5]| {
        let mut image = sound.copy();
        let (root, mut records) = (image.superblock.meta_root.addr.0, 0);
        let meta = image.blocks.get_mut(&root).expect("a block");
        for at in 0..meta.len() - 5 {
            if meta[at..at + 5] == *b"pair2" {
                meta[at..at + 5].copy_from_slice(name);
                records += 1;
            }
        }
        assert_eq!(records, 1, "its record is in the root");
        image.reseal(root);
        snapshots(&image.device())
    };
    assert_eq!(renamed(b"pair3"), snapshots(&sound.device()));
    assert!(renamed(b"pair1").is_err_and(|why| why.contains("has the name of another")));
}

/// A number that is given out twice would make one file of two.
#[test]
fn a_next_inode_number_that_is_too_low() {
    let sample = Sample::new();
    let sound = Image::new(&sample);
    let next = sound.superblock.next_ino.0;
    for low in [Ino::FIRST_FREE.0, Ino::FIRST_FREE.0 + 1, next / 2, next - 1] {
        let mut image = sound.copy();
        image.superblock.next_ino = Ino(low);
        let device = image.device();
        let audit = || {
            let volume = open(Arc::new(device.clone_image()), Access::ReadOnly).unwrap();
            check::check(&volume, Depth::Metadata).unwrap().problems
        };
        let told = audit();
        assert!(told.iter().any(|p| p.contains(&format!("the next number is {low}"))), "{low}: {told:?}");
        let fs = mount(open(device.clone(), Access::ReadWrite).unwrap()).unwrap();
        for n in 0..5 {
            let (entry, handle) =
                fs.create(&USER, NodeId::ROOT, format!("new{n}").as_bytes(), 0o600, RW).unwrap();
            assert!(entry.attr.node.ino() >= next, "inode {} is given out again", entry.attr.node.ino());
            fs.release(entry.attr.node, handle);
            fs.unlink(&USER, NodeId::ROOT, format!("new{n}").as_bytes()).unwrap();
            fs.forget(entry.attr.node);
        }
        fs.close().unwrap();
        assert!(observe(&fs).lie(&sample.seen).is_none());
        assert_eq!(audit(), [] as [String; 0], "{low}");
    }
    for high in [Ino::END.0 + 1, u64::MAX] {
        let mut image = sound.copy();
        image.superblock.next_ino = Ino(high);
        // No superblock says that: an older state is the newest.
        let fs = mount(open(image.device(), Access::ReadWrite).unwrap()).unwrap();
        let (entry, _) = fs.create(&USER, NodeId::ROOT, b"new", 0o600, RW).unwrap();
        assert!((Ino::FIRST_FREE.0..Ino::END.0).contains(&entry.attr.node.ino()), "{high}");
    }
}
