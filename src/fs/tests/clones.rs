//! `.clones`: making, finding, listing, renaming, dropping; exactness, crashes, cost; what is refused.

use super::super::{ClonedirMode, Reason};
use super::*;
use crate::device::{CrashPolicy, Sim};
use crate::volume::{Access, OpenOptions};
use parking_lot::Mutex;

const CLONEDIR: NodeId = NodeId::clonedir(0);

fn reopened(sim: Arc<Sim>) -> T {
    let options = OpenOptions { access: Access::ReadWrite, cache_bytes: 1 << 20 };
    T::on(Volume::open(sim, options).unwrap(), FsOptions::default())
}

/// A main line with a small, a delayed and a large file.
fn filled(t: &T) {
    for (name, len) in [("small", 10), ("blocks", 5000), ("large", 300_000)] {
        t.put(ROOT, name, &vec![1; len]);
    }
}

fn rewrite(t: &T, dir: NodeId, name: &str, data: &[u8]) {
    let f = t.open(t.find(dir, name).unwrap(), RW);
    t.resize(f.0, 0);
    t.write(f, 0, data);
    t.fs.release(f.0, f.1);
}

fn is_filled(t: &T, dir: NodeId) -> bool {
    [("small", 10), ("blocks", 5000), ("large", 300_000)]
        .into_iter()
        .all(|(name, len)| t.cat(dir, name) == vec![1; len])
}

#[test]
fn a_clone_begins_as_its_line_is_and_goes_its_own_way() {
    let t = T::new();
    filled(&t);
    assert_eq!(t.find(ROOT, ".clones"), Ok(CLONEDIR));
    let x = t.mkdir(CLONEDIR, "x").unwrap();
    assert!(x.is_live() && x.ino() == 1 && x != ROOT);
    rewrite(&t, ROOT, "large", b"main");
    rewrite(&t, x, "small", b"x");
    for _ in 0..3 {
        assert_eq!((t.cat(ROOT, "large"), t.cat(ROOT, "small")), (b"main".to_vec(), vec![1; 10]));
        assert_eq!((t.cat(x, "large"), t.cat(x, "small")), (vec![1; 300_000], b"x".to_vec()));
        t.fs.commit().unwrap();
        t.prove();
    }
    // The point that it began as is nobody's.
    let snapdir = t.find(x, ".snapshots").unwrap();
    assert!(t.list(SNAPDIR).is_empty() && t.list(snapdir).is_empty());
    t.mkdir(snapdir, "of x").unwrap();
    assert_eq!((t.list(SNAPDIR).len(), t.list(snapdir)), (0, vec!["of x".into()]));
    // A clone of the clone, through its own directory.
    let of_x = t.find(x, ".clones").unwrap();
    let y = t.mkdir(of_x, "y").unwrap();
    assert_eq!(t.cat(y, "small"), b"x");
    assert_eq!(t.find(CLONEDIR, "y"), Ok(y));
    let past = t.find(y, ".snapshots").unwrap();
    assert_eq!(t.list(past), ["of x"], "what it has in common with its origin");
    assert_eq!(t.fs.rmdir(&USER, past, b"of x"), Err(Error::NotPermitted));
    assert_eq!((t.list(CLONEDIR), t.list(of_x)), (vec!["x".into(), "y".into()], vec!["y".into()]));
    t.fs.commit().unwrap();
    t.prove();
    // The origin goes, and what came of it stays.
    t.fs.rmdir(&USER, CLONEDIR, b"x").unwrap();
    assert_eq!((t.cat(y, "small"), t.list(CLONEDIR)), (b"x".to_vec(), vec!["y".into()]));
    t.fs.commit().unwrap();
    t.prove();
    assert_eq!(t.cat(y, "large"), vec![1; 300_000]);
}

#[test]
fn names_of_clones() {
    let t = T::new();
    filled(&t);
    let x = t.mkdir(CLONEDIR, "x").unwrap();
    t.mkdir(CLONEDIR, "y").unwrap();
    let of_x = t.find(x, ".clones").unwrap();
    for (name, error) in [
        (&b".x"[..], Error::Invalid),
        (b"@x", Error::Invalid),
        (b"x", Error::Exists),
        (&[b'n'; 256], Error::NameTooLong),
    ] {
        for dir in [CLONEDIR, of_x] {
            assert_eq!(t.fs.mkdir(&USER, dir, name, 0o755).map(drop), Err(error.clone()), "{name:?}");
            let rename = t.fs.rename(&USER, dir, b"y", dir, name, RenameMode::Replace);
            assert_eq!(rename, Err(error.clone()), "{name:?}");
        }
    }
    assert!(t.mkdir(CLONEDIR, &"n".repeat(255)).is_ok());
    assert_eq!(t.find(of_x, "x"), Err(Error::NotFound), "no directory is in itself");
    assert_eq!(t.fs.rmdir(&USER, of_x, b"x"), Err(Error::Busy));
    assert_eq!(t.fs.rmdir(&USER, CLONEDIR, b"none"), Err(Error::NotFound));
    for mode in [RenameMode::Exchange, RenameMode::Whiteout] {
        assert_eq!(t.fs.rename(&USER, CLONEDIR, b"x", CLONEDIR, b"z", mode), Err(Error::Invalid));
    }
    assert_eq!(t.fs.rename(&USER, CLONEDIR, b"x", CLONEDIR, b"z", RenameMode::NoReplace), Ok(()));
    assert_eq!((t.find(CLONEDIR, "x"), t.find(CLONEDIR, "z")), (Err(Error::NotFound), Ok(x)));
    let replace = RenameMode::Replace;
    for (from, name, to) in [(CLONEDIR, "z", ROOT), (ROOT, "small", CLONEDIR), (CLONEDIR, "z", of_x)] {
        assert_eq!(t.fs.rename(&USER, from, name.as_bytes(), to, b"n", replace), Err(Error::CrossView));
    }
    // Nothing else is made there.
    let made = t.fs.create(&USER, CLONEDIR, b"f", 0o644, RW).map(drop);
    assert_eq!(made, Err(Error::NotPermitted));
    assert_eq!(t.fs.symlink(&USER, CLONEDIR, b"l", b"x").map(drop), Err(Error::NotPermitted));
    assert_eq!(t.fs.unlink(&USER, CLONEDIR, b"z"), Err(Error::NotPermitted));
    // It is in roots alone, never listed, and nothing else has its name there.
    let dir = t.mkdir(ROOT, "d").unwrap();
    assert_eq!((t.find(dir, ".clones"), t.list(ROOT).len()), (Err(Error::NotFound), 4));
    t.put(dir, ".clones", b"a file");
    for root in [ROOT, x] {
        assert_eq!(t.mkdir(root, ".clones"), Err(Error::Exists));
        assert_eq!(t.fs.rmdir(&USER, root, b".clones"), Err(Error::NotPermitted));
    }
    assert_eq!((t.find(x, ".."), t.find(of_x, "..")), (Ok(CLONEDIR), Ok(x)));
    assert_eq!((t.attr(CLONEDIR).nlink, t.attr(CLONEDIR).uid), (5, t.attr(ROOT).uid));
    t.fs.commit().unwrap();
    t.prove();
}

#[test]
fn where_it_is_disabled_its_name_is_one_like_others() {
    let t = T::with(1 << 40, FsOptions { clonedir: ClonedirMode::Disabled, ..FsOptions::default() });
    assert_eq!(t.find(ROOT, ".clones"), Err(Error::NotFound));
    t.put(ROOT, ".clones", b"a file");
    assert_eq!((t.cat(ROOT, ".clones"), t.list(ROOT)), (b"a file".to_vec(), vec![".clones".into()]));
}

#[test]
fn clones_are_there_after_a_crash_and_gone_when_they_were_dropped() {
    for committed in [false, true] {
        let sim = Arc::new(Sim::new(1 << 30, 1));
        let t = T::on(Volume::made_on(sim.clone()), FsOptions::default());
        filled(&t);
        for name in ["gone", "x", "old"] {
            t.mkdir(CLONEDIR, name).unwrap();
        }
        if committed {
            t.fs.commit().unwrap();
        }
        rewrite(&t, ROOT, "small", b"main");
        let y = t.mkdir(t.find(t.find(CLONEDIR, "x").unwrap(), ".clones").unwrap(), "y").unwrap();
        rewrite(&t, y, "small", b"y");
        t.fs.rmdir(&USER, CLONEDIR, b"gone").unwrap();
        t.fs.rename(&USER, CLONEDIR, b"old", CLONEDIR, b"new", RenameMode::Replace).unwrap();
        let x = t.find(CLONEDIR, "x").unwrap();
        let t = reopened(Arc::new(sim.crash(CrashPolicy::DropAll)));
        assert_eq!(t.list(CLONEDIR), ["x", "new", "y"], "{committed}");
        assert_eq!(t.find(CLONEDIR, "x"), Ok(x), "the same number");
        assert!(["x", "new"].iter().all(|name| is_filled(&t, t.find(CLONEDIR, name).unwrap())));
        assert_eq!(t.cat(ROOT, "small"), b"main");
        for _ in 0..3 {
            t.fs.commit().unwrap();
            t.prove();
        }
        assert!(t.list(SNAPDIR).is_empty() && !t.fs.volume().has_background_work());
    }
}

/// A kernel that notes of which nodes it is told to drop what it has.
#[derive(Default)]
struct Drops(Mutex<Vec<NodeId>>);

impl Kernel for Drops {
    fn write_back(&self, _nodes: &[(NodeId, u64)]) -> std::io::Result<()> {
        Ok(())
    }
    fn invalidate_node(&self, node: NodeId) {
        self.0.lock().push(node);
    }
    fn invalidate_entry(&self, parent: NodeId, _name: &[u8]) {
        self.0.lock().push(parent);
    }
}

#[test]
fn what_is_open_in_a_dropped_clone_is_stale_and_its_space_comes_back() {
    let t = T::new();
    let kernel = Arc::new(Drops::default());
    t.fs.set_kernel(kernel.clone());
    filled(&t);
    t.fs.commit().unwrap();
    let before = t.fs.volume().space().used;
    let x = t.mkdir(CLONEDIR, "x").unwrap();
    t.put(x, "own", &[7; 5 << 20]);
    t.mkdir(t.find(x, ".snapshots").unwrap(), "s").unwrap();
    rewrite(&t, x, "own", &[8; 3 << 20]);
    let open = t.open(t.find(x, "own").unwrap(), RW);
    let dir = t.fs.opendir(&USER, x).unwrap();
    t.fs.commit().unwrap();
    let kept = t.fs.volume().find_line(b"x").unwrap();
    t.fs.rmdir(&USER, CLONEDIR, b"x").unwrap();
    assert_eq!(*kernel.0.lock(), [x, open.0, SNAPDIR], "pages of what is open, and of what counts snapshots");
    let mut out = [0; 9];
    assert_eq!(t.fs.read(open.0, open.1, 0, &mut out), Err(Error::Stale));
    assert_eq!(t.fs.write(open.0, open.1, 0, b"late", false), Err(Error::Stale));
    assert_eq!(t.fs.getattr(open.0, Some(open.1)).map(drop), Err(Error::Stale));
    assert_eq!(t.fs.readdir(x, dir, 0, true, &mut |_| true), Err(Error::Stale));
    assert_eq!(t.find(x, "own"), Err(Error::Stale));
    // Its number is nobody else's as long as somebody has it.
    let y = t.mkdir(CLONEDIR, "y").unwrap();
    assert!(y.slot() != kept.slot.0);
    t.fs.rmdir(&USER, CLONEDIR, b"y").unwrap();
    t.fs.release(open.0, open.1);
    t.fs.releasedir(x, dir);
    for _ in 0..6 {
        t.fs.commit().unwrap();
        t.prove();
    }
    assert!(!t.fs.volume().has_background_work());
    let after = t.fs.volume().space().used;
    assert!(after <= before + (1 << 20), "{before} {after}");
    // Commands are no requests of the kernel's.
    kernel.0.lock().clear();
    t.mkdir(CLONEDIR, "z").unwrap();
    t.fs.rename_clone(b"z", b"zz").unwrap();
    t.fs.drop_clone(b"zz").unwrap();
    assert_eq!(*kernel.0.lock(), [CLONEDIR; 2]);
}

#[test]
fn a_clone_whose_record_does_not_fit_is_made_by_a_commit() {
    let t = T::new();
    filled(&t);
    t.fill_log();
    let before = t.fs.commits.started();
    t.mkdir(CLONEDIR, "x").unwrap();
    assert!(t.fs.commits.started() > before);
    t.prove();
    assert!(t.list(CLONEDIR) == ["x"] && is_filled(&t, t.find(CLONEDIR, "x").unwrap()));
}

#[test]
fn a_clone_whose_record_does_not_fit_is_renamed_and_dropped_by_a_commit() {
    let t = T::new();
    filled(&t);
    t.mkdir(CLONEDIR, "x").unwrap();
    t.fill_log();
    let before = t.fs.commits.started();
    t.fs.rename(&USER, CLONEDIR, b"x", CLONEDIR, b"y", RenameMode::NoReplace).unwrap();
    assert!(t.fs.commits.started() > before);
    assert_eq!(t.list(CLONEDIR), ["y"]);
    t.fill_log();
    let before = t.fs.commits.started();
    t.fs.rmdir(&USER, CLONEDIR, b"y").unwrap();
    assert!(t.fs.commits.started() > before && t.list(CLONEDIR).is_empty());
    t.prove();
}

#[test]
fn nothing_is_made_on_a_store_that_takes_no_changes_or_is_full() {
    let device = Arc::new(Sim::new(1 << 30, 1));
    let t = T::on(Volume::made_on(device.clone()), FsOptions::default());
    filled(&t);
    t.mkdir(CLONEDIR, "x").unwrap();
    t.fs.close().unwrap();
    let options = OpenOptions { access: Access::ReadOnly, cache_bytes: 1 << 20 };
    let volume = Volume::open(device, options).unwrap();
    let t = T::on(volume, FsOptions { read_only: true, ..FsOptions::default() });
    assert_eq!(t.mkdir(CLONEDIR, "y"), Err(Error::ReadOnly));
    assert_eq!(t.fs.rmdir(&USER, CLONEDIR, b"x"), Err(Error::ReadOnly));
    let rename = t.fs.rename(&USER, CLONEDIR, b"x", CLONEDIR, b"y", RenameMode::Replace);
    assert_eq!(rename, Err(Error::ReadOnly));
    let x = t.find(CLONEDIR, "x").unwrap();
    assert!(is_filled(&t, x));
    assert_eq!(t.fs.create(&USER, x, b"f", 0o644, RW).map(drop), Err(Error::ReadOnly));

    let t = T::with(64 << 20, FsOptions::default());
    let mut n = 0;
    while t.fs.create(&USER, ROOT, format!("f{n}").as_bytes(), 0o644, RW).is_ok_and(|(e, h)| {
        let written = t.fs.write(e.attr.node, h, 0, &[n as u8; 1 << 20], false).is_ok();
        t.fs.release(e.attr.node, h);
        written
    }) {
        n += 1;
    }
    let mut made = Vec::new();
    // A clone takes next to nothing; whether one is made or refused, all of it is.
    for n in 0..100 {
        match t.mkdir(CLONEDIR, &format!("c{n}")) {
            Ok(_) => made.push(format!("c{n}")),
            Err(e) => {
                assert_eq!(e, Error::NoSpace);
                break;
            }
        }
    }
    assert_eq!(t.list(CLONEDIR), made);
    made.iter().for_each(|name| t.fs.rmdir(&USER, CLONEDIR, name.as_bytes()).unwrap());
    t.fs.commit().unwrap();
    t.prove();
}

#[test]
fn the_first_clone_costs_what_the_last_of_many_does() {
    let t = T::new();
    filled(&t);
    for n in 0..500 {
        t.put(ROOT, &format!("file {n}"), &[2; 100]);
    }
    t.fs.commit().unwrap();
    let calls = |name: &str| {
        let before = t.fs.volume().io();
        t.mkdir(CLONEDIR, name).unwrap();
        let after = t.fs.volume().io();
        (after.reads - before.reads, after.writes - before.writes, after.flushes - before.flushes)
    };
    let first = calls("first");
    assert!(first.0 == 0 && first.1 <= 2 && first.2 == 1, "{first:?}");
    for n in 0..300 {
        t.mkdir(CLONEDIR, &format!("c{n}")).unwrap();
    }
    t.fs.commit().unwrap();
    assert_eq!(calls("last"), first);
    assert_eq!(t.list(CLONEDIR).len(), 302);
    t.fs.commit().unwrap();
    t.prove();
    for name in t.list(CLONEDIR) {
        t.fs.rmdir(&USER, CLONEDIR, name.as_bytes()).unwrap();
    }
    for _ in 0..30 {
        t.fs.commit().unwrap();
    }
    t.prove();
    assert_eq!(crate::check::check(t.fs.volume(), crate::check::Depth::Data).unwrap().views, 1);
}

#[test]
fn clones_of_a_line_at_rest_have_one_point_in_common() {
    let sim = Arc::new(Sim::new(1 << 30, 1));
    let mut t = T::on(Volume::made_on(sim.clone()), FsOptions::default());
    filled(&t);
    let views = |t: &T| crate::check::check(t.fs.volume(), crate::check::Depth::Data).unwrap().views;
    for n in 0..30 {
        t.mkdir(CLONEDIR, &format!("c{n}")).unwrap();
        if n % 7 == 6 {
            t.fs.commit().unwrap();
        }
    }
    t.fs.commit().unwrap();
    assert_eq!(views(&t), 32, "heads, and a point that is hidden");
    // On what only the log tells of, on what is hidden, and on a snapshot.
    for round in 0..3 {
        let name = format!("r{round}");
        t.mkdir(CLONEDIR, &name).unwrap();
        t.mkdir(t.find(t.find(CLONEDIR, &name).unwrap(), ".clones").unwrap(), &format!("of {name}")).unwrap();
        t = reopened(Arc::new(sim.crash(CrashPolicy::DropAll)));
        t.fs.commit().unwrap();
        t.prove();
        assert!(t.list(CLONEDIR).iter().all(|name| is_filled(&t, t.find(CLONEDIR, name).unwrap())));
        assert_eq!(views(&t), 34);
    }
    let x = t.find(CLONEDIR, "c3").unwrap();
    t.mkdir(t.find(x, ".snapshots").unwrap(), "s").unwrap();
    let y = t.mkdir(t.find(x, ".clones").unwrap(), "y").unwrap();
    assert_eq!(t.list(t.find(y, ".snapshots").unwrap()), ["s"]);
    rewrite(&t, x, "large", b"x");
    t.fs.commit().unwrap();
    assert!(is_filled(&t, y) && views(&t) == 36, "{}", views(&t));
    // The line that the point was made of goes on, and so do all others.
    rewrite(&t, ROOT, "small", b"main");
    t.fs.rmdir(&USER, CLONEDIR, b"c3").unwrap();
    t.mkdir(CLONEDIR, "z").unwrap();
    for name in t.list(CLONEDIR).into_iter().filter(|name| name != "z" && name != "y") {
        t.fs.rmdir(&USER, CLONEDIR, name.as_bytes()).unwrap();
        t.fs.commit().unwrap();
        t.prove();
    }
    assert!(is_filled(&t, y) && t.cat(t.find(CLONEDIR, "z").unwrap(), "small") == b"main");
}

#[test]
fn a_clone_of_a_snapshot_outlives_it() {
    let t = T::new();
    filled(&t);
    let from = t.fs.create_snapshot(b"s", Reason::User).unwrap();
    rewrite(&t, ROOT, "small", b"main");
    let x = t.fs.create_line(b"x", from).unwrap();
    t.fs.rmdir(&USER, SNAPDIR, b"s").unwrap();
    for _ in 0..3 {
        t.fs.commit().unwrap();
        t.prove();
        assert!(is_filled(&t, x) && t.find(CLONEDIR, "x") == Ok(x));
    }
}

#[test]
fn copies_between_lines_share_blocks() {
    let t = T::new();
    let content: Vec<u8> = (0..1_000_000u64).map(|n| ((n * n) >> 7) as u8).collect();
    let source = t.put(ROOT, "source", &content);
    let x = t.mkdir(CLONEDIR, "x").unwrap();
    let of_x = t.find(x, "source").unwrap();
    let copy = |from: NodeId, to: NodeId, name: &str| {
        let (from, to) = (t.open(from, RO), t.create(to, name));
        let len = content.len() as u64;
        assert_eq!(t.fs.copy_range(&USER, from.0, from.1, 0, to.0, to.1, 0, len), Ok(len));
        for (node, handle) in [from, to] {
            t.fs.release(node, handle);
        }
    };
    t.fs.commit().unwrap();
    let before = t.fs.volume().space().used;
    copy(source, x, "from main");
    copy(of_x, ROOT, "from x");
    copy(t.find(x, "from main").unwrap(), ROOT, "and back");
    // Content that waits in the other line.
    let f = t.open(of_x, RW);
    t.write(f, 8192, &[5; 4096]);
    copy(of_x, ROOT, "changed");
    let mut changed = content.clone();
    changed[8192..12288].fill(5);
    let y = t.mkdir(CLONEDIR, "y").unwrap();
    for round in 0..4 {
        t.fs.commit().unwrap();
        t.prove();
        for dir in [ROOT, y] {
            for name in ["source", "from x", "and back"].into_iter().filter(|_| round < 3) {
                assert!(t.cat(dir, name) == content, "{name} {round}");
            }
            assert!(t.cat(dir, "changed") == changed, "{round}");
        }
        match round {
            0 => {
                let used = t.fs.volume().space().used;
                assert!(used < before + 400_000, "{before} {used}");
                t.fs.rmdir(&USER, CLONEDIR, b"x").unwrap();
            }
            1 => rewrite(&t, ROOT, "source", &content),
            2 => {
                for dir in [ROOT, y] {
                    for name in [&b"source"[..], b"from x", b"and back"] {
                        t.fs.unlink(&USER, dir, name).unwrap();
                    }
                }
            }
            _ => t.fs.rmdir(&USER, CLONEDIR, b"y").unwrap(),
        }
    }
    t.fs.commit().unwrap();
    t.prove();
    assert!(t.cat(ROOT, "changed") == changed);
}
