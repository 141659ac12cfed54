//! What operations about deleted things do to the system and to the model: the trash, and what holds keep from it.

use snapfs::format::hold::HoldRecord;
use snapfs::format::provenance::Provenance;
use snapfs::format::trash::{TrashRecord, Trashed as Real};
use snapfs::fs::{Fs, HoldTerms};
use snapfs::ops::{Error, NodeId, Operations, XattrMode};

use crate::apply::equal;
use crate::generate::{Op, Pick};
use crate::observe::ADMIN;
use crate::past;
use crate::reference::Expect;
use crate::run::{Runner, Step, new_line_name, new_snapshot_name, only};
use crate::trash::Trashed;

/// For how long something stays in the trash, in minutes.
const TRASH_MINUTES: u64 = 60;
/// The last of these ends by itself.
const TAGS: [&str; 3] = ["keep", "also", "for-a-while"];
const WHILE_SECS: u64 = 30 * 60;

impl Runner {
    pub(crate) fn trashing(&mut self, op: &Op) -> Step {
        let Some(fs) = self.subject.fs() else { return Ok(()) };
        match *op {
            Op::KeepTrash { on } => {
                let value = if on { format!("{TRASH_MINUTES}m") } else { "none".into() };
                let (root, name) = (NodeId::ROOT, b"user.snapfs.trash");
                let real = fs.setxattr(&ADMIN, root, name, value.as_bytes(), XattrMode::Set);
                self.model.keeps_trash = on;
                Self::agree(real, Ok(())).map(drop)
            }
            Op::Undelete { which, name } => {
                let Some(at) = self.in_trash(which) else { return Ok(()) };
                let trash = &self.model.trash()[at];
                let name = match name % 4 {
                    0 => self.old_snapshot(name / 4),
                    1 if matches!(trash.what, Trashed::Line(_)) => new_line_name(name / 4),
                    1 => new_snapshot_name(name / 4),
                    _ => trash.name.clone(),
                };
                self.bring_back(at, &name)
            }
            Op::EmptyTrash { which } => {
                let Some(at) = self.in_trash(which) else { return Ok(()) };
                let real = fs.empty_trash(real_trash(fs, at)?.number);
                self.learn_trash(at);
                self.model.empty_trash(at);
                Self::agree(real, Ok(())).map(drop)
            }
            Op::EmptySome => {
                let real = fs.empty_some_trash();
                let some = !self.model.trash().is_empty();
                if some {
                    self.learn_trash(0);
                    self.model.empty_trash(0);
                }
                let both = Self::agree(real, Ok(some))?;
                both.map_or(Ok(()), |(real, some)| equal(&real, &some))
            }
            Op::Hold { name, tag } => self.hold(name, tag),
            Op::LetGo { name, tag } => self.let_go(name, tag),
            Op::PassTime { minutes } => self.pass_time(minutes),
            Op::PokeTrash { which, how } => self.poke_trash(which, how),
            _ => unreachable!("called for what is deleted"),
        }
    }

    /// One of what is in the trash, the last most often.
    fn in_trash(&self, pick: Pick) -> Option<usize> {
        let count = self.model.trash().len();
        let pick = pick as usize;
        (count > 0).then(|| if pick.is_multiple_of(2) { count - 1 } else { pick / 2 % count })
    }

    /// Learns the numbers of snapshots that go with something in the trash: lines may be compared with them.
    fn learn_trash(&mut self, at: usize) {
        if let Trashed::Line(line) = self.model.trash()[at].what {
            let own: Vec<u64> = self.model.line(line).snapshots.values().map(|s| s.id).collect();
            own.into_iter().for_each(|id| self.learn_snapshot(id));
        }
    }

    /// Brings something back under that name.
    pub(crate) fn bring_back(&mut self, at: usize, name: &[u8]) -> Step {
        let Some(fs) = self.subject.fs() else { return Ok(()) };
        let real = real_trash(fs, at)?;
        let (real, expected) = (fs.undelete(&real, name), self.model.undelete(at, name));
        let Some(((), line)) = Self::agree(real, expected)? else { return Ok(()) };
        self.done.brought_back += 1;
        self.durable();
        self.check_all()?;
        line.map_or(Ok(()), |line| {
            let fs = self.subject.fs().ok_or("it has lines no more")?;
            fs.tick().map_err(|e| format!("the timer: {e:?}"))?;
            match past::orphans(fs, &self.model.line(line).name) {
                Ok(0) => Ok(()),
                left => Err(format!("the line has come back with inodes without a name: {left:?}")),
            }
        })
    }

    fn hold(&mut self, name: Pick, tag: Pick) -> Step {
        let (name, tag) = (self.old_snapshot(name), TAGS[tag as usize % TAGS.len()]);
        let own = self.model.own_snapshot(&name);
        own.iter().for_each(|id| self.learn_snapshot(*id));
        let Some(fs) = self.subject.fs() else { return Ok(()) };
        let Ok(view) = past::find(fs, &self.model.name, &name) else { return Ok(()) };
        let terms = HoldTerms { tag, after: (tag == TAGS[2]).then_some(WHILE_SECS) };
        let real = fs.hold_snapshot(self.root(), view.id, &terms, &Provenance::default());
        let expected: Expect<()> = match own {
            Err(_) => Err(vec![Error::NotPermitted, Error::Stale]),
            Ok(_) if self.model.snapshots[&name].held.contains(tag) => only(&[Error::Exists]),
            Ok(_) => {
                self.model.snapshots.get_mut(&name).expect("it is its own").held.insert(tag);
                Ok(())
            }
        };
        if Self::agree(real, expected)?.is_some() {
            self.durable();
        }
        Ok(())
    }

    fn let_go(&mut self, name: Pick, tag: Pick) -> Step {
        let held = self.model.snapshots.iter().filter(|(_, s)| !s.held.is_empty());
        let all: Vec<_> = held.map(|(name, _)| name.clone()).collect();
        let Some(name) = all.get(name as usize % all.len().max(1)) else { return Ok(()) };
        let tag = TAGS[tag as usize % TAGS.len()];
        let Some(fs) = self.subject.fs() else { return Ok(()) };
        let view = past::find(fs, &self.model.name, name).map_err(|e| format!("what is held: {e:?}"))?;
        let real = fs.release_snapshot(self.root(), view.id, tag);
        let is_there = self.model.snapshots.get_mut(name).expect("it is held").held.remove(tag);
        let expected = if is_there { Ok(()) } else { only(&[Error::NotFound]) };
        if Self::agree(real, expected)?.is_some() {
            self.durable();
        }
        Ok(())
    }

    /// What has been in the trash for its time goes, and holds end.
    fn pass_time(&mut self, minutes: u64) -> Step {
        let Some(fs) = self.subject.fs() else { return Ok(()) };
        let (mut trash, mut holds) = (fs.volume().trash(), fs.volume().holds());
        holds.retain(|hold| hold.ends.is_some());
        let all = trash.len();
        equal(&all, &self.model.trash().len())?;
        for _ in 0..minutes {
            let passed = self.subject.pass_minute();
            let Some(fs) = self.subject.fs() else { return Ok(()) };
            let is_over = |ends: u64| fs.time_of_age(ends) == fs.time_of_age(0);
            let ended = |hold: &HoldRecord| hold.ends.is_some_and(is_over);
            let mut over: Vec<HoldRecord> = Vec::new();
            holds.retain(|hold| {
                !ended(hold) || {
                    over.push(hold.clone());
                    false
                }
            });
            let gone = trash.iter().filter(|trash| is_over(trash.ends)).count();
            let is_first = trash[..gone].iter().all(|trash| is_over(trash.ends));
            for hold in over {
                let of = self.numbers.bases.iter().find(|(_, real)| **real == hold.view).map(|(id, _)| *id);
                let of = of.ok_or("a hold of what nobody has held")?;
                self.model.end_hold(of, TAGS[2]);
                self.might_be();
            }
            if !is_first {
                return Err("what was deleted later goes first".into());
            }
            let went: Vec<TrashRecord> = trash.drain(..gone).collect();
            self.empty_as(&went);
            passed?;
        }
        if minutes > 2 * TRASH_MINUTES && (!trash.is_empty() || !holds.is_empty()) {
            return Err(format!("not over after {minutes} minutes: {trash:?} {holds:?}"));
        }
        Ok(())
    }

    /// So many of what is first in the trash have gone; some with their line, if that was before.
    fn empty_as(&mut self, went: &[TrashRecord]) {
        let mut lines = Vec::new();
        for trash in went {
            match trash.what {
                Real::Snapshot(_, of) if lines.contains(&of) => continue,
                Real::Line(line, _) => lines.push(line),
                Real::Snapshot(..) => {}
            }
            if !self.model.trash().is_empty() {
                self.model.empty_trash(0);
                self.might_be();
            }
        }
    }

    /// What is in the trash is nobody's.
    fn poke_trash(&mut self, which: Pick, how: Pick) -> Step {
        let Some(at) = self.in_trash(which) else { return Ok(()) };
        let Some(fs) = self.subject.fs() else { return Ok(()) };
        let trash = real_trash(fs, at)?;
        let (root, name) = (self.root(), trash.name.clone());
        let by = Provenance::default();
        let terms = HoldTerms { tag: TAGS[0], after: None };
        let real = match (trash.what, how % 4) {
            (Real::Snapshot(view, _), 0) => fs.hold_snapshot(root, view, &terms, &by).map(drop),
            (Real::Snapshot(view, _), 1) => fs.create_line(b"from-the-trash", view).map(drop),
            (Real::Snapshot(view, _), 2) => {
                let was = fs.volume().trashed_snapshots().into_iter().find(|was| was.id == view);
                let was = was.ok_or("it has no snapshot")?;
                fs.getattr(past::root_of(&was), None).map(drop)
            }
            (Real::Snapshot(..), _) => fs.undelete(&trash, b"@odd").map(drop),
            (Real::Line(line, _), 0) => fs.volume().rename_line(line, b"other").map_err(Error::from),
            (Real::Line(line, _), 1) => fs.clone_line(line, b"from-the-trash").map(drop),
            (Real::Line(line, _), 2) => fs.volume().drop_line(line).map_err(Error::from),
            (Real::Line(..), _) => fs.undelete(&trash, &[b'l'; 256]).map(drop),
        };
        let errors = [Error::Stale, Error::NotFound, Error::NotPermitted, Error::Invalid, Error::NameTooLong];
        Self::agree(real, only::<()>(&errors))
            .map_err(|e| format!("{} in the trash: {e}", name.escape_ascii()))?;
        Ok(())
    }
}

/// What is in the trash at that place.
fn real_trash(fs: &Fs, at: usize) -> Result<TrashRecord, String> {
    fs.volume().trash().get(at).cloned().ok_or_else(|| format!("there is no {at} in the trash"))
}
