//! Access times: when reading changes them, and when the kernel's cache must not hide a read.
//!
//! The kernel's FUSE client never changes an access time; it forgets the one that it knows after each read that it passes
//! on, and asks. Reads that it answers from its cache are not seen here, so while an access time is due the cache is left
//! out. The update is a change like any other and as durable as one, but a read never fails for want of it.

use crate::format::inode::Inode;
use crate::fs::heads::{Heads, Target, target};
use crate::fs::options::{AtimeMode, AtimeOptions};
use crate::ops::{Caching, FileType, NodeId, Result, Timestamp};
use crate::volume::ReserveFor;

/// An access time this old is renewed in any case (`relatime` of Linux).
const STALE_SECONDS: i64 = 24 * 3600;

/// True if a read now changes the access time.
fn is_due(options: AtimeOptions, inode: &Inode, now: Timestamp) -> bool {
    if inode.flags.no_atime || inode.kind == FileType::Directory && !options.directories {
        return false;
    }
    match options.mode {
        AtimeMode::Never => false,
        AtimeMode::Always => inode.atime != now,
        AtimeMode::Relative => {
            inode.atime <= inode.mtime
                || inode.atime <= inode.ctime
                || now.secs.saturating_sub(inode.atime.secs) >= STALE_SECONDS
        }
    }
}

/// See [`Operations::caching`](crate::ops::Operations::caching).
pub fn cache_of(heads: &Heads, node: NodeId, no_atime: bool) -> Caching {
    match heads.options.atime.mode {
        AtimeMode::Never => Caching::Keep,
        _ if no_atime || !atime_can_change(heads, node) => Caching::Keep,
        AtimeMode::Always => Caching::Bypass,
        AtimeMode::Relative => {
            let due = |inode: Inode| is_due(heads.options.atime, &inode, heads.clock.now());
            if heads.inode(node).is_ok_and(due) { Caching::Refresh } else { Caching::Keep }
        }
    }
}

/// Notes that a node has been read; not while that would have to wait for a change at once, or for a thaw.
pub fn accessed(heads: &Heads, node: NodeId) {
    if heads.options.atime.mode != AtimeMode::Never
        && atime_can_change(heads, node)
        && let Some(_thawed) = heads.frosts.pass(node.tree())
        && let Some(_passing) = heads.standstill.pass()
        && let Err(e) = renew_atime(heads, node)
    {
        log::debug!("the access time of inode {} stays as it is: {e}", node.ino());
    }
}

fn atime_can_change(heads: &Heads, node: NodeId) -> bool {
    matches!(target(node), Target::Live(_)) && !heads.is_read_only()
}

fn renew_atime(heads: &Heads, node: NodeId) -> Result<()> {
    let (head, ino) = heads.find(node)?;
    let due = |inode: &Inode, now| is_due(heads.options.atime, inode, now);
    if !due(&heads.live_inode(&head, ino)?, heads.clock.now()) {
        return Ok(());
    }
    let mut change = heads.change(&head)?;
    let mut inode = change.known(ino)?;
    if due(&inode, change.now) {
        inode.atime = change.now;
        change.put_inode(ino, &inode);
        change.finish(ReserveFor::Write)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fs::FsOptions;
    use crate::fs::tests::{RO, ROOT, T, USER};
    use crate::ops::Operations;

    const SECOND: i64 = 1_000_000_000;

    fn with(mode: AtimeMode, directories: bool) -> T {
        let atime = AtimeOptions { mode, directories };
        T::with(1 << 40, FsOptions { atime, ..FsOptions::default() })
    }

    /// What one second and a read make of the access time.
    fn seconds_of_reading(t: &T, node: NodeId, no_atime: bool) -> i64 {
        t.clock.advance(SECOND);
        let h = t.fs.open(&USER, node, crate::ops::OpenFlags { no_atime, ..RO }).unwrap();
        t.read((node, h), 0, 10);
        t.fs.release(node, h);
        t.attr(node).atime.secs
    }

    #[test]
    fn files() {
        for (mode, expected) in [
            (AtimeMode::Never, [1000, 1000, 1000]),
            (AtimeMode::Relative, [1001, 1001, 1001]),
            (AtimeMode::Always, [1001, 1002, 1003]),
        ] {
            let t = with(mode, true);
            let f = t.create(ROOT, "f");
            t.write(f, 0, b"x");
            let ctime = t.attr(f.0).ctime;
            assert_eq!([0; 3].map(|_| seconds_of_reading(&t, f.0, false)), expected, "{mode:?}");
            assert_eq!(seconds_of_reading(&t, f.0, true), expected[2], "O_NOATIME");
            assert_eq!(t.attr(f.0).ctime, ctime, "reading is no change");
        }
    }

    #[test]
    fn relative_renews_after_changes_and_a_day() {
        let t = with(AtimeMode::Relative, true);
        let f = t.create(ROOT, "f");
        assert_eq!(t.fs.caching(f.0, false), Caching::Refresh);
        assert_eq!(seconds_of_reading(&t, f.0, false), 1001);
        assert_eq!((t.fs.caching(f.0, false), seconds_of_reading(&t, f.0, false)), (Caching::Keep, 1001));
        t.clock.advance(10 * SECOND);
        t.write(f, 0, b"changed");
        assert_eq!(t.fs.caching(f.0, true), Caching::Keep);
        assert_eq!((t.fs.caching(f.0, false), seconds_of_reading(&t, f.0, false)), (Caching::Refresh, 1013));
        t.clock.advance(24 * 3600 * SECOND);
        assert_eq!(seconds_of_reading(&t, f.0, false), 1014 + 24 * 3600);
    }

    #[test]
    fn directories_and_links() {
        for directories in [true, false] {
            let t = with(AtimeMode::Always, directories);
            let d = t.mkdir(ROOT, "d").unwrap();
            let link = t.fs.symlink(&USER, d, b"l", b"target").unwrap().attr.node;
            t.clock.advance(5 * SECOND);
            let h = t.fs.opendir(&USER, d).unwrap();
            t.fs.readdir(d, h, 0, false, &mut |_| true).unwrap();
            t.fs.readlink(link).unwrap();
            assert_eq!(t.attr(d).atime.secs, if directories { 1005 } else { 1000 });
            assert_eq!(t.attr(link).atime.secs, 1005);
        }
    }

    #[test]
    fn snapshots_keep_theirs() {
        let t = with(AtimeMode::Always, true);
        t.create(ROOT, "f");
        t.fs.create_snapshot(b"s", crate::fs::Reason::User).unwrap();
        let past = t.find(t.find(crate::fs::tests::SNAPDIR, "s").unwrap(), "f").unwrap();
        assert_eq!((t.fs.caching(past, false), seconds_of_reading(&t, past, false)), (Caching::Keep, 1000));
    }
}
