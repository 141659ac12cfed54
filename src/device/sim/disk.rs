//! The disk: its calls, and what can be done to it.

use super::crash::{CrashPolicy, keep_shuffled, keep_some, tear};
use super::faults::{FaultKind, Persistence, Stray, Victim, Wrong};
use super::image::{Image, Unsynced};
use super::random::SplitMix;
use super::state::{SimState, failure};
use super::{Call, Op};
use crate::device::access::check_range;
use crate::device::{Counts, Device, DeviceError};
use parking_lot::Mutex;
use std::sync::Arc;

/// What never-written ranges read as, unless the maker of the disk chooses otherwise.
pub(super) const GARBAGE: u8 = 0xA5;

/// The simulated disk. Any thread may call; calls take turns.
#[derive(Debug)]
pub struct Sim {
    size: u64,
    state: Mutex<SimState>,
}

impl Sim {
    /// A disk of `size` bytes that nothing was written to: it reads as garbage.
    #[must_use]
    pub fn new(size: u64, seed: u64) -> Sim {
        Sim::with_fresh_content(size, seed, GARBAGE)
    }

    /// A disk of `size` bytes that reads as `fresh` where nothing was written.
    #[must_use]
    pub fn with_fresh_content(size: u64, seed: u64, fresh: u8) -> Sim {
        Sim::from_image(size, Image::new(fresh), size, seed)
    }

    fn from_image(size: u64, image: Image, space_limit: u64, seed: u64) -> Sim {
        Sim { size, state: Mutex::new(SimState::new(image, space_limit, seed)) }
    }

    /// The disk as it is found after the power failed now. This disk goes on unharmed, so that many crashes of one
    /// moment can be tried. The new one has no faults armed and its counters are zero.
    #[must_use]
    pub fn crash(&self, policy: CrashPolicy) -> Sim {
        let state = self.state.lock();
        let mut image = state.durable.clone();
        let mut random = SplitMix::new(match policy {
            CrashPolicy::KeepAll | CrashPolicy::DropAll => 0,
            CrashPolicy::Random(seed) | CrashPolicy::Shuffled(seed) => seed,
        });
        match policy {
            CrashPolicy::KeepAll => state.unsynced.iter().for_each(|change| image.apply(change)),
            CrashPolicy::DropAll => {}
            CrashPolicy::Random(_) => keep_some(&mut image, &state.unsynced, &mut random),
            CrashPolicy::Shuffled(_) => keep_shuffled(&mut image, &state.unsynced, &mut random),
        }
        Sim::from_image(self.size, image, state.space_limit, random.next())
    }

    /// A second disk in the same state, unsynced changes included. It has no faults armed and its counters are zero.
    #[must_use]
    pub fn clone_image(&self) -> Sim {
        let state = self.state.lock();
        let copy = Sim::from_image(self.size, state.durable.clone(), state.space_limit, state.random.peek());
        {
            let mut copied = copy.state.lock();
            copied.current = state.current.clone();
            copied.unsynced = state.unsynced.clone();
        }
        copy
    }

    /// Cuts the power at the `nth` changing call (write, flush, back or discard; the first after the disk was made is
    /// 1): that call is not carried out, and it and every call after it fail.
    pub fn set_crash_at(&self, nth: u64) {
        self.state.lock().crash_at = Some(nth);
    }

    /// Changing calls so far: the numbers that [`Sim::set_crash_at`] speaks of.
    #[must_use]
    pub fn changes(&self) -> u64 {
        self.state.lock().changes
    }

    /// Whether the power was cut.
    #[must_use]
    pub fn is_crashed(&self) -> bool {
        self.state.lock().crashed
    }

    /// Lets the `nth` call of `op` from now fail (1 is the next). A failing `back` reports want of space, the others
    /// an I/O error; a failing write may have written some sectors. A discard cannot fail.
    pub fn fail(&self, op: Op, nth: u64, persistence: Persistence) {
        let failure = if op == Op::Back { FaultKind::NoSpace } else { FaultKind::Io };
        self.state.lock().faults.fail(op, nth, persistence, failure);
    }

    /// As [`Sim::fail`], but the host says that it is full: what one that allocates late, or copies on write, may say to
    /// a write or a flush although the space was promised.
    pub fn fail_for_space(&self, op: Op, nth: u64, persistence: Persistence) {
        self.state.lock().faults.fail(op, nth, persistence, FaultKind::NoSpace);
    }

    /// Lets reads that touch the range fail until it is written again or discarded.
    pub fn make_unreadable(&self, offset: u64, len: u64) {
        self.state.lock().unreadable.insert(offset, offset + len);
    }

    /// Lets writes that touch the range report success and do nothing: it keeps its stale content.
    pub fn lose_writes(&self, offset: u64, len: u64, persistence: Persistence) {
        self.stray(Victim::Range(offset..offset + len), Stray::Lost, persistence);
    }

    /// Lets the `nth` write from now report success and do nothing.
    pub fn lose_nth_write(&self, nth: u64) {
        self.stray(Victim::Nth(nth), Stray::Lost, Persistence::Once);
    }

    /// Lets writes that touch the range report success and land at `to` instead.
    pub fn misdirect_writes(&self, offset: u64, len: u64, to: u64, persistence: Persistence) {
        self.stray(Victim::Range(offset..offset + len), Stray::Misdirected { to }, persistence);
    }

    /// Lets the `nth` write from now report success and land at `to` instead.
    pub fn misdirect_nth_write(&self, nth: u64, to: u64) {
        self.stray(Victim::Nth(nth), Stray::Misdirected { to }, Persistence::Once);
    }

    fn stray(&self, victim: Victim, stray: Stray, persistence: Persistence) {
        self.state.lock().faults.lead_astray(victim, stray, persistence);
    }

    /// Lets reads that touch the range return there what `older`, an earlier state of this disk, holds.
    pub fn read_stale(&self, offset: u64, len: u64, older: &Sim, persistence: Persistence) {
        let older = Wrong::Older(older.state.lock().current.clone());
        self.mislead(Victim::Range(offset..offset + len), older, persistence);
    }

    /// Lets the `nth` read from now return what `older`, an earlier state of this disk, holds.
    pub fn nth_read_is_stale(&self, nth: u64, older: &Sim) {
        let older = Wrong::Older(older.state.lock().current.clone());
        self.mislead(Victim::Nth(nth), older, Persistence::Once);
    }

    /// Lets reads that touch the range return there what lies from `from` on.
    pub fn misdirect_reads(&self, offset: u64, len: u64, from: u64, persistence: Persistence) {
        let elsewhere = Wrong::Elsewhere { shift: from.wrapping_sub(offset) };
        self.mislead(Victim::Range(offset..offset + len), elsewhere, persistence);
    }

    fn mislead(&self, victim: Victim, wrong: Wrong, persistence: Persistence) {
        self.state.lock().faults.answer_wrongly(victim, wrong, persistence);
    }

    /// Calls that failed or went astray because of a fault. An unreadable range is not counted.
    #[must_use]
    pub fn faults_struck(&self) -> u64 {
        self.state.lock().faults.struck
    }

    /// Changes what the host can back, in bytes. Ranges that are backed already stay so.
    pub fn set_space_limit(&self, limit: u64) {
        self.state.lock().space_limit = limit;
    }

    /// Changes every byte of the range, durably and without a trace.
    pub fn corrupt(&self, offset: u64, len: u64, seed: u64) {
        let mut random = SplitMix::new(seed);
        self.edit(offset, len, |byte| byte ^ (1 + random.below(255) as u8));
    }

    /// Flips bits of the byte at `offset`, durably and without a trace.
    pub fn flip(&self, offset: u64, mask: u8) {
        self.edit(offset, 1, |byte| byte ^ mask);
    }

    /// Sets the range to zeros, durably and without a trace.
    pub fn zero(&self, offset: u64, len: u64) {
        self.edit(offset, len, |_| 0);
    }

    fn edit(&self, offset: u64, len: u64, change: impl FnMut(u8) -> u8) {
        let state = &mut *self.state.lock();
        let mut bytes = vec![0; len as usize];
        state.current.read(offset, &mut bytes);
        let edited: Vec<u8> = bytes.into_iter().map(change).collect();
        state.current.write(offset, &edited);
        state.durable.write(offset, &edited);
    }

    /// What a read would return, without counting, failing or being recorded.
    #[must_use]
    pub fn peek(&self, offset: u64, len: u64) -> Vec<u8> {
        let mut bytes = vec![0; len as usize];
        self.state.lock().current.read(offset, &mut bytes);
        bytes
    }

    /// Calls since the disk was made, failed ones included. Calls after the power was cut do not count.
    #[must_use]
    pub fn counts(&self) -> Counts {
        self.state.lock().counts
    }

    /// Bytes that are backed.
    #[must_use]
    pub fn backed_bytes(&self) -> u64 {
        self.state.lock().current.backed.total()
    }

    /// Starts recording calls, forgetting what was recorded.
    pub fn start_recording(&self) {
        self.state.lock().record = Some(Vec::new());
    }

    /// The calls since [`Sim::start_recording`] or the last take; recording goes on.
    #[must_use]
    pub fn take_recording(&self) -> Vec<Call> {
        self.state.lock().record.as_mut().map(std::mem::take).unwrap_or_default()
    }
}

impl Device for Sim {
    fn size(&self) -> u64 {
        self.size
    }

    fn read_at(&self, offset: u64, buf: &mut [u8]) -> Result<(), DeviceError> {
        let len = buf.len() as u64;
        check_range(self, offset, len)?;
        let state = &mut *self.state.lock();
        state.enter(Op::Read, offset, len)?;
        if state.unreadable.touches(offset, offset + len) {
            return Err(failure("unreadable sector", Op::Read, offset, len));
        }
        state.current.read(offset, buf);
        if let Some((hit, wrong)) = state.faults.mislead(&(offset..offset + len)) {
            let part = &mut buf[(hit.start - offset) as usize..(hit.end - offset) as usize];
            match wrong {
                Wrong::Older(image) => image.read(hit.start, part),
                Wrong::Elsewhere { shift } => state.current.read(hit.start.wrapping_add(shift), part),
            }
        }
        Ok(())
    }

    fn write_at(&self, offset: u64, buf: &[u8]) -> Result<(), DeviceError> {
        let len = buf.len() as u64;
        check_range(self, offset, len)?;
        let state = &mut *self.state.lock();
        let change = Unsynced::Write { offset, data: buf.into() };
        if let Err(error) = state.enter(Op::Write, offset, len) {
            if !state.crashed && state.secure(offset, len).is_ok() {
                let mut torn = state.current.clone();
                tear(&mut torn, &change, &mut state.random);
                let mut data = vec![0; buf.len()];
                torn.read(offset, &mut data);
                state.carry_out(Unsynced::Write { offset, data: data.into() });
            }
            return Err(error);
        }
        let change = match state.faults.divert(&(offset..offset + len)) {
            None => change,
            Some(Stray::Lost) => return Ok(()),
            Some(Stray::Misdirected { to }) => {
                let room = self.size.saturating_sub(to).min(len) as usize;
                Unsynced::Write { offset: to, data: Arc::from(&buf[..room]) }
            }
        };
        // A host allocates at the write what was not backed before, if it can.
        state.secure(offset, len)?;
        state.unreadable.remove(offset, offset + len);
        state.carry_out(change);
        Ok(())
    }

    fn flush(&self) -> Result<(), DeviceError> {
        let state = &mut *self.state.lock();
        state.enter(Op::Flush, 0, 0)?;
        let mut space_changed = false;
        for change in state.unsynced.drain(..) {
            state.durable.adopt(&state.current, &change);
            space_changed |= !matches!(change, Unsynced::Write { .. });
        }
        if space_changed {
            state.durable.backed = state.current.backed.clone();
        }
        Ok(())
    }

    fn back(&self, offset: u64, len: u64) -> Result<(), DeviceError> {
        check_range(self, offset, len)?;
        let state = &mut *self.state.lock();
        state.enter(Op::Back, offset, len)?;
        state.secure(offset, len)
    }

    fn discard(&self, offset: u64, len: u64) {
        let len = offset.saturating_add(len).min(self.size).saturating_sub(offset);
        let state = &mut *self.state.lock();
        if len > 0 && state.enter(Op::Discard, offset, len).is_ok() {
            state.unreadable.remove(offset, offset + len);
            state.carry_out(Unsynced::Discard { offset, len });
        }
    }

    fn release(&self, offset: u64, len: u64) {
        let _advice = self.state.lock().enter(Op::Release, offset, len);
    }

    fn will_need(&self, offset: u64, len: u64) {
        let _advice = self.state.lock().enter(Op::WillNeed, offset, len);
    }

    fn available(&self) -> u64 {
        let state = self.state.lock();
        state.space_limit.saturating_sub(state.current.backed.total())
    }

    fn describe(&self) -> String {
        "simulated device".into()
    }
}
