//! The life of a store: small changes, a snapshot after each simulated minute or few, old ones pruned.

use crate::common::{Result, raw};
use crate::options::Scale;
use crate::site::{Kind, Site, Subject};
use crate::work::{self, make_files, noise};
use std::fs::{self, File};
use std::io::Write;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::time::Instant;

const HOUR: u64 = 60;
const DAY: u64 = 24 * HOUR;
/// Simulated days after which is measured, besides the last.
const MARKS: [u64; 10] = [0, 1, 2, 3, 5, 7, 10, 14, 21, 28];
/// Changes from one snapshot to the next, besides those of the old file.
const CHANGES: usize = 24;
/// Blocks of the old file that are overwritten from one snapshot to the next.
const OLD_CHANGES: usize = 2;
/// Bytes of the file that grows old, and of one that is new whenever it is measured.
const LARGE: u64 = 32 << 20;
/// No file of the tree is made longer, and none grows beyond a few times that.
const LONGEST: usize = 16 << 10;
const MADE: u64 = 2_000;

pub const KIND: Kind = Kind {
    name: "age",
    image: |scale| if scale.is_small { 1_024 } else { 3_072 },
    steps: |scale| marks(scale).len(),
    new: |scale| Box::new(Age::new(scale)),
};

fn marks(scale: &Scale) -> Vec<u64> {
    let mut marks: Vec<u64> = MARKS.into_iter().filter(|m| *m < scale.days).collect();
    marks.push(scale.days);
    marks
}

/// True if a snapshot of one minute is kept at another: the last 60 minutes, 24 hours, 28 days.
fn is_kept(minute: u64, now: u64) -> bool {
    let age = now - minute;
    age < HOUR
        || minute.is_multiple_of(HOUR) && age < 24 * HOUR
        || minute.is_multiple_of(DAY) && age < 28 * DAY
}

struct Age {
    /// Simulated.
    minute: u64,
    files: Vec<PathBuf>,
    directories: Vec<PathBuf>,
    /// Numbers of names that were given.
    named: u64,
    /// Minutes of the snapshots that are there.
    kept: Vec<u64>,
    content: Vec<u8>,
    rng: fastrand::Rng,
}

impl Age {
    fn new(scale: &Scale) -> Age {
        let directories = (0..if scale.is_small { 10 } else { 40 }).map(|n| PathBuf::from(format!("d{n}")));
        Age {
            minute: 0,
            files: Vec::new(),
            directories: directories.collect(),
            named: 0,
            kept: Vec::new(),
            content: noise(LONGEST * 2),
            rng: fastrand::Rng::with_seed(4),
        }
    }

    fn some_content(&mut self, longest: usize) -> &[u8] {
        let (len, from) = (self.rng.usize(1..=longest), self.rng.usize(..LONGEST));
        &self.content[from..from + len]
    }

    fn new_name(&mut self) -> PathBuf {
        let directory = self.rng.usize(..self.directories.len());
        self.named += 1;
        self.directories[directory].join(format!("f{}", self.named))
    }

    fn create(&mut self, root: &Path) -> Result<()> {
        let name = self.new_name();
        fs::write(root.join(&name), self.some_content(LONGEST))?;
        self.files.push(name);
        Ok(())
    }

    /// As many files as the simulation has on average.
    fn populate(&mut self, root: &Path) -> Result<()> {
        self.directories.iter().try_for_each(|d| fs::create_dir(root.join(d)))?;
        for _ in 0..self.directories.len() * 100 {
            self.create(root)?;
        }
        work::write_large(&root.join("old"), LARGE)
    }

    /// One small change of the tree.
    fn change(&mut self, root: &Path) -> Result<()> {
        let n = self.rng.usize(..self.files.len());
        let path = root.join(&self.files[n]);
        match self.rng.u32(..100) {
            0..40 => {
                let file = File::options().write(true).open(path)?;
                let offset = self.rng.u64(..file.metadata()?.len().max(1));
                file.write_all_at(self.some_content(LONGEST / 4), offset)?;
            }
            40..60 => File::options().append(true).open(path)?.write_all(self.some_content(LONGEST / 8))?,
            60..75 => self.create(root)?,
            75..90 if self.files.len() > self.directories.len() * 80 => {
                fs::remove_file(path)?;
                self.files.swap_remove(n);
            }
            90..98 => {
                let name = self.new_name();
                fs::rename(path, root.join(&name))?;
                self.files[n] = name;
            }
            98 => {
                // A new directory takes the place of an old one and of all that was in it.
                let d = self.rng.usize(..self.directories.len());
                fs::remove_dir_all(root.join(&self.directories[d]))?;
                self.files.retain(|f| !f.starts_with(&self.directories[d]));
                self.named += 1;
                self.directories[d] = PathBuf::from(format!("d{}", self.named + 1_000));
                fs::create_dir(root.join(&self.directories[d]))?;
                while self.files.len() < self.directories.len() * 90 {
                    self.create(root)?;
                }
            }
            _ => drop(fs::read(path)?),
        }
        Ok(())
    }

    /// Changes, a snapshot, and the end of those that are too old.
    fn live_on(&mut self, site: &Site, until: u64) -> Result<()> {
        let (root, snapshots) = (site.root(), site.snapshots()?);
        let old = File::options().write(true).open(root.join("old"))?;
        while self.minute < until {
            for _ in 0..CHANGES {
                self.change(&root)?;
            }
            for _ in 0..OLD_CHANGES {
                let offset = self.rng.u64(..LARGE / work::BLOCK) * work::BLOCK;
                let from = self.rng.usize(..LONGEST);
                old.write_all_at(&self.content[from..from + work::BLOCK as usize], offset)?;
            }
            self.minute += site.scale.minutes;
            snapshots.create(&format!("m{}", self.minute))?;
            self.kept.push(self.minute);
            let now = self.minute;
            for gone in self.kept.extract_if(.., |m| !is_kept(*m, now)) {
                snapshots.delete(&format!("m{gone}"))?;
            }
            if raw::interrupted() {
                return Err("interrupted".into());
            }
        }
        Ok(())
    }

    fn measure(&mut self, site: &mut Site, at: u64) -> Result<()> {
        let (root, snapshots) = (site.root(), site.snapshots()?);
        let (random, limit) = (site.scale.random, site.scale.limit);
        site.memory("age.memory", at);
        site.peer.wait_until_freed()?;
        let live = self.files.iter().try_fold(LARGE, |sum, f| -> Result<u64> {
            Ok(sum + fs::symlink_metadata(root.join(f))?.len())
        })?;
        site.put("age.live", at, live as f64 / f64::from(1 << 20));
        let used = site.peer.used_bytes()?;
        site.put("age.used", at, used as f64 / f64::from(1 << 20));
        let times = work::sample_snapshots(&snapshots, &root.join("old"), 11)?;
        site.times("age.snapshot", at, &times)?;
        site.peer.wait_until_freed()?;
        let made = root.join("made");
        site.rate("age.make", at, || make_files(&made, 0..MADE))?;
        let new = root.join("new");
        work::write_large(&new, LARGE)?;
        let mount = site.cold()?;
        site.times("age.mount", at, &[mount])?;
        site.stream("age.old", at, &root.join("old"))?;
        site.stream("age.new", at, &new)?;
        let mut rng = fastrand::Rng::with_seed(5);
        site.rate("age.overwrite", at, || work::overwrite(&new, random, &mut rng, limit))?;
        fs::remove_file(new)?;
        fs::remove_dir_all(made)?;
        site.check("age.check", at)
    }
}

impl Subject for Age {
    fn step(&mut self, site: &mut Site, step: usize) -> Result<()> {
        let (day, minutes) = (marks(&site.scale)[step], site.scale.minutes);
        if !HOUR.is_multiple_of(minutes) {
            return Err("the minutes from one snapshot to the next must divide 60".into());
        }
        if step == 0 {
            self.populate(&site.root())?;
            site.peer.settle()?;
        } else {
            let (before, start) = (self.minute, Instant::now());
            self.live_on(site, day * DAY)?;
            let intervals = (self.minute - before) / minutes;
            site.put("age.minute", day, start.elapsed().as_secs_f64() * 1e3 / intervals as f64);
        }
        self.measure(site, day)
    }
}
