//! Purges and the trash: snapshots in it are among those that lose content, and clones in it are no live trees.

use super::purging::*;
use super::*;
use crate::device::Sim;
use crate::format::LineId;
use crate::fs::{Provenance, PurgeAsked, PurgeEnd};

fn with_trash() -> (Arc<Sim>, T) {
    let (sim, t) = store();
    t.fs.setxattr(&SUPER, ROOT, b"user.snapfs.trash", b"1h", XattrMode::Set).unwrap();
    (sim, t)
}

/// Snapshots in the trash are part of what is chosen or have it too, and what comes back lacks the content.
#[test]
fn nothing_of_a_secret_is_left_in_the_trash() {
    let (sim, t) = with_trash();
    t.put(ROOT, "small", SECRET);
    t.put(ROOT, "large", &secret(100 << 10));
    let made: Vec<&str> = vec!["mon", "tue", "wed"];
    for name in &made {
        t.snapshot(name);
        t.put(ROOT, name, b"x");
    }
    for name in ["small", "large"] {
        remove(&t, ROOT, name);
    }
    let all = views(&t, &made);
    for name in ["tue", "wed"] {
        t.fs.rmdir(&USER, SNAPDIR, name.as_bytes()).unwrap();
    }
    t.fs.commit().unwrap();
    let in_trash = |path: &str| ["tue", "wed"].map(|name| other("", &format!("trash {name}"), path));
    for path in ["small", "large"] {
        assert_eq!(refused(&t, path, &["mon"]), in_trash(path));
        let path = path.as_bytes().to_vec();
        let asked = PurgeAsked { path, snapshots: all.clone(), all: false, dry_run: false };
        let Ok(PurgeEnd::Purged(plan, wiped)) = t.fs.purge(&asked) else { panic!("{:?}", asked.path) };
        let found: Vec<bool> = plan.found.iter().map(|found| found.in_trash).collect();
        assert_eq!((found, wiped.is_all()), (vec![false, true, true], true));
        t.prove();
    }
    assert!(!has_secret(&sim));
    let t = again(t, &sim);
    for trash in t.fs.trash_of(ROOT).unwrap() {
        t.fs.undelete(&trash, &trash.name).unwrap();
    }
    for name in made {
        is_gone(read(&t, name, "small"));
        is_gone(read(&t, name, "large"));
        assert!(t.fs.volume().find_snapshot(LineId::MAIN, name.as_bytes()).unwrap().edited.is_some());
    }
    t.prove();
}

/// A clone in the trash is nobody's live tree: it loses what it has, with its snapshots, if that is wanted.
#[test]
fn a_clone_in_the_trash_loses_it_only_if_told() {
    let (sim, t) = with_trash();
    t.put(ROOT, "small", SECRET);
    t.put(ROOT, "large", &secret(100 << 10));
    t.snapshot("s");
    let clone = t.mkdir(CLONEDIR, "c").unwrap();
    t.put(clone, "own", b"own");
    t.mkdir(NodeId::snapdir(clone.slot(), clone.ino()), "inner").unwrap();
    for name in ["small", "large"] {
        remove(&t, ROOT, name);
    }
    t.fs.commit().unwrap();
    let Ok(PurgeEnd::Planned(plan)) = purge(&t, "small", &["s"], true) else { panic!() };
    assert!(plan.is_live(), "the clone is there");
    t.fs.rmdir(&USER, CLONEDIR, b"c").unwrap();
    for path in ["small", "large"] {
        let expected = ["trash @live", "trash inner"].map(|snapshot| other("c", snapshot, path));
        assert_eq!(refused(&t, path, &["s"]), expected);
        purged(&t, path, &["s"], true);
    }
    assert!(!has_secret(&sim));
    let t = again(t, &sim);
    let trash = t.fs.trash_of(ROOT).unwrap().remove(0);
    t.fs.undelete(&trash, b"c").unwrap();
    let clone = t.find(CLONEDIR, "c").unwrap();
    for name in ["small", "large"] {
        is_gone(read_node(&t, t.find(clone, name).unwrap()));
    }
    assert_eq!(t.cat(clone, "own"), b"own");
    t.put(clone, "new", b"new");
    t.fs.commit().unwrap();
    t.prove();
}

/// What is in the trash is no live tree, and is not looked at.
#[test]
fn a_clone_in_the_trash_is_in_nobodys_way() {
    let (_, t) = store();
    t.fs.setxattr(&SUPER, ROOT, b"user.snapfs.trash", b"1h", XattrMode::Set).unwrap();
    t.put(ROOT, "key", &secret(64 << 10));
    t.put(ROOT, "small", SECRET);
    t.snapshot("s");
    let clone = t.mkdir(CLONEDIR, "c").unwrap();
    t.fs.create_snapshot_of(clone, b"own", Provenance::default()).unwrap();
    t.fs.create_clone(clone, b"heir", None, &Provenance::default()).unwrap();
    let heir = t.find(CLONEDIR, "heir").unwrap();
    for dir in [ROOT, heir] {
        ["key", "small"].iter().for_each(|name| remove(&t, dir, name));
    }
    t.fs.commit().unwrap();
    let Ok(PurgeEnd::Planned(plan)) = purge(&t, "key", &["s"], true) else { panic!() };
    assert!(plan.is_live(), "the clone has it");
    t.fs.rmdir(&SUPER, CLONEDIR, b"c").unwrap();
    // It is named, and is in nobody's way. What others show of it is theirs.
    assert_eq!(refused(&t, "key", &["s"]), [other("c", "trash @live", "key"), other("heir", "own", "key")]);
    for name in ["key", "small"] {
        purged(&t, name, &["s"], true);
        is_gone(read(&t, "s", name));
    }
    let trash = t.fs.trash_of(ROOT).unwrap().remove(0);
    t.fs.undelete(&trash, b"c").unwrap();
    let back = t.find(CLONEDIR, "c").unwrap();
    is_gone(read_node(&t, t.find(back, "key").unwrap()));
    remove(&t, back, "key");
    (0..3).for_each(|_| t.fs.commit().unwrap());
    t.prove();
}
