//! An agent's day: steps of editing, searching, building and testing in a source tree, each with a snapshot and a diff; and
//! branches of that tree that are made, changed, merged or dropped. snapfs beside a bare file system and beside other ways
//! to keep each step.
//!
//! `cargo bench --bench agents -- --help`, as root. `docs/performance.md` has the method. All ways stay mounted from the
//! first step to the last and take turns of a few steps, in a new order each time, the others settled: whatever else the
//! machine does meets all of them. What a diff names is compared with what the step changed, and what the tests of the tree
//! print with what they print on the bare file system. A way that cannot be had is left out, and said so loudly; one that
//! fails has no figures from there on. The run fails if snapfs does, or names a change wrongly; no time makes it fail.

mod branches;
mod branchfs;
mod btrfs;
#[path = "../common/mod.rs"]
mod common;
mod day;
mod git;
mod options;
mod plain;
mod snapfs;
mod tables;
mod tree;
mod ways;

use clap::Parser;
use common::medium::Medium;
use common::{Result, raw};
use options::Options;
use std::fs;
use tree::Tree;
use ways::Ways;

fn main() -> Result<()> {
    let options = Options::parse();
    raw::note_interrupts();
    raw::own_mounts().map_err(|e| format!("mounts can be made by root alone: {e}"))?;
    let sizes = options.sizes();
    // Two images, two stores, and as much again.
    let medium =
        Medium::new("agents", options.medium, options.dir.as_deref(), options.image, 5 * options.image)?;
    let mut ways = Ways::new(&options, &medium);
    let tree = Tree::new(sizes.parts, sizes.modules);
    let mut done = day::run(&mut ways, &tree, &sizes);
    if done.is_ok() && sizes.branches > 0 {
        done = branches::run(&mut ways, &tree, &sizes);
    }
    let text = tables::markdown(&ways, &medium.describe(sizes.name), &sizes);
    println!("{text}");
    if let Some(file) = &options.markdown {
        fs::write(file, text)?;
    }
    done.and_then(|()| ways.verdict())
}
