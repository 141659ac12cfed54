//! The life of a mount: open the store, mount, serve until unmounted or told to end, close the store.
//!
//! Invariant: however it ends, the store is closed after the last request, and the registry forgets the daemon after
//! that. `snapfs umount` waits until the record is gone, and knows then that the store is free.

use super::engine::{Backend, Engine, StoreOptions};
use super::options::Parsed;
use super::points::{GRACE, Points};
use super::refusal::no_thread;
use crate::ctl::{Code, Failure, Server};
use crate::fuse::{Mounted, Unmounter};
use crate::names;
use crate::sys::process;
use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::sync::mpsc::{self, Sender};

/// Descriptors without which a mount would fail at one request or another.
const OPEN_FILES_MIN: u64 = 64;

/// Address space that a mount takes until it serves, in bytes, threads and their stacks included, with a margin. The standard
/// library ends a process that has too little for a thread that has begun.
const ADDRESS_SPACE_BYTES: usize = 96 << 20;

/// What to serve, and where.
pub(super) struct MountJob<'a> {
    pub(super) backend: &'a dyn Backend,
    pub(super) store: &'a Path,
    pub(super) point: &'a Path,
    pub(super) options: Parsed,
}

enum Event {
    /// The mount is gone and its requests are answered.
    Ended(std::io::Result<()>),
    /// The grace is over.
    GiveUp,
}

/// Serves until the end. `ready` is called once, when the mount is usable.
pub(super) fn serve(job: &MountJob, ready: &mut dyn FnMut()) -> Result<(), Failure> {
    let failed = |message: String| Failure::new(Code::Other, message);
    process::block_termination_signals().map_err(|e| failed(format!("cannot block signals: {e}")))?;
    abort_on_panic();
    process::share_heap();
    process::drop_privileges().map_err(|e| failed(format!("cannot give up privileges: {e}")))?;
    let files = process::open_files_max();
    if files < OPEN_FILES_MIN {
        let what = format!("this process may have {files} open files, and a mount needs {OPEN_FILES_MIN}");
        return Err(failed(format!("{what}: raise the limit ('ulimit -n')")));
    }
    let mut room = Vec::<u8>::new();
    let refused = room.try_reserve_exact(ADDRESS_SPACE_BYTES).is_err();
    drop(std::hint::black_box(room)); // or the compiler leaves the allocation out
    if refused {
        let what =
            format!("this process cannot have {} MiB more, which a mount needs", ADDRESS_SPACE_BYTES >> 20);
        return Err(failed(format!("{what}: raise the limit of its address space ('ulimit -v')")));
    }
    // Before a store is made for nothing.
    super::apart::check(job.store, job.point).map_err(failed)?;
    crate::fuse::check_point(job.point).map_err(failed)?;
    let point = fs::canonicalize(job.point).unwrap_or_else(|_| job.point.to_path_buf());
    let options = StoreOptions { mount_point: Some(point), ..job.options.store.clone() };
    let engine = job.backend.open(job.store, &options)?;
    let served = mount_and_wait(job, &engine, ready);
    match served {
        Ok(server) => {
            let closed = engine.close();
            drop(server); // last: it tells those who wait
            closed
        }
        Err(failure) => {
            if let Err(e) = engine.close() {
                log::error!("closing the store: {e}");
            }
            Err(failure)
        }
    }
}

/// A failed assertion ends the daemon. Going on with one thread less would hang the mount sooner or later, and with what
/// that thread left behind could write nonsense; the next mount finds the last commit and the log.
fn abort_on_panic() {
    let report = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |info| {
        report(info);
        log::error!("a failed assertion: the daemon ends; mount again to go on");
        std::process::abort();
    }));
}

fn mount_and_wait(
    job: &MountJob,
    engine: &Arc<dyn Engine>,
    ready: &mut dyn FnMut(),
) -> Result<Option<Server>, Failure> {
    let failed = |message: String| Failure::new(Code::Other, message);
    let store = fs::canonicalize(job.store).unwrap_or_else(|_| job.store.to_path_buf());
    let points = Points::new(engine.clone(), store)
        .map_err(|e| failed(format!("{}: {e}", names::shown(job.store))))?;
    let operations = match &job.options.snapshot {
        Some(name) => engine.standalone(name)?,
        None => engine.operations(),
    };
    let mounted = Mounted::start(operations, job.point, &job.options.mount).map_err(failed)?;
    if job.options.snapshot.is_none() {
        engine.set_kernel(mounted.kernel());
    }
    let mut server = points.register(&mounted, &job.options);
    // The working directory would keep the file system that we were started in busy.
    if let Err(e) = std::env::set_current_dir("/") {
        log::debug!("cannot leave the working directory: {e}");
    }
    let (events, event) = mpsc::channel();
    let (unmounter, ends) = (mounted.unmounter(), mounted.unmounter());
    let (signal_events, wait_events) = (events.clone(), events);
    let told = points.clone();
    let threads = (
        std::thread::Builder::new().name("signals".into()).spawn(move || {
            if wait_for_signal() {
                told.told_to_end();
                end(&unmounter, &signal_events);
            }
        }),
        std::thread::Builder::new().name("mount".into()).spawn(move || {
            let _ = wait_events.send(Event::Ended(mounted.wait())); // nobody listens any more: we are ending
        }),
    );
    if let (Err(e), _) | (_, Err(e)) = threads {
        let _ = ends.detach(); // what counts is the error that we report
        return Err(failed(no_thread(&e)));
    }
    ready();
    match event.recv() {
        Ok(Event::Ended(Err(e))) => log::error!("the connection to the kernel broke: {e}"),
        Ok(Event::GiveUp) => log::warn!("files are still open; closing the store under them"),
        Ok(Event::Ended(Ok(()))) if job.options.snapshot.is_some() => server = points.outlive_first(server),
        Ok(Event::Ended(Ok(()))) | Err(_) => {}
    }
    points.end();
    if let Some(server) = &mut server {
        server.stop_accepting();
    }
    Ok(server)
}

/// Waits for SIGTERM or SIGINT; false if that cannot be waited for.
fn wait_for_signal() -> bool {
    loop {
        match process::wait_termination_signal() {
            Ok(true) => {} // SIGHUP: the terminal is gone, which is no reason to end
            Ok(false) => return true,
            Err(e) => {
                log::error!("cannot wait for signals: {e}");
                return false;
            }
        }
    }
}

/// Ends the mount; a second signal does not wait for open files.
fn end(unmounter: &Unmounter, events: &Sender<Event>) {
    match unmounter.unmount() {
        Ok(true) => return, // the session ends, and with it the daemon
        Ok(false) => log::warn!("told to end, but files are open in the mount"),
        Err(e) => log::error!("told to end, but cannot unmount: {e}"),
    }
    // Starts the write-back of mapped pages; the grace is for it as much as for the programs.
    let _ = unmounter.sync(); // its failure is the failure of those writes, which is logged
    if let Err(e) = unmounter.detach() {
        log::error!("cannot take the mount out of sight: {e}");
    }
    let (again, early) = mpsc::channel();
    let started = std::thread::Builder::new().name("signals-2".into()).spawn(move || {
        while process::wait_termination_signal().is_ok_and(|hangup| hangup) {}
        let _ = again.send(()); // the grace may be over already
    });
    if started.is_ok() {
        let _ = early.recv_timeout(GRACE); // either way it is time
    }
    unmounter.abort();
    let _ = events.send(Event::GiveUp); // nobody listens any more: the mount has ended meanwhile
}
