//! What is mounted where, from `mountinfo` of the calling thread. Reads only; nothing is asked of the file systems themselves,
//! so a hung or dead mount cannot block it.

use crate::names;
use crate::ops::MountBelow;
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;
use std::ffi::{OsStr, OsString};
use std::io;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

/// The directory in which clones are found.
const CLONES: &str = ".clones";

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
    /// Whose it is, of a mount of FUSE.
    pub user: Option<u32>,
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
    Ok(containing_in(&all()?, path).cloned())
}

/// The same among all mounts.
pub fn containing_in<'a>(all: &'a [Mount], path: &Path) -> Option<&'a Mount> {
    let on_the_way = all.iter().filter(|m| path.starts_with(&m.point));
    on_the_way.max_by_key(|m| m.point.components().count()) // the last of several
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
pub fn points_below(mount: MountId, dir: &Path) -> io::Result<Vec<MountBelow>> {
    Ok(points_below_in(&all()?, mount, dir))
}

fn points_below_in(all: &[Mount], mount: MountId, dir: &Path) -> Vec<MountBelow> {
    let below = |m: &Mount| {
        let ours =
            all.iter().find(|ours| ours.id == m.parent && ours.device == mount.device && ours.id != m.id)?;
        let way = ours.root.join(m.point.strip_prefix(&ours.point).ok()?);
        let way = way.strip_prefix("/").ok().filter(|way| way.file_name().is_some())?;
        // A clone is in the `.clones` of every line.
        let above = way.ancestors().find(|part| part.ends_with(dir))?;
        // All of a path ends with nothing.
        let above = if dir.as_os_str().is_empty() { dir } else { above };
        let way = way.strip_prefix(above).ok()?.as_os_str().as_bytes().to_vec();
        Some(MountBelow { point: m.point.clone(), way })
    };
    all.iter().filter_map(below).collect()
}

/// The names in `dir`, a path from the root of this mount's file system, that lead to one of these mounts below it, from
/// whatever place of the file system and on whatever way.
pub fn names_below(all: &[Mount], mount: MountId, dir: &Path) -> BTreeSet<OsString> {
    let mut names = BTreeSet::new();
    for ours in all.iter().filter(|m| m.device == mount.device) {
        for below in all.iter().filter(|m| m.parent == ours.id && m.id != ours.id) {
            let Ok(way) = below.point.strip_prefix(&ours.point) else { continue };
            let inside = inside(&ours.root, way);
            names.extend(below_dir(&inside, dir).and_then(|way| Some(way.iter().next()?.to_os_string())));
        }
    }
    names
}

/// True if `dir`, or what is below it, is the root of a mount of this mount's file system.
pub fn has_own_place(mount: MountId, dir: &Path) -> io::Result<bool> {
    let all = all()?;
    let mut ours = all.iter().filter(|m| m.device == mount.device);
    Ok(ours.any(|m| below_dir(&inside(&m.root, Path::new("")), dir).is_some()))
}

/// The path in the file system of what is at `way` in a mount with this root, which may be unlinked.
fn inside(root: &Path, way: &Path) -> PathBuf {
    let bytes = root.as_os_str().as_bytes();
    let root = Path::new(OsStr::from_bytes(bytes.strip_suffix(b"//deleted").unwrap_or(bytes)));
    root.strip_prefix("/").unwrap_or(root).join(way)
}

/// Where `path` goes on behind `dir`. A clone is found in the `.clones` of any other: the way that leads there does not count.
fn below_dir<'p>(path: &'p Path, dir: &Path) -> Option<&'p Path> {
    let mut path = path;
    loop {
        if let Ok(way) = path.strip_prefix(dir) {
            return Some(way);
        }
        path = path.strip_prefix(CLONES).ok()?;
        let mut names = path.components();
        names.next()?;
        path = names.as_path();
    }
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
        user: fields.get(dash + 3).and_then(|options| {
            let user = options.split(|&b| b == b',').find_map(|option| option.strip_prefix(b"user_id="))?;
            std::str::from_utf8(user).ok()?.parse().ok()
        }),
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
            parse(b"36 35 0:52 / /mnt/a\\040b rw,noatime shared:1 master:2 - fuse.snapfs /srv/s\\134x rw,user_id=7,group_id=0");
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
                user: Some(7),
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
        let of = |all: &[(&str, &str)]| -> Vec<MountBelow> {
            all.iter()
                .map(|(point, way)| MountBelow { point: point.into(), way: way.as_bytes().into() })
                .collect()
        };
        let (b, d, e) = ("/m/a/b", "/trial/d", "/m/.clones/y/.clones/x/e");
        assert_eq!(below(""), of(&[(b, "a/b"), (d, ".clones/x/d"), (e, ".clones/y/.clones/x/e")]));
        assert_eq!(below(".clones/x"), of(&[(d, "d"), (e, "e")]));
        assert!(below(".clones/z").is_empty());
    }

    #[test]
    fn what_is_mounted_below_a_clone_and_elsewhere() {
        let line = |text: &str| parse(format!("{text} rw - fuse x rw").as_bytes()).expect("a line");
        let all: Vec<Mount> = [
            "1 1 0:1 / /",
            "2 1 0:2 / /m",
            "3 2 0:3 / /m/.clones/x/a/b",
            "4 1 0:2 /.clones/x /at",
            "5 4 0:4 / /at/c",
            "6 1 0:2 /.clones/y/.clones/x/d /deep",
            "7 6 0:5 / /deep/e",
            "8 2 0:6 / /m/.clones/y/.snapshots/s/f",
            "9 1 0:2 /.clones/z//deleted /gone",
            "10 9 0:7 / /gone/g",
            "11 2 0:6 / /m/.clones/xx/h",
        ]
        .map(line)
        .into();
        let mount = MountId { id: 2, device: (0, 2) };
        let names = |dir: &str| {
            let names = names_below(&all, mount, Path::new(dir));
            names.into_iter().map(|name| name.into_string().unwrap()).collect::<Vec<_>>()
        };
        assert_eq!(names(".clones/x"), ["a", "c", "d"]);
        assert_eq!((names(".snapshots/s"), names(".clones/z")), (vec!["f".into()], vec!["g".into()]));
        assert!(names(".clones/none").is_empty());
    }

    #[test]
    fn this_machine_has_a_root() {
        let root = at(Path::new("/")).ok().flatten();
        assert!(root.is_some());
        assert!(containing(Path::new("/proc/self")).is_ok_and(|m| m.is_some()));
    }
}
