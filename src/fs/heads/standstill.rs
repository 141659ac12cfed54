//! The standstill: a change at once is under way, and whoever changes something waits for it. Requests only try: one that
//! would wait is done where no requests are answered, or left for later, so that those who read are answered.
//!
//! Who is let pass is waited for before anything is held; so no thread that answers requests ever waits for what is. The
//! lock order: after the snapshots, before commits.

use crate::ops::NodeId;
use parking_lot::{Mutex, RwLock, RwLockReadGuard, RwLockWriteGuard};

/// Of one file system.
#[derive(Default)]
pub struct Standstill {
    lock: RwLock<()>,
    /// What the kernel, or who had it open, has let go of meanwhile; true if the kernel has forgotten it. A leaf.
    left: Mutex<Vec<(NodeId, bool)>>,
}

/// Held while a change at once is under way.
pub struct Stillness<'s>(#[expect(dead_code, reason = "held, and not looked at")] RwLockWriteGuard<'s, ()>);

impl Standstill {
    /// For a request that changes something: kept until that is done. None while that would have to wait.
    pub fn pass(&self) -> Option<RwLockReadGuard<'_, ()>> {
        self.lock.try_read()
    }

    /// Lets nobody pass any more, and waits for those who were let.
    pub fn begin(&self) -> Stillness<'_> {
        Stillness(self.lock.write())
    }

    /// Leaves for later that somebody has let go of a node.
    pub fn leave(&self, node: NodeId, forgotten: bool) {
        self.left.lock().push((node, forgotten));
    }

    /// Takes what was left.
    pub fn take_left(&self) -> Vec<(NodeId, bool)> {
        std::mem::take(&mut *self.left.lock())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nobody_passes_from_when_it_is_to_begin() {
        let still = Standstill::default();
        let passing = still.pass().expect("nothing is under way");
        std::thread::scope(|s| {
            s.spawn(|| drop(still.begin()));
            // Those who come do not keep it from beginning.
            while still.pass().is_some() {
                std::thread::yield_now();
            }
            drop(passing);
        });
        assert!(still.pass().is_some());
        let _standing = still.begin();
        assert!(still.pass().is_none());
    }
}
