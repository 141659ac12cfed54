//! The last of many ROW snapshots beside the first: a chain would make one of the two slow.
//!
//! A file is written anew right before the first and right before the last snapshot; between them another one changes before
//! each. So both snapshots have as much to read, as old and as new as it can be, and thousands of snapshots between them.

use crate::Places;
use crate::common::Result;
use crate::common::medium::text;
use crate::common::report::{median, shown};
use crate::common::work::{self, BLOCK, noise};
use crate::options::Sizes;
use crate::ratios::Ratio;
use crate::store::{Store, command};
use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::time::Instant;

const FILE: &str = "kept";
/// The one that changes, and its blocks.
const CHANGING: &str = "changing";
const CHANGING_BLOCKS: u64 = 256;
/// MiB of the file at most.
const MIB_MAX: u64 = 64;

pub fn measure(places: &Places<'_>, sizes: &Sizes) -> Result<Vec<Ratio>> {
    let mut store = Store::new(places.first, "history")?;
    let bytes = sizes.file.min(MIB_MAX) << 20;
    work::write_large(&store.path(FILE), bytes)?;
    work::write_large(&store.path(CHANGING), CHANGING_BLOCKS * BLOCK)?;
    store.rest(FILE)?;
    let name = |n: usize| format!("s{n}");
    let (mut rng, block) = (fastrand::Rng::with_seed(4), noise(BLOCK as usize));
    let changing = File::options().write(true).open(store.path(CHANGING))?;
    let last = sizes.snapshots - 1;
    for n in 0..=last {
        changing.write_all_at(&block, rng.u64(..CHANGING_BLOCKS) * BLOCK)?;
        if n == last {
            // As the first was, and in places of its own.
            fs::remove_file(store.path(FILE))?;
            work::write_large(&store.path(FILE), bytes)?;
            store.rest(FILE)?;
        }
        fs::create_dir(store.past(&name(n), ""))?;
    }
    drop(changing);
    store.rest(FILE)?;
    let ends = [name(0), name(last)];
    // By what is done, and which of the two.
    let mut seconds: [[Vec<f64>; 2]; 2] = Default::default();
    for turn in 0..sizes.turns * 2 {
        for which in [turn % 2, 1 - turn % 2] {
            store.cool()?;
            let begun = Instant::now();
            work::read_through(&store.past(&ends[which], FILE))?;
            seconds[0][which].push(begun.elapsed().as_secs_f64());
            let to = store.path(&format!("back-{turn}-{which}"));
            fs::create_dir(&to)?;
            let (path, to_text) = (store.path(FILE), text(&to)?);
            let begun = Instant::now();
            command(&["restore", text(&path)?, "--from", &ends[which], "--to", to_text])?;
            seconds[1][which].push(begun.elapsed().as_secs_f64());
        }
    }
    store.prove()?;
    let middle = |of: &[f64]| median(of).ok_or("nothing was measured");
    let snapshots = sizes.snapshots;
    let [read, restore] = seconds;
    let ratio = |[first, last]: &[Vec<f64>; 2]| {
        median(&first.iter().zip(last).map(|(first, last)| last / first).collect::<Vec<f64>>())
    };
    let rate = |seconds: f64| shown(bytes as f64 / 1e6 / seconds);
    let read_found = format!("{} and {} MB/s", rate(middle(&read[1])?), rate(middle(&read[0])?));
    let ms = |seconds: f64| shown(seconds * 1e3);
    let restore_found = format!("{} and {} ms", ms(middle(&restore[1])?), ms(middle(&restore[0])?));
    let what =
        |verb: &str| format!("ROW: time to {verb} the last of {snapshots} snapshots, beside the first");
    Ok(vec![
        Ratio::new(what("read a file, cold, in"), read_found, ratio(&read), "1"),
        Ratio::new(what("restore a file, cold, from"), restore_found, ratio(&restore), "1"),
    ])
}
