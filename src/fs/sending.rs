//! Sending: a snapshot as a stream, whole or as what it differs in from another one; and the sums by which copies are compared.

use super::file_system::Fs;
use super::items::path_bytes;
use super::stream::{GoneBase, Outgoing, Result, SentStream, StreamError, sum_of, sums_by_inode, tell};
use crate::format::peer::PeerRecord;
use crate::format::stream::{Against, OLDER_MAX, StreamBegin};
use crate::format::{Identity, Ino, LineId};
use crate::names;
use crate::volume::{SnapshotInfo, View};
use std::io::Write;

/// What is to be sent.
pub struct SendOrder<'o> {
    /// The snapshot.
    pub snapshot: &'o SnapshotInfo,
    /// What the receiver has; none if all is to be sent.
    pub base: Option<&'o SnapshotInfo>,
    /// Or what it was, if that is not here any more.
    pub gone: Option<&'o PeerRecord>,
    /// A stream that was cut off, and the number of the packet that is wanted next.
    pub resume: Option<(Identity, u64)>,
}

impl Fs {
    /// What a snapshot was before content was purged from it, nobody has here any more: sums and streams of that are void. One
    /// that was made later from what lacks content is as good as any once it lacks none: then all of its tree was read.
    pub fn refuse_edited(&self, snapshot: &SnapshotInfo) -> Result<()> {
        if !self.lacks_content(snapshot)? {
            return Ok(());
        }
        Err(StreamError::Refused(format!(
            "content was purged from the snapshot {}: sums of it, and increments from it or to it, are void; send a snapshot \
             that has none of the files that lack content, all of it or against another one, and purge the copies where they are",
            names::shown_bytes(&snapshot.name)
        )))
    }

    /// True if content was purged from a snapshot, or from what it was made from, and it lacks some.
    pub fn lacks_content(&self, snapshot: &SnapshotInfo) -> Result<bool> {
        Ok(snapshot.edited.is_some() && self.heads.volume.snapshot(snapshot.id)?.lacks_content()?)
    }

    /// Writes a stream. `progress` is told the bytes of content so far, and says whether to go on.
    pub fn send(
        &self,
        order: &SendOrder<'_>,
        out: &mut dyn Write,
        progress: &mut dyn FnMut(u64) -> bool,
    ) -> Result<SentStream> {
        let volume = &self.heads.volume;
        let (snapshot, base, begin) = (order.snapshot, order.base, self.beginning(order)?);
        if order.resume.is_some_and(|(stream, _)| stream != begin.stream()) {
            return Err(StreamError::Refused(
                "the token is of another stream: name the snapshot, and what it was sent from, as then"
                    .into(),
            ));
        }
        let new = volume.snapshot(snapshot.id)?;
        let old = match base {
            Some(base) => Some((volume.snapshot(base.id)?, self.digest_of(base)?)),
            None => None,
        };
        self.check_follows(order)?;
        let mut new = new;
        if order.gone.is_some() && !new.is_written() {
            self.commit()?;
            new = volume.snapshot(snapshot.id)?;
        }
        let gone = match order.gone {
            Some(gone) => {
                let base = GoneBase { epoch: gone.epoch, nameless: gone.nameless.clone() };
                Some((base, self.digest_of(snapshot)?))
            }
            None => None,
        };
        let what = Outgoing {
            gone,
            old: old.as_ref().map(|(view, sum)| (&**view, *sum)),
            new: &new,
            shared: volume.shared_content(),
        };
        let told = tell(what, &begin, out, progress)?;
        volume.keep_digest(snapshot.id, told.digest);
        Ok(told)
    }

    /// The number of the stream that this would be.
    pub fn stream_number(&self, order: &SendOrder<'_>) -> Result<Identity> {
        self.check_follows(order)?;
        Ok(self.beginning(order)?.stream())
    }

    /// How this would begin.
    pub fn stream_begin(&self, order: &SendOrder<'_>) -> Result<StreamBegin> {
        self.check_follows(order)?;
        self.beginning(order)
    }

    /// What was sent of an older head of a line is no base that follows from births.
    fn check_follows(&self, order: &SendOrder<'_>) -> Result<()> {
        match order.gone {
            Some(gone) if !self.heads.volume.follows(order.snapshot.id, gone) => Err(StreamError::Refused(
                "the line was taken back, or another took its place, since what the other store has was sent: send --from a \
                 snapshot that both have, or all of it"
                    .into(),
            )),
            _ => Ok(()),
        }
    }

    fn beginning(&self, order: &SendOrder<'_>) -> Result<StreamBegin> {
        order.base.into_iter().chain([order.snapshot]).try_for_each(|view| self.refuse_edited(view))?;
        let volume = &self.heads.volume;
        let (snapshot, base) = (order.snapshot, order.base);
        let gone = || StreamError::Refused("the snapshot is not there any more".into());
        let identity = volume.identity(snapshot.id).ok_or_else(gone)?;
        let base_identity = match (base, order.gone) {
            (Some(base), _) => Some(volume.identity(base.id).ok_or_else(gone)?),
            (None, gone) => gone.map(|gone| gone.identity),
        };
        if base_identity == Some(identity) {
            return Err(StreamError::Refused(
                "a snapshot does not differ from itself: nothing to send".into(),
            ));
        }
        let line = volume.line(snapshot.line).ok().filter(|line| line.id != LineId::MAIN);
        Ok(StreamBegin {
            identity,
            against: match (base, order.gone) {
                (None, None) => Against::Nothing,
                (None, Some(gone)) => Against::Births(gone.epoch),
                (Some(_), _) => Against::Base,
            },
            base: base_identity,
            store: volume.uuid(),
            created: snapshot.created,
            consistency: snapshot.consistency,
            goes_on_at: order.resume.map_or(1, |(_, next)| next.max(1)),
            about_bytes: self.about_bytes(snapshot, base),
            name: snapshot.name.clone(),
            base_name: base
                .map(|base| &base.name)
                .or(order.gone.map(|gone| &gone.name))
                .cloned()
                .unwrap_or_default(),
            line_name: line.map(|line| line.name).unwrap_or_default(),
            provenance: snapshot.provenance.clone(),
            older: base_identity.map(|_| self.older_than(snapshot)).unwrap_or_default(),
        })
    }

    /// What the line has that is older and could be sent from, newest first.
    fn older_than(&self, snapshot: &SnapshotInfo) -> Vec<Identity> {
        let volume = &self.heads.volume;
        let mut older = volume.snapshots(snapshot.line);
        older.truncate(older.iter().position(|s| s.id == snapshot.id).unwrap_or(0));
        let whole = older.iter().rev().filter(|s| s.edited.is_none());
        whole.filter_map(|s| volume.identity(s.id)).take(OLDER_MAX).collect()
    }

    /// Bytes that a stream has, about: what was written since its base.
    fn about_bytes(&self, snapshot: &SnapshotInfo, base: Option<&SnapshotInfo>) -> u64 {
        let Some(base) = base else { return snapshot.referenced };
        let line = self.heads.volume.snapshots(snapshot.line);
        let between = line.iter().filter(|s| s.id > base.id && s.id <= snapshot.id);
        between.map(|s| s.written).sum::<u64>().min(snapshot.referenced)
    }

    /// The paths of inodes of a snapshot; of those without one their numbers.
    pub fn paths_in(&self, snapshot: &SnapshotInfo, inodes: &[u64]) -> crate::ops::Result<Vec<Vec<u8>>> {
        let view = self.heads.volume.snapshot(snapshot.id)?;
        let path =
            |ino: &u64| path_bytes(&view, Ino(*ino)).unwrap_or_else(|| format!("inode {ino}").into_bytes());
        Ok(inodes.iter().map(path).collect())
    }

    /// The sum over what is in a snapshot, which is the same for each copy of it in any store. Counted once, from its tree;
    /// reads no content.
    pub fn digest_of(&self, snapshot: &SnapshotInfo) -> Result<u128> {
        self.refuse_edited(snapshot)?;
        let volume = &self.heads.volume;
        if let Some(digest) = volume.digest(snapshot.id) {
            return Ok(digest);
        }
        let digest = sum_of(None, &*volume.snapshot(snapshot.id)?)?;
        volume.keep_digest(snapshot.id, digest);
        Ok(digest)
    }

    /// The same counted anew from the tree as it is now, which is what `verify` compares; inode by inode if `tell` wants it.
    pub fn sums_of(&self, view: &View, tell: &mut dyn FnMut(Ino, u128)) -> Result<u128> {
        let mut total = 0u128;
        sums_by_inode(view, &mut |ino, sum| {
            total = total.wrapping_add(sum);
            tell(ino, sum);
        })?;
        Ok(total)
    }
}
