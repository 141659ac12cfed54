//! The lines in which two texts differ, as hunks of a unified diff.

use similar::{Algorithm, DiffOp, capture_diff_slices, group_diff_ops};
use std::io::Write;

/// Equal lines that are shown around what differs.
const CONTEXT_LINES: usize = 3;

/// The hunks; nothing if the texts are the same.
pub fn hunks(old: &[u8], new: &[u8]) -> Vec<u8> {
    if old == new {
        return Vec::new();
    }
    let (old, new) = (lines(old), lines(new));
    let mut out = Vec::new();
    for group in group_diff_ops(capture_diff_slices(Algorithm::Myers, &old, &new), CONTEXT_LINES) {
        hunk(&old, &new, &group, &mut out);
    }
    out
}

fn lines(text: &[u8]) -> Vec<&[u8]> {
    text.split_inclusive(|byte| *byte == b'\n').collect()
}

fn hunk(old: &[&[u8]], new: &[&[u8]], group: &[DiffOp], out: &mut Vec<u8>) {
    let (Some(first), Some(last)) = (group.first(), group.last()) else { return };
    let span = |from: usize, to: usize| match to - from {
        0 => format!("{from},0"),
        1 => format!("{}", from + 1),
        n => format!("{},{n}", from + 1),
    };
    let before = span(first.old_range().start, last.old_range().end);
    let now = span(first.new_range().start, last.new_range().end);
    // Writing to memory does not fail.
    let _ = writeln!(out, "@@ -{before} +{now} @@");
    for op in group {
        match op {
            DiffOp::Equal { .. } => put(b' ', &old[op.old_range()], out),
            _ => {
                put(b'-', &old[op.old_range()], out);
                put(b'+', &new[op.new_range()], out);
            }
        }
    }
}

fn put(sign: u8, lines: &[&[u8]], out: &mut Vec<u8>) {
    for line in lines {
        out.push(sign);
        out.extend_from_slice(line);
        if !line.ends_with(b"\n") {
            out.extend_from_slice(b"\n\\ No newline at end of file\n");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(old: &str, new: &str) -> String {
        String::from_utf8(hunks(old.as_bytes(), new.as_bytes())).unwrap()
    }

    #[test]
    fn hunks_are_those_of_diff() {
        assert_eq!(text("a\n", "a\n"), "");
        assert_eq!(text("", "a\nb\n"), "@@ -0,0 +1,2 @@\n+a\n+b\n");
        assert_eq!(text("a\n", ""), "@@ -1 +0,0 @@\n-a\n");
        assert_eq!(text("a\nb", "a\nb\n"), "@@ -1,2 +1,2 @@\n a\n-b\n\\ No newline at end of file\n+b\n");
        assert_eq!(text("a\rb\n", "a\rc\n"), "@@ -1 +1 @@\n-a\rb\n+a\rc\n");
        let numbers: Vec<String> = (1..=20).map(|n| format!("{n}\n")).collect();
        let mut changed = numbers.clone();
        changed[1] = "two\n".into();
        changed.remove(17);
        assert_eq!(
            text(&numbers.concat(), &changed.concat()),
            "@@ -1,5 +1,5 @@\n 1\n-2\n+two\n 3\n 4\n 5\n@@ -15,6 +15,5 @@\n 15\n 16\n 17\n-18\n 19\n 20\n"
        );
    }
}
