//! One try at a copy that is made in the background: the store that it goes to is opened, looked at and given what it lacks.
//!
//! That store is open for no longer than the try, unless a daemon has it: then it goes through that. It must be the one that
//! the copy was begun in, whatever is at its path now. How far it is it knows alone; so each try begins with asking it.

use super::engine::{OpenFor, StreamOrder};
use super::hold::identity_at;
use super::streaming::VIEW_PREFIX;
use super::streams::{self, Passage, StoreEnd};
use super::{apart, making};
use crate::ctl::{Code, Failure, StoreId};
use crate::format::hydration::{HydrationRecord, STORE_PATH_MAX};
use crate::format::{Identity, ViewId};
use crate::fs::Fs;
use crate::names;
use crate::ops::NodeId;
use serde_json::Value;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Opens a store, or finds the daemon that has it.
pub(super) type OpenStore = Box<dyn Fn(&Path, OpenFor) -> Result<StoreEnd, Failure> + Send + Sync>;

/// Copies of snapshots of an open store, to others.
pub(super) struct Hydrating {
    pub(super) fs: Arc<Fs>,
    /// Its path.
    pub(super) store: PathBuf,
    pub(super) open: OpenStore,
}

/// What is known of a store that shall get a copy.
pub(super) struct CopyGoal {
    pub(super) store: [u8; 16],
    pub(super) path: Vec<u8>,
    pub(super) about_bytes: u64,
}

impl Hydrating {
    fn here(&self) -> StoreEnd {
        StoreEnd::Here(self.fs.clone(), self.store.clone())
    }

    /// The order to send a snapshot, whatever it is called by now.
    fn order(&self, view: ViewId) -> Result<StreamOrder, Failure> {
        let gone = || Failure::new(Code::NotFound, "the snapshot is not there any more");
        let info = self.fs.volume().snapshot_info(view).ok_or_else(gone)?;
        let at = self.fs.root_of(info.line).map_err(|_| gone())?;
        let view = format!("{VIEW_PREFIX}{}", view.0).into_bytes();
        Ok(StreamOrder::Send { at, view, from: None, resume: None })
    }

    /// Opens a store for a copy. One that lies in a mount of this store would be a part of what it is a copy of.
    fn open(&self, path: &Path, access: OpenFor) -> Result<StoreEnd, Failure> {
        let own = self.fs.volume().location().id.map(|id| StoreId(id.device, id.inode));
        apart::outside_of_mounts(path, (own, &self.store))?;
        (self.open)(path, access).map_err(|f| match f.code {
            Code::Busy if identity_at(path) == Some(self.fs.volume().uuid()) => streams::own_side(path),
            _ => f,
        })
    }

    /// What is known of a store that somebody else uses now.
    fn look_from_outside(&self, view: ViewId, path: &Path) -> Option<CopyGoal> {
        let place = apart::real(path).ok()?.into_os_string().into_encoded_bytes();
        let about_bytes = self.fs.volume().snapshot_info(view)?.referenced;
        let known = CopyGoal { store: identity_at(path)?, path: place, about_bytes };
        (known.path.len() <= STORE_PATH_MAX).then_some(known)
    }

    /// Refuses what cannot be, as far as that can be seen: before anything is begun.
    pub(super) fn look(&self, view: ViewId, path: &Path) -> Result<CopyGoal, Failure> {
        let found = making::nothing_at(path);
        let to = match self.open(path, OpenFor::Mount) {
            // Whether it takes the copy is seen when it can be had.
            Err(f) if f.code == Code::Busy => return self.look_from_outside(view, path).ok_or(f),
            to => to?,
        };
        let looked = self.look_at(&to, view, path);
        to.close()?;
        if let (Err(_), Some(found)) = (&looked, found) {
            making::unmake(path, found);
        }
        looked
    }

    fn look_at(&self, to: &StoreEnd, view: ViewId, path: &Path) -> Result<CopyGoal, Failure> {
        let refused = |what: &str| Failure::new(Code::Invalid, format!("{}: {what}", names::shown(path)));
        let identities = to.ask(&StreamOrder::Identities { at: NodeId::ROOT, all: false })?;
        let store = identities["store"].as_str().and_then(Identity::parse);
        let Identity(store) = store.ok_or_else(|| refused("the daemon that has it is of another version"))?;
        if store == self.fs.volume().uuid() {
            return Err(refused("this is the store itself: a copy of it stands in another one"));
        }
        let path = streams::place_of(to, path)?;
        if path.len() > STORE_PATH_MAX {
            return Err(refused(&format!("the path of the store is longer than {STORE_PATH_MAX} bytes")));
        }
        let from = self.here();
        let order = streams::against_common(&from, to, self.order(view)?)?;
        let StreamOrder::Send { at, view, from: base, .. } = order else {
            return Err(refused("there is nothing to send"));
        };
        let begin = from.ask(&StreamOrder::Begin { at, view, from: base })?;
        let about_bytes = begin["about_bytes"].as_u64().unwrap_or(0);
        to.ask(&StreamOrder::Offer { begin: names::get(&begin, "begin").unwrap_or_default() })?;
        Ok(CopyGoal { store, path, about_bytes })
    }

    /// The store of a copy that was begun.
    fn open_known(&self, record: &HydrationRecord) -> Result<StoreEnd, Failure> {
        let path = Path::new(OsStr::from_bytes(&record.path));
        let to = self.open(path, OpenFor::Work)?;
        let told = to.ask(&StreamOrder::Identities { at: NodeId::ROOT, all: false });
        let is_it = told.as_ref().is_ok_and(|told| told["store"] == Identity(record.store).to_string());
        if !is_it {
            to.close()?;
            told?;
            let what = "another store is there than the one in which the copy was begun";
            return Err(Failure::new(Code::NotFound, format!("{}: {what}", names::shown(path))));
        }
        Ok(to)
    }

    /// Gives the other store what it lacks of a copy; all of it is there when this returns. `received` is told the bytes
    /// that it had before, and what it is about in all.
    pub(super) fn copy(
        &self,
        record: &HydrationRecord,
        gate: Passage<'_>,
        received: &dyn Fn(u64, u64),
    ) -> Result<Value, Failure> {
        let to = self.open_known(record)?;
        let done = self.copy_to(&to, record, gate, received);
        let closed = to.close();
        done.and_then(|done| closed.map(|()| done))
    }

    fn copy_to(
        &self,
        to: &StoreEnd,
        record: &HydrationRecord,
        gate: Passage<'_>,
        received: &dyn Fn(u64, u64),
    ) -> Result<Value, Failure> {
        let from = self.here();
        let order = streams::against_common(&from, to, self.order(record.view)?)?;
        let resumed = streams::resumed(&from, to, &order)?;
        if let StreamOrder::Send { at, view, from: base, resume } = &resumed {
            let (at, view, base) = (*at, view.clone(), base.clone());
            let about = from.ask(&StreamOrder::Begin { at, view, from: base })?["about_bytes"].as_u64();
            let here = to.ask(&StreamOrder::Arrivals)?;
            let mut all = here.as_array().into_iter().flatten();
            let waits =
                all.find(|arrival| resume.is_some() && arrival["token"].as_str() == resume.as_deref());
            let here = waits.and_then(|arrival| arrival["received_bytes"].as_u64());
            received(here.unwrap_or(0), about.unwrap_or(record.about_bytes));
        }
        let done = streams::carry_through(&from, to, (resumed, None), gate, &mut |_| true)?;
        streams::note(&from, to, &order, Some(record.path.clone()))?;
        Ok(done)
    }

    /// Has the other store forget what it received of a copy that was given up.
    pub(super) fn tidy(&self, record: &HydrationRecord, identity: Identity) -> Result<(), Failure> {
        let to = self.open_known(record)?;
        let done = to.ask(&StreamOrder::Arrivals).and_then(|all| {
            let all = all.as_array().into_iter().flatten();
            let mut ours = all.filter(|arrival| arrival["identity"] == identity.to_string());
            ours.try_for_each(|arrival| {
                let token = arrival["token"].as_str().unwrap_or_default().to_string();
                to.ask(&StreamOrder::Drop { token }).map(drop)
            })
        });
        to.close()?;
        done
    }
}
