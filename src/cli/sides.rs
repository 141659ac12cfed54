//! The sides of a mirrored store: found, locked and opened together, and a new one made ready.
//!
//! Each side is held as a store is: nobody else writes to it while this program does, whatever part it has in the mirror.
//! Whoever opens a store waits for the side that was named as for any store, unless another one was named as well. Every call
//! on the other one has a time limit, in which each call of its host has to return: what hangs is taken for what is not there.
//! That is no less than [`LIMIT`], whatever the limit of the mirror, because a disk may have to spin up.

use super::held_side::{HeldSide, LIMIT, late};
use super::hold::{lock_telling, look_at, probe};
use super::making::{DEVICE_START_BYTES, has_content_telling, refuse_missing_image, unfinished};
use super::refusal::{io, told_volume};
use super::store_device::open_device;
use crate::ctl::{Code, Failure};
use crate::device::bystander::Beside;
use crate::device::lock::LockMode;
use crate::device::mirror::{
    self, Both, DETACHED, MirrorError, Present, Timed, is_copied, meet, meet_in_states, never_labelled,
    open_sides, read_label, write_label,
};
use crate::device::patience::{Alive, patiently, patiently_beside, patiently_told};
use crate::device::{self, Device, DeviceError, DirDevice, Mirror, StoreKind, mark};
use crate::format::Epoch;
use crate::format::mirror::{Label, Standing};
use crate::format::superblock::{INCOMPAT_MIRRORED, Superblock};
use crate::limits::STORE_BYTES_DEFAULT;
use crate::names;
use crate::sys::random::random;
use crate::volume::{
    LackingSide, level_states, log_ends, newest_and_before, newest_superblock, side_that_is_short,
    side_that_lacks,
};
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

/// After so long whoever waits for a side is told so.
const TOLD_AFTER: Duration = Duration::from_secs(1);

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

    /// Refuses a store that hangs where another side was named: whoever has one to turn to need not wait.
    pub(super) fn need_not_wait(&self, store: &Path) -> Result<(), Failure> {
        let Partner::At(other) = self else { return Ok(()) };
        let path = store.to_owned();
        let look = move |_: &Alive| drop(look_at(&path).map(|there| newest_superblock(&*there)));
        if patiently(LIMIT, look).is_some() {
            return Ok(());
        }
        let way = format!("mount its other side alone: snapfs mount {}", names::shown(other));
        Err(Failure::new(Code::Io, format!("{}; {way}", late(store, LIMIT).message)))
    }
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
        let sides = [Some(&self.home), self.other.as_ref().filter(|_| !self.is_behind)];
        for (n, side) in sides.iter().copied().enumerate() {
            let Some(side) = side.filter(|_| self.mirror.sides().contains(&n)) else { continue };
            let other = sides[1 - n].filter(|_| self.mirror.sides().len() > 1);
            if let Err(e) = side.mark(other, self.mirror.time_limit(), mark::open) {
                log::warn!("cannot mark the store as open, a copy of it will not be known as one: {e}");
            }
        }
    }
}

/// Where a side should be and is not.
const NO_SIDE: &str = "there is no store: if the side is elsewhere, 'snapfs mirror resync --with' or -o mirror= say where; if it is gone, 'snapfs mirror attach' fills another";

/// How long whoever has a label is to wait for the other side.
pub(super) fn limit_of(label: &Label) -> Duration {
    Duration::from_millis(u64::from(label.limit_ms))
}

/// The same when a store is opened: whoever is taken for absent then is left behind, and a disk may have to spin up first.
fn opening_limit(label: &Label) -> Duration {
    limit_of(label).max(LIMIT)
}

/// Asks the host of a side, and tells whoever waits for that why. It is late only if the one beside answers meanwhile.
fn asked_of<T: Send + 'static>(
    path: &Path,
    (limit, beside): (Duration, &Beside),
    work: impl FnOnce(&Alive) -> T + Send + 'static,
) -> Option<T> {
    let told = || log::warn!("{}: it does not answer, and is waited for up to {limit:?}", names::shown(path));
    patiently_told((limit, beside), (TOLD_AFTER, told), work)
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

/// The label of a device, if it counts, and the epoch of the state before its newest.
pub(super) fn label_in_force(store: &Path, device: &dyn Device) -> Result<(Option<Label>, u64), Failure> {
    let DeviceSeen { label, state, before, failed } = DeviceSeen::of(device);
    match failed {
        Some(e) if is_side(state.as_ref()) => Err(io(store, e)),
        // What has no label that can be read may be a store all the same, or none: who opens it tells.
        _ => Ok((label, before.unwrap_or(0))),
    }
}

fn is_side(state: Option<&Superblock>) -> bool {
    state.is_some_and(|state| state.incompat & INCOMPAT_MIRRORED != 0)
}

/// A device, of which is asked by way of `asked` what it is.
fn present(store: &Path, device: Arc<dyn Device>, asked: &dyn Device) -> (Present, DeviceSeen) {
    let seen = DeviceSeen::of(asked);
    let newest = seen.state.as_ref().map(|newest| (newest.epoch.0, newest.time.0, newest.seq));
    let (epoch, secs, state) = newest.unwrap_or_default();
    let (place, label, before) = (names::shown(store), seen.label.clone(), seen.before.unwrap_or(0));
    (Present { place, device, label, epoch, secs, before, state, log: 0, lacks: None }, seen)
}

/// What can be seen of a device.
pub(super) struct DeviceSeen {
    /// Its label, if it counts.
    pub(super) label: Option<Label>,
    pub(super) state: Option<Superblock>,
    /// The epoch of the state before that.
    pub(super) before: Option<u64>,
    /// Why labels cannot be read.
    pub(super) failed: Option<DeviceError>,
}

impl DeviceSeen {
    pub(super) fn of(device: &dyn Device) -> DeviceSeen {
        let (state, before) =
            newest_and_before(device).ok().map(|(newest, before)| (newest, before.0)).unzip();
        let (label, failed) = match read_label(device) {
            Ok(label) => (label, None),
            Err(e) => (None, Some(e)),
        };
        let is_side = is_side(state.as_ref());
        // It has an identity of its own, and the power went before its label said that it was split off.
        let is_half = state.as_ref().is_some_and(|state| !is_side && state.identity != state.uuid);
        let label = label.map(|label| match label.standing {
            Standing::Together if is_half => Label { standing: Standing::Split, ..label },
            _ => label,
        });
        let counts =
            |label: &Label| is_side || matches!(label.standing, Standing::Incomplete | Standing::Split);
        DeviceSeen { label: label.filter(counts), state, before, failed }
    }

    /// True of a store that says that it is a side, and not how it stands to the other: that may be newer.
    pub(super) fn lacks_label(&self) -> bool {
        self.label.is_none() && is_side(self.state.as_ref())
    }
}

/// Refuses a store that says that it is a side and has a label that cannot be read, or only warns. One that has no label at all is as a
/// crash leaves it of which the flag was written before the label, or the label was taken away before the flag: a store by itself,
/// unless somebody has `named` its other side.
fn may_lack_label(store: &Path, device: &dyn Device, refuses: bool, named: bool) -> Result<(), Failure> {
    if !named && never_labelled(device) {
        log::warn!(
            "{}: it says that it is a side of a mirror and has no label: it is taken for a store by itself. If it has another side, that may be \
             newer: mount that one",
            names::shown(store)
        );
        return Ok(());
    }
    let lacks = without_label(store);
    if refuses {
        return Err(lacks);
    }
    log::warn!("{lacks}");
    Ok(())
}

/// What is told of a store that has no label that can be read and may have another side.
fn without_label(store: &Path) -> Failure {
    let what = "it is a side of a mirror, and its label cannot be read, so it is not known whether it has the newest state: mount its other \
                side, or, if there is none or that is older, this one with -o mirror=alone, which makes it a store by itself";
    refused(store, Code::Invalid, what)
}

/// True if a device has a newer state of the store that another has: its label tells, or, if it has none that knows the other
/// any more, that it is of the same store.
pub(super) fn is_newer(
    there: &DeviceSeen,
    here: impl FnOnce() -> Option<(Superblock, Epoch)>,
    ours: &Label,
) -> bool {
    match there.label.as_ref().map(|theirs| (theirs, meet(ours, theirs))) {
        Some((theirs, Both::SecondAhead)) => {
            let before = here().map_or(0, |(_, before)| before.0);
            return meet_in_states((ours, before), (theirs, 0)) == Both::SecondAhead;
        }
        None | Some((_, Both::Strangers)) => {}
        Some(_) => return false,
    }
    if !matches!(ours.standing, Standing::Together | Standing::Stale) {
        return false;
    }
    match (here(), &there.state) {
        (Some((here, _)), Some(there)) => {
            (here.uuid, here.identity) == (there.uuid, there.identity) && here.epoch < there.epoch
        }
        _ => false,
    }
}

/// Whether what is at a path and has the label `theirs`, and a state of the epoch `before` in front of its newest, went on by itself, beside
/// a side that has `ours`: then it may have something of its own. Fails if it is no side that can be brought in line.
pub(super) fn went_on(
    path: &Path,
    ours: &Label,
    (theirs, before): (Option<Label>, u64),
) -> Result<(Label, bool), Failure> {
    let strangers = || {
        let what = "this is no side of this mirror, and it stays as it is: 'snapfs mirror attach --force' would overwrite all that is there";
        Err(refused(path, Code::Invalid, what))
    };
    let Some(theirs) = theirs else { return strangers() };
    // Only one that is behind is judged by its state, and by nothing of ours.
    let went_on = match meet_in_states((ours, 0), (&theirs, before)) {
        Both::Together => return Err(Failure::new(Code::Invalid, "both sides are in sync")),
        Both::FirstAhead => false,
        Both::SplitBrain | Both::SecondAhead | Both::Neither => true,
        Both::Strangers => {
            let partners = ours.pair == theirs.pair && ours.partner == theirs.side;
            if !partners || theirs.partner != ours.side {
                return strangers();
            }
            true
        }
    };
    // What was being filled is no store and has nothing; what one had when it was split it has from here.
    let went_on = match theirs.standing {
        Standing::Incomplete => false,
        Standing::Split => went_on && theirs.opened,
        _ => went_on,
    };
    Ok((theirs, went_on))
}

/// What is told of a side whose partner does not know it any more.
fn left_behind(store: &Path, ours: &Label, partner: &Path) -> Failure {
    if ours.is_detached() {
        return refused(store, Code::Invalid, DETACHED);
    }
    let partner = names::shown(partner);
    refused(
        store,
        Code::Invalid,
        &format!(
            "it has an older state of the store that {partner} has: mount that one, or this one as it is with -o mirror=alone"
        ),
    )
}

/// What can be seen where the partner of a side is. Nothing of one that hangs while the side answers.
fn look_at_partner(label: &Label, beside: &Beside) -> Option<DeviceSeen> {
    let path = Path::new(OsStr::from_bytes(&label.path)).to_owned();
    let look = move |_: &Alive| Some(DeviceSeen::of(&*look_at(&path)?));
    let limit = (opening_limit(label), beside);
    asked_of(Path::new(OsStr::from_bytes(&label.path)), limit, look).flatten()
}

/// A device is asked before its partner is taken for late.
fn beside(device: &Arc<dyn Device>) -> Beside {
    Some(mirror::bystander(device.clone()))
}

/// Where the partner of a side is, if it is there and has a newer state. It is only looked at.
fn newer_partner(device: &Arc<dyn Device>, label: &Label) -> Option<PathBuf> {
    let there = look_at_partner(label, &beside(device))?;
    let path = Path::new(OsStr::from_bytes(&label.path));
    is_newer(&there, || newest_and_before(&**device).ok(), label).then(|| path.to_path_buf())
}

/// Refuses to look at a side as at a store if it is none, or, to be `served`, is known to be old. Nothing is written.
pub(super) fn may_be_read(store: &Path, device: &Arc<dyn Device>, served: bool) -> Result<(), Failure> {
    let seen = DeviceSeen::of(&**device);
    if seen.lacks_label() {
        may_lack_label(store, &**device, served, false)?;
    }
    let label = seen.label;
    if let Some(label) = label.as_ref().filter(|label| label.standing == Standing::Together)
        && let Some(partner) = newer_partner(device, label)
    {
        let old = left_behind(store, label, &partner);
        if served {
            return Err(old);
        }
        log::warn!("{old}");
    }
    match label {
        Some(label) if label.is_detached() && served => Err(refused(store, Code::Invalid, DETACHED)),
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

/// Locks a side and opens it for writing. Fails if it does not answer within the limit while the one beside does.
pub(super) fn hold_side(store: &Path, limit: Duration, beside: &Beside) -> Result<HeldSide, Failure> {
    let path = store.to_owned();
    let held = asked_of(store, (limit, beside), move |alive| hold(&path, limit, alive));
    held.unwrap_or_else(|| Err(late(store, limit)))
}

/// The same, by a thread that may hang.
fn hold(store: &Path, limit: Duration, alive: &Alive) -> Result<HeldSide, Failure> {
    let kind = probe(store)?;
    match &kind {
        StoreKind::DirectoryStore | StoreKind::ImageFile { .. } | StoreKind::BlockDevice { .. } => {}
        _ => return Err(refused(store, Code::NotFound, NO_SIDE)),
    }
    alive.goes_on();
    let path =
        store.canonicalize().map_err(|e| refused(store, Code::Io, &format!("cannot find the way: {e}")))?;
    let lock = lock_telling(&path, &kind, LockMode::Exclusive, &|| alive.goes_on())?;
    alive.goes_on();
    let is_directory = kind == StoreKind::DirectoryStore;
    let device = open_device(&path, &kind, device::Access::ReadWrite).map_err(|e| io(store, e))?;
    alive.goes_on();
    if mark::is_copy_of_open(&*device) {
        return Err(refused(store, Code::Damaged, super::refusal::COPIED));
    }
    let named = lasting_name(store, &path);
    Ok(HeldSide::new((path, named), is_directory, (device, lock), limit))
}

/// The name that a partner notes of a store at `path` that was called `given`: devices are numbered anew at each start of the
/// machine, and the name that somebody chose may be made for that.
pub(super) fn lasting_name(given: &Path, path: &Path) -> PathBuf {
    match std::path::absolute(given) {
        Ok(given) if path.starts_with("/dev") => given,
        _ => path.to_path_buf(),
    }
}

/// Makes what is at a path ready to become a side. What is in it is lost, which is refused without `force`. Fails if it does
/// not answer within the limit while the one beside does.
pub(super) fn hold_new_side(
    store: &Path,
    force: bool,
    limit: Duration,
    beside: &Beside,
) -> Result<HeldSide, Failure> {
    let path = store.to_owned();
    let held = patiently_beside(limit, beside, move |alive| hold_new(&path, force, limit, alive));
    held.unwrap_or_else(|| Err(late(store, limit)))
}

/// The same, by a thread that may hang.
fn hold_new(store: &Path, force: bool, limit: Duration, alive: &Alive) -> Result<HeldSide, Failure> {
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
        StoreKind::ImageFile { .. } => has_content_telling(store, u64::MAX, &|| alive.goes_on()),
        StoreKind::BlockDevice { .. } => has_content_telling(store, DEVICE_START_BYTES, &|| alive.goes_on()),
    };
    if !alive.goes_on() {
        // Nothing is made that nobody waits for.
        return Err(late(store, limit));
    }
    if occupied && !force {
        let what = "it is not empty; --force overwrites it, and everything in it is lost (a side that was here before comes back with 'snapfs mirror resync')";
        return Err(refused(store, Code::Exists, what));
    }
    if matches!(kind, StoreKind::Missing | StoreKind::EmptyDirectory) {
        if kind == StoreKind::Missing {
            refuse_missing_image(store, "truncate -s 100G")?;
            std::fs::create_dir(store)
                .map_err(|e| refused(store, Code::Io, &format!("cannot make the directory: {e}")))?;
        }
        drop(DirDevice::create(store, STORE_BYTES_DEFAULT).map_err(|e| io(store, e))?);
    }
    hold(store, limit, alive)
}

/// What is to be the other side, with what can be seen of it. Fails if it does not answer within the limit while the one beside does.
fn other_at(
    path: &Path,
    limit: Duration,
    beside: &Beside,
) -> Result<(HeldSide, Present, DeviceSeen), Failure> {
    let side = hold_side(path, limit, beside)?;
    let asked = side.timed(limit, beside.clone());
    let (present, seen) = present(&side.path, side.device().clone(), &asked);
    if asked.is_lost() {
        return Err(late(path, limit));
    }
    Ok((side, present, seen))
}

/// The other side, if it is where it should be and nothing is wrong with it.
fn find_other(
    store: &Path,
    (label, beside): (&Label, &Beside),
    wanted: &Partner,
) -> Result<Option<(HeldSide, Present, DeviceSeen)>, Failure> {
    let limit = opening_limit(label);
    let path = match wanted {
        Partner::Nobody => return Ok(None),
        Partner::At(path) => return other_at(path, limit, beside).map(Some),
        Partner::AsNoted if label.path.is_empty() || label.standing == Standing::Split => return Ok(None),
        Partner::AsNoted => Path::new(OsStr::from_bytes(&label.path)),
    };
    let found = match real_path(path, limit, beside) {
        None => Err(late(path, limit)),
        // A device that was the other side may be this one now.
        Some(Some(real)) if real == store => {
            log::warn!("{}: where the other side of the mirror was is this side now", names::shown(store));
            return Ok(None);
        }
        Some(_) => other_at(path, limit, beside),
    };
    match found {
        Ok(other) => Ok(Some(other)),
        // Somebody is writing to it: both would go on alone, unless it is a store of its own by now.
        Err(f) if f.code == Code::Busy && !was_split_off(label, beside) => Err(f),
        Err(f) => {
            log::warn!("{}: the other side of the mirror cannot be had: {f}", names::shown(store));
            Ok(None)
        }
    }
}

/// True if what is where the partner of a side was says that it was split off, as a crash in a split leaves it.
fn was_split_off(label: &Label, beside: &Beside) -> bool {
    look_at_partner(label, beside)
        .is_some_and(|there| there.label.is_some_and(|l| l.standing == Standing::Split))
}

/// Where a path leads, if anywhere. None if its host does not say so within the limit while the one beside answers.
pub(super) fn real_path(path: &Path, limit: Duration, beside: &Beside) -> Option<Option<PathBuf>> {
    let owned = path.to_owned();
    asked_of(path, (limit, beside), move |_| owned.canonicalize().ok())
}

/// Whether the partner of a side at `store` has been there with it; none if it cannot be looked at.
fn is_where_its_partner_knows_it(store: &Path, device: &Arc<dyn Device>, label: &Label) -> Option<bool> {
    let path = Path::new(OsStr::from_bytes(&label.path)).to_owned();
    let look = move |_: &Alive| read_label(&*look_at(&path)?).ok()?;
    let limit = (opening_limit(label), &beside(device));
    let theirs = asked_of(Path::new(OsStr::from_bytes(&label.path)), limit, look).flatten()?;
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
    match (is_where_its_partner_knows_it(store, &first.device, label), wanted) {
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
    // One without a label that can be read may be mended like any store.
    let first = settle_copy(store, present(store, device.clone(), &*device).0, &Partner::Nobody)?;
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
    let (first, here) = present(store, device.clone(), &*device);
    if here.lacks_label() {
        may_lack_label(store, &*device, *wanted != Partner::Nobody, matches!(wanted, Partner::At(_)))?;
    }
    let first = settle_copy(store, first, wanted)?;
    let found = match &first.label {
        Some(label) => find_other(store, (label, &beside(&device)), wanted)?,
        None => None,
    };
    let (other, second, seen) = match found {
        Some((other, second, seen)) => (Some(other), Some(second), Some(seen)),
        None => (None, None, None),
    };
    if let (Partner::At(path), Some(ours), Some(second)) = (wanted, &first.label, &second)
        && second.label.as_ref().is_none_or(|theirs| theirs.pair != ours.pair)
        && !matches!(ours.standing, Standing::Split)
    {
        let what = format!("mirror={}: that is no side of this mirror", names::shown(path));
        return Err(refused(store, Code::Invalid, &what));
    }
    let here = first.device.clone();
    if let (Some(ours), Some(seen)) = (&first.label, &seen)
        && seen.label.as_ref().is_none_or(|theirs| meet(ours, theirs) == Both::Strangers)
        && is_newer(seen, || newest_and_before(&asked(&here, store, ours, &other)).ok(), ours)
    {
        let partner = other.as_ref().map_or(store.clone(), |side| side.path.clone());
        return Err(left_behind(store, ours, &partner));
    }
    let (first, second) = match second {
        Some(second) => {
            let (first, second) = with_files(first, second);
            (first, Some(second))
        }
        None => (first, None),
    };
    let opening = open_sides(first, second, *wanted == Partner::Nobody, seed()?);
    let opening = opening.map_err(|e| told_mirror(store, e))?;
    if let Some(warning) = &opening.warning {
        log::warn!("{warning}");
    }
    let is_turned = opening.behind.as_ref().is_some_and(|behind| Arc::ptr_eq(&behind.device, &here));
    let is_behind = opening.behind.is_some();
    // What turned out to be somebody else's is let go of.
    let takes_part = is_behind || opening.mirror.states().iter().flatten().count() > 1;
    if let Partner::At(path) = wanted
        && !takes_part
    {
        let what = "it has no other side, and mirror= makes none: 'snapfs mirror attach' does, or 'snapfs mirror resync --with' if the two were split";
        log::warn!("{}: {what}: {}", names::shown(store), names::shown(path));
    }
    let other = other.filter(|_| takes_part);
    let (home, other) = match other {
        Some(other) if is_turned => (other, Some(home)),
        other => (home, other),
    };
    let mirror = Arc::new(opening.mirror);
    level_states(&mirror).map_err(|e| told_volume(store, &e))?;
    Ok(OpenedSides { mirror, home, other, is_behind, named: store.clone() })
}

/// Sides that should have the same, one of which may have lost files.
fn with_files(mut first: Present, mut second: Present) -> (Present, Present) {
    let (Some(ours), Some(theirs)) = (&first.label, &second.label) else { return (first, second) };
    if meet(ours, theirs) != Both::Together {
        return (first, second);
    }
    let sides = [(first.device.clone(), ours.clone()), (second.device.clone(), theirs.clone())];
    let sizes = [first.device.size(), second.device.size()];
    let mirror = Arc::new(Mirror::together(sides, 0));
    let mut lacks = |side: usize, what: String| {
        let lacking = if side == 0 { &mut first } else { &mut second };
        lacking.lacks = Some(format!("{} {what}", lacking.place));
    };
    if let Ok(Some(LackingSide { side, at })) = side_that_is_short(&mirror, sizes) {
        lacks(side, format!("is cut short, it ends at {at:#x}"));
        [first.log, second.log] = log_ends(&mirror).unwrap_or_default();
        return (first, second);
    }
    match side_that_lacks(&mirror) {
        Ok(Some(LackingSide { side, at })) => {
            lacks(side, format!("has lost files, it has nothing at {at:#x}"));
            [first.log, second.log] = log_ends(&mirror).unwrap_or_default();
        }
        Ok(None) => {}
        // Whoever opens it tells.
        Err(e) => log::debug!("mirror: it cannot be found out whether both sides have all files: {e}"),
    }
    (first, second)
}

/// The side that was named, once there is another that need not wait for it.
fn asked(here: &Arc<dyn Device>, store: &Path, label: &Label, other: &Option<HeldSide>) -> Timed {
    let limit = (limit_of(label), other.as_ref().map(HeldSide::bystander));
    Timed::new(here.clone(), names::shown(store), limit, Arc::new(()))
}

/// The device itself, or, for a test that cuts the power of the whole program, one that keeps what is done to it.
pub(super) fn recorded(device: Arc<dyn Device>) -> Result<Arc<dyn Device>, Failure> {
    let Some(record) = std::env::var_os("SNAPFS_RECORD") else { return Ok(device) };
    let recorded = device::Recorded::new(device, Path::new(&record));
    let recorded = recorded
        .map_err(|e| Failure::new(Code::Io, format!("SNAPFS_RECORD={}: {e}", names::shown(&record))))?;
    Ok(Arc::new(recorded))
}
