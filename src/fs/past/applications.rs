//! Applications that have data in a line, and are asked before a snapshot is taken of it by itself: the seam to whoever knows them.

use crate::format::view::Consistency;

/// What has been done for a snapshot that is going to be taken.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Reached<'f> {
    /// What it is then.
    pub level: Consistency,
    /// The frosts in which it is to be taken: one whose time was over before took with it what applications have done.
    pub frosts: &'f [u64],
}

impl Reached<'_> {
    /// Nobody was asked.
    pub const PLAIN: Reached<'static> = Reached { level: Consistency::FileSystem, frosts: &[] };
}

/// Asks them. Any thread; no lock of the file system is held meanwhile but that of the look at the schedules.
pub trait Applications: Send + Sync {
    /// Has them write what they hold before a snapshot of this line (an empty name: the main line) by this schedule. An error says
    /// why none is to be taken.
    fn prepare(&self, line: &[u8], schedule: &str) -> Result<Box<dyn Prepared>, String>;
    /// Ends what is under way as fast as may be: the store is going to be closed.
    fn end(&self);
}

/// Applications that wait for a snapshot.
pub trait Prepared {
    /// What a snapshot that is taken now is.
    fn reached(&self) -> Reached<'_>;
    /// Lets them go on; `made` is the name of the snapshot, if it was taken. What has gone wrong, also before.
    fn resume(self: Box<Self>, made: Option<&[u8]>) -> Result<(), String>;
}
