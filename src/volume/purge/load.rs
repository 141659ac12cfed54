//! Rewritten leaves as the items of a state tell of them.

use super::LeafTable;
use crate::format::purge::{LeafRecord, PIECE_BYTES, PurgeRest};
use crate::format::{FormatError, Key, Kind, bad};
use crate::store::{Rewrite, Store};
use std::collections::BTreeMap;
use std::sync::Arc;

/// What was read so far.
#[derive(Default)]
pub struct LoadedLeaves {
    records: LeafTable,
    pieces: BTreeMap<u64, Vec<u8>>,
    wiping: bool,
    rest: Vec<u8>,
    rest_pieces: u64,
}

/// What items tell of leaves that were rewritten, and of purges that are under way.
pub(in crate::volume) struct KnownLeaves {
    /// The leaves.
    pub leaves: LeafTable,
    /// What no tree leads to is being written over.
    pub wiping: bool,
    /// What is to be planned anew.
    pub rest: Option<PurgeRest>,
}

impl LoadedLeaves {
    /// Takes in an item.
    pub fn load(&mut self, key: &Key, value: &[u8]) -> Result<(), FormatError> {
        match Kind::from_u8(key.kind) {
            Some(Kind::PurgedLeaf) => {
                self.records.insert(key.rest, LeafRecord::decode(key.rest, value)?);
            }
            Some(Kind::PurgedPiece) if value.len() == PIECE_BYTES => {
                self.pieces.insert(key.rest, value.to_vec());
            }
            Some(Kind::PurgeWiping) if key.rest == 0 && value.is_empty() => self.wiping = true,
            // They come in order.
            Some(Kind::PurgeRest) if key.rest == self.rest_pieces => {
                self.rest.extend(value);
                self.rest_pieces += 1;
            }
            _ => return bad!("an item {key:?} of {} bytes about what was purged", value.len()),
        }
        Ok(())
    }

    /// From here on whoever reads a leaf from `store` has it as it is.
    pub(in crate::volume) fn known_to(self, store: &Store) -> Result<KnownLeaves, FormatError> {
        let is_missing =
            |(addr, record): &(&u64, &LeafRecord)| record.in_pieces && self.bytes(**addr).is_none();
        if let Some((addr, _)) = self.records.iter().find(is_missing) {
            return bad!("a piece of the leaf at {addr:#x} is missing");
        }
        self.known_as_far_as_read(store);
        let rest = (self.rest_pieces > 0).then(|| PurgeRest::decode(&self.rest)).transpose()?;
        Ok(KnownLeaves { leaves: self.records, wiping: self.wiping, rest })
    }

    /// The same of what could be read. A leaf of which pieces are missing may be at its place.
    pub fn known_as_far_as_read(&self, store: &Store) {
        for (addr, record) in &self.records {
            let bytes = self.bytes(*addr).filter(|_| record.in_pieces);
            let rewrite = Rewrite { checksum: record.checksum, bytes };
            store.rewrites().load_leaf(*addr, record.birth, rewrite);
        }
    }

    /// The pieces of a leaf, if there are all.
    fn bytes(&self, addr: u64) -> Option<Arc<[u8]>> {
        let pieces = LeafRecord::piece_keys(addr).map(|key| self.pieces.get(&key.rest));
        Some(pieces.collect::<Option<Vec<_>>>()?.into_iter().flatten().copied().collect())
    }
}
