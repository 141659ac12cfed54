//! From a failing history to a short one, by leaving out what does not matter.
//!
//! A history fails when the run says so or panics. The shrinker accepts any failure, not only the first one seen, and
//! gives up after [`TIME_MAX`]. It changes no operation, it only removes some.

use std::cell::Cell;
use std::panic::{AssertUnwindSafe, catch_unwind, set_hook, take_hook};
use std::sync::Once;
use std::time::{Duration, Instant};

use crate::generate::Op;

/// The longest that shrinking takes.
const TIME_MAX: Duration = Duration::from_secs(60);

/// Runs once; a panic is a failure like others.
pub fn attempt(run: impl FnOnce() -> Result<(), String>) -> Result<(), String> {
    catch_unwind(AssertUnwindSafe(run)).unwrap_or_else(|payload| {
        let text = payload.downcast_ref::<String>().cloned();
        let text = text.or_else(|| payload.downcast_ref::<&str>().map(|s| s.to_string()));
        Err(format!("panic: {}", text.unwrap_or_else(|| "of unknown kind".into())))
    })
}

thread_local! {
    /// This thread shrinks: its panics are counted, not printed.
    static QUIET: Cell<bool> = const { Cell::new(false) };
}

/// Keeps the panics of attempts from being printed on this thread until it is dropped.
struct Quiet;

impl Quiet {
    fn new() -> Quiet {
        static HOOK: Once = Once::new();
        HOOK.call_once(|| {
            let loud = take_hook();
            set_hook(Box::new(move |info| {
                if !QUIET.get() {
                    loud(info)
                }
            }));
        });
        QUIET.set(true);
        Quiet
    }
}

impl Drop for Quiet {
    fn drop(&mut self) {
        QUIET.set(false);
    }
}

/// The shortest failing part of `ops` that was found, with its failure.
fn shrink(ops: &[Op], why: &str, run: &dyn Fn(&[Op]) -> Result<(), String>) -> (Vec<Op>, String) {
    let _quiet = Quiet::new();
    let end = Instant::now() + TIME_MAX;
    let (mut ops, mut why) = (ops.to_vec(), why.to_owned());
    let mut piece = ops.len().div_ceil(2);
    loop {
        let mut at = 0;
        let before = ops.len();
        while at < ops.len() && Instant::now() < end {
            let mut fewer = ops.clone();
            fewer.drain(at..(at + piece).min(ops.len()));
            match run(&fewer) {
                Err(reason) => (ops, why) = (fewer, reason),
                Ok(()) => at += piece,
            }
        }
        if Instant::now() >= end || piece == 1 && ops.len() == before {
            return (ops, why);
        }
        piece = piece.div_ceil(2);
    }
}

/// What a person needs to understand a failure and to see it again.
pub fn report(
    seed: u64,
    test: &str,
    ops: &[Op],
    why: &str,
    run: &dyn Fn(&[Op]) -> Result<(), String>,
) -> String {
    let (short, reason) = shrink(ops, why, run);
    let list: String = short.iter().enumerate().map(|(i, op)| format!("    {i}: {op:?}\n")).collect();
    format!(
        "seed {seed}: {why}\n  shrunk from {} to {} operations, which fail so: {reason}\n{list}  again: \
         SNAPFS_SEED={seed} SNAPFS_MODEL_HISTORIES=1 SNAPFS_CRASH_POINTS=1 cargo test --test model {test}",
        ops.len(),
        short.len()
    )
}
