//! What the daemon does for an order to delete snapshots: finds which are meant, deletes them, and says which stay and why.
//!
//! A name is first taken as it is, and only then as a pattern. Patterns mean snapshots of the line's own; one that it has from its
//! origin can be named, and is refused as ever.

use super::delete_order::{DeleteOrder, NO_ROOM_IN_TRASH, told_missing};
use super::held;
use super::pattern::{Pattern, is_pattern};
use super::refusal::{told, told_view};
use crate::ctl::Failure;
use crate::format::ViewId;
use crate::format::provenance::Provenance;
use crate::format::trash::Trashed;
use crate::fs::{Deletion, Fs, Gone};
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
/// `in_trash` says what comes back of it when that is emptied; `no_room_in_trash` names those that were to be in it and have gone for
/// good. `progress` hears how many were looked at.
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
    let has_trash = !order.now && fs.trash_secs().is_some();
    let (mut gone, mut no_room) = (Vec::new(), Vec::<&[u8]>::new());
    let mut frees;
    if order.dry_run {
        let planner = fs.planner().map_err(|e| told(store, &e))?;
        let plan = planner.plan(&ids, &[]).map_err(|e| told(store, &e.into()))?;
        answer["frees_later"] = (plan.freed_in_the_end() - plan.freed).into();
        answer["shared"] = plan.shared.into();
        frees = Some(plan.freed);
        gone = go.iter().collect();
    } else {
        // As a rehearsal does: what was changed until now counts. What cannot be planned can be deleted all the same.
        frees = fs.planner().ok().and_then(|planner| planner.would_free_now(&ids).ok().flatten());
        let total = go.len();
        let deletion = if order.now { Deletion::Final } else { Deletion::Kept(by) };
        let told_so_far = &mut |done: usize| progress(json!({"done": done, "total": total}));
        let done =
            fs.discard_snapshots_of(order.at, &go, deletion, told_so_far).map_err(|e| told(store, &e))?;
        for (s, done) in go.iter().zip(done) {
            match done {
                Ok(to) => {
                    gone.push(s);
                    if to == Gone::NoRoomInTrash {
                        no_room.push(&s.name);
                    }
                }
                // It came into use meanwhile: what the others free was not asked for.
                Err(e) => {
                    frees = None;
                    stays.push((e, s.clone()));
                }
            }
        }
    }
    if order.is_waited_for {
        // What the background does begins with a commit, and nobody else may have a reason for one.
        fs.commit().map_err(|e| told(store, &e))?;
    }
    if has_trash && no_room.len() < gone.len().max(1) {
        let later = if no_room.is_empty() { frees } else { comes_back_of_trash(fs, &ids) };
        answer["in_trash"] = later.into();
        frees = frees.zip(later).map(|(frees, later)| frees.saturating_sub(later));
    }
    answer["frees"] = frees.into();
    let mut put_names = |key, all: &mut dyn Iterator<Item = &[u8]>| {
        names::put_list(&mut answer, key, &all.map(OsStr::from_bytes).collect::<Vec<_>>());
    };
    put_names("deleted", &mut gone.iter().map(|s| &s.name[..]));
    if !no_room.is_empty() {
        put_names(NO_ROOM_IN_TRASH, &mut no_room.into_iter());
    }
    let kept = stays.iter().map(|(e, s)| {
        let mut one = json!({"why": held::told_kept(fs, order.at, &s.name, e).message});
        names::put(&mut one, "name", OsStr::from_bytes(&s.name));
        one
    });
    answer["kept"] = kept.collect();
    Ok(answer)
}

/// What comes back of these when they go from the trash, as far as they are there: bytes, if that can be known.
fn comes_back_of_trash(fs: &Fs, ids: &[ViewId]) -> Option<u64> {
    let mut trash = fs.volume().trash();
    trash.retain(|trash| matches!(trash.what, Trashed::Snapshot(view, _) if ids.contains(&view)));
    let planner = fs.volume().planner().ok()?;
    planner.would_free_emptying(&[], &trash.iter().map(|trash| trash.number).collect()).ok()
}

/// Drops a clone, into the trash by whoever that is, or now. Says if it has gone for good and should not have.
pub(super) fn drop_clone(fs: &Fs, name: &[u8], into_trash: Option<&Provenance>) -> Result<Value, Failure> {
    let gone = match into_trash {
        Some(by) => fs.discard_clone(name, by),
        None => fs.drop_clone(name).map(|()| Gone::ForGood),
    };
    let gone = gone.map_err(|e| held::told_kept_clone(fs, name, &e))?;
    Ok(if gone == Gone::NoRoomInTrash { json!({NO_ROOM_IN_TRASH: true}) } else { json!({}) })
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::Clock;
    use crate::fixtures::{ADMIN, bytes, put, snapshot};
    use crate::format::LineId;
    use crate::fs::FsOptions;
    use crate::ops::{NodeId, Operations};
    use crate::volume::Volume;
    use std::sync::Arc;

    const SECOND: i64 = 1_000_000_000;
    const MANY: u64 = 4 << 20;

    fn new(size: u64, trash: Option<u64>) -> (Arc<Fs>, Clock) {
        let (clock, options) = (Clock::manual(1000), FsOptions { tripwire: true, ..FsOptions::default() });
        let fs = Fs::open(Volume::memory(size), options, clock.clone()).unwrap();
        fs.volume().set_terms(LineId::MAIN, |terms| terms.trash = trash).unwrap();
        (fs, clock)
    }

    fn carried_out(fs: &Fs, names: &[&str], dry_run: bool) -> Value {
        let order = DeleteOrder {
            at: NodeId::ROOT,
            names: names.iter().map(|name| name.as_bytes().to_vec()).collect(),
            before: None,
            after: None,
            dry_run,
            now: false,
            is_waited_for: false,
        };
        carry_out(fs, Path::new("store"), (&order, &Provenance::default()), &mut |_| true).unwrap()
    }

    fn remove(fs: &Fs, name: &str) {
        let node = fs.lookup(&ADMIN, NodeId::ROOT, name.as_bytes()).unwrap().attr.node;
        fs.unlink(&ADMIN, NodeId::ROOT, name.as_bytes()).unwrap();
        fs.forget(node);
    }

    /// A snapshot for each of these names, with content that no other has.
    fn snapshots(fs: &Fs, all: &[&str]) {
        for (n, name) in all.iter().enumerate() {
            put(fs, NodeId::ROOT, "big", &bytes(n as u64, MANY as usize));
            fs.commit().unwrap();
            snapshot(fs, name);
            remove(fs, "big");
        }
        fs.commit().unwrap();
    }

    #[test]
    fn what_has_gone_for_good_for_want_of_room_is_told() {
        for left in 0..3 {
            let (fs, _) = new(1 << 30, Some(3600));
            snapshots(&fs, &["a", "b"]);
            fs.volume().use_up_trash(left);
            let told = carried_out(&fs, &["a", "b"], false);
            assert_eq!(names::get_list(&told, "deleted").unwrap(), [b"a", b"b"], "{told}");
            let all = [b"a".to_vec(), b"b".to_vec()];
            let no_room = names::get_list(&told, NO_ROOM_IN_TRASH).unwrap_or_default();
            assert_eq!(no_room, all[left as usize..], "{told}");
            assert_eq!(fs.volume().trash().len() as u64, left);
            let near = |key: &str, n: u64| {
                let bytes = told[key].as_u64().unwrap_or_default();
                assert!((n * MANY..n * MANY + MANY / 2).contains(&bytes), "{key} of {left}: {told}");
            };
            near("in_trash", left);
            near("frees", 2 - left);
        }
    }

    #[test]
    fn a_clone_for_which_the_trash_has_no_room_is_told() {
        let (fs, _) = new(1 << 30, Some(3600));
        for (name, told) in [(b"kept", json!({})), (b"gone", json!({NO_ROOM_IN_TRASH: true}))] {
            fs.clone_line(LineId::MAIN, name).unwrap();
            assert_eq!(drop_clone(&fs, name, Some(&Provenance::default())), Ok(told));
            fs.volume().use_up_trash(0);
        }
        fs.clone_line(LineId::MAIN, b"now").unwrap();
        assert_eq!(drop_clone(&fs, b"now", None), Ok(json!({})));
        assert_eq!(fs.volume().trash().len(), 1);
    }

    /// What keeps the tree as it was a minute ago gives way to either.
    #[test]
    fn a_deletion_tells_what_its_rehearsal_told() {
        for (rehearsed_first, is_committed) in [(false, false), (false, true), (true, false)] {
            for trash in [None, Some(3600)] {
                let (fs, clock) = new(1 << 30, trash);
                let pass = |seconds: i64| {
                    fs.tend_tripwire();
                    clock.advance(seconds * SECOND);
                    fs.tend_tripwire();
                };
                put(&fs, NodeId::ROOT, "big", &bytes(1, MANY as usize));
                snapshot(&fs, "s");
                pass(61);
                put(&fs, NodeId::ROOT, "small", b"small");
                pass(61);
                assert!(fs.tripwire_state().unwrap().unwrap().point.is_some());
                remove(&fs, "big");
                if is_committed {
                    fs.commit().unwrap();
                }
                let told = |dry_run| {
                    let told = carried_out(&fs, &["s"], dry_run);
                    [told["frees"].as_u64(), told["in_trash"].as_u64()]
                };
                // A rehearsal lets go of what keeps it, so that it shows nothing if it comes first.
                let would = rehearsed_first.then(|| told(true));
                let does = told(false);
                assert!(would.is_none_or(|would| would == does), "{would:?} {does:?}");
                let sum = does.iter().flatten().sum::<u64>();
                assert!((MANY..2 * MANY).contains(&sum), "{does:?}");
            }
        }
    }
}
