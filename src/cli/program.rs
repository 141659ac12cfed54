//! The program: parses its arguments, does what the verb says, and ends with the right code.

use super::args::{self, Cli, Method, Style, Verb};
use super::engine::Backend;
use super::{
    changes, delete, diff, freeze, holds, hydrate, merge, mirror, mount, paths, properties, purge, rescue,
    restore, rollback, schedule, scrub, sent, show, snapshots, space, stores, streams, trash, trial, umount,
    undo, usage, verifying,
};
use crate::ctl::{Code, Failure};
use clap::FromArgMatches;
use std::ffi::OsString;

const FAILED: u8 = 1;
const USAGE: u8 = 2;
const DAMAGED: u8 = 3;
/// "Trouble" of diff(1), which has 1 for differences.
const DIFF_FAILED: u8 = 2;
/// "mount failure" of mount(8).
const HELPER_FAILED: u8 = 32;

/// Runs a command; `args` starts with the name of the program. Returns its exit code.
pub fn run(backend: &dyn Backend, args: Vec<OsString>) -> u8 {
    crate::sys::family::hear_of_ends();
    if let Some(code) = crate::fuse::run_flusher(&args) {
        return code;
    }
    if let Some(code) = trial::run_stage(&args) {
        return code;
    }
    let (style, args) = args::normalise(args);
    if style == Style::FakeHelper {
        return 0;
    }
    let failed = if style == Style::Helper { HELPER_FAILED } else { FAILED };
    let parsed = args::command().try_get_matches_from(args);
    let cli = match parsed.and_then(|matches| Cli::from_arg_matches(&matches)) {
        Ok(cli) => cli,
        Err(e) => {
            let _ = e.print(); // a reader that went away is success
            let wrong = if style == Style::Helper { HELPER_FAILED } else { USAGE };
            return if e.use_stderr() { wrong } else { 0 };
        }
    };
    // A command that is run gets what it would have without us.
    let runs = matches!(&cli.verb, Verb::Create(a) if a.hooks.any());
    if !runs && !matches!(cli.verb, Verb::Try(_) | Verb::Run(_)) {
        crate::sys::process::keep_files_private();
        crate::sys::process::take_what_limits_allow();
    }
    start_log(&cli.verb);
    match dispatch(backend, &cli.verb) {
        Ok(code) => code,
        Err(f) => {
            let wrong_usage = usage::sentence(&f);
            let message = wrong_usage.unwrap_or(&f.message);
            if !message.is_empty() {
                eprintln!("snapfs: {message}");
            }
            match f.code {
                _ if style == Style::Helper => failed,
                _ if matches!(cli.verb, Verb::Diff(_)) => DIFF_FAILED,
                Code::Damaged => DAMAGED,
                _ if wrong_usage.is_some() => USAGE,
                _ => failed,
            }
        }
    }
}

fn dispatch(backend: &dyn Backend, verb: &Verb) -> Result<u8, Failure> {
    let done = match verb {
        Verb::Diff(a) => return diff::run(backend, a),
        Verb::Merge(a) => return merge::merge(a),
        Verb::Rebase(a) => return merge::rebase(a),
        Verb::Try(a) => return trial::try_command(a),
        Verb::Run(a) => return trial::run_command(a),
        Verb::Show(a) => return show::run(backend, a),
        Verb::Changes(a) => changes::run(backend, a),
        Verb::Versions(a) => paths::versions(backend, a),
        Verb::Log(a) => paths::log(backend, a),
        Verb::Rollback(a) => return rollback::rollback(a),
        Verb::Promote(a) => return rollback::promote(a),
        Verb::Init(a) => stores::init(backend, a),
        Verb::Mount(a) => mount::run(backend, a),
        Verb::Umount(a) => umount::run(a),
        Verb::Create(a) if a.method == Some(Method::Background) => hydrate::create(a),
        Verb::Create(a) => snapshots::create(backend, a),
        Verb::List(a) if a.trash => trash::list(backend, &a.target, a.json.json),
        Verb::List(a) if a.sent => sent::list(backend, &a.target, a.json.json),
        Verb::List(a) => snapshots::list(backend, a),
        Verb::Rename(a) => snapshots::rename(a),
        Verb::Delete(a) if a.trash => trash::empty(&a.target, &a.names, a.json.json),
        Verb::Delete(a) => delete::run(a),
        Verb::Undelete(a) => trash::undelete(a),
        Verb::Hold(a) => holds::hold(backend, a),
        Verb::Release(a) => holds::release(a),
        Verb::Clone(a) => snapshots::clone(a),
        Verb::Drop(a) => snapshots::drop_clones(a),
        Verb::Restore(a) => restore::run(a),
        Verb::Undo(a) => return undo::run(a),
        Verb::Send(a) => streams::send(backend, a),
        Verb::Receive(a) => streams::receive(backend, a),
        Verb::Verify(a) => return verifying::verify(backend, a),
        Verb::Set(a) => properties::set(a),
        Verb::Get(a) => properties::get(a),
        Verb::Status(a) => stores::status(a),
        Verb::Info(a) => stores::info(backend, a),
        Verb::Check(a) if a.repair => rescue::repair(backend, a),
        Verb::Check(a) => stores::check(backend, a),
        Verb::Salvage(a) => rescue::salvage(backend, a),
        Verb::Scrub(a) => scrub::run(backend, a),
        Verb::Mirror(a) => mirror::run(backend, a),
        Verb::Schedule(a) => schedule::run(backend, a),
        Verb::Prune(a) => schedule::prune(backend, a),
        Verb::Space(a) => space::run(backend, a),
        Verb::Plan(a) => return space::plan(backend, a),
        Verb::Hydrate(a) => hydrate::run(backend, a),
        Verb::Freeze(a) => freeze::freeze(a),
        Verb::Thaw(a) => freeze::thaw(a),
        Verb::Purge(a) => purge::run(a),
    };
    done.map(|()| 0)
}

/// Messages go to standard error; `SNAPFS_LOG` sets what is told, as `RUST_LOG` does elsewhere.
fn start_log(verb: &Verb) {
    let verbose = matches!(verb, Verb::Mount(a) if a.verbose);
    // The protocol crate tells of replies to requests that were interrupted meanwhile, which is no error.
    let default = if verbose { "info,fuser=warn" } else { "warn,fuser=off" };
    let env = env_logger::Env::new().filter_or("SNAPFS_LOG", default);
    // Fails when a test in this process has set one up before.
    let _ = env_logger::Builder::from_env(env).try_init();
}
