//! What is remembered of guards and steps from one look at them to the next. It is lost with the mount.

use crate::format::ViewId;
use std::collections::HashMap;
use std::time::Duration;

/// A leaf among the locks.
#[derive(Default)]
pub struct SeenGuards {
    /// When each was seen first, as time that has passed.
    pub first: HashMap<ViewId, Duration>,
    /// When it was looked last whether some are to go, and how often snapshots had come or gone by then.
    pub looked: Option<(Duration, u64)>,
}
