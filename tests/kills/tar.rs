//! tar: an archive is unpacked with a line for each name; every file but the one at hand must be there, as it was.

use std::fs;
use std::io::{BufRead, BufReader};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread::JoinHandle;

use crate::harness::{Program, finish, installed, ok};
use crate::place::Place;

/// An archive that is unpacked again and again.
pub struct Tar {
    archive: PathBuf,
    source: PathBuf,
    round: u64,
    worker: Option<(Child, JoinHandle<Vec<String>>)>,
    unpacked: Vec<String>,
}

const FILES: usize = 3000;

impl Tar {
    pub fn new(p: &Place) -> Option<Tar> {
        if !installed("tar", "tar") {
            return None;
        }
        let (source, archive) = (p.at("source"), p.at("source.tar"));
        let mut rng = fastrand::Rng::with_seed(5);
        for n in 0..FILES {
            let dir = source.join(format!("d{}/e{}", n / 300, n / 20 % 15));
            fs::create_dir_all(&dir).expect("mkdir");
            let len = [rng.usize(0..300), rng.usize(0..9000), rng.usize(0..80_000)][rng.usize(..3)];
            let content: Vec<u8> = (0..len).map(|_| rng.u8(..)).collect();
            fs::write(dir.join(format!("f{n}")), content).expect("write");
        }
        ok(Command::new("tar").arg("-C").arg(&source).arg("-cf").arg(&archive).arg("."));
        Some(Tar { archive, source, round: 0, worker: None, unpacked: Vec::new() })
    }

    fn target(&self, p: &Place) -> PathBuf {
        p.path(&format!("unpacked{}", self.round))
    }
}

fn same(from: &Path, to: &Path) {
    let (a, b) = (fs::symlink_metadata(from).expect("source"), fs::symlink_metadata(to));
    let b = b.unwrap_or_else(|e| panic!("{} was unpacked: {e}", to.display()));
    assert_eq!(a.is_dir(), b.is_dir(), "{}", to.display());
    if a.is_file() {
        assert!(
            fs::read(from).expect("read") == fs::read(to).expect("read"),
            "{} is not as it was",
            to.display()
        );
        assert_eq!((a.mode(), a.mtime()), (b.mode(), b.mtime()), "{}", to.display());
    }
}

impl Program for Tar {
    fn name(&self) -> String {
        "tar".into()
    }

    fn start(&mut self, p: &Place) {
        self.round += 1;
        let target = self.target(p);
        fs::create_dir(&target).expect("mkdir");
        let mut command = Command::new("tar");
        command.arg("-C").arg(target).arg("-xvf").arg(&self.archive);
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().expect("tar");
        let from = child.stdout.take().expect("piped");
        let read = move || BufReader::new(from).lines().map_while(Result::ok).collect();
        self.worker = Some((child, std::thread::spawn(read)));
    }

    fn stop(&mut self) {
        let (mut child, thread) = self.worker.take().expect("started");
        let whole = child.try_wait().expect("wait").is_some_and(|status| status.success());
        finish(&mut child);
        self.unpacked = thread.join().expect("the reader");
        if !whole {
            // After its first error tar goes on to tell names: what counts was told before the mount died. The name
            // comes before the work.
            self.unpacked.pop();
        }
    }

    fn prove(&mut self, p: &Place) -> u64 {
        let target = self.target(p);
        // Names that tar told after the mount had died were never made; they are at the end, without a gap.
        let there = self.unpacked.iter().rposition(|name| target.join(name).symlink_metadata().is_ok());
        let done = there.map_or(0, |last| last);
        for name in &self.unpacked[..done] {
            same(&self.source.join(name), &target.join(name));
        }
        ok(Command::new("rm").arg("-rf").arg(&target));
        done as u64
    }
}
