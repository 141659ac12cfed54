//! Waiting for a program and what it has started, and what becomes of signals meanwhile.
//!
//! Keys of a terminal reach the program itself. What somebody sends to a process that waits is handed on to the program; when
//! that has ended, it ends whatever it has left running.

use crate::names;
use crate::sys::family::{self, Ended, Reaped, signals::*};
use std::collections::{HashMap, HashSet};
use std::fs;
use std::io;
use std::time::Duration;

/// Signals that a process which waits holds.
pub(super) const HELD: &[i32] = &[SIGCHLD, SIGINT, SIGQUIT, SIGTERM, SIGHUP, PARENTS_END];
/// What it gets when the process that started it ends.
pub(super) const PARENTS_END: i32 = SIGUSR1;
/// How long what the program has left running may go on before that is told.
const UNTOLD: Duration = Duration::from_secs(2);

/// For whom is waited.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Until {
    /// The child alone.
    ChildEnds,
    /// All children, adopted ones too.
    NoneIsLeft,
}

/// What there is to say of a wait.
#[derive(Clone, Copy, Debug)]
pub(super) struct Watched {
    pub(super) ended: Ended,
    /// A signal came that asked for the end.
    pub(super) interrupted: bool,
}

/// Waits. The signals are held.
pub(super) fn watch(child: u32, until: Until) -> io::Result<Watched> {
    let (mut ended, mut interrupted, mut told) = (None, false, false);
    loop {
        loop {
            match family::reap()? {
                Reaped::One(pid, how) if pid == child => ended = Some(how),
                Reaped::One(..) => {}
                Reaped::NoneYet => break,
                Reaped::NoChildren => {
                    return Ok(Watched { ended: ended.unwrap_or(Ended::Signal(SIGKILL)), interrupted });
                }
            }
        }
        if let (Some(ended), Until::ChildEnds) = (ended, until) {
            return Ok(Watched { ended, interrupted });
        }
        let time = (ended.is_some() && !told).then_some(UNTOLD);
        let Some(arrived) = family::wait_signal(HELD, time)? else {
            told = true;
            tell_left();
            continue;
        };
        match arrived.signal {
            SIGCHLD => {}
            PARENTS_END => end_descendants(),
            // As under nohup(1): the terminal's end is nobody's here.
            signal if arrived.from_kernel && family::is_ignored(signal) => {}
            _ if ended.is_some() => {
                interrupted = true;
                end_descendants();
            }
            signal => {
                interrupted = true;
                if !arrived.from_kernel {
                    family::send_signal(child, signal)?;
                }
            }
        }
    }
}

/// Ends all that descends from this process, whatever it does against it.
pub(super) fn end_descendants() {
    let mut ended = HashSet::new();
    loop {
        let new: Vec<u32> = descendants().into_iter().filter(|pid| ended.insert(*pid)).collect();
        if new.is_empty() {
            return;
        }
        for pid in new {
            // One that has gained rights of another user is out of reach; it is waited for.
            let _ = family::send_signal(pid, SIGKILL);
        }
    }
}

fn tell_left() {
    const TOLD_MAX: usize = 5;
    let left = descendants();
    if left.is_empty() {
        return;
    }
    let name = |pid: &u32| {
        let name = fs::read(format!("/proc/{pid}/comm")).unwrap_or_default();
        format!("{pid} ({})", names::shown_bytes(name.trim_ascii()))
    };
    let some: Vec<String> = left.iter().take(TOLD_MAX).map(name).collect();
    let more = if left.len() > TOLD_MAX { ", ..." } else { "" };
    eprintln!(
        "snapfs: the command has ended; waiting for what it left running: {}{more} (an interrupt ends it)",
        some.join(", ")
    );
}

/// All that descends from this process and has not ended.
fn descendants() -> Vec<u32> {
    let processes = fs::read_dir("/proc").into_iter().flatten().flatten();
    let pids = processes.filter_map(|e| e.file_name().to_str()?.parse::<u32>().ok());
    let mut children: HashMap<u32, Vec<u32>> = HashMap::new();
    for pid in pids {
        if let Some(parent) = parent_of(pid) {
            children.entry(parent).or_default().push(pid);
        }
    }
    let (mut found, mut next) = (Vec::new(), vec![std::process::id()]);
    while let Some(pid) = next.pop() {
        let below = children.remove(&pid).unwrap_or_default();
        next.extend(&below);
        found.extend(below);
    }
    found.retain(|pid| fs::read(format!("/proc/{pid}/stat")).is_ok_and(|stat| state(&stat) != Some(b'Z')));
    found
}

/// `PID (NAME) STATE PARENT ...`, and the name may hold anything.
fn parent_of(pid: u32) -> Option<u32> {
    let stat = fs::read(format!("/proc/{pid}/stat")).ok()?;
    let end = stat.iter().rposition(|&b| b == b')')?;
    let parent = stat.get(end + 4..)?.split(|&b| b == b' ').next()?;
    std::str::from_utf8(parent).ok()?.parse().ok()
}

fn state(stat: &[u8]) -> Option<u8> {
    stat.get(stat.iter().rposition(|&b| b == b')')? + 2).copied()
}
