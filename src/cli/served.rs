//! Which daemon serves what a command names as its store: a mount, by any path in it, or a store.
//!
//! A store may lie in a mount of another one. Its path names that store, as everywhere, and not the mount that it is in; verbs
//! that are about a path in a mount ask [`Client::connect`].

use super::apart;
use crate::ctl::{Client, Code, Failure, StoreId, registry};
use crate::device::{Access, FileDevice, StoreKind, probe};
use crate::fuse::mounts;
use crate::names;
use crate::volume::newest_superblock;
use serde_json::Value;
use std::fs;
use std::path::Path;

/// The daemon that serves the mount or the store.
pub(super) fn connect(target: &Path) -> Result<Client, Failure> {
    let before = mounted_above(target);
    let client = match (Client::connect(target), before) {
        // It is no store either, and nobody should look for one there.
        (Err(f), Some(before)) if f.code == Code::NotMounted && before.has_left() && !is_store(target) => {
            let point = names::shown(&before.record().mountpoint);
            return Err(Failure::new(Code::Io, format!("{point}: the mount there has ended")));
        }
        (client, _) => client?,
    };
    // From here on its file system has answered.
    let Ok(real) = fs::canonicalize(target) else { return Ok(client) };
    let is_below_mount =
        mounts::containing(&real).ok().flatten().is_some_and(|m| m.is_snapfs() && m.point != real);
    if !is_below_mount || !is_store(&real) {
        return Ok(client);
    }
    Client::of_store(&real)?.ok_or_else(|| Client::none(target))
}

/// The daemon that was found; `None` if there is none.
pub(super) fn if_any(found: Result<Client, Failure>) -> Result<Option<Client>, Failure> {
    match found {
        Err(f) if f.code == Code::NotMounted => Ok(None),
        found => found.map(Some),
    }
}

/// Asks it one thing that changes nothing. `None` as in [`ask_found`].
pub(super) fn ask(target: &Path, verb: &str, args: Value) -> Result<Option<Value>, Failure> {
    ask_found(if_any(connect(target))?.as_ref(), target, verb, args)
}

/// Asks the daemon that was found for a target, if one was, one thing that changes nothing. `None`: the target is a store that
/// nobody has, or no longer, since its daemon ended instead of answering; so it can be opened. A mount that has ended cannot.
pub(super) fn ask_found(
    client: Option<&Client>,
    target: &Path,
    verb: &str,
    args: Value,
) -> Result<Option<Value>, Failure> {
    let Some(client) = client else { return Ok(None) };
    match client.ask(verb, args)? {
        None if StoreId::of(target).is_ok_and(|id| id == client.record().store_id) => Ok(None),
        None => Err(client.ended()),
        answer => Ok(answer),
    }
}

/// Has a daemon change something. If it ends instead of answering, that is the failure: what it had begun is not gone on with
/// by whoever asked, who knows nothing of it.
pub(super) fn change(client: &Client, verb: &str, args: Value) -> Result<Value, Failure> {
    client.ask(verb, args)?.ok_or_else(|| client.ended())
}

/// The living daemon of the mount that a path lies in, by its name alone.
pub(super) fn mounted_above(path: &Path) -> Option<Client> {
    let path = std::path::absolute(path).ok()?;
    let all =
        registry::all().into_iter().filter(|f| path.starts_with(&f.record.mountpoint) && f.is_running());
    all.max_by_key(|found| found.record.mountpoint.as_os_str().len()).map(Client::of)
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
