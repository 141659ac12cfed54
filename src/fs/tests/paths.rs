//! The past of a path: what is told of each kind of change, random histories against a model that looks at everything, and
//! what it costs.

use super::difference::{Seen, apply, capture, line, random_step};
use super::*;
use crate::format::Ino;
use crate::fs::items::Items;
use crate::fs::{ChangeKind, LogEntry, Moment, PathAsked, PathChange, PathVersion};
use crate::volume::View;
use std::collections::{BTreeMap, BTreeSet};

fn word(moment: &Moment) -> String {
    match moment {
        Moment::Present => "@live".into(),
        Moment::Snapshot(info) => String::from_utf8(info.name.clone()).unwrap(),
    }
}

fn asked(dir: NodeId, path: &str) -> PathAsked {
    let names = path.split('/').filter(|name| !name.is_empty());
    PathAsked { dir, names: names.map(|name| name.as_bytes().to_vec()).collect() }
}

impl T {
    fn versions(&self, asked: &PathAsked) -> Result<Vec<PathVersion>> {
        let mut all = Vec::new();
        self.fs.versions(asked, &mut |version| {
            all.push(version);
            true
        })?;
        Ok(all)
    }
    fn version_lines(&self, dir: NodeId, path: &str) -> Vec<String> {
        let text = |v: &PathVersion| {
            let path = String::from_utf8(v.path.clone()).unwrap();
            let changed = v.changed.as_ref().map_or("?".into(), |changed| changed.join(" "));
            format!("{}..{} {path} {} {changed}", word(&v.oldest), word(&v.newest), v.inode.size)
        };
        self.versions(&asked(dir, path)).unwrap().iter().map(text).collect()
    }
    fn log(&self, asked: &PathAsked, since: Option<&str>) -> Result<Vec<LogEntry>> {
        let mut all = Vec::new();
        let since = since.map(|word| self.fs.snapshot_of_word(asked.dir, word.as_bytes())).transpose()?;
        self.fs.path_log(asked, since.map(|info| info.id), &mut |entry| {
            all.push(entry);
            true
        })?;
        Ok(all)
    }
    fn log_lines(&self, dir: NodeId, path: &str, since: Option<&str>) -> Vec<String> {
        let text = |entry: &LogEntry| {
            let link = |link| if link { " link" } else { "" };
            let changes = entry.changes.iter().map(|(change, is_link)| line(change) + link(*is_link));
            let first = if entry.is_first { "first " } else { "" };
            format!("{}: {first}{}", word(&entry.moment), changes.collect::<Vec<_>>().join("; "))
        };
        self.log(&asked(dir, path), since).unwrap().iter().map(text).collect()
    }
    /// Snapshots so that each shows what was done since the one before.
    fn then(&self, name: &str) {
        self.snapshot(name);
        self.clock.advance(1_000_000_000);
    }
}

#[test]
fn a_file_is_followed_through_all_that_happens_to_it() {
    let t = T::new();
    let d = t.mkdir(ROOT, "d").unwrap();
    t.then("s0");
    let f = t.put(d, "old", b"one");
    t.then("s1");
    t.then("s2"); // nothing
    t.put(ROOT, "other", b"nothing of it");
    t.then("s3");
    let open = t.open(f, RW);
    t.write(open, 3, b" two");
    t.then("s4");
    t.fs.link(&USER, f, ROOT, b"hard").unwrap();
    t.then("s5");
    t.mv((d, "old"), (d, "new"), RenameMode::Replace);
    t.then("s6");
    t.fs.setxattr(&USER, f, b"user.x", b"y", XattrMode::Set).unwrap();
    t.then("s7");
    t.mv((ROOT, "d"), (ROOT, "e"), RenameMode::Replace); // above it
    t.then("s8");
    t.put(d, "tmp", b"by an editor");
    t.mv((d, "tmp"), (d, "new"), RenameMode::Replace);
    t.then("s9");
    t.rm(d, "new");
    t.then("s10");
    t.put(d, "new", b"again");
    t.then("s11");
    assert_eq!(
        t.version_lines(d, "new"),
        [
            "s11..@live e/new 5 created",
            "s9..s9 e/new 12 file",
            "s7..s8 e/new 7 xattr",
            "s6..s6 d/new 7 path",
            "s4..s5 d/old 7 content",
            "s1..s3 d/old 3 created",
        ]
    );
    assert_eq!(
        t.log_lines(d, "new", None),
        [
            "s11: + e/new",
            "s10: - e/new",
            "s9: M e/new 7 -> 12 xattr",
            "s7: A d/new xattr; A hard xattr",
            "s6: R d/old -> d/new",
            "s5: + hard link",
            "s4: M d/old 3 -> 7",
            "s1: + d/old",
        ]
    );
    assert_eq!(t.log_lines(d, "new", Some("s9")), ["s11: + e/new", "s10: - e/new"]);
    // From a snapshot, by the name that it had there, and by the path of a directory that has another now.
    let past = |name: &str| t.fs.lookup(&USER, SNAPDIR, name.as_bytes()).unwrap().attr.node;
    let in_s4 = t.find(past("s4"), "d").unwrap();
    let of_s4 = t.version_lines(in_s4, "old");
    assert_eq!(of_s4[..2], ["s7..@live hard 7 xattr", "s6..s6 hard 7 path"], "its other name is there still");
    assert_eq!(of_s4[2..], ["s4..s5 d/old 7 content", "s1..s3 d/old 3 created"]);
    assert_eq!(t.version_lines(ROOT, "d/old").last().unwrap(), "s1..s3 d/old 3 created");
    // The directory: its own names and attributes; its log has what is below.
    let dir = t.version_lines(ROOT, "e");
    assert_eq!(dir[0], "s11..@live e 1 names");
    assert_eq!(dir.last().unwrap(), "s0..s0 d 0 ?");
    let log = t.log_lines(ROOT, "e", None);
    assert_eq!(log[3], "s8: R d -> e");
    assert_eq!(log.last().unwrap(), "s0: first + d");
    // What never was.
    assert_eq!(t.versions(&asked(ROOT, "never/was")).err(), Some(Error::NotFound));
    assert_eq!(t.log(&asked(ROOT, "never"), None).err(), Some(Error::NotFound));
    assert_eq!(t.versions(&asked(SNAPDIR, "s1")).err(), Some(Error::NotFound));
}

#[test]
fn what_was_at_the_path_is_told_beside_what_came_there() {
    let t = T::new();
    t.put(ROOT, "conf", b"in use");
    t.put(ROOT, "conf.new", b"to come");
    t.then("a");
    t.mv((ROOT, "conf.new"), (ROOT, "conf"), RenameMode::Replace);
    t.then("b");
    assert_eq!(t.version_lines(ROOT, "conf"), ["b..@live conf 7 path", "a..a conf.new 7 ?", "a..a conf 6 ?"]);
    let log = t.log_lines(ROOT, "conf", None);
    assert_eq!(log, ["b: - conf; R conf.new -> conf", "a: first + conf.new; + conf"]);
    // A clone has the past of its origin and its own.
    let info = t.fs.snapshots().remove(0);
    let clone = t.fs.create_line(b"c", info.id).unwrap();
    let f = t.open(t.find(clone, "conf").unwrap(), RW);
    t.write(f, 0, b"IN");
    let inherited = t.version_lines(clone, "conf");
    assert_eq!(inherited, ["@live..@live conf 6 content", "a..a conf 6 ?"]);
}

/// All of a view, by number.
struct Whole {
    word: String,
    files: BTreeMap<Ino, (BTreeSet<Vec<u8>>, Seen)>,
    by_path: BTreeMap<Vec<u8>, Ino>,
}

impl Whole {
    fn of(word: &str, view: &View) -> Whole {
        let mut whole = Whole { word: word.into(), files: BTreeMap::new(), by_path: BTreeMap::new() };
        for (path, seen) in capture(view) {
            let names = path.split(|b| *b == b'/').filter(|name| !name.is_empty());
            let ino = names.fold(Ino::ROOT, |dir, name| view.find_name(dir, name).unwrap().unwrap().ino);
            whole.files.entry(ino).or_insert_with(|| (BTreeSet::new(), seen)).0.insert(path.clone());
            whole.by_path.insert(path, ino);
        }
        whole
    }
    fn path_of_dir(&self, dir: Ino) -> Option<&Vec<u8>> {
        let (paths, seen) = self.files.get(&dir)?;
        paths.first().filter(|_| seen.kind == FileType::Directory)
    }
    fn names_in(&self, ino: Ino) -> Vec<(&[u8], Ino)> {
        let Some(dir) = self.path_of_dir(ino) else { return Vec::new() };
        let below = self.by_path.iter().filter_map(|(path, ino)| Some((split(path)?, *ino)));
        below.filter(|((parent, _), _)| parent == dir).map(|((_, name), ino)| (name, ino)).collect()
    }
}

fn split(path: &[u8]) -> Option<(&[u8], &[u8])> {
    let cut = path.iter().rposition(|b| *b == b'/');
    cut.map(|at| (&path[..at], &path[at + 1..])).or_else(|| (!path.is_empty()).then_some((&path[..0], path)))
}

fn path_in(dir: &[u8], name: &[u8]) -> Vec<u8> {
    if dir.is_empty() { name.to_vec() } else { [dir, b"/", name].concat() }
}

/// What is followed, looked for in whole views: number and name (its directory, and how it is called there).
#[derive(Clone, PartialEq)]
struct Followed {
    ino: Ino,
    kind: FileType,
    name: Option<(Ino, Vec<u8>)>,
}

fn model_sights(views: &[Whole], path: &[u8]) -> Vec<Vec<Followed>> {
    let Some((parent, last)) = split(path) else {
        let root = Followed { ino: Ino::ROOT, kind: FileType::Directory, name: None };
        return vec![vec![root]; views.len()];
    };
    let name_of = |view: &Whole, path: &[u8]| {
        let (parent, name) = split(path)?;
        Some((*view.by_path.get(parent)?, name.to_vec()))
    };
    let (mut dir, mut dir_path): (Option<Ino>, Vec<u8>) = (None, parent.to_vec());
    let (mut number, mut sights) = (None::<Followed>, Vec::new());
    for (i, view) in views.iter().enumerate() {
        // The directory by its number; else by the path that it had when it was seen last; else the path that was asked for.
        let directory =
            |path: &Vec<u8>| view.by_path.get(path).filter(|ino| view.path_of_dir(**ino).is_some());
        if dir.and_then(|dir| view.path_of_dir(dir)).is_none() {
            if let Some(path) = dir.filter(|_| i > 0).and_then(|dir| views[i - 1].path_of_dir(dir)) {
                dir_path = path.clone();
            }
            dir = directory(&dir_path).copied().or(dir);
        }
        let inside = |dir: Option<Ino>| {
            let at = path_in(view.path_of_dir(dir?)?, last);
            Some((*view.by_path.get(&at)?, at))
        };
        let asked = directory(&parent.to_vec()).copied();
        let there = inside(dir).or_else(|| {
            let found = inside(asked)?;
            dir = asked;
            Some(found)
        });
        let there =
            there.map(|(ino, at)| Followed { ino, kind: view.files[&ino].1.kind, name: name_of(view, &at) });
        let same = |a: &Followed, b: &Followed| (a.ino, a.kind) == (b.ino, b.kind);
        let follow = number.as_ref().filter(|n| there.as_ref().is_none_or(|there| !same(n, there)));
        let followed = follow.and_then(|n| {
            let (paths, seen) = view.files.get(&n.ino).filter(|(_, seen)| seen.kind == n.kind)?;
            let names: Vec<_> = paths.iter().map(|path| name_of(view, path)).collect();
            let name = if names.contains(&n.name) { n.name.clone() } else { None };
            Some((Followed { ino: n.ino, kind: seen.kind, name }, names))
        });
        let mut sight = Vec::new();
        match followed {
            // Which of several new names is no promise: one of them.
            Some((mut f, names)) => {
                if f.name.is_none() {
                    assert!(!names.is_empty());
                    f.name = names[0].clone();
                }
                number = Some(f.clone());
                sight.push(f);
                sight.extend(there);
            }
            None => {
                number = there.clone();
                sight.extend(there);
            }
        }
        sights.push(sight);
    }
    sights
}

/// Runs of one state: (oldest, newest, number), without order.
fn model_versions(views: &[Whole], sights: &[Vec<Followed>]) -> BTreeSet<(String, String, u64)> {
    let mut runs = BTreeSet::new();
    let mut open: Vec<(Followed, String, usize)> = Vec::new();
    for (i, sight) in sights.iter().enumerate() {
        let mut next = Vec::new();
        for (file, newest, at) in open {
            let same = sight.iter().find(|f| (f.ino, f.kind) == (file.ino, file.kind)).filter(|f| {
                let (old, new) = (&views[i], &views[at]);
                f.name == file.name
                    && old.files[&f.ino].1 == new.files[&f.ino].1
                    && old.names_in(f.ino) == new.names_in(f.ino)
            });
            match same {
                Some(f) => next.push((f.clone(), newest, i)),
                None => drop(runs.insert((views[at].word.clone(), newest, file.ino.0))),
            }
        }
        for f in sight {
            if !next.iter().any(|(open, ..)| (open.ino, open.kind) == (f.ino, f.kind)) {
                next.push((f.clone(), views[i].word.clone(), i));
            }
        }
        open = next;
    }
    runs.extend(open.into_iter().map(|(f, newest, at)| (views[at].word.clone(), newest, f.ino.0)));
    runs
}

#[test]
fn random_histories_equal_the_model() {
    let mut compared = 0;
    for seed in 0..80 {
        let mut rng = fastrand::Rng::with_seed(seed);
        let t = T::new();
        let mut views = Vec::new();
        for step in 0..rng.usize(20..250) {
            t.clock.advance(1_000_000);
            random_step(&t, &mut rng);
            match rng.u8(0..15) {
                0 => t.fs.commit().unwrap(),
                1 | 2 => {
                    let name = format!("s{step}");
                    t.snapshot(&name);
                    views.push(Whole::of(&name, &t.fs.view_of_word(ROOT, name.as_bytes()).unwrap()));
                }
                3 if views.len() > 3 && rng.bool() => {
                    let gone = views.remove(rng.usize(..views.len()));
                    t.fs.delete_snapshot(gone.word.as_bytes()).unwrap();
                }
                _ => {}
            }
        }
        views.push(Whole::of("@live", &t.fs.view_of_word(ROOT, b"@live").unwrap()));
        views.reverse();
        let all: BTreeSet<Vec<u8>> = views.iter().flat_map(|view| view.by_path.keys().cloned()).collect();
        for path in &all {
            let sights = model_sights(&views, path);
            let asked = asked(ROOT, std::str::from_utf8(path).unwrap());
            let told = t.versions(&asked).unwrap();
            let got: BTreeSet<_> = told.iter().map(|v| (word(&v.oldest), word(&v.newest), v.ino.0)).collect();
            let shown = String::from_utf8_lossy(path).into_owned();
            // A file with a choice of names is followed by one of them, so names of such are not compared.
            let choice = views
                .iter()
                .zip(&sights)
                .any(|(view, sight)| sight.iter().any(|f| view.files[&f.ino].0.len() > 1));
            if !choice {
                assert_eq!(got, model_versions(&views, &sights), "seed {seed}: {shown}: {told:#?}");
                compared += 1;
            }
            for v in &told {
                let there = views.iter().find(|view| view.word == word(&v.newest)).unwrap();
                assert_eq!(there.by_path[&v.path], v.ino, "seed {seed}: {shown}: it is reached there");
            }
            model_log(&t, &views, &sights, &t.log(&asked, None).unwrap(), choice);
        }
        t.prove();
    }
    assert!(compared > 800, "{compared}");
}

/// What is told is among what a comparison of everything tells, and all that is about what is seen.
fn model_log(t: &T, views: &[Whole], sights: &[Vec<Followed>], log: &[LogEntry], choice: bool) {
    let mut log = log.iter().filter(|entry| !entry.is_first).peekable();
    for (i, pair) in views.windows(2).enumerate() {
        let (newer, older) = (&pair[0], &pair[1]);
        let all = t.changes(&older.word, &newer.word);
        let entry = log.next_if(|entry| word(&entry.moment) == newer.word);
        let got: Vec<PathChange> = entry
            .map_or(Vec::new(), |entry| entry.changes.iter().map(|(change, _)| change.clone()).collect());
        let seen: Vec<&Followed> = sights[i].iter().chain(&sights[i + 1]).collect();
        if choice {
            continue;
        }
        if seen.iter().any(|f| f.kind == FileType::Directory) {
            let below = |view: &Whole, sight: &[Followed], path: &[u8]| {
                sight.iter().any(|f| {
                    view.files[&f.ino].0.iter().any(|dir| {
                        dir.is_empty() || path == dir || path.starts_with(&[dir.as_slice(), b"/"].concat())
                    })
                })
            };
            let mut expected = all.clone();
            expected.retain(|c| {
                c.old.is_some() && below(older, &sights[i + 1], c.path_before())
                    || c.new.is_some() && below(newer, &sights[i], &c.path)
            });
            assert_eq!(got, expected);
            continue;
        }
        let is_seen = |ino: Ino| seen.iter().any(|f| f.ino == ino);
        let inos = |c: &PathChange| [c.old, c.new].into_iter().flatten().map(|v| v.ino).collect::<Vec<_>>();
        for change in all.iter().filter(|change| inos(change).into_iter().all(is_seen)) {
            assert!(got.contains(change), "{change:?} of {got:#?}");
        }
        // What is not so is half of a change: the other file is none of those that are seen.
        for change in got.iter().filter(|change| !all.contains(change)) {
            assert!(matches!(change.kind, ChangeKind::Added | ChangeKind::Removed), "{change:?}");
            assert!(all.iter().any(|c| c.kind != change.kind && (c.path == change.path)), "{change:?}");
        }
    }
    assert!(choice || log.next().is_none());
}

#[test]
fn what_changes_is_told_once_and_makes_the_newer_tree() {
    for seed in 0..20 {
        let mut rng = fastrand::Rng::with_seed(seed);
        let t = T::new();
        t.snapshot("s");
        let mut follow = t.fs.follow(ROOT, b"s", None).unwrap();
        let now = || capture(&t.fs.view_of_word(ROOT, b"@live").unwrap());
        let mut before = now();
        for _ in 0..rng.usize(1..40) {
            for _ in 0..rng.usize(0..6) {
                t.clock.advance(1_000_000);
                random_step(&t, &mut rng);
            }
            if rng.u8(0..5) == 0 {
                t.fs.commit().unwrap();
            }
            let changes = follow.changes().unwrap();
            let now = now();
            let told: Vec<String> = changes.iter().map(line).collect();
            assert!(apply(&before, &now, &changes) == now, "seed {seed}: {told:#?}");
            assert!(follow.changes().unwrap().is_empty());
            before = now;
        }
        assert_eq!(t.fs.snapshots().len(), 1);
        t.prove();
    }
}

#[test]
fn following_an_idle_line_costs_nothing_and_keeps_nothing_from_others() {
    const FILE: usize = 1 << 20;
    // With room for some of what is written here, and not for all of it.
    let t = T::with(128 << 20, FsOptions::default());
    t.put(ROOT, "idle", b"x");
    let clone = t.fs.clone_line(crate::format::LineId::MAIN, b"busy").unwrap();
    let settle = || (0..3).for_each(|_| t.fs.commit().unwrap());
    settle();
    let mut follow = t.fs.follow(ROOT, b"@live", None).unwrap();
    let mut look = || follow.changes().unwrap().len();
    assert_eq!(look(), 0);
    let before = t.fs.volume().io();
    (0..50).for_each(|_| assert_eq!(look(), 0));
    assert_eq!(t.fs.volume().io() - before, crate::store::IoSnapshot::default());
    // What another line frees meanwhile is used again; and what is freed in its own between two looks.
    for (dir, found) in [(clone, 0), (ROOT, 1)] {
        for n in 0..200u8 {
            let file = t.put(dir, "f", &vec![n + 1; FILE]);
            settle();
            assert_eq!(look(), found);
            t.rm(dir, "f");
            t.fs.forget(file);
            settle();
            assert_eq!(look(), found);
        }
    }
}

#[test]
fn only_what_is_below_a_directory_is_followed_if_that_is_wanted() {
    let t = T::new();
    let d = t.mkdir(ROOT, "d").unwrap();
    t.snapshot("s");
    let mut follow = t.fs.follow(d, b"s", Some(d)).unwrap();
    t.put(ROOT, "beside", b"x");
    t.put(d, "inside", b"x");
    assert_eq!(follow.changes().unwrap().iter().map(line).collect::<Vec<_>>(), ["+ d/inside"]);
    t.mv((ROOT, "d"), (ROOT, "e"), RenameMode::Replace);
    t.put(d, "more", b"x");
    let told: Vec<String> = follow.changes().unwrap().iter().map(line).collect();
    assert_eq!(told, ["R d -> e", "+ e/more"]);
    assert_eq!(t.fs.follow(ROOT, b"none", None).err(), Some(Error::NotFound));
}
