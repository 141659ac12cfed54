//! Which snapshots go so that a wanted amount comes back, at the least loss of history.
//!
//! Each has a *worth*. Of two sets that bring back enough the one is the lesser loss that has fewer of the greatest worth;
//! if both have as many, fewer of the next; and so on; then the one that spares what is last in the order. So one snapshot
//! of a user's is never given for any number of automatic ones. Few snapshots are tried in every combination. Of many,
//! those go that are first in the order until it is enough, and then all of these stay that it is enough without, the dearest first.

use std::cmp::Reverse;

/// Up to so many every combination is tried, if so many tries are allowed.
const TRIED_MAX: usize = 10;
/// Of more, so many at most are tried one by one for whether they could stay after all, the dearest.
const SPARED_TRIES_MAX: usize = 256;

/// The set of least loss, as indices in ascending order; none if all together do not bring back what is wanted. About `tries` sets
/// are tried at most. `worths` are in the order in which these go, so ascending. `freed` says what a set brings back: of two sets of which one holds the other, never less
/// for that.
pub fn least_loss<E>(
    worths: &[u64],
    wanted: u64,
    tries: usize,
    freed: &mut dyn FnMut(&[usize]) -> Result<u64, E>,
) -> Result<Option<Vec<usize>>, E> {
    let all: Vec<usize> = (0..worths.len()).collect();
    if wanted == 0 {
        return Ok(Some(Vec::new()));
    }
    if freed(&all)? < wanted {
        return Ok(None);
    }
    if worths.len() <= TRIED_MAX && 1 << worths.len() <= tries {
        return of_few(worths, wanted, freed).map(Some);
    }
    let (mut low, mut high) = (1, all.len());
    while low < high {
        let middle = low + (high - low) / 2;
        if freed(&all[..middle])? >= wanted { high = middle } else { low = middle + 1 }
    }
    let mut chosen = all[..low].to_vec();
    // Without the last one it is not enough.
    for i in all[..low - 1].iter().rev().take(SPARED_TRIES_MAX.min(tries)) {
        let without: Vec<usize> = chosen.iter().copied().filter(|other| other != i).collect();
        if freed(&without)? >= wanted {
            chosen = without;
        }
    }
    Ok(Some(chosen))
}

fn of_few<E>(
    worths: &[u64],
    wanted: u64,
    freed: &mut dyn FnMut(&[usize]) -> Result<u64, E>,
) -> Result<Vec<usize>, E> {
    let set = |mask: u32| (0..worths.len()).filter(|i| mask >> i & 1 == 1).collect::<Vec<usize>>();
    let mut masks: Vec<u32> = (0..1 << worths.len()).collect();
    masks.sort_by_cached_key(|mask| loss(worths, &set(*mask)));
    for mask in masks {
        let set = set(mask);
        if freed(&set)? >= wanted {
            return Ok(set);
        }
    }
    Ok((0..worths.len()).collect())
}

/// How great the loss of a set is: worths from the greatest down compare first, so more of them is a greater loss, and fewer of the
/// same a lesser one; then what is lost that is last in the order.
fn loss(worths: &[u64], set: &[usize]) -> (Vec<u64>, Vec<usize>) {
    let (mut lost, mut order) = (set.iter().map(|i| worths[*i]).collect::<Vec<u64>>(), set.to_vec());
    lost.sort_by_key(|worth| Reverse(*worth));
    order.sort_by_key(|i| Reverse(*i));
    (lost, order)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::convert::Infallible;

    /// Snapshots of which each block is in an interval of them: what comes back is what lies within the set.
    struct Blocks(Vec<(usize, usize, u64)>);

    impl Blocks {
        fn random(rng: &mut fastrand::Rng, snapshots: usize) -> Blocks {
            let block = |_| {
                let first = rng.usize(0..snapshots);
                (first, rng.usize(first..snapshots), rng.u64(1..20))
            };
            Blocks((0..3 * snapshots).map(block).collect())
        }

        fn freed(&self, set: &[usize]) -> u64 {
            let within = |b: &&(usize, usize, u64)| (b.0..=b.1).all(|s| set.contains(&s));
            self.0.iter().filter(within).map(|b| b.2).sum()
        }
    }

    fn chosen(worths: &[u64], wanted: u64, blocks: &Blocks) -> Option<Vec<usize>> {
        least_loss(worths, wanted, usize::MAX, &mut |set| Ok::<u64, Infallible>(blocks.freed(set))).unwrap()
    }

    #[test]
    fn few_are_the_least_loss_of_all_and_of_many_none_is_for_nothing() {
        let mut rng = fastrand::Rng::with_seed(25);
        let mut reached = 0;
        for n in 0..400 {
            let count = if n % 4 == 0 { rng.usize(11..40) } else { rng.usize(0..=8) };
            let blocks = Blocks::random(&mut rng, count.max(1));
            let mut worths: Vec<u64> = (0..count).map(|_| rng.u64(0..4)).collect();
            worths.sort_unstable();
            let all: Vec<usize> = (0..count).collect();
            let wanted = rng.u64(0..=blocks.freed(&all) + 3);
            let Some(set) = chosen(&worths, wanted, &blocks) else {
                assert!(blocks.freed(&all) < wanted);
                continue;
            };
            reached += 1;
            assert!(blocks.freed(&set) >= wanted && set.is_sorted());
            for out in &set {
                let without: Vec<usize> = set.iter().copied().filter(|i| i != out).collect();
                assert!(blocks.freed(&without) < wanted, "{out} of {set:?} goes for nothing");
            }
            if count <= 8 {
                for mask in 0..1u32 << count {
                    let other: Vec<usize> = (0..count).filter(|i| mask >> i & 1 == 1).collect();
                    let lesser = loss(&worths, &other) < loss(&worths, &set);
                    assert!(!lesser || blocks.freed(&other) < wanted, "{other:?} instead of {set:?}");
                }
            }
        }
        assert!(reached > 200);
    }

    #[test]
    fn one_of_great_worth_is_never_given_for_many_of_little() {
        let blocks = Blocks((0..9).map(|s| (s, s, if s == 8 { 100 } else { 10 })).collect());
        assert_eq!(chosen(&[1, 1, 1, 1, 1, 1, 1, 1, 9], 80, &blocks), Some((0..8).collect()));
        assert_eq!(chosen(&[1, 1, 1, 1, 1, 1, 1, 1, 9], 81, &blocks), Some(vec![8]));
        assert_eq!(chosen(&[1, 1, 1, 1, 1, 1, 1, 1, 9], 181, &blocks), None);
    }
}
