//! Work beside the answering of requests: on a thread of its own, or, where none starts, on one that is kept for that.
//!
//! For requests that take long, or for which others have to be answered first. What may wait for a thaw has a thread in reserve of its own:
//! what waits there does not keep the other from what would end that.

use super::locality::Locality;
use crate::ops::Operations;
use parking_lot::Mutex;
use std::sync::Arc;
use std::sync::mpsc::{self, Sender};

/// What is done beside.
type Work = Box<dyn FnOnce() + Send>;

/// Starts such work.
pub(super) struct Aside {
    ops: Arc<dyn Operations>,
    locality: Option<Arc<Locality>>,
    /// To the thread that is kept for work that no thread can be started for. It ends with this.
    reserve: Reserve,
    /// To the one for work that may wait for a thaw.
    frozen: Reserve,
}

/// To a thread that is kept.
type Reserve = Mutex<Option<Sender<Work>>>;

/// Starts a thread that is kept for when no other starts.
fn start_reserve(name: &str) -> Option<Sender<Work>> {
    let (sender, queue) = mpsc::channel::<Work>();
    let started = std::thread::Builder::new().name(name.into()).spawn(move || {
        for work in queue {
            work();
        }
    });
    started.inspect_err(|e| log::warn!("no thread is kept in reserve: {e}")).ok().map(|_| sender)
}

impl Aside {
    pub(super) fn new(ops: Arc<dyn Operations>, locality: Option<Arc<Locality>>) -> Aside {
        Aside {
            ops,
            locality,
            reserve: Mutex::new(start_reserve("reserve")),
            frozen: Mutex::new(start_reserve("frozen")),
        }
    }

    /// As [`Self::run`], of what waits for a thaw by itself.
    pub(super) fn run_when_thawed(&self, work: impl FnOnce(&dyn Operations) + Send + 'static) {
        self.run_or(&self.frozen, work);
    }

    /// Runs what may take long, and needs other requests served meanwhile, on a thread of its own. When no thread
    /// can be started it waits its turn for the one that is kept for that.
    pub(super) fn run(&self, work: impl FnOnce(&dyn Operations) + Send + 'static) {
        self.run_or(&self.reserve, work);
    }

    fn run_or(&self, reserve: &Reserve, work: impl FnOnce(&dyn Operations) + Send + 'static) {
        let (ops, locality) = (self.ops.clone(), self.locality.clone());
        let work = move || {
            if let Some(locality) = locality {
                locality.roam();
            }
            work(ops.as_ref());
        };
        // Kept here as well, because a thread that does not start takes what it was to do along.
        let kept: Arc<Mutex<Option<Work>>> = Arc::new(Mutex::new(Some(Box::new(work))));
        let for_thread = kept.clone();
        let started = std::thread::Builder::new().name("aside".into()).spawn(move || {
            if let Some(work) = for_thread.lock().take() {
                work();
            }
        });
        if let Err(e) = started
            && let Some(work) = kept.lock().take()
        {
            log::warn!("a request has no thread of its own: {e}");
            // Where there is none either the reply is dropped with the work, which answers EIO.
            reserve.lock().as_ref().map(|reserve| reserve.send(work));
        }
    }
}
