//! What docs/agents.md promises, done as it says: an agent in a trial, its steps kept by the script of that page, and
//! taken back; a build tool whose commands are steps.

mod guard;
mod place;

use guard::can_mount;
use place::{Place, Said, names, said};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

fn repository(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

fn script() -> PathBuf {
    repository("mount-helpers/agent-step")
}

/// A command that finds the program and the script by their names, as an installed one would.
fn installed(p: &Place, program: &str, args: &[&str]) -> Command {
    let program_dir = Path::new(env!("CARGO_BIN_EXE_snapfs")).parent().unwrap().to_path_buf();
    let helpers = repository("mount-helpers");
    let path = std::env::var_os("PATH").unwrap_or_default();
    let dirs = [program_dir, helpers].into_iter().chain(std::env::split_paths(&path));
    let mut command = Command::new(program);
    p.settle(&mut command).args(args).env("PATH", std::env::join_paths(dirs).unwrap());
    command
}

fn step(p: &Place, args: &[&str]) -> Said {
    said(&mut installed(p, "agent-step", args))
}

fn steps(p: &Place) -> Vec<String> {
    names(&p.path(".snapshots")).into_iter().filter(|name| name.starts_with("step-")).collect()
}

/// A small project, and the mount that has it.
fn project() -> Place {
    let p = Place::new();
    p.mount("");
    fs::create_dir_all(p.path("project/tests")).unwrap();
    fs::write(p.path("project/parser.c"), "int parse;\n").unwrap();
    fs::write(p.path("project/tests/parser.sh"), "exit 1\n").unwrap();
    p
}

#[test]
fn the_page_has_the_script() {
    let page = fs::read_to_string(repository("docs/agents.md")).unwrap();
    let script = fs::read_to_string(script()).unwrap();
    assert!(
        page.contains(&format!("```sh\n{script}```\n")),
        "docs/agents.md has another mount-helpers/agent-step"
    );
}

#[test]
fn steps_are_kept_told_and_taken_back() {
    if !can_mount() {
        return;
    }
    let p = project();
    let none = step(&p, &["after", "mnt/project"]);
    assert_eq!((none.code, none.err.as_str()), (1, "agent-step: mnt/project has no step yet\n"));

    let before = step(&p, &["before", "mnt/project"]);
    assert_eq!((before.code, before.out.as_str(), before.err.as_str()), (0, "", ""));
    fs::write(p.path("project/parser.c"), "int parse = 1;\n").unwrap();
    fs::write(p.path("project/parser.h"), "extern int parse;\n").unwrap();
    let after = step(&p, &["after", "mnt/project"]);
    assert_eq!(after.code, 0, "{after:?}");
    assert_eq!(after.out, "M project/parser.c (11 B -> 15 B)\n+ project/parser.h\n");

    assert_eq!(step(&p, &["before", "mnt/project"]).code, 0);
    // An agent that makes the test pass by changing it, and everything else too.
    fs::write(p.path("project/tests/parser.sh"), "exit 0\n").unwrap();
    fs::remove_file(p.path("project/parser.c")).unwrap();
    fs::write(p.path("project/junk"), "junk\n").unwrap();
    let mut after = installed(&p, "agent-step", &["after", "mnt/project"]);
    let after = said(after.env("AGENT_FORBIDDEN", "(^|/)tests/"));
    assert_eq!(after.code, 2, "{after:?}");
    assert!(after.err.ends_with("\nproject/tests/parser.sh\n"), "{after:?}");
    let before = after.err.lines().next().and_then(|line| line.rsplit(' ').next()).unwrap();
    assert_eq!(fs::read_to_string(p.at(before).join("tests/parser.sh")).unwrap(), "exit 1\n");

    // Only so many are kept, and never one that is not a step.
    p.snapshot("mine");
    for _ in 0..5 {
        let mut before = installed(&p, "agent-step", &["before", "mnt/project"]);
        assert_eq!(said(before.env("AGENT_STEPS", "3")).code, 0);
    }
    assert_eq!(steps(&p).len(), 3);
    assert!(p.past("mine", "").exists());
    assert_eq!(step(&p, &["after"]).code, 64);
    p.umount();
    p.check();
}

#[test]
fn what_is_forbidden_is_not_moved_away_either() {
    if !can_mount() {
        return;
    }
    let p = project();
    let after = |forbidden: &str| {
        let mut after = installed(&p, "agent-step", &["after", "mnt/project"]);
        said(after.env("AGENT_FORBIDDEN", forbidden))
    };
    let moves: [(&str, &str); 4] = [
        ("project/tests/parser.sh", "project/p"),
        ("project/tests", "project/t2"),
        ("project", "elsewhere"),
        ("project/p", "project/tests/parser.sh"),
    ];
    for (from, to) in moves {
        fs::create_dir_all(p.path("project/tests")).unwrap();
        let is_new = !p.path(from).exists();
        if is_new {
            fs::write(p.path(from), "exit 1\n").unwrap();
        }
        assert_eq!(step(&p, &["before", "mnt"]).code, 0);
        fs::rename(p.path(from), p.path(to)).unwrap();
        let mut after = installed(&p, "agent-step", &["after", "mnt"]);
        let after = said(after.env("AGENT_FORBIDDEN", "(^|/)tests/"));
        assert!(
            after.code == 2 && after.err.contains("\nproject/tests/parser.sh\n"),
            "{from} {to}: {after:?}"
        );
        fs::rename(p.path(to), p.path(from)).unwrap();
    }
    // What is allowed is no trouble, and an expression that is none is no permission.
    fs::rename(p.path("project/parser.c"), p.path("project/parser.cc")).unwrap();
    assert_eq!((after("(^|/)none/").code, after("(^|/)parser.c$").code), (0, 2));
    let wrong = after("((");
    assert!(wrong.code == 1 && !wrong.err.is_empty(), "{wrong:?}");
    // Nor is a difference that cannot be told.
    let mut failing = installed(&p, "agent-step", &["after", "mnt/project"]);
    fs::write(p.at("fails"), "#!/bin/sh\n[ \"$2\" = --name-only ] && exit 2\nexec snapfs \"$@\"\n").unwrap();
    use std::os::unix::fs::PermissionsExt;
    fs::set_permissions(p.at("fails"), fs::Permissions::from_mode(0o755)).unwrap();
    let failed = said(failing.env("AGENT_FORBIDDEN", "x").env("SNAPFS", p.at("fails")));
    assert_eq!(failed.code, 1, "{failed:?}");
    p.umount();
}

#[test]
fn steps_alone_are_pruned_in_a_clone_too() {
    if !can_mount() {
        return;
    }
    let p = project();
    let before = |tree: &str| {
        let mut before = installed(&p, "agent-step", &["before", tree]);
        let said = said(before.env("AGENT_STEPS", "2"));
        assert!(said.code == 0 && said.err.is_empty(), "{said:?}");
    };
    for name in ["prod", "step-1 prod", "step-", "step-2026-before release", "step-'1"] {
        p.snapshot(name);
    }
    (0..4).for_each(|_| before("mnt/project"));
    assert_eq!(steps(&p).len(), 2 + 4);
    // A clone has those that it was made with, and cannot delete them: they do not count.
    p.ok(&["clone", "mnt", "job"]);
    let of_job = || names(&p.path(".clones/job/.snapshots"));
    let inherited = of_job();
    for n in 1..5 {
        before("mnt/.clones/job/project");
        assert_eq!(of_job().len(), inherited.len() + n.min(2), "{:?}", of_job());
    }
    assert!(inherited.iter().all(|name| of_job().contains(name)) && p.past("prod", "").exists());
    p.umount();
    p.check();
}

#[test]
fn an_agent_in_a_trial_changes_nothing_until_it_is_merged() {
    if !can_mount() {
        return;
    }
    let p = project();
    let agent = "cd mnt/project && agent-step before . && echo 'int parse = 2;' > parser.c && agent-step after . \
                 && agent-step before . && cat parser.c";
    let mut trial = installed(&p, "snapfs", &["try", "mnt", "--keep", "job", "--", "sh", "-c", agent]);
    let trial = said(&mut trial);
    assert_eq!(trial.code, 0, "{trial:?}");
    assert!(trial.out.contains("int parse = 2;"), "{trial:?}");
    assert_eq!(fs::read_to_string(p.path("project/parser.c")).unwrap(), "int parse;\n");
    assert_eq!(steps(&p), Vec::<String>::new());
    let of_the_trial = names(&p.path(".clones/job/.snapshots"));
    assert_eq!(of_the_trial.iter().filter(|name| name.starts_with("step-")).count(), 2, "{of_the_trial:?}");

    let told = p.run(&["diff", "mnt", "@live", ".clones/job"]);
    assert_eq!((told.code, told.out.as_str()), (1, "M project/parser.c (11 B -> 15 B)\n"), "{told:?}");
    let merged = p.run(&["merge", "mnt", "job"]);
    assert_eq!(merged.code, 0, "{merged:?}");
    assert_eq!(fs::read_to_string(p.path("project/parser.c")).unwrap(), "int parse = 2;\n");
    assert_eq!(fs::read_to_string(p.path("project/tests/parser.sh")).unwrap(), "exit 1\n");
    assert!(!p.path(".clones/job").exists());
    p.umount();
    p.check();
}

#[test]
fn each_command_of_make_is_a_step() {
    if !can_mount() {
        return;
    }
    let p = project();
    fs::write(
        p.path("project/Makefile"),
        "all:\n\techo fine > fine\n\techo half > half; rm parser.c; false\n",
    )
    .unwrap();
    let mut make = installed(&p, "make", &["-C", "mnt/project", "SHELL=snapfs"]);
    make.arg(".SHELLFLAGS=run . -- /bin/sh -c");
    let made = said(&mut make);
    assert_eq!(made.code, 2, "{made:?}");
    assert_eq!(fs::read_to_string(p.path("project/fine")).unwrap(), "fine\n");
    let steps = names(&p.path(".snapshots"));
    assert_eq!(steps.len(), 2, "{steps:?}");
    assert_eq!(fs::read_to_string(p.past(&steps[1], "project/parser.c")).unwrap(), "int parse;\n");
    assert!(!p.path("project/parser.c").exists());
    p.umount();
    p.check();
}
