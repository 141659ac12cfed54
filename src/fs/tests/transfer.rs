//! Changes at once: that a plan makes exactly what it says, whatever it permutes; that it is done as a whole or not at all.

use super::difference::{capture, random_step};
use super::*;
use crate::format::dirent::NameBucket;
use crate::format::provenance::{Provenance, Reason};
use crate::format::{Extent, Ino, Key, Kind};
use crate::fs::content::{PurgeStep, purge_step};
use crate::fs::items::Items;
use crate::fs::transfer::{ChangeOrder, Done, Settled, TakenFrom, between, change_at_once};
use crate::volume::View;
use std::collections::BTreeMap;

/// Every item of a view that has a name, without what cannot be the same in two views: when references were made, when an
/// inode was changed, and how the names that share a hash lie side by side.
fn items(view: &View) -> BTreeMap<Key, Vec<u8>> {
    let mut all = BTreeMap::new();
    for item in view.range(&Key::MIN, &Key::MAX) {
        let (key, value) = item.unwrap();
        let ino = Ino(key.object);
        if ino == Ino::ORPHANS || view.inode(ino).unwrap().is_none_or(|inode| inode.nlink == 0) {
            continue;
        }
        let value = match Kind::from_u8(key.kind).unwrap() {
            Kind::Inode => {
                let mut inode = view.inode(ino).unwrap().unwrap();
                inode.ctime = Timestamp { secs: 0, nanos: 0 };
                inode.encode().to_vec()
            }
            Kind::Extent => {
                let mut extent = Extent::decode(&value).unwrap();
                extent.birth = crate::format::Epoch(1);
                extent.encode()
            }
            Kind::Dirent => {
                let mut bucket = NameBucket::decode(&value).unwrap();
                bucket.entries.sort_by(|a, b| a.name.cmp(&b.name));
                (0..).zip(&mut bucket.entries).for_each(|(slot, entry)| entry.slot = slot);
                bucket.encode()
            }
            _ => value.to_vec(),
        };
        all.insert(key, value);
    }
    all
}

impl T {
    fn view(&self, word: &str) -> Arc<View> {
        self.fs.view_of_word(ROOT, word.as_bytes()).unwrap()
    }
    /// Makes a whole line what a view is.
    fn make_line(&self, root: NodeId, view: &Arc<View>) -> Option<Done> {
        let (head, provenance) = (self.fs.heads.at(root).unwrap(), Provenance::from(Reason::Restore));
        let order = ChangeOrder { head: &head, other: None, provenance: &provenance };
        let done = change_at_once(&self.fs.past, &order, &mut |sides| {
            let plan = between(sides.target, view)?;
            Ok(Some(Settled { plan, source: TakenFrom::View(view.clone()), base: None }))
        });
        done.unwrap()
    }
}

#[test]
fn all_that_differs_makes_the_one_view_of_the_other() {
    for seed in 0..40 {
        let mut rng = fastrand::Rng::with_seed(seed);
        let t = T::new();
        if seed % 4 == 0 {
            t.compress(ROOT, "zstd:1");
        }
        let mut names = Vec::new();
        for step in 0..rng.usize(20..200) {
            t.clock.advance(1_000_000);
            random_step(&t, &mut rng);
            match rng.u8(0..25) {
                0 => t.fs.commit().unwrap(),
                1 | 2 => {
                    names.push(format!("s{step}"));
                    t.snapshot(&names[names.len() - 1]);
                }
                _ => {}
            }
        }
        names.push("last".into());
        t.snapshot("last");
        for n in 0..8 {
            let [old, new] = [(); 2].map(|()| rng.choice(&names).unwrap());
            let (from, to) = (t.view(old), t.view(new));
            let line = t.fs.create_line(format!("c{n}").as_bytes(), from.id()).unwrap();
            let live = t.fs.view_of_word(line, b"@live").unwrap();
            assert_eq!(items(&from), items(&live));
            let done = t.make_line(line, &to);
            let live = t.fs.view_of_word(line, b"@live").unwrap();
            assert!(
                items(&to) == items(&live),
                "seed {seed}, {old} to {new}: {:#?}",
                done.map(|d| d.transferred)
            );
            assert!(capture(&to) == capture(&live), "seed {seed}, {old} to {new}");
            if rng.bool() {
                t.fs.commit().unwrap();
                t.prove();
            }
        }
        // The main line, back and forth, with what was written since.
        for _ in 0..6 {
            random_step(&t, &mut rng);
            let to = t.view(rng.choice(&names).unwrap());
            let before = items(&t.view("@live"));
            let done = t.make_line(ROOT, &to);
            let live = t.view("@live");
            assert!(items(&to) == items(&live), "seed {seed}");
            match done {
                Some(done) => {
                    let [guard, after] =
                        [&done.before, &done.after].map(|s| t.fs.volume().snapshot(s.id).unwrap());
                    assert!(items(&guard) == before && items(&after) == items(&to), "seed {seed}");
                }
                None => assert!(items(&to) == before, "seed {seed}"),
            }
        }
        t.fs.commit().unwrap();
        t.prove();
        t.fs.close().unwrap();
        t.prove();
    }
}

#[test]
fn a_change_that_the_log_does_not_hold_is_durable_all_the_same() {
    let sim = Arc::new(crate::device::Sim::new(1 << 30, 1));
    let t = T::on(Volume::made_on(sim.clone()), FsOptions::default());
    t.put(ROOT, "file", b"then");
    t.snapshot("s");
    t.put(ROOT, "new", b"now");
    t.fs.commit().unwrap();
    t.fill_log();
    let done = t.make_line(ROOT, &t.view("s")).unwrap();
    let options =
        crate::volume::OpenOptions { access: crate::volume::Access::ReadWrite, cache_bytes: 1 << 20 };
    let left = Arc::new(sim.crash(crate::device::CrashPolicy::DropAll));
    let t = T::on(Volume::open(left, options).unwrap(), FsOptions::default());
    assert_eq!((t.list(ROOT), t.cat(ROOT, "file")), (vec!["file".into()], b"then".to_vec()));
    for guard in [done.before, done.after] {
        assert!(t.fs.volume().find_snapshot(crate::format::LineId::MAIN, &guard.name).is_some());
    }
    t.prove();
}

#[test]
fn what_a_purge_has_left_of_a_file_is_no_part_of_what_comes_back() {
    for (word, steps, committed) in
        (0..2).flat_map(|word| (0..12).flat_map(move |n| [(word, n, false), (word, n, true)]))
    {
        let steps_of_two = Steps { items: 2, ..Steps::default() };
        let t = T::with(1 << 30, FsOptions { steps: steps_of_two, ..FsOptions::default() });
        let f = t.create(ROOT, "f");
        for (name, byte) in [("older", 1), ("newer", 2)] {
            (0..6).for_each(|n| t.write(f, n * 16384, &[byte; 4096]));
            for x in ["user.a", "user.b", "user.c"] {
                t.fs.setxattr(&SUPER, f.0, x.as_bytes(), &[byte; 1500], XattrMode::Set).unwrap();
            }
            t.snapshot(name);
        }
        t.fs.release(f.0, f.1);
        t.fs.unlink(&USER, ROOT, b"f").unwrap();
        let ino = Ino(f.0.ino());
        for step in 0..steps {
            let step = if step == 0 { PurgeStep::First } else { PurgeStep::Further };
            purge_step(&t.fs.commits, t.head(), ino, step).unwrap();
        }
        if committed {
            t.fs.commit().unwrap();
        }
        let wanted = t.view(["older", "newer"][word]);
        t.make_line(ROOT, &wanted).unwrap();
        let case = format!("view {word}, {steps} steps, committed {committed}");
        assert!(items(&t.view("@live")) == items(&wanted), "{case}");
        assert_eq!(t.cat(ROOT, "f")[81920], word as u8 + 1, "{case}");
        // A purge that has begun has nothing to do with what was made of that number since, whatever becomes of its name.
        if (1..7).contains(&steps) {
            let open = t.open(t.find(ROOT, "f").unwrap(), RW);
            t.fs.unlink(&USER, ROOT, b"f").unwrap();
            assert_eq!(purge_step(&t.fs.commits, t.head(), ino, PurgeStep::Further), Ok(false));
            assert_eq!(t.read(open, 81920, 9999), [word as u8 + 1; 4096], "{case}");
            t.fs.release(open.0, open.1);
            t.make_line(ROOT, &wanted);
        }
        for _ in 0..3 {
            t.fs.commit().unwrap();
            t.prove();
        }
        for name in t.list(SNAPDIR) {
            t.fs.delete_snapshot(name.as_bytes()).unwrap();
        }
        for _ in 0..4 {
            t.fs.commit().unwrap();
            t.prove();
        }
        assert_eq!(t.cat(ROOT, "f")[..4096], [word as u8 + 1; 4096], "{case}");
    }
}
