//! The command's end of the control channel: find the daemon, ask one thing.

use super::protocol::{self, ANSWER_BYTES_MAX, Answer, Code, Failure, Request, VERSION};
use super::registry::{self, Found, Record};
use crate::sys::process;
use serde_json::Value;
use std::fs::File;
use std::io::{self, BufReader};
use std::os::fd::AsRawFd;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// How long a daemon that takes no more requests may go on closing its store before that is a failure.
const CLOSING_MAX: Duration = Duration::from_secs(60);
const LOOK_AGAIN: Duration = Duration::from_millis(10);

/// A daemon that was found. Each call is a connection of its own.
pub struct Client {
    found: Found,
}

impl Client {
    /// The daemon that serves `target`: a mount point, any path in a mount, or a store. One that is closing its store, as
    /// after an unmount, is waited for and then not there.
    pub fn connect(target: &Path) -> Result<Client, Failure> {
        registry::find(target).filter(|found| !has_ended(found)).map(|found| Client { found }).ok_or_else(
            || {
                let message = format!("{} is not mounted, or by another user", target.display());
                Failure::new(Code::NotMounted, message)
            },
        )
    }

    /// Asks the daemon that serves `target` one thing. `None` if there is none, or if it ends instead of answering.
    pub fn ask(target: &Path, verb: &str, args: Value) -> Result<Option<Value>, Failure> {
        let client = match Client::connect(target) {
            Err(f) if f.code == Code::NotMounted => return Ok(None),
            found => found?,
        };
        match client.call(verb, args, &mut |_| {}) {
            Err(f) if f.code == Code::Io && has_ended(&client.found) => Ok(None),
            answer => answer.map(Some),
        }
    }

    /// A daemon from the registry.
    pub fn of(found: Found) -> Client {
        Client { found }
    }

    /// What the registry says of it.
    pub fn record(&self) -> &Record {
        &self.found.record
    }

    /// Its registry entry.
    pub fn found(&self) -> &Found {
        &self.found
    }

    /// Asks, hands progress on, and waits for the answer as long as it takes.
    pub fn call(
        &self,
        verb: &str,
        args: Value,
        on_progress: &mut dyn FnMut(Value),
    ) -> Result<Value, Failure> {
        let lost = |e: io::Error| {
            let at = self.found.record.mountpoint.display();
            Failure::new(Code::Io, format!("the daemon of {at} does not answer: {e}"))
        };
        let (dir, name) = self.found.socket();
        let stream = with_short_path(dir, &name, |path| UnixStream::connect(path)).map_err(lost)?;
        let peer = process::peer_uid(&stream).map_err(lost)?;
        if peer != self.found.uid {
            return Err(Failure::new(Code::Denied, "the control socket is served by another user"));
        }
        let request = Request { version: VERSION, verb: verb.to_string(), args };
        protocol::send(&mut &stream, &request).map_err(lost)?;
        let mut answers = BufReader::new(&stream);
        loop {
            let Some(line) = protocol::receive(&mut answers, ANSWER_BYTES_MAX).map_err(lost)? else {
                return Err(lost(io::ErrorKind::UnexpectedEof.into()));
            };
            match serde_json::from_slice(&line).map_err(|e| lost(e.into()))? {
                Answer::Progress(value) => on_progress(value),
                Answer::Ok(value) => return Ok(value),
                Answer::Error(failure) => return Err(failure),
            }
        }
    }
}

/// False at once for a daemon that takes requests. A socket is there before its record, so a refusal means the end.
pub(super) fn has_ended(found: &Found) -> bool {
    let (dir, name) = found.socket();
    let refused =
        |e: io::Error| matches!(e.kind(), io::ErrorKind::ConnectionRefused | io::ErrorKind::NotFound);
    let end = Instant::now() + CLOSING_MAX;
    while with_short_path(dir, &name, |path| UnixStream::connect(path)).is_err_and(refused) {
        if !found.is_running() {
            return true;
        }
        if Instant::now() >= end {
            return false;
        }
        std::thread::sleep(LOOK_AGAIN);
    }
    false
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
