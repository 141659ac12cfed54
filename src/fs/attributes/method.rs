//! By which method a snapshot was made, and which stores are known to have a copy of it.

use crate::format::provenance::Reason;
use crate::format::{Ino, Layout};
use crate::fs::items::Items;
use crate::ops::Result;
use crate::volume::{SnapshotInfo, Volume};

/// The method, as `create --method` calls it. Of a snapshot that is on both sides of a split, or was copied, it is that,
/// whatever layout its tree has.
pub fn method_of(volume: &Volume, info: &SnapshotInfo) -> Result<&'static str> {
    if info.provenance.reason == Reason::Split {
        return Ok("mirror");
    }
    if !volume.hydrations_of(info.id).is_empty() {
        return Ok("background");
    }
    if !stores_with(volume, info).is_empty() {
        return Ok("clone");
    }
    let root = volume.snapshot(info.id)?.inode(Ino::ROOT)?;
    let goes_home = root.and_then(|root| root.layout).is_some_and(|own| own.value == Layout::Cow);
    Ok(if goes_home { "cow" } else { "row" })
}

/// The identities of the stores that have got this snapshot as the newest of this one.
pub fn stores_with(volume: &Volume, info: &SnapshotInfo) -> Vec<String> {
    let identity = volume.identity(info.id);
    let peers = volume.peers().into_iter().filter(|peer| Some(peer.identity) == identity);
    peers.map(|peer| peer.store.iter().map(|byte| format!("{byte:02x}")).collect()).collect()
}
