//! What is mounted where, from `mountinfo` of the calling thread. Reads only; nothing is asked of the file systems themselves,
//! so a hung or dead mount cannot block it.

use crate::names;
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;
use std::ffi::OsString;
use std::io;
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};

/// Which mount, while it is there: wherever it is moved.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct MountId {
    /// `major:minor` of its files' device number.
    pub device: (u32, u32),
    /// Its number.
    pub id: u32,
}

/// One mount.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Mount {
    /// Its number. The kernel gives it to another mount when this one is gone.
    pub id: u32,
    /// The mount that it is in.
    pub parent: u32,
    /// Which directory of its file system is mounted: `/` but for bind mounts.
    pub root: PathBuf,
    /// `major:minor` of its files' device number.
    pub device: (u32, u32),
    /// Where.
    pub point: PathBuf,
    /// Type with subtype, such as `fuse.snapfs`.
    pub fstype: String,
    /// Source, as `df` shows it.
    pub source: OsString,
    /// No change is possible through it.
    pub read_only: bool,
}

impl Mount {
    /// What it can be found by later.
    pub fn mount_id(&self) -> MountId {
        MountId { device: self.device, id: self.id }
    }

    /// True if it is this one.
    pub fn is(&self, mount: MountId) -> bool {
        self.mount_id() == mount
    }

    /// True for a mount of FUSE, of whatever subtype.
    pub fn is_fuse(&self) -> bool {
        self.fstype == "fuse" || self.fstype.starts_with("fuse.")
    }

    /// True for a mount of ours.
    pub fn is_snapfs(&self) -> bool {
        self.fstype == "fuse.snapfs" || self.fstype == "snapfs"
    }
}

/// All mounts that this process can see, the topmost of several at one place last.
pub fn all() -> io::Result<Vec<Mount>> {
    let text = std::fs::read("/proc/thread-self/mountinfo")?;
    Ok(text.split(|&b| b == b'\n').filter_map(parse).collect())
}

/// The topmost mount exactly at `point` (an absolute path without `..` or links).
pub fn at(point: &Path) -> io::Result<Option<Mount>> {
    Ok(all()?.into_iter().rfind(|m| m.point == point))
}

/// The topmost mount that `path` (absolute, without `..` or links) is in.
pub fn containing(path: &Path) -> io::Result<Option<Mount>> {
    let mut best: Option<Mount> = None;
    for m in all()?.into_iter().filter(|m| path.starts_with(&m.point)) {
        if best.as_ref().is_none_or(|b| m.point.components().count() >= b.point.components().count()) {
            best = Some(m);
        }
    }
    Ok(best)
}

/// A mount that hides `target`: over it, or over a directory on the way to it. Of several the one nearest to the root, which
/// no other hides.
pub fn hiding<'a>(all: &'a [Mount], target: &Mount) -> Option<&'a Mount> {
    let (mut at, mut next) = (target, target); // a mount on the way, and the one that the way goes on to
    let mut found = None;
    for _ in all {
        let hides = |m: &&Mount| {
            m.parent == at.id && m.id != at.id && m.id != next.id && next.point.starts_with(&m.point)
        };
        found = all.iter().rfind(hides).or(found);
        let Some(parent) = all.iter().find(|m| m.id == at.parent) else { break };
        (next, at) = (at, parent);
    }
    found
}

/// True if another mount is below this one.
pub fn is_under_others(mount: MountId) -> io::Result<bool> {
    let all = all()?;
    let is_ours = |id: u32| all.iter().any(|m| m.id == id && m.device == mount.device);
    Ok(all.iter().any(|m| m.parent != m.id && is_ours(m.parent)))
}

/// Where other mounts are below `dir`, a path from the root of this mount's file system; on the root itself they hide it,
/// and are not below. Seen from wherever it is mounted.
pub fn points_below(mount: MountId, dir: &Path) -> io::Result<Vec<PathBuf>> {
    Ok(points_below_in(&all()?, mount, dir))
}

fn points_below_in(all: &[Mount], mount: MountId, dir: &Path) -> Vec<PathBuf> {
    let is_below = |m: &Mount| {
        let ours =
            all.iter().find(|ours| ours.id == m.parent && ours.device == mount.device && ours.id != m.id);
        let way = ours.and_then(|ours| Some(ours.root.join(m.point.strip_prefix(&ours.point).ok()?)));
        // A clone is in the `.clones` of every line.
        let way = way.filter(|way| way.parent().is_some());
        way.is_some_and(|way| {
            way.strip_prefix("/").is_ok_and(|way| way.ancestors().any(|part| part.ends_with(dir)))
        })
    };
    all.iter().filter(|m| is_below(m)).map(|m| m.point.clone()).collect()
}

/// The names in `dir`, a path from the root of this mount's file system, that lead to a mount below it.
pub fn names_below(mount: MountId, dir: &Path) -> io::Result<BTreeSet<OsString>> {
    let all = all()?;
    let mut names = BTreeSet::new();
    for ours in all.iter().filter(|m| m.device == mount.device && m.root == Path::new("/")) {
        let dir = ours.point.join(dir);
        let below = all.iter().filter(|m| m.parent == ours.id);
        let ways = below.filter_map(|m| m.point.strip_prefix(&dir).ok());
        names.extend(ways.filter_map(|way| Some(way.iter().next()?.to_os_string())));
    }
    Ok(names)
}

/// `36 35 98:0 /root /point opts shared:1 - type source superopts`, fields escaped with octal digits.
fn parse(line: &[u8]) -> Option<Mount> {
    let fields: Vec<&[u8]> = line.split(|&b| b == b' ').collect();
    let dash = fields.iter().position(|f| *f == b"-")?;
    let device = std::str::from_utf8(fields.get(2)?).ok()?;
    let (major, minor) = device.split_once(':')?;
    Some(Mount {
        id: std::str::from_utf8(fields.first()?).ok()?.parse().ok()?,
        parent: std::str::from_utf8(fields.get(1)?).ok()?.parse().ok()?,
        root: PathBuf::from(OsString::from_vec(unescape(fields.get(3)?))),
        device: (major.parse().ok()?, minor.parse().ok()?),
        point: PathBuf::from(OsString::from_vec(unescape(fields.get(4)?))),
        fstype: names::shown_bytes(fields.get(dash + 1)?),
        source: OsString::from_vec(unescape(fields.get(dash + 2)?)),
        // Of this mount, or of its file system at all places.
        read_only: [fields.get(5), fields.get(dash + 3)]
            .into_iter()
            .flatten()
            .any(|options| options.split(|&b| b == b',').any(|option| option == b"ro")),
    })
}

fn unescape(field: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(field.len());
    let mut rest = field;
    while let [first, tail @ ..] = rest {
        if let (b'\\', [a @ b'0'..=b'3', b @ b'0'..=b'7', c @ b'0'..=b'7', after @ ..]) = (*first, tail) {
            out.push((a - b'0') << 6 | (b - b'0') << 3 | (c - b'0'));
            rest = after;
        } else {
            out.push(*first);
            rest = tail;
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_read() {
        let m =
            parse(b"36 35 0:52 / /mnt/a\\040b rw,noatime shared:1 master:2 - fuse.snapfs /srv/s\\134x rw");
        assert_eq!(
            m,
            Some(Mount {
                id: 36,
                parent: 35,
                root: PathBuf::from("/"),
                device: (0, 52),
                point: PathBuf::from("/mnt/a b"),
                fstype: "fuse.snapfs".into(),
                source: "/srv/s\\x".into(),
                read_only: false,
            })
        );
        for line in ["1 2 0:5 / /m ro,noatime - fuse x rw,a", "1 2 0:5 / /m rw - fuse x ro,a"] {
            assert!(parse(line.as_bytes()).is_some_and(|m| m.read_only), "{line}");
        }
        assert_eq!(parse(b""), None);
        assert_eq!(parse(b"1 2 3"), None);
    }

    #[test]
    fn what_hides_a_mount() {
        let line = |text: &str| parse(format!("{text} rw - tmpfs x rw").as_bytes()).expect("a line");
        let all: Vec<Mount> = [
            "1 1 0:1 / /",
            "2 1 0:2 / /a",
            "3 2 0:3 / /a/b",
            "4 2 0:4 / /a/bc",
            "5 3 0:5 / /a/b/c",
            "6 2 0:6 / /a",
            "7 6 0:7 / /a/b",
        ]
        .map(line)
        .into();
        assert_eq!(hiding(&all, &all[2]).map(|m| m.id), Some(6));
        assert_eq!(hiding(&all[..5], &all[2]), None);
        assert_eq!(hiding(&all, &all[6]), None);
        let over = [all[0].clone(), all[1].clone(), line("8 2 0:8 / /a")];
        assert_eq!(hiding(&over, &over[1]).map(|m| m.id), Some(8));
        let both =
            [line("1 1 0:1 / /"), line("2 1 0:2 / /a/b"), line("3 1 0:3 / /a"), line("4 2 0:4 / /a/b")];
        assert_eq!(hiding(&both, &both[1]).map(|m| m.id), Some(3));
    }

    #[test]
    fn what_is_below_a_path_is_found_wherever_it_is_seen() {
        let line = |text: &str| parse(format!("{text} rw - tmpfs x rw").as_bytes()).expect("a line");
        let all: Vec<Mount> = [
            "1 1 0:1 / /",
            "2 1 0:2 / /m",
            "3 2 0:3 / /m/a/b",
            "4 1 0:2 /.clones/x /trial",
            "5 4 0:5 / /trial/d",
            "6 2 0:6 / /m/.clones/y/.clones/x/e",
            "7 2 0:7 / /m",
        ]
        .map(line)
        .into();
        let below = |dir: &str| points_below_in(&all, all[1].mount_id(), Path::new(dir));
        assert_eq!(below(""), ["/m/a/b", "/trial/d", "/m/.clones/y/.clones/x/e"].map(PathBuf::from));
        assert_eq!(below(".clones/x"), ["/trial/d", "/m/.clones/y/.clones/x/e"].map(PathBuf::from));
        assert!(below(".clones/z").is_empty());
    }

    #[test]
    fn this_machine_has_a_root() {
        let root = at(Path::new("/")).ok().flatten();
        assert!(root.is_some());
        assert!(containing(Path::new("/proc/self")).is_ok_and(|m| m.is_some()));
    }
}
