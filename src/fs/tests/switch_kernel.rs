//! What a kernel is told by a rollback, promotion or restore, and what it goes by meanwhile: one that stands still, fails, or has yet
//! to take in what it was answered.

use super::super::{NamedPath, OpenForWriting, PromotionOrder, Reason, RestoreOrder};
use super::*;
use crate::device::{Op, Persistence, Sim};
use parking_lot::Mutex;

const CLONEDIR: NodeId = NodeId::clonedir(0);

/// A kernel behind which the device fails from the moment of an exchange on, and which tells of what names it was told.
struct Failing {
    sim: Arc<Sim>,
    dropped: Mutex<Vec<(NodeId, Vec<u8>)>>,
    drained: Mutex<Vec<NodeId>>,
    detached: Mutex<Vec<Vec<u8>>>,
}

impl Kernel for Failing {
    fn write_back(&self, _nodes: &[(NodeId, u64)]) -> std::io::Result<()> {
        Ok(())
    }
    fn invalidate_node(&self, _node: NodeId) {}
    fn invalidate_entry(&self, _parent: NodeId, _name: &[u8]) {}
    fn drain(&self, node: NodeId) {
        self.drained.lock().push(node);
    }
    fn drop_names(&self, names: Vec<(NodeId, Vec<u8>)>) {
        self.dropped.lock().extend(names);
    }
    fn detach_below(&self, _root: NodeId, path: &[u8]) {
        self.detached.lock().push(path.to_vec());
    }
    fn between_answers(&self, work: &mut dyn FnMut()) {
        work();
        for op in [Op::Write, Op::Flush] {
            self.sim.fail(op, 1, Persistence::Forever);
        }
    }
}

#[test]
fn the_kernel_is_told_of_an_exchange_that_is_not_durable() {
    for promotes in [false, true] {
        let sim = Arc::new(Sim::new(1 << 30, 1));
        let t = T::on(Volume::made_on(sim.clone()), FsOptions::default());
        t.put(ROOT, "f", b"one");
        t.snapshot("s");
        let x = t.mkdir(CLONEDIR, "x").unwrap();
        t.put(x, "of x", b"x");
        t.put(ROOT, "later", b"later");
        let (dropped, drained, detached) = Default::default();
        let kernel = Arc::new(Failing { sim, dropped, drained, detached });
        t.fs.set_kernel(kernel.clone());
        let failed = if promotes {
            let writers = OpenForWriting::Spared;
            let order = PromotionOrder { clone: b"x", onto: None, keep_as: None, writers };
            t.fs.promote(&order, &Reason::Promote.into()).map(drop)
        } else {
            let to = t.fs.snapshot_of_word(ROOT, b"s").unwrap();
            t.fs.rollback(ROOT, &to, OpenForWriting::Spared, &Reason::Rollback.into()).map(drop)
        };
        assert!(failed.is_err());
        // It is to be seen all the same.
        assert_eq!(t.find(ROOT, "later"), Err(Error::NotFound));
        assert_eq!(t.find(ROOT, "of x").is_ok(), promotes);
        assert!(kernel.drained.lock().contains(&ROOT));
        let dropped = kernel.dropped.lock().clone();
        assert!(dropped.contains(&(ROOT, b"later".to_vec())), "{dropped:?}");
        assert_eq!(dropped.contains(&(CLONEDIR, b"x".to_vec())), promotes, "{dropped:?}");
        assert_eq!(kernel.detached.lock().len(), usize::from(promotes));
    }
}

/// How far an answer has come that was prepared before a change.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Way {
    Prepared,
    Written,
    TakenIn,
    /// Told that it is another now.
    Dropped,
}

/// A kernel to which such an answer is on its way, which names `node` in `dir`.
struct Late {
    dir: NodeId,
    node: NodeId,
    way: Mutex<Way>,
}

impl Late {
    fn next(&self, from: Way, to: Way) {
        let mut way = self.way.lock();
        if *way == from {
            *way = to;
        }
    }
}

impl Kernel for Late {
    fn write_back(&self, _nodes: &[(NodeId, u64)]) -> std::io::Result<()> {
        Ok(())
    }
    fn invalidate_node(&self, _node: NodeId) {}
    fn invalidate_entry(&self, _parent: NodeId, _name: &[u8]) {}
    fn invalidate_now(&self, node: NodeId) -> bool {
        let is_known = node == self.node && matches!(*self.way.lock(), Way::TakenIn | Way::Dropped);
        if is_known {
            self.next(Way::TakenIn, Way::Dropped);
        }
        is_known
    }
    fn between_answers(&self, work: &mut dyn FnMut()) {
        self.next(Way::Prepared, Way::Written);
        work();
    }
    fn take_in(&self, dirs: &[NodeId]) {
        if dirs.contains(&self.dir) {
            self.next(Way::Written, Way::TakenIn);
        }
    }
}

#[test]
fn no_answer_from_before_a_restore_is_kept() {
    for way in [Way::Prepared, Way::Written, Way::TakenIn] {
        let t = T::new();
        let dir = t.mkdir(ROOT, "d").unwrap();
        let node = t.put(dir, "f", b"as it was");
        t.snapshot("s");
        t.resize(node, 3);
        let kernel = Arc::new(Late { dir, node, way: Mutex::new(way) });
        t.fs.set_kernel(kernel.clone());
        let paths = vec![NamedPath { at: dir, below: vec![b"f".to_vec()], name: b"f".to_vec() }];
        let order = RestoreOrder { paths, from: Some(b"s".to_vec()), to: None };
        t.fs.restore(&order, &Reason::Restore.into()).map(drop).unwrap();
        assert_eq!(*kernel.way.lock(), Way::Dropped, "{way:?}");
        assert_eq!(t.cat(dir, "f"), b"as it was");
    }
}
