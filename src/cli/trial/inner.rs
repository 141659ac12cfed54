//! The inner process of a trial: enters the namespaces that lock what the outer one has mounted, and becomes the command, or
//! the init of its namespace of processes.

use super::watch::{self, HELD, Until};
use super::words::{self, InnerOrder, InnerWord, Processes, StageFailure};
use crate::names;
use crate::sys::family::{self, signals::SIGKILL};
use crate::sys::namespace::{self, own};
use std::ffi::OsString;
use std::io::{self, BufRead, BufReader};
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::process::Command;

/// Runs it. Returns only if the command was not run, or was somebody else's to become.
pub(super) fn run(order: &InnerOrder, command: &[OsString]) -> u8 {
    let Ok(socket) = namespace::take_descriptor(order.socket) else { return words::NOT_BEGUN };
    let mut socket = UnixStream::from(socket);
    match go(order, command, &mut socket) {
        Ok(code) => code,
        Err(failure) => {
            let code = failure.code;
            let _ = words::say(&mut socket, &InnerWord::Failed(failure)); // else nobody is there to be told
            code
        }
    }
}

fn go(order: &InnerOrder, command: &[OsString], socket: &mut UnixStream) -> Result<u8, StageFailure> {
    let failed = |what: &'static str| {
        move |e: io::Error| StageFailure::new(format!("cannot try anything: {what}: {e}"))
    };
    let Some((program, args)) = command.split_first() else {
        return Err(StageFailure::new("cannot try anything: there is no command"));
    };
    if order.processes == Processes::OfTrial {
        // Before its mounts are locked, and not for the process that has started this one.
        namespace::unshare(own::CLONE_NEWNS).map_err(failed("no mount namespace"))?;
        namespace::mount_proc()
            .map_err(failed("no /proc of its own (as in some containers), so not --isolate"))?;
    }
    namespace::unshare(own::CLONE_NEWUSER | own::CLONE_NEWNS).map_err(StageFailure::no_user_namespace)?;
    words::say(socket, &InnerWord::Apart).map_err(failed("no answer"))?;
    let mut line = String::new();
    if BufReader::new(&*socket).read_line(&mut line).map_err(failed("no answer"))? == 0 {
        return Err(StageFailure::new("cannot try anything: the process outside has ended"));
    }
    let parent_lives = family::end_with_parent(SIGKILL, order.parent).map_err(failed("prctl"))?;
    if !parent_lives {
        return Err(StageFailure::new("cannot try anything: the process outside has ended"));
    }
    let mut child = Command::new(program);
    child.args(args);
    let not_run = |e: io::Error| StageFailure::of_command(&names::shown(program), &e);
    if order.processes == Processes::All {
        return Err(not_run(family::give_signals_back(&mut child, HELD).exec()));
    }
    let child = family::start(&mut child, HELD).map_err(not_run)?;
    // It runs: that is told by the end of the socket.
    let _ = socket.shutdown(std::net::Shutdown::Both);
    let watched = watch::watch(child.id(), Until::NoneIsLeft).map_err(failed("waiting"))?;
    Ok(watched.ended.exit_code())
}
