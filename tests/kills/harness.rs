//! The loop around every program: let it work, kill the daemon, mount, check, and let the program prove its data.

use std::process::{Child, Command};
use std::time::{Duration, Instant};

use crate::guard::can_mount;
use crate::place::{PATIENCE, Place, said};

/// A program that works on a mount and knows what it was told is done.
pub trait Program {
    /// For people.
    fn name(&self) -> String;
    /// Begins to work, in the background.
    fn start(&mut self, p: &Place);
    /// The mount has died: ends the work.
    fn stop(&mut self);
    /// Everything acknowledged must be there, and the program's own check content. Panics if not. Returns how
    /// much was acknowledged since the last time.
    fn prove(&mut self, p: &Place) -> u64;
    /// Proves once more what takes long, and lets go of the mount.
    fn end(&mut self, _p: &Place) {}
}

/// A number from the environment.
pub fn number(name: &str, default: u64) -> u64 {
    let value = std::env::var(name).ok();
    value.map_or(default, |v| v.parse().unwrap_or_else(|_| panic!("{name}={v} is not a number")))
}

/// False, loudly, if a program is not installed; a failure where everything is required.
pub fn installed(program: &str, package: &str) -> bool {
    let there = Command::new("sh").args(["-c", &format!("command -v {program}")]).output();
    let there = there.is_ok_and(|o| o.status.success());
    if !there {
        eprintln!("SKIPPED: {program} is not installed (package {package})");
    }
    there
}

/// Kills the daemon under a program so many times, or as often as `SNAPFS_KILLS` says.
pub fn kill_again_and_again<P: Program>(kills: u64, program: impl FnOnce(&Place) -> Option<P>) {
    if !can_mount() {
        return;
    }
    let (kills, seed) = (number("SNAPFS_KILLS", kills), number("SNAPFS_SEED", 1));
    let p = Place::new();
    p.mount(options());
    let Some(mut program) = program(&p) else { return p.umount() };
    let mut rng = fastrand::Rng::with_seed(seed);
    let (mut acknowledged, mut replayed) = (0, 0);
    for n in 1..=kills {
        // Asked for in advance: an answer may wait for a commit, and then the kill would, too.
        let pid = p.pid().to_string();
        program.start(&p);
        std::thread::sleep(Duration::from_millis(rng.u64(20..1800)));
        assert!(Command::new("kill").args(["-KILL", &pid]).status().expect("kill").success());
        program.stop();
        p.wait_gone();
        p.mount(options());
        replayed += p.number("log_records_replayed");
        let check = p.run(&["check", "mnt"]);
        assert_eq!(check.code, 0, "{} after kill {n} of seed {seed}: {check:?}", program.name());
        acknowledged += program.prove(&p);
    }
    program.end(&p);
    p.umount();
    p.check();
    println!(
        "{}: {kills} kills, {acknowledged} acknowledged, 0 lost; {replayed} records of the log replayed",
        program.name()
    );
    assert!(acknowledged > 0, "{} did nothing", program.name());
}

/// Other users may come in, as a database's own, if root mounts; commits happen often, so that kills meet them.
fn options() -> &'static str {
    if is_root() { "allow_other,commit=1" } else { "commit=1" }
}

/// True for root.
pub fn is_root() -> bool {
    std::fs::metadata("/proc/self").is_ok_and(|m| std::os::unix::fs::MetadataExt::uid(&m) == 0)
}

/// Runs a command; it must succeed.
pub fn ok(command: &mut Command) -> String {
    let shown = format!("{command:?}");
    let done = said(command);
    assert_eq!(done.code, 0, "{shown}: {done:?}");
    done.out
}

/// Ends a process of ours, whatever state it is in, and waits for it.
pub fn finish(child: &mut Child) {
    let _ = child.kill();
    let end = Instant::now() + PATIENCE;
    while child.try_wait().expect("wait").is_none() {
        assert!(Instant::now() < end, "a process does not end");
        std::thread::sleep(Duration::from_millis(5));
    }
}
