//! The directory of a store, by descriptors that were opened with it: wherever it is moved, and whatever gets its path
//! later, its files are found in it and nowhere else. Paths are for messages.

use std::cell::OnceCell;
use std::fs::{File, Metadata, OpenOptions};
use std::io;
use std::os::fd::{AsFd, AsRawFd};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use parking_lot::Mutex;

use super::super::place::FileId;
use super::super::probe::{LOG_NAME, SEGMENTS_NAME, SUPER_NAMES};
use crate::names;
use crate::ops::Timestamp;
use crate::sys::{self, OpenAs};

/// Hosts count the times of files in steps of this at most.
const STAMP_STEP: Duration = Duration::from_secs(3);

/// A file of the store.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) enum StoreFile {
    /// A superblock ring, by index into `SUPER_NAMES`.
    Super(usize),
    /// The space in which the log is: a file of its own, so that flushing a record flushes nothing else.
    Log,
    /// A segment, by number.
    Segment(u32),
}

/// The file that has a name.
#[derive(Clone, Copy, Debug)]
pub(super) struct NamedFile {
    pub id: FileId,
    /// The directory itself says so, and no symbolic link in it.
    pub is_direct: bool,
    /// How long it is.
    pub len: u64,
}

/// When something in a directory was last changed: as long as that is the same, so are all names in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Stamp {
    changed: Duration,
    modified: Duration,
}

/// The directories of a store at one moment.
pub(super) struct Look<'a> {
    home: &'a Home,
    now: Timestamp,
    dir: Option<Metadata>,
    /// Looked at when somebody asks.
    segments: OnceCell<Option<Stamp>>,
}

/// The open directory of a store, and that of its segments.
#[derive(Debug)]
pub(super) struct Home {
    /// The path by which it was opened.
    opened: PathBuf,
    dir: File,
    /// None in a store that has lost it.
    segments: Option<File>,
    limit: Mutex<Option<String>>,
}

impl Home {
    pub fn open(path: &Path) -> io::Result<Home> {
        let dir = OpenOptions::new().read(true).open(path)?;
        let segments = match sys::open_in(dir.as_fd(), SEGMENTS_NAME, OpenAs::Directory) {
            Ok(segments) => Some(segments),
            Err(e) if e.kind() == io::ErrorKind::NotFound || e.kind() == io::ErrorKind::NotADirectory => None,
            Err(e) => return Err(e),
        };
        Ok(Home { opened: path.into(), dir, segments, limit: Mutex::default() })
    }

    pub fn dir(&self) -> &File {
        &self.dir
    }

    /// Where the directory is now, as far as the host tells.
    pub fn place(&self) -> PathBuf {
        let now = std::fs::read_link(format!("/proc/self/fd/{}", self.dir.as_raw_fd()));
        now.unwrap_or_else(|_| self.opened.clone())
    }

    /// Where the file of `slot` is, for a message.
    pub fn path(&self, slot: StoreFile) -> PathBuf {
        let dir = self.place();
        match slot {
            StoreFile::Super(_) | StoreFile::Log => dir.join(name(slot)),
            StoreFile::Segment(_) => dir.join(SEGMENTS_NAME).join(name(slot)),
        }
    }

    pub fn open_slot(&self, slot: StoreFile, how: OpenAs) -> io::Result<File> {
        sys::open_in(self.parent(slot)?.as_fd(), &name(slot), how)
    }

    pub fn remove(&self, slot: StoreFile) -> io::Result<()> {
        sys::remove_in(self.parent(slot)?.as_fd(), &name(slot))
    }

    /// Which file has the name of `slot` now; none if there is none.
    pub fn id_of(&self, slot: StoreFile) -> io::Result<Option<NamedFile>> {
        match self.parent(slot).and_then(|dir| sys::id_in(dir.as_fd(), &name(slot))) {
            Ok(named) => {
                let id = FileId { device: named.device, inode: named.inode };
                Ok(Some(NamedFile { id, is_direct: !named.is_link, len: named.len }))
            }
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(e) => Err(e),
        }
    }

    /// Says that a file was taken from the store.
    pub fn lost(&self, slot: StoreFile) -> String {
        format!("{} was removed or replaced while the store was open", names::shown(self.path(slot)))
    }

    /// Says that somebody else has cut a file short.
    pub fn cut(&self, slot: StoreFile) -> String {
        format!("{} was cut short while the store was open", names::shown(self.path(slot)))
    }

    /// Names in the directory of segments.
    pub fn segments(&self) -> io::Result<Vec<std::ffi::OsString>> {
        self.segments.as_ref().map_or(Ok(Vec::new()), |segments| sys::names_in(segments.as_fd()))
    }

    /// Makes names durable.
    pub fn sync(&self) -> Result<(), (String, io::Error)> {
        let what = |error| (format!("sync of {}", names::shown(self.place())), error);
        self.segments.iter().try_for_each(File::sync_all).map_err(what)?;
        self.dir.sync_all().map_err(what)
    }

    /// Keeps in mind that a limit of the process was in the way, if that is what `error` says.
    pub fn note_limit(&self, error: &io::Error) {
        if sys::is_out_of_descriptors(error) {
            self.limit.lock().get_or_insert_with(|| {
                format!("{error}: raise the limit of open files ('ulimit -n') and try again")
            });
        }
    }

    /// The limit that was in the way, in a sentence.
    pub fn limit(&self) -> Option<String> {
        self.limit.lock().clone()
    }

    fn parent(&self, slot: StoreFile) -> io::Result<&File> {
        match slot {
            StoreFile::Super(_) | StoreFile::Log => Ok(&self.dir),
            StoreFile::Segment(_) => self.segments.as_ref().ok_or_else(|| io::ErrorKind::NotFound.into()),
        }
    }
}

impl Stamp {
    fn of(dir: &Metadata) -> Option<Stamp> {
        // Nothing is known of a directory from before 1970.
        let time = |secs: i64, nanos: i64| {
            Some(Duration::new(u64::try_from(secs).ok()?, u32::try_from(nanos).ok()?))
        };
        let (changed, modified) = (time(dir.ctime(), dir.ctime_nsec()), time(dir.mtime(), dir.mtime_nsec()));
        Some(Stamp { changed: changed?, modified: modified? })
    }

    /// True if whatever changes the directory from now on gives it another stamp, also where time is counted in pieces.
    pub fn is_of_the_past(&self, look: &Look) -> bool {
        let now = Duration::new(u64::try_from(look.now.secs).unwrap_or(0), look.now.nanos);
        now.saturating_sub(STAMP_STEP) > self.changed
    }
}

impl Look<'_> {
    /// Looks at the directories of `home`; `now` is the machine's time.
    pub fn new(home: &Home, now: Timestamp) -> Look<'_> {
        Look { home, now, dir: home.dir.metadata().ok(), segments: OnceCell::new() }
    }

    /// True if the directory of the store has been removed.
    pub fn is_removed(&self) -> bool {
        self.dir.as_ref().is_some_and(|dir| dir.nlink() == 0)
    }

    /// The stamp of the directory that the name of `slot` is in; none if nobody can tell.
    pub fn stamp(&self, slot: StoreFile) -> Option<Stamp> {
        match slot {
            StoreFile::Super(_) | StoreFile::Log => self.dir.as_ref().and_then(Stamp::of),
            StoreFile::Segment(_) => *self.segments.get_or_init(|| {
                let segments = self.home.segments.as_ref()?;
                Stamp::of(&segments.metadata().ok()?)
            }),
        }
    }
}

fn name(slot: StoreFile) -> String {
    match slot {
        StoreFile::Super(ring) => SUPER_NAMES[ring].into(),
        StoreFile::Log => LOG_NAME.into(),
        StoreFile::Segment(number) => format!("{number:08x}"),
    }
}
