//! What to look for in a line: imports, forbidden words, paths, links and names of tests.

use std::collections::BTreeSet;

/// Paths that exist on one machine only. Put together here, so that this file does not have them.
pub const MACHINE_PATHS: [&str; 3] = [concat!("/wo", "rk/"), concat!("/ro", "ot/"), concat!("/ho", "me/")];

/// Marks of something unfinished. Put together here for the same reason.
pub const UNFINISHED: [&str; 6] = [
    concat!("to", "do!"),
    concat!("unimpl", "emented!"),
    concat!("TO", "DO"),
    concat!("FIX", "ME"),
    concat!("XX", "X:"),
    concat!("#[ign", "ore"),
];

/// Ways to make text of a name that may be any bytes in which two names can look the same.
pub const LOSSY: [&str; 3] = ["from_utf8_lossy", "to_string_lossy", ".display()"];

/// Modules that a line of code names with `crate::`, alone or in braces.
pub fn imported(line: &str) -> Vec<&str> {
    if line.trim_start().starts_with("//") {
        return Vec::new();
    }
    let mut found = Vec::new();
    for rest in line.split("crate::").skip(1) {
        match rest.strip_prefix('{') {
            // The names would be in lines that this does not see.
            Some("") => found.push("a group over several lines"),
            Some(list) => found.extend(list.split(',').map(word_at_start)),
            None => found.push(word_at_start(rest)),
        }
    }
    // A macro of the crate is no module.
    found.retain(|name| !name.is_empty() && *name != "bad" && name.starts_with(char::is_lowercase));
    found
}

/// True if the line climbs with `super::` to the root of the crate from a module that is `depth` below it.
pub fn climbs_out(line: &str, depth: usize) -> bool {
    !line.trim_start().starts_with("//") && line.contains(&"super::".repeat(depth))
}

fn word_at_start(text: &str) -> &str {
    let text = text.trim_start();
    let end = text.find(|c: char| !c.is_ascii_alphanumeric() && c != '_').unwrap_or(text.len());
    &text[..end]
}

/// The last cell of the row of a table that begins with `module`.
pub fn import_row<'l>(line: &'l str, module: &str) -> Option<&'l str> {
    let cells: Vec<&str> = line.trim_start_matches("//!").trim().trim_matches('|').split('|').collect();
    let [first, _, last] = cells[..] else { return None };
    let name = first.trim().trim_start_matches(['[', '`']);
    (word_at_start(name) == module && name.len() > module.len()).then(|| last.trim())
}

/// The modules of a cell of that table.
pub fn expand(cell: &str) -> impl Iterator<Item = &str> {
    let leaves = ["format", "bell", "clock", "limits", "names", "ops", "sys"];
    cell.split(',').map(|c| c.trim().trim_matches('`')).filter(|c| !c.is_empty()).flat_map(move |c| {
        let all: Vec<&str> = if c == "leaves" { leaves.to_vec() } else { vec![c] };
        all
    })
}

/// True if `word` stands in `text` with no letter, digit or dash next to it.
pub fn has_word(text: &str, word: &str) -> bool {
    let part = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '-';
    text.match_indices(word)
        .any(|(at, _)| !text[..at].ends_with(part) && !text[at + word.len()..].starts_with(part))
}

/// Words that are not used in `src`, each with the one that is: one thing has one name.
pub const REPLACED_WORDS: [(&str, &str); 6] = [
    ("bury", "free"),
    ("buried", "freed"),
    ("grave", "freed reference"),
    ("graves", "freed references"),
    ("graveyard", "deferred frees"),
    ("fate", "where a freed block goes"),
];

/// The type that a line makes known to other files, if it does.
pub fn offered_type(line: &str) -> Option<&str> {
    let rest = line.strip_prefix("pub")?;
    let rest = rest.strip_prefix('(').and_then(|r| r.split_once(')')).map_or(rest, |(_, behind)| behind);
    let (kind, name) = rest.strip_prefix(' ')?.split_once(' ')?;
    let end = name.find(|c: char| !c.is_ascii_alphanumeric() && c != '_').unwrap_or(name.len());
    matches!(kind, "struct" | "enum" | "trait" | "type").then_some(&name[..end])
}

/// True if an absolute path begins with `prefix` somewhere in the line.
pub fn has_path(line: &str, prefix: &str) -> bool {
    line.match_indices(prefix).any(|(at, _)| {
        !line[..at].ends_with(|c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '}' | '/' | '-'))
    })
}

/// Files in the code map: each line of the map is `- `path`: what it is`.
pub fn code_map(text: &str) -> BTreeSet<String> {
    let paths = text.lines().filter_map(|l| l.trim_start().strip_prefix("- `src/")?.split('`').next());
    paths.map(|p| format!("src/{p}")).collect()
}

/// Tests in a line of a document.
pub fn named_tests(line: &str) -> impl Iterator<Item = (&str, &str)> {
    let code = line.split('`').skip(1).step_by(2);
    code.filter_map(|c| c.split_once(".rs::").map(|(path, name)| (&c[..path.len() + 3], name)))
}

/// Files that a line of a document links to.
pub fn links(line: &str) -> impl Iterator<Item = &str> {
    let targets = line.split("](").skip(1).filter_map(|rest| rest.split(')').next());
    targets.filter(|t| !t.contains("://")).map(|t| t.split('#').next().unwrap_or(t)).filter(|t| !t.is_empty())
}

/// Verbs in the help of the program.
pub fn verbs(help: &str) -> impl Iterator<Item = &str> {
    let list = help.lines().skip_while(|l| *l != "Commands:").skip(1).take_while(|l| l.starts_with("  "));
    list.map(word_at_start).filter(|v| *v != "help")
}

/// A manual page without its mark-up.
pub fn plain_roff(page: &str) -> String {
    page.replace("\\fB", "").replace("\\fR", "").replace('\\', "")
}

/// Long options in the help of a verb.
pub fn long_options(help: &str) -> BTreeSet<String> {
    let words = help.lines().filter(|l| l.starts_with("  ")).flat_map(|l| l.split_whitespace());
    let options = words
        .filter(|w| w.starts_with("--"))
        .map(|w| w.trim_end_matches([',', '.']).split('=').next().unwrap_or(w).to_string());
    options.filter(|o| o.len() > 2).collect()
}

/// Mount options in the help of `mount`, from `Options:` to the blank line behind it.
pub fn mount_options(help: &str) -> BTreeSet<String> {
    let list = help.lines().skip_while(|l| !l.starts_with("Options: ")).take_while(|l| !l.is_empty());
    let text: String = list.collect::<Vec<_>>().join(" ").replace("Options: ", "").replace("[no_]", "");
    let words = text.split([',', ' ']).map(|w| w.split('=').next().unwrap_or(w).trim_end_matches('.'));
    let plain = |w: &&str| w.len() > 1 && w.chars().all(|c| c.is_ascii_lowercase() || c == '_');
    let prose = ["and", "those", "of", "mount"];
    words.filter(plain).filter(|w| !prose.contains(w)).map(str::to_string).collect()
}
