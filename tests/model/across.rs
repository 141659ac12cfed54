//! What operations on lines do to the system and to the model. A subject that has no lines is left alone.

use snapfs::ops::{Error, NodeId, RenameMode};

use crate::apply::{USER, equal, inside};
use crate::generate::{LINES_MAX, Op, Origin, Pick};
use crate::lines::LineKey;
use crate::observe::{ADMIN, READ};
use crate::past;
use crate::reference::{self, Body};
use crate::run::{OpenPast, Runner, Shorter, Step, new_line_name, only};

impl Runner {
    pub(crate) fn lines(&mut self, op: &Op) -> Step {
        if self.subject.fs().is_none() {
            return Ok(());
        }
        match *op {
            Op::Turn { line } => {
                self.model.turn_to(self.old_line(line));
                Ok(())
            }
            Op::Fork { from, name, lines_max } => self.fork(from, name, lines_max),
            Op::CloneLine { name } => self.clone_line(name),
            Op::DropLine { line, but } => {
                if self.model.lines().len() > but {
                    self.drop_line(line)
                } else {
                    Ok(())
                }
            }
            Op::RenameLine { line, name } => {
                let (line, name) = (self.old_line(line), new_line_name(name));
                let old = self.model.line(line).name.clone();
                let real = self.subject.fs().map_or(Ok(()), |fs| past::rename_line(fs, &old, &name));
                Self::agree(real, self.model.rename_line(line, &name)).map(drop)
            }
            Op::CopyAcross { line, from, at, to, to_at, len } => {
                self.copy(Some(line), (from, at), (to, to_at), len)
            }
            Op::PokeAcross { line, node, how } => self.poke_across(line, node, how),
            Op::OpenPast { line, snapshot, node } => self.open_past(line, snapshot, node),
            Op::ReleasePast { handle } => {
                if !self.past.is_empty() {
                    let open = self.past.swap_remove(handle as usize % self.past.len());
                    self.subject.ops().release(open.node, open.handle);
                }
                Ok(())
            }
            Op::CopyPast { handle, at, to, to_at, len } => self.copy_past(handle, at, (to, to_at), len),
            _ => unreachable!("called for lines"),
        }
    }

    /// Number in the model, line and name of a snapshot to begin from.
    fn origin(&self, from: Origin) -> Option<(u64, Vec<u8>, Vec<u8>)> {
        let line = match from {
            Origin::Any(pick) => self.old_line(pick),
            Origin::Shown(_) | Origin::Newest => self.model.at(),
        };
        let shown = self.model.shown(line);
        let (name, snapshot) = match from {
            Origin::Any(pick) | Origin::Shown(pick) => shown.get(pick as usize / 64 % shown.len().max(1))?,
            Origin::Newest => shown.last()?,
        };
        Some((snapshot.id, self.model.line(line).name.clone(), name.to_vec()))
    }

    fn fork(&mut self, from: Origin, name: Pick, lines_max: usize) -> Step {
        let Some((id, line, snapshot)) = self.origin(from) else { return Ok(()) };
        if self.model.lines().len() >= lines_max {
            return Ok(());
        }
        self.learn_snapshot(id);
        let Some(fs) = self.subject.fs() else { return Ok(()) };
        let many = lines_max > LINES_MAX;
        let name = if many { format!("many-{name}").into_bytes() } else { new_line_name(name) };
        let real = past::find(fs, &line, &snapshot).and_then(|from| fs.create_line(&name, from.id));
        let Some((root, line)) = Self::agree(real, self.model.fork(&name, id))? else { return Ok(()) };
        self.line_is_made(line, root)
    }

    fn clone_line(&mut self, name: Pick) -> Step {
        let (name, root) = (new_line_name(name), self.root());
        let Some(fs) = self.subject.fs().filter(|_| self.model.lines().len() < LINES_MAX) else {
            return Ok(());
        };
        let real = past::clone_line(fs, root, &name);
        // Whether that will do depends on what was written, be it the same.
        let base = past::line_of(fs, &name).ok().and_then(|line| line.base);
        let is_base = |point: &u64| base.is_some() && self.numbers.bases.get(point).copied() == base;
        let newest = self.model.past.last().copied().filter(is_base);
        let both = Self::agree(real, self.model.clone_line(&name, newest))?;
        let Some((root, line)) = both else { return Ok(()) };
        self.line_is_made(line, root)
    }

    /// A line has begun, of which a kernel was told that this is its root.
    fn line_is_made(&mut self, line: LineKey, root: NodeId) -> Step {
        let name = self.model.line(line).name.clone();
        let made = self.subject.fs().and_then(|fs| past::line_of(fs, &name).ok());
        let made = made.ok_or("the new line is not there")?;
        let fresh = self.model.lines().all(|(other, _)| other == line || self.numbers.root(other) != root);
        if !root.is_live() || root.ino() != NodeId::ROOT.ino() || !fresh {
            return Err(format!("root of the new line is {root:?}"));
        }
        self.numbers.lines.insert(line, root);
        self.learn_base(line);
        self.durable();
        self.is_fresh(made.slot, made.generation)?;
        self.is_fresh(made.slot, made.head_generation)?;
        // What was open without a name as its origin was made is purged by the timer, which comes now or later.
        let timer = self.subject.fs().filter(|_| made.slot.0.is_multiple_of(2));
        if let Some(fs) = timer {
            fs.tick().map_err(|e| format!("the timer: {e:?}"))?;
            match past::orphans(fs, &made.name) {
                Ok(0) => {}
                left => return Err(format!("the new line has inodes without a name: {left:?}")),
            }
        }
        self.on(line, |there| there.check_live())
    }

    fn drop_line(&mut self, line: Pick) -> Step {
        let line = self.old_line(line);
        let root = self.numbers.root(line);
        let name = self.model.line(line).name.clone();
        let mut gone: Vec<_> = self.model.line(line).snapshots.values().map(|s| s.id).collect();
        gone.iter().for_each(|id| self.learn_snapshot(*id));
        let real = self.subject.fs().map_or(Ok(()), |fs| past::drop_line(fs, &name, root));
        if Self::agree(real, self.model.drop_line(line))?.is_none() {
            return Ok(());
        }
        self.durable();
        self.line_is_gone(line)?;
        // In the trash they stay as they are, and other lines may show them.
        gone.retain(|_| !self.model.keeps_trash);
        let snapshots = gone.iter().filter_map(|id| self.numbers.views.get(id));
        let roots = snapshots.map(|tree| NodeId::in_tree(*tree, NodeId::ROOT.ino())).chain([root]);
        for root in roots.collect::<Vec<_>>() {
            let real = self.subject.ops().getattr(root, None);
            Self::agree(real, only::<()>(&[Error::Stale]))?;
        }
        Ok(())
    }

    fn open_past(&mut self, line: Pick, snapshot: Pick, node: Pick) -> Step {
        let shown = self.model.shown(self.old_line(line));
        let Some((_, snapshot)) = shown.get(snapshot as usize % shown.len().max(1)) else { return Ok(()) };
        let paths = reference::paths(&snapshot.tree);
        let files: Vec<_> = paths
            .values()
            .filter_map(|id| match &snapshot.tree[id].body {
                Body::File(content) => Some((*id, content)),
                _ => None,
            })
            .collect();
        let Some((id, content)) = files.get(node as usize % files.len().max(1)) else { return Ok(()) };
        let node = NodeId::in_tree(self.numbers.views[&snapshot.id], self.numbers.inodes[id]);
        let content = (*content).clone();
        let opened = self.subject.ops().open(&USER, node, READ);
        let handle = opened.map_err(|e| format!("opening in a snapshot: {e:?}"))?;
        self.past.push(OpenPast { node, handle, content });
        Ok(())
    }

    /// From a file that is open in a snapshot, whether that is there or not.
    fn copy_past(&mut self, from: Pick, at: u64, (to, to_at): (Pick, u64), len: u64) -> Step {
        if self.past.is_empty() {
            return Ok(());
        }
        let from = from as usize % self.past.len();
        let Some(target) = self.borrow(to, true)? else { return Ok(()) };
        let mut done = Ok(());
        if !target.flags.append {
            let OpenPast { node, handle, content } = &self.past[from];
            let at = inside(content.size, at, len);
            let (data, to) = (content.read(at, len), (target.line, target.id));
            let ops = self.subject.ops();
            let real = ops.copy_range(&USER, *node, *handle, at, target.node, target.handle, to_at, len);
            let part = data.clone();
            self.shorter = Some(Shorter {
                before: self.model.clone(),
                len: data.len() as u64,
                offsets: vec![to_at, 0],
                apply: Box::new(move |model, len| drop(model.copied(&part[..len as usize], to, to_at))),
            });
            let both = Self::agree(real, self.model.copied(&data, to, to_at));
            done = both.and_then(|both| both.map_or(Ok(()), |(real, expected)| equal(&real, &expected)));
        }
        self.give_back(&target);
        done
    }

    /// Tries to move something from the line at hand to another.
    fn poke_across(&mut self, line: Pick, node: Pick, how: Pick) -> Step {
        let line = self.old_line(line);
        let Some(id) = self.pick(node, |n| !n.is_dir()) else { return Ok(()) };
        if line == self.model.at() {
            return Ok(());
        }
        let (there, ops) = (self.numbers.root(line), self.subject.ops());
        let name = self.old_name(reference::ROOT, node);
        let move_it = |mode| ops.rename(&ADMIN, self.root(), &name, there, b"fresh", mode);
        let real = match how % 4 {
            0 => move_it(RenameMode::Replace),
            1 => move_it(RenameMode::Exchange),
            2 => ops.rename(&ADMIN, there, b"fresh", self.root(), &name, RenameMode::Replace),
            _ => ops.link(&ADMIN, self.node(id), there, b"fresh").map(drop),
        };
        Self::agree(real, only::<()>(&[Error::CrossView])).map(drop)
    }
}
