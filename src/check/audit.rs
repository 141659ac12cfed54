//! Audits of a whole state: space, lists and files, one after the other.

use super::derived::Derived;
use super::report::{Depth, Report};
use super::{files, space};
use crate::volume::audit::Committed;
use crate::volume::{Volume, VolumeError};

/// Audits the newest committed state of a volume. An error means that not even its tables can be read.
pub fn check(volume: &Volume, depth: Depth) -> Result<Report, VolumeError> {
    let (state, mut report) = check_state(volume, depth)?;
    files::check(&state, &mut report);
    Ok(report)
}

/// [`check`] without what makes trees into files: for trees that hold something else.
pub fn check_space(volume: &Volume, depth: Depth) -> Result<Report, VolumeError> {
    check_state(volume, depth).map(|(_, report)| report)
}

fn check_state(volume: &Volume, depth: Depth) -> Result<(Committed, Report), VolumeError> {
    let state = volume.committed()?;
    let mut report = Report::of(&state);
    state.hold_faults.iter().for_each(|what| report.problem(what.clone()));
    space::check(&state, depth, &mut report, &mut Derived::default());
    Ok((state, report))
}

/// Audits a state, files included, and counts anew what is derived.
pub fn derive(state: &Committed, depth: Depth) -> (Report, Derived) {
    let (mut report, mut derived) = (Report::of(state), Derived::default());
    space::check(state, depth, &mut report, &mut derived);
    files::check(state, &mut report);
    (report, derived)
}
