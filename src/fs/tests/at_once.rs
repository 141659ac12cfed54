//! Changes at once as programs and kernel meet them: who opens what is being exchanged, what the kernel is told whatever fails,
//! and what is held while somebody is in the way.

use super::merging::{bring, lines, play};
use super::*;
use crate::device::{CrashPolicy, Op, Persistence, Sim};
use crate::format::provenance::{Provenance, Reason};
use crate::fs::transfer::{ChangeOrder, Settled, TakenFrom, between, change_at_once};
use crate::fs::{AtimeMode, AtimeOptions, MergeWay, NamedPath, Refusal, RestoreOrder, Restored, Undoable};
use parking_lot::Mutex;
use std::collections::BTreeSet;
use std::thread::JoinHandle;

/// What is done when the kernel is told of a node.
type Does = Box<dyn FnMut(NodeId) + Send>;

/// A kernel that notes what it is told of, and does something then.
#[derive(Default)]
struct Listener {
    told: Mutex<BTreeSet<NodeId>>,
    written_back: Mutex<usize>,
    does: Mutex<Option<Does>>,
}

impl Listener {
    fn of(t: &T, does: impl FnMut(NodeId) + Send + 'static) -> Arc<Listener> {
        let listener = Arc::new(Listener::default());
        *listener.does.lock() = Some(Box::new(does));
        t.fs.set_kernel(listener.clone());
        listener
    }
}

impl Kernel for Listener {
    fn write_back(&self, _nodes: &[(NodeId, u64)]) -> std::io::Result<()> {
        *self.written_back.lock() += 1;
        Ok(())
    }
    fn invalidate_node(&self, _node: NodeId) {}
    fn invalidate_now(&self, node: NodeId) -> bool {
        self.told.lock().insert(node);
        if let Some(does) = &mut *self.does.lock() {
            does(node);
        }
        true
    }
    fn invalidate_entry(&self, _parent: NodeId, _name: &[u8]) {}
}

fn restore(t: &T, path: &str) -> std::result::Result<Restored, Refusal> {
    let name = path.as_bytes().to_vec();
    let paths = vec![NamedPath { at: ROOT, below: vec![name.clone()], name }];
    let order = RestoreOrder { paths, from: Some(b"s".to_vec()), to: None };
    t.fs.restore(&order, &Provenance::from(Reason::Restore))
}

/// A file that was short, and is long.
fn grown(t: &T) -> NodeId {
    let f = t.put(ROOT, "f", b"then");
    t.snapshot("s");
    let w = t.open(f, RW);
    t.write(w, 4, &[7; 9000]);
    t.fs.release(w.0, w.1);
    f
}

#[test]
fn who_would_go_on_with_what_a_file_was_opens_it_when_the_kernel_knows_what_it_is() {
    for writeback_cache in [false, true] {
        let t = T::with(1 << 30, FsOptions { writeback_cache, ..FsOptions::default() });
        let (f, other) = (grown(&t), t.put(ROOT, "other", b"x"));
        let waiting: Arc<Mutex<Option<JoinHandle<Result<Handle>>>>> = Arc::default();
        let (fs, waits) = (t.fs.clone(), waiting.clone());
        let is_late = move |node, flags| match fs.open_at_once(&USER, node, flags).unwrap() {
            Opening::Later(_) => true,
            Opening::Done(handle) => {
                fs.release(node, handle);
                false
            }
        };
        let fs = t.fs.clone();
        let listener = Listener::of(&t, move |node| {
            if node == f {
                assert_eq!([is_late(f, RW), is_late(f, RO)], [true, writeback_cache]);
                assert_eq!([is_late(other, RW), is_late(other, RO)], [false, false]);
                // The kernel has the directory locked while it waits for this one.
                let created = fs.create(&USER, ROOT, b"f", 0o644, RW).map(drop);
                assert_eq!(created, Err(Error::Stale));
                let fs = fs.clone();
                *waits.lock() = Some(std::thread::spawn(move || fs.open(&USER, f, RW)));
            }
        });
        restore(&t, "f").unwrap();
        assert!(listener.told.lock().contains(&f));
        // It looks for the name once more.
        let opened = waiting.lock().take().unwrap().join().unwrap();
        assert!(opened == Err(Error::Stale) || opened.is_ok_and(|h| t.attr(f).size == 4 && h.0 > 0));
        let w = t.open(f, RW);
        t.write(w, 4, b", now");
        t.fs.release(w.0, w.1);
        assert_eq!(t.cat(ROOT, "f"), b"then, now");
        *listener.does.lock() = None;
    }
}

#[test]
fn a_refused_change_lets_everybody_in_again_and_held_all_once() {
    let t = T::new();
    let f = grown(&t);
    let listener = Listener::of(&t, |_| ());
    let w = t.open(f, RW);
    assert!(matches!(restore(&t, "f"), Err(Refusal::Writers(paths, 1)) if paths == ["/f"]));
    assert_eq!(*listener.written_back.lock(), 1, "only who has it open is looked for again");
    let more = t.open(f, RW);
    t.fs.release(w.0, w.1);
    t.fs.release(more.0, more.1);
    restore(&t, "f").unwrap();
    assert_eq!(t.cat(ROOT, "f"), b"then");
}

#[test]
fn the_kernel_is_told_of_what_is_to_be_seen_whatever_fails_then() {
    let sim = Arc::new(Sim::new(1 << 30, 1));
    let t = T::on(Volume::made_on(sim.clone()), FsOptions::default());
    grown(&t);
    t.fs.commit().unwrap();
    drop(t);
    let image = sim.clone_image();
    let (mut failed, mut seen) = (0, 0);
    for n in 1.. {
        let sim = Arc::new(image.clone_image());
        let options =
            crate::volume::OpenOptions { access: crate::volume::Access::ReadWrite, cache_bytes: 1 << 20 };
        let t = T::on(Volume::open(sim.clone(), options).unwrap(), FsOptions::default());
        let f = t.find(ROOT, "f").unwrap();
        let listener = Listener::of(&t, |_| ());
        let view = t.fs.view_of_word(ROOT, b"s").unwrap();
        let (head, provenance) = (t.fs.heads.main(), Provenance::from(Reason::Restore));
        let order = ChangeOrder { head: &head, other: None, provenance: &provenance };
        let done = change_at_once(&t.fs.past, &order, &mut |sides| {
            // What the log does not hold is committed at the end.
            t.fill_log();
            sim.fail(Op::Write, n, Persistence::Once);
            let plan = between(sides.target, &view)?;
            Ok(Some(Settled { plan, source: TakenFrom::View(view.clone()), base: None }))
        });
        if t.attr(f).size == 4 {
            assert!(listener.told.lock().contains(&f), "write {n}");
            seen += u32::from(done.is_err());
        }
        failed += u32::from(done.is_err());
        if sim.faults_struck() == 0 {
            break;
        }
    }
    assert!(failed > 0 && seen > 0, "{failed} {seen}");
}

/// It is to be seen, and there is no room to make it durable: that is no want of space for whoever would make some and ask again.
#[test]
fn what_is_to_be_seen_is_not_done_once_more_for_want_of_space() {
    let sim = Arc::new(Sim::new(1 << 30, 1));
    let t = T::on(Volume::made_on(sim.clone()), FsOptions::default());
    grown(&t);
    t.fs.commit().unwrap();
    let grown = t.cat(ROOT, "f");
    let fs = t.fs.clone();
    let listener = Listener::of(&t, move |_| fs.volume().break_promises(1 << 30));
    let view = t.fs.view_of_word(ROOT, b"s").unwrap();
    let (head, provenance) = (t.fs.heads.main(), Provenance::from(Reason::Restore));
    let order = ChangeOrder { head: &head, other: None, provenance: &provenance };
    let mut settled = 0;
    let done = change_at_once(&t.fs.past, &order, &mut |sides| {
        settled += 1;
        // What the log does not hold is committed at the end.
        t.fill_log();
        let plan = between(sides.target, &view)?;
        Ok(Some(Settled { plan, source: TakenFrom::View(view.clone()), base: None }))
    });
    assert!(
        matches!(&done, Err(Refusal::Failed(Error::Io(what))) if what.contains("it is done")),
        "{:?}",
        done.err()
    );
    assert_eq!((settled, t.cat(ROOT, "f"), t.fs.snapshots().len()), (1, b"then".to_vec(), 3));
    assert_eq!(t.fs.volume().read_only_reason(), None);
    let after_crash = |policy| {
        let sim = Arc::new(sim.crash(policy));
        let options =
            crate::volume::OpenOptions { access: crate::volume::Access::ReadWrite, cache_bytes: 1 << 20 };
        let t = T::on(Volume::open(sim, options).unwrap(), FsOptions::default());
        t.prove();
        (t.cat(ROOT, "f"), t.fs.snapshots().len())
    };
    for seed in 0..8 {
        let found = after_crash(CrashPolicy::Random(seed));
        assert!([(grown.clone(), 1), (b"then".to_vec(), 3)].contains(&found), "{seed}: {}", found.1);
    }
    *listener.does.lock() = None;
    t.fs.volume().break_promises(0);
    t.fs.commit().unwrap();
    assert_eq!(after_crash(CrashPolicy::DropAll), (b"then".to_vec(), 3));
}

#[test]
fn while_it_goes_on_nobody_who_answers_requests_waits() {
    let atime = AtimeOptions { mode: AtimeMode::Always, directories: true };
    let t = T::with(1 << 30, FsOptions { atime, ..FsOptions::default() });
    let f = grown(&t);
    let [closed, forgotten] = ["closed", "forgotten"].map(|name| t.put(ROOT, name, &[1; 9000]));
    t.fs.commit().unwrap();
    let open = t.open(closed, RO);
    for name in ["closed", "forgotten"] {
        t.fs.unlink(&USER, ROOT, name.as_bytes()).unwrap();
    }
    t.fs.forget(closed);
    let reader = t.open(f, RO);
    let view = t.fs.view_of_word(ROOT, b"s").unwrap();
    let (head, provenance) = (t.fs.heads.main(), Provenance::from(Reason::Restore));
    let order = ChangeOrder { head: &head, other: None, provenance: &provenance };
    let blocks = t.fs.volume().live_blocks();
    change_at_once(&t.fs.past, &order, &mut |sides| {
        // Whatever would wait is told so, and all this is done by whoever holds everything.
        assert!(t.fs.unhindered(None).is_none());
        assert_eq!(t.read(reader, 0, 20_000).len(), 9004);
        assert_eq!(t.list(ROOT), ["f"]);
        assert!(t.fs.lookup(&USER, ROOT, b"closed").is_err());
        t.fs.release(open.0, open.1);
        t.fs.forget(forgotten);
        let plan = between(sides.target, &view)?;
        Ok(Some(Settled { plan, source: TakenFrom::View(view.clone()), base: None }))
    })
    .unwrap()
    .unwrap();
    assert!(t.fs.unhindered(None).is_some());
    // What was let go of meanwhile is purged then.
    assert!(t.fs.volume().live_blocks() + 6 <= blocks && t.head().gate.read().unlinked.is_empty());
    t.clock.advance(1_000_000_000);
    let before = t.attr(f).atime;
    t.read(reader, 0, 1);
    assert!(t.attr(f).atime > before);
    t.fs.commit().unwrap();
    t.prove();
}

#[test]
fn a_merge_is_done_whatever_becomes_of_its_clone_meanwhile() {
    let make = || {
        let t = lines("put a A; put b B", "write a 2", "write b 3");
        let clone = t.find(NodeId::clonedir(0), "c").unwrap();
        let a = (t.find(ROOT, "a").unwrap(), t.find(clone, "a").unwrap());
        (t, clone, a)
    };
    // Somebody drops it.
    let (t, _, a) = make();
    let fs = t.fs.clone();
    let listener = Listener::of(&t, move |node| {
        if node == a.0 {
            fs.drop_clone(b"c").unwrap();
        }
    });
    let done = bring(&t, MergeWay::Merge).unwrap();
    assert!(done.dropped && done.guards.is_some() && done.changes.len() == 1);
    assert_eq!((t.cat(ROOT, "a"), t.cat(ROOT, "b")), (b"2".to_vec(), b"3".to_vec()));
    *listener.does.lock() = None;
    // Somebody begins to write there: that is kept.
    let (t, clone, a) = make();
    let (fs, opened) = (t.fs.clone(), Arc::new(Mutex::new(None)));
    let writes = opened.clone();
    let listener = Listener::of(&t, move |node| {
        if node == a.0 {
            *writes.lock() = Some((a.1, fs.open(&USER, a.1, RW).unwrap()));
        }
    });
    let done = bring(&t, MergeWay::Merge).unwrap();
    assert!(!done.dropped && done.guards.is_some());
    let writer = opened.lock().take().unwrap();
    t.write(writer, 0, b"later");
    t.fs.release(writer.0, writer.1);
    *listener.does.lock() = None;
    assert_eq!(t.cat(clone, "a"), b"later");
    assert!(bring(&t, MergeWay::Merge).unwrap().dropped);
    assert_eq!(t.cat(ROOT, "a"), b"later");
}

#[test]
fn one_guard_is_not_taken_for_that_of_another_change() {
    let t = T::new();
    play(&t, ROOT, "put f then");
    t.snapshot("s");
    play(&t, ROOT, "write f 1");
    let first = restore(&t, "f").unwrap().guards.unwrap();
    play(&t, ROOT, "write f own");
    let second = restore(&t, "f").unwrap().guards.unwrap();
    let last = || t.fs.last_undoable(ROOT).unwrap();
    assert!(matches!(last(), Some(Undoable::Change(change)) if change.before.id == second.0.id));
    t.fs.delete_snapshot(&first.1.name).unwrap();
    t.fs.delete_snapshot(&second.0.name).unwrap();
    // The one before the first and the one after the second have all between them.
    assert_eq!(last(), None);
}
