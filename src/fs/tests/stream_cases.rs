//! Small histories of which each has broken the increments of some system: what comes out is compared with what was sent.

use super::streams::{same_tree, store};
use super::*;
use std::collections::BTreeMap;

/// A name, what is done before the first snapshot, and what between it and the second; or before more of them, by `snap`.
type Case = (&'static str, &'static [&'static str], &'static [&'static str]);

const CASES: &[Case] = &[
    ("nothing changes", &["put f 5000 1"], &[]),
    ("an empty tree gets everything", &[], &["mkdir a", "put a/f 5000 1", "ln a/f g"]),
    ("everything goes", &["mkdir a", "put a/f 5000 1", "put g 9 2"], &["rm a/f", "rmdir a", "rm g"]),
    ("nesting is reversed", &["mkdir a", "mkdir a/b", "put a/b/f 9 1"], &["mv a/b b", "mv a b/a"]),
    (
        "nesting of three is reversed",
        &["mkdir a", "mkdir a/b", "mkdir a/b/c", "put a/b/c/f 9 1"],
        &["mv a/b/c c", "mv a/b c/b", "mv a c/b/a"],
    ),
    ("two directories swap", &["mkdir a", "mkdir b", "put a/f 9 1", "put b/g 9 2"], &["swap a b"]),
    (
        "nested directories swap",
        &["mkdir a", "mkdir a/x", "mkdir b", "mkdir b/y", "put a/x/f 9 1", "put b/y/g 9 2"],
        &["swap a/x b/y", "swap a b"],
    ),
    (
        "directories swap by a third name",
        &["mkdir a", "mkdir b", "put a/f 9 1"],
        &["mv a t", "mv b a", "mv t b"],
    ),
    ("files go round", &["put a 9 1", "put b 9 2", "put c 9 3"], &["mv a t", "mv c a", "mv b c", "mv t b"]),
    ("a rename over a file that moved", &["put a 9 1", "put b 9 2"], &["mv b c", "mv a b"]),
    ("a rename over a link of itself", &["put a 9 1", "ln a b"], &["rm a", "mv b a"]),
    ("a rename over a directory", &["mkdir a", "mkdir b", "put a/f 9 1"], &["mv a b"]),
    (
        "a directory moves into what was beside it, and that is renamed",
        &["mkdir a", "mkdir b", "put a/f 9 1"],
        &["mv a b/a", "mv b c"],
    ),
    (
        "the parent of what moved is removed",
        &["mkdir a", "mkdir a/b", "put a/b/f 9 1"],
        &["mv a/b b", "rmdir a"],
    ),
    (
        "a removed directory's name is a file's",
        &["mkdir a", "put a/f 9 1"],
        &["rm a/f", "rmdir a", "put a 9 2"],
    ),
    ("a removed file's name is a directory's", &["put a 9 1"], &["rm a", "mkdir a", "put a/f 9 2"]),
    ("a file gets another name and content", &["put a 9000 1"], &["mv a b", "write b 4096 4096 2"]),
    ("a hard link comes", &["put a 5000 1"], &["ln a b"]),
    ("the first name of two goes", &["put a 5000 1", "ln a b"], &["rm a"]),
    (
        "links between directories that swap",
        &["mkdir a", "mkdir b", "put a/f 9 1", "ln a/f b/f"],
        &["swap a b"],
    ),
    ("a link in place of another file", &["put a 9 1", "put b 9 2"], &["rm b", "ln a b"]),
    ("two files swap their links", &["put a 9 1", "put b 9 2", "ln a c", "ln b d"], &["swap a b"]),
    ("a file without a name that stays open", &["put a 90000 1", "open a"], &["rm a"]),
    ("one that was open, and is gone", &["put a 90000 1", "open a", "rm a"], &["close a", "put b 9 2"]),
    ("a name removed and made again while open", &["put a 90000 1", "open a"], &["rm a", "put a 50 2"]),
    ("a file made and removed in between", &["put a 9 1"], &["put b 90000 2", "rm b"]),
    ("an attribute of 3000 bytes", &["put a 9 1"], &["xattr a user.x 3000 1"]),
    ("an attribute of 60000 bytes", &["put a 9 1", "xattr a user.x 60000 1"], &["xattr a user.x 60000 2"]),
    (
        "long attributes become short",
        &["mkdir a", "xattr a user.x 9000 1"],
        &["xattr a user.x 3 1", "xattr a user.y 9000 2"],
    ),
    (
        "attributes go",
        &["put a 9 1", "xattr a user.x 9 1", "xattr a user.y 5000 1"],
        &["unxattr a user.x", "unxattr a user.y"],
    ),
    ("modes become unreadable", &["mkdir a", "put a/f 5000 1"], &["chmod a/f 0", "chmod a 0"]),
    ("content of an unreadable file changes", &["put f 5000 1", "chmod f 0"], &["write f 100 50 2"]),
    ("owner, and a set-id bit that stays", &["put f 9 1"], &["own f 5 6", "chmod f 4755"]),
    ("a clone at an offset", &["put a 200000 1", "put b 200000 2"], &["copy a 8192 b 65536 49152"]),
    (
        "a clone of a compressed file at an offset",
        &["put b 9000 2", "zstd d", "put d 200000 7"],
        &["copy d 12288 b 4096 40960"],
    ),
    (
        "what is cloned is compressed, and then overwritten in the middle",
        &["put d 9 1", "zstd d", "write d 0 200000 7"],
        &["put b 9 2", "copy d 0 b 0 131072", "write d 20480 8192 8"],
    ),
    ("a file cloned into itself", &["put a 100000 1"], &["copy a 0 a 131072 98304"]),
    ("what was cloned from is removed", &["put a 200000 1"], &["put b 9 2", "copy a 0 b 0 196608", "rm a"]),
    (
        "many clones of one block",
        &["put a 4096 1"],
        &[
            "copy a 0 a 4096 4096",
            "copy a 0 a 8192 8192",
            "copy a 0 a 16384 16384",
            "copy a 0 a 32768 32768",
            "copy a 0 a 65536 65536",
            "copy a 0 a 131072 131072",
            "put b 9 1",
            "copy a 0 b 0 262144",
        ],
    ),
    ("a hole in the middle", &["put a 300000 1"], &["punch a 65536 65536"]),
    ("a hole at the end, and a longer file", &["put a 100000 1"], &["trunc a 50000", "trunc a 900000"]),
    ("truncated and written again", &["put a 300000 1"], &["trunc a 0", "write a 0 5000 2"]),
    ("space without content", &["put a 5000 1"], &["alloc a 0 1048576", "write a 65536 4096 2"]),
    (
        "space that is given up",
        &["put a 5000 1", "alloc a 8192 524288"],
        &["trunc a 5000", "punch a 8192 524288"],
    ),
    ("a small file grows out of the tree", &["put a 100 1"], &["write a 90 90000 2"]),
    ("a large file comes into the tree", &["put a 90000 1"], &["trunc a 0", "write a 0 100 2"]),
    ("a symbolic link to another place", &["symlink l a/b"], &["rm l", "symlink l c"]),
    ("nodes of devices and pipes", &["fifo p"], &["rm p", "device d", "fifo q"]),
    (
        "one block in each of many",
        &["put a 1048576 1"],
        &["write a 4096 4096 2", "write a 200704 4096 3", "write a 1040384 4096 4", "write a 0 1 5"],
    ),
    ("a block of a frame", &["put a 9 1", "zstd a", "write a 0 131072 7"], &["write a 40960 4096 3"]),
    ("compressed no more", &["put a 9 1", "zstd a", "write a 0 131072 7"], &["raw a", "write a 0 131072 7"]),
    (
        "a state that comes back over three snapshots",
        &["put a 90000 1"],
        &["write a 0 90000 2", "snap", "write a 0 90000 1", "snap", "mv a b", "snap", "mv b a"],
    ),
    ("a directory with many names loses most of them", &["mkdir a", "many a 300"], &["fewer a 300 7"]),
];

struct Stage {
    t: T,
    open: BTreeMap<String, (NodeId, Handle)>,
    snapshots: Vec<String>,
}

impl Stage {
    fn at(&self, path: &str) -> NodeId {
        path.split('/').fold(ROOT, |dir, name| self.t.find(dir, name).unwrap())
    }

    fn split<'p>(&self, path: &'p str) -> (NodeId, &'p str) {
        path.rsplit_once('/').map_or((ROOT, path), |(dir, name)| (self.at(dir), name))
    }

    fn snap(&mut self) {
        let name = format!("s{}", self.snapshots.len());
        self.t.snapshot(&name);
        self.snapshots.push(name);
    }

    fn with<R>(&self, path: &str, act: impl FnOnce(NodeId, Handle) -> R) -> R {
        let node = self.at(path);
        let handle = self.t.fs.open(&SUPER, node, RW).unwrap();
        let done = act(node, handle);
        self.t.fs.release(node, handle);
        done
    }

    fn run(&mut self, step: &str) {
        let words: Vec<&str> = step.split(' ').collect();
        let number = |n: usize| words[n].parse::<u64>().unwrap();
        let content = |len: u64, seed: u64| -> Vec<u8> {
            let mut rng = fastrand::Rng::with_seed(seed);
            // Some of it can be compressed.
            (0..len).map(|n| if seed == 7 { (n / 300) as u8 } else { rng.u8(..) }).collect()
        };
        let fs = self.t.fs.clone();
        match words[0] {
            "snap" => self.snap(),
            "mkdir" => {
                let (dir, name) = self.split(words[1]);
                self.t.mkdir(dir, name).unwrap();
            }
            "put" => {
                let (dir, name) = self.split(words[1]);
                self.t.put(dir, name, &content(number(2), number(3)));
            }
            "write" => self.with(words[1], |node, handle| {
                self.t.write((node, handle), number(2), &content(number(3), number(4)));
            }),
            "mv" | "swap" => {
                let ((dir, name), (to, new)) = (self.split(words[1]), self.split(words[2]));
                let mode = if words[0] == "mv" { RenameMode::Replace } else { RenameMode::Exchange };
                fs.rename(&SUPER, dir, name.as_bytes(), to, new.as_bytes(), mode).unwrap();
            }
            "ln" => {
                let (to, new) = self.split(words[2]);
                fs.link(&SUPER, self.at(words[1]), to, new.as_bytes()).unwrap();
            }
            "rm" => {
                let (dir, name) = self.split(words[1]);
                let node = self.at(words[1]);
                fs.unlink(&SUPER, dir, name.as_bytes()).unwrap();
                if !self.open.values().any(|(open, _)| *open == node) {
                    fs.forget(node);
                }
            }
            "rmdir" => {
                let (dir, name) = self.split(words[1]);
                fs.rmdir(&SUPER, dir, name.as_bytes()).unwrap();
            }
            "open" => {
                let node = self.at(words[1]);
                self.open.insert(words[1].into(), (node, fs.open(&SUPER, node, RW).unwrap()));
            }
            "close" => {
                let (node, handle) = self.open.remove(words[1]).unwrap();
                fs.release(node, handle);
                fs.forget(node);
            }
            "xattr" => {
                let value = content(number(3), number(4));
                fs.setxattr(&SUPER, self.at(words[1]), words[2].as_bytes(), &value, XattrMode::Set).unwrap();
            }
            "unxattr" => fs.removexattr(&SUPER, self.at(words[1]), words[2].as_bytes()).unwrap(),
            "chmod" | "own" | "trunc" => {
                let set = match words[0] {
                    "chmod" => SetAttr {
                        mode: Some(u32::from_str_radix(words[2], 8).unwrap()),
                        ..SetAttr::default()
                    },
                    "own" => {
                        let (uid, gid) = (Some(number(2) as u32), Some(number(3) as u32));
                        SetAttr { uid, gid, ..SetAttr::default() }
                    }
                    _ => SetAttr { size: Some(number(2)), ..SetAttr::default() },
                };
                fs.setattr(&SUPER, self.at(words[1]), None, &set).unwrap();
            }
            "copy" => {
                let (from, to) = (self.at(words[1]), self.at(words[3]));
                let (a, b) = (fs.open(&SUPER, from, RO).unwrap(), fs.open(&SUPER, to, RW).unwrap());
                let copied = fs.copy_range(&SUPER, from, a, number(2), to, b, number(4), number(5)).unwrap();
                assert!(copied > 0);
                fs.release(from, a);
                fs.release(to, b);
            }
            "punch" | "alloc" => {
                let mode = if words[0] == "punch" { AllocateMode::PunchHole } else { AllocateMode::KeepSize };
                let range = (number(2), number(3));
                self.with(words[1], |node, handle| {
                    fs.fallocate(&SUPER, node, handle, range.0, range.1, mode).unwrap();
                });
            }
            "zstd" | "raw" => {
                if self.t.find(ROOT, words[1]).is_err() {
                    self.t.compress(ROOT, "zstd");
                } else {
                    self.t.compress(self.at(words[1]), if words[0] == "raw" { "off" } else { "zstd" });
                }
            }
            "symlink" => {
                let (dir, name) = self.split(words[1]);
                fs.symlink(&SUPER, dir, name.as_bytes(), words[2].as_bytes()).unwrap();
            }
            "fifo" | "device" => {
                let (dir, name) = self.split(words[1]);
                let kind = if words[0] == "fifo" { FileType::Fifo } else { FileType::CharDevice };
                let rdev = if words[0] == "fifo" { 0 } else { 0x103 };
                fs.mknod(&SUPER, dir, name.as_bytes(), kind, 0o640, rdev).unwrap();
            }
            "many" | "fewer" => {
                let dir = self.at(words[1]);
                for n in 0..number(2) {
                    let name = format!("name-{n}");
                    match words[0] {
                        "many" => {
                            self.t.put(dir, &name, &[n as u8; 20]);
                        }
                        _ if n % number(3) == 0 => {}
                        _ => fs.unlink(&SUPER, dir, name.as_bytes()).unwrap(),
                    }
                }
            }
            other => panic!("{other}: no such step"),
        }
        self.t.clock.advance(1_000_000);
    }
}

#[test]
fn what_broke_the_increments_of_others() {
    assert!(CASES.len() >= 40);
    for (what, before, after) in CASES {
        let mut stage = Stage { t: store(1), open: BTreeMap::new(), snapshots: Vec::new() };
        before.iter().for_each(|step| stage.run(step));
        stage.snap();
        after.iter().for_each(|step| stage.run(step));
        stage.snap();
        let (a, b) = (&stage.t, store(2));
        let mut last: Option<&str> = None;
        for name in &stage.snapshots {
            let got = b.receive(&a.send(name, last).0).unwrap_or_else(|e| panic!("{what}, {name}: {e}"));
            same_tree((a, &a.named(name)), (&b, &got.snapshot), &format!("{what}, {name}"));
            last = Some(name);
        }
        // Over all of them at once, and all of the last.
        let (first, last) = (&stage.snapshots[0], &stage.snapshots[stage.snapshots.len() - 1]);
        let (c, d) = (store(3), store(4));
        c.receive(&a.send(first, None).0).unwrap();
        for (t, base) in [(&c, Some(first.as_str())), (&d, None)] {
            let got = t.receive(&a.send(last, base).0).unwrap_or_else(|e| panic!("{what}, {base:?}: {e}"));
            same_tree((a, &a.named(last)), (t, &got.snapshot), &format!("{what}, {base:?}"));
        }
        for t in [&b, &c, &d] {
            t.fs.commit().unwrap();
            t.prove();
        }
    }
}
