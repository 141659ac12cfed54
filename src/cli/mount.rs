//! `snapfs mount`: in the foreground, or in a process of its own that says when the mount is usable.
//!
//! The daemon is this program started again (a process with threads cannot be forked): its standard output is a pipe
//! on which it says `ready`, or why not. The command ends when it has heard either.

use super::args::MountArgs;
use super::daemon::{self, MountJob};
use super::engine::Backend;
use super::{options, output, usage, users};
use crate::ctl::{Client, Code, Failure, MountRecord, MountTurn, registry};
use crate::fs::CLONEDIR_NAME;
use crate::fuse;
use crate::names;
use crate::sys::process;
use serde_json::json;
use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::{self, BufRead, BufReader, Write};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::FileTypeExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// The line of a daemon that serves.
const READY: &str = "ready";
/// How often it is seen whether a mount that another process serves is there still.
const LOOK_AGAIN: Duration = Duration::from_millis(200);
/// How soon it is seen that who leaves has left.
const LEAVING_PAUSE: Duration = Duration::from_millis(5);
/// How long a mount that is being ended may stay in sight, and one that is gone may look as if it were not.
const LEAVING_MAX: Duration = Duration::from_secs(10);
const GONE_MAX: Duration = Duration::from_secs(2);
/// How often a daemon that leaves while it is asked is followed by another look.
const LEFT_MAX: usize = 3;

pub(super) fn run(backend: &dyn Backend, args: &MountArgs) -> Result<(), Failure> {
    let mut lists = args.options.clone();
    lists.extend(args.read_only.then(|| "ro".into()));
    lists.extend(args.snapshot.iter().map(|name| options::option("snapshot", name)));
    if options::is_remount(&lists) {
        return remount(args, &lists);
    }
    let mut parsed = options::parse(&lists, args.sloppy).map_err(|message| usage::wrong(&message))?;
    if !args.background_child {
        parsed.store.partner.need_not_wait(&args.store)?;
    }
    if parsed.mount.source == "snapfs" {
        parsed.mount.source = source(&args.store).into();
        if let Some(name) = &parsed.store.root {
            parsed.mount.source.push("/.clones/");
            parsed.mount.source.push(OsStr::from_bytes(name));
        }
        if let Some(name) = &parsed.snapshot {
            parsed.mount.source.push("@");
            parsed.mount.source.push(OsStr::from_bytes(name));
        }
        lists.push(options::option("fsname", &parsed.mount.source));
    }
    if parsed.store.root.is_some() && parsed.snapshot.is_some() {
        return Err(usage::wrong("snapshot= and clone= are two views, and one can be mounted at a place"));
    }
    let mut turn = None;
    if !args.background_child {
        if let Some(log) = &args.log {
            super::apart::check_log(&args.store, log)
                .map_err(|message| Failure::new(Code::Other, message))?;
        }
        if process::effective_uid() != 0 && (parsed.mount.dev || parsed.mount.suid) {
            eprintln!("snapfs: dev and suid are for root: this mount is nodev and nosuid");
        }
        wait_for_who_leaves(&args.point);
        turn = super::apart::real(&args.store).ok().and_then(|store| MountTurn::take(&store));
        if let Some(point) = at_its_daemon(args, &parsed, &lists)? {
            drop(turn);
            if args.foreground {
                stay(&point);
            }
            return Ok(());
        }
    }
    if !args.foreground && !args.background_child {
        return start_in_background(args);
    }
    let job = MountJob { backend, store: &args.store, point: &args.point, options: parsed };
    if args.background_child {
        return serve_in_background(&job, args);
    }
    redirect_messages(args)?;
    daemon::serve(&job, &mut || drop(turn.take()))
}

/// What is shown as the source: the path of the store from everywhere. Names of block devices, which mean more than what they
/// lead to, stay as they are.
fn source(store: &Path) -> PathBuf {
    let is_device = std::fs::metadata(store).is_ok_and(|m| m.file_type().is_block_device());
    let path = if is_device { std::path::absolute(store) } else { super::apart::real(store) };
    path.unwrap_or_else(|_| store.to_path_buf())
}

/// A daemon that was told to end has its mount for a moment longer. Whoever mounts at its place does not mean that mount.
fn wait_for_who_leaves(point: &Path) {
    let Ok(point) = std::fs::canonicalize(point) else { return };
    let Ok(Some(mount)) = fuse::mounts::at(&point) else { return };
    let of_it = registry::with_device(mount.device).map(Client::of);
    let Some(daemon) = of_it.filter(|_| mount.is_snapfs()).find(Client::is_leaving) else { return };
    let end = Instant::now() + LEAVING_MAX;
    let is_there = || fuse::mounts::at(&point).is_ok_and(|m| m.is_some_and(|m| m.is(mount.mount_id())));
    while is_there() && daemon.found().is_running() && Instant::now() < end {
        std::thread::sleep(LEAVING_PAUSE);
    }
}

/// What a daemon that has the store open already says.
enum Answer {
    /// It is mounted there.
    Mounted(PathBuf),
    /// It is about to end, and is none to ask.
    Leaving,
}

/// Mounts with the daemon that has the store open, if there is one that can; says where.
fn at_its_daemon(
    args: &MountArgs,
    parsed: &options::Parsed,
    lists: &[OsString],
) -> Result<Option<PathBuf>, Failure> {
    for left in 0.. {
        let Some(daemon) = Client::of_store(&args.store)? else { break };
        let answer = match (parsed.snapshot.is_some(), &daemon.record().snapshot) {
            (true, _) => ask_daemon(&daemon, args, lists),
            (false, None) => second_place(&daemon, args, lists, parsed.store.root.as_deref()),
            (false, Some(_)) => break,
        };
        match answer {
            Ok(Answer::Mounted(point)) => return Ok(Some(point)),
            Err(f) if left == LEFT_MAX || !daemon.is_leaving() => return Err(f),
            _ if left == LEFT_MAX => break,
            _ => {}
        }
    }
    Ok(None)
}

/// Returns when the mount at `point` is gone, and its daemon if it was its own.
fn stay(point: &Path) {
    let device = || fuse::mounts::at(point).ok().flatten().map(|m| m.device);
    let own = registry::all().into_iter().find(|d| d.record.mountpoint == point);
    let mounted = device();
    while mounted.is_some() && device() == mounted || own.as_ref().is_some_and(|own| own.is_running()) {
        std::thread::sleep(LOOK_AGAIN);
    }
}

/// The store is open already: its daemon mounts the snapshot.
fn ask_daemon(daemon: &Client, args: &MountArgs, lists: &[OsString]) -> Result<Answer, Failure> {
    let failed = |message: String| Failure::new(Code::Other, message);
    super::apart::check(&args.store, &args.point).map_err(failed)?;
    let point = fuse::check_point(&args.point).map_err(failed)?;
    let mut request = json!({});
    names::put(&mut request, "point", &point);
    names::put_list(&mut request, "options", lists);
    let answer = daemon.call("mount", request, &mut |_| {})?;
    if !fuse::mounts::at(&point).is_ok_and(|m| m.is_some()) {
        let pid = daemon.record().pid;
        let what = format!("the daemon of {} (pid {pid}) mounted it at", names::shown(&args.store));
        return Err(failed(format!("{what} {} in a mount namespace of its own", names::shown(&point))));
    }
    if args.json.json {
        output::print_json(&answer).map_err(failed)?;
    }
    Ok(Answer::Mounted(point))
}

/// The flags of `mount(2)` that a mount has with these options besides its own; a failure if they ask for more than flags.
fn flags_with(daemon: &Client, options: &[OsString], args: &MountArgs) -> Result<u64, Failure> {
    let mut request = json!({"sloppy": args.sloppy});
    names::put_list(&mut request, "options", options);
    let answer = daemon.call("options", request, &mut |_| {})?;
    let unclear = || Failure::new(Code::Version, "the daemon's answer cannot be understood");
    answer["flags"].as_u64().ok_or_else(unclear)
}

fn remount(args: &MountArgs, lists: &[OsString]) -> Result<(), Failure> {
    let shown = names::shown(&args.point);
    let daemon = Client::connect(&args.point)?;
    let flags = flags_with(&daemon, lists, args)
        .map_err(|f| Failure::new(f.code, format!("{shown}: {}", f.message)))?;
    fuse::remount(&args.point, flags)
        .map_err(|e| Failure::new(Code::Other, format!("cannot remount {shown}: {e}")))
}

/// The live tree is mounted already: it, or a clone in it, is shown at this place too. Only root can do that.
fn second_place(
    daemon: &Client,
    args: &MountArgs,
    lists: &[OsString],
    clone: Option<&[u8]>,
) -> Result<Answer, Failure> {
    super::apart::check(&args.store, &args.point).map_err(|message| Failure::new(Code::Other, message))?;
    let (store, point) = (names::shown(&args.store), fuse::check_point(&args.point));
    let point = point.map_err(|message| Failure::new(Code::Other, message))?;
    let MountRecord { pid, mountpoint, device, .. } = daemon.record();
    let first = names::shown(mountpoint);
    let busy = |what: String| {
        let by = format!("the store is in use by process {pid}, which serves it at {first}");
        Err(Failure::new(Code::Busy, format!("{store}: {by}{what}")))
    };
    if !fuse::mounts::at(mountpoint).is_ok_and(|m| m.is_some_and(|m| m.device == *device)) {
        let end = Instant::now() + GONE_MAX;
        while Instant::now() < end {
            if daemon.is_leaving() {
                return Ok(Answer::Leaving);
            }
            std::thread::sleep(LEAVING_PAUSE);
        }
        let in_sight = fuse::mounts::all().is_ok_and(|all| all.iter().any(|m| m.device == *device));
        return busy(match users::of_device(*device).filter(|_| !in_sight) {
            Some(user) => format!(": it is unmounted there, but {user} still has files of it open"),
            None => " in another mount namespace, or under another mount".into(),
        });
    }
    if process::effective_uid() != 0 {
        return busy(format!("; root can have it here too: mount --bind {first} {}", names::shown(&point)));
    }
    let shown_tree = match clone {
        Some(name) => mountpoint.join(OsStr::from_bytes(CLONEDIR_NAME)).join(OsStr::from_bytes(name)),
        None => mountpoint.clone(),
    };
    if let Some(name) = clone
        && (name.contains(&b'/') || matches!(name, b"." | b"..") || !shown_tree.is_dir())
    {
        return Err(Failure::new(Code::NotFound, format!("{}: no such clone", names::shown_bytes(name))));
    }
    // What is shown is no option of the mount that is there.
    let is_about_it = |word: &[u8]| word.starts_with(b"clone=") || word.starts_with(b"fsname=");
    let lists: Vec<OsString> = match clone {
        Some(_) => options::without(lists, is_about_it),
        None => lists.to_vec(),
    };
    let flags = match flags_with(daemon, &lists, args) {
        Err(f) if f.code == Code::Invalid => {
            return busy(format!(", and its options are those of all places: {f}"));
        }
        flags => flags?,
    };
    let first = names::shown(&shown_tree);
    let failed = |e: io::Error| format!("cannot show {first} at {}: {e}", names::shown(&point));
    fuse::bind(&shown_tree, &point, flags).map_err(|e| Failure::new(Code::Other, failed(e)))?;
    if args.json.json {
        let mut answer = json!({"pid": pid});
        names::put(&mut answer, "store", &args.store);
        names::put(&mut answer, "mountpoint", &point);
        names::put(&mut answer, "bind_of", &shown_tree);
        output::print_json(&answer).map_err(|e| Failure::new(Code::Other, e))?;
    }
    Ok(Answer::Mounted(point))
}

fn start_in_background(args: &MountArgs) -> Result<(), Failure> {
    let failed = |e: std::io::Error| Failure::new(Code::Other, format!("cannot start the daemon: {e}"));
    let mut command = Command::new(std::env::current_exe().map_err(failed)?);
    command.args(["mount", "-B"]);
    for options in &args.options {
        command.arg("-o").arg(options);
    }
    if args.read_only {
        command.arg("-r");
    }
    if let Some(name) = &args.snapshot {
        command.arg("--snapshot").arg(name);
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
            let mut answer = json!({"pid": child.id()});
            names::put(&mut answer, "store", &args.store);
            names::put(&mut answer, "mountpoint", &args.point);
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
fn serve_in_background(job: &MountJob, args: &MountArgs) -> Result<(), Failure> {
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
        Failure::new(Code::Other, format!("cannot write the log file {}: {e}", names::shown(path)))
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
