//! Scripts in a place, with the program by its name, and whether two trees are the same.

use super::place::{Place, Said, said};
use std::process::Command;

/// Runs a script that calls `snapfs`.
pub fn shell(p: &Place, script: &str) -> Said {
    let program = env!("CARGO_BIN_EXE_snapfs");
    let script = format!("snapfs() {{ {program} \"$@\"; }}; {script}");
    said(p.settle(&mut Command::new("sh")).args(["-euc", &script]))
}

/// The same for what has to succeed: its output.
pub fn ok(p: &Place, script: &str) -> String {
    let done = shell(p, script);
    assert!(done.code == 0, "{script}: {done:?}");
    done.out
}

/// What is below two directories is the same: names, types, modes, owners, times, links, content; and, where getfattr is,
/// extended attributes, lists of access control among them.
pub fn same(p: &Place, a: &str, b: &str) {
    let list =
        "find . -printf '%P %y %m %U %G %s %n %T@ %l\\n' | sort; find . -type f -exec sha256sum {} + | sort";
    let attributes = "if command -v getfattr > /dev/null; then find . -print0 | sort -z | xargs -0 getfattr -h -d -m - -e hex --; fi";
    let [left, right] = [a, b].map(|dir| ok(p, &format!("cd {dir}; {list}; {attributes}")));
    assert!(!left.is_empty());
    assert_eq!(left, right, "{a} and {b}");
}
