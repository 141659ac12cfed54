//! The day: steps in turns, each kept and compared with what it changed.

use crate::common::{Result, raw};
use crate::options::Sizes;
use crate::tree::Tree;
use crate::ways::{Seat, Step, Ways};
use std::time::Instant;

/// Plants the tree everywhere, then all steps.
pub fn run(ways: &mut Ways, tree: &Tree, sizes: &Sizes) -> Result<()> {
    ways.turn("the tree", |seat| {
        tree.plant(&seat.way.tree())?;
        seat.way.planted()
    })?;
    for first in (0..sizes.steps).step_by(sizes.turn) {
        let last = (first + sizes.turn).min(sizes.steps);
        eprintln!("steps {} to {last} of {}", first + 1, sizes.steps);
        ways.turn("the day", |seat| {
            for n in first..last {
                if raw::interrupted() || seat.is_late {
                    break;
                }
                step(seat, tree, n).map_err(|why| format!("step {}: {why}", n + 1))?;
            }
            seat.is_late |= last < sizes.steps && seat.spent() > sizes.limit;
            Ok(())
        })?;
    }
    Ok(())
}

/// Does a step again if it fails, as an agent would; how often is told.
const TRIES: usize = 5;

fn step(seat: &mut Seat, tree: &Tree, n: usize) -> Result<()> {
    let before = seat.way.before(n)?;
    let dir = seat.way.tree();
    let start = Instant::now();
    let mut tries = 0;
    let changed = loop {
        match tree.step(&dir, n) {
            Ok(changed) => break changed,
            Err(why) if tries < TRIES => {
                eprintln!("{}: step {}: {why}", seat.name, n + 1);
                tries += 1;
            }
            Err(why) => return Err(why),
        }
    };
    let work = start.elapsed();
    seat.tried_again += tries;
    let kept = seat.way.after(n)?;
    for (at, diff) in kept.diffs.iter().enumerate() {
        let Some(paths) = &diff.paths else { continue };
        let wrong: Vec<&String> = paths.symmetric_difference(&changed).collect();
        if !wrong.is_empty() {
            if seat.wrong[at] == 0 {
                eprintln!("{}: step {}: wrong about {wrong:?}", seat.name, n + 1);
            }
            seat.wrong[at] += 1;
        }
    }
    let diffs = kept.diffs.iter().map(|diff| diff.time).collect();
    seat.steps.push(Step { work, kept: before + kept.time, diffs });
    seat.results.push(tree.result(&seat.way.tree())?);
    Ok(())
}
