//! Real programs: tar and rm, git, cargo, SQLite.

use super::{Group, Unit, phase};
use crate::Result;
use crate::assets::{self, git};
use crate::common::process::run_command;
use crate::run::Run;
use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

pub const TREE: Group = Group {
    name: "tree",
    needs_snapshots: false,
    phases: &[
        phase("untar", "untar a source tree", Unit::Seconds),
        phase("rm-rf", "rm -rf of it", Unit::Seconds),
    ],
    run: tree,
};

pub const GIT: Group = Group {
    name: "git",
    needs_snapshots: false,
    phases: &[
        phase("git-status-cold", "git status, cold", Unit::Seconds),
        phase("git-status-warm", "git status, warm", Unit::Seconds),
        phase("git-checkout", "git checkout of a branch", Unit::Seconds),
    ],
    run: git_commands,
};

pub const BUILD: Group = Group {
    name: "build",
    needs_snapshots: false,
    phases: &[phase("cargo-build", "cargo build", Unit::Seconds)],
    run: build,
};

pub const SQLITE: Group = Group {
    name: "sqlite",
    needs_snapshots: false,
    phases: &[
        phase("sqlite-1", "SQLite inserts, 1 in a transaction", Unit::Operations),
        phase("sqlite-100", "SQLite inserts, 100 in a transaction", Unit::Operations),
    ],
    run: sqlite,
};

/// No program goes on for longer.
const LIMIT: Duration = Duration::from_secs(600);

fn ok(command: &mut Command) -> Result<()> {
    run_command(command, LIMIT).map(drop)
}

fn tree(run: &mut Run) -> Result<()> {
    let archive = run.assets.archive()?;
    run.seconds("untar", |dir| ok(Command::new("tar").arg("-xf").arg(&archive).arg("-C").arg(dir)))?;
    run.settle()?;
    run.seconds("rm-rf", |dir| ok(Command::new("rm").arg("-rf").arg(dir.join("tree"))))
}

fn git_commands(run: &mut Run) -> Result<()> {
    let (source, copy) = (run.assets.repository()?, run.root().join("copy"));
    ok(git(&source).args(["clone", "-q", "--no-hardlinks"]).args([&source, &copy]))?;
    ok(git(&copy).args(["branch", "-q", "other", "origin/other"]))?;
    // What was written in the same instant as the index is looked at once more by the first status.
    ok(git(&copy).arg("status"))?;
    run.cold()?;
    // The program itself is warm.
    ok(git(&source).arg("status"))?;
    run.seconds("git-status-cold", |_| ok(git(&copy).arg("status")))?;
    run.seconds("git-status-warm", |_| ok(git(&copy).arg("status")))?;
    run.seconds("git-checkout", |_| ok(git(&copy).args(["checkout", "-q", "other"])))
}

fn build(run: &mut Run) -> Result<()> {
    let cargo = |dir: &Path| {
        let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
        command
            .args(["build", "-q", "--offline"])
            .current_dir(dir)
            .env("CARGO_TARGET_DIR", dir.join("target"));
        ok(&mut command)
    };
    // The compiler itself is warm, whatever was dropped from the caches before.
    let warm = run.medium.dir().join("warm");
    assets::make_crate(&warm)?;
    cargo(&warm)?;
    fs::remove_dir_all(&warm)?;
    let dir = run.root().join("crate");
    assets::make_crate(&dir)?;
    run.settle()?;
    run.seconds("cargo-build", |_| cargo(&dir))
}

fn sqlite(run: &mut Run) -> Result<()> {
    for (id, in_transaction, rows) in
        [("sqlite-1", 1, run.scale.rows / 10), ("sqlite-100", 100, run.scale.rows)]
    {
        let (script, base) = (run.assets.inserts(rows, in_transaction)?, run.root().join(id));
        run.rate(id, |_| {
            ok(Command::new("sqlite3").arg(&base).arg(format!(".read {}", script.display())))?;
            Ok(rows as u64)
        })?;
    }
    Ok(())
}
