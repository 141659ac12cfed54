//! The daemon's side of the flusher: a thread starts the process, reaps it and starts it anew when it dies.
//!
//! Orders go over a socket pair, one at a time, from any thread that is not needed to serve requests.

use super::order::{self, Order, OrderAnswer};
use super::process::VERB;
use crate::fuse::mounts::MountId;
use crate::sys::process as sys_process;
use parking_lot::{Condvar, Mutex};
use std::io::{self, BufReader};
use std::net::Shutdown;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::thread::JoinHandle;

/// An order is given to so many flushers before it fails: one may have died just then.
const TRIES: u32 = 2;

/// Which process is the flusher of a mount now.
#[derive(Clone, Default)]
pub(in crate::fuse) struct Registered(Arc<AtomicU32>);

impl Registered {
    /// True for the flusher's number as the kernel tells it with a request.
    pub(in crate::fuse) fn is(&self, pid: u32) -> bool {
        pid != 0 && self.0.load(Ordering::Relaxed) == pid
    }

    /// Its number; 0 if there is none now.
    pub(in crate::fuse) fn pid(&self) -> u32 {
        self.0.load(Ordering::Relaxed)
    }
}

/// The flusher of one mount. Any thread.
pub(in crate::fuse) struct Flusher {
    shared: Arc<Shared>,
    keeper: Mutex<Option<JoinHandle<()>>>,
}

struct Shared {
    program: PathBuf,
    registered: Registered,
    state: Mutex<KeeperState>,
    changed: Condvar,
}

#[derive(Default)]
struct KeeperState {
    line: Option<Arc<Line>>,
    mount: Option<MountId>,
    /// Somebody waits for a flusher.
    wanted: bool,
    /// Why the last one that was wanted could not be started.
    failed: Option<io::Error>,
    ended: bool,
}

/// The way to one flusher process.
struct Line {
    socket: UnixStream,
    one_at_a_time: Mutex<()>,
    has_answered: AtomicBool,
}

impl Line {
    fn exchange(&self, order: &Order) -> io::Result<OrderAnswer> {
        let _turn = self.one_at_a_time.lock();
        let exchanged = order::send(&self.socket, order).and_then(|()| {
            let gone = || io::Error::from(io::ErrorKind::UnexpectedEof);
            order::receive(&mut BufReader::new(&self.socket))?.ok_or_else(gone)
        });
        match &exchanged {
            Ok(_) => self.has_answered.store(true, Ordering::Relaxed),
            // What was lost may arrive late and pass for another answer.
            Err(_) => drop(self.socket.shutdown(Shutdown::Both)),
        }
        exchanged
    }
}

impl Flusher {
    /// Starts one. `program` is the program that [`run_flusher`] is called in.
    pub(in crate::fuse) fn start(program: PathBuf) -> io::Result<Flusher> {
        let shared = Arc::new(Shared {
            program,
            registered: Registered::default(),
            state: Mutex::new(KeeperState { wanted: true, ..KeeperState::default() }),
            changed: Condvar::new(),
        });
        let ours = shared.clone();
        // The thread lives as long as the mount, because its end is the daemon's end for the flusher.
        let keeper = std::thread::Builder::new().name("flusher".into()).spawn(move || keep(&ours))?;
        let flusher = Flusher { shared, keeper: Mutex::new(Some(keeper)) };
        flusher.shared.line()?;
        Ok(flusher)
    }

    /// Who it is.
    pub(in crate::fuse) fn registered(&self) -> Registered {
        self.shared.registered.clone()
    }

    /// Tells it which mount it is for, and has it see that the mount answers.
    pub(in crate::fuse) fn attend(&self, mount: MountId) -> io::Result<()> {
        self.shared.state.lock().mount = Some(mount);
        self.ask(&Order::Attend(mount))?;
        self.ask(&Order::Prove).map(drop)
    }

    /// The mount that it is for; none before [`Flusher::attend`].
    pub(in crate::fuse) fn mount(&self) -> Option<MountId> {
        self.shared.state.lock().mount
    }

    /// Writes dirty pages of at most [`super::NODES_MAX`] nodes back. Returns those that their own mode keeps from it.
    pub(in crate::fuse) fn write_back(&self, nodes: Vec<(u64, u64)>) -> io::Result<Vec<u64>> {
        self.ask(&Order::WriteBack(nodes))
    }

    /// Looks a path of the mount up.
    pub(in crate::fuse) fn look_up(&self, path: &[u8]) -> io::Result<()> {
        self.ask(&Order::LookUp(path.to_vec())).map(drop)
    }

    /// Starts the write-back of all dirty pages; does not wait.
    pub(in crate::fuse) fn sync(&self) -> io::Result<()> {
        self.ask(&Order::Sync).map(drop)
    }

    /// Unmounts; EBUSY if the mount is in use or covered.
    pub(in crate::fuse) fn unmount(&self) -> io::Result<()> {
        self.ask(&Order::Unmount).map(drop)
    }

    /// Takes the mount out of sight.
    pub(in crate::fuse) fn detach(&self) -> io::Result<()> {
        self.ask(&Order::Detach).map(drop)
    }

    /// Cuts the connection and takes the mount out of sight: nobody serves it any more.
    pub(in crate::fuse) fn give_up(&self) -> io::Result<()> {
        self.ask(&Order::GiveUp).map(drop)
    }

    /// Ends it, and waits for that. A mount that is there still is dead, and taken away.
    pub(in crate::fuse) fn end(&self) {
        let line = {
            let mut state = self.shared.state.lock();
            state.ended = true;
            state.line.take()
        };
        self.shared.changed.notify_all();
        if let Some(line) = line {
            let _ = line.exchange(&Order::End); // it has ended already if that fails
            let _ = line.socket.shutdown(Shutdown::Both);
        }
        if let Some(keeper) = self.keeper.lock().take() {
            let _ = keeper.join(); // it has nothing to report
        }
    }

    fn ask(&self, order: &Order) -> io::Result<Vec<u64>> {
        let mut tries = 1;
        loop {
            let line = self.shared.line()?;
            match line.exchange(order) {
                Ok(answer) => return answer.into_result(),
                Err(e) if tries == TRIES => {
                    return Err(io::Error::other(format!(
                        "the process that flushes for the daemon died: {e}"
                    )));
                }
                Err(e) => {
                    log::warn!("the process that flushes for the daemon died ({e}); a new one is started")
                }
            }
            self.shared.drop_line(&line);
            tries += 1;
        }
    }
}

impl Drop for Flusher {
    fn drop(&mut self) {
        self.end();
    }
}

impl Shared {
    /// The way to the flusher that there is, or to a new one.
    fn line(&self) -> io::Result<Arc<Line>> {
        let mut state = self.state.lock();
        loop {
            if state.ended {
                return Err(io::Error::other("the mount has ended"));
            }
            if let Some(line) = &state.line {
                return Ok(line.clone());
            }
            if let Some(e) = state.failed.take() {
                let what = "cannot start the process that flushes for the daemon";
                return Err(io::Error::new(e.kind(), format!("{what}: {e}")));
            }
            state.wanted = true;
            self.changed.notify_all();
            self.changed.wait(&mut state);
        }
    }

    fn drop_line(&self, line: &Arc<Line>) {
        let mut state = self.state.lock();
        if state.line.as_ref().is_some_and(|l| Arc::ptr_eq(l, line)) {
            state.line = None;
        }
    }

    /// Waits until a flusher is wanted; false at the end.
    fn wait_wanted(&self) -> bool {
        let mut state = self.state.lock();
        while !state.wanted && !state.ended {
            self.changed.wait(&mut state);
        }
        state.wanted = false;
        !state.ended
    }
}

/// The thread that starts, reaps and starts anew. One that dies without an answer is not started anew before it is
/// wanted: it would only die again.
fn keep(shared: &Shared) {
    let mut again = false;
    while again || shared.wait_wanted() {
        again = false;
        match start_process(shared) {
            Ok((mut child, line)) => {
                let line = Arc::new(line);
                {
                    let mut state = shared.state.lock();
                    state.wanted = false;
                    state.failed = None;
                    state.line = (!state.ended).then(|| line.clone());
                    if state.ended {
                        drop(line.socket.shutdown(Shutdown::Both));
                    }
                }
                shared.changed.notify_all();
                if let Err(e) = sys_process::wait_ended(child.id()) {
                    log::debug!("cannot wait for the flusher: {e}");
                }
                shared.registered.0.store(0, Ordering::Relaxed); // before its number is free for others
                let _ = child.wait(); // how it ended does not matter
                shared.drop_line(&line);
                again = line.has_answered.load(Ordering::Relaxed) && !shared.state.lock().ended;
            }
            Err(e) => {
                shared.state.lock().failed = Some(e);
                shared.changed.notify_all();
            }
        }
    }
}

fn start_process(shared: &Shared) -> io::Result<(Child, Line)> {
    let (ours, theirs) = UnixStream::pair()?;
    let mount = shared.state.lock().mount;
    let child = Command::new(&shared.program)
        .arg0("snapfs")
        .arg(VERB)
        .arg(std::process::id().to_string())
        .arg(serde_json::to_string(&mount)?)
        .arg(sys_process::thread_id().to_string())
        .stdin(OwnedFd::from(theirs))
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .process_group(0) // what the terminal sends to ours is not for it
        .spawn()?;
    shared.registered.0.store(child.id(), Ordering::Relaxed);
    let line = Line { socket: ours, one_at_a_time: Mutex::new(()), has_answered: AtomicBool::new(false) };
    if let Some(mount) = mount {
        let _ = line.exchange(&Order::Attend(mount)); // it knows already: this shows that it lives
    }
    Ok((child, line))
}
