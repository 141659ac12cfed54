//! Which daemon serves what a command names as its store: a mount, by any path in it, or a store.
//!
//! A store may lie in a mount of another one. Its path names that store, as everywhere, and not the mount that it is in; verbs
//! that are about a path in a mount ask [`Client::connect`].

use super::apart;
use crate::ctl::{Client, Failure};
use crate::device::{Access, FileDevice, StoreKind, probe};
use crate::fuse::mounts;
use crate::volume::newest_superblock;
use serde_json::Value;
use std::fs;
use std::path::Path;

/// The daemon that serves the mount or the store.
pub(super) fn connect(target: &Path) -> Result<Client, Failure> {
    let client = Client::connect(target)?;
    // From here on its file system has answered.
    let Ok(real) = fs::canonicalize(target) else { return Ok(client) };
    let is_below_mount =
        mounts::containing(&real).ok().flatten().is_some_and(|m| m.is_snapfs() && m.point != real);
    if !is_below_mount || !is_store(&real) {
        return Ok(client);
    }
    Client::of_store(&real)?.ok_or_else(|| Client::none(target))
}

/// Asks it one thing. `None` if there is none, or if it ends instead of answering.
pub(super) fn ask(target: &Path, verb: &str, args: Value) -> Result<Option<Value>, Failure> {
    Client::ask(connect(target), verb, args)
}

fn is_store(path: &Path) -> bool {
    match probe(path) {
        Ok(StoreKind::DirectoryStore) => apart::is_store(path),
        Ok(StoreKind::ImageFile { .. }) => {
            FileDevice::open(path, Access::ReadOnly).is_ok_and(|device| newest_superblock(&device).is_ok())
        }
        _ => false,
    }
}
