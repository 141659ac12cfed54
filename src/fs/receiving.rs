//! Receiving: a stream becomes a snapshot here, all at once and proved, or nothing.
//!
//! Until it is whole it is in a line that nobody sees, with how far it is; so whatever cuts it off, it goes on where it was, and
//! if nobody goes on it goes by itself after some days. Nothing else is left anywhere.

use super::error::damaged;
use super::file_system::Fs;
use super::past::{AtWork, Published, Unfit, arrival_key, arrival_name};
use super::stream::{Incoming, PacketReader, Result, StreamError, begin_as_base, prove, take_in};
use crate::format::line::{LineRecord, LineState};
use crate::format::provenance::Provenance;
use crate::format::stream::{Against, ArrivalRecord, PacketKind, StreamBegin, StreamEnd};
use crate::format::terms::{Expiry, Terms};
use crate::format::{Identity, Ino, LineId};
use crate::names;
use crate::ops::Error;
use crate::volume::{NewSnapshot, ReceivedAs, ReserveFor, SnapshotInfo, View, VolumeError};
use std::collections::HashMap;
use std::io::Read;
use std::sync::Arc;

/// For so long a line waits for the rest of what it receives, and what is sent is held for the rest of it, in seconds.
pub const KEPT_SECS: u64 = 7 * 24 * 3600;
/// When less than this is left of it, it is made that long again by what comes.
const LEFT_SECS: u64 = KEPT_SECS - 24 * 3600;

/// How something is to be received.
#[derive(Clone, Copy, Default)]
pub struct ReceiveOrder<'o> {
    /// As a line of its own of that name.
    pub as_line: Option<&'o [u8]>,
    /// By whom, where it is known.
    pub user: Option<u32>,
}

/// What was received.
#[derive(Clone, Debug)]
pub struct ReceivedSnapshot {
    /// The snapshot.
    pub snapshot: SnapshotInfo,
    /// The line that it is of: a clone by its name, nothing for the main line.
    pub line: Vec<u8>,
    /// It had been received before, and nothing was done.
    pub was_here: bool,
    /// Bytes of the stream that were read.
    pub bytes: u64,
}

/// Something that is being received, or was cut off.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Arrival {
    /// Its line.
    pub line: LineRecord,
    /// What it is, and how far.
    pub record: ArrivalRecord,
    /// Somebody receives it now.
    pub is_active: bool,
}

impl Arrival {
    /// What says to whoever sends it where to go on.
    pub fn token(&self) -> String {
        format!("{}:{}", self.record.begin.stream(), self.record.next)
    }
}

/// A token as [`Arrival::token`] makes it.
pub fn parse_token(text: &str) -> Option<(Identity, u64)> {
    let (stream, next) = text.split_once(':')?;
    Some((Identity::parse(stream)?, next.parse().ok()?))
}

/// Where something that is received goes.
struct Destination {
    /// The clone that it becomes.
    name: Option<Vec<u8>>,
    /// The line whose head it becomes.
    line: LineId,
    base: Option<(SnapshotInfo, Arc<View>, u128)>,
    /// The head of that line, if it was found to be as the base and has other places for its content.
    head: Option<View>,
}

impl Destination {
    fn received_as(&self) -> ReceivedAs<'_> {
        self.name.as_deref().map_or(ReceivedAs::HeadOf(self.line), ReceivedAs::Line)
    }
}

fn refused<T>(why: String) -> Result<T> {
    Err(StreamError::Refused(why))
}

/// Reads the first packet of a stream that is for a store which has nothing, and returns its bytes, which are to come first when
/// that is received.
///
/// # Errors
/// If it is none, or it cannot be received there.
pub fn first_of(input: &mut dyn Read) -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    let mut tee = Tee { input, bytes: &mut bytes };
    let mut reader = PacketReader::new(&mut tee);
    let (_, _, first) = reader.next()?;
    let begin = StreamBegin::decode(&first).map_err(|e| reader.bad(e))?;
    if begin.against == Against::Nothing && begin.goes_on_at <= 1 {
        return Ok(bytes);
    }
    let name = names::shown_bytes(&begin.name);
    if begin.against == Against::Nothing {
        return refused(format!(
            "'{name}' goes on here where it was cut off, and nothing of it is here: send all of it, without --resume"
        ));
    }
    let base = names::shown_bytes(&begin.base_name);
    refused(format!(
        "'{name}' is told against '{base}', and there is no store here yet: send all of it, without --from"
    ))
}

/// Keeps what is read.
struct Tee<'t> {
    input: &'t mut dyn Read,
    bytes: &'t mut Vec<u8>,
}

impl Read for Tee<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let len = self.input.read(buffer)?;
        self.bytes.extend_from_slice(&buffer[..len]);
        Ok(len)
    }
}

impl Fs {
    /// Receives a stream: durable and whole when this returns. On an error nothing of it is to be seen; what is proved of it
    /// waits for the rest, if that may come. `progress` is told the bytes so far.
    pub fn receive(
        &self,
        input: &mut dyn Read,
        order: &ReceiveOrder<'_>,
        progress: &mut dyn FnMut(&StreamBegin, u64),
    ) -> Result<ReceivedSnapshot> {
        self.receive_while(input, order, progress, &mut || true)
    }

    /// The same. When all has come, `goes_on` is asked while that is proved: if it says no, all waits as what was cut off does.
    pub fn receive_while(
        &self,
        input: &mut dyn Read,
        order: &ReceiveOrder<'_>,
        progress: &mut dyn FnMut(&StreamBegin, u64),
        goes_on: &mut dyn FnMut() -> bool,
    ) -> Result<ReceivedSnapshot> {
        self.heads.check_writable()?;
        let mut reader = PacketReader::new(input);
        let (_, _, first) = reader.next()?;
        let begin = StreamBegin::decode(&first).map_err(|e| reader.bad(e))?;
        let (stream, volume) = (begin.stream(), &self.heads.volume);
        let Some(at_work) = self.past.arriving.begin(&[stream, begin.identity]) else {
            return refused(
                "this snapshot is being received already, or what has come of it is given up at this moment"
                    .into(),
            );
        };
        if let Some(snapshot) = volume.find_identity(begin.identity) {
            self.refuse_hollow(&snapshot)?;
            self.give_up_rest(&begin, &at_work);
            let line = volume.line(snapshot.line)?.name;
            return Ok(ReceivedSnapshot { snapshot, line, was_here: true, bytes: reader.offset });
        }
        let mut to = self.destination(&begin, order)?;
        let (line, mut record) = self.arrival_line(&begin, &to, order.user)?;
        // Nothing is held up by it while the stream comes.
        to.head = None;
        if begin.goes_on_at > record.next {
            self.give_up_if_empty(&line, &record, &at_work);
            return refused(format!(
                "the stream goes on at packet {}, and {} are here: send it with --resume {stream}:{}",
                begin.goes_on_at, record.next, record.next
            ));
        }
        reader.go_on(stream, begin.goes_on_at);
        let done = self.take_all(&mut reader, (&line, &to), &mut record, progress);
        match done {
            Ok(end) => {
                let received = self.finish(&reader, (&line, &to), (&begin, &end), goes_on, &at_work)?;
                self.give_up_rest(&begin, &at_work);
                Ok(received)
            }
            Err(e) => {
                self.give_up_if_empty(&line, &record, &at_work);
                Err(e)
            }
        }
    }

    /// Refuses, without any change, what a stream that begins so would be refused for, or would not have the room for.
    pub fn offer(&self, begin: &StreamBegin, order: &ReceiveOrder<'_>) -> Result<()> {
        self.heads.check_writable()?;
        let volume = &self.heads.volume;
        if let Some(snapshot) = volume.find_identity(begin.identity) {
            return self.refuse_hollow(&snapshot);
        }
        self.destination(begin, order)?;
        let has = |arrival: Arrival| {
            (arrival.record.begin.stream() == begin.stream()).then_some(arrival.record.received_bytes)
        };
        let here: u64 = self.arrivals().into_iter().filter_map(has).sum();
        let (wanted, room) = (begin.about_bytes.saturating_sub(here), volume.space_with_freed().available);
        if wanted > room {
            return refused(format!("about {wanted} bytes are to come, and there is room for {room}"));
        }
        Ok(())
    }

    /// What lacks content that was purged here is no copy of what is sent, and what is sent would bring that content back.
    fn refuse_hollow(&self, here: &SnapshotInfo) -> Result<()> {
        if !self.lacks_content(here)? {
            return Ok(());
        }
        let name = names::shown_bytes(&here.name);
        refused(format!(
            "'{name}' is here, and content was purged from it: it is no copy of all that is sent; delete it here to have it \
             received with that content"
        ))
    }

    /// What is being received, or waits for the rest.
    pub fn arrivals(&self) -> Vec<Arrival> {
        let volume = &self.heads.volume;
        let lines = volume.lines().into_iter().filter(|line| line.state == LineState::Receiving);
        let arrival = |line: LineRecord| {
            let record = self.how_far(&line).unwrap_or_else(|e| {
                log::warn!("how far something is that is being received cannot be read: {e}");
                None
            })?;
            let is_active = self.past.arriving.has(record.begin.stream());
            Some(Arrival { line, record, is_active })
        };
        lines.filter_map(arrival).collect()
    }

    /// What is being received in a line, and how far it is; none if nothing has come.
    fn how_far(&self, line: &LineRecord) -> std::result::Result<Option<ArrivalRecord>, VolumeError> {
        let Some(item) = self.heads.volume.live(line.id)?.get(&arrival_key())? else { return Ok(None) };
        ArrivalRecord::decode(&item).map(Some).map_err(|e| damaged(Ino::ARRIVAL, e))
    }

    /// Gives up what was received of a stream. False if there is nothing, or somebody receives it now.
    pub fn drop_arrival(&self, stream: Identity) -> Result<bool> {
        let Some(at_work) = self.past.arriving.begin(&[stream]) else { return Ok(false) };
        // By its name: how far it is need not be known for that.
        let line = self.heads.volume.find_line(&arrival_name(stream));
        let Some(line) = line.filter(|line| line.state == LineState::Receiving) else { return Ok(false) };
        self.past.give_up(&line, &at_work)?;
        Ok(true)
    }

    /// A snapshot is here: what has come of it besides, in this stream or another, is of no use any more.
    fn give_up_rest(&self, begin: &StreamBegin, at_work: &AtWork<'_>) {
        let rest = self.arrivals().into_iter().filter(|a| a.record.begin.identity == begin.identity);
        for arrival in rest {
            let done = match arrival.record.begin.stream() == begin.stream() {
                true => self.past.give_up(&arrival.line, at_work),
                false => self.past.give_up_as_seen(&arrival.line).map(drop),
            };
            done.unwrap_or_else(|e| log::debug!("what has come of a snapshot that is here stays: {e}"));
        }
    }

    /// While it comes it is kept: what is said of that is renewed once a day, and when the time of day was set.
    fn keep_arrival(&self, line: LineId) -> Result<()> {
        let (volume, now) = (&self.heads.volume, self.heads.clock.now().secs);
        let ends = volume.line(line)?.terms.expiry.map_or(now, |expiry| expiry.at);
        let [least, at] = [LEFT_SECS, KEPT_SECS].map(|secs| now.saturating_add_unsigned(secs));
        if !(least..=at).contains(&ends) {
            volume.set_terms(line, |terms| terms.expiry = Some(Expiry { after: KEPT_SECS, at }))?;
        }
        Ok(())
    }

    /// What nothing was received of leaves nothing.
    fn give_up_if_empty(&self, line: &LineRecord, record: &ArrivalRecord, at_work: &AtWork<'_>) {
        if record.next <= 1
            && let Err(e) = self.past.give_up(line, at_work)
        {
            log::debug!("a line that was to receive something stays: {e}");
        }
    }

    /// Where a stream goes; refused before anything is received if that cannot be.
    fn destination(&self, begin: &StreamBegin, order: &ReceiveOrder<'_>) -> Result<Destination> {
        let to = self.place_for(begin, order)?;
        let base = to.base.as_ref();
        let new = (&begin.name[..], begin.provenance.reason);
        let shown = names::shown_bytes(&begin.name);
        match self.past.check_receiving(new, base.map(|(base, ..)| base.id), to.name.as_deref()) {
            Ok(()) => Ok(to),
            Err(Unfit::Name) => refused(format!("no snapshot can be called '{shown}'")),
            Err(Unfit::InPast) => refused(format!(
                "what '{shown}' is told against is called '{}' here, and that or an older snapshot has the name '{shown}': \
                 rename that first",
                base.map_or(String::new(), |(base, ..)| names::shown_bytes(&base.name))
            )),
            Err(Unfit::Clone(e)) => {
                let name = names::shown_bytes(to.name.as_deref().unwrap_or_default());
                let advice =
                    if order.as_line.is_some() { "" } else { ": receive --as NAME gives it another name" };
                refused(match e {
                    Error::Exists => format!("a clone called '{name}' is here already{advice}"),
                    Error::Invalid | Error::NameTooLong => format!(
                        "what comes would be a clone, and '{name}' is no name for one (1 to 255 bytes, no '/', not beginning \
                         with '.' or '@'){advice}"
                    ),
                    Error::LimitReached => {
                        "there are as many clones as there may be (clones_max): drop one, or allow more"
                            .into()
                    }
                    e => return Err(e.into()),
                })
            }
        }
    }

    fn place_for(&self, begin: &StreamBegin, order: &ReceiveOrder<'_>) -> Result<Destination> {
        let volume = &self.heads.volume;
        let shown = names::shown_bytes(&begin.name);
        let base = match begin.base {
            None => None,
            Some(identity) => {
                let Some(found) = volume.find_identity(identity) else { return self.no_base(begin) };
                let (view, sum) = (volume.snapshot(found.id)?, self.digest_of(&found)?);
                Some((found, view, sum))
            }
        };
        if let Some(name) = order.as_line {
            return Ok(Destination { name: Some(name.to_vec()), line: LineId::MAIN, base, head: None });
        }
        let line = base.as_ref().map_or(LineId::MAIN, |(base, ..)| base.line);
        let live = volume.live(line)?;
        let untouched = self.past.is_untouched(&live, base.as_ref().map(|(_, view, _)| &**view))?;
        let is_new = volume.snapshot_count(line) == 0 && volume.clone_count().0 == 0;
        if let Some((of, ..)) = &base {
            let place = match volume.line(line)?.name {
                name if name.is_empty() => "the main line".to_string(),
                name => format!("the clone '{}'", names::shown_bytes(&name)),
            };
            if !untouched {
                return refused(format!(
                    "{place} has changed since '{}', which '{shown}' is told against: roll it back to that, or receive \
                     --as NAME, as a clone of its own",
                    names::shown_bytes(&of.name)
                ));
            }
            let other = volume.find_snapshot(line, &begin.name).is_some();
            if other && !volume.has_in_past(of.id, &begin.name) {
                return refused(format!(
                    "{place} has another snapshot called '{shown}': rename it, or receive --as NAME, as a clone of its own"
                ));
            }
            let is_moved =
                volume.knows_homes() && base.as_ref().is_some_and(|(_, base, _)| !base.is_same_tree(&live));
            return Ok(Destination { name: None, line, base, head: is_moved.then_some(live) });
        }
        if is_new && untouched {
            return Ok(Destination { name: None, line, base, head: None });
        }
        Ok(Destination { name: Some(begin.name.clone()), line, base, head: None })
    }

    /// Says which base is wanted, and which snapshot that is here comes nearest: of those that the line has where it is sent, for
    /// what is newer here may be of another past.
    fn no_base<T>(&self, begin: &StreamBegin) -> Result<T> {
        let volume = &self.heads.volume;
        let lines: Vec<_> = volume.lines().into_iter().filter(|line| line.state.is_shown()).collect();
        let all = lines.iter().flat_map(|line| volume.own_snapshots(line.id));
        let whole = all.filter(|s| s.edited.is_none());
        let here: HashMap<Identity, SnapshotInfo> =
            whole.filter_map(|s| Some((volume.identity(s.id)?, s))).collect();
        let nearest = begin.older.iter().find_map(|identity| Some((identity, here.get(identity)?)));
        let nearest = match nearest {
            Some((identity, s)) => {
                let name = names::shown_bytes(&s.name);
                format!("the nearest that is here is '{name}' ({identity}): send --from it")
            }
            None => "no older snapshot of its line is here: send all of it, without --from".into(),
        };
        let wanted = begin.base.map_or(String::new(), |base| base.to_string());
        refused(format!(
            "'{}' is told against '{}' ({wanted}), which is not here; {nearest}",
            names::shown_bytes(&begin.name),
            names::shown_bytes(&begin.base_name),
        ))
    }

    /// The line in which a stream is received, and how far it is: a new one, or that of an earlier try.
    fn arrival_line(
        &self,
        begin: &StreamBegin,
        to: &Destination,
        user: Option<u32>,
    ) -> Result<(LineRecord, ArrivalRecord)> {
        let by = Provenance { user, ..Provenance::default() };
        let (volume, now) = (&self.heads.volume, self.heads.clock.now());
        let name = arrival_name(begin.stream());
        let at = now.secs.saturating_add_unsigned(KEPT_SECS);
        let expiry = Some(Expiry { after: KEPT_SECS, at });
        // What the line has besides is of no use any more.
        let begin = StreamBegin { older: Vec::new(), ..begin.clone() };
        let fresh = ArrivalRecord { begin, next: 1, received_bytes: 0 };
        if let Some(line) = volume.find_line(&name) {
            volume.set_terms(line.id, |terms| terms.expiry = expiry)?;
            if let Some(begun) = self.how_far(&line)? {
                return Ok((line, begun));
            }
            if self.begins_as_base(&line, to)? {
                return Ok((line, fresh));
            }
            volume.drop_line(line.id)?;
        }
        if !volume.knows_compression() {
            // What comes may be compressed, and is stored as it is.
            volume.allow_compression()?;
            self.commits.commit()?;
        }
        self.past.have_room_ahead(ReserveFor::Write, &[])?;
        let no_commit = self.commits.hold_off();
        let terms = Terms { expiry, ..Terms::default() };
        let (from, created) = (to.base.as_ref().map(|(base, ..)| base.id), (now.secs, now.nanos));
        if let (Some(head), Some(base)) = (&to.head, from)
            && let Some(line) =
                volume.begin_receiving_in(&name, (to.line, head), base, (created, &by), terms)?
        {
            drop(no_commit);
            if self.begins_as_base(&line, to)? {
                return Ok((line, fresh));
            }
            volume.drop_line(line.id)?;
            let _no_commit = self.commits.hold_off();
            let line = volume.begin_receiving(&name, from, created, terms, &by)?;
            return Ok((line, fresh));
        }
        let line = volume.begin_receiving(&name, from, created, terms, &by)?;
        drop(no_commit);
        Ok((line, fresh))
    }

    /// Makes a line into which nothing was received yet what the base is, whatever it began as. False if that cannot be: then it
    /// is of no use.
    fn begins_as_base(&self, line: &LineRecord, to: &Destination) -> Result<bool> {
        let Some((_, base, sum)) = &to.base else { return Ok(true) };
        begin_as_base(&self.past, line.id, base)?;
        let live = self.heads.volume.live(line.id)?;
        match prove(Some((&**base, *sum)), &live, &mut || true, &StreamError::Refused) {
            Ok(found) => Ok(found == *sum),
            Err(StreamError::Refused(what)) => {
                log::warn!("what is received does not begin as the line is: {what}");
                Ok(false)
            }
            Err(e) => Err(e),
        }
    }

    /// Takes in all packets but the last.
    fn take_all(
        &self,
        reader: &mut PacketReader<'_>,
        (line, to): (&LineRecord, &Destination),
        record: &mut ArrivalRecord,
        progress: &mut dyn FnMut(&StreamBegin, u64),
    ) -> Result<StreamEnd> {
        let base = to.base.as_ref().map(|(_, view, _)| &**view);
        let into = Incoming { past: &self.past, line: line.id, base };
        loop {
            let (kind, number, payload) = reader.next()?;
            match kind {
                PacketKind::Changes if number < record.next => {}
                PacketKind::Changes => {
                    let received_bytes = record.received_bytes + payload.len() as u64;
                    let next =
                        ArrivalRecord { begin: record.begin.clone(), next: number + 1, received_bytes };
                    take_in(&into, &payload, &next, &|what| reader.bad(what))?;
                    *record = next;
                    self.keep_arrival(line.id)?;
                    progress(&record.begin, received_bytes);
                }
                PacketKind::End if number < record.next => {
                    return Err(reader.bad("the stream ends before what was received of it"));
                }
                PacketKind::End => return StreamEnd::decode(&payload).map_err(|e| reader.bad(e)),
                PacketKind::Begin => return Err(reader.bad("a stream begins in another")),
            }
        }
    }

    /// Proves what was received, and makes it part of the store.
    fn finish(
        &self,
        reader: &PacketReader<'_>,
        (line, to): (&LineRecord, &Destination),
        (begin, end): (&StreamBegin, &StreamEnd),
        goes_on: &mut dyn FnMut() -> bool,
        at_work: &AtWork<'_>,
    ) -> Result<ReceivedSnapshot> {
        let volume = &self.heads.volume;
        let base = to.base.as_ref().map(|(_, view, sum)| (&**view, *sum));
        let bad = |what: String| reader.bad(what);
        let proved = prove(base, &volume.live(line.id)?, goes_on, &bad).and_then(|digest| {
            if digest == end.digest {
                Ok(digest)
            } else {
                Err(bad("what was received is not what was sent".into()))
            }
        });
        let digest = match proved {
            Ok(digest) => digest,
            Err(e @ StreamError::Bad(..)) => {
                // It will not get better by going on.
                self.past.give_up(line, at_work)?;
                return Err(e);
            }
            Err(e) => return Err(e),
        };
        let new = NewSnapshot {
            name: &begin.name,
            created: begin.created,
            consistency: begin.consistency,
            provenance: &begin.provenance,
            pause_ns: &|| 0,
            identity: Some(begin.identity),
        };
        let base_id = to.base.as_ref().map(|(base, ..)| base.id);
        match self.past.publish_received(line, base_id, to.received_as(), &new)? {
            Published::Done(id) => {
                volume.keep_digest(id, digest);
                let snapshot = volume.snapshot_info(id).ok_or(Error::Stale)?;
                let line = volume.line(snapshot.line)?.name;
                Ok(ReceivedSnapshot { snapshot, line, was_here: false, bytes: reader.offset })
            }
            Published::Moved => refused(
                "the line has changed while the stream came: all of it is here, and receiving it once more --as NAME makes \
                 it a clone of its own"
                    .into(),
            ),
            Published::InUse(found) => {
                let paths = found.written.iter().filter_map(|(_, path)| path.as_deref());
                let paths: Vec<_> = paths.map(names::shown_bytes).collect();
                refused(format!(
                    "files of the line are open for writing, or file systems are mounted in it, and it cannot get what was \
                     received: {}",
                    paths.join(", ")
                ))
            }
        }
    }
}
