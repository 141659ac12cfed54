//! All figures of a run, in memory and in a file of lines: kind, then fields, separated by tabs.

use crate::common::Result;
use crate::common::report::{median, one_line};
use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

/// One point of a curve.
pub struct Point {
    pub id: String,
    pub at: u64,
    pub value: f64,
}

/// All figures.
#[derive(Default)]
pub struct Figures {
    surroundings: Vec<String>,
    left_out: BTreeMap<String, String>,
    /// In order of their first figures.
    peers: Vec<String>,
    /// By curve, peer and place; all that were measured there.
    values: BTreeMap<(String, String, u64), Vec<f64>>,
}

impl Figures {
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
        self.left_out.insert(peer.into(), one_line(why));
    }

    /// A subject failed on a peer.
    pub fn fail(&mut self, peer: &str, subject: &str, why: &str) {
        self.miss(&format!("{subject} on {peer}"), why);
    }

    /// What is left out, and why.
    pub fn left_out(&self) -> &BTreeMap<String, String> {
        &self.left_out
    }

    /// Adds what a step found.
    pub fn add(&mut self, peer: &str, found: Vec<Point>) {
        for point in found {
            self.put(peer, point.id, point.at, point.value);
        }
    }

    fn put(&mut self, peer: &str, id: String, at: u64, value: f64) {
        if !self.peers.iter().any(|p| p == peer) {
            self.peers.push(peer.into());
            self.peers.sort_by_key(|p| (!p.starts_with("snapfs"), p.clone()));
        }
        self.values.entry((id, peer.into(), at)).or_default().push(value);
    }

    /// Peers that have figures, snapfs first.
    pub fn peers(&self) -> &[String] {
        &self.peers
    }

    /// The points of a curve.
    pub fn points(&self, peer: &str, id: &str) -> Vec<(u64, f64)> {
        let range = (id.to_string(), peer.to_string(), 0)..=(id.to_string(), peer.to_string(), u64::MAX);
        self.values.range(range).filter_map(|((_, _, at), v)| Some((*at, median(v)?))).collect()
    }

    /// A figure that is no curve.
    pub fn single(&self, peer: &str, id: &str) -> Option<f64> {
        self.points(peer, id).first().map(|(_, value)| *value)
    }

    /// Writes everything.
    pub fn save(&self, file: &Path) -> Result<()> {
        let mut lines: Vec<String> = self.surroundings.iter().map(|s| format!("on\t{s}")).collect();
        lines.extend(self.left_out.iter().map(|(what, why)| format!("left out\t{what}\t{why}")));
        for ((id, peer, at), values) in &self.values {
            lines.extend(values.iter().map(|value| format!("figure\t{peer}\t{id}\t{at}\t{value}")));
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
                ["left out", what, why] => {
                    self.left_out.insert(what.into(), why.into());
                }
                ["figure", peer, id, at, value] => self.put(peer, id.into(), at.parse()?, value.parse()?),
                _ => return Err(format!("{}: cannot read {line:?}", file.display()).into()),
            }
        }
        Ok(())
    }
}
