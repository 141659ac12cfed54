//! What is told of space and of planned deletions of an open store, by the daemon or by a command that has opened it.

use super::delete_order::DeleteOrder;
use super::deleting::meant;
use super::held::told_kept;
use super::output::rfc3339;
use super::pattern::literal;
use super::refusal::{told, told_clone};
use super::space_order::{SpaceOrder, SpaceQuestion};
use crate::ctl::Failure;
use crate::format::{LineId, ViewId};
use crate::fs::{Fs, HeldContent, HeldPath};
use crate::names;
use crate::ops::{Error, Timestamp};
use crate::volume::{DeletionPlan, Planner, SnapshotInfo, StaysFor, VolumeError};
use serde_json::{Value, json};
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

/// How the word for a clone begins.
pub(super) const CLONE_PREFIX: &[u8] = b".clones/";

/// Answers one: an object. What takes long says how far it is, and ends when it is told by false that nobody waits any more.
pub(super) fn answer(
    fs: &Fs,
    store: &Path,
    order: &SpaceOrder,
    put: &mut dyn FnMut(Value) -> bool,
) -> Result<Value, Failure> {
    let fails = |e: Error| told(store, &e);
    let planner = || fs.planner().map_err(fails);
    match &order.question {
        SpaceQuestion::Parts => parts(fs, &planner()?).map_err(|e| fails(e.into())),
        SpaceQuestion::Paths(most) => {
            let mut progress = |done, of| put(json!({"compared": done, "of": of}));
            fs.held_paths(order.at, *most, &mut progress).map(|held| paths(&held)).map_err(fails)
        }
        SpaceQuestion::Deletion(order) => deletion(fs, store, &planner()?, order),
        SpaceQuestion::Room(bytes) => {
            let planner = planner()?;
            let line = fs.line_at(order.at).map_err(fails)?;
            let plan = fs.plan_room(&planner, line, *bytes).map_err(fails)?;
            let is_a_name = |word: &[u8]| fs.volume().find_snapshot(line, word).is_some();
            let row = |s: &SnapshotInfo| with_word(snapshot(s), &literal(&s.name, is_a_name));
            let rows: Vec<Value> = plan.snapshots.iter().map(row).collect();
            Ok(json!({
                "wanted_bytes": bytes, "freed_bytes": plan.freed, "is_enough": plan.is_enough, "snapshots": rows,
                "has_trash": fs.trash_secs().is_some(),
            }))
        }
    }
}

fn snapshot(s: &SnapshotInfo) -> Value {
    let mut object = json!({
        "created": rfc3339(Timestamp { secs: s.created.0, nanos: s.created.1 }), "reason": s.provenance.reason.name(),
    });
    put(&mut object, "name", &s.name);
    object
}

/// With the word that means it in commands.
fn with_word(mut snapshot: Value, word: &[u8]) -> Value {
    put(&mut snapshot, "word", word);
    snapshot
}

fn put(object: &mut Value, key: &str, name: &[u8]) {
    names::put(object, key, OsStr::from_bytes(name));
}

fn paths(held: &HeldContent) -> Value {
    let row = |path: &HeldPath| {
        let mut row = json!({"bytes": path.bytes});
        put(&mut row, "path", &path.path);
        put(&mut row, "newest", &path.snapshot);
        row
    };
    let rows: Vec<Value> = held.paths.iter().map(row).collect();
    json!({"paths": rows, "bytes": held.bytes, "other_bytes": held.of_others})
}

fn line_word(name: &[u8]) -> Vec<u8> {
    if name.is_empty() { b".".to_vec() } else { [CLONE_PREFIX, name].concat() }
}

fn parts(fs: &Fs, planner: &Planner<'_>) -> Result<Value, VolumeError> {
    let volume = fs.volume();
    let parts = planner.parts()?;
    let (mut snapshots, mut clones) = (Vec::new(), Vec::new());
    // What is in the trash is told in one.
    for line in volume.lines() {
        for s in volume.own_snapshots(line.id) {
            let mut row = snapshot(&s);
            row["exclusive"] = planner.exclusive(s.id)?.into();
            (row["referenced"], row["written"]) = (s.referenced.into(), s.written.into());
            put(&mut row, "line", &line_word(&line.name));
            snapshots.push(row);
        }
    }
    for clone in volume.clones() {
        let exclusive = planner.plan(&[], &[clone.line.id])?.freed_in_the_end();
        let mut row = json!({
            "snapshots": clone.snapshots, "exclusive": exclusive, "referenced": clone.referenced,
            "written": clone.written,
        });
        put(&mut row, "name", &clone.line.name);
        clones.push(row);
    }
    Ok(json!({
        "snapshots": snapshots, "clones": clones, "total_bytes": parts.total, "free_bytes": parts.total - parts.used,
        "used_bytes": parts.used, "live_bytes": parts.live, "snapshots_bytes": parts.snapshots,
        "tables_bytes": parts.tables, "freeing_bytes": parts.freeing,
        "saved_by_sharing_bytes": parts.saved_by_sharing, "may_free_bytes": fs.may_free(),
        "trash_bytes": planner.would_free_with_trash(&[], &[])?,
    }))
}

/// What names mean that are to be deleted, and a sentence for each that cannot be, or means nothing.
struct Named {
    snapshots: Vec<ViewId>,
    lines: Vec<LineId>,
    refused: Vec<Value>,
}

fn find(fs: &Fs, store: &Path, order: &DeleteOrder) -> Result<Named, Failure> {
    let mut named = Named { snapshots: Vec::new(), lines: Vec::new(), refused: Vec::new() };
    let is_clone = |name: &&Vec<u8>| name.starts_with(CLONE_PREFIX);
    let (clones, names): (Vec<_>, Vec<_>) = order.names.iter().partition(is_clone);
    for clone in clones {
        let clone = clone.strip_prefix(CLONE_PREFIX).unwrap_or_default();
        let found = fs.volume().find_line(clone).filter(|_| !clone.is_empty());
        let found = found.ok_or_else(|| told_clone(clone, &Error::NotFound))?;
        let own = fs.volume().own_snapshots(found.id);
        match own.iter().find_map(|s| Some((s, fs.keeps_from_deletion(s)?))) {
            Some((s, why)) => {
                let [clone, s] = [clone, &s.name].map(names::shown_bytes);
                named.refused.push(format!("{clone}: its snapshot {s} is {why}").into());
            }
            None => named.lines.push(found.id),
        }
    }
    let names: Vec<Vec<u8>> = names.into_iter().cloned().collect();
    if !names.is_empty() {
        let (all, missing) = meant(fs, store, &DeleteOrder { names, ..order.clone() })?;
        for s in all {
            match fs.check_deletable(order.at, &s) {
                Ok(()) => named.snapshots.push(s.id),
                Err(e) => named.refused.push(told_kept(fs, order.at, &s.name, &e).message.into()),
            }
        }
        named.refused.extend(missing.into_iter().map(Value::from));
    }
    Ok(named)
}

/// What deleting all of these names brings back.
fn deletion(fs: &Fs, store: &Path, planner: &Planner<'_>, order: &DeleteOrder) -> Result<Value, Failure> {
    let named = find(fs, store, order)?;
    let plan = planner.plan(&named.snapshots, &named.lines).map_err(|e| told(store, &e.into()))?;
    let mut answer = json!({
        "snapshots": named.snapshots.len(), "clones": named.lines.len(), "freed_bytes": plan.freed,
        "freed_later_bytes": plan.freed_in_the_end() - plan.freed, "shared_bytes": plan.shared,
        "staying": staying(fs, &plan), "refused": named.refused,
    });
    let space = fs.volume().space();
    answer["free_bytes"] = space.free.into();
    answer["free_then_bytes"] = space.free.saturating_add(plan.freed).min(space.total).into();
    Ok(answer)
}

fn staying(fs: &Fs, plan: &DeletionPlan) -> Vec<Value> {
    let row = |stays: &crate::volume::StayingView| {
        let mut row = json!({"bytes": stays.freed});
        match stays.stays_for {
            StaysFor::Reader => row["for"] = "reader".into(),
            StaysFor::Line(line) => {
                row["for"] = "clone".into();
                let name = fs.volume().line(line).map(|line| line.name).unwrap_or_default();
                put(&mut row, "clone", &name);
            }
        }
        if let Some(s) = fs.volume().snapshot_info(stays.id) {
            put(&mut row, "name", &s.name);
        }
        row
    };
    plan.staying.iter().map(row).collect()
}

#[cfg(test)]
mod tests {
    use super::super::deleting;
    use super::*;
    use crate::clock::Clock;
    use crate::fixtures::{ADMIN, bytes, put, snapshot as take};
    use crate::format::provenance::Provenance;
    use crate::fs::FsOptions;
    use crate::ops::{NodeId, Operations};
    use crate::volume::Volume;

    /// The words of a plan mean what was planned, and it is gone for good, whatever else is called as a word would be.
    #[test]
    fn what_is_planned_is_what_its_words_delete() {
        for trash in [None, Some(3600)] {
            let fs = Fs::open(Volume::memory(1 << 30), FsOptions::default(), Clock::manual(1000)).unwrap();
            fs.volume().set_terms(LineId::MAIN, |terms| terms.trash = trash).unwrap();
            for (n, name) in ["a*b", r"a\*b", "a[*]b", "newest"].iter().enumerate() {
                let node = put(&fs, NodeId::ROOT, "big", &bytes(n as u64, (4 - n) << 20));
                fs.commit().unwrap();
                take(&fs, name);
                fs.unlink(&ADMIN, NodeId::ROOT, b"big").unwrap();
                fs.forget(node);
            }
            fs.commit().unwrap();
            let ask = |question| {
                let order = SpaceOrder { at: NodeId::ROOT, question };
                answer(&fs, Path::new("store"), &order, &mut |_| true).unwrap()
            };
            let plan = ask(SpaceQuestion::Room(1 << 20));
            let rows = plan["snapshots"].as_array().unwrap();
            assert_eq!(rows.iter().map(|row| row["name"].as_str().unwrap()).collect::<Vec<_>>(), ["a*b"]);
            assert_eq!(plan["has_trash"], trash.is_some());
            let order = DeleteOrder {
                at: NodeId::ROOT,
                names: rows.iter().filter_map(|row| names::get(row, "word")).collect(),
                before: None,
                after: None,
                dry_run: false,
                now: trash.is_some(),
                is_waited_for: true,
            };
            let delete = || {
                let by = Provenance::default();
                deleting::carry_out(&fs, Path::new("store"), (&order, &by), &mut |_| true).unwrap()
            };
            let used = || ask(SpaceQuestion::Parts)["snapshots_bytes"].as_u64().unwrap();
            let before = used();
            let told = delete();
            assert_eq!(names::get_list(&told, "deleted").unwrap(), [b"a*b"], "{told}");
            assert_eq!(
                (Some(before - used()), told["frees"].as_u64()),
                (plan["freed_bytes"].as_u64(), plan["freed_bytes"].as_u64())
            );
            // Once more it means nothing.
            let told = delete();
            assert!(names::get_list(&told, "deleted").unwrap().is_empty(), "{told}");
            assert_eq!(fs.snapshots().len(), 3);
        }
    }
}
