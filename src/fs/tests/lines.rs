//! Several writable trees at once: the same inode numbers, content that waits in each, commits, points and crashes.

use super::super::SnapshotCreator;
use super::device::Moody;
use super::*;
use crate::device::{CrashPolicy, Sim};
use crate::fixtures::open;
use crate::volume::{Access, OpenOptions};

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
    let from = t.fs.create_snapshot(b"s", SnapshotCreator::User).unwrap();
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
    t.fs.create_snapshot_of(lines[1].root, b"of the trial", SnapshotCreator::User).unwrap();
    t.fs.create_snapshot(b"of the main line", SnapshotCreator::User).unwrap();
    let volume = t.fs.volume();
    let [main, trial] = [b"of the main line".as_slice(), b"of the trial"];
    for (name, byte) in [(main, 2), (trial, 3)] {
        let line = if name == main { 1 } else { 2 };
        let info = volume.find_snapshot(crate::format::LineId(line), name).unwrap();
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

/// Each read that brings the heads together fails in its turn, and all that follow.
#[test]
fn what_fails_in_one_head_leaves_all_of_them_as_they_were() {
    let device = Moody::new(1 << 30);
    drop(Volume::made_on(device.clone()));
    // Nothing stays in memory, so that each commit reads again.
    let options = OpenOptions { access: Access::ReadWrite, cache_bytes: 0 };
    let t = T::on(Volume::open(device.clone(), options).unwrap(), FsOptions::default());
    let mut lines = two_lines(&t);
    // A file whose extents are in many leaves: each other block was written anew.
    const BLOCKS: usize = 2000;
    let rewrite_blocks = |line: &mut Line, byte: u8, step: usize| {
        let f = t.open(t.find(line.root, "large").unwrap(), RW);
        for at in (0..BLOCKS).step_by(step).map(|n| n * 4096) {
            t.write(f, at as u64, &[byte; 4096]);
            line.content[2].1.resize(BLOCKS * 4096, byte);
            line.content[2].1[at..at + 4096].fill(byte);
        }
        t.fs.release(f.0, f.1);
    };
    for line in &mut lines {
        rewrite_blocks(line, 1, 1);
        t.fs.commit().unwrap();
        rewrite_blocks(line, 2, 2);
        t.fs.commit().unwrap();
    }
    let (heads, volume) = (t.fs.heads.all(), t.fs.volume());
    let mut failed = 0;
    for round in 0.. {
        for line in &mut lines {
            rewrite_blocks(line, round as u8, 97);
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
                _ => drop(t.fs.create_snapshot(b"now", SnapshotCreator::User).unwrap()),
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
            assert!(t.head().gate.try_read().is_none(), "the gate of the other is closed");
            device.let_go();
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
