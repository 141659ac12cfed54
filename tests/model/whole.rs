//! What operations on a line as a whole do to the system and to the model.

use snapfs::fs::{Fs, OpenForWriting, Reason, Refusal, Switched};
use snapfs::ops::{NodeId, Result};
use snapfs::volume::SnapshotInfo;

use crate::generate::Pick;
use crate::past;
use crate::reference::{Body, Id, Snapshot, Tree};
use crate::run::{Runner, Step};

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

    /// The last rollback or undo is taken back, if its guard is there.
    pub(crate) fn undo(&mut self, force: bool) -> Step {
        let (root, guard) = (self.root(), self.model.last_guard().cloned());
        let Some(fs) = self.subject.fs() else { return Ok(()) };
        match (fs.undo(root, writers(force)), guard) {
            (Ok(None), None) => Ok(()),
            // What was done last is no switch.
            (Ok(None), Some(_)) if was_restored(fs, root) => Ok(()),
            (Ok(Some((to, done))), Some(guard)) => {
                if self.numbers.views.get(&guard.id) != Some(&past::root_of(&to).tree()) {
                    return Err(format!("took back {to:?}"));
                }
                self.switched(&guard, force, Ok(done))
            }
            (Err(e), Some(guard)) => self.switched(&guard, force, Err(e)),
            (other, guard) => Err(format!("answered {other:?}, and there is a guard: {}", guard.is_some())),
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
        self.changed_at_once(after, answer)
    }

    /// A line was changed at once, or not.
    fn changed_at_once(
        &mut self,
        after: Tree,
        answer: std::result::Result<Option<(SnapshotInfo, SnapshotInfo)>, Refusal>,
    ) -> Step {
        let changed = |now: &Tree, id: &Id| match (now.get(id), after.get(id)) {
            (Some(now), Some(then)) => {
                matches!((&now.body, &then.body), (Body::File(a), Body::File(b)) if a != b)
            }
            _ => false,
        };
        let writers = self.writers();
        let must = writers.iter().any(|id| changed(&self.model.live, id));
        match answer {
            Ok(guards) if !must => {
                if let Some((before, _)) = &guards {
                    let id = self.model.guard(Some(&before.name));
                    self.numbers.views.insert(id, past::root_of(before).tree());
                    self.is_fresh(before.slot, before.generation)?;
                }
                self.model.live = after;
                if let Some((_, after)) = &guards {
                    let id = self.model.guard(Some(&after.name));
                    self.numbers.views.insert(id, past::root_of(after).tree());
                    self.is_fresh(after.slot, after.generation)?;
                    self.durable();
                }
                self.check_all()
            }
            // What was written over with the same may count as a change, too.
            Err(Refusal::Writers(..)) if !writers.is_empty() => Ok(()),
            Err(Refusal::Failed(why)) => {
                // Cut off by the end of power: it may be done all the same, or only the first guard.
                self.model.guard(None);
                self.might_be();
                self.model.live = after;
                self.might_be();
                self.model.guard(None);
                Err(format!("failed: {why:?}"))
            }
            Err(refusal) => Err(format!("refused: {refusal:?}")),
            Ok(_) => Err("content of files that are open for writing was changed".into()),
        }
    }

    fn switched(&mut self, target: &Snapshot, force: bool, answer: Result<Switched>) -> Step {
        let (name, written) = (self.model.name.clone(), self.writers().len());
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

/// True if guards of a restore are there, of a line by its root: that is not taken back as a switch of heads is.
fn was_restored(fs: &Fs, root: NodeId) -> bool {
    let all = fs.line_at(root).map(|line| fs.volume().snapshots(line)).unwrap_or_default();
    all.iter().any(|snapshot| matches!(snapshot.provenance.reason, Reason::Restore | Reason::After))
}
