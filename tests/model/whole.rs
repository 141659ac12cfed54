//! What operations on a line as a whole do to the system and to the model.

use snapfs::fs::{
    MergeRefusal, MergeWay, OpenForWriting, Promoted, Reason, Refusal, Switched, TakenBack, Undoable,
};
use snapfs::ops::{Error, Result};
use snapfs::volume::SnapshotInfo;

use crate::generate::Pick;
use crate::lines::{LineKey, MAIN, Model};
use crate::past;
use crate::reference::{Body, Id, Snapshot, Tree, Why};
use crate::run::{Runner, Step, only};

/// A change at once of the line at hand, as the model has it.
#[derive(Default)]
struct AtOnce {
    after: Tree,
    /// A clone that is compared with another line as it is, from then on.
    base: Option<(LineKey, LineKey)>,
    /// The number of what nothing is compared with any more.
    parted: Option<u64>,
    /// A line that goes afterwards.
    dropped: Option<LineKey>,
    /// All is durable then, also if nothing was to be changed.
    is_synced: bool,
}

impl AtOnce {
    fn to(after: Tree) -> AtOnce {
        AtOnce { after, ..AtOnce::default() }
    }

    /// Does it, but for the guards.
    fn take_over(&self, model: &mut Model, number: Option<u64>) {
        if let (Some((clone, with)), Some(number)) = (self.base, number) {
            let at = model.at();
            model.bring_together(clone, [with, at], number);
        }
        self.parted.into_iter().for_each(|number| model.part(number));
        model.live.clone_from(&self.after);
    }
}

fn writers(force: bool) -> OpenForWriting {
    if force { OpenForWriting::CutOff } else { OpenForWriting::Spared }
}

impl Runner {
    /// Who has files open in the line gets nothing out of them any more, or, being a writer, keeps the line from it.
    pub(crate) fn roll_back_in_use(&mut self, name: Pick, force: bool) -> Step {
        let (name, root) = (self.old_snapshot(name), self.root());
        let target = self.model.find_snapshot(&name).cloned();
        let (Some(target), Some(fs)) = (target, self.subject.fs()) else { return Ok(()) };
        let to = fs.snapshot_of_word(root, &name);
        let answer = to.and_then(|to| fs.rollback(root, &to, writers(force), &Reason::Rollback.into()));
        self.switched(&target, force, answer)
    }

    /// What was done last is taken back, if its guards are there.
    pub(crate) fn undo(&mut self, force: bool) -> Step {
        let (root, guards) = (self.root(), self.model.last_undoable());
        let deleted = self.model.deletion_to_undo();
        let guards = guards.map(|(before, after)| (before.clone(), after.cloned()));
        let Some(fs) = self.subject.fs() else { return Ok(()) };
        let real = fs.last_undoable(root).map_err(|e| format!("asking what can be taken back: {e:?}"))?;
        let is_guard = |real: &SnapshotInfo, guard: &Snapshot| {
            self.numbers.views.get(&guard.id) == Some(&past::root_of(real).tree())
        };
        if let Some(at) = deleted {
            let all = fs.volume().trash();
            return match (real, all.get(at)) {
                (Some(Undoable::Deletion(real)), Some(trash)) if *real == *trash => {
                    let name = self.model.trash()[at].name.clone();
                    self.bring_back(at, &name)
                }
                (real, trash) => Err(format!("could take back {real:?}, and not the deletion of {trash:?}")),
            };
        }
        match (real, guards) {
            (None, None) => Ok(()),
            (Some(Undoable::Switch(real)), Some((guard, None))) if is_guard(&real, &guard) => {
                match fs.undo(root, writers(force)) {
                    Ok(Some((to, done))) if is_guard(&to, &guard) => self.switched(&guard, force, Ok(done)),
                    Err(e) => self.switched(&guard, force, Err(e)),
                    other => Err(format!("answered {other:?}")),
                }
            }
            (Some(Undoable::Change(real)), Some((before, Some(after))))
                if is_guard(&real.before, &before) && is_guard(&real.after, &after) =>
            {
                let answer = fs.take_back(root, &real, &Reason::Undo.into());
                self.taken_back(&before, &after, answer)
            }
            (real, guards) => {
                let told = guards.map(|(before, after)| (before.id, after.map(|after| after.id)));
                Err(format!("could take back {real:?}, and not {told:?}"))
            }
        }
    }

    fn taken_back(
        &mut self,
        before: &Snapshot,
        after: &Snapshot,
        answer: std::result::Result<TakenBack, Refusal>,
    ) -> Step {
        let Some(tree) = self.model.taken_back(before, after) else {
            return match answer {
                Ok(TakenBack::Conflicts(all)) if !all.is_empty() => {
                    self.done.conflicts += 1;
                    self.check_live()
                }
                Err(refusal) => Err(format!("failed: {refusal:?}")),
                _ => Err("was taken back in spite of conflicts".into()),
            };
        };
        let Why::Change(parted) = before.why else { return Err("is no change".into()) };
        let change = AtOnce { parted, is_synced: true, ..AtOnce::to(tree) };
        match answer {
            Ok(TakenBack::Done(done)) => {
                self.done.taken_back += 1;
                self.changed_at_once(&change, Ok(done.guards))
            }
            Ok(TakenBack::Conflicts(all)) => Err(format!("conflicts: {all:?}")),
            Err(refusal) => self.changed_at_once(&change, Err(refusal)),
        }
    }

    /// All that a snapshot has is put back.
    pub(crate) fn restore(&mut self, from: Pick) -> Step {
        let (word, root) = (self.old_snapshot(from), self.root());
        let snapshot = self.model.find_snapshot(&word).cloned();
        let (Some(snapshot), true) = (snapshot, self.subject.fs().is_some()) else { return Ok(()) };
        let after = self.model.restored(&snapshot);
        let fs = self.subject.fs().expect("checked");
        let answer = past::restore(fs, root, &word);
        self.changed_at_once(&AtOnce::to(after), answer)
    }

    /// A clone is merged into the line that it was made from, or gets what that has changed.
    pub(crate) fn merge(&mut self, clone: Pick, way: MergeWay, closed: bool) -> Step {
        let clones: Vec<_> = self.model.lines().skip(1).map(|(key, line)| (key, line.from)).collect();
        if clones.is_empty() || self.subject.fs().is_none() {
            return Ok(());
        }
        let (clone, from) = clones[clone as usize % clones.len()];
        let above = from.filter(|from| self.model.lines().any(|(key, _)| key == *from));
        let at = self.model.at();
        let line = above.unwrap_or(if at == clone { MAIN } else { at });
        let (source, target) = if way == MergeWay::Rebase { (line, clone) } else { (clone, line) };
        if closed {
            self.on(source, |there| there.release_line())?;
        }
        let written =
            if way == MergeWay::Rebase { 0 } else { self.on(source, |there| there.writers().len()) };
        let Some(fs) = self.subject.fs() else { return Ok(()) };
        let answer = past::merge(fs, self.numbers.root(line), &self.model.line(clone).name, way);
        match (answer, self.model.merged(clone, source, target)) {
            // If that line is gone another takes its place.
            (Err(MergeRefusal::OtherLine(_)), _) if above.is_none() => Ok(()),
            (Err(MergeRefusal::CloneWriters(_, count)), _) if written > 0 && count == written => Ok(()),
            (answer, _) if written > 0 => {
                Err(format!("answered {answer:?} with {written} files being written"))
            }
            (Err(MergeRefusal::NoBase), None) => Ok(()),
            (Err(MergeRefusal::Conflicts(all)), Some(None)) if !all.is_empty() => {
                self.done.conflicts += 1;
                self.on(source, |there| there.check_live())?;
                self.on(target, |there| there.check_live())
            }
            (answer, Some(Some(after))) => {
                let base = Some((clone, source));
                let is_held = self.model.line(clone).is_held();
                let dropped = (way == MergeWay::Merge && !is_held).then_some(clone);
                let change = AtOnce { base, dropped, is_synced: true, ..AtOnce::to(after) };
                let answer = match answer {
                    // Whether a clone goes while the power is cut is not known.
                    Ok(done) if done.dropped == dropped.is_some() || self.subject.lost_power() => {
                        self.done.merges += 1;
                        Ok(done.guards)
                    }
                    Err(MergeRefusal::Refused(refusal)) => Err(refusal),
                    other => return Err(format!("answered {other:?}")),
                };
                self.on(target, |there| there.changed_at_once(&change, answer))
            }
            (answer, merged) => Err(format!("answered {answer:?}, and it has a base: {}", merged.is_some())),
        }
    }

    /// A clone becomes the line that it was made from, or another.
    pub(crate) fn promote(&mut self, clone: Pick, onto: Pick, force: bool) -> Step {
        let clones: Vec<_> = self.model.lines().skip(1).map(|(key, line)| (key, line.from)).collect();
        let Some((clone, from)) = clones.get(clone as usize % clones.len().max(1)).copied() else {
            return Ok(());
        };
        let above = from.filter(|from| self.model.lines().any(|(key, _)| key == *from));
        let onto = above.filter(|_| !onto.is_multiple_of(4)).unwrap_or(self.old_line(onto / 4));
        let Some(fs) = self.subject.fs().filter(|_| onto != clone) else { return Ok(()) };
        // Which names such get depends on when they were made: `fs::tests::rollback` has that.
        if self.model.automatic_name_of_both(clone, onto) {
            return Ok(());
        }
        let names = [clone, onto].map(|line| self.model.line(line).name.clone());
        let answer = past::promote(fs, &names[0], &names[1], writers(force));
        let gone = self.numbers.root(clone);
        let written = [clone, onto].map(|line| self.on(line, |there| there.writers().len()));
        let written: usize = written.iter().sum();
        self.on(onto, |here| match answer {
            Ok(Promoted::NameTaken(_)) if here.model.name_of_both(clone, onto) => Ok(()),
            Ok(Promoted::Switched(Switched::Refused(way)))
                if !force && written > 0 && way.written.len() == written =>
            {
                Ok(())
            }
            Ok(Promoted::Switched(Switched::Done(guard)))
                if (force || written == 0) && !here.model.name_of_both(clone, onto) =>
            {
                here.done.promotions += 1;
                let id = here.model.promote(clone, Some(&guard.name));
                here.numbers.views.insert(id, past::root_of(&guard).tree());
                here.durable();
                here.is_fresh(guard.slot, guard.generation)?;
                let line = here.subject.fs().and_then(|fs| past::line_of(fs, &names[1]).ok());
                let line = line.ok_or("the line is gone")?;
                here.is_fresh(line.slot, line.head_generation)?;
                here.line_is_gone(clone)?;
                here.line_is_gone(onto)?;
                Self::agree(here.subject.ops().getattr(gone, None), only::<()>(&[Error::Stale]))?;
                here.check_all()
            }
            Err(why) => {
                // Cut off by the end of power: it may be done all the same.
                here.model.promote(clone, None);
                Err(format!("failed: {why:?}"))
            }
            other => Err(format!("answered {other:?} with {written} files open for writing")),
        })
    }

    /// A line was changed at once, or not.
    fn changed_at_once(
        &mut self,
        change: &AtOnce,
        answer: std::result::Result<Option<(SnapshotInfo, SnapshotInfo)>, Refusal>,
    ) -> Step {
        let changed = |now: &Tree, id: &Id| match (now.get(id), change.after.get(id)) {
            (Some(now), Some(then)) => {
                matches!((&now.body, &then.body), (Body::File(a), Body::File(b)) if a != b)
            }
            _ => false,
        };
        let writers = self.writers();
        let must = writers.iter().any(|id| changed(&self.model.live, id));
        let number = change.base.map(|_| self.model.take_number());
        match answer {
            Ok(guards) if !must => {
                if let Some((before, _)) = &guards {
                    self.guarded(before, Why::Change(number))?;
                }
                change.take_over(&mut self.model, number);
                change.base.into_iter().for_each(|(clone, _)| self.learn_base(clone));
                if let Some((_, after)) = &guards {
                    self.guarded(after, Why::Changed)?;
                }
                if guards.is_some() || change.is_synced {
                    self.durable();
                }
                if let Some(dropped) = change.dropped {
                    self.model.drop_merged(dropped);
                    // The merge is done, also if the power is cut as the clone goes.
                    if !self.subject.lost_power() {
                        self.durable();
                    }
                    self.line_is_gone(dropped)?;
                }
                self.check_all()
            }
            // What was written over with the same may count as a change, too.
            Err(Refusal::Writers(..)) if !writers.is_empty() => Ok(()),
            Err(Refusal::Failed(why)) => {
                self.cut_off(change, number);
                Err(format!("failed: {why:?}"))
            }
            Err(refusal) => Err(format!("refused: {refusal:?}")),
            Ok(_) => Err("content of files that are open for writing was changed".into()),
        }
    }

    /// A guard of the line at hand has been made.
    fn guarded(&mut self, real: &SnapshotInfo, why: Why) -> Step {
        let id = self.model.guard(Some(&real.name), why);
        self.numbers.views.insert(id, past::root_of(real).tree());
        self.is_fresh(real.slot, real.generation)
    }

    /// The power was cut: it may be done all the same, or the first guard only, or nothing but what needs none.
    fn cut_off(&mut self, change: &AtOnce, number: Option<u64>) {
        let before = self.model.clone();
        for is_guarded in [false, true] {
            self.model.clone_from(&before);
            if is_guarded {
                self.model.guard(None, Why::Change(number));
                self.might_be();
            }
            change.take_over(&mut self.model, number);
            self.might_be();
            if is_guarded {
                self.model.guard(None, Why::Changed);
                self.might_be();
            }
            if let Some(dropped) = change.dropped {
                self.model.drop_merged(dropped);
                self.might_be();
            }
        }
    }

    fn switched(&mut self, target: &Snapshot, force: bool, answer: Result<Switched>) -> Step {
        let (name, written) = (self.model.name.clone(), self.writers().len());
        self.learn_snapshot(target.id);
        match answer {
            Ok(Switched::Refused(way)) if !force && written > 0 && way.written.len() == written => Ok(()),
            Ok(Switched::Done(guard)) if force || written == 0 => {
                let id = self.model.switch(target, Some(&guard.name));
                self.numbers.views.insert(id, past::root_of(&guard).tree());
                self.durable();
                self.is_fresh(guard.slot, guard.generation)?;
                let line = self.subject.fs().and_then(|fs| past::line_of(fs, &name).ok());
                let line = line.ok_or("the line is gone")?;
                self.is_fresh(line.slot, line.head_generation)?;
                self.line_is_gone(self.model.at())?;
                self.check_all()
            }
            Err(why) => {
                // Cut off by the end of power: it may be done all the same.
                self.model.switch(target, None);
                Err(format!("failed: {why:?}"))
            }
            other => Err(format!("answered {other:?} with {written} files open for writing")),
        }
    }
}
