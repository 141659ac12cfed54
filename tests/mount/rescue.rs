//! `check --repair` and `salvage` end to end: a store made by a real mount, damaged as a disk would, and mounted again.

mod guard;
mod place;
mod raw;

use guard::can_mount;
use place::{Place, Said};
use snapfs::format::superblock::{RING_SLOTS, SLOT_BYTES, Superblock};
use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsStr;
use std::fs::{self, OpenOptions};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileExt, MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;

/// A store with some of everything, unmounted, and what is in it.
fn filled() -> (Place, BTreeMap<PathBuf, (u32, Vec<u8>)>) {
    let p = Place::new();
    p.mount("");
    fs::create_dir_all(p.path("a/b")).unwrap();
    for n in 0..400_usize {
        let data: Vec<u8> = (0..n * 50).map(|i| (i * 7 + n) as u8 | 1).collect();
        fs::write(p.path(&format!("a/file{n}")), data).unwrap();
    }
    fs::write(p.path("a/b/big"), vec![7; 3 << 20]).unwrap();
    fs::set_permissions(p.path("a/file3"), fs::Permissions::from_mode(0o751)).unwrap();
    symlink("../file1", p.path("a/b/link")).unwrap();
    fs::hard_link(p.path("a/file9"), p.path("a/b/nine")).unwrap();
    p.snapshot("one");
    fs::remove_file(p.path("a/file2")).unwrap();
    let tree = tree(&p.path(""));
    p.umount();
    (p, tree)
}

/// Content that tells its place: no two blocks are equal.
fn pattern(len: usize, seed: u64) -> Vec<u8> {
    let mut random = fastrand::Rng::with_seed(seed);
    (0..len).map(|_| random.u8(..)).collect()
}

fn tree(root: &Path) -> BTreeMap<PathBuf, (u32, Vec<u8>)> {
    let (mut tree, mut todo) = (BTreeMap::new(), vec![root.to_path_buf()]);
    while let Some(dir) = todo.pop() {
        for entry in fs::read_dir(&dir).unwrap() {
            let path = entry.unwrap().path();
            let meta = fs::symlink_metadata(&path).unwrap();
            let content = if meta.is_dir() {
                todo.push(path.clone());
                Vec::new()
            } else if meta.is_symlink() {
                fs::read_link(&path).unwrap().into_os_string().into_encoded_bytes()
            } else {
                fs::read(&path).unwrap()
            };
            tree.insert(path.strip_prefix(root).unwrap().into(), (meta.mode(), content));
        }
    }
    tree
}

/// Files of the store with their content.
fn bytes_of(store: &Path) -> BTreeMap<PathBuf, (u32, Vec<u8>)> {
    tree(store)
}

/// The newest superblock.
fn newest(p: &Place) -> Superblock {
    let ring = fs::read(p.at("store/super.a")).unwrap();
    let slots = ring.chunks_exact(SLOT_BYTES).take(RING_SLOTS as usize);
    slots.filter_map(|slot| Superblock::decode(slot).ok()).max_by_key(|s| s.seq).unwrap()
}

fn zero(p: &Place, ranges: impl Iterator<Item = (u64, u64)>) {
    for (at, len) in ranges {
        let path = p.at(&format!("store/seg/{:08x}", at >> 30));
        let file = OpenOptions::new().write(true).open(path).unwrap();
        file.write_all_at(&vec![0; len as usize], at % (1 << 30)).unwrap();
    }
}

#[test]
fn a_store_without_its_space_map_is_repaired() {
    if !can_mount() {
        return;
    }
    let (p, before) = filled();
    let sound = bytes_of(&p.at("store"));
    assert_eq!(p.ok(&["check", "store", "--repair"]), "nothing derived is wrong\n");
    assert!(bytes_of(&p.at("store")) == sound, "a sound store is left alone");
    zero(&p, newest(&p).space_map.unwrap().ranges());
    let said = p.run(&["mount", "store", "mnt"]);
    assert!(said.code != 0 && said.err.contains("damaged"), "{said:?}");
    let said = p.run(&["check", "store"]);
    assert!(said.code == 3 && said.out.contains("space map"), "{said:?}");
    let damaged = bytes_of(&p.at("store"));
    let said = p.run(&["check", "store", "--repair", "--dry-run"]);
    assert!(said.code == 3 && said.out.contains("would rebuild: the space map"), "{said:?}");
    assert!(bytes_of(&p.at("store")) == damaged, "a dry run writes nothing");
    assert!(p.ok(&["check", "store", "--repair"]).contains("rebuilt: the space map"));
    p.check();
    p.mount("");
    let said = p.run(&["check", "mnt", "--repair"]);
    assert!(said.code == 1 && said.err.contains("unmount it first"), "{said:?}");
    assert!(tree(&p.path("")) == before);
    assert!(fs::metadata(p.past("one", "a/file2")).is_ok());
    p.umount();
}

#[test]
fn a_ring_that_is_gone_comes_back() {
    if !can_mount() {
        return;
    }
    let (p, _) = filled();
    let ring = fs::read(p.at("store/super.b")).unwrap();
    fs::remove_file(p.at("store/super.b")).unwrap();
    let said = p.ok(&["check", "store", "--repair"]);
    assert!(said.contains("from the other ring"), "{said}");
    let back = fs::read(p.at("store/super.b")).unwrap();
    assert!(ring.starts_with(&back[..back.len().min(ring.len())]) && back.len() >= SLOT_BYTES);
    p.check();
}

#[test]
fn files_come_out_without_superblocks() {
    if !can_mount() {
        return;
    }
    let (p, before) = filled();
    let ranges = newest(&p).meta_root.ranges();
    for name in ["super.a", "super.b"] {
        fs::remove_file(p.at("store").join(name)).unwrap();
    }
    let left = bytes_of(&p.at("store"));
    let said = p.run(&["check", "store", "--repair"]);
    assert!(said.code == 1 && said.err.contains("'snapfs salvage' may get files out"), "{said:?}");
    let list = p.ok(&["salvage", "store", "--list"]);
    assert!(list.contains("a/b/big") && list.contains("whole: "), "{list}");
    p.ok(&["salvage", "store", "out"]);
    assert!(tree(&p.at("out")) == before);
    let ino = |path: &str| fs::metadata(p.at("out").join(path)).unwrap().ino();
    assert_eq!(ino("a/file9"), ino("a/b/nine"));
    p.ok(&["salvage", "store", "past", "--snapshot", "one"]);
    assert!(p.at("past/a/file2").exists());
    let said = p.run(&["salvage", "store", "--list", "--snapshot", "none", "--json"]);
    assert!(said.code == 1 && said.err.contains("there are: one"), "{said:?}");
    zero(&p, ranges);
    p.ok(&["salvage", "store", "newest", "--scan"]);
    assert!(tree(&p.at("newest")) == before);
    let refused = [("out", "not empty"), ("store/x", "inside the store"), ("no/such/place", "No such file")];
    for (out, words) in refused {
        let said = p.run(&["salvage", "store", out]);
        assert!(said.code == 1 && said.err.contains(words), "{said:?}");
    }
    let now = bytes_of(&p.at("store"));
    assert_eq!(
        now.keys().collect::<Vec<_>>(),
        left.keys().collect::<Vec<_>>(),
        "nothing was made in the store"
    );
    for name in ["out", "past", "newest"] {
        fs::remove_dir_all(p.at(name)).unwrap();
    }
}

#[test]
fn lost_content_is_told_with_its_place() {
    if !can_mount() {
        return;
    }
    let (p, before) = filled();
    // The end of the segment is cut off, as by a copy that ran out of space.
    let path = p.at("store/seg/00000000");
    let data = fs::read(&path).unwrap();
    let needle = [7; 8192];
    let at = data.windows(8192).position(|w| w == needle).unwrap() / 4096 * 4096 + 8192;
    let file = OpenOptions::new().write(true).open(&path).unwrap();
    file.write_all_at(&[0; 4096], at as u64).unwrap();
    let said = p.run(&["salvage", "store", "out", "--json"]);
    assert_eq!(said.code, 3, "{said:?}");
    let lines: Vec<serde_json::Value> = said.out.lines().map(|l| serde_json::from_str(l).unwrap()).collect();
    let big = lines.iter().find(|l| l["path"] == "a/b/big").unwrap();
    assert_eq!((&big["state"], &big["lost"][0]["length"]), (&"damaged".into(), &4096.into()), "{big}");
    let hole = big["lost"][0]["offset"].as_u64().unwrap() as usize;
    let out = fs::read(p.at("out/a/b/big")).unwrap();
    assert!(
        out[hole..hole + 4096].iter().all(|b| *b == 0) && out.iter().filter(|b| **b == 0).count() == 4096
    );
    assert_eq!(fs::read(p.at("out/a/file300")).unwrap(), before[Path::new("a/file300")].1);
    fs::remove_dir_all(p.at("out")).unwrap();
}

#[test]
fn a_lost_segment_takes_only_what_was_in_it() {
    if !can_mount() {
        return;
    }
    let (p, before) = filled();
    let segments: Vec<PathBuf> =
        fs::read_dir(p.at("store/seg")).unwrap().map(|entry| entry.unwrap().path()).collect();
    assert!(segments.len() > 1, "the second copies of metadata are far from the first");
    fs::remove_file(p.at("store/seg/00000000")).unwrap();
    let said = p.run(&["salvage", "store", "out"]);
    assert_eq!(said.code, 3, "{said:?}");
    let out = tree(&p.at("out"));
    assert_eq!(out.keys().collect::<Vec<_>>(), before.keys().collect::<Vec<_>>(), "every name is there");
    for (path, (mode, content)) in &before {
        assert_eq!(out[path].0, *mode, "{path:?}");
        assert!(content.len() > 2048 || out[path].1 == *content, "{path:?} is in the tree itself");
    }
    fs::remove_dir_all(p.at("out")).unwrap();
}

#[test]
fn an_image_that_is_cut_short() {
    if !can_mount() {
        return;
    }
    let p = Place::new();
    p.ok(&["init", "store.img", "--size", "256M"]);
    p.ok(&["mount", "store.img", "mnt"]);
    for n in 0..200_usize {
        fs::write(p.path(&format!("file{n}")), vec![n as u8 + 1; 30_000]).unwrap();
    }
    let before = tree(&p.path(""));
    p.umount();
    let image = OpenOptions::new().write(true).open(p.at("store.img")).unwrap();
    // Second copies are behind the middle, and so is nothing that has no other place.
    image.set_len(100 << 20).unwrap();
    let said = p.run(&["mount", "store.img", "mnt"]);
    assert!(said.code != 0 && said.err.contains("cut short"), "{said:?}");
    let said = p.run(&["check", "store.img", "--repair"]);
    assert!(said.code == 1 && said.err.contains("restore its full length first"), "{said:?}");
    p.ok(&["salvage", "store.img", "out"]);
    assert!(tree(&p.at("out")) == before);
    image.set_len(5 << 20).unwrap();
    let said = p.run(&["salvage", "store.img", "part"]);
    assert!(said.code == 3 && said.err.contains("newer states"), "{said:?}");
    for (path, (_, content)) in tree(&p.at("part")) {
        let same = content.iter().zip(&before[&path].1).all(|(a, b)| a == b || *a == 0);
        assert!(same, "{path:?} has no other bytes than it had");
    }
    // What there is no second copy of any more cannot be derived, and the check does not promise it.
    image.set_len(256 << 20).unwrap();
    let checked = p.run(&["check", "store.img", "--json"]);
    let repaired = p.run(&["check", "store.img", "--repair", "--dry-run"]);
    assert!(checked.code == 3 && repaired.code == 3, "{checked:?} {repaired:?}");
    let promised = checked.out.contains("\"repairable\": true");
    assert!(checked.out.contains("\"repairable\": "), "{checked:?}");
    assert_eq!(promised, !repaired.err.contains("cannot be derived"), "{checked:?} {repaired:?}");
    for name in ["out", "part"] {
        fs::remove_dir_all(p.at(name)).unwrap();
    }
}

/// Two names that differ in a byte that is no text look different in every sentence, and none of them garbles a terminal.
#[test]
fn names_that_are_no_text_are_told_whole() {
    if !can_mount() {
        return;
    }
    let p = Place::new();
    let name = |bytes: &[u8]| PathBuf::from(OsStr::from_bytes(bytes));
    p.mount("commit=1");
    let dir = p.path("").join(name(b"d\xff"));
    fs::create_dir(&dir).unwrap();
    let contents: Vec<Vec<u8>> = (1..=2).map(|seed| pattern(100_000, seed)).collect();
    fs::write(dir.join(name(b"f\xfe")), &contents[0]).unwrap();
    fs::write(dir.join(name(b"f\xfd\n\x1b[2J")), &contents[1]).unwrap();
    fs::create_dir(p.path(".snapshots").join(name(b"s\xfc"))).unwrap();
    p.umount();
    let segment = p.at("store/seg/00000000");
    let all = fs::read(&segment).unwrap();
    let file = OpenOptions::new().write(true).open(&segment).unwrap();
    for content in &contents {
        let at = all.chunks(4096).position(|block| block == &content[8192..12288]).expect("a block") * 4096;
        file.write_all_at(&[!all[at]], at as u64).unwrap();
    }
    let paths = [r"/d\xff/f\xfe", r"/d\xff/f\xfd\n\u{1b}[2J"];
    let told = |said: &Said, paths: &[&str]| {
        let all = format!("{}{}", said.out, said.err);
        assert!(said.code == 3 && paths.iter().all(|path| all.contains(path)), "{paths:?}: {said:?}");
        let plain = |c: char| c == '\n' || !c.is_control() && c != char::REPLACEMENT_CHARACTER;
        assert!(all.chars().all(plain), "{said:?}");
    };
    told(&p.run(&["salvage", "store", "--list"]), &paths.map(|path| &path[1..]));
    told(&p.run(&["scrub", "store", "--wait"]), &[paths[0], paths[1], r"s\xfc"]);
    let found: serde_json::Value =
        serde_json::from_str(&p.run(&["scrub", "store", "--status", "--json"]).out).unwrap();
    let files: BTreeSet<&str> =
        found["findings"].as_array().unwrap().iter().map(|f| f["files"][0].as_str().unwrap()).collect();
    assert_eq!(files, BTreeSet::from(paths));
    assert_eq!(found["findings"][0]["snapshots"][0], r"s\xfc");
    let said = p.run(&["salvage", "store", "--list", "--snapshot", "none"]);
    assert!(said.err.contains(r"there are: s\xfc"), "{said:?}");

    // A mounted store says the same, in answers and in its log.
    p.mount("commit=1");
    assert!(fs::read(dir.join(name(b"f\xfe"))).is_err());
    told(&p.run(&["scrub", "mnt", "--wait"]), &paths);
    assert!(p.log().contains(paths[0]), "{}", p.log());
    p.umount();

    // So do sentences about a store that has such a name itself.
    let stores = [name(b"store\xff"), name(b"store\xfe")];
    for store in &stores {
        fs::create_dir(p.at("").join(store)).unwrap();
        fs::write(p.at("").join(store).join(name(b"mine\xfd")), "").unwrap();
        let mut command = Command::new(env!("CARGO_BIN_EXE_snapfs"));
        let said = place::said(p.settle(&mut command).arg("mount").arg(store).arg("mnt"));
        let shown = snapfs::names::shown(store);
        assert!(said.code != 0 && said.err.contains(&shown) && said.err.contains(r"mine\xfd"), "{said:?}");
    }
    for store in &stores {
        fs::remove_dir_all(p.at("").join(store)).unwrap();
    }
}
