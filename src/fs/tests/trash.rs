//! The trash: what is deleted comes back as it was, over any cut, until its time has passed or its space is needed.

use super::merging::{bring, play};
use super::room::patiently;
use super::*;
use crate::device::{Device, Memory};
use crate::fixtures::{CACHE_BYTES, make};
use crate::format::LineId;
use crate::format::provenance::{Provenance, Reason};
use crate::format::trash::TrashRecord;
use crate::fs::{HoldTerms, MergeOrder, MergeRefusal, MergeWay, OpenForWriting, Reached, Undoable};
use crate::schedule::parse_rules;
use crate::volume::{Access, OpenOptions};

const CLONEDIR: NodeId = NodeId::clonedir(0);
const SECOND: i64 = 1_000_000_000;
const HOUR: u64 = 3600;
const DAY: u64 = 86_400;

fn set(t: &T, value: &str) -> Result<()> {
    t.fs.setxattr(&SUPER, ROOT, b"user.snapfs.trash", value.as_bytes(), XattrMode::Set)
}

fn with_trash(value: &str) -> T {
    let t = T::new();
    set(&t, value).unwrap();
    t
}

fn delete(t: &T, name: &str) -> Result<()> {
    t.fs.rmdir(&SUPER, SNAPDIR, name.as_bytes())
}

fn drop_clone(t: &T, name: &str) -> Result<()> {
    t.fs.rmdir(&SUPER, CLONEDIR, name.as_bytes())
}

fn trash(t: &T, at: NodeId) -> Vec<String> {
    t.fs.trash_of(at).unwrap().into_iter().map(|trash| String::from_utf8(trash.name).unwrap()).collect()
}

fn find(t: &T, at: NodeId, name: &str) -> TrashRecord {
    t.fs.trash_of(at).unwrap().into_iter().find(|trash| trash.name == name.as_bytes()).unwrap()
}

fn undelete(t: &T, at: NodeId, name: &str, new: &str) -> Result<()> {
    t.fs.undelete(&find(t, at, name), new.as_bytes())
}

fn pass(t: &T, seconds: u64) {
    for _ in 0..40 {
        t.clock.advance(seconds as i64 * SECOND / 40);
        t.fs.keep_holds().unwrap();
    }
}

fn on_device() -> (T, Arc<dyn Device>) {
    let device: Arc<dyn Device> = Arc::new(Memory::new(1 << 30));
    make(device.clone());
    let options = OpenOptions { access: Access::ReadWrite, cache_bytes: CACHE_BYTES };
    (T::on(Volume::open(device.clone(), options).unwrap(), FsOptions::default()), device)
}

/// The daemon is killed, and another one opens the store.
fn killed(t: T, device: &Arc<dyn Device>) -> T {
    let clock = t.clock.clone();
    drop(t);
    let options = OpenOptions { access: Access::ReadWrite, cache_bytes: CACHE_BYTES };
    let volume = Volume::open(device.clone(), options).unwrap();
    let fs = Fs::open(volume, FsOptions::default(), clock.clone()).unwrap();
    let head = fs.heads.main();
    T { fs, clock, head }
}

#[test]
fn without_a_trash_what_is_deleted_is_gone() {
    let t = T::new();
    assert_eq!(t.fs.getxattr(ROOT, b"user.snapfs.trash"), Ok(b"none".to_vec()));
    t.snapshot("s");
    delete(&t, "s").unwrap();
    assert!(trash(&t, ROOT).is_empty());
    for wrong in ["0h", "soon", "-1h"] {
        assert_eq!(set(&t, wrong), Err(Error::Invalid));
    }
    set(&t, "1h").unwrap();
    assert_eq!(t.fs.getxattr(ROOT, b"user.snapfs.trash"), Ok(b"1h".to_vec()));
    // Clones have none of their own.
    let clone = t.mkdir(CLONEDIR, "c").unwrap();
    assert!(t.fs.setxattr(&SUPER, clone, b"user.snapfs.trash", b"1h", XattrMode::Set).is_err());
    // What is said to go now goes.
    t.snapshot("s");
    t.fs.delete_snapshot(b"s").unwrap();
    t.fs.drop_clone(b"c").unwrap();
    assert!(trash(&t, ROOT).is_empty());
    set(&t, "none").unwrap();
    t.fs.commit().unwrap();
    t.prove();
}

#[test]
fn a_snapshot_comes_back_as_it_was() {
    let t = with_trash("1h");
    t.put(ROOT, "a", b"one");
    t.snapshot("s");
    let (made, root) = (t.fs.snapshots().remove(0), t.find(SNAPDIR, "s").unwrap());
    let grown = t.put(ROOT, "b", &[7; 300_000]);
    t.snapshot("big");
    t.resize(grown, 0);
    t.fs.commit().unwrap();
    delete(&t, "s").unwrap();
    delete(&t, "big").unwrap();
    assert_eq!((t.list(SNAPDIR), trash(&t, ROOT)), (vec![], vec!["big".to_string(), "s".into()]));
    assert_eq!(t.find(SNAPDIR, "s"), Err(Error::NotFound));
    let used = t.fs.volume().space().used;
    let (count, bytes) = t.fs.volume().trash_bytes().unwrap();
    assert!(count == 2 && (300_000..1_000_000).contains(&bytes), "{count} {bytes}");
    // It goes on needing its space, whatever is committed.
    for _ in 0..3 {
        t.put(ROOT, "c", b"x");
        t.fs.commit().unwrap();
    }
    t.prove();
    assert!(t.fs.volume().space().used + 200_000 > used);
    // Its name may be another's by then.
    t.snapshot("s");
    assert_eq!(undelete(&t, ROOT, "s", "s"), Err(Error::Exists));
    assert_eq!(undelete(&t, ROOT, "s", "@odd"), Err(Error::Invalid));
    undelete(&t, ROOT, "s", "old").unwrap();
    assert_eq!(t.list(SNAPDIR), ["old", "s"]);
    assert_eq!((t.find(SNAPDIR, "old").unwrap(), t.cat(root, "a")), (root, b"one".to_vec()));
    let back = t.fs.snapshots().remove(0);
    assert_eq!((back.id, back.created, back.epoch), (made.id, made.created, made.epoch));
    undelete(&t, ROOT, "big", "big").unwrap();
    assert_eq!(t.cat(t.find(SNAPDIR, "big").unwrap(), "b"), [7; 300_000]);
    assert!(trash(&t, ROOT).is_empty());
    t.fs.commit().unwrap();
    t.prove();
    // Deleted and back again and again, between commits and over them.
    for n in 0..6 {
        delete(&t, "big").unwrap();
        if n % 2 == 0 {
            t.fs.commit().unwrap();
        }
        undelete(&t, ROOT, "big", "big").unwrap();
        if n % 3 == 0 {
            t.fs.commit().unwrap();
            t.prove();
        }
    }
    t.fs.delete_snapshot(b"big").unwrap();
    t.fs.commit().unwrap();
    t.fs.commit().unwrap();
    t.prove();
}

#[test]
fn a_clone_comes_back_with_all_that_was_written_in_it() {
    let (mut t, device) = on_device();
    set(&t, "1h").unwrap();
    t.put(ROOT, "a", b"one");
    let clone = t.mkdir(CLONEDIR, "c").unwrap();
    t.put(clone, "committed", b"two");
    t.fs.commit().unwrap();
    t.put(clone, "delayed", &[3; 200_000]);
    t.fs.create_snapshot_of(clone, b"own", Provenance::default()).unwrap();
    t.put(clone, "last", b"four");
    let heir = t.fs.create_clone(clone, b"heir", None, &Provenance::default());
    heir.unwrap();
    drop_clone(&t, "c").unwrap();
    assert_eq!((t.list(CLONEDIR), trash(&t, ROOT)), (vec!["heir".to_string()], vec!["c".to_string()]));
    assert!(t.find(CLONEDIR, ".trash-2").is_err() && t.fs.getattr(clone, None).is_err());
    let lines: Vec<Vec<u8>> = t.fs.volume().lines().into_iter().map(|line| line.name).collect();
    assert_eq!(lines, [b"".to_vec(), b"heir".to_vec()]);
    // Its name may be another's, and it cannot be got at.
    let other = t.mkdir(CLONEDIR, "c").unwrap();
    t.put(other, "other", b"x");
    assert_eq!(undelete(&t, ROOT, "c", "c"), Err(Error::Exists));
    for round in 0..2 {
        t = killed(t, &device);
        assert_eq!(
            (t.list(CLONEDIR), trash(&t, ROOT)),
            (vec!["heir".into(), "c".into()], vec!["c".to_string()])
        );
        let heir = t.find(CLONEDIR, "heir").unwrap();
        let past = t.find(heir, ".snapshots").unwrap();
        assert_eq!((t.list(past), t.cat(heir, "last")), (vec!["own".to_string()], b"four".to_vec()));
        if round == 0 {
            t.fs.commit().unwrap();
        }
        t.prove();
    }
    undelete(&t, ROOT, "c", "back").unwrap();
    for _ in 0..2 {
        let back = t.find(CLONEDIR, "back").unwrap();
        assert_eq!(t.cat(back, "delayed"), [3; 200_000]);
        assert_eq!((t.cat(back, "last"), t.cat(back, "committed")), (b"four".to_vec(), b"two".to_vec()));
        assert_eq!(t.list(t.find(back, ".snapshots").unwrap()), ["own"]);
        t.put(back, "goes on", b"five");
        t = killed(t, &device);
    }
    t.fs.commit().unwrap();
    t.prove();
    // In the trash again, and then for good: what others inherit from it goes with it.
    drop_clone(&t, "back").unwrap();
    let number = find(&t, ROOT, "back").number;
    t.fs.empty_trash(number).unwrap();
    assert_eq!(t.fs.empty_trash(number), Err(Error::Stale));
    let heir = t.find(CLONEDIR, "heir").unwrap();
    assert!(t.list(t.find(heir, ".snapshots").unwrap()).is_empty());
    assert_eq!(t.cat(heir, "last"), b"four");
    t = killed(t, &device);
    assert!(trash(&t, ROOT).is_empty());
    t.fs.commit().unwrap();
    t.fs.commit().unwrap();
    t.prove();
}

/// What parts a line from what was brought into it may say so of a clone in the trash.
#[test]
fn what_a_clone_in_the_trash_is_compared_with_is_replayed() {
    for to_trash_again in [false, true] {
        let (mut t, device) = on_device();
        set(&t, "1h").unwrap();
        play(&t, ROOT, "put a A");
        let clone = t.mkdir(CLONEDIR, "c").unwrap();
        t.snapshot("before");
        play(&t, clone, "write a 2; put n N");
        bring(&t, MergeWay::MergeAndKeep).unwrap().guards.unwrap();
        let line = t.fs.volume().find_line(b"c").unwrap().id;
        assert!(t.fs.volume().base(line).is_ok());
        drop_clone(&t, "c").unwrap();
        t.fs.commit().unwrap();
        let to = t.fs.snapshot_of_word(ROOT, b"before").unwrap();
        t.fs.rollback(ROOT, &to, OpenForWriting::CutOff, &Reason::Rollback.into()).unwrap();
        t = killed(t, &device);
        assert_eq!((t.cat(ROOT, "a"), t.find(ROOT, "n").is_err()), (b"A".to_vec(), true));
        t.put(ROOT, "goes on", b"x");
        undelete(&t, ROOT, "c", "c").unwrap();
        assert!(matches!(bring(&t, MergeWay::Merge), Err(MergeRefusal::NoBase)));
        if to_trash_again {
            drop_clone(&t, "c").unwrap();
            let number = find(&t, ROOT, "c").number;
            t.fs.empty_trash(number).unwrap();
        }
        t = killed(t, &device);
        assert_eq!(t.list(CLONEDIR).is_empty(), to_trash_again);
        t.fs.commit().unwrap();
        t.fs.commit().unwrap();
        t.prove();
    }
}

/// While a clone is in the trash those that were made from it are merged into the line above. That line parts them if it goes back,
/// and when the clone comes back it has not got what was brought there: nothing is compared with that as if it had.
#[test]
fn what_is_merged_past_a_clone_in_the_trash_is_compared_with_nothing_else() {
    for comes_back in [false, true] {
        let (mut t, device) = on_device();
        set(&t, "1h").unwrap();
        play(&t, ROOT, "put a A; put b B");
        let between = t.mkdir(CLONEDIR, "between").unwrap();
        t.fs.create_clone(between, b"c", None, &Provenance::default()).unwrap();
        t.snapshot("before");
        play(&t, t.find(CLONEDIR, "c").unwrap(), "write a 2; put n N");
        drop_clone(&t, "between").unwrap();
        bring(&t, MergeWay::MergeAndKeep).unwrap().guards.unwrap();
        assert_eq!(t.cat(ROOT, "a"), b"2");
        let at = if comes_back {
            undelete(&t, ROOT, "between", "between").unwrap();
            t.find(CLONEDIR, "between").unwrap()
        } else {
            let to = t.fs.snapshot_of_word(ROOT, b"before").unwrap();
            t.fs.rollback(ROOT, &to, OpenForWriting::CutOff, &Reason::Rollback.into()).unwrap();
            ROOT
        };
        assert_eq!(t.cat(at, "a"), b"A");
        t = killed(t, &device);
        let at = if comes_back { t.find(CLONEDIR, "between").unwrap() } else { ROOT };
        for way in [MergeWay::MergeAndKeep, MergeWay::Rebase] {
            let order = MergeOrder { at, clone: b"c", way };
            let done = t.fs.merge(&order, &Provenance::from(Reason::Merge));
            assert!(matches!(done, Err(MergeRefusal::NoBase)), "{comes_back}: {done:?}");
        }
        assert_eq!(t.cat(t.find(CLONEDIR, "c").unwrap(), "a"), b"2");
        t.fs.commit().unwrap();
        t.prove();
    }
}

/// What was brought together with a clone before it went into the trash is so when it is back.
#[test]
fn a_clone_that_comes_back_is_compared_as_before() {
    let (mut t, device) = on_device();
    set(&t, "1h").unwrap();
    play(&t, ROOT, "put a A; put b B");
    let between = t.mkdir(CLONEDIR, "between").unwrap();
    t.fs.create_clone(between, b"c", None, &Provenance::default()).unwrap();
    play(&t, between, "write a 2");
    let merge = |t: &T, way| {
        let order = MergeOrder { at: t.find(CLONEDIR, "between").unwrap(), clone: b"c", way };
        t.fs.merge(&order, &Provenance::from(Reason::Merge)).unwrap()
    };
    merge(&t, MergeWay::Rebase).guards.unwrap();
    drop_clone(&t, "between").unwrap();
    play(&t, t.find(CLONEDIR, "c").unwrap(), "write b 3");
    t = killed(t, &device);
    undelete(&t, ROOT, "between", "between").unwrap();
    assert_eq!(merge(&t, MergeWay::MergeAndKeep).changes.len(), 1);
    let between = t.find(CLONEDIR, "between").unwrap();
    assert_eq!((t.cat(between, "a"), t.cat(between, "b")), (b"2".to_vec(), b"3".to_vec()));
    t.fs.commit().unwrap();
    t.prove();
}

#[test]
fn snapshots_of_a_clone_go_and_come_with_it() {
    let t = with_trash("1h");
    let clone = t.mkdir(CLONEDIR, "c").unwrap();
    t.put(clone, "a", b"one");
    t.fs.create_snapshot_of(clone, b"own", Provenance::default()).unwrap();
    t.fs.discard_snapshot_of(clone, b"own", &Provenance::default()).unwrap();
    assert_eq!((trash(&t, clone), trash(&t, ROOT)), (vec!["own".to_string()], vec![]));
    let own = find(&t, clone, "own");
    drop_clone(&t, "c").unwrap();
    assert_eq!(t.fs.undelete(&own, b"own"), Err(Error::Stale), "its clone is in the trash");
    undelete(&t, ROOT, "c", "c").unwrap();
    t.fs.undelete(&own, b"own").unwrap();
    let clone = t.find(CLONEDIR, "c").unwrap();
    assert_eq!(t.cat(t.find(t.find(clone, ".snapshots").unwrap(), "own").unwrap(), "a"), b"one");
    // A clone that goes for good takes them along; and what becomes another line's is that line's to bring back.
    t.fs.discard_snapshot_of(clone, b"own", &Provenance::default()).unwrap();
    t.fs.drop_clone(b"c").unwrap();
    assert!(t.fs.volume().trash().is_empty());
    t.fs.commit().unwrap();
    t.prove();
    // A held snapshot keeps its clone out of the trash.
    let clone = t.mkdir(CLONEDIR, "held").unwrap();
    let made = t.fs.create_snapshot_of(clone, b"own", Provenance::default()).unwrap();
    let terms = HoldTerms { tag: "keep", after: None };
    t.fs.hold_snapshot(clone, made, &terms, &Provenance::default()).unwrap();
    assert_eq!(drop_clone(&t, "held"), Err(Error::Busy));
    assert_eq!(t.fs.discard_snapshot_of(clone, b"own", &Provenance::default()), Err(Error::Busy));
}

#[test]
fn the_trash_is_emptied_in_time_by_no_jumping_clock() {
    let (t, device) = on_device();
    set(&t, "2h").unwrap();
    t.put(ROOT, "a", b"one");
    t.snapshot("s");
    t.mkdir(CLONEDIR, "c").unwrap();
    delete(&t, "s").unwrap();
    pass(&t, HOUR);
    drop_clone(&t, "c").unwrap();
    for jump in [400 * DAY as i64, -900 * DAY as i64] {
        t.clock.set(jump * SECOND);
        pass(&t, HOUR / 4);
        assert_eq!(trash(&t, ROOT), ["c", "s"]);
    }
    pass(&t, HOUR / 2);
    assert_eq!(trash(&t, ROOT), ["c"]);
    let t = killed(t, &device);
    assert_eq!(trash(&t, ROOT), ["c"]);
    pass(&t, 2 * HOUR);
    assert!(trash(&t, ROOT).is_empty());
    t.fs.commit().unwrap();
    t.prove();
}

#[test]
fn space_is_got_from_the_trash_first() {
    let t = T::with(96 << 20, FsOptions::default());
    set(&t, "1w").unwrap();
    let fill = |name: &str, mib: usize| {
        for n in 0..mib {
            let (node, handle) = t.create(ROOT, &format!("{name}{n}"));
            let noise: Vec<u8> = (0..1 << 20).map(|i| (i * 31 + n * 7 + i / 977) as u8).collect();
            let write = || t.fs.write(node, handle, 0, &noise, false);
            assert_eq!(patiently(&t, noise.len() as u64, write), Ok(noise.len()));
            t.fs.release(node, handle);
            t.fs.commit().unwrap();
        }
    };
    fill("old", 40);
    t.snapshot("big");
    for n in 0..40 {
        t.resize(t.find(ROOT, &format!("old{n}")).unwrap(), 0);
    }
    t.snapshot("kept");
    delete(&t, "big").unwrap();
    let (_, bytes) = t.fs.volume().trash_bytes().unwrap();
    assert!(bytes > 30 << 20, "{bytes}");
    // More than is free without it: no write fails, and the trash is empty.
    fill("new", 50);
    assert_eq!((trash(&t, ROOT).len(), t.list(SNAPDIR)), (0, vec!["kept".to_string()]));
    t.prove();
    // A floor has the trash emptied before any snapshot of a schedule goes.
    let t = with_trash("1w");
    t.fs.set_schedules(LineId::MAIN, vec![parse_rules("default", "every=1h keep=24h free=100%").unwrap()])
        .unwrap();
    t.put(ROOT, "a", &[1; 100_000]);
    while t.fs.keep_schedules() {}
    t.snapshot("mine");
    delete(&t, "mine").unwrap();
    t.put(ROOT, "b", &[2; 100_000]);
    t.clock.advance(HOUR as i64 * SECOND);
    let taken = t.list(SNAPDIR);
    t.fs.prune_schedules(LineId::MAIN, None).unwrap();
    assert_eq!((trash(&t, ROOT).len(), t.list(SNAPDIR)), (0, taken));
}

#[test]
fn undo_brings_back_what_was_deleted_last() {
    let t = with_trash("1h");
    t.put(ROOT, "a", b"one");
    t.snapshot("s");
    t.mkdir(CLONEDIR, "c").unwrap();
    assert!(t.fs.last_undoable(ROOT).unwrap().is_none());
    let undo = || match t.fs.last_undoable(ROOT).unwrap() {
        Some(Undoable::Deletion(trash)) => {
            t.fs.undelete(&trash, &trash.name).unwrap();
            String::from_utf8(trash.name.clone()).unwrap()
        }
        other => format!("{other:?}"),
    };
    delete(&t, "s").unwrap();
    drop_clone(&t, "c").unwrap();
    assert_eq!((undo(), undo()), ("c".to_string(), "s".to_string()));
    assert_eq!((t.list(SNAPDIR), t.list(CLONEDIR)), (vec!["s".to_string()], vec!["c".to_string()]));
    // What was done since is taken back first.
    delete(&t, "s").unwrap();
    let guard = Provenance { reason: crate::format::provenance::Reason::Rollback, ..Provenance::default() };
    t.fs.create_guard_of(ROOT, &guard).unwrap();
    assert!(matches!(t.fs.last_undoable(ROOT).unwrap(), Some(Undoable::Switch(_))));
    // A guard that was deleted comes back, and is what is taken back then.
    let name = t.list(SNAPDIR).remove(0);
    delete(&t, &name).unwrap();
    assert_eq!(undo(), name);
    assert!(matches!(t.fs.last_undoable(ROOT).unwrap(), Some(Undoable::Switch(_))));
}

/// Whoever was about to do something with a clone, or with a snapshot of it, while it went into the trash finds it gone: nothing
/// that was answered is in the trash.
#[test]
fn what_goes_into_the_trash_is_nobodys_any_more() {
    let (t, device) = on_device();
    set(&t, "1h").unwrap();
    let clone = t.mkdir(CLONEDIR, "c").unwrap();
    t.put(clone, "a", b"one");
    let own = t.fs.create_snapshot_of(clone, b"own", Provenance::default()).unwrap();
    let line = t.fs.volume().find_line(b"c").unwrap();
    let head = t.fs.heads.of_line(&line).unwrap();
    drop_clone(&t, "c").unwrap();
    let (past, by) = (&t.fs.past, Provenance::default());
    let terms = HoldTerms { tag: "keep", after: None };
    assert_eq!(past.hold(&head, own, &terms, &by).map(|hold| hold.number), Err(Error::Stale));
    assert_eq!(past.take_snapshot(&head, b"late", &by), Err(Error::Stale));
    let held = past.take_held_snapshot(&head, b"late", (&by, Reached::PLAIN), &terms);
    assert_eq!(held, Err(Error::Stale));
    assert!(past.create_clone(&head, b"late", &by).is_err());
    assert_eq!(past.rename_snapshot(&head, b"own", b"other"), Err(Error::Stale));
    assert_eq!(past.delete_snapshot(&head, b"own", crate::fs::past::Deletion::Final), Err(Error::Stale));
    assert!(t.fs.volume().holds().is_empty());
    // The same of a snapshot.
    let made = t.fs.create_snapshot_of(ROOT, b"s", Provenance::default()).unwrap();
    delete(&t, "s").unwrap();
    assert_eq!(t.fs.hold_snapshot(ROOT, made, &terms, &by).map(|hold| hold.number), Err(Error::Stale));
    let t = killed(t, &device);
    undelete(&t, ROOT, "c", "c").unwrap();
    let clone = t.find(CLONEDIR, "c").unwrap();
    assert_eq!(t.list(t.find(clone, ".snapshots").unwrap()), ["own"]);
    t.fs.hold_snapshot(clone, own, &terms, &by).unwrap();
    assert_eq!(drop_clone(&t, "c"), Err(Error::Busy));
    t.fs.commit().unwrap();
    t.prove();
}

/// Of a hold and a deletion at the same time one comes first, and the other is told.
#[test]
fn a_hold_beside_a_deletion_wins_or_is_refused() {
    let t = with_trash("1h");
    let terms = HoldTerms { tag: "keep", after: None };
    for round in 0..200 {
        let name = format!("s{round}");
        let clone = t.mkdir(CLONEDIR, &name).unwrap();
        let own = t.fs.create_snapshot_of(clone, b"own", Provenance::default()).unwrap();
        let start = std::sync::Barrier::new(2);
        let (held, gone) = std::thread::scope(|s| {
            let hold = s.spawn(|| {
                start.wait();
                t.fs.hold_snapshot(clone, own, &terms, &Provenance::default())
            });
            start.wait();
            let gone = match round % 3 {
                0 => drop_clone(&t, &name),
                1 => t.fs.drop_clone(name.as_bytes()),
                _ => t.fs.discard_snapshot_of(clone, b"own", &Provenance::default()),
            };
            (hold.join().unwrap(), gone)
        });
        assert!(held.is_ok() != gone.is_ok(), "{round}: {held:?} {gone:?}");
        let is_there = t.fs.volume().snapshot_info(own).is_some();
        assert_eq!(is_there && !t.fs.volume().holds_of(own).is_empty(), held.is_ok());
        if held.is_ok() {
            assert_eq!((gone, t.find(clone, ".snapshots").is_ok()), (Err(Error::Busy), true));
        }
    }
}

/// Where a snapshot has been copied to is known as long as it can come back, and is forgotten with it.
#[test]
fn what_comes_back_from_the_trash_knows_where_its_copies_are() {
    let (mut t, device) = on_device();
    set(&t, "1d").unwrap();
    for name in ["comes back", "goes"] {
        t.snapshot(name);
        let view = t.fs.volume().find_snapshot(LineId::MAIN, name.as_bytes()).unwrap().id;
        let new = crate::fs::NewHydration {
            view,
            store: [7; 16],
            path: b"/other".to_vec(),
            rate: 0,
            about_bytes: 10,
            user: None,
        };
        let begun = t.fs.begin_hydration(&new).unwrap();
        assert_eq!(delete(&t, name), Err(Error::Busy));
        t.fs.finish_hydration(begun.number, 10).unwrap();
    }
    let copies = |t: &T, name: &str| {
        let found = t.fs.volume().find_snapshot(LineId::MAIN, name.as_bytes()).unwrap();
        t.fs.volume().hydrations_of(found.id)
    };
    let before = copies(&t, "comes back");
    assert_eq!(before.len(), 1);
    for committed in [false, true] {
        delete(&t, "comes back").unwrap();
        if committed {
            t.fs.commit().unwrap();
        }
        t = killed(t, &device);
        undelete(&t, ROOT, "comes back", "comes back").unwrap();
        assert_eq!(copies(&t, "comes back"), before);
        if committed {
            t.fs.commit().unwrap();
        }
        t = killed(t, &device);
        assert_eq!(copies(&t, "comes back"), before);
        t.fs.commit().unwrap();
    }
    delete(&t, "goes").unwrap();
    t = killed(t, &device);
    t.fs.empty_trash(find(&t, ROOT, "goes").number).unwrap();
    assert_eq!(t.fs.volume().hydrations(), before);
    t = killed(t, &device);
    t.fs.commit().unwrap();
    assert_eq!(t.fs.volume().hydrations(), before);
    t.prove();
}
