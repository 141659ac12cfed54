//! Records of the log that no program writes: each effect with each field out of range, unknown, taken, of the wrong kind
//! or out of order, behind a log that is sound, with all checksums right.
//!
//! `SNAPFS_EFFECTS_STEP` is 1 for all of them; else each so many-th is tried, from `SNAPFS_SEED` on.
//!
//! Nothing panics; a record is carried out whole or not at all; and what is not carried out is told.

use snapfs::device::{RESERVED_BYTES, Sim};
use snapfs::format::age::AgeRecord;
use snapfs::format::hold::{HOLDS_MAX, HoldRecord};
use snapfs::format::hydration::{CopyHold, HydrationRecord, HydrationState};
use snapfs::format::line::{LineRecord, LineState};
use snapfs::format::log::{Effect, Effects, HEADER_BYTES, NamedPoint, Promotion, RecordHeader, Rollback};
use snapfs::format::provenance::Reason;
use snapfs::format::schedule::{Class, Period, SCHEDULES_MAX, Schedule, Share, Unit};
use snapfs::format::superblock::PendingPoint;
use snapfs::format::terms::Terms;
use snapfs::format::trash::{TrashRecord, Trashed};
use snapfs::format::view::Consistency;
use snapfs::format::{Epoch, Extent, Generation, Ino, Key, Kind, LineId, Slot, ViewId};
use snapfs::volume::Access;
use std::collections::BTreeSet;
use std::sync::Arc;

use crate::log::try_audit;
use crate::observe::observe;
use crate::resealed::{Image, exercise, word};
use crate::sample::{Sample, mount, open};

/// Of the records, each so many-th is tried.
const STEP: usize = 61;

/// What the log leaves behind, for records that come next.
struct Context {
    live: ViewId,
    next: u64,
    next_line: LineId,
    generation: Generation,
    snapshot: ViewId,
    snapshot_name: Vec<u8>,
    epoch: Epoch,
    /// An extent of a file: its key, its bytes, its length on the device.
    extent: (Key, Vec<u8>, u64),
    /// An item of each kind.
    items: Vec<(Key, Vec<u8>)>,
    /// A free range.
    free: u64,
    size: u64,
    metadata: u64,
}

fn context(sample: &Sample, image: &Image) -> Context {
    let volume = open(Arc::new(sample.sim.clone_image()), Access::ReadOnly).unwrap();
    let fs = mount(volume).unwrap();
    let volume = fs.volume();
    let live = volume.live(LineId::MAIN).unwrap();
    let (mut items, mut kinds, mut extent) = (Vec::new(), BTreeSet::new(), None);
    for item in live.range(&Key::MIN, &Key::MAX) {
        let (key, value) = item.unwrap();
        if key.kind == Kind::Extent as u8 && extent.is_none() {
            let stored = Extent::decode(&value).unwrap().stored_bytes();
            extent = Some((key, value.to_vec(), stored));
        }
        if kinds.insert(key.kind) {
            items.push((key, value.to_vec()));
        }
    }
    let (mut next, mut generation) = (image.superblock.next_view.0, image.superblock.next_generation);
    for effect in image.records.iter().flat_map(|(_, _, effects)| Effects::decode(effects)) {
        if let Ok(Effect::Point(point)) = effect {
            (next, generation) = (point.id.0 + 1, Generation(point.generation.0 + 1));
        }
    }
    let snapshot = volume.newest_snapshot(LineId::MAIN).unwrap();
    Context {
        live: live.id(),
        next,
        next_line: image.superblock.next_line,
        generation,
        snapshot: snapshot.id,
        snapshot_name: snapshot.name,
        epoch: volume.epoch(),
        extent: extent.expect("a file with an extent"),
        items,
        free: image.superblock.size - (1 << 20),
        size: image.superblock.size,
        metadata: image.superblock.meta_root.addr.0,
    }
}

/// Numbers that are wrong in most places where `old` is right.
fn odd(old: u64) -> Vec<u64> {
    let mut all = vec![0, 1, 2, 4096, 4097, 1 << 24, 1 << 32, 1 << 40, 1 << 62, 1 << 63, u64::MAX];
    all.extend([old.wrapping_add(1), old.wrapping_sub(1), old.wrapping_add(4096), old ^ 1 << 31]);
    all.extend([old.wrapping_add(1 << 20), u64::MAX - 4095]);
    all.retain(|n| *n != old);
    all
}

fn point(at: &Context) -> PendingPoint {
    PendingPoint {
        provenance: Reason::Merge.into(),
        id: ViewId(at.next),
        line: LineId::MAIN,
        slot: Slot(4000),
        generation: at.generation,
        epoch: at.epoch,
        created: (5, 6),
        pause_ns: 7,
        consistency: Consistency::Crash,
        name: b"crafted".to_vec(),
        identity: None,
    }
}

fn line(at: &Context) -> LineRecord {
    LineRecord {
        provenance: Reason::Merge.into(),
        id: at.next_line,
        name: b"crafted".to_vec(),
        head: ViewId(at.next),
        slot: Slot(4000),
        generation: at.generation,
        head_generation: Generation(at.generation.0 + 1),
        origin: Some(at.snapshot),
        base: Some(at.snapshot),
        from: Some(LineId::MAIN),
        terms: Terms::default(),
        state: LineState::Writable,
        schedules: Vec::new(),
        created: (5, 6),
    }
}

/// Some that no program could have written, by number.
fn schedule(n: usize) -> Schedule {
    let mut schedule = Schedule {
        name: "crafted".into(),
        every: Period { count: 15, unit: Unit::Minute },
        keep: vec![Class { count: 24, unit: Unit::Hour }, Class { count: 2, unit: Unit::Year }],
        budget: Some(Share::Percent(20)),
        free: None,
        always: false,
        by_hand: true,
    };
    match n {
        0 => schedule.every.count = 0,
        1 => schedule.keep.reverse(),
        2 => schedule.keep[1].count = 0,
        3 => schedule.budget = Some(Share::Percent(101)),
        4 => schedule.free = Some(Share::Bytes(0)),
        5 => schedule.name = "../x".into(),
        6 => schedule.name = String::new(),
        7 => schedule.every = Period { count: u32::MAX, unit: Unit::Year },
        _ => {}
    }
    schedule
}

fn rollback(at: &Context) -> Rollback {
    let (line, head_generation) = (LineId::MAIN, at.generation);
    Rollback { line, snapshot: at.snapshot, head: ViewId(at.next), head_generation, created: (5, 6) }
}

fn note(words: [u64; 4], bytes: &[u8]) -> Vec<u8> {
    let mut out: Vec<u8> = words.iter().flat_map(|w| w.to_le_bytes()).collect();
    out.extend_from_slice(bytes);
    out
}

/// What one record may hold: effects as bytes, made by `put`.
fn record(put: impl FnOnce(&mut Effects)) -> Vec<u8> {
    let mut effects = Effects::default();
    put(&mut effects);
    effects.bytes().to_vec()
}

fn one(effect: &Effect<'_>) -> Vec<u8> {
    record(|e| e.push(effect))
}

/// All of them, each with what it is.
fn cases(at: &Context) -> Vec<(String, Vec<u8>)> {
    let mut all: Vec<(String, Vec<u8>)> = Vec::new();
    let mut add = |name: String, bytes: Vec<u8>| all.push((name, bytes));
    // Items: every kind under every key, and values of every length.
    for (key, value) in &at.items {
        for object in odd(key.object).into_iter().chain([3, 15, 16, (1 << 40) - 1]) {
            add(format!("insert {key:?} of {object}"), one(&Effect::Insert(Key { object, ..*key }, value)));
            add(format!("remove {key:?} of {object}"), one(&Effect::Remove(Key { object, ..*key })));
        }
        for kind in (0..12).chain([31, 32, 33, 34, 35, 36, 37, 38, 39, 40, 41, 255]) {
            add(format!("insert {key:?} as {kind}"), one(&Effect::Insert(Key { kind, ..*key }, value)));
            add(format!("remove {key:?} as {kind}"), one(&Effect::Remove(Key { kind, ..*key })));
        }
        for rest in odd(key.rest) {
            add(format!("insert {key:?} at {rest}"), one(&Effect::Insert(Key { rest, ..*key }, value)));
            add(format!("remove {key:?} at {rest}"), one(&Effect::Remove(Key { rest, ..*key })));
        }
        for len in [0, 1, value.len() / 2, value.len() + 1, 4096, 4160, 4161, 16384, 65535] {
            let mut longer = value.clone();
            longer.resize(len, 1);
            add(format!("insert {key:?} of {len} bytes"), one(&Effect::Insert(*key, &longer)));
        }
    }
    // Extents, with what goes along.
    let (key, extent, len) = &at.extent;
    let (addr, len, birth) = (word(extent, 0), *len, Epoch(word(extent, 8)));
    let addresses = [4096, 1 << 20, at.metadata, at.free, at.size - 4096, at.size, 1 << 62, u64::MAX - 4095];
    for addr in addresses {
        let moved = [&addr.to_le_bytes(), &extent[8..]].concat();
        add(format!("an extent at {addr:#x}"), one(&Effect::Insert(*key, &moved)));
        for len in [4096, len, at.size, 1 << 62] {
            add(format!("publish {addr:#x}+{len}"), one(&Effect::Publish(addr, len)));
            add(format!("share {addr:#x}+{len}"), one(&Effect::Share(addr, len)));
            add(format!("free {addr:#x}+{len}"), one(&Effect::Free(addr, len, Epoch(1))));
        }
    }
    for birth in odd(birth.0) {
        let born = [&extent[..8], &birth.to_le_bytes(), &extent[16..]].concat();
        add(format!("an extent of {birth}"), one(&Effect::Insert(*key, &born)));
        add(format!("a death of {birth}"), one(&Effect::Free(addr, len, Epoch(birth))));
    }
    let twice = |effect: Effect<'_>, n: usize| record(|e| (0..n).for_each(|_| e.push(&effect)));
    add("freed twice".into(), twice(Effect::Free(addr, len, birth), 2));
    add("freed twice, young".into(), twice(Effect::Free(addr, len, at.epoch), 2));
    add("published twice".into(), twice(Effect::Publish(at.free, 4096), 2));
    add("shared often".into(), twice(Effect::Share(addr, len), 1000));
    add(
        "published and freed".into(),
        record(|e| {
            e.push(&Effect::Publish(at.free, 8192));
            e.push(&Effect::Free(at.free, 4096, at.epoch));
            e.push(&Effect::Free(at.free, 8192, at.epoch));
        }),
    );
    views(at, &mut add);
    copies(at, &mut add);
    holds(at, &mut add);
    trash(at, &mut add);
    notes(at, &mut add);
    // Effects that do not decode, behind one that does.
    for tag in (0..=19).chain([25, 255]) {
        add(format!("effect {tag} cut off"), record(|e| e.push(&Effect::Remove(at.items[0].0))));
        let mut bytes = one(&Effect::Delete(at.snapshot));
        bytes.push(tag);
        add(format!("effect {tag} without fields"), bytes);
    }
    all
}

fn views(at: &Context, add: &mut impl FnMut(String, Vec<u8>)) {
    let (live, snapshot) = (at.live, at.snapshot);
    let ids: Vec<ViewId> = odd(at.next).into_iter().map(ViewId).chain([live, snapshot]).collect();
    let (good, long) = (point(at), vec![b'n'; 256]);
    add("a good snapshot".into(), one(&Effect::Point(good.clone())));
    for id in &ids {
        add(format!("snapshot {}", id.0), one(&Effect::Point(PendingPoint { id: *id, ..good.clone() })));
        add(format!("rename {}", id.0), one(&Effect::Rename(*id, b"other")));
        add(format!("delete {}", id.0), one(&Effect::Delete(*id)));
        for line in [LineId::NONE, LineId::MAIN, LineId(u64::MAX)] {
            let named = |name: &[u8]| NamedPoint {
                view: *id,
                line,
                name: name.to_vec(),
                provenance: Reason::MassDeletion.into(),
            };
            add(format!("name {} of {}", id.0, line.0), one(&Effect::Name(named(b"named"))));
            add(format!("no name {} of {}", id.0, line.0), one(&Effect::Name(named(b""))));
            // Its own name, with another reason, and the name of another.
            let own = one(&Effect::Name(named(&at.snapshot_name)));
            add(format!("said of {} of {}", id.0, line.0), own);
        }
        let (made, back) = (line(at), rollback(at));
        let begun = |origin| one(&Effect::CreateLine(LineRecord { origin, base: origin, ..made.clone() }));
        let base = Some(*id);
        add(
            format!("line compared with {}", id.0),
            one(&Effect::CreateLine(LineRecord { base, ..made.clone() })),
        );
        let compared = record(|e| {
            e.push(&Effect::CreateLine(made.clone()));
            e.push(&Effect::Rebase(made.id, Some(*id)));
        });
        add(format!("line compared with {} later", id.0), compared);
        add(format!("line from {}", id.0), begun(Some(*id)));
        add(
            format!("line with head {}", id.0),
            one(&Effect::CreateLine(LineRecord { head: *id, ..made.clone() })),
        );
        add(format!("rollback to {}", id.0), one(&Effect::Rollback(Rollback { snapshot: *id, ..back })));
        add(format!("rollback as {}", id.0), one(&Effect::Rollback(Rollback { head: *id, ..back })));
        add(
            format!("rollback to {} and snapshot", id.0),
            record(|e| {
                e.push(&Effect::Rollback(Rollback { snapshot: *id, ..back }));
                e.push(&Effect::Point(good.clone()));
            }),
        );
        add(
            format!("delete {} and go on", id.0),
            record(|e| {
                e.push(&Effect::Delete(*id));
                e.push(&Effect::Remove(at.items[0].0));
                e.push(&Effect::Delete(*id));
            }),
        );
    }
    for epoch in odd(at.epoch.0) {
        let late = PendingPoint { epoch: Epoch(epoch), ..good.clone() };
        add(format!("snapshot of epoch {epoch}"), one(&Effect::Point(late)));
    }
    for name in [&b""[..], &at.snapshot_name, &long, b"/", b"a\0b", b"."] {
        let named = PendingPoint { name: name.to_vec(), ..good.clone() };
        let shown = String::from_utf8_lossy(&name[..name.len().min(9)]).into_owned();
        add(format!("snapshot called {shown}"), one(&Effect::Point(named)));
        add(format!("renamed to {shown}"), one(&Effect::Rename(snapshot, name)));
    }
    let timeless = PendingPoint { created: (i64::MIN, u32::MAX), pause_ns: u64::MAX, ..good.clone() };
    add("snapshot at no time".into(), one(&Effect::Point(timeless)));
    lines(at, add);
}

fn lines(at: &Context, add: &mut impl FnMut(String, Vec<u8>)) {
    let (made, back, snapshot) = (line(at), rollback(at), at.snapshot);
    let create = |line: LineRecord| one(&Effect::CreateLine(line));
    add("a good line".into(), create(made.clone()));
    add("a line from nothing".into(), create(LineRecord { origin: None, ..made.clone() }));
    let state = LineState::Receiving;
    add("a received line".into(), create(LineRecord { state, ..made.clone() }));
    let empty = LineRecord { origin: None, base: None, state, ..made.clone() };
    add("a received line from nothing".into(), create(empty.clone()));
    add(
        "a line from nothing at all".into(),
        create(LineRecord { state: LineState::Writable, ..empty.clone() }),
    );
    add("a good rollback".into(), one(&Effect::Rollback(back)));
    for n in odd(at.next_line.0) {
        for state in [LineState::Writable, LineState::Received, LineState::Receiving] {
            add(format!("line {n} is {state:?}"), one(&Effect::SetState(LineId(n), state)));
        }
        add(format!("line {n} compared"), one(&Effect::Rebase(LineId(n), Some(snapshot))));
        add(format!("line {n}"), create(LineRecord { id: LineId(n), ..made.clone() }));
        add(format!("no line {n}"), one(&Effect::DropLine(LineId(n))));
        add(format!("line {n} renamed"), one(&Effect::RenameLine(LineId(n), b"other")));
        add(format!("line {n} back"), one(&Effect::Rollback(Rollback { line: LineId(n), ..back })));
        for (from, line) in [(LineId(n), LineId::MAIN), (LineId::MAIN, LineId(n)), (LineId(n), LineId(n))] {
            let to = Promotion { from, line, head_generation: at.generation };
            add(format!("line {} becomes {}", from.0, line.0), one(&Effect::Promote(to)));
            let made_first = record(|e| {
                e.push(&Effect::CreateLine(made.clone()));
                e.push(&Effect::Promote(Promotion {
                    head_generation: Generation(at.generation.0 + 2),
                    ..to
                }));
                e.push(&Effect::DropLine(from));
            });
            add(format!("a new line, and {} becomes {}", from.0, line.0), made_first);
        }
        let point = PendingPoint { line: LineId(n), ..point(at) };
        add(format!("snapshot of line {n}"), one(&Effect::Point(point)));
    }
    for (n, of) in odd(0).into_iter().map(LineId).chain([LineId::MAIN]).enumerate() {
        add(format!("schedules of line {}", of.0), one(&Effect::SetSchedules(of, vec![schedule(n)])));
        let twice = vec![schedule(n), schedule(n)];
        add(format!("schedules of line {} twice", of.0), one(&Effect::SetSchedules(of, twice)));
    }
    for count in [SCHEDULES_MAX, SCHEDULES_MAX + 1, 255] {
        let all: Vec<_> = (0..count).map(|n| Schedule { name: format!("n{n}"), ..schedule(n) }).collect();
        add(format!("{count} schedules"), one(&Effect::SetSchedules(LineId::MAIN, all.clone())));
        add(format!("a line with {count}"), create(LineRecord { schedules: all, ..made.clone() }));
    }
    for n in odd(4000).into_iter().map(|n| n as u32) {
        add(format!("line in slot {n}"), create(LineRecord { slot: Slot(n), ..made.clone() }));
        add(
            format!("snapshot in slot {n}"),
            one(&Effect::Point(PendingPoint { slot: Slot(n), ..point(at) })),
        );
    }
    for n in odd(at.generation.0.into()).into_iter().map(|n| Generation(n as u32)) {
        add(format!("line of generation {}", n.0), create(LineRecord { generation: n, ..made.clone() }));
        add(format!("head of generation {}", n.0), create(LineRecord { head_generation: n, ..made.clone() }));
        add(
            format!("rollback of generation {}", n.0),
            one(&Effect::Rollback(Rollback { head_generation: n, ..back })),
        );
        let point = PendingPoint { generation: n, ..point(at) };
        add(format!("snapshot of generation {}", n.0), one(&Effect::Point(point)));
    }
    add("a line at no time".into(), create(LineRecord { created: (i64::MAX, u32::MAX), ..made.clone() }));
    add("a line of what is deleted".into(), {
        record(|e| {
            e.push(&Effect::Delete(snapshot));
            e.push(&Effect::CreateLine(made.clone()));
        })
    });
    add("a line twice".into(), {
        record(|e| {
            e.push(&Effect::CreateLine(made.clone()));
            e.push(&Effect::CreateLine(made.clone()));
        })
    });
    add("a line that goes, and goes on".into(), {
        record(|e| {
            e.push(&Effect::CreateLine(made.clone()));
            e.push(&Effect::DropLine(made.id));
            e.push(&Effect::RenameLine(made.id, b"other"));
        })
    });
    add("the main line goes".into(), one(&Effect::DropLine(LineId::MAIN)));
}

fn copies(at: &Context, add: &mut impl FnMut(String, Vec<u8>)) {
    let good = HydrationRecord {
        number: 1,
        view: at.snapshot,
        store: [5; 16],
        path: b"/copy".to_vec(),
        state: HydrationState::Running,
        rate: 0,
        begun_secs: 5,
        ended_secs: 0,
        done_bytes: 6,
        about_bytes: 7,
        trouble: b"away".to_vec(),
        user: Some(7),
        hold: CopyHold::Until(9),
    };
    let set = |copy: &HydrationRecord| one(&Effect::SetHydration(copy.clone()));
    let then = |next: Effect<'_>| {
        record(|e| {
            e.push(&Effect::SetHydration(good.clone()));
            e.push(&next);
        })
    };
    add("a good copy".into(), set(&good));
    add("a copy, and its end".into(), then(Effect::EndHydration(1)));
    add("a copied snapshot is deleted".into(), then(Effect::Delete(at.snapshot)));
    let ended = HydrationRecord { hold: CopyHold::Ended, ..good.clone() };
    add("a copy holds its snapshot no longer".into(), then(Effect::SetHydration(ended.clone())));
    add("what a copy held is deleted".into(), {
        record(|e| {
            e.push(&Effect::SetHydration(ended));
            e.push(&Effect::Delete(at.snapshot));
        })
    });
    let endless = HydrationRecord { hold: CopyHold::Until(u64::MAX), ..good.clone() };
    add("a copy that holds for ever".into(), set(&endless));
    let whole = HydrationRecord { state: HydrationState::Whole, ..good.clone() };
    add("a copy is whole".into(), then(Effect::SetHydration(whole)));
    let other = HydrationRecord { number: 2, ..good.clone() };
    add("two copies in one store".into(), then(Effect::SetHydration(other)));
    let moved = HydrationRecord { store: [6; 16], ..good.clone() };
    add("a copy goes elsewhere".into(), then(Effect::SetHydration(moved)));
    for n in odd(1).into_iter().chain([at.live.0]) {
        add(format!("copy {n}"), set(&HydrationRecord { number: n, ..good.clone() }));
        add(format!("a copy of {n}"), set(&HydrationRecord { view: ViewId(n), ..good.clone() }));
        add(format!("no copy {n}"), one(&Effect::EndHydration(n)));
        add(format!("a copy, and the end of {n}"), then(Effect::EndHydration(n)));
    }
    for path in [&b""[..], b"copy", b"/a\0b", &[b'/'; 3073]] {
        add(
            format!("a copy at {} bytes", path.len()),
            set(&HydrationRecord { path: path.to_vec(), ..good.clone() }),
        );
    }
    add("a copy in much trouble".into(), set(&HydrationRecord { trouble: vec![b'x'; 513], ..good.clone() }));
}

fn holds(at: &Context, add: &mut impl FnMut(String, Vec<u8>)) {
    let good = HoldRecord {
        number: 1,
        view: at.snapshot,
        tag: "crafted".into(),
        since_secs: i64::MIN,
        ends: Some(7),
        by: Reason::Merge.into(),
    };
    let set = |hold: &HoldRecord| one(&Effect::SetHold(hold.clone()));
    let then = |next: Effect<'_>| {
        record(|e| {
            e.push(&Effect::SetHold(good.clone()));
            e.push(&next);
        })
    };
    add("a good hold".into(), set(&good));
    add("a hold, and its end".into(), then(Effect::EndHold(1)));
    add("a held snapshot is deleted".into(), then(Effect::Delete(at.snapshot)));
    let second = HoldRecord { number: 2, tag: "other".into(), ..good.clone() };
    add("another hold".into(), then(Effect::SetHold(second.clone())));
    add("a hold twice".into(), then(Effect::SetHold(HoldRecord { number: 1, ..second.clone() })));
    add("two holds of one tag".into(), then(Effect::SetHold(HoldRecord { number: 2, ..good.clone() })));
    add("more holds than there may be".into(), {
        record(|e| {
            for n in 1..=HOLDS_MAX as u64 + 1 {
                e.push(&Effect::SetHold(HoldRecord { number: n, tag: n.to_string(), ..good.clone() }));
            }
        })
    });
    for n in odd(1).into_iter().chain([at.live.0]) {
        add(format!("hold {n}"), set(&HoldRecord { number: n, ..good.clone() }));
        add(format!("a hold of {n}"), set(&HoldRecord { view: ViewId(n), ..good.clone() }));
        add(format!("no hold {n}"), one(&Effect::EndHold(n)));
        add(format!("a hold, and the end of {n}"), then(Effect::EndHold(n)));
        add(format!("a store of {n} seconds"), one(&Effect::SetAge(AgeRecord { secs: n, at: n as i64 })));
        let ends = Some(n);
        add(format!("a hold until {n}"), set(&HoldRecord { ends, ..good.clone() }));
        add(format!("a store of {n} seconds that grows younger"), {
            record(|e| {
                e.push(&Effect::SetAge(AgeRecord { secs: n, at: 0 }));
                e.push(&Effect::SetAge(AgeRecord { secs: n.wrapping_sub(1), at: 0 }));
            })
        });
    }
    for tag in ["", "a b", "a,b", "\u{e4}", &"x".repeat(65), &"x".repeat(64)] {
        add(format!("a hold of {} bytes", tag.len()), set(&HoldRecord { tag: tag.into(), ..good.clone() }));
    }
}

fn trash(at: &Context, add: &mut impl FnMut(String, Vec<u8>)) {
    let good = TrashRecord {
        number: 1,
        what: Trashed::Snapshot(at.snapshot, LineId::MAIN),
        name: b"crafted".to_vec(),
        since_secs: i64::MIN,
        ends: 7,
        next_view: ViewId(at.next),
        by: Reason::Merge.into(),
    };
    let set = |trash: &TrashRecord| one(&Effect::Trash(trash.clone()));
    let then = |next: &[Effect<'_>]| {
        record(|e| {
            e.push(&Effect::Trash(good.clone()));
            next.iter().for_each(|next| e.push(next));
        })
    };
    add("a snapshot in the trash".into(), set(&good));
    add("a snapshot that comes back".into(), then(&[Effect::Undelete(1, b"back")]));
    add(
        "one that comes back twice".into(),
        then(&[Effect::Undelete(1, b"back"), Effect::Undelete(1, b"back")]),
    );
    add("one that comes back without a name".into(), then(&[Effect::Undelete(1, b"")]));
    add("one that comes back with that of another".into(), then(&[Effect::Undelete(1, b"one")]));
    add("one that goes".into(), then(&[Effect::EmptyTrash(1)]));
    add("one that goes twice".into(), then(&[Effect::EmptyTrash(1), Effect::EmptyTrash(1)]));
    add("one that goes and comes back".into(), then(&[Effect::EmptyTrash(1), Effect::Undelete(1, b"back")]));
    add("one that is deleted".into(), then(&[Effect::Delete(at.snapshot)]));
    add("one that is renamed".into(), then(&[Effect::Rename(at.snapshot, b"other")]));
    add("one that is there twice".into(), then(&[Effect::Trash(TrashRecord { number: 2, ..good.clone() })]));
    let made = line(at);
    let dropped = TrashRecord { what: Trashed::Line(made.id, made.state), ..good.clone() };
    let of_line = |next: &[Effect<'_>]| {
        record(|e| {
            e.push(&Effect::CreateLine(made.clone()));
            e.push(&Effect::Trash(dropped.clone()));
            next.iter().for_each(|next| e.push(next));
        })
    };
    add("a line in the trash".into(), of_line(&[]));
    add("a line that comes back".into(), of_line(&[Effect::Undelete(1, b"back")]));
    add("a line that goes".into(), of_line(&[Effect::EmptyTrash(1)]));
    for (what, effect) in [
        ("dropped", Effect::DropLine(made.id)),
        ("renamed", Effect::RenameLine(made.id, b"other")),
        ("written", Effect::SetState(made.id, LineState::Writable)),
        ("in the trash again", Effect::Trash(TrashRecord { number: 2, ..dropped.clone() })),
        ("compared", Effect::Rebase(made.id, None)),
        (
            "promoted",
            Effect::Promote(Promotion {
                from: made.id,
                line: LineId::MAIN,
                head_generation: Generation(at.generation.0 + 2),
            }),
        ),
    ] {
        add(format!("a line in the trash that is {what}"), of_line(&[effect]));
    }
    add("a line made in the trash".into(), {
        one(&Effect::CreateLine(LineRecord { state: LineState::Trashed, ..made.clone() }))
    });
    add("a line said to be in the trash".into(), {
        record(|e| {
            e.push(&Effect::CreateLine(made.clone()));
            e.push(&Effect::SetState(made.id, LineState::Trashed));
        })
    });
    for n in odd(1).into_iter().chain([at.live.0]) {
        add(format!("{n} in the trash"), set(&TrashRecord { number: n, ..good.clone() }));
        for what in [
            Trashed::Snapshot(ViewId(n), LineId::MAIN),
            Trashed::Snapshot(at.snapshot, LineId(n)),
            Trashed::Line(LineId(n), LineState::Writable),
        ] {
            add(format!("{what:?} in the trash"), set(&TrashRecord { what, ..good.clone() }));
        }
        add(format!("{n} comes back"), then(&[Effect::Undelete(n, b"back")]));
        add(format!("{n} goes from the trash"), then(&[Effect::EmptyTrash(n)]));
        let next_view = ViewId(n);
        add(format!("trash until {n}"), set(&TrashRecord { ends: n, next_view, ..good.clone() }));
    }
    let hold = HoldRecord {
        number: 1,
        view: at.snapshot,
        tag: "crafted".into(),
        since_secs: 0,
        ends: None,
        by: Reason::Merge.into(),
    };
    add("a held snapshot in the trash".into(), {
        record(|e| {
            e.push(&Effect::SetHold(hold.clone()));
            e.push(&Effect::Trash(good.clone()));
        })
    });
    add("a snapshot that is held in the trash".into(), then(&[Effect::SetHold(hold)]));
}

fn notes(at: &Context, add: &mut impl FnMut(String, Vec<u8>)) {
    let file = at.extent.0.object;
    let mut put = |name: String, bytes: Vec<u8>| add(name, one(&Effect::Note(&bytes)));
    for tag in 0..=9u64 {
        for ino in odd(file).into_iter().chain([file, Ino::ROOT.0, 3, 15]) {
            put(format!("note {tag} of inode {ino}"), note([tag, ino, 0, 0], b""));
        }
        for (from, to) in [(2, 1), (u64::MAX, 0), (0, u64::MAX), (1 << 52, 1 << 53), (u64::MAX, u64::MAX)] {
            put(format!("note {tag} of {from}..{to}"), note([tag, file, from, to], b""));
        }
        for (offset, len) in [(0, 4097), (4095, 2), (65535, 65535), (1, u32::MAX)] {
            let first = tag | offset << 16 | u64::from(len) << 32;
            put(format!("note {tag} of {len} bytes at {offset}"), note([first, file, 0, 0], b"x"));
        }
        put(format!("note {tag} with flags"), note([tag | 2 << 8, file, 0, 0], b""));
        put(format!("note {tag} of a fresh block"), note([tag | 1 << 8 | 8 << 32, file, 0, 1], b"12345678"));
        let far = (1 << 51) - 2;
        put(format!("note {tag} far out"), note([tag | 8 << 32, file, far, far + 1], b"12345678"));
        put(format!("note {tag} cut off"), note([tag, file, 0, 0], b"")[..31].to_vec());
    }
}

/// The record with these effects behind the others.
fn behind(image: &Image, at: &Context, effects: &[u8]) -> (u64, RecordHeader, Vec<u8>) {
    let (_, last, _) = image.records.last().expect("a record");
    let lsn = last.end().next_multiple_of(4096);
    let len = (HEADER_BYTES + effects.len()) as u32;
    let epoch = at.epoch;
    let header = RecordHeader {
        len,
        lsn,
        prev_end: last.end(),
        durable: last.end(),
        epoch,
        line: LineId::MAIN,
        ..*last
    };
    (RESERVED_BYTES + lsn % image.superblock.log_bytes, header, effects.to_vec())
}

/// What is wrong with what a mount makes of the image, if anything is: it must refuse it, or have it as it was before the
/// last record, or take that record whole. What a mount refuses, the audit tells in the same words.
fn verdict(device: &Arc<Sim>, before: &Sample) -> Option<String> {
    let audit = try_audit(device);
    let fs = match open(Arc::new(device.clone_image()), Access::ReadWrite).and_then(mount) {
        Ok(fs) => fs,
        Err(_) if !audit.is_ok_and(|report| report.is_clean()) => return None,
        Err(e) => return Some(format!("the audit does not tell that it cannot be mounted: {e}")),
    };
    let damage = fs.recovered().damage.as_ref()?;
    let told = audit.map_or_else(|e| vec![e], |report| report.problems);
    if !told.iter().any(|what| what.contains(damage)) {
        return Some(format!("the audit does not tell {damage:?}, but {told:?}"));
    }
    let seen = observe(&fs);
    let lie = seen.lie(&before.seen).map(|what| format!("{what} is half of it"));
    let lost =
        || before.seen.facts.keys().find(|k| !seen.facts.contains_key(*k)).map(|k| format!("{k} is gone"));
    lie.or_else(lost)
}

/// Tries records, each behind the sound log.
fn try_all(records: impl Fn(&Image, &Context) -> Vec<(String, (u64, RecordHeader, Vec<u8>))>) {
    let sample = Sample::with_log();
    let image = Image::new(&sample);
    let at = context(&sample, &image);
    let mut failed = Vec::new();
    let number = |name: &str, default| std::env::var(name).map_or(default, |v| v.parse().expect(name));
    let (first, step) = (number("SNAPFS_SEED", 0), number("SNAPFS_EFFECTS_STEP", STEP));
    for (name, record) in records(&image, &at).into_iter().skip(first % step).step_by(step) {
        let mut crafted = image.copy();
        crafted.records.push(record);
        let device = crafted.device();
        let tried = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            let wrong = verdict(&device, &sample);
            exercise(&device);
            wrong
        }));
        match tried {
            Ok(None) => {}
            Ok(Some(what)) => failed.push(format!("{name}: {what}")),
            Err(_) => failed.push(format!("{name}: panic")),
        }
    }
    assert!(failed.is_empty(), "{} records: {failed:#?}", failed.len());
}

#[test]
fn no_effect_that_makes_no_sense_is_carried_out_or_panics() {
    try_all(|image, at| {
        cases(at).into_iter().map(|(name, effects)| (name, behind(image, at, &effects))).collect()
    });
}

#[test]
fn no_header_that_makes_no_sense_panics() {
    try_all(|image, at| {
        let good = behind(image, at, &one(&Effect::Point(point(at))));
        let mut all = Vec::new();
        for n in odd(at.epoch.0) {
            let mut record = good.clone();
            record.1.epoch = Epoch(n);
            all.push((format!("epoch {n}"), record));
        }
        for n in odd(good.1.durable) {
            let mut record = good.clone();
            record.1.durable = n;
            all.push((format!("durable {n}"), record));
        }
        for n in odd(at.live.0).into_iter().chain([at.snapshot.0]) {
            let mut record = good.clone();
            record.1.line = LineId(n);
            all.push((format!("a point of view {n}"), record.clone()));
            let effects = one(&Effect::Remove(at.items[0].0));
            record.1.len = (HEADER_BYTES + effects.len()) as u32;
            record.2 = effects;
            all.push((format!("a removal in view {n}"), record));
        }
        all
    });
}
