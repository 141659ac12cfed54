//! The two rings of superblock slots: the newest valid slot of either is the state of the store.

use super::VolumeError;
use crate::device::{Device, DeviceError, RESERVED_BYTES};
use crate::format::superblock::{RING_SLOTS, SLOT_BYTES, SlotError, Superblock};
use crate::store::Store;

type Result<T, E = VolumeError> = std::result::Result<T, E>;

const RING_STARTS: [u64; 2] = [0, RESERVED_BYTES / 2];

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
    for start in RING_STARTS {
        let addr = start + superblock.seq % RING_SLOTS * SLOT_BYTES as u64;
        let mut slot = vec![0; SLOT_BYTES];
        let what = match store.read_raw(addr, &mut slot) {
            Err(e) => Some(e.to_string()),
            Ok(()) => match Superblock::decode(&slot) {
                Ok(found) if found.seq == superblock.seq => continue,
                Err(SlotError::Invalid(why)) if slot.iter().any(|b| *b != 0) => Some(why),
                _ => None,
            },
        };
        let healed = store.health().may_heal() && store.write_raw(addr, &superblock.encode()).is_ok();
        if let Some(what) = what {
            match healed {
                true => store.health().healed(addr),
                false => drop(store.health().found_bad(addr)),
            }
            bad.push(BadSlot { addr, healed, what });
        }
    }
    bad
}

/// Clears both rings, so that nothing of an earlier store is found.
pub(super) fn clear(store: &Store) -> Result<()> {
    for start in RING_STARTS {
        store.write_raw(start, &vec![0; (RING_SLOTS as usize) * SLOT_BYTES])?;
    }
    Ok(())
}

/// The slots of a ring. Only where the ring cannot be read at once they are read one by one.
fn slots(device: &dyn Device, start: u64) -> Vec<Result<Vec<u8>, DeviceError>> {
    let mut ring = vec![0; RING_SLOTS as usize * SLOT_BYTES];
    if device.read_at(start, &mut ring).is_ok() {
        return ring.chunks_exact(SLOT_BYTES).map(|slot| Ok(slot.to_vec())).collect();
    }
    let one = |i: u64| {
        let mut slot = vec![0; SLOT_BYTES];
        device.read_at(start + i * SLOT_BYTES as u64, &mut slot).map(|()| slot)
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
    let [a, b] = RING_STARTS.map(|start| slots(device, start));
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
    let mut ring = vec![0; RING_SLOTS as usize * SLOT_BYTES];
    for start in RING_STARTS {
        // Only where the ring cannot be read at once its slots are read one by one.
        let whole = device.read_at(start, &mut ring).is_ok();
        for (i, slot) in ring.chunks_exact_mut(SLOT_BYTES).enumerate() {
            if !whole && let Err(e) = device.read_at(start + (i * SLOT_BYTES) as u64, slot) {
                failed = Some(e.to_string());
                continue;
            }
            if is_empty(slot) {
                continue;
            }
            match Superblock::decode(slot) {
                Ok(sb) => {
                    if rings.states.iter().all(|s| s.seq < sb.seq) {
                        rings.unknown_ro_features = Superblock::unknown_ro_features(slot);
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
