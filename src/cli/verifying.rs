//! `verify`: a snapshot and its copy in another store held against each other, by the sums over what is in them.
//!
//! Each store counts its own from its tree, inode by inode; no content is read and none goes from one to the other.

use super::engine::{Backend, OpenFor, StreamOrder};
use super::output;
use super::stream_args::VerifyArgs;
use super::streams::{StoreEnd, written};
use crate::ctl::{Code, Failure};
use crate::names;
use crate::ops::NodeId;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::io;
use std::os::unix::ffi::OsStrExt;

const DIFFERENT: u8 = 3;
/// Paths that are told at most of what differs.
const PATHS_MAX: usize = 50;
/// Bytes of a row of sums: inode and sum.
const ROW_BYTES: usize = 24;

pub(super) fn verify(backend: &dyn Backend, args: &VerifyArgs) -> Result<u8, Failure> {
    let here = StoreEnd::open(backend, &args.target, OpenFor::LookAsMounted)?;
    let done = StoreEnd::open(backend, &args.with, OpenFor::LookAsMounted).and_then(|there| {
        let done = compare(&here, &there, args);
        done.and_then(|done| there.close().map(|()| done))
    });
    here.close()?;
    done
}

/// Sums of a view by inode, and what was told of it.
fn sums(end: &StoreEnd, order: &StreamOrder) -> Result<(Value, BTreeMap<u64, u128>), Failure> {
    let mut bytes = Vec::new();
    let told = end.run(order, &mut io::empty(), &mut bytes, &mut |_| true)?;
    let word = |row: &[u8]| row.iter().rev().fold(0u128, |sum, byte| sum << 8 | u128::from(*byte));
    let rows = bytes.chunks_exact(ROW_BYTES).map(|row| (word(&row[..8]) as u64, word(&row[8..])));
    Ok((told, rows.collect()))
}

fn compare(here: &StoreEnd, there: &StoreEnd, args: &VerifyArgs) -> Result<u8, Failure> {
    let view = Some(args.view.as_bytes().to_vec());
    let (mine, ours) = sums(here, &StreamOrder::Sums { at: NodeId::ROOT, view, identity: None })?;
    let identity = mine["identity"].as_str().map(str::to_string);
    let wanted = StreamOrder::Sums { at: NodeId::ROOT, view: None, identity };
    let (copy, theirs) = sums(there, &wanted).map_err(|f| match f.code {
        Code::NotFound => {
            let what = format!("no copy of '{}' is in it", names::shown(&args.view));
            Failure::new(Code::NotFound, format!("{}: {what}", names::shown(&args.with)))
        }
        _ => f,
    })?;
    let differs = ours.iter().filter(|(ino, sum)| theirs.get(ino) != Some(sum)).map(|(ino, _)| *ino);
    let more = theirs.keys().filter(|ino| !ours.contains_key(ino)).copied();
    let inodes: Vec<u64> = differs.chain(more).collect();
    let is_same = mine["digest"] == copy["digest"] && inodes.is_empty();
    let some: Vec<u64> = inodes.iter().copied().take(PATHS_MAX).collect();
    let paths = if some.is_empty() {
        json!([])
    } else {
        here.ask(&StreamOrder::Paths { at: NodeId::ROOT, view: args.view.as_bytes().to_vec(), inodes: some })?
    };
    if args.json.json {
        let object = json!({
            "same": is_same, "identity": mine["identity"], "digest": mine["digest"], "copy_digest": copy["digest"],
            "inodes": ours.len(), "different": inodes.len(), "paths": paths,
        });
        written(output::print_json(&object))?;
    } else if is_same {
        let shown = names::shown(&args.view);
        written(output::print(&format!(
            "'{shown}' and its copy are the same: {}\n",
            output::counted(ours.len() as u64, "inode")
        )))?;
    } else {
        let mut text = format!(
            "'{}' and its copy differ in {}:\n",
            names::shown(&args.view),
            output::counted(inodes.len() as u64, "inode")
        );
        for path in paths.as_array().into_iter().flatten() {
            text += &format!(
                "{}\n",
                names::get(path, "path").map(|p| names::shown_bytes(&p)).unwrap_or_default()
            );
        }
        written(output::print(&text))?;
    }
    Ok(if is_same { 0 } else { DIFFERENT })
}

#[cfg(test)]
#[path = "verifying_tests.rs"]
mod tests;
