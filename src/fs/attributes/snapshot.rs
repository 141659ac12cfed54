//! What a snapshot says of itself: extended attributes of its root that are made up and not stored.

use super::method::method_of;
use crate::clock::rfc3339;
use crate::format::Slot;
use crate::ops::{Error, Result, Timestamp};
use crate::volume::Volume;

/// What the extended attributes of a snapshot's root say, without their prefix.
pub fn snapshot_attributes(volume: &Volume, slot: Slot) -> Result<Vec<(&'static str, Vec<u8>)>> {
    let info = volume.snapshot_by_slot(slot).ok_or(Error::Stale)?;
    let method = method_of(volume, &info)?.to_string();
    let made = info.provenance;
    let mut all: Vec<(&'static str, Vec<u8>)> = [
        ("created", rfc3339(time_of(info.created))),
        ("method", method),
        ("consistency", info.consistency.name().to_string()),
        ("referenced", info.referenced.to_string()),
        ("written", info.written.to_string()),
        ("id", info.id.0.to_string()),
        ("reason", made.reason.name().to_string()),
    ]
    .map(|(name, text)| (name, text.into_bytes()))
    .into();
    let holds: Vec<String> = volume.holds_of(info.id).into_iter().map(|hold| hold.tag).collect();
    all.extend((!holds.is_empty()).then(|| ("holds", holds.join(",").into_bytes())));
    // What nobody has said is not there, nor what no counter tells.
    all.extend(info.exclusive.map(|bytes| ("exclusive", bytes.to_string().into_bytes())));
    all.extend(info.edited.map(|secs| ("edited", rfc3339(time_of((secs, 0))).into_bytes())));
    all.extend(made.user.map(|user| ("user", user.to_string().into_bytes())));
    let texts = [("description", made.description), ("command", made.command)];
    all.extend(texts.into_iter().filter(|(_, text)| !text.is_empty()));
    Ok(all)
}

/// As requests have it.
pub fn time_of((secs, nanos): (i64, u32)) -> Timestamp {
    Timestamp { secs, nanos }
}
