//! Several writable trees at once: the same inode numbers, content that waits in each, commits, points and crashes.

use super::super::Reason;
use super::device::Moody;
use super::*;
use crate::device::{CrashPolicy, Sim};
use crate::fixtures::open;
use crate::format::view::ViewRecord;
use crate::format::{Key, LineId, NODE_BYTES};
use crate::tree::{Step, Visit, walk};
use crate::volume::{Access, OpenOptions};
use parking_lot::Mutex;

/// Name of a line, and what its files must hold.
struct Line {
    root: NodeId,
    content: Vec<(String, Vec<u8>)>,
}

fn reopened(sim: Arc<Sim>) -> T {
    T::on(open(sim, Access::ReadWrite).unwrap(), FsOptions::default())
}

fn rewrite(t: &T, dir: NodeId, name: &str, data: &[u8]) {
    let f = t.open(t.find(dir, name).unwrap(), RW);
    t.resize(f.0, 0);
    t.write(f, 0, data);
    t.fs.release(f.0, f.1);
}

fn compare(t: &T, line: &Line) {
    for (name, expected) in &line.content {
        assert!(t.cat(line.root, name) == *expected, "{name}");
    }
    assert_eq!(t.list(line.root).len(), line.content.len());
}

/// A main line with a small, a delayed and a large file, and a line from it in which all of them are others.
fn two_lines(t: &T) -> [Line; 2] {
    let sizes = [("small", 10), ("blocks", 5000), ("large", 300_000)];
    let filled = |byte: u8| sizes.map(|(name, len)| (name.to_string(), vec![byte; len])).to_vec();
    for (name, data) in filled(1) {
        t.put(ROOT, &name, &data);
    }
    let from = t.fs.create_snapshot(b"s", Reason::User).unwrap();
    let root = t.fs.create_line(b"trial", from).unwrap();
    assert_eq!(t.find(root, "small").unwrap().ino(), t.find(ROOT, "small").unwrap().ino());
    let lines = [Line { root: ROOT, content: filled(2) }, Line { root, content: filled(3) }];
    for line in &lines {
        for (name, data) in &line.content {
            rewrite(t, line.root, name, data);
        }
    }
    lines
}

#[test]
fn two_heads_hold_what_was_written_in_each() {
    let t = T::new();
    let mut lines = two_lines(&t);
    for round in 0..3 {
        lines.iter().for_each(|line| compare(&t, line));
        t.fs.commit().unwrap();
        t.prove();
        for (n, line) in lines.iter_mut().enumerate() {
            let data = vec![10 * round + n as u8 + 5; 9000];
            rewrite(&t, line.root, "blocks", &data);
            line.content[1].1 = data;
            t.put(line.root, &format!("new {round}"), &[n as u8; 4]);
            line.content.push((format!("new {round}"), vec![n as u8; 4]));
        }
    }
    lines.iter().for_each(|line| compare(&t, line));
    let set = SetAttr { mode: Some(0o600), ..SetAttr::default() };
    let small = |root| t.find(root, "small").unwrap();
    t.fs.setattr(&USER, small(lines[1].root), None, &set).unwrap();
    assert_eq!([small(ROOT), small(lines[1].root)].map(|f| t.attr(f).mode), [0o644, 0o600]);
}

#[test]
fn nothing_moves_from_one_head_to_another() {
    let t = T::new();
    let [_, line] = two_lines(&t);
    let small = t.find(ROOT, "small").unwrap();
    let rename = t.fs.rename(&USER, ROOT, b"small", line.root, b"x", RenameMode::Replace);
    assert_eq!(rename, Err(Error::CrossView));
    assert_eq!(t.fs.link(&USER, small, line.root, b"x").map(drop), Err(Error::CrossView));
    let (from, to) = (t.open(small, RO), t.create(line.root, "copy"));
    assert_eq!(t.fs.copy_range(&USER, from.0, from.1, 0, to.0, to.1, 0, 10), Ok(10));
    assert_eq!(t.cat(line.root, "copy"), [2; 10]);
    t.fs.commit().unwrap();
    t.prove();
}

#[test]
fn a_point_is_of_one_head() {
    let t = T::new();
    let lines = two_lines(&t);
    t.fs.create_snapshot_of(lines[1].root, b"of the trial", Reason::User).unwrap();
    t.fs.create_snapshot(b"of the main line", Reason::User).unwrap();
    let volume = t.fs.volume();
    let [main, trial] = [b"of the main line".as_slice(), b"of the trial"];
    for (name, byte) in [(main, 2), (trial, 3)] {
        let line = if name == main { 1 } else { 2 };
        let info = volume.find_snapshot(LineId(line), name).unwrap();
        let past = NodeId::snapshot(info.slot.0, 1);
        assert_eq!(t.cat(past, "blocks"), vec![byte; 5000]);
    }
    assert_eq!(t.list(SNAPDIR), ["s", "of the main line"]);
    t.fs.commit().unwrap();
    t.prove();
}

#[test]
fn every_head_is_there_after_a_crash() {
    for committed in [false, true] {
        let sim = Arc::new(Sim::new(1 << 30, 1));
        let t = T::on(Volume::made_on(sim.clone()), FsOptions::default());
        let lines = two_lines(&t);
        if committed {
            t.fs.commit().unwrap();
            rewrite(&t, lines[1].root, "small", b"later");
        }
        let f = t.open(t.find(ROOT, "small").unwrap(), RW);
        t.fs.fsync(f.0, f.1, SyncScope::All).unwrap();
        let t = reopened(Arc::new(sim.crash(CrashPolicy::DropAll)));
        compare(&t, &lines[0]);
        if committed {
            assert_eq!(t.cat(lines[1].root, "small"), b"later");
        } else {
            compare(&t, &lines[1]);
        }
        t.prove();
    }
}

#[test]
fn a_line_has_no_files_without_names_from_its_origin() {
    let t = T::new();
    let f = t.create(ROOT, "open");
    t.write(f, 0, &[1; 50_000]);
    t.fs.unlink(&USER, ROOT, b"open").unwrap();
    let from = t.fs.create_snapshot(b"s", Reason::User).unwrap();
    let root = t.fs.create_line(b"trial", from).unwrap();
    let line = t.fs.volume().find_line(b"trial").unwrap().id;
    let items = |line| t.fs.volume().live(line).unwrap().range(&Key::MIN, &Key::MAX).count();
    t.fs.tick().unwrap();
    assert_eq!(items(line), 1, "the root alone");
    assert_eq!(t.list(root).len(), 0);
    assert_eq!(t.read(f, 0, 50_000), [1; 50_000], "it is open in the other line");
    t.fs.commit().unwrap();
    t.prove();
}

#[test]
fn a_line_goes_with_all_that_was_written_in_it() {
    let t = T::new();
    let lines = two_lines(&t);
    let open = t.open(t.find(lines[1].root, "large").unwrap(), RW);
    t.fs.drop_line(lines[1].root).unwrap();
    assert_eq!(t.find(lines[1].root, "small"), Err(Error::Stale));
    assert_eq!(t.fs.write(open.0, open.1, 0, b"late", false), Err(Error::Stale));
    t.fs.release(open.0, open.1);
    for _ in 0..3 {
        t.fs.commit().unwrap();
        t.prove();
    }
    compare(&t, &lines[0]);
    assert!(!t.fs.volume().has_background_work());
    assert_eq!(t.fs.drop_line(ROOT), Err(Error::Stale), "the main line stays");
}

/// Writes each `step`th of many blocks of the large file anew.
fn rewrite_blocks(t: &T, line: &mut Line, byte: u8, step: usize) {
    const BLOCKS: usize = 2000;
    let f = t.open(t.find(line.root, "large").unwrap(), RW);
    let content = &mut line.content[2].1;
    content.resize(BLOCKS * 4096, 0);
    for at in (0..BLOCKS).step_by(step).map(|n| n * 4096) {
        t.write(f, at as u64, &[byte; 4096]);
        content[at..at + 4096].fill(byte);
    }
    t.fs.release(f.0, f.1);
}

/// Has the extents of the large file be in many leaves.
fn spread(t: &T, line: &mut Line) {
    for step in [1, 2] {
        rewrite_blocks(t, line, step as u8, step);
        t.fs.commit().unwrap();
    }
}

/// Each read that brings the heads together fails in its turn, and all that follow.
#[test]
fn what_fails_in_one_head_leaves_all_of_them_as_they_were() {
    let device = Moody::new(1 << 30);
    drop(Volume::made_on(device.clone()));
    // Nothing stays in memory, so that each commit reads again.
    let options = OpenOptions { access: Access::ReadWrite, cache_bytes: 0 };
    let t = T::on(Volume::open(device.clone(), options).unwrap(), FsOptions::default());
    let mut lines = two_lines(&t);
    for line in &mut lines {
        spread(&t, line);
    }
    let (heads, volume) = (t.fs.heads.all(), t.fs.volume());
    let mut failed = 0;
    for round in 0.. {
        for line in &mut lines {
            rewrite_blocks(&t, line, round as u8, 97);
            rewrite(&t, line.root, "small", &[round as u8; 60]);
            line.content[0].1 = vec![round as u8; 60];
            // An orphan, too.
            let gone = t.create(line.root, "gone");
            t.fs.unlink(&USER, line.root, b"gone").unwrap();
            t.write(gone, 0, &[1; 10_000]);
        }
        let allocated = volume.space().free;
        lines.iter().for_each(|line| compare(&t, line));
        device.go_bad(round);
        let done = t.fs.commits.complete(&heads, &mut |_| (), &mut |prepare| {
            volume.commit(&mut |txn| {
                let done = prepare(txn);
                device.get_well();
                done
            })
        });
        device.get_well();
        assert_eq!(volume.read_only_reason(), None, "after {round} reads");
        lines.iter().for_each(|line| compare(&t, line));
        if done.is_ok() {
            break;
        }
        assert_eq!(volume.space().free, allocated, "what was put onto the device is given back");
        failed += 1;
    }
    assert!(failed > 8, "{failed} reads");
    t.fs.commit().unwrap();
    t.prove();
    lines.iter().for_each(|line| compare(&t, line));
}

#[test]
fn a_head_whose_content_is_written_holds_up_no_other() {
    for by in ["a commit", "a snapshot"] {
        let device = Moody::new(1 << 30);
        let t = &T::on(Volume::made_on(device.clone()), FsOptions::default());
        let [main, mut trial] = two_lines(t);
        t.fs.commit().unwrap();
        let f = t.open(t.find(main.root, "large").unwrap(), RW);
        t.write(f, 0, &[7; 400_000]);
        let log_bytes = t.fs.volume().log_fill().1;
        std::thread::scope(|s| {
            device.hold(log_bytes);
            s.spawn(move || match by {
                "a commit" => t.fs.commit().unwrap(),
                _ => drop(t.fs.create_snapshot(b"now", Reason::User).unwrap()),
            });
            // What comes to be delayed now is left for the time when the gate is closed.
            device.await_held();
            t.write(f, 0, &[8; 5000]);
            device.let_one_go();
            device.await_held();
            let (sender, done) = std::sync::mpsc::channel();
            let root = trial.root;
            s.spawn(move || {
                rewrite(t, root, "blocks", &[9; 9000]);
                t.put(root, "new", b"x");
                sender.send(()).unwrap();
            });
            let went_on = done.recv_timeout(std::time::Duration::from_secs(20)).is_ok();
            let has_turn = t.head().gate.try_write().is_none();
            device.let_go();
            assert!(has_turn, "changes of the head itself wait");
            assert!(went_on, "{by} of one head holds up another");
        });
        trial.content[1].1 = vec![9; 9000];
        trial.content.push(("new".into(), b"x".to_vec()));
        compare(t, &trial);
        assert_eq!(t.read(f, 0, 8000)[4999..5001], [8, 7]);
        t.fs.commit().unwrap();
        t.prove();
    }
}

#[test]
fn what_a_head_held_back_goes_with_it_in_a_replay_too() {
    let sim = Arc::new(Sim::new(1 << 30, 1));
    let t = T::on(Volume::made_on(sim.clone()), FsOptions::default());
    let lines = two_lines(&t);
    let volume = t.fs.volume();
    let trial = volume.find_line(b"trial").unwrap();
    volume.rollback(trial.id, trial.origin.unwrap(), (5, 0)).unwrap();
    volume.sync().unwrap();
    let t = reopened(Arc::new(sim.crash(CrashPolicy::DropAll)));
    compare(&t, &lines[0]);
    let content = [("small", 10), ("blocks", 5000), ("large", 300_000)].map(|(n, l)| (n.into(), vec![1; l]));
    compare(&t, &Line { root: lines[1].root, content: content.to_vec() });
    t.prove();
    assert!(t.fs.volume().drop_line(trial.id).is_ok());
}

#[test]
fn what_is_open_keeps_the_numbers_of_a_dropped_line() {
    let t = T::new();
    let [main, line] = two_lines(&t);
    let f = t.open(t.find(line.root, "large").unwrap(), RW);
    let (dir, snapdir) = (line.root, NodeId::snapdir(line.root.slot(), 1));
    let dirs = [dir, snapdir].map(|node| (node, t.fs.opendir(&USER, node).unwrap()));
    t.fs.commit().unwrap();
    t.fs.drop_line(line.root).unwrap();
    let slot = crate::format::Slot(line.root.slot());
    let commits = || {
        for n in 0..3 {
            rewrite(&t, main.root, "small", &[n; 10]);
            t.fs.commit().unwrap();
        }
    };
    commits();
    assert!(!t.fs.volume().is_free(slot));
    let mut out = [0; 10];
    assert_eq!(t.fs.read(f.0, f.1, 0, &mut out), Err(Error::Stale));
    assert_eq!(t.fs.getattr(f.0, Some(f.1)), Err(Error::Stale));
    assert_eq!(t.fs.write(f.0, f.1, 0, b"late", false), Err(Error::Stale));
    for (node, handle) in dirs {
        assert_eq!(t.fs.readdir(node, handle, 0, true, &mut |_| true), Err(Error::Stale));
        t.fs.releasedir(node, handle);
    }
    commits();
    assert!(!t.fs.volume().is_free(slot), "the file is open");
    t.fs.release(f.0, f.1);
    commits();
    assert!(t.fs.volume().is_free(slot));
}

#[test]
fn each_line_shows_its_own_past() {
    let t = T::new();
    let [_, line] = two_lines(&t);
    let trial = NodeId::snapdir(line.root.slot(), 1);
    assert_eq!(t.find(line.root, ".snapshots"), Ok(trial));
    assert_eq!(t.find(trial, ".."), Ok(line.root));
    for (snapdir, byte) in [(SNAPDIR, 2), (trial, 3)] {
        let s = t.mkdir(snapdir, "same name").unwrap();
        assert_eq!(t.cat(s, "blocks"), vec![byte; 5000]);
        assert_eq!(t.find(s, ".."), Ok(snapdir));
    }
    let later = t.mkdir(trial, "later").unwrap();
    assert_eq!(t.list(SNAPDIR), ["s", "same name"]);
    assert_eq!(t.list(trial), ["s", "same name", "later"], "with what it has from its origin");
    assert_eq!(t.find(trial, "@latest").map(NodeId::slot), Ok(later.slot()));
    assert_eq!(t.find(SNAPDIR, "later"), Err(Error::NotFound));
    assert_eq!([SNAPDIR, trial].map(|node| t.attr(node).nlink), [4, 4]);

    // Each is changed through its own line.
    assert_eq!(t.fs.rmdir(&USER, trial, b"s"), Err(Error::NotPermitted));
    let rename = |from, name: &[u8], to| t.fs.rename(&USER, from, name, to, b"new", RenameMode::Replace);
    assert_eq!(rename(trial, b"s", trial), Err(Error::NotPermitted));
    assert_eq!(rename(trial, b"later", SNAPDIR), Err(Error::CrossView));
    assert_eq!(rename(trial, b"later", trial), Ok(()));
    assert_eq!(t.fs.rmdir(&USER, SNAPDIR, b"new"), Err(Error::NotFound));
    assert_eq!(t.fs.rmdir(&USER, trial, b"same name"), Ok(()));
    assert_eq!(
        (t.list(SNAPDIR), t.list(trial)),
        (vec!["s".into(), "same name".into()], vec!["s".into(), "new".into()])
    );
    t.fs.commit().unwrap();
    t.prove();
}

/// A kernel that notes which names it is told to drop.
#[derive(Default)]
struct Drops(Mutex<Vec<(NodeId, Vec<u8>)>>);

impl Kernel for Drops {
    fn write_back(&self, _nodes: &[(NodeId, u64)]) -> std::io::Result<()> {
        Ok(())
    }
    fn invalidate_node(&self, _node: NodeId) {}
    fn invalidate_entry(&self, parent: NodeId, name: &[u8]) {
        self.0.lock().push((parent, name.to_vec()));
    }
}

#[test]
fn names_are_dropped_where_they_are_gone_and_nowhere_else() {
    let t = T::new();
    let kernel = Arc::new(Drops::default());
    t.fs.set_kernel(kernel.clone());
    let [_, line] = two_lines(&t);
    let trial = t.find(line.root, ".snapshots").unwrap();
    let dir = t.mkdir(ROOT, "d").unwrap();
    let of_dir = t.find(dir, ".snapshots").unwrap();
    for snapdir in [SNAPDIR, trial] {
        t.mkdir(snapdir, "x").unwrap();
    }
    t.mkdir(SNAPDIR, "y").unwrap();
    let dropped = |name: &[u8]| {
        let mut dropped = std::mem::take(&mut *kernel.0.lock());
        dropped.sort_unstable();
        assert!(dropped.iter().all(|(_, dropped)| dropped == name));
        dropped.into_iter().map(|(parent, _)| parent).collect::<Vec<_>>()
    };
    // Refused, each for another reason.
    let alone = t.fs.standalone(b"y").unwrap();
    assert_eq!(t.fs.rmdir(&USER, SNAPDIR, b"y"), Err(Error::Busy));
    assert_eq!(t.fs.delete_snapshot(b"y"), Err(Error::Busy));
    drop(alone);
    assert_eq!(t.fs.rmdir(&USER, of_dir, b"y"), Err(Error::NotPermitted));
    assert_eq!(t.fs.rename(&USER, SNAPDIR, b"y", SNAPDIR, b"x", RenameMode::Replace), Err(Error::Exists));
    assert_eq!(t.fs.rmdir_at_once(&USER, SNAPDIR, b"y"), None, "others are known");
    assert_eq!(dropped(b"y"), [] as [NodeId; 0]);
    // Gone in one line, and there in the other. Where it was asked for the kernel sees to it.
    assert_eq!(t.fs.rmdir(&USER, SNAPDIR, b"x"), Ok(()));
    assert_eq!(dropped(b"x"), [of_dir]);
    assert_eq!(t.fs.rmdir(&USER, trial, b"x"), Ok(()));
    assert_eq!(dropped(b"x"), [SNAPDIR, of_dir]);
    t.fs.delete_snapshot(b"y").unwrap();
    assert_eq!(dropped(b"y"), [SNAPDIR, of_dir, trial]);
    // The kernel has forgotten all of them.
    for node in [of_dir, trial] {
        t.fs.forget_answers(node, 1);
    }
    t.mkdir(SNAPDIR, "z").unwrap();
    assert_eq!(t.fs.rmdir_at_once(&USER, SNAPDIR, b"z"), Some(Ok(())));
    assert_eq!(dropped(b"z"), [] as [NodeId; 0]);
}

#[test]
fn files_that_were_open_when_a_line_was_made_of_their_snapshot_go_from_it() {
    let t = T::new();
    let open: Vec<_> = (0..200).map(|n| t.create(ROOT, &format!("open {n}"))).collect();
    for f in &open {
        t.write(*f, 0, &[4; 20_000]);
        t.fs.unlink(&USER, ROOT, format!("open {}", f.0.ino() - open[0].0.ino()).as_bytes()).unwrap();
    }
    let from = t.fs.create_snapshot(b"s", Reason::User).unwrap();
    let root = t.fs.create_line(b"trial", from).unwrap();
    // One that is open in the line itself stays.
    let own = t.create(root, "own");
    t.write(own, 0, &[5; 20_000]);
    t.fs.unlink(&USER, root, b"own").unwrap();
    t.fs.commit().unwrap();
    let (head, _) = t.fs.heads.find(root).unwrap();
    let inodes = || {
        let items = t.fs.volume().live(head.line).unwrap();
        let all = Key::MIN..Key::MAX;
        items
            .range(&all.start, &all.end)
            .filter(|i| i.as_ref().unwrap().0.kind == crate::format::Kind::Inode as u8)
            .count()
    };
    assert_eq!(inodes(), 2 + open.len());
    for _ in 0..10 {
        t.fs.tick().unwrap();
    }
    assert_eq!(inodes(), 2, "the root, and the line's own");
    assert_eq!(*head.inherited.lock(), None);
    assert_eq!(t.read(own, 0, 20_000), [5; 20_000]);
    assert!(open.iter().all(|f| t.read(*f, 0, 20_000) == [4; 20_000]));
    t.prove();
    t.fs.release(own.0, own.1);
    t.fs.forget(own.0);
    assert_eq!(inodes(), 1);
}

#[test]
fn a_snapshot_whose_commit_fails_in_another_head_was_not_made() {
    let device = Moody::new(1 << 30);
    drop(Volume::made_on(device.clone()));
    let options = OpenOptions { access: Access::ReadWrite, cache_bytes: 0 };
    let t = T::on(Volume::open(device.clone(), options).unwrap(), FsOptions::default());
    let mut lines = two_lines(&t);
    spread(&t, &mut lines[1]);
    rewrite_blocks(&t, &mut lines[1], 7, 97);
    t.fill_log();
    device.go_bad(0);
    let made = t.fs.create_snapshot(b"now", Reason::User);
    assert!(device.get_well() && made.is_err(), "{made:?}");
    assert_eq!((t.list(SNAPDIR), t.fs.volume().read_only_reason()), (vec!["s".into()], None));
    lines.iter().for_each(|line| compare(&t, line));
    // The same of a clone.
    let clonedir = NodeId::clonedir(0);
    device.go_bad(0);
    let made = t.mkdir(clonedir, "now");
    assert!(device.get_well() && made.is_err(), "{made:?}");
    assert_eq!((t.list(clonedir), t.fs.volume().read_only_reason()), (vec!["trial".into()], None));
    assert_eq!((t.find(clonedir, "now"), t.fs.heads.all().len()), (Err(Error::NotFound), 2));
    lines.iter().for_each(|line| compare(&t, line));
    t.mkdir(clonedir, "now").unwrap();
    t.fs.create_snapshot(b"now", Reason::User).unwrap();
    t.fs.commit().unwrap();
    t.prove();
    lines.iter().for_each(|line| compare(&t, line));
}

/// A store with a line that has leaves of its own, of which both copies of one are spoilt: the first, or the last.
fn with_a_lost_leaf(first: bool) -> (Arc<Sim>, T, NodeId) {
    let sim = Arc::new(Sim::new(1 << 30, 1));
    let t = T::on(Volume::made_on(sim.clone()), FsOptions::default());
    for n in 0..300 {
        t.put(ROOT, &format!("f{n}"), b"1");
    }
    let from = t.fs.create_snapshot(b"s", Reason::User).unwrap();
    let root = t.fs.create_line(b"trial", from).unwrap();
    for n in 0..300 {
        t.put(root, &format!("g{n}"), b"2");
    }
    t.fs.commit().unwrap();
    let state = t.fs.volume().committed().unwrap();
    let newest = state.records.iter().map(|r| r.epoch).max().unwrap();
    let own = |r: &&ViewRecord| r.line != LineId::MAIN && r.line != LineId::NONE;
    let head = state.records.iter().find(own).unwrap();
    let mut leaves = Vec::new();
    let visit = &mut |visit: Visit<'_>| {
        if let Visit::Node(ptr, _, 0) = visit {
            leaves.push(*ptr);
        }
        Ok(Step::Into)
    };
    walk(&state.pager, &head.root.unwrap(), newest, visit).unwrap();
    let lost = if first { leaves[0] } else { *leaves.last().unwrap() };
    for at in [lost.addr, lost.copy] {
        sim.corrupt(at.0, NODE_BYTES as u64, 7);
    }
    (sim, t, root)
}

fn mounted_again(sim: &Arc<Sim>) -> T {
    let options = OpenOptions { access: Access::ReadWrite, cache_bytes: 1 << 20 };
    let t = T::on(Volume::open(sim.clone(), options).unwrap(), FsOptions::default());
    assert_eq!(t.fs.volume().read_only_reason(), None);
    t
}

#[test]
fn a_line_that_is_damaged_can_be_dropped() {
    let (sim, t, root) = with_a_lost_leaf(false);
    t.fs.drop_line(root).unwrap();
    for _ in 0..4 {
        t.fs.commit().unwrap();
    }
    assert!(!t.fs.volume().has_background_work());
    drop(t);
    let t = mounted_again(&sim);
    assert_eq!(t.fs.volume().lines().len(), 1);
    t.put(ROOT, "new", b"new");
    t.fs.close().unwrap();
}

#[test]
fn a_line_that_is_damaged_keeps_nobody_from_mounting() {
    let (sim, t, _) = with_a_lost_leaf(true);
    t.fs.tick().unwrap();
    drop(t);
    let t = mounted_again(&sim);
    t.put(ROOT, "new", b"new");
    t.fs.tick().unwrap();
    t.fs.close().unwrap();
}

#[test]
fn snapshots_that_went_with_their_line_are_told_to_lines_that_show_them() {
    let t = T::new();
    let kernel = Arc::new(Drops::default());
    t.fs.set_kernel(kernel.clone());
    let [_, line] = two_lines(&t);
    t.mkdir(t.find(line.root, ".snapshots").unwrap(), "own").unwrap();
    let trial = t.fs.line_at(line.root).unwrap();
    let from = t.fs.volume().find_snapshot(trial, b"own").unwrap();
    let heir = t.fs.create_line(b"heir", from.id).unwrap();
    let of_heir = t.find(heir, ".snapshots").unwrap();
    t.find(of_heir, "own").unwrap();
    kernel.0.lock().clear();
    t.fs.drop_line(line.root).unwrap();
    assert!(kernel.0.lock().contains(&(of_heir, b"own".to_vec())));
    assert!(t.find(of_heir, "own").is_err());
}
