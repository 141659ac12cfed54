//! The methods: how each makes a snapshot, and what has to be there before.

use crate::common::Result;
use crate::common::medium::text;
use crate::common::work::time;
use crate::store::{Store, command};
use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Method {
    /// No snapshots: what the others are held against.
    Nothing,
    Row,
    Cow,
    Clone,
    Background,
    Mirror,
}

/// A snapshot that was made.
pub struct Made {
    /// Until the command returned.
    pub returned: Duration,
    /// From the beginning of the command until there was a copy that stands alone.
    pub alone: Option<Duration>,
    /// Bytes that went to the copy, before or after.
    pub moved: Option<u64>,
}

impl Method {
    /// All that the program has.
    pub fn all() -> Result<Vec<Method>> {
        let help = command(&["create", "--help"])?;
        let mut all = vec![Method::Nothing, Method::Row, Method::Cow, Method::Clone, Method::Mirror];
        if help.contains("background") {
            all.insert(4, Method::Background);
        } else {
            eprintln!("left out: background: this program has no such method");
        }
        Ok(all)
    }

    pub fn name(self) -> &'static str {
        match self {
            Method::Nothing => "none",
            Method::Row => "row",
            Method::Cow => "cow",
            Method::Clone => "clone",
            Method::Background => "background",
            Method::Mirror => "mirror",
        }
    }

    pub fn title(self) -> &'static str {
        match self {
            Method::Nothing => "no snapshot",
            Method::Row => "ROW (default)",
            Method::Cow => "COW",
            Method::Clone => "clone",
            Method::Background => "COW, background copy",
            Method::Mirror => "split mirror",
        }
    }

    /// What is left if the first device is lost.
    pub fn survives(self) -> &'static str {
        match self {
            Method::Nothing | Method::Row | Method::Cow => "nothing",
            Method::Clone => "the snapshot",
            Method::Background => "the snapshot, once it is copied",
            Method::Mirror => "while attached everything; after a split the snapshot",
        }
    }

    /// True if the snapshot is a copy in another store in the end.
    pub fn is_copy(self) -> bool {
        matches!(self, Method::Clone | Method::Background | Method::Mirror)
    }

    /// Makes a snapshot. The first COW one sets the layout; before a mirror is split its side is brought in sync, and the
    /// bytes of that are told.
    pub fn make(self, store: &Store, second: &Path, name: &str) -> Result<Made> {
        let to = text(second)?;
        match self {
            Method::Nothing => Ok(Made { returned: Duration::ZERO, alone: None, moved: None }),
            Method::Row | Method::Cow => {
                let returned = time(|| store.ask(&["create"], &[name, "--method", self.name()]).map(drop))?;
                Ok(Made { returned, alone: None, moved: None })
            }
            Method::Clone => {
                let begun = Instant::now();
                let told = store.ask(&["create"], &[name, "--method", "clone", "--to", to])?;
                let returned = begun.elapsed();
                let moved = told["bytes"].as_u64().ok_or("a copy tells its bytes")?;
                Ok(Made { returned, alone: Some(returned), moved: Some(moved) })
            }
            Method::Background => {
                let begun = Instant::now();
                store.ask(&["create"], &[name, "--method", "background", "--to", to])?;
                let returned = begun.elapsed();
                let moved = hydrated(store, name)?;
                Ok(Made { returned, alone: Some(begun.elapsed()), moved: Some(moved) })
            }
            Method::Mirror => {
                let moved = in_sync(store, second)?;
                let begun = Instant::now();
                store.ask(&["create"], &[name, "--method", "mirror"])?;
                let returned = begun.elapsed();
                Ok(Made { returned, alone: Some(returned), moved: Some(moved) })
            }
        }
    }
}

/// Makes both sides of a mirror the same, whatever is missing for that; the bytes that were copied.
pub fn in_sync(store: &Store, second: &Path) -> Result<u64> {
    let status = store.ask(&["mirror", "status"], &[])?;
    let told = match (status["in_sync"] == true, fs::exists(second)?) {
        (true, _) => status,
        (false, true) => {
            store.ask(&["mirror", "resync"], &["--with", text(second)?, "--discard", "--wait"])?
        }
        (false, false) => store.ask(&["mirror", "attach"], &[text(second)?, "--wait"])?,
    };
    if told["in_sync"] != true {
        return Err(format!("the sides do not come to be in sync: {told}").into());
    }
    told["copied_bytes"].as_u64().ok_or_else(|| "the mirror does not tell its bytes".into())
}

/// Waits until a copy in the background is whole; its bytes.
fn hydrated(store: &Store, name: &str) -> Result<u64> {
    let told = store.ask(&["hydrate"], &[name, "--wait"])?;
    let whole = told.as_array().into_iter().flatten().find(|copy| copy["state"] == "whole");
    let bytes = whole.and_then(|copy| copy["done_bytes"].as_u64());
    bytes.ok_or_else(|| format!("the copy does not become whole: {told}").into())
}
