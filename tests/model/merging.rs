//! A merge as the model has it: three whole trees, by inode and by entry.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use crate::lines::reachable;
use crate::reference::{Body, Id, Inode, Tree};

/// A directory and a name in it.
type Name = (Id, Vec<u8>);

/// What has a name, and all names.
struct Whole {
    tree: Tree,
    entries: BTreeMap<Name, Id>,
    names: BTreeMap<Id, BTreeSet<Name>>,
}

impl Whole {
    fn of(tree: &Tree) -> Whole {
        let tree = reachable(tree);
        let (mut entries, mut names) = (BTreeMap::new(), BTreeMap::<Id, BTreeSet<Name>>::new());
        for (dir, inode) in &tree {
            let Body::Dir(inside) = &inode.body else { continue };
            for (name, id) in inside {
                entries.insert((*dir, name.clone()), *id);
                names.entry(*id).or_default().insert((*dir, name.clone()));
            }
        }
        Whole { tree, entries, names }
    }

    fn names(&self, id: Id) -> BTreeSet<Name> {
        self.names.get(&id).cloned().unwrap_or_default()
    }
}

/// What one side has, or the other if that alone has changed it; none if both have, and not alike.
fn pick<V: PartialEq + Clone>(base: &V, source: &V, target: &V) -> Option<V> {
    match () {
        () if source == base => Some(target.clone()),
        () if target == base || source == target => Some(source.clone()),
        () => None,
    }
}

fn attributes(inode: &Inode) -> (u32, u32, u32) {
    (inode.mode, inode.uid, inode.gid)
}

/// Content; that of a directory is in its entries.
fn content(inode: &Inode) -> Option<&Body> {
    Some(&inode.body).filter(|body| !matches!(body, Body::Dir(_)))
}

fn is_same(a: &Inode, b: &Inode) -> bool {
    attributes(a) == attributes(b) && a.xattrs == b.xattrs && content(a) == content(b)
}

/// The target with what the source has changed since the base; none if they contradict. Files of the target that lose their
/// last name stay in it, without one.
pub fn three_way(base: &Tree, source: &Tree, target: &Tree) -> Option<Tree> {
    let (b, s, t) = (Whole::of(base), Whole::of(source), Whole::of(target));
    let mut entries = BTreeMap::<Id, BTreeMap<Vec<u8>, Id>>::new();
    let mut links = BTreeMap::<Id, u32>::new();
    for name in b.entries.keys().chain(s.entries.keys()).chain(t.entries.keys()).collect::<BTreeSet<_>>() {
        let [was, here, there] = [&b, &s, &t].map(|whole| whole.entries.get(name));
        for (now, other) in [(here, &t), (there, &s)] {
            let into_removed = b.tree.contains_key(&name.0) && !other.tree.contains_key(&name.0);
            if now.is_some() && now != was && into_removed {
                return None;
            }
        }
        if let Some(id) = pick(&was, &here, &there)? {
            entries.entry(name.0).or_default().insert(name.1.clone(), *id);
            *links.entry(*id).or_default() += 1;
        }
    }
    let mut merged = Tree::new();
    for id in b.tree.keys().chain(s.tree.keys()).chain(t.tree.keys()).copied().collect::<BTreeSet<_>>() {
        let [was, here, there] = [&b, &s, &t].map(|whole| whole.tree.get(&id));
        let inode = match (was, here, there) {
            (Some(was), Some(here), Some(there)) => {
                names_agree(&b, &s, &t, id)?;
                merge_inode(was, here, there)?
            }
            (None, Some(here), Some(there)) => {
                if !is_same(here, there) || s.names(id) != t.names(id) {
                    return None;
                }
                Arc::new(Inode { mtime: None, ..(**there).clone() })
            }
            (None, Some(new), None) | (None, None, Some(new)) => new.clone(),
            (Some(was), here, there) => {
                // Removed by one side at least, and not to be changed or named by the other.
                if let Some(kept) = here.or(there) {
                    let side = if here.is_some() { &s } else { &t };
                    if !is_same(was, kept) || !side.names(id).is_subset(&b.names(id)) {
                        return None;
                    }
                }
                continue;
            }
            (None, None, None) => unreachable!("it is of one of them"),
        };
        merged.insert(id, inode);
    }
    for (id, inode) in &mut merged {
        let links = links.get(id).copied().unwrap_or(inode.links);
        if links != inode.links {
            Arc::make_mut(inode).links = links;
        }
        if let Body::Dir(inside) = &inode.body {
            let now = entries.remove(id).unwrap_or_default();
            if now != *inside || t.tree.get(id).is_none_or(|there| !Arc::ptr_eq(there, inode)) {
                let inode = Arc::make_mut(inode);
                (inode.mtime, inode.body) = (None, Body::Dir(now));
            }
        }
    }
    // Directories that were moved into each other.
    if !entries.is_empty() || !is_whole(&merged) {
        return None;
    }
    for (id, inode) in target {
        if !merged.contains_key(id) {
            merged.insert(*id, Arc::new(Inode { links: 0, ..(**inode).clone() }));
        }
    }
    Some(merged)
}

/// True if every entry leads to something, and all is reached from the root.
fn is_whole(tree: &Tree) -> bool {
    let leads = |inode: &Arc<Inode>| match &inode.body {
        Body::Dir(inside) => inside.values().all(|id| tree.contains_key(id)),
        _ => true,
    };
    tree.values().all(leads) && reachable(tree).len() == tree.len()
}

/// An inode that all three have; its names come later.
fn merge_inode(was: &Arc<Inode>, here: &Arc<Inode>, there: &Arc<Inode>) -> Option<Arc<Inode>> {
    let (mode, uid, gid) = pick(&attributes(was), &attributes(here), &attributes(there))?;
    let xattrs = pick(&was.xattrs, &here.xattrs, &there.xattrs)?;
    let body = match pick(&content(was), &content(here), &content(there))? {
        Some(body) => body.clone(),
        None => there.body.clone(),
    };
    Some(match () {
        // Nobody has touched it here, or there.
        () if Arc::ptr_eq(was, here) => there.clone(),
        () if Arc::ptr_eq(was, there) && !here.is_dir() => here.clone(),
        () => Arc::new(Inode { mode, uid, gid, links: there.links, mtime: None, xattrs, body }),
    })
}

/// None if both sides have dealt with the names of an inode so that it cannot be told where it is to be.
fn names_agree(b: &Whole, s: &Whole, t: &Whole, id: Id) -> Option<()> {
    let was = b.names(id);
    let changes = |side: &Whole| -> (BTreeSet<Name>, BTreeSet<Name>) {
        let now = side.names(id);
        (was.difference(&now).cloned().collect(), now.difference(&was).cloned().collect())
    };
    let ((gone, come), (also_gone, also_come)) = (changes(s), changes(t));
    let apart = !gone.is_disjoint(&also_gone) && come != also_come;
    let is_lost = !gone.is_empty() && !also_gone.is_empty() && come.is_empty() && also_come.is_empty();
    let none_left = was.iter().all(|name| gone.contains(name) || also_gone.contains(name));
    let agree = !(apart || is_lost && none_left);
    agree.then_some(())
}
