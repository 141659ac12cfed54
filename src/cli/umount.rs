//! `snapfs umount`: unmounts, then waits until the daemon has closed the store.

use super::args::UmountArgs;
use super::{freeze, output, users};
use crate::clock;
use crate::ctl::{Client, Code, Failure, registry};
use crate::fuse::{self, mounts};
use crate::names;
use crate::sys::mount::errno;
use serde_json::{Value, json};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::mpsc;
use std::time::{Duration, Instant};

/// How long a daemon may take to say how its store is doing.
const STATUS_PATIENCE: Duration = Duration::from_secs(5);
/// How long a mount that was taken out of sight while nobody used it may take to be gone.
const GONE_MAX: Duration = Duration::from_secs(1);
/// How often the daemon is looked at.
const LOOK_AGAIN: Duration = Duration::from_millis(20);

pub(super) fn run(args: &UmountArgs) -> Result<(), Failure> {
    let failed = |code, message: String| Err(Failure::new(code, message));
    let shown = names::shown(&args.point);
    let point = real_path(&args.point);
    let mounted = mounts::at(&point).map_err(|e| Failure::new(Code::Io, e.to_string()))?;
    let daemon = match &mounted {
        // At another place than its first, too; and whoever was there before may not be gone yet.
        // One that was told to end is waited for all the same.
        Some(m) => Client::of_device(m.device)?.or_else(|| at(&point, Some(m.device))),
        None => at(&point, None),
    };
    match &mounted {
        None if daemon.is_none() => return failed(Code::NotMounted, format!("{shown} is not mounted")),
        None => {
            // Its mount was moved away from here, and goes on there.
            if let Some(place) = daemon.as_ref().and_then(place_in_sight) {
                let place = names::shown(&place);
                return failed(
                    Code::NotMounted,
                    format!("{shown} is not mounted: the mount is at {place} now"),
                );
            }
        }
        Some(m) if !m.is_snapfs() && daemon.is_none() => {
            return failed(Code::Invalid, format!("{shown} is a mount of type {}, not of snapfs", m.fstype));
        }
        _ => {}
    }
    let status = daemon.as_ref().and_then(status_in_time);
    let ill = status.as_ref().and_then(how_it_fails);
    let frozen = status.as_ref().and_then(how_it_is_frozen);
    if mounted.is_some()
        && let Err(e) = fuse::unmount(&point, args.lazy)
    {
        return match e.raw_os_error() {
            Some(errno::EBUSY) => {
                let why = busy(&shown, mounted.as_ref().map_or(0, |m| m.id), frozen.as_deref());
                failed(Code::Busy, format!("{shown} is busy: {why}"))
            }
            _ => failed(Code::Other, format!("cannot unmount {shown}: {e}")),
        };
    }
    if let Some(daemon) = daemon {
        if args.lazy && place_in_sight(&daemon).is_none() && is_used(&daemon) {
            let user = users::of_device(daemon.record().device);
            let user = user.unwrap_or_else(|| "a program, here or in another mount namespace,".into());
            let frozen = frozen.map(|frozen| format!("; it is {frozen}")).unwrap_or_default();
            eprintln!(
                "snapfs: {shown} is out of sight; {user} has files of it open, and the store stays open until it \
                 has closed them{frozen}"
            );
            return done(args, &point);
        }
        let end = Instant::now() + Duration::from_secs(args.timeout);
        while daemon.found().is_running() && place_in_sight(&daemon).is_none() {
            if Instant::now() >= end {
                let (pid, seconds) = (daemon.record().pid, args.timeout);
                let state = "is unmounted, but the store is not closed yet";
                let why = match users::of_device(daemon.record().device) {
                    Some(user) if daemon.serves() => format!("{user} has files of it open"),
                    None if daemon.serves() => {
                        "another mount namespace, such as a container, may have a copy of the mount".into()
                    }
                    _ => "what it holds is still being written".to_string(),
                };
                return failed(Code::Busy, format!("{shown} {state} (process {pid}, {seconds} s): {why}"));
            }
            std::thread::sleep(LOOK_AGAIN);
        }
    }
    if let Some(state) = ill {
        return failed(
            Code::Io,
            format!("{shown} is unmounted, but not all of its changes are in the store: {state}"),
        );
    }
    done(args, &point)
}

fn done(args: &UmountArgs, point: &Path) -> Result<(), Failure> {
    if args.json.json {
        let mut answer = json!({});
        names::put(&mut answer, "mountpoint", point);
        output::print_json(&answer).map_err(|e| Failure::new(Code::Other, e))?;
    }
    Ok(())
}

/// The daemon whose mount was made there, with this device number if one is told, in whatever state it is.
fn at(point: &Path, device: Option<(u32, u32)>) -> Option<Client> {
    let is_it = |d: &registry::FoundMount| {
        d.record.mountpoint == point && device.is_none_or(|device| device == d.record.device)
    };
    registry::all().into_iter().find(is_it).map(Client::of)
}

/// Why a mount cannot be unmounted: another is below it, changes wait for a thaw, or files are open.
fn busy(shown: &str, id: u32, frozen: Option<&str>) -> String {
    let below = mounts::all().ok().and_then(|all| all.into_iter().rfind(|m| m.parent == id && m.id != id));
    match below {
        Some(m) => {
            let place = names::shown(&m.point);
            format!("another mount is below it, at {place}; unmount that first")
        }
        None => match frozen {
            // Whoever waits for a thaw has his file open.
            Some(frozen) => format!("it is {frozen}; end that first with: snapfs thaw {shown}"),
            None => format!("files in it are open; show who has them with: fuser -vm {shown}"),
        },
    }
}

/// True if the mount goes on out of sight. Without users it is gone in a moment.
fn is_used(daemon: &Client) -> bool {
    let end = Instant::now() + GONE_MAX;
    while daemon.serves() {
        if Instant::now() >= end {
            return true;
        }
        std::thread::sleep(LOOK_AGAIN);
    }
    false
}

/// How the store of a daemon is doing, if the daemon says so in time.
fn status_in_time(daemon: &Client) -> Option<Value> {
    let (say, said) = mpsc::channel();
    let client = Client::of(daemon.found().clone());
    let asking = std::thread::Builder::new().name("status".into()).spawn(move || {
        let _ = say.send(client.call("status", json!({}), &mut |_| {})); // nobody may wait for it any more
    });
    asking.ok()?;
    said.recv_timeout(STATUS_PATIENCE).ok()?.ok()
}

/// That changes wait for a thaw, by whom, and for how long.
pub(super) fn how_it_is_frozen(status: &Value) -> Option<String> {
    let frost = status.get("frozen")?.as_array()?.iter().find(|frost| frost["waiting"] != 0)?;
    let waiting = freeze::waiting(frost);
    let by = names::get(frost, "command").map(|by| names::shown_bytes(&by)).unwrap_or_default();
    let left = clock::span(frost["seconds_left"].as_u64()?.max(1));
    Some(format!("frozen by '{by}' for {left} more, with {waiting} waiting"))
}

/// What keeps the store from taking changes.
fn how_it_fails(status: &Value) -> Option<String> {
    let state = status.get("state")?.as_str()?;
    let writes = status.get("read_only").is_some_and(|v| v == false);
    (writes && state != "ok").then(|| state.to_string())
}

/// Where the mount is in sight, if it is: then its store is not closed, and not waited for.
fn place_in_sight(daemon: &Client) -> Option<PathBuf> {
    let device = daemon.record().device;
    let place = mounts::all().ok()?.into_iter().find(|m| m.device == device)?.point;
    daemon.serves().then_some(place)
}

/// Absolute and without links, also when the mount there is dead or hangs: then only the way to it is resolved.
fn real_path(point: &Path) -> PathBuf {
    let by_parent = || -> io::Result<PathBuf> {
        let absolute = std::path::absolute(point)?;
        match (absolute.parent(), absolute.file_name()) {
            (Some(parent), Some(name)) => Ok(fs::canonicalize(parent)?.join(name)),
            _ => Ok(absolute),
        }
    };
    fs::canonicalize(point).or_else(|_| by_parent()).unwrap_or_else(|_| point.to_path_buf())
}
