//! What a copy that is made beside it does to somebody who writes blocks and makes each durable: windows alone and beside a
//! copy take turns.

use crate::Places;
use crate::common::Result;
use crate::common::report::{median, quantile, shown};
use crate::common::work::{BLOCK, noise};
use crate::method::Method;
use crate::options::Sizes;
use crate::ratios::{Ratio, p99, with_file};
use crate::store::Store;
use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::{Duration, Instant};

const FILE: &str = "image";
/// The foreground rests between two writes, as programs do.
const REST: Duration = Duration::from_micros(500);

pub fn measure(places: &Places<'_>, sizes: &Sizes) -> Result<Vec<Ratio>> {
    let mut ratios = Vec::new();
    let ways = Method::all()?.into_iter().filter(|m| matches!(m, Method::Clone | Method::Background));
    for method in ways {
        let store = with_file(places.first, &format!("beside-{}", method.name()), sizes.file)?;
        let work = store.path("work");
        fs::write(&work, noise(8 << 20))?;
        let (mut alone, mut beside, mut each) = (Vec::new(), Vec::new(), Vec::new());
        for n in 0..sizes.pairs {
            store.rest(FILE)?;
            let first = window(&work, sizes.window, &AtomicBool::new(false))?;
            let copy = places.second.join(format!("beside-{n}.copy"));
            let second = copying(&store, method, &copy, &format!("s{n}"), &work, sizes.window)?;
            each.push(p99(&second)? / p99(&first)?);
            alone.extend(first);
            beside.extend(second);
            drop(fs::remove_dir_all(copy));
        }
        store.prove()?;
        let us = |of: &[f64], share| quantile(of, share).map_or("-".into(), shown);
        let found = format!(
            "p50 {} and {} us, p99 {} and {} us; median of {} pairs",
            us(&beside, 0.5),
            us(&alone, 0.5),
            us(&beside, 0.99),
            us(&alone, 0.99),
            each.len()
        );
        let (what, wanted) = match method {
            Method::Clone => ("clone: p99 of write and fsync beside the command, alone", "-"),
            _ => ("background copy: p99 of write and fsync beside it, alone", "<= 1.2"),
        };
        ratios.push(Ratio::new(what, found, median(&each), wanted));
    }
    Ok(ratios)
}

/// The foreground while a copy is made, for a window at most.
fn copying(
    store: &Store,
    method: Method,
    copy: &Path,
    name: &str,
    work: &Path,
    during: Duration,
) -> Result<Vec<f64>> {
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let making = scope.spawn(|| {
            let made = method.make(store, copy, name);
            stop.store(true, Relaxed);
            made
        });
        let found = window(work, during, &stop);
        making.join().map_err(|_| "the copy panicked")??;
        found
    })
}

/// Blocks written and made durable, each in microseconds, until the window ends.
fn window(path: &Path, during: Duration, stop: &AtomicBool) -> Result<Vec<f64>> {
    let (file, block, mut rng) =
        (File::options().write(true).open(path)?, noise(BLOCK as usize), fastrand::Rng::new());
    let blocks = file.metadata()?.len() / BLOCK;
    let (begun, mut found) = (Instant::now(), Vec::new());
    while begun.elapsed() < during && !stop.load(Relaxed) {
        let one = Instant::now();
        file.write_all_at(&block, rng.u64(..blocks) * BLOCK)?;
        file.sync_all()?;
        found.push(one.elapsed().as_secs_f64() * 1e6);
        std::thread::sleep(REST);
    }
    Ok(found)
}
