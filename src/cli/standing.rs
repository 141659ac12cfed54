//! How the sides of a store stand to each other: which one is newer, what the other lacks, and since when. They are only looked at:
//! nothing is written, and nobody is kept from anything for longer than that takes.
//!
//! A side that takes part in nothing is known by its label and its superblocks. What it lacks is counted on the one that is
//! newer, from what was written there since the two parted.

use super::held_side::{LIMIT, late};
use super::hold::{lock, look_at, probe};
use super::mirror_order::encode_side;
use super::not_ours;
use super::output;
use super::refusal::io;
use super::sides::{DeviceSeen, is_newer, limit_of};
use crate::ctl::{Code, Failure};
use crate::device::bystander::Beside;
use crate::device::lock::{LockMode, StoreLock};
use crate::device::mirror::{Both, SideState, meet, meet_in_states, read_rests};
use crate::device::patience::{Alive, patiently, patiently_beside};
use crate::device::{Device, StoreKind, mark};
use crate::format::Epoch;
use crate::format::mirror::{Label, Standing};
use crate::format::rest::FillRest;
use crate::format::superblock::{INCOMPAT_MIRRORED, Superblock};
use crate::names;
use crate::ops::Timestamp;
use crate::volume::{Access, HasUpTo, OpenOptions, SideLag, Volume, newest_and_before};
use serde_json::{Value, json};
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

/// So many threads may look at one side that does not answer.
const LOOKS_MAX: usize = 4;
/// Memory for clean blocks of a store in which is counted.
const CACHE_BYTES: usize = 1 << 20;

/// What can be seen where a side should be.
pub(super) enum SideLooked {
    There(Box<SideThere>),
    /// There is nothing that could be one.
    Missing,
    /// It does not answer: a sentence.
    Silent(String),
}

/// What can be seen of a side.
pub(super) struct SideThere {
    seen: DeviceSeen,
    /// What it has noted of a filling, the newest first.
    rests: Vec<FillRest>,
}

impl SideThere {
    fn of(device: &dyn Device) -> SideThere {
        let seen = DeviceSeen::of(device);
        let is_incomplete = seen.label.as_ref().is_some_and(|label| label.standing == Standing::Incomplete);
        let rests = if is_incomplete { read_rests(device) } else { Vec::new() };
        SideThere { seen, rests }
    }

    fn label(&self) -> Option<(&Label, u64)> {
        Some((self.seen.label.as_ref()?, self.seen.before.unwrap_or(0)))
    }

    /// When its newest state was written.
    fn time(&self) -> Option<i64> {
        self.seen.state.as_ref().map(|state| state.time.0)
    }
}

/// Looks at what is where a side should be, within a limit. `looks` is had by each thread that does that.
pub(super) fn look_in_time(path: &Path, (limit, beside): (Duration, &Beside), looks: &Arc<()>) -> SideLooked {
    if path.as_os_str().is_empty() {
        return SideLooked::Missing;
    }
    if Arc::strong_count(looks) > LOOKS_MAX {
        return SideLooked::Silent("it has not answered since it was looked at before".into());
    }
    let (owned, looks) = (path.to_owned(), looks.clone());
    // Closed by that thread as well.
    let look = move |_: &Alive| {
        let there = look_at(&owned).map(|device| SideThere::of(&*device));
        drop(looks);
        there
    };
    match patiently_beside(limit, beside, look) {
        None => SideLooked::Silent(late(path, limit).message),
        Some(None) => SideLooked::Missing,
        Some(Some(there)) => SideLooked::There(Box::new(there)),
    }
}

/// How two sides stand, each in a word.
fn words(met: Both, theirs: &Label) -> [&'static str; 2] {
    let (ours, of_theirs) = match met {
        Both::Together => ("in sync", "in sync"),
        Both::FirstAhead => ("newer", "older"),
        Both::SecondAhead => ("older", "newer"),
        Both::SplitBrain => ("parted", "parted"),
        Both::Neither => ("unknown", "unknown"),
        Both::Strangers => ("unknown", "stranger"),
    };
    let of_theirs = match theirs.standing {
        Standing::Split => "own store",
        _ if theirs.is_detached() => "detached",
        _ => of_theirs,
    };
    [ours, of_theirs]
}

/// The other one as an object, of which is known what was seen of it.
fn encode_looked(path: &Path, looked: &SideLooked) -> Value {
    let (state, why, label) = match looked {
        SideLooked::There(there) => ("there", None, there.seen.label.clone()),
        SideLooked::Missing => ("missing", None, None),
        SideLooked::Silent(why) => ("silent", Some(why.clone()), None),
    };
    let place = names::shown(path);
    encode_side(&SideState { state, why, label, pending_calls: 0, place }, Some(path))
}

fn put_lag(side: &mut Value, lag: Option<SideLag>, since: Option<i64>) {
    side["lag_bytes"] = json!(lag.map(|lag| lag.bytes));
    side["lag_is_least"] = json!(lag.map(|lag| lag.is_least));
    side["lag_since"] = json!(since.map(|secs| output::rfc3339(Timestamp { secs, nanos: 0 })));
}

fn put_newer(status: &mut Value) {
    let sides = status["sides"].as_array().into_iter().flatten();
    let newer = sides.filter(|side| side["stands"] == "newer").find_map(|side| names::get(side, "path"));
    match newer {
        Some(path) => names::put(status, "newer", OsStr::from_bytes(&path)),
        None => status["newer"] = Value::Null,
    }
}

fn known_since(label: &Label) -> Option<i64> {
    Some(label.parted_secs).filter(|secs| *secs != 0 && label.standing == Standing::Alone)
}

/// What a side has of which nothing can be seen, as its partner knows. None if that has never gone on alone.
fn has_unseen(ours: &Label) -> Option<HasUpTo> {
    let has = HasUpTo::State(Epoch(ours.parted_at));
    (ours.standing == Standing::Alone).then_some(has)
}

/// Of sides that are in sync, or of which one is being filled, how each stands.
pub(super) fn tell_together(status: &mut Value, label: &Label) {
    let number = |key: &str| status[key].as_u64().unwrap_or(0);
    let left = Some(number("total_bytes")).filter(|total| *total > 0);
    let left =
        left.map(|total| SideLag { bytes: total.saturating_sub(number("done_bytes")), is_least: false });
    let in_sync = status["in_sync"] == true;
    for side in status["sides"].as_array_mut().into_iter().flatten() {
        side["stands"] = match side["state"].as_str() {
            Some("serving") if in_sync => "in sync".into(),
            Some("serving") => "newer".into(),
            Some("lost") => "older".into(),
            _ => "filling".into(),
        };
        if side["stands"] == "filling" {
            put_lag(side, left, known_since(label));
        }
    }
    put_newer(status);
}

/// Of a store that is in use with one side, how that stands to the other, of which was seen what there is.
pub(super) fn tell_apart(
    status: &mut Value,
    (ours, volume, reached): (&Label, &Volume, Epoch),
    (path, looked): (&Path, SideLooked),
) {
    // What nobody has noted yet is that it goes on alone.
    let has_unseen = || has_unseen(ours).unwrap_or(HasUpTo::State(reached));
    let ([ours_is, theirs_is], has, since) = match &looked {
        SideLooked::There(there) => match there.label() {
            None => (["unknown", "stranger"], None, None),
            Some((theirs, before)) => {
                // Only one that is behind is judged by its state, and by nothing of ours.
                let words = match meet_in_states((ours, 0), (theirs, before)) {
                    Both::Together => ["newer", "older"],
                    met => words(met, theirs),
                };
                let has = HasUpTo::of_side(ours, (theirs, there.rests.clone()), reached);
                (words, Some(has), there.time().or(known_since(ours)))
            }
        },
        SideLooked::Missing => (["newer", "missing"], Some(has_unseen()), known_since(ours)),
        SideLooked::Silent(_) => (["newer", "silent"], Some(has_unseen()), known_since(ours)),
    };
    let is_behind = matches!(theirs_is, "older" | "missing" | "silent");
    let counted = |has| {
        volume.lag_of(&has).inspect_err(|e| log::warn!("mirror: it cannot be counted what a side lacks: {e}"))
    };
    let lag = has.filter(|_| is_behind).and_then(|has| counted(has).ok());
    let Some(sides) = status["sides"].as_array_mut() else { return };
    sides.iter_mut().for_each(|side| side["stands"] = ours_is.into());
    if !sides.iter().any(|side| side["state"] == "lost") {
        sides.push(encode_looked(path, &looked));
    }
    let other = sides.iter_mut().rfind(|side| side["state"] != "serving");
    if let Some(other) = other {
        other["stands"] = theirs_is.into();
        if is_behind {
            put_lag(other, lag, since);
        }
        if let (SideLooked::Silent(why), Value::Null) = (&looked, &other["why"]) {
            other["why"] = why.as_str().into();
        }
    }
    put_newer(status);
}

/// Whether it is counted what a side lacks.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum LagWanted {
    Counted,
    Uncounted,
}

/// How a store stands to its other side that nobody has mounted: an object.
///
/// # Errors
/// If there is no store, or somebody writes to it.
pub(super) fn of_closed(store: &Path) -> Result<Value, Failure> {
    let kind = not_ours::probe_to_look(store)?;
    // Nobody is kept from mounting it while it is looked at, which may take a while.
    let (real, _) = held_to_look(store, &kind)?;
    let mut status = of_reader(&real, LagWanted::Counted)?;
    status["mounted"] = false.into();
    Ok(status)
}

fn held_to_look(store: &Path, kind: &StoreKind) -> Result<(PathBuf, StoreLock), Failure> {
    let shown = names::shown(store);
    let refused = |code, what: &str| Err(Failure::new(code, format!("{shown}: {what}")));
    match kind {
        StoreKind::DirectoryStore | StoreKind::ImageFile { .. } | StoreKind::BlockDevice { .. } => {}
        StoreKind::Missing => return refused(Code::NotFound, "there is no such store"),
        _ => return refused(Code::NotFound, "there is no store"),
    }
    let real = store.canonicalize();
    let real = real.map_err(|e| Failure::new(Code::Io, format!("{shown}: cannot find the way: {e}")))?;
    let lock = lock(&real, kind, LockMode::Shared)?;
    Ok((real, lock))
}

/// The other side of one that is only read.
struct OtherLooked {
    looked: SideLooked,
    /// To count in it, if nobody wrote to it a moment ago.
    device: Option<Arc<dyn Device>>,
}

fn look_at_other(path: &Path, limit: Duration, wanted: LagWanted) -> OtherLooked {
    let nothing = |looked| OtherLooked { looked, device: None };
    if path.as_os_str().is_empty() {
        return nothing(SideLooked::Missing);
    }
    let owned = path.to_owned();
    let looked = patiently(limit, move |alive| {
        let device: Arc<dyn Device> = look_at(&owned)?;
        alive.goes_on();
        let there = SideThere::of(&*device);
        alive.goes_on();
        let hold = || probe(&owned).and_then(|kind| held_to_look(&owned, &kind)).ok();
        let held = if wanted == LagWanted::Counted { hold() } else { None };
        Some((there, held.map(|_| device)))
    });
    match looked {
        None => nothing(SideLooked::Silent(late(path, limit).message)),
        Some(None) => nothing(SideLooked::Missing),
        Some(Some((there, device))) => OtherLooked { looked: SideLooked::There(Box::new(there)), device },
    }
}

/// The label of a store that nobody need have mounted, if it has one that says where its other side is: that, and the pair.
pub(super) fn other_side(store: &Path) -> Option<(PathBuf, String)> {
    let owned = store.to_owned();
    let seen = patiently(LIMIT, move |_| Some(DeviceSeen::of(&*look_at(&owned)?))).flatten();
    let label = seen?.label.filter(|label| label.standing != Standing::Split && !label.path.is_empty())?;
    Some((PathBuf::from(OsStr::from_bytes(&label.path)), told_pair(&label)))
}

/// A pair, for programs.
pub(super) fn told_pair(label: &Label) -> String {
    label.pair.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// How two sides stand of which neither is in use here.
fn meet_at_rest(
    (here, ours, device): (&SideThere, &Label, &Arc<dyn Device>),
    there: &SideThere,
) -> [&'static str; 2] {
    let before = here.seen.before.unwrap_or(0);
    let is_ahead = || {
        let here = || newest_and_before(&**device).ok();
        is_newer(&there.seen, here, ours)
    };
    let Some((theirs, theirs_before)) = there.label() else {
        return if is_ahead() { ["older", "newer"] } else { ["unknown", "stranger"] };
    };
    let states = here.seen.state.as_ref().zip(there.seen.state.as_ref()).map(|(a, b)| (a.seq, b.seq));
    match (meet_in_states((ours, before), (theirs, theirs_before)), states) {
        // Each state is on both before the next begins: one that lacks more was put back to an older time.
        (Both::Together, Some((a, b))) if a > b + 1 => ["newer", "older"],
        (Both::Together, Some((a, b))) if b > a + 1 => ["older", "newer"],
        (Both::Strangers, _) if is_ahead() => ["older", "newer"],
        (met, _) => words(met, theirs),
    }
}

/// The same of one that is only read, be it mounted, and that nobody else writes to.
///
/// # Errors
/// If there is no store.
pub(super) fn of_reader(store: &Path, wanted: LagWanted) -> Result<Value, Failure> {
    let refused = |what: &str| Failure::new(Code::Invalid, format!("{}: {what}", names::shown(store)));
    let device: Arc<dyn Device> = look_at(store).ok_or_else(|| refused("there is no store"))?;
    let mut here = SideThere::of(&*device);
    let is_store = here.seen.state.is_some() || here.seen.label.is_some();
    if let Some(e) = here.seen.failed.take().filter(|_| !is_store || here.seen.lacks_label()) {
        return Err(io(store, e));
    }
    if !is_store {
        return Err(refused("it has no superblock that can be read: 'snapfs check' tells what is wrong"));
    }
    let label = here.seen.label.clone();
    let of_this =
        SideState { state: "there", why: None, label, pending_calls: 0, place: names::shown(store) };
    let mut this = encode_side(&of_this, Some(store));
    let lacks = here.seen.lacks_label();
    let Some(ours) = here.seen.label.clone().filter(|label| label.standing != Standing::Split) else {
        let mut sides = Vec::new();
        if lacks {
            (this["stands"], this["why"]) = ("unknown".into(), "its label cannot be read".into());
            sides.push(this);
        }
        let told =
            json!({"mirrored": lacks, "in_sync": false, "stands": "unknown", "newer": null, "sides": sides});
        return Ok(told);
    };
    let path = Path::new(OsStr::from_bytes(&ours.path));
    let OtherLooked { looked, device: other } = look_at_other(path, limit_of(&ours).max(LIMIT), wanted);
    let alone = if ours.standing == Standing::Alone { "newer" } else { "unknown" };
    let [ours_is, theirs_is] = match &looked {
        SideLooked::There(there) => meet_at_rest((&here, &ours, &device), there),
        SideLooked::Missing => [alone, "missing"],
        SideLooked::Silent(_) => [alone, "silent"],
    };
    let mut that = encode_looked(path, &looked);
    (this["stands"], that["stands"]) = (ours_is.into(), theirs_is.into());
    match (&looked, ours_is, theirs_is) {
        (SideLooked::There(there), "newer", "older") => {
            let lag = lag_at_rest(wanted, Some(&device), &here, there);
            put_lag(&mut that, lag, there.time().or(known_since(&ours)));
        }
        (SideLooked::There(there), "older", "newer") => {
            let lag = lag_at_rest(wanted, other.as_ref(), there, &here);
            put_lag(&mut this, lag, here.time());
        }
        (SideLooked::Missing | SideLooked::Silent(_), ..) => {
            let has = has_unseen(&ours);
            let lag = has.and_then(|has| counted(wanted, Some(&device), has));
            put_lag(&mut that, lag, known_since(&ours));
        }
        _ => {}
    }
    let stands = match (ours_is, theirs_is) {
        ("in sync", _) => "together",
        ("newer", "older") => "ahead",
        ("older", "newer") => "behind",
        ("parted", _) => "both ahead",
        _ => "unknown",
    };
    let mut status = json!({
        "mirrored": true, "in_sync": ours_is == "in sync", "stands": stands, "sides": [this, that],
        "limit_ms": ours.limit_ms, "pair": told_pair(&ours),
    });
    if !ours.path.is_empty() {
        names::put(&mut status, "partner", path);
    }
    put_newer(&mut status);
    Ok(status)
}

/// The same of one that is mounted to be read. None for what is no side.
pub(super) fn of_mounted(store: &Path, wanted: LagWanted) -> Option<Value> {
    let mut status = of_reader(store, wanted).ok().filter(|status| status["mirrored"] == true)?;
    // Nobody keeps it so.
    (status["in_sync"], status["read_only"]) = (false.into(), true.into());
    Some(status)
}

/// As things are now, also of what is no side.
pub(super) fn of_mounted_now(store: &Path) -> Value {
    of_mounted(store, LagWanted::Counted).unwrap_or_else(|| json!({"read_only": true, "sides": []}))
}

/// What the older of two lacks, counted in the newer, if that can be read.
fn lag_at_rest(
    wanted: LagWanted,
    device: Option<&Arc<dyn Device>>,
    newer: &SideThere,
    older: &SideThere,
) -> Option<SideLag> {
    let (ours, _) = newer.label()?;
    let (theirs, _) = older.label()?;
    let reached = newer.seen.state.as_ref().map_or(Epoch(0), |state| state.epoch);
    let has = match (&older.seen.state, meet(ours, theirs)) {
        // One that was put back, of which nobody took note.
        (Some(state), Both::Together) => HasUpTo::State(state.epoch),
        _ => HasUpTo::of_side(ours, (theirs, older.rests.clone()), reached),
    };
    counted(wanted, device, has)
}

/// Counted within the limit, of what may be on its way to be another state: then there is no figure, or one of a moment ago.
fn counted(wanted: LagWanted, device: Option<&Arc<dyn Device>>, has: HasUpTo) -> Option<SideLag> {
    let device = device.filter(|_| wanted == LagWanted::Counted)?.clone();
    let options = OpenOptions { access: Access::ReadOnly, cache_bytes: CACHE_BYTES };
    let count = move |_: &Alive| Volume::open(device, options).and_then(|volume| volume.lag_of(&has));
    patiently(LIMIT, count)?
        .inspect_err(|e| log::debug!("mirror: it cannot be counted what a side lacks: {e}"))
        .ok()
}

/// True of a store that has no other side and is the half of no split: who opens it for writing says nothing about another one.
pub(super) fn is_by_itself(store: &Path) -> bool {
    let Some(device) = look_at(store) else { return false };
    let seen = DeviceSeen::of(&*device);
    let is_whole =
        |state: &Superblock| state.incompat & INCOMPAT_MIRRORED == 0 && state.identity == state.uuid;
    seen.label.is_none()
        && seen.failed.is_none()
        && seen.state.as_ref().is_some_and(is_whole)
        && !mark::is_copy_of_open(&*device)
}
