//! Deletions, sweeps and background work that rewrite more of the meta tree than there is room for: on a full store they wait,
//! no commit fails, and everything comes back in the end.

use super::*;
use crate::check::{Depth, check_space};
use crate::device::Memory;
use crate::format::provenance::Provenance;
use crate::format::view::{Consistency, Role};
use crate::format::{BLOCK_BYTES, Extent, Key, Kind, LineId, ViewId};
use std::ops::Range;
use std::sync::Arc;

const MAIN: LineId = LineId::MAIN;
/// Far less than such a store keeps: its dead lists are to it what those of a store of terabytes are to what that keeps.
const RESERVE: u64 = 5 << 20;
const FILLER: u64 = 1 << 32;
const BLOCKS: u64 = 1000;

struct Small {
    device: Arc<Memory>,
    volume: Arc<Volume>,
}

impl Small {
    fn new() -> Small {
        let device = Arc::new(Memory::new(2 << 30));
        drop(Volume::made_on(device.clone()));
        Small::on(device)
    }

    fn on(device: Arc<Memory>) -> Small {
        let options = OpenOptions { access: Access::ReadWrite, cache_bytes: 4 << 20 };
        let mut volume = Volume::open(device.clone(), options).unwrap();
        Arc::get_mut(&mut volume).unwrap().reserve_bytes = RESERVE;
        assert_eq!(volume.recover(&mut NothingAbove).damage, None);
        Small { device, volume }
    }

    fn again(self) -> Small {
        drop(self.volume);
        Small::on(self.device)
    }

    /// No commit writes more than what was known before to be needed, and what is reserved, or free beyond that.
    fn commit(&self) {
        let volume = &self.volume;
        let (required, room) = {
            let state = volume.state.read();
            (volume.required_bytes(&state), volume.room_beyond_required(&state, 0).max(RESERVE))
        };
        let before = volume.io().written_bytes;
        volume.commit(&mut |_| Ok(())).expect("a commit always has its space");
        let written = volume.io().written_bytes - before;
        assert!(written <= required + room, "{written} bytes written of {required} and {room}");
        assert_eq!(volume.read_only_reason(), None);
    }

    /// Commits until nothing is left to do; how many there were.
    fn settle(&self) -> usize {
        let mut commits = 0;
        while self.volume.needs_commit() || self.volume.has_background_work() {
            self.commit();
            commits += 1;
            assert!(commits < 500, "nothing is tried again and again");
        }
        // What the last ones freed comes back.
        (0..3).for_each(|_| self.commit());
        commits
    }

    fn snapshot(&self, name: &str) -> ViewId {
        let new = NewSnapshot {
            name: name.as_bytes(),
            created: (1, 2),
            consistency: Consistency::FileSystem,
            provenance: &Provenance::default(),
            pause_ns: &|| 1,
            identity: None,
        };
        self.volume.create_snapshot(MAIN, &new, &mut |_| Ok(())).unwrap().0
    }

    fn clone_of(&self, snapshot: ViewId) -> LineId {
        self.volume.create_line(b"clone", snapshot, (0, 0), &Provenance::default()).unwrap().id
    }

    /// Content that is never written, each block a reference of its own.
    fn write(&self, objects: Range<u64>) {
        let count = objects.end - objects.start;
        let whole = self.volume.stage_unwritten(count * BLOCK_BYTES).unwrap();
        let mut txn = self.volume.begin(MAIN).unwrap();
        txn.reserve(Need { items: count as u32, ..Need::default() }, ReserveFor::Write).unwrap();
        let whole = txn.publish(whole);
        let mut blocks = whole.iter().flat_map(|extent| {
            (0..extent.len_bytes() / BLOCK_BYTES).map(|n| extent.slice(n * BLOCK_BYTES, BLOCK_BYTES))
        });
        for object in objects {
            txn.insert(key(object), &blocks.next().unwrap().encode()).unwrap();
        }
    }

    /// Lets go of every `step`th of them.
    fn free(&self, line: LineId, objects: Range<u64>, step: usize) {
        let objects: Vec<u64> = objects.step_by(step).collect();
        for some in objects.chunks(BLOCKS as usize) {
            let mut txn = self.volume.begin(line).unwrap();
            // They lie side by side.
            txn.reserve(Need { items: 16, ..Need::default() }, ReserveFor::Delete).unwrap();
            for object in some {
                let old = Extent::decode(&txn.view().get(&key(*object)).unwrap().unwrap()).unwrap();
                txn.free(&old);
                txn.remove(&key(*object)).unwrap();
            }
            drop(txn);
            self.commit();
        }
    }

    /// Until nobody gets anything any more.
    fn fill(&self, from: u64) {
        let mut object = from;
        let mut len = 8 << 20;
        while len >= BLOCK_BYTES {
            match self.volume.stage_unwritten(len) {
                Err(_) => len /= 2,
                Ok(staged) => {
                    let mut txn = self.volume.begin(MAIN).unwrap();
                    let items = (len >> 17) as u32 + 2;
                    if txn.reserve(Need { items, ..Need::default() }, ReserveFor::Write).is_err() {
                        len /= 2;
                        continue;
                    }
                    for extent in txn.publish(staged) {
                        txn.insert(key(object), &extent.encode()).unwrap();
                        object += 1;
                    }
                }
            }
        }
    }

    fn fill_up(&self) {
        self.settle();
        self.fill(FILLER);
        self.settle();
        self.fill(2 * FILLER);
        self.settle();
    }

    fn views(&self) -> usize {
        self.volume.state.read().history.views().count()
    }

    fn delete(&self, ids: &[ViewId]) {
        ids.iter().for_each(|id| self.volume.delete_snapshot(MAIN, *id).unwrap());
    }

    fn is_right(&self) {
        let report = check_space(&self.volume, Depth::Metadata).unwrap();
        assert!(report.is_clean(), "{:#?}", report.problems);
    }
}

fn key(object: u64) -> Key {
    Key::new(1000 + object, Kind::Extent, 0)
}

#[test]
fn deletions_on_a_full_store_rewrite_no_more_of_the_dead_lists_than_there_is_room_for() {
    const SNAPSHOTS: u64 = 24;
    const EACH: u64 = 6000;
    let small = Small::new();
    for n in 0..SNAPSHOTS {
        small.write(n * EACH..(n + 1) * EACH);
        small.commit();
    }
    let all = small.views();
    small.snapshot("first");
    let mut ids = Vec::new();
    for n in 0..SNAPSHOTS {
        // Content of its own, and what the next one has no more of the first.
        let own = 1_000_000 + n * 512;
        small.write(own..own + 512);
        ids.push(small.snapshot(&format!("{n}")));
        small.free(MAIN, n * EACH..(n + 1) * EACH, 1);
        small.free(MAIN, own..own + 512, 1);
    }
    small.fill_up();
    let before = small.volume.space().used;
    small.delete(&ids);
    let mut small = small;
    let mut commits = 0;
    while small.views() > all + 1 {
        small.commit();
        commits += 1;
        if commits == 2 {
            assert!(small.views() > all + 4, "they go bit by bit");
            small = small.again();
        }
        let goes_on = small.volume.needs_commit() || small.volume.has_background_work();
        assert!(goes_on || small.views() == all + 1, "{commits}");
        assert!(commits < 100);
    }
    small.settle();
    let after = small.volume.space().used;
    let own = SNAPSHOTS * 512 * BLOCK_BYTES;
    assert!(after + own <= before, "{own} bytes of {before} come back, {after} are left");
    small.is_right();
}

#[test]
fn a_deletion_that_is_too_large_for_a_full_store_waits_for_room_and_stops_no_other() {
    const EACH: u64 = 90_000;
    let small = Small::new();
    small.write(0..EACH);
    small.commit();
    small.write(EACH..2 * EACH);
    small.commit();
    small.snapshot("first");
    let below = small.snapshot("below");
    small.free(MAIN, 0..EACH, 1);
    small.commit();
    let next = small.snapshot("next");
    small.free(MAIN, EACH..2 * EACH, 1);
    small.write(1_000_000..1_001_000);
    let little = small.snapshot("little");
    small.free(MAIN, 1_000_000..1_001_000, 1);
    small.commit();
    small.fill_up();
    let all = small.views();
    let before = small.volume.space().used;
    small.delete(&[next, little]);
    small.settle();
    assert_eq!(small.views(), all - 1, "one waits for room, and nothing is tried in vain");
    let left = small.volume.leftover().unwrap();
    assert_eq!((left.views, left.without_room, left.bytes), (1, 1, 0), "nobody is told that it comes back");
    small.volume.planner().expect("a plan leaves it alone");
    assert!(small.volume.space().used + (3 << 20) < before, "the other has given its space back");
    small.is_right();
    // The next mount, of the same full store, finds it as it is.
    let small = small.again();
    small.settle();
    assert_eq!((small.views(), small.volume.leftover().unwrap().views), (all - 1, 1));
    small.free(MAIN, FILLER..FILLER + 512, 1);
    small.settle();
    assert_eq!((small.views(), small.volume.leftover().unwrap().views), (all - 2, 0));
    small.is_right();
    assert!(small.volume.find_snapshot(MAIN, b"below").is_some_and(|info| info.id == below));
}

#[test]
fn a_sweep_on_a_full_store_waits_for_room_and_fails_no_commit() {
    const EACH: u64 = 80_000;
    let small = Small::new();
    small.write(0..EACH);
    small.commit();
    let origin = small.snapshot("origin");
    let line = small.clone_of(origin);
    small.commit();
    // As if the two had been merged.
    small.volume.turn().alone().lines.set_base(line, None);
    small.delete(&[origin]);
    small.settle();
    small.free(line, 0..EACH, 2);
    small.commit();
    small.free(MAIN, 1..EACH, 2);
    small.commit();
    small.fill_up();
    let hidden = |small: &Small| {
        let state = small.volume.state.read();
        state.history.views().filter(|view| view.role == Role::Hidden).count()
    };
    assert_eq!(hidden(&small), 1);
    let before = small.volume.space().used;
    // Now every second block is dead on both sides.
    small.free(MAIN, 0..EACH, 2);
    small.settle();
    let small = small.again();
    small.settle();
    small.free(MAIN, FILLER..FILLER + 512, 1);
    small.settle();
    let own = EACH / 2 * BLOCK_BYTES;
    assert!(small.volume.space().used + own < before, "it was swept");
    small.is_right();
}

/// What is told of pauses is about deletions: a commit that takes nothing out is none.
#[test]
fn a_commit_that_deletes_nothing_is_no_pause_of_a_deletion() {
    let volume = Volume::made_on(Arc::new(Memory::new(64 << 20)));
    let commit = || {
        volume.commit(&mut |_| Ok(())).unwrap();
    };
    commit();
    let before = volume.removal_pauses();
    (0..4).for_each(|_| commit());
    assert_eq!(volume.removal_pauses(), before);
    assert_eq!(before, crate::volume::RemovalPauses::default());
}
