//! The rules of the code base that a compiler does not check: imports, documents, bytes of the sources.
//!
//! Every rule says which file breaks it, in which line, and what to do. It reads text, line by line, and judges nothing
//! that needs understanding.

mod circles;
mod rules;
mod sources;
mod tokens;

use sources::{File, Tree};
use std::collections::{BTreeMap, BTreeSet};
use std::process::Command;

/// What each module may import besides itself. The same as the tables in `src/lib.rs` and `docs/architecture.md`.
const IMPORTS: [(&str, &str); 20] = [
    (
        "cli",
        "bell check clock ctl device format fs fuse limits names ops repair salvage schedule scrub store sys tree volume",
    ),
    ("check", "fs volume tree store device format bell clock limits names ops sys"),
    ("repair", "check volume tree store device format bell clock limits names ops sys"),
    ("salvage", "volume tree store device format bell clock limits names ops sys"),
    ("scrub", "check volume tree store format bell clock limits names ops sys"),
    ("fuse", "format bell clock limits names ops sys"),
    ("ctl", "format bell clock limits names ops sys"),
    ("fs", "volume schedule format bell clock limits names ops sys"),
    ("schedule", "format bell clock limits names ops sys"),
    ("volume", "tree store device format bell clock limits names ops sys"),
    ("tree", "store format bell clock limits names ops sys"),
    ("store", "device format bell clock limits names ops sys"),
    ("device", "format bell clock limits names ops sys"),
    ("format", "limits names ops"),
    ("bell", ""),
    ("clock", "ops"),
    ("ops", ""),
    ("limits", ""),
    ("names", ""),
    ("sys", ""),
];

/// Fails with all complaints at once.
fn demand(complaints: Vec<String>) {
    assert!(complaints.is_empty(), "\n  {}\n", complaints.join("\n  "));
}

#[test]
fn imports_point_down() {
    let mut wrong = Vec::new();
    for file in Tree::read().under("src") {
        let Some(module) = file.module() else { continue };
        let Some((_, allowed)) = IMPORTS.iter().find(|(name, _)| *name == module) else {
            wrong.push(format!("{}: module {module} is not in the table of tests/tidy", file.path));
            continue;
        };
        for (line, text) in file.production() {
            for name in rules::imported(text) {
                if name != module && !allowed.split(' ').any(|a| a == name) {
                    wrong.push(format!("{}:{line}: {module} must not import {name}", file.path));
                }
            }
            if rules::climbs_out(text, file.depth()) {
                wrong.push(format!("{}:{line}: write crate:: for what is in another module", file.path));
            }
        }
    }
    demand(wrong);
}

#[test]
fn the_import_tables_agree() {
    let tree = Tree::read();
    let mut wrong = Vec::new();
    for path in ["src/lib.rs", "docs/architecture.md"] {
        let text = &tree.file(path).text;
        for (module, allowed) in IMPORTS {
            let Some(row) = text.lines().find_map(|l| rules::import_row(l, module)) else {
                wrong.push(format!("{path}: the table of imports has no row for {module}"));
                continue;
            };
            let (said, meant): (BTreeSet<_>, BTreeSet<_>) =
                (rules::expand(row).collect(), allowed.split(' ').filter(|a| !a.is_empty()).collect());
            if row != "everything" && said != meant {
                wrong.push(format!("{path}: {module} may import {meant:?}, the table says {said:?}"));
            }
        }
    }
    demand(wrong);
}

/// Prints them by folder with `-- --nocapture`.
#[test]
fn circles_are_none() {
    let tree = Tree::read();
    let circles = circles::Modules::read(&tree.under("src").collect::<Vec<_>>()).circles();
    let mut wrong = Vec::new();
    for circle in &circles {
        let members: Vec<&str> = circle.members.iter().map(String::as_str).collect();
        println!("src/{}: {} use each other", circle.folder, members.join(", "));
        circle.uses.iter().for_each(|(who, line, whom)| println!("    {who}:{line} uses {whom}"));
        wrong.push(format!("src/{}: {} use each other in a circle", circle.folder, members.join(", ")));
    }
    demand(wrong);
}

#[test]
fn parents_are_facades() {
    let tree = Tree::read();
    let mut wrong = Vec::new();
    for file in circles::facades(&tree.under("src").collect::<Vec<_>>()) {
        for (line, what) in circles::not_facade(file) {
            wrong.push(format!(
                "{}:{line}: {what}: a parent only lists its modules and what they offer",
                file.path
            ));
        }
    }
    demand(wrong);
}

#[test]
fn every_source_opens_with_its_purpose() {
    let tree = Tree::read();
    let sources = tree.under("src").chain(tree.under("tests")).filter(|f| f.path.ends_with(".rs"));
    demand(
        sources
            .filter(|f| !f.text.starts_with("//! "))
            .map(|f| format!("{}: must open with `//! `: what it is, what it keeps", f.path))
            .collect(),
    );
}

#[test]
fn sources_are_plain_text() {
    let mut wrong = Vec::new();
    for file in Tree::read().files {
        if !file.text.ends_with('\n') || file.text.ends_with("\n\n") {
            wrong.push(format!("{}: must end with exactly one newline", file.path));
        }
        for (line, text) in file.lines() {
            let mut complain = |what: &str| wrong.push(format!("{}:{line}: {what}", file.path));
            if !text.is_ascii() {
                complain("has a character that is not ASCII");
            }
            if text.contains('\t') || text.contains('\r') {
                complain("has a tab or a carriage return");
            }
            if text.ends_with(' ') {
                complain("ends with a space");
            }
            for path in rules::MACHINE_PATHS {
                if rules::has_path(text, path) {
                    complain("names a path of one machine");
                }
            }
        }
    }
    demand(wrong);
}

#[test]
fn nothing_is_unfinished() {
    let mut wrong = Vec::new();
    let tree = Tree::read();
    for file in tree.files.iter().filter(|f| f.path.ends_with(".rs") || f.path.ends_with(".sh")) {
        for (line, text) in file.lines() {
            if let Some(word) = rules::UNFINISHED.iter().find(|w| text.contains(**w)) {
                wrong.push(format!("{}:{line}: {word}", file.path));
            }
        }
    }
    demand(wrong);
}

#[test]
fn one_thing_has_one_name() {
    let mut wrong = Vec::new();
    for file in Tree::read().under("src") {
        for (line, text) in file.lines() {
            let lower = text.to_lowercase();
            for (word, instead) in rules::REPLACED_WORDS.iter().filter(|(w, _)| rules::has_word(&lower, w)) {
                wrong.push(format!("{}:{line}: {word}: say {instead}", file.path));
            }
        }
    }
    demand(wrong);
}

#[test]
fn a_type_that_others_use_has_a_name_of_its_own() {
    let (tree, mut wrong) = (Tree::read(), Vec::new());
    let mut seen: BTreeMap<&str, &str> = BTreeMap::new();
    for file in tree.under("src") {
        // Each layer has its own result, known by the path.
        for name in
            file.production().filter_map(|(_, text)| rules::offered_type(text)).filter(|n| *n != "Result")
        {
            if let Some(other) = seen.insert(name, &file.path) {
                wrong.push(format!("{name} is one type in {other} and another in {}", file.path));
            }
        }
    }
    demand(wrong);
}

#[test]
fn unsafe_code_and_the_clock_stay_in_their_places() {
    let mut wrong = Vec::new();
    for file in Tree::read().under("src") {
        let in_sys = file.module() == Some("sys");
        let may_ask_time = matches!(file.module(), Some("clock" | "cli" | "fuse"));
        for (line, text) in file.production() {
            if rules::has_word(text, "unsafe") && !in_sys && !text.trim_start().starts_with("//") {
                wrong.push(format!("{}:{line}: unsafe code belongs into src/sys", file.path));
            }
            if text.contains("SystemTime::now") && !may_ask_time {
                wrong.push(format!("{}:{line}: take a Clock instead of the machine's time", file.path));
            }
        }
    }
    demand(wrong);
}

/// What an extent says of its place may be out of date.
#[test]
fn where_content_is_only_the_remap_knows() {
    let mut wrong = Vec::new();
    let knows = |path: &str| {
        path == "src/format/extent.rs"
            || path == "src/volume/staged.rs"
            || path.starts_with("src/volume/remap/")
    };
    for file in Tree::read().under("src").filter(|f| !knows(&f.path)) {
        for (line, text) in file.production() {
            if rules::has_word(text, "raw_addr") {
                wrong.push(format!("{}:{line}: resolve the extent instead", file.path));
            }
        }
    }
    demand(wrong);
}

#[test]
fn names_are_shown_whole() {
    let mut wrong = Vec::new();
    for file in Tree::read().under("src").filter(|f| f.module() != Some("names")) {
        for (line, text) in file.production() {
            if let Some(way) = rules::LOSSY.iter().find(|way| text.contains(**way)) {
                wrong.push(format!("{}:{line}: {way} loses bytes of a name: use names::shown", file.path));
            }
        }
    }
    demand(wrong);
}

#[test]
fn files_are_short() {
    let tree = Tree::read();
    let lengths = tree.under("src").map(|f| (f.production().count(), &f.path));
    demand(
        lengths
            .filter(|(lines, _)| *lines > 700)
            .map(|(lines, path)| format!("{path}: {lines} lines without tests: what is it really?"))
            .collect(),
    );
}

#[test]
fn the_code_map_is_complete() {
    let tree = Tree::read();
    let map = rules::code_map(&tree.file("docs/architecture.md").text);
    let sources: BTreeSet<String> = tree.under("src").map(|f| f.path.clone()).collect();
    let missing = sources.difference(&map).map(|p| format!("docs/architecture.md: the code map lacks {p}"));
    let stale =
        map.difference(&sources).map(|p| format!("docs/architecture.md: {p} of the code map is gone"));
    demand(missing.chain(stale).collect());
}

/// A test is named as `path.rs::function`, in back ticks.
#[test]
fn tests_that_documents_name_exist() {
    let tree = Tree::read();
    let mut wrong = Vec::new();
    for file in tree.files.iter().filter(|f| f.path.ends_with(".md")) {
        for (line, text) in file.lines() {
            for (path, function) in rules::named_tests(text) {
                let defined = |f: &File| f.text.contains(&format!("fn {function}("));
                if !tree.get(path).is_some_and(defined) {
                    wrong.push(format!("{}:{line}: there is no {path}::{function}", file.path));
                }
            }
        }
    }
    let named = tree.file("docs/semantics.md").lines().flat_map(|l| rules::named_tests(l.1)).count();
    assert!(named > 0, "docs/semantics.md names no test");
    demand(wrong);
}

#[test]
fn links_between_documents_lead_somewhere() {
    let tree = Tree::read();
    let mut wrong = Vec::new();
    for file in tree.files.iter().filter(|f| f.path.ends_with(".md")) {
        for (line, text) in file.lines() {
            for target in rules::links(text) {
                let path = file.directory().join(target);
                if !sources::root().join(path).exists() {
                    wrong.push(format!("{}:{line}: {target} does not exist", file.path));
                }
            }
        }
    }
    demand(wrong);
}

#[test]
fn dependencies_have_a_reason() {
    let tree = Tree::read();
    let (mut section, mut explained, mut wrong) = ("", false, Vec::new());
    for (line, text) in tree.file("Cargo.toml").lines() {
        if text.starts_with('[') {
            section = text;
        }
        let dependency = section.ends_with("dependencies]") && text.contains(" = ");
        if dependency && !explained {
            wrong.push(format!("Cargo.toml:{line}: say in a comment above what it is for"));
        }
        // A comment covers the lines up to the next blank one.
        explained = text.starts_with('#') || dependency && explained;
    }
    demand(wrong);
}

fn snapfs(args: &[&str]) -> String {
    let output = Command::new(env!("CARGO_BIN_EXE_snapfs")).args(args).output().expect("snapfs runs");
    assert!(output.status.success(), "snapfs {args:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).expect("text")
}

#[test]
fn the_manual_page_names_every_verb_and_option() {
    let tree = Tree::read();
    let page = rules::plain_roff(&tree.file("docs/man/snapfs.1").text);
    let mut wrong = Vec::new();
    let help = snapfs(&["--help"]);
    let verbs: Vec<&str> = rules::verbs(&help).collect();
    assert!(verbs.len() > 5, "no verbs in:\n{help}");
    for verb in verbs {
        if !page.contains(&format!("\n.B snapfs {verb}\n")) {
            wrong.push(format!("docs/man/snapfs.1 lacks `.B snapfs {verb}`"));
        }
        for option in rules::long_options(&snapfs(&[verb, "--help"])) {
            if !rules::has_word(&page, &option) {
                wrong.push(format!("docs/man/snapfs.1 lacks {option} of {verb}"));
            }
        }
    }
    for option in rules::mount_options(&snapfs(&["mount", "--help"])) {
        for (path, text) in [("docs/man/snapfs.1", &page), ("README.md", &tree.file("README.md").text)] {
            if !rules::has_word(text, &option) {
                wrong.push(format!("{path} lacks the mount option {option}"));
            }
        }
    }
    demand(wrong);
}
