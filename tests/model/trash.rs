//! The trash of a model: snapshots and lines that were deleted, in the order in which they were.
//!
//! A snapshot in it is of no line; a line in it stays among the lines, out of sight, with its snapshots, which lines that were
//! made of them go on showing.

use snapfs::ops::Error;

use crate::lines::{LineKey, MAIN, Model, reachable};
use crate::reference::{Expect, Snapshot, refuse_if};

/// Something in the trash.
#[derive(Clone)]
pub struct Trash {
    pub name: Vec<u8>,
    pub what: Trashed,
    /// The next number when it was deleted: what has it or a greater one came later.
    pub next: u64,
}

#[derive(Clone)]
pub enum Trashed {
    /// A snapshot that was of this line.
    Snapshot(LineKey, Snapshot),
    Line(LineKey),
}

impl Model {
    /// What is in the trash, what was deleted first first.
    pub fn trash(&self) -> &[Trash] {
        &self.trash
    }

    /// A snapshot of the line at hand gets there.
    pub(crate) fn trash_snapshot(&mut self, name: &[u8], snapshot: Snapshot) {
        let what = Trashed::Snapshot(self.at(), snapshot);
        self.trash.push(Trash { name: name.to_vec(), what, next: self.next });
    }

    /// A line does, and with it what it has at that moment: what has no name is nobody's any more.
    pub(crate) fn trash_line(&mut self, line: LineKey) {
        let (name, what, next) = (self.line(line).name.clone(), Trashed::Line(line), self.next);
        self.trash.push(Trash { name, what, next });
        let line = self.line_mut(line);
        line.is_trashed = true;
        line.live = reachable(&line.live);
    }

    /// What was deleted at last of the line at hand, its clones included; of the main line all clones.
    fn deleted_last(&self) -> Option<usize> {
        let here = self.at();
        self.trash.iter().rposition(|trash| match &trash.what {
            Trashed::Snapshot(of, _) => *of == here,
            Trashed::Line(line) => here == MAIN || self.line(*line).from == Some(here),
        })
    }

    /// The same, if nothing has been done since that can be taken back.
    pub fn deletion_to_undo(&self) -> Option<usize> {
        let guards = self.snapshots.values().filter(|s| s.why != crate::reference::Why::Asked);
        let newest = guards.map(|s| s.id).max();
        self.deleted_last().filter(|at| newest.is_none_or(|guard| guard < self.trash[*at].next))
    }

    /// Brings something back under a name; the line, if it is one. It is compared with what it was, and so are others with it,
    /// but for those that were brought together with another meanwhile.
    pub fn undelete(&mut self, at: usize, name: &[u8]) -> Expect<Option<LineKey>> {
        let trash = self.trash[at].clone();
        let shown_by = match &trash.what {
            Trashed::Snapshot(of, snapshot) => self.shown_by(*of, snapshot.id),
            Trashed::Line(_) => Vec::new(),
        };
        let is_taken = match &trash.what {
            Trashed::Snapshot(..) => {
                shown_by.iter().any(|line| self.shown(*line).iter().any(|(other, _)| *other == name))
            }
            Trashed::Line(_) => self.find_line(name).is_some(),
        };
        let is_gone = matches!(&trash.what, Trashed::Snapshot(of, _) if self.line(*of).is_trashed);
        let mut errors =
            refuse_if(&[(is_gone, Error::Stale), (is_taken, Error::Exists)]).err().unwrap_or_default();
        if name != trash.name {
            errors.extend(self.check_snapshot_name(name, &[]).err().into_iter().flatten());
        }
        if !errors.is_empty() {
            return Err(errors);
        }
        self.trash.remove(at);
        match trash.what {
            Trashed::Snapshot(of, snapshot) => {
                self.line_mut(of).snapshots.insert(name.to_vec(), snapshot);
                Ok(None)
            }
            Trashed::Line(line) => {
                let others: Vec<LineKey> = self.all_lines().map(|(key, _)| key).collect();
                let before: Vec<_> = others.iter().map(|other| self.compared_with(*other)).collect();
                let back = self.line_mut(line);
                back.is_trashed = false;
                back.name = name.to_vec();
                for (other, before) in others.into_iter().zip(before) {
                    let is_later = self
                        .line(other)
                        .base
                        .as_ref()
                        .is_some_and(|base| base.brought.is_some() && base.number >= trash.next);
                    if is_later && self.compared_with(other) != before {
                        self.line_mut(other).base = None;
                    }
                }
                Ok(Some(line))
            }
        }
    }

    /// A hold of a snapshot has ended.
    pub fn end_hold(&mut self, of: u64, tag: &str) {
        let all: Vec<LineKey> = self.all_lines().map(|(key, _)| key).collect();
        for line in all {
            if self.line(line).snapshots.values().any(|s| s.id == of) {
                let own = self.line_mut(line).snapshots.values_mut();
                own.filter(|s| s.id == of).for_each(|s| s.held.retain(|held| *held != tag));
            }
        }
    }

    /// Something in it goes for good; a line with what of it is there, too.
    pub fn empty_trash(&mut self, at: usize) {
        if let Trashed::Line(line) = self.trash.remove(at).what {
            self.part_for_end(line);
            self.drop_merged(line);
        }
    }

    /// The snapshots of a line go from it: the line goes for good.
    pub(crate) fn forget_trash_of(&mut self, line: LineKey) {
        self.trash.retain(|trash| !matches!(trash.what, Trashed::Snapshot(of, _) if of == line));
    }

    /// They are another line's from now on.
    pub(crate) fn hand_over_trash(&mut self, from: LineKey, to: LineKey) {
        for trash in &mut self.trash {
            match &mut trash.what {
                Trashed::Snapshot(of, _) if *of == from => *of = to,
                _ => {}
            }
        }
    }
}
