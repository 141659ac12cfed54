//! `snapfs mount`: in the foreground, or in a process of its own that says when the mount is usable.
//!
//! The daemon is this program started again (a process with threads cannot be forked): its standard output is a pipe
//! on which it says `ready`, or why not. The command ends when it has heard either.

use super::args::MountArgs;
use super::daemon::{self, Job};
use super::engine::Backend;
use super::{options, output, usage};
use crate::ctl::{Client, Code, Failure, registry};
use crate::fuse;
use crate::sys::process;
use serde_json::json;
use std::fs::File;
use std::io::{BufRead, BufReader, Write};
use std::process::{Command, Stdio};
use std::time::Duration;

/// The line of a daemon that serves.
const READY: &str = "ready";
/// How often it is seen whether a mount that another process serves is there still.
const LOOK_AGAIN: Duration = Duration::from_millis(200);

pub(super) fn run(backend: &dyn Backend, args: &MountArgs) -> Result<(), Failure> {
    let mut lists = args.options.clone();
    lists.extend(args.snapshot.iter().map(|name| options::option("snapshot", name)));
    let mut parsed = options::parse(&lists, args.sloppy).map_err(|message| usage(&message))?;
    if parsed.mount.source == "snapfs" {
        let of = parsed.snapshot.as_ref().map_or(String::new(), |name| format!("@{name}"));
        parsed.mount.source = format!("{}{of}", args.store.display());
        lists.push(options::option("fsname", &parsed.mount.source));
    }
    if parsed.snapshot.is_some()
        && !args.background_child
        && let Some(daemon) = registry::find_store(&args.store)
    {
        return ask_daemon(Client::of(daemon), args, &lists);
    }
    if !args.foreground && !args.background_child {
        return start_in_background(args);
    }
    let job = Job { backend, store: &args.store, point: &args.point, options: parsed };
    if args.background_child {
        return serve_in_background(&job, args);
    }
    redirect_messages(args)?;
    daemon::serve(&job, &mut || {})
}

/// The store is open already: its daemon mounts the snapshot.
fn ask_daemon(daemon: Client, args: &MountArgs, lists: &[String]) -> Result<(), Failure> {
    let failed = |message: String| Failure::new(Code::Other, message);
    super::apart::check(&args.store, &args.point).map_err(failed)?;
    let point = fuse::check_point(&args.point).map_err(failed)?;
    let request = json!({"point": point, "options": lists});
    let answer = daemon.call("mount", request, &mut |_| {})?;
    if !fuse::mounts::at(&point).is_ok_and(|m| m.is_some()) {
        let pid = daemon.record().pid;
        let what = format!("the daemon of {} (pid {pid}) mounted it at", args.store.display());
        return Err(failed(format!("{what} {} in a mount namespace of its own", point.display())));
    }
    if args.json.json {
        output::print_json(&answer).map_err(failed)?;
    }
    if args.foreground
        && let Some(mount) = registry::all().into_iter().find(|d| d.record.mountpoint == point)
    {
        while mount.is_running() {
            std::thread::sleep(LOOK_AGAIN);
        }
    }
    Ok(())
}

fn start_in_background(args: &MountArgs) -> Result<(), Failure> {
    let failed = |e: std::io::Error| Failure::new(Code::Other, format!("cannot start the daemon: {e}"));
    let mut command = Command::new(std::env::current_exe().map_err(failed)?);
    command.args(["mount", "--background-child"]);
    for options in &args.options {
        command.arg("-o").arg(options);
    }
    if let Some(name) = &args.snapshot {
        command.arg(format!("--snapshot={name}"));
    }
    if let Some(log) = &args.log {
        command.arg("--log").arg(log);
    }
    if args.sloppy {
        command.arg("-s");
    }
    if args.verbose {
        command.arg("-v");
    }
    command.arg("--").arg(&args.store).arg(&args.point);
    let mut child = command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn().map_err(failed)?;
    let mut said = String::new();
    if let Some(stdout) = child.stdout.take() {
        BufReader::new(stdout).read_line(&mut said).map_err(failed)?;
    }
    if said.trim_end() == READY {
        if args.json.json {
            let answer = json!({"store": args.store, "mountpoint": args.point, "pid": child.id()});
            output::print_json(&answer).map_err(|e| Failure::new(Code::Other, e))?;
        }
        return Ok(());
    }
    let _ = child.wait(); // it has failed: its sentence tells more than its code
    fuse::clear_if_dead(&args.point);
    serde_json::from_str(&said)
        .map_or_else(|_| Err(Failure::new(Code::Other, "the daemon ended before the mount was usable")), Err)
}

/// The daemon's half. A failure goes to the command that waits, which tells the user.
fn serve_in_background(job: &Job, args: &MountArgs) -> Result<(), Failure> {
    let mut told = false;
    let result = detach(args).and_then(|()| {
        daemon::serve(job, &mut || {
            told = true;
            say(READY);
            if let Err(e) = close_streams(args) {
                log::error!("{e}");
            }
        })
    });
    match result {
        Err(failure) if !told => {
            say(&serde_json::to_string(&failure).unwrap_or_default());
            Err(Failure::new(failure.code, "")) // told already
        }
        Err(failure) => {
            log::error!("{failure}");
            Err(failure)
        }
        Ok(()) => Ok(()),
    }
}

fn say(line: &str) {
    let mut out = std::io::stdout().lock();
    // Whoever started us may have gone; the mount is as good without him.
    let _ = writeln!(out, "{line}").and_then(|()| out.flush());
}

fn detach(args: &MountArgs) -> Result<(), Failure> {
    process::new_session()
        .map_err(|e| Failure::new(Code::Other, format!("cannot leave the session of the terminal: {e}")))?;
    redirect_messages(args)
}

/// Messages go to the log file from the start.
fn redirect_messages(args: &MountArgs) -> Result<(), Failure> {
    let Some(path) = &args.log else { return Ok(()) };
    let failed = |e: std::io::Error| {
        Failure::new(Code::Other, format!("cannot write the log file {}: {e}", path.display()))
    };
    let file = File::options().create(true).append(true).open(path).map_err(failed)?;
    process::redirect(2, &file).map_err(failed)
}

/// Lets go of the terminal and of the pipe.
fn close_streams(args: &MountArgs) -> Result<(), String> {
    let failed = |e: std::io::Error| format!("/dev/null: {e}");
    let null = File::options().read(true).write(true).open("/dev/null").map_err(failed)?;
    process::redirect(0, &null).map_err(failed)?;
    process::redirect(1, &null).map_err(failed)?;
    if args.log.is_none() {
        process::redirect(2, &null).map_err(failed)?;
    }
    Ok(())
}
