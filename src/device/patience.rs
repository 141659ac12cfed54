//! Waiting for a host that may never answer: a thread of its own asks it, and is left behind when its time is over.
//!
//! What comes late is dropped by that thread, so that nobody else has to wait for that either. Nothing here ends a call of
//! the host: no program can.

use super::bystander::{Beside, judge_late_beside};
use super::waited::{Awaited, Waited, awaited};
use parking_lot::Mutex;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::SeqCst};
use std::sync::mpsc::{RecvTimeoutError, SyncSender, sync_channel};
use std::time::Duration;

/// How often a thread is tried again that cannot be started.
const TRY_AGAIN: Duration = Duration::from_millis(10);

/// Says of some work that it goes on, for work of several calls of which each has its time.
#[derive(Default)]
pub struct Alive {
    steps: AtomicU64,
    given_up: AtomicBool,
}

impl Alive {
    /// The time begins again: a call of the host has returned. False if nobody waits any more.
    pub fn goes_on(&self) -> bool {
        self.steps.fetch_add(1, SeqCst);
        !self.given_up.load(SeqCst)
    }
}

impl Awaited for Alive {
    fn goes_on(&self) {
        Alive::goes_on(self);
    }
}

/// Does some work by another thread and waits for it. None if nothing was heard of it for longer than the limit, if it failed
/// an assertion, or if there was no thread to be had in this time.
pub fn patiently<T: Send + 'static>(
    limit: Duration,
    work: impl FnOnce(&Alive) -> T + Send + 'static,
) -> Option<T> {
    patiently_beside(limit, &None, work)
}

/// The same of a host that is late only if another answers meanwhile.
pub fn patiently_beside<T: Send + 'static>(
    limit: Duration,
    beside: &Beside,
    work: impl FnOnce(&Alive) -> T + Send + 'static,
) -> Option<T> {
    patiently_told((limit, beside), (limit, || {}), work)
}

/// The same. Once nothing was heard of it for some time `told` is called.
pub fn patiently_told<T: Send + 'static>(
    (limit, beside): (Duration, &Beside),
    (after, told): (Duration, impl FnOnce()),
    work: impl FnOnce(&Alive) -> T + Send + 'static,
) -> Option<T> {
    let mut told = Some(told);
    let alive = Arc::new(Alive::default());
    let mut waited = Waited::new(limit);
    // Without room for an answer that nobody takes.
    let (sender, receiver) = sync_channel(0);
    let task = Arc::new(Mutex::new(Some((work, sender))));
    while !start(&task, &alive) {
        if waited.is_over() {
            return None;
        }
        std::thread::sleep(TRY_AGAIN);
    }
    let mut steps = 0;
    // None: it is late. An answer is none if an assertion has failed.
    let mut wait = |mut waited: Waited| -> Option<Option<T>> {
        loop {
            match receiver.recv_timeout(waited.until_look().max(Duration::from_millis(1))) {
                Ok(answer) => return Some(Some(answer)),
                Err(RecvTimeoutError::Disconnected) => return Some(None),
                Err(RecvTimeoutError::Timeout) => {}
            }
            let before = std::mem::replace(&mut steps, alive.steps.load(SeqCst));
            if before != steps {
                waited.again();
            }
            let is_over = waited.is_over();
            if waited.waited() >= after
                && let Some(told) = told.take()
            {
                told();
            }
            if is_over {
                return None;
            }
        }
    };
    let in_time = wait(waited);
    let answer = in_time.or_else(|| judge_late_beside(limit, beside, |time| wait(Waited::new(time))));
    if answer.is_none() {
        alive.given_up.store(true, SeqCst);
    }
    answer.flatten()
}

/// What is to be done and who is told, until a thread has taken it.
type Task<T, W> = Option<(W, SyncSender<T>)>;

/// Has a thread do it. False if there is none to be had.
fn start<T: Send + 'static, W: FnOnce(&Alive) -> T + Send + 'static>(
    task: &Arc<Mutex<Task<T, W>>>,
    alive: &Arc<Alive>,
) -> bool {
    let (task, alive) = (task.clone(), alive.clone());
    let work = move || {
        let taken = task.lock().take();
        if let Some((work, sender)) = taken {
            let done = awaited(alive.clone(), || work(&alive));
            // If nobody waits any more it is dropped here.
            let _late = sender.send(done);
        }
    };
    std::thread::Builder::new().name("patience".into()).spawn(work).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::device::bystander::{Bystander, Question};
    use std::sync::mpsc::{Receiver, TryRecvError, channel};

    const LIMIT: Duration = Duration::from_millis(50);

    #[test]
    fn what_is_done_in_time_is_had_and_what_is_late_is_dropped_where_it_is_late() {
        assert_eq!(patiently(Duration::from_secs(600), |_| 7), Some(7));
        let (go_on, wait) = channel::<()>();
        struct Told(std::sync::mpsc::Sender<String>);
        impl Drop for Told {
            fn drop(&mut self) {
                let _ = self.0.send(std::thread::current().name().unwrap_or_default().to_owned());
            }
        }
        let (told, dropped) = channel();
        let late = patiently(LIMIT, move |alive| {
            let _ = wait.recv();
            assert!(!alive.goes_on());
            Told(told)
        });
        assert!(late.is_none());
        go_on.send(()).unwrap();
        assert_eq!(dropped.recv().unwrap(), "patience");
    }

    #[test]
    fn who_waits_is_told_once_and_not_of_what_is_soon_done() {
        let asked = |lasts: Duration| {
            let mut told = 0;
            let done = patiently_told((LIMIT * 100, &None), (LIMIT, || told += 1), move |_| {
                std::thread::sleep(lasts)
            });
            assert!(done.is_some());
            told
        };
        assert_eq!((asked(Duration::ZERO), asked(LIMIT * 20)), (0, 1));
    }

    /// Another host, which answers when a channel is closed.
    struct Other(Arc<Mutex<Receiver<()>>>);

    impl Bystander for Other {
        fn question(&self) -> Question {
            let answers = self.0.clone();
            Box::new(move || {
                let is_silent = answers.lock().try_recv() == Err(TryRecvError::Empty);
                (!is_silent).then_some(false)
            })
        }
    }

    #[test]
    fn who_stands_still_with_another_is_waited_for_until_that_goes_on() {
        for goes_on_too in [true, false] {
            let (other_goes_on, answers) = channel::<()>();
            let (go_on, wait) = channel::<()>();
            let done = std::thread::spawn(move || {
                let beside: Beside = Some(Arc::new(Other(Arc::new(Mutex::new(answers)))));
                patiently_beside(LIMIT, &beside, move |_| wait.recv().is_err())
            });
            std::thread::sleep(LIMIT * 5);
            assert!(!done.is_finished());
            if goes_on_too {
                drop(go_on);
                assert_eq!(done.join().unwrap(), Some(true));
            } else {
                drop(other_goes_on);
                assert_eq!(done.join().unwrap(), None);
                drop(go_on);
            }
        }
    }

    #[test]
    fn work_that_goes_on_is_waited_for() {
        let done = patiently(LIMIT, |alive| {
            (0..6).for_each(|_| {
                std::thread::sleep(LIMIT / 3);
                alive.goes_on();
            });
            7
        });
        assert_eq!(done, Some(7));
        assert_eq!(patiently(Duration::from_secs(600), |_| -> u8 { panic!("an assertion") }), None);
    }
}
