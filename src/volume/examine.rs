//! One state of a store as far as it can be read: for the repair of what is derived.
//!
//! An open volume refuses a state that is damaged in certain places. Here it is read nevertheless: a space map that
//! cannot be read counts as empty; of a meta tree that has lost nodes the rest is taken, as long as every view record
//! is there. Records of content that has moved are no derived data: if some are lost, the content is looked for. Nothing is
//! changed and nothing is guessed. If nodes are lost, or the log was not replayed, the whole meta tree is held in memory.

use super::audit::Committed;
use super::error::corrupt;
use super::extra_refs::ExtraRefs;
use super::history::History;
use super::holds;
use super::intent;
use super::lost_places::{self, FoundPlaces};
use super::open::{check_records, fsid, read_extra_refs, read_line, read_remap};
use super::purge::{LeafTable, LoadedLeaves};
use super::remap::Remap;
use super::space_map::SpaceMap;
use super::{Result, VolumeError};
use crate::device::{Device, RESERVED_BYTES};
use crate::format::age::AgeRecord;
use crate::format::job::Job;
use crate::format::line::LineRecord;
use crate::format::log::{Effect, Effects};
use crate::format::remap::RemapRecord;
use crate::format::superblock::{INCOMPAT_PURGED, INCOMPAT_REMAP, Superblock};
use crate::format::trash::TrashRecord;
use crate::format::view::ViewRecord;
use crate::format::{BLOCK_BYTES, Epoch, Key, Kind};
use crate::store::{Allocator, RangeSet, Reading, Store};
use crate::tree::{self, Child, Edit, Pager, Step, Visit, walk_readable};
use std::collections::BTreeMap;
use std::sync::Arc;

/// Bytes of memory for clean nodes.
const CACHE_BYTES: usize = 32 << 20;

/// A state, and what is wrong with derived parts of it that only reading them shows.
pub struct Examined {
    /// The readable rest.
    pub state: Committed,
    /// What is wrong, in words.
    pub faults: Vec<String>,
    /// Items of the meta tree that do not decode and are to go.
    pub spoiled: Vec<Key>,
    /// Records of content that has moved which were found again. They are in the state.
    pub places_found: usize,
}

/// Reads a state. Fails if something is lost that cannot be derived and without which nothing else can be judged: the
/// root of the meta tree or the record of a view or a line.
pub fn examine(device: Arc<dyn Device>, superblock: Superblock) -> Result<Examined> {
    let mut faults = Vec::new();
    let logged = Logged::read(&*device, &superblock);
    let mut alloc = Allocator::new(RESERVED_BYTES + superblock.log_bytes, superblock.size);
    let store = Store::new(device, fsid(&superblock.uuid), Allocator::new(0, 0));
    let store = Arc::new(store.beside(Reading::Prove));
    let loaded = SpaceMap::load(&store, superblock.space_map, &mut alloc);
    let (space_map, allocated, map_is_readable) = match loaded {
        Ok(map) => (map.blocks().to_vec(), alloc.allocated(), true),
        Err(VolumeError::Corrupt { what } | VolumeError::Device(what)) => {
            faults.push(format!("space map: {what}"));
            (Vec::new(), RangeSet::new(), false)
        }
        Err(e) => return Err(e),
    };
    let pager = Pager::new(store, CACHE_BYTES);
    let (mut meta_root, mut places_lost) = readable_meta(&pager, &superblock, &logged, &mut faults)?;
    let mut items = Items::read(&pager, &meta_root, &superblock, &mut faults)?;
    places_lost |= items.spoiled.iter().any(|key| key.kind == Kind::Remap as u8);
    let mut remap_is_whole = true;
    let mut places_found = 0;
    if places_lost && superblock.incompat & INCOMPAT_REMAP != 0 {
        if matches!(meta_root, Child::Stored(_)) {
            meta_root = in_memory(&pager, &superblock)?;
        }
        let in_use = if map_is_readable { allocated.clone() } else { all_space(&superblock) };
        let found = find_places(&pager, &items, &in_use, &mut faults)?;
        remap_is_whole = found.is_sure;
        places_found = enter(&pager, &superblock, &mut meta_root, &mut items, found.records)?;
    }
    check_records(&superblock, &items.records, &items.lines)?;
    let history = History::from_records(items.records.clone(), superblock.next_view, superblock.next_id);
    let state = Committed {
        history: history.map_err(|e| corrupt(e.to_string()))?,
        superblock,
        pager,
        records: items.records,
        lines: items.lines,
        jobs: items.jobs,
        extra_refs: items.extra_refs.iter().collect(),
        remap: items.remap,
        leaves: items.leaves,
        remap_is_whole,
        allocated,
        space_map,
        map_is_readable,
        hold_faults: Vec::new(),
        logged: logged.ranges,
        meta_root,
        _pin: None,
    };
    Ok(Examined { state, faults, spoiled: items.spoiled, places_found })
}

/// What the log holds that was not replayed yet.
struct Logged {
    ranges: Vec<(u64, u64)>,
    is_empty: bool,
}

impl Logged {
    fn read(device: &dyn Device, superblock: &Superblock) -> Logged {
        let records = intent::scan(device, superblock).records;
        let is_empty = !records.iter().any(intent::LogRecord::tells);
        let mut logged = Logged { ranges: Vec::new(), is_empty };
        for effect in records.iter().flat_map(|record| Effects::decode(record.effects())) {
            // A replay stops at a record that does not decode.
            match effect {
                Ok(Effect::Publish(addr, len)) => logged.ranges.push((addr, len)),
                Ok(_) => {}
                Err(_) => break,
            }
        }
        logged
    }
}

/// The meta tree, or a new one in memory: of what is left of it if nodes are lost; and if the log is not empty, because
/// its records go on from the epoch of this state, so that no node may be born later.
fn readable_meta(
    pager: &Pager,
    superblock: &Superblock,
    logged: &Logged,
    faults: &mut Vec<String>,
) -> Result<(Child, bool)> {
    let stored = Child::Stored(superblock.meta_root);
    let places = Key::new(0, Kind::Remap, 0)..Key::new(0, Kind::Remap, u64::MAX);
    let mut places_are_lost = false;
    let views = Key::new(0, Kind::View, 0)..Key::new(0, Kind::Line, superblock.next_line.0);
    let purged = Key::new(0, Kind::PurgeHeld, 0)..Key::new(0, Kind::PurgeRest, u64::MAX);
    let mut purged_is_lost = false;
    let (mut lost, mut views_are_lost) = (Vec::new(), false);
    let visited =
        |visit: Visit<'_>| Ok(if matches!(visit, Visit::Item(..)) { Step::Over } else { Step::Into });
    walk_readable(pager, &superblock.meta_root, Epoch(0), &mut { visited }, &mut |node| {
        views_are_lost |= node.from < views.end && node.to.is_none_or(|to| to > views.start);
        purged_is_lost |= node.from < purged.end && node.to.is_none_or(|to| to > purged.start);
        places_are_lost |= node.from < places.end && node.to.is_none_or(|to| to > places.start);
        lost.push(node.error.to_string());
        Ok(())
    })?;
    if views_are_lost {
        return Err(corrupt(format!("records of views or lines are lost: {}", lost.join("; "))));
    }
    if purged_is_lost && superblock.incompat & INCOMPAT_PURGED != 0 {
        return Err(corrupt(format!("records of what was purged are lost: {}", lost.join("; "))));
    }
    if lost.is_empty() && logged.is_empty {
        return Ok((stored, false));
    }
    faults.extend(lost.into_iter().map(|e| format!("meta tree, where dead lists and the like are: {e}")));
    Ok((in_memory(pager, superblock)?, places_are_lost))
}

/// All that can be read of the meta tree, as a new tree in memory.
fn in_memory(pager: &Pager, superblock: &Superblock) -> Result<Child> {
    let mut freed = Vec::new();
    let mut edit = Edit { pager, epoch: superblock.epoch, freed: &mut freed, nodes_made: 0 };
    let mut rest = edit.new_root();
    walk_readable(
        pager,
        &superblock.meta_root,
        Epoch(0),
        &mut |visit| {
            if let Visit::Item(key, value) = visit {
                edit.insert(&mut rest, &key, value)?;
            }
            Ok(Step::Into)
        },
        &mut |_| Ok(()),
    )?;
    Ok(rest)
}

fn all_space(superblock: &Superblock) -> RangeSet {
    let (from, mut all) = (RESERVED_BYTES + superblock.log_bytes, RangeSet::new());
    all.insert(from, (superblock.size - from) / BLOCK_BYTES * BLOCK_BYTES);
    all
}

/// Looks for content whose record is lost, and tells of it.
fn find_places(
    pager: &Pager,
    items: &Items,
    in_use: &RangeSet,
    faults: &mut Vec<String>,
) -> Result<FoundPlaces> {
    let roots: Vec<_> = items.records.iter().filter_map(|record| record.root).collect();
    let found = lost_places::find(pager, &roots, &items.remap, in_use)?;
    let bytes: u64 = found.records.iter().map(|record| record.len).sum();
    faults.push(format!("records of content that has moved are lost; {bytes} bytes were found again"));
    if found.missing > 0 {
        faults.push(format!(
            "{} bytes of content are nowhere to be found: what snapshots or clones had in them is lost",
            found.missing
        ));
    }
    Ok(found)
}

/// Takes in records that were found again.
fn enter(
    pager: &Pager,
    superblock: &Superblock,
    meta_root: &mut Child,
    items: &mut Items,
    records: Vec<RemapRecord>,
) -> Result<usize> {
    let mut freed = Vec::new();
    let mut edit = Edit { pager, epoch: superblock.epoch, freed: &mut freed, nodes_made: 0 };
    let mut entered = 0;
    for record in records {
        // One that meets what is there is none.
        if !items.remap.insert(&record) {
            continue;
        }
        let key = Key::new(0, Kind::Remap, record.new.0);
        edit.insert(meta_root, &key, &record.encode())?;
        // In the place of an item that did not decode.
        items.spoiled.retain(|spoiled| *spoiled != key);
        entered += 1;
    }
    Ok(entered)
}

/// What stands under object 0 of the meta tree.
#[derive(Default)]
struct Items {
    records: Vec<ViewRecord>,
    lines: Vec<LineRecord>,
    jobs: BTreeMap<u64, Job>,
    extra_refs: ExtraRefs,
    remap: Remap,
    leaves: LeafTable,
    spoiled: Vec<Key>,
}

impl Items {
    fn read(
        pager: &Pager,
        meta_root: &Child,
        superblock: &Superblock,
        faults: &mut Vec<String>,
    ) -> Result<Items> {
        let (mut items, mut held) = (Items::default(), BTreeMap::new());
        let mut leaves = LoadedLeaves::default();
        let end = Key { object: 1, kind: 0, rest: 0 };
        for item in tree::range(pager, meta_root, &Key::MIN, &end) {
            let (key, value) = item?;
            let derived: Result<()> = match Kind::from_u8(key.kind) {
                Some(Kind::View) => {
                    let record = ViewRecord::decode(&value)?;
                    if record.id.0 != key.rest {
                        return Err(corrupt(format!("view record {} stands at {}", record.id.0, key.rest)));
                    }
                    items.records.push(record);
                    Ok(())
                }
                Some(Kind::Line) => {
                    items.lines.push(read_line(&key, &value)?);
                    Ok(())
                }
                Some(Kind::Job) => match Job::decode(&value) {
                    Ok(job) => {
                        items.jobs.insert(key.rest, job);
                        Ok(())
                    }
                    Err(e) => Err(e.into()),
                },
                Some(Kind::ExtraRefs) => read_extra_refs(&mut items.extra_refs, &key, &value),
                Some(Kind::Remap) => read_remap(&mut items.remap, &key, &value),
                // Without one of these references lead to what is not theirs.
                Some(Kind::PurgeHeld | Kind::Purged) => {
                    items.remap.purged.load(&key, &value)?;
                    Ok(())
                }
                Some(Kind::PurgedLeaf | Kind::PurgedPiece | Kind::PurgeWiping | Kind::PurgeRest) => {
                    leaves.load(&key, &value)?;
                    Ok(())
                }
                Some(Kind::Scrub | Kind::Peer | Kind::Hydration) => Ok(()),
                Some(Kind::Hold) => {
                    held.insert(key.rest, value.to_vec());
                    Ok(())
                }
                Some(Kind::Trash) => TrashRecord::decode(&value).map(drop).map_err(Into::into),
                Some(Kind::Age) => AgeRecord::decode(&value).map(drop).map_err(Into::into),
                _ => return Err(corrupt(format!("unknown item {key:?} in the meta tree"))),
            };
            if let Err(e) = derived {
                faults.push(format!("meta tree: {e}"));
                items.spoiled.push(key);
            }
        }
        for (number, what) in holds::faults(&held, superblock, &items.records) {
            faults.push(format!("meta tree: {what}"));
            items.spoiled.push(Key::new(0, Kind::Hold, number));
        }
        items.leaves = leaves.known_to(pager.store())?.leaves;
        Ok(items)
    }
}
