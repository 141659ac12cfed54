//! `changes`: what has changed since a view until now, and with `--follow` what changes from then on.
//!
//! Ends without trouble when its reader goes away, and when the mount does.

use super::args::ChangesArgs;
use super::diff::change_line;
use super::engine::{Backend, ChangesOrder, OpenFor, StoreOptions};
use super::feed;
use super::served;
use crate::ctl::{Code, Failure};
use crate::names;
use crate::sys::mount::major_minor;
use crate::sys::process::is_hung_up;
use serde_json::Value;
use std::fs;
use std::io::{self, BufWriter, Write};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::time::Duration;

/// Prints changes until there are no more.
pub(super) fn run(backend: &dyn Backend, args: &ChangesArgs) -> Result<(), Failure> {
    let mut order = ChangesOrder {
        since: args.since.as_ref().map_or(b"@live".to_vec(), |word| word.as_bytes().to_vec()),
        under: None,
        interval: args.follow.then(|| Duration::from_secs(args.interval)),
    };
    let mut out = BufWriter::new(io::stdout());
    let mut failed: Option<io::Error> = None;
    let mut take = |piece: &Value| {
        failed = print(&mut out, piece, args).err();
        failed.is_none()
    };
    match served::connect(&args.target) {
        Ok(client) => {
            let meta = fs::metadata(&args.target).ok();
            let inside = meta.filter(|meta| major_minor(meta.dev()) == client.record().device);
            order.under = inside.map(|meta| meta.ino());
            let done = client.stream("changes", feed::encode(&order), &mut |piece| take(&piece));
            match done {
                Err(f) if args.follow && f.code == Code::Io && client.has_died() => {
                    let at = names::shown(&client.record().mountpoint);
                    let what = "its daemon has ended without being told to, and changes are followed no more: mount it \
                                again and go on with --since";
                    return Err(Failure::new(Code::Io, format!("{at}: {what}")));
                }
                // The mount has ended, and its daemon with it.
                Err(f)
                    if args.follow
                        && matches!(f.code, Code::Io | Code::NotMounted)
                        && client.is_leaving() => {}
                done => drop(done?),
            }
        }
        Err(f) if f.code == Code::NotMounted && !args.follow => {
            let look = StoreOptions { access: OpenFor::LookAsMounted, ..StoreOptions::default() };
            let engine = backend.open(&args.target, &look)?;
            let done = engine.changes(&order, &mut |piece| take(&piece));
            engine.close()?;
            done?;
        }
        Err(f) => return Err(f),
    }
    match failed.filter(|e| e.kind() != io::ErrorKind::BrokenPipe) {
        Some(e) => Err(Failure::new(Code::Other, format!("cannot write the output: {e}"))),
        None => Ok(()),
    }
}

/// Prints what was found at one look. Nothing is a look as well: whether somebody reads on is seen then.
fn print(out: &mut BufWriter<io::Stdout>, piece: &Value, args: &ChangesArgs) -> io::Result<()> {
    for change in piece["changes"].as_array().into_iter().flatten() {
        if args.json.json {
            let mut line = change.clone();
            line["time"] = piece["time"].clone();
            writeln!(out, "{line}")?;
        } else {
            writeln!(out, "{}", change_line(change, false))?;
        }
    }
    out.flush()?;
    if is_hung_up(out.get_ref()) { Err(io::ErrorKind::BrokenPipe.into()) } else { Ok(()) }
}
