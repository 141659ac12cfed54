//! Everything that a reader can see of a store: every path of the live tree and of all snapshots.

use snapfs::fs::Fs;
use snapfs::ops::*;
use std::collections::BTreeMap;

use super::fixtures::{ADMIN, RO, SNAPDIR};

/// Content read of one file at most: a size may be a lie.
const READ_BYTES_MAX: usize = 4 << 20;
/// Nodes visited at most: a directory may be inside itself.
const NODES_MAX: usize = 5000;

/// What was seen: a line for each fact, under the path that it belongs to.
#[derive(Default)]
pub struct Seen {
    pub facts: BTreeMap<String, Vec<u8>>,
    pub errors: Vec<String>,
}

impl Seen {
    /// The first fact that differs from `model`, if any. What could not be read is missing, and that is no difference.
    pub fn lie(&self, model: &Seen) -> Option<String> {
        let differs = |(path, value): &(&String, &Vec<u8>)| model.facts.get(*path) != Some(*value);
        self.facts.iter().find(differs).map(|(path, _)| path.clone())
    }

    fn note<T>(&mut self, what: &str, result: Result<T>) -> Option<T> {
        result.map_err(|e| self.errors.push(format!("{what}: {e}"))).ok()
    }
}

/// Reads everything.
pub fn observe(fs: &Fs) -> Seen {
    let mut seen = Seen::default();
    let mut todo = vec![(NodeId::ROOT, String::from("live"))];
    if let Some(names) = list(fs, &mut seen, SNAPDIR, "snapshots") {
        for (name, node, _) in names {
            todo.push((node, format!("@{}", String::from_utf8_lossy(&name))));
        }
    }
    for _ in 0..NODES_MAX {
        let Some((node, path)) = todo.pop() else { break };
        let Some((attr, _)) = seen.note(&path, fs.getattr(node, None)) else { continue };
        let shape = format!(
            "{:?} {:o} {} {} {} {} {:?}",
            attr.kind, attr.mode, attr.nlink, attr.uid, attr.size, attr.blocks, attr.mtime
        );
        seen.facts.insert(format!("{path} attributes"), shape.into_bytes());
        attributes(fs, &mut seen, node, &path);
        match attr.kind {
            FileType::Directory => {
                for (name, child, kind) in list(fs, &mut seen, node, &path).unwrap_or_default() {
                    let name = String::from_utf8_lossy(&name).into_owned();
                    let path = format!("{path}/{name}");
                    let found = fs.lookup(&ADMIN, node, name.as_bytes());
                    if let Some(entry) = seen.note(&path, found) {
                        let fact = format!("{} {kind:?}", entry.attr.node == child);
                        seen.facts.insert(format!("{path} entry"), fact.into_bytes());
                    }
                    todo.push((child, path));
                }
            }
            FileType::Regular => content(fs, &mut seen, node, attr.size, &path),
            FileType::Symlink => {
                if let Some(target) = seen.note(&path, fs.readlink(node)) {
                    seen.facts.insert(format!("{path} target"), target);
                }
            }
            _ => {}
        }
    }
    seen
}

fn list(fs: &Fs, seen: &mut Seen, dir: NodeId, path: &str) -> Option<Vec<(Vec<u8>, NodeId, FileType)>> {
    let handle = seen.note(path, fs.opendir(&ADMIN, dir))?;
    let mut names = Vec::new();
    let done = fs.readdir(dir, handle, 2, false, &mut |e| {
        names.push((e.name.clone(), e.node, e.kind));
        names.len() < NODES_MAX
    });
    fs.releasedir(dir, handle);
    seen.note(path, done)?;
    let fact = names.iter().flat_map(|n| [n.0.as_slice(), b"/"].concat()).collect();
    seen.facts.insert(format!("{path} names"), fact);
    Some(names)
}

fn attributes(fs: &Fs, seen: &mut Seen, node: NodeId, path: &str) {
    let Some(names) = seen.note(path, fs.listxattr(node)) else { return };
    for name in names.split(|b| *b == 0).filter(|n| !n.is_empty()) {
        if let Some(value) = seen.note(path, fs.getxattr(node, name)) {
            seen.facts.insert(format!("{path} xattr {}", String::from_utf8_lossy(name)), value);
        }
    }
}

fn content(fs: &Fs, seen: &mut Seen, node: NodeId, size: u64, path: &str) {
    let Some(handle) = seen.note(path, fs.open(&ADMIN, node, RO)) else { return };
    // One byte more than there are.
    let mut out = vec![0; READ_BYTES_MAX.min(size.saturating_add(1) as usize)];
    let read = fs.read(node, handle, 0, &mut out);
    if let Some(len) = seen.note(path, read) {
        out.truncate(len);
        seen.facts.insert(format!("{path} content"), out);
    }
    for target in [SeekTarget::Data, SeekTarget::Hole] {
        // The end of a file without data is an error, and no damage.
        let _found = fs.lseek(node, handle, 0, target);
    }
    fs.release(node, handle);
}
