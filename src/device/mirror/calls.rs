//! What each call of the device does to the sides of a mirror.

use super::copying::Passing;
use super::mirror::{Hands, Members, Mirror, SideRole, gone, is_serving, serving};
use super::parts::{PART_BYTES, WriteParts};
use super::side::MirrorSide;
use crate::device::access::check_range;
use crate::device::{Device, DeviceError, StoreLocation};
use crate::format::mark::FileBirth;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::SeqCst};
use std::time::{Duration, Instant};

impl Mirror {
    /// The side that a read is made on: of those that serve the one with the fewest calls, where each of a slow side counts for
    /// as many as the other makes in its time, unless that has answered nothing for as long as the slow one needs.
    fn reader(&self, members: &Members) -> Option<usize> {
        let serving = serving(members);
        let ([_, _], [Some(first), Some(second)]) = (&serving[..], members) else {
            return serving.first().copied();
        };
        let sides = [&first.side, &second.side];
        let mut factors = [sides[0].reads.factor(&sides[1].reads), sides[1].reads.factor(&sides[0].reads)];
        for n in 0..2 {
            if factors[n] > 1 && sides[1 - n].silent_for() > sides[n].reads.one() {
                factors[n] = 1;
            }
        }
        let calls = sides.map(|side| side.calls_under_way());
        let cost = |n: usize| (calls[n] + 1) * factors[n];
        let chosen = usize::from(cost(1) < cost(0));
        let other = 1 - chosen;
        let may_try = factors[other] > 1 && calls[other] == 0;
        Some(if may_try && sides[other].reads.is_tried_again() { other } else { chosen })
    }

    /// Reads of one side, of which the caller does not care.
    fn read_any(
        &self,
        members: &Members,
        offset: u64,
        buf: &mut [u8],
        others_too: bool,
    ) -> Result<(), DeviceError> {
        let mut first = None;
        let mut tried = [false; 2];
        while let Some(n) = self
            .reader(members)
            .filter(|n| !tried[*n])
            .or_else(|| serving(members).into_iter().find(|n| !tried[*n]))
        {
            match self.read_member(members, n, offset, buf) {
                Ok(()) => return Ok(()),
                Err(e) if !others_too && !is_late(&e) => return Err(e),
                Err(e) => first = first.or(Some(e)),
            }
            tried[n] = true;
        }
        Err(first.unwrap_or_else(gone))
    }

    fn read_member(
        &self,
        members: &Members,
        n: usize,
        offset: u64,
        buf: &mut [u8],
    ) -> Result<(), DeviceError> {
        let Some(member) = &members[n] else { return Err(gone()) };
        if serving(members) == [n] {
            return member.side.device.read_at(offset, buf);
        }
        let (len, pace) = (buf.len(), member.side.reads.clone());
        let bytes = self.on_member(members, n, move |device| {
            let (mut bytes, since) = (vec![0; len], Instant::now());
            device.read_at(offset, &mut bytes)?;
            pace.note(since.elapsed(), len);
            Ok(bytes)
        })?;
        buf.copy_from_slice(&bytes);
        Ok(())
    }

    /// What a side says of itself.
    fn ask_member<T: Send + 'static>(
        &self,
        members: &Members,
        n: usize,
        question: impl FnOnce(&dyn Device) -> Result<T, DeviceError> + Send + 'static,
    ) -> Result<T, DeviceError> {
        match &members[n] {
            Some(member) if serving(members) == [n] => question(&*member.side.device),
            _ => self.on_member(members, n, question),
        }
    }

    /// What the first of those that serve says of itself; the second, if the first does not answer in its time, and is lost.
    fn ask_one<T: Send + 'static>(
        &self,
        question: impl Fn(&dyn Device) -> T + Clone + Send + 'static,
    ) -> Option<T> {
        if let Some(side) = self.only() {
            return Some(question(&*side.device));
        }
        loop {
            let members = self.members.read().clone();
            let n = serving(&members).first().copied()?;
            let question = question.clone();
            match self.ask_member(&members, n, move |device| Ok(question(device))) {
                Ok(answer) => return Some(answer),
                // Each that does not answer is lost, so there is another one or none.
                Err(_) if self.members.read()[n].as_ref().is_none_or(|m| !m.side.is_there()) => {}
                Err(_) => return None,
            }
        }
    }

    /// What each of those that serve says of itself. Those that do not answer in their time are lost, and serve no more.
    fn ask_each<T: Send + 'static>(
        &self,
        question: impl Fn(&dyn Device) -> Result<T, DeviceError> + Clone + Send + 'static,
    ) -> Result<Vec<T>, DeviceError> {
        let members = self.members.read().clone();
        let mut answers = Vec::new();
        for n in serving(&members) {
            match self.ask_member(&members, n, question.clone()) {
                Ok(answer) => answers.push(answer),
                Err(e) if is_late(&e) => {}
                Err(e) => return Err(e),
            }
        }
        if answers.is_empty() { Err(gone()) } else { Ok(answers) }
    }

    /// Sides that get changes, or only those that a flush waits for.
    fn there(members: &Members, wanted: impl Fn(SideRole) -> bool) -> Vec<usize> {
        let is = |n: &usize| members[*n].as_ref().is_some_and(|m| m.side.is_there() && wanted(m.role));
        (0..2).filter(is).collect()
    }

    /// What of these ranges a side that serves lacks: see [`Device::lacks`].
    ///
    /// # Errors
    /// If it does not answer.
    pub fn lacks_on(&self, side: usize, ranges: Vec<(u64, u64)>) -> Result<Vec<(u64, u64)>, DeviceError> {
        self.on(side, move |device| Ok(device.lacks(&ranges)))
    }

    /// Has the host of one side promise space for a range of which that of the other has done so: see [`Device::back`]. A host that
    /// has no room does not lose its side.
    ///
    /// # Errors
    /// The side's.
    pub fn back_on(&self, side: usize, offset: u64, len: u64) -> Result<(), DeviceError> {
        self.on(side, move |device| device.back(offset, len))
    }

    /// Loses sides of which files were taken, or cut short, while another that serves has all that it had.
    fn lose_cut_down(&self, members: &Members, found: &[(usize, StoreLocation)]) {
        let mut is_lost = false;
        for (n, place) in found {
            if let (Some(member), Some(why)) = (&members[*n], &place.lost) {
                member.side.note_lost_content(true);
                is_lost |= self.lose(&member.side, why);
            }
        }
        if is_lost && let Err(e) = self.announce(&self.members.read()) {
            log::error!("mirror: it cannot be noted that a side has lost content: {e}");
        }
    }

    /// A call that changes something.
    fn change(
        &self,
        range: (u64, u64),
        call: impl Fn(&dyn Device) -> Result<(), DeviceError> + Clone + Send + 'static,
    ) -> Result<(), DeviceError> {
        let members = self.members.read();
        let there = Mirror::there(&members, |_| true);
        let _passing = self.pass_if_filling(&members, &there, range);
        self.all(&members, &there, Hands::OneIfSoonDone, call)
    }

    fn pass_if_filling(&self, members: &Members, there: &[usize], range: (u64, u64)) -> Option<Passing<'_>> {
        let is_filling = there.iter().any(|n| !is_serving(members, *n));
        is_filling.then(|| self.pass(range))
    }

    /// Writes much: what is to be written is copied for the other threads while they write what has been.
    fn write_large(&self, offset: u64, buf: &[u8]) -> Result<(), DeviceError> {
        let members = self.members.read();
        let there = Mirror::there(&members, |_| true);
        let _passing = self.pass_if_filling(&members, &there, (offset, buf.len() as u64));
        let parts = Arc::new(WriteParts::new(buf.len().div_ceil(PART_BYTES)));
        let mut copied = buf.chunks(PART_BYTES).map(Arc::<[u8]>::from);
        copied.next().into_iter().for_each(|part| parts.put(part));
        let replies = self.call_each(&members, &there, Hands::Two, |_| {
            let parts = parts.clone();
            move |device: &dyn Device| {
                let mut at = offset;
                (0..parts.count).try_for_each(|n| {
                    let part = parts.take(n);
                    device.write_at(at, &part)?;
                    at += part.len() as u64;
                    Ok(())
                })
            }
        });
        copied.for_each(|part| parts.put(part));
        self.judge(&members, replies)
    }

    /// The only side that is there.
    fn only(&self) -> Option<Arc<MirrorSide>> {
        lone(&self.members.read()).cloned()
    }

    fn first(&self) -> Option<Arc<MirrorSide>> {
        let members = self.members.read();
        let n = serving(&members).first().copied()?;
        members[n].as_ref().map(|m| m.side.clone())
    }
}

fn is_late(e: &DeviceError) -> bool {
    let kinds = [std::io::ErrorKind::TimedOut, std::io::ErrorKind::NotConnected];
    matches!(e, DeviceError::Io { source, .. } if kinds.contains(&source.kind()))
}

/// The only side, if there is one alone. The last that serves is never lost, so nothing more is asked.
fn lone(members: &Members) -> Option<&Arc<MirrorSide>> {
    match members {
        [Some(one), None] | [None, Some(one)] => Some(&one.side),
        _ => None,
    }
}

impl Device for Mirror {
    fn size(&self) -> u64 {
        self.size.load(SeqCst)
    }

    fn read_at(&self, offset: u64, buf: &mut [u8]) -> Result<(), DeviceError> {
        if let Some(side) = self.only() {
            return side.device.read_at(offset, buf);
        }
        let members = self.members.read().clone();
        self.read_any(&members, offset, buf, true)
    }

    fn read_one(&self, offset: u64, buf: &mut [u8]) -> Result<(), DeviceError> {
        if let Some(side) = self.only() {
            return side.device.read_at(offset, buf);
        }
        let members = self.members.read().clone();
        self.read_any(&members, offset, buf, false)
    }

    fn sides(&self) -> Vec<usize> {
        serving(&self.members.read())
    }

    fn is_mirror(&self) -> bool {
        let members = self.members.read();
        members.iter().all(Option::is_some) && is_serving(&members, 0) && is_serving(&members, 1)
    }

    fn read_side(&self, side: usize, offset: u64, buf: &mut [u8]) -> Result<(), DeviceError> {
        let members = self.members.read().clone();
        if side > 1 || !is_serving(&members, side) {
            return Err(gone());
        }
        self.read_member(&members, side, offset, buf)
    }

    fn write_side(&self, side: usize, offset: u64, buf: &[u8]) -> Result<(), DeviceError> {
        let members = self.members.read();
        if side > 1 || !is_serving(&members, side) {
            return Err(gone());
        }
        let data: Arc<[u8]> = buf.into();
        let written = self.on_member(&members, side, move |device| device.write_at(offset, &data));
        if let (Err(e), Some(member)) = (&written, &members[side]) {
            member.side.note_error(e);
        }
        written
    }

    fn leave_out(&self, side: usize, why: &str) -> bool {
        let member = self.members.read().get(side).cloned().flatten();
        member.is_none_or(|member| self.lose(&member.side, why))
    }

    fn reached(&self, epoch: u64, secs: i64) {
        self.reached.store(epoch, SeqCst);
        self.reached_secs.store(secs, SeqCst);
    }

    fn side_limit(&self) -> Option<Duration> {
        self.label().map(|_| self.limit())
    }

    fn set_side_limit(&self, limit: Duration) -> Result<(), DeviceError> {
        self.note_limit(limit)
    }

    fn write_at(&self, offset: u64, buf: &[u8]) -> Result<(), DeviceError> {
        check_range(self, offset, buf.len() as u64)?;
        let data = {
            let members = self.members.read();
            if let Some(side) = lone(&members) {
                return side.device.write_at(offset, buf);
            }
            if buf.len() > PART_BYTES {
                drop(members);
                return self.write_large(offset, buf);
            }
            Arc::<[u8]>::from(buf)
        };
        self.change((offset, buf.len() as u64), move |device| device.write_at(offset, &data))
    }

    fn flush(&self) -> Result<(), DeviceError> {
        self.flush_with(|device| device.flush())
    }

    fn flush_inherited(&self) -> Result<(), DeviceError> {
        self.flush_with(|device| device.flush_inherited())
    }

    fn back(&self, offset: u64, len: u64) -> Result<(), DeviceError> {
        match self.only() {
            Some(side) => side.device.back(offset, len),
            None => self.change((offset, len), move |device| device.back(offset, len)),
        }
    }

    fn discard(&self, offset: u64, len: u64) {
        match self.only() {
            Some(side) => side.device.discard(offset, len),
            None => {
                let call = move |device: &dyn Device| {
                    device.discard(offset, len);
                    Ok(())
                };
                let _best_effort = self.change((offset, len), call);
            }
        }
    }

    fn release(&self, offset: u64, len: u64) {
        match self.only() {
            Some(side) => side.device.release(offset, len),
            None => {
                let members = self.members.read().clone();
                for side in serving(&members).into_iter().filter_map(|n| members[n].as_ref()) {
                    side.side.send(move |device| device.release(offset, len));
                }
            }
        }
    }

    fn will_need(&self, offset: u64, len: u64) {
        if let Some(side) = self.only() {
            side.device.will_need(offset, len);
        } else {
            let members = self.members.read().clone();
            if let Some(member) = self.reader(&members).and_then(|n| members[n].as_ref()) {
                member.side.send(move |device| device.will_need(offset, len));
            }
        }
    }

    fn kept_parts(&self) -> Option<Vec<(u64, u64, u64)>> {
        if let Some(side) = self.only() {
            return side.device.kept_parts();
        }
        // Whoever asks was refused by each of them.
        let told = self.ask_each(|device| Ok(device.kept_parts())).ok()?;
        told.into_iter().flatten().reduce(|a, b| kept_by_both(&a, &b))
    }

    fn stored(&self) -> Vec<(u64, u64)> {
        merged(self.ask_each(|device| Ok(device.stored())).unwrap_or_default().concat())
    }

    fn all_stored(&self) -> Result<Vec<(u64, u64)>, DeviceError> {
        Ok(merged(self.ask_each(|device| device.all_stored())?.concat()))
    }

    fn available(&self) -> u64 {
        if let Some(side) = self.only() {
            return side.device.available();
        }
        let least = Arc::new(AtomicU64::new(u64::MAX));
        let noted = least.clone();
        let members = self.members.read().clone();
        let asked = self.all(&members, &serving(&members), Hands::OneIfSoonDone, move |device| {
            noted.fetch_min(device.available(), SeqCst);
            Ok(())
        });
        if asked.is_ok() { least.load(SeqCst) } else { 0 }
    }

    fn describe(&self) -> String {
        if let Some(side) = self.only() {
            return side.device.describe();
        }
        self.first().map_or_else(|| "a mirror without sides".into(), |side| side.place().to_owned())
    }

    fn location(&self) -> StoreLocation {
        if let Some(side) = self.only() {
            return side.device.location();
        }
        let members = self.members.read().clone();
        let there = Mirror::there(&members, |_| true).into_iter();
        let located = |n| Some((n, self.ask_member(&members, n, |device| Ok(device.location())).ok()?));
        let found: Vec<_> = there.filter_map(located).collect();
        let mut places = found.iter().filter(|(n, _)| is_serving(&members, *n)).map(|(_, place)| place);
        let Some(whole) = places.clone().find(|place| place.lost.is_none()) else {
            return places.next().cloned().unwrap_or_default();
        };
        self.lose_cut_down(&members, &found);
        whole.clone()
    }

    fn birth(&self, offset: u64) -> Option<FileBirth> {
        self.ask_one(move |device| device.birth(offset)).flatten()
    }

    fn limit_met(&self) -> Option<String> {
        let told = self.ask_each(|device| Ok(device.limit_met()));
        told.unwrap_or_default().into_iter().flatten().next()
    }
}

impl Mirror {
    fn flush_with(
        &self,
        flush: impl Fn(&dyn Device) -> Result<(), DeviceError> + Clone + Send + 'static,
    ) -> Result<(), DeviceError> {
        let members = self.members.read();
        let there = Mirror::there(&members, |role| role != SideRole::Target);
        match there[..] {
            [n] => match &members[n] {
                Some(member) => flush(&*member.side.device)?,
                None => return Err(gone()),
            },
            _ => self.all(&members, &there, Hands::OneIfSoonDone, flush)?,
        }
        self.announce(&members)
    }
}

/// Where any of these ranges is.
fn merged(mut all: Vec<(u64, u64)>) -> Vec<(u64, u64)> {
    all.sort_unstable();
    all.into_iter().fold(Vec::new(), |mut merged: Vec<(u64, u64)>, (start, len)| {
        match merged.last_mut() {
            Some((at, had)) if *at + *had >= start => *had = (*had).max(start + len - *at),
            _ => merged.push((start, len)),
        }
        merged
    })
}

/// What both keep of each part of which both tell: as much as the one that keeps less, as what is written is on both.
fn kept_by_both(a: &[(u64, u64, u64)], b: &[(u64, u64, u64)]) -> Vec<(u64, u64, u64)> {
    let mut both = Vec::new();
    let mut rest = b;
    for (start, len, kept) in a.iter().copied() {
        let end = start + len;
        // Ascending: what ends before this one begins is of use to none that follows.
        let passed = rest.iter().take_while(|(at, len, _)| at + len <= start).count();
        rest = &rest[passed..];
        let meets = rest.iter().take_while(|(at, ..)| *at < end);
        both.extend(meets.map(|(at, other_len, other)| {
            let (from, to) = (start.max(*at), end.min(at + other_len));
            (from, to - from, kept.min(*other))
        }));
    }
    both
}
