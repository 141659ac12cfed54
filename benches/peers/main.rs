//! snapfs beside other file systems, on equal terms: mounts them, runs workloads, prints tables and writes a chart.
//!
//! `cargo bench --bench peers -- --help`, as root. `docs/performance.md` has the method, what each workload does and how
//! each peer is mounted. All chosen peers stay mounted from the first measurement to the last; for each round, each
//! workload and each peer in turn, one works and the others are settled. A peer that cannot be had is left out with a
//! line that says why; a workload that fails on a peer leaves one cell empty. Nothing here passes or fails: how many
//! calls an operation costs is asserted in `tests/cost`, and here the clock only informs.

mod assets;
mod chart;
#[path = "../common/mod.rs"]
mod common;
mod figures;
mod options;
mod run;
mod tables;
mod workloads;

use assets::Assets;
use clap::Parser;
use common::medium::Medium;
use common::mounts::Peer;
use common::raw;
use figures::Figures;
use options::Options;
use run::Run;
use workloads::Group;

use common::{Error, Result};

fn main() -> Result<()> {
    let options = Options::parse();
    let groups = workloads::chosen(&options.workloads)?;
    if options.list {
        workloads::list();
        return Ok(());
    }
    let mut figures = Figures::beside(&options.base);
    if let Some(file) = &options.output.results {
        figures.load(file)?;
    }
    let mut done = Ok(());
    if !options.output.render {
        raw::note_interrupts();
        raw::own_mounts().map_err(|e| format!("mounts can be made by root alone: {e}"))?;
        done = measure(&options, &groups, &mut figures);
    }
    options.output.show(&tables::markdown(&figures), || chart::svg(&figures))?;
    done
}

fn measure(options: &Options, groups: &[&'static Group], figures: &mut Figures) -> Result<()> {
    let scale = options.scale();
    // As much again as one image for trees and archives.
    let total = scale.image * (options.peers.len() as u64 + 1);
    let medium = Medium::new("peers", options.medium, options.dir.as_deref(), scale.image, total)?;
    figures.set_surroundings(medium.describe(scale.name));
    let mut peers = Vec::new();
    for what in &options.peers {
        let name = Peer::name_of(what);
        match Peer::new(what, &medium) {
            Ok(peer) => {
                figures.seat(name);
                peers.push(peer);
            }
            Err(why) => figures.miss(name, &why.to_string()),
        }
    }
    let assets = Assets::new(medium.dir(), &scale);
    for _ in 0..options.rounds {
        for group in groups {
            // In a new order each time: whoever always follows the same neighbour meets the machine as that left it.
            fastrand::shuffle(&mut peers);
            for peer in &mut peers {
                if group.needs_snapshots && peer.snapshots().is_none() {
                    continue;
                }
                let (done, found) = Run::group(peer, group, &scale, &assets, &medium, options);
                figures.add(peer.name(), found);
                let interrupted = raw::interrupted();
                if let Err(why) = done
                    && !interrupted
                {
                    figures.fail(peer.name(), group.name, &why.to_string());
                }
                if let Some(file) = &options.output.results {
                    figures.save(file)?;
                }
                if interrupted {
                    return Err("interrupted".into());
                }
            }
        }
    }
    Ok(())
}
