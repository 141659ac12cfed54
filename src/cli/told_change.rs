//! What became of a path, as programs are told.

use crate::fs::{ChangeKind, PathChange};
use crate::names;
use crate::ops::FileType;
use serde_json::{Value, json};
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;

/// What became of a path, for programs.
pub(super) fn encode_change(change: &PathChange) -> Value {
    let (sign, kind) = (sign(change.kind), change.file_type().map(type_name));
    let mut object = json!({"change": sign, "type": kind});
    let put = |object: &mut Value, key: &str, path: &[u8]| {
        names::put(object, key, OsStr::from_bytes(if path.is_empty() { b"." } else { path }));
    };
    put(&mut object, "path", &change.path);
    if let Some(path) = &change.old_path {
        put(&mut object, "old_path", path);
    }
    for (key, version) in [("old_size", change.old), ("new_size", change.new)] {
        if let Some(version) = version.filter(|v| matches!(v.kind, FileType::Regular | FileType::Symlink)) {
            object[key] = version.size.into();
        }
    }
    if !change.attributes.is_empty() {
        object["attributes"] = json!(change.attributes);
    }
    object
}

fn sign(kind: ChangeKind) -> &'static str {
    match kind {
        ChangeKind::Added => "+",
        ChangeKind::Removed => "-",
        ChangeKind::Renamed => "R",
        ChangeKind::Modified => "M",
        ChangeKind::Attributes => "A",
    }
}

/// What users call a type of file.
pub(super) fn type_name(kind: FileType) -> &'static str {
    match kind {
        FileType::Regular => "file",
        FileType::Directory => "directory",
        FileType::Symlink => "symlink",
        FileType::Fifo => "fifo",
        FileType::Socket => "socket",
        FileType::CharDevice => "character device",
        FileType::BlockDevice => "block device",
    }
}
