//! The command's end of the control channel: find the daemon, ask one thing.
//!
//! A daemon is asked only after it has proved that it serves the mount, and never waited for without an end: one that is
//! stopped or hangs is a failure with a sentence.

use super::ahead::AnswersAhead;
use super::patience::{begin, within};
use super::protocol::{self, ANSWER_BYTES_MAX, Code, Failure, HELLO, Reply, Request, VERSION};
use super::registry::{self, FoundMount, MountRecord};
use crate::names;
use crate::sys::{mount::major_minor, process};
use serde_json::{Value, json};
use std::fs::{self, File};
use std::io::{self, BufReader};
use std::net::Shutdown;
use std::os::fd::{AsRawFd, RawFd};
use std::os::unix::fs::MetadataExt;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::mpsc::RecvTimeoutError;
use std::time::{Duration, Instant};

/// How long a daemon that takes no more requests may go on closing its store before that is a failure.
const CLOSING_MAX: Duration = Duration::from_secs(60);
const LOOK_AGAIN: Duration = Duration::from_millis(10);
/// How long a daemon may take to say hello, and the file system of a target to say which it is.
const ANSWER_MAX: Duration = Duration::from_secs(10);
/// After so long without a word it is seen whether the daemon is stopped, or lives on while it works.
const SILENCE_MAX: Duration = Duration::from_secs(2);

/// A daemon that was found. Each call is a connection of its own.
pub struct Client {
    found: FoundMount,
    /// The number of the node in its mount by which it was found: says which line and snapshot a request is about.
    node: Option<u64>,
}

/// A connection that is kept after the answer.
pub struct Bond(UnixStream);

impl Bond {
    /// The connection itself, for what both ends have agreed on. Whoever reads or writes waits as long as it takes.
    pub fn into_stream(self) -> io::Result<UnixStream> {
        self.0.set_read_timeout(None)?;
        self.0.set_write_timeout(None)?;
        Ok(self.0)
    }
}

impl AsRawFd for Bond {
    fn as_raw_fd(&self) -> RawFd {
        self.0.as_raw_fd()
    }
}

/// How often, and with what pause, a daemon that is closing is looked at.
const CLOSING_LOOKS: u32 = 100;
const CLOSING_PAUSE: Duration = Duration::from_millis(10);

/// What a daemon says when it is asked whether it serves its mount.
enum Greeting {
    Serves,
    /// Its mount is gone, and it is closing the store; or it is gone itself.
    Ended,
}

impl Client {
    /// The daemon that serves `target`: a mount point, any path in a mount, or a store. One that is closing its store, as
    /// after an unmount, is waited for and then not there.
    pub fn connect(target: &Path) -> Result<Client, Failure> {
        let at = target.to_path_buf();
        let place = begin(move || {
            let node = fs::metadata(&at).map(|meta| (major_minor(meta.dev()), meta.ino())).ok();
            (node, fs::canonicalize(&at).unwrap_or(at))
        });
        let place = match place.recv_timeout(SILENCE_MAX) {
            Err(RecvTimeoutError::Timeout) => {
                prove_way(target)?;
                place.recv_timeout(ANSWER_MAX - SILENCE_MAX).ok()
            }
            place => place.ok(),
        };
        let Some((node, real)) = place else {
            let what = "its file system does not answer; snapfs status lists the daemons, one may be stopped";
            return Err(Failure::new(Code::Io, format!("{}: {what}", names::shown(target))));
        };
        if let Some((device, node)) = node
            && let Some(client) = Client::of_device(device)?
        {
            return Ok(Client { node: Some(node), ..client });
        }
        for found in registry::all().into_iter().filter(|f| f.record.mountpoint == real) {
            if let Greeting::Serves = greet(&found)? {
                return Ok(Client { found, node: None });
            }
        }
        if let Some(client) = Client::of_store(&real)? {
            return Ok(client);
        }
        Err(Client::none(target))
    }

    /// The failure of whoever looks for a daemon where none is.
    pub fn none(target: &Path) -> Failure {
        let message = format!("{} is not mounted, or by another user", names::shown(target));
        Failure::new(Code::NotMounted, message)
    }

    /// What `call` returns, which asks the file system of `target`: fails if its daemon turns out to be stopped, or not to
    /// answer. One that works is waited for.
    pub fn patiently<T: Send + 'static>(
        target: &Path,
        call: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, Failure> {
        let result = begin(call);
        loop {
            match result.recv_timeout(SILENCE_MAX) {
                Ok(done) => return Ok(done),
                Err(RecvTimeoutError::Timeout) => match Client::connect(target) {
                    Err(f) if f.code != Code::NotMounted => return Err(f),
                    _ => {}
                },
                Err(RecvTimeoutError::Disconnected) => {
                    return Err(Failure::new(Code::Other, "a failed assertion")); // told already
                }
            }
        }
    }

    /// The daemon of the mount that has this device number now. Whoever had it before may still be there.
    pub fn of_device(device: (u32, u32)) -> Result<Option<Client>, Failure> {
        for found in registry::with_device(device) {
            if let Greeting::Serves = greet(&found)? {
                return Ok(Some(Client { found, node: None }));
            }
        }
        Ok(None)
    }

    /// A daemon from the registry.
    pub fn of(found: FoundMount) -> Client {
        Client { found, node: None }
    }

    /// The daemon that has the store at this path open, by its live tree if that is mounted. One that is closing it is
    /// waited for.
    pub fn of_store(store: &Path) -> Result<Option<Client>, Failure> {
        for found in registry::with_store(store) {
            if !has_ended(&found)? {
                return Ok(Some(Client { found, node: None }));
            }
        }
        Ok(None)
    }

    /// False when its mount is gone.
    pub fn serves(&self) -> bool {
        greet(&self.found).is_ok_and(|g| matches!(g, Greeting::Serves))
    }

    /// True if it takes no more requests: its mount is gone, and it is closing the store or is gone itself.
    pub fn has_left(&self) -> bool {
        greet(&self.found).is_ok_and(|g| matches!(g, Greeting::Ended))
    }

    /// True if the daemon has died: it is gone, and has left the entry that it would have removed. One that is closing is
    /// waited for a little.
    pub fn has_died(&self) -> bool {
        for _ in 0..CLOSING_LOOKS {
            if !self.found.is_running() {
                return self.found.is_left_behind();
            }
            std::thread::sleep(CLOSING_PAUSE);
        }
        false
    }

    /// True if it was told to end, or its mount is gone: it serves nobody any more.
    pub fn is_leaving(&self) -> bool {
        process::is_told_to_end(self.record().pid) || !self.serves()
    }

    /// True if a daemon whose mount is gone has this store open still, and is about to let go of it.
    pub fn is_closing(store: &Path) -> bool {
        let closing = |f: &FoundMount| greet(f).is_ok_and(|g| matches!(g, Greeting::Ended)) && f.is_running();
        registry::with_store(store).iter().any(closing)
    }

    /// Asks one thing. `None` if the daemon ends instead of answering: it may have done any part of it.
    pub fn ask(&self, verb: &str, args: Value) -> Result<Option<Value>, Failure> {
        match self.call(verb, args, &mut |_| {}) {
            Err(f) if matches!(f.code, Code::Io | Code::NotMounted) && has_ended(&self.found)? => Ok(None),
            answer => answer.map(Some),
        }
    }

    /// The failure of whoever was not answered because of that.
    pub fn ended(&self) -> Failure {
        ended(&self.found)
    }

    /// What the registry says of it.
    pub fn record(&self) -> &MountRecord {
        &self.found.record
    }

    /// Its registry entry.
    pub fn found(&self) -> &FoundMount {
        &self.found
    }

    /// Asks, hands progress on, and waits for the answer as long as the daemon works on it.
    pub fn call(
        &self,
        verb: &str,
        args: Value,
        on_progress: &mut dyn FnMut(Value),
    ) -> Result<Value, Failure> {
        let mut all = |value| {
            on_progress(value);
            true
        };
        let answer = self.stream(verb, args, &mut all)?;
        answer.ok_or_else(|| lost(&self.found, io::ErrorKind::UnexpectedEof.into()))
    }

    /// Asks for something that is made for whoever asks: the daemon knows that he goes on for as long as he, or a process to
    /// which it was handed, has the bond.
    pub fn begin(&self, verb: &str, args: Value) -> Result<(Value, Bond), Failure> {
        let mut bond = None;
        let answer = self.converse(verb, args, &mut |_| true, &mut |stream| bond = Some(Bond(stream)))?;
        answer.zip(bond).ok_or_else(|| lost(&self.found, io::ErrorKind::UnexpectedEof.into()))
    }

    /// As [`Self::call`], until `take` has enough, which it says by false: then there is no answer.
    pub fn stream(
        &self,
        verb: &str,
        args: Value,
        take: &mut dyn FnMut(Value) -> bool,
    ) -> Result<Option<Value>, Failure> {
        self.converse(verb, args, take, &mut drop)
    }

    fn converse(
        &self,
        verb: &str,
        mut args: Value,
        take: &mut dyn FnMut(Value) -> bool,
        keep: &mut dyn FnMut(UnixStream),
    ) -> Result<Option<Value>, Failure> {
        let found = &self.found;
        if let Some(node) = self.node {
            args["node"] = json!(node);
        }
        let mut alive = |silence| match greet(found) {
            Err(f) => Err(io::Error::other(f)),
            Ok(Greeting::Ended) if !found.is_running() => Err(silence),
            Ok(_) => Ok(()),
        };
        exchange(found, verb, args, take, &mut alive, keep).map_err(|e| lost(found, e))?
    }
}

/// The sentence of a connection that broke; one that says all is left as it is.
fn lost(found: &FoundMount, e: io::Error) -> Failure {
    let at = names::shown(&found.record.mountpoint);
    match e.downcast::<Failure>() {
        Ok(failure) => failure,
        Err(e) if is_end(&e) && matches!(greet(found), Ok(Greeting::Ended)) => ended(found),
        Err(e) => Failure::new(Code::Io, format!("the daemon of {at} does not answer: {e}")),
    }
}

fn ended(found: &FoundMount) -> Failure {
    let at = names::shown(&found.record.mountpoint);
    Failure::new(Code::Io, format!("the daemon of {at} ended before it answered"))
}

/// True for what a connection breaks with at the other end.
fn is_end(e: &io::Error) -> bool {
    use io::ErrorKind::{BrokenPipe, ConnectionRefused, ConnectionReset, NotFound, UnexpectedEof};
    matches!(e.kind(), BrokenPipe | ConnectionRefused | ConnectionReset | NotFound | UnexpectedEof)
}

/// One request and its answer. `silent` decides what becomes of a daemon that says nothing for a while, `keep` of the
/// connection after an answer.
fn exchange(
    found: &FoundMount,
    verb: &str,
    args: Value,
    take: &mut dyn FnMut(Value) -> bool,
    silent: &mut (dyn FnMut(io::Error) -> io::Result<()> + Send),
    keep: &mut dyn FnMut(UnixStream),
) -> io::Result<Result<Option<Value>, Failure>> {
    let stream = connect(found)?;
    if process::peer_uid(&stream)? != found.uid {
        let denied = Failure::new(Code::Denied, "the control socket is served by another user");
        return Ok(Err(denied));
    }
    stream.set_read_timeout(Some(SILENCE_MAX))?;
    stream.set_write_timeout(Some(ANSWER_MAX))?;
    let request = Request { version: VERSION, verb: verb.to_string(), args };
    protocol::send(&mut &stream, &request)?;
    let end = hear(&stream, take, silent)?;
    if let Ok(Some(_)) = end {
        keep(stream);
    }
    Ok(end)
}

/// An answer, until `take` has enough of it: then there is none.
type Answer = Result<Option<Value>, Failure>;

/// Hears an answer to its end.
fn hear(
    stream: &UnixStream,
    take: &mut dyn FnMut(Value) -> bool,
    silent: &mut (dyn FnMut(io::Error) -> io::Result<()> + Send),
) -> io::Result<Answer> {
    let mut answers = BufReader::new(stream);
    let mut next = || protocol::receive(&mut answers, ANSWER_BYTES_MAX, &mut *silent);
    let mut take_line = |line: Option<Vec<u8>>| -> io::Result<Option<Answer>> {
        let line = line.ok_or(io::ErrorKind::UnexpectedEof)?;
        Ok(match serde_json::from_slice(&line)? {
            Reply::Progress(value) => (!take(value)).then_some(Ok(None)),
            Reply::Ok(value) => Some(Ok(Some(value))),
            Reply::Error(failure) => Some(Err(failure)),
        })
    };
    let first = next()?;
    if !first.as_ref().is_some_and(|line| protocol::is_progress(line)) {
        return take_line(first)?.ok_or_else(|| io::ErrorKind::InvalidData.into());
    }
    // One of many: the daemon does not wait until each is wanted, the first neither.
    let ahead = AnswersAhead::default();
    ahead.push(first.unwrap_or_default());
    std::thread::scope(|scope| {
        let reading = std::thread::Builder::new().name("answers".into());
        reading.spawn_scoped(scope, || ahead.read(&mut next))?;
        let end = loop {
            match ahead.take().and_then(&mut take_line) {
                Ok(None) => {}
                Ok(Some(end)) => break Ok(end),
                Err(e) => break Err(e),
            }
        };
        ahead.enough();
        if !matches!(end, Ok(Ok(Some(_)))) {
            let _ = stream.shutdown(Shutdown::Both); // it may have ended already
        }
        end
    })
}

/// A queue of connections that nobody takes may be full, and then even connecting waits. Only then is it worth a thread.
fn connect(found: &FoundMount) -> io::Result<UnixStream> {
    let (dir, name) = found.socket();
    match with_short_path(dir, &name, process::connect_at_once) {
        Err(e) if e.kind() == io::ErrorKind::WouldBlock => {}
        done => return done,
    }
    let dir = dir.to_path_buf();
    let connecting = move || with_short_path(&dir, &name, |path| UnixStream::connect(path));
    within(ANSWER_MAX, connecting).unwrap_or_else(|| Err(no_answer(found)))
}

fn no_answer(found: &FoundMount) -> io::Error {
    let MountRecord { pid, mountpoint, .. } = &found.record;
    let who = format!("the daemon of {} (process {pid})", names::shown(mountpoint));
    let what = if process::is_stopped(*pid) {
        format!("{who} is stopped; let it go on with: kill -CONT {pid}")
    } else {
        format!("{who} does not answer, though it is there")
    };
    io::Error::other(Failure::new(Code::Io, what))
}

/// Asks a daemon whether it serves its mount. It answers at once or is stopped, or hangs: that is the failure.
fn greet(found: &FoundMount) -> Result<Greeting, Failure> {
    let begin = Instant::now();
    let mut silent = |_| {
        let patient = begin.elapsed() < ANSWER_MAX && !process::is_stopped(found.record.pid);
        if patient { Ok(()) } else { Err(no_answer(found)) }
    };
    let said = exchange(found, HELLO, json!({}), &mut |_| true, &mut silent, &mut drop);
    match said {
        Ok(Ok(_)) => Ok(Greeting::Serves),
        Ok(Err(f)) if f.code == Code::NotMounted => Ok(Greeting::Ended),
        // Too many commands at once: it lives, and says so when it is asked in earnest.
        Ok(Err(f)) if f.code == Code::Busy => Ok(Greeting::Serves),
        Ok(Err(f)) => Err(f),
        Err(e) if is_end(&e) => Ok(Greeting::Ended),
        Err(e) => Err(lost(found, e)),
    }
}

/// Fails if a daemon is stopped in whose mount a path seems to lie: by its name alone, since nothing on the way may answer.
fn prove_way(path: &Path) -> Result<(), Failure> {
    let Ok(path) = std::path::absolute(path) else { return Ok(()) };
    let mut on_the_way =
        registry::all().into_iter().filter(|found| path.starts_with(&found.record.mountpoint));
    on_the_way.try_for_each(|found| greet(&found).map(drop))
}

/// False at once for a daemon that takes requests; one that is closing its store is waited for. A socket is there before
/// its record, so a refusal means the end.
pub(super) fn has_ended(found: &FoundMount) -> Result<bool, Failure> {
    let end = Instant::now() + CLOSING_MAX;
    while let Greeting::Ended = greet(found)? {
        if !found.is_running() {
            return Ok(true);
        }
        if Instant::now() >= end {
            return Ok(false);
        }
        std::thread::sleep(LOOK_AGAIN);
    }
    Ok(false)
}

/// Addresses of sockets have room for 107 bytes; a long directory is reached through its descriptor.
pub(super) fn with_short_path<T>(
    dir: &Path,
    name: &str,
    act: impl FnOnce(&Path) -> io::Result<T>,
) -> io::Result<T> {
    let direct = dir.join(name);
    if direct.as_os_str().len() <= 100 {
        return act(&direct);
    }
    let open = File::open(dir)?;
    act(&PathBuf::from(format!("/proc/self/fd/{}", open.as_raw_fd())).join(name))
}
