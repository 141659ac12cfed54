//! More and more empty files in the tree.

use crate::common::Result;
use crate::site::{Kind, Site, Subject};
use crate::work::{self, file_in, make_files};
use std::fs::{self, File};
use std::os::unix::fs::MetadataExt;

/// The last files of a step, of which the rate is.
const TIMED: u64 = 20_000;
const LOOKED_AT: u64 = 2_000;
const TURNED: u64 = 1_000;

pub const KIND: Kind = Kind {
    name: "files",
    image: |scale| if scale.is_small { 1_024 } else { 5_120 },
    steps: |scale| scale.files.len(),
    new: |_| Box::new(Files),
};

struct Files;

impl Subject for Files {
    fn step(&mut self, site: &mut Site, step: usize) -> Result<()> {
        let at = site.scale.files[step];
        let (root, before) = (site.root(), if step == 0 { 0 } else { site.scale.files[step - 1] });
        if step == 0 {
            work::write_large(&root.join("changing"), 1 << 20)?;
        }
        let timed = at - TIMED.min(at - before);
        make_files(&root, before..timed)?;
        site.rate("files.make", at, || make_files(&root, timed..at))?;
        site.memory("files.memory", at);
        let snapshots = site.snapshots()?;
        let times = work::sample_snapshots(&snapshots, &root.join("changing"), 7)?;
        site.times("files.snapshot", at, &times)?;
        site.peer.wait_until_freed()?;
        let mount = site.cold()?;
        site.times("files.mount", at, &[mount])?;
        let mut rng = fastrand::Rng::with_seed(1);
        let looked_at = work::distinct(LOOKED_AT, at, &mut rng);
        site.rate("files.lstat", at, || {
            for &n in &looked_at {
                if fs::symlink_metadata(file_in(&root, n))?.size() != 0 {
                    return Err(format!("file {n} is not empty").into());
                }
            }
            Ok(looked_at.len() as u64)
        })?;
        site.rate("files.turn", at, || {
            for _ in 0..TURNED {
                let path = file_in(&root, rng.u64(..at));
                fs::remove_file(&path)?;
                File::create(&path)?;
            }
            Ok(TURNED)
        })?;
        site.check("files.check", at)
    }
}
