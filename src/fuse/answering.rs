//! Which requests are being answered whose answers name nodes, or tell of their attributes: what a line shows changes as a whole
//! only between two of them, so that no answer from before comes to the kernel behind one from after.
//!
//! Held while such a request is worked on and until its answer is written. Nothing that is not answered on the thread that
//! read it holds it, nor does what brings or takes content: whoever drops pages of the kernel's waits for that.

use parking_lot::{RwLock, RwLockReadGuard};
use std::sync::Arc;

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

    /// Does `work` when all that have come are answered.
    pub(super) fn between(&self, work: &mut dyn FnMut()) {
        let _alone = self.0.write();
        work();
    }
}
