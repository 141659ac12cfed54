//! Making stores, and whether anything is where one shall be.

use super::hold::{lock, probe};
use super::property::Property;
use super::refusal::{io, limited, told, told_volume};
use crate::clock::Clock;
use crate::ctl::{Code, Failure};
use crate::device::lock::LockMode;
use crate::device::{self, Device, DirDevice, FileDevice, MAKING, StoreKind, mark};
use crate::format::superblock::{RING_SLOTS, SLOT_BYTES, Superblock};
use crate::format::{Compression, Copies};
use crate::fs::{Fs, FsOptions};
use crate::limits::{STORE_BYTES_DEFAULT, STORE_BYTES_MIN};
use crate::names;
use crate::ops::{Caller, NodeId, Operations, XattrMode};
use crate::sys::process;
use crate::sys::random::random;
use crate::volume::{self, OpenOptions, Volume};
use serde_json::{Value, json};
use std::ffi::OsStr;
use std::io::Read;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::Arc;

/// Memory for the tree nodes of a store that is made, in bytes.
const CACHE_BYTES: usize = 8 << 20;

/// How names of image files end.
const IMAGE_ENDINGS: [&str; 3] = ["img", "image", "raw"];

/// What becomes of a store that is there already.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Old {
    /// It is lost: what was asked for.
    Goes,
    /// It stays, unless its making was cut off.
    Stays,
}

/// Makes the store that `init` asks for, of this size if one is said: an object that says what was made.
pub(super) fn init(store: &Path, size: Option<u64>, new: &NewStore, old: Old) -> Result<Value, Failure> {
    let kind = probe(store)?;
    let foreign = |what: String| Failure::new(Code::Exists, format!("{}: {what}", names::shown(store)));
    match &kind {
        StoreKind::ForeignDirectory { example } => {
            return Err(foreign(format!(
                "this directory has other files in it (for instance '{example}'): choose an empty one"
            )));
        }
        StoreKind::Other { what } => return Err(foreign(format!("{what} cannot hold a store"))),
        StoreKind::DirectoryStore | StoreKind::ImageFile { .. } | StoreKind::BlockDevice { .. }
            if old == Old::Stays =>
        {
            let occupied = match kind {
                StoreKind::DirectoryStore => !unfinished(store),
                StoreKind::ImageFile { .. } => has_content(store, u64::MAX),
                _ => has_content(store, DEVICE_START_BYTES),
            };
            if occupied {
                return Err(foreign(
                    "it is not empty; --force overwrites it, and everything in it is lost".to_string(),
                ));
            }
        }
        _ => {}
    }
    let refuse = |what: &str| Err(Failure::new(Code::Invalid, format!("{}: {what}", names::shown(store))));
    let bytes = match (&kind, size) {
        (StoreKind::BlockDevice { len }, Some(size)) if size > *len => {
            return refuse(&format!("the device has no more than {len} bytes"));
        }
        (StoreKind::ImageFile { len: 0 }, None) => return refuse("an image file needs --size"),
        (StoreKind::ImageFile { len } | StoreKind::BlockDevice { len }, size) => size.unwrap_or(*len),
        (_, size) => size.unwrap_or(STORE_BYTES_DEFAULT),
    };
    if bytes < STORE_BYTES_MIN {
        let least = format!("a store needs at least {} MiB", STORE_BYTES_MIN >> 20);
        let hint =
            if matches!(kind, StoreKind::ImageFile { .. }) { ": give it more with --size" } else { "" };
        return refuse(&(least + hint));
    }
    // A name with a size and an ending is an image to be made; everything else a directory.
    if kind == StoreKind::Missing && size.is_some() && store.extension().is_some() {
        FileDevice::create_image(store, bytes).map_err(|e| io(store, e))?;
    }
    let new = NewStore { size: bytes, ..*new };
    make(store, &new, Old::Goes)?;
    let mut made = json!({
        "size_bytes": bytes,
        "metadata_copies": new.copies as u8,
        "compression": new.compression.to_string(),
    });
    names::put(&mut made, "store", store);
    Ok(made)
}

/// What a new store is like.
pub(super) struct NewStore {
    /// Its size in bytes.
    pub(super) size: u64,
    /// How often metadata is kept.
    pub(super) copies: Copies,
    /// Compression of content that no directory or file says otherwise of.
    pub(super) compression: Compression,
}

impl Default for NewStore {
    fn default() -> NewStore {
        NewStore { size: STORE_BYTES_DEFAULT, copies: Copies::default(), compression: Compression::Off }
    }
}

/// Makes a store, its first commit included: it can be read at once. Nothing is touched before the lock is held, and what
/// was checked without it is looked at again.
pub(super) fn make(store: &Path, new: &NewStore, old: Old) -> Result<(), Failure> {
    let failed = |what: &str, e: std::io::Error| {
        Failure::new(Code::Io, format!("{}: {what}: {e}", names::shown(store)))
    };
    if matches!(probe(store)?, StoreKind::Missing) {
        refuse_missing_image(store, "snapfs init --size 100G")?;
        match std::fs::create_dir(store) {
            Err(e) if e.kind() != std::io::ErrorKind::AlreadyExists => {
                return Err(failed("cannot make the directory of the store", e));
            }
            _ => {}
        }
    }
    let _lock = lock(store, &probe(store)?, LockMode::Exclusive)?;
    let kind = probe(store)?;
    if kind == StoreKind::DirectoryStore {
        if old == Old::Stays && !unfinished(store) {
            return Ok(());
        }
        let gone = ["super.a", "super.b", "log"].map(|name| std::fs::remove_file(store.join(name)));
        let seg = std::fs::remove_dir_all(store.join("seg"));
        let error = gone.into_iter().chain([seg]).filter_map(Result::err);
        if let Some(e) = error.into_iter().find(|e| e.kind() != std::io::ErrorKind::NotFound) {
            return Err(failed("cannot remove the old store", e));
        }
    }
    let in_directory = matches!(kind, StoreKind::DirectoryStore | StoreKind::EmptyDirectory);
    if in_directory {
        let made =
            std::fs::write(store.join(MAKING), b"").and_then(|()| std::fs::File::open(store)?.sync_all());
        made.map_err(|e| failed("cannot begin to make a store", e))?;
    }
    if let StoreKind::ImageFile { len } = kind
        && len < new.size
    {
        let longer = std::fs::File::options().write(true).open(store).and_then(|file| file.set_len(new.size));
        longer.map_err(|e| failed("cannot make the image file longer", e))?;
    }
    let device: Arc<dyn Device> = if in_directory {
        Arc::new(DirDevice::create(store, new.size).map_err(|e| io(store, e))?)
    } else {
        Arc::new(FileDevice::open(store, device::Access::ReadWrite).map_err(|e| io(store, e))?)
    };
    mark::close(&*device).map_err(|e| io(store, e))?; // of an older store
    let uuid = random().map_err(|e| Failure::new(Code::Other, e.to_string()))?;
    let now = Clock::System.now();
    Volume::create_with(device.clone(), new.size, uuid, (now.secs, now.nanos), new.copies)
        .map_err(|e| told_volume(store, &e))?;
    first_commit(store, device, new.compression)?;
    if in_directory {
        let done =
            std::fs::remove_file(store.join(MAKING)).and_then(|()| std::fs::File::open(store)?.sync_all());
        done.map_err(|e| failed("cannot finish the store", e))?;
    }
    Ok(())
}

/// Nobody who names an image file that is not there means a directory of that name. `way` makes one, of the path behind it.
pub(super) fn refuse_missing_image(store: &Path, way: &str) -> Result<(), Failure> {
    let is_image = |ending: &OsStr| IMAGE_ENDINGS.iter().any(|image| ending.eq_ignore_ascii_case(image));
    if !store.extension().is_some_and(is_image) {
        return Ok(());
    }
    let shown = names::shown(store);
    let what = format!("there is no such image file; make it, with its size, by '{way} {shown}'");
    Err(Failure::new(Code::NotFound, format!("{shown}: {what}")))
}

/// What is at a path if a store would be made there.
pub(super) fn nothing_at(store: &Path) -> Option<StoreKind> {
    device::probe(store).ok().filter(|kind| matches!(kind, StoreKind::Missing | StoreKind::EmptyDirectory))
}

/// Takes away a store that was just made where there was nothing, and in which nothing is. Whoever has it open keeps it.
pub(super) fn unmake(store: &Path, found: StoreKind) {
    let Ok(held) = probe(store).and_then(|kind| lock(store, &kind, LockMode::Exclusive)) else { return };
    let files = ["super.a", "super.b", "log", "lock"].map(|name| std::fs::remove_file(store.join(name)));
    let seg = std::fs::remove_dir_all(store.join("seg"));
    drop(held);
    let made = if found == StoreKind::Missing { std::fs::remove_dir(store) } else { Ok(()) };
    if let Some(e) = files.into_iter().chain([seg, made]).find_map(Result::err) {
        log::warn!("{}: the store that was made for nothing stays: {e}", names::shown(store));
    }
}

/// The root directory, and for whom and how it is.
fn first_commit(store: &Path, device: Arc<dyn Device>, how: Compression) -> Result<(), Failure> {
    let options = OpenOptions { access: volume::Access::ReadWrite, cache_bytes: CACHE_BYTES };
    let volume = Volume::open(device.clone(), options).map_err(|e| told_volume(store, &e))?;
    let (uid, gid) = (process::effective_uid(), process::effective_gid());
    let options = FsOptions { root_uid: uid, root_gid: gid, ..FsOptions::default() };
    let filled = Fs::open(volume, options, Clock::System).and_then(|fs| {
        if how != Compression::Off {
            let owner = Caller { uid, gid, pid: 0, umask: 0 };
            let (name, value) = (Property::Compression.attribute(), how.to_string());
            fs.setxattr(&owner, NodeId::ROOT, name.as_bytes(), value.as_bytes(), XattrMode::Set)?;
        }
        fs.close()?;
        fs.volume().trim();
        Ok(())
    });
    let filled = filled.map_err(|e| told(store, &e));
    device.limit_met().map_or(filled, |limit| Err(limited(store, &limit)))
}

/// True for a directory store whose making was cut off: it has no superblock, and no content but what a making that
/// did not come to its end has left.
pub(super) fn unfinished(store: &Path) -> bool {
    if store.join(MAKING).exists() {
        return !["super.a", "super.b"].iter().any(|ring| may_have_state(&store.join(ring)));
    }
    let empty = |name: &str| match std::fs::read(store.join(name)) {
        Ok(bytes) => bytes.iter().all(|b| *b == 0),
        Err(e) => e.kind() == std::io::ErrorKind::NotFound,
    };
    let no_segments = match std::fs::read_dir(store.join("seg")) {
        Ok(mut entries) => entries.next().is_none(),
        Err(e) => e.kind() == std::io::ErrorKind::NotFound,
    };
    no_segments && empty("super.a") && empty("super.b")
}

/// False if nothing in a ring is a superblock.
fn may_have_state(ring: &Path) -> bool {
    match std::fs::read(ring) {
        Ok(bytes) => {
            let mut slots = bytes.chunks_exact(SLOT_BYTES).take(RING_SLOTS as usize);
            slots.any(|slot| Superblock::decode(slot).is_ok())
        }
        Err(e) => e.kind() != std::io::ErrorKind::NotFound,
    }
}

/// How much of a block device must be zero for it to count as empty: where file systems and tables have their beginning.
pub(super) const DEVICE_START_BYTES: u64 = 1 << 20;

/// True if the first bytes of a file or block device, so many at most, are not all zero.
pub(super) fn has_content(path: &Path, bytes: u64) -> bool {
    has_content_telling(path, bytes, &|| true)
}

/// The same. `goes_on` hears of each part, and says whether there is to be another.
pub(super) fn has_content_telling(path: &Path, bytes: u64, goes_on: &dyn Fn() -> bool) -> bool {
    let look = || -> std::io::Result<bool> {
        let file = std::fs::File::open(path)?;
        if file.metadata()?.is_file() && file.metadata()?.blocks() == 0 {
            return Ok(false); // one hole, however long
        }
        let (mut rest, mut part) = (file.take(bytes), vec![0; 1 << 20]);
        loop {
            let n = rest.read(&mut part)?;
            if n == 0 || !goes_on() || part[..n].iter().any(|b| *b != 0) {
                return Ok(n > 0);
            }
        }
    };
    look().unwrap_or(true)
}
