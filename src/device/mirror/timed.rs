//! A device that takes part in no mirror yet, or no more, and may hang: whoever calls it waits no longer than a limit,
//! as long as there is another device that answers.
//!
//! One that was late once is called no more. What is late may still come to the device, so what keeps others from it is held
//! until every call has returned. Reading it costs a change of threads each time.

use super::crew::CallCrew;
use super::side::MirrorSide;
use crate::device::bystander::Beside;
use crate::device::{Device, DeviceError, StoreLocation};
use crate::format::mark::FileBirth;
use std::any::Any;
use std::sync::Arc;
use std::time::Duration;

/// What keeps others from a device, as long as somebody has it.
pub type Holding = Arc<dyn Any + Send + Sync>;

/// The device. Any thread may call any method.
pub struct Timed {
    side: MirrorSide,
    limit: Duration,
    beside: Beside,
    size: u64,
    held: Holding,
    ends: Option<Ends>,
}

/// Says that whoever makes calls is to end.
pub type Ends = Arc<dyn Fn() -> bool + Send + Sync>;

impl Timed {
    /// Of a device that is called `place`, and is late only if another answers meanwhile. It is asked for nothing here but its size,
    /// which no device has to look for.
    #[must_use]
    pub fn new(
        device: Arc<dyn Device>,
        place: String,
        (limit, beside): (Duration, Beside),
        held: Holding,
    ) -> Timed {
        let size = device.size();
        let side = MirrorSide::unasked(device, &CallCrew::new());
        side.set_place(place);
        Timed { side, limit, beside, size, held, ends: None }
    }

    /// No call is made any more once `ends` says so: whoever reads much of it ends with that.
    #[must_use]
    pub fn until(self, ends: Ends) -> Timed {
        Timed { ends: Some(ends), ..self }
    }

    /// True if it was late: it is called no more.
    #[must_use]
    pub fn is_lost(&self) -> bool {
        !self.side.is_there()
    }

    fn call<T: Send + 'static>(
        &self,
        call: impl FnOnce(&dyn Device) -> Result<T, DeviceError> + Send + 'static,
    ) -> Result<T, DeviceError> {
        if let Some(why) = self.side.why_lost() {
            return Err(DeviceError::refused(std::io::ErrorKind::TimedOut, why));
        }
        if self.ends.as_ref().is_some_and(|ends| ends()) {
            return Err(DeviceError::refused(std::io::ErrorKind::Interrupted, "it was ended".into()));
        }
        let held = self.held.clone();
        let done = self.side.within(self.limit, &self.beside, move |device| {
            let done = call(device);
            drop(held);
            done
        });
        if let Err(DeviceError::Io { source, .. }) = &done
            && source.kind() == std::io::ErrorKind::TimedOut
        {
            self.side.lose(&format!("{} did not answer within {:?}", self.side.place(), self.limit));
        }
        done
    }

    /// What it says of itself, or what is said of one that says nothing.
    fn ask<T: Default + Send + 'static>(
        &self,
        question: impl FnOnce(&dyn Device) -> T + Send + 'static,
    ) -> T {
        self.call(|device| Ok(question(device))).unwrap_or_default()
    }
}

impl Device for Timed {
    fn size(&self) -> u64 {
        self.size
    }

    fn read_at(&self, offset: u64, buf: &mut [u8]) -> Result<(), DeviceError> {
        let len = buf.len();
        let bytes = self.call(move |device| {
            let mut bytes = vec![0; len];
            device.read_at(offset, &mut bytes).map(|()| bytes)
        })?;
        buf.copy_from_slice(&bytes);
        Ok(())
    }

    fn write_at(&self, offset: u64, buf: &[u8]) -> Result<(), DeviceError> {
        let bytes = buf.to_vec();
        self.call(move |device| device.write_at(offset, &bytes))
    }

    fn flush(&self) -> Result<(), DeviceError> {
        self.call(|device| device.flush())
    }

    fn flush_inherited(&self) -> Result<(), DeviceError> {
        self.call(|device| device.flush_inherited())
    }

    fn back(&self, offset: u64, len: u64) -> Result<(), DeviceError> {
        self.call(move |device| device.back(offset, len))
    }

    fn discard(&self, offset: u64, len: u64) {
        self.ask(move |device| device.discard(offset, len));
    }

    fn release(&self, offset: u64, len: u64) {
        self.ask(move |device| device.release(offset, len));
    }

    fn will_need(&self, offset: u64, len: u64) {
        self.ask(move |device| device.will_need(offset, len));
    }

    fn stored(&self) -> Vec<(u64, u64)> {
        self.ask(|device| device.stored())
    }

    fn all_stored(&self) -> Result<Vec<(u64, u64)>, DeviceError> {
        self.call(|device| device.all_stored())
    }

    fn kept_parts(&self) -> Option<Vec<(u64, u64, u64)>> {
        self.ask(|device| device.kept_parts())
    }

    fn lacks(&self, ranges: &[(u64, u64)]) -> Vec<(u64, u64)> {
        let ranges = ranges.to_vec();
        self.ask(move |device| device.lacks(&ranges))
    }

    fn available(&self) -> u64 {
        self.ask(|device| device.available())
    }

    fn describe(&self) -> String {
        self.side.place().to_owned()
    }

    fn location(&self) -> StoreLocation {
        self.ask(|device| device.location())
    }

    fn birth(&self, offset: u64) -> Option<FileBirth> {
        self.ask(move |device| device.birth(offset))
    }

    fn limit_met(&self) -> Option<String> {
        self.ask(|device| device.limit_met())
    }
}
