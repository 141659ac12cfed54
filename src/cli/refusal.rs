//! What goes wrong in the layers below, as sentences for users: which store or snapshot, what, and a code for programs.

use crate::ctl::{Code, Failure};
use crate::device;
use crate::format::LineId;
use crate::names;
use crate::ops::Error;
use crate::volume::{DAMAGED, Volume, VolumeError};
use std::path::Path;

/// The word for the live tree.
pub(super) const LIVE: &[u8] = b"@live";

/// Of a device.
pub(super) fn io(store: &Path, e: device::DeviceError) -> Failure {
    let code = if matches!(e, device::DeviceError::NoSpace) { Code::NoSpace } else { Code::Io };
    Failure::new(code, format!("{}: {e}", names::shown(store)))
}

/// Why a thread does not start, and what to do.
pub(super) fn no_thread(e: &std::io::Error) -> String {
    format!(
        "cannot start a thread: {e}; a limit of threads or memory is too low ('ulimit -u', 'ulimit -v', pids.max)"
    )
}

/// A limit of this process was in the way: what was found then says nothing about the store.
pub(super) fn limited(store: &Path, limit: &str) -> Failure {
    Failure::new(Code::Other, format!("{}: {limit}", names::shown(store)))
}

/// Of a volume. Its own sentence may name the store already.
pub(super) fn told_volume(store: &Path, e: &VolumeError) -> Failure {
    let code = match e {
        VolumeError::Corrupt { .. } => Code::Damaged,
        VolumeError::Device(_) | VolumeError::Purged(_) => Code::Io,
        VolumeError::NoSpace | VolumeError::LimitReached(_) => Code::NoSpace,
        VolumeError::ReadOnly(_) => Code::ReadOnly,
        VolumeError::NoSuchView => Code::NotFound,
        VolumeError::NameTaken => Code::Exists,
        VolumeError::Held => Code::Busy,
        VolumeError::Inherited => Code::Other,
        VolumeError::NotAStore(_) => Code::Invalid,
    };
    let text = e.to_string();
    let path = names::shown(store);
    Failure::new(code, if text.contains(&path) { text } else { format!("{path}: {text}") })
}

/// Of a file system.
pub(super) fn told(store: &Path, e: &Error) -> Failure {
    told_about(&names::shown(store), "snapshot", e)
}

/// The same about a snapshot.
pub(super) fn told_name(name: &[u8], e: &Error) -> Failure {
    if name == LIVE && matches!(e, Error::NotFound) {
        return Failure::new(Code::Invalid, told_live());
    }
    if *e == Error::NotPermitted {
        let what = "it is another line's, from which this was cloned: that is done there";
        return Failure::new(Code::Denied, format!("{}: {what}", names::shown_bytes(name)));
    }
    told_about(&names::shown_bytes(name), "snapshot", e)
}

/// The same about a clone.
pub(super) fn told_clone(name: &[u8], e: &Error) -> Failure {
    told_about(&names::shown_bytes(name), "clone", e)
}

/// The same about a view.
pub(super) fn told_view(word: &[u8], e: &Error) -> Failure {
    let word_shown = names::shown_bytes(word);
    match e {
        // There always is one: a snapshot is wanted, or its time.
        Error::NotFound if word == LIVE => Failure::new(Code::Invalid, told_live()),
        Error::NotFound | Error::Invalid | Error::NameTooLong => {
            let what = "no such view; it is the name of a snapshot (snapfs list), @latest, @prev, an age as @-15m, a \
                        time as @2026-01-31T10:00, @live, or .clones/NAME";
            Failure::new(Code::NotFound, format!("{word_shown}: {what}"))
        }
        e => told_about(&word_shown, "view", e),
    }
}

/// The same about a word for a snapshot, where the live tree and clones are none.
pub(super) fn told_snapshot(word: &[u8], e: &Error) -> Failure {
    let word_shown = names::shown_bytes(word);
    match e {
        Error::NotFound | Error::Invalid | Error::NameTooLong if word.starts_with(b".clones/") => {
            let what = "this is a clone, and a snapshot is wanted (snapfs list)";
            Failure::new(Code::Invalid, format!("{word_shown}: {what}"))
        }
        Error::NotFound | Error::Invalid | Error::NameTooLong if word != LIVE => {
            let what = "no such view; a snapshot goes by its name (snapfs list), as @latest or @prev, by an age as @-15m, or a \
                        time as @2026-01-31T10:00";
            Failure::new(Code::NotFound, format!("{word_shown}: {what}"))
        }
        e => told_view(word, e),
    }
}

/// What the live tree is not.
pub(super) fn told_live() -> String {
    "@live: this is the live tree, and a snapshot is wanted: name one (snapfs list), or make one first (snapfs create MNT \
     NAME)"
    .to_string()
}

fn told_about(what: &str, kind: &str, e: &Error) -> Failure {
    let (code, why) = match e {
        Error::NotFound => (Code::NotFound, format!("no such {kind}")),
        Error::Exists => (Code::Exists, format!("a {kind} of that name exists")),
        Error::Invalid | Error::NameTooLong => (
            Code::Invalid,
            format!("not a name for a {kind}: 1 to 255 bytes, no '/', not beginning with '.' or '@'"),
        ),
        Error::ReadOnly => (Code::ReadOnly, "the store takes no changes".to_string()),
        Error::NoSpace => (Code::NoSpace, "the store is full".to_string()),
        Error::LimitReached => (Code::NoSpace, "a limit of the store is reached".to_string()),
        Error::Busy => (Code::Busy, "in use".to_string()),
        Error::Frozen => (Code::Busy, e.to_string()),
        Error::NotPermitted | Error::AccessDenied => (Code::Denied, "not allowed".to_string()),
        // What reads a file system says no more of damage than a sentence.
        Error::Io(why) if why.starts_with(DAMAGED) => (Code::Damaged, why.clone()),
        Error::Io(why) => (Code::Io, why.clone()),
        Error::Stale if kind == "clone" => (Code::Other, format!("{e}; nothing was changed, try again")),
        // A snapshot goes by itself, too.
        Error::Stale => {
            (Code::Other, format!("it was deleted meanwhile, or {e}; nothing was changed, try again"))
        }
        other => (Code::Other, other.to_string()),
    };
    Failure::new(code, format!("{what}: {why}"))
}

/// What a copy of a store in use is, to whoever wants to use it.
pub(super) const COPIED: &str = "this is a copy that was made while the store was in use, and its parts are of \
                                 different moments";

/// A clone is one too many.
pub(super) fn told_too_many(volume: &Volume, name: &[u8]) -> Failure {
    let max = volume.line(LineId::MAIN).ok().and_then(|main| main.terms.clones_max);
    let max = max.map_or("a limit of the store is reached".into(), |max| {
        format!(
            "there may be {max} clones: drop some, or snapfs set clones_max={} MNT",
            max.saturating_add(1)
        )
    });
    Failure::new(Code::NoSpace, format!("{}: {max}", names::shown_bytes(name)))
}
