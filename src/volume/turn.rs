//! A turn at something: one at a time has it, and readers go on until it is to be changed.

use parking_lot::{RwLock, RwLockUpgradableReadGuard, RwLockWriteGuard};

/// The turn of one who may change what is behind a lock. Others who want it wait; whoever only reads does not, until
/// [`Turn::alone`] is asked for. From then on readers wait too, so no device may be waited for.
///
/// A lock of parking_lot has those that wait for it keep readers out only once nobody has the turn.
///
/// Whoever has several asks to be alone in the order in which readers lock.
pub struct Turn<'a, T>(Option<Turning<'a, T>>);

enum Turning<'a, T> {
    Shared(RwLockUpgradableReadGuard<'a, T>),
    Alone(RwLockWriteGuard<'a, T>),
}

impl<'a, T> Turn<'a, T> {
    /// Waits for the turn of whoever has it.
    pub fn of(lock: &'a RwLock<T>) -> Turn<'a, T> {
        Turn(Some(Turning::Shared(lock.upgradable_read())))
    }

    /// True if readers wait.
    pub fn is_alone(&self) -> bool {
        matches!(self.0, Some(Turning::Alone(_)))
    }

    /// Waits for the readers that are there, and has those that come wait.
    pub fn alone(&mut self) -> &mut T {
        if let Some(Turning::Shared(_)) = self.0
            && let Some(Turning::Shared(guard)) = self.0.take()
        {
            self.0 = Some(Turning::Alone(RwLockUpgradableReadGuard::upgrade(guard)));
        }
        match &mut self.0 {
            Some(Turning::Alone(guard)) => guard,
            _ => unreachable!("taken only to be put back"),
        }
    }

    /// Lets readers in again.
    pub fn share(&mut self) {
        self.0 = self.0.take().map(|held| match held {
            Turning::Alone(guard) => Turning::Shared(RwLockWriteGuard::downgrade_to_upgradable(guard)),
            shared => shared,
        });
    }
}

impl<T> std::ops::Deref for Turn<'_, T> {
    type Target = T;
    fn deref(&self) -> &T {
        match &self.0 {
            Some(Turning::Shared(guard)) => guard,
            Some(Turning::Alone(guard)) => guard,
            None => unreachable!("taken only to be put back"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn readers_go_on_until_it_is_to_be_changed_whoever_waits_for_a_turn() {
        let lock = RwLock::new(1);
        let mut turn = Turn::of(&lock);
        std::thread::scope(|s| {
            // These wait, and must not keep readers out.
            s.spawn(|| *Turn::of(&lock).alone() += 1);
            s.spawn(|| *lock.write() += 1);
            for _ in 0..1000 {
                assert_eq!(*s.spawn(|| *lock.read()).join().as_ref().unwrap(), 1);
            }
            *turn.alone() = 5;
            assert!(turn.is_alone() && lock.try_read().is_none());
            turn.share();
            assert_eq!((*turn, *lock.read()), (5, 5));
            drop(turn);
        });
        assert_eq!(*lock.read(), 7);
    }
}
