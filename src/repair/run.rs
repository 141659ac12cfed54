//! One run of the repair: finds what is wrong, writes again what can be derived, and proves the result.

use crate::check::{self, Depth, Derived};
use crate::device::Device;
use crate::format::view::ViewRecord;
use crate::format::{Key, Kind};
use crate::volume::examine::{Examined, examine};
use crate::volume::mend::{self, Mending};
use crate::volume::{Access, OpenOptions, Volume, VolumeError, ring};
use std::collections::BTreeSet;
use std::sync::Arc;

/// What a repair may do.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Mode {
    /// Tell what is wrong and what would be done.
    DryRun,
    /// Do it.
    Write,
}

/// What a repair found and did. The sentences are for people.
#[derive(Clone, Debug, Default)]
pub struct Repair {
    /// What is wrong with derived data.
    pub found: Vec<String>,
    /// What was written again, or would be.
    pub rebuilt: Vec<String>,
    /// What is still wrong, or will be: it cannot be derived.
    pub left: Vec<String>,
    /// What does not come back, and what that costs.
    pub notes: Vec<String>,
}

/// Memory for clean nodes while the result is proved.
const CACHE_BYTES: usize = 32 << 20;

/// Repairs the newest state of a store. Fails if there is no superblock, if this program may not write to the store, or
/// if writing fails; then the store is as it was.
pub fn run(device: Arc<dyn Device>, mode: Mode, depth: Depth) -> Result<Repair, VolumeError> {
    if mode == Mode::Write {
        // A process that was killed may have left what only the host's memory holds, superblocks included.
        device.flush_inherited().map_err(|e| VolumeError::Device(e.to_string()))?;
    }
    let rings = ring::read(&*device).map_err(|e| {
        VolumeError::NotAStore(format!("no superblock can be read: {e}; 'snapfs salvage' may get files out"))
    })?;
    let refuse = |why: String| VolumeError::NotAStore(format!("{}: {why}", device.describe()));
    if rings.unknown_ro_features != 0 {
        let features = rings.unknown_ro_features;
        return Err(refuse(format!("it uses features {features:#x} that this program may only read")));
    }
    let Some(superblock) = rings.states.into_iter().next() else {
        return Err(refuse("no superblock".into()));
    };
    if superblock.size > device.size() {
        return Err(refuse(format!(
            "it is cut short: the store has {} bytes, the device only {}; restore its full length first",
            superblock.size,
            device.size()
        )));
    }
    let uuid = superblock.uuid;
    let mut repair = Repair::default();
    match examine(device.clone(), superblock) {
        Ok(examined) => repair.derived(&examined, mode, depth)?,
        Err(VolumeError::Corrupt { what } | VolumeError::Device(what)) => repair.left.push(what),
        Err(e) => return Err(e),
    }
    let slots = ring::differences(&*device, &uuid);
    for slot in &slots {
        repair.found.push(slot.what.clone());
    }
    if !slots.is_empty() {
        repair.rebuilt.push(format!("{} superblock slots, from the other ring", slots.len()));
    }
    if mode == Mode::Write && !repair.rebuilt.is_empty() {
        ring::mend(&*device, &slots)?;
        repair.left = prove(device, depth);
    }
    Ok(repair)
}

/// What is wrong with a store now.
fn prove(device: Arc<dyn Device>, depth: Depth) -> Vec<String> {
    let options = OpenOptions { access: Access::ReadOnly, cache_bytes: CACHE_BYTES };
    let checked = Volume::open(device, options).and_then(|volume| check::check(&volume, depth));
    checked.map_or_else(|e| vec![e.to_string()], |report| report.problems)
}

impl Repair {
    fn derived(&mut self, examined: &Examined, mode: Mode, depth: Depth) -> Result<(), VolumeError> {
        let state = &examined.state;
        let (report, derived) = check::derive(state, depth);
        self.found.extend(examined.faults.iter().chain(&derived.found).cloned());
        let known: BTreeSet<&String> = derived.found.iter().collect();
        self.left = report.problems.iter().filter(|p| !known.contains(p)).cloned().collect();
        if self.found.is_empty() {
            return Ok(());
        }
        // Where free space is not known, nothing can be written but what has a place.
        let blind = !state.map_is_readable && !derived.complete;
        let bad_copies = derived.copies.len();
        let only_copies = self.found.len() == bad_copies;
        if derived.conflict || blind {
            self.left.extend(self.found.iter().cloned());
        }
        if derived.conflict {
            return Ok(());
        }
        if bad_copies > 0 {
            self.rebuilt.push(format!("{bad_copies} bad copies of blocks, from the good ones"));
        }
        if mode == Mode::Write {
            mend::heal(state, &derived.copies)?;
        }
        if blind || only_copies {
            return Ok(());
        }
        self.rebuilt.extend(words(examined, &derived));
        self.notes.extend(derived.leaks.iter().cloned());
        if mode == Mode::Write {
            mend::commit(state, &mending(examined, derived))?;
        }
        Ok(())
    }
}

/// What a commit writes anew.
fn words(examined: &Examined, derived: &Derived) -> Vec<String> {
    let strays = derived.stray_buckets.len()
        + derived.stray_chains.len()
        + derived.moved_gone.len()
        + examined.spoiled.len();
    let extra = derived.space.as_ref().and_then(|space| space.extra_refs.as_ref());
    let counts = [
        (derived.counters.len(), "view records, with their counters"),
        (derived.lists.len(), "dead lists"),
        (strays, "items of the meta tree that mean nothing, removed"),
        (examined.places_found, "records of content that has moved, found again by checksums"),
        (derived.purge_items.len(), "items of the meta tree about purged content"),
        (derived.jobs_gone.len(), "background jobs that cannot go on, removed"),
        (extra.map_or(0, Vec::len), "ranges with extra references"),
    ];
    let mut words: Vec<String> =
        counts.iter().filter(|(n, _)| *n > 0).map(|(n, what)| format!("{n} {what}")).collect();
    words.push("the space map".into());
    words
}

fn mending(examined: &Examined, derived: Derived) -> Mending {
    let state = &examined.state;
    let corrected = |(id, counters): &(_, check::Counters)| {
        let record = state.records.iter().find(|r| r.id == *id)?;
        let check::Counters { referenced, written, exclusive } = *counters;
        Some(ViewRecord { referenced, written, exclusive, ..record.clone() })
    };
    let mut gone = examined.spoiled.clone();
    gone.extend(&derived.stray_buckets);
    gone.extend(&derived.moved_gone);
    gone.extend(derived.jobs_gone.iter().map(|id| Key::new(0, Kind::Job, *id)));
    let (allocated, extra_refs) = match derived.space {
        Some(space) => (space.allocated, space.extra_refs),
        None => (state.allocated.clone(), None),
    };
    Mending {
        records: derived.counters.iter().filter_map(corrected).collect(),
        lists: derived.lists,
        gone,
        items: derived.purge_items,
        gone_chains: derived.stray_chains,
        extra_refs,
        allocated,
    }
}
