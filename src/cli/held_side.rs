//! A side of a mirror that is held: its device, and what keeps others from it.
//!
//! To let go of it is to close files of a host that may hang: who does that waits no longer than its limit.

use crate::ctl::{Code, Failure};
use crate::device::bystander::{Beside, Bystander};
use crate::device::lock::StoreLock;
use crate::device::mirror::{Holding, Timed, bystander};
use crate::device::patience::patiently;
use crate::device::{Device, DeviceError};
use crate::limits::SIDE_LIMIT_SECS_DEFAULT;
use crate::names;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

/// How long a side may keep the other waiting, if nobody says.
pub(super) const LIMIT: Duration = Duration::from_secs(SIDE_LIMIT_SECS_DEFAULT);

/// A side that is held, until nobody has it and every call on it by way of [`HeldSide::timed`] has returned.
pub(super) struct HeldSide {
    /// Where it is.
    pub(super) path: PathBuf,
    /// How its partner finds it: of a block device by the name that was given, which may be one that lasts.
    pub(super) named: PathBuf,
    /// It is in a directory, which has no size of its own.
    pub(super) is_directory: bool,
    files: Arc<HeldFiles>,
}

/// Taken by whoever closes them.
struct HeldFiles {
    open: Option<(Arc<dyn Device>, StoreLock)>,
    limit: Duration,
}

impl HeldSide {
    /// What was opened, at a path and as it is to be found by its partner.
    pub(super) fn new(
        (path, named): (PathBuf, PathBuf),
        is_directory: bool,
        open: (Arc<dyn Device>, StoreLock),
        limit: Duration,
    ) -> HeldSide {
        let files = Arc::new(HeldFiles { open: Some(open), limit });
        HeldSide { path, named, is_directory, files }
    }

    /// Its device, for whoever has no other to turn to, or has calls made by others.
    pub(super) fn device(&self) -> &Arc<dyn Device> {
        let (device, _) = self.files.open.as_ref().expect("taken only when they are let go of");
        device
    }

    /// The same for whoever waits for it no longer than this, if another answers meanwhile.
    pub(super) fn timed(&self, limit: Duration, beside: Beside) -> Timed {
        Timed::new(self.device().clone(), names::shown(&self.path), (limit, beside), self.holding())
    }

    /// Has a mark written to it, for which it is waited no longer than the limit if there is another side that serves.
    pub(super) fn mark(
        &self,
        other: Option<&HeldSide>,
        limit: Duration,
        mark: fn(&dyn Device) -> Result<(), DeviceError>,
    ) -> Result<(), DeviceError> {
        match other {
            None => mark(&**self.device()),
            Some(other) => mark(&self.timed(limit, Some(other.bystander()))),
        }
    }

    /// It is asked before another side is taken for late.
    pub(super) fn bystander(&self) -> Arc<dyn Bystander> {
        bystander(self.device().clone())
    }

    /// What keeps others from it.
    pub(super) fn holding(&self) -> Holding {
        self.files.clone()
    }
}

impl Drop for HeldFiles {
    fn drop(&mut self) {
        if let Some(open) = self.open.take()
            && patiently(self.limit, move |_| drop(open)).is_none()
        {
            log::warn!("the host of a side does not close its files; the side is in use until it does");
        }
    }
}

/// What is told of a side that does not answer.
pub(super) fn late(store: &Path, limit: Duration) -> Failure {
    Failure::new(Code::Io, format!("{}: it did not answer within {limit:?}", names::shown(store)))
}
