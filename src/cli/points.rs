//! The mount points of a daemon. Each has a control socket and a record. The first is the live tree or a snapshot; on
//! request snapshots are mounted at further ones. They end with the live tree at the latest; where the first is a snapshot
//! too, the daemon ends with the last of all.

use super::engine::{Engine, FrostWish, OpenFor};
use super::options::{self, Parsed};
use super::output::rfc3339;
use super::pipe::Carriers;
use super::wire::Verbs;
use crate::ctl::{Code, Failure, MountRecord, Server, StoreId};
use crate::fuse::{self, Mounted, Unmounter};
use crate::names;
use crate::ops::Timestamp;
use parking_lot::{Condvar, Mutex};
use serde_json::{Value, json};
use std::ffi::{OsStr, OsString};
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// How long open files may go on working after SIGTERM took the mount out of sight.
pub(super) const GRACE: Duration = Duration::from_secs(5);

/// All of one daemon. Any thread.
pub(super) struct Points {
    engine: Arc<dyn Engine>,
    store: PathBuf,
    store_id: StoreId,
    /// The daemon was told to end: for commands that is the end, though the mounts are there for a moment.
    told: Arc<AtomicBool>,
    further: Mutex<Further>,
    one_ended: Condvar,
}

#[derive(Default)]
struct Further {
    /// The daemon ends: no more are taken.
    closed: bool,
    /// The first mount has ended, and these go on without it.
    alone: bool,
    serving: Vec<Unmounter>,
    /// How many of them have not ended.
    living: usize,
    /// What tells those who wait for the store, when the mount that ended last is one of these.
    last: Option<Server>,
}

impl Points {
    /// Of the daemon that serves this store.
    pub(super) fn new(engine: Arc<dyn Engine>, store: PathBuf) -> io::Result<Arc<Points>> {
        let store_id = engine.store_id().map_or_else(|| StoreId::of(&store), Ok)?;
        let (told, further, one_ended) = (Arc::default(), Mutex::default(), Condvar::new());
        Ok(Arc::new(Points { engine, store, store_id, told, further, one_ended }))
    }

    /// Lets commands find a mount. Without its control channel a mount works all the same: that is no reason to refuse
    /// it.
    pub(super) fn register(self: &Arc<Points>, mounted: &Mounted, options: &Parsed) -> Option<Server> {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let record = MountRecord {
            pid: std::process::id(),
            device: mounted.device(),
            store: self.store.clone(),
            store_id: self.store_id,
            mountpoint: mounted.point().to_path_buf(),
            started: rfc3339(Timestamp { secs: now.as_secs() as i64, nanos: 0 }),
            snapshot: options.snapshot.clone(),
        };
        let mut about = record.to_json();
        for (key, value) in [
            ("version", json!(env!("CARGO_PKG_VERSION"))),
            ("read_only", json!(options.store.access == OpenFor::MountReadOnly)),
            ("cache", json!(if options.mount.writeback_cache { "writeback" } else { "strict" })),
        ] {
            about[key] = value;
        }
        let connection = mounted.connection();
        let told = self.told.clone();
        let is_mounted = Box::new(move || connection.is_mounted() && !told.load(Ordering::SeqCst));
        let (engine, points, options) = (self.engine.clone(), self.clone(), options.clone());
        let add = Box::new(move |point: &Path, options: &[OsString]| points.add(point, options));
        let verbs = Arc::new(Verbs { engine, carriers: Carriers::default(), add, options, about });
        Server::start(&record, is_mounted, verbs)
            .inspect_err(|e| log::error!("no control channel, so commands will not find this mount: {e}"))
            .ok()
    }

    /// Mounts a snapshot, as the options say, at `point`.
    pub(super) fn add(self: &Arc<Points>, point: &Path, options: &[OsString]) -> Result<Value, Failure> {
        let options = options::parse(options, true).map_err(|e| Failure::new(Code::Invalid, e))?;
        let Some(name) = &options.snapshot else {
            return Err(Failure::new(Code::Invalid, "the live tree is mounted once"));
        };
        let failed = |message: String| Failure::new(Code::Other, message);
        let mut further = self.further.lock(); // one at a time, and none that the end would miss
        if further.closed {
            return Err(Failure::new(Code::Busy, "the store is being unmounted"));
        }
        fuse::check_point(point).map_err(failed)?;
        let mounted = Mounted::start(self.engine.standalone(name)?, point, &options.mount).map_err(failed)?;
        let unmounter = mounted.unmounter();
        let server = self.register(&mounted, &options);
        let (points, ends) = (self.clone(), unmounter.clone());
        let thread = std::thread::Builder::new().name("mount".into());
        let started = thread.spawn(move || {
            if let Err(e) = mounted.wait() {
                log::error!("{}: the connection to the kernel broke: {e}", names::shown(ends.point()));
            }
            points.has_ended(&ends, server);
        });
        if let Err(e) = started {
            let _ = unmounter.detach(); // what counts is the error that we report
            return Err(failed(format!("cannot start a thread: {e}")));
        }
        further.serving.push(unmounter);
        further.living += 1;
        let mut answer = json!({"pid": std::process::id()});
        names::put(&mut answer, "store", &self.store);
        names::put(&mut answer, "mountpoint", point);
        names::put(&mut answer, "snapshot", OsStr::from_bytes(name));
        Ok(answer)
    }

    /// One of the further mounts has ended.
    fn has_ended(&self, which: &Unmounter, server: Option<Server>) {
        let mut further = self.further.lock();
        further.living -= 1;
        let server = if further.alone && further.living == 0 {
            further.closed = true;
            further.last = server;
            None
        } else {
            server
        };
        drop(further);
        drop(server); // the snapshot is let go of: it tells those who wait for that
        self.further.lock().serving.retain(|u| u.point() != which.point());
        self.one_ended.notify_all();
    }

    /// No more is to be served: commands find nothing here, and nobody is waited for.
    pub(super) fn told_to_end(&self) {
        self.told.store(true, Ordering::SeqCst);
        // Whoever waits for a thaw would keep the mount busy.
        let _ = self.engine.frost(&FrostWish::End); // an engine without any has none to be ended
        drop(self.further.lock()); // who is about to wait has seen it, or waits
        self.one_ended.notify_all();
    }

    /// The first mount, of a snapshot, has ended: returns when the last of the others has, or the daemon is told to end.
    /// What it returns tells those who wait for the store, and is dropped when that is closed.
    pub(super) fn outlive_first(&self, first: Option<Server>) -> Option<Server> {
        let mut further = self.further.lock();
        if further.living == 0 {
            further.closed = true;
            return first;
        }
        further.alone = true;
        drop(further);
        drop(first);
        let mut further = self.further.lock();
        while !further.serving.is_empty() && !self.told.load(Ordering::SeqCst) {
            self.one_ended.wait(&mut further);
        }
        further.closed = true;
        drop(further);
        self.end();
        self.further.lock().last.take()
    }

    /// Ends all further mounts. Programs that have files open in one get the time that they get after a SIGTERM.
    pub(super) fn end(&self) {
        let mut further = self.further.lock();
        further.closed = true;
        for unmounter in &further.serving {
            if !unmounter.unmount().unwrap_or(false) {
                log::warn!(
                    "{}: files are open in it, and the store is closed soon",
                    names::shown(unmounter.point())
                );
                let _ = unmounter.detach(); // if that fails too, it is cut off below
            }
        }
        let wait = |further: &mut parking_lot::MutexGuard<Further>, patience: Duration| {
            let end = Instant::now() + patience;
            while !further.serving.is_empty() && Instant::now() < end {
                self.one_ended.wait_until(further, end);
            }
        };
        wait(&mut further, GRACE);
        further.serving.iter().for_each(Unmounter::abort);
        wait(&mut further, GRACE);
    }
}
