//! Commands that go on, and what was made for them: it stays until they have ended.
//!
//! A step is what the changes of its command are told against, and what they are put back to. Where a trial covers the tree on a
//! name of it (the root of a bind mount, a clone in `.clones`) whoever has the kernel drop that name takes the cover away, in
//! whatever mount namespace it is, and the trial would go on in the live tree. Whether a command goes on is asked when it
//! matters; nothing waits for its end, and nobody has to say it.

use crate::format::ViewId;
use crate::fs::options::CLONEDIR_NAME;
use parking_lot::{Mutex, RwLock, RwLockReadGuard, RwLockWriteGuard};

/// Tells whether a command goes on. Asked from any thread and under locks: it waits for nothing.
pub type GoesOn = Box<dyn Fn() -> bool + Send + Sync>;

/// A trial covers the tree on a name of it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Cover {
    /// Its clone.
    pub trial: Vec<u8>,
    /// What is covered: its path from the root of the mount.
    pub path: Vec<u8>,
}

impl Cover {
    /// The clones that its path leads through, and the rest of it in the last.
    fn way(&self) -> (Vec<&[u8]>, &[u8]) {
        let (mut lines, mut rest) = (Vec::new(), &self.path[..]);
        while let Some(way) = rest.strip_prefix(CLONEDIR_NAME).and_then(|way| way.strip_prefix(b"/")) {
            let end = way.iter().position(|byte| *byte == b'/').unwrap_or(way.len());
            lines.push(&way[..end]);
            rest = way.get(end + 1..).unwrap_or_default();
        }
        (lines, rest)
    }

    /// True if its place is lost when the names of a clone are dropped with that of the clone itself; of the main line, if no
    /// name is given, when those are.
    pub fn hangs_on(&self, clone: Option<&[u8]>) -> bool {
        let lines = self.way().0;
        clone.map_or(lines.is_empty(), |clone| lines.contains(&clone))
    }

    /// Its path in this line, if it is there that it covers something.
    pub fn inside(&self, clone: Option<&[u8]>) -> Option<&[u8]> {
        let (lines, rest) = self.way();
        (lines.last().copied() == clone).then_some(rest)
    }
}

struct Command {
    step: ViewId,
    goes_on: GoesOn,
    covers: Vec<Cover>,
}

/// All of them. Any thread. Lock order: `dropping` before that of snapshots; `all` is a leaf.
#[derive(Default)]
pub struct UnderWay {
    all: Mutex<Vec<Command>>,
    /// Shared by who is about to drop names, and has seen what covers hang on them.
    dropping: RwLock<()>,
}

impl UnderWay {
    /// A command begins, and this step is its own. Called before anybody else could take the step away.
    pub fn begin(&self, step: ViewId, goes_on: GoesOn) {
        let mut all = self.all.lock();
        all.retain(|command| (command.goes_on)());
        all.push(Command { step, goes_on, covers: Vec::new() });
    }

    /// True if a command goes on that needs this step.
    pub fn needs(&self, step: ViewId) -> bool {
        self.all.lock().iter().any(|command| command.step == step && (command.goes_on)())
    }

    /// No cover comes while this is held.
    pub fn keep_covers(&self) -> RwLockReadGuard<'_, ()> {
        self.dropping.read()
    }

    /// The same without waiting; none if one comes just now.
    pub fn keep_covers_now(&self) -> Option<RwLockReadGuard<'_, ()>> {
        self.dropping.try_read_recursive()
    }

    /// From here on the command that has this step covers this; what it has covered before it does no more. False if there is none.
    pub fn set_covers(&self, step: ViewId, covers: Vec<Cover>) -> bool {
        let mut all = self.all.lock();
        let command = all.iter_mut().find(|command| command.step == step);
        command.map(|command| command.covers = covers).is_some()
    }

    /// Held alone while covers come: nobody drops names without having seen them.
    pub fn change_covers(&self) -> RwLockWriteGuard<'_, ()> {
        self.dropping.write()
    }

    /// The covers of all trials that go on.
    pub fn covers(&self) -> Vec<Cover> {
        let all = self.all.lock();
        let covering = all.iter().filter(|command| !command.covers.is_empty() && (command.goes_on)());
        covering.flat_map(|command| command.covers.clone()).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn covers_are_told_by_line() {
        let cover = |path: &[u8]| Cover { trial: b"t".to_vec(), path: path.to_vec() };
        for (path, lines, inside) in [
            (&b"a/b"[..], &[][..], &b"a/b"[..]),
            (b".clones/x", &[&b"x"[..]], b""),
            (b".clones/x/a/.clones/b", &[b"x"], b"a/.clones/b"),
            (b".clones/x/.clones/y/a", &[b"x", b"y"], b"a"),
            (b".clones", &[], b".clones"),
        ] {
            assert_eq!(cover(path).way(), (lines.to_vec(), inside));
        }
        let nested = cover(b".clones/x/.clones/y/a");
        assert!(nested.hangs_on(Some(b"x")) && nested.hangs_on(Some(b"y")) && !nested.hangs_on(None));
        assert_eq!((nested.inside(Some(b"y")), nested.inside(Some(b"x"))), (Some(&b"a"[..]), None));
        assert!(cover(b"a").hangs_on(None) && cover(b"a").inside(None).is_some());
    }
}
