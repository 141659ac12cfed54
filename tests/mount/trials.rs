//! `snapfs try` and `snapfs run` on real mounts: what the command sees and reaches, what is left of it, who may.

mod guard;
mod place;

use guard::can_mount;
use place::{PATIENCE, Place, Said, names, refuses, said, wait};
use serde_json::Value;
use std::ffi::OsStr;
use std::fs;
use std::io::Write;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Instant;

fn skipped(why: &str) {
    eprintln!("SKIPPED: {why}");
}

fn is_root() -> bool {
    snapfs::sys::process::effective_uid() == 0
}

/// False, loudly, where the kernel gives no user namespace.
fn can_try() -> bool {
    if !can_mount() {
        return false;
    }
    let there = said(Command::new("unshare").args(["-Urm", "true"])).code == 0;
    if !there {
        skipped("this kernel gives no user namespace: nothing is tried");
    }
    there
}

/// A mounted store with a file and a directory.
fn mounted() -> Place {
    let p = Place::new();
    p.mount("");
    fs::create_dir_all(p.path("dir/below")).unwrap();
    fs::write(p.path("dir/f"), "one\n").unwrap();
    p
}

/// A script in the place, where `snapfs` is the program.
fn shell(p: &Place, script: &str) -> Command {
    let program = Path::new(env!("CARGO_BIN_EXE_snapfs")).parent().expect("a directory");
    let path = format!("{}:{}", program.display(), std::env::var("PATH").unwrap_or_default());
    let mut command = Command::new("sh");
    p.settle(&mut command).env("PATH", path).args(["-uc", script]).stdin(Stdio::null());
    command
}

fn tell(p: &Place, script: &str) -> Said {
    said(&mut shell(p, script))
}

/// The same in namespaces of its own, as the options of unshare(1) say.
fn apart(p: &Place, namespaces: &[&str], script: &str) -> Said {
    let inner = shell(p, script);
    let mut command = Command::new("unshare");
    command.args(namespaces).args(["sh", "-uc", script]);
    for (key, value) in inner.get_envs() {
        command.env(key, value.unwrap_or_default());
    }
    said(command.current_dir(&p.dir.0).stdin(Stdio::null()))
}

fn all_names(p: &Place, args: &[&str]) -> Vec<String> {
    let all = p.json(&[args, &["--json"]].concat());
    all.as_array().unwrap().iter().map(|one| one["name"].as_str().unwrap().to_string()).collect()
}

fn clones(p: &Place) -> Vec<String> {
    all_names(p, &["list", "mnt", "--clones"])
}

fn snapshots(p: &Place) -> Vec<String> {
    all_names(p, &["list", "mnt"])
}

/// Nothing of a trial is left, and the live tree is as it was.
fn is_untouched(p: &Place) {
    assert_eq!((clones(p), snapshots(p)), (Vec::new(), Vec::new()));
    assert_eq!(fs::read_to_string(p.path("dir/f")).unwrap(), "one\n");
    assert_eq!(names(&p.at("mnt")), ["dir"]);
}

fn last_json(said: &Said) -> Value {
    let last = said.out.lines().last().unwrap_or_else(|| panic!("{said:?}"));
    serde_json::from_str(last).unwrap_or_else(|e| panic!("{e}: {said:?}"))
}

#[test]
fn the_command_has_a_tree_of_its_own_at_the_usual_path() {
    if !can_try() {
        return;
    }
    let p = mounted();
    let script = "cd mnt/dir; snapfs try . --drop -- sh -c '
        test $PWD = $(pwd -P) && pwd | grep -q /mnt/dir$ && cat f && echo two > f && cat ../dir/f
        mkdir ../new; mv below ../new/; echo x > ../new/x; ls ..; exit 7'";
    let tried = tell(&p, script);
    assert_eq!(tried.code, 7, "{tried:?}");
    let expected = "one\ntwo\ndir\nnew\nR dir/below/ -> new/below/\nM dir/f (4 B -> 4 B)\n+ new/\n+ new/x\n";
    assert_eq!(
        tried.out.lines().collect::<std::collections::BTreeSet<_>>(),
        expected.lines().collect::<std::collections::BTreeSet<_>>()
    );
    assert_eq!(tried.err, "");
    is_untouched(&p);
    // Everything is shown when the command has ended, and before it nothing is.
    assert!(tried.out.starts_with("one\ntwo\ndir\nnew\n"), "{tried:?}");
    // From outside of the mount, and by the name of the store.
    for target in ["mnt", "mnt/dir/below", "store"] {
        let script = format!("snapfs try {target} --drop -- sh -c 'pwd; echo x >> mnt/dir/f; cat mnt/dir/f'");
        let tried = tell(&p, &script);
        let out = format!("{}\none\nx\nM dir/f (4 B -> 6 B)\n", p.dir.0.display());
        assert!(tried.code == 0 && tried.out == out, "{target}: {tried:?}");
    }
    is_untouched(&p);
    p.umount();
    p.check();
}

#[test]
fn exit_codes_are_those_of_the_command() {
    if !can_try() {
        return;
    }
    let p = mounted();
    fs::write(p.at("no program"), "").unwrap();
    for isolate in ["", "--isolate"] {
        for (command, code) in [
            ("true", 0),
            ("false", 1),
            ("sh -c 'exit 255'", 255),
            ("sh -c 'kill -9 $$'", 137),
            ("sh -c 'kill -TERM $$'", 143),
            ("no-such-program", 127),
            ("./'no program'", 126),
        ] {
            let tried = tell(&p, &format!("snapfs try mnt {isolate} -- {command}"));
            assert_eq!(tried.code, code, "{command}: {tried:?}");
            let words = if code == 126 || code == 127 { "cannot run" } else { "changed nothing" };
            assert!(tried.err.contains(words), "{command}: {tried:?}");
        }
        let run = |command: &str| tell(&p, &format!("snapfs run mnt -- {command}")).code;
        assert_eq!((run("true"), run("sh -c 'kill -9 $$'"), run("no-such-program")), (0, 137, 127));
    }
    assert_eq!(clones(&p), Vec::<String>::new());
    for (args, words) in [
        (&["try", "mnt"][..], "COMMAND"),
        (&["try", "mnt", "--keep", "x", "--drop", "--", "true"], "cannot be used with"),
        (&["run", "mnt"], "COMMAND"),
    ] {
        let said = p.run(args);
        assert!(said.code == 2 && said.err.contains(words), "{args:?}: {said:?}");
    }
    p.umount();
}

#[test]
fn what_is_tried_is_kept_dropped_or_left_to_decide() {
    if !can_try() {
        return;
    }
    let p = mounted();
    let kept = tell(&p, "snapfs try mnt --keep 'a trial' -- sh -c 'echo x > mnt/x'");
    assert!(
        kept.code == 0 && kept.out == "+ x\n" && kept.err.contains("snapfs drop mnt a trial"),
        "{kept:?}"
    );
    assert_eq!(clones(&p), ["a trial"]);
    assert_eq!(fs::read_to_string(p.path(".clones/a trial/x")).unwrap(), "x\n");
    let step = snapshots(&p);
    assert!(step.len() == 1 && step[0].starts_with("@trial-"), "{step:?}");
    p.ok(&["drop", "mnt", "a trial"]);
    is_untouched(&p);
    // Without a terminal nobody is asked, and nothing is lost.
    let left = tell(&p, "snapfs try mnt -- sh -c 'echo x > mnt/x; exit 3'");
    assert!(left.code == 3 && left.err.contains("snapfs drop mnt @trial-"), "{left:?}");
    let name = clones(&p).pop().unwrap();
    let made = &p.json(&["list", "mnt", "--clones", "--json"])[0];
    assert!(name.starts_with("@trial-") && snapshots(&p) == [name.clone()], "{made}");
    assert_eq!(made["reason"], "trial");
    // Two views to compare, as ever.
    let told = p.run(&["diff", "mnt", &name, &format!(".clones/{name}")]);
    assert!(told.code == 1 && told.out == "+ x\n", "{told:?}");
    // The next one has a name of its own, and goes alone.
    let dropped = tell(&p, "snapfs try mnt --drop --json -- sh -c 'echo out; echo y > mnt/y'");
    let object = last_json(&dropped);
    assert!(dropped.code == 0 && dropped.out.starts_with("out\n") && dropped.err.is_empty(), "{dropped:?}");
    assert_eq!((&object["exit_code"], &object["outcome"]), (&0.into(), &"dropped".into()));
    assert_eq!(object["changes"][0]["path"], "y");
    assert_eq!((&object["clone"], &object["view_before"]), (&Value::Null, &Value::Null));
    assert_eq!((clones(&p), snapshots(&p)), (vec![name.clone()], vec![name.clone()]));
    let object = last_json(&tell(&p, "snapfs try mnt --json -- sh -c 'echo y > mnt/y; exit 5'"));
    assert_eq!((&object["exit_code"], &object["outcome"]), (&5.into(), &"kept".into()));
    assert_eq!(object["clone"], object["view_before"]);
    p.ok(&["drop", "mnt", &name, object["clone"].as_str().unwrap()]);
    is_untouched(&p);
    let same = last_json(&tell(&p, "snapfs try mnt --json -- true"));
    assert_eq!((&same["outcome"], &same["changes"]), (&"dropped".into(), &Value::Array(Vec::new())));
    is_untouched(&p);
    p.umount();
    p.check();
}

#[test]
fn what_was_tried_is_merged() {
    if !can_try() {
        return;
    }
    let p = mounted();
    let script = "snapfs try mnt --merge -- sh -c 'echo two > mnt/dir/f; mv mnt/dir mnt/moved; echo x > mnt/x'; cat mnt/moved/f mnt/x";
    let tried = tell(&p, script);
    assert!(tried.code == 0 && tried.out.ends_with("two\nx\n"), "{tried:?}");
    assert!(clones(&p).is_empty() && !snapshots(&p).iter().any(|name| name.starts_with("@trial-")));
    // With what others have changed meanwhile.
    let object = last_json(&tell(
        &p,
        "mkfifo sync; (read x < sync; echo other > mnt/other; echo go > sync) & \
         snapfs try mnt --merge --json -- sh -c 'echo z > mnt/z; echo > sync; read x < sync'",
    ));
    assert_eq!(object["outcome"], "merged", "{object}");
    assert!(p.path("z").exists() && p.path("other").exists());
    // A command that fails, and a conflict, leave the line alone.
    let failed = tell(&p, "snapfs try mnt --merge -- sh -c 'echo y > mnt/y; exit 4'");
    assert!(
        failed.code == 4 && failed.err.contains("nothing is merged") && !p.path("y").exists(),
        "{failed:?}"
    );
    let name = clones(&p).remove(0);
    assert!(failed.err.contains(&format!("snapfs merge mnt {name}")), "{failed:?}");
    p.ok(&["drop", "mnt", &name]);
    let script = "snapfs try mnt --merge --json -- sh -c 'echo mine > mnt/x; echo > sync; read x < sync'";
    let conflict = tell(&p, &format!("(read x < sync; echo theirs > mnt/x; echo go > sync) & {script}"));
    let object = last_json(&conflict);
    assert!(conflict.code == 3 && object["outcome"] == "conflicts", "{conflict:?}");
    assert_eq!(object["conflicts"][0]["path"], "x");
    assert_eq!(fs::read_to_string(p.path("x")).unwrap(), "theirs\n");
    p.ok(&["drop", "mnt", object["clone"].as_str().unwrap()]);
    // The inner trial's changes go into the outer one.
    let script =
        "snapfs try mnt --merge -- sh -c 'snapfs try mnt --merge -- sh -c \"echo inner > mnt/i\"; cat mnt/i'";
    let nested = tell(&p, script);
    assert!(nested.code == 0 && nested.out == "+ i\ninner\n+ i\n", "{nested:?}");
    assert_eq!(fs::read_to_string(p.path("i")).unwrap(), "inner\n");
    assert!(clones(&p).is_empty());
    p.umount();
    p.check();
}

#[test]
fn a_signal_that_the_command_survives_is_no_failure() {
    if !can_try() {
        return;
    }
    for isolate in ["", "--isolate"] {
        let p = mounted();
        let command =
            "trap \"echo caught > mnt/caught; exit 0\" INT; echo x > began; while :; do sleep 0.05; done";
        let child = going_on(&p, &format!("--merge {isolate}"), command);
        signal(child.id(), "-INT");
        let ended = end_of(child);
        assert!(ended.code == 0 && ended.out == "+ caught\n" && ended.err.is_empty(), "{ended:?}");
        assert_eq!(fs::read_to_string(p.path("caught")).unwrap(), "caught\n");
        assert_eq!(clones(&p), Vec::<String>::new());
        p.umount();
    }
}

#[test]
fn what_cannot_be_tried_is_refused_and_leaves_nothing() {
    if !can_try() {
        return;
    }
    let p = mounted();
    fs::create_dir(p.path(".snapshots/past")).unwrap();
    fs::create_dir(p.path(".clones/taken")).unwrap();
    for (args, words) in [
        (&["try", "mnt", "--keep", "taken", "--", "touch", "ran"][..], "taken: a clone of that name exists"),
        (&["try", "mnt", "--keep", "@x", "--", "touch", "ran"], "@x: not a name for a clone"),
        (&["try", "mnt/.snapshots/past", "--", "touch", "ran"], "this is a snapshot"),
        (&["try", "mnt/.snapshots", "--", "touch", "ran"], "this is a snapshot"),
        (&["try", "run", "--", "touch", "ran"], "is not mounted"),
        (&["run", "run", "--", "touch", "ran"], "is not mounted"),
    ] {
        let said = p.run(args);
        assert!(said.code == 1 && said.err.contains(words) && said.out.is_empty(), "{args:?}: {said:?}");
    }
    assert!(!p.at("ran").exists());
    assert_eq!((clones(&p), snapshots(&p)), (vec!["taken".into()], vec!["past".into()]));
    // A kernel that gives no more user namespaces.
    let script = "echo 0 > /proc/sys/user/max_user_namespaces && snapfs try mnt -- touch ran";
    let refused = apart(&p, &["-Urm"], script);
    let words = "without a user namespace: no more may be made";
    assert!(refused.code == 1 && refused.err.contains(words), "{refused:?}");
    assert!(!p.at("ran").exists());
    assert_eq!((clones(&p), snapshots(&p)), (vec!["taken".into()], vec!["past".into()]));
    p.umount();
    p.mount("ro");
    for verb in ["try", "run"] {
        let said = p.run(&[verb, "mnt", "--", "touch", "ran"]);
        assert!(said.code == 1 && said.err.contains("read-only"), "{said:?}");
    }
    p.umount();
}

#[test]
fn every_place_of_the_tree_is_covered_and_what_is_mounted_in_it_is_carried_along() {
    if !can_try() || !is_root() {
        return;
    }
    let p = mounted();
    fs::create_dir(p.path("tmp")).unwrap();
    for name in ["whole", "part", "file"] {
        fs::create_dir(p.at(name)).unwrap();
    }
    fs::write(p.at("one file"), "").unwrap();
    let script = "
        mount --bind mnt whole; mount --bind mnt/dir part; mount --bind mnt/dir/f 'one file'
        mount -t tmpfs none mnt/tmp; echo kept > mnt/tmp/t; mkdir mnt/tmp/again
        mount --bind mnt/dir mnt/tmp/again; mount -o remount,bind,ro whole; cd mnt/tmp
        snapfs try .. --drop -- sh -c '
            pwd; echo two > ../dir/f; cat ../../whole/dir/f ../../part/f \"../../one file\" again/f
            echo x > ../../part/f; cat ../dir/f; (echo y > ../../whole/dir/f) 2>/dev/null || echo whole: read-only
            cat t; (echo more > t) 2>/dev/null || echo tmp: read-only
            for m in ../../whole ../../part . again ..; do umount $m 2>/dev/null && echo $m: gone; done
            umount -l .. 2>/dev/null && echo gone; true'
        cat ../dir/f ../../whole/dir/f ../../part/f; echo still > t; cat t";
    let tried = apart(&p, &["-m", "--propagation", "private"], script);
    let pwd = p.path("tmp");
    let expected = format!(
        "{}\ntwo\ntwo\ntwo\ntwo\nx\nwhole: read-only\nkept\ntmp: read-only\nM dir/f (4 B -> 2 B)\n\
         one\none\none\nstill\n",
        pwd.display()
    );
    assert!(tried.code == 0 && tried.out == expected, "{tried:?}\n{expected}");
    assert!(tried.err.contains("mnt/tmp is another file system: it can only be read"), "{tried:?}");
    assert_eq!((clones(&p), snapshots(&p)), (Vec::new(), Vec::new()));
    p.umount();
}

#[test]
fn the_live_tree_is_out_of_reach() {
    if !can_try() || !is_root() {
        return;
    }
    let p = mounted();
    let live = p.path("dir/f");
    for isolate in ["", "--isolate"] {
        let script = format!(
            "snapfs try mnt --drop {isolate} -- sh -c '
            touch {changed}
            for how in \"\" -l -f; do umount $how {mnt}; done
            mkdir -p away; mount --move {mnt} away
            unshare -m sh -c \"umount {mnt}; umount -l {mnt}; cat {live} >> seen\"
            unshare -Urm sh -c \"umount {mnt}; umount -l {mnt}; cat {live} >> seen\"
            for pid in 1 $PPID {daemon} {test}; do
                nsenter -t $pid -m cat {live} >> seen
                cat /proc/$pid/root{live} >> seen; cat /proc/$pid/cwd/mnt/dir/f >> seen
                echo bad > /proc/$pid/root{live}
            done
            mount --bind / away && cat away{live} >> seen
            cat {live} >> seen
            echo tried > {live}' 2>/dev/null",
            mnt = p.at("mnt").display(),
            live = live.display(),
            changed = p.path("only-in-the-trial").display(),
            daemon = p.pid(),
            test = std::process::id(),
        );
        fs::write(p.at("seen"), "").unwrap();
        fs::write(&live, "one\n").unwrap();
        // The content of the clone is another from its first moment on: what says "one" is the live tree.
        let script = script.replace("touch ", &format!("echo tried > {}; touch ", live.display()));
        let tried = tell(&p, &script);
        assert_eq!(tried.code, 0, "{tried:?}");
        let seen = fs::read_to_string(p.at("seen")).unwrap();
        assert!(!seen.is_empty() && seen.lines().all(|line| line != "one"), "{isolate}: {seen}");
        assert_eq!(fs::read_to_string(&live).unwrap(), "one\n");
    }
    let _ = fs::remove_dir(p.at("away"));
    is_untouched(&p);
    p.umount();
}

/// A trial of `target` that goes on while `meanwhile` is done; before it goes on `before` is done in namespaces of its own. The
/// trial writes into `place`, before and after. What was said meanwhile, and what the trial found in the end.
fn meanwhile(p: &Place, before: &str, start: &str, place: &str, meanwhile: &str) -> (Said, String) {
    for name in ["go", "began", "ended"] {
        let _ = fs::remove_file(p.at(name));
    }
    let script = format!(
        "mkfifo go began; {before}
        {start} --keep j -- sh -c \"echo trial > {place}/f; echo > began; read x < go; cat {place}/f > ended; echo late > {place}/f\" > /dev/null 2>&1 &
        timeout 60 cat began > /dev/null; {meanwhile}
        for f in $(find mnt mnt/.clones/*); do cat $f; done > /dev/null 2>&1; timeout 60 sh -c 'echo > go'; wait"
    );
    let said = apart(p, &["-m", "--propagation", "private"], &script);
    p.ok(&["drop", "mnt", "j"]);
    (said, fs::read_to_string(p.at("ended")).unwrap_or_default())
}

/// With a directory to bind, and a clone in which that has another name.
fn bindable() -> Place {
    let p = mounted();
    fs::create_dir(p.path("project")).unwrap();
    fs::write(p.path("project/f"), "live\n").unwrap();
    fs::create_dir(p.at("work")).unwrap();
    p.snapshot("s");
    fs::create_dir(p.path(".clones/renamed")).unwrap();
    fs::rename(p.path(".clones/renamed/project"), p.path(".clones/renamed/moved")).unwrap();
    p
}

#[test]
fn a_part_of_the_tree_stays_covered_whatever_becomes_of_its_name() {
    if !can_try() || !is_root() {
        return;
    }
    let p = bindable();
    let bind = "mount --bind mnt/project work";
    let live = |p: &Place| {
        let found = [p.path("project/f"), p.path("moved/f")];
        found.iter().find_map(|path| fs::read_to_string(path).ok()).unwrap()
    };
    for change in [
        "snapfs rollback mnt s",
        "snapfs merge mnt --keep renamed",
        "mv mnt/project mnt/moved; snapfs restore mnt --from s",
        "mv mnt/project mnt/moved",
        "snapfs rollback mnt s; stat mnt/project/f",
    ] {
        let (said, found) = meanwhile(&p, bind, "snapfs try mnt", "work", change);
        assert!(said.code == 0 && found == "trial\n", "{change}: {found} {said:?}");
        assert_eq!(live(&p), "live\n", "{change}");
        p.ok(&["rollback", "mnt", "s"]);
    }
    p.umount();
    p.check();
}

#[test]
fn a_cover_that_lies_on_a_name_keeps_the_name() {
    if !can_try() || !is_root() {
        return;
    }
    let p = bindable();
    fs::write(p.path("other"), "1\n").unwrap();
    p.snapshot("later");
    // Mounts that come from another user namespace are locked, as a normal user's are.
    let (bind, start) = ("mount --bind mnt/project work", "unshare -Urm snapfs try mnt");
    let changes = "rm mnt/other; snapfs rollback mnt later; snapfs rollback mnt later --dry-run
        snapfs merge mnt --keep renamed; snapfs restore mnt/other --from later; snapfs list mnt --clones > clones";
    let (said, found) = meanwhile(&p, bind, start, "work", changes);
    let trial = fs::read_to_string(p.at("clones")).unwrap();
    let trial =
        trial.split_whitespace().find(|word| word.starts_with("@trial-")).expect("a clone").to_string();
    assert_eq!(
        (found.as_str(), fs::read_to_string(p.path("project/f")).unwrap().as_str()),
        ("trial\n", "live\n")
    );
    let refused = said.err.lines().filter(|line| line.contains("a trial goes on")).count();
    assert!(refused == 3 && said.err.matches(&trial).count() == 3, "{trial} {said:?}");
    assert!(said.err.contains("project: this would be another") && p.path("other").exists(), "{said:?}");
    // When it has ended nothing is kept.
    p.ok(&["rollback", "mnt", "later"]);
    p.ok(&["merge", "mnt", "renamed"]);
    assert_eq!(fs::read_to_string(p.path("moved/f")).unwrap(), "live\n");
    p.umount();
    p.check();
}

#[test]
fn a_clone_that_is_tried_stays_covered_by_its_name() {
    if !can_try() || !is_root() {
        return;
    }
    let p = mounted();
    fs::write(p.path("f"), "live\n").unwrap();
    p.snapshot("main");
    fs::create_dir(p.path(".clones/job")).unwrap();
    fs::create_dir(p.path(".clones/y")).unwrap();
    fs::create_dir(p.path(".clones/job/.snapshots/own")).unwrap();
    fs::create_dir(p.path(".clones/y/.snapshots/own")).unwrap();
    let changes =
        "for c in 'rollback mnt/.clones/job own' 'promote mnt job' 'rename mnt .clones/job .clones/other' \
            'rollback mnt main' 'rollback mnt/.clones/y own' 'drop mnt y'; do
            cat mnt/.clones/y/.clones/job/f > /dev/null; snapfs $c > /dev/null; echo $?; done";
    let start = "snapfs try mnt/.clones/job";
    let (said, found) = meanwhile(&p, "", start, "mnt/.clones/job", changes);
    assert_eq!((said.out.as_str(), found.as_str()), ("1\n1\n1\n0\n0\n0\n", "trial\n"), "{said:?}");
    assert_eq!(said.err.matches("a trial goes on").count(), 2, "{said:?}");
    assert_eq!(fs::read_to_string(p.path(".clones/job/f")).unwrap(), "live\n");
    p.ok(&["rollback", "mnt/.clones/job", "own"]);
    p.ok(&["rename", "mnt", ".clones/job", ".clones/other"]);
    p.umount();
    p.check();
}

#[test]
fn with_a_namespace_of_processes_it_sees_its_own_alone() {
    if !can_try() || !is_root() {
        return;
    }
    let p = mounted();
    let mut other = Command::new("sleep").arg("1000").spawn().unwrap();
    let script = format!(
        "snapfs try mnt --drop --isolate -- sh -c '
        kill -0 {pid} 2>/dev/null && echo reached
        ls /proc | grep -c \"^[0-9]\"; umount /proc 2>/dev/null && echo gone; test -d /proc/{pid} && echo seen
        (sleep 0.2; echo late > mnt/late) & exit 4'",
        pid = other.id()
    );
    let tried = tell(&p, &script);
    let few = tried.out.lines().next().and_then(|n| n.parse().ok()).is_some_and(|n: u32| n < 10);
    assert!(tried.code == 4 && few && tried.out.lines().skip(1).eq(["+ late"]), "{tried:?}");
    other.kill().unwrap();
    other.wait().unwrap();
    is_untouched(&p);
    p.umount();
}

#[test]
fn inherited_descriptors_are_warned_of() {
    if !can_try() {
        return;
    }
    let p = mounted();
    let script = "exec 7> mnt/dir/open 8< mnt/dir 9> elsewhere
        snapfs try mnt --drop -- sh -c 'echo live >&7; echo x > mnt/x' > mnt/out; cat mnt/out";
    let tried = tell(&p, script);
    let warned: Vec<&str> =
        tried.err.lines().filter(|line| line.contains("leads out of the trial")).collect();
    assert!(tried.code == 0 && tried.out == "+ x\n" && warned.len() == 3, "{tried:?}");
    for (line, words) in warned.iter().zip(["descriptor 1,", "descriptor 7,", "descriptor 8,"]) {
        assert!(line.contains(words) && line.contains("/mnt/"), "{tried:?}");
    }
    assert_eq!(fs::read_to_string(p.path("dir/open")).unwrap(), "live\n");
    assert_eq!(clones(&p), Vec::<String>::new());
    p.umount();
}

/// A trial that goes on: the command says so in `began`, and goes on when `go` is written to.
fn going_on(p: &Place, options: &str, command: &str) -> Child {
    if !p.at("go").exists() {
        assert!(Command::new("mkfifo").arg(p.at("go")).status().unwrap().success());
    }
    let _ = fs::remove_file(p.at("began"));
    let child = shell(p, &format!("exec snapfs try mnt {options} -- sh -c '{command}'"))
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    wait("the command", || fs::read_to_string(p.at("began")).is_ok_and(|text| text.ends_with('\n')));
    child
}

fn end_of(mut child: Child) -> Said {
    let end = Instant::now() + PATIENCE;
    while child.try_wait().unwrap().is_none() {
        assert!(Instant::now() < end, "the trial does not end");
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
    let out = child.wait_with_output().unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    Said { code: out.status.code().unwrap_or(-1), out: text(&out.stdout), err: text(&out.stderr) }
}

fn signal(pid: u32, name: &str) {
    assert!(Command::new("kill").args([name, &pid.to_string()]).status().unwrap().success());
}

#[test]
fn a_trial_ends_with_the_last_that_it_has_started() {
    if !can_try() {
        return;
    }
    for isolate in ["", "--isolate"] {
        let p = mounted();
        // Of another session, and its parent is gone.
        let command = "setsid sh -c \"(echo \\$\\$ > began; read x < go; echo late > mnt/late) &\" \
                       > /dev/null 2>&1; exit 6";
        let mut child = going_on(&p, &format!("--drop {isolate}"), command);
        // That it is waited for is said, and only after the command has ended.
        let mut err = std::io::BufReader::new(child.stderr.take().unwrap());
        let mut line = String::new();
        std::io::BufRead::read_line(&mut err, &mut line).unwrap();
        assert!(line.contains("waiting for what it left running"), "{line}");
        assert!(child.try_wait().unwrap().is_none());
        assert_eq!(clones(&p).len(), 1);
        fs::write(p.at("go"), "\n").unwrap();
        let ended = end_of(child);
        assert!(ended.code == 6 && ended.out == "+ late\n", "{ended:?}");
        is_untouched(&p);
        // Or it is ended, with what it has ignored.
        let command = "setsid sh -c \"trap : TERM INT HUP; (trap : TERM INT HUP; echo \\$\\$ > began; \
                       while :; do read x < go; done) &\" > /dev/null 2>&1; echo x > mnt/x";
        let mut child = going_on(&p, &format!("--keep x {isolate}"), command);
        let mut err = std::io::BufReader::new(child.stderr.take().unwrap());
        line.clear();
        std::io::BufRead::read_line(&mut err, &mut line).unwrap();
        signal(child.id(), "-INT");
        let ended = end_of(child);
        assert!(ended.code == 0 && ended.out == "+ x\n", "{ended:?}");
        assert_eq!(clones(&p), ["x"]);
        p.umount();
    }
}

#[test]
fn signals_end_the_command_and_leave_the_clone() {
    if !can_try() {
        return;
    }
    for isolate in ["", "--isolate"] {
        let p = mounted();
        for (name, code) in [("-TERM", 143), ("-INT", 130), ("-HUP", 129)] {
            let child = going_on(&p, isolate, "echo x > mnt/x; echo $$ > began; exec sleep 1000");
            signal(child.id(), name);
            let ended = end_of(child);
            assert!(ended.code == code && ended.out == "+ x\n", "{isolate} {name}: {ended:?}");
            let left = clones(&p);
            assert!(left.len() == 1 && left[0].starts_with("@trial-"), "{left:?}");
            assert!(ended.err.contains(&format!("snapfs drop mnt {}", left[0])), "{ended:?}");
            p.ok(&["drop", "mnt", &left[0]]);
        }
        is_untouched(&p);
        // A command that takes care of itself.
        let trap =
            "trap \"echo cleaned > mnt/cleaned; exit 9\" TERM; echo x > began; while :; do sleep 0.05; done";
        let child = going_on(&p, &format!("--drop {isolate}"), trap);
        signal(child.id(), "-TERM");
        let ended = end_of(child);
        assert!(ended.code == 9 && ended.out == "+ cleaned\n", "{ended:?}");
        // Killed: everything ends at once, and the clone is there.
        let command = "(setsid sleep 1001 &) > /dev/null 2>&1; (setsid sh -c \"exec sleep 1002\" &); \
                       echo x > mnt/x; echo $$ > began; exec sleep 1003";
        let child = going_on(&p, isolate, command);
        let pid = child.id();
        let all = descendants(pid);
        assert!(all.len() >= 3, "{all:?}");
        signal(pid, "-KILL");
        end_of(child);
        wait("all of the trial to end", || all.iter().all(|pid| has_ended(*pid)));
        let left = clones(&p);
        assert!(left.len() == 1 && left[0].starts_with("@trial-"), "{left:?}");
        assert_eq!(fs::read_to_string(p.path(".clones").join(&left[0]).join("x")).unwrap(), "x\n");
        p.ok(&["drop", "mnt", &left[0]]);
        is_untouched(&p);
        p.umount(); // nothing of a trial keeps it
        p.check();
    }
}

fn parent(pid: u32) -> Option<u32> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let mut fields = stat.rsplit_once(')')?.1.split_whitespace();
    let alive = !fields.next()?.starts_with(['Z', 'X']);
    fields.next()?.parse().ok().filter(|_| alive)
}

fn has_ended(pid: u32) -> bool {
    parent(pid).is_none()
}

fn descendants(of: u32) -> Vec<u32> {
    let pids = fs::read_dir("/proc").unwrap().filter_map(|e| e.ok()?.file_name().to_str()?.parse().ok());
    let is_below = |pid: &u32| std::iter::successors(parent(*pid), |pid| parent(*pid)).any(|pid| pid == of);
    pids.filter(is_below).collect()
}

#[test]
fn what_goes_on_when_the_process_in_between_is_killed_is_ended() {
    if !can_try() {
        return;
    }
    let p = mounted();
    let child = going_on(
        &p,
        "",
        "(setsid sleep 1004 &) > /dev/null 2>&1; echo x > mnt/x; echo $$ > began; sleep 1005",
    );
    let all = descendants(child.id());
    let outer = *all.iter().find(|pid| parent(**pid) == Some(child.id())).unwrap();
    signal(outer, "-KILL");
    let ended = end_of(child);
    assert!(ended.code == 137 && ended.out == "+ x\n", "{ended:?}");
    wait("all of the trial to end", || all.iter().all(|pid| has_ended(*pid)));
    assert_eq!(clones(&p).len(), 1);
    p.umount();
}

#[test]
fn trials_nest() {
    if !can_try() {
        return;
    }
    let p = mounted();
    let script = "snapfs try mnt --keep outer -- sh -c '
        echo outer > mnt/o; cd mnt/dir
        snapfs try .. --keep inner -- sh -c \"
            cat ../o f; echo inner > ../i; echo inner > f
            for c in ../.clones/@trial-*; do echo bad > \\$c/bad; cat \\$c/i; done
            umount ../../mnt\"; echo $?
        ls ..; cat f
        snapfs try .. --drop -- sh -c \"echo x > f; exit 5\"; echo $?'";
    let tried = tell(&p, script);
    // The inner one changes its files and reaches the outer one by no path: there is itself.
    let told = tried.out.clone();
    let expected = "outer\none\ninner\n+ bad\nM dir/f (4 B -> 6 B)\n+ i\n32\ndir\no\none\nM dir/f (4 B -> 2 B)\n5\n+ o\n";
    assert!(tried.code == 0 && told == expected, "{tried:?}");
    assert_eq!(names(&p.path(".clones")), ["outer", "inner"]);
    let content = |path: &str| fs::read_to_string(p.path(path)).unwrap();
    assert_eq!(
        (content(".clones/outer/o"), content(".clones/outer/dir/f")),
        ("outer\n".into(), "one\n".into())
    );
    assert_eq!(
        (content(".clones/inner/o"), content(".clones/inner/dir/f")),
        ("outer\n".into(), "inner\n".into())
    );
    assert_eq!(content(".clones/inner/bad"), "bad\n");
    for path in [".clones/outer/bad", ".clones/outer/i", "bad", "o", "i"] {
        refuses(fs::metadata(p.path(path)), libc::ENOENT);
    }
    p.ok(&["drop", "mnt", "outer", "inner"]);
    is_untouched(&p);
    p.umount();
    p.check();
}

#[test]
fn a_clone_is_tried_as_the_main_line_is() {
    if !can_try() {
        return;
    }
    let p = mounted();
    fs::create_dir(p.path(".clones/x")).unwrap();
    fs::create_dir(p.path(".clones/y")).unwrap();
    fs::write(p.path(".clones/x/of x"), "1\n").unwrap();
    let script = "export c=$PWD/mnt/.clones; cd mnt/.clones/x; snapfs try . --drop -- sh -c '
        pwd; cat \"of x\"; echo 2 > \"of x\"; cat \"$c/x/of x\" \"$c/y/.clones/x/of x\"
        echo 3 > \"$c/y/.clones/x/of x\"; cat \"of x\"; echo main > $c/../main; echo y > $c/y/y'
        cat \"$c/x/of x\" $c/../main $c/y/y";
    let tried = tell(&p, script);
    let expected =
        format!("{}\n1\n2\n2\n3\nM of x (2 B -> 2 B)\n1\nmain\ny\n", p.path(".clones/x").display());
    assert!(tried.code == 0 && tried.out == expected, "{tried:?}\n{expected}");
    assert_eq!(clones(&p), ["x", "y"]);
    assert_eq!(all_names(&p, &["list", "mnt/.clones/x"]), Vec::<String>::new());
    p.umount();
}

#[test]
fn names_may_be_any_bytes() {
    if !can_try() {
        return;
    }
    let p = mounted();
    let odd = p.at("mnt").join(OsStr::from_bytes(b"a \xff\n'\"\\b"));
    fs::create_dir(&odd).unwrap();
    let mut command = p.command(&["try", ".", "--json", "--keep"]);
    command.arg(OsStr::from_bytes(b"k \xfe")).args(["--", "sh", "-c", "echo x > \"$1\"; cat ./*", "sh"]);
    command.arg(OsStr::from_bytes(b"f\xfd")).current_dir(&odd);
    let tried = said(&mut command);
    let object = last_json(&tried);
    assert!(tried.code == 0 && tried.out.starts_with("x\n"), "{tried:?}");
    assert_eq!(object["clone_hex"], "6b20fe");
    assert_eq!(object["changes"][0]["path_hex"], "6120ff0a27225c622f66fd");
    let made = p.path(".clones").join(OsStr::from_bytes(b"k \xfe")).join(odd.file_name().unwrap());
    assert_eq!(fs::read(made.join(OsStr::from_bytes(b"f\xfd"))).unwrap(), b"x\n");
    p.umount();
}

#[test]
fn who_does_not_read_is_no_trouble() {
    if !can_try() {
        return;
    }
    let p = mounted();
    for (script, code) in [
        ("snapfs try mnt --keep a -- sh -c 'echo x > mnt/x; exit 4' >&-", 4),
        ("snapfs try mnt --keep b -- sh -c 'echo x > mnt/x; exit 4' >&- 2>&- <&-", 4),
        ("snapfs run mnt -- sh -c 'echo x > mnt/x; exit 4' >&-", 4),
        // The reader has gone before anything is printed.
        (
            "mkfifo q; sleep 100 < q & r=$!; exec 5> q; kill $r; wait $r; snapfs try mnt --keep c -- sh -c 'echo x > mnt/x2; exit 4' >&5",
            4,
        ),
        ("snapfs run mnt -- sh -c 'rm mnt/x; exit 4' >&5", 2),
    ] {
        let tried = tell(&p, script);
        assert!(tried.code == code || script.ends_with(">&5"), "{script}: {tried:?}");
    }
    assert_eq!(clones(&p), ["a", "b", "c"]);
    p.umount();
}

#[test]
fn what_the_command_is_given_is_what_it_would_have_without_us() {
    if !can_try() {
        return;
    }
    let p = mounted();
    // Of signals the first 28: what lies behind 31 is the C library's own, which ignores some of it in what it spawns.
    let script = "umask 027; trap '' USR2; ulimit -S -n 100; ulimit -S -f 1000
        how='umask; ulimit -n; ulimit -f; grep SigB /proc/self/status; grep Sig[IC] /proc/self/status | grep -o '.......$'; ls /proc/self/fd | wc -l; cat'
        echo in | sh -c \"$how\" > bare
        echo in | snapfs try mnt --drop -- sh -c \"$how\" > tried
        echo in | snapfs run mnt -- sh -c \"$how\" > ran
        echo in | snapfs try mnt --isolate --drop -- sh -c \"$how\" > isolated
        cat bare; diff bare tried && diff bare ran && diff bare isolated";
    let told = tell(&p, script);
    assert!(told.code == 0 && told.out.starts_with("0027\n100\n"), "{told:?}");
    p.umount();
}

#[test]
fn signals_that_are_ignored_here_are_no_trouble() {
    if !can_try() {
        return;
    }
    let p = mounted();
    // Whoever ignores the end of children hands that on. What hangs is ended, and shows.
    let with = "timeout -s KILL 60 env --ignore-signal=CHLD --ignore-signal=HUP";
    let bare = tell(&p, &format!("{with} grep SigIgn /proc/self/status"));
    for way in ["run mnt", "try mnt --drop", "try mnt --isolate --drop"] {
        let told = tell(&p, &format!("{with} snapfs {way} -- grep SigIgn /proc/self/status"));
        assert!(told.code == 0 && told.out == bare.out, "{way}: {told:?} instead of {bare:?}");
        let told = tell(&p, &format!("{with} snapfs {way} -- sh -c 'echo x > mnt/x; exit 3'"));
        assert!(told.code == 3 && told.out == "+ x\n", "{way}: {told:?}");
        let told = tell(&p, &format!("{with} snapfs {way} -- no-such-program"));
        assert!(told.code == 127 && told.err.contains("cannot run"), "{way}: {told:?}");
        let _ = fs::remove_file(p.path("x"));
    }
    p.umount();
    let mounted = tell(&p, &format!("{with} snapfs mount store mnt --log log && {with} snapfs umount mnt"));
    assert!(mounted.code == 0 && mounted.err.is_empty(), "{mounted:?}");
}

#[test]
fn a_user_without_rights_tries() {
    if !can_try() || !is_root() {
        return;
    }
    if !Path::new("/usr/bin/fusermount3").exists() || !Path::new("/usr/bin/setpriv").exists() {
        return skipped("no fusermount3 or no setpriv: nothing is tried as a normal user");
    }
    let p = Place::new();
    fs::set_permissions(&p.dir.0, fs::Permissions::from_mode(0o755)).unwrap();
    let home = p.at("home");
    fs::create_dir(&home).unwrap();
    std::os::unix::fs::chown(&home, Some(65534), Some(65534)).unwrap();
    // The build directory may be closed to others, and so may the device.
    assert!(
        Command::new("cp").arg(env!("CARGO_BIN_EXE_snapfs")).arg(p.at("snapfs")).status().unwrap().success()
    );
    assert!(
        Command::new("mknod")
            .arg("-m666")
            .arg(p.at("fuse"))
            .args(["c", "10", "229"])
            .status()
            .unwrap()
            .success()
    );
    let script =
        "set -u; mkdir mnt run more; chmod 700 run; export SNAPFS_RUNTIME_DIR=$PWD/run PATH=$PWD/..:$PATH
        snapfs mount store mnt || exit 77
        mkdir mnt/dir; echo one > mnt/dir/f; mount=$PWD/mnt; cd mnt/dir
        for isolate in '' --isolate; do
            snapfs try . $isolate --drop -- sh -c '
                id -u; pwd; cat f; echo two > f; stat -c %u f
                umount '$mount' 2>/dev/null && echo gone; fusermount3 -u '$mount' 2>/dev/null && echo gone
                unshare -Urm sh -c \"umount '$mount' 2>/dev/null; umount -l '$mount' 2>/dev/null; cat f\"
                for pid in $PPID '$$' 1; do cat /proc/$pid/root'$mount'/dir/f 2>/dev/null; done
                chown 0 f 2>/dev/null || echo not mine
                snapfs try . --drop -- sh -c \"cat f; echo three > f; exit 8\"; echo $?; cat f; exit 7'
            echo $?; cat f
        done
        cd ../..; snapfs list mnt --clones --json; snapfs umount mnt";
    let outside = "mount --bind ../fuse /dev/fuse && exec setpriv --reuid=65534 --regid=65534 --clear-groups sh -c \"$0\"";
    let mut command = Command::new("unshare");
    command.args(["-m", "--propagation", "private", "sh", "-c", outside, script]);
    let tried = said(command.current_dir(&home).stdin(Stdio::null()));
    if tried.code == 77 {
        return skipped(&format!("a normal user cannot mount here: {tried:?}"));
    }
    let once = format!(
        "65534\n{dir}\none\n65534\ntwo\nnot mine\ntwo\nM dir/f (4 B -> 6 B)\n8\ntwo\nM dir/f (4 B -> 4 B)\n7\none\n",
        dir = home.join("mnt/dir").display()
    );
    assert_eq!(tried.out, format!("{once}{once}[]\n"), "{tried:?}");
    for entry in [home.join("mnt"), home.join("run"), home.join("more")] {
        let _ = fs::remove_dir_all(entry);
    }
}

#[test]
fn a_step_is_there_before_each_command() {
    if !can_mount() {
        return;
    }
    let p = mounted();
    let ran = tell(&p, "cd mnt/dir; snapfs run . -- sh -c 'pwd; echo two > f; exit 3'");
    let out = format!("{}\nM dir/f (4 B -> 4 B)\n", p.path("dir").display());
    assert!(ran.code == 3 && ran.out == out && ran.err.is_empty(), "{ran:?}");
    let steps = snapshots(&p);
    assert!(steps.len() == 1 && steps[0].starts_with("@step-"), "{steps:?}");
    assert_eq!(fs::read_to_string(p.past(&steps[0], "dir/f")).unwrap(), "one\n");
    let object = last_json(&tell(&p, "snapfs run mnt --json -- sh -c 'echo said; rm mnt/dir/f'"));
    let steps = snapshots(&p);
    assert_eq!(
        (&object["exit_code"], object["view_before"].as_str()),
        (&0.into(), steps.last().map(|s| &s[..]))
    );
    assert_eq!(
        (&object["changes"][0]["change"], &object["changes"][0]["path"]),
        (&"-".into(), &"dir/f".into())
    );
    // Pruned by count: the oldest steps, and nothing else.
    p.snapshot("mine");
    let script =
        "for n in 1 2 3 4 5 6; do snapfs run mnt --keep-steps 3 -- sh -c \"echo $n > mnt/n\" || exit 1; done";
    assert_eq!(tell(&p, script).code, 0);
    let left = snapshots(&p);
    assert_eq!(left[0], "mine");
    assert!(left.len() == 4 && left[1..].iter().all(|name| name.starts_with("@step-")), "{left:?}");
    assert_eq!(fs::read_to_string(p.past(&left[3], "n")).unwrap(), "5\n");
    // Of a clone they are the clone's.
    fs::create_dir(p.path(".clones/x")).unwrap();
    let ran = tell(&p, "snapfs run mnt/.clones/x --keep-steps 1 -- sh -c 'echo x > mnt/.clones/x/n'");
    assert!(ran.code == 0 && ran.out == "M n (2 B -> 2 B)\n", "{ran:?}");
    assert_eq!(snapshots(&p), left);
    assert_eq!(all_names(&p, &["list", "mnt/.clones/x"]).len(), 5);
    p.umount();
    p.check();
}

#[test]
fn what_a_failed_command_changed_is_put_back() {
    if !can_mount() {
        return;
    }
    let p = mounted();
    let change = "echo two > mnt/dir/f; mv mnt/dir mnt/moved; rm -r mnt/moved/below; mkdir mnt/new; echo x > mnt/new/x";
    let is_changed = || p.path("new/x").exists() && fs::read_to_string(p.path("moved/f")).unwrap() == "two\n";
    let ran = tell(&p, &format!("snapfs run mnt --undo-on-failure -- sh -c '{change}; exit 5'"));
    assert!(ran.code == 5 && ran.out.contains("R dir/ -> moved/") && ran.err.contains("put back"), "{ran:?}");
    assert_eq!(names(&p.at("mnt")), ["dir"]);
    assert_eq!(fs::read_to_string(p.path("dir/f")).unwrap(), "one\n");
    assert!(p.path("dir/below").is_dir());
    // What was there is not lost.
    let guard = snapshots(&p).into_iter().find(|name| name.starts_with("@before-restore-")).unwrap();
    assert_eq!(fs::read_to_string(p.past(&guard, "moved/f")).unwrap(), "two\n");
    // Without a failure, or if nothing has changed, nothing is put back.
    let same = last_json(&tell(&p, "snapfs run mnt --undo-on-failure --json -- false"));
    assert_eq!((&same["exit_code"], &same["undone"]), (&1.into(), &false.into()));
    let ran = last_json(&tell(&p, &format!("snapfs run mnt --undo-on-failure --json -- sh -c '{change}'")));
    assert!(ran["undone"] == false && is_changed(), "{ran}");
    // Of a clone what is the clone's.
    fs::create_dir(p.path(".clones/x")).unwrap();
    let script = "snapfs run mnt/.clones/x --undo-on-failure --json -- sh -c 'rm -r mnt/.clones/x/*; echo m > mnt/m; exit 2'";
    let ran = last_json(&tell(&p, script));
    assert!(ran["undone"] == true && ran["exit_code"] == 2 && is_changed(), "{ran}");
    assert!(p.path(".clones/x/new/x").exists() && p.path("m").exists());
    p.umount();
    p.check();
}

#[test]
fn what_a_command_takes_away_does_not_hide_how_it_ended() {
    if !can_mount() {
        return;
    }
    let p = mounted();
    // The target itself, in a clone: it is the clone's step that counts, and the main line has one of the same second too.
    fs::create_dir(p.path(".clones/x")).unwrap();
    for run in ["snapfs run mnt/.clones/x/dir", "cd mnt/.clones/x/dir; snapfs run ."] {
        let script = format!(
            "base=$PWD; snapfs run mnt -- true; {run} --undo-on-failure -- sh -c \"rm -r $base/mnt/.clones/x/dir; exit 5\""
        );
        let ran = tell(&p, &script);
        assert!(ran.code == 5 && ran.out.contains("- dir/f") && ran.err.contains("put back"), "{ran:?}");
        assert_eq!(fs::read_to_string(p.path(".clones/x/dir/f")).unwrap(), "one\n");
    }
    // What is run inside of a command keeps as few steps as it likes; the outer one's is kept.
    let script = "snapfs run mnt --undo-on-failure -- sh -c '
        echo two > mnt/dir/f; for n in 1 2 3; do snapfs run mnt --keep-steps 1 -- true; done; exit 6'";
    let ran = tell(&p, script);
    assert!(ran.code == 6 && ran.out == "M dir/f (4 B -> 4 B)\n" && ran.err.contains("put back"), "{ran:?}");
    assert_eq!(fs::read_to_string(p.path("dir/f")).unwrap(), "one\n");
    // Afterwards it goes as others do.
    assert_eq!(tell(&p, "snapfs run mnt --keep-steps 1 -- true").code, 0);
    let steps = |p: &Place| snapshots(p).iter().filter(|name| name.starts_with("@step-")).count();
    assert_eq!(steps(&p), 1);
    // A step that is deleted by hand: told, and the code is the command's.
    for (json, words) in [("", "what the command changed"), ("--json", "\"changes\":null")] {
        let script = format!(
            "snapfs run mnt {json} -- sh -c 'for s in mnt/.snapshots/@step-*; do rmdir $s; done; exit 7'"
        );
        let ran = tell(&p, &script);
        assert!(ran.code == 7 && (ran.err.clone() + &ran.out).contains(words), "{ran:?}");
    }
    // Nowhere to print is no other end of the command either.
    for way in ["run mnt", "run mnt --json", "try mnt --drop", "try mnt --drop --json"] {
        let ran = tell(&p, &format!("snapfs {way} -- sh -c 'rm mnt/dir/f; exit 8' > /dev/full"));
        assert!(ran.code == 8 && ran.err.contains("cannot write"), "{way}: {ran:?}");
        fs::write(p.path("dir/f"), "one\n").unwrap();
    }
    p.umount();
    p.check();
}

#[test]
fn many_trials_at_once_have_a_step_each() {
    if !can_try() {
        return;
    }
    let p = mounted();
    let script = "for n in 1 2 3 4 5 6 7 8; do
            snapfs try mnt --drop --json -- sh -c \"echo $n > mnt/n; exit $n\" > out.$n 2> err.$n &
        done; wait; cat out.* err.*";
    let tried = tell(&p, script);
    let ends: Vec<Value> = tried.out.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    for n in 1..=8 {
        let end = ends.iter().find(|end| end["exit_code"] == n).unwrap_or_else(|| panic!("{n}: {tried:?}"));
        assert!(end["changes"][0]["path"] == "n" && end["outcome"] == "dropped", "{end}");
    }
    is_untouched(&p);
    p.umount();
    p.check();
}

#[test]
fn signals_reach_a_command_that_is_run() {
    if !can_mount() {
        return;
    }
    let p = mounted();
    let _ = p.at("began");
    let child = shell(&p, "exec snapfs run mnt -- sh -c 'echo x > mnt/x; echo $$ > began; exec sleep 1000'")
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    wait("the command", || fs::read_to_string(p.at("began")).is_ok_and(|text| text.ends_with('\n')));
    signal(child.id(), "-TERM");
    let ended = end_of(child);
    assert!(ended.code == 143 && ended.out == "+ x\n", "{ended:?}");
    p.umount();
}

#[test]
fn a_terminal_is_asked() {
    if !can_try() {
        return;
    }
    if said(Command::new("script").arg("--version")).code != 0 {
        return skipped("no script(1): no terminal");
    }
    let p = mounted();
    for (answer, left) in [("what\ndrop\n", vec![]), ("keep asked\n", vec!["asked".to_string()])] {
        let mut command = shell(&p, "script -qec \"snapfs try mnt -- sh -c 'echo x > mnt/x'\" /dev/null");
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        child.stdin.take().unwrap().write_all(answer.as_bytes()).unwrap();
        let ended = end_of(child);
        assert!(ended.code == 0 && ended.out.contains("+ x"), "{ended:?}");
        assert_eq!(clones(&p), left, "{ended:?}");
    }
    p.umount();
}
