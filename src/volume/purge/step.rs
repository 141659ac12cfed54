//! What one commit does for purges: it holds what was ordered, and gives back what was written over.

use super::order::{Ordered, PurgeOrder, Purging};
use crate::format::deadlist::DeadEntry;
use crate::format::purge::{LeafRecord, PIECE_BYTES, PurgeRest, wiping_key};
use crate::format::{Epoch, NODE_BYTES, ViewId};
use crate::store::{Rewrite, Store};
use crate::tree::Pager;
use crate::volume::Result;
use crate::volume::extra_refs::ExtraRefs;
use crate::volume::history::Meta;
use crate::volume::remap::{Places, Remap, Wiped};
use std::collections::BTreeMap;

/// Leaves that were rewritten, by address, as the committed state has them.
pub type LeafTable = BTreeMap<u64, LeafRecord>;

/// The part of a commit that is about purges.
#[derive(Default)]
pub(in crate::volume) struct PurgeTurn {
    pub order: Option<PurgeOrder>,
    /// Places that are to be given back.
    pub settled: Vec<(u64, u64)>,
    /// Leaves of which the pieces are to go.
    pub in_place: Vec<(u64, Epoch)>,
    pub wiping: Option<bool>,
    pub rest_is_over: bool,
    /// What only hidden views hold is freed, however little it is.
    pub sweep: bool,
    pub(super) held: Vec<(u64, u64)>,
    pub(super) wiped: Wiped,
    /// Places that nobody refers to any more.
    pub(super) unheld: Vec<(u64, u64)>,
    pub(super) ordered: Option<Ordered>,
    /// Where rewritten leaves are that are at their places now, or gone.
    pub(super) leaves_left: Vec<(u64, u64)>,
}

impl PurgeTurn {
    /// What a commit is to do. Called with the state locked.
    pub fn taken_from(purging: &Purging) -> PurgeTurn {
        let mut waiting = purging.waiting.lock();
        PurgeTurn {
            order: waiting.order.take(),
            settled: std::mem::take(&mut waiting.wiped),
            in_place: std::mem::take(&mut waiting.in_place),
            wiping: waiting.wiping.take(),
            rest_is_over: std::mem::take(&mut waiting.rest_is_over),
            sweep: std::mem::take(&mut waiting.sweep),
            ..PurgeTurn::default()
        }
    }

    /// True if a commit has something to do for it.
    pub fn has_work(&self) -> bool {
        let given_back = !self.settled.is_empty() || !self.in_place.is_empty();
        self.order.is_some() || given_back || self.wiping.is_some() || self.rest_is_over || self.sweep
    }

    /// Takes in what was ordered, and gives back what was written over: returns places that are free.
    pub fn enter(
        &mut self,
        (remap, extra_refs, leaves): (&mut Remap, &mut ExtraRefs, &mut LeafTable),
        store: &Store,
        meta: &mut Meta<'_, '_>,
        epoch: Epoch,
    ) -> Result<Vec<(u64, u64)>> {
        self.wiped = remap.settle_purged(&self.settled, extra_refs, epoch);
        self.unheld.append(&mut self.wiped.unheld);
        for (addr, birth) in &self.in_place {
            if let Some(record) = leaves.get_mut(addr).filter(|r| r.birth == *birth && r.in_pieces) {
                record.in_pieces = false;
                self.leaves_left.extend(record.places(*addr));
                meta.edit.insert(meta.root, &LeafRecord::key(*addr), &record.encode())?;
                drop_pieces(*addr, meta)?;
            }
        }
        if let Some(order) = &self.order {
            if self.is_as_known(order, store, extra_refs) {
                for (addr, len) in &order.places {
                    for (addr, len) in remap.purged.hold(*addr, *len) {
                        extra_refs.add(addr, len);
                        self.held.push((addr, len));
                    }
                }
                for leaf in &order.leaves {
                    let (addr, birth) = (leaf.ptr.addr.0, leaf.ptr.birth);
                    let (copy, checksum) = (leaf.ptr.copy, leaf.checksum);
                    let record = LeafRecord { copy, birth, checksum, in_pieces: true };
                    meta.edit.insert(meta.root, &LeafRecord::key(addr), &record.encode())?;
                    for (key, piece) in LeafRecord::piece_keys(addr).zip(leaf.bytes.chunks(PIECE_BYTES)) {
                        meta.edit.insert(meta.root, &key, piece)?;
                    }
                    leaves.insert(addr, record);
                }
                self.ordered = Some(Ordered::Held);
                // What no tree leads to is to be written over, whatever was.
                self.wiping = Some(true);
            } else {
                self.ordered = Some(Ordered::Changed);
            }
        }
        match self.wiping {
            Some(true) => meta.edit.insert(meta.root, &wiping_key(), &[])?,
            Some(false) => drop(meta.edit.remove(meta.root, &wiping_key())?),
            None => {}
        }
        Ok(self.wiped.freed.clone())
    }

    /// Nothing of the order is done if that is true of one of the snapshots that it is about.
    pub fn refuse_if(&mut self, is_in_the_way: impl Fn(ViewId) -> bool) {
        if self.order.as_ref().is_some_and(|order| order.edited.iter().any(|view| is_in_the_way(*view))) {
            (self.order, self.ordered) = (None, Some(Ordered::Changed));
        }
    }

    /// Nothing of the order is done if it would leave something to do beside what another purge has left.
    pub fn refuse_beside(&mut self, rest: Option<&PurgeRest>) {
        let Some(rest) = rest else { return };
        if self.order.as_ref().is_some_and(|order| order.has_more && !order.takes_over(rest)) {
            (self.order, self.ordered) = (None, Some(Ordered::Changed));
        }
    }

    /// Snapshots that have lost content by it, and when.
    pub fn edited(&self) -> Option<(&[ViewId], i64)> {
        let order = self.order.as_ref().filter(|_| self.ordered == Some(Ordered::Held))?;
        Some((&order.edited, order.secs))
    }

    /// Notes what is left to do that is planned anew: what an order leaves of its own purge. What another has left stays.
    pub fn enter_rest(&self, rest: &mut Option<PurgeRest>, meta: &mut Meta<'_, '_>) -> Result<()> {
        let order = self.order.as_ref().filter(|_| self.ordered == Some(Ordered::Held));
        let is_its = |order: &&PurgeOrder| rest.as_ref().is_none_or(|rest| order.takes_over(rest));
        let new = match order.filter(is_its) {
            Some(order) => order.asked.clone().filter(|_| order.has_more),
            None if self.rest_is_over => None,
            None => return Ok(()),
        };
        if new == *rest {
            return Ok(());
        }
        for (key, _) in rest.iter().flat_map(PurgeRest::items) {
            meta.edit.remove(meta.root, &key)?;
        }
        for (key, piece) in new.iter().flat_map(PurgeRest::items) {
            meta.edit.insert(meta.root, &key, &piece)?;
        }
        *rest = new;
        Ok(())
    }

    /// What was planned is what there is.
    fn is_as_known(&self, order: &PurgeOrder, store: &Store, extra_refs: &ExtraRefs) -> bool {
        let alloc = store.alloc();
        let places = order.places.iter().copied();
        let leaves = order.leaves.iter().flat_map(|leaf| leaf.ptr.ranges());
        places.clone().chain(leaves).all(|(addr, len)| alloc.is_settled(addr, len))
            && places.flat_map(|(addr, len)| extra_refs.parts(addr, len)).eq(order.known.iter().copied())
    }

    /// References go: with a leaf, what says that it was rewritten.
    pub fn release_leaves(
        &mut self,
        let_go: &[DeadEntry],
        leaves: &mut LeafTable,
        meta: &mut Meta<'_, '_>,
    ) -> Result<()> {
        if leaves.is_empty() {
            return Ok(());
        }
        for e in let_go.iter().filter(|e| e.len == NODE_BYTES as u64) {
            let Some(record) = leaves.get(&e.addr).filter(|record| record.birth == e.birth) else { continue };
            if record.in_pieces {
                drop_pieces(e.addr, meta)?;
                self.leaves_left.extend(record.places(e.addr));
            }
            meta.edit.remove(meta.root, &LeafRecord::key(e.addr))?;
            leaves.remove(&e.addr);
        }
        Ok(())
    }

    /// These places are free: they are not wiped any more.
    pub fn forget(&mut self, remap: &mut Remap, freed: &[(u64, u64)]) {
        if remap.purged.is_empty() {
            return;
        }
        for (addr, len) in freed.iter().copied() {
            if remap.purged.is_place(addr, len) {
                remap.purged.forget_place(addr, len);
                self.unheld.push((addr, len));
            }
        }
    }

    /// The state of `epoch` is in force. Readers of older roots may still have what commits from `unreachable` on let go of.
    pub fn publish(
        mut self,
        purging: &Purging,
        places: &Places,
        pager: &Pager,
        epoch: Epoch,
        unreachable: Epoch,
    ) {
        let rewrites = pager.store().rewrites();
        let order = self.order.take();
        if order.is_some() {
            places.may_be_shared();
        }
        let order = order.filter(|_| self.ordered == Some(Ordered::Held)).unwrap_or_default();
        let mut shut = self.held.clone();
        shut.extend(order.leaves.iter().flat_map(|leaf| leaf.ptr.ranges()));
        if !shut.is_empty() {
            rewrites.enter_places(&shut);
            for leaf in &order.leaves {
                let rewrite = Rewrite { checksum: leaf.checksum, bytes: Some(leaf.bytes.clone()) };
                rewrites.enter_leaf(leaf.ptr.addr.0, leaf.ptr.birth, rewrite);
                pager.drop_cached(&leaf.ptr);
            }
            places.hold(&self.held);
        }
        if !self.settled.is_empty() {
            places.settle_purged(&self.settled, &self.wiped);
        }
        places.forget_places(epoch, &self.unheld);
        let mut waiting = purging.waiting.lock();
        let mut leaving = std::mem::take(&mut self.wiped.freed);
        leaving.append(&mut self.unheld);
        leaving.append(&mut self.leaves_left);
        if !leaving.is_empty() {
            waiting.leaving.push_back((epoch, leaving));
        }
        while waiting.leaving.front().is_some_and(|(before, _)| *before < unreachable) {
            if let Some((_, ranges)) = waiting.leaving.pop_front() {
                rewrites.leave_places(&ranges);
            }
        }
        if self.ordered.is_some() {
            waiting.ordered = self.ordered;
        }
    }
}

fn drop_pieces(addr: u64, meta: &mut Meta<'_, '_>) -> Result<()> {
    for key in LeafRecord::piece_keys(addr) {
        meta.edit.remove(meta.root, &key)?;
    }
    Ok(())
}

/// Nodes of the meta tree that a commit writes for so many places and leaves, and the one that lets go of them: records lie
/// side by side, and of a leaf no more than three pieces are in one node.
pub(in crate::volume) fn purge_nodes(places: u64, leaves: u64) -> u64 {
    match (places, leaves) {
        (0, 0) => 0,
        _ => places / 16 + leaves * 4 + 24,
    }
}
