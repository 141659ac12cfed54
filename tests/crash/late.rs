//! A store on two disks of which one lags or hangs in the middle of whatever it is asked, and comes back while work goes on.
//!
//! The seed says which call begins that and for how many calls of the other disk it lasts; threads meet as they like. Whatever they do, no
//! error reaches who uses the store, and in the end either disk alone is the whole store, its content compared with the model.

use std::ops::ControlFlow;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use fastrand::Rng;
use parking_lot::{Condvar, Mutex};
use snapfs::device::mirror::{NewSide, Present, open_sides, read_label, write_label};
use snapfs::device::{CrashPolicy, Device, DeviceError, Mirror, Sim};
use snapfs::format::mirror::Label;
use snapfs::fs::Fs;
use snapfs::volume::{FillFrom, RINGS, newest_and_before};

use crate::cuts::{Recording, audit};
use crate::sides::{assemble, fresh, labels, show};
use crate::workloads::{WORKLOADS, Workload};
use crate::world::{Limits, World, open, template};

/// How long a side may keep the other waiting: longer than a simulated disk needs on a busy machine.
const LIMIT_MS: u32 = 150;
/// So long a disk hangs at most: longer than all limits together.
const HANGS_MAX: Duration = Duration::from_secs(2);
/// Longer than anything may take.
const PATIENCE: Duration = Duration::from_secs(120);
const LOOK_AGAIN: Duration = Duration::from_millis(1);
/// Those that do not open the store again: it is filled meanwhile.
const ONE_MOUNT: [&str; 10] = [
    "small_files",
    "appends",
    "truncate_then_write",
    "snapshots",
    "large_files",
    "compressed",
    "trees",
    "unlinked",
    "attributes",
    "mixed",
];

/// What is wrong with a disk.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Ill {
    /// Each of so many calls takes so long.
    Lags(u64, Duration),
    /// No call returns until the other disk has got so many more.
    Hangs(u64),
}

/// A disk as it is at the moment.
#[derive(Default)]
struct Health {
    calls: u64,
    /// From this call on.
    ill: Option<(u64, Ill)>,
    /// It hangs until the other has got so many calls.
    until: Option<u64>,
    hung: u64,
    lagged: u64,
}

/// Two disks, of which at most one is ill.
struct Ward {
    sims: [Arc<Sim>; 2],
    health: Mutex<[Health; 2]>,
    changed: Condvar,
}

impl Ward {
    /// Has a disk fall ill some calls from now.
    fn infect(&self, n: usize, after: u64, ill: Ill) {
        let health = &mut self.health.lock()[n];
        health.ill = Some((health.calls + after, ill));
    }

    fn is_ill(&self, n: usize) -> bool {
        self.health.lock()[n].ill.is_some()
    }

    fn calls(&self, n: usize) -> u64 {
        self.health.lock()[n].calls
    }

    /// Has all calls return.
    fn heal(&self) {
        for health in self.health.lock().iter_mut() {
            (health.ill, health.until) = (None, None);
        }
        self.changed.notify_all();
    }

    /// What a call goes through.
    fn pass(&self, n: usize) {
        let mut both = self.health.lock();
        both[n].calls += 1;
        let calls = both[n].calls;
        let others = both[1 - n].calls;
        let pause = match both[n].ill {
            Some((from, Ill::Lags(left, pause))) if calls >= from => {
                both[n].lagged += 1;
                both[n].ill = (left > 1).then_some((from, Ill::Lags(left - 1, pause)));
                pause
            }
            Some((from, Ill::Hangs(more))) if calls >= from => {
                both[n].hung += 1;
                both[n].until.get_or_insert(others + more);
                Duration::ZERO
            }
            _ => Duration::ZERO,
        };
        self.changed.notify_all();
        let end = Instant::now() + HANGS_MAX;
        while let Some(until) = both[n].until {
            if both[1 - n].calls >= until || Instant::now() >= end {
                (both[n].ill, both[n].until) = (None, None);
                self.changed.notify_all();
                break;
            }
            self.changed.wait_until(&mut both, end);
        }
        drop(both);
        std::thread::sleep(pause);
    }
}

/// One of the two.
struct Patient {
    ward: Arc<Ward>,
    n: usize,
}

impl Patient {
    fn pass(&self) -> &Sim {
        self.ward.pass(self.n);
        &self.ward.sims[self.n]
    }
}

impl Device for Patient {
    fn size(&self) -> u64 {
        self.ward.sims[self.n].size()
    }
    fn read_at(&self, offset: u64, buf: &mut [u8]) -> Result<(), DeviceError> {
        self.pass().read_at(offset, buf)
    }
    fn write_at(&self, offset: u64, buf: &[u8]) -> Result<(), DeviceError> {
        self.pass().write_at(offset, buf)
    }
    fn flush(&self) -> Result<(), DeviceError> {
        self.pass().flush()
    }
    fn back(&self, offset: u64, len: u64) -> Result<(), DeviceError> {
        self.pass().back(offset, len)
    }
    fn discard(&self, offset: u64, len: u64) {
        self.pass().discard(offset, len);
    }
    fn available(&self) -> u64 {
        self.pass().available()
    }
    fn describe(&self) -> String {
        format!("disk {}", self.n)
    }
}

/// What came about in a history.
#[derive(Clone, Copy, Default, Debug)]
pub struct Tended {
    /// Calls that hung, and that lagged.
    pub hung: u64,
    pub lagged: u64,
    /// Sides that were lost, and those that were filled again while work went on.
    pub lost: u64,
    pub filled: u64,
    /// Fillings in which the side was late again.
    pub cut: u64,
    /// Histories that ended with a side that was away, which was filled after a power cut.
    pub apart: u64,
}

impl std::ops::AddAssign for Tended {
    fn add_assign(&mut self, other: Tended) {
        self.hung += other.hung;
        self.lagged += other.lagged;
        self.lost += other.lost;
        self.filled += other.filled;
        self.cut += other.cut;
        self.apart += other.apart;
    }
}

fn wait(what: &str, mut holds: impl FnMut() -> bool) -> Result<(), String> {
    let end = Instant::now() + PATIENCE;
    while !holds() {
        if Instant::now() >= end {
            return Err(format!("waited too long for {what}"));
        }
        std::thread::sleep(LOOK_AGAIN);
    }
    Ok(())
}

/// The side that is lost, if one is.
fn lost(mirror: &Mirror) -> Option<usize> {
    mirror.states().iter().position(|side| side.as_ref().is_some_and(|side| side.state == "lost"))
}

/// Fills a side that was there before.
fn bring_back(fs: &Fs, mirror: &Mirror, disk: &Arc<dyn Device>) -> Result<(), String> {
    let ours = mirror.label().ok_or("no label")?;
    let theirs = read_label(&**disk).map_err(|e| e.to_string())?.ok_or("no label there")?;
    let from = FillFrom::of_side(disk.clone(), &ours, &theirs, mirror.reached_epoch());
    fs.volume().note_rest(&from, &ours, &**disk).map_err(|e| e.to_string())?;
    let (path, partner_path) = (Vec::new(), Vec::new());
    let new = NewSide { device: disk.clone(), path, partner_path, limit: mirror.time_limit() };
    mirror.join(new, &RINGS).map_err(|e| e.to_string())?;
    fs.volume().fill(mirror, &from, &mut |_| ControlFlow::Continue(())).map(drop).map_err(|e| e.to_string())
}

/// Who looks after the disks while work goes on.
struct Tending<'a> {
    fs: &'a Fs,
    mirror: &'a Mirror,
    ward: &'a Ward,
    disks: &'a [Arc<dyn Device>; 2],
    has_ended: &'a AtomicBool,
    rng: Rng,
    tended: Tended,
}

impl Tending<'_> {
    fn has_ended(&self) -> bool {
        self.has_ended.load(Ordering::SeqCst)
    }

    fn ill(&mut self) -> Ill {
        match self.rng.u8(0..4) {
            0 => Ill::Lags(self.rng.u64(5..60), Duration::from_micros(self.rng.u64(200..4000))),
            // Of one call that both get, the other has the first.
            1 => Ill::Hangs(1),
            _ => Ill::Hangs(self.rng.u64(2..120)),
        }
    }

    /// One disk after the other falls ill, and comes back when its calls have returned. In the end both are in sync, or the work goes on
    /// without the second that was lost.
    fn all(mut self, leaves_away: bool) -> Result<Tended, String> {
        while !self.has_ended() {
            let (n, after, ill) = (self.rng.usize(..2), self.rng.u64(1..60), self.ill());
            self.ward.infect(n, after, ill);
            wait("the end of an illness", || !self.ward.is_ill(n) || self.has_ended())?;
            // Whoever waits for it decides, if it was too late for that.
            let calls = self.ward.calls(1 - n) + self.rng.u64(..40);
            wait("more work", || self.ward.calls(1 - n) >= calls || self.has_ended())?;
            if self.has_ended() || leaves_away && self.tended.filled > 0 && lost(self.mirror).is_some() {
                break;
            }
            self.bring_back()?;
        }
        self.ward.heal();
        // Whoever had work has been answered: nobody is lost any more but for a call that nobody waits for.
        while !leaves_away && self.mirror.sides().len() < 2 {
            self.bring_back()?;
        }
        Ok(self.tended)
    }

    /// Brings back the side that is lost, if one is.
    fn bring_back(&mut self) -> Result<(), String> {
        let Some(n) = lost(self.mirror) else { return Ok(()) };
        self.tended.lost += 1;
        loop {
            let returned = || self.mirror.have_returned(&self.disks[n], LOOK_AGAIN);
            wait("late calls", returned)?;
            if !self.mirror.forget_lost() {
                return Err("a side is not let go of whose calls have returned".into());
            }
            let is_late_again = !self.has_ended() && self.rng.u8(0..3) == 0;
            if is_late_again {
                let (after, more) = (self.rng.u64(5..200), self.rng.u64(1..60));
                self.ward.infect(n, after, Ill::Hangs(more));
            }
            match bring_back(self.fs, self.mirror, &self.disks[n]) {
                Ok(()) => {
                    self.tended.filled += 1;
                    return Ok(());
                }
                // The store has gone on alone, be it that it was late or that its partner was not soon enough.
                Err(why) if is_late_again || why.contains("did not answer") || why.contains("is lost") => {
                    self.tended.cut += 1;
                }
                Err(why) => return Err(format!("a side is not filled: {why}")),
            }
            wait("the end of an illness", || !self.ward.is_ill(n) || self.has_ended())?;
            if self.has_ended() {
                self.ward.heal();
            }
        }
    }
}

/// Ends what looks after the disks, also when the work fails.
struct Ends<'a>(&'a AtomicBool);

impl Drop for Ends<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::SeqCst);
    }
}

/// A workload of so many calls of both disks, while one after the other is late.
pub fn history(seed: u64, calls: u64) -> Result<Tended, String> {
    let mut rng = Rng::with_seed(seed);
    let name = ONE_MOUNT[rng.usize(..ONE_MOUNT.len())];
    let workload: &Workload = WORKLOADS.iter().find(|w| w.name == name).ok_or("no such workload")?;
    let sims = labels().map(|label| {
        let sim = template();
        write_label(&sim, &Label { limit_ms: LIMIT_MS, ..label }).expect("a sound disk takes a label");
        Arc::new(sim)
    });
    let ward = Arc::new(Ward { sims: sims.clone(), health: Mutex::default(), changed: Condvar::new() });
    let disks = [0, 1].map(|n| Arc::new(Patient { ward: ward.clone(), n }) as Arc<dyn Device>);
    let present = |n: usize| {
        let (newest, before) = newest_and_before(&*sims[n]).map_err(|e| e.to_string())?;
        Present::read(disks[n].clone(), (newest.epoch.0, before.0), newest.seq).map_err(|e| e.to_string())
    };
    let opening = open_sides(present(0)?, Some(present(1)?), false, fresh()).map_err(|e| e.to_string())?;
    let mirror = Arc::new(opening.mirror);
    let counter = ward.clone();
    let count = move || counter.calls(0) + counter.calls(1);
    let before = count();
    let changes = Box::new(move || count() - before);
    let mut world = World::new(mirror.clone(), changes, Limits { cache_bytes: 1, ..Limits::default() });
    let (fs, has_ended) = (world.fs(), AtomicBool::new(false));
    let leaves_away = rng.u8(0..3) == 0;
    let tending = Tending {
        fs: &fs,
        mirror: &mirror,
        ward: &ward,
        disks: &disks,
        has_ended: &has_ended,
        rng: Rng::with_seed(rng.u64(..)),
        tended: Tended::default(),
    };
    let tended = std::thread::scope(|scope| {
        let tended = scope.spawn(move || tending.all(leaves_away));
        let ends = Ends(&has_ended);
        (workload.run)(&mut world, &mut rng, calls);
        drop(ends);
        tended.join().unwrap_or_else(|_| Err("a panic of who looks after the disks".into()))
    });
    let mut tended = tended.map_err(|why| format!("{name}: {why}"))?;
    {
        let health = ward.health.lock();
        (tended.hung, tended.lagged) = (health[0].hung + health[1].hung, health[0].lagged + health[1].lagged);
    }
    let is_apart = mirror.sides().len() < 2;
    let away = lost(&mirror).unwrap_or(1);
    if is_apart {
        tended.apart = 1;
        wait("late calls", || mirror.have_returned(&disks[away], LOOK_AGAIN))?;
        // Nothing may have been flushed since.
        mirror.announce_loss().map_err(|e| e.to_string())?;
    } else {
        world.commit();
    }
    let (history, numbers) = world.vanish();
    drop((fs, mirror));
    let recording =
        Recording { name: name.into(), seed, base: template(), tape: Vec::new(), history, numbers };
    let last = recording.history.len() - 1;
    let here = |what: &str| {
        let what = what.to_owned();
        move |why: String| format!("{name}, seed {seed}, {what}: {why}")
    };
    if !is_apart {
        for n in 0..2 {
            let mut alone = [None, None];
            alone[n] = Some(sims[n].crash(CrashPolicy::DropAll));
            let judged = recording.judge_sides(alone, last..=last);
            judged.map_err(here(&format!("side {n} alone, which came back")))?;
        }
        return Ok(tended);
    }
    // The power is cut: what is acknowledged is on the one that went on, and the other gets it.
    let oldest = recording.history.iter().rposition(|m| m.acknowledged).unwrap_or(0);
    let disks = sims.map(|sim| Arc::new(sim.crash(CrashPolicy::Random(seed))));
    let mut alone = [None, None];
    alone[1 - away] = Some(disks[1 - away].clone_image());
    recording.judge_sides(alone, oldest..=last).map_err(here("the one that went on"))?;
    let opening = assemble([0, 1].map(|n| Some(disks[n].clone()))).map_err(here("both"))?;
    let mirror = Arc::new(opening.mirror);
    if opening.behind.is_none() {
        return Err(here("both")("the one that was away is taken for an equal".into()));
    }
    let fs = open(mirror.clone(), &Limits::in_steps()).map_err(here("both"))?;
    audit(&fs).map_err(here("both"))?;
    let found = recording.find(&fs, oldest..=last).map_err(here("both"))?;
    fs.commit().map_err(|e| format!("{e:?}"))?;
    let behind: Arc<dyn Device> = disks[away].clone();
    bring_back(&fs, &mirror, &behind).map_err(here("the filling"))?;
    drop((fs, mirror, behind));
    for (n, disk) in disks.iter().enumerate() {
        let judged = show(&recording, disk.crash(CrashPolicy::DropAll), found);
        judged.map_err(here(&format!("side {n} alone after it was filled")))?;
    }
    Ok(tended)
}
