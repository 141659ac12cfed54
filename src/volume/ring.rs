//! The two rings of superblock slots: the newest valid slot of either, on any side of a mirror, is the state of the store.

use super::VolumeError;
use super::levelling::Levelling;
use crate::device::{Device, DeviceError, RESERVED_BYTES};
use crate::format::superblock::{RING_SLOTS, SLOT_BYTES, SlotError, Superblock};
use crate::store::Store;

type Result<T, E = VolumeError> = std::result::Result<T, E>;

/// Where the rings start.
pub(super) const RING_STARTS: [u64; 2] = [0, RESERVED_BYTES / 2];

/// Writes a superblock to its slot in both rings. The caller flushes before and after.
pub(super) fn write(store: &Store, superblock: &Superblock) -> Result<()> {
    let slot = superblock.encode();
    for start in RING_STARTS {
        store.write_raw(start + superblock.seq % RING_SLOTS * SLOT_BYTES as u64, &slot)?;
    }
    Ok(())
}

/// A slot that did not hold the superblock of the state in force.
pub struct BadSlot {
    /// Where it is.
    pub addr: u64,
    /// It was written anew.
    pub healed: bool,
    /// What was wrong.
    pub what: String,
}

/// Proves the slots that hold `superblock` and writes bad ones anew. A slot of an older state, which a crash between two
/// writes leaves behind, is no damage, but is brought up to date. The caller keeps others from writing to the rings.
pub(super) fn scrub(store: &Store, superblock: &Superblock) -> Vec<BadSlot> {
    let mut bad = Vec::new();
    for side in store.device().sides() {
        RING_STARTS.iter().for_each(|start| bad.extend(scrub_slot(store, side, *start, superblock)));
    }
    if store.device().is_mirror() && store.health().may_heal() {
        bad.extend(scrub_older_slots(store));
    }
    bad
}

/// Slots of older states, of which the other side of a mirror has what is right.
fn scrub_older_slots(store: &Store) -> Vec<BadSlot> {
    let device = &**store.device();
    let mut levelling = Levelling::new(device);
    let found = equalise(device, &mut levelling);
    let healed = levelling.end().is_ok();
    let told = |(addr, what)| {
        match healed {
            true => store.health().healed(addr),
            false => drop(store.health().found_bad(addr)),
        }
        BadSlot { addr, healed, what }
    };
    found.into_iter().map(told).collect()
}

fn scrub_slot(store: &Store, side: usize, start: u64, superblock: &Superblock) -> Option<BadSlot> {
    let addr = start + superblock.seq % RING_SLOTS * SLOT_BYTES as u64;
    let mut slot = vec![0; SLOT_BYTES];
    let what = match store.read_raw_side(side, addr, &mut slot) {
        Err(e) => Some(e.to_string()),
        Ok(()) => match Superblock::decode(&slot) {
            Ok(found) if found.seq == superblock.seq => return None,
            Err(SlotError::Invalid(why)) if slot.iter().any(|b| *b != 0) => Some(why),
            _ => None,
        },
    };
    let healed = store.health().may_heal() && store.write_raw_side(side, addr, &superblock.encode()).is_ok();
    let what = what?;
    match healed {
        true => store.health().healed(addr),
        false => drop(store.health().found_bad(addr)),
    }
    Some(BadSlot { addr, healed, what })
}

/// Makes the rings of all sides of a mirror the same: each slot the newest state that a side has there. After a crash a
/// state may have reached one side alone.
///
/// Returns where a side had something that is no state of any store, and was to be written anew.
pub(super) fn equalise(device: &dyn Device, levelling: &mut Levelling<'_>) -> Vec<(u64, String)> {
    let mut bad = Vec::new();
    for start in RING_STARTS {
        let sides: Vec<_> =
            device.sides().into_iter().map(|side| (side, slots(device, side, start))).collect();
        for slot in 0..RING_SLOTS as usize {
            let seq = |bytes: &Vec<u8>| Superblock::decode(bytes).ok().map(|state| state.seq);
            let found = sides.iter().filter_map(|(_, slots)| slots.get(slot)?.as_ref().ok());
            // A slot that was never written to is right as well, if no side has a state there.
            let right = |b: &&Vec<u8>| seq(b).is_some() || is_empty(b);
            let Some(newest) = found.filter(right).max_by_key(|b| seq(b)) else { continue };
            let at = start + (slot * SLOT_BYTES) as u64;
            for (side, slots) in &sides {
                let there = slots.get(slot).and_then(|found| found.as_ref().ok());
                if there == Some(newest) {
                    continue;
                }
                match there.map(|there| Superblock::decode(there)) {
                    // Of a format that this program does not read.
                    Some(Err(SlotError::Foreign(_))) => continue,
                    Some(Err(SlotError::Invalid(why))) if there.is_some_and(|b| !is_empty(b)) => {
                        bad.push((at, why));
                    }
                    _ => {}
                }
                levelling.bring(*side, at, newest);
            }
        }
    }
    bad
}

/// The newest state of each side, by its number, of those that have one.
pub(super) fn newest_by_side(device: &dyn Device) -> Vec<(usize, Superblock)> {
    let newest = |side: &usize| {
        let slots = RING_STARTS.iter().flat_map(|start| slots(device, *side, *start));
        let states = slots.filter_map(|slot| Superblock::decode(&slot.ok()?).ok());
        states.max_by_key(|state| state.seq).map(|state| (*side, state))
    };
    device.sides().iter().filter_map(newest).collect()
}

/// Clears both rings, so that nothing of an earlier store is found.
pub(super) fn clear(store: &Store) -> Result<()> {
    for start in RING_STARTS {
        store.write_raw(start, &vec![0; (RING_SLOTS as usize) * SLOT_BYTES])?;
    }
    Ok(())
}

/// The slots of a ring of one side. Only where the ring cannot be read at once they are read one by one.
fn slots(device: &dyn Device, side: usize, start: u64) -> Vec<Result<Vec<u8>, DeviceError>> {
    let mut ring = vec![0; RING_SLOTS as usize * SLOT_BYTES];
    if device.read_side(side, start, &mut ring).is_ok() {
        return ring.chunks_exact(SLOT_BYTES).map(|slot| Ok(slot.to_vec())).collect();
    }
    let one = |i: u64| {
        let mut slot = vec![0; SLOT_BYTES];
        device.read_side(side, start + i * SLOT_BYTES as u64, &mut slot).map(|()| slot)
    };
    (0..RING_SLOTS).map(one).collect()
}

/// A slot that is not what its twin in the other ring is.
pub struct SlotFix {
    /// What is wrong with it, in words.
    pub what: String,
    at: u64,
    bytes: Vec<u8>,
}

/// Slots whose twin holds a newer state of the store, or a state where they hold none. After a crash that is no damage:
/// a state is written to one ring after the other.
pub fn differences(device: &dyn Device, uuid: &[u8; 16]) -> Vec<SlotFix> {
    let side = device.sides().first().copied().unwrap_or_default();
    let [a, b] = RING_STARTS.map(|start| slots(device, side, start));
    let seq = |slot: &Result<Vec<u8>, DeviceError>| {
        let state = Superblock::decode(slot.as_ref().ok()?).ok()?;
        (state.uuid == *uuid).then_some(state.seq)
    };
    let mut fixes = Vec::new();
    for (i, (a, b)) in a.into_iter().zip(b).enumerate() {
        let (side, good, bad) = if seq(&a) > seq(&b) { (1, a, b) } else { (0, b, a) };
        let (Some(newest), Ok(good)) = (seq(&good), good) else { continue };
        let how = match (&bad, seq(&bad)) {
            (Ok(bad), _) if *bad == good => continue,
            (_, Some(seq)) => format!("has state {seq}"),
            (Ok(bad), None) if is_empty(bad) => "is empty".into(),
            (Ok(_), None) => "is damaged".into(),
            (Err(e), None) => format!("cannot be read ({e})"),
        };
        let name = ["A", "B"][side];
        let what = format!("slot {i} of ring {name} {how}, the other ring has state {newest}");
        fixes.push(SlotFix { what, at: RING_STARTS[side] + (i * SLOT_BYTES) as u64, bytes: good });
    }
    fixes
}

/// Makes slots what their twins are. One at a time, so that a crash never harms both of a pair.
pub fn mend(device: &dyn Device, fixes: &[SlotFix]) -> Result<()> {
    let failed = |e: DeviceError| VolumeError::Device(e.to_string());
    for fix in fixes {
        device.write_at(fix.at, &fix.bytes).map_err(failed)?;
    }
    if fixes.is_empty() { Ok(()) } else { device.flush().map_err(failed) }
}

/// True if nothing was ever written to a slot of a cleared ring. Opening a store asks that of 128 slots.
fn is_empty(slot: &[u8]) -> bool {
    slot == [0; SLOT_BYTES]
}

/// What the rings hold.
pub struct Rings {
    /// Valid states, newest first, each once.
    pub states: Vec<Superblock>,
    /// Features of the newest state that allow reading only.
    pub unknown_ro_features: u64,
    /// Slots that hold something that is no valid superblock.
    pub damaged: Vec<String>,
}

/// Reads both rings. Fails if they hold nothing valid, or a newer format.
pub fn read(device: &dyn Device) -> Result<Rings> {
    let mut rings = Rings { states: Vec::new(), unknown_ro_features: 0, damaged: Vec::new() };
    let (mut foreign, mut failed) = (None, None);
    let sides = device.sides();
    for (side, start) in sides.iter().flat_map(|side| RING_STARTS.map(|start| (*side, start))) {
        for (i, slot) in slots(device, side, start).into_iter().enumerate() {
            let slot = match slot {
                Ok(slot) => slot,
                Err(e) => {
                    failed = Some(e.to_string());
                    continue;
                }
            };
            if is_empty(&slot) {
                continue;
            }
            match Superblock::decode(&slot) {
                Ok(sb) => {
                    if rings.states.iter().all(|s| s.seq < sb.seq) {
                        rings.unknown_ro_features = Superblock::unknown_ro_features(&slot);
                    }
                    if rings.states.iter().all(|s| s.seq != sb.seq) {
                        rings.states.push(sb);
                    }
                }
                Err(SlotError::Foreign(why)) => foreign = Some(why),
                Err(SlotError::Invalid(why)) => rings.damaged.push(format!("slot {i} at {start:#x}: {why}")),
            }
        }
    }
    rings.states.sort_by_key(|s| std::cmp::Reverse(s.seq));
    match (rings.states.is_empty(), foreign, failed) {
        (_, Some(why), _) => Err(VolumeError::NotAStore(format!("{}: {why}", device.describe()))),
        (true, None, Some(_)) if device.size() < RESERVED_BYTES && rings.damaged.is_empty() => {
            let what = format!("{} holds no snapfs store: it is shorter than any", device.describe());
            Err(VolumeError::NotAStore(what))
        }
        (true, None, Some(why)) => Err(VolumeError::Device(why)),
        (true, None, None) => Err(VolumeError::NotAStore(format!(
            "{} holds no snapfs store: none of its superblock slots is valid{}",
            device.describe(),
            rings.damaged.first().map(|d| format!(" ({d})")).unwrap_or_default()
        ))),
        (false, None, _) => Ok(rings),
    }
}
