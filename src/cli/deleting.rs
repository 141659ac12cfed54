//! What the daemon does for an order to delete snapshots: finds which are meant, deletes them, and says which stay and why.
//!
//! A name is first taken as it is, and only then as a pattern. Patterns mean snapshots of the line's own; one that it has from its
//! origin can be named, and is refused as ever.

use super::delete_order::{DeleteOrder, told_missing};
use super::held;
use super::pattern::{Pattern, is_pattern};
use super::refusal::{told, told_view};
use crate::ctl::Failure;
use crate::format::ViewId;
use crate::format::provenance::Provenance;
use crate::fs::{Deletion, Fs};
use crate::names;
use crate::ops::Error;
use crate::volume::SnapshotInfo;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

/// Carries one out: the answer has `deleted`, `kept` with `name` and `why` for each, `missing` with a sentence for each name that met
/// nothing, and `frees`, the bytes that come back of those that go with the next commits, if that is known; of a rehearsal also
/// `frees_later`, when what reads them has ended, and `shared`, what others have as well. What goes into the trash frees nothing, and
/// `in_trash` says what comes back of it when that is emptied. `progress` hears how many were looked at.
pub(super) fn carry_out(
    fs: &Fs,
    store: &Path,
    (order, by): (&DeleteOrder, &Provenance),
    progress: &mut dyn FnMut(Value) -> bool,
) -> Result<Value, Failure> {
    let (all, missing) = meant(fs, store, order)?;
    let (mut go, mut stays) = (Vec::new(), Vec::new());
    for s in all {
        match fs.check_deletable(order.at, &s) {
            Ok(()) => go.push(s),
            Err(e) => stays.push((e, s)),
        }
    }
    let ids: Vec<ViewId> = go.iter().map(|s| s.id).collect();
    let mut answer = json!({"missing": missing});
    let (mut gone, mut frees);
    if order.dry_run {
        let planner = fs.planner().map_err(|e| told(store, &e))?;
        let plan = planner.plan(&ids, &[]).map_err(|e| told(store, &e.into()))?;
        answer["frees_later"] = (plan.freed_in_the_end() - plan.freed).into();
        answer["shared"] = plan.shared.into();
        frees = Some(plan.freed);
        gone = go;
    } else {
        let planned = fs.volume().planner().and_then(|planner| planner.would_free_now(&ids));
        frees = planned.map_err(|e| told(store, &e.into()))?;
        gone = Vec::new();
        let total = go.len();
        let deletion = if order.now { Deletion::Final } else { Deletion::Kept(by) };
        let told_so_far = &mut |done: usize| progress(json!({"done": done, "total": total}));
        let done =
            fs.discard_snapshots_of(order.at, &go, deletion, told_so_far).map_err(|e| told(store, &e))?;
        for (s, done) in go.into_iter().zip(done) {
            match done {
                Ok(()) => gone.push(s),
                // It came into use meanwhile: what the others free was not asked for.
                Err(e) => {
                    frees = None;
                    stays.push((e, s));
                }
            }
        }
    }
    if order.is_waited_for {
        // What the background does begins with a commit, and nobody else may have a reason for one.
        fs.commit().map_err(|e| told(store, &e))?;
    }
    if !order.now && fs.trash_secs().is_some() {
        (answer["in_trash"], frees) = (frees.into(), frees.map(|_| 0));
    }
    answer["frees"] = frees.into();
    let list: Vec<&OsStr> = gone.iter().map(|s| OsStr::from_bytes(&s.name)).collect();
    names::put_list(&mut answer, "deleted", &list);
    let kept = stays.iter().map(|(e, s)| {
        let mut one = json!({"why": held::told_kept(fs, order.at, &s.name, e).message});
        names::put(&mut one, "name", OsStr::from_bytes(&s.name));
        one
    });
    answer["kept"] = kept.collect();
    Ok(answer)
}

/// Those that are meant, oldest first, and a sentence for each name that means none.
pub(super) fn meant(
    fs: &Fs,
    store: &Path,
    order: &DeleteOrder,
) -> Result<(Vec<SnapshotInfo>, Vec<String>), Failure> {
    let fails = |e: Error| told(store, &e);
    let line = fs.line_at(order.at).map_err(fails)?;
    let moment = |word: &Option<Vec<u8>>| {
        let moment = |word: &Vec<u8>| fs.moment_of_word(order.at, word).map_err(|e| told_view(word, &e));
        word.as_ref().map(moment).transpose()
    };
    let (before, after) = (moment(&order.before)?, moment(&order.after)?);
    let is_ranged = before.is_some() || after.is_some();
    let is_in = |s: &SnapshotInfo| {
        // A second that is named belongs neither to what is before it nor to what is after it.
        let second = |(secs, nanos): (i64, u32)| (secs, if nanos == 999_999_999 { 0 } else { nanos });
        before.is_none_or(|at| s.created < second(at)) && after.is_none_or(|at| s.created > at)
    };
    let own = fs.volume().own_snapshots(line);
    let (mut all, mut missing) = (BTreeMap::<ViewId, SnapshotInfo>::new(), Vec::new());
    for name in &order.names {
        let found: Vec<SnapshotInfo> = match fs.volume().find_snapshot(line, name) {
            Some(found) => vec![found],
            None if is_pattern(name) => {
                let pattern = Pattern::parse(name);
                own.iter().filter(|s| pattern.means(&s.name)).cloned().collect()
            }
            None => Vec::new(),
        };
        let found: Vec<_> = found.into_iter().filter(is_in).collect();
        if found.is_empty() {
            missing.push(told_missing(name, is_ranged));
        }
        all.extend(found.into_iter().map(|s| (s.id, s)));
    }
    Ok((all.into_values().collect(), missing))
}
