//! The sides of a mirrored store: found, locked and opened together, and a new one made ready.
//!
//! Each side is held as a store is: nobody else writes to it while this program does, whatever part it has in the mirror.

use super::hold::{lock, probe};
use super::making::{DEVICE_START_BYTES, has_content, unfinished};
use super::refusal::io;
use crate::ctl::{Code, Failure};
use crate::device::lock::{LockMode, StoreLock};
use crate::device::mirror::{
    self, Both, MirrorError, Present, is_copied, meet, open_sides, read_label, write_label,
};
use crate::device::{self, Device, DirDevice, FileDevice, Mirror, StoreKind, mark};
use crate::format::mirror::{Label, Standing};
use crate::format::superblock::{INCOMPAT_MIRRORED, Superblock};
use crate::limits::STORE_BYTES_DEFAULT;
use crate::names;
use crate::sys::random::random;
use crate::volume::newest_superblock;
use serde_json::{Value, json};
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Where the other side is looked for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Partner {
    /// Where it was last.
    #[default]
    AsNoted,
    /// There.
    At(PathBuf),
    /// Nowhere: this side is served alone, also if it is known to be older.
    Nobody,
}

impl Partner {
    /// Refuses to make a store where one must be that has, or had, another side.
    pub(super) fn proves_a_store(&self, store: &Path) -> Result<(), Failure> {
        let way = match self {
            Partner::AsNoted => return Ok(()),
            Partner::At(other) => format!("mount its other side alone: snapfs mount {}", names::shown(other)),
            Partner::Nobody => "mount its other side".into(),
        };
        let what = format!("there is no store here, and mirror= says that one has been; {way}");
        Err(refused(store, Code::NotFound, &what))
    }
}

/// A side that is held.
pub(super) struct HeldSide {
    /// Where it is.
    pub(super) path: PathBuf,
    /// How its partner finds it: of a block device by the name that was given, which may be one that lasts.
    pub(super) named: PathBuf,
    /// Its device.
    pub(super) device: Arc<dyn Device>,
    /// Dropped with it.
    pub(super) _lock: StoreLock,
}

/// What was opened.
pub(super) struct OpenedSides {
    /// The device of the store.
    pub(super) mirror: Arc<Mirror>,
    /// The side that serves, or the one at the path of the store if both do.
    pub(super) home: HeldSide,
    /// The other side, if it is there, in sync or not.
    pub(super) other: Option<HeldSide>,
    /// That one is to be filled.
    pub(super) is_behind: bool,
    /// The side that was named.
    pub(super) named: PathBuf,
}

impl OpenedSides {
    /// Marks the sides that are in sync as open.
    pub(super) fn mark_open(&self) {
        for side in [Some(&self.home), self.other.as_ref().filter(|_| !self.is_behind)].into_iter().flatten()
        {
            if let Err(e) = mark::open(&*side.device) {
                log::warn!("cannot mark the store as open, a copy of it will not be known as one: {e}");
            }
        }
    }
}

fn refused(store: &Path, code: Code, what: &str) -> Failure {
    Failure::new(code, format!("{}: {what}", names::shown(store)))
}

/// Of a mirror.
pub(super) fn told_mirror(store: &Path, e: MirrorError) -> Failure {
    match e {
        MirrorError::Device(e) => io(store, e),
        MirrorError::Refused(why) if why.contains(&names::shown(store)) => Failure::new(Code::Invalid, why),
        MirrorError::Refused(why) => refused(store, Code::Invalid, &why),
    }
}

fn seed() -> Result<u64, Failure> {
    random().map(u64::from_le_bytes).map_err(|e| Failure::new(Code::Other, e.to_string()))
}

/// The label of a device, if it counts, and the epoch of its newest superblock.
pub(super) fn label_in_force(store: &Path, device: &dyn Device) -> Result<(Option<Label>, u64), Failure> {
    let state = newest_superblock(device).ok();
    let label = label_of(store, device, state.as_ref())?;
    Ok((label, state.map_or(0, |state| state.epoch.0)))
}

/// The label of a device with this superblock, if it counts.
fn label_of(store: &Path, device: &dyn Device, state: Option<&Superblock>) -> Result<Option<Label>, Failure> {
    let is_side = state.is_some_and(|state| state.incompat & INCOMPAT_MIRRORED != 0);
    let label = match read_label(device) {
        Ok(label) => label,
        Err(e) if is_side => return Err(io(store, e)),
        // What has no label that can be read may be a store all the same, or none: who opens it tells.
        Err(_) => None,
    };
    let counts = |label: &Label| is_side || matches!(label.standing, Standing::Incomplete | Standing::Split);
    Ok(label.filter(counts))
}

fn present(store: &Path, device: Arc<dyn Device>) -> Result<Present, Failure> {
    let newest = newest_superblock(&*device).ok();
    let label = label_of(store, &*device, newest.as_ref())?;
    let (epoch, state) = newest.map_or((0, 0), |newest| (newest.epoch.0, newest.seq));
    Ok(Present { place: names::shown(store), device, label, epoch, state })
}

/// True if a device has a newer state of the store that another has: its label tells, or, if it has none that knows the other
/// any more, that it is of the same store.
fn is_newer(there: &dyn Device, theirs: Option<&Label>, here: &dyn Device, ours: &Label) -> bool {
    match theirs.map(|theirs| meet(ours, theirs)) {
        Some(Both::SecondAhead) => return true,
        None | Some(Both::Strangers) => {}
        Some(_) => return false,
    }
    let whole = matches!(ours.standing, Standing::Together | Standing::Stale);
    match (newest_superblock(here), newest_superblock(there)) {
        (Ok(here), Ok(there)) if whole => {
            (here.uuid, here.identity) == (there.uuid, there.identity) && here.epoch < there.epoch
        }
        _ => false,
    }
}

/// What is told of a side whose partner does not know it any more.
fn left_behind(store: &Path, partner: &Path) -> Failure {
    let partner = names::shown(partner);
    refused(
        store,
        Code::Invalid,
        &format!(
            "it has an older state of the store that {partner} has: mount that one, or this one as it is with -o mirror=alone"
        ),
    )
}

/// What is at a path, to be read, if it is a store.
fn look_at(path: &Path) -> Option<Box<dyn Device>> {
    Some(match probe(path).ok()? {
        StoreKind::DirectoryStore => {
            Box::new(DirDevice::open(path, STORE_BYTES_DEFAULT, device::Access::ReadOnly).ok()?)
        }
        StoreKind::ImageFile { .. } | StoreKind::BlockDevice { .. } => {
            Box::new(FileDevice::open(path, device::Access::ReadOnly).ok()?)
        }
        _ => return None,
    })
}

/// Where the partner of a side is, if it is there and has a newer state. It is only looked at.
fn newer_partner(device: &dyn Device, label: &Label) -> Option<PathBuf> {
    let path = Path::new(OsStr::from_bytes(&label.path));
    let there = look_at(path)?;
    let (theirs, _) = label_in_force(path, &*there).ok()?;
    is_newer(&*there, theirs.as_ref(), device, label).then(|| path.to_path_buf())
}

/// Refuses to look at a side as at a store if it is none, or, to be `served`, is known to be old. Nothing is written.
pub(super) fn may_be_read(store: &Path, device: &dyn Device, served: bool) -> Result<(), Failure> {
    let label = label_in_force(store, device)?.0;
    if let Some(label) = label.as_ref().filter(|label| label.standing == Standing::Together)
        && let Some(partner) = newer_partner(device, label)
    {
        let old = left_behind(store, &partner);
        if served {
            return Err(old);
        }
        log::warn!("{old}");
    }
    match label {
        Some(label) if label.standing == Standing::Stale && served => Err(refused(
            store,
            Code::Invalid,
            "it is older than its partner, which went on without it: mount the partner, or this one as it is with -o mirror=alone",
        )),
        Some(label) if label.standing == Standing::Incomplete => Err(refused(
            store,
            Code::Invalid,
            "it was to become the other side of a mirror and was not filled to the end: it is no store; mount its partner",
        )),
        _ => Ok(()),
    }
}

/// How a side that is only read stands to its partner, as far as that can be seen from here: for its status. None for what is
/// no side.
pub(super) fn standing_of_reader(store: &Path, device: &dyn Device) -> Option<Value> {
    let ours = label_in_force(store, device).ok()?.0?;
    let is_side = matches!(ours.standing, Standing::Together | Standing::Alone | Standing::Stale);
    if !is_side || ours.path.is_empty() {
        return None;
    }
    let path = Path::new(OsStr::from_bytes(&ours.path));
    let theirs = look_at(path).and_then(|there| label_in_force(path, &*there).ok()?.0);
    let stands = match theirs.map(|theirs| meet(&ours, &theirs)) {
        Some(Both::Together) => "together",
        Some(Both::FirstAhead) => "ahead",
        Some(Both::SecondAhead) => "behind",
        Some(Both::SplitBrain) => "both ahead",
        Some(Both::Neither | Both::Strangers) | None => "unknown",
    };
    let mut status =
        json!({"mirrored": true, "in_sync": false, "read_only": true, "sides": [], "stands": stands});
    names::put(&mut status, "partner", path);
    Some(status)
}

/// Locks a side and opens it for writing.
pub(super) fn hold_side(store: &Path) -> Result<HeldSide, Failure> {
    let kind = probe(store)?;
    match &kind {
        StoreKind::DirectoryStore | StoreKind::ImageFile { .. } | StoreKind::BlockDevice { .. } => {}
        _ => return Err(refused(store, Code::NotFound, "there is no store")),
    }
    let path =
        store.canonicalize().map_err(|e| refused(store, Code::Io, &format!("cannot find the way: {e}")))?;
    let lock = lock(&path, &kind, LockMode::Exclusive)?;
    let device: Arc<dyn Device> = match kind {
        StoreKind::DirectoryStore => Arc::new(
            DirDevice::open(&path, STORE_BYTES_DEFAULT, device::Access::ReadWrite)
                .map_err(|e| io(store, e))?,
        ),
        _ => Arc::new(FileDevice::open(&path, device::Access::ReadWrite).map_err(|e| io(store, e))?),
    };
    if mark::is_copy_of_open(&*device) {
        return Err(refused(store, Code::Damaged, super::refusal::COPIED));
    }
    let named = lasting_name(store, &path);
    Ok(HeldSide { path, named, device, _lock: lock })
}

/// The name that a partner notes of a store at `path` that was called `given`: devices are numbered anew at each start of the
/// machine, and the name that somebody chose may be made for that.
pub(super) fn lasting_name(given: &Path, path: &Path) -> PathBuf {
    match std::path::absolute(given) {
        Ok(given) if path.starts_with("/dev") => given,
        _ => path.to_path_buf(),
    }
}

/// Makes what is at a path ready to become a side. What is in it is lost, which is refused without `force`.
pub(super) fn hold_new_side(store: &Path, force: bool) -> Result<HeldSide, Failure> {
    let kind = probe(store)?;
    let occupied = match &kind {
        StoreKind::ForeignDirectory { example } => {
            let what = format!("this directory has other files in it (for instance '{example}')");
            return Err(refused(store, Code::Exists, &what));
        }
        StoreKind::Other { what } => {
            return Err(refused(store, Code::Invalid, &format!("{what} cannot hold a store")));
        }
        StoreKind::ImageFile { len: 0 } => {
            return Err(refused(store, Code::Invalid, "an image file must have its size ('truncate -s')"));
        }
        StoreKind::Missing | StoreKind::EmptyDirectory => false,
        StoreKind::DirectoryStore => !unfinished(store),
        StoreKind::ImageFile { .. } => has_content(store, u64::MAX),
        StoreKind::BlockDevice { .. } => has_content(store, DEVICE_START_BYTES),
    };
    if occupied && !force {
        let what = "it is not empty; --force overwrites it, and everything in it is lost (a side that was here before comes back with 'snapfs mirror resync')";
        return Err(refused(store, Code::Exists, what));
    }
    if matches!(kind, StoreKind::Missing | StoreKind::EmptyDirectory) {
        if kind == StoreKind::Missing {
            std::fs::create_dir(store)
                .map_err(|e| refused(store, Code::Io, &format!("cannot make the directory: {e}")))?;
        }
        drop(DirDevice::create(store, STORE_BYTES_DEFAULT).map_err(|e| io(store, e))?);
    }
    hold_side(store)
}

/// The other side, if it is where it should be and nothing is wrong with it.
fn find_other(store: &Path, label: &Label, wanted: &Partner) -> Result<Option<HeldSide>, Failure> {
    let path = match wanted {
        Partner::Nobody => return Ok(None),
        Partner::At(path) => return hold_side(path).map(Some),
        Partner::AsNoted if label.path.is_empty() || label.standing == Standing::Split => return Ok(None),
        Partner::AsNoted => Path::new(OsStr::from_bytes(&label.path)),
    };
    // A device that was the other side may be this one now.
    if path.canonicalize().is_ok_and(|path| path == store) {
        log::warn!("{}: where the other side of the mirror was is this side now", names::shown(store));
        return Ok(None);
    }
    match hold_side(path) {
        Ok(side) => Ok(Some(side)),
        // Somebody is writing to it: both would go on alone.
        Err(f) if f.code == Code::Busy => Err(f),
        Err(f) => {
            log::warn!("{}: the other side of the mirror cannot be had: {f}", names::shown(store));
            Ok(None)
        }
    }
}

/// Whether the partner of a side at `store` has been there with it; none if it cannot be looked at.
fn is_where_its_partner_knows_it(store: &Path, label: &Label) -> Option<bool> {
    let device = look_at(Path::new(OsStr::from_bytes(&label.path)))?;
    let theirs = read_label(&*device).ok()??;
    let place = Path::new(OsStr::from_bytes(&theirs.path)).canonicalize();
    Some(theirs.pair == label.pair && place.is_ok_and(|place| place == store))
}

/// A copy of a side is no side: what is done to it must not come to the side that it is a copy of, nor to its partner. It
/// becomes a store by itself, unless its partner is there and expects it where it is, or somebody has named that.
fn settle_copy(store: &Path, first: Present, wanted: &Partner) -> Result<Present, Failure> {
    let Some(label) = first.label.as_ref() else { return Ok(first) };
    let is_side = !matches!(label.standing, Standing::Incomplete | Standing::Split);
    if !is_side || !is_copied(&*first.device, label) || matches!(wanted, Partner::At(_)) {
        return Ok(first);
    }
    match (is_where_its_partner_knows_it(store, label), wanted) {
        (Some(true), _) => return Ok(first),
        (Some(false), Partner::AsNoted) => {
            let partner = names::shown_bytes(&label.path);
            let what = format!(
                "this is a copy of a side of a mirror, whose other side is {partner}: with -o mirror=alone it becomes a store \
                 by itself, with -o mirror={partner} it takes the place of the side that it is a copy of"
            );
            return Err(refused(store, Code::Invalid, &what));
        }
        _ => {}
    }
    log::warn!(
        "{}: this is a copy of a side of a mirror, and a store by itself from now on",
        names::shown(store)
    );
    let pair = random().map_err(|e| Failure::new(Code::Other, e.to_string()))?;
    let (number, path) = (label.number + 1, Vec::new());
    let own = Label { pair, number, standing: Standing::Alone, path, ..label.clone() };
    write_label(&*first.device, &own).map_err(|e| io(store, e))?;
    Ok(Present { label: Some(own), ..first })
}

/// Before one side alone is repaired: it is the newer one from then on, durably.
pub(super) fn part_for_repair(store: &Path, device: Arc<dyn Device>) -> Result<(), Failure> {
    let first = settle_copy(store, present(store, device)?, &Partner::Nobody)?;
    if first.label.is_none() {
        return Ok(());
    }
    mirror::part_for_repair(first, seed()?).map_err(|e| told_mirror(store, e))
}

/// Opens the device of a store that is held for writing, with its other side if it is mirrored and that is there. What is
/// done to `device` reaches that of `home`.
pub(super) fn open(
    home: HeldSide,
    device: Arc<dyn Device>,
    wanted: &Partner,
) -> Result<OpenedSides, Failure> {
    let store = &home.path.clone();
    let first = settle_copy(store, present(store, device)?, wanted)?;
    let other = match &first.label {
        Some(label) => find_other(store, label, wanted)?,
        None => None,
    };
    let second = other.as_ref().map(|side| present(&side.path, side.device.clone())).transpose()?;
    if let (Partner::At(path), None) = (wanted, &first.label) {
        log::warn!(
            "{}: it has no other side: mirror={} is of no use",
            names::shown(store),
            names::shown(path)
        );
    }
    if let (Partner::At(path), Some(ours), Some(second)) = (wanted, &first.label, &second)
        && second.label.as_ref().is_none_or(|theirs| theirs.pair != ours.pair)
        && !matches!(ours.standing, Standing::Split)
    {
        let what = format!("mirror={}: that is no side of this mirror", names::shown(path));
        return Err(refused(store, Code::Invalid, &what));
    }
    let here = first.device.clone();
    if let (Some(ours), Some(second)) = (&first.label, &second)
        && is_newer(&*second.device, second.label.as_ref(), &*here, ours)
        && second.label.as_ref().is_none_or(|theirs| meet(ours, theirs) == Both::Strangers)
    {
        let partner = other.as_ref().map_or(store.clone(), |side| side.path.clone());
        return Err(left_behind(store, &partner));
    }
    let opening = open_sides(first, second, *wanted == Partner::Nobody, seed()?);
    let opening = opening.map_err(|e| told_mirror(store, e))?;
    if let Some(warning) = &opening.warning {
        log::warn!("{warning}");
    }
    let is_turned = opening.behind.as_ref().is_some_and(|behind| Arc::ptr_eq(&behind.device, &here));
    let is_behind = opening.behind.is_some();
    // What turned out to be somebody else's is let go of.
    let takes_part = is_behind || opening.mirror.states().iter().flatten().count() > 1;
    let other = other.filter(|_| takes_part);
    let (home, other) = match other {
        Some(other) if is_turned => (other, Some(home)),
        other => (home, other),
    };
    Ok(OpenedSides { mirror: Arc::new(opening.mirror), home, other, is_behind, named: store.clone() })
}

/// The device itself, or, for a test that cuts the power of the whole program, one that keeps what is done to it.
pub(super) fn recorded(device: Arc<dyn Device>) -> Result<Arc<dyn Device>, Failure> {
    let Some(record) = std::env::var_os("SNAPFS_RECORD") else { return Ok(device) };
    let recorded = device::Recorded::new(device, Path::new(&record));
    let recorded = recorded
        .map_err(|e| Failure::new(Code::Io, format!("SNAPFS_RECORD={}: {e}", names::shown(&record))))?;
    Ok(Arc::new(recorded))
}
