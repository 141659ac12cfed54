//! Differences of trees against those of maps, and what they cost.

use super::tests::{Ram, Writer, contents};
use super::*;
use crate::format::{BlockAddr, Epoch, Key, Kind};
use crate::store::{Allocator, Store};
use parking_lot::Mutex;
use std::collections::BTreeMap;
use std::sync::Arc;

type Map = BTreeMap<Key, Vec<u8>>;
type Difference = Vec<(Key, Option<Vec<u8>>, Option<Vec<u8>>)>;

fn found(pager: &Pager, old: &Child, new: &Child, from: &Key, to: &Key) -> Difference {
    let value = |item: Option<Item>| item.map(|item| item.to_vec());
    diff(pager, old, new, from, to).map(|d| d.map(|d| (d.key, value(d.old), value(d.new))).unwrap()).collect()
}

fn expected(old: &Map, new: &Map, from: &Key, to: &Key) -> Difference {
    let mut keys: Vec<Key> = old.range(from..to).chain(new.range(from..to)).map(|(key, _)| *key).collect();
    keys.sort_unstable();
    keys.dedup();
    keys.retain(|key| old.get(key) != new.get(key));
    keys.into_iter().map(|key| (key, old.get(&key).cloned(), new.get(&key).cloned())).collect()
}

fn commit<'r>(
    store: &Store,
    pager: &Pager,
    next: &mut u64,
    epoch: Epoch,
    roots: impl Iterator<Item = &'r mut Child>,
) {
    let mut writer = Writer(store, *next);
    for root in roots {
        write_out(root, 1, &mut writer).unwrap();
        settle(pager, root, epoch);
    }
    *next = writer.1;
}

#[test]
fn equals_the_difference_of_maps() {
    for seed in 0..40 {
        let mut rng = fastrand::Rng::with_seed(seed);
        let ram = Arc::new(Ram(Mutex::new(BTreeMap::new())));
        let store = Arc::new(Store::new(ram, 77, Allocator::new(1 << 20, 1 << 30)));
        let pager = Pager::new(store.clone(), 1 << 20);
        let (mut freed, mut epoch, mut next) = (Vec::new(), Epoch(1), 1 << 20);
        let mut empty = Edit { pager: &pager, epoch, freed: &mut freed, nodes_made: 0 };
        // The first is empty; each other began as one of those before it. So they differ in height and in all or nothing.
        let mut kept: Vec<(Child, Map)> = vec![(empty.new_root(), Map::new())];
        let (keys, long) = (rng.u64(10..3000), [40, 400, 4000][rng.usize(0..3)]);
        for _ in 0..rng.usize(2..9) {
            let (mut root, mut model) = kept[rng.usize(..kept.len())].clone();
            epoch = epoch.next();
            let mut edit = Edit { pager: &pager, epoch, freed: &mut freed, nodes_made: 0 };
            // Many changes all over, few in one place, or the removal of a long run.
            let (changes, span) = match rng.u8(0..4) {
                0 => (rng.u64(0..3000), keys),
                1 => (rng.u64(0..20), keys),
                _ => (rng.u64(0..200), 1 + keys / 20),
            };
            let at = rng.u64(0..keys);
            let removals = rng.u8(0..100);
            for _ in 0..changes {
                let key = Key::new(1 + (at + rng.u64(0..span)) % keys, Kind::Extent, rng.u64(0..3));
                if rng.u8(0..100) < removals {
                    edit.remove(&mut root, &key).unwrap();
                    model.remove(&key);
                } else {
                    let value = vec![rng.u8(0..3); rng.usize(0..=long)];
                    edit.insert(&mut root, &key, &value).unwrap();
                    model.insert(key, value);
                }
            }
            if rng.u8(0..10) == 0 {
                for key in model.keys().copied().collect::<Vec<_>>() {
                    edit.remove(&mut root, &key).unwrap();
                }
                model.clear();
            }
            kept.push((root, model));
            // Some stay in memory.
            if rng.bool() {
                let n = rng.usize(1..=kept.len());
                commit(&store, &pager, &mut next, epoch.next(), kept[..n].iter_mut().map(|(root, _)| root));
                epoch = epoch.next();
            }
        }
        for (old, before) in &kept {
            assert_eq!(&contents(&pager, old), before);
            for (new, now) in &kept {
                let mut ends = [(); 2].map(|()| Key::new(rng.u64(0..keys + 2), Kind::Extent, rng.u64(0..3)));
                ends.sort_unstable();
                for [from, to] in [[Key::MIN, Key::MAX], ends] {
                    let differs = found(&pager, old, new, &from, &to);
                    assert_eq!(differs, expected(before, now, &from, &to), "seed {seed}");
                }
            }
        }
    }
}

/// Reads of nodes that a comparison takes, with nothing in memory.
fn reads(store: &Arc<Store>, old: &Child, new: &Child) -> (usize, u64) {
    let pager = Pager::new(store.clone(), 256 << 20);
    let before = store.io().reads;
    let n = diff(&pager, old, new, &Key::MIN, &Key::MAX).count();
    (n, store.io().reads - before)
}

#[test]
fn costs_what_differs() {
    const ITEMS: u64 = 200_000;
    const CHANGES: u64 = 100;
    let ram = Arc::new(Ram(Mutex::new(BTreeMap::new())));
    let store = Arc::new(Store::new(ram, 77, Allocator::new(1 << 20, 1 << 30)));
    let pager = Pager::new(store.clone(), 64 << 20);
    let (mut freed, mut next) = (Vec::new(), 1 << 20);
    let mut edit = Edit { pager: &pager, epoch: Epoch(1), freed: &mut freed, nodes_made: 0 };
    let mut old = edit.new_root();
    let key = |n: u64| Key::new(n, Kind::Inode, 0);
    for n in 1..=ITEMS {
        edit.insert(&mut old, &key(n), &[1; 128]).unwrap();
    }
    commit(&store, &pager, &mut next, Epoch(2), std::iter::once(&mut old));
    let mut rng = fastrand::Rng::with_seed(1);
    // In place; with keys that come and go, which moves borders; at one end, which makes the tree higher or not.
    for kind in 0..3 {
        let mut new = old.clone();
        let epoch = Epoch(3 + 2 * kind);
        let mut edit = Edit { pager: &pager, epoch, freed: &mut freed, nodes_made: 0 };
        for n in 0..CHANGES {
            let at = key(1 + n * (ITEMS / CHANGES) + rng.u64(0..ITEMS / CHANGES));
            match kind {
                0 => edit.insert(&mut new, &at, &[2; 128]).unwrap(),
                1 if n % 2 == 0 => drop(edit.remove(&mut new, &at).unwrap()),
                1 => edit.insert(&mut new, &Key { rest: 7, ..at }, &[3; 4000]).unwrap(),
                _ => edit.insert(&mut new, &key(ITEMS + 1 + n), &[2; 128]).unwrap(),
            }
        }
        commit(&store, &pager, &mut next, epoch.next(), std::iter::once(&mut new));
        let height = 1 + u64::from(pager.resolve(&old).unwrap().level());
        let (n, reads_there) = reads(&store, &old, &new);
        let (back, reads_back) = reads(&store, &new, &old);
        assert_eq!((n, back), (CHANGES as usize, CHANGES as usize));
        // A way on each side for each change, and once more where a border has moved. The whole is some 1,800 leaves.
        let most = CHANGES * height * 2 * if kind == 1 { 2 } else { 1 };
        assert!(reads_there <= most && reads_back <= most, "{kind}: {reads_there}, {reads_back} of {most}");
        assert!(kind != 2 || reads_there < 20, "{reads_there}: what is new is in one place");
    }
    assert_eq!(reads(&store, &old, &old.clone()), (0, 0));
}

#[test]
fn a_node_that_cannot_be_read_is_named() {
    let ram = Arc::new(Ram(Mutex::new(BTreeMap::new())));
    let store = Arc::new(Store::new(ram.clone(), 77, Allocator::new(1 << 20, 1 << 30)));
    let pager = Pager::new(store.clone(), 1 << 20);
    let (mut freed, mut next) = (Vec::new(), 1 << 20);
    let mut edit = Edit { pager: &pager, epoch: Epoch(1), freed: &mut freed, nodes_made: 0 };
    let mut old = edit.new_root();
    for n in 1..1000 {
        edit.insert(&mut old, &Key::new(n, Kind::Inode, 0), &[1; 128]).unwrap();
    }
    let mut new = old.clone();
    let mut edit = Edit { pager: &pager, epoch: Epoch(2), freed: &mut freed, nodes_made: 0 };
    edit.insert(&mut new, &Key::new(900, Kind::Inode, 0), &[2; 128]).unwrap();
    commit(&store, &pager, &mut next, Epoch(3), [&mut old, &mut new].into_iter());
    let lost = get_ptr(&pager, &new, &Key::new(900, Kind::Inode, 0));
    ram.0.lock().get_mut(&lost.0).unwrap()[5000] ^= 1;
    let pager = Pager::new(store, 1 << 20);
    let mut walk = diff(&pager, &old, &new, &Key::MIN, &Key::MAX);
    let error = walk.next().and_then(|d| d.err()).expect("it is damaged").to_string();
    assert!(error.contains(&lost.to_string()), "{error}");
    assert!(walk.next().is_none());
}

/// Where the leaf of a key is.
fn get_ptr(pager: &Pager, root: &Child, key: &Key) -> BlockAddr {
    match &pager.resolve(root).unwrap().body {
        node::Body::Leaf(_) => root.place().unwrap().addr,
        node::Body::Inner(inner) => get_ptr(pager, &inner.children[inner.index(key)], key),
    }
}
