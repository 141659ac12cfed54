//! What a side has that went on by itself, received as snapshots before the side is overwritten.
//!
//! The side is opened as it would be mounted, with what is written to it kept in memory, so it stays as it is. Each of its
//! lines that has something of its own becomes a line here that nobody changes. What was received once is known again, so a
//! try that was cut off goes on where it was.

use super::lost_changes;
use super::refusal::{told, told_name, told_volume};
use super::streaming;
use crate::clock::Clock;
use crate::ctl::{Code, Failure};
use crate::device::{Device, Overlay};
use crate::format::line::LineState;
use crate::format::view::Consistency;
use crate::format::{Epoch, Identity, Key, LineId, ViewId};
use crate::fs::{Fs, FsOptions, Provenance, ReceiveOrder, SendOrder, StreamError};
use crate::limits::SNAPSHOT_NAME_BYTES_MAX;
use crate::names;
use crate::volume::{Access, ContentSet, NewSnapshot, OpenOptions, SnapshotInfo, Volume, VolumeError};
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::sync::Arc;

const CACHE_BYTES: usize = 16 << 20;
/// What the live tree of a side is called.
const LIVE_NAME: &[u8] = b"live";

/// A side that went on by itself, beside the store that stays.
pub(super) struct SideChanges<'f> {
    ours: &'f Fs,
    theirs: Arc<Fs>,
    /// Where the side is.
    path: &'f Path,
    /// What both had when they parted; 0 if that is not known.
    parted_at: Epoch,
    /// All that the side has of its own, oldest first.
    snapshots: Vec<SnapshotInfo>,
    /// What of these was made just now.
    heads: BTreeSet<ViewId>,
}

/// Where a snapshot goes.
struct KeptAs {
    /// What it is told against, as the side has it.
    base: Option<SnapshotInfo>,
    line: Vec<u8>,
    /// The line is not there yet.
    is_new: bool,
    name: Vec<u8>,
}

/// What was received, or would be.
pub(super) struct KeptSnapshot {
    name: Vec<u8>,
    line: Vec<u8>,
    bytes: u64,
}

impl<'f> SideChanges<'f> {
    /// Looks at a side. Nothing is written to it.
    pub(super) fn open(
        ours: &'f Fs,
        (path, device): (&'f Path, Arc<dyn Device>),
        parted_at: Epoch,
    ) -> Result<SideChanges<'f>, Failure> {
        SideChanges::read(ours, (path, device), parted_at).map_err(|f| unreadable(path, &f))
    }

    fn read(
        ours: &'f Fs,
        (path, device): (&'f Path, Arc<dyn Device>),
        parted_at: Epoch,
    ) -> Result<SideChanges<'f>, Failure> {
        let options = OpenOptions { access: Access::ReadWrite, cache_bytes: CACHE_BYTES };
        let volume =
            Volume::open(Arc::new(Overlay::new(device)), options).map_err(|e| told_volume(path, &e))?;
        let theirs = Fs::open(volume, FsOptions::default(), Clock::System).map_err(|e| told(path, &e))?;
        let mut found =
            SideChanges { ours, theirs, path, parted_at, snapshots: Vec::new(), heads: BTreeSet::new() };
        found.look()?;
        Ok(found)
    }

    /// What would be lost, in words.
    pub(super) fn told(&self) -> String {
        lost_changes::told(&self.theirs, self.ours, self.parted_at.0, &self.heads)
    }

    /// Bytes that receiving it takes, about: what came of a try that was cut off is here.
    pub(super) fn about_bytes(&self) -> u64 {
        let mut lines = BTreeSet::new();
        let bytes = |s: &SnapshotInfo| match lines.insert(s.line) && self.base_of(s).is_none() {
            true => s.referenced.max(s.written),
            false => s.written,
        };
        let all: u64 = self.snapshots.iter().map(bytes).sum();
        let identities: Vec<_> =
            self.snapshots.iter().filter_map(|s| self.theirs.volume().identity(s.id)).collect();
        let arrivals = self.ours.arrivals().into_iter().map(|arrival| arrival.record);
        let here = arrivals.filter(|record| identities.contains(&record.begin.identity));
        all.saturating_sub(here.map(|record| record.received_bytes).sum())
    }

    /// Refuses what would bring back here what was purged here, or what is no whole snapshot there any more.
    fn refuse_purged(&self) -> Result<(), Failure> {
        let (theirs, ours) = (self.theirs.volume(), self.ours.volume());
        let (failed, failed_here) = (|e| self.failed(&e), |e| told(Path::new("the store that stays"), &e));
        let streamed = |e| streaming::failure(self.path, &e);
        let mut purged = ContentSet::default();
        let lines = theirs.lines().into_iter().filter(|line| line.state.is_shown());
        for there in lines.flat_map(|line| theirs.own_snapshots(line.id)) {
            let Some(here) = theirs.identity(there.id).and_then(|i| ours.find_identity(i)) else { continue };
            if self.ours.lacks_content(&here).map_err(streamed)? {
                let view = ours.snapshot(here.id).map_err(|e| failed_here(e.into()))?;
                let files = view.purged_files().map_err(|e| failed_here(e.into()))?;
                let view = theirs.snapshot(there.id).map_err(failed)?;
                view.add_content_of(&files, &mut purged).map_err(failed)?;
            }
        }
        for own in &self.snapshots {
            let view = theirs.snapshot(own.id).map_err(failed)?;
            let what = match () {
                () if self.theirs.lacks_content(own).map_err(streamed)? => {
                    "lacks content that was purged there"
                }
                () if view.has_some_of(&purged).map_err(failed)? => "has content that was purged here",
                () => continue,
            };
            let (place, name) = (names::shown(self.path), names::shown_bytes(&own.name));
            let (whose, way) = match self.heads.contains(&own.id) {
                true => ("its live tree".to_string(), "mount it and delete the files there"),
                false => (format!("its snapshot {name}"), "mount it and delete the snapshot there"),
            };
            return Err(Failure::new(
                Code::Invalid,
                format!(
                    "{place}: {whose} {what}, and is not received: {way}, or say --discard, which loses all that it has of its own: {}",
                    self.told()
                ),
            ));
        }
        Ok(())
    }

    /// What would be received.
    pub(super) fn planned(&self) -> Result<Vec<KeptSnapshot>, Failure> {
        self.refuse_purged()?;
        let kept = |s: &SnapshotInfo| {
            let to = self.destination(s)?;
            Ok(KeptSnapshot { name: to.name, line: to.line, bytes: s.written })
        };
        self.snapshots.iter().map(kept).collect()
    }

    fn failed(&self, e: &VolumeError) -> Failure {
        told_volume(self.path, e)
    }

    /// Finds what is not here, and makes snapshots of heads that have changed.
    fn look(&mut self) -> Result<(), Failure> {
        let volume = self.theirs.volume().clone();
        let lines = volume.lines().into_iter().filter(|line| line.state.is_shown());
        let lines: Vec<LineId> = lines.map(|line| line.id).collect();
        for line in &lines {
            self.keep_head(*line)?;
        }
        let all = lines.iter().flat_map(|line| volume.own_snapshots(*line));
        self.snapshots = all
            .filter(|s| s.epoch > self.parted_at)
            .filter(|s| volume.identity(s.id).is_some_and(|i| self.ours.volume().find_identity(i).is_none()))
            .collect();
        self.snapshots.sort_by_key(|s| s.id);
        Ok(())
    }

    /// Makes a snapshot of a head that has something that no snapshot and no state of both has.
    fn keep_head(&mut self, line: LineId) -> Result<(), Failure> {
        let volume = self.theirs.volume().clone();
        let path = self.path;
        let failed = |e: VolumeError| told_volume(path, &e);
        let head = volume.live(line).map_err(failed)?;
        if head.newest_birth(&Key::MIN, &Key::MAX).map_err(failed)? <= self.parted_at {
            return Ok(());
        }
        if let Some(newest) = volume.newest_snapshot(line) {
            let view = volume.snapshot(newest.id).map_err(failed)?;
            if view.diff(&head, &Key::MIN, &Key::MAX).next().transpose().map_err(failed)?.is_none() {
                return Ok(());
            }
        }
        // By its content, so that it is the same again when this is done once more.
        let digest = self.theirs.sums_of(&head, &mut |_, _| {});
        let digest = digest.map_err(|e| streaming::failure(self.path, &e))?;
        let now = Clock::System.now();
        let text = format!("what {} had when it was brought in line again", names::shown(self.path));
        let provenance = Provenance { description: text.into_bytes(), ..Provenance::default() };
        let name = free_name(LIVE_NAME, b"", &|name| volume.find_snapshot(line, name).is_some());
        let new = NewSnapshot {
            name: &name,
            created: (now.secs, now.nanos),
            consistency: Consistency::Crash,
            provenance: &provenance,
            pause_ns: &|| 0,
            identity: Some(Identity::of_content(volume.uuid(), line, digest)),
        };
        let (made, _) = volume.create_snapshot(line, &new, &mut |_| Ok(())).map_err(failed)?;
        self.heads.insert(made);
        Ok(())
    }

    /// Receives all of it, oldest first: durable when this returns. `told` hears how many bytes have come.
    pub(super) fn receive(&self, told: &mut dyn FnMut(u64)) -> Result<Vec<KeptSnapshot>, Failure> {
        self.refuse_purged()?;
        let (needed, room) = (self.about_bytes(), self.ours.volume().space_with_freed().available);
        if needed > room {
            let what = format!("it has about {needed} bytes of its own, and {room} are free here");
            return Err(Failure::new(Code::NoSpace, format!("{}: {what}", names::shown(self.path))));
        }
        let mut done = 0;
        let mut kept = Vec::new();
        for snapshot in &self.snapshots {
            let one = self.receive_one(snapshot, &mut |bytes| told(done + bytes))?;
            done += one.bytes;
            kept.push(one);
        }
        Ok(kept)
    }

    /// The newest older snapshot that both have, and that lacks nothing: there, and here. From what lacks content that was purged
    /// nothing can be told.
    fn base_of(&self, snapshot: &SnapshotInfo) -> Option<(SnapshotInfo, SnapshotInfo)> {
        let volume = self.theirs.volume();
        let older = volume.snapshots(snapshot.line).into_iter().rev().filter(|s| s.id < snapshot.id);
        older
            .filter_map(|s| {
                let here = self.ours.volume().find_identity(volume.identity(s.id)?)?;
                Some((s, here))
            })
            .find(|(there, here)| {
                let is_whole = |fs: &Fs, s| matches!(fs.lacks_content(s), Ok(false));
                is_whole(&self.theirs, there) && is_whole(self.ours, here)
            })
    }

    /// Where a snapshot goes, as things are now.
    fn destination(&self, snapshot: &SnapshotInfo) -> Result<KeptAs, Failure> {
        let (theirs, ours) = (self.theirs.volume(), self.ours.volume());
        let failed = |e| self.failed(&e);
        let base = self.base_of(snapshot);
        let goes_on = match &base {
            // What another line there goes on from is that line's here.
            Some((there, here)) if there.line == snapshot.line => self.goes_on(here).map_err(failed)?,
            _ => false,
        };
        let shown_in = base.as_ref().map_or(LineId::MAIN, |(_, here)| here.line);
        let line = match goes_on {
            true => ours.line(shown_in).map_err(failed)?.name,
            false => self.line_name(&theirs.line(snapshot.line).map_err(failed)?.name),
        };
        // Also in the line that it would have been of: what came before it may have begun a line of its own.
        let same = match theirs.line(snapshot.line).map_err(failed)?.name {
            name if name.is_empty() => Some(LineId::MAIN),
            name => ours.find_line(&name).map(|line| line.id),
        };
        let is_taken = |name: &[u8]| {
            let is_here = |line: LineId| ours.find_snapshot(line, name).is_some();
            let is_theirs = name != snapshot.name && theirs.find_snapshot(snapshot.line, name).is_some();
            is_here(shown_in) || same.is_some_and(is_here) || is_theirs
        };
        let name = free_name(&snapshot.name, &self.from(), &is_taken);
        Ok(KeptAs { base: base.map(|(there, _)| there), line, is_new: !goes_on, name })
    }

    fn receive_one(
        &self,
        snapshot: &SnapshotInfo,
        told: &mut dyn FnMut(u64),
    ) -> Result<KeptSnapshot, Failure> {
        let (theirs, to) = (self.theirs.volume(), self.destination(snapshot)?);
        if to.name != snapshot.name {
            // In memory alone.
            let renamed = theirs.rename_snapshot(snapshot.line, snapshot.id, &to.name);
            renamed.map_err(|e| told_name(&snapshot.name, &e.into()))?;
        }
        let snapshot = theirs.snapshot_info(snapshot.id).unwrap_or_else(|| snapshot.clone());
        let order = SendOrder { snapshot: &snapshot, base: to.base.as_ref(), gone: None, resume: None };
        let number = self.theirs.stream_number(&order).map_err(|e| streaming::failure(self.path, &e))?;
        let arrivals = self.ours.arrivals();
        let begun = arrivals.iter().find(|a| a.record.begin.stream() == number && !a.is_active);
        let order = SendOrder { resume: begun.map(|a| (number, a.record.next)), ..order };
        let got = self.carry(&order, to.is_new.then_some(&to.line), told);
        if got.as_ref().is_err_and(|f| f.code == Code::NoSpace)
            && let Err(e) = self.ours.drop_arrival(number)
        {
            log::warn!("what was received of a side stays until it expires: {e}");
        }
        got
    }

    /// Sends at one end and receives at the other.
    fn carry(
        &self,
        order: &SendOrder<'_>,
        line: Option<&Vec<u8>>,
        told: &mut dyn FnMut(u64),
    ) -> Result<KeptSnapshot, Failure> {
        let (mut reader, mut writer) = io::pipe()
            .map_err(|e| Failure::new(Code::Other, format!("no pipe can be had from the system: {e}")))?;
        let (received, sent) = std::thread::scope(|scope| {
            let sending = scope.spawn(move || {
                let sent = self.theirs.send(order, &mut writer, &mut |_| true);
                drop(writer);
                sent
            });
            let receive = ReceiveOrder { as_line: line.map(Vec::as_slice), user: None };
            let received = self.ours.receive(&mut reader, &receive, &mut |_, bytes| told(bytes));
            drop(reader);
            (received, sending.join())
        });
        let sent = sent.map_err(|_| Failure::new(Code::Other, "a failed assertion"))?;
        let place = names::shown(self.path);
        match (received, sent) {
            (Ok(got), _) => Ok(KeptSnapshot { name: got.snapshot.name, line: got.line, bytes: got.bytes }),
            // What the receiver says of a stream that ended is that it ended.
            (Err(_), Err(e)) if !matches!(e, StreamError::Carrier(_)) => {
                Err(streaming::failure(self.path, &e))
            }
            (Err(e), _) => {
                let told = streaming::failure(Path::new("the store that stays"), &e);
                Err(Failure::new(told.code, format!("{place}: it cannot be received: {}", told.message)))
            }
        }
    }

    /// True if what comes after a snapshot here goes into its line: one that was received, and that ends with it.
    fn goes_on(&self, here: &SnapshotInfo) -> Result<bool, VolumeError> {
        let volume = self.ours.volume();
        if volume.line(here.line)?.state != LineState::Received {
            return Ok(false);
        }
        let (view, head) = (volume.snapshot(here.id)?, volume.live(here.line)?);
        Ok(view.diff(&head, &Key::MIN, &Key::MAX).next().transpose()?.is_none())
    }

    /// What the side is called.
    fn side_name(&self) -> Vec<u8> {
        let name = self.path.file_name().map(OsStr::as_bytes).unwrap_or_default();
        let begins = name.iter().position(|byte| !matches!(byte, b'.' | b'@')).unwrap_or(name.len());
        if begins == name.len() { b"side".to_vec() } else { name[begins..].to_vec() }
    }

    /// What says where a name is from.
    fn from(&self) -> Vec<u8> {
        [b"-from-", &self.side_name()[..]].concat()
    }

    /// What a line of the side is called here.
    fn line_name(&self, name: &[u8]) -> Vec<u8> {
        let is_taken = |name: &[u8]| self.ours.volume().find_line(name).is_some();
        match name {
            b"" => free_name(&self.side_name(), b"", &is_taken),
            name => free_name(name, &self.from(), &is_taken),
        }
    }
}

/// A side that went on and of which nothing can be received.
fn unreadable(side: &Path, f: &Failure) -> Failure {
    let what = "it went on by itself, and what it has cannot be read, so that it would be lost; say --discard if it may be";
    Failure::new(f.code, format!("{}: {what}: {}", names::shown(side), f.message))
}

/// A name that nobody has: the name, with the suffix, or with a number besides.
fn free_name(name: &[u8], suffix: &[u8], is_taken: &dyn Fn(&[u8]) -> bool) -> Vec<u8> {
    let with = |end: &[u8]| {
        let end = &end[..end.len().min(SNAPSHOT_NAME_BYTES_MAX / 2)];
        [&name[..name.len().min(SNAPSHOT_NAME_BYTES_MAX - end.len())], end].concat()
    };
    let numbered = (2u64..).map(|n| {
        let number = format!("-{n}").into_bytes();
        let suffix = &suffix[..suffix.len().min(SNAPSHOT_NAME_BYTES_MAX / 2 - number.len())];
        with(&[suffix, &number].concat())
    });
    let mut all = [with(b""), with(suffix)].into_iter().chain(numbered);
    all.find(|name| !is_taken(name)).unwrap_or_default()
}

/// As objects.
pub(super) fn encode_kept(kept: &[KeptSnapshot]) -> Value {
    let rows = kept.iter().map(|kept| {
        let mut object = json!({"bytes": kept.bytes});
        names::put(&mut object, "name", OsStr::from_bytes(&kept.name));
        names::put(&mut object, "line", OsStr::from_bytes(&kept.line));
        object
    });
    Value::Array(rows.collect())
}
