//! One scrub from start to end: how far it got, what it found, and its steps.
//!
//! A state of the volume is pinned from the first step that needs it until the scrub lets go of it or ends. What is
//! written down ([`Scrub::save`]) is enough to go on after a crash. What a step reads is `piece`'s business.

use super::plan::{self, Work};
use crate::format::scrub::{Cursor, FINDINGS_MAX, Finding, ScrubRecord, ScrubState, Stage};
use crate::format::{Epoch, Key};
use crate::tree::Span;
use crate::volume::scrub::Pinned;
use crate::volume::{Volume, VolumeError};
use std::collections::BTreeSet;

/// A scrub of one volume. Used by one thread at a time.
pub struct Scrub {
    pub(super) record: ScrubRecord,
    pub(super) findings: Vec<Finding>,
    /// Findings that no item has yet.
    pub(super) unsaved: BTreeSet<usize>,
    /// Addresses of bad places: each counts once.
    pub(super) bad: BTreeSet<u64>,
    /// Findings about lost nodes of the tree that is being read, whose files are looked up when its end is reached.
    pub(super) lost: Vec<(Option<usize>, Span)>,
    pub(super) pinned: Option<(Pinned, Vec<Work>)>,
    /// Its end was written down.
    pub(super) ended: bool,
    pub(super) rest: Option<Box<dyn FnMut(u64) + Send>>,
}

impl Scrub {
    /// A new scrub from the start. Forgets the one before.
    pub fn start(volume: &Volume, limit: u64, now_secs: i64) -> Scrub {
        let superblock = volume.committed_superblock();
        // A snapshot that only the superblock tells of has the tree of the live head: it takes the head's place.
        let until = superblock.pending.iter().map(|p| p.epoch.0 - 1).min().unwrap_or(superblock.epoch.0);
        let record = ScrubRecord {
            state: ScrubState::Running,
            cursor: Cursor { stage: Stage::Tables, number: 0, newer_than: Epoch(0), key: Key::MIN },
            until: Epoch(until),
            limit,
            done_bytes: 0,
            total_bytes: superblock.allocated,
            healed: 0,
            bad: 0,
            started_secs: now_secs,
            ended_secs: now_secs,
        };
        volume.scrub_items().keys().for_each(|n| volume.set_scrub_item(*n, None));
        Scrub::new(record, Vec::new())
    }

    fn new(record: ScrubRecord, findings: Vec<Finding>) -> Scrub {
        let (bad, unsaved) = (findings.iter().map(|f| f.addr).collect(), BTreeSet::new());
        let mut scrub = Scrub {
            record,
            findings,
            unsaved,
            bad,
            lost: Vec::new(),
            pinned: None,
            ended: false,
            rest: None,
        };
        scrub.ended = !scrub.is_unfinished();
        scrub
    }

    /// The last scrub of a store, finished or not; none if there never was one.
    pub fn load(volume: &Volume) -> Option<Scrub> {
        let items = volume.scrub_items();
        let record = ScrubRecord::decode(items.get(&0)?).map_err(|e| log::warn!("{e}")).ok()?;
        let findings = items.range(1..).filter_map(|(_, v)| Finding::decode(v).ok()).collect();
        Some(Scrub::new(record, findings))
    }

    /// How far it got.
    pub fn record(&self) -> &ScrubRecord {
        &self.record
    }

    /// What is bad and was not healed: the first of them, when there are very many.
    pub fn findings(&self) -> &[Finding] {
        &self.findings
    }

    /// Changes how fast it is to go.
    pub fn set_limit(&mut self, limit: u64) {
        self.record.limit = limit;
    }

    /// Says what to do, within a step, after so many bytes were read: to rest a little, so that others do not wait for
    /// the processor as long as a step takes.
    pub fn rest_with(&mut self, rest: impl FnMut(u64) + Send + 'static) {
        self.rest = Some(Box::new(rest));
    }

    /// Goes on, pauses or ends. A scrub that has ended stays so.
    pub fn set_state(&mut self, state: ScrubState) {
        if matches!(self.record.state, ScrubState::Running | ScrubState::Paused) {
            self.record.state = state;
        }
        if state != ScrubState::Running {
            self.unpin();
        }
    }

    /// True if it is not at its end and was not stopped.
    pub fn is_unfinished(&self) -> bool {
        matches!(self.record.state, ScrubState::Running | ScrubState::Paused)
    }

    /// Lets go of the state that is being read. Space that was freed since can be reused then.
    pub fn unpin(&mut self) {
        self.pinned = None;
    }

    /// Reads at least about `bytes` on, or to the end, and returns how many it read. An error is one of the device as a
    /// whole or of the volume, not of a block: the scrub is where it was and can go on later.
    pub fn step(&mut self, volume: &Volume, bytes: u64) -> Result<u64, VolumeError> {
        let mut read = 0;
        while read < bytes && self.record.state == ScrubState::Running {
            let (state, work) = match self.pinned.take() {
                Some(pinned) => pinned,
                None => match volume.pin_to_scrub() {
                    Ok(state) => {
                        let work = plan::plan(&state, self.record.until);
                        self.drain(state.pager.store(), "meta tree");
                        (state, work)
                    }
                    Err(VolumeError::Corrupt { what }) => {
                        // Without its tables nothing can be found.
                        self.found(Finding {
                            what: format!("tables of the store: {what}"),
                            ..Finding::default()
                        });
                        self.record.state = ScrubState::Finished;
                        return Ok(read);
                    }
                    Err(e) => return Err(e),
                },
            };
            let done = self.piece(volume, &state, &work, bytes - read);
            self.pinned = Some((state, work));
            read += done?;
        }
        if self.record.state != ScrubState::Running {
            self.unpin();
            if self.record.bad == 0 {
                volume.forget_damage();
            }
        }
        Ok(read)
    }

    /// Writes down how far it got and what it found. Durable with the next commit of the volume.
    pub fn save(&mut self, volume: &Volume, now_secs: i64) {
        if !self.ended {
            self.record.ended_secs = now_secs;
            self.ended = !self.is_unfinished();
        }
        for n in std::mem::take(&mut self.unsaved) {
            volume.set_scrub_item(1 + n as u64, Some(self.findings[n].encode()));
        }
        volume.set_scrub_item(0, Some(self.record.encode()));
    }

    /// Counts a bad block and keeps what is known of it, if it is news and there is room. Returns its number.
    pub(super) fn found(&mut self, finding: Finding) -> Option<usize> {
        if !self.bad.insert(finding.addr) {
            return None;
        }
        self.record.bad += 1;
        log::error!(
            "scrub: {}{}{}",
            finding.what,
            list(" in ", &finding.files),
            list(" of ", &finding.views)
        );
        let n = self.findings.len();
        if n as u64 >= FINDINGS_MAX {
            return None;
        }
        self.findings.push(finding);
        self.unsaved.insert(n);
        Some(n)
    }
}

/// Names behind a word; nothing without names.
pub(super) fn list(before: &str, names: &[String]) -> String {
    if names.is_empty() { String::new() } else { format!("{before}{}", names.join(", ")) }
}
