//! Histories of all kinds, and purges: of what is gone no byte is on the device, and all else is as it was.

use super::purging::*;
use super::*;
use crate::device::mirror::write_label;
use crate::device::{Device, Mirror, Sim};
use crate::fixtures::together_label;
use crate::format::provenance::{Provenance, Reason};
use crate::format::{Ino, LineId, ViewId};
use crate::fs::items::{Items, read_blocks};
use crate::fs::{HoldTerms, MergeOrder, MergeWay, OpenForWriting, PurgeAsked, PurgeEnd};
use crate::volume::View;
use std::collections::{BTreeMap, BTreeSet};

const SMALL: [&str; 4] = ["a", "b", "c", "d"];
const LARGE: [&str; 2] = ["x", "y"];
const LINE_BYTES: usize = 32;

/// A line of some content: which content it is, and its number there.
type Mark = (u64, u64);

/// Content of which each line is told from all others.
fn marked(version: u64, bytes: usize) -> Vec<u8> {
    (0..bytes / LINE_BYTES).flat_map(|n| format!("S3CR{version:012}{n:012}~~~\n").into_bytes()).collect()
}

fn mark_at(bytes: &[u8]) -> Option<Mark> {
    let number = |from: usize| std::str::from_utf8(bytes.get(from..from + 12)?).ok()?.parse().ok();
    bytes.starts_with(b"S3CR").then(|| Some((number(4)?, number(16)?)))?
}

fn marks(bytes: &[u8]) -> BTreeSet<Mark> {
    (0..bytes.len()).filter_map(|at| mark_at(&bytes[at..])).collect()
}

fn sides() -> (Vec<Arc<Sim>>, Arc<dyn Device>) {
    let sims = [1, 2].map(|n| Arc::new(Sim::with_fresh_content(SIZE, n, 0)));
    let labelled = [1, 2].map(|side| {
        let (sim, label) = (&sims[(side - 1) as usize], together_label(side));
        write_label(&**sim, &label).unwrap();
        (sim.clone() as Arc<dyn Device>, label)
    });
    (sims.to_vec(), Arc::new(Mirror::together(labelled, 7)))
}

struct Past {
    t: T,
    sims: Vec<Arc<Sim>>,
    device: Arc<dyn Device>,
    rng: fastrand::Rng,
    made: u64,
    held: Vec<(NodeId, ViewId)>,
}

impl Past {
    fn new(seed: u64, is_mirror: bool) -> Past {
        let (sims, device): (Vec<Arc<Sim>>, Arc<dyn Device>) = match is_mirror {
            true => sides(),
            false => {
                let sim = Arc::new(Sim::with_fresh_content(SIZE, 1, 0));
                (vec![sim.clone()], sim)
            }
        };
        let volume = Volume::made_on(device.clone());
        if is_mirror {
            volume.set_mirrored(true).unwrap();
        }
        let t = T::on(volume, FsOptions::default());
        let rng = fastrand::Rng::with_seed(seed);
        Past { t, sims, device, rng, made: 0, held: Vec::new() }
    }

    fn name(&mut self, prefix: &str) -> String {
        self.made += 1;
        format!("{prefix}{}", self.made)
    }

    /// The roots of all lines that are shown.
    fn roots(&self) -> Vec<NodeId> {
        let lines = self.t.fs.volume().lines();
        lines.iter().filter(|line| line.state.is_shown()).map(|line| NodeId::live(line.slot.0, 1)).collect()
    }

    fn clones(&self) -> Vec<Vec<u8>> {
        let lines = self.t.fs.volume().lines();
        lines.iter().filter(|l| l.state.is_shown() && l.id != LineId::MAIN).map(|l| l.name.clone()).collect()
    }

    fn put(&mut self, root: NodeId, name: &str) {
        self.made += 1;
        let is_small = SMALL.contains(&name);
        let blocks = if is_small { 1 } else { self.rng.usize(1..24) };
        let bytes = if is_small { LINE_BYTES * self.rng.usize(1..60) } else { blocks * 4096 };
        let file = match self.t.find(root, name) {
            Ok(node) => self.t.open(node, RW),
            Err(_) => self.t.create(root, name),
        };
        let content = marked(self.made, bytes);
        if is_small || self.rng.bool() {
            self.t.resize(file.0, 0);
            self.t.write(file, 0, &content);
        } else {
            self.t.write(file, 4096 * self.rng.u64(0..24), &content);
        }
        self.t.fs.release(file.0, file.1);
    }

    fn step(&mut self) {
        let roots = self.roots();
        let root = roots[self.rng.usize(0..roots.len())];
        let names = [&SMALL[..], &LARGE[..]].concat();
        let name = names[self.rng.usize(0..names.len())];
        let snapshots = self.t.fs.own_snapshots(root).unwrap();
        let snapshot = (!snapshots.is_empty()).then(|| snapshots[self.rng.usize(0..snapshots.len())].clone());
        let clones = self.clones();
        let clone = (!clones.is_empty()).then(|| clones[self.rng.usize(0..clones.len())].clone());
        let nobody = Provenance::default();
        match self.rng.u32(0..40) {
            0..8 => self.put(root, name),
            8..11 => {
                if self.t.find(root, name).is_ok() {
                    remove(&self.t, root, name);
                }
            }
            // The leaf is another, and has the same content.
            11..14 => {
                self.made += 1;
                let (node, value) = (root, self.made.to_string());
                self.t.fs.setxattr(&USER, node, b"user.n", value.as_bytes(), XattrMode::Set).unwrap();
                if let Ok(node) = self.t.find(root, name) {
                    self.t.fs.setxattr(&USER, node, b"user.n", value.as_bytes(), XattrMode::Set).unwrap();
                }
            }
            14..18 => {
                let made = self.name("s");
                self.t.fs.create_snapshot_of(root, made.as_bytes(), Provenance::default()).unwrap();
            }
            18..22 => {
                if let Some(snapshot) = snapshot {
                    let snapdir = NodeId::snapdir(root.slot(), 1);
                    let _ = self.t.fs.rmdir(&USER, snapdir, &snapshot.name);
                }
            }
            22..25 if clones.len() < 4 => {
                let made = self.name("k");
                self.t.fs.create_clone(root, made.as_bytes(), None, &nobody).unwrap();
            }
            25..27 if clones.len() < 4 => {
                if let Some(snapshot) = snapshot {
                    let made = self.name("k");
                    self.t.fs.create_line(made.as_bytes(), snapshot.id).unwrap();
                }
            }
            27 => clone.into_iter().for_each(|clone| drop(self.t.fs.rmdir(&USER, CLONEDIR, &clone))),
            28..32 => {
                if let Some(clone) = clone {
                    let ways = [MergeWay::Merge, MergeWay::MergeAndKeep, MergeWay::Rebase];
                    let order = MergeOrder { at: root, clone: &clone, way: ways[self.rng.usize(0..3)] };
                    let _ = self.t.fs.merge(&order, &Reason::Merge.into());
                }
            }
            32 => {
                if let Some(snapshot) = snapshot {
                    let why = Reason::Rollback.into();
                    let _ = self.t.fs.rollback(root, &snapshot, OpenForWriting::CutOff, &why);
                }
            }
            33 => {
                let value = ["1h", "off"][self.rng.usize(0..2)];
                let _ =
                    self.t.fs.setxattr(&SUPER, ROOT, b"user.snapfs.trash", value.as_bytes(), XattrMode::Set);
            }
            34 => {
                let trash = self.t.fs.trash_of(ROOT).unwrap();
                if let Some(first) = trash.first() {
                    let made = self.name("u");
                    match self.rng.bool() {
                        true => drop(self.t.fs.undelete(first, made.as_bytes())),
                        false => drop(self.t.fs.empty_trash(first.number)),
                    }
                }
            }
            35 => {
                if let Some(snapshot) = snapshot {
                    let terms = HoldTerms { tag: "t", after: None };
                    let held = self.t.fs.hold_snapshot(root, snapshot.id, &terms, &Reason::User.into());
                    self.held.extend(held.ok().map(|_| (root, snapshot.id)));
                }
            }
            36 => self.reopen(),
            _ => self.t.fs.commit().unwrap(),
        }
    }

    fn reopen(&mut self) {
        self.t.fs.close().unwrap();
        let options =
            crate::volume::OpenOptions { access: crate::volume::Access::ReadWrite, cache_bytes: 1 << 20 };
        // The last one is gone before.
        self.t = T::new();
        self.t = T::on(Volume::open(self.device.clone(), options).unwrap(), FsOptions::default());
    }

    /// What a view has; nothing of a file of which some was purged.
    fn content(view: &View, name: &str) -> Option<Option<Vec<u8>>> {
        let ino = view.find_name(Ino::ROOT, name.as_bytes()).unwrap()?.ino;
        let inode = view.inode(ino).unwrap().unwrap();
        let mut content = vec![0; inode.size.next_multiple_of(4096) as usize];
        let read = read_blocks(view, ino, &inode, 0, &mut content, |_| false);
        content.truncate(inode.size as usize);
        Some(read.is_ok().then_some(content))
    }

    /// All files of all views that somebody can get at.
    fn all(&self) -> BTreeMap<(ViewId, String), Option<Vec<u8>>> {
        let (volume, mut all) = (self.t.fs.volume(), BTreeMap::new());
        let mut views: Vec<Arc<View>> = Vec::new();
        for line in volume.lines() {
            views.push(Arc::new(volume.live(line.id).unwrap()));
            views.extend(volume.own_snapshots(line.id).iter().map(|info| volume.point(info.id).unwrap()));
        }
        views.extend(volume.trashed_snapshots().iter().map(|info| volume.point(info.id).unwrap()));
        for view in views {
            for name in SMALL.iter().chain(&LARGE) {
                let found = Past::content(&view, name);
                all.extend(found.map(|content| ((view.id(), name.to_string()), content)));
            }
        }
        all
    }

    /// All marks on the device, on all sides.
    fn on_device(&self) -> BTreeSet<Mark> {
        let (zeros, mut found) = (vec![0; 4096], BTreeSet::new());
        for sim in &self.sims {
            for at in (0..SIZE).step_by(4096) {
                let bytes = sim.peek(at, (4096 + LINE_BYTES as u64).min(SIZE - at));
                if bytes[..4096] != zeros[..] {
                    found.extend(marks(&bytes));
                }
            }
        }
        found
    }

    /// Purges a path from all snapshots of a line, after it was deleted wherever somebody could change it.
    fn purge(&mut self, what: &str) {
        let names = [&SMALL[..], &LARGE[..]].concat();
        let (path, roots) = (names[self.rng.usize(0..names.len())], self.roots());
        let root = roots[self.rng.usize(0..roots.len())];
        self.t.fs.commit().unwrap();
        let before = self.all();
        for root in &roots {
            if self.t.find(*root, path).is_ok() {
                remove(&self.t, *root, path);
            }
        }
        let fs = &self.t.fs;
        let both = [fs.own_snapshots(root).unwrap(), fs.trashed_snapshots(root).unwrap()].concat();
        let snapshots: Vec<ViewId> = both.iter().map(|info| info.id).collect();
        let of = |view: &ViewId| before.get(&(*view, path.to_string())).cloned().flatten();
        let gone: BTreeSet<Mark> = snapshots.iter().filter_map(of).flat_map(|bytes| marks(&bytes)).collect();
        let asked = PurgeAsked { path: path.as_bytes().to_vec(), snapshots, all: true, dry_run: false };
        for (at, view) in std::mem::take(&mut self.held) {
            let _ = fs.release_snapshot(at, view, "t");
        }
        let wiped = match fs.purge(&asked) {
            Ok(PurgeEnd::Purged(_, wiped)) => wiped,
            Ok(PurgeEnd::Planned(plan)) => panic!("{what}: {path} is live: {:?}", plan.others),
            Err(Error::NotFound) => return,
            Ok(PurgeEnd::Stopped(e)) | Err(e) => panic!("{what}: {path}: {e}"),
        };
        assert!(wiped.is_all(), "{what}: {wiped:?}");
        let left: Vec<Mark> = self.on_device().intersection(&gone).copied().collect();
        assert!(left.is_empty(), "{what}: {path}: {} of {} marks are left: {left:?}", left.len(), gone.len());
        let after = self.all();
        let is_live =
            |view| fs.volume().lines().iter().any(|line| line.state.is_shown() && line.head == view);
        for (at, content) in before.into_iter().filter(|((view, name), _)| name != path || !is_live(*view)) {
            let has_lost = content.as_ref().is_none_or(|bytes| !marks(bytes).is_disjoint(&gone));
            let now = &after[&at];
            assert!(if has_lost { now.is_none() } else { *now == content }, "{what}: {at:?} of {path}");
        }
        self.t.prove();
    }
}

fn histories(seeds: std::ops::Range<u64>) {
    for seed in seeds {
        let mut past = Past::new(seed, seed % 4 == 3);
        for round in 0..3 {
            for _ in 0..40 {
                past.step();
            }
            past.purge(&format!("seed {seed}, round {round}"));
        }
    }
}

#[test]
fn of_what_was_purged_no_byte_is_left_whatever_was_before() {
    let seeds = std::env::var("SNAPFS_TEST_ROUNDS").ok().and_then(|n| n.parse().ok()).unwrap_or(12);
    histories(0..seeds);
}

fn has_mark(past: &Past, of: &[u8]) -> bool {
    !past.on_device().is_disjoint(&marks(of))
}

fn touched(past: &Past, root: NodeId, value: &[u8]) {
    let t = &past.t;
    for node in [root, t.find(root, "a").unwrap()] {
        t.fs.setxattr(&USER, node, b"user.n", value, XattrMode::Set).unwrap();
    }
}

fn purged_from_main(past: &Past, what: &str) {
    let fs = &past.t.fs;
    let snapshots = fs.own_snapshots(ROOT).unwrap().iter().map(|info| info.id).collect();
    let asked = PurgeAsked { path: b"a".to_vec(), snapshots, all: true, dry_run: false };
    let Ok(PurgeEnd::Purged(_, wiped)) = fs.purge(&asked) else { panic!("{what}: it was not purged") };
    assert!(wiped.is_all(), "{what}: {wiped:?}");
    past.t.prove();
}

/// What a clone began from has the content in a leaf that is in no snapshot, and has no name.
#[test]
fn what_a_clone_began_from_loses_it_too() {
    let small = marked(1, 320);
    for end in ["stays", "merged", "kept", "rebased", "dropped"] {
        let past = Past::new(1, false);
        let t = &past.t;
        t.put(ROOT, "a", &small);
        t.snapshot("s");
        touched(&past, ROOT, b"1");
        t.fs.create_clone(ROOT, b"c", None, &Provenance::default()).unwrap();
        let clone = t.find(CLONEDIR, "c").unwrap();
        touched(&past, ROOT, b"2");
        t.fs.commit().unwrap();
        remove(t, ROOT, "a");
        remove(t, clone, "a");
        let merge = |way| {
            let order = MergeOrder { at: ROOT, clone: b"c", way };
            drop(t.fs.merge(&order, &Reason::Merge.into()).unwrap());
        };
        match end {
            "merged" => merge(MergeWay::Merge),
            "kept" => merge(MergeWay::MergeAndKeep),
            "rebased" => merge(MergeWay::Rebase),
            "dropped" => t.fs.drop_clone(b"c").unwrap(),
            _ => {}
        }
        purged_from_main(&past, end);
        assert!(!has_mark(&past, &small), "{end}");
        if end == "stays" {
            // The clone is compared with it still.
            t.put(clone, "new", b"new");
            merge(MergeWay::Merge);
            assert_eq!((t.cat(ROOT, "new"), t.find(ROOT, "a")), (b"new".to_vec(), Err(Error::NotFound)));
        }
        t.prove();
    }
}

/// A deleted snapshot that a clone stands on is the last that has a leaf, and too little was freed below it to be swept.
#[test]
fn what_only_a_hidden_view_has_goes_too() {
    let small = marked(1, 320);
    let past = Past::new(1, false);
    let t = &past.t;
    t.put(ROOT, "a", &small);
    t.snapshot("s");
    touched(&past, ROOT, b"1");
    t.snapshot("t");
    let view = t.fs.volume().find_snapshot(LineId::MAIN, b"t").unwrap().id;
    let clone = t.fs.create_line(b"c", view).unwrap();
    t.put(ROOT, "other", b"other");
    remove(t, ROOT, "a");
    // From now on it is compared with nothing.
    t.fs.volume().set_base(t.fs.line_at(clone).unwrap(), None).unwrap();
    t.fs.rmdir(&USER, SNAPDIR, b"t").unwrap();
    (0..3).for_each(|_| t.fs.commit().unwrap());
    remove(t, clone, "a");
    (0..3).for_each(|_| t.fs.commit().unwrap());
    purged_from_main(&past, "hidden");
    assert!(!has_mark(&past, &small));
    t.fs.drop_clone(b"c").unwrap();
    (0..3).for_each(|_| t.fs.commit().unwrap());
    t.prove();
}
