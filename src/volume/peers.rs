//! What other stores have of this one: one record a store, replaced by each snapshot that is sent there.
//!
//! By it a snapshot can be the base of what is sent next though it is not here any more: what its line has changed since is
//! younger than its point in time. That is so as long as the line has the head that it had then.

use super::{ReserveFor, Result, Volume};
use crate::format::Ino;
use crate::format::line::LineRecord;
use crate::format::peer::PeerRecord;
use crate::format::{Key, Kind, LineId, ViewId};

/// Inodes without a name that are kept in mind of a snapshot at most.
pub const NAMELESS_MAX: usize = 64;

/// The number under which the record of a store is kept.
fn number(store: &[u8; 16]) -> u64 {
    let [a, b, c, d, e, f, g, h, ..] = *store;
    u64::from_le_bytes([a, b, c, d, e, f, g, h])
}

impl Volume {
    /// What a store has of this one, if that is known.
    pub fn peer(&self, store: &[u8; 16]) -> Option<PeerRecord> {
        let state = self.state.read();
        let record = PeerRecord::decode(state.peers.get(&number(store))?).ok()?;
        (record.store == *store).then_some(record)
    }

    /// All such records.
    pub fn peers(&self) -> Vec<PeerRecord> {
        let state = self.state.read();
        state.peers.values().filter_map(|value| PeerRecord::decode(value).ok()).collect()
    }

    /// Notes what a store has, since when and where it was then: a snapshot of the head that its line has now. Durable with the next commit; false, with nothing
    /// noted, if it is of an older head or has too many inodes without a name.
    pub fn note_peer(&self, store: [u8; 16], id: ViewId, (sent_secs, path): (i64, &[u8])) -> Result<bool> {
        self.check_writable()?;
        let (Some(identity), Some(info)) = (self.identity(id), self.snapshot_info(id)) else {
            return Ok(false);
        };
        let Some(line) = self.head_of_point(info.line, id) else { return Ok(false) };
        let view = self.snapshot(id)?;
        let mut nameless = Vec::new();
        let [from, to] = [0, u64::MAX].map(|rest| Key::new(Ino::ORPHANS.0, Kind::Orphan, rest));
        for item in view.range(&from, &to).take(NAMELESS_MAX + 1) {
            nameless.push(Ino(item?.0.rest));
        }
        if nameless.len() > NAMELESS_MAX {
            return Ok(false);
        }
        let record = PeerRecord {
            store,
            identity,
            line: line.id,
            head: line.head,
            epoch: info.epoch,
            created: info.created,
            name: info.name,
            nameless,
            sent_secs,
            path: path.to_vec(),
        };
        // Not while a commit is open, which has taken what changed.
        let _no_commit = self.committer.lock();
        let mut turn = self.turn();
        self.reserve_records(&turn, 1, ReserveFor::Write)?;
        let state = turn.alone();
        state.peers.insert(number(&store), record.encode());
        state.peers_dirty.insert(number(&store));
        state.changed = true;
        Ok(true)
    }

    /// The line of a snapshot, if the head that it has was there already when the snapshot was made.
    pub fn head_of_point(&self, line: LineId, id: ViewId) -> Option<LineRecord> {
        let state = self.state.read();
        let record = &state.lines.get(line)?.record;
        let below = state.history.get(record.head)?.prev?;
        (id > record.head && state.history.is_below(id, below)).then(|| record.clone())
    }

    /// True if what a snapshot has from the one that a record is about is what is not younger than that: both are of one
    /// head.
    pub fn follows(&self, id: ViewId, peer: &PeerRecord) -> bool {
        let Some(info) = self.snapshot_info(id) else { return false };
        let line = self.head_of_point(info.line, id);
        info.epoch > peer.epoch && line.is_some_and(|line| line.id == peer.line && line.head == peer.head)
    }
}
