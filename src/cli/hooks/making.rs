//! The hooks of `create`: what its arguments say is run around the making of a snapshot, by whoever called it.
//!
//! From before the first of them until after the last, signals that would end the command are held, so that what `--pre` has
//! begun is always ended by `--post`.

use super::hook::{HELD, Hook, HookEnd, StateDir};
use super::own_frosts;
use crate::cli::create_args::{CreateArgs, OnPreFailure};
use crate::ctl::{Code, Failure};
use crate::format::view::Consistency;
use crate::fs::Reached;
use crate::names;
use crate::sys::family::{self, signals::*};
use std::ffi::OsString;
use std::io;
use std::os::fd::AsFd;
use std::process::Stdio;
use std::time::Duration;

/// So often it is looked at least whether a hook has ended.
const LOOK_INTERVAL: Duration = Duration::from_millis(500);

/// What `make` returns, with the hooks run around it: it is told what was reached.
pub(in crate::cli) fn around<T>(
    args: &CreateArgs,
    make: &mut dyn FnMut(Reached<'_>) -> Result<T, Failure>,
) -> Result<T, Failure> {
    if !args.hooks.any() {
        return make(Reached::PLAIN);
    }
    let failed = |e: io::Error| Failure::new(Code::Other, format!("the hooks cannot be run: {e}"));
    let dir = StateDir::new().map_err(failed)?;
    family::hold_signals(HELD).map_err(failed)?;
    let done = held(args, &dir, make);
    drop(dir);
    // What came meanwhile comes now.
    family::let_signals_come(HELD).map_err(failed)?;
    done
}

/// The same with signals held.
fn held<T>(
    args: &CreateArgs,
    dir: &StateDir,
    make: &mut dyn FnMut(Reached<'_>) -> Result<T, Failure>,
) -> Result<T, Failure> {
    let (hooks, name) = (&args.hooks, names::shown(&args.name));
    let limit = Duration::from_secs(hooks.hook_timeout);
    let target = std::path::absolute(&args.target).unwrap_or_else(|_| args.target.clone());
    let mut told = vec![
        ("SNAPFS_MNT", target.into_os_string()),
        ("SNAPFS_NAME", args.name.clone()),
        ("SNAPFS_STATE", dir.path().into()),
        ("SNAPFS_HOOK", OsString::from("pre")),
    ];
    let mut before = hooks.pre.as_ref().map(|program| start(program, &told));
    let ready = before.as_mut().map(|hook| match hook {
        Ok(hook) => hook.wait(limit, &mut wait),
        Err(e) => HookEnd::Failed(format!("it cannot be started: {e}")),
    });
    let is_ready = ready.as_ref().map_or("none", |end| if *end == HookEnd::Done { "done" } else { "failed" });
    let made = match ready {
        None => make(Reached::PLAIN),
        Some(HookEnd::Done) => {
            let frosts = own_frosts::noted_in(dir.path());
            make(Reached { level: Consistency::Application, frosts: &frosts })
        }
        Some(HookEnd::CalledOff) => {
            Err(Failure::new(Code::Other, format!("interrupted: '{name}' was not made")))
        }
        Some(HookEnd::Failed(why)) if hooks.on_pre_failure == OnPreFailure::Abort => {
            let way = "--on-pre-failure crash-consistent would make it all the same";
            Err(Failure::new(Code::Other, format!("'{name}' was not made, --pre has failed: {why}; {way}")))
        }
        Some(HookEnd::Failed(why)) => {
            eprintln!("snapfs: --pre has failed: {why}; what is made is consistent as after a crash");
            make(Reached { level: Consistency::Crash, frosts: &[] })
        }
    };
    let Some(program) = &hooks.post else { return made };
    told.pop();
    let result = if made.is_ok() { "made" } else { "failed" };
    told.extend(
        [("SNAPFS_HOOK", "post"), ("SNAPFS_PRE", is_ready), ("SNAPFS_RESULT", result)]
            .map(|(key, value)| (key, OsString::from(value))),
    );
    // It is through when it is through: a signal that has come already has been heeded.
    let ended = match start(program, &told) {
        Ok(mut hook) => hook.wait(limit, &mut |time| {
            wait(time);
            false
        }),
        Err(e) => HookEnd::Failed(format!("it cannot be started: {e}")),
    };
    drop(before);
    match (made, ended) {
        (Ok(_), HookEnd::Failed(why)) => {
            Err(Failure::new(Code::Other, format!("'{name}' is made, but --post has failed: {why}")))
        }
        (Err(failure), HookEnd::Failed(why)) => {
            eprintln!("snapfs: --post has failed too: {why}");
            Err(failure)
        }
        (made, _) => made,
    }
}

/// What hooks say goes where our messages go: standard output is for what was made.
fn start(program: &OsString, told: &[(&'static str, OsString)]) -> io::Result<Hook> {
    let ours = || io::stderr().as_fd().try_clone_to_owned().map(Stdio::from);
    Hook::start(program, told, [ours()?, ours()?])
}

/// True if a signal has come that asks for the end.
fn wait(time: Duration) -> bool {
    match family::wait_signal(HELD, Some(time.min(LOOK_INTERVAL))) {
        Ok(None) => false,
        Ok(Some(arrived)) => arrived.signal != SIGCHLD && !family::is_ignored(arrived.signal),
        Err(_) => {
            std::thread::sleep(time.min(LOOK_INTERVAL));
            false
        }
    }
}
