//! Stores that lost superblocks, roots, nodes and content; what comes out is compared with what was in.

use super::*;
use crate::device::{Device, RESERVED_BYTES, Sim};
use crate::fixtures::{
    ADMIN, RW, SNAPDIR, blocks_below, bytes, find, live_root, mkdir, mount, new_store, open, overwrite, put,
    read_whole, reseal, snapshot, zero,
};
use crate::format::dirent::{Dirent, NameBucket, name_hash};
use crate::format::inode::Inode;
use crate::format::link::{Links, link_hash};
use crate::format::superblock::Superblock;
use crate::format::view::Role;
use crate::format::{BlockPtr, Epoch, Extent, Ino, Key, Kind, LineId};
use crate::fs::Fs;
use crate::ops::{AllocateMode, FileType, NodeId, Operations, XattrMode};
use crate::tree::{Step, Visit, walk};
use crate::volume::audit::Committed;
use crate::volume::{Access, Need, ReserveFor, Volume, ring};
use std::collections::{BTreeMap, BTreeSet};
use std::os::fd::{AsFd, AsRawFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

const SIZE: u64 = 256 << 20;

/// What can be seen of a file.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Seen {
    kind: FileType,
    mode: u32,
    links: u32,
    mtime: (i64, u32),
    /// Content of a file or target of a link.
    pub(super) content: Vec<u8>,
}

pub(super) type Tree = BTreeMap<Vec<u8>, Seen>;

/// A directory that goes when it is dropped.
struct Scratch(PathBuf);

impl Scratch {
    fn new() -> Scratch {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let name = format!("snapfs-salvage-{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        let path = std::env::temp_dir().join(name);
        let _ = std::fs::remove_dir_all(&path);
        std::fs::create_dir(&path).unwrap();
        Scratch(path)
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        // The standard library holds a descriptor for each level.
        let _ = std::process::Command::new("rm").arg("-rf").arg(&self.0).status();
    }
}

#[derive(Default)]
pub(super) struct Heard {
    pub(super) all: Vec<Rescued>,
    progress: u64,
}

impl Listener for Heard {
    fn progress(&mut self, _: SalvageProgress) {
        self.progress += 1;
    }
    fn rescued(&mut self, rescued: Rescued) {
        self.all.push(rescued);
    }
}

impl Heard {
    pub(super) fn state(&self, path: &[u8]) -> Option<&Rescued> {
        self.all.iter().rev().find(|r| r.path == path)
    }
}

pub(super) struct Sample {
    pub(super) sim: Sim,
    pub(super) live: Tree,
    pub(super) past: Tree,
}

impl Sample {
    /// A live tree with `files` small files and some of every other kind, and a snapshot of an earlier one.
    pub(super) fn new(files: usize) -> Sample {
        let sim = new_store(SIZE);
        let fs = mount(sim.clone());
        let mkdir = |p, n: &str| mkdir(&fs, p, n);
        let dirs: Vec<NodeId> = (0..8).map(|n| mkdir(NodeId::ROOT, &format!("dir{n}"))).collect();
        let deep = mkdir(mkdir(dirs[0], "deep"), "deeper");
        for n in 0..files {
            put(&fs, dirs[n % 8], &format!("small{n}"), &bytes(n as u64, n % 500 + 1));
        }
        let mut big = Vec::new();
        for n in 0..10 {
            big.push(put(&fs, deep, &format!("big{n}"), &bytes(9000 + n, 100_000 * n as usize + 5000)));
        }
        fs.symlink(&ADMIN, dirs[1], b"link", b"../dir0/small0").unwrap();
        fs.mknod(&ADMIN, dirs[1], b"pipe", FileType::Fifo, 0o604, 0).unwrap();
        fs.link(&ADMIN, big[3], dirs[2], b"hard").unwrap();
        fs.setxattr(&ADMIN, big[0], b"user.short", b"value", XattrMode::Set).unwrap();
        fs.setxattr(&ADMIN, big[0], b"user.long", &bytes(7, 20_000), XattrMode::Set).unwrap();
        mkdir(NodeId::ROOT, "lost+found");
        snapshot(&fs, "past");
        for n in (0..files).step_by(5) {
            fs.unlink(&ADMIN, dirs[n % 8], format!("small{n}").as_bytes()).unwrap();
        }
        for (n, node) in big.iter().enumerate() {
            overwrite(&fs, *node, 30_000 * n as u64, &bytes(70 + n as u64, 9000));
            let handle = fs.open(&ADMIN, *node, RW).unwrap();
            fs.fallocate(&ADMIN, *node, handle, 2 << 20, 50_000, AllocateMode::KeepSize).unwrap();
            fs.release(*node, handle);
        }
        fs.commit().unwrap();
        put(&fs, NodeId::ROOT, "last", &bytes(5, 70_000));
        fs.close().unwrap();
        let live = tree_of(&fs, NodeId::ROOT);
        let root = fs.lookup(&ADMIN, SNAPDIR, b"past").unwrap().attr.node;
        let past = tree_of(&fs, root);
        Sample { sim: sim.clone_image(), live, past }
    }

    fn device(&self) -> Arc<Sim> {
        Arc::new(self.sim.clone_image())
    }

    fn state(&self) -> Committed {
        open(self.device(), Access::ReadOnly).unwrap().committed().unwrap()
    }

    /// Nodes of the live tree, the root first.
    fn nodes(&self) -> Vec<(BlockPtr, u8)> {
        let state = self.state();
        blocks_below(&state, &live_root(&state)).nodes
    }
}

pub(super) fn zero_superblocks(device: &Sim) {
    device.zero(0, RESERVED_BYTES);
}

/// A tree as the file system shows it.
pub(super) fn tree_of(fs: &Fs, root: NodeId) -> Tree {
    let mut tree = Tree::new();
    let mut todo = vec![(root, Vec::new())];
    while let Some((dir, path)) = todo.pop() {
        let handle = fs.opendir(&ADMIN, dir).unwrap();
        let mut names = Vec::new();
        fs.readdir(dir, handle, 2, false, &mut |e| {
            names.push((e.name.clone(), e.node));
            true
        })
        .unwrap();
        fs.releasedir(dir, handle);
        for (name, node) in names {
            let (attr, _) = fs.getattr(node, None).unwrap();
            let path = [path.as_slice(), &name].concat();
            let mut content = Vec::new();
            match attr.kind {
                FileType::Regular => {
                    content = read_whole(fs, node).unwrap();
                    assert_eq!(content.len() as u64, attr.size);
                }
                FileType::Symlink => content = fs.readlink(node).unwrap(),
                FileType::Directory => todo.push((node, [&path, b"/".as_slice()].concat())),
                _ => {}
            }
            let links = if attr.kind == FileType::Directory { 0 } else { attr.nlink };
            let mtime = (attr.mtime.secs, attr.mtime.nanos);
            tree.insert(path, Seen { kind: attr.kind, mode: attr.mode, links, mtime, content });
        }
    }
    tree
}

/// A tree as it was written out.
fn tree_at(root: &Path) -> Tree {
    let mut tree = Tree::new();
    let mut todo = vec![root.to_path_buf()];
    while let Some(dir) = todo.pop() {
        for entry in std::fs::read_dir(&dir).unwrap() {
            let path = entry.unwrap().path();
            let meta = std::fs::symlink_metadata(&path).unwrap();
            let (kind, content) = if meta.is_dir() {
                todo.push(path.clone());
                (FileType::Directory, Vec::new())
            } else if meta.is_symlink() {
                (FileType::Symlink, std::fs::read_link(&path).unwrap().into_os_string().into_vec())
            } else if meta.file_type().is_fifo() {
                (FileType::Fifo, Vec::new())
            } else {
                assert!(meta.is_file(), "{path:?}");
                (FileType::Regular, std::fs::read(&path).unwrap())
            };
            let name = path.strip_prefix(root).unwrap().as_os_str().as_bytes().to_vec();
            let links = if meta.is_dir() { 0 } else { meta.nlink() as u32 };
            let mode = if meta.is_symlink() { 0o777 } else { meta.mode() & 0o7777 };
            let mtime = (meta.mtime(), meta.mtime_nsec() as u32);
            tree.insert(name, Seen { kind, mode, links, mtime, content });
        }
    }
    tree
}

pub(super) fn salvage(device: &Arc<Sim>, wanted: &Wanted) -> (Summary, Tree, Heard) {
    try_salvage(device, wanted).unwrap()
}

pub(super) fn try_salvage(
    device: &Arc<Sim>,
    wanted: &Wanted,
) -> std::result::Result<(Summary, Tree, Heard), SalvageError> {
    let scratch = Scratch::new();
    let mut heard = Heard::default();
    let device: Arc<dyn Device> = device.clone();
    let summary = run(&device, wanted, Some(&scratch.0.join("out")), &mut heard)?;
    let tree = tree_at(&scratch.0.join("out"));
    let names: Vec<_> = std::fs::read_dir(&scratch.0).unwrap().collect();
    assert_eq!(names.len(), 1, "nothing outside of the output");
    Ok((summary, tree, heard))
}

pub(super) fn by_scan() -> Wanted {
    Wanted { by_scan: true, ..Wanted::default() }
}

pub(super) fn named(name: &[u8]) -> Wanted {
    Wanted { snapshot: Some(name.to_vec()), ..Wanted::default() }
}

/// All of a tree came out, and nothing else.
pub(super) fn is_all(found: &(Summary, Tree, Heard), expected: &Tree, what: &str) {
    let (summary, tree, heard) = found;
    let bad: Vec<_> = heard.all.iter().filter(|r| r.state != Outcome::Whole).take(5).collect();
    assert!(bad.is_empty(), "{what}: {bad:?}");
    let differ = expected.iter().filter(|(path, seen)| tree.get(*path) != Some(seen));
    let differ: Vec<_> = differ.map(|(p, _)| String::from_utf8_lossy(p).into_owned()).take(5).collect();
    assert!(differ.is_empty(), "{what}: {differ:?} differ");
    let more =
        tree.keys().filter(|p| !expected.contains_key(*p)).map(|p| String::from_utf8_lossy(p).into_owned());
    let more: Vec<_> = more.take(5).collect();
    assert!(more.is_empty(), "{what}: {more:?} must not be there; {summary:?}");
    assert_eq!(summary.whole, expected.len() as u64, "{what}");
    assert!(heard.progress > 0);
}

#[test]
fn a_sound_store_comes_out_as_it_is() {
    let sample = Sample::new(3000);
    let device = sample.device();
    is_all(&salvage(&device, &Wanted::default()), &sample.live, "live");
    is_all(&salvage(&device, &named(b"past")), &sample.past, "snapshot");
    is_all(&salvage(&device, &by_scan()), &sample.live, "scan");
    is_all(
        &salvage(&device, &Wanted { snapshot: Some(b"past".to_vec()), ..by_scan() }),
        &sample.past,
        "both",
    );
    assert_eq!(device.counts().writes + device.counts().flushes + device.counts().backs, 0);
    // Without an output everything is read and nothing written.
    let device: Arc<dyn Device> = device;
    let mut heard = Heard::default();
    let summary = run(&device, &Wanted::default(), None, &mut heard).unwrap();
    let told: BTreeSet<Vec<u8>> = heard.all.iter().map(|r| r.path.clone()).collect();
    assert!(summary.is_whole() && told == sample.live.keys().cloned().collect());
    // What is there is never touched.
    let scratch = Scratch::new();
    std::fs::write(scratch.0.join("file"), "mine").unwrap();
    let refused = run(&device, &Wanted::default(), Some(&scratch.0), &mut heard);
    assert!(matches!(&refused, Err(SalvageError::Output(what)) if what.contains("not empty")), "{refused:?}");
    let unknown = run(&device, &named(b"no"), None, &mut heard).map(drop);
    assert_eq!(unknown, Err(SalvageError::NoSuchSnapshot { known: vec!["past".into()] }));
}

#[test]
fn attributes_come_out() {
    let sample = Sample::new(10);
    let scratch = Scratch::new();
    let (out, mut heard) = (scratch.0.join("out"), Heard::default());
    let device: Arc<dyn Device> = sample.device();
    run(&device, &Wanted::default(), Some(&out), &mut heard).unwrap();
    let same = |a: &str, b: &str| {
        let ino = |p: &str| std::fs::metadata(out.join(p)).unwrap().ino();
        assert_eq!(ino(a), ino(b), "{a} and {b} are one file");
    };
    same("dir0/deep/deeper/big3", "dir2/hard");
    assert_eq!(std::fs::metadata(out.join("dir0/small8")).unwrap().mode() & 0o7777, 0o640);
    let big = heard.state(b"dir0/deep/deeper/big0").unwrap();
    // Where the host has no such attributes it says so, and that is no damage.
    assert!(
        big.state == Outcome::Whole && (big.notes.is_empty() || big.notes[0].contains("user.")),
        "{big:?}"
    );
}

#[test]
fn without_superblocks() {
    let sample = Sample::new(3000);
    let device = sample.device();
    zero_superblocks(&device);
    let found = salvage(&device, &Wanted::default());
    is_all(&found, &sample.live, "live");
    assert!(found.0.source.iter().any(|s| s.contains("scan")), "{:?}", found.0.source);
    is_all(&salvage(&device, &named(b"past")), &sample.past, "snapshot");
}

#[test]
fn second_copies_stand_for_lost_blocks() {
    let sample = Sample::new(1500);
    let state = sample.state();
    let device = sample.device();
    let meta = blocks_below(&state, &state.superblock.meta_root).nodes;
    for (n, (ptr, _)) in sample.nodes().iter().chain(&meta).enumerate() {
        let places: Vec<(u64, u64)> = ptr.ranges().collect();
        let (at, len) = places[n % places.len()];
        device.zero(at, len);
    }
    is_all(&salvage(&device, &Wanted::default()), &sample.live, "from the superblock");
    zero_superblocks(&device);
    is_all(&salvage(&device, &Wanted::default()), &sample.live, "from a scan");
    is_all(&salvage(&device, &by_scan()), &sample.live, "from the newest nodes");
}

#[test]
fn without_superblocks_and_meta_tree() {
    let sample = Sample::new(3000);
    let state = sample.state();
    let device = sample.device();
    zero_superblocks(&device);
    for (ptr, _) in blocks_below(&state, &state.superblock.meta_root).nodes {
        zero(&device, &ptr);
    }
    // An older meta tree tells of an older root; the newest nodes are more.
    is_all(&salvage(&device, &by_scan()), &sample.live, "the newest nodes");
    let (_, tree, _) = salvage(&device, &Wanted::default());
    for (path, seen) in sample.past.iter().filter(|(p, _)| p.starts_with(b"dir1/")) {
        let now = sample.live.get(path).unwrap_or(seen);
        assert!(tree.get(path).is_none_or(|s| s == seen || s == now), "{path:?} is of some time");
    }
}

#[test]
fn without_the_root_of_the_live_tree() {
    let sample = Sample::new(16_000);
    let nodes = sample.nodes();
    assert!(nodes[0].1 >= 2, "a tree of three levels");
    let device = sample.device();
    zero(&device, &nodes[0].0);
    is_all(&salvage(&device, &by_scan()), &sample.live, "scan");
    // The superblock before the last commit still leads somewhere.
    let (summary, tree, _) = salvage(&device, &Wanted::default());
    let lost = sample.live.keys().filter(|path| !tree.contains_key(*path)).count();
    assert!(lost <= 1, "{lost} names of the last commit are lost: {summary:?}");
    let zeroed = device.clone_image();
    zero_superblocks(&zeroed);
    is_all(&salvage(&Arc::new(zeroed), &Wanted::default()), &sample.live, "no superblocks either");
    // And with no inner node at all.
    let device = sample.device();
    nodes.iter().filter(|(_, level)| *level > 0).for_each(|(ptr, _)| zero(&device, ptr));
    let (_, tree, _) = salvage(&device, &by_scan());
    for (path, seen) in &sample.live {
        assert!(tree.get(path) == Some(seen), "{} is not as it was", String::from_utf8_lossy(path));
    }
}

/// Inodes of which an item is in one of these leaves.
fn inodes_in(state: &Committed, leaves: &[BlockPtr]) -> BTreeSet<u64> {
    let mut inodes = BTreeSet::new();
    for ptr in leaves {
        let page = state.pager.load_leaf(ptr).unwrap();
        inodes.extend((0..page.count()).map(|i| page.key(i).object));
    }
    inodes
}

#[test]
fn a_share_of_the_nodes_is_lost() {
    let sample = Sample::new(2500);
    let (state, nodes) = (sample.state(), sample.nodes());
    let mount = mount(sample.device());
    let ino_of = |path: &[u8]| {
        let mut node = NodeId::ROOT;
        for name in path.split(|b| *b == b'/') {
            node = mount.lookup(&ADMIN, node, name).unwrap().attr.node;
        }
        node.ino()
    };
    let inos: BTreeMap<Vec<u8>, u64> = sample.live.keys().map(|path| (path.clone(), ino_of(path))).collect();
    for (seed, share) in [(1, 3), (2, 10), (3, 30), (4, 80)] {
        let mut rng = fastrand::Rng::with_seed(seed);
        let device = sample.device();
        let gone: Vec<_> = nodes.iter().filter(|_| rng.u8(0..100) < share).copied().collect();
        gone.iter().for_each(|(ptr, _)| zero(&device, ptr));
        let leaves: Vec<BlockPtr> =
            gone.iter().filter(|(_, level)| *level == 0).map(|(ptr, _)| *ptr).collect();
        let touched = inodes_in(&state, &leaves);
        for wanted in [Wanted::default(), by_scan()] {
            let (summary, tree, heard) = salvage(&device, &wanted);
            let older = !wanted.by_scan && gone.iter().any(|(ptr, _)| *ptr == nodes[0].0);
            let mut whole = 0;
            for (path, ino) in &inos {
                let expected = &sample.live[path];
                let told = heard.state(path).map(|r| r.state);
                if let Some(found) = tree.get(path).filter(|f| f.kind == FileType::Regular && !older) {
                    // What is called whole is right, and what is not has holes, but nothing wrong.
                    let whole = told == Some(Outcome::Whole);
                    assert!(!whole || found.content == expected.content, "{path:?} in {seed}");
                    let same = found.content.iter().zip(&expected.content).all(|(a, b)| a == b || *a == 0);
                    assert!(same, "{path:?} in {seed} has other bytes");
                }
                if touched.contains(ino) || older || expected.kind == FileType::Directory {
                    continue;
                }
                let same = |s: &&Seen| s.content == expected.content && s.kind == expected.kind;
                let at_home = tree.get(path).filter(same);
                let found = at_home.is_some() || tree.values().any(|s| same(&s));
                assert!(
                    found,
                    "seed {seed}: {:?} had all its leaves; {summary:?}",
                    String::from_utf8_lossy(path)
                );
                whole += 1;
            }
            assert!(older || whole > 0 || share > 50, "{whole} files kept all their leaves");
        }
    }
}

#[test]
fn damaged_content_becomes_holes() {
    let sample = Sample::new(50);
    let state = sample.state();
    let live = state.records.iter().find(|r| r.role == Role::Head && r.line == LineId::MAIN).unwrap();
    let mut blocks: BTreeMap<u64, Vec<(u64, u64)>> = BTreeMap::new();
    walk(&state.pager, &live.root.unwrap(), Epoch(0), &mut |visit| {
        if let Visit::Item(key, value) = visit
            && key.kind == Kind::Extent as u8
        {
            let extent = Extent::decode(value)?;
            if !extent.is_unwritten() {
                let all =
                    (0..extent.len_bytes()).step_by(4096).map(|at| (key.rest + at, extent.raw_addr.0 + at));
                blocks.entry(key.object).or_default().extend(all);
            }
        }
        Ok(Step::Into)
    })
    .unwrap();
    let (ino, blocks) = blocks.into_iter().max_by_key(|(_, b)| b.len()).unwrap();
    let device = sample.device();
    let fs = mount(sample.device());
    let path = b"dir0/deep/deeper/big9".as_slice();
    assert_eq!(
        path.split(|b| *b == b'/')
            .fold(NodeId::ROOT, |d, n| fs.lookup(&ADMIN, d, n).unwrap().attr.node)
            .ino(),
        ino
    );
    let mut expected = sample.live[path].content.clone();
    let mut lost = Vec::new();
    for n in [0, 7, 8, 30, blocks.len() - 1] {
        let (offset, addr) = blocks[n];
        device.flip(addr + 100, 1);
        let len = (expected.len() as u64 - offset).min(4096);
        expected[offset as usize..(offset + len) as usize].fill(0);
        lost.push((offset, len));
    }
    device.make_unreadable(blocks[20].1, 512);
    expected[blocks[20].0 as usize..blocks[20].0 as usize + 4096].fill(0);
    lost.push((blocks[20].0, 4096));
    lost.sort_unstable();
    let (summary, tree, heard) = salvage(&device, &Wanted::default());
    assert_eq!((summary.damaged, summary.lost), (1, 0));
    let told = heard.state(path).unwrap();
    let mut joined: Vec<(u64, u64)> = Vec::new();
    for (at, len) in lost {
        match joined.last_mut() {
            Some((a, l)) if *a + *l == at => *l += len,
            _ => joined.push((at, len)),
        }
    }
    assert_eq!((told.state, &told.content.lost), (Outcome::Damaged, &joined));
    assert!(tree[path].content == expected);
}

fn edit(volume: &Volume, change: impl FnOnce(&mut crate::volume::Txn<'_>)) {
    let mut txn = volume.begin(LineId::MAIN).unwrap();
    txn.reserve(Need { items: 50, ..Need::default() }, ReserveFor::Write).unwrap();
    change(&mut txn);
    drop(txn);
    volume.commit(&mut |_| Ok(())).unwrap();
}

#[test]
fn names_lead_nowhere_else() {
    let sample = Sample::new(20);
    let device = sample.device();
    let fs = mount(device.clone());
    let node = |path: &str| find(&fs, path).ino();
    let (dir1, deep, small) = (node("dir1"), node("dir0/deep"), node("dir3/small3"));
    let (dir3, small4) = (node("dir3"), node("dir4/small4"));
    let victim = Scratch::new();
    let link =
        fs.symlink(&ADMIN, NodeId::ROOT, b"door", victim.0.as_os_str().as_bytes()).unwrap().attr.node.ino();
    fs.commit().unwrap();
    let entry = |ino, name: &[u8], kind, slot| Dirent { ino: Ino(ino), kind, slot, name: name.to_vec() };
    edit(fs.volume(), |txn| {
        // A directory under the name of a link that leads out, and a circle of directories.
        let at = |dir, name: &[u8]| Key::new(dir, Kind::Dirent, name_hash(name));
        let bucket = NameBucket { entries: vec![entry(link, b"door", FileType::Symlink, 0)] };
        txn.insert(at(1, b"door"), &bucket.encode()).unwrap();
        let twice = NameBucket { entries: vec![entry(deep, b"door", FileType::Directory, 0)] };
        // Under another hash, so that both are found.
        txn.insert(Key::new(1, Kind::Dirent, u64::MAX >> 1 & !0xff), &twice.encode()).unwrap();
        let circle = NameBucket { entries: vec![entry(dir1, b"self", FileType::Directory, 0)] };
        txn.insert(at(dir1, b"self"), &circle.encode()).unwrap();
        // Links with names that are none, of a file that no directory names any more.
        txn.remove(&at(dir3, b"small3")).unwrap();
        for (name, parent) in
            [(b"../../../etc/x".as_slice(), dir1), (b"..", dir1), (b"a\0b", dir1), (b"", dir1)]
        {
            let links = Links { names: vec![(Ino(parent), name.to_vec())] };
            if !name.is_empty() {
                txn.insert(Key::new(small, Kind::Link, link_hash(Ino(parent), name)), &links.encode())
                    .unwrap();
            }
        }
        txn.remove(&Key::new(small, Kind::Link, link_hash(Ino(dir3), b"small3"))).unwrap();
        // A size that no host has.
        let at = Key::new(small4, Kind::Inode, 0);
        let mut inode = Inode::decode(&txn.view().get(&at).unwrap().unwrap()).unwrap();
        inode.size = (1 << 63) - 4096;
        txn.insert(at, &inode.encode()).unwrap();
    });
    drop(fs);
    for wanted in [Wanted::default(), by_scan()] {
        let scratch = Scratch::new();
        let (out, mut heard) = (scratch.0.join("out"), Heard::default());
        let sim: Arc<dyn Device> = Arc::new(device.clone_image());
        run(&sim, &wanted, Some(&out), &mut heard).unwrap();
        assert_eq!(std::fs::read_dir(&victim.0).unwrap().count(), 0, "nothing through the door");
        assert!(std::fs::symlink_metadata(out.join("door")).unwrap().is_symlink());
        assert!(!out.join("dir1/self").exists(), "no circle");
        let rest: Vec<_> = heard.all.iter().filter(|r| r.path.starts_with(b"lost+found~/")).collect();
        assert!(rest.iter().any(|r| r.path.ends_with(small.to_string().as_bytes())), "{rest:?}");
        let huge = heard.state(b"dir4/small4").unwrap();
        assert!(huge.state != Outcome::Whole || !huge.notes.is_empty() || out.join("dir4/small4").exists());
    }
}

#[test]
fn hostile_images_do_no_harm() {
    let sample = Sample::new(300);
    let nodes = sample.nodes();
    let images = std::env::var("SNAPFS_CRAFTED").map_or(60, |n| n.parse().unwrap());
    for seed in 0..images {
        let mut rng = fastrand::Rng::with_seed(seed);
        let device = sample.device();
        for _ in 0..rng.usize(1..12) {
            let (ptr, _) = nodes[rng.usize(..nodes.len())];
            let mut block = device.peek(ptr.addr.0, u64::from(ptr.len));
            for _ in 0..rng.usize(1..6) {
                let at = if rng.bool() { rng.usize(12..200) } else { rng.usize(12..block.len() - 8) };
                match rng.u8(0..4) {
                    0 => block[at] = rng.u8(..),
                    1 => block[at..at + 8].copy_from_slice(&rng.u64(..).to_le_bytes()),
                    2 => block[at..at + 8].copy_from_slice(&u64::MAX.to_le_bytes()),
                    _ => block[at] ^= 1 << rng.u8(0..8),
                }
            }
            reseal(&mut block);
            device.write_at(ptr.addr.0, &block).unwrap();
        }
        if rng.bool() {
            zero_superblocks(&device);
        }
        let wanted = Wanted { by_scan: rng.bool(), ..Wanted::default() };
        let scratch = Scratch::new();
        let device: Arc<dyn Device> = device;
        let _done = run(&device, &wanted, Some(&scratch.0.join("out")), &mut Heard::default());
        assert!(std::fs::read_dir(&scratch.0).unwrap().count() <= 1, "seed {seed}");
    }
}

#[test]
fn nodes_of_two_stores_are_told_apart() {
    let sample = Sample::new(400);
    let device = sample.device();
    zero_superblocks(&device);
    // Another store was made here before, in a part that this one does not use.
    let other = Arc::new(Sim::new(SIZE, 2));
    Volume::create(other.clone(), SIZE, [5; 16], (0, 0)).unwrap();
    let fs = mount(other.clone());
    put(&fs, NodeId::ROOT, "other", b"x");
    fs.close().unwrap();
    let volume = open(other.clone(), Access::ReadOnly).unwrap();
    let state = volume.committed().unwrap();
    let live = state.records[0].root.unwrap();
    let mut block = other.peek(live.addr.0, u64::from(live.len));
    let place = 200 << 20;
    block[24..32].copy_from_slice(&u64::to_le_bytes(place));
    reseal(&mut block);
    device.write_at(place, &block).unwrap();
    let found = salvage(&device, &Wanted::default());
    is_all(&found, &sample.live, "the larger one");
    assert!(found.0.source.iter().any(|s| s.contains("--fsid 0505050505050505")), "{:?}", found.0.source);
    let wanted = Wanted { fsid: Some(0x0505_0505_0505_0505), ..by_scan() };
    let (_, tree, _) = salvage(&device, &wanted);
    assert_eq!(tree.keys().collect::<Vec<_>>(), [b"other"]);
    let nothing: Arc<dyn Device> = Arc::new(Sim::new(SIZE, 3));
    let done = run(&nothing, &Wanted::default(), None, &mut Heard::default());
    assert!(matches!(done, Err(SalvageError::Nothing)), "{done:?}");
}

#[test]
fn the_newest_state_that_leads_anywhere_is_taken() {
    let sample = Sample::new(500);
    let device = sample.device();
    let states: Vec<Superblock> = ring::read(&*device).unwrap().states;
    zero(&device, &states[0].meta_root);
    // A close writes the state of the last commit once more.
    let before = states.iter().find(|s| s.meta_root != states[0].meta_root).unwrap();
    let (summary, tree, _) = salvage(&device, &Wanted::default());
    assert!(summary.source.iter().any(|s| s.starts_with(&format!("state {} of", before.seq))), "{summary:?}");
    let lost = sample.live.keys().filter(|path| !tree.contains_key(*path)).count();
    assert!(lost <= 1, "no more than the last commit: {lost}");
}

/// Deeper than a path can tell, with a file and a second name of it at the bottom, and files on the way.
#[test]
fn any_depth_comes_out() {
    const LEVELS: usize = 5000;
    let sim = new_store(SIZE);
    let fs = mount(sim.clone());
    let top = put(&fs, NodeId::ROOT, "top", b"top");
    let name = |level: usize| format!("{level:0>40}");
    let mut dir = NodeId::ROOT;
    for level in 0..LEVELS {
        dir = fs.mkdir(&ADMIN, dir, name(level).as_bytes(), 0o751).unwrap().attr.node;
        if level % 500 == 0 {
            put(&fs, dir, "file", format!("{level}").as_bytes());
        }
    }
    let bottom = put(&fs, dir, "bottom", b"bottom");
    fs.link(&ADMIN, top, dir, b"top").unwrap();
    fs.link(&ADMIN, bottom, NodeId::ROOT, b"again").unwrap();
    fs.close().unwrap();
    drop(fs);

    let (scratch, mut heard) = (Scratch::new(), Heard::default());
    let device: Arc<dyn Device> = sim;
    let out = scratch.0.join("out");
    let summary = run(&device, &Wanted::default(), Some(&out), &mut heard).unwrap();
    let bad: Vec<_> = heard.all.iter().filter(|r| r.state != Outcome::Whole || !r.notes.is_empty()).collect();
    assert!(summary.is_whole() && bad.is_empty(), "{summary:?} {:?}", bad.first());
    assert_eq!(summary.whole, (LEVELS + LEVELS / 500 + 4) as u64);
    assert!(heard.all.iter().all(|r| r.path.len() <= 1 << 16));

    let mut dir = std::os::fd::OwnedFd::from(std::fs::File::open(&out).unwrap());
    let read = |dir: &std::os::fd::OwnedFd, name: &str| {
        std::fs::read_to_string(format!("/proc/self/fd/{}/{name}", dir.as_raw_fd())).unwrap()
    };
    assert_eq!((read(&dir, "again"), read(&dir, "top")), ("bottom".into(), "top".into()));
    for level in 0..LEVELS {
        dir = crate::sys::at::open_directory(dir.as_fd(), name(level).as_bytes()).unwrap();
        if level % 500 == 0 {
            assert_eq!(read(&dir, "file"), format!("{level}"));
        }
    }
    assert_eq!((read(&dir, "bottom"), read(&dir, "top")), ("bottom".into(), "top".into()));
    assert_eq!(std::fs::File::from(dir).metadata().unwrap().mode() & 0o7777, 0o751);
}
