//! Somebody who writes a block at a random place of a file and makes it durable, again and again: fio where it is installed, else
//! a loop of our own. How long each took is counted by fio in bins of about a hundredth.

use crate::common::medium::text;
use crate::common::process;
use crate::common::work::{BLOCK, noise};
use crate::common::{Result, raw};
use serde_json::Value;
use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// Nothing that somebody writes beside takes longer.
const LIMIT: Duration = Duration::from_secs(1200);
/// fio begins, and ends, within.
const PATIENCE: Duration = Duration::from_secs(30);
const LOOK_AGAIN: Duration = Duration::from_millis(2);

/// Who writes.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Writer {
    Fio,
    Own,
}

/// How long writes took: milliseconds, and how many took so long.
#[derive(Default)]
pub struct Latencies(Vec<(f64, u64)>);

impl Latencies {
    /// These as well.
    pub fn add(&mut self, others: Latencies) {
        self.0.extend(others.0);
    }

    /// The value that 99 of 100 are below.
    pub fn p99(&mut self) -> Result<f64> {
        self.0.sort_by(|a, b| a.0.total_cmp(&b.0));
        let all: u64 = self.0.iter().map(|(_, count)| count).sum();
        let mut below = 0;
        let found = self.0.iter().find(|(_, count)| {
            below += count;
            below * 100 >= all * 99
        });
        found.map(|(value, _)| *value).ok_or_else(|| "nothing was written".into())
    }
}

impl Writer {
    /// fio if it is there.
    pub fn best() -> Writer {
        if process::run("fio", &["--version"]).is_ok() { Writer::Fio } else { Writer::Own }
    }

    pub fn name(self) -> &'static str {
        match self {
            Writer::Fio => "fio",
            Writer::Own => "a loop of our own, without fio",
        }
    }

    /// Writes into a file for so long.
    pub fn for_so_long(self, path: &Path, time: Duration) -> Result<Latencies> {
        match self {
            Writer::Own => own(path, |so_long| so_long >= time),
            Writer::Fio => Fio::start(path, time)?.end(time + PATIENCE),
        }
    }

    /// Writes into a file from when some work begins until it is done.
    pub fn beside(self, path: &Path, work: impl FnOnce() -> Result<()> + Send) -> Result<Latencies> {
        match self {
            Writer::Own => std::thread::scope(|scope| {
                let work = scope.spawn(work);
                let all = own(path, |_| work.is_finished());
                work.join().map_err(|_| "the work beside panicked")??;
                all
            }),
            Writer::Fio => {
                let fio = Fio::start(path, LIMIT)?;
                work()?;
                if raw::interrupted() {
                    return Err("interrupted".into());
                }
                process::run("kill", &["-INT", &fio.child.id().to_string()])?;
                fio.end(PATIENCE)
            }
        }
    }
}

fn own(path: &Path, is_over: impl Fn(Duration) -> bool) -> Result<Latencies> {
    let (file, mut block) = (File::options().write(true).open(path)?, noise(BLOCK as usize));
    let (blocks, mut rng) = (file.metadata()?.len() / BLOCK, fastrand::Rng::with_seed(5));
    let (since, mut all) = (Instant::now(), Vec::new());
    while !is_over(since.elapsed()) {
        block[..8].copy_from_slice(&rng.u64(..).to_le_bytes());
        let begun = Instant::now();
        file.write_all_at(&block, rng.u64(..blocks) * BLOCK)?;
        file.sync_data()?;
        all.push((begun.elapsed().as_secs_f64() * 1e3, 1));
    }
    Ok(Latencies(all))
}

/// fio at work. Dropped, it is killed.
struct Fio {
    child: Child,
    dir: std::path::PathBuf,
}

impl Fio {
    /// Starts it; it writes when this returns.
    fn start(path: &Path, time: Duration) -> Result<Fio> {
        let dir = std::env::temp_dir().join(format!("snapfs-fio-{}", std::process::id()));
        drop(fs::remove_dir_all(&dir));
        fs::create_dir(&dir)?;
        let mut command = Command::new("fio");
        command.current_dir(&dir).args(["--name=writer", "--rw=randwrite", "--bs=4k", "--ioengine=psync"]);
        command.args(["--sync=dsync", "--thread", "--norandommap", "--refill_buffers", "--fallocate=none"]);
        command.args(["--time_based", "--eta=never", "--output=told", "--output-format=json+"]);
        // It has this done right before the first write.
        command.args(["--exec_prerun=touch begun"]);
        command.arg(format!("--size={}", fs::metadata(path)?.len()));
        command.arg(format!("--runtime={}ms", time.as_millis())).arg(format!("--filename={}", text(path)?));
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let mut fio = Fio { child: command.spawn().map_err(|e| format!("fio: {e}"))?, dir };
        let until = Instant::now() + PATIENCE;
        while !fio.dir.join("begun").exists() {
            if fio.child.try_wait()?.is_some() || Instant::now() > until {
                return Err("fio does not begin".into());
            }
            std::thread::sleep(LOOK_AGAIN);
        }
        Ok(fio)
    }

    /// What it tells in the end.
    fn end(mut self, patience: Duration) -> Result<Latencies> {
        let until = Instant::now() + patience;
        while self.child.try_wait()?.is_none() {
            if Instant::now() > until {
                return Err("fio does not end".into());
            }
            std::thread::sleep(LOOK_AGAIN);
        }
        let told = fs::read_to_string(self.dir.join("told"))?;
        // What it says when it is interrupted stands before that.
        let json = told.find('{').map(|at| &told[at..]).ok_or_else(|| format!("fio says: {told}"))?;
        let told = serde_json::Deserializer::from_str(json).into_iter::<Value>().next();
        let told = told.ok_or("fio tells nothing")??;
        let job = &told["jobs"][0];
        let bins = job["write"]["clat_ns"]["bins"].as_object();
        if job["error"] != 0 {
            return Err(format!("fio fails: {}", job["error"]).into());
        }
        let bins = bins.ok_or("fio tells no latencies")?.iter();
        let bin = |(ns, count): (&String, &Value)| Some((ns.parse::<f64>().ok()? / 1e6, count.as_u64()?));
        Ok(Latencies(bins.map(bin).collect::<Option<_>>().ok_or("fio tells latencies that are none")?))
    }
}

impl Drop for Fio {
    fn drop(&mut self) {
        if matches!(self.child.try_wait(), Ok(None)) {
            let _ended = (self.child.kill(), self.child.wait());
        }
        drop(fs::remove_dir_all(&self.dir));
    }
}
