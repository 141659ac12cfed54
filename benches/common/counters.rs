//! What the kernel counts: CPU time and memory of a daemon, calls that reached a block device.

use crate::common::raw;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// CPU seconds of a process, all its threads, user and system.
pub fn cpu_seconds(pid: u32) -> Option<f64> {
    let text = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name may have blanks: the numbers follow its bracket.
    let fields: Vec<&str> = text.rsplit_once(')')?.1.split_whitespace().collect();
    let ticks = |n: usize| fields.get(n).and_then(|f| f.parse::<f64>().ok());
    Some((ticks(11)? + ticks(12)?) / raw::ticks_per_second())
}

/// Seconds for which the host of a virtual machine ran something else while a processor here had work (proc_stat(5),
/// "steal"), all processors together. In steps of a tick, 10 ms as a rule.
pub fn stolen_seconds() -> Option<f64> {
    let text = fs::read_to_string("/proc/stat").ok()?;
    let ticks: f64 = text.lines().next()?.split_whitespace().nth(8)?.parse().ok()?;
    Some(ticks / raw::ticks_per_second())
}

/// Peak of the resident memory since [`forget_peak`], MiB.
pub fn peak_mib(pid: u32) -> Option<f64> {
    memory_mib(pid, "VmHWM:")
}

/// Resident memory, MiB.
pub fn resident_mib(pid: u32) -> Option<f64> {
    memory_mib(pid, "VmRSS:")
}

fn memory_mib(pid: u32, field: &str) -> Option<f64> {
    let text = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let line = text.lines().find_map(|l| l.strip_prefix(field))?;
    let kib: f64 = line.split_whitespace().next()?.parse().ok()?;
    Some(kib / 1024.0)
}

/// Begins a new peak.
pub fn forget_peak(pid: u32) {
    drop(fs::write(format!("/proc/{pid}/clear_refs"), "5"));
}

/// Counters of a block device.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Calls {
    pub read_bytes: u64,
    pub written_bytes: u64,
    pub flushes: u64,
}

/// A block device, by its directory in `/sys`.
#[derive(Clone)]
pub struct Disk(PathBuf);

impl Disk {
    /// Of this name, such as `loop3`.
    pub fn named(name: &str) -> Disk {
        Disk(Path::new("/sys/block").join(name))
    }

    /// The one below a directory. None for a file system in memory.
    pub fn below(dir: &Path) -> Option<Disk> {
        let device = fs::metadata(dir).ok()?.dev();
        let (major, minor) = (device >> 8 & 0xFFF, device & 0xFF | device >> 12 & !0xFF);
        let disk = Disk(PathBuf::from(format!("/sys/dev/block/{major}:{minor}")));
        disk.calls().map(|_| disk)
    }

    /// Its counters so far.
    pub fn calls(&self) -> Option<Calls> {
        let text = fs::read_to_string(self.0.join("stat")).ok()?;
        let fields: Vec<u64> = text.split_whitespace().filter_map(|f| f.parse().ok()).collect();
        Some(Calls {
            read_bytes: fields.get(2)? * 512,
            written_bytes: fields.get(6)? * 512,
            flushes: *fields.get(15)?,
        })
    }
}
