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

/// A daemon that was found. Each call is a connection of its own.
pub struct Client {
    found: Found,
}

impl Client {
    /// The daemon that serves `target`: a mount point, any path in a mount, or a store.
    pub fn connect(target: &Path) -> Result<Client, Failure> {
        registry::find(target).map(|found| Client { found }).ok_or_else(|| {
            let message = format!("{} is not mounted, or by another user", target.display());
            Failure::new(Code::NotMounted, message)
        })
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
