//! The daemon's end: a listening socket, a thread for each connection, one request on each.
//!
//! Only root and the daemon's own user are answered. Invariant: while a [`Server`] lives its record is in the registry;
//! dropping it removes both files, and is therefore the last thing a daemon does, after its store is closed.

use super::protocol::{self, Answer, Code, Failure, LINE_BYTES_MAX, Request, VERSION};
use super::registry::{self, Record};
use super::{client, dirs};
use crate::sys::process;
use serde_json::Value;
use std::fs::{self, Permissions};
use std::io::{self, BufReader};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

/// How long a client may take to send its request.
const READ_TIMEOUT: Duration = Duration::from_secs(10);
/// Connections that are served at once; more are told to come back.
const CONNECTIONS_MAX: usize = 32;

/// Does what is asked. Called from several threads at once.
pub trait Handler: Send + Sync {
    /// Does `verb`; `progress` may be called any number of times before the result is returned.
    fn handle(
        &self,
        verb: &str,
        args: &Value,
        progress: &mut dyn FnMut(Value),
    ) -> std::result::Result<Value, Failure>;
}

/// A listening control channel.
pub struct Server {
    dir: PathBuf,
    name: String,
    stop: Arc<AtomicBool>,
    accepting: Option<JoinHandle<()>>,
}

impl Server {
    /// Listens for the mount with this device number, and registers it.
    pub fn start(device: (u32, u32), record: &Record, handler: Arc<dyn Handler>) -> io::Result<Server> {
        Server::start_in(&dirs::own()?, &registry::name_of(device), record, handler)
    }

    fn start_in(dir: &Path, name: &str, record: &Record, handler: Arc<dyn Handler>) -> io::Result<Server> {
        registry::remove(dir, name); // of a mount that had the same number before
        let socket = format!("{name}.sock");
        let listener = client::with_short_path(dir, &socket, |path| UnixListener::bind(path))?;
        fs::set_permissions(dir.join(&socket), Permissions::from_mode(0o600))?;
        let stop = Arc::new(AtomicBool::new(false));
        let seen = stop.clone();
        let accepting = std::thread::Builder::new()
            .name("control".into())
            .spawn(move || accept(&listener, &handler, &seen))?;
        let server = Server { dir: dir.to_path_buf(), name: name.into(), stop, accepting: Some(accepting) };
        registry::write(dir, name, record)?;
        Ok(server)
    }

    /// Takes no more requests; the record stays until the server is dropped.
    pub fn stop_accepting(&mut self) {
        self.stop.store(true, Ordering::SeqCst);
        // Wakes the accepting thread; when that fails it ends with the process.
        let socket = format!("{}.sock", self.name);
        let woken = client::with_short_path(&self.dir, &socket, |path| UnixStream::connect(path)).is_ok();
        if let Some(thread) = self.accepting.take()
            && woken
        {
            let _ = thread.join(); // it has nothing to report
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stop_accepting();
        registry::remove(&self.dir, &self.name);
    }
}

fn accept(listener: &UnixListener, handler: &Arc<dyn Handler>, stop: &AtomicBool) {
    let active = Arc::new(AtomicUsize::new(0));
    for connection in listener.incoming() {
        if stop.load(Ordering::SeqCst) {
            return;
        }
        let Ok(stream) = connection else {
            std::thread::sleep(Duration::from_millis(100)); // out of descriptors: do not spin
            continue;
        };
        if active.fetch_add(1, Ordering::SeqCst) >= CONNECTIONS_MAX {
            active.fetch_sub(1, Ordering::SeqCst);
            let busy = Failure::new(Code::Busy, "too many commands at once; try again");
            let _ = protocol::send(&mut &stream, &Answer::Error(busy)); // it may have gone away
            continue;
        }
        let (handler, done) = (handler.clone(), active.clone());
        let started = std::thread::Builder::new().name("command".into()).spawn(move || {
            if let Err(e) = serve(&stream, handler.as_ref()) {
                log::debug!("a control connection ended early: {e}");
            }
            done.fetch_sub(1, Ordering::SeqCst);
        });
        if started.is_err() {
            active.fetch_sub(1, Ordering::SeqCst);
        }
    }
}

fn serve(stream: &UnixStream, handler: &dyn Handler) -> io::Result<()> {
    let mut out = stream;
    let uid = process::peer_uid(stream)?;
    if uid != 0 && uid != process::effective_uid() {
        let denied = Failure::new(Code::Denied, "the daemon belongs to another user");
        return protocol::send(&mut out, &Answer::Error(denied));
    }
    stream.set_read_timeout(Some(READ_TIMEOUT))?;
    let line = match protocol::receive(&mut BufReader::new(stream), LINE_BYTES_MAX) {
        Ok(Some(line)) => line,
        Ok(None) => return Ok(()),
        Err(e) if e.kind() == io::ErrorKind::InvalidData => {
            let bad = Failure::new(Code::Invalid, format!("the request is {e}"));
            return protocol::send(&mut out, &Answer::Error(bad));
        }
        Err(e) => return Err(e),
    };
    let result = parse(&line).and_then(|request| {
        // A client that went away does not stop the work.
        let mut progress = |value| drop(protocol::send(&mut &*stream, &Answer::Progress(value)));
        handler.handle(&request.verb, &request.args, &mut progress)
    });
    protocol::send(&mut out, &result.map_or_else(Answer::Error, Answer::Ok))
}

pub(super) fn parse(line: &[u8]) -> Result<Request, Failure> {
    // The version first, and alone: what else a later version says must not matter.
    let value: Value = serde_json::from_slice(line)
        .map_err(|e| Failure::new(Code::Invalid, format!("the request is no JSON: {e}")))?;
    match value.get("version").and_then(Value::as_u64) {
        Some(v) if v == u64::from(VERSION) => {}
        Some(v) => {
            let what =
                format!("the daemon speaks version {VERSION} of the control protocol, the command {v}");
            return Err(Failure::new(Code::Version, what));
        }
        None => return Err(Failure::new(Code::Invalid, "the request has no version")),
    }
    serde_json::from_value(value)
        .map_err(|e| Failure::new(Code::Invalid, format!("the request cannot be understood: {e}")))
}

#[cfg(test)]
#[path = "server_tests.rs"]
mod tests;
