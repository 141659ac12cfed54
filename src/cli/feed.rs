//! What changes in a line, for those who follow it: how it is asked for, and what the daemon does.
//!
//! Who follows may read slowly, or be stopped; no view may be held for that. So one thread looks and compares, and another,
//! that of the request, hands over what was found. What waits for a reader is bounded; where the bound is met that reader is
//! told that it has missed something. All of them end before the store is closed.

use super::engine::ChangesOrder;
use super::output::rfc3339;
use super::refusal::{told, told_view};
use super::told_change::encode_change;
use crate::clock::Clock;
use crate::ctl::{Code, Failure};
use crate::fs::{Follow, Fs, PathChange};
use crate::names;
use crate::ops::NodeId;
use parking_lot::{Condvar, Mutex};
use serde_json::{Value, json};
use std::collections::VecDeque;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

/// Changes in one object.
const CHANGES_TOLD: usize = 256;
/// Changes that wait for a reader, at most, besides those of one look.
const WAITING_MAX: usize = 1 << 20;
/// Those who follow at once, at most: each has a connection and a thread.
const FOLLOWERS_MAX: usize = 16;
/// Longest time between two looks: for as long a view is held.
pub(super) const INTERVAL_SECONDS_MAX: u64 = 60;
/// After so long without a change a reader is sent something all the same: whoever is gone is found out.
const SIGN_OF_LIFE: Duration = Duration::from_secs(1);

/// All who follow. Lock order: `state` before that of a pipe.
#[derive(Default)]
pub(super) struct Feeds {
    state: Mutex<FeedsState>,
    changed: Condvar,
}

#[derive(Default)]
struct FeedsState {
    closed: bool,
    looking: usize,
}

/// Somebody looks for changes.
struct Looking<'a>(&'a Feeds);

impl Drop for Looking<'_> {
    fn drop(&mut self) {
        self.0.state.lock().looking -= 1;
        self.0.changed.notify_all();
    }
}

impl Feeds {
    fn begin(&self) -> Result<Looking<'_>, Failure> {
        let mut state = self.state.lock();
        if state.closed {
            return Err(Failure::new(Code::NotMounted, "the store is being closed"));
        }
        if state.looking >= FOLLOWERS_MAX {
            let what = format!("{FOLLOWERS_MAX} commands follow this mount already; end one of them");
            return Err(Failure::new(Code::Busy, what));
        }
        state.looking += 1;
        Ok(Looking(self))
    }

    /// Waits so long; false if the end comes first, of all or of this pipe.
    fn wait(&self, pipe: &Pipe, time: Duration) -> bool {
        let mut state = self.state.lock();
        let goes_on = |state: &mut FeedsState| !state.closed && !pipe.has_ended();
        self.changed.wait_while_for(&mut state, goes_on, time);
        goes_on(&mut state)
    }

    /// A pipe has ended: nobody waits for it any longer.
    fn wake(&self) {
        let _state = self.state.lock(); // or it comes between a look at the pipe and the wait
        self.changed.notify_all();
    }

    /// Ends all of them: nobody looks any more when this returns.
    pub(super) fn close(&self) {
        let mut state = self.state.lock();
        state.closed = true;
        self.changed.notify_all();
        self.changed.wait_while(&mut state, |state| state.looking > 0);
    }
}

/// What one look has found, and when that was.
#[derive(Default)]
struct Look {
    time: Value,
    changes: Vec<PathChange>,
}

/// Changes on their way from who finds them to who reads them, by the look that found them.
#[derive(Default)]
struct Waiting {
    looks: VecDeque<Look>,
    count: usize,
    /// How it ends, once it does.
    end: Option<Result<(), Failure>>,
}

#[derive(Default)]
struct Pipe {
    waiting: Mutex<Waiting>,
    changed: Condvar,
}

impl Pipe {
    /// False if it has ended.
    fn push(&self, changes: Vec<PathChange>) -> bool {
        let mut waiting = self.waiting.lock();
        if waiting.end.is_some() {
            return false;
        }
        if !changes.is_empty() {
            if waiting.count > WAITING_MAX {
                let what = "more has changed than was read; begin again with --since";
                waiting.end = Some(Err(Failure::new(Code::Other, what)));
            } else {
                waiting.count += changes.len();
                let time = rfc3339(Clock::System.now()).into();
                waiting.looks.push_back(Look { time, changes });
            }
            self.changed.notify_all();
        }
        waiting.end.is_none()
    }

    fn end(&self, how: Result<(), Failure>) {
        let mut waiting = self.waiting.lock();
        waiting.end.get_or_insert(how);
        self.changed.notify_all();
    }

    fn has_ended(&self) -> bool {
        self.waiting.lock().end.is_some()
    }

    /// What was found next; nothing for a while is an empty answer. `Err`: there is no more.
    fn pop(&self) -> Result<Option<Look>, Result<(), Failure>> {
        let mut waiting = self.waiting.lock();
        let nothing = |waiting: &mut Waiting| waiting.looks.is_empty() && waiting.end.is_none();
        self.changed.wait_while_for(&mut waiting, nothing, SIGN_OF_LIFE);
        match waiting.looks.pop_front() {
            Some(look) => {
                waiting.count -= look.changes.len();
                Ok(Some(look))
            }
            None => waiting.end.clone().map_or(Ok(None), Err),
        }
    }
}

/// An order as it travels.
pub(super) fn encode(order: &ChangesOrder) -> Value {
    let interval = order.interval.map(|interval| interval.as_secs());
    let mut object = json!({"under": order.under, "interval": interval});
    names::put(&mut object, "since", OsStr::from_bytes(&order.since));
    object
}

/// The other way.
pub(super) fn decode(args: &Value) -> Result<ChangesOrder, Failure> {
    let missing = || Failure::new(Code::Invalid, "the request does not say since when");
    let number = |key: &str| args.get(key).and_then(Value::as_u64);
    Ok(ChangesOrder {
        since: names::get(args, "since").ok_or_else(missing)?,
        under: number("under"),
        interval: number("interval").map(|s| Duration::from_secs(s.clamp(1, INTERVAL_SECONDS_MAX))),
    })
}

/// Tells what has changed since a view, and goes on with what changes if that is wanted, until nobody listens or the store is
/// closed.
pub(super) fn answer(
    fs: &Arc<Fs>,
    feeds: &Feeds,
    store: &Path,
    order: &ChangesOrder,
    put: &mut dyn FnMut(Value) -> bool,
) -> Result<(), Failure> {
    let at = order.under.map_or(NodeId::ROOT, NodeId);
    let follow = fs.follow(at, &order.since, order.under.map(NodeId));
    let mut follow = follow.map_err(|e| told_view(&order.since, &e))?;
    let failed = |e| told(store, &e);
    let Some(interval) = order.interval else {
        let changes = follow.changes().map_err(failed)?;
        drop(follow); // whoever takes the answer slowly keeps no view
        put_look(&rfc3339(Clock::System.now()).into(), &changes, put);
        return Ok(());
    };
    let looking = feeds.begin()?;
    let pipe = Pipe::default();
    std::thread::scope(|scope| {
        let look = || {
            let how = look_on(&mut follow, feeds, &pipe, interval).map_err(failed);
            drop((follow, looking));
            pipe.end(how);
        };
        let started = std::thread::Builder::new().name("follow".into()).spawn_scoped(scope, look);
        if let Err(e) = started {
            return Err(Failure::new(Code::Other, super::refusal::no_thread(&e)));
        }
        let done = loop {
            match pipe.pop() {
                Ok(look) => {
                    let Look { time, changes } = look.unwrap_or_default();
                    if !put_look(&time, &changes, put) {
                        break Ok(());
                    }
                }
                Err(how) => break how,
            }
        };
        // Whoever looks holds a view, and may be about to wait for long.
        pipe.end(Ok(()));
        feeds.wake();
        done
    })
}

/// Looks until the end.
fn look_on(
    follow: &mut Follow,
    feeds: &Feeds,
    pipe: &Pipe,
    interval: Duration,
) -> Result<(), crate::ops::Error> {
    while pipe.push(follow.changes()?) && feeds.wait(pipe, interval) {}
    Ok(())
}

fn put_look(time: &Value, changes: &[PathChange], put: &mut dyn FnMut(Value) -> bool) -> bool {
    if changes.is_empty() {
        return put(json!({}));
    }
    changes.chunks(CHANGES_TOLD).all(|some| {
        let some: Vec<Value> = some.iter().map(encode_change).collect();
        put(json!({"changes": some, "time": time}))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn orders_travel() {
        for interval in [None, Some(Duration::from_secs(7))] {
            let order = ChangesOrder { since: b"a\xff".to_vec(), under: Some(u64::MAX), interval };
            assert_eq!(decode(&encode(&order)), Ok(order));
        }
        assert!(decode(&json!({"interval": 1})).is_err());
    }

    #[test]
    fn who_looks_ends_with_his_reader() {
        const PATIENCE: Duration = Duration::from_secs(20);
        let (feeds, pipe) = (Feeds::default(), Pipe::default());
        let (done, wait) = std::sync::mpsc::channel();
        std::thread::scope(|scope| {
            scope.spawn(|| {
                let _looking = feeds.begin().unwrap();
                done.send(None).unwrap();
                done.send(Some(feeds.wait(&pipe, 3 * PATIENCE))).unwrap();
            });
            assert_eq!(wait.recv(), Ok(None));
            pipe.end(Ok(()));
            feeds.wake();
            assert_eq!(wait.recv_timeout(PATIENCE), Ok(Some(false)));
        });
        assert_eq!(feeds.state.lock().looking, 0);
    }

    #[test]
    fn a_reader_that_reads_nothing_is_told_that_it_has_missed_something() {
        let change = PathChange {
            kind: crate::fs::ChangeKind::Removed,
            path: b"f".to_vec(),
            old_path: None,
            old: None,
            new: None,
            attributes: Vec::new(),
        };
        let pipe = Pipe::default();
        // One look may find any number.
        assert!(pipe.push(vec![change.clone(); WAITING_MAX + 1]));
        assert!(!pipe.push(vec![change.clone()]) && !pipe.push(vec![change]));
        assert!(pipe.pop().is_ok_and(|look| look.is_some_and(|look| look.changes.len() == WAITING_MAX + 1)));
        assert!(pipe.pop().is_err_and(|end| end.is_err_and(|f| f.message.contains("begin again"))));
    }
}
