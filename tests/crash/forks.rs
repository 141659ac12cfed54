//! What a workload does to lines: it makes them, turns to one of them, and drops them.

use snapfs::fs::{
    Fs, MergeRefusal, MergeWay, OpenForWriting, Promoted, Reason, Refusal, Switched, TakenBack, Undoable,
};
use snapfs::ops::{Error, NodeId, Operations, Result, XattrMode};
use snapfs::volume::SnapshotInfo;
use std::cell::{Cell, RefCell};

use crate::lines::{LineKey, MAIN, Model};
use crate::observe::ADMIN;
use crate::past;
use crate::reference::{Expect, Snapshot, Why};
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
        self.learn_snapshot(&line, snapshot.as_bytes(), id);
        let real = |fs: &Fs| fs.create_line(bytes, past::find(fs, &line, snapshot.as_bytes())?.id);
        let what = format!("fork {name} from {snapshot}");
        if let Some((root, line)) = self.run(what, Kind::Durable, real, |model| model.fork(bytes, id)) {
            self.numbers.lines.insert(line, root);
            self.learn_base(line);
            self.model.turn_to(line);
        }
    }

    /// Makes a line that begins as the line at hand is now, and turns to it.
    pub fn clone_line(&mut self, name: &str) {
        let (bytes, root) = (name.as_bytes(), self.root());
        let base = Cell::new(None);
        let real = |fs: &Fs| {
            let made = past::clone_line(fs, root, bytes);
            base.set(past::line_of(fs, bytes).ok().and_then(|line| line.base));
            made
        };
        // Whether the newest point will do depends on what was written, be it the same.
        let bases = self.numbers.bases.clone();
        let make = |model: &mut Model| {
            let is_base = |point: &u64| base.get().is_some() && bases.get(point).copied() == base.get();
            let newest = model.past.last().copied().filter(is_base);
            model.clone_line(bytes, newest)
        };
        let what = format!("clone {name}");
        if let Some((root, line)) = self.run(what, Kind::Durable, real, make) {
            self.numbers.lines.insert(line, root);
            self.learn_base(line);
            self.model.turn_to(line);
        }
    }

    /// Rolls the line at hand back to a snapshot that it shows. What is held in it is of no use any more.
    pub fn roll_back(&mut self, snapshot: &str) {
        let (name, root) = (snapshot.as_bytes(), self.root());
        let Some(target) = self.model.find_snapshot(name).cloned() else {
            assert!(self.excuse != Excuse::Nothing, "no snapshot {snapshot}: the workload is wrong");
            return;
        };
        self.learn_snapshot(&self.model.name.clone(), name, target.id);
        let switch = |fs: &Fs| {
            let to = fs.snapshot_of_word(root, name)?;
            fs.rollback(root, &to, OpenForWriting::CutOff, &Reason::Rollback.into())
        };
        self.switch(format!("roll back to {snapshot}"), &target, switch);
    }

    /// The line at hand becomes what a snapshot is.
    fn switch(&mut self, what: String, target: &Snapshot, switch: impl FnOnce(&Fs) -> Result<Switched>) {
        let (line, guard) = (self.model.at(), RefCell::new(None));
        let real = |fs: &Fs| match switch(fs)? {
            Switched::Done(made) => {
                *guard.borrow_mut() = Some(made.name.clone());
                Ok(past::root_of(&made))
            }
            Switched::Refused(_) => Err(Error::Busy),
        };
        let model = |model: &mut Model| Ok(model.switch(target, guard.borrow().as_deref()));
        // Also if it fails: what stops the store may come when the line has another head.
        self.is_switched = true;
        let done = self.run(what, Kind::Durable, real, model);
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
        let why = (Why::Change(None), false);
        self.change_at_once(format!("restore {snapshot}"), real, change, why, || None);
    }

    /// Merges a clone into the line that it was made from, or rebases it, if that is there and nothing of them is held.
    pub fn merge(&mut self, clone: LineKey, way: MergeWay) {
        let from = self.model.line(clone).from;
        let Some(line) = from.filter(|from| self.lines().contains(from)) else { return };
        let (source, target) = if way == MergeWay::Rebase { (line, clone) } else { (clone, line) };
        let (root, name) = (self.numbers.root(line), self.model.line(clone).name.clone());
        let (merged, what) = (self.model.merged(clone, source, target), format!("{way:?} of line {clone}"));
        let here = self.model.at();
        self.model.turn_to(source);
        self.held_here().iter().for_each(|tag| self.let_go(tag));
        self.model.turn_to(target);
        let is_dropped = Cell::new(way == MergeWay::Merge);
        let real = |fs: &Fs| match past::merge(fs, root, &name, way) {
            Ok(done) => {
                // One that is gone here comes back if the device does not take that.
                is_dropped.set(done.dropped || past::line_id(fs, &name).is_err());
                Ok(done.guards)
            }
            Err(MergeRefusal::Conflicts(_) | MergeRefusal::NoBase) => Err(Error::Exists),
            Err(MergeRefusal::Refused(Refusal::Failed(e))) => Err(e),
            Err(other) => panic!("{way:?} of line {clone}: {other:?}"),
        };
        if let Some(Some(after)) = merged {
            let number = self.model.take_number();
            let change = |model: &mut Model| {
                model.bring_together(clone, [source, target], number);
                model.live.clone_from(&after);
            };
            let dropped = || is_dropped.get().then_some(clone);
            if self.change_at_once(what, real, change, (Why::Change(Some(number)), true), dropped) {
                self.learn_base(clone);
            }
            if !self.lines().contains(&clone) {
                self.let_go_of_line(clone);
            }
        } else {
            self.run(what, Kind::Change, real, |_| Expect::<()>::Err(vec![Error::Exists]));
        }
        self.model.turn_to(here);
    }

    /// Learns the number of a snapshot, which lines may be compared with.
    fn learn_snapshot(&mut self, line: &[u8], name: &[u8], id: u64) {
        if let Ok(real) = past::find(&self.fs(), line, name) {
            self.numbers.bases.insert(id, real.id);
        }
    }

    /// Learns what a line is compared with since the system did that.
    fn learn_base(&mut self, line: LineKey) {
        let Some((_, of)) = self.model.lines().find(|(key, _)| *key == line) else { return };
        let real = past::line_of(&self.fs(), &of.name).ok().and_then(|line| line.base);
        if let (Some(base), Some(real)) = (&of.base, real) {
            self.numbers.bases.entry(base.number).or_insert(real);
        }
    }

    /// Takes back what was done to the line at hand at last, if that can be taken back.
    pub fn undo(&mut self) {
        if let Some(at) = self.model.deletion_to_undo() {
            return self.undelete(at);
        }
        let guards = self.model.last_undoable().map(|(before, after)| (before.clone(), after.cloned()));
        let Some((before, after)) = guards else { return };
        let root = self.root();
        let Some(after) = after else {
            let switch = |fs: &Fs| Ok(fs.undo(root, OpenForWriting::CutOff)?.ok_or(Error::NotFound)?.1);
            return self.switch("undo of a switch".into(), &before, switch);
        };
        let real = |fs: &Fs| {
            let undoable = fs.last_undoable(root)?;
            let Some(Undoable::Change(change)) = undoable else { panic!("could take back {undoable:?}") };
            match fs.take_back(root, &change, &Reason::Undo.into()) {
                Ok(TakenBack::Done(done)) => Ok(done.guards),
                Ok(TakenBack::Conflicts(_)) => Err(Error::Exists),
                Err(Refusal::Failed(e)) => Err(e),
                Err(refusal) => panic!("undo: {refusal:?}"),
            }
        };
        let what = "undo of a change".to_string();
        match (self.model.taken_back(&before, &after), before.why) {
            (Some(tree), Why::Change(parted)) => {
                let change = |model: &mut Model| {
                    parted.into_iter().for_each(|number| model.part(number));
                    model.live.clone_from(&tree);
                };
                self.change_at_once(what, real, change, (Why::Change(None), true), || None);
            }
            _ => drop(self.run(what, Kind::Change, real, |_| Expect::<()>::Err(vec![Error::Exists]))),
        }
    }

    /// Has a clone become the line that it was made from, if that is there. What is held in them is of no use any more.
    pub fn promote(&mut self, clone: LineKey) {
        let from = self.model.line(clone).from;
        let Some(line) = from.filter(|from| self.lines().contains(from)) else { return };
        if self.model.name_of_both(clone, line) {
            return;
        }
        let names = [clone, line].map(|line| self.model.line(line).name.clone());
        let (here, guard) = (self.model.at(), RefCell::new(None));
        self.model.turn_to(line);
        let real = |fs: &Fs| match past::promote(fs, &names[0], &names[1], OpenForWriting::CutOff)? {
            Promoted::Switched(Switched::Done(made)) => {
                *guard.borrow_mut() = Some(made.name.clone());
                Ok(past::root_of(&made))
            }
            other => panic!("promote line {clone}: {other:?}"),
        };
        let model = |model: &mut Model| Ok(model.promote(clone, guard.borrow().as_deref()));
        self.is_switched = true;
        if let Some((guard, id)) = self.run(format!("promote line {clone}"), Kind::Durable, real, model) {
            self.numbers.views.insert(id, guard.tree());
            self.let_go_of_line(clone);
            self.let_go_of_line(line);
        }
        self.model.turn_to(here);
    }

    /// A change of the line at hand between two guards, and then a line may go. A crash may leave the first alone, or both but
    /// the second. True if it was done.
    fn change_at_once(
        &mut self,
        what: String,
        real: impl FnOnce(&Fs) -> Result<Option<(SnapshotInfo, SnapshotInfo)>>,
        change: impl Fn(&mut Model),
        (why, is_synced): (Why, bool),
        dropped: impl Fn() -> Option<LineKey>,
    ) -> bool {
        let (guards, before) = (RefCell::new(None), self.model.clone());
        let is_done = Cell::new(false);
        let real = |fs: &Fs| {
            real(fs).inspect(|made| {
                is_done.set(true);
                *guards.borrow_mut() = made.clone();
            })
        };
        // Where nothing is to be changed nothing is kept.
        let steps = |of: &Option<(SnapshotInfo, SnapshotInfo)>, has_guards: bool| {
            let (first, last) = (of.as_ref().map(|of| &of.0.name[..]), of.as_ref().map(|of| &of.1.name[..]));
            let mut states = vec![before.clone()];
            let mut next = |step: &dyn Fn(&mut Model)| {
                let mut model = states.last().expect("one").clone();
                step(&mut model);
                states.push(model);
            };
            if has_guards {
                next(&|model| {
                    model.guard(first, why);
                });
            }
            next(&|model| change(model));
            if has_guards {
                next(&|model| {
                    model.guard(last, Why::Changed);
                });
            }
            if let Some(line) = dropped() {
                next(&|model| model.drop_merged(line));
            }
            states
        };
        // Files that are held may be among those that would change.
        let tags = self.held_here();
        tags.iter().for_each(|tag| self.let_go(tag));
        let moments = self.history.len();
        let model = |model: &mut Model| {
            let made = guards.borrow();
            *model = steps(&made, made.is_some() || !is_done.get()).pop().expect("some");
            Ok(())
        };
        let done = self.run(what, Kind::Durable, real, model);
        let made = guards.borrow().clone();
        if let Some(moment) = self.history.get_mut(moments) {
            moment.steps = steps(&made, made.is_some());
            if !is_done.get() {
                moment.steps.extend(steps(&made, true));
            }
            // Where nothing was changed nothing was made durable.
            moment.acknowledged &= made.is_some() || is_synced;
        }
        if let (Some(_), Some(made)) = (&done, &made) {
            for info in [&made.0, &made.1] {
                let id = self.model.snapshots[&info.name].id;
                self.numbers.views.insert(id, past::root_of(info).tree());
            }
        }
        done.is_some()
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

    /// Has what is deleted from now on be in the trash, or go for good. A store without room has none.
    pub fn keep_trash(&mut self, on: bool) {
        if self.excuse != Excuse::Nothing {
            return;
        }
        let value: &[u8] = if on { b"1h" } else { b"none" };
        let real = |fs: &Fs| fs.setxattr(&ADMIN, NodeId::ROOT, b"user.snapfs.trash", value, XattrMode::Set);
        self.run(format!("trash {on}"), Kind::Change, real, |model| {
            model.keeps_trash = on;
            Ok(())
        });
    }

    /// Things in the trash.
    pub fn trash(&self) -> usize {
        self.model.trash().len()
    }

    /// Brings one of them back under its name.
    pub fn undelete(&mut self, at: usize) {
        let name = self.model.trash()[at].name.clone();
        let real = |fs: &Fs| fs.undelete(&fs.volume().trash()[at], &name);
        self.run(format!("undelete {at}"), Kind::Durable, real, |model| model.undelete(at, &name));
    }

    /// Has one of them go for good.
    pub fn empty_trash(&mut self, at: usize) {
        let real = |fs: &Fs| fs.empty_trash(fs.volume().trash()[at].number);
        self.run(format!("empty {at} of the trash"), Kind::MakesRoom, real, |model| {
            model.empty_trash(at);
            Ok(())
        });
    }

    pub fn rename_line(&mut self, line: LineKey, to: &str) {
        let old = self.model.line(line).name.clone();
        let real = |fs: &Fs| past::rename_line(fs, &old, to.as_bytes());
        self.run(format!("rename line {line} {to}"), Kind::Change, real, |model| {
            model.rename_line(line, to.as_bytes())
        });
    }
}
