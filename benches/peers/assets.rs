//! What programs work on: a source tree as an archive and as a git repository, a crate, scripts for SQLite. Made once,
//! on the medium beside the peers, and the same in every run.

use crate::Result;
use crate::common::process::run_command;
use crate::options::Scale;
use std::fmt::Write;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

const LIMIT: Duration = Duration::from_secs(300);
const WORDS: [&str; 16] = [
    "return",
    "static",
    "struct",
    "length",
    "buffer",
    "offset",
    "if (error)",
    "while (1)",
    "unsigned int",
    "->next",
    "lock",
    "unlock",
    "0x10",
    "size_t",
    "const char *",
    "/* held by the caller */",
];

/// The place of the assets.
pub struct Assets {
    dir: PathBuf,
    tree: (usize, usize),
}

/// git without the user's settings, in a directory.
pub fn git(dir: &Path) -> Command {
    let mut command = Command::new("git");
    let identity = ["-c", "user.name=bench", "-c", "user.email=bench@localhost", "-c", "safe.directory=*"];
    command.args(identity).args(["-c", "gc.auto=0", "-c", "maintenance.auto=false"]);
    command.current_dir(if dir.is_dir() { dir } else { Path::new("/") });
    for name in ["GIT_AUTHOR_DATE", "GIT_COMMITTER_DATE"] {
        command.env(name, "2026-01-01T00:00:00Z");
    }
    command.env("GIT_CONFIG_GLOBAL", "/dev/null").env("GIT_CONFIG_SYSTEM", "/dev/null");
    command
}

impl Assets {
    pub fn new(medium: &Path, scale: &Scale) -> Assets {
        Assets { dir: medium.join("assets"), tree: scale.tree }
    }

    /// The source tree, about 10 KiB a file.
    fn tree(&self) -> Result<PathBuf> {
        let (tree, (files, dirs)) = (self.dir.join("tree"), self.tree);
        if tree.exists() {
            return Ok(tree);
        }
        let dir_of = |n: usize| tree.join(format!("part{}", n % 20)).join(format!("sub{n}"));
        (0..dirs).try_for_each(|n| fs::create_dir_all(dir_of(n)))?;
        let mut rng = fastrand::Rng::with_seed(10);
        for n in 0..files {
            let text = source(&mut rng, n);
            fs::write(dir_of(n % dirs).join(format!("file{n}.c")), text)?;
        }
        Ok(tree)
    }

    /// An archive of the tree, as `tree`.
    pub fn archive(&self) -> Result<PathBuf> {
        let archive = self.dir.join("tree.tar");
        if !archive.exists() {
            self.tree()?;
            run_command(
                Command::new("tar").arg("-cf").arg(&archive).arg("-C").arg(&self.dir).arg("tree"),
                LIMIT,
            )?;
        }
        Ok(archive)
    }

    /// A repository of the tree, with a branch `other` in which every fifth file differs.
    pub fn repository(&self) -> Result<PathBuf> {
        let dir = self.dir.join("repository");
        if dir.exists() {
            return Ok(dir);
        }
        let tree = self.tree()?;
        run_command(Command::new("cp").arg("-r").args([&tree, &dir]), LIMIT)?;
        let git = |args: &[&str]| run_command(git(&dir).args(args), LIMIT);
        git(&["init", "-q", "-b", "main"])?;
        git(&["add", "."])?;
        git(&["commit", "-q", "-m", "all"])?;
        git(&["checkout", "-q", "-b", "other"])?;
        let (files, dirs) = self.tree;
        for n in (0..files).step_by(5) {
            let sub = dir.join(format!("part{}", n % dirs % 20)).join(format!("sub{}", n % dirs));
            let path = sub.join(format!("file{n}.c"));
            fs::write(&path, fs::read_to_string(&path)? + "/* other */\n")?;
        }
        git(&["commit", "-q", "-a", "-m", "other"])?;
        git(&["checkout", "-q", "main"])?;
        Ok(dir)
    }

    /// A script that inserts rows, so many in each transaction.
    pub fn inserts(&self, rows: usize, in_transaction: usize) -> Result<PathBuf> {
        fs::create_dir_all(&self.dir)?;
        let path = self.dir.join(format!("inserts-{rows}-{in_transaction}.sql"));
        let mut script = String::from("CREATE TABLE t (id INTEGER PRIMARY KEY, name TEXT, value INTEGER);\n");
        script += "CREATE INDEX t_name ON t (name);\n";
        let mut rng = fastrand::Rng::with_seed(11);
        for row in 0..rows {
            if row % in_transaction == 0 {
                script += "BEGIN;\n";
            }
            let (name, value) = (rng.u64(..), rng.u32(..));
            writeln!(script, "INSERT INTO t (name, value) VALUES ('name of {name:016x}', {value});")?;
            if row % in_transaction == in_transaction - 1 {
                script += "COMMIT;\n";
            }
        }
        fs::write(&path, script)?;
        Ok(path)
    }
}

/// So many bytes of source text.
pub fn text(len: usize) -> Vec<u8> {
    let (mut rng, mut text) = (fastrand::Rng::with_seed(12), Vec::new());
    while text.len() < len {
        text.extend_from_slice(source(&mut rng, text.len()).as_bytes());
    }
    text.truncate(len);
    text
}

fn source(rng: &mut fastrand::Rng, n: usize) -> String {
    let (len, mut text) = (rng.usize(1000..19_000), format!("/* file {n} */\n"));
    while text.len() < len {
        text += "    ";
        for _ in 0..rng.usize(2..8) {
            text += rng.choice(WORDS).unwrap_or_default();
            text.push(' ');
        }
        let _written = writeln!(text, "x{:x};", rng.u32(..));
    }
    text
}

/// A crate of fifty modules that depends on nothing.
pub fn make_crate(dir: &Path) -> Result<()> {
    const MODULES: usize = 50;
    const FUNCTIONS: usize = 20;
    fs::create_dir_all(dir.join("src"))?;
    let manifest =
        "[package]\nname = \"generated\"\nversion = \"0.1.0\"\nedition = \"2021\"\n\n[workspace]\n";
    fs::write(dir.join("Cargo.toml"), manifest)?;
    let mut main = String::new();
    for m in 0..MODULES {
        let mut module = String::from(
            "#[derive(Clone, Debug, PartialEq)]\npub struct State { pub a: u64, pub b: Vec<u64> }\n",
        );
        for f in 0..FUNCTIONS {
            let (mul, add) = (m * 31 + f + 3, f * 17 + 1);
            writeln!(
                module,
                "pub fn f{f}(s: &mut State) -> u64 {{\n    s.a = s.a.wrapping_mul({mul}).wrapping_add({add});\n    \
                 s.b.push(s.a);\n    s.b.iter().filter(|x| **x % {mul} == 0).map(|x| x / 3).sum::<u64>() ^ s.a\n}}"
            )?;
        }
        fs::write(dir.join(format!("src/m{m}.rs")), module)?;
        writeln!(main, "mod m{m};")?;
    }
    main += "fn main() {\n    let mut sum = 0u64;\n";
    for m in 0..MODULES {
        writeln!(main, "    let mut s = m{m}::State {{ a: {m}, b: Vec::new() }};")?;
        (0..FUNCTIONS).try_for_each(|f| writeln!(main, "    sum ^= m{m}::f{f}(&mut s);"))?;
    }
    main += "    println!(\"{sum}\");\n}\n";
    Ok(fs::write(dir.join("src/main.rs"), main)?)
}
