//! The way on which a stream comes from a daemon, or goes to it: a socket of its own beside the request.
//!
//! Whoever asks listens under a name that nobody can guess, and tells it in the request; the daemon connects. So the bytes
//! of a stream are not lines, and a reader or writer that goes away is seen at once. Nobody but the user who runs the daemon,
//! or root, is talked to.

use crate::sys::process;
use crate::sys::random::random;
use std::io;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixListener, UnixStream};
use std::time::{Duration, Instant};

/// How long a daemon may take to connect.
const CONNECT_MAX: Duration = Duration::from_secs(30);
const LOOK_AGAIN: Duration = Duration::from_millis(2);

/// A name under which one connection is waited for.
pub(super) struct Rendezvous {
    listener: UnixListener,
    /// To be told in the request.
    pub(super) name: String,
}

fn address(name: &str) -> io::Result<SocketAddr> {
    SocketAddr::from_abstract_name(name.as_bytes())
}

fn is_trusted(stream: &UnixStream) -> io::Result<bool> {
    let uid = process::peer_uid(stream)?;
    Ok(uid == 0 || process::effective_uid() == 0 || uid == process::effective_uid())
}

impl Rendezvous {
    /// Listens.
    pub(super) fn open() -> io::Result<Rendezvous> {
        let number: [u8; 16] = random()?;
        let name = number.iter().fold("snapfs-stream-".to_string(), |name, byte| format!("{name}{byte:02x}"));
        let listener = UnixListener::bind_addr(&address(&name)?)?;
        listener.set_nonblocking(true)?;
        Ok(Rendezvous { listener, name })
    }

    /// Waits for the connection, as long as `goes_on` says so and not for ever.
    pub(super) fn accept(&self, goes_on: &dyn Fn() -> bool) -> io::Result<UnixStream> {
        let end = Instant::now() + CONNECT_MAX;
        loop {
            // Whoever has connected has done so before it is over.
            let is_last = !goes_on() || Instant::now() >= end;
            match self.listener.accept() {
                Ok((stream, _)) if is_trusted(&stream)? => {
                    stream.set_nonblocking(false)?;
                    return Ok(stream);
                }
                Ok(_) => {}
                Err(e) if e.kind() != io::ErrorKind::WouldBlock => return Err(e),
                Err(_) if is_last => break,
                Err(_) => std::thread::sleep(LOOK_AGAIN),
            }
        }
        Err(io::Error::new(io::ErrorKind::TimedOut, "the daemon does not connect"))
    }
}

/// The daemon's end.
pub(super) fn connect(name: &str) -> io::Result<UnixStream> {
    let stream = UnixStream::connect_addr(&address(name)?)?;
    if is_trusted(&stream)? {
        Ok(stream)
    } else {
        Err(io::Error::new(io::ErrorKind::PermissionDenied, "another user waits for the stream"))
    }
}
