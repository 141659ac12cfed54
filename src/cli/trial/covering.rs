//! Puts a clone where the tree is that it was made from, in the mount namespace of the outer process: at every place at which
//! `mountinfo` shows that tree or a directory of it.
//!
//! A mount lies on a directory of the file system that is below it, and goes when that has its name dropped, also in this
//! namespace (docs/decisions/0029). So a mount of a directory of the tree is taken away and the clone put in its place, where
//! that can be. Where it cannot (a normal user's, one that is locked) and in `.clones`, the daemon is told which names are covered,
//! before they are, and drops none of them while the trial goes on.
//!
//! Invariant: afterwards no path in sight leads into the live tree, and nothing that was mounted below it is hidden: that is
//! there read-only. Whatever cannot be had so is a refusal, with a sentence. What others have mounted over the tree stays over
//! it. Other clones, and snapshots, are where they were.

use super::words::OuterOrder;
use crate::fs::CLONEDIR_NAME;
use crate::fuse::mounts::{self, Mount};
use crate::names;
use crate::ops::NodeId;
use crate::sys::mount::{fcntl, major_minor, umount};
use crate::sys::namespace::{self, attributes};
use std::ffi::OsStr;
use std::fs::{self, File, Metadata};
use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

/// Which directory of which line a path from the root of a mount's file system means.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct LinePath {
    /// The clone; none for the line that the file system has at its root.
    pub(super) line: Option<Vec<u8>>,
    /// From the root of the line.
    pub(super) inside: PathBuf,
}

impl LinePath {
    /// `.clones` is that directory in the root of a line alone.
    pub(super) fn of(root: &Path) -> LinePath {
        let mut found = LinePath { line: None, inside: root.strip_prefix("/").unwrap_or(root).to_path_buf() };
        while let Ok(rest) = found.inside.strip_prefix(OsStr::from_bytes(CLONEDIR_NAME))
            && let Some(name) = rest.iter().next()
        {
            let inside = rest.strip_prefix(name).unwrap_or(rest).to_path_buf();
            found = LinePath { line: Some(name.as_bytes().to_vec()), inside };
        }
        found
    }
}

/// A mount of the file system that is in sight, and what is at its root.
struct InSight<'a> {
    mount: &'a Mount,
    node: NodeId,
    shows: LinePath,
}

/// What is to be mounted at a place.
struct Copy {
    point: PathBuf,
    mounts: OwnedFd,
    /// What is found there afterwards, where that is part of the clone.
    node: Option<NodeId>,
}

/// Does it, and goes to the working directory anew. `agree` is asked before a name is covered: all such, by their paths from the
/// root of the file system.
pub(super) fn cover(
    order: &OuterOrder,
    agree: &mut dyn FnMut(Vec<Vec<u8>>) -> Result<(), String>,
) -> Result<(), String> {
    let cwd = std::env::current_dir().map_err(|e| format!("the working directory is gone: {e}"))?;
    let was = node_of(&fs::metadata(".").map_err(|e| about(&cwd, "cannot be used", &e))?, order);
    let all = mounts::all().map_err(|e| format!("cannot see what is mounted: {e}"))?;
    let in_sight = in_sight(&all, order)?;
    let is_tried = |node: NodeId| node.is_live() && node.slot() == order.slot;
    let clone = open_clone(&in_sight, order)?;
    let clone_node = node_of(&clone.metadata().map_err(|e| format!("the clone: {e}"))?, order)
        .filter(|node| node.is_live() && node.slot() != order.slot)
        .ok_or("the clone is not where it should be")?;
    let mut copies = Vec::new();
    let tried: Vec<&InSight> = in_sight.iter().filter(|m| is_tried(m.node)).collect();
    for m in &tried {
        if m.shows.line != order.line {
            return Err(format!("{} shows a directory that is gone", names::shown(&m.mount.point)));
        }
        copies.push(part_of_clone(&clone, clone_node, m, order)?);
    }
    for m in all.iter().filter(|m| mounts::hiding(&all, m).is_none()) {
        let is_below = tried.iter().any(|t| t.mount.id == m.parent && t.mount.id != m.id);
        if is_below && !tried.iter().any(|t| t.mount.id == m.id) {
            copies.extend(carried(m)?);
        }
    }
    if let Some(name) = &order.line {
        for m in in_sight.iter().filter(|m| !is_tried(m.node) && is_root(m)) {
            copies.extend(way_through(&m.mount.point, name, &clone, clone_node, order)?);
        }
    }
    copies.sort_by_key(|copy| copy.point.components().count());
    make_room(&tried);
    agree(covered_names(&copies, clone_node, order)?)?;
    for copy in &copies {
        attach(copy, order)?;
        if let (Some(name), Some(node)) = (&order.line, copy.node)
            && node.ino() == clone_node.ino()
        {
            let root = open_place(&copy.point).map_err(|e| no_copy(&copy.point, &e))?;
            if let Some(copy) = way_through(&copy.point, name, &root, clone_node, order)? {
                attach(&copy, order)?;
            }
        }
    }
    std::env::set_current_dir(&cwd).map_err(|e| about(&cwd, "is not to be found in the trial", &e))?;
    let is = node_of(&fs::metadata(".").map_err(|e| about(&cwd, "cannot be used", &e))?, order);
    if was.is_some_and(is_tried) && is != was.map(|node| clone_node.sibling(node.ino())) {
        return Err(format!("the working directory {} is not part of what is tried", names::shown(&cwd)));
    }
    Ok(())
}

/// Takes away what is mounted of directories of the tree, where that can be. What is mounted below goes with it.
fn make_room(tried: &[&InSight]) {
    let mut parts: Vec<&Path> =
        tried.iter().filter(|m| m.mount.root != Path::new("/")).map(|m| m.mount.point.as_path()).collect();
    // Or what was hidden would be in its place.
    parts.sort_by_key(|point| std::cmp::Reverse(point.components().count()));
    for point in parts {
        let _ = umount(point, true); // one that is locked is covered
    }
}

/// The names that the copies will be mounted on, and on the way to the clone those of clones.
fn covered_names(copies: &[Copy], clone: NodeId, order: &OuterOrder) -> Result<Vec<Vec<u8>>, String> {
    let all = mounts::all().map_err(|e| format!("cannot see what is mounted: {e}"))?;
    let (mut names, clones) = (Vec::new(), OsStr::from_bytes(CLONEDIR_NAME));
    for copy in copies.iter().filter(|copy| copy.node.is_some()) {
        // The mount at the place, or in which the place is: the last of the longest.
        let around = all.iter().filter(|m| mounts::hiding(&all, m).is_none());
        let around = around.filter(|m| copy.point.starts_with(&m.point));
        let around = around.max_by_key(|m| m.point.components().count());
        // A place in what is covered itself is a name of the clone then.
        let is_inside = |m: &Mount, other: &Copy| {
            let covers = other.node.is_some() && other.point != copy.point;
            covers && copy.point.starts_with(&other.point) && other.point.starts_with(&m.point)
        };
        let around = around.filter(|m| m.device == order.device);
        if let Some(m) = around.filter(|m| !copies.iter().any(|other| is_inside(m, other))) {
            let way = m.root.join(copy.point.strip_prefix(&m.point).unwrap_or(Path::new("")));
            names.push(way);
        }
        if let (Some(name), Some(node)) = (&order.line, copy.node)
            && node.ino() == clone.ino()
        {
            let own = Path::new(clones).join(OsStr::from_bytes(&order.clone));
            names.push(own.join(clones).join(OsStr::from_bytes(name)));
        }
    }
    let names = names.iter().map(|way| way.strip_prefix("/").unwrap_or(way).as_os_str().as_bytes().to_vec());
    let mut names: Vec<_> = names.filter(|name| !name.is_empty()).collect();
    names.sort_unstable();
    names.dedup();
    Ok(names)
}

fn about(path: &Path, what: &str, e: &io::Error) -> String {
    format!("{} {what}: {e}", names::shown(path))
}

/// The node that something in the file system is.
fn node_of(meta: &Metadata, order: &OuterOrder) -> Option<NodeId> {
    (major_minor(meta.dev()) == order.device).then(|| NodeId(meta.ino()))
}

fn is_root(m: &InSight) -> bool {
    m.shows.inside.as_os_str().is_empty() && m.node.is_live()
}

/// The mounts of the file system that this user can reach.
fn in_sight<'a>(all: &'a [Mount], order: &OuterOrder) -> Result<Vec<InSight<'a>>, String> {
    let mut found = Vec::new();
    for mount in all.iter().filter(|m| m.device == order.device && mounts::hiding(all, m).is_none()) {
        match fs::symlink_metadata(&mount.point) {
            Ok(meta) => {
                let node = node_of(&meta, order);
                let node = node.ok_or("mounts are being changed; try again".to_string())?;
                found.push(InSight { mount, node, shows: LinePath::of(&mount.root) });
            }
            Err(e) if e.kind() == io::ErrorKind::PermissionDenied => {} // nor is it for the command
            Err(e) => return Err(about(&mount.point, "cannot be covered", &e)),
        }
    }
    Ok(found)
}

/// Only good to be looked at and to be mounted.
fn open_place(path: &Path) -> io::Result<File> {
    File::options().read(true).custom_flags(fcntl::O_PATH | fcntl::O_NOFOLLOW).open(path)
}

/// The root of the clone, through a mount that shows the root of a line.
fn open_clone(in_sight: &[InSight], order: &OuterOrder) -> Result<File, String> {
    let at = |m: &InSight| m.mount.point.join(OsStr::from_bytes(CLONEDIR_NAME));
    let roots = || in_sight.iter().filter(|m| is_root(m));
    // A copy has at most the rights of the mount that it is made from.
    let best = roots().find(|m| !m.mount.read_only).or(roots().next());
    let Some(dir) = best.map(at) else {
        return Err("no mount in sight shows the root of the tree, through which clones are found".into());
    };
    let path = dir.join(OsStr::from_bytes(&order.clone));
    open_place(&path).map_err(|e| about(&path, "cannot be used", &e))
}

/// The directory of the clone that belongs to a mount of the tree.
fn part_of_clone(clone: &File, root: NodeId, m: &InSight, order: &OuterOrder) -> Result<Copy, String> {
    let (point, expected) = (&m.mount.point, root.sibling(m.node.ino()));
    let path = PathBuf::from(format!("/proc/self/fd/{}", clone.as_raw_fd())).join(&m.shows.inside);
    let part = if m.shows.inside.as_os_str().is_empty() { clone.try_clone() } else { open_place(&path) };
    let part = part.map_err(|e| about(point, "shows what the clone does not have", &e))?;
    let meta = part.metadata().map_err(|e| about(point, "cannot be covered", &e))?;
    if node_of(&meta, order) != Some(expected) {
        return Err(format!("{} shows what has been moved; try again", names::shown(point)));
    }
    let copied = namespace::copy_mount(part.as_fd()).and_then(|copy| {
        namespace::add_attributes(&copy, namespace::attributes_at(point)?)?;
        Ok(copy)
    });
    let mounts = copied.map_err(|e| no_copy(point, &e))?;
    Ok(Copy { point: point.clone(), mounts, node: Some(expected) })
}

fn no_copy(point: &Path, e: &io::Error) -> String {
    format!("{} cannot be covered: {e} (Linux 5.12 or newer is needed)", names::shown(point))
}

/// What is mounted in the tree, and below that, to be read there.
fn carried(m: &Mount) -> Result<Option<Copy>, String> {
    let refuse = |e: io::Error| {
        let what = format!("{} is mounted in the tree and cannot be carried along", names::shown(&m.point));
        format!("{what}: {e}; unmount it first, or bind it elsewhere")
    };
    let mounts = match namespace::copy_mounts(&m.point) {
        Err(e) if e.kind() == io::ErrorKind::PermissionDenied => return Ok(None), // nor can the command go there
        copied => copied.map_err(refuse)?,
    };
    namespace::add_attributes(&mounts, attributes::MOUNT_ATTR_RDONLY).map_err(refuse)?;
    eprintln!("snapfs: {} is another file system: it can only be read in the trial", names::shown(&m.point));
    Ok(Some(Copy { point: m.point.clone(), mounts, node: None }))
}

/// A clone that is tried is found by name from the root of every line: there, too, is what is tried.
fn way_through(
    root: &Path,
    name: &[u8],
    clone: &File,
    clone_node: NodeId,
    order: &OuterOrder,
) -> Result<Option<Copy>, String> {
    let point = root.join(OsStr::from_bytes(CLONEDIR_NAME)).join(OsStr::from_bytes(name));
    let leads_there = fs::symlink_metadata(&point).is_ok_and(|meta| {
        node_of(&meta, order).is_some_and(|node| node.is_live() && node.slot() == order.slot)
    });
    if !leads_there {
        return Ok(None);
    }
    let mounts = namespace::copy_mount(clone.as_fd()).map_err(|e| no_copy(&point, &e))?;
    Ok(Some(Copy { point, mounts, node: Some(clone_node) }))
}

fn attach(copy: &Copy, order: &OuterOrder) -> Result<(), String> {
    namespace::attach_mounts(&copy.mounts, &copy.point).map_err(|e| no_copy(&copy.point, &e))?;
    let Some(expected) = copy.node else { return Ok(()) };
    let meta = fs::symlink_metadata(&copy.point).map_err(|e| no_copy(&copy.point, &e))?;
    if node_of(&meta, order) == Some(expected) {
        return Ok(());
    }
    Err(format!("{} was moved or mounted over; try again", names::shown(&copy.point)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn roots_of_mounts_are_told_by_line() {
        for (root, line, inside) in [
            ("/", None, ""),
            ("/a/b", None, "a/b"),
            ("/.clones/x", Some("x"), ""),
            ("/.clones/x/a", Some("x"), "a"),
            ("/.clones/x/.clones/y/a/b", Some("y"), "a/b"),
            ("/a/.clones/x", None, "a/.clones/x"),
            ("/.clones/x/a/.clones/y", Some("x"), "a/.clones/y"),
            ("/.clones", None, ".clones"),
        ] {
            let expected =
                LinePath { line: line.map(|name| name.as_bytes().to_vec()), inside: inside.into() };
            assert_eq!(LinePath::of(Path::new(root)), expected, "{root}");
        }
    }
}
