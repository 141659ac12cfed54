//! Who uses whom among the files of a module, as far as text tells, and the circles in it.
//!
//! A name is followed through `use` and through re-exports to the file that defines it; to re-export a name from a
//! facade is no use of it. In every folder its files and the folders in it are taken as one each: that two folders use
//! each other is a circle as well, whichever files of them do it. Calls of methods are not seen.

use super::sources::File;
use super::tokens::{Token, tokens};
use std::collections::{BTreeMap, BTreeSet};

/// The path of a module: empty for the root of the crate.
type Path = Vec<String>;

/// Which file uses another, in which line, and that file.
pub type Use = (String, usize, String);

/// What a file says of names.
#[derive(Default)]
struct Source<'t> {
    file: String,
    words: BTreeSet<&'t str>,
    defined: BTreeSet<&'t str>,
    /// Names brought in, and what they stand for.
    bound: BTreeMap<&'t str, Vec<&'t str>>,
    /// Modules of which all names are brought in.
    globs: Vec<Vec<&'t str>>,
    /// Paths in the code, with their lines. Those of `pub use` are not among them.
    paths: Vec<(usize, Vec<&'t str>)>,
}

/// What a path leads to.
enum Target {
    Module(Path),
    /// Something in the file of a module.
    Inside(Path),
}

/// All modules of the crate.
pub struct Modules<'t>(BTreeMap<Path, Source<'t>>);

/// Files and folders of one folder that use each other.
#[derive(PartialEq, Eq, Debug)]
pub struct Circle {
    /// The folder below `src`.
    pub folder: String,
    pub uses: BTreeSet<Use>,
    pub members: BTreeSet<String>,
}

/// The path of the module that a file of `src` is.
fn module_of(path: &str) -> Option<Path> {
    let path = path.strip_prefix("src/")?.strip_suffix(".rs")?;
    let path = path.strip_suffix("/mod").unwrap_or(path);
    Some(if path == "lib" { Vec::new() } else { path.split('/').map(str::to_string).collect() })
}

/// Files that have modules below them, of those in `files`.
pub fn facades<'f>(files: &[&'f File]) -> Vec<&'f File> {
    let all: BTreeSet<Path> = files.iter().filter_map(|f| module_of(&f.path)).collect();
    let parents: BTreeSet<&[String]> = all.iter().filter_map(|p| p.split_last().map(|(_, up)| up)).collect();
    let is_facade = |f: &&&File| {
        let module = module_of(&f.path);
        f.path.ends_with("/mod.rs") || module.is_some_and(|m| !m.is_empty() && parents.contains(&m[..]))
    };
    files.iter().filter(is_facade).copied().collect()
}

/// Items of a facade that do not belong there, with their lines: anything but modules, uses, constants and aliases.
pub fn not_facade(file: &File) -> Vec<(usize, String)> {
    let all = tokens(file.production());
    let (mut found, mut depth, mut at_start) = (Vec::new(), 0_u32, true);
    for (i, Token { line, text }) in all.iter().enumerate() {
        let before = i.checked_sub(1).map_or("", |i| all[i].text);
        match *text {
            // An attribute, or what `pub` is limited to: the item is still to come.
            "[" | "(" if depth > 0 || !matches!(before, "#" | "!" | "pub") => {
                (depth, at_start) = (depth + 1, at_start && depth > 0)
            }
            "{" | "[" | "(" => depth += 1,
            "}" => {
                depth = depth.saturating_sub(1);
                at_start = at_start || depth == 0;
            }
            "]" | ")" => depth = depth.saturating_sub(1),
            ";" if depth == 0 => at_start = true,
            "#" | "!" | "pub" => {}
            _ if depth == 0 && at_start => {
                at_start = false;
                let next = all[i + 1..].iter().find(|t| t.is_word()).map_or("", |t| t.text);
                if !matches!(*text, "mod" | "use" | "const" | "type") || next == "fn" {
                    found.push((*line, format!("{text} {next}")));
                }
            }
            _ => {}
        }
    }
    found
}

impl<'t> Source<'t> {
    fn read(file: &'t File, is_facade: bool) -> Source<'t> {
        let all = tokens(file.production());
        let mut source = Source { file: file.path.clone(), ..Source::default() };
        source.words = all.iter().filter(|t| t.is_word()).map(|t| t.text).collect();
        let (mut i, mut depth) = (0, 0_u32);
        while i < all.len() {
            let Token { text, line } = all[i];
            match text {
                "{" => depth += 1,
                "}" => depth = depth.saturating_sub(1),
                "use" => {
                    let is_public = is_public(&all[..i]);
                    let mut leaves = Vec::new();
                    i = read_use(&all, i + 1, &mut Vec::new(), &mut leaves);
                    for (path, name) in leaves {
                        match name {
                            "*" => source.globs.push(path.clone()),
                            name => drop(source.bound.insert(name, path.clone())),
                        }
                        if !(is_public && is_facade) {
                            source.paths.push((line, path));
                        }
                    }
                    continue;
                }
                "fn" | "struct" | "enum" | "trait" | "type" | "const" | "static" | "union" if depth == 0 => {
                    let name = all[i + 1..].iter().find(|t| t.text != "fn" && t.text != "mut");
                    source.defined.extend(name.map(|t| t.text));
                }
                _ if all[i].is_word() && all.get(i + 1).is_some_and(|t| t.text == "::") => {
                    let mut path = vec![text];
                    while all.get(i + 1).is_some_and(|t| t.text == "::")
                        && all.get(i + 2).is_some_and(Token::is_word)
                    {
                        path.push(all[i + 2].text);
                        i += 2;
                    }
                    source.paths.push((line, path));
                }
                _ => {}
            }
            i += 1;
        }
        source
    }
}

/// True if what comes next is `pub` or `pub(...)`.
fn is_public(before: &[Token<'_>]) -> bool {
    let is = |t: Option<&Token<'_>>, text: &str| t.is_some_and(|t| t.text == text);
    if !is(before.last(), ")") {
        return is(before.last(), "pub");
    }
    let open = before.iter().rposition(|t| t.text == "(").unwrap_or(0);
    open > 0 && is(before.get(open - 1), "pub")
}

/// Reads what stands behind `use` or in its braces from token `i` on. Returns where it ends, behind a semicolon.
fn read_use<'t>(
    all: &[Token<'t>],
    mut i: usize,
    path: &mut Vec<&'t str>,
    out: &mut Vec<(Vec<&'t str>, &'t str)>,
) -> usize {
    let start = path.len();
    let mut name = None;
    while i < all.len() {
        match all[i].text {
            "{" => {
                i = read_use(all, i + 1, path, out);
                name = None;
                path.truncate(start);
                continue;
            }
            "," | "}" | ";" => {
                out.extend(name.take().map(|name| (path.clone(), name)));
                path.truncate(start);
                if all[i].text != "," {
                    return i + 1;
                }
            }
            "as" => {
                name = all.get(i + 1).map(|t| t.text);
                i += 1;
            }
            "*" => name = Some("*"),
            "self" if start > 0 && path.len() == start => name = path.last().copied(),
            "::" => {}
            word => {
                path.push(word);
                name = Some(word);
            }
        }
        i += 1;
    }
    i
}

impl<'t> Modules<'t> {
    /// Reads files of `src`.
    pub fn read(files: &[&'t File]) -> Modules<'t> {
        let facades: BTreeSet<&str> = facades(files).iter().map(|f| f.path.as_str()).collect();
        let read =
            |f: &&'t File| Some((module_of(&f.path)?, Source::read(f, facades.contains(f.path.as_str()))));
        Modules(files.iter().filter_map(read).collect())
    }

    /// Where a path leads from the file of a module. None: out of the crate, or nobody knows.
    fn resolve(&self, from: &Path, path: &[&str], steps: u32) -> Option<Target> {
        let steps = steps.checked_sub(1)?;
        let (mut at, mut rest) = (from.clone(), path);
        let mut rooted = false;
        while let Some((first, behind)) = rest.split_first() {
            match *first {
                "crate" => at.clear(),
                "self" => {}
                "super" => drop(at.pop()),
                _ => break,
            }
            (rest, rooted) = (behind, true);
        }
        while let Some((name, behind)) = rest.split_first() {
            let mut below = at.clone();
            below.push(name.to_string());
            if self.0.contains_key(&below) {
                (at, rest, rooted) = (below, behind, true);
                continue;
            }
            let source = self.0.get(&at)?;
            if source.defined.contains(name) {
                return Some(Target::Inside(at));
            }
            if let Some(bound) = source.bound.get(name) {
                let whole: Vec<&str> = bound.iter().chain(behind).copied().collect();
                return if whole == path && &at == from { None } else { self.resolve(&at, &whole, steps) };
            }
            for glob in &source.globs {
                if let Some(Target::Module(module)) = self.resolve(&at, glob, steps)
                    && module != at
                    && let Some(found) = self.resolve(&module, rest, steps)
                {
                    return Some(found);
                }
            }
            return rooted.then_some(Target::Inside(at));
        }
        Some(Target::Module(at))
    }

    /// The modules in whose files something is that the file of a module uses, with the line of one use.
    fn used_by(&self, module: &Path) -> BTreeMap<Path, usize> {
        let source = &self.0[module];
        let mut used = BTreeMap::new();
        let mut add = |line: usize, path: &[&str]| {
            if let Some(Target::Inside(target)) = self.resolve(module, path, 20)
                && target != *module
            {
                used.entry(target).or_insert(line);
            }
        };
        source.paths.iter().for_each(|(line, path)| add(*line, path));
        for glob in &source.globs {
            let Some(Target::Module(of)) = self.resolve(module, glob, 20) else { continue };
            let Some(names) = self.0.get(&of) else { continue };
            for name in names.defined.iter().chain(names.bound.keys()).filter(|n| source.words.contains(*n)) {
                let whole: Vec<&str> = glob.iter().chain([name]).copied().collect();
                add(1, &whole);
            }
        }
        used
    }

    /// The circles in every folder below the root of the crate.
    pub fn circles(&self) -> Vec<Circle> {
        // By folder: who uses whom, taking the folders in it as one each, and the uses behind that.
        let mut uses: BTreeMap<Path, BTreeMap<(String, String), BTreeSet<Use>>> = BTreeMap::new();
        for (module, source) in self.0.iter().filter(|(m, _)| !m.is_empty()) {
            for (target, line) in self.used_by(module) {
                let same = module.iter().zip(&target).take_while(|(a, b)| a == b).count();
                if same == 0 {
                    continue;
                }
                let member = |path: &Path| path.get(same).cloned().unwrap_or("mod".into());
                let between = uses.entry(module[..same].to_vec()).or_default();
                let told = (source.file.clone(), line, self.0[&target].file.clone());
                between.entry((member(module), member(&target))).or_default().insert(told);
            }
        }
        let mut found = Vec::new();
        for (folder, between) in uses {
            for members in knots(between.keys().map(|(a, b)| (a.as_str(), b.as_str())).collect()) {
                let inside = between.iter().filter(|((a, b), _)| members.contains(a) && members.contains(b));
                let uses = inside.flat_map(|(_, uses)| uses.iter().cloned()).collect();
                found.push(Circle { folder: folder.join("/"), uses, members });
            }
        }
        found
    }
}

/// Sets of more than one of which each reaches each other.
fn knots(edges: BTreeSet<(&str, &str)>) -> Vec<BTreeSet<String>> {
    let nodes: BTreeSet<&str> = edges.iter().flat_map(|(a, b)| [*a, *b]).collect();
    let reach = |from: &str| {
        let (mut seen, mut todo) = (BTreeSet::new(), vec![from]);
        while let Some(at) = todo.pop() {
            let next = edges.iter().filter(|(a, _)| *a == at).map(|(_, b)| *b);
            todo.extend(next.filter(|b| seen.insert(*b)).collect::<Vec<_>>());
        }
        seen
    };
    let reached: BTreeMap<&str, BTreeSet<&str>> = nodes.iter().map(|n| (*n, reach(n))).collect();
    let mut knots: Vec<BTreeSet<String>> = Vec::new();
    for (node, far) in &reached {
        if far.contains(node) && !knots.iter().any(|knot| knot.contains(*node)) {
            knots.push(far.iter().filter(|b| reached[*b].contains(node)).map(|b| b.to_string()).collect());
        }
    }
    knots
}

#[cfg(test)]
mod tests {
    use super::*;

    fn files(texts: &[(&str, &str)]) -> Vec<File> {
        texts.iter().map(|(path, text)| File { path: path.to_string(), text: text.to_string() }).collect()
    }

    /// Members of the circles of some files, with their folder.
    fn circles(texts: &[(&str, &str)]) -> Vec<String> {
        let files = files(texts);
        let circles = Modules::read(&files.iter().collect::<Vec<_>>()).circles();
        let names = |c: Circle| format!("{}: {}", c.folder, Vec::from_iter(c.members).join(" "));
        circles.into_iter().map(names).collect()
    }

    const FACADE: (&str, &str) =
        ("src/m/mod.rs", "mod a;\nmod b;\npub use a::A;\npub(super) use b::{B as C};\n");

    #[test]
    fn two_files_that_use_each_other() {
        let b = ("src/m/b.rs", "use super::a::A;\npub struct B(A);\n");
        for a in [
            "use super::b::B;\npub struct A(B);\n",
            "use crate::m::b::{self, B};\npub struct A;\n",
            "pub struct A(\n    super::b::B,\n);\n",
            "use super::{\n    b::{\n        B,\n    },\n};\npub struct A;\n",
            "use super::b;\npub fn f() -> b::B {}\npub struct A;\n",
            // Through the facade, under another name.
            "use super::C;\npub struct A;\n",
            "use crate::m::*;\npub struct A(C);\n",
        ] {
            assert_eq!(circles(&[FACADE, ("src/m/a.rs", a), b]), ["m: a b"], "{a}");
        }
        for a in [
            "pub struct A;\n",
            "// use super::b::B;\npub struct A(&'static str);\nconst T: &str = \"super::b::B\";\n",
            "pub struct A;\n#[cfg(test)]\nmod tests {\n    use super::super::b::B;\n}\n",
            "use super::*;\npub struct A;\n",
            "use std::b::B;\npub struct A;\n",
            "use super::b;\npub struct A;\n",
        ] {
            assert_eq!(circles(&[FACADE, ("src/m/a.rs", a), b]), [] as [String; 0], "{a}");
        }
    }

    #[test]
    fn a_circle_through_others() {
        let ring = [
            ("src/m/mod.rs", "mod a;\nmod b;\nmod c;\npub use c::C;\n"),
            ("src/m/a.rs", "pub struct A(super::b::B);\n"),
            ("src/m/b.rs", "pub struct B(crate::m::C);\n"),
            ("src/m/c.rs", "pub struct C(super::a::A);\n"),
        ];
        assert_eq!(circles(&ring), ["m: a b c"]);
    }

    #[test]
    fn a_parent_that_is_no_facade() {
        let child = ("src/m/a.rs", "use super::M;\npub struct A;\nimpl M {}\n");
        let parent = "mod a;\nuse a::A;\npub struct M(A);\n";
        assert_eq!(circles(&[("src/m/mod.rs", parent), child]), ["m: a mod"]);
        assert_eq!(circles(&[("src/m.rs", parent), child]), ["m: a mod"]);
        assert_eq!(
            circles(&[("src/m/mod.rs", "mod a;\npub use a::A;\npub type M = u8;\n"), child]),
            [] as [String; 0]
        );
    }

    #[test]
    fn folders_that_use_each_other_through_different_files() {
        let rooms = [
            ("src/m/mod.rs", "mod x;\nmod y;\n"),
            ("src/m/x/mod.rs", "pub mod one;\npub mod two;\n"),
            ("src/m/x/one.rs", "use crate::m::y::Y;\n"),
            ("src/m/x/two.rs", "pub struct Two;\n"),
            ("src/m/y.rs", "use super::x::two::Two;\npub struct Y;\n"),
        ];
        assert_eq!(circles(&rooms), ["m: x y"]);
    }

    #[test]
    fn what_a_facade_may_not_hold() {
        let text = "//! A.\n#![allow(dead_code)]\n\nmod a;\npub(super) mod c;\npub use a::{A, B};\npub const N: [u8; 2] = [1, 2];\n\
                    type T = u8;\n#[derive(Debug)]\npub struct S {\n    x: u8,\n}\nimpl S {\n    fn f() {}\n}\n\
                    pub(crate) fn g() {}\nconst fn h() {}\n#[cfg(test)]\nmod tests {\n    fn t() {}\n}\n";
        let files = files(&[
            ("src/m/mod.rs", text),
            ("src/m/a.rs", ""),
            ("src/n.rs", ""),
            ("src/n/a.rs", ""),
            ("src/o.rs", ""),
        ]);
        let found = not_facade(&files[0]);
        let expected = [(9, "struct S"), (12, "impl S"), (15, "fn g"), (16, "const fn")];
        assert_eq!(found, expected.map(|(line, what)| (line + 1, what.to_string())));
        let all: Vec<&File> = files.iter().collect();
        assert_eq!(
            facades(&all).iter().map(|f| &f.path[..]).collect::<Vec<_>>(),
            ["src/m/mod.rs", "src/n.rs"]
        );
    }
}
