//! Names: creation, links, removal, rename, listing.

use super::*;
use crate::device::{Op, Persistence, Sim};
use std::collections::BTreeSet;

#[test]
fn create_find_list_remove() {
    let t = T::new();
    t.clock.advance(5_000_000_000);
    let d = t.mkdir(ROOT, "d").unwrap();
    t.put(d, "f", b"x");
    assert_eq!(t.list(ROOT), ["d"]);
    assert_eq!(t.attr(ROOT).nlink, 3);
    assert_eq!(t.attr(ROOT).mtime.secs, 1005);
    assert_eq!(t.find(d, ".."), Ok(ROOT));
    assert_eq!(t.find(d, "."), Ok(d));
    assert_eq!(t.find(d, "g"), Err(Error::NotFound));
    assert_eq!(t.find(d, &"n".repeat(256)), Err(Error::NameTooLong));
    assert_eq!(t.mkdir(ROOT, "d"), Err(Error::Exists));
    assert_eq!(t.mkdir(d, ".snapshots"), Err(Error::Exists));
    assert_eq!(t.fs.rmdir(&USER, ROOT, b"d"), Err(Error::NotEmpty));
    assert_eq!(t.fs.rmdir(&USER, d, b"f"), Err(Error::NotADirectory));
    assert_eq!(t.fs.unlink(&USER, ROOT, b"d"), Err(Error::IsADirectory));
    assert_eq!(t.fs.unlink(&USER, d, b"f"), Ok(()));
    assert_eq!(t.fs.rmdir(&USER, ROOT, b"d"), Ok(()));
    assert_eq!((t.attr(ROOT).nlink, t.attr(ROOT).size), (2, 0));
    assert_eq!(t.mkdir(d, "in a removed directory"), Err(Error::NotFound));
    assert_eq!(t.attr(d).nlink, 0);
    t.fs.forget(d);
    assert_eq!(t.fs.getattr(d, None).map(|_| ()), Err(Error::Stale));
}

#[test]
fn symlinks_and_nodes() {
    let t = T::new();
    let target = "t".repeat(4095);
    let link = t.fs.symlink(&USER, ROOT, b"l", target.as_bytes()).unwrap().attr;
    assert_eq!((link.size, link.kind, link.mode), (4095, FileType::Symlink, 0o777));
    assert_eq!(t.fs.readlink(link.node), Ok(target.clone().into_bytes()));
    let long = target + "t";
    assert_eq!(t.fs.symlink(&USER, ROOT, b"m", long.as_bytes()).map(|_| ()), Err(Error::NameTooLong));
    assert_eq!(t.fs.readlink(ROOT), Err(Error::NotASymlink));
    for (i, kind) in [FileType::Fifo, FileType::Socket, FileType::CharDevice, FileType::BlockDevice]
        .into_iter()
        .enumerate()
    {
        let e = t.fs.mknod(&USER, ROOT, format!("n{i}").as_bytes(), kind, 0o600, 77).unwrap();
        assert_eq!((e.attr.kind, e.attr.rdev), (kind, if i < 2 { 0 } else { 77 }));
    }
}

#[test]
fn hard_links() {
    let t = T::new();
    let f = t.put(ROOT, "a", b"same");
    let d = t.mkdir(ROOT, "d").unwrap();
    assert_eq!(t.fs.link(&USER, f, d, b"b").unwrap().attr.nlink, 2);
    assert_eq!(t.fs.link(&USER, f, d, b"b").map(|_| ()), Err(Error::Exists));
    assert_eq!(t.fs.link(&USER, d, ROOT, b"d2").map(|_| ()), Err(Error::NotPermitted));
    t.fs.unlink(&USER, ROOT, b"a").unwrap();
    assert_eq!((t.attr(f).nlink, t.cat(d, "b")), (1, b"same".to_vec()));
    t.fs.unlink(&USER, d, b"b").unwrap();
    assert_eq!(t.fs.link(&USER, f, d, b"c").map(|_| ()), Err(Error::NotFound));
}

#[test]
fn a_deleted_file_lives_while_open() {
    let t = T::new();
    let f = t.create(ROOT, "f");
    t.write(f, 0, &[7; 100_000]);
    t.fs.unlink(&USER, ROOT, b"f").unwrap();
    t.fs.commit().unwrap();
    t.write(f, 100_000, b"more");
    t.fs.forget(f.0);
    assert_eq!(t.read(f, 99_999, 100), b"\x07more");
    t.fs.commit().unwrap();
    assert!(t.fs.volume().live_blocks() > 0);
    t.fs.release(f.0, f.1);
    t.fs.commit().unwrap();
    assert_eq!(t.fs.volume().live_blocks(), 0);
    assert_eq!(t.fs.volume().live_items().len(), 1, "only the root is left");
}

#[test]
fn orphans_are_purged_at_open_and_close() {
    let t = T::new();
    for round in 0..2 {
        let f = t.create(ROOT, "f");
        t.write(f, 0, &[7; 300_000]);
        t.fs.unlink(&USER, ROOT, b"f").unwrap();
        t.fs.commit().unwrap();
        if round == 1 {
            t.fs.close().unwrap();
        } else {
            T::on(t.fs.volume().clone(), FsOptions::default());
        }
        assert_eq!((t.fs.volume().live_blocks(), t.fs.volume().live_items().len()), (0, 1));
    }
}

fn rename(t: &T, from: (NodeId, &str), to: (NodeId, &str), mode: RenameMode) -> Result<()> {
    t.fs.rename(&USER, from.0, from.1.as_bytes(), to.0, to.1.as_bytes(), mode)
}

#[test]
fn rename_table() {
    use RenameMode::*;
    let cases: &[(&str, &str, RenameMode, Result<()>)] = &[
        ("f", "new", Replace, Ok(())),
        ("f", "new", NoReplace, Ok(())),
        ("f", "new", Exchange, Err(Error::NotFound)),
        ("none", "new", Replace, Err(Error::NotFound)),
        ("f", "g", Replace, Ok(())),
        ("f", "g", NoReplace, Err(Error::Exists)),
        ("f", "g", Exchange, Ok(())),
        ("f", "new", Whiteout, Ok(())),
        ("f", "g", Whiteout, Ok(())),
        ("empty", "new", Whiteout, Ok(())),
        ("f", "d", Whiteout, Err(Error::IsADirectory)),
        ("f", "link", Replace, Ok(())),
        ("f", "link", NoReplace, Err(Error::Exists)),
        ("f", "d", Replace, Err(Error::IsADirectory)),
        ("f", "d", Exchange, Ok(())),
        ("d", "f", Replace, Err(Error::NotADirectory)),
        ("d", "empty", Replace, Ok(())),
        ("empty", "d", Replace, Err(Error::NotEmpty)),
        ("empty", "d", Exchange, Ok(())),
        ("d", "d", Replace, Ok(())),
        ("f", ".snapshots", Replace, Err(Error::Exists)),
        (".snapshots", "new", Replace, Err(Error::NotPermitted)),
    ];
    for (from, to, mode, expected) in cases {
        for across in [false, true] {
            let t = T::new();
            let (a, b) = (t.mkdir(ROOT, "a").unwrap(), t.mkdir(ROOT, "b").unwrap());
            let to_dir = if across { b } else { a };
            let f = t.put(a, "f", b"f");
            t.mkdir(a, "d").and_then(|d| t.mkdir(d, "sub")).unwrap();
            if across && ["d", "empty"].contains(from) {
                t.mkdir(b, "d").and_then(|d| t.mkdir(d, "sub")).unwrap();
            } else if across && *to == "d" {
                t.mkdir(b, "d").unwrap();
            }
            for dir in BTreeSet::from([a, to_dir]) {
                t.put(dir, "g", b"g");
                t.mkdir(dir, "empty").unwrap();
                t.fs.link(&USER, f, dir, b"link").unwrap();
            }
            if across && *to == "f" {
                t.put(b, "f", b"F");
            }
            if across && (*from, *to) == ("d", "d") {
                continue;
            }
            let before = t.find(a, from).ok();
            let result = rename(&t, (a, from), (to_dir, to), *mode);
            assert_eq!(&result, expected, "{from} {to} {mode:?} {across}");
            let moved = result.is_ok() && (*to != "link") && from != to;
            if moved {
                assert_eq!(t.find(to_dir, to).ok(), before, "{from} {to} {mode:?} {across}");
                assert_eq!(t.find(a, from).is_ok(), [Exchange, Whiteout].contains(mode));
                if *mode == Whiteout {
                    let left = t.attr(t.find(a, from).unwrap());
                    assert_eq!((left.kind, left.rdev, left.mode), (FileType::CharDevice, 0, 0));
                }
            }
            for dir in [ROOT, a, b] {
                let names = t.list(dir);
                let nodes: Vec<_> = names.iter().map(|n| t.find(dir, n).unwrap()).collect();
                let subs = nodes.iter().filter(|n| t.attr(**n).kind == FileType::Directory);
                let up = subs.inspect(|n| assert_eq!(t.find(**n, ".."), Ok(dir))).count();
                assert_eq!(t.attr(dir).nlink as usize, 2 + up, "{from} {to} {mode:?} {across}");
                assert_eq!(t.attr(dir).size as usize, names.len());
            }
        }
    }
}

#[test]
fn a_directory_does_not_move_into_itself() {
    let t = T::new();
    let a = t.mkdir(ROOT, "a").unwrap();
    let b = t.mkdir(a, "b").unwrap();
    let c = t.mkdir(b, "c").unwrap();
    assert_eq!(rename(&t, (ROOT, "a"), (c, "x"), RenameMode::Replace), Err(Error::Invalid));
    assert_eq!(rename(&t, (ROOT, "a"), (a, "x"), RenameMode::Replace), Err(Error::Invalid));
    assert_eq!(rename(&t, (b, "c"), (ROOT, "a"), RenameMode::Exchange), Err(Error::Invalid));
    assert_eq!(rename(&t, (b, "c"), (ROOT, "c"), RenameMode::Replace), Ok(()));
    assert_eq!(t.find(c, ".."), Ok(ROOT));
}

#[test]
fn a_replaced_file_that_is_open_stays_readable() {
    let t = T::new();
    let old = t.create(ROOT, "old");
    t.write(old, 0, b"old");
    t.put(ROOT, "new", b"new");
    rename(&t, (ROOT, "new"), (ROOT, "old"), RenameMode::Replace).unwrap();
    assert_eq!((t.read(old, 0, 9), t.cat(ROOT, "old")), (b"old".to_vec(), b"new".to_vec()));
    assert_eq!(t.attr(old.0).nlink, 0);
}

#[test]
fn a_listing_survives_removals_and_additions() {
    let t = T::new();
    let d = t.mkdir(ROOT, "big").unwrap();
    let count = 100_000;
    for i in 0..count {
        t.fs.mknod(&USER, d, format!("file-{i}").as_bytes(), FileType::Regular, 0o644, 0).unwrap();
    }
    let handle = t.fs.opendir(&USER, d).unwrap();
    let mut seen = BTreeSet::new();
    let (mut after, mut round) = (0, 0);
    loop {
        let mut page = Vec::new();
        t.fs.readdir(d, handle, after, false, &mut |e| {
            if page.len() == 500 {
                return false;
            }
            page.push((e.name.clone(), e.cookie));
            true
        })
        .unwrap();
        let Some(last) = page.last() else { break };
        after = last.1;
        for (name, _) in page {
            assert!(seen.insert(name), "listed twice");
        }
        // Half of the files go while the listing is on its way, and others come.
        for i in (round * 500..(round + 1) * 500).filter(|i| i % 2 == 1 && *i < count) {
            t.fs.unlink(&USER, d, format!("file-{i}").as_bytes()).unwrap();
            t.fs.mknod(&USER, d, format!("new-{i}").as_bytes(), FileType::Regular, 0o644, 0).unwrap();
        }
        round += 1;
    }
    for i in (0..count).step_by(2) {
        assert!(seen.contains(format!("file-{i}").as_bytes()), "file-{i} was missed");
    }
}

#[test]
fn owners_groups_and_set_id_bits() {
    let t = T::new();
    let d = t.mkdir(ROOT, "d").unwrap();
    let chown = SetAttr { uid: Some(5), gid: Some(50), ..SetAttr::default() };
    t.fs.setattr(&SUPER, d, None, &SetAttr { mode: Some(0o2775), ..chown }).unwrap();
    let sub = t.fs.mkdir(&USER, d, b"s", 0o755).unwrap().attr;
    assert_eq!((sub.gid, sub.uid, sub.mode), (50, 1000, 0o2755));
    let f = t.create(d, "f");
    assert_eq!((t.attr(f.0).gid, t.attr(f.0).mode), (50, 0o644));
    let chmod = |mode| {
        t.fs.setattr(&USER, f.0, None, &SetAttr { mode: Some(mode), ..SetAttr::default() }).unwrap();
    };
    let capability = || {
        t.fs.setxattr(&SUPER, f.0, b"security.capability", b"c", XattrMode::Set).unwrap();
    };
    let gone = || assert_eq!(t.fs.getxattr(f.0, b"security.capability"), Err(Error::NoAttribute));
    chmod(0o6755);
    capability();
    t.fs.setattr(&SUPER, f.0, None, &chown).unwrap();
    assert_eq!(t.attr(f.0).mode, 0o755);
    gone();
    chmod(0o6745);
    capability();
    t.fs.write(f.0, f.1, 0, b"x", false).unwrap();
    assert_eq!(t.attr(f.0).mode, 0o6745);
    t.fs.write(f.0, f.1, 0, b"x", true).unwrap();
    assert_eq!(t.attr(f.0).mode, 0o2745, "set-group-id without group execution is mandatory locking");
    gone();
    chmod(0o6755);
    t.resize(f.0, 0);
    assert_eq!(t.attr(f.0).mode, 0o755);
}

#[test]
fn explicit_times() {
    let t = T::new();
    let f = t.put(ROOT, "f", b"x");
    let at = Timestamp { secs: -5, nanos: 999_999_999 };
    let set = SetAttr { atime: Some(SetTime::At(at)), mtime: Some(SetTime::Now), ..SetAttr::default() };
    t.clock.advance(1_000_000_000);
    let (attr, _) = t.fs.setattr(&USER, f, None, &set).unwrap();
    assert_eq!((attr.atime, attr.mtime.secs, attr.ctime.secs, attr.btime.secs), (at, 1001, 1001, 1000));
    assert_eq!(t.attr(f), attr);
}

#[test]
fn nodes_are_found_by_number() {
    let t = T::new();
    let d = t.mkdir(ROOT, "d").unwrap();
    let f = t.put(d, "f", b"f");
    let link = t.fs.symlink(&USER, d, b"l", b"x").unwrap().attr.node;
    for node in [d, f, link] {
        assert_eq!(t.find(node, "."), Ok(node));
    }
    assert_eq!((t.find(d, ".."), t.find(f, "..")), (Ok(ROOT), Err(Error::NotADirectory)));
    t.fs.unlink(&USER, d, b"f").unwrap();
    t.fs.forget(f);
    assert_eq!(t.find(f, "."), Err(Error::Stale));
}

#[test]
fn a_creation_that_finds_snapdir_counts_no_answer() {
    let t = T::new();
    let d = t.mkdir(ROOT, "d").unwrap();
    for (parent, exclusive) in [(ROOT, false), (d, false), (d, true)] {
        let flags = OpenFlags { exclusive, ..RW };
        let made = t.fs.create(&USER, parent, b".snapshots", 0o644, flags);
        let refused = if exclusive { Error::Exists } else { Error::IsADirectory };
        assert_eq!(made.map(drop), Err(refused));
    }
    assert_eq!(t.fs.past.known_snapdirs.all(), []);
    let known = t.find(d, ".snapshots").unwrap();
    assert_eq!(t.fs.past.known_snapdirs.all(), [known]);
    t.fs.forget_answers(known, 1);
    assert_eq!(t.fs.past.known_snapdirs.all(), []);
}

#[test]
fn what_the_log_did_not_take_is_not_answered_as_done() {
    type Request<'r> = &'r dyn Fn(&T, NodeId) -> Result<()>;
    let requests: [Request; 9] = [
        &|t, _| t.fs.create(&USER, ROOT, b"new", 0o644, RW).map(drop),
        &|t, _| t.fs.mkdir(&USER, ROOT, b"new", 0o755).map(drop),
        &|t, _| t.fs.symlink(&USER, ROOT, b"new", b"f").map(drop),
        &|t, f| t.fs.link(&USER, f, ROOT, b"new").map(drop),
        &|t, _| t.fs.rename(&USER, ROOT, b"f", ROOT, b"new", RenameMode::Replace),
        &|t, _| t.fs.unlink(&USER, ROOT, b"f"),
        &|t, f| t.fs.setattr(&USER, f, None, &SetAttr { size: Some(1), ..SetAttr::default() }).map(drop),
        &|t, _| t.fs.rename(&USER, SNAPDIR, b"s", SNAPDIR, b"new", RenameMode::Replace),
        &|t, _| t.fs.rmdir(&USER, SNAPDIR, b"s"),
    ];
    for (n, request) in requests.iter().enumerate() {
        let sim = Arc::new(Sim::new(1 << 30, 1));
        let t = T::on(Volume::made_on(sim.clone()), FsOptions::default());
        let f = t.put(ROOT, "f", b"content");
        t.snapshot("s");
        sim.fail(Op::Write, 1, Persistence::Once);
        let done = request(&t, f);
        assert_eq!(sim.faults_struck(), 1, "request {n}");
        assert!(matches!(done, Err(Error::Io(_))), "request {n}: {done:?}");
        // Nothing is accepted any more.
        assert_eq!(t.fs.create(&USER, ROOT, b"more", 0o644, RW).map(drop), Err(Error::ReadOnly));
    }
}
