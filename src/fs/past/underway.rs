//! Commands that go on, and what was made for them: it stays until they have ended.
//!
//! A step is what the changes of its command are told against, and what they are put back to. Whether a command goes on is
//! asked when it matters; nothing waits for its end, and nobody has to say it.

use crate::format::ViewId;
use parking_lot::Mutex;

/// Tells whether a command goes on. Asked from any thread and under locks: it waits for nothing.
pub type GoesOn = Box<dyn Fn() -> bool + Send + Sync>;

struct Command {
    step: ViewId,
    goes_on: GoesOn,
}

/// All of them. Any thread; its lock is a leaf.
#[derive(Default)]
pub struct UnderWay {
    all: Mutex<Vec<Command>>,
}

impl UnderWay {
    /// A command begins, and this step is its own. Called before anybody else could take the step away.
    pub fn begin(&self, step: ViewId, goes_on: GoesOn) {
        let mut all = self.all.lock();
        all.retain(|command| (command.goes_on)());
        all.push(Command { step, goes_on });
    }

    /// True if a command goes on that needs this step.
    pub fn needs(&self, step: ViewId) -> bool {
        self.all.lock().iter().any(|command| command.step == step && (command.goes_on)())
    }
}
