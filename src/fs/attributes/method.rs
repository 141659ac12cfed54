//! By which method a snapshot was made, and which stores are known to have a copy of it.

use crate::format::hydration::HydrationState;
use crate::format::provenance::Reason;
use crate::format::{Ino, Layout};
use crate::fs::items::Items;
use crate::ops::Result;
use crate::volume::{SnapshotInfo, Volume};

/// The method, as `create --method` calls it. It was kept when the snapshot was made, and no copy or layout that came later
/// changes it. Where none was said it is as the layout has it that the root of the tree had.
pub fn method_of(volume: &Volume, info: &SnapshotInfo) -> Result<&'static str> {
    if let Some(said) = info.provenance.method.name() {
        return Ok(said);
    }
    if info.provenance.reason == Reason::Split {
        return Ok("mirror");
    }
    let root = volume.snapshot(info.id)?.inode(Ino::ROOT)?;
    let goes_home = root.and_then(|root| root.layout).is_some_and(|own| own.value == Layout::Cow);
    Ok(if goes_home { "cow" } else { "row" })
}

/// The identities of the other stores that have all of this snapshot: those in which a whole copy was noted, and those that
/// have it as the newest of this one.
pub fn stores_with(volume: &Volume, info: &SnapshotInfo) -> Vec<String> {
    let identity = volume.identity(info.id);
    let copies = volume.hydrations_of(info.id).into_iter();
    let copies = copies.filter(|copy| copy.state == HydrationState::Whole).map(|copy| copy.store);
    let peers = volume.peers().into_iter().filter(|peer| Some(peer.identity) == identity);
    let mut all: Vec<[u8; 16]> = Vec::new();
    for store in copies.chain(peers.map(|peer| peer.store)) {
        if store != volume.uuid() && !all.contains(&store) {
            all.push(store);
        }
    }
    all.iter().map(|store| store.iter().map(|byte| format!("{byte:02x}")).collect()).collect()
}
