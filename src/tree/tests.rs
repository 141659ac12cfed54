//! The tree against a `BTreeMap`, over epochs, commits and clones.

use super::*;
use crate::device::{Device, DeviceError};
use crate::format::{BlockAddr, CopyAddrs, Epoch, Key, Kind};
use crate::store::{Allocator, Store};
use parking_lot::Mutex;
use std::collections::BTreeMap;
use std::sync::Arc;

pub(super) struct Ram(pub Mutex<BTreeMap<u64, Vec<u8>>>);

impl Device for Ram {
    fn size(&self) -> u64 {
        1 << 30
    }
    fn read_at(&self, offset: u64, buf: &mut [u8]) -> std::result::Result<(), DeviceError> {
        buf.copy_from_slice(&self.0.lock()[&offset]);
        Ok(())
    }
    fn write_at(&self, offset: u64, buf: &[u8]) -> std::result::Result<(), DeviceError> {
        self.0.lock().insert(offset, buf.to_vec());
        Ok(())
    }
    fn flush(&self) -> std::result::Result<(), DeviceError> {
        Ok(())
    }
    fn back(&self, _: u64, _: u64) -> std::result::Result<(), DeviceError> {
        Ok(())
    }
    fn discard(&self, _: u64, _: u64) {}
    fn available(&self) -> u64 {
        1 << 30
    }
    fn describe(&self) -> String {
        "memory".into()
    }
}

pub(super) struct Writer<'a>(pub &'a Store, pub u64);

impl NodeWriter for Writer<'_> {
    fn allocate(&mut self, len: usize) -> Result<CopyAddrs> {
        self.1 += len as u64;
        Ok(CopyAddrs::single(BlockAddr(self.1)))
    }
    fn write(&mut self, places: CopyAddrs, bytes: Vec<u8>) -> Result<()> {
        self.0.write_raw(places.addr.0, &bytes)
    }
    fn fsid(&self) -> u64 {
        self.0.fsid()
    }
}

pub(super) fn contents(pager: &Pager, root: &Child) -> BTreeMap<Key, Vec<u8>> {
    range(pager, root, &Key::MIN, &Key::MAX).map(|r| r.map(|(k, v)| (k, v.to_vec())).unwrap()).collect()
}

#[test]
fn equals_a_map_over_epochs_commits_and_clones() {
    for seed in 0..12 {
        let mut rng = fastrand::Rng::with_seed(seed);
        let ram = Arc::new(Ram(Mutex::new(BTreeMap::new())));
        let store = Arc::new(Store::new(ram, 77, Allocator::new(1 << 20, 1 << 30)));
        let pager = Pager::new(store.clone(), 1 << 20);
        let (mut freed, mut epoch, mut next, mut made) = (Vec::new(), Epoch(1), 1 << 20, 0);
        let mut edit = Edit { pager: &pager, epoch, freed: &mut freed, nodes_made: 0 };
        let mut root = edit.new_root();
        let mut model: BTreeMap<Key, Vec<u8>> = BTreeMap::new();
        let mut kept: Vec<(Child, BTreeMap<Key, Vec<u8>>)> = Vec::new();
        let (keys, long) = (rng.u64(50..4000), rng.usize(1..4160));
        for _ in 0..6000 {
            let key = Key::new(rng.u64(1..keys), Kind::Extent, rng.u64(0..3));
            let mut edit = Edit { pager: &pager, epoch, freed: &mut freed, nodes_made: 0 };
            match rng.u8(0..100) {
                0..=59 => {
                    let value = vec![rng.u8(..); rng.usize(0..=long)];
                    edit.insert(&mut root, &key, &value).unwrap();
                    model.insert(key, value);
                }
                60..=94 => assert_eq!(edit.remove(&mut root, &key).unwrap(), model.remove(&key).is_some()),
                95 => {
                    kept.push((root.clone(), model.clone()));
                    epoch = epoch.next();
                }
                _ => {
                    epoch = epoch.next();
                    let mut writer = Writer(&store, next);
                    for (r, _) in &kept {
                        write_out(r, 1, &mut writer).unwrap();
                    }
                    write_out(&root, 1, &mut writer).unwrap();
                    next = writer.1;
                    kept.iter_mut().for_each(|(r, _)| settle(&pager, r, epoch));
                    settle(&pager, &mut root, epoch);
                    assert!(matches!(root, Child::Stored(_)));
                    kept.truncate(5);
                }
            }
            made += edit.nodes_made;
            let probe = Key::new(rng.u64(1..keys), Kind::Extent, rng.u64(0..3));
            assert_eq!(get(&pager, &root, &probe).unwrap().map(|i| i.to_vec()), model.get(&probe).cloned());
            let floor = Key::new(rng.u64(1..keys), Kind::Extent, 0);
            let last =
                last_at_or_before(&pager, &root, &probe, &floor).unwrap().map(|(k, v)| (k, v.to_vec()));
            let expected = (floor <= probe).then(|| model.range(floor..=probe).next_back()).flatten();
            assert_eq!(last, expected.map(|(k, v)| (*k, v.clone())), "seed {seed}");
        }
        assert!(made > 0);
        assert_eq!(contents(&pager, &root), model, "seed {seed}");
        kept.iter().for_each(|(r, m)| assert_eq!(&contents(&pager, r), m, "seed {seed}"));
    }
}

/// Leaves below `root`, bytes in use in them, and their parents.
fn leaves(pager: &Pager, root: &Child) -> (usize, usize, usize) {
    match &pager.resolve(root).unwrap().body {
        node::Body::Leaf(page) => (1, page.used(), 0),
        node::Body::Inner(inner) => {
            let below = inner.children.iter().map(|child| leaves(pager, child));
            let (n, used, parents) = below.reduce(|a, b| (a.0 + b.0, a.1 + b.1, a.2 + b.2)).unwrap();
            (n, used, if inner.level == 1 { 1 } else { parents })
        }
    }
}

#[test]
fn leaves_are_not_nearly_empty_whatever_the_order() {
    let ram = Arc::new(Ram(Mutex::new(BTreeMap::new())));
    let store = Arc::new(Store::new(ram, 77, Allocator::new(1 << 20, 1 << 30)));
    let pager = Pager::new(store, 1 << 20);
    let key = |n: u64| Key::new(7, Kind::Extent, n * 4096);
    let value = [1; 100];
    const FULL: u64 = (crate::format::leaf::LeafPage::ROOM / (21 + 100)) as u64;
    /// As many as fill the leaves of one parent, in ascending order.
    const FULL_PARENT: u64 = FULL * crate::format::inner::CHILDREN_MAX as u64;
    const FAR: u64 = 1_000_000;
    // Each as what it does in the n-th of so many steps: the keys that it inserts, after those that it removes.
    const STEPS: u64 = 60_000;
    type Order = fn(u64) -> (Vec<u64>, Vec<u64>);
    let orders: [(&str, Order); 5] = [
        ("descending behind a full leaf", |n| (vec![if n < FULL { n } else { FAR - n }], vec![])),
        ("all but some removed, descending", |n| match n {
            ..30_000 => (vec![n], vec![]),
            _ if n % FULL == 0 => (vec![], vec![]),
            _ => (vec![], vec![STEPS - n]),
        }),
        ("all but some removed, ascending", |n| match n {
            ..30_000 => (vec![n], vec![]),
            _ if n % FULL == 0 => (vec![], vec![]),
            _ => (vec![], vec![n - 30_000]),
        }),
        // The last of a full leaf makes room for one before it, and comes back behind that.
        ("again and again at the end of a full leaf", |n| match n {
            ..FULL => (vec![if n == FULL - 1 { FAR - n } else { n }], vec![]),
            _ => (vec![FAR - n, FAR - n + 1], vec![FAR - n + 1]),
        }),
        ("the same at the end of a full parent", |n| match n {
            ..FULL_PARENT => (vec![if n == FULL_PARENT - 1 { FAR - n } else { n }], vec![]),
            _ => (vec![FAR - n, FAR - n + 1], vec![FAR - n + 1]),
        }),
    ];
    for (name, order) in orders {
        let mut freed = Vec::new();
        let mut edit = Edit { pager: &pager, epoch: Epoch(1), freed: &mut freed, nodes_made: 0 };
        let mut root = edit.new_root();
        for n in 0..STEPS {
            let (inserted, removed) = order(n);
            for n in removed {
                edit.remove(&mut root, &key(n)).unwrap();
            }
            for n in inserted {
                edit.insert(&mut root, &key(n), &value).unwrap();
            }
        }
        let (count, used, parents) = leaves(&pager, &root);
        let nodes = |from, to, most| nodes_between(&pager, &root, from, to, most).unwrap();
        let all = count + parents + usize::from(parents > 1);
        assert_eq!(nodes(&Key::MIN, &Key::MAX, all), Some(all));
        assert_eq!(nodes(&Key::MIN, &Key::MAX, all - 1), (parents == 0).then_some(all));
        let height = 1 + usize::from(pager.resolve(&root).unwrap().level());
        assert_eq!(nodes(&key(50), &key(50), usize::MAX), Some(height));
        let full = crate::format::leaf::LeafPage::ROOM;
        assert!(count <= 8 * used / full + parents + 1, "{name}: {count} leaves, {used} bytes, {parents}");
    }
}
