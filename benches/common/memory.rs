//! Memory of a virtual machine, which its host may take back while it is free.

use crate::common::Result;
use std::fs;
use std::hint::black_box;

/// Writes to `bytes` of free memory, half of what is free at most, and lets go of it, so that the host has it ready for
/// whoever needs memory next.
pub fn warm(bytes: u64) -> Result<()> {
    let bytes = bytes.min(free_bytes()? / 2);
    drop(black_box(vec![1u8; usize::try_from(bytes)?]));
    Ok(())
}

fn free_bytes() -> Result<u64> {
    let text = fs::read_to_string("/proc/meminfo")?;
    let kib = text.lines().find_map(|l| l.strip_prefix("MemFree:")).ok_or("/proc/meminfo has no MemFree")?;
    Ok(kib.trim_end_matches("kB").trim().parse::<u64>()? << 10)
}
