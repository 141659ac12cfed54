//! The files of the repository that the rules look at, as text.
//!
//! What git ignores is not looked at: only the places where sources, documents and scripts are.

use std::fs;
use std::path::{Path, PathBuf};

/// Files of the top level, and directories that are looked through.
const PLACES: [&str; 12] = [
    "Cargo.toml",
    "README.md",
    "CHANGELOG.md",
    "LICENSE",
    ".ci/run",
    "src",
    "tests",
    "docs",
    "benches",
    "mount-helpers",
    "fuzz/Cargo.toml",
    "fuzz/fuzz_targets",
];

/// The top of the repository.
pub fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

/// A file by its path from the top.
pub struct File {
    pub path: String,
    pub text: String,
}

/// All files.
pub struct Tree {
    pub files: Vec<File>,
}

impl Tree {
    /// Reads them, in order of their paths.
    pub fn read() -> Tree {
        let mut files = Vec::new();
        PLACES.iter().for_each(|place| collect(&root().join(place), &mut files));
        files.sort_by(|a: &File, b| a.path.cmp(&b.path));
        Tree { files }
    }

    /// Those below a directory.
    pub fn under(&self, directory: &'static str) -> impl Iterator<Item = &File> {
        self.files.iter().filter(move |f| Path::new(&f.path).starts_with(directory))
    }

    /// One of them.
    pub fn get(&self, path: &str) -> Option<&File> {
        self.files.iter().find(|f| f.path == path)
    }

    /// One that must be there.
    pub fn file(&self, path: &str) -> &File {
        self.get(path).unwrap_or_else(|| panic!("{path} is missing"))
    }
}

fn collect(path: &Path, files: &mut Vec<File>) {
    if path.is_dir() {
        let entries = fs::read_dir(path).expect("a directory of the repository");
        entries.for_each(|e| collect(&e.expect("entry").path(), files));
    } else if let Ok(bytes) = fs::read(path) {
        // What is no text (a golden image) is not for these rules.
        if let Ok(text) = String::from_utf8(bytes) {
            let path = path.strip_prefix(root()).expect("below the top");
            files.push(File { path: path.display().to_string(), text });
        }
    }
}

impl File {
    /// Its module of the crate: the directory or file right below `src`. None for the crate's roots.
    pub fn module(&self) -> Option<&str> {
        let path = self.path.strip_prefix("src/")?;
        let first = path.split('/').next()?.trim_end_matches(".rs");
        (first != "lib" && first != "main").then_some(first)
    }

    /// How deep its module is below the root of the crate.
    pub fn depth(&self) -> usize {
        self.path.split('/').count() - 1 - usize::from(self.path.ends_with("/mod.rs"))
    }

    /// Its directory.
    pub fn directory(&self) -> &Path {
        Path::new(&self.path).parent().unwrap_or(Path::new(""))
    }

    /// Lines with their numbers.
    pub fn lines(&self) -> impl Iterator<Item = (usize, &str)> {
        self.text.lines().enumerate().map(|(i, line)| (i + 1, line))
    }

    /// Lines that are not for tests: what follows `#[cfg(test)]` is left out, and files of tests are empty.
    pub fn production(&self) -> impl Iterator<Item = (usize, &str)> {
        let name = self.path.rsplit('/').next().unwrap_or_default();
        let of_tests = self.path.contains("/tests/") || name == "tests.rs" || name.ends_with("_tests.rs");
        let (mut skipping, mut first) = (None, false);
        self.lines().filter(move |(_, line)| {
            if of_tests {
                return false;
            }
            let bare = line.trim_start();
            let Some(indent) = skipping else {
                if bare == "#[cfg(test)]" {
                    (skipping, first) = (Some(line.len() - bare.len()), true);
                }
                return skipping.is_none();
            };
            // One item: a line that ends it at once, or everything up to the brace in the column where it began.
            if bare == "}" && line.len() - 1 == indent || first && bare.ends_with(';') {
                skipping = None;
            }
            first = first && bare.starts_with("#[");
            false
        })
    }
}
