//! git: one commit after the other; then `git fsck`, the number of commits, and what the last one holds.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread::JoinHandle;

use crate::harness::{Program, installed, ok};
use crate::place::{Place, said};

/// A repository.
pub struct Git {
    repository: PathBuf,
    commits: u64,
    proved: u64,
    worker: Option<JoinHandle<u64>>,
}

fn git(repository: &Path, args: &[&str]) -> Command {
    let mut command = Command::new("git");
    command.arg("-C").arg(repository);
    for setting in ["user.name=n", "user.email=n@localhost", "core.fsync=all", "gc.auto=0", "core.pager=cat"]
    {
        command.args(["-c", setting]);
    }
    command.env("GIT_CONFIG_GLOBAL", "/dev/null").env("GIT_CONFIG_NOSYSTEM", "1").args(args);
    command
}

impl Git {
    pub fn new(p: &Place) -> Option<Git> {
        if !installed("git", "git") {
            return None;
        }
        let repository = p.path("repository");
        std::fs::create_dir(&repository).expect("mkdir");
        ok(&mut git(&repository, &["init", "-q", "-b", "main"]));
        Some(Git { repository, commits: 0, proved: 0, worker: None })
    }
}

/// Commits until something fails. Returns the number of the last commit.
fn work(repository: &Path, mut last: u64) -> u64 {
    loop {
        let n = last + 1;
        let done = (|| -> std::io::Result<bool> {
            let dir = repository.join(format!("d{}", n % 7));
            std::fs::create_dir_all(&dir)?;
            std::fs::write(
                dir.join(format!("f{}", n % 31)),
                format!("{n}\n").repeat((n * 97 % 4000) as usize + 1),
            )?;
            std::fs::write(repository.join("number"), n.to_string())?;
            Ok(said(&mut git(repository, &["add", "-A"])).code == 0
                && said(&mut git(repository, &["commit", "-q", "-m", &n.to_string()])).code == 0)
        })();
        if !done.unwrap_or(false) {
            return last;
        }
        last = n;
    }
}

impl Program for Git {
    fn name(&self) -> String {
        "git".into()
    }

    fn start(&mut self, _: &Place) {
        let (repository, last) = (self.repository.clone(), self.commits);
        self.worker = Some(std::thread::spawn(move || work(&repository, last)));
    }

    fn stop(&mut self) {
        self.commits = self.worker.take().expect("started").join().expect("the worker");
    }

    fn prove(&mut self, _: &Place) -> u64 {
        // What a git that was killed leaves, too.
        let dir = self.repository.join(".git");
        for lock in ["index.lock", "HEAD.lock", "refs/heads/main.lock", "COMMIT_EDITMSG.lock"] {
            let _ = std::fs::remove_file(dir.join(lock));
        }
        ok(&mut git(&self.repository, &["fsck", "--full", "--strict", "--no-progress"]));
        if self.commits == 0 && !dir.join("refs/heads/main").exists() {
            return 0;
        }
        let count = ok(&mut git(&self.repository, &["rev-list", "--count", "HEAD"]));
        let found: u64 = count.trim().parse().expect("a number");
        let acknowledged = self.commits;
        assert!(
            found == acknowledged || found == acknowledged + 1,
            "{found} commits, {acknowledged} acknowledged"
        );
        assert_eq!(ok(&mut git(&self.repository, &["show", "HEAD:number"])), found.to_string());
        ok(&mut git(&self.repository, &["reset", "-q", "--hard"]));
        ok(&mut git(&self.repository, &["clean", "-q", "-f", "-d"]));
        assert_eq!(ok(&mut git(&self.repository, &["status", "--porcelain"])), "");
        let new = acknowledged - self.proved;
        (self.commits, self.proved) = (found, found);
        new
    }

    fn end(&mut self, _: &Place) {
        // Every object of every commit once more, packed by git itself.
        ok(&mut git(&self.repository, &["gc", "-q"]));
        ok(&mut git(&self.repository, &["fsck", "--full", "--strict", "--no-progress"]));
    }
}
