//! All figures of a run, in memory and in a file of lines: kind, then fields, separated by tabs.

use crate::Result;
use crate::common::report::{median, one_line};
use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

/// One figure of one round.
pub struct Measure {
    /// Which workload.
    pub id: &'static str,
    /// In the unit of the workload.
    pub value: f64,
    /// CPU seconds of the daemon.
    pub cpu: Option<f64>,
    /// Peak memory of the daemon, MiB.
    pub peak: Option<f64>,
}

/// The figures of a workload on a peer, all rounds.
#[derive(Default)]
pub struct Cell {
    values: Vec<f64>,
    cpu: Vec<f64>,
    peak: Vec<f64>,
}

/// All figures.
#[derive(Default)]
pub struct Figures {
    base: String,
    surroundings: Vec<String>,
    missing: BTreeMap<String, String>,
    failed: BTreeMap<(String, String), String>,
    /// All that there may be, in the order of their columns.
    seats: Vec<String>,
    /// Those with figures.
    peers: Vec<String>,
    cells: BTreeMap<(String, String), Cell>,
}

impl Cell {
    pub fn median(&self) -> Option<f64> {
        median(&self.values)
    }

    pub fn least(&self) -> f64 {
        self.values.iter().copied().fold(f64::INFINITY, f64::min)
    }

    pub fn most(&self) -> f64 {
        self.values.iter().copied().fold(f64::NEG_INFINITY, f64::max)
    }

    /// CPU seconds and peak memory of the daemon.
    pub fn daemon(&self) -> Option<(f64, f64)> {
        median(&self.cpu).zip(median(&self.peak))
    }

    pub fn rounds(&self) -> usize {
        self.values.len()
    }
}

impl Figures {
    /// None yet, to be compared with those of the peer `base`.
    pub fn beside(base: &str) -> Figures {
        Figures { base: base.into(), ..Figures::default() }
    }

    /// The peer that others are compared with.
    pub fn base(&self) -> &str {
        &self.base
    }

    pub fn set_surroundings(&mut self, text: String) {
        if !self.surroundings.contains(&text) {
            self.surroundings.push(text);
        }
    }

    /// What the runs ran on.
    pub fn surroundings(&self) -> &[String] {
        &self.surroundings
    }

    /// A peer is not to be had.
    pub fn miss(&mut self, peer: &str, why: &str) {
        eprintln!("left out: {peer}: {why}");
        self.missing.insert(peer.into(), one_line(why));
    }

    /// A group failed on a peer.
    pub fn fail(&mut self, peer: &str, group: &str, why: &str) {
        eprintln!("failed: {group} on {peer}: {why}");
        self.failed.insert((peer.into(), group.into()), one_line(why));
    }

    /// Sentences about what is left out.
    pub fn left_out(&self) -> impl Iterator<Item = String> {
        let failed = self.failed.iter().map(|((peer, group), why)| format!("{group} on {peer}: {why}"));
        self.missing.iter().map(|(peer, why)| format!("{peer}: {why}")).chain(failed)
    }

    /// Adds what a run found.
    pub fn add(&mut self, peer: &str, found: Vec<Measure>) {
        for m in found {
            self.put(peer, m.id, m.value, m.cpu, m.peak);
        }
    }

    fn put(&mut self, peer: &str, id: &str, value: f64, cpu: Option<f64>, peak: Option<f64>) {
        if !self.peers.iter().any(|p| p == peer) {
            self.seat(peer);
            self.peers.push(peer.into());
            self.peers.sort_by_key(|p| self.seats.iter().position(|seat| seat == p));
        }
        let cell = self.cells.entry((peer.into(), id.into())).or_default();
        cell.values.push(value);
        cell.cpu.extend(cpu);
        cell.peak.extend(peak);
    }

    /// Gives a peer the next column.
    pub fn seat(&mut self, peer: &str) {
        if !self.seats.iter().any(|seat| seat == peer) {
            self.seats.push(peer.into());
        }
    }

    /// Peers that have figures.
    pub fn peers(&self) -> &[String] {
        &self.peers
    }

    /// The figures of one workload on one peer.
    pub fn cell(&self, peer: &str, id: &str) -> Option<&Cell> {
        self.cells.get(&(peer.into(), id.into()))
    }

    /// The median of one workload on one peer.
    pub fn median(&self, peer: &str, id: &str) -> Option<f64> {
        self.cell(peer, id).and_then(Cell::median)
    }

    /// Writes everything.
    pub fn save(&self, file: &Path) -> Result<()> {
        let mut lines: Vec<String> = self.surroundings.iter().map(|s| format!("on\t{s}")).collect();
        lines.extend(self.missing.iter().map(|(peer, why)| format!("missing\t{peer}\t{why}")));
        lines
            .extend(self.failed.iter().map(|((peer, group), why)| format!("failed\t{peer}\t{group}\t{why}")));
        for peer in &self.peers {
            for ((_, id), cell) in self.cells.iter().filter(|((p, _), _)| p == peer) {
                for (n, value) in cell.values.iter().enumerate() {
                    let number = |list: &[f64]| list.get(n).map_or(String::new(), f64::to_string);
                    let (cpu, peak) = (number(&cell.cpu), number(&cell.peak));
                    lines.push(format!("figure\t{peer}\t{id}\t{value}\t{cpu}\t{peak}"));
                }
            }
        }
        Ok(fs::write(file, lines.join("\n") + "\n")?)
    }

    /// Reads what an earlier run saved; a file that is not there yet holds nothing.
    pub fn load(&mut self, file: &Path) -> Result<()> {
        if !file.exists() {
            return Ok(());
        }
        for line in fs::read_to_string(file)?.lines() {
            match line.split('\t').collect::<Vec<_>>()[..] {
                ["on", text] => self.set_surroundings(text.into()),
                ["missing", peer, why] => {
                    self.missing.insert(peer.into(), why.into());
                }
                ["failed", peer, group, why] => {
                    self.failed.insert((peer.into(), group.into()), why.into());
                }
                ["figure", peer, id, value, cpu, peak] => {
                    self.put(peer, id, value.parse()?, cpu.parse().ok(), peak.parse().ok());
                }
                _ => return Err(format!("{}: cannot read {line:?}", file.display()).into()),
            }
        }
        Ok(())
    }
}
