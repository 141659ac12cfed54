//! What a workload does to lines: it makes them, turns to one of them, and drops them.

use snapfs::fs::{Fs, OpenForWriting, Reason, Refusal, Switched};
use snapfs::ops::{Error, Result};
use snapfs::volume::SnapshotInfo;
use std::cell::{Cell, RefCell};

use crate::lines::{LineKey, MAIN, Model};
use crate::past;
use crate::world::{Excuse, Kind, World};

impl World {
    /// What follows is meant for this line, the main line if it is gone.
    pub fn turn_to(&mut self, line: LineKey) {
        self.model.turn_to(line);
    }

    /// All lines, the main line first.
    pub fn lines(&self) -> Vec<LineKey> {
        self.model.lines().map(|(key, _)| key).collect()
    }

    /// Makes a line that begins as a snapshot is that the line at hand shows, and turns to it.
    pub fn fork(&mut self, name: &str, snapshot: &str) {
        let (bytes, line) = (name.as_bytes(), self.model.name.clone());
        let Some(id) = self.model.find_snapshot(snapshot.as_bytes()).map(|s| s.id) else {
            assert!(self.excuse != Excuse::Nothing, "no snapshot {snapshot}: the workload is wrong");
            return;
        };
        let real = |fs: &Fs| fs.create_line(bytes, past::find(fs, &line, snapshot.as_bytes())?.id);
        let what = format!("fork {name} from {snapshot}");
        if let Some((root, line)) = self.run(what, Kind::Durable, real, |model| model.fork(bytes, id)) {
            self.numbers.lines.insert(line, root);
            self.model.turn_to(line);
        }
    }

    /// Makes a line that begins as the line at hand is now, and turns to it.
    pub fn clone_line(&mut self, name: &str) {
        let (bytes, root) = (name.as_bytes(), self.root());
        let real = |fs: &Fs| past::clone_line(fs, root, bytes);
        let what = format!("clone {name}");
        if let Some((root, line)) = self.run(what, Kind::Durable, real, |model| model.clone_line(bytes)) {
            self.numbers.lines.insert(line, root);
            self.model.turn_to(line);
        }
    }

    /// Rolls the line at hand back to a snapshot that it shows. What is held in it is of no use any more.
    pub fn roll_back(&mut self, snapshot: &str) {
        let (name, root, line) = (snapshot.as_bytes(), self.root(), self.model.at());
        let Some(target) = self.model.find_snapshot(name).cloned() else {
            assert!(self.excuse != Excuse::Nothing, "no snapshot {snapshot}: the workload is wrong");
            return;
        };
        let guard = RefCell::new(None);
        let real = |fs: &Fs| {
            let to = fs.snapshot_of_word(root, name)?;
            match fs.rollback(root, &to, OpenForWriting::CutOff, &Reason::Rollback.into())? {
                Switched::Done(made) => {
                    *guard.borrow_mut() = Some(made.name.clone());
                    Ok(past::root_of(&made))
                }
                Switched::Refused(_) => Err(Error::Busy),
            }
        };
        let model = |model: &mut Model| Ok(model.switch(&target, guard.borrow().as_deref()));
        // Also if it fails: what stops the store may come when the line has another head.
        self.is_switched = true;
        let done = self.run(format!("roll back to {snapshot}"), Kind::Durable, real, model);
        if let Some((guard, id)) = done {
            self.numbers.views.insert(id, guard.tree());
            self.let_go_of_line(line);
        }
    }

    /// Puts back all that a snapshot has.
    pub fn restore(&mut self, snapshot: &str) {
        let (word, root) = (snapshot.as_bytes(), self.root());
        let Some(then) = self.model.find_snapshot(word).cloned() else {
            assert!(self.excuse != Excuse::Nothing, "no snapshot {snapshot}: the workload is wrong");
            return;
        };
        let real = |fs: &Fs| match past::restore(fs, root, word) {
            Ok(guards) => Ok(guards),
            Err(Refusal::Failed(e)) => Err(e),
            Err(refusal) => panic!("restore {snapshot}: {refusal:?}"),
        };
        let change = |model: &mut Model| model.live = model.restored(&then);
        self.change_at_once(format!("restore {snapshot}"), real, change);
    }

    /// A change of the line at hand between two guards. A crash may leave the first alone, or both but the second.
    fn change_at_once(
        &mut self,
        what: String,
        real: impl FnOnce(&Fs) -> Result<Option<(SnapshotInfo, SnapshotInfo)>>,
        change: impl Fn(&mut Model),
    ) {
        let (guards, before) = (RefCell::new(None), self.model.clone());
        let is_done = Cell::new(false);
        let real = |fs: &Fs| {
            real(fs).inspect(|made| {
                is_done.set(true);
                *guards.borrow_mut() = made.clone();
            })
        };
        let steps = |of: &Option<(SnapshotInfo, SnapshotInfo)>| {
            let (first, last) = (of.as_ref().map(|of| &of.0.name[..]), of.as_ref().map(|of| &of.1.name[..]));
            let mut states = vec![before.clone()];
            let mut next = |step: &dyn Fn(&mut Model)| {
                let mut model = states.last().expect("one").clone();
                step(&mut model);
                states.push(model);
            };
            next(&|model| {
                model.guard(first);
            });
            next(&|model| change(model));
            next(&|model| {
                model.guard(last);
            });
            states
        };
        // Files that are held may be among those that would change.
        let tags = self.held_here();
        tags.iter().for_each(|tag| self.let_go(tag));
        let moments = self.history.len();
        let model = |model: &mut Model| {
            match &*guards.borrow() {
                // Where nothing is to be changed nothing is kept.
                None if is_done.get() => change(model),
                of => *model = steps(of).pop().expect("some"),
            }
            Ok(())
        };
        let done = self.run(what, Kind::Durable, real, model);
        let made = guards.borrow().clone();
        if let Some(moment) = self.history.get_mut(moments) {
            moment.steps = steps(&made);
            // Where nothing was changed nothing was made durable.
            moment.acknowledged &= made.is_some();
        }
        if let (Some(_), Some(made)) = (done, &made) {
            for info in [&made.0, &made.1] {
                let id = self.model.snapshots[&info.name].id;
                self.numbers.views.insert(id, past::root_of(info).tree());
            }
        }
    }

    /// Drops a line, which is not the main line, with its snapshots.
    pub fn drop_line(&mut self, line: LineKey) {
        let (root, name) = (self.numbers.root(line), self.model.line(line).name.clone());
        let real = |fs: &Fs| past::drop_line(fs, &name, root);
        if line != MAIN
            && self
                .run(format!("drop line {line}"), Kind::Sync, real, |model| model.drop_line(line))
                .is_some()
        {
            self.let_go_of_line(line);
        }
    }

    pub fn rename_line(&mut self, line: LineKey, to: &str) {
        let old = self.model.line(line).name.clone();
        let real = |fs: &Fs| past::rename_line(fs, &old, to.as_bytes());
        self.run(format!("rename line {line} {to}"), Kind::Change, real, |model| {
            model.rename_line(line, to.as_bytes())
        });
    }
}
