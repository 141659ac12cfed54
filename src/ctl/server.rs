//! The daemon's end: a listening socket, a thread for each connection while threads can be had, one request on each.
//!
//! Only root and the daemon's own user are answered, and only as long as the mount is there: its device number may be
//! somebody else's afterwards. Invariant: while a [`Server`] lives its record is in the registry; dropping it removes both
//! files, and is therefore the last thing a daemon does, after its store is closed.

use super::protocol::{self, Code, Failure, HELLO, LINE_BYTES_MAX, OF_DEVICE, Reply, Request, VERSION};
use super::registry::{MountRecord, OwnEntry};
use super::{client, dirs};
use crate::sys::process;
use serde_json::{Value, json};
use std::fs::{self, Permissions};
use std::io::{self, BufReader};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

/// How long a client may take to send its request.
const READ_TIMEOUT: Duration = Duration::from_secs(10);
/// How long a client may take nothing of an answer that waits for it: whatever the answer holds is let go of then.
const WRITE_TIMEOUT: Duration = Duration::from_secs(60);
/// Connections that are served at once; more are told to come back.
const CONNECTIONS_MAX: usize = 32;

/// Does what is asked. Called from several threads at once.
pub trait Handler: Send + Sync {
    /// Does `verb`; `progress` may be called any number of times before the result is returned. It says false if nobody
    /// listens any more; work that is done for the listener alone may end then.
    fn handle(
        &self,
        verb: &str,
        args: &Value,
        peer: &Peer,
        progress: &mut dyn FnMut(Value) -> bool,
    ) -> std::result::Result<Value, Failure>;
}

/// Who asks. May be kept: the connection then lasts as long as the other end keeps it too, also after the answer.
#[derive(Clone, Debug)]
pub struct Peer(Arc<UnixStream>);

impl Peer {
    /// The connection itself, for what follows the answer to a request: both ends have agreed on what that is. Whoever reads
    /// or writes waits as long as it takes.
    pub fn carrier(&self) -> io::Result<&UnixStream> {
        self.0.set_read_timeout(None)?;
        self.0.set_write_timeout(None)?;
        Ok(&self.0)
    }

    /// False when the other end has ended, or has let go of the connection. Waits for nothing.
    pub fn is_there(&self) -> bool {
        !process::is_hung_up(&*self.0)
    }
}

/// Tells whether a mount is there still.
pub type IsMounted = Box<dyn Fn() -> bool + Send + Sync>;

/// A listening control channel.
pub struct Server {
    stop: Arc<AtomicBool>,
    listening: Option<(UnixListener, JoinHandle<()>)>,
    /// Last: dropping it tells those who wait for the end.
    entry: OwnEntry,
}

impl Server {
    /// Listens for a mount, and registers it.
    pub fn start(
        record: &MountRecord,
        is_mounted: IsMounted,
        handler: Arc<dyn Handler>,
    ) -> io::Result<Server> {
        Server::start_in(&dirs::own()?, record, is_mounted, (handler, WRITE_TIMEOUT))
    }

    fn start_in(
        dir: &Path,
        record: &MountRecord,
        is_mounted: IsMounted,
        (handler, write_timeout): (Arc<dyn Handler>, Duration),
    ) -> io::Result<Server> {
        let entry = OwnEntry::begin(dir)?;
        let (dir, socket) = entry.socket();
        let listener = client::with_short_path(dir, &socket, |path| UnixListener::bind(path))?;
        fs::set_permissions(dir.join(&socket), Permissions::from_mode(0o600))?;
        let stop = Arc::new(AtomicBool::new(false));
        let device = json!([record.device.0, record.device.1]);
        let accepting = Accepting { is_mounted, device, handler, write_timeout, stop: stop.clone() };
        let to_stop = listener.try_clone()?;
        let thread = std::thread::Builder::new()
            .name("control".into())
            .spawn(move || accept(&listener, &Arc::new(accepting)))?;
        let mut server = Server { stop, listening: Some((to_stop, thread)), entry };
        server.entry.publish(record)?;
        Ok(server)
    }

    /// Takes no more requests; the record stays until the server is dropped.
    pub fn stop_accepting(&mut self) {
        self.stop.store(true, Ordering::SeqCst);
        let Some((listener, thread)) = self.listening.take() else { return };
        // Wakes the thread through the socket itself: what is at its path may be gone, or another's.
        match process::shut_down(&listener) {
            Ok(()) => drop(thread.join()), // it has nothing to report
            Err(e) => log::warn!("the control channel ends with the process: {e}"),
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stop_accepting();
    }
}

/// What the threads of a server share.
struct Accepting {
    is_mounted: IsMounted,
    /// Of the mount, as requests have it.
    device: Value,
    handler: Arc<dyn Handler>,
    write_timeout: Duration,
    stop: Arc<AtomicBool>,
}

fn accept(listener: &UnixListener, shared: &Arc<Accepting>) {
    let active = Arc::new(AtomicUsize::new(0));
    for connection in listener.incoming() {
        if shared.stop.load(Ordering::SeqCst) {
            return;
        }
        let Ok(stream) = connection else {
            std::thread::sleep(Duration::from_millis(100)); // out of descriptors: do not spin
            continue;
        };
        if active.fetch_add(1, Ordering::SeqCst) >= CONNECTIONS_MAX {
            active.fetch_sub(1, Ordering::SeqCst);
            let busy = Failure::new(Code::Busy, "too many commands at once; try again");
            let _ = protocol::send(&mut &stream, &Reply::Error(busy)); // it may have gone away
            continue;
        }
        let stream = Arc::new(stream);
        let (theirs, with, done) = (stream.clone(), shared.clone(), active.clone());
        let started = std::thread::Builder::new().name("command".into()).spawn(move || {
            serve(&theirs, &with);
            done.fetch_sub(1, Ordering::SeqCst);
        });
        if started.is_err() {
            // A limit of threads is reached: one command after the other is better than none.
            serve(&stream, shared);
            active.fetch_sub(1, Ordering::SeqCst);
        }
    }
}

fn serve(stream: &Arc<UnixStream>, shared: &Accepting) {
    if let Err(e) = converse(stream, shared) {
        log::debug!("a control connection ended early: {e}");
    }
}

fn converse(stream: &Arc<UnixStream>, shared: &Accepting) -> io::Result<()> {
    let mut out = &**stream;
    let uid = process::peer_uid(stream)?;
    if uid != 0 && uid != process::effective_uid() {
        let denied = Failure::new(Code::Denied, "the daemon belongs to another user");
        return protocol::send(&mut out, &Reply::Error(denied));
    }
    stream.set_read_timeout(Some(READ_TIMEOUT))?;
    stream.set_write_timeout(Some(shared.write_timeout))?;
    let line = match protocol::receive(&mut BufReader::new(&**stream), LINE_BYTES_MAX, &mut Err) {
        Ok(Some(line)) => line,
        Ok(None) => return Ok(()),
        Err(e) if e.kind() == io::ErrorKind::InvalidData => {
            let bad = Failure::new(Code::Invalid, format!("the request is {e}"));
            return protocol::send(&mut out, &Reply::Error(bad));
        }
        Err(e) => return Err(e),
    };
    let result = parse(&line).and_then(|request| {
        // A client that went away does not stop the work.
        let mut is_listening = true;
        let mut progress = |value| {
            // What was sent in part only is not gone on with.
            is_listening = is_listening && protocol::send(&mut &**stream, &Reply::Progress(value)).is_ok();
            if !is_listening {
                let _ = stream.shutdown(std::net::Shutdown::Both); // it may have gone away
            }
            is_listening
        };
        if !(shared.is_mounted)() {
            return Err(Failure::new(Code::NotMounted, "the mount has ended; its store is being closed"));
        }
        if request.args.get(OF_DEVICE).is_some_and(|device| *device != shared.device) {
            return Err(Failure::new(Code::Invalid, "the path is in another file system than this mount"));
        }
        match request.verb.as_str() {
            HELLO => Ok(json!({})),
            verb => shared.handler.handle(verb, &request.args, &Peer(stream.clone()), &mut progress),
        }
    });
    protocol::send(&mut out, &result.map_or_else(Reply::Error, Reply::Ok))
}

/// Reads a request line as the daemon does: whether it is one, or what the answer would say. For the fuzz targets.
pub fn read_request(line: &[u8]) -> Result<(), Failure> {
    parse(line).map(drop)
}

fn parse(line: &[u8]) -> Result<Request, Failure> {
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
