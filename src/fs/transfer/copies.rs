//! The plan of a copy: what is at a path of a view, and all below it, once more in a directory of a line.
//!
//! Each inode gets a number of its own, each once: hard links among what is copied stay hard links.

use super::plan::{Aspects, Plan, Takeover};
use super::tree::{follow, names_in};
use crate::format::Ino;
use crate::format::dirent::Dirent;
use crate::fs::error::inconsistent;
use crate::fs::items::Items;
use crate::ops::{Error, FileType, Result};
use crate::volume::View;
use std::collections::{HashMap, HashSet};

/// A path of the source, as a list of names, and the name that its copy gets.
pub struct CopyOf {
    /// From where.
    pub path: Vec<Vec<u8>>,
    /// The name in the directory.
    pub name: Vec<u8>,
}

/// The plan by which copies come to be in `dir`, which has none of their names. `at` says which of them an error is about.
pub fn copy_into(
    target: &View,
    dir: Ino,
    source: &View,
    copies: &[CopyOf],
    at: &mut Option<Vec<Vec<u8>>>,
) -> Result<Plan> {
    if target.inode(dir)?.is_none_or(|inode| inode.kind != FileType::Directory || inode.nlink == 0) {
        return Err(Error::NotADirectory);
    }
    let (mut plan, mut numbers) = (Plan::default(), HashMap::new());
    let mut rest = Vec::new();
    for copy in copies {
        *at = Some(copy.path.clone());
        let taken = plan.entries.contains_key(&(dir, copy.name.clone()));
        if taken || target.find_name(dir, &copy.name)?.is_some() {
            return Err(Error::Exists);
        }
        let from = follow(source, &copy.path)?.ok_or(Error::NotFound)?;
        put(&mut plan, &mut numbers, &mut rest, (dir, copy.name.clone()), &from);
        let mut seen = HashSet::new();
        while let Some((number, from)) = rest.pop() {
            // It has one name, but in a damaged tree.
            if !seen.insert(from) {
                return Err(inconsistent(from, "a directory has two names").into());
            }
            for entry in names_in(source, from)? {
                put(&mut plan, &mut numbers, &mut rest, (number, entry.name.clone()), &entry);
            }
        }
    }
    Ok(plan)
}

fn put(
    plan: &mut Plan,
    numbers: &mut HashMap<Ino, Ino>,
    rest: &mut Vec<(Ino, Ino)>,
    name: (Ino, Vec<u8>),
    from: &Dirent,
) {
    // Of a directory that is asked for twice, or with one above it, each is a copy.
    let known = numbers.get(&from.ino).copied().filter(|_| from.kind != FileType::Directory);
    let number = known.unwrap_or(Ino(Plan::FRESH.0 + plan.inodes.len() as u64));
    if known.is_none() {
        numbers.insert(from.ino, number);
        plan.inodes.insert(number, Takeover { from: from.ino, aspects: Aspects::ALL });
        if from.kind == FileType::Directory {
            rest.push((number, from.ino));
        }
    }
    plan.entries.insert(name, Some(number));
}
