//! Stores that nobody has open: the repair of what is derived, and getting files out of what cannot be mounted.
//!
//! A repair holds the store for itself alone. Whoever only reads makes no file and leaves no trace in it.

use super::engine::CheckReport;
use super::hold::{lock, probe};
use super::refusal::{COPIED, io, limited, told_volume};
use super::sides::part_for_repair;
use crate::check::{self, Depth};
use crate::ctl::{Code, Failure};
use crate::device::lock::{LockMode, StoreLock};
use crate::device::{self, Device, DirDevice, FileDevice, StoreKind, mark};
use crate::limits::STORE_BYTES_DEFAULT;
use crate::names;
use crate::repair::{self, Mode, Repair};
use crate::salvage::{self, Listener, SalvageError, Summary, Wanted};
use crate::volume::{self, OpenOptions, Volume, VolumeError};
use serde_json::json;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Clean tree nodes that the proof of a copy keeps, in bytes.
const CACHE_BYTES: usize = 64 << 20;

/// A store as a device, and the lock on it.
struct LockedStore {
    device: Arc<dyn Device>,
    path: PathBuf,
    _lock: Option<StoreLock>,
}

fn hold(store: &Path, mode: LockMode) -> Result<LockedStore, Failure> {
    let refuse = |code, what: &str| Err(Failure::new(code, format!("{}: {what}", names::shown(store))));
    let kind = probe(store)?;
    match &kind {
        StoreKind::Missing => return refuse(Code::NotFound, "there is no such store"),
        StoreKind::EmptyDirectory => return refuse(Code::NotFound, "this directory is empty, not a store"),
        StoreKind::ForeignDirectory { .. } => {
            return refuse(Code::Invalid, "this directory is no snapfs store");
        }
        StoreKind::Other { what } => return refuse(Code::Invalid, &format!("{what} cannot be a store")),
        StoreKind::DirectoryStore | StoreKind::ImageFile { .. } | StoreKind::BlockDevice { .. } => {}
    }
    let path = store.canonicalize().map_err(|e| {
        Failure::new(Code::Io, format!("{}: cannot find the way to the store: {e}", names::shown(store)))
    })?;
    // Without its file nobody holds the lock, and a reader makes no file.
    let no_lock_file = kind == StoreKind::DirectoryStore && !path.join("lock").exists();
    let lock =
        (mode == LockMode::Exclusive || !no_lock_file).then(|| lock(&path, &kind, mode)).transpose()?;
    let access = match mode {
        LockMode::Exclusive => device::Access::ReadWrite,
        LockMode::Shared => device::Access::ReadOnly,
    };
    let device: Arc<dyn Device> = match kind {
        StoreKind::DirectoryStore => {
            Arc::new(DirDevice::open(&path, STORE_BYTES_DEFAULT, access).map_err(|e| io(store, e))?)
        }
        _ => Arc::new(FileDevice::open(&path, access).map_err(|e| io(store, e))?),
    };
    Ok(LockedStore { device, path, _lock: lock })
}

/// Repairs a store, or tells what a repair would do.
pub(super) fn repair(store: &Path, mode: Mode, depth: Depth) -> Result<Repair, Failure> {
    let held = hold(store, if mode == Mode::Write { LockMode::Exclusive } else { LockMode::Shared })?;
    let device = held.device.clone();
    let run = |mode| match mark::is_copy_of_open(&*device) {
        false => repair::run(device.clone(), mode, depth),
        true => repair_copy(&device, mode),
    };
    let mut done = run(Mode::DryRun);
    // A side whose partner is away is the newer one when it was mended, and it is not made that for nothing.
    if mode == Mode::Write && done.as_ref().is_ok_and(|dry| !dry.rebuilt.is_empty()) {
        part_for_repair(&held.path, device.clone())?;
        done = run(Mode::Write);
    }
    let done = done.map_err(|e| told_volume(store, &e));
    device.limit_met().map_or(done, |limit| Err(limited(store, &limit)))
}

/// Repairs a copy of a store in use, and accepts it if everything in it proves sound then.
fn repair_copy(device: &Arc<dyn Device>, mode: Mode) -> Result<Repair, VolumeError> {
    let mut done = repair::run(device.clone(), mode, Depth::Data)?;
    // What a repair would mend is not proved by a dry run.
    let as_it_is = mode == Mode::Write || done.rebuilt.is_empty();
    if done.left.is_empty() && as_it_is {
        let options = OpenOptions { access: volume::Access::ReadOnly, cache_bytes: CACHE_BYTES };
        let proved = Volume::open(device.clone(), options).and_then(|volume| {
            let mut report = check::check(&volume, Depth::Data)?;
            check::check_waiting(device.clone(), Depth::Data, &mut report)?;
            Ok(report.problems)
        });
        done.left = proved.unwrap_or_else(|e| vec![e.to_string()]);
    }
    done.found.insert(0, COPIED.into());
    if done.left.is_empty() {
        if mode == Mode::Write {
            mark::close(&**device).map_err(|e| VolumeError::Device(e.to_string()))?;
        }
        done.rebuilt.push("the mark that tells it from the store, if everything in it is sound".into());
    }
    Ok(done)
}

/// What is wrong with a store that cannot be opened.
pub(super) fn look(store: &Path, depth: Depth) -> Result<CheckReport, Failure> {
    let Repair { found: mut findings, left, .. } = repair(store, Mode::DryRun, depth)?;
    let summary = json!({"opens": false, "repairable": left.is_empty()});
    let more: Vec<String> = left.into_iter().filter(|what| !findings.contains(what)).collect();
    findings.extend(more);
    Ok(CheckReport { findings, summary })
}

/// Gets files out.
pub(super) fn salvage(
    store: &Path,
    out: Option<&Path>,
    wanted: &Wanted,
    listener: &mut dyn Listener,
) -> Result<Summary, Failure> {
    let held = hold(store, LockMode::Shared)?;
    let inside = |out: &Path| {
        let parent = out.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
        let real = out.canonicalize().or_else(|_| parent.canonicalize());
        real.is_ok_and(|real| real.starts_with(&held.path))
    };
    if let Some(out) = out.filter(|out| inside(out)) {
        let what = "this is inside the store, and nothing is written there";
        return Err(Failure::new(Code::Invalid, format!("{}: {what}", names::shown(out))));
    }
    let done = salvage::run(&held.device, wanted, out, listener);
    if let Some(limit) = held.device.limit_met() {
        return Err(limited(store, &limit));
    }
    done.map_err(|e| {
        let code = match e {
            SalvageError::Nothing => Code::Invalid,
            SalvageError::NoSuchSnapshot { .. } => Code::NotFound,
            SalvageError::Output(_) => Code::Io,
        };
        let place = if matches!(e, SalvageError::Output(_)) {
            String::new()
        } else {
            format!("{}: ", names::shown(store))
        };
        Failure::new(code, format!("{place}{e}"))
    })
}
