//! How much a side of a mirror lacks that takes no part in it: what its partner has written since they parted.
//!
//! It is counted on the side that is newer alone, and to count it costs what came since. What the other has written by itself,
//! superblocks and the log come on top when it is filled: see `filling`. Nothing is written.

use super::audit::Committed;
use super::filling::rest_that_counts;
use super::mirroring::{add, newer_of_trees};
use super::{Result, Volume};
use crate::device::mirror::parted_at;
use crate::format::Epoch;
use crate::format::mirror::{Label, Standing};
use crate::format::rest::FillRest;
use crate::store::RangeSet;

/// Nodes of trees that are looked at: whoever asks how a mirror is waits for that.
const NODES_MAX: u64 = 20_000;

/// Up to when a side has everything.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum HasUpTo {
    /// This epoch; 0: it has nothing that counts.
    State(Epoch),
    /// What an earlier filling left.
    Rest(FillRest),
}

/// What a side lacks, in bytes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct SideLag {
    /// As far as it was counted.
    pub bytes: u64,
    /// There is more, and it was not looked for.
    pub is_least: bool,
}

impl HasUpTo {
    /// Of a side whose label is `theirs` and that has noted `rests`, beside one with the label `ours`, which committed `reached` last.
    pub fn of_side(ours: &Label, (theirs, rests): (&Label, Vec<FillRest>), reached: Epoch) -> HasUpTo {
        match theirs.standing {
            Standing::Incomplete => {
                let rest = rest_that_counts(rests, ours, reached);
                rest.map_or(HasUpTo::State(Epoch(0)), HasUpTo::Rest)
            }
            _ => HasUpTo::State(Epoch(parted_at(ours, theirs))),
        }
    }
}

impl Volume {
    /// What a side lacks of what is committed here, and of what was written since that.
    ///
    /// # Errors
    /// If what is committed cannot be read.
    pub fn lag_of(&self, has: &HasUpTo) -> Result<SideLag> {
        self.lag_in(has, NODES_MAX)
    }

    fn lag_in(&self, has: &HasUpTo, nodes_max: u64) -> Result<SideLag> {
        let state = self.committed()?;
        let mut lacks = RangeSet::new();
        let put = |lacks: &mut RangeSet, (addr, len): (u64, u64)| {
            state.allocated.clipped(addr, len).for_each(|(addr, len)| add(lacks, addr, len));
        };
        let mut is_least = false;
        match has {
            HasUpTo::State(Epoch(0)) => lacks = state.allocated.clone(),
            HasUpTo::State(since) => is_least = newer_up_to(&state, *since, nodes_max, &mut lacks)?,
            HasUpTo::Rest(rest) => {
                is_least = newer_up_to(&state, rest.epoch, nodes_max, &mut lacks)?;
                rest.ranges.iter().for_each(|range| put(&mut lacks, *range));
            }
        }
        for (addr, len) in self.shared.store().alloc().handed_out().iter() {
            add(&mut lacks, addr, len);
        }
        Ok(SideLag { bytes: lacks.bytes(), is_least })
    }
}

/// Puts there what trees have that was born after an epoch. True if there is more than was looked at.
fn newer_up_to(state: &Committed, than: Epoch, nodes_max: u64, put: &mut RangeSet) -> Result<bool> {
    let (mut content, mut nodes) = (RangeSet::new(), RangeSet::new());
    let mut left = nodes_max;
    let mut ends = || {
        let is_over = left == 0;
        left = left.saturating_sub(1);
        is_over
    };
    let found = newer_of_trees(state, than, &mut ends, (&mut content, &mut nodes));
    for (addr, len) in content.iter().chain(nodes.iter()) {
        state.allocated.clipped(addr, len).for_each(|(addr, len)| add(put, addr, len));
    }
    match found {
        Ok(()) => Ok(false),
        Err(_) if left == 0 => Ok(true),
        Err(e) => Err(e),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixtures::{bytes, mount, new_store, put};
    use crate::ops::NodeId;
    use crate::volume::newest_superblock;

    #[test]
    fn what_came_since_a_state_is_counted_and_no_more_than_is_looked_at() {
        let sim = new_store(64 << 20);
        let fs = mount(sim.clone());
        let volume = fs.volume();
        for n in 0..100 {
            put(&fs, NodeId::ROOT, &format!("before{n}"), &bytes(n, 20_000));
        }
        fs.commit().unwrap();
        let has = HasUpTo::State(newest_superblock(&*sim).unwrap().epoch);
        let lag = |has: &HasUpTo| volume.lag_of(has).unwrap();
        assert!(lag(&has).bytes < 100_000, "{:?}", lag(&has));
        put(&fs, NodeId::ROOT, "since", &bytes(7, 1 << 20));
        fs.commit().unwrap();
        let since = lag(&has);
        assert!((1 << 20..3 << 19).contains(&since.bytes) && !since.is_least, "{since:?}");
        let all = lag(&HasUpTo::State(Epoch(0)));
        assert!(all.bytes > since.bytes + 1_500_000, "{all:?}");
        // Of a filling that was cut off: what it left, and what came since.
        let state = newest_superblock(&*sim).unwrap();
        let HasUpTo::State(epoch) = has.clone() else { unreachable!() };
        let ranges = vec![(state.meta_root.addr.0, 16 << 10)];
        let rest = FillRest { number: 1, pair: [5; 16], generation: 99, epoch, ranges };
        let left = lag(&HasUpTo::Rest(rest));
        assert!(left.bytes >= since.bytes && left.bytes <= since.bytes + (16 << 10), "{left:?}");
        for nodes_max in 0..3 {
            let least = volume.lag_in(&has, nodes_max).unwrap();
            assert!(least.is_least && least.bytes < since.bytes, "{least:?}");
        }
        fs.close().unwrap();
    }
}
