//! Which freezes the hooks of one snapshot have begun: noted in their directory, so that they thaw no other, and so that it is
//! known whether the snapshot was taken in them.

use std::ffi::OsString;
use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};

const FILE: &str = "frozen";
/// Of what is read.
const NUMBERS_MAX: usize = 1024;

/// The directory, for what a hook has started.
fn state_dir() -> Option<PathBuf> {
    std::env::var_os("SNAPFS_STATE").filter(|dir: &OsString| !dir.is_empty()).map(PathBuf::from)
}

/// Notes one, for a hook. Outside of hooks a no-op.
pub(in crate::cli) fn note(number: u64) {
    let Some(dir) = state_dir() else { return };
    let file = File::options().create(true).append(true).open(dir.join(FILE));
    if let Err(e) = file.and_then(|mut file| file.write_all(format!("{number}\n").as_bytes())) {
        eprintln!("snapfs: the number of the freeze ({number}) cannot be kept for the other hook: {e}");
    }
}

/// Those that were noted in this hook or in the one before.
pub(in crate::cli) fn noted() -> Vec<u64> {
    state_dir().map(|dir| noted_in(&dir)).unwrap_or_default()
}

/// Those that were noted in a directory.
pub(super) fn noted_in(dir: &Path) -> Vec<u64> {
    let text = fs::read_to_string(dir.join(FILE)).unwrap_or_default();
    text.lines().filter_map(|line| line.parse().ok()).take(NUMBERS_MAX).collect()
}
