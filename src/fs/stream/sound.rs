//! Whether what was received makes sense, and the sum over it: both from what differs from the base.
//!
//! A stream is believed in nothing, and its sum proves only that it says what its sender said. The base is sound; so the
//! received tree is, if in what differs names and links of inodes agree, counts have changed as names did, every directory
//! is reached from the root, and content fits its inode. `check` would find nothing wrong with what passes here.

use super::content_sum::sum_of_item;
use super::inodes::{InodeVisitor, visit_inodes};
use super::stream_error::StreamError;
use crate::format::dirent::{NameBucket, name_hash};
use crate::format::inode::Inode;
use crate::format::link::{Links, link_hash};
use crate::format::xattr::{PIECE_BYTES, SHORT_VALUE_BYTES_MAX, XattrValue, Xattrs, xattr_hash};
use crate::format::{BLOCK_BYTES, FormatError, Ino, Key, Kind};
use crate::fs::items::{Items, decode_extent, extents};
use crate::limits::{FILE_BYTES_MAX, INLINE_BYTES_MAX, SYMLINK_BYTES_MAX};
use crate::ops::FileType;
use crate::volume::{View, VolumeError};
use std::collections::{BTreeMap, BTreeSet};

/// So much is looked at between two questions whether to go on: an inode, an extent behind the end of a file, or a directory on
/// the way to the root each count one.
const LOOKS: u64 = 4096;

/// What is wrong, a failure of the store, or an order to stop.
enum Wrong {
    What(String),
    Store(VolumeError),
    Stopped,
}

impl From<VolumeError> for Wrong {
    fn from(e: VolumeError) -> Wrong {
        Wrong::Store(e)
    }
}

impl From<FormatError> for Wrong {
    fn from(e: FormatError) -> Wrong {
        Wrong::What(e.0)
    }
}

type Sound<T> = Result<T, Wrong>;

macro_rules! must {
    ($condition:expr, $($what:tt)*) => { if !$condition { return Err(Wrong::What(format!($($what)*))); } };
}

/// Proves what was received on top of a base, and counts the sum over it from that of the base. What it takes follows what
/// differs. `goes_on` is asked again and again whether to go on; if not, it ends as if what carries the stream had broken. `bad`
/// makes the error of what is wrong.
pub fn prove(
    base: Option<(&View, u128)>,
    new: &View,
    goes_on: &mut dyn FnMut() -> bool,
    bad: &dyn Fn(String) -> StreamError,
) -> Result<u128, StreamError> {
    let (old, sum) = base.map_or((None, 0), |(view, sum)| (Some(view), sum));
    let mut proof = Proof {
        new,
        sum,
        rows: BTreeMap::new(),
        ino: Ino(0),
        old_inode: None,
        inode: None,
        entries: 0,
        subdirectories: 0,
        has_new_xattrs: false,
        looks: 0,
        goes_on,
    };
    let done = visit_inodes(old, new, &mut proof).and_then(|()| proof.finish());
    match done {
        Ok(()) => Ok(proof.sum),
        Err(Wrong::What(what)) => Err(bad(what)),
        Err(Wrong::Store(e)) => Err(e.into()),
        Err(Wrong::Stopped) => {
            Err(StreamError::Carrier(std::io::Error::new(std::io::ErrorKind::Interrupted, "it was stopped")))
        }
    }
}

/// What is known of one inode from all that differs.
#[derive(Clone, Copy, Default)]
struct Row {
    /// Sum over entries that came minus those that went, and the other way round over links.
    balance: u64,
    /// Entries that came minus those that went.
    names: i64,
    /// Names that its inode says came.
    links: i64,
    /// Entries that came.
    come: i64,
    /// The type that a new entry says.
    kind: Option<FileType>,
    /// In the base the number is of something of another type.
    is_other_type: bool,
}

struct Proof<'p> {
    new: &'p View,
    sum: u128,
    rows: BTreeMap<Ino, Row>,
    /// The inode whose items come now.
    ino: Ino,
    old_inode: Option<Inode>,
    inode: Option<Inode>,
    /// Names in it that came minus those that went, and of these directories.
    entries: i64,
    subdirectories: i64,
    has_new_xattrs: bool,
    /// See [`LOOKS`].
    looks: u64,
    goes_on: &'p mut dyn FnMut() -> bool,
}

impl InodeVisitor for Proof<'_> {
    type Error = Wrong;

    fn begin(&mut self, ino: Ino, old: Option<&Inode>, new: Option<&Inode>) -> Sound<()> {
        (self.ino, self.old_inode, self.inode) = (ino, old.cloned(), new.cloned());
        (self.entries, self.subdirectories, self.has_new_xattrs) = (0, 0, false);
        self.look()
    }

    fn item(&mut self, key: &Key, old: Option<&[u8]>, new: Option<&[u8]>) -> Sound<()> {
        if let Some(old) = old {
            self.sum = self.sum.wrapping_sub(sum_of_item(key, old)?);
            self.names(key, old, -1)?;
        }
        if let Some(new) = new {
            self.sum = self.sum.wrapping_add(sum_of_item(key, new)?);
            self.names(key, new, 1)?;
        }
        self.has_new_xattrs |= [Kind::Xattr as u8, Kind::XattrData as u8].contains(&key.kind);
        Ok(())
    }

    fn end(&mut self) -> Sound<()> {
        let ino = self.ino;
        let Some(inode) = self.inode.take() else {
            if self.new.inode(ino)?.is_some_and(|inode| inode.nlink > 0) {
                // One of another type has its number, and comes next.
                let names = self.old_inode.take().map_or(0, |old| names_of(&old));
                let row = self.row(ino);
                (row.is_other_type, row.links) = (true, -names);
                return Ok(());
            }
            let [from, to] = [ino.0, ino.0 + 1].map(|object| Key { object, kind: 0, rest: 0 });
            let left = self.new.range(&from, &to).next().transpose()?;
            must!(left.is_none(), "inode {} goes, and some of it is left", ino.0);
            return Ok(());
        };
        let old = self.old_inode.take();
        let before = old.as_ref();
        if inode.kind == FileType::Directory {
            let size = before.map_or(0, |old| old.size).checked_add_signed(self.entries);
            must!(size == Some(inode.size), "directory {} counts {} names", ino.0, inode.size);
            let links = i64::from(before.map_or(2, |old| old.nlink)) + self.subdirectories;
            must!(links == i64::from(inode.nlink), "directory {} has a link count of {}", ino.0, inode.nlink);
        } else {
            must!(self.entries == 0, "inode {} has names in it, and is no directory", ino.0);
            self.row(ino).links += names_of(&inode) - before.map_or(0, names_of);
        }
        self.row(ino);
        self.content(ino, &inode)?;
        if self.has_new_xattrs || before.is_none() || !inode.has_xattr {
            self.xattrs(ino, &inode)?;
        }
        Ok(())
    }

    fn nameless(&mut self, ino: Ino) -> Sound<()> {
        Err(Wrong::What(format!("there is something of inode {}, and no inode", ino.0)))
    }
}

impl Proof<'_> {
    /// Looks at one thing more, unless it is to stop.
    fn look(&mut self) -> Sound<()> {
        self.looks += 1;
        if self.looks.is_multiple_of(LOOKS) && !(self.goes_on)() { Err(Wrong::Stopped) } else { Ok(()) }
    }

    fn row(&mut self, ino: Ino) -> &mut Row {
        self.rows.entry(ino).or_default()
    }

    /// Counts the names in an item that comes (1) or goes (-1).
    fn names(&mut self, key: &Key, value: &[u8], by: i64) -> Sound<()> {
        let ino = Ino(key.object);
        if key.kind == Kind::Link as u8 {
            for (parent, name) in Links::decode(value)?.names {
                must!(link_hash(parent, &name) == key.rest, "a link of inode {} has a wrong hash", ino.0);
                let print = fingerprint(parent, &name).wrapping_mul(by.cast_unsigned());
                let row = self.row(ino);
                row.balance = row.balance.wrapping_sub(print);
            }
        } else if key.kind == Kind::Dirent as u8 {
            for entry in NameBucket::decode(value)?.entries {
                must!(name_hash(&entry.name) == key.rest, "a name in inode {} has a wrong hash", ino.0);
                let is_directory = entry.kind == FileType::Directory;
                self.entries += by;
                self.subdirectories += if is_directory { by } else { 0 };
                let print = fingerprint(ino, &entry.name).wrapping_mul(by.cast_unsigned());
                let row = self.row(entry.ino);
                row.balance = row.balance.wrapping_add(print);
                row.names += by;
                if by > 0 {
                    row.come += by;
                    let other = row.kind.is_some_and(|kind| kind != entry.kind);
                    must!(!other, "two names of inode {} say that it is of two types", entry.ino.0);
                    row.kind = Some(entry.kind);
                }
            }
        }
        Ok(())
    }

    /// Content against the inode.
    fn content(&mut self, ino: Ino, inode: &Inode) -> Sound<()> {
        let (size, number) = (inode.size, ino.0);
        let inline = self.new.get(&Key::new(number, Kind::Inline, 0))?.map(|value| value.to_vec());
        must!(
            inode.has_inline == inline.is_some(),
            "inode {number} and its content in the tree do not agree"
        );
        let inline = inline.unwrap_or_default();
        let first = extents::next(self.new, ino, 0)?;
        let device = matches!(inode.kind, FileType::CharDevice | FileType::BlockDevice);
        must!(device || inode.rdev == 0, "inode {number} has a device number, and is no device");
        match inode.kind {
            FileType::Regular => {
                must!(size <= FILE_BYTES_MAX, "inode {number} has a size of {size}");
                let fits = (1..=size.min(INLINE_BYTES_MAX)).contains(&(inline.len() as u64));
                must!(!inode.has_inline || fits, "inode {number} has {} bytes in the tree", inline.len());
                let both = inode.has_inline && first.is_some_and(|(at, _)| at == 0);
                must!(!both, "inode {number} has its first block twice");
                self.end_of_content(ino, size)
            }
            FileType::Symlink => {
                let fits = inline.len() as u64 == size && (1..=SYMLINK_BYTES_MAX).contains(&inline.len());
                must!(fits && !inline.contains(&0), "link {number} has an impossible target");
                must!(first.is_none(), "link {number} has content");
                Ok(())
            }
            kind => {
                must!(first.is_none() && !inode.has_inline, "inode {number} has content, and is a {kind:?}");
                must!(
                    kind == FileType::Directory || size == 0,
                    "inode {number} has a size, and is a {kind:?}"
                );
                Ok(())
            }
        }
    }

    /// Beyond the end of a file there is only space.
    fn end_of_content(&mut self, ino: Ino, size: u64) -> Sound<()> {
        let (new, end) = (self.new, size.next_multiple_of(BLOCK_BYTES));
        let at_end = extents::at(new, ino, end)?;
        let [from, to] = [end + 1, u64::MAX].map(|offset| Key::new(ino.0, Kind::Extent, offset));
        let behind =
            new.range(&from, &to).map(|item| item.and_then(|(key, value)| decode_extent(&key, &value)));
        for found in at_end.into_iter().map(Ok).chain(behind) {
            let (_, extent) = found?;
            must!(extent.is_unwritten(), "inode {} has content behind its end", ino.0);
            self.look()?;
        }
        Ok(())
    }

    /// Extended attributes against their long values.
    fn xattrs(&self, ino: Ino, inode: &Inode) -> Sound<()> {
        let [from, to] = [Kind::Xattr, Kind::Inline].map(|kind| Key::new(ino.0, kind, 0));
        let mut long: BTreeMap<u64, (u64, u64)> = BTreeMap::new();
        for item in self.new.range(&from, &to) {
            let (key, value) = item?;
            must!(inode.has_xattr, "inode {} says that it has no extended attributes", ino.0);
            if key.kind == Kind::XattrData as u8 {
                let (number, piece) = (key.rest >> 16, key.rest & 0xffff);
                let Some((len, pieces)) = long.get_mut(&number) else {
                    return Err(Wrong::What(format!("a value of inode {} is of no attribute", ino.0)));
                };
                let wanted = len.saturating_sub(piece * PIECE_BYTES as u64).min(PIECE_BYTES as u64);
                must!(value.len() as u64 == wanted, "inode {} has a value in wrong pieces", ino.0);
                *pieces += 1;
                continue;
            }
            for (name, value) in Xattrs::decode(&value)?.entries {
                must!(xattr_hash(&name) == key.rest, "an attribute of inode {} has a wrong hash", ino.0);
                match value {
                    XattrValue::Short(value) => {
                        must!(value.len() <= SHORT_VALUE_BYTES_MAX, "inode {} has a long value", ino.0);
                    }
                    XattrValue::Long { number, len } => {
                        let long_enough = len as usize > SHORT_VALUE_BYTES_MAX;
                        let new = long.insert(number, (len.into(), 0)).is_none();
                        must!(new && long_enough, "inode {} has a short value in pieces", ino.0);
                    }
                }
            }
        }
        for (len, pieces) in long.into_values() {
            must!(pieces == len.div_ceil(PIECE_BYTES as u64), "inode {} has a value with gaps", ino.0);
        }
        Ok(())
    }

    /// What inodes say about each other.
    fn finish(&mut self) -> Sound<()> {
        let root = self.new.inode(Ino::ROOT)?;
        must!(root.is_some_and(|root| root.kind == FileType::Directory), "there is no root directory");
        let mut reached = BTreeSet::from([Ino::ROOT]);
        for (ino, row) in std::mem::take(&mut self.rows) {
            let number = ino.0;
            must!(row.balance == 0, "names and links of inode {number} are not the same");
            let Some(inode) = self.new.inode(ino)? else { continue };
            let says = row.kind.is_none_or(|kind| kind == inode.kind);
            must!(says, "a name of inode {number} says that it is a {:?}", row.kind);
            // A name that did not come says of which type it was.
            let all_came = !row.is_other_type || row.come == names_of(&inode);
            must!(
                all_came,
                "a name of inode {number} says that it is what it was, and it is a {:?}",
                inode.kind
            );
            if inode.kind != FileType::Directory {
                must!(row.names == row.links, "inode {number} has another count of names than names");
                continue;
            }
            let links = self.links(ino)?;
            let wanted = usize::from(ino != Ino::ROOT);
            must!(links.len() == wanted, "directory {number} has {} names", links.len());
            let inside = links.first().copied().unwrap_or(Ino::ROOT);
            must!(inode.parent == inside, "directory {number} is in {}, not in {}", inside.0, inode.parent.0);
            self.reach(ino, &mut reached)?;
        }
        Ok(())
    }

    /// The directories in which a directory has names: two are enough.
    fn links(&self, ino: Ino) -> Sound<Vec<Ino>> {
        let [from, to] = [Kind::Link, Kind::Dirent].map(|kind| Key::new(ino.0, kind, 0));
        let mut found = Vec::new();
        for item in self.new.range(&from, &to).take(2) {
            found.extend(Links::decode(&item?.1)?.names.into_iter().map(|(parent, _)| parent));
        }
        Ok(found)
    }

    /// A directory must reach the root.
    fn reach(&mut self, start: Ino, reached: &mut BTreeSet<Ino>) -> Sound<()> {
        let (mut at, mut way) = (start, BTreeSet::new());
        while !reached.contains(&at) {
            let found = self.new.inode(at)?.filter(|inode| inode.kind == FileType::Directory);
            let Some(inode) = found else {
                return Err(Wrong::What(format!("directory {} is in what is no directory", start.0)));
            };
            must!(way.insert(at), "directory {} is inside of itself", start.0);
            at = inode.parent;
            self.look()?;
        }
        reached.extend(way);
        Ok(())
    }
}

/// How many names an inode has that is sound.
fn names_of(inode: &Inode) -> i64 {
    if inode.kind == FileType::Directory { 1 } else { inode.nlink.into() }
}

/// A name as a number: equal sets of names have equal sums.
fn fingerprint(dir: Ino, name: &[u8]) -> u64 {
    xxhash_rust::xxh3::xxh3_64_with_seed(name, dir.0.wrapping_mul(0x9e37_79b9_7f4a_7c15))
}
