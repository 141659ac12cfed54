//! What a power cut leaves of changes that no flush had covered.

use super::image::{Image, Unsynced};
use super::random::SplitMix;

/// What becomes of the unsynced changes in a crash.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CrashPolicy {
    /// All of them survive.
    KeepAll,
    /// None survives.
    DropAll,
    /// Each survives, is lost or is torn, as this seed decides; it also decides how likely each is.
    Random(u64),
    /// They reach the disk in an order that this seed decides, several writes of one place included, and the power goes
    /// in the middle of one of them.
    Shuffled(u64),
}

/// Each change survives, is lost or is torn.
pub(super) fn keep_some(image: &mut Image, changes: &[Unsynced], random: &mut SplitMix) {
    // Of 8 changes, how many are kept whole: few, half or most, so that rare survivors and rare losses both occur.
    let kept_of_8 = [1, 4, 7][random.below(3) as usize];
    for change in changes {
        if random.below(8) < kept_of_8 {
            image.apply(change);
        } else if random.below(2) == 0 {
            tear(image, change, random);
        }
    }
}

/// The changes happen in another order, up to one that is torn; what comes after it is lost.
pub(super) fn keep_shuffled(image: &mut Image, changes: &[Unsynced], random: &mut SplitMix) {
    let mut order: Vec<&Unsynced> = changes.iter().collect();
    for last in (1..order.len()).rev() {
        order.swap(last, random.below(last as u64 + 1) as usize);
    }
    let kept = random.below(order.len() as u64 + 1) as usize;
    order[..kept].iter().for_each(|change| image.apply(change));
    if let Some(change) = order.get(kept) {
        tear(image, change, random);
    }
}

/// Carries out some sectors of `change`: a prefix, as a cut cable leaves it, or any, as a disk's cache does.
pub(super) fn tear(image: &mut Image, change: &Unsynced, random: &mut SplitMix) {
    let sectors = change.sectors();
    let count = sectors.end - sectors.start;
    if random.below(2) == 0 {
        image.apply_part(change, sectors.start..sectors.start + random.below(count + 1));
        return;
    }
    // A discard can span the whole disk: it is torn in runs of sectors, so that the cost stays bounded.
    let run = count.div_ceil(256).max(1);
    for start in sectors.clone().step_by(run as usize) {
        if random.below(2) == 0 {
            image.apply_part(change, start..(start + run).min(sectors.end));
        }
    }
}
