//! What `chattr` sets: files and directories that do not change, or only grow; files without access times, or whose every
//! write is durable.
//!
//! The rules are those of chattr(1) and ext4: what is refused is refused to everybody (EPERM), root included. Whether the
//! caller may set them (owner, CAP_LINUX_IMMUTABLE) the kernel has asked before. New files inherit from their directory all
//! but the two that refuse changes.

use crate::format::Ino;
use crate::format::inode::Inode;
use crate::fs::error::write_back_error;
use crate::fs::heads::{Change, Heads, Target, target};
use crate::fs::items::Items;
use crate::ops::{Error, FileFlags, FileType, NodeId, OpenFlags, Result, SetAttr, SetTime};
use crate::volume::ReserveFor;

fn refuse(yes: bool) -> Result<()> {
    if yes { Err(Error::NotPermitted) } else { Ok(()) }
}

/// Before a change of any kind but an addition.
pub fn check_change(inode: &Inode) -> Result<()> {
    refuse(inode.flags.immutable || inode.flags.append_only)
}

/// Before something is added at the end, or to a directory.
pub fn check_addition(inode: &Inode) -> Result<()> {
    refuse(inode.flags.immutable)
}

/// Before attributes change. The current times may be set where content may be added; those that come with a time of the
/// last change are of writes that the kernel has gathered, and were allowed then.
pub fn check_attributes(inode: &Inode, set: &SetAttr) -> Result<()> {
    let only_times = set.mode.is_none() && set.uid.is_none() && set.gid.is_none() && set.size.is_none();
    let are_now = [set.atime, set.mtime].iter().all(|time| !matches!(time, Some(SetTime::At(_))));
    match only_times {
        true if set.ctime.is_some() => Ok(()),
        true if are_now => check_addition(inode),
        _ => check_change(inode),
    }
}

/// Before a file is opened.
pub fn check_open(inode: &Inode, flags: OpenFlags) -> Result<()> {
    let writes = flags.write || flags.truncate;
    refuse(writes && (inode.flags.immutable || inode.flags.append_only && !(flags.at_end || flags.append)))
}

/// What something new gets from its directory.
pub fn inherited(parent: FileFlags, kind: FileType) -> FileFlags {
    match kind {
        FileType::Regular | FileType::Directory => {
            FileFlags { immutable: false, append_only: false, ..parent }
        }
        _ => FileFlags::default(),
    }
}

/// See [`Operations::file_flags`](crate::ops::Operations::file_flags).
pub fn flags_of(heads: &Heads, node: NodeId) -> Result<FileFlags> {
    match target(node) {
        Target::Snapdir(_) | Target::Clonedir => Err(Error::NotSupported),
        _ => Ok(heads.view_of(node)?.inode(Ino(node.ino()))?.ok_or(Error::Stale)?.flags),
    }
}

/// See [`Operations::set_file_flags`](crate::ops::Operations::set_file_flags).
pub fn set_flags(heads: &Heads, node: NodeId, flags: FileFlags) -> Result<()> {
    let (head, ino) = heads.target(node)?;
    // No other requests are answered here.
    let _passing = loop {
        drop(heads.frosts.wait_to_pass(node.tree()));
        if flags.immutable {
            // What was written before is in the file, also what only the kernel has. That takes requests of it, which pass.
            let Some(_handing_over) = heads.frosts.hand_over(node.tree()) else { continue };
            heads
                .kernel()
                .write_back(&[(node, heads.generation(node, FileType::Regular)?)])
                .map_err(write_back_error)?;
        }
        if let Some(passing) = heads.frosts.pass(node.tree()) {
            break passing;
        }
    };
    let mut change = heads.change(&head)?;
    let mut inode = change.known(ino)?;
    if !matches!(inode.kind, FileType::Regular | FileType::Directory) {
        return Err(Error::NotSupported);
    }
    inode.flags = flags;
    inode.ctime = change.now;
    change.put_inode(ino, &inode);
    change.finish(ReserveFor::Write)?;
    heads.kernel().forget_attributes(node); // it does not take this for a change of the time of the last change
    Ok(())
}

/// Before a name goes from a directory. Comes before whatever else may be wrong with what it names.
pub fn check_removal(change: &Change<'_>, dir: Ino, ino: Ino) -> Result<()> {
    check_change(&change.known(dir)?)?;
    check_change(&change.named(ino)?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fs::tests::{RO, ROOT, RW, T, USER};
    use crate::ops::{AllocateMode, Operations, RenameMode, XattrMode};

    /// Which of the things that can be done to a file and its name are refused.
    fn refused(t: &T, flags: FileFlags) -> Vec<&'static str> {
        let dir = t.mkdir(ROOT, "d").unwrap();
        let (file, open) = t.create(dir, "f");
        t.write((file, open), 0, b"content");
        t.fs.set_file_flags(file, flags).unwrap();
        assert_eq!(t.fs.file_flags(file), Ok(flags));
        let now = SetAttr { mtime: Some(SetTime::Now), ..SetAttr::default() };
        let mode = SetAttr { mode: Some(0o600), ..SetAttr::default() };
        let cut = SetAttr { size: Some(1), ..SetAttr::default() };
        let at_end = OpenFlags { at_end: true, ..RW };
        let results = [
            ("read", t.fs.open(&USER, file, RO).map(drop)),
            ("open", t.fs.open(&USER, file, RW).map(drop)),
            ("append", t.fs.open(&USER, file, at_end).map(drop)),
            ("write", t.fs.write(file, open, 7, b"more", false).map(drop)),
            ("cut", t.fs.setattr(&USER, file, None, &cut).map(drop)),
            ("mode", t.fs.setattr(&USER, file, None, &mode).map(drop)),
            ("touch", t.fs.setattr(&USER, file, None, &now).map(drop)),
            ("xattr", t.fs.setxattr(&USER, file, b"user.x", b"1", XattrMode::Set)),
            ("punch", t.fs.fallocate(&USER, file, open, 0, 4096, AllocateMode::PunchHole)),
            ("link", t.fs.link(&USER, file, ROOT, b"l").map(drop)),
            ("rename", t.fs.rename(&USER, dir, b"f", dir, b"g", RenameMode::Replace)),
            ("unlink", t.fs.unlink(&USER, dir, b"f").or_else(|_| t.fs.unlink(&USER, dir, b"g"))),
        ];
        for (what, result) in &results {
            let allowed = matches!(result, Ok(()) | Err(Error::NotPermitted));
            assert!(allowed || *what == "unlink", "{what}: {result:?}");
        }
        results.into_iter().filter(|(_, r)| r.is_err()).map(|(what, _)| what).collect()
    }

    #[test]
    fn what_is_refused() {
        let none = FileFlags::default();
        assert!(refused(&T::new(), none).is_empty());
        assert!(
            refused(&T::new(), FileFlags { sync: true, no_dump: true, no_atime: true, ..none }).is_empty()
        );
        let grows = ["open", "cut", "mode", "xattr", "punch", "link", "rename", "unlink"];
        assert_eq!(refused(&T::new(), FileFlags { append_only: true, ..none }), grows);
        let all = refused(&T::new(), FileFlags { immutable: true, ..none });
        assert_eq!(all.len(), 11, "everything but reading: {all:?}");
    }

    #[test]
    fn directories_and_what_is_made_in_them() {
        let t = T::new();
        let none = FileFlags::default();
        let dir = t.mkdir(ROOT, "d").unwrap();
        t.put(dir, "old", b"1");
        t.fs.set_file_flags(dir, FileFlags { append_only: true, no_atime: true, ..none }).unwrap();
        let (new, _) = t.create(dir, "new");
        assert_eq!(t.fs.file_flags(new), Ok(FileFlags { no_atime: true, ..none }));
        assert_eq!(t.fs.unlink(&USER, dir, b"old"), Err(Error::NotPermitted));
        t.fs.set_file_flags(dir, FileFlags { immutable: true, ..none }).unwrap();
        assert_eq!(t.mkdir(dir, "sub"), Err(Error::NotPermitted));
        assert_eq!(t.fs.unlink(&USER, dir, b"old"), Err(Error::NotPermitted));
        let snap = t.snapshot("s");
        t.fs.set_file_flags(dir, none).unwrap();
        t.fs.unlink(&USER, dir, b"old").unwrap();
        let past = t.find(snap, "d").unwrap();
        assert!(t.fs.file_flags(past).unwrap().immutable, "a snapshot keeps its own");
        assert_eq!(t.fs.set_file_flags(past, none), Err(Error::ReadOnly));
    }
}
