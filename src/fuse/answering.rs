//! Which requests are being answered whose answers name nodes, or tell of their attributes: what a line shows changes as a whole
//! only between two of them, so that no answer from before comes to the kernel behind one from after.
//!
//! Held while such a request is worked on and until its answer is written. Nothing that is not answered on the thread that
//! read it holds it, nor does what brings or takes content: whoever drops pages of the kernel's waits for that.
//!
//! One that takes long, as it waits for commits, holds up who wants to do something between two answers, and nobody else: others
//! begin and are answered meanwhile.

use parking_lot::{RwLock, RwLockReadGuard};
use std::sync::Arc;
use std::time::Duration;

/// For so long requests are kept from beginning at first, until all that have come are answered; and by so much longer each time.
const PATIENCE: Duration = Duration::from_millis(50);

/// Of one connection.
#[derive(Clone, Default)]
pub(super) struct Answering(Arc<RwLock<()>>);

/// A request that is being answered.
pub(super) struct BeingAnswered<'a>(
    #[expect(dead_code, reason = "held, and not looked at")] RwLockReadGuard<'a, ()>,
);

impl Answering {
    /// A request has come. Waits for work that is done between answers.
    pub(super) fn begin(&self) -> BeingAnswered<'_> {
        BeingAnswered(self.0.read())
    }

    /// Does `work` when all that have come are answered. Others wait for that only for a while, and as long as that begin then; the while
    /// gets longer until no request takes as long, so this gets its turn.
    pub(super) fn between(&self, work: &mut dyn FnMut()) {
        let mut patience = PATIENCE;
        loop {
            if let Some(_alone) = self.0.try_write_for(patience) {
                return work();
            }
            std::thread::sleep(patience);
            patience += PATIENCE;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
    use std::sync::mpsc;

    const LONG: Duration = Duration::from_secs(60);

    #[test]
    fn who_takes_long_holds_up_nobody_else() {
        let (answering, (begun, wait)) = (Answering::default(), mpsc::channel());
        let is_done = AtomicBool::new(false);
        std::thread::scope(|s| {
            let takes_long = answering.begin();
            let between = s.spawn(|| answering.between(&mut || is_done.store(true, SeqCst)));
            let other = answering.clone();
            std::thread::spawn(move || {
                // More than once, and some of them while that waits.
                for _ in 0..100 {
                    drop(other.begin());
                    std::thread::sleep(Duration::from_millis(2));
                }
                begun.send(()).unwrap();
            });
            let others = wait.recv_timeout(LONG);
            let was_done = is_done.load(SeqCst);
            drop(takes_long);
            between.join().unwrap();
            assert!(others.is_ok() && !was_done);
        });
        assert!(is_done.load(SeqCst));
    }

    #[test]
    fn what_is_done_between_two_answers_gets_its_turn() {
        let (answering, ends) = (Answering::default(), AtomicBool::new(false));
        std::thread::scope(|s| {
            // There is always one that is being answered.
            for _ in 0..4 {
                s.spawn(|| {
                    while !ends.load(SeqCst) {
                        let _answer = answering.begin();
                        std::thread::sleep(PATIENCE * 3);
                    }
                });
            }
            std::thread::sleep(PATIENCE);
            answering.between(&mut || ends.store(true, SeqCst));
        });
    }
}
