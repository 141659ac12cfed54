//! Background freeing in bounded steps: what deleted snapshots and heads held alone.
//!
//! A step runs inside a commit ([`super::jobs`]), so what it frees and how far it got become durable together. What a
//! job frees nobody reads: a snapshot that is read is not deleted before its last reader is gone. Between batches threads
//! run that wait for the processor (`store::end_batch`).

use super::Result;
use super::error::corrupt;
use super::history::{Meta, deadlist};
use super::remap::reference;
use crate::format::deadlist::DeadEntry;
use crate::format::job::Job;
use crate::format::{BlockPtr, Extent, Key, Kind};
use crate::store::{BATCH, StoreError, end_batch};
use crate::tree::{LostNode, Pager, Step, Visit, walk_readable};

/// Result of a step: what is left of the job.
pub(super) enum ReclaimProgress {
    /// Nothing.
    Done,
    /// The job as it goes on.
    More(Job),
}

/// Does at most about `budget` entries of `job`; the references that are let go of go to `freed`. Returns how many it did, too.
/// On an error a part may have been done to `meta` and `freed`: both are to be taken back.
pub(super) fn step(
    job: Job,
    pager: &Pager,
    meta: &mut Meta<'_, '_>,
    budget: usize,
    freed: &mut Vec<DeadEntry>,
) -> Result<(ReclaimProgress, usize)> {
    match job {
        Job::FreeList(list) | Job::DropList(list) => {
            let entries = deadlist::drain(meta, list, budget)?;
            let done = entries.is_empty();
            if matches!(job, Job::FreeList(_)) {
                freed.extend_from_slice(&entries);
            }
            Ok((if done { ReclaimProgress::Done } else { ReclaimProgress::More(job) }, entries.len()))
        }
        Job::FreeTree { root, newer_than, cursor } => {
            let mut count = 0;
            let mut next: Option<Key> = None;
            let visit = &mut |visit: Visit<'_>| {
                match visit {
                    // A leaf is freed whole or not at all; the key of its entry tells whether it was.
                    Visit::Node(ptr, least, 0) => {
                        if least < cursor {
                            return Ok(Step::Over);
                        }
                        if count >= budget {
                            next = Some(least);
                            return Ok(Step::Stop);
                        }
                        count += 1;
                        freed.extend(of_node(ptr));
                    }
                    Visit::Node(..) | Visit::Old(..) => {}
                    Visit::Item(key, value) if key.kind == Kind::Extent as u8 => {
                        match Extent::decode(value) {
                            Ok(extent) if extent.birth > newer_than => {
                                count += 1;
                                freed.push(reference(&extent));
                                if count % BATCH == 0 {
                                    end_batch();
                                }
                            }
                            Ok(_) => {}
                            Err(e) => {
                                log::error!(
                                    "an extent of what was deleted is lost, and its space with it: {e}"
                                );
                            }
                        }
                    }
                    Visit::Item(..) => {}
                }
                Ok(Step::Into)
            };
            walk_readable(pager, &root, newer_than, visit, &mut leave)?;
            match next {
                Some(cursor) => {
                    Ok((ReclaimProgress::More(Job::FreeTree { root, newer_than, cursor }), count))
                }
                None => {
                    free_inner_nodes(pager, job, freed)?;
                    Ok((ReclaimProgress::Done, count))
                }
            }
        }
    }
}

fn of_node(ptr: &BlockPtr) -> impl Iterator<Item = DeadEntry> + use<> {
    let birth = ptr.birth;
    ptr.ranges().map(move |(addr, len)| DeadEntry { addr, len, birth })
}

fn free_inner_nodes(pager: &Pager, job: Job, freed: &mut Vec<DeadEntry>) -> Result<()> {
    let Job::FreeTree { root, newer_than, .. } = job else { return Err(corrupt("not a tree job".into())) };
    let visit = &mut |visit: Visit<'_>| match visit {
        Visit::Node(_, _, 0) => Ok(Step::Over),
        Visit::Node(ptr, _, _) => {
            freed.extend(of_node(ptr));
            Ok(Step::Into)
        }
        Visit::Item(..) | Visit::Old(..) => Ok(Step::Into),
    };
    walk_readable(pager, &root, newer_than, visit, &mut leave)?;
    Ok(())
}

/// What a lost node referred to stays allocated: a repair counts it anew. Whatever is damaged in what is to go must not keep
/// commits, and so the next mount, from going on.
fn leave(lost: LostNode<'_>) -> crate::tree::Result<()> {
    match lost.error {
        StoreError::Corrupt(what) => {
            log::error!("a node of what was deleted is lost, and the space behind it with it: {what}");
            Ok(())
        }
        // What the device refuses today it may give tomorrow.
        error => Err(error),
    }
}
