//! What is known of the age of the store from one look at the clock to the next. It is lost with the mount.

use crate::schedule::AgeClock;
use parking_lot::Mutex;

/// None until somebody asks. A leaf among the locks.
#[derive(Default)]
pub struct Ageing {
    /// What the clock has shown.
    pub clock: Mutex<Option<AgeClock>>,
}
