//! A pair of files as the part of a patch that `git apply` and `patch -p1` take.
//!
//! The form is that of git (git-diff(1), "Generating patch text with -p"), without lines that only help people. Of modes
//! it knows whether a file may be run by its owner. What is no text, too long to be compared or
//! purged is said to differ.

use super::content::{FileAt, is_same_content, whole_content};
use super::file_pair::FilePair;
use super::hunks::hunks;
use crate::format::Ino;
use crate::format::inode::Inode;
use crate::fs::error::inconsistent;
use crate::fs::items::Items;
use crate::limits::PATCH_FILE_BYTES_MAX;
use crate::ops::FileType;
use crate::volume::{View, VolumeError};

type Result<T> = std::result::Result<T, VolumeError>;

/// A zero among the first bytes of a file means that it is no text, as git has it.
const PROBE_BYTES: usize = 8000;

/// How the name of nothing begins as content in git.
const EMPTY_BLOB: &[u8] = b"e69de29";

/// A file of the pair.
struct End<'p> {
    path: &'p [u8],
    ino: Ino,
    inode: Inode,
}

impl<'p> End<'p> {
    fn of(view: &View, file: &'p Option<(Vec<u8>, Ino)>) -> Result<Option<End<'p>>> {
        let Some((path, ino)) = file else { return Ok(None) };
        let inode = view.inode(*ino)?.ok_or_else(|| inconsistent(*ino, "it has a name and is not there"))?;
        Ok(Some(End { path, ino: *ino, inode }))
    }

    fn file<'v>(&'v self, view: &'v View) -> FileAt<'v> {
        FileAt { view, ino: self.ino, inode: &self.inode }
    }

    fn mode(&self) -> &'static str {
        match self.inode.kind {
            FileType::Symlink => "120000",
            _ if self.inode.mode & 0o100 != 0 => "100755",
            _ => "100644",
        }
    }
}

/// How the content of two files differs.
enum Comparison {
    Same,
    /// In these lines.
    Lines(Vec<u8>),
    /// Not to be told by lines.
    Binary,
}

/// What was purged has no lines any more: it is said to differ.
fn compare(old: Option<FileAt<'_>>, new: Option<FileAt<'_>>) -> Result<Comparison> {
    match compare_lines(old, new) {
        Err(VolumeError::Purged(_)) => Ok(Comparison::Binary),
        compared => compared,
    }
}

fn compare_lines(old: Option<FileAt<'_>>, new: Option<FileAt<'_>>) -> Result<Comparison> {
    if let (Some(old), Some(new)) = (old, new)
        && is_same_content(old, new)?
    {
        return Ok(Comparison::Same);
    }
    if old.into_iter().chain(new).any(|file| file.inode.size > PATCH_FILE_BYTES_MAX) {
        return Ok(Comparison::Binary);
    }
    let content = |file: Option<FileAt<'_>>| file.map_or(Ok(Vec::new()), whole_content);
    let (old, new) = (content(old)?, content(new)?);
    Ok(match old == new {
        true => Comparison::Same,
        false if is_text(&old) && is_text(&new) => Comparison::Lines(hunks(&old, &new)),
        false => Comparison::Binary,
    })
}

fn is_text(bytes: &[u8]) -> bool {
    !bytes[..bytes.len().min(PROBE_BYTES)].contains(&0)
}

/// The patch of one pair; nothing if a patch has no way to say how they differ.
pub fn patch(old: &View, new: &View, pair: &FilePair) -> Result<Vec<u8>> {
    let (before, now) = (End::of(old, &pair.old)?, End::of(new, &pair.new)?);
    let compared = |before: Option<&End<'_>>, now: Option<&End<'_>>| {
        compare(before.map(|end| end.file(old)), now.map(|end| end.file(new)))
    };
    let mut out = Vec::new();
    match (before.as_ref(), now.as_ref()) {
        // One file went and one came.
        (Some(before), Some(now)) if before.inode.kind != now.inode.kind => {
            put_part(Some(before), None, compared(Some(before), None)?, &mut out);
            put_part(None, Some(now), compared(None, Some(now))?, &mut out);
        }
        (before, now) => put_part(before, now, compared(before, now)?, &mut out),
    }
    Ok(out)
}

fn put_part(old: Option<&End<'_>>, new: Option<&End<'_>>, content: Comparison, out: &mut Vec<u8>) {
    let (Some(before), Some(now)) = (old.or(new), new.or(old)) else { return };
    let same = matches!(content, Comparison::Same);
    let mut head = Vec::new();
    let mut line = |parts: &[&[u8]]| {
        parts.iter().for_each(|part| head.extend_from_slice(part));
        head.push(b'\n');
    };
    match (old, new) {
        (None, _) => line(&[b"new file mode ", now.mode().as_bytes()]),
        (_, None) => line(&[b"deleted file mode ", before.mode().as_bytes()]),
        // Of a link patch(1) has to be told in any case.
        _ if before.mode() != now.mode() || before.inode.kind == FileType::Symlink && !same => {
            line(&[b"old mode ", before.mode().as_bytes()]);
            line(&[b"new mode ", now.mode().as_bytes()]);
        }
        _ => {}
    }
    if before.path != now.path {
        if same {
            line(&[b"similarity index 100%"]);
        }
        line(&[b"rename from ", &quoted(b"", before.path)]);
        line(&[b"rename to ", &quoted(b"", now.path)]);
    }
    // An empty file has no lines to say that it comes or goes: patch(1) believes the name of its content in git.
    match (old, new) {
        (None, _) if same => line(&[b"index 0000000..", EMPTY_BLOB]),
        (_, None) if same => line(&[b"index ", EMPTY_BLOB, b"..0000000"]),
        _ => {}
    }
    let side = |end: Option<&End<'_>>, prefix: &[u8]| match end {
        None => b"/dev/null".to_vec(),
        Some(end) => quoted(prefix, end.path),
    };
    let (a, b) = (side(old, b"a/"), side(new, b"b/"));
    let body = match content {
        Comparison::Same => Vec::new(),
        Comparison::Lines(hunks) => [b"--- ", a.as_slice(), b"\n+++ ", &b, b"\n", &hunks].concat(),
        Comparison::Binary => [b"Binary files ", a.as_slice(), b" and ", &b, b" differ\n"].concat(),
    };
    if !head.is_empty() || !body.is_empty() {
        let names = [quoted(b"a/", before.path), quoted(b"b/", now.path)];
        out.extend([b"diff --git ", names[0].as_slice(), b" ", &names[1], b"\n", &head, &body].concat());
    }
}

/// A name as git writes it: in quotes with escapes if there is anything in it but plain ASCII. A blank counts too, unlike
/// there: patch(1) would take the name to end with it.
fn quoted(prefix: &[u8], path: &[u8]) -> Vec<u8> {
    let plain = |byte: &u8| byte.is_ascii_graphic() && !matches!(byte, b'"' | b'\\');
    if path.iter().all(plain) {
        return [prefix, path].concat();
    }
    let mut out = [b"\"", prefix].concat();
    for byte in path {
        match byte {
            b'"' | b'\\' => out.extend([b'\\', *byte]),
            b'\n' => out.extend(b"\\n"),
            b'\t' => out.extend(b"\\t"),
            byte if *byte == b' ' || plain(byte) => out.push(*byte),
            byte => out.extend(format!("\\{byte:03o}").bytes()),
        }
    }
    out.push(b'"');
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_quoted_as_git_does() {
        assert_eq!(quoted(b"a/", b"plain-name"), b"a/plain-name");
        assert_eq!(quoted(b"a/", b"a blank"), b"\"a/a blank\"");
        assert_eq!(quoted(b"a/", b"q\"\\\n\t\xff"), b"\"a/q\\\"\\\\\\n\\t\\377\"");
        assert_eq!(quoted(b"", "\u{e9}".as_bytes()), b"\"\\303\\251\"");
    }
}
