//! The file system of this crate on the simulated device, as a subject of the model test.

use crate::observe::ADMIN;
use crate::past;
use crate::run::{RollBack, Subject};
use snapfs::check::{self, Depth};
use snapfs::clock::Clock;
use snapfs::device::{CrashPolicy, Sim};
use snapfs::fs::{Between, Fs, FsOptions, Steps};
use snapfs::ops::{NodeId, Operations, XattrMode};
use snapfs::volume::{Access, OpenOptions, Volume};
use std::sync::{Arc, OnceLock};

const SIZE: u64 = 512 << 20;

/// A store, its device and the file system on it.
pub struct Engine {
    sim: Arc<Sim>,
    /// `None` only while it is being opened again.
    fs: Option<Arc<Fs>>,
    clock: Clock,
    /// Device calls before the first operation.
    calls_at_start: u64,
}

/// How content of files is kept.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Content {
    Plain,
    Compressed,
    /// Written over in place.
    InPlace,
}

/// An empty store, made once and copied for every history.
fn template(content: Content) -> &'static Sim {
    static TEMPLATES: [OnceLock<Sim>; 3] = [const { OnceLock::new() }; 3];
    TEMPLATES[content as usize].get_or_init(|| {
        let sim = Arc::new(Sim::new(SIZE, 1));
        Volume::create(sim.clone(), SIZE, [9; 16], (0, 0)).expect("a new store");
        let choice: Option<(&[u8], &[u8])> = match content {
            Content::Plain => None,
            Content::Compressed => Some((b"user.snapfs.compression", b"zstd:1")),
            Content::InPlace => Some((b"user.snapfs.layout", b"cow")),
        };
        if let Some((name, value)) = choice {
            let fs = open(&sim, &Clock::manual(1_000_000)).expect("a store that was just made opens");
            fs.setxattr(&ADMIN, NodeId::ROOT, name, value, XattrMode::Set).expect("the root takes it");
            fs.close().expect("and closes");
        }
        sim.clone_image()
    })
}

fn open(sim: &Arc<Sim>, clock: &Clock) -> Result<Arc<Fs>, String> {
    let options = OpenOptions { access: Access::ReadWrite, cache_bytes: 1 << 20 };
    let volume = Volume::open(sim.clone(), options).map_err(|e| e.to_string())?;
    // Little memory for delayed data, so that it is flushed in the middle of things too.
    // And a commit between any two steps of what takes several.
    let steps = Steps { items: 3, between: Between::Commit, ..Steps::default() };
    let options = FsOptions { dirty_bytes_max: 64 << 10, steps, ..FsOptions::default() };
    Fs::open(volume, options, clock.clone()).map_err(|e| format!("opening the file system: {e}"))
}

impl Engine {
    /// An empty store whose device loses power at its `crash_at`-th changing call.
    pub fn new(content: Content, crash_at: Option<u64>) -> Engine {
        let (sim, clock) = (Arc::new(template(content).clone_image()), Clock::manual(1_000_000));
        let fs = open(&sim, &clock).expect("a store that was just made opens");
        fs.commit().expect("the first commit");
        let calls_at_start = sim.changes();
        if let Some(at) = crash_at {
            sim.set_crash_at(calls_at_start + at);
        }
        Engine { sim, fs: Some(fs), clock, calls_at_start }
    }

    fn open_fs(&self) -> &Arc<Fs> {
        self.fs.as_ref().expect("open")
    }
}

impl Subject for Engine {
    fn ops(&self) -> &dyn Operations {
        self.clock.advance(1_000_000);
        &**self.open_fs()
    }

    fn commit(&mut self) -> Result<(), String> {
        self.open_fs().commit().map_err(|e| e.to_string())
    }

    fn crash(&mut self, seed: u64) -> Result<(), String> {
        self.fs = None;
        self.sim = Arc::new(self.sim.crash(CrashPolicy::Random(seed)));
        if seed.is_multiple_of(3) {
            // The power fails again right after the first recovery.
            drop(open(&self.sim, &self.clock)?);
            self.sim = Arc::new(self.sim.crash(CrashPolicy::Random(seed / 3)));
        }
        self.fs = Some(open(&self.sim, &self.clock)?);
        Ok(())
    }

    fn reopen(&mut self) -> Result<(), String> {
        if let Some(fs) = self.fs.take() {
            fs.close().map_err(|e| e.to_string())?;
            fs.volume().trim();
        }
        self.fs = Some(open(&self.sim, &self.clock)?);
        Ok(())
    }

    fn check(&mut self) -> Result<(), String> {
        let report = check::check(self.open_fs().volume(), Depth::Data).map_err(|e| e.to_string())?;
        if report.is_clean() { Ok(()) } else { Err(report.problems.join("\n")) }
    }

    fn roll_back(&mut self, line: &[u8], snapshot: &[u8]) -> RollBack {
        let rolled = (|| {
            self.reopen()?;
            let volume = self.open_fs().volume();
            let line = past::line_id(self.open_fs(), line).map_err(|e| e.to_string())?;
            let info = volume.find_snapshot(line, snapshot).ok_or("no such snapshot")?;
            volume.rollback(line, info.id, (5, 6)).map_err(|e| e.to_string())?;
            // The file system keeps state of the old tree: open it anew.
            volume.commit(&mut |_| Ok(())).map_err(|e| e.to_string())?;
            self.fs = None;
            self.fs = Some(open(&self.sim, &self.clock)?);
            Ok::<(), String>(())
        })();
        match rolled {
            Ok(()) => RollBack::Done { guard: None },
            Err(why) => RollBack::Failed(why),
        }
    }

    fn fs(&self) -> Option<&Fs> {
        self.clock.advance(1_000_000);
        self.fs.as_deref()
    }

    fn pass_minute(&self) -> Result<(), String> {
        self.clock.advance(60_000_000_000);
        self.open_fs().keep_holds().map_err(|e| format!("{e:?}"))
    }

    fn bring_home(&mut self, bytes: u64) -> Result<u64, String> {
        let step =
            self.open_fs().bring_content_home(bytes).map_err(|e| format!("bringing content home: {e:?}"))?;
        Ok(step.copied + step.moved)
    }

    fn lost_power(&self) -> bool {
        self.sim.is_crashed()
    }

    fn device_calls(&self) -> u64 {
        self.sim.changes().saturating_sub(self.calls_at_start)
    }
}
