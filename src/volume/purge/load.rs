//! Rewritten leaves as the items of a state tell of them.

use super::LeafTable;
use crate::format::purge::{LeafRecord, PIECE_BYTES};
use crate::format::{FormatError, Key, Kind, bad};
use crate::store::{Rewrite, Store};
use std::collections::BTreeMap;

/// What was read so far.
#[derive(Default)]
pub(in crate::volume) struct LoadedLeaves {
    records: LeafTable,
    pieces: BTreeMap<u64, Vec<u8>>,
    wiping: bool,
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
            _ => return bad!("an item {key:?} of {} bytes about what was purged", value.len()),
        }
        Ok(())
    }

    /// From here on whoever reads a leaf from `store` has it as it is. Also says whether what no tree leads to is being written
    /// over.
    pub fn known_to(self, store: &Store) -> Result<(LeafTable, bool), FormatError> {
        for (addr, record) in &self.records {
            let bytes = if record.in_pieces {
                let pieces = LeafRecord::piece_keys(*addr).map(|key| self.pieces.get(&key.rest));
                let Some(pieces) = pieces.collect::<Option<Vec<_>>>() else {
                    return bad!("a piece of the leaf at {addr:#x} is missing");
                };
                Some(pieces.into_iter().flatten().copied().collect())
            } else {
                None
            };
            let rewrite = Rewrite { checksum: record.checksum, bytes };
            store.rewrites().load_leaf(*addr, record.birth, rewrite);
        }
        Ok((self.records, self.wiping))
    }
}
