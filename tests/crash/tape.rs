//! Records every changing call of a device, and plays the calls again on another.
//!
//! So a workload runs once, and the disk of each moment in it is made by playing the calls up to there. Reads are not
//! recorded. Calls of several threads are recorded in the order in which they were carried out.

use parking_lot::Mutex;
use snapfs::device::{Device, DeviceError, Sim};
use std::sync::Arc;

/// One changing call.
#[derive(Clone, Debug)]
pub enum Call {
    Write { offset: u64, data: Arc<[u8]> },
    Flush,
    Back { offset: u64, len: u64 },
    Discard { offset: u64, len: u64 },
}

impl Call {
    /// Carries the call out on another disk in the same state.
    pub fn play(&self, sim: &Sim) {
        let done = match self {
            Call::Write { offset, data } => sim.write_at(*offset, data),
            Call::Flush => sim.flush(),
            // A host that could not back all of it has backed a part, here as there.
            Call::Back { offset, len } => sim.back(*offset, *len).or(Ok(())),
            Call::Discard { offset, len } => {
                sim.discard(*offset, *len);
                Ok(())
            }
        };
        done.expect("what worked once works again");
    }

    pub fn is_flush(&self) -> bool {
        matches!(self, Call::Flush)
    }
}

/// A simulated disk that keeps what was done to it.
pub struct Recorder {
    sim: Sim,
    tape: Mutex<Vec<Call>>,
}

impl Recorder {
    pub fn new(sim: Sim) -> Recorder {
        Recorder { sim, tape: Mutex::default() }
    }

    /// Calls so far.
    pub fn len(&self) -> u64 {
        self.tape.lock().len() as u64
    }

    /// The calls so far.
    pub fn tape(&self) -> Vec<Call> {
        self.tape.lock().clone()
    }

    fn record(
        &self,
        call: Call,
        carry_out: impl FnOnce() -> Result<(), DeviceError>,
    ) -> Result<(), DeviceError> {
        let mut tape = self.tape.lock();
        tape.push(call);
        carry_out()
    }
}

impl Device for Recorder {
    fn size(&self) -> u64 {
        self.sim.size()
    }
    fn read_at(&self, offset: u64, buf: &mut [u8]) -> Result<(), DeviceError> {
        self.sim.read_at(offset, buf)
    }
    fn write_at(&self, offset: u64, buf: &[u8]) -> Result<(), DeviceError> {
        self.record(Call::Write { offset, data: buf.into() }, || self.sim.write_at(offset, buf))
    }
    fn flush(&self) -> Result<(), DeviceError> {
        self.record(Call::Flush, || self.sim.flush())
    }
    fn back(&self, offset: u64, len: u64) -> Result<(), DeviceError> {
        self.record(Call::Back { offset, len }, || self.sim.back(offset, len))
    }
    fn discard(&self, offset: u64, len: u64) {
        let discard = || {
            self.sim.discard(offset, len);
            Ok(())
        };
        self.record(Call::Discard { offset, len }, discard).expect("a discard cannot fail");
    }
    fn available(&self) -> u64 {
        self.sim.available()
    }
    fn describe(&self) -> String {
        self.sim.describe()
    }
}
