//! Rollback and promotion: what is open, what is asked for, in which order the kernel is told; what a crash leaves; undo.

use super::super::{InTheWay, OpenForWriting, Promoted, PromotionOrder, Provenance, Reason, Switched};
use super::*;
use crate::device::{CrashPolicy, Sim};
use crate::fixtures::new_store;
use crate::format::LineId;
use crate::volume::{Access, OpenOptions, SnapshotInfo};
use parking_lot::Mutex;

const CLONEDIR: NodeId = NodeId::clonedir(0);

fn reopened(sim: Arc<Sim>) -> T {
    let options = OpenOptions { access: Access::ReadWrite, cache_bytes: 1 << 20 };
    T::on(Volume::open(sim, options).unwrap(), FsOptions::default())
}

fn try_back(t: &T, at: NodeId, word: &str, writers: OpenForWriting) -> Result<Switched> {
    let to = t.fs.snapshot_of_word(at, word.as_bytes())?;
    t.fs.rollback(at, &to, writers, &Reason::Rollback.into())
}

#[track_caller]
fn back(t: &T, at: NodeId, word: &str) -> SnapshotInfo {
    match try_back(t, at, word, OpenForWriting::CutOff) {
        Ok(Switched::Done(guard)) => guard,
        other => panic!("{other:?}"),
    }
}

fn rewrite(t: &T, dir: NodeId, name: &str, data: &[u8]) {
    let f = t.open(t.find(dir, name).unwrap(), RW);
    t.resize(f.0, 0);
    t.write(f, 0, data);
    t.fs.release(f.0, f.1);
}

fn generation(t: &T, dir: NodeId, name: &str) -> u64 {
    t.fs.lookup(&USER, dir, name.as_bytes()).unwrap().generation
}

#[test]
fn the_line_is_what_the_snapshot_was_and_the_rest_stays() {
    for clone in [false, true] {
        let t = T::new();
        let root = if clone { t.mkdir(CLONEDIR, "x").unwrap() } else { ROOT };
        let snapdir = t.find(root, ".snapshots").unwrap();
        for (name, len) in [("inline", 10), ("delayed", 5000), ("large", 300_000)] {
            t.put(root, name, &vec![1; len]);
        }
        let dir = t.mkdir(root, "dir").unwrap();
        t.put(dir, "f", b"old");
        t.mkdir(snapdir, "s").unwrap();
        for name in ["inline", "delayed", "large"] {
            rewrite(&t, root, name, &[2; 7000]);
        }
        t.fs.unlink(&USER, dir, b"f").unwrap();
        t.mkdir(snapdir, "newer").unwrap();
        t.put(root, "added", b"added");

        let guard = back(&t, root, "s");
        assert_eq!(guard.provenance, Provenance::from(Reason::Rollback));
        assert_eq!(guard.name, b"@before-rollback-1970.01.01-00.16.40".as_slice());
        let guard_name = String::from_utf8(guard.name.clone()).unwrap();
        assert_eq!(t.list(snapdir), ["s".to_string(), "newer".into(), guard_name.clone()]);
        for round in 0..3 {
            for (name, len) in [("inline", 10), ("delayed", 5000), ("large", 300_000)] {
                assert_eq!(t.cat(root, name), vec![1; len], "{name}, {round}");
            }
            assert_eq!((t.cat(dir, "f"), t.find(root, "added")), (b"old".to_vec(), Err(Error::NotFound)));
            let past = t.find(snapdir, &guard_name).unwrap();
            assert_eq!((t.cat(past, "delayed"), t.cat(past, "added")), (vec![2; 7000], b"added".to_vec()));
            t.fs.commit().unwrap();
            t.prove();
        }
        // New numbers are new, and a second guard of the same second has a name of its own.
        let new = t.put(root, "new", b"new");
        let second = back(&t, root, "newer");
        assert_eq!(second.name, b"@before-rollback-1970.01.01-00.16.41".as_slice());
        assert_ne!(t.put(root, "newer", b"").ino(), new.ino());
        assert_eq!(t.cat(root, "delayed"), [2; 7000]);
        t.fs.commit().unwrap();
        t.prove();
    }
}

#[test]
fn handles_are_of_their_head_and_directories_go_on() {
    let t = T::new();
    let dir = t.mkdir(ROOT, "dir").unwrap();
    let file = t.put(dir, "f", &[1; 5000]);
    t.mkdir(SNAPDIR, "s").unwrap();
    let late = t.mkdir(ROOT, "late").unwrap();
    t.put(late, "g", b"g");
    let (reader, writer) = (t.open(file, RO), t.open(file, RW));
    t.write(writer, 0, &[2; 100]);
    let listing = |dir| t.fs.opendir(&USER, dir).unwrap();
    let (open_dir, open_late) = (listing(dir), listing(late));
    let before = [generation(&t, ROOT, "dir"), generation(&t, dir, "f")];
    assert_eq!(t.fs.getattr(ROOT, None).map(drop), Ok(()));

    let guard = back(&t, ROOT, "s");
    let stale = |done: Result<()>| assert_eq!(done, Err(Error::Stale));
    for (node, handle) in [reader, writer] {
        stale(t.fs.read(node, handle, 0, &mut [0; 10]).map(drop));
        stale(t.fs.write(node, handle, 0, &[3; 10], false).map(drop));
        stale(t.fs.fsync(node, handle, SyncScope::All));
        stale(t.fs.getattr(node, Some(handle)).map(drop));
        stale(
            t.fs.setattr(&USER, node, Some(handle), &SetAttr { size: Some(1), ..SetAttr::default() })
                .map(drop),
        );
        stale(t.fs.fallocate(&USER, node, handle, 0, 10, AllocateMode::Extend));
        stale(t.fs.lseek(node, handle, 0, SeekTarget::Data).map(drop));
        stale(t.fs.copy_range(&USER, node, handle, 0, node, handle, 100, 10).map(drop));
        // Nor without one, as long as the kernel knows the file as it was.
        stale(t.fs.open(&USER, node, RO).map(drop));
        stale(t.fs.getattr(node, None).map(drop));
        stale(t.fs.setattr(&USER, node, None, &SetAttr { mode: Some(0), ..SetAttr::default() }).map(drop));
        stale(t.fs.getxattr(node, b"user.a").map(drop));
        stale(t.fs.link(&USER, node, ROOT, b"link").map(drop));
        stale(t.fs.lookup(&USER, node, b".").map(drop));
    }
    // Directories need no word from the kernel.
    let mut names = Vec::new();
    let sink = &mut |e: &DirEntry| {
        names.push(e.name.clone());
        true
    };
    t.fs.readdir(dir, open_dir, 0, false, sink).unwrap();
    assert_eq!(names, [&b"."[..], b"..", b"f"]);
    assert_eq!(t.fs.readdir(late, open_late, 0, false, &mut |_| true), Err(Error::Stale));
    assert_eq!(t.fs.lookup(&USER, late, b"g").map(drop), Err(Error::Stale));
    let after = [generation(&t, ROOT, "dir"), generation(&t, dir, "f")];
    assert!(before[0] == after[0] && before[1] != after[1], "{before:?} {after:?}");
    assert_eq!(t.fs.lookup(&USER, ROOT, b".").unwrap().generation, 0);
    // Now it knows the file.
    assert_eq!(t.cat(dir, "f"), [1; 5000]);
    let again = t.open(file, RW);
    stale(t.fs.read(reader.0, reader.1, 0, &mut [0; 10]).map(drop));
    t.write(again, 0, &[4; 10]);
    assert_eq!(t.read(again, 0, 12), [[4; 10].to_vec(), vec![1; 2]].concat());
    // What is closed late leaves what is open now alone.
    for (node, handle) in [reader, writer] {
        t.fs.release(node, handle);
    }
    t.fs.forget(file);
    t.fs.unlink(&USER, dir, b"f").unwrap();
    t.write(again, 100, &[5; 10]);
    t.fs.release(again.0, again.1);
    let past = t.find(SNAPDIR, std::str::from_utf8(&guard.name).unwrap()).unwrap();
    let past = t.find(past, "dir").unwrap();
    assert_eq!(t.cat(past, "f"), [vec![2; 100], vec![1; 4900]].concat());
    t.fs.commit().unwrap();
    t.prove();
}

#[test]
fn what_is_changed_through_a_file_of_before_is_not_the_one_of_now() {
    let t = T::new();
    let f = t.put(ROOT, "f", b"one");
    let before = generation(&t, ROOT, "f");
    t.mkdir(SNAPDIR, "s").unwrap();
    let old = t.open(f, RO);
    let mode = SetAttr { mode: Some(0o600), ..SetAttr::default() };
    let change = || t.fs.setattr(&USER, f, None, &mode).map(drop);
    let flags = FileFlags { no_dump: true, ..FileFlags::default() };
    let others = |expected: Result<()>| {
        assert_eq!(t.fs.setxattr(&USER, f, b"user.a", b"x", XattrMode::Set), expected);
        assert_eq!(t.fs.removexattr(&USER, f, b"user.a"), expected);
        assert_eq!(t.fs.set_file_flags(f, flags), expected);
        assert_eq!(t.fs.link(&USER, f, ROOT, b"link").map(drop), expected);
    };
    // A kernel that knew the name only drops it when it is told of another file. What comes then may be about the old one.
    back(&t, ROOT, "s");
    t.find(ROOT, "f").unwrap();
    assert_eq!(change(), Err(Error::Stale));
    others(Err(Error::Stale));
    // That it was refused to find it by the generation of before tells it nothing.
    assert_eq!(t.fs.lookup_by_number(&USER, f, before).map(drop), Err(Error::NotFound));
    assert_eq!(change(), Err(Error::Stale));
    assert_eq!(t.fs.getattr(f, None).map(|(attr, _)| attr.mode), Ok(0o644));
    // Whoever has asked twice has the new one.
    t.find(ROOT, "f").unwrap();
    assert_eq!(change(), Ok(()));
    others(Ok(()));
    // Or has opened it, for as long as it is there.
    back(&t, ROOT, "s");
    let open = t.open(t.find(ROOT, "f").unwrap(), RW);
    assert_eq!(change(), Ok(()));
    t.fs.release(open.0, open.1);
    assert_eq!(change(), Ok(()));
    // Nobody has one of before any more: what comes is about this one.
    t.fs.release(old.0, old.1);
    back(&t, ROOT, "s");
    t.find(ROOT, "f").unwrap();
    assert_eq!(change(), Ok(()));
}

#[test]
fn files_without_a_name_are_those_of_their_head() {
    let t = T::new();
    let kept = t.put(ROOT, "kept", &[1; 9000]);
    let (in_both, handle) = t.create(ROOT, "gone before");
    t.write((in_both, handle), 0, &[2; 9000]);
    t.fs.unlink(&USER, ROOT, b"gone before").unwrap();
    t.mkdir(SNAPDIR, "s").unwrap();
    let open = t.open(kept, RW);
    t.fs.unlink(&USER, ROOT, b"kept").unwrap();
    let (late, late_handle) = t.create(ROOT, "late");
    t.write((late, late_handle), 0, &[3; 9000]);
    t.fs.unlink(&USER, ROOT, b"late").unwrap();
    back(&t, ROOT, "s");
    // Here the file has its name, whatever becomes of the handle of before.
    for (node, handle) in [open, (late, late_handle), (in_both, handle)] {
        t.fs.release(node, handle);
        t.fs.forget(node);
    }
    assert_eq!(t.cat(ROOT, "kept"), [1; 9000]);
    for _ in 0..4 {
        t.fs.tick().unwrap();
    }
    t.fs.commit().unwrap();
    t.prove();
    let view = t.fs.volume().live(crate::format::LineId::MAIN).unwrap();
    use crate::fs::items::Items;
    for (node, there) in [(kept, true), (in_both, false), (late, false)] {
        let inode = view.inode(crate::format::Ino(node.ino())).unwrap();
        assert_eq!(inode.is_some(), there, "{node:?}");
    }
}

#[test]
fn an_undo_goes_back_and_once_more_forward() {
    let t = T::new();
    t.put(ROOT, "f", b"one");
    assert_eq!(t.fs.undo(ROOT, OpenForWriting::Spared), Ok(None));
    t.mkdir(SNAPDIR, "s").unwrap();
    rewrite(&t, ROOT, "f", b"two");
    back(&t, ROOT, "s");
    rewrite(&t, ROOT, "f", b"three");
    for expected in [b"two".as_slice(), b"three", b"two", b"three"] {
        let (_, switched) = t.fs.undo(ROOT, OpenForWriting::Spared).unwrap().unwrap();
        let Switched::Done(guard) = switched else { panic!("{switched:?}") };
        assert_eq!(guard.provenance.reason, Reason::Undo);
        assert_eq!(t.cat(ROOT, "f"), expected);
    }
    t.fs.commit().unwrap();
    t.prove();
    // A snapshot that somebody makes is no guard; without guards there is nothing to take back.
    t.mkdir(SNAPDIR, "mine").unwrap();
    for name in t.list(SNAPDIR).into_iter().filter(|name| name.starts_with('@')) {
        t.fs.rmdir(&USER, SNAPDIR, name.as_bytes()).unwrap();
    }
    assert_eq!(t.fs.undo(ROOT, OpenForWriting::Spared), Ok(None));
}

/// What the kernel was asked for, and what was to be seen then.
#[derive(Clone, PartialEq, Eq, Debug)]
enum Asked {
    Drain(NodeId),
    Between,
    TakeIn(Vec<NodeId>),
    Doubt,
    DropNames(Vec<(NodeId, Vec<u8>)>),
    DoubtNames(Vec<(NodeId, Vec<u8>)>),
    LookUp(Vec<u8>),
}

/// A kernel that tells what it was asked for, and does something when it drops pages for the first time.
struct Witness {
    fs: Mutex<Option<Arc<Fs>>>,
    asked: Mutex<Vec<Asked>>,
    /// Whether it can doubt all names.
    has_epochs: bool,
    /// How a file is opened while pages are dropped.
    opens: Mutex<Option<OpenFlags>>,
    /// What its generation was at each drop of pages, and whether a change went through.
    seen: Mutex<Vec<(u64, bool)>>,
    /// Whoever reads a file, and how that went at each drop of pages.
    reader: Mutex<Option<(NodeId, Handle)>>,
    reads: Mutex<Vec<Result<usize>>>,
}

impl Witness {
    fn new(t: &T, has_epochs: bool, opens: Option<OpenFlags>) -> Arc<Witness> {
        let witness = Arc::new(Witness {
            fs: Mutex::new(Some(t.fs.clone())),
            asked: Mutex::default(),
            has_epochs,
            opens: Mutex::new(opens),
            seen: Mutex::default(),
            reader: Mutex::default(),
            reads: Mutex::default(),
        });
        t.fs.set_kernel(witness.clone());
        witness
    }
    fn asked(&self) -> Vec<Asked> {
        std::mem::take(&mut *self.asked.lock())
    }
}

impl Kernel for Witness {
    fn write_back(&self, _nodes: &[(NodeId, u64)]) -> std::io::Result<()> {
        Ok(())
    }
    fn invalidate_node(&self, _node: NodeId) {}
    fn invalidate_entry(&self, _parent: NodeId, _name: &[u8]) {}
    fn drain(&self, node: NodeId) {
        self.asked.lock().push(Asked::Drain(node));
        let Some(fs) = self.fs.lock().clone() else { return };
        let generation = fs.lookup(&USER, ROOT, b"f").unwrap().generation;
        // No gate is held that a request needs.
        let made = fs.symlink(&USER, ROOT, b"meanwhile", b"x");
        let written = made.and_then(|_| fs.unlink(&USER, ROOT, b"meanwhile"));
        self.seen.lock().push((generation, written.is_ok()));
        if let Some((node, handle)) = *self.reader.lock() {
            self.reads.lock().push(fs.read(node, handle, 0, &mut [0]));
        }
        if let Some(flags) = self.opens.lock().take() {
            let node = fs.lookup(&USER, ROOT, b"g").unwrap().attr.node;
            fs.open(&USER, node, flags).unwrap();
        }
    }
    fn between_answers(&self, work: &mut dyn FnMut()) {
        self.asked.lock().push(Asked::Between);
        work();
    }
    fn take_in(&self, dirs: &[NodeId]) {
        self.asked.lock().push(Asked::TakeIn(dirs.to_vec()));
    }
    fn doubt_all_names(&self) -> bool {
        self.asked.lock().push(Asked::Doubt);
        self.has_epochs
    }
    fn drop_names(&self, names: Vec<(NodeId, Vec<u8>)>) {
        self.asked.lock().push(Asked::DropNames(names));
    }
    fn doubt_names(&self, names: &[(NodeId, Vec<u8>)]) {
        self.asked.lock().push(Asked::DoubtNames(names.to_vec()));
    }
    fn look_up(&self, path: &[u8]) {
        self.asked.lock().push(Asked::LookUp(path.to_vec()));
    }
}

/// A directory that will move, two files, and a snapshot of that.
fn moved(t: &T) -> (NodeId, NodeId, NodeId) {
    let dir = t.mkdir(ROOT, "dir").unwrap();
    let (f, g) = (t.put(ROOT, "f", b"f"), t.put(ROOT, "g", b"g"));
    t.mkdir(SNAPDIR, "s").unwrap();
    t.fs.rename(&USER, ROOT, b"dir", ROOT, b"moved", RenameMode::Replace).unwrap();
    (dir, f, g)
}

#[test]
fn pages_go_before_the_new_generation_shows_and_names_after() {
    let t = T::new();
    let (dir, f, g) = moved(&t);
    let old = generation(&t, ROOT, "f");
    let _open = (t.open(f, RO), t.open(f, RW));
    let witness = Witness::new(&t, true, Some(RO));
    back(&t, ROOT, "s");
    let asked = witness.asked();
    // A file that was opened meanwhile takes another round.
    use Asked::*;
    // What was answered before the exchange is taken in before all names are doubted for good.
    let pages = [Drain(f), Between, Drain(g), Between];
    let expected = pages.into_iter().chain([Doubt, TakeIn(vec![ROOT, dir]), Doubt]).chain([
        Drain(ROOT),
        Drain(dir),
        LookUp(b"dir".to_vec()),
    ]);
    assert_eq!(asked, expected.collect::<Vec<_>>());
    let seen = witness.seen.lock().clone();
    assert!(seen[..2].iter().all(|seen| *seen == (old, true)), "{seen:?} {old}");
    assert!(seen[2..].iter().all(|seen| seen.0 != old && seen.1), "{seen:?} {old}");
    *witness.fs.lock() = None;
}

#[test]
fn a_kernel_without_epochs_drops_names_one_by_one() {
    let t = T::new();
    let (dir, f, _) = moved(&t);
    t.put(dir, "below", b"");
    let _open = t.open(f, RO);
    let witness = Witness::new(&t, false, None);
    back(&t, ROOT, "s");
    use Asked::*;
    let names: Vec<_> = ["dir", "f", "g", "moved"].map(|name| name.as_bytes().to_vec()).into();
    let mut expected = vec![Drain(f), Between, Doubt, TakeIn(vec![ROOT, dir])];
    expected.push(DropNames(names.iter().map(|name| (ROOT, name.clone())).collect()));
    expected.extend(names.iter().map(|name| LookUp(name.clone())));
    expected.push(DoubtNames(vec![(ROOT, b"moved".to_vec())]));
    expected.extend([Drain(ROOT), Drain(dir), LookUp(b"dir".to_vec())]);
    assert_eq!(witness.asked(), expected);
    *witness.fs.lock() = None;
}

#[test]
fn a_clone_that_goes_back_disturbs_nobody_else() {
    let t = T::new();
    let (_, f, _) = moved(&t);
    let x = t.mkdir(CLONEDIR, "x").unwrap();
    t.fs.rename(&USER, x, b"f", x, b"h", RenameMode::Replace).unwrap();
    let dir = t.find(x, "moved").unwrap();
    let (of_main, of_x) = (t.open(f, RW), t.open(t.find(x, "h").unwrap(), RO));
    let witness = Witness::new(&t, true, None);
    back(&t, x, "s");
    use Asked::*;
    let expected = [
        Drain(of_x.0),
        Between,
        TakeIn(vec![x, dir]),
        DropNames(vec![(CLONEDIR, b"x".to_vec())]),
        LookUp(b".clones/x".to_vec()),
        DoubtNames(vec![(x, b"moved".to_vec())]),
        Drain(dir),
        Drain(x),
        LookUp(b".clones/x/dir".to_vec()),
    ];
    // The root of the clone is a directory that is known, too.
    let mut asked = witness.asked();
    asked.dedup();
    let drained = asked.iter().filter(|a| matches!(a, Drain(node) if *node == x)).count();
    assert!(drained >= 1);
    asked.retain(|a| !matches!(a, Drain(node) if *node == x || *node == dir));
    let expected: Vec<_> =
        expected.into_iter().filter(|a| !matches!(a, Drain(node) if *node == x || *node == dir)).collect();
    assert_eq!(asked, expected);
    t.write(of_main, 0, b"goes on");
    assert_eq!(t.fs.read(of_x.0, of_x.1, 0, &mut [0]), Err(Error::Stale));
    assert_eq!((t.cat(x, "f"), t.cat(ROOT, "f")), (b"f".to_vec(), b"goes on".to_vec()));
    *witness.fs.lock() = None;
}

#[test]
fn whoever_begins_to_write_is_spared_to_the_last() {
    let t = T::new();
    let (_, f, g) = moved(&t);
    let reader = t.open(f, RO);
    let witness = Witness::new(&t, true, Some(RW));
    *witness.reader.lock() = Some(reader);
    let refused =
        InTheWay { written: vec![(g, Some(b"g".to_vec()))], mounts: Vec::new(), covers: Vec::new() };
    assert_eq!(try_back(&t, ROOT, "s", OpenForWriting::Spared), Ok(Switched::Refused(refused.clone())));
    // Nothing has happened, and what is open is as good as before.
    assert_eq!(t.list(SNAPDIR), ["s"]);
    assert_eq!(t.read(reader, 0, 9), b"f");
    assert_eq!(t.fs.in_the_way(ROOT), Ok(refused.clone()));
    assert_eq!(try_back(&t, ROOT, "s", OpenForWriting::Spared), Ok(Switched::Refused(refused)));
    // Who reads has noticed nothing of that. What a writer is refused nobody misses: who is cut off reads nothing either.
    assert_eq!(*witness.reads.lock(), [Ok(1)]);
    back(&t, ROOT, "s");
    assert_eq!(t.fs.in_the_way(ROOT), Ok(InTheWay::default()));
    let reads = witness.reads.lock().clone();
    assert!(reads[1..].len() > 1 && reads[1..].iter().all(|read| *read == Err(Error::Stale)), "{reads:?}");
    *witness.fs.lock() = None;
}

#[test]
fn whoever_only_reads_goes_on_until_nothing_is_in_the_way() {
    let t = T::new();
    let (_, f, _) = moved(&t);
    let reader = t.open(f, RO);
    let witness = Witness::new(&t, true, None);
    *witness.reader.lock() = Some(reader);
    assert!(matches!(try_back(&t, ROOT, "s", OpenForWriting::Spared), Ok(Switched::Done(_))));
    let reads = witness.reads.lock().clone();
    assert_eq!((&reads[0], reads.last()), (&Ok(1), Some(&Err(Error::Stale))), "{reads:?}");
    *witness.fs.lock() = None;
}

#[test]
fn a_crash_leaves_the_line_before_or_after() {
    let (mut before, mut after) = (0, 0);
    for cut in 1.. {
        let sim = Arc::new(Sim::new(1 << 30, cut));
        let t = T::on(Volume::made_on(sim.clone()), FsOptions::default());
        t.put(ROOT, "f", &[1; 5000]);
        let dir = t.mkdir(ROOT, "dir").unwrap();
        t.put(dir, "g", &[1; 200_000]);
        t.mkdir(SNAPDIR, "s").unwrap();
        rewrite(&t, ROOT, "f", &[2; 9000]);
        rewrite(&t, dir, "g", &[2; 200_000]);
        t.put(ROOT, "late", b"late");
        t.fs.commits.sync().unwrap();
        sim.set_crash_at(cut);
        let done = try_back(&t, ROOT, "s", OpenForWriting::CutOff);
        let more = done.as_ref().is_ok_and(|_| {
            let file = t.fs.create(&USER, ROOT, b"after", 0o644, RW);
            file.is_ok_and(|(e, h)| {
                t.fs.write(e.attr.node, h, 0, &[3; 6000], false).is_ok()
                    && t.fs.fsync(e.attr.node, h, SyncScope::All).is_ok()
            })
        }) && t.fs.commit().is_ok();
        for policy in [CrashPolicy::DropAll, CrashPolicy::KeepAll] {
            let t = reopened(Arc::new(sim.crash(policy)));
            let guards = t.list(SNAPDIR).len() - 1;
            if guards == 1 {
                assert_eq!((t.cat(ROOT, "f"), t.find(ROOT, "late")), (vec![1; 5000], Err(Error::NotFound)));
                let past = t.find(SNAPDIR, &t.list(SNAPDIR)[1]).unwrap();
                assert_eq!((t.cat(past, "f"), t.cat(past, "late")), (vec![2; 9000], b"late".to_vec()));
                after += 1;
            } else {
                assert!(!matches!(done, Ok(Switched::Done(_))), "what was answered is there, cut at {cut}");
                assert_eq!((t.cat(ROOT, "f"), t.cat(ROOT, "late")), (vec![2; 9000], b"late".to_vec()));
                before += 1;
            }
            if more {
                assert_eq!(t.cat(ROOT, "after"), [3; 6000]);
            }
            t.fs.commit().unwrap();
            t.prove();
            t.fs.close().unwrap();
        }
        if more {
            break;
        }
    }
    println!("{before} before, {after} after");
    assert!(before > 0 && after > 4);
}

fn try_promote(t: &T, clone: &str, onto: Option<&[u8]>, keep_as: Option<&[u8]>) -> Result<Promoted> {
    let order = PromotionOrder { clone: clone.as_bytes(), onto, keep_as, writers: OpenForWriting::CutOff };
    t.fs.promote(&order, &Reason::Promote.into())
}

#[track_caller]
fn promote(t: &T, clone: &str, onto: Option<&[u8]>, keep_as: Option<&[u8]>) -> SnapshotInfo {
    match try_promote(t, clone, onto, keep_as) {
        Ok(Promoted::Switched(Switched::Done(guard))) => guard,
        other => panic!("{other:?}"),
    }
}

/// Two lines with the same schedule have snapshots of the same seconds: those of the clone have the next free ones afterwards.
#[test]
fn a_clone_with_a_schedule_of_its_own_becomes_the_line() {
    let sim: Arc<Sim> = new_store(64 << 20);
    let open = |sim: &Arc<Sim>| {
        let access = OpenOptions { access: Access::ReadWrite, cache_bytes: 8 << 20 };
        T::on(Volume::open(sim.clone(), access).unwrap(), FsOptions::default())
    };
    let t = open(&sim);
    let rules = || vec![crate::schedule::parse_rules("default", "every=1h keep=all").unwrap()];
    t.fs.set_schedules(LineId::MAIN, rules()).unwrap();
    let x = t.mkdir(CLONEDIR, "x").unwrap();
    t.fs.set_schedules(t.fs.line_at(x).unwrap(), rules()).unwrap();
    for n in 0..10 {
        t.put(ROOT, &format!("main{n}"), b"m");
        t.put(x, &format!("x{n}"), b"x");
        while t.fs.keep_schedules() {}
        t.clock.advance(3600 * 1_000_000_000);
    }
    t.fs.commit().unwrap();
    let of_x: Vec<_> = t.fs.volume().own_snapshots(t.fs.line_at(x).unwrap());
    let of_main = t.fs.volume().own_snapshots(LineId::MAIN);
    assert_eq!((of_x.len(), of_main.len()), (10, 10));
    promote(&t, "x", None, None);
    // In one record of the log, which a crash keeps.
    let crashed = open(&Arc::new(sim.crash(CrashPolicy::KeepAll)));
    for t in [&t, &crashed] {
        let now = t.fs.volume().own_snapshots(LineId::MAIN);
        let names: std::collections::BTreeSet<_> = now.iter().map(|s| s.name.clone()).collect();
        assert_eq!((now.len(), names.len()), (21, 21));
        for (n, (x, main)) in of_x.iter().zip(&of_main).enumerate() {
            let named = |id| now.iter().find(|s| s.id == id).unwrap();
            assert_eq!(named(main.id).name, main.name);
            // A second later, and the schedule's as before.
            let (x, later) =
                (named(x.id), crate::clock::dotted(Timestamp { secs: x.created.0 + 1, nanos: 0 }));
            assert_eq!(
                (String::from_utf8_lossy(&x.name), x.provenance.reason),
                (format!("@GMT-{later}").into(), Reason::Schedule)
            );
            assert_eq!(t.list(t.find(SNAPDIR, &format!("@GMT-{later}")).unwrap()).len(), n + 1);
        }
        t.fs.commit().unwrap();
        t.prove();
    }
    // A name that somebody gave is nobody's to change.
    let y = t.mkdir(CLONEDIR, "y").unwrap();
    t.mkdir(t.find(y, ".snapshots").unwrap(), "mine").unwrap();
    t.mkdir(SNAPDIR, "mine").unwrap();
    assert_eq!(try_promote(&t, "y", None, None), Ok(Promoted::NameTaken(b"mine".to_vec())));
}

#[test]
fn a_clone_becomes_the_line_that_it_came_from() {
    let t = T::new();
    let f = t.put(ROOT, "f", &[1; 5000]);
    t.put(ROOT, "large", &[1; 300_000]);
    t.mkdir(SNAPDIR, "s").unwrap();
    let x = t.mkdir(CLONEDIR, "x").unwrap();
    let of_x = t.find(x, ".snapshots").unwrap();
    rewrite(&t, x, "f", &[2; 6000]);
    t.mkdir(of_x, "of x").unwrap();
    rewrite(&t, x, "large", &[2; 200_000]);
    // Another clone of it goes on.
    t.mkdir(t.find(x, ".clones").unwrap(), "y").unwrap();
    rewrite(&t, ROOT, "f", &[3; 7000]);
    t.mkdir(SNAPDIR, "later").unwrap();
    t.put(ROOT, "of main", b"main");
    let (in_main, in_x) = (t.open(f, RO), t.open(t.find(x, "f").unwrap(), RW));
    t.write(in_x, 0, &[4; 10]);
    assert_eq!(
        t.fs.promote(
            &PromotionOrder { clone: b"x", onto: None, keep_as: None, writers: OpenForWriting::Spared },
            &Reason::Promote.into()
        ),
        Ok(Promoted::Switched(Switched::Refused(InTheWay {
            written: vec![(in_x.0, Some(b".clones/x/f".to_vec()))],
            mounts: Vec::new(),
            covers: Vec::new()
        })))
    );

    let guard = promote(&t, "x", None, Some(b"old"));
    assert_eq!((&guard.name[..], guard.provenance.reason), (&b"old"[..], Reason::Promote));
    for (node, handle) in [in_main, in_x] {
        assert_eq!(t.fs.read(node, handle, 0, &mut [0]), Err(Error::Stale));
        t.fs.release(node, handle);
    }
    assert_eq!((t.list(CLONEDIR), t.find(CLONEDIR, "x")), (vec!["y".into()], Err(Error::NotFound)));
    assert_eq!(t.fs.lookup(&USER, x, b"f").map(drop), Err(Error::Stale));
    for _ in 0..3 {
        assert_eq!(t.cat(ROOT, "f"), [vec![4; 10], vec![2; 5990]].concat());
        assert_eq!((t.cat(ROOT, "large"), t.find(ROOT, "of main")), (vec![2; 200_000], Err(Error::NotFound)));
        assert_eq!(t.list(SNAPDIR), ["s", "of x", "later", "old"]);
        let past = |name: &str| t.find(SNAPDIR, name).unwrap();
        assert_eq!((t.cat(past("of x"), "f"), t.cat(past("later"), "f")), (vec![2; 6000], vec![3; 7000]));
        assert_eq!(t.cat(past("old"), "of main"), b"main");
        assert_eq!(t.cat(t.find(CLONEDIR, "y").unwrap(), "f"), [2; 6000]);
        t.fs.commit().unwrap();
        t.prove();
    }
    // What came along is the line's: it can be renamed, gone back to, and deleted; and so can what was there.
    t.fs.rename(&USER, SNAPDIR, b"of x", SNAPDIR, b"renamed", RenameMode::Replace).unwrap();
    back(&t, ROOT, "later");
    assert_eq!(t.cat(ROOT, "f"), [3; 7000]);
    back(&t, ROOT, "renamed");
    assert_eq!(t.cat(ROOT, "f"), [2; 6000]);
    t.fs.rmdir(&USER, SNAPDIR, b"renamed").unwrap();
    back(&t, ROOT, "old");
    assert_eq!(t.cat(ROOT, "of main"), b"main");
    for name in t.list(SNAPDIR) {
        t.fs.rmdir(&USER, SNAPDIR, name.as_bytes()).unwrap();
    }
    for _ in 0..4 {
        t.fs.commit().unwrap();
        t.prove();
    }
    assert_eq!(
        (t.cat(ROOT, "f"), t.cat(t.find(CLONEDIR, "y").unwrap(), "f")),
        (vec![3; 7000], vec![2; 6000])
    );
}

#[test]
fn a_promotion_is_undone_by_a_rollback_to_its_guard() {
    let t = T::new();
    t.put(ROOT, "f", b"main");
    let x = t.mkdir(CLONEDIR, "x").unwrap();
    rewrite(&t, x, "f", b"x");
    let guard = promote(&t, "x", None, None);
    assert!(guard.name.starts_with(b"@before-promote-"));
    assert_eq!(t.cat(ROOT, "f"), b"x");
    for expected in [&b"main"[..], b"x", b"main"] {
        let (_, switched) = t.fs.undo(ROOT, OpenForWriting::Spared).unwrap().unwrap();
        assert!(matches!(switched, Switched::Done(_)));
        assert_eq!(t.cat(ROOT, "f"), expected);
    }
    t.fs.commit().unwrap();
    t.prove();
}

#[test]
fn names_and_lines_of_a_promotion_are_looked_at_first() {
    let t = T::new();
    t.put(ROOT, "f", b"main");
    let x = t.mkdir(CLONEDIR, "x").unwrap();
    t.mkdir(t.find(x, ".snapshots").unwrap(), "same").unwrap();
    let y = t.mkdir(t.find(x, ".clones").unwrap(), "y").unwrap();
    rewrite(&t, y, "f", b"y");
    t.mkdir(SNAPDIR, "same").unwrap();
    t.mkdir(SNAPDIR, "mine").unwrap();
    let before = t.list(SNAPDIR);
    assert_eq!(try_promote(&t, "none", None, None), Err(Error::NotFound));
    assert_eq!(try_promote(&t, "x", Some(b"none"), None), Err(Error::NotFound));
    assert_eq!(try_promote(&t, "x", Some(b"x"), None), Err(Error::Invalid));
    assert_eq!(try_promote(&t, "x", None, Some(b"@x")), Err(Error::Invalid));
    assert_eq!(try_promote(&t, "x", None, None), Ok(Promoted::NameTaken(b"same".to_vec())));
    assert_eq!(try_promote(&t, "y", Some(b""), Some(b"mine")), Ok(Promoted::NameTaken(b"mine".to_vec())));
    assert_eq!((t.list(SNAPDIR), t.list(CLONEDIR)), (before, vec!["x".into(), "y".into()]));
    // Where the line that one came from is gone it is the one above that.
    t.fs.rmdir(&USER, CLONEDIR, b"x").unwrap();
    promote(&t, "y", None, None);
    assert_eq!(t.cat(ROOT, "f"), b"y");
    t.fs.commit().unwrap();
    t.prove();
}

#[test]
fn a_clone_becomes_another_line_than_the_one_it_came_from() {
    for (clone, onto, root) in [("y", &b""[..], true), ("x", &b"y"[..], false), ("y", &b"x"[..], false)] {
        let t = T::new();
        t.put(ROOT, "f", b"main");
        t.mkdir(SNAPDIR, "s").unwrap();
        let x = t.mkdir(CLONEDIR, "x").unwrap();
        t.mkdir(t.find(x, ".snapshots").unwrap(), "of x").unwrap();
        rewrite(&t, x, "f", b"x");
        let y = t.mkdir(t.find(x, ".clones").unwrap(), "y").unwrap();
        rewrite(&t, y, "f", b"y");
        t.mkdir(t.find(y, ".snapshots").unwrap(), "of y").unwrap();
        promote(&t, clone, Some(onto), Some(b"old"));
        for _ in 0..3 {
            let line =
                if root { ROOT } else { t.find(CLONEDIR, std::str::from_utf8(onto).unwrap()).unwrap() };
            assert_eq!(t.cat(line, "f"), clone.as_bytes());
            let (snapdir, mut expected) =
                (t.find(line, ".snapshots").unwrap(), vec!["s", "of x", "of y", "old"]);
            if root {
                expected.remove(1); // of a line that is there still
            }
            assert_eq!(t.list(snapdir), expected, "{clone}");
            t.fs.commit().unwrap();
            t.prove();
        }
    }
}

#[test]
fn a_crash_leaves_a_promotion_whole_or_undone() {
    let (mut before, mut after) = (0, 0);
    for cut in 1.. {
        let sim = Arc::new(Sim::new(1 << 30, cut));
        let t = T::on(Volume::made_on(sim.clone()), FsOptions::default());
        t.put(ROOT, "f", &[1; 5000]);
        let x = t.mkdir(CLONEDIR, "x").unwrap();
        rewrite(&t, x, "f", &[2; 200_000]);
        t.mkdir(t.find(x, ".snapshots").unwrap(), "of x").unwrap();
        rewrite(&t, x, "f", &[3; 6000]);
        t.put(ROOT, "late", b"late");
        t.fs.commits.sync().unwrap();
        sim.set_crash_at(cut);
        let done = try_promote(&t, "x", None, Some(b"old"));
        let answered = matches!(done, Ok(Promoted::Switched(Switched::Done(_))));
        let more = answered && {
            let file = t.fs.create(&USER, ROOT, b"after", 0o644, RW);
            file.is_ok() && t.fs.commit().is_ok()
        };
        for policy in [CrashPolicy::DropAll, CrashPolicy::KeepAll] {
            let t = reopened(Arc::new(sim.crash(policy)));
            if t.list(CLONEDIR).is_empty() {
                assert_eq!((t.cat(ROOT, "f"), t.find(ROOT, "late")), (vec![3; 6000], Err(Error::NotFound)));
                assert_eq!(t.list(SNAPDIR), ["of x", "old"]);
                assert_eq!(t.cat(t.find(SNAPDIR, "old").unwrap(), "late"), b"late");
                after += 1;
            } else {
                assert!(!answered, "what was answered is there, cut at {cut}");
                let x = t.find(CLONEDIR, "x").unwrap();
                assert_eq!((t.cat(ROOT, "f"), t.cat(x, "f")), (vec![1; 5000], vec![3; 6000]));
                assert_eq!((t.list(SNAPDIR).len(), t.cat(ROOT, "late")), (0, b"late".to_vec()));
                before += 1;
            }
            for _ in 0..3 {
                t.fs.commit().unwrap();
                t.prove();
            }
            t.fs.close().unwrap();
        }
        if more {
            break;
        }
    }
    println!("{before} before, {after} after");
    assert!(before > 0 && after > 4);
}

/// A kernel that tells when nobody waits for an answer any more.
struct Quiet(Mutex<std::sync::mpsc::Sender<()>>);

impl Kernel for Quiet {
    fn write_back(&self, _nodes: &[(NodeId, u64)]) -> std::io::Result<()> {
        Ok(())
    }
    fn invalidate_node(&self, _node: NodeId) {}
    fn invalidate_entry(&self, _parent: NodeId, _name: &[u8]) {}
    fn between_answers(&self, work: &mut dyn FnMut()) {
        work();
        let _ = self.0.lock().send(()); // nobody listens any more
    }
}

#[test]
fn a_commit_that_is_under_way_keeps_no_request_waiting() {
    let t = T::new();
    t.put(ROOT, "f", b"one");
    t.mkdir(SNAPDIR, "s").unwrap();
    rewrite(&t, ROOT, "f", b"two");
    let (sender, quiet_is_over) = std::sync::mpsc::channel();
    t.fs.set_kernel(Arc::new(Quiet(Mutex::new(sender))));
    std::thread::scope(|scope| {
        let commit = t.fs.commits.hold_off();
        let done = scope.spawn(|| try_back(&t, ROOT, "s", OpenForWriting::Spared));
        let over = quiet_is_over.recv_timeout(std::time::Duration::from_secs(30));
        assert_eq!(t.list(SNAPDIR), ["s"]);
        drop(commit);
        assert!(matches!(done.join().unwrap(), Ok(Switched::Done(_))));
        assert_eq!(over, Ok(()));
    });
    assert_eq!(t.cat(ROOT, "f"), b"one");
}

#[test]
fn references_to_one_block_are_told_apart_where_branches_meet() {
    let t = T::new();
    let (a, content) = (t.put(ROOT, "a", &[7; 40_960]), vec![7; 40_960]);
    t.fs.commit().unwrap();
    t.snapshot("before");
    let (from, to) = (t.open(a, RO), t.create(ROOT, "b"));
    assert_eq!(t.fs.copy_range(&USER, from.0, from.1, 0, to.0, to.1, 0, 40_960), Ok(40_960));
    t.fs.release(from.0, from.1);
    t.fs.release(to.0, to.1);
    t.snapshot("both");
    t.fs.rmdir(&USER, SNAPDIR, b"before").unwrap();
    // The guard has one of the two, the line the other: neither goes with the snapshot that has both.
    t.fs.unlink(&USER, ROOT, b"a").unwrap();
    t.fs.forget(a);
    let guard = back(&t, ROOT, "both");
    t.fs.unlink(&USER, ROOT, b"b").unwrap();
    t.fs.forget(to.0);
    t.fs.rmdir(&USER, SNAPDIR, b"both").unwrap();
    let guard = String::from_utf8(guard.name).unwrap();
    for _ in 0..3 {
        t.fs.commit().unwrap();
        t.prove();
    }
    let past = t.find(SNAPDIR, &guard).unwrap();
    assert_eq!((t.cat(past, "b"), t.cat(ROOT, "a")), (content.clone(), content.clone()));
    // Nor do they stay when the last of them goes: what they had is a small part of what is free then.
    t.fs.unlink(&USER, ROOT, b"a").unwrap();
    t.fs.forget(a);
    t.fs.rmdir(&USER, SNAPDIR, guard.as_bytes()).unwrap();
    for n in 0..6 {
        t.put(ROOT, &format!("{n}"), b"");
        t.fs.commit().unwrap();
        t.prove();
    }
    assert!(!t.fs.volume().has_background_work());
    let report = crate::check::check(t.fs.volume(), crate::check::Depth::Data).unwrap();
    assert_eq!((report.data_bytes, report.views), (0, 1), "{report:?}");
}
