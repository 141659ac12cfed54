//! The ways to make a snapshot, side by side: what each costs to make, at the first overwrite of a block and later, to read,
//! to bring back, and to become a copy that stands alone. And the ratios that tell whether a method has its classic weakness.
//!
//! `cargo bench --bench methods -- --help`, as root. `docs/methods.md` explains the table. Each method has a fresh store, and
//! the same is done on each. Where a second store is needed it is in memory, so that it is another device than the disk. A
//! ratio is of turns that alternate, so that whatever else the machine does meets both. What is counted is counted by the
//! daemon. The run fails if a step fails or `snapfs check` finds anything; no figure makes it fail.

mod column;
#[path = "../common/mod.rs"]
mod common;
mod deletion;
mod durable;
mod foreground;
mod history;
mod hold_up;
mod method;
mod options;
mod ratios;
mod store;
mod tables;
mod tripwire;

use clap::Parser;
use column::Column;
use common::medium::{Medium, MediumKind};
use common::{Result, memory, raw};
use method::Method;
use options::Options;
use ratios::Ratio;
use std::fs;
use std::path::Path;

/// Times the file that all copies, snapshots and scattered blocks of a store need together, at most.
const ROOM: u64 = 12;

fn main() -> Result<()> {
    let options = Options::parse();
    raw::note_interrupts();
    raw::own_mounts().map_err(|e| format!("mounts can be made by root alone: {e}"))?;
    let sizes = options.sizes();
    let room = sizes.file * ROOM + 1024;
    let medium = Medium::new("methods", options.medium, options.dir.as_deref(), sizes.file, room)?;
    let memory_medium = match options.medium {
        MediumKind::Ram => None,
        MediumKind::Disk => Some(Medium::new("methods-second", MediumKind::Ram, None, sizes.file, room)?),
    };
    memory::warm(room << 19)?;
    let places = Places {
        first: medium.dir(),
        second: memory_medium.as_ref().map_or(medium.dir(), |second| second.dir()),
    };
    let (mut columns, mut ratios, mut done) = (Vec::new(), Vec::new(), Ok(()));
    if options.wants("columns") {
        for method in Method::all()?.into_iter().filter(|method| options.wants_method(method.name())) {
            eprintln!("{}", method.title());
            match Column::measure(method, &places, &sizes) {
                Ok(column) => columns.push(column),
                Err(why) => done = done.and(Err(format!("{}: {why}", method.title()).into())),
            }
        }
    }
    let measured = Ratio::measure(&mut ratios, &columns, &places, &sizes, &|part| options.wants(part));
    done = done.and(measured);
    let text = tables::markdown(&columns, &ratios, &medium.describe(sizes.name), &sizes);
    println!("{text}");
    if let Some(file) = &options.markdown {
        fs::write(file, text)?;
    }
    done
}

/// Where stores are.
pub struct Places<'p> {
    first: &'p Path,
    /// Another device, unless all is in memory.
    second: &'p Path,
}
