//! The ways to keep what an agent does, each with its figures.

use crate::branchfs::Branchfs;
use crate::btrfs::Btrfs;
use crate::common::medium::Medium;
use crate::common::mounts::Peer;
use crate::common::{Error, Result, raw};
use crate::git::Git;
use crate::options::Options;
use crate::plain::Plain;
use crate::snapfs::Snapfs;
use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::rc::Rc;
use std::time::Duration;

/// The program that is measured.
pub const PROGRAM: &str = env!("CARGO_BIN_EXE_snapfs");

/// What a diff said, and how long it took.
pub struct Diff {
    pub time: Duration,
    /// Paths from the root of the tree. None where the answer is not read.
    pub paths: Option<BTreeSet<String>>,
}

/// How a step was kept.
#[derive(Default)]
pub struct Kept {
    /// Without diffs.
    pub time: Duration,
    /// All that the way has, in the order of [`Way::diffs`]. The first that is cheap enough is what one would take.
    pub diffs: Vec<Diff>,
}

/// One way to keep steps. Nothing of it is done inside of the time of a step that is not its own.
pub trait Way {
    /// Where the tree is worked on.
    fn tree(&self) -> PathBuf;
    /// The tree is there and built.
    fn planted(&mut self) -> Result<()> {
        Ok(())
    }
    /// Before a step; the time that the way takes for it.
    fn before(&mut self, _step: usize) -> Result<Duration> {
        Ok(Duration::ZERO)
    }
    /// After a step: keeps it, and tells what it changed.
    fn after(&mut self, _step: usize) -> Result<Kept> {
        Ok(Kept::default())
    }
    /// Names of its diffs.
    fn diffs(&self) -> &'static [&'static str] {
        &[]
    }
    /// True if branches are part of it.
    fn has_branches(&self) -> bool {
        true
    }
    /// Makes a branch of the tree; where it is worked on.
    fn branch(&mut self, name: &str) -> Result<PathBuf>;
    /// Brings what a branch changed into the tree, and the branch is no more.
    fn merge(&mut self, name: &str) -> Result<()>;
    /// Nobody works on the branch any more, but it stays.
    fn leave(&mut self, _name: &str) -> Result<()> {
        Ok(())
    }
    /// The branch is no more.
    fn drop_branch(&mut self, name: &str) -> Result<()>;
    /// What the start of its program costs in each diff.
    fn start(&self) -> Option<Duration> {
        None
    }
}

/// A step of the day.
pub struct Step {
    pub work: Duration,
    pub kept: Duration,
    pub diffs: Vec<Duration>,
}

/// A branch from its making to its end.
pub struct Branch {
    pub make: Duration,
    pub work: Duration,
    pub end: Duration,
    pub is_merged: bool,
}

/// A way, and what was found of it.
pub struct Seat {
    pub name: String,
    pub way: Box<dyn Way>,
    peer: Rc<Peer>,
    pub steps: Vec<Step>,
    pub branches: Vec<Branch>,
    /// For each diff: the steps of which it named something else than what had changed.
    pub wrong: Vec<usize>,
    /// Tries of steps that failed.
    pub tried_again: usize,
    /// What the test printed, by step and by branch.
    pub results: Vec<String>,
    pub branch_results: Vec<String>,
    /// Its time for the day was up: it did only the first steps.
    pub is_late: bool,
    pub start: Option<Duration>,
    pub failed: Option<String>,
}

impl Seat {
    /// All that its day took so far.
    pub fn spent(&self) -> Duration {
        self.steps.iter().map(|step| step.work + step.kept + step.diffs.iter().sum::<Duration>()).sum()
    }

    /// Everything of the turn is written, and nothing goes on in the background.
    pub fn settle(&self) -> Result<()> {
        raw::sync_host();
        self.peer.settle()
    }
}

/// All of them.
pub struct Ways {
    pub seats: Vec<Seat>,
    /// Name, and why.
    pub missing: BTreeMap<String, String>,
}

impl Ways {
    /// Makes and mounts those that can be had.
    pub fn new(options: &Options, medium: &Medium) -> Ways {
        let mut ways = Ways { seats: Vec::new(), missing: BTreeMap::new() };
        let mut ext4 = None;
        for name in &options.ways {
            match Ways::seat(name, options, medium, &mut ext4) {
                Ok(seat) => ways.seats.push(seat),
                Err(why) => {
                    eprintln!("\n*** LEFT OUT: {name}: {why}\n");
                    ways.missing.insert(name.clone(), why.to_string());
                }
            }
        }
        ways
    }

    fn seat(name: &str, options: &Options, medium: &Medium, ext4: &mut Option<Rc<Peer>>) -> Result<Seat> {
        let mut on_ext4 = || match ext4 {
            Some(peer) => Ok(Rc::clone(peer)),
            None => Peer::new("ext4", medium).map(|peer| Rc::clone(ext4.insert(Rc::new(peer)))),
        };
        let bare = format!("snapfs-bare={PROGRAM}");
        let (peer, way): (Rc<Peer>, Box<dyn Way>) = match name {
            "ext4" => {
                let peer = on_ext4()?;
                let way = Plain::new(peer.root().join("plain"), true);
                (peer, Box::new(way))
            }
            "snapfs-bare" => {
                let peer = Rc::new(Peer::new(&bare, medium)?);
                let way = Plain::new(peer.root().to_path_buf(), false);
                (peer, Box::new(way))
            }
            "snapfs" => {
                let peer = Rc::new(Peer::new(name, medium)?);
                let way = Snapfs::new(Rc::clone(&peer));
                (peer, Box::new(way))
            }
            "btrfs" => {
                let peer = Rc::new(Peer::new(name, medium)?);
                let way = Btrfs::new(Rc::clone(&peer))?;
                (peer, Box::new(way))
            }
            "git" => {
                let peer = on_ext4()?;
                let way = Git::new(peer.root().join("git"));
                (peer, Box::new(way))
            }
            "branchfs" => {
                let peer = on_ext4()?;
                let way = Branchfs::new(&options.branchfs, peer.root(), medium)?;
                (peer, Box::new(way))
            }
            _ => return Err("no such way".into()),
        };
        let (wrong, start) = (vec![0; way.diffs().len()], way.start());
        let (steps, branches) = (Vec::new(), Vec::new());
        let (results, branch_results) = (Vec::new(), Vec::new());
        Ok(Seat {
            name: name.into(),
            way,
            peer,
            steps,
            branches,
            wrong,
            tried_again: 0,
            results,
            branch_results,
            is_late: false,
            start,
            failed: None,
        })
    }

    /// Lets each that has not failed do something, in a new order each time. What fails is told and does nothing any more.
    pub fn turn(&mut self, what: &str, mut work: impl FnMut(&mut Seat) -> Result<()>) -> Result<()> {
        let mut order: Vec<usize> = (0..self.seats.len()).collect();
        fastrand::shuffle(&mut order);
        for at in order {
            let seat = &mut self.seats[at];
            if seat.failed.is_some() {
                continue;
            }
            let done = work(seat).and_then(|()| seat.settle());
            if raw::interrupted() {
                return Err("interrupted".into());
            }
            if let Err(why) = done {
                eprintln!("\n*** FAILED: {}: {what}: {why}\n", seat.name);
                seat.failed = Some(format!("{what}: {why}"));
            }
        }
        Ok(())
    }

    /// Fails if snapfs did, or was wrong.
    pub fn verdict(&self) -> Result<()> {
        for seat in self.seats.iter().filter(|seat| seat.name.starts_with("snapfs")) {
            if let Some(why) = &seat.failed {
                return Err(Error::from(format!("{}: {why}", seat.name)));
            }
            if seat.tried_again > 0 {
                return Err(Error::from(format!("{}: steps failed", seat.name)));
            }
            if seat.wrong.iter().any(|wrong| *wrong > 0) {
                return Err(Error::from(format!("{}: diffs were not what changed", seat.name)));
            }
            if self.wrong_results(seat) > 0 {
                return Err(Error::from(format!("{}: tests printed something else", seat.name)));
            }
        }
        Ok(())
    }

    /// In how many steps and branches the tests printed something else than on the bare file system.
    pub fn wrong_results(&self, seat: &Seat) -> usize {
        let Some(bare) = self.seats.iter().find(|s| s.name == "ext4") else { return 0 };
        let steps = bare.results.iter().zip(&seat.results);
        // Who did not do all steps has another tree to make branches of.
        let branches = bare.branch_results.iter().zip(&seat.branch_results).filter(|_| !seat.is_late);
        steps.chain(branches).filter(|(a, b)| a != b).count()
    }
}
