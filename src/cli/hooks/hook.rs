//! A hook: a program that is run by the shell in a group of processes of its own, for a limited time.
//!
//! Until it is dropped the program is not reaped, so that its number stays its group's: what it has left running is ended
//! with the hook, and nobody else.
//!
//! Nobody waits for a program that cannot be ended, as one that writes into a line that is frozen: it is left to a thread of its own,
//! which reaps it when it has ended after all.

use crate::names;
use crate::sys::family::{self, signals::*};
use std::ffi::{OsStr, OsString};
use std::fs;
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStderr, ChildStdout, Command, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// Signals that whoever runs hooks may hold: hooks get them all the same.
pub(super) const HELD: &[i32] = &[SIGCHLD, SIGINT, SIGQUIT, SIGTERM, SIGHUP];
/// How long a program that was told to end may take for that before it is killed.
const GRACE: Duration = Duration::from_secs(2);
/// How long it may take for the end after it was killed. Longer takes one that the kernel has wait for something.
const LAST_GRACE: Duration = Duration::from_millis(500);
/// So often it is looked whether it has.
const LAST_LOOK: Duration = Duration::from_millis(10);

/// How a hook has ended.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum HookEnd {
    /// With exit code 0.
    Done,
    /// Not so; in words.
    Failed(String),
    /// It was ended because whoever runs it is to end.
    CalledOff,
}

/// Waits for as long as this, or until something has happened; true if whoever waits is to end.
pub(super) type Wait<'w> = &'w mut dyn FnMut(Duration) -> bool;

/// What a hook is told, besides what everybody is.
pub(super) type HookWords<'t> = &'t [(&'static str, OsString)];

/// A program that has been run, and what it has left running.
pub(super) struct Hook {
    /// None once it is somebody else's to reap.
    child: Option<Child>,
    leader: u32,
    output: (Option<ChildStdout>, Option<ChildStderr>),
}

impl Hook {
    /// Starts one. What it says goes to `output`.
    pub(super) fn start(program: &OsStr, told: HookWords<'_>, output: [Stdio; 2]) -> io::Result<Hook> {
        let [out, err] = output;
        let mut command = Command::new("/bin/sh");
        command.arg("-c").arg(program).process_group(0).stdin(Stdio::null()).stdout(out).stderr(err);
        command.envs(told.iter().map(|(key, value)| (*key, value)));
        let mut child = family::start(&mut command, HELD)?;
        let output = (child.stdout.take(), child.stderr.take());
        Ok(Hook { leader: child.id(), child: Some(child), output })
    }

    /// Waits until the program has ended, for so long at most: then it is ended, with what it has started.
    pub(super) fn wait(&mut self, limit: Duration, wait: Wait<'_>) -> HookEnd {
        let end = Instant::now() + limit;
        loop {
            match family::has_ended(self.leader) {
                Ok(true) => return self.ended(),
                Ok(false) => {}
                Err(e) => return HookEnd::Failed(format!("it cannot be waited for: {e}")),
            }
            let left = end.saturating_duration_since(Instant::now());
            if left.is_zero() {
                self.finish(wait);
                let end = if self.is_left() {
                    "cannot be ended now: it waits for a line that is frozen, or for a device"
                } else {
                    "was ended"
                };
                return HookEnd::Failed(format!("it took longer than {} s, and {end}", limit.as_secs()));
            }
            if wait(left) {
                self.finish(wait);
                return HookEnd::CalledOff;
            }
        }
    }

    /// What it says, if that is to be heard.
    pub(super) fn output(&mut self) -> (Option<ChildStdout>, Option<ChildStderr>) {
        (self.output.0.take(), self.output.1.take())
    }

    /// True if it could not be ended, and is waited for by nobody any more.
    pub(super) fn is_left(&self) -> bool {
        self.child.is_none()
    }

    /// Ends all that is left of it.
    pub(super) fn kill(&self) {
        if !self.is_left() {
            let _ = family::send_signal_to_group(self.leader, SIGKILL); // what is out of reach has another user's rights
        }
    }

    /// How a program has ended that has. It is not reaped.
    fn ended(&mut self) -> HookEnd {
        match family::how_ended(self.leader) {
            Ok(status) if status.success() => HookEnd::Done,
            Ok(status) => HookEnd::Failed(match (status.code(), status.signal()) {
                (Some(code), _) => format!("it ended with exit code {code}"),
                (None, Some(signal)) => format!("signal {signal} ended it"),
                (None, None) => "it failed".into(),
            }),
            Err(e) => HookEnd::Failed(format!("it cannot be waited for: {e}")),
        }
    }

    /// Ends the group: politely, then at once. If the program does not end of that either, it is left.
    fn finish(&mut self, wait: Wait<'_>) {
        let (leader, end) = (self.leader, Instant::now() + GRACE);
        let _ = family::send_signal_to_group(leader, SIGTERM); // what is out of reach has another user's rights
        while family::has_ended(leader).is_ok_and(|ended| !ended) {
            let left = end.saturating_duration_since(Instant::now());
            if left.is_zero() {
                break;
            }
            wait(left);
        }
        self.finish_at_once();
    }

    fn finish_at_once(&mut self) {
        if self.is_left() {
            return;
        }
        self.kill();
        let end = Instant::now() + LAST_GRACE;
        while family::has_ended(self.leader).is_ok_and(|ended| !ended) {
            if Instant::now() >= end {
                return self.leave();
            }
            std::thread::sleep(LAST_LOOK);
        }
    }

    /// Has it reaped whenever it ends. Until then its number is nobody else's.
    fn leave(&mut self) {
        let Some(mut child) = self.child.take() else { return };
        log::warn!("a hook, process {}, cannot be ended now, and is left", self.leader);
        let reap = move || {
            if let Err(e) = child.wait() {
                log::warn!("a hook cannot be reaped: {e}");
            }
        };
        if let Err(e) = std::thread::Builder::new().name("hook left".into()).spawn(reap) {
            log::warn!("a hook that was left is not reaped before the end: {e}");
        }
    }
}

impl Drop for Hook {
    fn drop(&mut self) {
        self.finish_at_once();
        if let Some(mut child) = self.child.take()
            && let Err(e) = child.wait()
        {
            log::warn!("a hook cannot be reaped: {e}");
        }
    }
}

/// A directory for what a hook before a snapshot has to say to the one after it. Its user's alone.
pub(super) struct StateDir(PathBuf);

impl StateDir {
    /// A new one.
    pub(super) fn new() -> io::Result<StateDir> {
        static NUMBER: AtomicU64 = AtomicU64::new(0);
        loop {
            let number = NUMBER.fetch_add(1, Ordering::Relaxed);
            let name = format!("snapfs-hooks-{}-{number}", std::process::id());
            let path = std::env::temp_dir().join(name);
            match fs::DirBuilder::new().mode(0o700).create(&path) {
                Err(e) if e.kind() == io::ErrorKind::AlreadyExists => {}
                made => return made.map(|()| StateDir(path)),
            }
        }
    }

    /// Where it is.
    pub(super) fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for StateDir {
    fn drop(&mut self) {
        if let Err(e) = fs::remove_dir_all(&self.0) {
            log::warn!("{}: {e}", names::shown(&self.0));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LONG: Duration = Duration::from_secs(600);

    fn start(program: &str, told: HookWords<'_>) -> Hook {
        Hook::start(program.as_ref(), told, [Stdio::null(), Stdio::null()]).unwrap()
    }

    fn nap(_: Duration) -> bool {
        std::thread::sleep(Duration::from_millis(5));
        false
    }

    #[test]
    fn how_programs_end_is_told() {
        let told = [("SNAPFS_NAME", OsString::from("a b"))];
        for (program, end) in [
            ("test \"$SNAPFS_NAME\" = 'a b'", HookEnd::Done),
            ("exit 7", HookEnd::Failed("it ended with exit code 7".into())),
            ("kill -9 $$", HookEnd::Failed("signal 9 ended it".into())),
        ] {
            assert_eq!(start(program, &told).wait(LONG, &mut nap), end, "{program}");
        }
        assert_eq!(start("sleep 600", &[]).wait(LONG, &mut |_| true), HookEnd::CalledOff);
    }

    #[test]
    fn nothing_of_it_outlives_it() {
        let dir = StateDir::new().unwrap();
        let path = dir.path().to_path_buf();
        let told = [("SNAPFS_STATE", path.clone().into_os_string())];
        let leave = "sleep 600 & echo $! > \"$SNAPFS_STATE/left\"";
        let pid_of = || fs::read_to_string(path.join("left")).unwrap().trim().to_string();
        let is_there =
            |pid: &str| fs::read(format!("/proc/{pid}/cmdline")).is_ok_and(|line| !line.is_empty());
        // What is left running goes on for as long as the hook is kept.
        let mut hook = start(leave, &told);
        assert_eq!(hook.wait(LONG, &mut nap), HookEnd::Done);
        let left = pid_of();
        assert!(is_there(&left));
        drop(hook);
        while is_there(&left) {
            nap(LONG);
        }
        // What takes too long is ended with all of it, also what does not want to.
        let mut hook = start(&format!("trap '' TERM; {leave}; wait; sleep 600"), &told);
        while !path.join("left").exists() || pid_of() == left || pid_of().is_empty() {
            nap(LONG);
        }
        let end = hook.wait(Duration::ZERO, &mut nap);
        assert!(matches!(&end, HookEnd::Failed(why) if why.contains("longer than")), "{end:?}");
        let left = pid_of();
        while is_there(&left) {
            nap(LONG);
        }
        drop(hook);
        drop(dir);
        assert!(!path.exists());
    }
}
