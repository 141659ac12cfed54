//! Restore: onto itself and elsewhere, each case that there is, random trees; crashes, failures and want of space; cost.

use super::difference::{Seen, capture, random_step};
use super::*;
use crate::device::{CrashPolicy, Op, Persistence, Sim};
use crate::format::dirent::NameBucket;
use crate::format::provenance::{Provenance, Reason};
use crate::format::{Ino, Key, Kind, LineId};
use crate::fs::items::Items;
use crate::fs::log::Note;
use crate::fs::{NamedPath, Refusal, RestoreOrder, Restored, TakenBack, Undoable};
use crate::volume::{Access, OpenOptions, View};
use std::collections::{BTreeMap, BTreeSet};

type Tree = BTreeMap<Vec<u8>, Seen>;

fn named(at: NodeId, path: &str) -> NamedPath {
    let below: Vec<Vec<u8>> =
        path.split('/').filter(|name| !name.is_empty()).map(|name| name.as_bytes().to_vec()).collect();
    let name = below.last().cloned().unwrap_or(b"root".to_vec());
    NamedPath { at, below, name }
}

fn order(paths: &[&str], from: &str, to: Option<NodeId>) -> RestoreOrder {
    let paths = paths.iter().map(|path| named(ROOT, path)).collect();
    RestoreOrder { paths, from: Some(from.as_bytes().to_vec()), to }
}

impl T {
    fn try_restore(&self, order: &RestoreOrder) -> std::result::Result<Restored, Refusal> {
        self.fs.restore(order, &Provenance::from(Reason::Restore))
    }
    fn restore(&self, paths: &[&str], from: &str) -> Restored {
        self.try_restore(&order(paths, from, None)).unwrap()
    }
    fn tree(&self, word: &str) -> Tree {
        capture(&self.fs.view_of_word(ROOT, word.as_bytes()).unwrap())
    }
    fn at(&self, path: &str) -> Result<NodeId> {
        path.split('/').filter(|name| !name.is_empty()).try_fold(ROOT, |dir, name| self.find(dir, name))
    }
}

/// What of a tree is at or below a path, from there on.
fn below(tree: &Tree, path: &[u8]) -> Tree {
    let cut = |at: &Vec<u8>| match path {
        b"" => Some(at.clone()),
        _ => at.strip_prefix(path).filter(|rest| rest.is_empty() || rest[0] == b'/').map(<[u8]>::to_vec),
    };
    tree.iter().filter_map(|(at, seen)| Some((cut(at)?, seen.clone()))).collect()
}

#[test]
fn a_file_comes_back_in_place_and_who_reads_it_sees_that() {
    let t = T::new();
    let d = t.mkdir(ROOT, "d").unwrap();
    let f = t.put(d, "f", &[1; 50_000]);
    t.fs.link(&USER, f, ROOT, b"hard").unwrap();
    t.fs.setxattr(&SUPER, f, b"user.x", &[7; 3000], XattrMode::Set).unwrap();
    t.snapshot("s");
    t.clock.advance(1_000_000_000);
    let reader = t.open(f, RO);
    let w = t.open(f, RW);
    t.write(w, 20_000, &[2; 100_000]);
    // Not while somebody writes it.
    match t.try_restore(&order(&["d/f"], "s", None)).err() {
        Some(Refusal::Writers(paths, 1)) => assert!(paths[0] == "/d/f" || paths[0] == "/hard", "{paths:?}"),
        other => panic!("{other:?}"),
    }
    assert_eq!(t.list(SNAPDIR), ["s"], "nothing is left of what was refused");
    t.fs.release(w.0, w.1);
    t.fs.removexattr(&SUPER, f, b"user.x").unwrap();
    let restored = t.restore(&["d/f"], "s");
    assert_eq!(restored.changes.len(), 2, "under both names: {:?}", restored.changes);
    assert_eq!(t.read(reader, 0, 200_000), [1; 50_000]);
    assert_eq!(t.find(d, "f"), Ok(f));
    assert!(t.tree("@live") == t.tree("s"));
    assert_eq!(t.list(SNAPDIR).len(), 3);
    assert!(t.restore(&["d/f"], "s").guards.is_none(), "it is that already");
    // The snapshots around it have what was before and after.
    let (before, after) = restored.guards.unwrap();
    let view = |info: &crate::volume::SnapshotInfo| capture(&t.fs.volume().snapshot(info.id).unwrap());
    assert_eq!(view(&before)[b"d/f".as_slice()].content.len(), 120_000);
    assert!(view(&after) == t.tree("s"));
    t.fs.commit().unwrap();
    t.prove();
}

#[test]
fn what_is_gone_gets_its_number_back_and_what_is_newer_goes() {
    let t = T::new();
    let d = t.mkdir(ROOT, "d").unwrap();
    let inside = t.mkdir(d, "inside").unwrap();
    let f = t.put(inside, "f", b"file");
    t.fs.link(&USER, f, d, b"f2").unwrap();
    t.fs.symlink(&USER, d, b"l", b"where").unwrap();
    for (name, kind) in
        [("pipe", FileType::Fifo), ("socket", FileType::Socket), ("null", FileType::CharDevice)]
    {
        let rdev = if kind == FileType::CharDevice { 0x103 } else { 0 };
        t.fs.mknod(&SUPER, d, name.as_bytes(), kind, 0o600, rdev).unwrap();
    }
    t.put(ROOT, "outside", b"as it is");
    t.snapshot("s");
    let was = t.tree("s");
    for name in ["f2", "l", "pipe", "socket", "null"] {
        t.fs.unlink(&USER, d, name.as_bytes()).unwrap();
    }
    let open = t.open(f, RO);
    t.fs.unlink(&USER, inside, b"f").unwrap();
    t.fs.rmdir(&USER, d, b"inside").unwrap();
    let newer = t.mkdir(d, "newer").unwrap();
    t.put(newer, "deep", b"newer");
    t.put(ROOT, "outside", b"CHANGED!");
    let outside = t.find(ROOT, "outside").unwrap();
    let removed = t.open(t.find(newer, "deep").unwrap(), RO);
    t.restore(&["d"], "s");
    assert!(below(&t.tree("@live"), b"d") == below(&was, b"d"));
    assert_eq!((t.at("d/inside/f"), t.at("d/f2"), t.attr(f).nlink), (Ok(f), Ok(f), 2));
    assert_eq!(t.find(ROOT, "outside"), Ok(outside));
    assert_eq!(t.cat(ROOT, "outside"), b"CHANGED!");
    // One that was open without a name is a file again; one that lost its name is read to the end.
    assert_eq!(t.read(open, 0, 10), b"file");
    assert_eq!(t.read(removed, 0, 10), b"newer");
    t.fs.release(open.0, open.1);
    t.fs.forget(f);
    t.fs.release(removed.0, removed.1);
    t.fs.commit().unwrap();
    assert_eq!(t.cat(t.at("d").unwrap(), "f2"), b"file");
    assert!(t.fs.getattr(removed.0, None).is_err(), "it is gone once nobody reads it");
    t.prove();
    // All of it gone, with the directory above.
    for path in ["d/inside/f", "d/f2", "d/l", "d/pipe", "d/socket", "d/null"] {
        let (dir, name) = path.rsplit_once('/').unwrap();
        t.fs.unlink(&USER, t.at(dir).unwrap(), name.as_bytes()).unwrap();
    }
    t.fs.rmdir(&USER, d, b"inside").unwrap();
    t.fs.rmdir(&USER, ROOT, b"d").unwrap();
    t.restore(&["d/inside/f", "d/l"], "s");
    assert_eq!((t.at("d/inside/f"), t.at("d"), t.at("d/inside")), (Ok(f), Ok(d), Ok(inside)));
    assert_eq!(t.list(d).into_iter().collect::<BTreeSet<_>>(), ["inside", "l"].map(String::from).into());
    t.restore(&["d"], "s");
    assert!(below(&t.tree("@live"), b"d") == below(&was, b"d"));
    t.fs.close().unwrap();
    t.prove();
}

#[test]
fn names_may_be_permuted_in_any_way() {
    let t = T::new();
    let d = t.mkdir(ROOT, "d").unwrap();
    let [a, b] = ["a", "b"].map(|name| t.mkdir(d, name).unwrap());
    t.put(a, "in-a", b"in a");
    t.put(b, "in-b", b"in b");
    for name in ["one", "two", "becomes"] {
        t.put(d, name, name.as_bytes());
    }
    t.snapshot("s");
    let mv = |from: NodeId, name: &str, to: NodeId, new: &str, mode| {
        t.fs.rename(&USER, from, name.as_bytes(), to, new.as_bytes(), mode).unwrap();
    };
    mv(d, "one", d, "two", RenameMode::Exchange);
    // A directory in its sibling, and that in another place; a file that became a directory.
    mv(d, "a", b, "a-in-b", RenameMode::Replace);
    mv(d, "b", d, "c", RenameMode::Replace);
    mv(d, "becomes", a, "was-a-file", RenameMode::Replace);
    t.mkdir(d, "becomes").unwrap();
    let numbers = |t: &T| ["d/one", "d/two", "d/becomes", "d/a", "d/b"].map(|path| t.at(path).ok());
    t.snapshot("permuted");
    let permuted = t.tree("permuted");
    t.restore(&["d"], "s");
    assert!(t.tree("@live") == t.tree("s"));
    assert_eq!(numbers(&t)[3..], [Some(a), Some(b)]);
    t.restore(&["d"], "permuted");
    assert!(t.tree("@live") == permuted);
    t.restore(&[""], "s");
    assert!(t.tree("@live") == t.tree("s"));
    t.fs.commit().unwrap();
    t.prove();
}

#[test]
fn what_has_moved_away_stays_where_it_is() {
    let t = T::new();
    let [d, e] = ["d", "e"].map(|name| t.mkdir(ROOT, name).unwrap());
    let sub = t.mkdir(d, "sub").unwrap();
    let report = t.put(d, "report", b"draft");
    let deep = t.put(sub, "deep", b"deep");
    t.snapshot("s");
    t.fs.rename(&USER, d, b"report", e, b"final", RenameMode::Replace).unwrap();
    t.fs.rename(&USER, d, b"sub", e, b"sub", RenameMode::Replace).unwrap();
    let f = t.open(report, RW);
    t.write(f, 0, b"FINAL");
    t.fs.release(f.0, f.1);
    t.restore(&["d"], "s");
    assert!(below(&t.tree("@live"), b"d") == below(&t.tree("s"), b"d"));
    assert_eq!(t.cat(e, "final"), b"FINAL");
    assert_eq!((t.at("e/final"), t.at("e/sub"), t.at("e/sub/deep")), (Ok(report), Ok(sub), Ok(deep)));
    assert!(t.at("d/report") != Ok(report) && t.at("d/sub") != Ok(sub) && t.at("d/sub/deep") != Ok(deep));
    // A hard link from outside to what has not changed is one again.
    let twice = t.put(d, "twice", b"two names");
    t.fs.link(&USER, twice, e, b"twice").unwrap();
    t.snapshot("linked");
    t.fs.unlink(&USER, d, b"twice").unwrap();
    t.restore(&["d/twice"], "linked");
    assert_eq!((t.at("d/twice"), t.attr(twice).nlink), (Ok(twice), 2));
    t.fs.commit().unwrap();
    t.prove();
}

#[test]
fn copies_share_blocks_and_have_numbers_of_their_own() {
    let t = T::new();
    let d = t.mkdir(ROOT, "d").unwrap();
    let f = t.put(d, "f", &[3; 4 << 20]);
    t.fs.link(&USER, f, d, b"g").unwrap();
    let h = t.create(d, "holes");
    t.write(h, 1 << 20, &[4; 5000]);
    t.fs.fallocate(&USER, h.0, h.1, 3 << 20, 1 << 20, AllocateMode::KeepSize).unwrap();
    t.fs.release(h.0, h.1);
    t.fs.commit().unwrap();
    t.snapshot("s");
    let clone = t.mkdir(NodeId::clonedir(0), "c").unwrap();
    let used = t.fs.volume().space().used;
    for (to, times) in [(ROOT, 1), (t.mkdir(ROOT, "elsewhere").unwrap(), 2), (clone, 1)] {
        let mut order = order(&["d"], "s", Some(to));
        order.paths[0].name = b"copy".to_vec();
        t.try_restore(&order).unwrap();
        let copy = t.find(to, "copy").unwrap();
        let [f2, g2] = ["f", "g"].map(|name| t.find(copy, name).unwrap());
        assert!(f2 == g2 && f2 != f && t.attr(f2).nlink == 2, "{times}");
        assert_eq!(t.attr(t.find(copy, "holes").unwrap()).blocks, t.attr(h.0).blocks);
        match t.try_restore(&order).err() {
            Some(Refusal::Path(path, Error::Exists)) => assert_eq!(path, b"d"),
            other => panic!("{other:?}"),
        }
    }
    t.fs.commit().unwrap();
    let more = t.fs.volume().space().used - used;
    assert!(more < 3 << 20, "three copies of 4 MiB share them, and took {more} bytes");
    let live = t.tree("@live");
    for copy in ["copy", "elsewhere/copy"] {
        assert!(below(&live, copy.as_bytes()) == below(&t.tree("s"), b"d"));
    }
    assert!(below(&t.tree(".clones/c"), b"copy") == below(&t.tree("s"), b"d"));
    // From what is live: of the line itself, and of another.
    let w = t.open(f, RW);
    t.write(w, 0, &[5; 100]);
    let mut order = order(&["d"], "@live", Some(ROOT));
    order.paths[0].name = b"now".to_vec();
    t.try_restore(&order).unwrap();
    assert_eq!(t.cat(t.at("now").unwrap(), "f")[..101], [[5; 100].as_slice(), &[3]].concat());
    t.put(clone, "own", &[6; 40_000]);
    (order.paths, order.from) = (vec![named(ROOT, "own")], Some(b".clones/c".to_vec()));
    t.try_restore(&order).unwrap();
    assert_eq!(t.cat(ROOT, "own"), [6; 40_000]);
    t.fs.release(w.0, w.1);
    for _ in 0..2 {
        t.fs.commit().unwrap();
        t.prove();
    }
    // Whatever shares goes, and the rest stays.
    t.fs.drop_clone(b"c").unwrap();
    t.restore(&[""], "s");
    for name in t.list(SNAPDIR) {
        t.fs.delete_snapshot(name.as_bytes()).unwrap();
    }
    while t.fs.volume().has_background_work() {
        t.fs.commit().unwrap();
    }
    t.fs.commit().unwrap();
    t.prove();
    assert_eq!(t.cat(t.at("d").unwrap(), "f"), vec![3; 4 << 20]);
}

#[test]
fn paths_of_snapshots_are_understood_and_others_refused() {
    let t = T::new();
    let d = t.mkdir(ROOT, "d").unwrap();
    t.put(d, "f", b"old");
    let s = t.snapshot("s");
    t.fs.unlink(&USER, d, b"f").unwrap();
    let in_snapshot = t.find(s, "d").unwrap();
    let by_node = |at, path: &str| RestoreOrder { paths: vec![named(at, path)], from: None, to: None };
    t.try_restore(&by_node(in_snapshot, "f")).unwrap();
    assert_eq!(t.cat(d, "f"), b"old");
    t.fs.unlink(&USER, d, b"f").unwrap();
    // As `d/.snapshots/s/f`, by its age too.
    let snapdir = t.find(d, ".snapshots").unwrap();
    for word in ["s", "@latest"] {
        t.try_restore(&by_node(snapdir, &format!("{word}/f"))).unwrap();
        assert_eq!(t.cat(d, "f"), b"old");
        t.fs.unlink(&USER, d, b"f").unwrap();
        t.fs.delete_snapshot(t.list(SNAPDIR).last().unwrap().as_bytes()).unwrap();
        t.fs.delete_snapshot(t.list(SNAPDIR).last().unwrap().as_bytes()).unwrap();
    }
    let refused = |order: RestoreOrder| t.try_restore(&order).map(|_| ()).unwrap_err();
    assert!(matches!(refused(by_node(ROOT, "d")), Refusal::Failed(Error::Invalid)));
    assert!(
        matches!(refused(order(&["d/no"], "s", None)), Refusal::Path(p, Error::NotFound) if p == b"d/no")
    );
    assert!(matches!(refused(order(&["d"], "no", None)), Refusal::View(w, Error::NotFound) if w == b"no"));
    t.fs.rmdir(&USER, ROOT, b"d").unwrap();
    t.put(ROOT, "d", b"a file");
    assert!(matches!(refused(order(&["d/f"], "s", None)), Refusal::Path(_, Error::NotADirectory)));
    let of_snapshot = order(&["d"], "s", Some(s));
    assert!(matches!(refused(of_snapshot), Refusal::Failed(Error::ReadOnly)));
    // All or none.
    let before = t.tree("@live");
    assert!(matches!(refused(order(&["d", "no"], "s", None)), Refusal::Path(..)));
    assert!(t.tree("@live") == before);
    t.restore(&["d"], "s");
    assert_eq!(t.cat(t.at("d").unwrap(), "f"), b"old");
    let clone = t.mkdir(NodeId::clonedir(0), "c").unwrap();
    let mut both = order(&["d"], "s", None);
    both.paths.push(named(clone, "d"));
    assert!(matches!(refused(both), Refusal::Failed(Error::CrossView)));
    assert_eq!(t.list(SNAPDIR).len(), 5, "the guards of the two that were done");
}

#[test]
fn what_is_only_rehearsed_changes_nothing_and_tells_what_would_change() {
    for seed in 0..20 {
        let mut rng = fastrand::Rng::with_seed(seed);
        let t = T::new();
        (0..60).for_each(|_| random_step(&t, &mut rng));
        t.snapshot("s");
        (0..60).for_each(|_| random_step(&t, &mut rng));
        let before = t.tree("@live");
        let order = order(&[""], "s", None);
        let told = t.fs.rehearse_restore(&order, &Provenance::from(Reason::Restore)).unwrap();
        assert!(t.tree("@live") == before && t.list(SNAPDIR) == ["s"]);
        let done = t.try_restore(&order).unwrap().changes;
        assert_eq!(told, done, "seed {seed}");
        t.fs.commit().unwrap();
        t.prove();
    }
}

/// Restores random paths of random trees: what is below a path is what it was, and nothing else has changed but what is hard
/// linked to it, and directories above it that were gone.
#[test]
fn below_a_path_all_is_as_it_was_and_elsewhere_as_it_is() {
    for seed in 0..120 {
        let mut rng = fastrand::Rng::with_seed(seed);
        let t = T::new();
        (0..rng.usize(10..90)).for_each(|_| random_step(&t, &mut rng));
        t.snapshot("s");
        (0..rng.usize(5..90)).for_each(|_| random_step(&t, &mut rng));
        if rng.bool() {
            t.fs.commit().unwrap();
        }
        let was = t.tree("s");
        for _ in 0..3 {
            let before = t.tree("@live");
            let paths: Vec<Vec<u8>> = was.keys().cloned().collect();
            let path = rng.choice(&paths).unwrap().clone();
            let text = String::from_utf8(path.clone()).unwrap();
            let numbers = |t: &T| -> BTreeMap<Vec<u8>, NodeId> {
                let all = t.tree("@live").into_keys();
                all.map(|path| (path.clone(), t.at(std::str::from_utf8(&path).unwrap()).unwrap())).collect()
            };
            let old_numbers = numbers(&t);
            match t.try_restore(&order(&[&text], "s", None)) {
                Ok(_) => {}
                Err(Refusal::Path(_, Error::NotADirectory)) => {
                    assert!(t.tree("@live") == before);
                    continue;
                }
                Err(e) => panic!("seed {seed}, {text}: {e:?}"),
            }
            let (now, new_numbers) = (t.tree("@live"), numbers(&t));
            assert!(below(&now, &path) == below(&was, &path), "seed {seed}, {text}");
            let is_below =
                |at: &[u8]| !below(&BTreeMap::from([(at.to_vec(), was[&path].clone())]), &path).is_empty();
            let inside: BTreeSet<NodeId> =
                new_numbers.iter().filter(|(at, _)| is_below(at)).map(|(_, node)| *node).collect();
            for (at, seen) in before.iter().filter(|(at, _)| !is_below(at)) {
                assert_eq!(old_numbers[at], new_numbers[at], "seed {seed}, {text}");
                assert!(inside.contains(&new_numbers[at]) || now[at] == *seen, "seed {seed}, {text}: {at:?}");
            }
            let above = |at: &[u8]| path.starts_with(&[at, b"/"].concat());
            let new = now.keys().filter(|at| !before.contains_key(*at) && !is_below(at));
            assert!(new.into_iter().all(|at| above(at)), "seed {seed}, {text}");
            t.fs.commit().unwrap();
            t.prove();
        }
    }
}

/// Until no record fits any more: with records that a replay takes, and that change nothing.
fn fill_log(t: &T) {
    let volume = t.fs.volume();
    let ino = Ino(t.put(ROOT, "for the log", b"").ino());
    while !volume.log_is_behind() {
        let mut txn = volume.begin(LineId::MAIN).unwrap();
        for block in 0..255 {
            Note::Write { ino, block, at: 0, fresh: true, bytes: &[1; 4096] }.put(&mut txn);
        }
        Note::Discard { ino, from: 0, to: u64::MAX }.put(&mut txn);
    }
}

/// A store with a history, and the same each time.
fn story(sim: &Arc<Sim>) -> T {
    let t = T::on(Volume::made_on(sim.clone()), FsOptions::default());
    let mut rng = fastrand::Rng::with_seed(7);
    (0..80).for_each(|_| random_step(&t, &mut rng));
    t.snapshot("s");
    (0..80).for_each(|_| random_step(&t, &mut rng));
    t.fs.commit().unwrap();
    (0..10).for_each(|_| random_step(&t, &mut rng));
    t.fs.commits.sync().unwrap();
    t
}

fn reopened(sim: Sim) -> T {
    let options = OpenOptions { access: Access::ReadWrite, cache_bytes: 1 << 20 };
    T::on(Volume::open(Arc::new(sim), options).unwrap(), FsOptions::default())
}

/// A log that holds the restore, and one that is full already: then the commit makes it durable.
#[test]
fn a_crash_at_any_write_leaves_all_or_nothing() {
    for full in [false, true] {
        let mut seen = BTreeSet::new();
        for n in 1.. {
            let sim = Arc::new(Sim::new(1 << 30, 1));
            let t = story(&sim);
            if full {
                t.fs.commit().unwrap();
                fill_log(&t);
            }
            // Nobody has asked for what filled the log to be durable.
            let lasting = |t: &T| {
                let mut tree = t.tree("@live");
                tree.remove(&b"for the log"[..]);
                tree
            };
            let (before, after) = (lasting(&t), t.tree("s"));
            let changes = sim.changes();
            sim.set_crash_at(changes + n);
            let done = t.try_restore(&order(&[""], "s", None)).is_ok();
            let crashed = sim.is_crashed();
            for policy in [CrashPolicy::DropAll, CrashPolicy::KeepAll, CrashPolicy::Random(n)] {
                let t = reopened(sim.crash(policy));
                let now = lasting(&t);
                assert!(now == before || now == after, "{n} {policy:?}");
                assert!(now == after || !done, "{n}: it was answered");
                seen.insert(now == after);
                let recovered = t.fs.recovered();
                let why = (t.fs.volume().read_only_reason(), &recovered.damage, &recovered.bad_content);
                assert!(why.0.is_none(), "{full} {n} {policy:?}: {why:?}");
                t.fs.commit().unwrap();
                t.prove();
                t.fs.close().unwrap();
                t.prove();
            }
            if !crashed {
                break;
            }
        }
        assert_eq!(seen, BTreeSet::from([false, true]));
    }
}

#[test]
fn what_fails_leaves_the_line_as_it_was() {
    for op in [Op::Read, Op::Write, Op::Flush, Op::Back] {
        for n in 1.. {
            let sim = Arc::new(Sim::new(1 << 30, 1));
            let t = story(&sim);
            let (before, after) = (t.tree("@live"), t.tree("s"));
            t.fs.close().unwrap();
            let t = reopened(sim.clone_image());
            drop(t);
            // With nothing in the cache, so that reads can fail.
            let sim = Arc::new(sim.clone_image());
            let options = OpenOptions { access: Access::ReadWrite, cache_bytes: 0 };
            let t = T::on(Volume::open(sim.clone(), options).unwrap(), FsOptions::default());
            let struck = sim.faults_struck();
            sim.fail(op, n, Persistence::Once);
            let done = t.try_restore(&order(&[""], "s", None));
            let has_struck = sim.faults_struck() > struck;
            if !t.fs.volume().is_read_only() && done.is_err() {
                assert!(t.tree("@live") == before, "{op:?} {n}");
                assert_eq!(t.list(SNAPDIR), ["s"], "{op:?} {n}");
                t.restore(&[""], "s");
                assert!(t.tree("@live") == after);
                t.fs.commit().unwrap();
                t.prove();
            } else {
                let t = reopened(sim.crash(CrashPolicy::KeepAll));
                let now = t.tree("@live");
                assert!(now == after || done.is_err() && now == before, "{op:?} {n}");
                t.prove();
            }
            if !has_struck {
                break;
            }
        }
    }
}

#[test]
fn a_full_store_refuses_and_leaves_nothing() {
    let t = T::with(64 << 20, FsOptions::default());
    let d = t.mkdir(ROOT, "d").unwrap();
    for n in 0..4000 {
        t.put(d, &format!("f{n}"), &[n as u8; 100]);
    }
    t.snapshot("s");
    for n in 0..4000 {
        let name = format!("f{n}");
        let file = t.find(d, &name).unwrap();
        t.fs.unlink(&USER, d, name.as_bytes()).unwrap();
        t.fs.forget(file);
    }
    let mut n = 0;
    while t.fs.create(&USER, ROOT, format!("fill{n}").as_bytes(), 0o644, RW).is_ok_and(|(e, h)| {
        let written = t.fs.write(e.attr.node, h, 0, &[n as u8; 1 << 18], false).is_ok();
        t.fs.release(e.attr.node, h);
        written
    }) {
        n += 1;
    }
    let small = |n: i32| {
        t.fs.create(&USER, ROOT, format!("fill{n}").as_bytes(), 0o644, RW).is_ok_and(|(e, h)| {
            let written = t.fs.write(e.attr.node, h, 0, &[n as u8; 4096], false).is_ok();
            t.fs.release(e.attr.node, h);
            written
        })
    };
    // Also with what commits give back.
    loop {
        t.fs.commit().unwrap();
        let first = n;
        while small(n) {
            n += 1;
        }
        n += 1;
        if n - first < 20 {
            break;
        }
    }
    t.fs.commit().unwrap();
    let before = t.tree("@live");
    let mut refused = 0;
    let mut freed = 0;
    loop {
        match t.try_restore(&order(&["d"], "s", None)) {
            Ok(_) => break,
            Err(Refusal::Failed(Error::NoSpace)) => refused += 1,
            Err(e) => panic!("{e:?}"),
        }
        let told = t.fs.rehearse_restore(&order(&["d"], "s", None), &Provenance::from(Reason::Restore));
        assert_eq!(told.map(|changes| changes.len()).ok(), Some(4000), "to look takes no space");
        let now = t.tree("@live");
        assert!(below(&now, b"d") == below(&before, b"d") && t.list(SNAPDIR) == ["s"], "nothing is left");
        t.fs.commit().unwrap();
        t.prove();
        let name = format!("fill{freed}");
        let filled = t.find(ROOT, &name).unwrap();
        t.fs.unlink(&USER, ROOT, name.as_bytes()).unwrap();
        t.fs.forget(filled);
        freed += 1;
    }
    assert!(refused > 0, "the store was not full");
    assert!(below(&t.tree("@live"), b"d") == below(&t.tree("s"), b"d"));
    t.fs.commit().unwrap();
    t.prove();
}

#[test]
fn a_large_file_comes_back_without_its_content_being_read_or_written() {
    let sim = Arc::new(Sim::new(8 << 30, 1));
    let t = T::on(Volume::made_on(sim.clone()), FsOptions::default());
    let f = t.create(ROOT, "large");
    let piece: Vec<u8> = (0..1 << 20).map(|n: u32| (n % 251) as u8).collect();
    for n in 0..128 {
        t.write(f, n << 23, &piece);
    }
    t.resize(f.0, 1 << 30);
    t.fs.release(f.0, f.1);
    t.fs.commit().unwrap();
    t.snapshot("s");
    t.fs.unlink(&USER, ROOT, b"large").unwrap();
    t.fs.forget(f.0);
    t.fs.commit().unwrap();
    let before = sim.counts();
    t.restore(&["large"], "s");
    t.fs.commit().unwrap();
    let cost = sim.counts().since(&before);
    assert!(cost.bytes_read + cost.bytes_written < 8 << 20, "{cost:?} for 1 GiB, 128 MiB of it content");
    let file = t.open(t.find(ROOT, "large").unwrap(), RO);
    assert_eq!(file.0, f.0);
    assert!(t.read(file, 77 << 23, 1 << 20) == piece);
    // A file of which one block differs costs that.
    let w = t.open(f.0, RW);
    t.write(w, 5 << 23, b"a block");
    t.fs.release(w.0, w.1);
    t.fs.commit().unwrap();
    let (before, shared) = (sim.counts(), t.fs.volume().live_blocks());
    t.restore(&["large"], "s");
    t.fs.commit().unwrap();
    let cost = sim.counts().since(&before);
    assert!(cost.bytes_written < 1 << 20 && shared == t.fs.volume().live_blocks(), "{cost:?}");
    t.prove();
}

/// A view that somebody still has, of a snapshot that was deleted meanwhile.
#[test]
fn a_deleted_snapshot_that_is_held_is_still_a_source() {
    let t = T::new();
    t.put(ROOT, "f", &[1; 300_000]);
    t.snapshot("s");
    let view: Arc<View> = t.fs.view_of_word(ROOT, b"s").unwrap();
    t.fs.unlink(&USER, ROOT, b"f").unwrap();
    t.fs.delete_snapshot(b"s").unwrap();
    t.fs.commit().unwrap();
    let head = t.fs.heads.main().clone();
    let provenance = Provenance::from(Reason::Restore);
    let change = crate::fs::transfer::ChangeOrder { head: &head, other: None, provenance: &provenance };
    crate::fs::transfer::change_at_once(&t.fs.past, &change, &mut |sides| {
        let plan = crate::fs::transfer::between(sides.target, &view)?;
        let from = crate::fs::transfer::TakenFrom::View(view.clone());
        Ok(Some(crate::fs::transfer::Settled { plan, source: from, base: None }))
    })
    .unwrap();
    drop(view);
    for _ in 0..5 {
        t.fs.commit().unwrap();
        t.prove();
        assert_eq!(t.cat(ROOT, "f"), [1; 300_000]);
    }
}

/// None if there is nothing to be taken back.
fn undo(t: &T) -> Option<(Reason, TakenBack)> {
    let Some(Undoable::Change(change)) = t.fs.last_undoable(ROOT).unwrap() else { return None };
    let reason = change.before.provenance.reason;
    Some((reason, t.fs.take_back(ROOT, &change, &Provenance::from(Reason::Undo)).unwrap()))
}

#[test]
fn undo_takes_back_what_was_changed_and_nothing_else() {
    let t = T::new();
    assert!(undo(&t).is_none());
    let [d, e] = ["d", "e"].map(|name| t.mkdir(ROOT, name).unwrap());
    t.put(d, "f", b"old");
    t.put(d, "g", b"g");
    t.snapshot("s");
    let f = t.open(t.find(d, "f").unwrap(), RW);
    t.write(f, 0, b"newer");
    t.fs.release(f.0, f.1);
    let newer = t.mkdir(d, "newer").unwrap();
    t.put(newer, "file", b"file");
    t.fs.unlink(&USER, d, b"g").unwrap();
    let before = t.tree("@live");
    t.restore(&["d"], "s");
    // Elsewhere, and beside what was changed.
    t.put(e, "later", b"later");
    t.put(d, "beside", b"beside");
    match undo(&t) {
        Some((Reason::Restore, TakenBack::Done(restored))) => {
            assert_eq!(restored.changes.len(), 4, "{:?}", restored.changes);
        }
        Some((_, TakenBack::Conflicts(all))) => panic!("{all:?}"),
        _ => panic!("it can be undone"),
    }
    let now = t.tree("@live");
    let rest = |mut tree: Tree| {
        tree.retain(|path, _| !path.ends_with(b"/later") && !path.ends_with(b"/beside"));
        tree
    };
    assert!(rest(now.clone()) == before && now.contains_key(b"d/beside".as_slice()));
    // Once more is to do it again, and so on.
    for turn in 0..4 {
        assert!(matches!(undo(&t), Some((Reason::TakeBack, TakenBack::Done(_)))));
        let now = t.tree("@live");
        assert_eq!(
            now[b"d/f".as_slice()].content,
            if turn % 2 == 0 { b"old".to_vec() } else { b"newer".to_vec() }
        );
        assert!(now.contains_key(b"e/later".as_slice()));
        t.fs.commit().unwrap();
        t.prove();
    }
}

#[test]
fn undo_refuses_where_what_it_takes_back_has_changed_since() {
    let file = |t: &T, path: &str| t.at(path).unwrap();
    type Later = fn(&T);
    let cases: [(Later, &str); 5] = [
        (|t| t.resize(t.at("d/f").unwrap(), 1), "d/f"),
        (|t| t.fs.unlink(&USER, t.at("d").unwrap(), b"f").unwrap(), "d/f"),
        (|t| _ = t.put(t.at("d").unwrap(), "gone", b"a new one"), "d/gone"),
        (|t| _ = t.put(t.at("d/made").unwrap(), "x", b"in what goes"), "d/made"),
        (|t| t.resize(t.at("d/made/back").unwrap(), 0), "d/made/back"),
    ];
    for (later, path) in cases {
        let t = T::new();
        let d = t.mkdir(ROOT, "d").unwrap();
        t.put(d, "f", b"old");
        let made = t.mkdir(d, "made").unwrap();
        t.put(made, "back", b"back");
        t.snapshot("s");
        t.resize(file(&t, "d/f"), 2);
        t.fs.unlink(&USER, made, b"back").unwrap();
        t.fs.rmdir(&USER, d, b"made").unwrap();
        t.put(d, "gone", b"goes");
        t.restore(&["d"], "s");
        later(&t);
        let before = t.tree("@live");
        match undo(&t) {
            Some((_, TakenBack::Conflicts(all))) => {
                assert!(all.iter().any(|conflict| conflict.path() == path.as_bytes()), "{path}: {all:?}");
            }
            _ => panic!("{path}"),
        }
        assert!(t.tree("@live") == before && t.list(SNAPDIR).len() == 3);
        t.fs.commit().unwrap();
        t.prove();
    }
}

#[test]
fn what_was_restored_and_taken_back_is_what_it_was() {
    for seed in 0..60 {
        let mut rng = fastrand::Rng::with_seed(seed);
        let t = T::new();
        (0..rng.usize(10..90)).for_each(|_| random_step(&t, &mut rng));
        t.snapshot("s");
        (0..rng.usize(5..90)).for_each(|_| random_step(&t, &mut rng));
        let paths: Vec<Vec<u8>> = t.tree("s").into_keys().collect();
        let path = String::from_utf8(rng.choice(&paths).unwrap().clone()).unwrap();
        let before = t.tree("@live");
        let Ok(restored) = t.try_restore(&order(&[&path], "s", None)) else { continue };
        let after = t.tree("@live");
        if restored.guards.is_none() {
            continue;
        }
        for turn in 0..3 {
            match undo(&t) {
                Some((_, TakenBack::Done(_))) => {}
                Some((_, TakenBack::Conflicts(all))) => panic!("seed {seed}: {all:?}"),
                None => panic!("seed {seed}"),
            }
            assert!(
                t.tree("@live") == if turn % 2 == 0 { before.clone() } else { after.clone() },
                "seed {seed}, {path}"
            );
        }
        // Whatever comes then is in the way, or stays.
        (0..rng.usize(1..10)).for_each(|_| random_step(&t, &mut rng));
        let later = t.tree("@live");
        match undo(&t) {
            Some((_, TakenBack::Conflicts(_))) => assert!(t.tree("@live") == later, "seed {seed}"),
            Some((_, TakenBack::Done(_))) => {
                assert!(matches!(undo(&t), Some((_, TakenBack::Done(_)))), "seed {seed}");
                let again = t.tree("@live");
                assert!(again.keys().eq(later.keys()), "seed {seed}");
                assert!(again.iter().all(|(path, seen)| seen.content == later[path].content), "seed {seed}");
            }
            None => panic!("seed {seed}"),
        }
        t.fs.commit().unwrap();
        t.prove();
    }
}

#[test]
fn a_copy_has_a_name_that_a_file_can_have() {
    let t = T::new();
    let d = t.mkdir(ROOT, "d").unwrap();
    t.put(ROOT, "f", b"then");
    t.snapshot("s");
    let before = t.tree("@live");
    let cases: [(&[u8], NodeId, Error); 10] = [
        (b"", d, Error::Invalid),
        (b"a/b", d, Error::Invalid),
        (b"a\0b", d, Error::Invalid),
        (b".", d, Error::Exists),
        (b"..", d, Error::Exists),
        (&[b'x'; 256], d, Error::NameTooLong),
        (&[b'x'; 70_000], d, Error::NameTooLong),
        (b".snapshots", d, Error::Exists),
        (b".snapshots", ROOT, Error::Exists),
        (b".clones", ROOT, Error::Exists),
    ];
    for (name, to, why) in cases {
        for (path, dry_run) in [("f", false), ("d", false), ("", true)] {
            let mut order = order(&[path], "s", Some(to));
            order.paths[0].name = name.to_vec();
            let provenance = Provenance::from(Reason::Restore);
            let refused = match dry_run {
                true => t.fs.rehearse_restore(&order, &provenance).err(),
                false => t.try_restore(&order).err(),
            };
            assert!(matches!(&refused, Some(Refusal::Path(at, e)) if at == path.as_bytes() && *e == why));
        }
    }
    assert!(t.tree("@live") == before && t.list(SNAPDIR) == ["s"]);
    let mut order = order(&["f"], "s", Some(d));
    order.paths[0].name = vec![b'x'; 255];
    t.try_restore(&order).unwrap();
    t.fs.commit().unwrap();
    t.prove();
}

/// Gives the entry of a directory that has this name to another inode, as no request does.
fn point(t: &T, dir: NodeId, name: &str, to: NodeId) {
    let view = t.fs.view_of_word(ROOT, b"@live").unwrap();
    let (from, end) = (Key::new(dir.ino(), Kind::Dirent, 0), Key::new(dir.ino(), Kind::Xattr, 0));
    let all: Vec<_> = view.range(&from, &end).map(|item| item.unwrap()).collect();
    let mut txn = t.fs.volume().begin(LineId::MAIN).unwrap();
    for (key, value) in all {
        let mut bucket = NameBucket::decode(&value).unwrap();
        let named = bucket.entries.iter_mut().filter(|entry| entry.name == name.as_bytes());
        named.for_each(|entry| entry.ino = Ino(to.ino()));
        txn.insert(key, &bucket.encode()).unwrap();
    }
}

#[test]
fn no_circle_in_a_damaged_tree_is_followed_for_ever() {
    // A directory below itself, by its entries: one that goes, and one that is copied.
    let t = T::new();
    t.put(ROOT, "f", b"f");
    t.snapshot("before");
    let a = t.mkdir(ROOT, "a").unwrap();
    let b = t.mkdir(a, "b").unwrap();
    t.mkdir(b, "loop").unwrap();
    point(&t, b, "loop", a);
    let refused = |done: std::result::Result<Restored, Refusal>| match done {
        Err(Refusal::Failed(Error::Io(_)) | Refusal::Path(_, Error::Io(_))) => {}
        Err(other) => panic!("{other:?}"),
        Ok(_) => panic!("done"),
    };
    t.snapshot("damaged");
    let copies = t.mkdir(ROOT, "copies").unwrap();
    refused(t.try_restore(&order(&["a"], "damaged", Some(copies))));
    // What it comes to does not count, but that it comes to an end.
    let _ = t.try_restore(&order(&[""], "before", None));

    // And by the directories that they say they are in.
    let t = T::new();
    let a = t.mkdir(ROOT, "a").unwrap();
    let b = t.mkdir(a, "b").unwrap();
    let f = t.put(b, "f", b"f");
    t.fs.link(&USER, f, ROOT, b"g").unwrap();
    t.snapshot("before");
    t.fs.unlink(&USER, ROOT, b"g").unwrap();
    let mut inode = t.fs.view_of_word(ROOT, b"@live").unwrap().inode(Ino(a.ino())).unwrap().unwrap();
    inode.parent = Ino(b.ino());
    let mut txn = t.fs.volume().begin(LineId::MAIN).unwrap();
    txn.insert(Key::new(a.ino(), Kind::Inode, 0), &inode.encode()).unwrap();
    drop(txn);
    refused(t.try_restore(&order(&["g"], "before", None)));
}

#[test]
fn a_deep_tree_is_put_back_by_whatever_thread() {
    const DEPTH: usize = 5000;
    let t = T::new();
    let top = t.mkdir(ROOT, "top").unwrap();
    let lowest = (0..DEPTH).fold(top, |dir, _| t.mkdir(dir, "d").unwrap());
    t.put(lowest, "f", b"one");
    t.snapshot("s");
    t.fs.unlink(&USER, lowest, b"f").unwrap();
    assert!(t.restore(&["top"], "s").guards.is_some());
    assert_eq!(t.cat(lowest, "f"), b"one");
}
