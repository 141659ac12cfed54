//! Whose fault it is that a host is late: before one is taken for that, another is asked whether it answers.
//!
//! It is asked something small, for which it has to read its disk. If it says nothing either, all stands still (a machine that
//! was suspended, one disk or one network under both), which is the fault of neither: whoever waits goes on waiting for both,
//! and when they go on the time begins again. So one that hangs holds up its caller for as long as the limit and as the other
//! takes to answer, and no longer than twice the limit where that does.

use super::waited::Waited;
use std::sync::Arc;
use std::time::Duration;

/// How often it is looked which of two has answered.
const LOOK_AGAIN: Duration = Duration::from_millis(5);

/// A host that is asked before another is taken for late. Any thread.
pub trait Bystander: Send + Sync {
    /// Begins to ask it.
    fn question(&self) -> Question;
}

/// Tells, once, whether a host could be read that was asked. None as long as it has not answered.
pub type Question = Box<dyn Fn() -> Option<bool>>;

/// Who is asked before a host is taken for late that takes part in no mirror: nobody, if there is no other.
pub type Beside = Option<Arc<dyn Bystander>>;

/// Waits on for one that has been waited for up to the limit: until it answers, or is given up, which is when it is late although
/// another that could be asked was read, or when nobody could be asked. `wait` waits for some time, and `give_up` may refuse.
pub(super) fn judge_late<A>(
    limit: Duration,
    mut wait: impl FnMut(Duration) -> Option<A>,
    mut ask: impl FnMut() -> Option<Question>,
    mut give_up: impl FnMut() -> bool,
) -> Option<A> {
    loop {
        // As long again, unless it is to be judged before.
        let (mut more, mut is_judged) = (limit, false);
        match ask() {
            None if give_up() => return None,
            None => {}
            Some(question) => {
                let mut asked = Waited::new(limit);
                let was_read = loop {
                    if let Some(was_read) = question() {
                        break was_read;
                    }
                    if let Some(answer) = wait(LOOK_AGAIN) {
                        return Some(answer);
                    }
                    asked.is_over();
                };
                // What holds up the other may have held up this one as long, which then is on its way.
                if was_read && !asked.is_over() {
                    more = asked.waited().min(limit - asked.waited());
                    is_judged = true;
                }
            }
        }
        if let Some(answer) = wait(more) {
            return Some(answer);
        }
        if is_judged && give_up() {
            return None;
        }
    }
}

/// The same of one that is part of nothing that would go on without it. So it makes no difference whether the other can be read,
/// if only it answers.
pub(super) fn judge_late_beside<A>(
    limit: Duration,
    beside: &Beside,
    wait: impl FnMut(Duration) -> Option<A>,
) -> Option<A> {
    let ask = || {
        let question = beside.as_ref()?.question();
        let answered: Question = Box::new(move || question().map(|_| true));
        Some(answered)
    };
    judge_late(limit, wait, ask, || true)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::device::waited::test_clock::pass;
    use std::cell::Cell;
    use std::rc::Rc;

    /// However long the other takes to answer, as long as that is within the limit: by a clock that only this test moves.
    #[test]
    fn one_that_hangs_holds_up_its_caller_for_twice_the_limit_at_most() {
        let limit = Duration::from_secs(10);
        for part in 0..20 {
            let answers_after = limit * part / 20;
            // That it is late is known when the limit is over.
            let passed = Rc::new(Cell::new(limit));
            pass(Duration::ZERO);
            let wait = |time| {
                pass(time);
                passed.set(passed.get() + time);
                None::<()>
            };
            let ask = || {
                let (passed, since) = (passed.clone(), passed.get());
                let question: Question =
                    Box::new(move || (passed.get() - since >= answers_after).then_some(true));
                Some(question)
            };
            assert_eq!(judge_late(limit, wait, ask, || true), None);
            let least = limit + answers_after;
            let most = limit + (answers_after * 2).min(limit) + 2 * LOOK_AGAIN;
            assert!((least..=most).contains(&passed.get()), "{part}: {:?}", passed.get());
            assert!(passed.get() <= 2 * limit + 2 * LOOK_AGAIN);
        }
    }
}
