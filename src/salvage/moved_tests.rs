//! Stores with files that are written over in place under snapshots: the content of each comes out from where it is now.

use super::tests::*;
use super::{Outcome, Wanted};
use crate::device::Sim;
use crate::fixtures::{
    ADMIN, blocks_below, bytes, live_root, mkdir, mount, new_store, open, overwrite, put, snapshot, zero,
};
use crate::format::view::Role;
use crate::format::{BLOCK_BYTES, BlockPtr};
use crate::ops::{NodeId, Operations, XattrMode};
use crate::volume::Access;
use crate::volume::audit::Committed;
use std::sync::Arc;

const SIZE: u64 = 64 << 20;
const BLOCKS: u64 = 600;
const IMAGE: &[u8] = b"dir/image";
const PAST: [&str; 3] = ["s0", "s1", "s2"];

/// A store in which content of snapshots was copied out, and content of the file is at home, but for the last that was written.
struct Moved {
    sim: Arc<Sim>,
    /// What the live tree holds, and what each of the snapshots.
    live: Tree,
    past: Vec<Tree>,
    /// Number of the file.
    ino: u64,
}

impl Moved {
    fn new() -> Moved {
        let sim = new_store(SIZE);
        let fs = mount(sim.clone());
        fs.setxattr(&ADMIN, NodeId::ROOT, b"user.snapfs.layout", b"cow", XattrMode::Set).unwrap();
        let dir = mkdir(&fs, NodeId::ROOT, "dir");
        let image = put(&fs, dir, "image", &bytes(1, (BLOCKS * BLOCK_BYTES) as usize));
        put(&fs, dir, "other", &bytes(2, 70_000));
        fs.commit().unwrap();
        let write = |seed: u64, block: u64| {
            overwrite(&fs, image, block * BLOCK_BYTES, &bytes(seed + block, BLOCK_BYTES as usize));
        };
        for (n, name) in (2..).zip(PAST) {
            snapshot(&fs, name);
            (0..BLOCKS).step_by(n).for_each(|block| write(10_000 * n as u64, block));
            fs.commit().unwrap();
            while fs.bring_content_home(8 << 20).unwrap().more {}
        }
        (0..BLOCKS).step_by(7).for_each(|block| write(90_000, block));
        fs.close().unwrap();
        let live = tree_of(&fs, NodeId::ROOT);
        let past = PAST.map(|name| {
            let snapshots = fs.lookup(&ADMIN, NodeId::ROOT, b".snapshots").unwrap().attr.node;
            tree_of(&fs, fs.lookup(&ADMIN, snapshots, name.as_bytes()).unwrap().attr.node)
        });
        let moved = Moved { sim, live, past: past.into(), ino: image.ino() };
        let state = moved.state();
        let away = blocks_below(&state, &live_root(&state)).extents;
        let away = away.iter().filter(|(_, extent)| extent.is_away()).count();
        assert!(state.remap.len() > 300 && away > 50, "{} records, {away} away", state.remap.len());
        moved
    }

    fn device(&self) -> Arc<Sim> {
        Arc::new(self.sim.clone_image())
    }

    fn state(&self) -> Committed {
        open(self.device(), Access::ReadOnly).unwrap().committed().unwrap()
    }

    /// The live tree and each snapshot: how it is asked for, what it holds, and its root.
    fn views(&self, state: &Committed) -> Vec<(Wanted, &Tree, BlockPtr)> {
        let root = |name: &str| {
            let found =
                |r: &&crate::format::view::ViewRecord| r.role != Role::Hidden && r.name == name.as_bytes();
            state.records.iter().find(found).and_then(|r| r.root).unwrap()
        };
        let past = PAST.iter().zip(&self.past).map(|(name, tree)| (named(name.as_bytes()), tree, root(name)));
        std::iter::once((Wanted::default(), &self.live, live_root(state))).chain(past).collect()
    }
}

#[test]
fn content_that_has_moved_comes_out_from_where_it_is() {
    let moved = Moved::new();
    let state = moved.state();
    let half_a_meta_tree = |sim: &Sim| {
        for (n, (ptr, _)) in blocks_below(&state, &state.superblock.meta_root).nodes.iter().enumerate() {
            let places: Vec<(u64, u64)> = ptr.ranges().collect();
            let (at, len) = places[n % places.len()];
            sim.zero(at, len);
        }
    };
    type Harm<'a> = &'a dyn Fn(&Sim);
    let harms: [(&str, Harm<'_>, bool); 4] = [
        ("sound", &|_| {}, false),
        ("sound, by scan", &|_| {}, true),
        ("one copy of each node of the meta tree", &half_a_meta_tree, false),
        ("without superblocks", &|sim| zero_superblocks(sim), false),
    ];
    for (what, harm, by_scan) in harms {
        let device = moved.device();
        harm(&device);
        for (wanted, expected, _) in moved.views(&state) {
            let what = format!("{what}, {:?}", wanted.snapshot.as_ref().map(|s| String::from_utf8_lossy(s)));
            is_all(&salvage(&device, &Wanted { by_scan, ..wanted }), expected, &what);
        }
    }
}

/// Ranges of the file that no place has any more where a tree says that it is.
fn lost(state: &Committed, device: &Sim, root: &BlockPtr, ino: u64) -> Vec<(u64, u64)> {
    let mut lost: Vec<(u64, u64)> = Vec::new();
    for (key, extent) in blocks_below(state, root).extents.iter().filter(|(key, _)| key.object == ino) {
        for at in (0..extent.len_bytes()).step_by(BLOCK_BYTES as usize) {
            let block = extent.slice(at, BLOCK_BYTES);
            let is_at = |addr| crc32c::crc32c(&device.peek(addr, BLOCK_BYTES)) == block.crcs[0];
            if is_at(state.remap.resolve(&block)[0].addr()) || is_at(block.raw_addr.0) {
                continue;
            }
            match lost.last_mut() {
                Some((from, len)) if *from + *len == key.rest + at => *len += BLOCK_BYTES,
                _ => lost.push((key.rest + at, BLOCK_BYTES)),
            }
        }
    }
    lost
}

/// What has made room is lost to its snapshots alone, and what came into its old place to those who have that.
#[test]
fn what_is_bad_at_a_place_is_lost_to_whose_content_is_there_now() {
    let moved = Moved::new();
    let state = moved.state();
    let mut rng = fastrand::Rng::with_seed(5);
    let records: Vec<_> = state.remap.iter().collect();
    let mut of = [0, 0];
    for round in 0..16 {
        let record = &records[rng.usize(..records.len())];
        let inside = rng.u64(..record.len / BLOCK_BYTES) * BLOCK_BYTES;
        let place = if round % 2 == 0 { record.new } else { record.old };
        let device = moved.device();
        device.corrupt(place.0 + inside, BLOCK_BYTES, round);
        for (n, (wanted, expected, root)) in moved.views(&state).into_iter().enumerate() {
            let lost = lost(&state, &device, &root, moved.ino);
            let (_, tree, heard) = salvage(&device, &wanted);
            let told = heard.state(IMAGE).unwrap();
            let outcome = if lost.is_empty() { Outcome::Whole } else { Outcome::Damaged };
            assert_eq!((told.state, &told.content.lost), (outcome, &lost), "{record:?}, view {n}");
            let mut content = expected[IMAGE].content.clone();
            for (at, len) in &lost {
                content[*at as usize..(at + len) as usize].fill(0);
            }
            assert!(tree[IMAGE].content == content, "{record:?}, view {n}");
            of[usize::from(n > 0)] += lost.len();
            assert!(
                n > 0 || round % 2 == 1 || lost.is_empty(),
                "{record:?}: the live tree has nothing there"
            );
        }
    }
    assert!(of[0] > 0 && of[1] > of[0], "the live tree lost {} and snapshots {}", of[0], of[1]);
}

/// Nothing tells any more where content has moved to: what lies there now is not taken for it.
#[test]
fn without_the_records_nothing_comes_out_that_was_not_in() {
    let moved = Moved::new();
    let state = moved.state();
    let device = moved.device();
    zero_superblocks(&device);
    for (ptr, _) in blocks_below(&state, &state.superblock.meta_root).nodes {
        zero(&device, &ptr);
    }
    is_all(&salvage(&device, &by_scan()), &moved.live, "what is live has not moved");
    let mut holes = 0;
    for (wanted, expected, _) in moved.views(&state).into_iter().skip(1) {
        for by_scan in [false, true] {
            // An older meta tree may not know of the snapshot at all.
            let Ok((_, tree, heard)) = try_salvage(&device, &Wanted { by_scan, ..wanted.clone() }) else {
                continue;
            };
            let Some(found) = tree.get(IMAGE) else { continue };
            let blocks = |content: &[u8]| content.chunks(BLOCK_BYTES as usize).map(<[u8]>::to_vec).collect();
            let (found, expected): (Vec<_>, Vec<_>) =
                (blocks(&found.content), blocks(&expected[IMAGE].content));
            let is_hole = |block: &[u8]| block.iter().all(|byte| *byte == 0);
            let lost = found.iter().filter(|block| is_hole(block)).count();
            let other = found.iter().zip(&expected).position(|(a, b)| a != b && !is_hole(a));
            assert_eq!((other, found.len()), (None, expected.len()), "{wanted:?}, by scan {by_scan}");
            let told = heard.state(IMAGE).unwrap();
            assert!(lost == 0 || told.state == Outcome::Damaged, "{wanted:?}: {told:?}");
            holes += lost;
        }
    }
    println!("{holes} blocks are lost");
}
