//! Programs: run with a bound on their time, and daemons that end with their guard. Only processes that were started
//! here are ever killed, by number.

use crate::common::Result;
use std::ffi::OsStr;
use std::fs::File;
use std::io::Read;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// No command of the set-up takes longer.
const LIMIT: Duration = Duration::from_secs(120);

/// Waits for the end of a process. None if it goes on for longer.
fn wait(child: &mut Child, limit: Duration) -> Option<std::process::ExitStatus> {
    let start = Instant::now();
    loop {
        if let Ok(Some(status)) = child.try_wait() {
            return Some(status);
        }
        let elapsed = start.elapsed();
        if elapsed > limit {
            return None;
        }
        // Short first: some of these commands are measured.
        let short = elapsed < Duration::from_millis(50);
        std::thread::sleep(Duration::from_micros(if short { 200 } else { 2000 }));
    }
}

/// Runs a command to its end; what it printed.
pub fn run_command(command: &mut Command, limit: Duration) -> Result<String> {
    let said = |what: &str| format!("{} {what}", command.get_program().to_string_lossy());
    let (cannot, failed, late) = (said("cannot be run"), said("failed"), said("did not end"));
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().map_err(|e| format!("{cannot}: {e}"))?;
    let (out, err) = (child.stdout.take(), child.stderr.take());
    std::thread::scope(|scope| {
        let text = |mut from: Box<dyn Read + Send>| {
            let mut bytes = Vec::new();
            drop(from.read_to_end(&mut bytes));
            String::from_utf8_lossy(&bytes).trim().to_string()
        };
        let out = out.map(|o| scope.spawn(move || text(Box::new(o))));
        let err = err.map(|e| scope.spawn(move || text(Box::new(e))));
        let status = wait(&mut child, limit);
        if status.is_none() {
            let _ended = (child.kill(), child.wait());
        }
        let [out, err] = [out, err].map(|t| t.and_then(|t| t.join().ok()).unwrap_or_default());
        match status {
            Some(status) if status.success() => Ok(out),
            Some(_) => Err(format!("{failed}: {}", err.lines().last().unwrap_or_default()).into()),
            None => Err(late.into()),
        }
    })
}

/// Runs a program with arguments.
pub fn run<S: AsRef<OsStr>>(program: &str, args: &[S]) -> Result<String> {
    run_command(Command::new(program).args(args), LIMIT)
}

/// Runs it until it succeeds, for a few seconds: what was just used may be busy for a moment.
pub fn run_patiently<S: AsRef<OsStr>>(program: &str, args: &[S]) -> Result<String> {
    let mut tries = 40;
    loop {
        match run(program, args) {
            Err(_) if tries > 0 => tries -= 1,
            done => return done,
        }
        std::thread::sleep(Duration::from_millis(200));
    }
}

/// A process that serves until it is ended. Dropped while it runs, it is killed.
pub struct Daemon {
    child: Child,
    name: String,
}

impl Daemon {
    /// Starts it in a process group of its own, so that an interrupt of the bench does not reach it; what it prints goes
    /// to `log`.
    pub fn start(command: &mut Command, log: &Path) -> Result<Daemon> {
        let name = command.get_program().to_string_lossy().into_owned();
        let log = File::options().create(true).append(true).open(log)?;
        command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log).process_group(0);
        let child = command.spawn().map_err(|e| format!("{name}: {e}"))?;
        Ok(Daemon { child, name })
    }

    /// Its process.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Waits until it serves.
    pub fn wait_until(&mut self, mut ready: impl FnMut() -> bool) -> Result<()> {
        let until = Instant::now() + Duration::from_secs(30);
        while !ready() {
            if let Ok(Some(status)) = self.child.try_wait() {
                return Err(format!("{} ended: {status}", self.name).into());
            }
            if Instant::now() > until {
                return Err(format!("{} does not serve", self.name).into());
            }
            std::thread::sleep(Duration::from_millis(1));
        }
        Ok(())
    }

    /// Waits until it has ended by itself.
    pub fn ended(mut self) -> Result<()> {
        match wait(&mut self.child, LIMIT) {
            Some(_) => Ok(()),
            None => Err(format!("{} did not end and was killed", self.name).into()),
        }
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        if matches!(self.child.try_wait(), Ok(None)) {
            let _ended = (self.child.kill(), self.child.wait());
        }
    }
}
