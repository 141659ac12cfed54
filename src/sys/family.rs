//! Processes that this one has started, and those that they have: waiting for them, and the signals in between.
//!
//! Thin wrappers; who waits for whom is in `cli::trial`.

use std::io;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::{Child, Command, ExitStatus};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

/// Signals by their names.
pub mod signals {
    pub use libc::{SIGCHLD, SIGHUP, SIGINT, SIGKILL, SIGQUIT, SIGTERM, SIGUSR1};
}

/// What became of a process.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Ended {
    /// It ended by itself, with this exit code.
    Code(u8),
    /// This signal ended it.
    Signal(i32),
}

impl Ended {
    /// As shells say it: 128 and the number for a signal.
    pub fn exit_code(self) -> u8 {
        match self {
            Ended::Code(code) => code,
            Ended::Signal(signal) => u8::try_from(128 + signal).unwrap_or(u8::MAX),
        }
    }
}

/// A signal that came.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Arrived {
    /// Which.
    pub signal: i32,
    /// The kernel sent it, as it does for keys of a terminal: to all processes there.
    pub from_kernel: bool,
}

/// What is to be heard of children.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Reaped {
    /// This one has ended, and its number is free.
    One(u32, Ended),
    /// None has ended that was not told.
    NoneYet,
    /// There are no children.
    NoChildren,
}

fn check(result: libc::c_int) -> io::Result<libc::c_int> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result) }
}

fn set_of(signals: &[i32]) -> libc::sigset_t {
    // SAFETY: an all-zero sigset_t is valid and sigemptyset initialises it.
    unsafe {
        let mut set: libc::sigset_t = std::mem::zeroed();
        libc::sigemptyset(&raw mut set);
        for signal in signals {
            libc::sigaddset(&raw mut set, *signal);
        }
        set
    }
}

fn mask(how: libc::c_int, signals: &[i32]) -> io::Result<()> {
    let set = set_of(signals);
    // SAFETY: `set` is initialised; the old mask is not asked for.
    match unsafe { libc::pthread_sigmask(how, &raw const set, std::ptr::null_mut()) } {
        0 => Ok(()),
        error => Err(io::Error::from_raw_os_error(error)),
    }
}

/// Keeps these signals for [`wait_signal`], in this thread, those that it starts and programs that are started.
pub fn hold_signals(signals: &[i32]) -> io::Result<()> {
    mask(libc::SIG_BLOCK, signals)
}

/// Takes back [`hold_signals`]: what has come meanwhile comes now.
pub fn let_signals_come(signals: &[i32]) -> io::Result<()> {
    mask(libc::SIG_UNBLOCK, signals)
}

/// Whoever started this program ignores the end of children, which is inherited: the kernel then forgets them unwaited for.
static ENDS_IGNORED: AtomicBool = AtomicBool::new(false);

/// From now on this process hears of the end of its children, whatever it was given. Called before any is started.
pub fn hear_of_ends() {
    // SAFETY: numbers; no handler is set.
    if unsafe { libc::signal(libc::SIGCHLD, libc::SIG_DFL) } == libc::SIG_IGN {
        ENDS_IGNORED.store(true, Ordering::Relaxed);
    }
}

/// True for a signal that this process ignores, as what it starts does.
pub fn is_ignored(signal: i32) -> bool {
    // SAFETY: an all-zero sigaction is valid; the call writes it and changes nothing.
    unsafe {
        let mut is: libc::sigaction = std::mem::zeroed();
        libc::sigaction(signal, std::ptr::null(), &raw mut is) == 0 && is.sa_sigaction == libc::SIG_IGN
    }
}

/// Has a program that is started, or that this one becomes, find signals as this process was given them: without those that
/// are held here, and with what [`hear_of_ends`] took.
pub fn give_signals_back<'c>(command: &'c mut Command, held: &'static [i32]) -> &'c mut Command {
    let give_back = move || {
        if ENDS_IGNORED.load(Ordering::Relaxed) {
            // SAFETY: numbers.
            unsafe { libc::signal(libc::SIGCHLD, libc::SIG_IGN) };
        }
        let_signals_come(held)
    };
    // SAFETY: between fork and exec, and what it calls may be called there: it changes one disposition and the mask of the
    // one thread.
    unsafe { command.pre_exec(give_back) }
}

/// Starts such a program.
pub fn start(command: &mut Command, held: &'static [i32]) -> io::Result<Child> {
    give_signals_back(command, held).spawn()
}

/// Waits for one of the signals, which are held; none if none has come in this time.
pub fn wait_signal(signals: &[i32], time: Option<Duration>) -> io::Result<Option<Arrived>> {
    let set = set_of(signals);
    let time = time.map(|time| libc::timespec {
        tv_sec: time.as_secs() as libc::time_t,
        tv_nsec: libc::c_long::from(time.subsec_nanos() as i32),
    });
    let time = time.as_ref().map_or(std::ptr::null(), |time| &raw const *time);
    loop {
        // SAFETY: an all-zero siginfo_t is valid; all pointers are null or to live variables.
        let (signal, info) = unsafe {
            let mut info: libc::siginfo_t = std::mem::zeroed();
            (libc::sigtimedwait(&raw const set, &raw mut info, time), info)
        };
        match check(signal) {
            Ok(signal) => return Ok(Some(Arrived { signal, from_kernel: info.si_code > 0 })),
            Err(e) if e.raw_os_error() == Some(libc::EAGAIN) => return Ok(None),
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(e) => return Err(e),
        }
    }
}

/// Hears of one child, of whatever kind, without waiting.
pub fn reap() -> io::Result<Reaped> {
    let mut status = 0;
    // SAFETY: `status` lives through the call.
    match check(unsafe { libc::waitpid(-1, &raw mut status, libc::WNOHANG) }) {
        Ok(0) => Ok(Reaped::NoneYet),
        Ok(pid) if libc::WIFSIGNALED(status) => {
            Ok(Reaped::One(pid as u32, Ended::Signal(libc::WTERMSIG(status))))
        }
        Ok(pid) => Ok(Reaped::One(pid as u32, Ended::Code(libc::WEXITSTATUS(status) as u8))),
        Err(e) if e.raw_os_error() == Some(libc::ECHILD) => Ok(Reaped::NoChildren),
        Err(e) => Err(e),
    }
}

/// Sends a signal. A process that is gone is none to send it to, and no error.
pub fn send_signal(pid: u32, signal: i32) -> io::Result<()> {
    let Ok(pid) = libc::pid_t::try_from(pid) else { return Ok(()) };
    // SAFETY: numbers.
    match check(unsafe { libc::kill(pid, signal) }) {
        Err(e) if e.raw_os_error() != Some(libc::ESRCH) => Err(e),
        _ => Ok(()),
    }
}

/// Sends a signal to all processes of a group. A group that is gone is none to send it to, and no error.
pub fn send_signal_to_group(leader: u32, signal: i32) -> io::Result<()> {
    match libc::pid_t::try_from(leader) {
        // SAFETY: numbers; 0 and 1 would be other groups than that of a process that this one has started.
        Ok(leader) if leader > 1 => match check(unsafe { libc::kill(-leader, signal) }) {
            Err(e) if e.raw_os_error() != Some(libc::ESRCH) => Err(e),
            _ => Ok(()),
        },
        _ => Ok(()),
    }
}

/// True if a child has ended, which is left to be reaped: until then nobody else gets its number.
pub fn has_ended(child: u32) -> io::Result<bool> {
    // SAFETY: an all-zero siginfo_t is valid, and says of no process that it has ended; the call may write it.
    unsafe {
        let mut info: libc::siginfo_t = std::mem::zeroed();
        check(libc::waitid(
            libc::P_PID,
            child,
            &raw mut info,
            libc::WEXITED | libc::WNOWAIT | libc::WNOHANG,
        ))?;
        Ok(info.si_pid() != 0)
    }
}

/// How a child has ended that has; it is left to be reaped.
pub fn how_ended(child: u32) -> io::Result<ExitStatus> {
    // SAFETY: as above; both fields are there for a child that has ended.
    unsafe {
        let mut info: libc::siginfo_t = std::mem::zeroed();
        check(libc::waitid(libc::P_PID, child, &raw mut info, libc::WEXITED | libc::WNOWAIT))?;
        let status = info.si_status();
        Ok(ExitStatus::from_raw(if info.si_code == libc::CLD_EXITED {
            (status & 0xff) << 8
        } else {
            status & 0x7f
        }))
    }
}

/// From now on what descends from this process is its child when it has lost its parents.
pub fn adopt_orphans() -> io::Result<()> {
    // SAFETY: numbers.
    check(unsafe { libc::prctl(libc::PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) }).map(drop)
}

/// This process, and the program that it becomes, gets `signal` when the thread that started it ends. `parent`: who that was;
/// false if it has ended already.
pub fn end_with_parent(signal: i32, parent: u32) -> io::Result<bool> {
    // SAFETY: numbers.
    check(unsafe { libc::prctl(libc::PR_SET_PDEATHSIG, signal, 0, 0, 0) })?;
    Ok(std::os::unix::process::parent_id() == parent)
}
