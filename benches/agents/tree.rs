//! The source tree that is worked on, and what one step does in it: the same on all file systems.
//!
//! A C program of a few hundred modules in parts, with a make file. What a step changes is known beforehand: the modules
//! that are edited, the objects made of them, the program and what its test printed; and a note that comes and goes.

use crate::common::Result;
use fastrand::Rng;
use std::collections::BTreeSet;
use std::fmt::Write;
use std::fs;
use std::io;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

/// What the agent looks for at each step; only comments have it.
const WORD: &str = "held by the caller";
const WORDS: [&str; 8] =
    ["returns", "the length", "of the buffer", "unless", "an error", "offset", "lock", "held by the caller"];
const FUNCTIONS: usize = 6;
/// Steps from one note to the next.
const NOTES: usize = 10;
/// What is built takes its name when it is whole: branchfs cannot make a file where one was just removed, as compilers do.
const MAKEFILE: &str = "SRC := $(wildcard src/*.c src/*/*.c)
OBJ := $(SRC:.c=.o)
test: program
\t./program > result.new
\tmv result.new result
program: $(OBJ)
\tcc -o $@.new $(OBJ)
\tmv $@.new $@
%.o: %.c
\tcc -pipe -O0 -Iinclude -c -o $@.new $<
\tmv $@.new $@
";

/// Its shape.
pub struct Tree {
    parts: usize,
    modules: usize,
}

/// Runs a program to its end; what it printed. `fine` are exit codes that are no failure.
pub fn output(command: &mut Command, fine: &[i32]) -> Result<Vec<u8>> {
    let name = command.get_program().to_string_lossy().into_owned();
    let done = command.output().map_err(|e| format!("{name}: {e}"))?;
    if done.status.code().is_some_and(|code| fine.contains(&code)) {
        return Ok(done.stdout);
    }
    let said = String::from_utf8_lossy(&done.stderr).into_owned();
    Err(format!("{name}: {}: {}", done.status, said.lines().last().unwrap_or_default()).into())
}

/// Runs a program that has nothing to say.
pub fn succeed(command: &mut Command) -> Result<()> {
    output(command, &[0]).map(drop)
}

/// How long it took.
pub fn timed<T>(work: impl FnOnce() -> Result<T>) -> Result<(T, Duration)> {
    let start = Instant::now();
    let done = work()?;
    Ok((done, start.elapsed()))
}

/// How an editor saves: a new file takes the name.
fn save(path: &Path, text: &str) -> Result<()> {
    let new = path.with_extension("new~");
    let cannot = |what: &str, why: io::Error| format!("{what} {}: {why}", path.display());
    fs::write(&new, text).map_err(|why| cannot("beside", why))?;
    Ok(fs::rename(&new, path).map_err(|why| cannot("renamed to", why))?)
}

impl Tree {
    pub fn new(parts: usize, modules: usize) -> Tree {
        Tree { parts, modules }
    }

    fn module(&self, part: usize, module: usize, version: usize) -> String {
        let mut rng = Rng::with_seed((part * self.modules + module) as u64);
        let mut text = format!("#include \"part{part}.h\"\n");
        for f in 0..FUNCTIONS {
            text += "/*\n";
            for _ in 0..rng.usize(4..16) {
                text += " *";
                (0..6).for_each(|_| text.extend([" ", rng.choice(WORDS).unwrap_or_default()]));
                text += "\n";
            }
            let _written =
                writeln!(text, " */\nstatic unsigned long f{f}(unsigned long x) {{ return x * {f} + 1; }}");
        }
        let _written = writeln!(text, "unsigned long part{part}_{module}(unsigned long x) {{");
        (0..FUNCTIONS).for_each(|f| text += &format!("    x ^= f{f}(x) * 0x9E3779B97F4A7C15;\n"));
        text + &format!("    return x + {version};\n}}\n")
    }

    /// Makes the tree, and builds it.
    pub fn plant(&self, dir: &Path) -> Result<()> {
        fs::create_dir_all(dir.join("include"))?;
        fs::create_dir(dir.join("notes"))?;
        let mut main = String::from("#include <stdio.h>\n");
        let mut calls = String::new();
        for part in 0..self.parts {
            let (mut header, mut all) = (String::new(), format!("#include \"part{part}.h\"\n"));
            let _written = writeln!(all, "unsigned long part{part}(unsigned long x) {{");
            fs::create_dir_all(dir.join(format!("src/part{part}")))?;
            for module in 0..self.modules {
                let _written = writeln!(header, "unsigned long part{part}_{module}(unsigned long x);");
                let _written = writeln!(all, "    x ^= part{part}_{module}(x);");
                let text = self.module(part, module, 0);
                fs::write(dir.join(format!("src/part{part}/module{module}.c")), text)?;
            }
            let _written = writeln!(header, "unsigned long part{part}(unsigned long x);");
            fs::write(dir.join(format!("include/part{part}.h")), header)?;
            fs::write(dir.join(format!("src/part{part}/all.c")), all + "    return x;\n}\n")?;
            let _written = writeln!(main, "#include \"part{part}.h\"");
            let _written = writeln!(calls, "    x ^= part{part}(x);\n    printf(\"%lx\\n\", x);");
        }
        main += &format!("int main(void) {{\n    unsigned long x = 1;\n{calls}    return 0;\n}}\n");
        fs::write(dir.join("src/main.c"), main)?;
        fs::write(dir.join("Makefile"), MAKEFILE)?;
        build(dir)
    }

    /// One step: edits some modules, looks something up, builds and tests. The paths that are other than before, from the
    /// root of the tree.
    pub fn step(&self, dir: &Path, n: usize) -> Result<BTreeSet<String>> {
        let mut changed = BTreeSet::from(["program".to_string(), "result".to_string()]);
        let mut rng = Rng::with_seed(1_000_000 + n as u64);
        // Each module once: branchfs cannot make a file again whose name went in the same branch.
        let edited: BTreeSet<(usize, usize)> =
            (0..rng.usize(1..=5)).map(|_| (rng.usize(..self.parts), rng.usize(..self.modules))).collect();
        for (part, module) in edited {
            let name = format!("src/part{part}/module{module}");
            save(&dir.join(format!("{name}.c")), &self.module(part, module, n + 1))?;
            changed.extend([format!("{name}.c"), format!("{name}.o")]);
        }
        // A note is made, and goes when half of the steps to the next have passed.
        let note = |n: usize| format!("notes/step{n}.txt");
        if n.is_multiple_of(NOTES) {
            fs::write(dir.join(note(n)), format!("what step {n} is about\n"))?;
            changed.insert(note(n));
        } else if n % NOTES == NOTES / 2 && dir.join(note(n - NOTES / 2)).exists() {
            let old = dir.join(note(n - NOTES / 2));
            fs::remove_file(&old).map_err(|why| format!("{}: {why}", old.display()))?;
            changed.insert(note(n - NOTES / 2));
        }
        succeed(Command::new("grep").args(["-rlF", "--include=*.c", WORD, "src"]).current_dir(dir))?;
        build(dir)?;
        Ok(changed)
    }

    /// What the test printed.
    pub fn result(&self, dir: &Path) -> Result<String> {
        Ok(fs::read_to_string(dir.join("result")).map_err(|why| format!("result: {why}"))?)
    }
}

fn build(dir: &Path) -> Result<()> {
    succeed(Command::new("make").args(["-s", "-j2", "test"]).current_dir(dir))
}
