//! Opening what is there of a mirror: the sides that serve, and the one that is to be filled.

use super::label::{read_label, write_label};
use super::meeting::{Both, SideFound, alone, meet_in_states};
use super::mirror::{Mirror, MirrorError};
use crate::device::Device;
use crate::format::mirror::{Label, Standing};
use std::cmp::Ordering;
use std::sync::Arc;

/// What a side is that was detached, behind its place.
pub const DETACHED: &str = "it was detached from its mirror: -o mirror=alone mounts what it had then as a store of its own, and \
                            'snapfs init --force' makes a new one";

/// A device with what its label says, and what was committed on it last.
pub struct Present {
    /// The device.
    pub device: Arc<dyn Device>,
    /// What a person calls it.
    pub place: String,
    /// Its label.
    pub label: Option<Label>,
    /// Of its newest superblock.
    pub epoch: u64,
    /// When that was written, in seconds since 1970 UTC; 0: that is not known.
    pub secs: i64,
    /// Of the superblock before that.
    pub before: u64,
    /// The number of that superblock.
    pub state: u64,
    /// Where its log ends, if somebody has looked: of one state who has more of it is newer.
    pub log: u64,
    /// It does not have the files, or all of them, that the store needs, and its partner does: a sentence.
    pub lacks: Option<String>,
}

/// A mirror to be served.
pub struct MirrorOpening {
    /// The device to open the store on.
    pub mirror: Mirror,
    /// The side that is behind and is to be filled.
    pub behind: Option<Present>,
    /// It goes on alone: why, in a sentence.
    pub warning: Option<String>,
}

impl Present {
    /// Reads the label of a device that has these epochs, of its newest superblock and of the one before, and this number of the newest.
    ///
    /// # Errors
    /// The device's.
    pub fn read(
        device: Arc<dyn Device>,
        (epoch, before): (u64, u64),
        state: u64,
    ) -> Result<Present, MirrorError> {
        let label = read_label(&*device)?;
        Ok(Present {
            place: device.describe(),
            device,
            label,
            epoch,
            secs: 0,
            before,
            state,
            log: 0,
            lacks: None,
        })
    }

    fn stands(&self) -> Option<Standing> {
        self.label.as_ref().map(|label| label.standing)
    }

    fn told(&self) -> String {
        let label = self.label.as_ref().filter(|l| l.standing != Standing::Together);
        let generation = self.label.as_ref().map_or(0, |l| l.current);
        let parted = match label.map_or(0, |l| l.parted_from) {
            0 => String::new(),
            from => format!(", parted from {from:016x}"),
        };
        format!("{} has generation {generation:016x}{parted} and state {}", self.place, self.epoch)
    }
}

/// True if the side that has the newer state is the one that has lost files.
fn newer_lacks(first: &Present, second: &Present) -> bool {
    let (newer, older) = match by_age(first, second) {
        Ordering::Greater => (first, second),
        Ordering::Less => (second, first),
        Ordering::Equal => return false,
    };
    newer.lacks.is_some() && older.lacks.is_none()
}

/// Greater: the first is newer.
fn by_age(first: &Present, second: &Present) -> Ordering {
    (first.state, first.log).cmp(&(second.state, second.log))
}

fn refused<T>(why: String) -> Result<T, MirrorError> {
    Err(MirrorError::Refused(why))
}

/// Has one that was split say that it may have something of its own from now on. Durable when it returns.
fn noted_open(device: &dyn Device, label: Label) -> Result<Label, MirrorError> {
    if label.standing != Standing::Split || label.opened {
        return Ok(label);
    }
    let opened = Label { number: label.number + 1, opened: true, ..label };
    write_label(device, &opened)?;
    Ok(opened)
}

/// Before one side alone is changed by a repair, which may put blocks of the epoch that is in force to places that were free: it
/// goes on alone, and its label says that its partner lacks what came with that epoch, whatever was committed on both. Durable
/// when it returns.
///
/// # Errors
/// As those of [`open_sides`].
pub fn part_for_repair(first: Present, seed: u64) -> Result<(), MirrorError> {
    let epoch = first.epoch;
    let opened = open_sides(first, None, true, seed)?;
    opened.mirror.relabel(|label| Some(label.without(epoch)))
}

/// Opens the store on `first`, with its partner if that is there. A side that goes on alone says so durably before this
/// returns. `even_stale` serves one that was told that its partner is newer. `seed` is another each time.
///
/// # Errors
/// If neither may be served, or both went on alone.
pub fn open_sides(
    first: Present,
    second: Option<Present>,
    even_stale: bool,
    seed: u64,
) -> Result<MirrorOpening, MirrorError> {
    let Some(label) = first.label.clone() else {
        return Ok(MirrorOpening { mirror: Mirror::solo(first.device, seed), behind: None, warning: None });
    };
    // What was committed on both is what was committed on it, unless somebody knows better.
    let one_since = |side: Present, behind: Option<Present>, warning: Option<String>, reached: (u64, i64)| {
        let Some(label) = side.label else { return refused(format!("{} has no label", side.place)) };
        let mirror = Mirror::one_of_two(side.device, label, reached, seed)?;
        Ok(MirrorOpening { mirror, behind, warning })
    };
    let one = |side: Present, behind: Option<Present>, warning: Option<String>| {
        let reached = (side.epoch, side.secs);
        one_since(side, behind, warning, reached)
    };
    let theirs = second.as_ref().and_then(|second| Some((second.label.as_ref()?, second.before)));
    let met = theirs.map(|theirs| meet_in_states((&label, first.before), theirs));
    match (met, second) {
        // The other may lack what was acknowledged since, and what this one lost is not here.
        (Some(Both::Together), Some(second)) if newer_lacks(&first, &second) => {
            let is_newer = by_age(&first, &second) == Ordering::Greater;
            let (newer, older) = if is_newer { (first, second) } else { (second, first) };
            let lacks = newer.lacks.clone().unwrap_or_default();
            refused(format!(
                "{lacks}, and its partner {} has an older state, without what came since: put back what {} has lost; or mount {} alone, with -o mirror=alone, as it was in its state {}, and then see 'snapfs mirror resync'; {}; {}",
                older.place,
                newer.place,
                older.place,
                older.epoch,
                newer.told(),
                older.told()
            ))
        }
        // Each state is written to both before the next begins: one that lacks more was put back to an older time. One that lacks
        // one state gets that when the store is opened.
        (Some(Both::Together), Some(second)) if first.state.abs_diff(second.state) > 1 => {
            let (newer, older) = if first.state > second.state { (first, second) } else { (second, first) };
            let warning = format!(
                "{} has state {} and its partner {} has an older one, {}: that is filled",
                newer.place, newer.epoch, older.place, older.epoch
            );
            let reached = (newer.epoch, newer.secs).min((older.epoch, older.secs));
            one_since(newer, Some(older), Some(warning), reached)
        }
        (Some(Both::Together), Some(second)) if first.lacks.is_some() != second.lacks.is_some() => {
            let (whole, other) = if first.lacks.is_none() { (first, second) } else { (second, first) };
            let lacks = other.lacks.clone().unwrap_or_default();
            // Nothing of that counts.
            one_since(
                whole,
                Some(other),
                Some(format!("{lacks}: it is filled whole from its partner")),
                (0, 0),
            )
        }
        (Some(Both::Together), Some(second)) => {
            let Some(theirs) = second.label else { return refused(format!("{} has no label", second.place)) };
            let reached = first.epoch.min(second.epoch);
            let sides = [(first.device, label), (second.device, theirs)];
            let mirror = Mirror::opened(sides, reached, seed)?;
            Ok(MirrorOpening { mirror, behind: None, warning: None })
        }
        (Some(Both::FirstAhead), second) => one(first, second, None),
        (Some(Both::SecondAhead), Some(second)) => one(second, Some(first), None),
        (Some(Both::SplitBrain), Some(second))
            if first.stands() == Some(Standing::Together) && second.stands() == first.stands() =>
        {
            refused(format!(
                "one side of the mirror is a copy from an older time, and it is not known which: {}; {}; mount the newer one with -o mirror=alone, and then see 'snapfs mirror resync'",
                first.told(),
                second.told()
            ))
        }
        (Some(Both::SplitBrain), Some(second)) => refused(format!(
            "both sides of the mirror went on without the other, and neither may win by itself: {}; {}; say which one to keep with 'snapfs mirror resync --keep'",
            first.told(),
            second.told()
        )),
        (Some(Both::Neither), Some(second)) => {
            refused(format!("neither side of the mirror is whole: {} and {}", first.place, second.place))
        }
        (met, second) => {
            let unlabelled = second.filter(|_| met.is_none()).map(|second| {
                let place = second.place;
                format!(
                    "{place} is where the other side of the mirror was and has no label or no superblock: they were cut short or written over; put these back, or have it filled whole with 'snapfs mirror attach MNT {place} --force'"
                )
            });
            let why = match (&unlabelled, met) {
                (Some(why), _) => why.as_str(),
                (None, None) => "the other side of the mirror is not there",
                (None, Some(_)) => "what is found in its place is not the other side of this mirror",
            };
            match alone(first.label.as_ref()) {
                SideFound::Plain => {
                    let label = noted_open(&*first.device, label)?;
                    let mirror = Mirror::labelled(first.device, label, seed);
                    Ok(MirrorOpening { mirror, behind: None, warning: None })
                }
                SideFound::Incomplete => refused(format!(
                    "{} was to become the other side of a mirror and was not filled to the end: it is no store; mount its partner",
                    first.place
                )),
                SideFound::Stale if !even_stale && first.label.as_ref().is_some_and(Label::is_detached) => {
                    refused(format!("{}: {DETACHED}", first.place))
                }
                SideFound::Stale if !even_stale => refused(format!(
                    "{} is older than its partner, which went on without it ({why}): mount the partner, or this one as it is with -o mirror=alone",
                    first.place
                )),
                SideFound::Whole | SideFound::Stale => {
                    let warning = format!("{}: {why}: it goes on alone", first.place);
                    one(first, None, Some(warning))
                }
            }
        }
    }
}
