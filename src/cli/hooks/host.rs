//! The hooks of the host: what files in `/etc/snapfs/hooks.d` say is run by the daemon around the snapshots of schedules.
//!
//! Which files are read, and which are not, is in `trusted`. They are read anew for each snapshot. A file that cannot be read might
//! have been meant: the snapshot is taken then, and says that it is consistent as after a crash.

use super::file::HookFile;
use super::hook::{Hook, HookEnd, StateDir};
use super::own_frosts;
use super::trusted::read_all;
use crate::cli::create_args::OnPreFailure;
use crate::format::view::Consistency;
use crate::fs::{Applications, Fs, Prepared, Reached};
use crate::fuse;
use crate::names;
use parking_lot::Mutex;
use std::ffi::{OsStr, OsString};
use std::fs;
use std::io::{self, BufRead, BufReader, Read};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::mpsc::{self, Receiver};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

/// Where they are, unless the variable says otherwise in the environment of the daemon.
const HOOKS_DIR: &str = "/etc/snapfs/hooks.d";
const HOOKS_DIR_VARIABLE: &str = "SNAPFS_HOOKS_DIR";
/// So often it is looked whether a hook has ended.
const LOOK_INTERVAL: Duration = Duration::from_millis(20);
/// All that is run afterwards gets no more when the store is about to be closed.
const LAST_LIMIT: Duration = Duration::from_secs(5);
/// Longest line of a hook that is logged, in bytes.
const LINE_BYTES_MAX: u64 = 4096;
/// Lines of either kind that are logged of one run of a hook.
const LINES_MAX: usize = 100;
/// How long the last words of a hook that has failed are waited for.
const LAST_WORDS: Duration = Duration::from_secs(1);
/// Why one was ended early, or was not begun.
const UNMOUNTED: &str = "the store is being unmounted";

/// The store, as files name it.
#[derive(Clone, Debug)]
struct HookPlace {
    /// Where it is mounted.
    mount: PathBuf,
    /// Where it is: as it was given, and as it was found.
    stores: Vec<PathBuf>,
    /// Its number.
    uuid: String,
}

/// The hooks of the host for one store. Any thread.
pub(in crate::cli) struct HostHooks {
    dir: PathBuf,
    place: HookPlace,
    ended: Arc<Ending>,
    /// What was said of the files when they were read last, so that it is logged once.
    told: Mutex<Vec<String>>,
}

/// That the store is going to be closed, and since when that is known.
#[derive(Default)]
struct Ending(OnceLock<Instant>);

impl Ending {
    fn begin(&self) {
        self.0.get_or_init(Instant::now);
    }

    fn has_begun(&self) -> bool {
        self.0.get().is_some()
    }

    /// What is run afterwards has had its time.
    fn is_over(&self) -> bool {
        self.0.get().is_some_and(|since| since.elapsed() >= LAST_LIMIT)
    }
}

/// One of them, begun.
struct Begun {
    name: String,
    post: Option<String>,
    timeout: Duration,
    /// What the first has left running is kept until the second has ended.
    _pre: Option<Hook>,
    is_ready: &'static str,
    dir: StateDir,
}

/// Those of one snapshot.
struct Session {
    begun: Vec<Begun>,
    told: Vec<(&'static str, OsString)>,
    reached: Consistency,
    /// What the first parts have frozen.
    frosts: Vec<u64>,
    troubles: Vec<String>,
    ended: Arc<Ending>,
}

impl HostHooks {
    /// Those of the host for a store that is going to be mounted.
    pub(in crate::cli) fn of(files: &Fs, mount: &Path, store: &Path) -> Arc<HostHooks> {
        let uuid: String = files.volume().uuid().iter().map(|b| format!("{b:02x}")).collect();
        let given = fs::canonicalize(store).unwrap_or_else(|_| store.into());
        let stores = std::iter::once(given).chain(files.volume().location().path).collect();
        Arc::new(HostHooks::new(HookPlace { mount: mount.into(), stores, uuid }))
    }

    fn new(place: HookPlace) -> HostHooks {
        let dir = std::env::var_os(HOOKS_DIR_VARIABLE).filter(|dir| !dir.is_empty());
        let dir = dir.map_or_else(|| HOOKS_DIR.into(), PathBuf::from);
        HostHooks { dir, place, ended: Arc::default(), told: Mutex::default() }
    }

    /// Those for a schedule of a line, in the order of their names, and what is wrong with files.
    fn find(&self, line: &[u8], schedule: &str) -> (Vec<(String, HookFile)>, Vec<String>) {
        // Nothing that is in the store is read for this, by whatever path.
        let (mut all, troubles) = read_all(&self.dir, &fuse::own_devices());
        all.retain(|(_, hook)| {
            let is_here = hook.mount.as_ref().is_none_or(|mount| *mount == self.place.mount)
                && hook.store.as_ref().is_none_or(|store| self.place.stores.contains(store))
                && hook.uuid.as_ref().is_none_or(|uuid| *uuid == self.place.uuid);
            is_here
                && hook.line.as_bytes() == line
                && hook.schedule.as_ref().is_none_or(|name| name == schedule)
        });
        let mut told = self.told.lock();
        if *told != troubles {
            troubles.iter().for_each(|trouble| log::warn!("{trouble}"));
            told.clone_from(&troubles);
        }
        (all, troubles)
    }
}

impl Applications for HostHooks {
    fn prepare(&self, line: &[u8], schedule: &str) -> Result<Box<dyn Prepared>, String> {
        if self.ended.has_begun() {
            return Err(UNMOUNTED.into());
        }
        let (hooks, troubles) = self.find(line, schedule);
        let line = if line.is_empty() { b".".to_vec() } else { [b".clones/", line].concat() };
        let told = vec![
            ("SNAPFS_MNT", self.place.mount.clone().into()),
            ("SNAPFS_STORE", self.place.stores[0].clone().into()),
            ("SNAPFS_LINE", OsStr::from_bytes(&line).into()),
            ("SNAPFS_SCHEDULE", schedule.into()),
        ];
        let asks = hooks.iter().any(|(_, hook)| hook.pre.is_some());
        let reached = match troubles.is_empty() {
            false => Consistency::Crash,
            true if asks => Consistency::Application,
            true => Consistency::FileSystem,
        };
        let mut session = Session {
            begun: Vec::new(),
            told,
            reached,
            frosts: Vec::new(),
            troubles,
            ended: self.ended.clone(),
        };
        for (name, hook) in hooks {
            if let Err(why) = session.begin(&name, &hook) {
                let aborts = hook.on_failure == OnPreFailure::Abort || self.ended.has_begun();
                let why = format!("the hook {name} has failed before it: {why}");
                if aborts {
                    let after = Box::new(session).resume(None);
                    return Err(match after {
                        Ok(()) => why,
                        Err(more) => format!("{why}; {more}"),
                    });
                }
                session.troubles.push(why);
                session.reached = Consistency::Crash;
            }
        }
        Ok(Box::new(session))
    }

    fn end(&self) {
        self.ended.begin();
    }
}

impl Session {
    /// Runs the first part of one, and keeps it for the second.
    fn begin(&mut self, name: &str, hook: &HookFile) -> Result<(), String> {
        let dir = StateDir::new().map_err(|e| format!("it has no directory: {e}"))?;
        let (mut pre, mut done) = (None, Ok(()));
        if let Some(program) = &hook.pre {
            let told = self.told_to("pre", dir.path(), &[]);
            match run(name, program, &told, hook.timeout, &|| self.ended.has_begun()) {
                Ok((ran, end)) => (pre, done) = (Some(ran), end),
                Err(e) => done = Err(format!("it cannot be started: {e}")),
            }
        }
        let is_ready = match (&hook.pre, &done) {
            (None, _) => "none",
            (Some(_), Ok(())) => "done",
            (Some(_), Err(_)) => "failed",
        };
        self.frosts.extend(own_frosts::noted_in(dir.path()));
        let (name, post, timeout) = (name.to_string(), hook.post.clone(), hook.timeout);
        self.begun.push(Begun { name, post, timeout, _pre: pre, is_ready, dir });
        done
    }

    fn told_to(
        &self,
        part: &str,
        dir: &Path,
        more: &[(&'static str, &OsStr)],
    ) -> Vec<(&'static str, OsString)> {
        let mut told = self.told.clone();
        told.extend([("SNAPFS_HOOK", part.into()), ("SNAPFS_STATE", dir.into())]);
        told.extend(more.iter().map(|(key, value)| (*key, OsString::from(value))));
        told
    }
}

impl Prepared for Session {
    fn reached(&self) -> Reached<'_> {
        Reached { level: self.reached, frosts: &self.frosts }
    }

    /// In the opposite order.
    fn resume(mut self: Box<Self>, made: Option<&[u8]>) -> Result<(), String> {
        while let Some(begun) = self.begun.pop() {
            let Some(program) = &begun.post else { continue };
            let result = if made.is_some() { "made" } else { "failed" };
            let mut more: Vec<(&'static str, &OsStr)> =
                vec![("SNAPFS_PRE", begun.is_ready.as_ref()), ("SNAPFS_RESULT", result.as_ref())];
            more.extend(made.map(|name| ("SNAPFS_NAME", OsStr::from_bytes(name))));
            let told = self.told_to("post", begun.dir.path(), &more);
            let end = match run(&begun.name, program, &told, begun.timeout, &|| self.ended.is_over()) {
                Ok((_, end)) => end,
                Err(e) => Err(format!("it cannot be started: {e}")),
            };
            if let Err(why) = end {
                self.troubles.push(format!("the hook {} has failed after it: {why}", begun.name));
            }
        }
        if self.troubles.is_empty() { Ok(()) } else { Err(self.troubles.join("; ")) }
    }
}

/// Runs one part of a hook, and logs what it says.
fn run(
    name: &str,
    program: &str,
    told: &[(&'static str, OsString)],
    limit: Duration,
    is_ended: &dyn Fn() -> bool,
) -> io::Result<(Hook, Result<(), String>)> {
    let mut hook = Hook::start(program.as_ref(), told, [Stdio::piped(), Stdio::piped()])?;
    let (out, err) = hook.output();
    drop(out.map(|out| listen(name, log::Level::Info, out)));
    let last = err.map(|err| listen(name, log::Level::Warn, err));
    let end = hook.wait(limit, &mut |time| {
        std::thread::sleep(time.min(LOOK_INTERVAL));
        is_ended()
    });
    let done = match end {
        HookEnd::Done => Ok(()),
        HookEnd::CalledOff => Err(UNMOUNTED.to_string()),
        HookEnd::Failed(why) => {
            hook.kill();
            // One that was left may say more at any time.
            let last = last.filter(|_| !hook.is_left());
            let words = last.and_then(|last| last.recv_timeout(LAST_WORDS).ok()).filter(|w| !w.is_empty());
            Err(match words {
                None => why,
                Some(words) => format!("{why} ('{words}')"),
            })
        }
    };
    if let Err(why) = &done {
        log::warn!("the hook {name}: {why}");
    }
    Ok((hook, done))
}

/// Logs what comes out of a hook, line by line, and sends the last line when no more comes. All is read, or it would wait.
fn listen(name: &str, level: log::Level, from: impl Read + Send + 'static) -> Receiver<String> {
    let (send, last_line) = mpsc::channel();
    let name = name.to_string();
    let work = move || {
        let (mut from, mut last, mut lines) = (BufReader::new(from), String::new(), 0);
        loop {
            let mut line = Vec::new();
            match from.by_ref().take(LINE_BYTES_MAX).read_until(b'\n', &mut line) {
                Ok(0) | Err(_) => break,
                Ok(_) => {
                    let line = names::shown_bytes(line.trim_ascii_end());
                    lines += 1;
                    if lines <= LINES_MAX {
                        log::log!(level, "the hook {name}: {line}");
                    } else if lines == LINES_MAX + 1 {
                        log::log!(level, "the hook {name} says more, which is left out");
                    }
                    last = line;
                }
            }
        }
        let _ = send.send(last); // nobody may want it
    };
    if let Err(e) = std::thread::Builder::new().name("hook".into()).spawn(work) {
        log::warn!("what a hook says is lost: {e}");
    }
    last_line
}
