//! How cost grows with files, snapshots, file size, fragmentation and age, and whether background work disturbs
//! the foreground: curves and tables for snapfs and other file systems that make snapshots.
//!
//! `cargo bench --bench growth -- --help`, as root. `docs/performance.md` has the method. A subject is a row of steps of
//! which each begins where the one before ended; at each step one peer after the other works and the others are settled.
//! A step that fails ends its subject on its peer. The run fails if a step fails on snapfs, above all if `snapfs check`
//! finds anything; no figure makes it fail.

mod age;
mod background;
mod chart;
#[path = "../common/mod.rs"]
mod common;
mod curves;
mod figures;
mod files;
mod fragments;
mod options;
mod site;
mod size;
mod snapshots;
mod tables;

use clap::Parser;
use common::medium::Medium;
use common::mounts::Peer;
use common::work;
use common::{Error, Result, raw};
use figures::Figures;
use options::{Options, Scale};
use site::{Kind, Site, Subject};

fn main() -> Result<()> {
    let options = Options::parse();
    let kinds = site::chosen(&options.only)?;
    let mut figures = Figures::default();
    if let Some(file) = &options.output.results {
        figures.load(file)?;
    }
    let mut done = Ok(());
    if !options.output.render {
        raw::note_interrupts();
        raw::own_mounts().map_err(|e| format!("mounts can be made by root alone: {e}"))?;
        let scale = options.scale();
        for kind in kinds {
            if done.is_ok() || !raw::interrupted() {
                done = done.and(measure(kind, &options, &scale, &mut figures));
            }
        }
    }
    options.output.show(&tables::markdown(&figures), || chart::svg(&figures))?;
    done
}

/// All steps of a subject, on all peers.
fn measure(kind: &Kind, options: &Options, scale: &Scale, figures: &mut Figures) -> Result<()> {
    let image = options.image.unwrap_or((kind.image)(scale));
    let total = image * options.peers.len() as u64;
    let medium = Medium::new("growth", options.medium, options.dir.as_deref(), image, total)?;
    figures.set_surroundings(medium.describe(scale.name));
    let mut sites: Vec<(Site, Box<dyn Subject>)> = Vec::new();
    for name in &options.peers {
        match Peer::new(name, &medium) {
            Ok(peer) if peer.snapshots().is_none() => figures.miss(peer.name(), "it makes no snapshots"),
            Ok(peer) => sites.push((Site::new(peer, *scale, image << 20), (kind.new)(scale))),
            Err(why) => figures.miss(name, &why.to_string()),
        }
    }
    let mut done = Ok(());
    for step in 0..(kind.steps)(scale) {
        // Whoever begins a step does not begin the next.
        if step > 0 && !sites.is_empty() {
            sites.rotate_left(1);
        }
        let mut kept = Vec::new();
        for (mut site, mut subject) in sites {
            eprintln!("{}: step {}: {}", kind.name, step + 1, site.peer.name());
            let result = site.peer.settle().and_then(|()| subject.step(&mut site, step));
            let name = site.peer.name().to_string();
            figures.add(&name, std::mem::take(&mut site.found));
            if raw::interrupted() {
                return Err("interrupted".into());
            }
            match result {
                Ok(()) => kept.push((site, subject)),
                Err(why) => {
                    figures.fail(&name, kind.name, &why.to_string());
                    if name.starts_with("snapfs") {
                        done = Err(Error::from(format!("{} on {name}: {why}", kind.name)));
                    }
                }
            }
            if let Some(file) = &options.output.results {
                figures.save(file)?;
            }
        }
        sites = kept;
    }
    done
}
