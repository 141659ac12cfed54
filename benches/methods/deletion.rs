//! Whether deleting a long history slows a program that makes each of its writes durable: the value that 99 of 100 of these
//! are below while it is deleted and its space comes back, beside that without; and the same of btrfs, which deletes a tenth.
//! Some histories are made and deleted one after the other, with some time without before and after each: what the device does by
//! itself differs from one minute to the next.

use crate::Places;
use crate::common::Result;
use crate::common::medium::text;
use crate::common::process;
use crate::common::report::shown;
use crate::common::work::{BLOCK, noise};
use crate::durable::Writer;
use crate::options::Sizes;
use crate::ratios::{Ratio, middle, with_file};
use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

const FILE: &str = "image";
/// MiB of the file that is written.
const FILE_MIB: u64 = 64;
/// btrfs deletes one in so many.
const BTRFS_SHARE: usize = 10;
/// Bytes of its image.
const IMAGE_BYTES: u64 = 4 << 30;

pub fn measure(places: &Places<'_>, sizes: &Sizes) -> Result<Vec<Ratio>> {
    let ours = of_ours(places.first, sizes)?;
    let peer = of_btrfs(places.first, sizes).map_or_else(
        |why| format!("btrfs is not to be had: {why}"),
        |ratio| format!("btrfs deleting {}: {}", sizes.snapshots / BTRFS_SHARE, shown(ratio)),
    );
    let (count, writer) = (sizes.snapshots, Writer::best().name());
    let what = format!("deleting {count} snapshots: p99 of a durable write ({writer}), beside that without");
    Ok(vec![Ratio::new(what, format!("{}; {peer}", ours.1), Some(ours.0), "<= 1.1")])
}

/// The p99 beside a deletion in milliseconds, from its order until all space is back; and that without, of half as long as `time`
/// before it and after it.
fn compared(path: &Path, time: Duration, delete: impl FnOnce() -> Result<()> + Send) -> Result<(f64, f64)> {
    let writer = Writer::best();
    let mut alone = writer.for_so_long(path, time / 2)?;
    let mut beside = writer.beside(path, delete)?;
    alone.add(writer.for_so_long(path, time / 2)?);
    Ok((beside.p99()?, alone.p99()?))
}

/// The median of the ratios, and the medians of both sides of it in words.
fn summed_up(turns: &[(f64, f64)]) -> Result<(f64, String)> {
    let of = |what: fn(&(f64, f64)) -> f64| middle(&turns.iter().map(what).collect::<Vec<f64>>());
    let found = format!("{} and {} ms", shown(of(|t| t.0)?), shown(of(|t| t.1)?));
    Ok((of(|t| t.0 / t.1)?, found))
}

fn of_ours(place: &Path, sizes: &Sizes) -> Result<(f64, String)> {
    let store = with_file(place, "deletion", FILE_MIB)?;
    let (file, mut block) = (File::options().write(true).open(store.path(FILE))?, noise(BLOCK as usize));
    let mut turns = Vec::new();
    for turn in 0..sizes.turns as u64 {
        for n in 0..sizes.snapshots as u64 {
            block[..8].copy_from_slice(&(turn << 32 | n).to_le_bytes());
            file.write_all_at(&block, n % ((FILE_MIB << 20) / BLOCK) * BLOCK)?;
            fs::create_dir(store.past(&format!("s{n}"), ""))?;
        }
        store.rest(FILE)?;
        let delete = || store.ask(&["delete"], &["s*", "--wait"]).map(drop);
        turns.push(compared(&store.path(FILE), sizes.window * 8, delete)?);
    }
    drop(file);
    store.prove()?;
    summed_up(&turns)
}

/// A file system of the kernel on an image. Dropped, it is unmounted and removed.
struct Btrfs {
    image: PathBuf,
    dir: PathBuf,
    is_mounted: bool,
}

impl Drop for Btrfs {
    fn drop(&mut self) {
        if self.is_mounted
            && let Err(why) = text(&self.dir).and_then(|dir| process::run_patiently("umount", &[dir]))
        {
            eprintln!("{}: {why}", self.dir.display());
            return;
        }
        drop(fs::remove_dir(&self.dir));
        drop(fs::remove_file(&self.image));
    }
}

fn of_btrfs(place: &Path, sizes: &Sizes) -> Result<f64> {
    let (image, dir) = (place.join("btrfs.image"), place.join("btrfs"));
    let mut btrfs = Btrfs { image, dir, is_mounted: false };
    File::create(&btrfs.image)?.set_len(IMAGE_BYTES)?;
    fs::create_dir(&btrfs.dir)?;
    process::run("mkfs.btrfs", &["-q", text(&btrfs.image)?])?;
    process::run("mount", &["-o", "loop,noatime", text(&btrfs.image)?, text(&btrfs.dir)?])?;
    btrfs.is_mounted = true;
    let live = btrfs.dir.join("live");
    process::run("btrfs", &["subvolume", "create", text(&live)?])?;
    let path = live.join(FILE);
    let mut file = File::create(&path)?;
    for _ in 0..FILE_MIB {
        std::io::Write::write_all(&mut file, &noise(1 << 20))?;
    }
    file.sync_all()?;
    let mut turns = Vec::new();
    for turn in 0..sizes.turns as u64 {
        let mut names = Vec::new();
        for n in 0..(sizes.snapshots / BTRFS_SHARE) as u64 {
            let mut block = noise(BLOCK as usize);
            block[..8].copy_from_slice(&n.to_le_bytes());
            file.write_all_at(&block, n % ((FILE_MIB << 20) / BLOCK) * BLOCK)?;
            let name = btrfs.dir.join(format!("s{turn}-{n}"));
            process::run("btrfs", &["subvolume", "snapshot", "-r", text(&live)?, text(&name)?])?;
            names.push(text(&name)?.to_string());
        }
        file.sync_all()?;
        turns.push(compared(&path, sizes.window * 8, || {
            let all: Vec<&str> =
                ["subvolume", "delete"].into_iter().chain(names.iter().map(String::as_str)).collect();
            process::run_patiently("btrfs", &all)?;
            process::run_patiently("btrfs", &["subvolume", "sync", text(&btrfs.dir)?]).map(drop)
        })?);
    }
    Ok(summed_up(&turns)?.0)
}
