//! Work on both sides: files of two stores that have one number are two files, for a merge and for a restore.

use super::difference::random_step_in;
use super::merging::{Whole, bring, outcome, play};
use super::streams::{same_tree, store};
use super::*;
use crate::format::provenance::{Provenance, Reason};
use crate::fs::{MergeRefusal, MergeWay, NamedPath, ReceiveOrder, RestoreOrder, SendOrder};

/// Two stores with a past in common, `base`: what is done in `one` comes to the other as the clone `c`.
fn apart(base: impl Fn(&T), one: impl Fn(&T), other: impl Fn(&T)) -> T {
    let (a, b) = (store(1), store(2));
    b.clock.advance(500);
    base(&a);
    a.snapshot("base");
    b.receive(&a.send("base", None).0).unwrap();
    one(&a);
    a.snapshot("theirs");
    other(&b);
    let order = ReceiveOrder { as_line: Some(b"c"), user: None };
    b.fs.receive(&mut &a.send("theirs", Some("base")).0[..], &order, &mut |_, _| ()).unwrap();
    b
}

fn scripts(base: &'static str, one: &'static str, other: &'static str) -> T {
    apart(|t| play(t, ROOT, base), |t| play(t, ROOT, one), |t| play(t, ROOT, other))
}

fn tree(t: &T, word: &str) -> String {
    Whole::of(&t.word(word)).tree()
}

#[test]
fn new_files_of_both_come_together() {
    for (one, other, expected) in [
        ("put a A", "put b B", "a=A b=B d/ x=X"),
        ("put a A; link a d/a", "put b B; link b d/b", "a=A b=B d/ d/a=A d/b=B x=X"),
        ("mkdir a; put a/f F; mv x a/x", "put b B; mkdir e; put e/g G", "a/ a/f=F a/x=X b=B d/ e/ e/g=G"),
        (
            "mkdir a; mkdir a/in; put a/in/f F; mv d a/in/d",
            "mkdir b; mkdir b/in; put b/in/g G",
            "a/ a/in/ a/in/d/ a/in/f=F b/ b/in/ b/in/g=G x=X",
        ),
        ("put a A; put t T; mv t d/t", "mkdir b; put d/u U", "a=A b/ d/ d/t=T d/u=U x=X"),
        // Its number is that of a file without a name.
        ("put a A", "put b B; rm b; put c C", "a=A c=C d/ x=X"),
    ] {
        let t = scripts("mkdir d; put x X", one, other);
        let [told, back] =
            [(".clones/c", "@live"), ("@live", ".clones/c")].map(|(from, to)| outcome(&t, from, to));
        assert_eq!((told.as_str(), back.as_str()), (expected, expected), "'{one}' into '{other}'");
        let done = bring(&t, MergeWay::Merge).unwrap();
        assert_eq!(tree(&t, "@live"), expected);
        assert!(done.dropped && done.changes.iter().all(|change| !change.path.is_empty()), "{done:?}");
        t.fs.commit().unwrap();
        t.prove();
    }
    // Both names are wanted by both.
    let t = scripts("mkdir d", "put n 1", "put n 2");
    assert_eq!(outcome(&t, ".clones/c", "@live"), "! same-name [n added | n added]");
}

/// Two stores gave one number to a file and to a directory: an increment from the state of one to that of the other makes the
/// one go and the other come.
#[test]
fn what_has_the_number_of_another_type_takes_its_place() {
    let file = |t: &T| {
        let node = t.put(ROOT, "n", &[7; 300_000]);
        t.fs.setxattr(&SUPER, node, b"user.long", &[8; 5000], XattrMode::Set).unwrap();
        t.fs.link(&SUPER, node, ROOT, b"other").unwrap();
    };
    let dir = |t: &T| {
        let dir = t.mkdir(ROOT, "n").unwrap();
        t.mkdir(dir, "below").unwrap();
        t.put(dir, "f", &[9; 70_000]);
    };
    let link = |t: &T| {
        t.fs.symlink(&SUPER, ROOT, b"n", b"some/where").unwrap();
    };
    let base = |t: &T| {
        t.put(ROOT, "x", b"X");
    };
    let all: [&dyn Fn(&T); 3] = [&file, &dir, &link];
    for (one, other) in [(0, 1), (1, 0), (0, 2), (2, 0), (1, 2), (2, 1)] {
        let what = format!("{other} becomes {one}");
        let b = apart(base, all[one], all[other]);
        b.snapshot("ours");
        let c = store(3);
        c.receive(&b.send("ours", None).0).unwrap();
        let line = b.fs.volume().find_line(b"c").unwrap().id;
        let theirs = b.fs.volume().find_snapshot(line, b"theirs").unwrap();
        let ours = b.named("ours");
        let order = SendOrder { snapshot: &theirs, base: Some(&ours), gone: None, resume: None };
        let mut stream = Vec::new();
        b.fs.send(&order, &mut stream, &mut |_| true).unwrap();
        let got = c.receive(&stream).unwrap_or_else(|e| panic!("{what}: {e}"));
        same_tree((&b, &theirs), (&c, &got.snapshot), &what);
        c.fs.commit().unwrap();
        c.prove();
    }
}

#[test]
fn a_later_merge_writes_nothing_into_a_file_that_only_has_the_number() {
    let t = scripts("mkdir d; put x X", "put a A", "put b B");
    // Whoever keeps what was merged goes on in a clone of it.
    bring(&t, MergeWay::MergeAndKeep).unwrap();
    assert_eq!(tree(&t, "@live"), "a=A b=B d/ x=X");
    assert!(bring(&t, MergeWay::MergeAndKeep).unwrap().guards.is_none());
    for script in ["write b 2", "write a 2", "mv a d/a", "rm a", "rm b"] {
        let t = scripts("mkdir d; put x X", "put a A", "put b B");
        bring(&t, MergeWay::MergeAndKeep).unwrap();
        play(&t, ROOT, script);
        let live = tree(&t, "@live");
        match bring(&t, MergeWay::MergeAndKeep) {
            Ok(_) | Err(MergeRefusal::Conflicts(_)) => assert_eq!(tree(&t, "@live"), live, "{script}"),
            Err(e) => panic!("{script}: {e:?}"),
        }
        t.fs.commit().unwrap();
        t.prove();
    }
}

#[test]
fn random_changes_in_two_stores_come_together_as_in_one() {
    let rounds = std::env::var("SNAPFS_TEST_ROUNDS").ok().and_then(|n| n.parse().ok()).unwrap_or(120);
    let (mut clean, mut new_on_both) = (0, 0);
    for seed in 0..rounds {
        let steps = |t: &T, root: NodeId, seed: u64, most: usize| {
            let mut rng = fastrand::Rng::with_seed(seed);
            for _ in 0..rng.usize(0..most) {
                t.clock.advance(1_000_000);
                random_step_in(t, root, &mut rng);
            }
        };
        let most = [4, 9, 30][seed as usize % 3];
        let (base, one, other) = (seed * 3, seed * 3 + 1, seed * 3 + 2);
        let two = apart(
            |t| steps(t, ROOT, base, 60),
            |t| steps(t, ROOT, one, most),
            |t| steps(t, ROOT, other, most),
        );
        let t = store(1);
        steps(&t, ROOT, base, 60);
        t.snapshot("base");
        let clone = t.fs.create_line(b"c", t.named("base").id).unwrap();
        steps(&t, clone, one, most);
        steps(&t, ROOT, other, most);
        for (from, to) in [(".clones/c", "@live"), ("@live", ".clones/c")] {
            let [as_one, apart] = [&t, &two].map(|t| outcome(t, from, to));
            assert_eq!(as_one, apart, "seed {seed}: {from} into {to}");
        }
        let [source, target] = [".clones/c", "@live"].map(|word| Whole::of(&two.word(word)));
        new_on_both += usize::from(source.has_other_files(&target, &Whole::of(&two.word("base"))));
        let wanted = outcome(&two, ".clones/c", "@live");
        match bring(&two, MergeWay::MergeAndKeep) {
            Ok(_) => {
                clean += 1;
                assert_eq!(tree(&two, "@live"), wanted, "seed {seed}");
            }
            Err(MergeRefusal::Conflicts(_)) => assert!(wanted.starts_with('!'), "seed {seed}"),
            Err(e) => panic!("seed {seed}: {e:?}"),
        }
        two.fs.commit().unwrap();
        two.prove();
    }
    assert!(rounds < 100 || clean > 20 && new_on_both > 20, "{clean} and {new_on_both}");
}

#[test]
fn a_restore_from_another_store_writes_into_no_file_that_only_has_the_number() {
    let restore = |t: &T| {
        let path = NamedPath { at: ROOT, below: vec![b"d".to_vec()], name: b"d".to_vec() };
        let order = RestoreOrder { paths: vec![path], from: Some(b".clones/c".to_vec()), to: None };
        t.fs.restore(&order, &Provenance::from(Reason::Restore)).map(drop)
    };
    for (one, other, expected) in [
        // Under another name outside of what is restored, too.
        ("put d/a A", "put d/b B; mkdir e; link d/b e/b", "d/ d/a=A e/ e/b=B x=X"),
        // Of another type.
        ("put d/a A", "mkdir d/b; put d/b/f F", "d/ d/a=A x=X"),
        ("mkdir d/a; put d/a/f F", "put d/b B; put d/c C", "d/ d/a/ d/a/f=F x=X"),
        // Nothing at all has it but who holds it open.
        ("put d/a A", "put d/b B; rm d/b", "d/ d/a=A x=X"),
    ] {
        let t = scripts("mkdir d; put x X", one, other);
        restore(&t).unwrap_or_else(|_| panic!("'{one}' over '{other}'"));
        assert_eq!(tree(&t, "@live"), expected, "'{one}' over '{other}'");
        assert!(restore(&t).is_ok());
        assert_eq!(tree(&t, "@live"), expected, "'{one}' over '{other}', again");
        t.fs.commit().unwrap();
        t.prove();
    }
}
