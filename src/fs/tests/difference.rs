//! Differences between views: each kind of change, and random histories whose differences make the newer tree of the older.

use super::*;
use crate::format::dirent::NameBucket;
use crate::format::{Ino, Key, Kind};
use crate::fs::difference::{FilePair, file_pairs};
use crate::fs::items::{Items, read_blocks};
use crate::fs::{ChangeKind, PathChange, Reason};
use crate::volume::View;
use std::collections::{BTreeMap, BTreeSet};

/// The changes from one view to another as lines.
fn lines(t: &T, old: &str, new: &str) -> Vec<String> {
    t.changes(old, new).iter().map(line).collect()
}

pub(super) fn line(change: &PathChange) -> String {
    let text = |path: &[u8]| String::from_utf8(path.to_vec()).unwrap();
    let path = text(&change.path);
    match change.kind {
        ChangeKind::Added => format!("+ {path}"),
        ChangeKind::Removed => format!("- {path}"),
        ChangeKind::Renamed => format!("R {} -> {path}", text(change.path_before())),
        ChangeKind::Modified => {
            let size = |v: Option<crate::fs::FileVersion>| v.unwrap().size;
            let attributes = change.attributes.iter().map(|a| format!(" {a}")).collect::<String>();
            format!("M {path} {} -> {}{attributes}", size(change.old), size(change.new))
        }
        ChangeKind::Attributes => format!("A {path} {}", change.attributes.join(" ")),
    }
}

impl T {
    pub(super) fn changes(&self, old: &str, new: &str) -> Vec<PathChange> {
        let view = |word: &str| self.fs.view_of_word(ROOT, word.as_bytes()).unwrap();
        self.fs.compare(view(old), view(new), None).unwrap().changes
    }
    pub(super) fn mv(&self, from: (NodeId, &str), to: (NodeId, &str), mode: RenameMode) {
        self.fs.rename(&USER, from.0, from.1.as_bytes(), to.0, to.1.as_bytes(), mode).unwrap();
    }
    fn set(&self, node: NodeId, change: impl FnOnce(&mut SetAttr)) {
        let mut set = SetAttr::default();
        change(&mut set);
        self.fs.setattr(&SUPER, node, None, &set).unwrap();
    }
    pub(super) fn rm(&self, dir: NodeId, name: &str) {
        self.fs.unlink(&USER, dir, name.as_bytes()).unwrap();
    }
}

#[test]
fn each_kind_of_change_is_told() {
    let t = T::new();
    let [d, e] = ["d", "e"].map(|name| t.mkdir(ROOT, name).unwrap());
    let inside = t.mkdir(d, "inside").unwrap();
    for name in ["gone", "written", "swap1", "swap2", "moved", "linked", "two", "mode", "touched", "becomes"]
    {
        t.put(ROOT, name, name.as_bytes());
    }
    t.put(inside, "deep", b"deep");
    t.put(inside, "deeper", b"deeper");
    t.put(ROOT, "edited", b"before");
    t.fs.link(&USER, t.find(ROOT, "two").unwrap(), d, b"two-too").unwrap();
    t.snapshot("a");
    assert_eq!(lines(&t, "a", "@live"), [""; 0]);
    t.clock.advance(1_000_000_000);
    t.rm(ROOT, "gone");
    t.put(ROOT, "new", b"new");
    let file = t.open(t.find(ROOT, "written").unwrap(), RW);
    t.write(file, 0, b"overwritten");
    t.mv((ROOT, "swap1"), (ROOT, "swap2"), RenameMode::Exchange);
    t.mv((ROOT, "moved"), (e, "moved"), RenameMode::Replace);
    t.fs.link(&USER, t.find(ROOT, "linked").unwrap(), e, b"link").unwrap();
    t.mv((d, "two-too"), (e, "two-also"), RenameMode::Replace);
    t.set(t.find(ROOT, "mode").unwrap(), |set| (set.mode, set.uid) = (Some(0o600), Some(7)));
    t.fs.setxattr(&USER, t.find(ROOT, "mode").unwrap(), b"user.x", b"y", XattrMode::Set).unwrap();
    let now = SetTime::At(Timestamp { secs: 5, nanos: 0 });
    t.set(t.find(ROOT, "touched").unwrap(), |set| set.mtime = Some(now));
    t.rm(ROOT, "becomes");
    let becomes = t.mkdir(ROOT, "becomes").unwrap();
    t.put(becomes, "x", b"x");
    // A directory moves into its sibling; what is in it is told only where it has changed itself.
    t.mv((ROOT, "d"), (e, "d2"), RenameMode::Replace);
    let deep = t.open(t.find(inside, "deep").unwrap(), RW);
    t.write(deep, 4, b"er");
    t.put(ROOT, "edited.new", b"after it");
    t.mv((ROOT, "edited.new"), (ROOT, "edited"), RenameMode::Replace);
    let expected = [
        "- becomes",
        "+ becomes",
        "+ becomes/x",
        "R d -> e/d2",
        "M e/d2/inside/deep 4 -> 6",
        "+ e/link",
        "R moved -> e/moved",
        "R d/two-too -> e/two-also",
        "M edited 6 -> 8",
        "- gone",
        "A mode mode owner xattr",
        "+ new",
        "R swap2 -> swap1",
        "R swap1 -> swap2",
        "A touched mtime",
        "M written 7 -> 11",
    ];
    assert_eq!(lines(&t, "a", "@live"), expected);
    t.snapshot("b");
    assert_eq!(lines(&t, "a", "@latest"), expected);
    assert_eq!(lines(&t, "@latest", "@live"), [""; 0]);
    // The other way round, and only a part.
    assert!(lines(&t, "b", "a").contains(&"R e/d2 -> d".to_string()));
    let view = |word: &[u8]| t.fs.view_of_word(ROOT, word).unwrap();
    let below = t.fs.compare(view(b"a"), view(b"b"), Some(inside)).unwrap().changes;
    assert_eq!(below.iter().map(line).collect::<Vec<_>>(), ["M e/d2/inside/deep 4 -> 6"]);
    assert_eq!(t.fs.view_of_word(ROOT, b"no").err(), Some(Error::NotFound));
    assert_eq!(t.fs.view_of_word(ROOT, b".clones/no").err(), Some(Error::NotFound));
}

#[test]
fn lines_differ_from_their_origin_by_what_was_done_in_them() {
    let t = T::new();
    t.put(ROOT, "both", b"1");
    t.snapshot("a");
    let info = t.fs.snapshots().remove(0);
    let clone = t.fs.create_line(b"c", info.id).unwrap();
    t.put(clone, "in-clone", b"x");
    t.put(ROOT, "in-main", b"y");
    let both = t.open(t.find(clone, "both").unwrap(), RW);
    t.write(both, 0, b"22");
    assert_eq!(lines(&t, "a", ".clones/c"), ["M both 1 -> 2", "+ in-clone"]);
    assert_eq!(lines(&t, "@live", ".clones/c"), ["M both 1 -> 2", "+ in-clone", "- in-main"]);
}

#[test]
fn looking_at_the_present_leaves_nothing_behind() {
    let t = T::new();
    t.snapshot("a");
    let f = t.create(ROOT, "f");
    for n in 0..50u64 {
        t.write(f, n * 10_000, &[n as u8 + 1; 10_000]);
        let changes = t.changes("a", "@live");
        assert_eq!(changes.len(), 1);
        assert_eq!(changes[0].new.unwrap().size, (n + 1) * 10_000);
        let view = t.fs.view_of_word(ROOT, b"@live").unwrap();
        let at = capture(&view)[b"f".as_slice()].content.clone();
        assert_eq!(at.len() as u64, (n + 1) * 10_000);
        assert!(at.chunks(10_000).zip(1..).all(|(piece, n)| piece.iter().all(|b| *b == n)));
        if n % 7 == 0 {
            t.fs.commit().unwrap();
        }
    }
    assert_eq!(t.fs.snapshots().len(), 1);
    t.prove();
}

/// All that a difference tells of a file.
#[derive(Clone, PartialEq, Debug)]
pub(super) struct Seen {
    pub kind: FileType,
    pub content: Vec<u8>,
    attributes: BTreeMap<&'static str, String>,
}

/// A whole view, by path.
pub(super) fn capture(view: &View) -> BTreeMap<Vec<u8>, Seen> {
    let mut all = BTreeMap::new();
    let mut rest = vec![(Vec::new(), Ino::ROOT)];
    while let Some((path, ino)) = rest.pop() {
        let inode = view.inode(ino).unwrap().unwrap();
        let mut content = Vec::new();
        match inode.kind {
            FileType::Directory => {
                let (from, to) = (Key::new(ino.0, Kind::Dirent, 0), Key::new(ino.0, Kind::Xattr, 0));
                for item in view.range(&from, &to) {
                    for entry in NameBucket::decode(&item.unwrap().1).unwrap().entries {
                        let slash = if path.is_empty() { b"".as_slice() } else { b"/" };
                        rest.push(([path.as_slice(), slash, &entry.name].concat(), entry.ino));
                    }
                }
            }
            FileType::Regular => {
                content = vec![0; inode.size.next_multiple_of(4096) as usize];
                read_blocks(view, ino, &inode, 0, &mut content, |_| false).unwrap();
                content.truncate(inode.size as usize);
            }
            _ => content = view.inline(ino).unwrap(),
        }
        let mut attributes = BTreeMap::from([
            ("mode", format!("{:o}", inode.mode)),
            ("owner", format!("{} {}", inode.uid, inode.gid)),
            ("xattr", format!("{:?}", crate::fs::attributes::all_xattrs(view, ino).unwrap())),
        ]);
        if inode.kind != FileType::Directory {
            attributes.insert("mtime", format!("{:?}", inode.mtime));
        }
        all.insert(path, Seen { kind: inode.kind, content, attributes });
    }
    all
}

/// Makes the newer tree of the older one, by what the changes say; whatever they say is new is taken from `new`.
pub(super) fn apply(
    old: &BTreeMap<Vec<u8>, Seen>,
    new: &BTreeMap<Vec<u8>, Seen>,
    changes: &[PathChange],
) -> BTreeMap<Vec<u8>, Seen> {
    let of = |kind: ChangeKind| changes.iter().filter(move |change| change.kind == kind);
    let removed: BTreeSet<&[u8]> = of(ChangeKind::Removed).map(|c| c.path.as_slice()).collect();
    let renamed: BTreeMap<&[u8], &[u8]> =
        of(ChangeKind::Renamed).map(|c| (c.path_before(), c.path.as_slice())).collect();
    let mut places: BTreeMap<&[u8], Vec<u8>> = BTreeMap::new();
    let mut made = BTreeMap::new();
    for (path, seen) in old {
        // A directory is before what is in it, and may be removed while that has moved.
        let cut = path.iter().rposition(|b| *b == b'/');
        let (dir, name) = cut.map_or((&path[..0], &path[..]), |at| (&path[..at], &path[at + 1..]));
        let place = match (renamed.get(path.as_slice()), places.get(dir)) {
            (Some(place), _) => place.to_vec(),
            _ if path.is_empty() => Vec::new(),
            (None, Some(dir)) if dir.is_empty() => name.to_vec(),
            (None, Some(dir)) => [dir, b"/".as_slice(), name].concat(),
            (None, None) => {
                assert!(removed.contains(path.as_slice()), "it has no place");
                continue;
            }
        };
        if !removed.contains(path.as_slice()) {
            places.insert(path, place.clone());
            assert!(made.insert(place, seen.clone()).is_none(), "two files have one place");
        }
    }
    for change in of(ChangeKind::Added) {
        assert!(made.insert(change.path.clone(), new[&change.path].clone()).is_none());
    }
    for change in changes {
        let mut take: Vec<&str> = change.attributes.clone();
        if change.kind == ChangeKind::Modified {
            made.get_mut(&change.path).unwrap().content = new[&change.path].content.clone();
            take.push("mtime");
        }
        for name in take {
            let seen = made.get_mut(&change.path).unwrap();
            seen.attributes.insert(name, new[&change.path].attributes[name].clone());
        }
    }
    made
}

#[test]
fn the_older_tree_and_the_changes_make_the_newer() {
    for seed in 0..60 {
        let mut rng = fastrand::Rng::with_seed(seed);
        let t = T::new();
        let mut views: Vec<(String, BTreeMap<Vec<u8>, Seen>)> = Vec::new();
        for step in 0..rng.usize(20..250) {
            t.clock.advance(1_000_000);
            random_step(&t, &mut rng);
            match rng.u8(0..25) {
                0 => t.fs.commit().unwrap(),
                1 | 2 => {
                    let name = format!("s{step}");
                    t.snapshot(&name);
                    let view = t.fs.view_of_word(ROOT, name.as_bytes()).unwrap();
                    views.push((name, capture(&view)));
                }
                _ => {}
            }
        }
        let live = t.fs.view_of_word(ROOT, b"@live").unwrap();
        views.push(("@live".into(), capture(&live)));
        for (old, before) in &views {
            for (new, now) in &views {
                let changes = t.changes(old, new);
                assert!(changes.is_sorted_by_key(|c| (&c.path, c.kind)));
                let made = apply(before, now, &changes);
                let told: Vec<String> = changes.iter().map(line).collect();
                assert!(made == *now, "seed {seed}, {old} to {new}: {told:#?}");
                assert!(old != new || changes.is_empty());
                let [from, to] = [old, new].map(|word| t.fs.view_of_word(ROOT, word.as_bytes()).unwrap());
                if new != "@live" && old != "@live" {
                    carry_out(before, now, &file_pairs(&from, &to, &changes).unwrap());
                }
            }
        }
        t.prove();
    }
}

/// Files of a patch, carried out: what goes, goes first.
fn carry_out(old: &BTreeMap<Vec<u8>, Seen>, new: &BTreeMap<Vec<u8>, Seen>, pairs: &[FilePair]) {
    let files = |all: &BTreeMap<Vec<u8>, Seen>| -> BTreeMap<Vec<u8>, (FileType, Vec<u8>)> {
        let files = all.iter().filter(|(_, seen)| seen.kind != FileType::Directory);
        files.map(|(path, seen)| (path.clone(), (seen.kind, seen.content.clone()))).collect()
    };
    let (mut made, new) = (files(old), files(new));
    for (path, _) in pairs.iter().filter_map(|pair| pair.old.as_ref()) {
        assert!(made.remove(path).is_some(), "it goes once");
    }
    for (path, _) in pairs.iter().filter_map(|pair| pair.new.as_ref()) {
        assert!(made.insert(path.clone(), new[path].clone()).is_none(), "it comes once");
    }
    assert!(made == new, "{pairs:#?}");
}

pub(super) fn random_step(t: &T, rng: &mut fastrand::Rng) {
    random_step_in(t, ROOT, rng);
}

/// Some change of the line with this root.
pub(super) fn random_step_in(t: &T, root: NodeId, rng: &mut fastrand::Rng) {
    let view = t.fs.volume().live(t.fs.line_at(root).unwrap()).unwrap();
    let all: Vec<Vec<u8>> = capture_paths(&view);
    let text = |path: &[u8]| String::from_utf8(path.to_vec()).unwrap();
    let node = |path: &str| {
        let names = path.split('/').filter(|name| !name.is_empty());
        names.fold(root, |dir, name| t.find(dir, name).unwrap())
    };
    let is_dir = |node: NodeId| t.attr(node).kind == FileType::Directory;
    let some = text(&all[rng.usize(..all.len())]);
    let (dir, name) = some.rsplit_once('/').unwrap_or(("", &some));
    let (parent, target) = (node(dir), node(&some));
    // A place for something new, or over something else.
    let mut place = node(&text(&all[rng.usize(..all.len())]));
    if !is_dir(place) {
        place = root;
    }
    let new = ["a", "b", "c", "d", "e"][rng.usize(..5)];
    // What is refused (a name that is taken, a directory that is not empty or would be in itself) changes nothing.
    match rng.u8(0..13) {
        0..=1 if t.find(place, new).is_err() => {
            t.put(place, new, &vec![rng.u8(..); rng.usize(0..9000)]);
        }
        2 => drop(t.mkdir(place, new)),
        3 if !some.is_empty() && !is_dir(target) => t.rm(parent, name),
        4 if !some.is_empty() => drop(t.fs.rmdir(&USER, parent, name.as_bytes())),
        5..=7 if !some.is_empty() => {
            let mode = if rng.u8(0..4) == 0 { RenameMode::Exchange } else { RenameMode::Replace };
            drop(t.fs.rename(&USER, parent, name.as_bytes(), place, new.as_bytes(), mode));
        }
        8 if !is_dir(target) => drop(t.fs.link(&USER, target, place, new.as_bytes())),
        9 => drop(t.fs.symlink(&USER, place, new.as_bytes(), some.as_bytes())),
        10 if t.attr(target).kind == FileType::Regular => {
            let file = t.open(target, RW);
            t.write(file, rng.u64(0..9000), &vec![rng.u8(..); rng.usize(1..5000)]);
            t.fs.release(file.0, file.1);
        }
        11 if t.attr(target).kind == FileType::Regular => t.resize(target, rng.u64(0..9000)),
        12 => t.set(target, |set| match rng.u8(0..3) {
            0 => set.mode = Some(rng.u32(0..0o1000)),
            1 => set.uid = Some(rng.u32(0..3)),
            _ => set.mtime = Some(SetTime::At(Timestamp { secs: rng.i64(0..9), nanos: 0 })),
        }),
        _ => {
            let value = vec![rng.u8(0..2); [1, 3000][rng.usize(..2)]];
            let _ = t.fs.setxattr(&SUPER, target, b"user.x", &value, XattrMode::Set);
        }
    }
}

fn capture_paths(view: &View) -> Vec<Vec<u8>> {
    capture(view).into_keys().collect()
}

#[test]
fn words_are_about_the_line_that_they_are_asked_of() {
    let t = T::new();
    t.put(ROOT, "f", b"main");
    let from = t.fs.create_snapshot(b"s", Reason::User).unwrap();
    let root = t.fs.create_line(b"trial", from).unwrap();
    t.put(root, "g", b"trial");
    t.fs.create_snapshot_of(root, b"own", Reason::User).unwrap();
    let live = |at, word: &[u8]| t.fs.view_of_word(at, word).unwrap().id();
    assert_ne!(live(ROOT, b"@live"), live(root, b"@live"));
    assert_eq!(live(root, b"@live"), live(ROOT, b".clones/trial"));
    assert!(t.fs.view_of_word(root, b"own").is_ok() && t.fs.view_of_word(root, b"s").is_ok());
    assert_eq!(t.fs.view_of_word(ROOT, b"own").err(), Some(Error::NotFound));
}
