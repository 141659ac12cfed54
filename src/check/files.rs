//! Files and names: link counts, entries, orphans, extents.

use super::Report;
use crate::volume::audit::Committed;

pub(super) fn check(_state: &Committed, _report: &mut Report) {}
