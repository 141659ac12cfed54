//! The outer process of a trial: leaves the mount namespace, has the clone mounted where the tree was, starts the inner process
//! and waits for all that descends from it.

use super::covering;
use super::watch::{self, HELD, PARENTS_END, Until};
use super::words::{
    self, InnerOrder, InnerWord, OuterOrder, Processes, STAGE, StageFailure, StageOrder, TrialReport,
};
use crate::names;
use crate::sys::mount::{errno, keep_over_exec, major_minor};
use crate::sys::namespace::{self, own};
use crate::sys::{family, process};
use std::ffi::OsString;
use std::fs::{self, File};
use std::io::{self, BufReader, Write};
use std::os::fd::AsRawFd;
use std::os::unix::fs::MetadataExt;
use std::os::unix::net::UnixStream;
use std::process::Command;

/// Runs it to the end of the trial, and reports.
pub(super) fn run(order: &OuterOrder, command: &[OsString]) -> u8 {
    let Ok(report) = namespace::take_descriptor(order.report) else { return words::NOT_BEGUN };
    // Kept to the end, whatever becomes of the process that started this one.
    let _bond = namespace::take_descriptor(order.bond);
    let mut report_to = File::from(report);
    let report = match go(order, command) {
        Ok(code) => TrialReport::Ended(code),
        Err(failure) => TrialReport::Failed(failure),
    };
    let _ = words::say(&mut report_to, &report); // who started us may be gone
    0
}

fn go(order: &OuterOrder, command: &[OsString]) -> Result<u8, StageFailure> {
    let failed = |what: &'static str| {
        move |e: io::Error| StageFailure::new(format!("cannot try anything: {what}: {e}"))
    };
    family::hold_signals(HELD).map_err(failed("signals"))?;
    family::adopt_orphans().map_err(failed("prctl"))?;
    if !family::end_with_parent(PARENTS_END, order.parent).map_err(failed("prctl"))? {
        return Err(StageFailure::new("who started the trial has ended"));
    }
    warn_of_descriptors(order);
    let numbers = leave_mounts()?;
    covering::cover(order).map_err(StageFailure::new)?;
    if order.processes == Processes::OfTrial {
        namespace::unshare(own::CLONE_NEWPID).map_err(failed("no namespace of processes"))?;
    }
    let child = start_inner(order, &numbers, command)?;
    let watched = watch::watch(child, Until::NoneIsLeft).map_err(failed("waiting"))?;
    Ok(watched.ended.exit_code())
}

/// Numbers of users and groups in the namespace of the inner process, as `uid_map` and `gid_map` have them: those that they
/// have for whoever started the trial.
struct Numbers {
    users: String,
    groups: String,
}

impl Numbers {
    /// All that there are.
    fn all() -> io::Result<Numbers> {
        let identity = |name: &str| -> io::Result<String> {
            let here = fs::read_to_string(format!("/proc/self/{name}"))?;
            let row = |line: &str| {
                let mut fields = line.split_whitespace();
                let (first, _, count) = (fields.next()?, fields.next()?, fields.next()?);
                Some(format!("{first} {first} {count}\n"))
            };
            Ok(here.lines().filter_map(row).collect())
        };
        Ok(Numbers { users: identity("uid_map")?, groups: identity("gid_map")? })
    }

    /// Gives them to the namespace of a process.
    fn give(&self, pid: u32) -> io::Result<()> {
        fs::write(format!("/proc/{pid}/uid_map"), &self.users)?;
        fs::write(format!("/proc/{pid}/gid_map"), &self.groups)
    }
}

/// A copy of all mounts that nobody else sees. Who may not make one makes a user namespace first, in which only his own user
/// and group have numbers: there 0, so that a program that is started keeps its rights, and inside what they were.
fn leave_mounts() -> Result<Numbers, StageFailure> {
    let refused = StageFailure::no_user_namespace;
    let (uid, gid) = (process::effective_uid(), process::effective_gid());
    let numbers = match namespace::unshare(own::CLONE_NEWNS) {
        Err(e) if e.raw_os_error() == Some(errno::EPERM) => {
            namespace::unshare(own::CLONE_NEWUSER | own::CLONE_NEWNS).map_err(refused)?;
            fs::write("/proc/self/setgroups", "deny").map_err(refused)?;
            Numbers { users: format!("0 {uid} 1"), groups: format!("0 {gid} 1") }
                .give(std::process::id())
                .map_err(refused)?;
            Numbers { users: format!("{uid} 0 1"), groups: format!("{gid} 0 1") }
        }
        done => {
            done.map_err(|e| StageFailure::new(format!("cannot try anything: no mount namespace: {e}")))?;
            Numbers::all().map_err(refused)?
        }
    };
    // Where a policy gives the namespace and none of its rights, this is what fails.
    namespace::make_mounts_private().map_err(refused)?;
    Ok(numbers)
}

/// Starts the inner process, and returns when the command runs.
fn start_inner(order: &OuterOrder, numbers: &Numbers, command: &[OsString]) -> Result<u32, StageFailure> {
    let failed = |e: io::Error| StageFailure::new(format!("cannot start the trial: {e}"));
    let (mut ours, theirs) = UnixStream::pair().map_err(failed)?;
    keep_over_exec(theirs.as_raw_fd()).map_err(failed)?;
    let parent = if order.processes == Processes::All { std::process::id() } else { 0 };
    let inner =
        StageOrder::Inner(InnerOrder { parent, socket: theirs.as_raw_fd(), processes: order.processes });
    let inner = serde_json::to_string(&inner).map_err(|e| failed(e.into()))?;
    let mut child = Command::new("/proc/self/exe");
    let child = family::start(child.arg(STAGE).arg(inner).args(command), &[]).map_err(failed)?;
    drop(theirs);
    let mut words = BufReader::new(ours.try_clone().map_err(failed)?);
    let begun = loop {
        match words::hear(&mut words) {
            Ok(Some(InnerWord::Apart)) => {
                let went_on = numbers.give(child.id()).and_then(|()| ours.write_all(b"go\n"));
                if let Err(e) = went_on {
                    break Err(StageFailure::no_user_namespace(e));
                }
            }
            Ok(Some(InnerWord::Failed(failure))) => break Err(failure),
            Ok(None) => break Ok(child.id()),
            Err(e) => break Err(failed(e)),
        }
    };
    if begun.is_err() {
        drop((words, ours)); // it ends if it has not ended
        let _ = watch::watch(child.id(), Until::NoneIsLeft); // what counts is the failure that we report
    }
    begun
}

/// Says which descriptors that the command inherits lead into the live tree.
fn warn_of_descriptors(order: &OuterOrder) {
    let open = fs::read_dir("/proc/self/fd").into_iter().flatten().flatten();
    for entry in open {
        let is_kept = |path: std::path::PathBuf| {
            let about = fs::read_to_string(path).ok()?;
            let flags = about.lines().find_map(|line| line.strip_prefix("flags:"))?.trim();
            Some(u32::from_str_radix(flags, 8).ok()? & CLOSED_BY_EXEC == 0)
        };
        let number = entry.file_name();
        let info = std::path::Path::new("/proc/self/fdinfo").join(&number);
        let leads_there = fs::metadata(entry.path()).is_ok_and(|m| major_minor(m.dev()) == order.device);
        if leads_there && is_kept(info) == Some(true) {
            let path = fs::read_link(entry.path()).unwrap_or_default();
            eprintln!(
                "snapfs: warning: the command inherits descriptor {}, which leads out of the trial: {}",
                names::shown(&number),
                names::shown(&path)
            );
        }
    }
}

/// `O_CLOEXEC` as `fdinfo` shows it.
const CLOSED_BY_EXEC: u32 = 0o2000000;
