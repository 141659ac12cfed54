//! Branches: each made from the tree as it is, changed and built. Every other one is merged at once; the others stay until
//! all have been made, and are dropped then.

use crate::common::{Result, raw};
use crate::options::Sizes;
use crate::tree::{Tree, timed};
use crate::ways::{Branch, Seat, Ways};

/// Makes, changes, merges and drops them all.
pub fn run(ways: &mut Ways, tree: &Tree, sizes: &Sizes) -> Result<()> {
    for first in (0..sizes.branches).step_by(sizes.turn) {
        let last = (first + sizes.turn).min(sizes.branches);
        eprintln!("branches {} to {last} of {}", first + 1, sizes.branches);
        ways.turn("branches", |seat| {
            if !seat.way.has_branches() {
                return Ok(());
            }
            for n in first..last {
                if raw::interrupted() {
                    break;
                }
                branch(seat, tree, n, sizes.steps + n).map_err(|why| format!("branch {}: {why}", n + 1))?;
            }
            Ok(())
        })?;
    }
    eprintln!("branches are dropped");
    ways.turn("dropped branches", |seat| {
        for n in (0..seat.branches.len()).filter(|n| !is_merged(*n)) {
            let ((), took) = timed(|| seat.way.drop_branch(&name(n)))?;
            seat.branches[n].end += took;
        }
        Ok(())
    })
}

fn name(n: usize) -> String {
    format!("branch{n}")
}

fn is_merged(n: usize) -> bool {
    n.is_multiple_of(2)
}

fn branch(seat: &mut Seat, tree: &Tree, n: usize, step: usize) -> Result<()> {
    let name = name(n);
    let (dir, make) = timed(|| seat.way.branch(&name))?;
    let (_changed, work) = timed(|| tree.step(&dir, step))?;
    let end = if is_merged(n) {
        let ((), end) = timed(|| seat.way.merge(&name))?;
        // The tree has what the branch had.
        seat.branch_results.push(tree.result(&seat.way.tree())?);
        end
    } else {
        seat.branch_results.push(tree.result(&dir)?);
        timed(|| seat.way.leave(&name))?.1
    };
    seat.branches.push(Branch { make, work, end, is_merged: is_merged(n) });
    Ok(())
}
