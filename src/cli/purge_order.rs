//! How an order to purge a path travels to a daemon, and what the daemon does.

use super::engine::PurgeRequest;
use super::past_of_path;
use super::pattern::{Pattern, is_pattern};
use super::refusal::{told, told_snapshot, told_view};
use crate::ctl::{Code, Failure};
use crate::format::ViewId;
use crate::fs::{Fs, PathAsked, PurgeAsked, PurgeEnd, PurgePlan, stores_with};
use crate::names;
use crate::ops::{Error, NodeId};
use crate::volume::SnapshotInfo;
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

/// A request as it travels.
pub(super) fn encode(request: &PurgeRequest) -> Value {
    let mut object = past_of_path::encode(&request.path);
    names::put(&mut object, "snapshots", OsStr::from_bytes(&request.snapshots));
    (object["all"], object["dry_run"]) = (request.all.into(), request.dry_run.into());
    object
}

/// The other way.
pub(super) fn decode(args: &Value) -> Result<PurgeRequest, Failure> {
    let wrong = || Failure::new(Code::Invalid, "the request does not say what to purge");
    Ok(PurgeRequest {
        path: past_of_path::decode(args)?,
        snapshots: names::get(args, "snapshots").ok_or_else(wrong)?,
        all: args["all"].as_bool().ok_or_else(wrong)?,
        dry_run: args["dry_run"].as_bool().ok_or_else(wrong)?,
    })
}

/// Carries it out.
pub(super) fn answer(fs: &Fs, store: &Path, request: &PurgeRequest) -> Result<Value, Failure> {
    let dir = NodeId(request.path.dir);
    let wanted = match request.path.names.is_empty() {
        true => "/".to_string(),
        false => names::shown_bytes(&request.path.names.join(&b'/')),
    };
    let invalid = |what: &str| Err(Failure::new(Code::Invalid, format!("{wanted}: {what}")));
    if dir.is_snapdir()
        && request.path.of_snapshot.is_none()
        && let Some(name) = request.path.names.first()
    {
        let kind = if dir.ino() == 0 { "clone" } else { "snapshot" };
        let what = format!("{}: no such {kind}", names::shown_bytes(name));
        return Err(Failure::new(Code::NotFound, what));
    }
    if !dir.is_live() || request.path.of_snapshot.is_some() {
        return invalid(
            "this is in a snapshot; name the path in the live tree, where it need not be any more",
        );
    }
    if request.path.names.is_empty() {
        return invalid("this is the root of the tree; name a file in it");
    }
    if fs.volume().lacks_a_side() {
        let what = "one side of the mirror is not there, and would bring the content back: attach or forget it first \
                    (snapfs mirror)";
        return invalid(what);
    }
    let asked = PathAsked { dir, names: request.path.names.clone() };
    let path = fs.path_in_line(&asked).map_err(|e| told(store, &e))?;
    let (snapshots, is_all) = chosen(fs, dir, &request.snapshots)?;
    for info in snapshots.iter().filter_map(|id| fs.volume().snapshot_info(*id)) {
        let Some(why) = fs.keeps_from_purge(&info) else { continue };
        let name = names::shown_bytes(&info.name);
        let what = format!("the snapshot {name} is {why}: nothing of it is purged until that ends");
        return Err(Failure::new(Code::Busy, what));
    }
    let shown = names::shown_bytes(&path);
    let of_path = path.clone();
    let asked = PurgeAsked { path, snapshots, all: request.all, dry_run: request.dry_run };
    let end = fs.purge(&asked).map_err(|e| match e {
        Error::NotFound => {
            Failure::new(Code::NotFound, format!("{wanted}: it is in none of these snapshots"))
        }
        Error::NotSupported => {
            let what = "it is no file, symbolic link or directory in one of these snapshots";
            Failure::new(Code::Invalid, format!("{wanted}: {what}"))
        }
        Error::Stale => {
            let what = "one of these snapshots had to go to make room: look which there are, and try again";
            Failure::new(Code::Busy, format!("{wanted}: {what}"))
        }
        Error::Busy if is_left(fs).as_deref().is_some_and(|path| path != shown) => {
            let other = is_left(fs).unwrap_or_default();
            let what = "has some left to do, which waits until nobody holds a snapshot that has the content (snapfs release), \
                        or shares it live; as long as it does nothing is purged that takes several commits, or is held";
            Failure::new(Code::Busy, format!("{wanted}: the purge of {other} {what}"))
        }
        Error::Busy if is_left(fs).is_some() => stopped(fs, (&wanted, &shown), &e),
        Error::Busy if fs.volume().is_set_aside() => {
            let what = "some of what was deleted cannot be read (snapfs check), and may have it: unmount the store and mount it \
                        again, which tries that once more, and then purge";
            Failure::new(Code::Busy, format!("{wanted}: {what}"))
        }
        Error::Busy => {
            let what = "somebody has come to share the content, or holds a snapshot that has it: try again";
            Failure::new(Code::Busy, format!("{wanted}: {what}"))
        }
        e => told(store, &e),
    })?;
    match end {
        PurgeEnd::Stopped(e) => Err(stopped(fs, (&wanted, &shown), &e)),
        PurgeEnd::Planned(plan) => {
            let mut object = told_plan(fs, &plan);
            let files: Vec<&OsStr> = plan.files.iter().map(|file| OsStr::from_bytes(file)).collect();
            names::put_list(&mut object, "files", &files);
            let refused = !request.dry_run && !plan.is_empty();
            (object["purged"], object["refused"]) = (false.into(), refused.into());
            object["inherited"] = inherited_with(fs, dir, &of_path).into();
            Ok(object)
        }
        PurgeEnd::Purged(plan, wiped) => {
            let names: Vec<String> =
                plan.found.iter().map(|f| names::shown_bytes(&f.snapshot.name)).collect();
            let others = plan.others.len();
            let files = match plan.files.len() {
                1 => String::new(),
                n => format!(", {n} files,"),
            };
            log::warn!("purged {shown}{files} from {}; {others} others lost it, too", names.join(", "));
            let mut object = told_plan(fs, &plan);
            object["purged"] = true.into();
            object["log_bytes"] = wiped.log.into();
            object["free_bytes"] = wiped.free.into();
            object["reserved_bytes"] = wiped.reserved.into();
            object["held_up_bytes"] = wiped.held_up.into();
            object["read_snapshots"] = wiped.read_snapshots.into();
            object["unfreed"] = wiped.has_unfreed.into();
            object["lacks_a_side"] = wiped.lacks_a_side.into();
            let inherited = inherited_with(fs, dir, &of_path);
            // Whoever names snapshots wants no others.
            let is_left = is_all && !inherited.is_empty();
            (object["inherited"], object["is_left"]) = (inherited.into(), is_left.into());
            object["complete"] = (wiped.is_all() && !is_left).into();
            Ok(object)
        }
    }
}

/// Why a purge ended before all was done, what is done, and when the rest is.
fn stopped(fs: &Fs, (wanted, shown): (&str, &str), e: &Error) -> Failure {
    let done = match (is_left(fs).is_some_and(|path| path == shown), fs.volume().has_purged_left()) {
        (true, _) => "a part is purged, and the rest can still be read",
        (false, true) => "nobody can read it any more, and some of it may be on the device still",
        (false, false) => "it is purged",
    };
    let (code, why) = match e {
        Error::NoSpace => {
            (Code::NoSpace, "there is no room for more: it goes on by itself when there is some".into())
        }
        Error::Busy => {
            let what = "somebody has come to share the rest, or holds a snapshot that has it: it goes on by itself when that ends";
            (Code::Busy, what.to_string())
        }
        Error::Stale => {
            let what =
                "one of these snapshots had to go to make room: what the others have goes on by itself";
            (Code::Busy, what.to_string())
        }
        e => (Code::Other, format!("{e}: it goes on by itself, after an unmount with the next mount")),
    };
    Failure::new(code, format!("{wanted}: {done}; {why}"))
}

/// The path of a purge that has some left to do.
fn is_left(fs: &Fs) -> Option<String> {
    Some(names::shown_bytes(&fs.volume().purge_rest()?.path))
}

fn told_plan(fs: &Fs, plan: &PurgePlan) -> Value {
    let snapshots = plan.found.iter().map(|found| {
        let mut object = json!({"size": found.size, "inode": found.ino.0, "files": found.files});
        object["in_trash"] = found.in_trash.into();
        names::put(&mut object, "name", OsStr::from_bytes(&found.snapshot.name));
        object
    });
    let others = plan.others.iter().map(|other| {
        let mut object = json!({"in_trash": other.in_trash});
        names::put(&mut object, "path", OsStr::from_bytes(&other.path));
        if !other.line.is_empty() {
            names::put(&mut object, "line", OsStr::from_bytes(&other.line));
        }
        if let Some(snapshot) = &other.snapshot {
            names::put(&mut object, "snapshot", OsStr::from_bytes(snapshot));
        }
        object
    });
    let open = plan.open.iter().map(|open| {
        let mut object = json!({"inode": open.node.0});
        if !open.line.is_empty() {
            names::put(&mut object, "line", OsStr::from_bytes(&open.line));
        }
        object
    });
    let copies: BTreeSet<String> =
        plan.found.iter().flat_map(|found| stores_with(fs.volume(), &found.snapshot)).collect();
    json!({
        "snapshots": snapshots.collect::<Vec<_>>(), "others": others.collect::<Vec<_>>(),
        "file_count": plan.files.len(), "open": open.collect::<Vec<_>>(),
        "live": plan.is_live(), "stored_bytes": plan.stored_bytes(), "nodes": plan.leaf_count(), "copies": copies,
    })
}

/// The snapshots that words mean: `all`, or names, patterns, words for ages and ranges, with commas between. Those in the trash are part of
/// all and of ranges, and are meant by the names that they had. True with it if all were meant.
fn chosen(fs: &Fs, dir: NodeId, words: &[u8]) -> Result<(Vec<ViewId>, bool), Failure> {
    let fails = |e: Error| told_view(words, &e);
    let (own, trashed) = (fs.own_snapshots(dir).map_err(fails)?, fs.trashed_snapshots(dir).map_err(fails)?);
    let has = |all: &[SnapshotInfo], name: &[u8]| all.iter().any(|info| info.name == name);
    let every = || own.iter().chain(&trashed);
    if words == b"all" && !has(&own, b"all") {
        return match every().next() {
            None => Err(Failure::new(
                Code::NotFound,
                match &inherited_of(fs, dir)[..] {
                    [] => "there are no snapshots".to_string(),
                    all => {
                        let all: Vec<String> = all.iter().map(|info| in_its_line(fs, info)).collect();
                        format!(
                            "there are no snapshots of its own, and those of what it was cloned from are purged there: {}",
                            all.join(", ")
                        )
                    }
                },
            )),
            Some(_) => Ok((every().map(|info| info.id).collect(), true)),
        };
    }
    let find = |word: &[u8]| -> Result<ViewId, Failure> {
        let info = match fs.snapshot_of_word(dir, word) {
            Ok(info) => info,
            Err(e) => {
                let was_called = trashed.iter().rfind(|info| info.name == word);
                return was_called.map(|info| info.id).ok_or_else(|| told_snapshot(word, &e));
            }
        };
        let is_own = own.iter().any(|own| own.id == info.id);
        if is_own { Ok(info.id) } else { Err(inherited(&info)) }
    };
    let mut all = BTreeSet::new();
    for word in words.split(|byte| *byte == b',') {
        let range = word.windows(2).position(|two| two == b"..");
        match range.filter(|_| !has(&own, word)) {
            Some(at) => {
                // Numbers ascend with time.
                let (first, last) = (find(&word[..at])?, find(&word[at + 2..])?);
                if first > last {
                    let shown = names::shown_bytes(word);
                    return Err(Failure::new(Code::Invalid, format!("{shown}: the older one comes first")));
                }
                all.extend(every().map(|info| info.id).filter(|id| (first..=last).contains(id)));
            }
            None => match find(word) {
                Ok(id) => drop(all.insert(id)),
                Err(f) => {
                    let pattern = Pattern::parse(word);
                    let meant = every().filter(|info| is_pattern(word) && pattern.means(&info.name));
                    let meant: Vec<ViewId> = meant.map(|info| info.id).collect();
                    all.extend(if meant.is_empty() { return Err(f) } else { meant });
                }
            },
        }
    }
    Ok((all.into_iter().collect(), false))
}

/// Snapshots that a line shows and that are another's, oldest first.
fn inherited_of(fs: &Fs, dir: NodeId) -> Vec<SnapshotInfo> {
    let Ok(line) = fs.line_at(dir) else { return Vec::new() };
    fs.volume().snapshots(line).into_iter().filter(|info| info.line != line).collect()
}

/// Those of them that have content under a path still, as they are to be named where they can be purged.
fn inherited_with(fs: &Fs, dir: NodeId, path: &[u8]) -> Vec<Value> {
    // One that cannot be looked at may have it.
    let has = |info: &SnapshotInfo| fs.has_content_at(info.id, path).unwrap_or(true);
    let all = inherited_of(fs, dir).into_iter().filter(has);
    let told = all.map(|info| {
        let mut object = json!({});
        names::put(&mut object, "name", OsStr::from_bytes(&info.name));
        let line = fs.volume().line(info.line).map(|line| line.name).unwrap_or_default();
        if !line.is_empty() {
            names::put(&mut object, "line", OsStr::from_bytes(&line));
        }
        object
    });
    told.collect()
}

/// A snapshot and whose it is.
fn in_its_line(fs: &Fs, info: &SnapshotInfo) -> String {
    let name = names::shown_bytes(&info.name);
    match fs.volume().line(info.line) {
        Ok(line) if !line.name.is_empty() => format!("{name} of clone {}", names::shown_bytes(&line.name)),
        _ => name,
    }
}

fn inherited(info: &SnapshotInfo) -> Failure {
    let name = names::shown_bytes(&info.name);
    let what = "it belongs to what this was cloned from: purge it there";
    Failure::new(Code::Invalid, format!("{name}: {what}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::engine::PathOrder;
    use crate::cli::engine::PathQuestion;

    #[test]
    fn a_request_travels() {
        let path = PathOrder {
            question: PathQuestion::Versions,
            dir: 7,
            names: vec![b"a".to_vec(), vec![0xff]],
            of_snapshot: None,
        };
        let request = PurgeRequest { path, snapshots: b"a..b,c".to_vec(), all: true, dry_run: false };
        assert_eq!(decode(&encode(&request)), Ok(request));
        assert!(decode(&json!({})).is_err());
    }
}
