//! How the sides of an open store are, told: what each does, how far a filling is, and how they stand to each other.

use super::held_side::HeldSide;
use super::mirror_order::encode_side;
use super::mirroring::StoreSides;
use super::standing::{self, SideLooked};
use crate::names;
use serde_json::{Value, json};
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::sync::atomic::Ordering::SeqCst;

impl StoreSides {
    /// How the sides are: an object.
    pub(super) fn status(&self) -> Value {
        // In this order: when it is over the sides are what has come of it.
        let running = self.told.running.load(SeqCst);
        let states = self.mirror.states();
        let sides: Vec<Value> = {
            let held = self.held.lock();
            let path = |held: &Option<HeldSide>| held.as_ref().map(|side| side.path.clone());
            let paths = held.iter().map(path);
            let each = states.iter().zip(paths).filter_map(|(state, path)| Some((state.as_ref()?, path)));
            each.map(|(state, path)| encode_side(state, path.as_deref())).collect()
        };
        let is_mirrored = self.fs.volume().is_mirrored();
        let serving = states.iter().flatten().filter(|s| s.state == "serving").count();
        let mut status = json!({
            "mirrored": is_mirrored,
            "in_sync": is_mirrored && serving == 2,
            "sides": sides,
            "limit_ms": self.mirror.time_limit().as_millis() as u64,
        });
        self.told.put(&mut status, running);
        if let Some(label) = self.mirror.label().filter(|label| !label.path.is_empty()) {
            names::put(&mut status, "partner", OsStr::from_bytes(&label.path));
        }
        status
    }

    /// The same, with how each stands to the other: one that takes no part is looked at, within the limit.
    pub(super) fn status_seen(&self) -> Value {
        let mut status = self.status();
        let label = self.mirror.label().filter(|_| status["mirrored"] == true);
        let Some(label) = label else { return status };
        status["pair"] = standing::told_pair(&label).into();
        if status["in_sync"] == true || status["syncing"] == true {
            standing::tell_together(&mut status, &label);
            return status;
        }
        let states = self.mirror.states();
        let lost = (0..2).find_map(|n| Some((n, states[n].as_ref().filter(|side| side.state == "lost")?)));
        let held = lost.and_then(|(n, _)| self.held.lock()[n].as_ref().map(|side| side.path.clone()));
        let path = held.unwrap_or_else(|| Path::new(OsStr::from_bytes(&label.path)).to_owned());
        let (limit, beside) = (self.limit(), &self.beside());
        let looked = match lost.map_or(0, |(_, side)| side.pending_calls) {
            0 => match self.late.refuse(&path, limit, beside) {
                Ok(()) => standing::look_in_time(&path, (limit, beside), &self.looks),
                Err(f) => SideLooked::Silent(f.message),
            },
            _ => SideLooked::Silent("calls of it have not returned".into()),
        };
        let reached = self.mirror.reached_epoch();
        standing::tell_apart(&mut status, (&label, self.fs.volume(), reached), (&path, looked));
        status
    }
}
