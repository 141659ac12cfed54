//! What a workload does to lines: it makes them, turns to one of them, and drops them.

use snapfs::fs::Fs;

use crate::lines::{LineKey, MAIN};
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
