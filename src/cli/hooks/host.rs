//! The hooks of the host: what files in `/etc/snapfs/hooks.d` say is run by the daemon around the snapshots of schedules.
//!
//! Only files of root, or of the daemon's own user, are read, and only if nobody else can write to them or to the directories
//! that they are in. They are read anew for each snapshot. A file that cannot be read might have been meant: the snapshot is taken
//! then, and says that it is consistent as after a crash.

use super::file::{self, HookFile};
use super::hook::{Hook, HookEnd, StateDir};
use crate::cli::create_args::OnPreFailure;
use crate::format::view::Consistency;
use crate::fs::{Applications, Fs, Prepared};
use crate::names;
use crate::sys::{mount::fcntl, process};
use parking_lot::Mutex;
use std::ffi::{OsStr, OsString};
use std::fs::{self, File, Metadata};
use std::io::{self, BufRead, BufReader, Read};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::sync::mpsc::{self, Receiver};
use std::time::Duration;

/// Where they are, unless the variable says otherwise in the environment of the daemon.
const HOOKS_DIR: &str = "/etc/snapfs/hooks.d";
const HOOKS_DIR_VARIABLE: &str = "SNAPFS_HOOKS_DIR";
/// Longest file.
const FILE_BYTES_MAX: u64 = 64 << 10;
/// So often it is looked whether a hook has ended.
const LOOK_INTERVAL: Duration = Duration::from_millis(20);
/// What is run afterwards gets no more when the store is about to be closed.
const LAST_LIMIT: Duration = Duration::from_secs(5);
/// Longest line of a hook that is logged, in bytes.
const LINE_BYTES_MAX: u64 = 4096;
/// How long the last words of a hook that has failed are waited for.
const LAST_WORDS: Duration = Duration::from_secs(1);

/// The store, as files name it.
#[derive(Clone, Debug)]
struct HookPlace {
    /// Where it is mounted.
    mount: PathBuf,
    /// Where it is.
    store: PathBuf,
    /// Its number.
    uuid: String,
}

/// The hooks of the host for one store. Any thread.
pub(in crate::cli) struct HostHooks {
    dir: PathBuf,
    place: HookPlace,
    ended: Arc<AtomicBool>,
    /// What was said of the files when they were read last, so that it is logged once.
    told: Mutex<Vec<String>>,
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
    troubles: Vec<String>,
    ended: Arc<AtomicBool>,
}

impl HostHooks {
    /// Those of the host for a store that is going to be mounted.
    pub(in crate::cli) fn of(files: &Fs, mount: &Path, store: PathBuf) -> Arc<HostHooks> {
        let uuid: String = files.volume().uuid().iter().map(|b| format!("{b:02x}")).collect();
        Arc::new(HostHooks::new(HookPlace { mount: mount.into(), store, uuid }))
    }

    fn new(place: HookPlace) -> HostHooks {
        let dir = std::env::var_os(HOOKS_DIR_VARIABLE).filter(|dir| !dir.is_empty());
        let dir = dir.map_or_else(|| HOOKS_DIR.into(), PathBuf::from);
        HostHooks { dir, place, ended: Arc::default(), told: Mutex::default() }
    }

    /// Those for a schedule of a line, in the order of their names, and what is wrong with files.
    fn find(&self, line: &[u8], schedule: &str) -> (Vec<(String, HookFile)>, Vec<String>) {
        let (mut all, troubles) = read_all(&self.dir);
        all.retain(|(_, hook)| {
            let is_here = hook.mount.as_ref().is_none_or(|mount| *mount == self.place.mount)
                && hook.store.as_ref().is_none_or(|store| *store == self.place.store)
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
        let (hooks, troubles) = self.find(line, schedule);
        let line = if line.is_empty() { b".".to_vec() } else { [b".clones/", line].concat() };
        let told = vec![
            ("SNAPFS_MNT", self.place.mount.clone().into()),
            ("SNAPFS_STORE", self.place.store.clone().into()),
            ("SNAPFS_LINE", OsStr::from_bytes(&line).into()),
            ("SNAPFS_SCHEDULE", schedule.into()),
        ];
        let asks = hooks.iter().any(|(_, hook)| hook.pre.is_some());
        let reached = match troubles.is_empty() {
            false => Consistency::Crash,
            true if asks => Consistency::Application,
            true => Consistency::FileSystem,
        };
        let mut session = Session { begun: Vec::new(), told, reached, troubles, ended: self.ended.clone() };
        for (name, hook) in hooks {
            if let Err(why) = session.begin(&name, &hook) {
                let aborts = hook.on_failure == OnPreFailure::Abort || self.ended.load(SeqCst);
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
        self.ended.store(true, SeqCst);
    }
}

impl Session {
    /// Runs the first part of one, and keeps it for the second.
    fn begin(&mut self, name: &str, hook: &HookFile) -> Result<(), String> {
        let dir = StateDir::new().map_err(|e| format!("it has no directory: {e}"))?;
        let (mut pre, mut done) = (None, Ok(()));
        if let Some(program) = &hook.pre {
            let told = self.told_to("pre", dir.path(), &[]);
            match run(name, program, &told, hook.timeout, &|| self.ended.load(SeqCst)) {
                Ok((ran, end)) => (pre, done) = (Some(ran), end),
                Err(e) => done = Err(format!("it cannot be started: {e}")),
            }
        }
        let is_ready = match (&hook.pre, &done) {
            (None, _) => "none",
            (Some(_), Ok(())) => "done",
            (Some(_), Err(_)) => "failed",
        };
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
    fn reached(&self) -> Consistency {
        self.reached
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
            let limit = if self.ended.load(SeqCst) { begun.timeout.min(LAST_LIMIT) } else { begun.timeout };
            let end = match run(&begun.name, program, &told, limit, &|| false) {
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
    drop(out.map(|out| listen(name, out)));
    let last = err.map(|err| listen(name, err));
    let end = hook.wait(limit, &mut |time| {
        std::thread::sleep(time.min(LOOK_INTERVAL));
        is_ended()
    });
    let done = match end {
        HookEnd::Done => Ok(()),
        HookEnd::CalledOff => Err("the store is being unmounted".to_string()),
        HookEnd::Failed(why) => {
            hook.kill();
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

/// Logs what comes out of a hook, line by line, and sends the last line when no more comes.
fn listen(name: &str, from: impl Read + Send + 'static) -> Receiver<String> {
    let (send, last_line) = mpsc::channel();
    let name = name.to_string();
    let work = move || {
        let (mut from, mut last) = (BufReader::new(from), String::new());
        loop {
            let mut line = Vec::new();
            match from.by_ref().take(LINE_BYTES_MAX).read_until(b'\n', &mut line) {
                Ok(0) | Err(_) => break,
                Ok(_) => {
                    let line = names::shown_bytes(line.trim_ascii_end());
                    log::info!("the hook {name}: {line}");
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

/// All files in a directory, by name, and what is wrong with others. One that is not there has none.
fn read_all(dir: &Path) -> (Vec<(String, HookFile)>, Vec<String>) {
    let (mut all, mut troubles) = (Vec::new(), Vec::new());
    let listed = match fs::symlink_metadata(dir) {
        Err(e) if matches!(e.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {
            return (all, troubles);
        }
        Err(e) => Err(e.to_string()),
        Ok(_) => {
            let above = dir.parent().filter(|above| !above.as_os_str().is_empty());
            let mut proved = above.into_iter().chain([dir]).map(|dir| match fs::symlink_metadata(dir) {
                Ok(meta) if meta.is_dir() => is_trusted(&meta),
                Ok(_) => Err("it is no directory".to_string()),
                Err(e) => Err(e.to_string()),
            });
            proved.try_for_each(|proved| proved).and_then(|()| names_in(dir).map_err(|e| e.to_string()))
        }
    };
    let names = listed.unwrap_or_else(|why| {
        troubles.push(format!("{}: hooks are not read: {why}", names::shown(dir)));
        Vec::new()
    });
    for name in names {
        let path = dir.join(&name);
        match read_file(&path) {
            Ok(hook) => all.push((names::shown(&name), hook)),
            Err(why) => troubles.push(format!("{}: this hook is not read: {why}", names::shown(&path))),
        }
    }
    (all, troubles)
}

/// Names of files that are meant, sorted.
fn names_in(dir: &Path) -> io::Result<Vec<OsString>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(dir)? {
        let name = entry?.file_name();
        if name.as_bytes().ends_with(b".toml") && !name.as_bytes().starts_with(b".") {
            found.push(name);
        }
    }
    found.sort();
    Ok(found)
}

fn read_file(path: &Path) -> Result<HookFile, String> {
    let told = |e: io::Error| e.to_string();
    // What is no file is not waited for.
    let flags = fcntl::O_NOFOLLOW | fcntl::O_NONBLOCK;
    let file = File::options().read(true).custom_flags(flags).open(path).map_err(told)?;
    let meta = file.metadata().map_err(told)?;
    if !meta.is_file() {
        return Err("it is no file".into());
    }
    is_trusted(&meta)?;
    let mut text = String::new();
    file.take(FILE_BYTES_MAX + 1).read_to_string(&mut text).map_err(told)?;
    if text.len() as u64 > FILE_BYTES_MAX {
        return Err("it is too long".into());
    }
    file::read(&text).map_err(|e| e.to_string())
}

/// Refuses what somebody else may have written.
fn is_trusted(meta: &Metadata) -> Result<(), String> {
    const OTHERS_WRITE: u32 = 0o022;
    if meta.uid() != 0 && meta.uid() != process::effective_uid() {
        return Err(format!("it belongs to user {}, and not to root or to the daemon's user", meta.uid()));
    }
    if meta.mode() & OTHERS_WRITE != 0 {
        return Err(
            "others than its owner can write to it, or to the directory that it is in: chmod go-w".into()
        );
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::{PermissionsExt, symlink};

    #[test]
    fn only_what_nobody_else_can_write_is_read() {
        let state = StateDir::new().unwrap();
        let dir = state.path().join("hooks.d");
        assert_eq!(read_all(&dir), (Vec::new(), Vec::new()));
        fs::create_dir(&dir).unwrap();
        let mode = |path: &Path, mode| fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
        for (name, text) in
            [("b.toml", "uuid = \"1\"\npre = \"x\""), ("a.toml", "mount = \"/m\"\npost = \"y\"")]
        {
            fs::write(dir.join(name), text).unwrap();
            mode(&dir.join(name), 0o644);
        }
        for (name, text) in [("README", "?"), (".hidden.toml", "?"), ("c.toml.bak", "?")] {
            fs::write(dir.join(name), text).unwrap();
        }
        mode(&dir, 0o755);
        let (all, troubles) = read_all(&dir);
        assert_eq!(all.iter().map(|(name, _)| &name[..]).collect::<Vec<_>>(), ["a.toml", "b.toml"]);
        assert_eq!(troubles, Vec::<String>::new());
        // Neither what others can write to, nor what leads elsewhere, is too long or says nothing that is understood.
        mode(&dir.join("a.toml"), 0o664);
        symlink(dir.join("b.toml"), dir.join("c.toml")).unwrap();
        fs::write(dir.join("d.toml"), "x".repeat(1 + FILE_BYTES_MAX as usize)).unwrap();
        fs::write(dir.join("e.toml"), "pre = 5").unwrap();
        fs::create_dir(dir.join("f.toml")).unwrap();
        let (all, troubles) = read_all(&dir);
        assert_eq!(all.len(), 1);
        for (trouble, words) in troubles.iter().zip([
            "others than its owner",
            "c.toml",
            "too long",
            "line 1, column 7",
            "no file",
        ]) {
            assert!(trouble.contains(words), "{trouble}");
        }
        assert_eq!(troubles.len(), 5);
        for (path, changed, back) in [(&dir, 0o775, 0o755), (&state.path().to_path_buf(), 0o777, 0o700)] {
            mode(path, changed);
            let (all, troubles) = read_all(&dir);
            assert!(
                all.is_empty() && troubles.len() == 1 && troubles[0].contains("chmod go-w"),
                "{troubles:?}"
            );
            mode(path, back);
        }
    }
}
