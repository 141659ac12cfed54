//! A stream that compresses as source text does.

use super::{Group, Unit, phase};
use crate::Result;
use crate::assets;
use crate::run::Run;
use std::fs::File;
use std::io::{Read, Write};

const CHUNK: usize = 1 << 20;
/// Text that differs; then it begins again, far beyond what a compressor looks back.
const SAMPLE: usize = 16 * CHUNK;

pub const TEXT: Group = Group {
    name: "text",
    needs_snapshots: false,
    phases: &[
        phase("text-write", "source text written in a stream, fsync at the end", Unit::Megabytes),
        phase("text-read-cold", "read again, cold", Unit::Megabytes),
        phase("text-stored", "bytes of the store in use for a byte of it", Unit::Number),
    ],
    run: text,
};

fn text(run: &mut Run) -> Result<()> {
    let (path, len, sample) = (run.root().join("text"), run.scale.file as usize, assets::text(SAMPLE));
    run.cold()?;
    let before = run.used_bytes();
    run.rate("text-write", |_| {
        let mut file = File::create(&path)?;
        sample.chunks(CHUNK).cycle().take(len / CHUNK).try_for_each(|chunk| file.write_all(chunk))?;
        file.sync_all()?;
        Ok(len as u64)
    })?;
    run.cold()?;
    run.rate("text-read-cold", |_| {
        let (mut file, mut buffer) = (File::open(&path)?, vec![0; CHUNK]);
        for chunk in sample.chunks(CHUNK).cycle().take(len / CHUNK) {
            file.read_exact(&mut buffer)?;
            if buffer != chunk {
                return Err("what is read is not what was written".into());
            }
        }
        Ok(len as u64)
    })?;
    if let (Some(before), Some(after)) = (before, run.used_bytes()) {
        run.figure("text-stored", after.saturating_sub(before) as f64 / len as f64);
    }
    Ok(())
}
