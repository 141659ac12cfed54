//! The text after `-o`: ours, the kernel's, and what mount(8) and fstab add by themselves.
//!
//! Everything unknown is an error that names it, unless `-s` (sloppy) asks to let it pass. A later option wins.

use super::engine::{AtimeMode, ClonedirMode, OpenFor, Partner, SnapdirMode, StoreOptions};
use crate::fuse;
use crate::limits::NAME_BYTES_MAX;
use crate::names;
use crate::sys::process::group_number;
use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::time::Duration;

/// Options of a mount, taken apart.
#[derive(Clone, Debug, Default)]
pub(super) struct Parsed {
    /// Those of the mount.
    pub(super) mount: fuse::Options,
    /// Those of the store.
    pub(super) store: StoreOptions,
    /// The snapshot to mount instead of the live tree.
    pub(super) snapshot: Option<Vec<u8>>,
    /// The mount that is there gets other flags.
    pub(super) remount: bool,
    /// A word said which reads change access times.
    atime_is_chosen: bool,
}

impl Parsed {
    fn set_atime(&mut self, mode: AtimeMode) {
        self.atime_is_chosen = true;
        self.store.atime.mode = mode;
        self.mount.noatime = mode == AtimeMode::Never;
        self.mount.strictatime = mode == AtimeMode::Always;
    }

    fn set_diratime(&mut self, on: bool) {
        self.store.atime.directories = on;
        self.mount.nodiratime = !on;
    }
}

/// Words without meaning for us: defaults, or for mount(8), fstab and systemd alone.
const IGNORED: [&str; 24] = [
    "defaults",
    "default_permissions",
    "rw",
    "async",
    "auto",
    "noauto",
    "user",
    "nouser",
    "users",
    "group",
    "owner",
    "nofail",
    "_netdev",
    "lazytime",
    "nolazytime",
    "iversion",
    "noiversion",
    "mand",
    "nomand",
    "loud",
    "silent",
    "bg",
    "fg",
    "nobootwait",
];
/// The same, with something behind.
const IGNORED_PREFIXES: [&str; 5] = ["x-", "X-", "comment=", "uhelper=", "helper="];

/// What the kernel shows of a mount, and mount(8) passes on when that is mounted anew with other flags.
const SHOWN_PREFIXES: [&[u8]; 5] = [b"user_id=", b"group_id=", b"rootmode=", b"max_read=", b"blksize="];

/// True if the mount that is there gets other flags.
pub(super) fn is_remount(lists: &[OsString]) -> bool {
    lists.iter().any(|list| split(list).iter().any(|word| word == b"remount"))
}

/// Reads the values of all `-o`, in order.
pub(super) fn parse(lists: &[OsString], sloppy: bool) -> Result<Parsed, String> {
    let mut parsed = Parsed::default();
    apply_all(&mut parsed, lists.iter().flat_map(|list| split(list)), sloppy)?;
    if parsed.mount.nodiratime && !parsed.atime_is_chosen {
        parsed.set_atime(AtimeMode::Relative); // who leaves directories out wants the rest
    }
    if let (Some(one), Some(other)) = (parsed.store.snap_create, parsed.store.snap_delete)
        && one != other
    {
        let what = "these are two groups: who may delete may make them, too, and it is one group or none";
        return Err(format!("snap_create, snap_delete: {what}"));
    }
    parsed.mount.read_only |= parsed.snapshot.is_some();
    if parsed.mount.read_only {
        parsed.store.access = OpenFor::MountReadOnly;
    }
    Ok(parsed)
}

/// Reads the text after `-o` as `mount` does: what is wrong with it, if anything. For the fuzz targets.
pub fn read_mount_options(text: &str) -> Result<(), String> {
    parse(&[text.into()], false).map(drop)
}

/// What a mount with options `now` is like with these in addition: flags of the kernel alone may become others, by a
/// remount or at a second place. The error is a sentence that names what may not.
pub(super) fn parse_change(now: &Parsed, lists: &[OsString], sloppy: bool) -> Result<Parsed, String> {
    let mut new = now.clone();
    let is_shown = |word: &[u8]| SHOWN_PREFIXES.iter().any(|prefix| word.starts_with(prefix));
    let words = lists.iter().flat_map(|list| split(list)).filter(|word| !is_shown(word));
    apply_all(&mut new, words, sloppy)?;
    let same = [
        ("commit", now.store.commit_interval == new.store.commit_interval),
        ("cache", now.mount.writeback_cache == new.mount.writeback_cache),
        ("cache_size", now.store.cache_bytes == new.store.cache_bytes),
        ("dirty_size", now.store.dirty_bytes == new.store.dirty_bytes),
        ("threads", now.mount.threads == new.mount.threads),
        ("snapdir", now.store.snapdir == new.store.snapdir),
        ("snapdir_everywhere", now.store.snapdir_everywhere == new.store.snapdir_everywhere),
        ("clonedir", now.store.clonedir == new.store.clonedir),
        ("snapdir_name", now.store.snapdir_name == new.store.snapdir_name),
        ("snap_create", now.store.snap_create == new.store.snap_create),
        ("snap_delete", now.store.snap_delete == new.store.snap_delete),
        ("atime", now.store.atime == new.store.atime),
        ("snapshot", now.snapshot == new.snapshot),
        ("clone", now.store.root == new.store.root),
        ("mirror", now.store.partner == new.store.partner),
        ("fsname", now.mount.source == new.mount.source || !new.remount), // of a second place it is the same
        ("subtype", now.mount.subtype == new.mount.subtype),
        ("allow_other", now.mount.allow_other || !new.mount.allow_other),
        ("rw", now.store.access.writes() || new.mount.read_only),
    ];
    let changed: Vec<&str> = same.iter().filter(|(_, same)| !same).map(|(key, _)| *key).collect();
    if changed.is_empty() {
        return Ok(new);
    }
    Err(format!("cannot change while it is mounted: {}; unmount it, and mount it anew", changed.join(", ")))
}

/// The words of these lists of which that is not true.
pub(super) fn without(lists: &[OsString], is_out: impl Fn(&[u8]) -> bool) -> Vec<OsString> {
    let words = lists.iter().flat_map(|list| split(list)).filter(|word| !is_out(word));
    words.map(|word| escaped(&word)).collect()
}

fn apply_all(parsed: &mut Parsed, words: impl Iterator<Item = Vec<u8>>, sloppy: bool) -> Result<(), String> {
    for word in words {
        match apply(parsed, &word)? {
            Known::Yes => {}
            Known::No if sloppy => log::debug!("option {} is ignored", shown(&word)),
            Known::No => {
                return Err(format!("unknown mount option '{}'; see snapfs mount --help", shown(&word)));
            }
        }
    }
    Ok(())
}

enum Known {
    Yes,
    No,
}

fn shown(word: &[u8]) -> String {
    names::shown_bytes(word)
}

fn apply(parsed: &mut Parsed, word: &[u8]) -> Result<Known, String> {
    let equals = word.iter().position(|&byte| byte == b'=').unwrap_or(word.len());
    let (key, value) = (&word[..equals], word.get(equals + 1..).unwrap_or_default());
    match key {
        b"snapshot" | b"clone" | b"fsname" if value.is_empty() => {
            return Err(format!(
                "{}= needs a {}",
                shown(key),
                if key == b"fsname" { "text" } else { "name" }
            ));
        }
        b"snapshot" => parsed.snapshot = Some(value.to_vec()),
        b"clone" => parsed.store.root = Some(value.to_vec()),
        b"mirror" if value.is_empty() => {
            return Err("mirror= needs the path of the other side, or 'alone'".into());
        }
        b"mirror" if value == b"alone" => parsed.store.partner = Partner::Nobody,
        b"mirror" => {
            let path = std::path::PathBuf::from(OsString::from_vec(value.to_vec()));
            // The daemon is elsewhere.
            parsed.store.partner = Partner::At(std::path::absolute(&path).unwrap_or(path));
        }
        b"fsname" => parsed.mount.source = OsString::from_vec(value.to_vec()),
        b"snapdir_name" if !is_file_name(value) => {
            let what = "is a name of 1 to 255 bytes, without '/', and neither '.' nor '..'";
            return Err(format!("{}: snapdir_name {what}", shown(word)));
        }
        b"snapdir_name" => parsed.store.snapdir_name = value.to_vec(),
        _ => return apply_text(parsed, word),
    }
    Ok(Known::Yes)
}

fn is_file_name(name: &[u8]) -> bool {
    let fits = (1..=NAME_BYTES_MAX).contains(&name.len());
    fits && !name.contains(&b'/') && !name.contains(&0) && name != b"." && name != b".."
}

/// All options that are text.
fn apply_text(parsed: &mut Parsed, word: &[u8]) -> Result<Known, String> {
    let Ok(word) = std::str::from_utf8(word) else { return Ok(Known::No) };
    if let Some((key, value)) = word.split_once('=')
        && let Known::Yes = apply_value(parsed, key, value)?
    {
        return Ok(Known::Yes);
    }
    let m = &mut parsed.mount;
    match word {
        "remount" => parsed.remount = true,
        "ro" => m.read_only = true,
        "rw" => m.read_only = false,
        "allow_other" => m.allow_other = true,
        "dev" => m.dev = true,
        "nodev" => m.dev = false,
        "suid" => m.suid = true,
        "nosuid" => m.suid = false,
        "exec" => m.exec = true,
        "noexec" => m.exec = false,
        "sync" => m.sync = true,
        "async" => m.sync = false,
        "dirsync" => m.dirsync = true,
        "noatime" | "norelatime" | "nostrictatime" => parsed.set_atime(AtimeMode::Never),
        "atime" | "relatime" => parsed.set_atime(AtimeMode::Relative),
        "strictatime" => parsed.set_atime(AtimeMode::Always),
        "diratime" => parsed.set_diratime(true),
        "nodiratime" => parsed.set_diratime(false),
        "snapdir_everywhere" => parsed.store.snapdir_everywhere = true,
        "no_snapdir_everywhere" => parsed.store.snapdir_everywhere = false,
        _ if IGNORED.contains(&word) || IGNORED_PREFIXES.iter().any(|p| word.starts_with(p)) => {}
        _ => return Ok(Known::No),
    }
    Ok(Known::Yes)
}

fn apply_value(parsed: &mut Parsed, key: &str, value: &str) -> Result<Known, String> {
    let (m, s) = (&mut parsed.mount, &mut parsed.store);
    let one_of = |choices: &str| Err(format!("{key}={value}: {key} is one of {choices}"));
    match (key, value) {
        ("cache", "strict" | "writeback") => {
            m.writeback_cache = value == "writeback";
            s.writeback_cache = m.writeback_cache;
        }
        ("cache", _) => return one_of("strict, writeback"),
        ("snapdir", "hidden") => s.snapdir = SnapdirMode::Hidden,
        ("snapdir", "visible") => s.snapdir = SnapdirMode::Visible,
        ("snapdir", "disabled") => s.snapdir = SnapdirMode::Disabled,
        ("snapdir", _) => return one_of("hidden, visible, disabled"),
        ("snap_create", _) => s.snap_create = group(key, value)?,
        ("snap_delete", _) => s.snap_delete = group(key, value)?,
        ("clonedir", "hidden") => s.clonedir = ClonedirMode::Hidden,
        ("clonedir", "disabled") => s.clonedir = ClonedirMode::Disabled,
        ("clonedir", _) => return one_of("hidden, disabled"),
        ("commit", _) => s.commit_interval = Duration::from_secs(number(key, value, 1, 3600)?),
        ("cache_size", _) => s.cache_bytes = number(key, value, 8, 1 << 20)? << 20,
        ("dirty_size", _) => s.dirty_bytes = number(key, value, 4, 1 << 16)? << 20,
        ("threads", _) => m.threads = number(key, value, 2, 64)? as usize,
        ("subtype", _) => m.subtype = value.to_string(),
        _ => return Ok(Known::No),
    }
    Ok(Known::Yes)
}

/// A group by its name or number; none for the owner alone.
fn group(key: &str, value: &str) -> Result<Option<u32>, String> {
    match value {
        "owner" => Ok(None),
        _ => value.parse().ok().or_else(|| group_number(value)).map(Some).ok_or_else(|| {
            format!("{key}={value}: there is no such group; {key} is a group by name or number, or owner")
        }),
    }
}

fn number(key: &str, value: &str, min: u64, max: u64) -> Result<u64, String> {
    match value.parse() {
        Ok(n) if (min..=max).contains(&n) => Ok(n),
        _ => Err(format!("{key}={value}: {key} is a number from {min} to {max}")),
    }
}

/// One option as it is written in a list, whatever its value has in it.
pub(super) fn option(key: &str, value: &OsStr) -> OsString {
    escaped(&[format!("{key}=").as_bytes(), value.as_bytes()].concat())
}

/// A word as it is written in a list.
fn escaped(word: &[u8]) -> OsString {
    let mut out = Vec::new();
    for &byte in word {
        if matches!(byte, b'\\' | b',') {
            out.push(b'\\');
        }
        out.push(byte);
    }
    OsString::from_vec(out)
}

/// Splits at commas; a backslash takes the next character as it is (`fsname=a\,b`). Empty words are none.
fn split(list: &OsStr) -> Vec<Vec<u8>> {
    let mut words = vec![Vec::new()];
    let mut rest = list.as_bytes().iter();
    while let Some(&byte) = rest.next() {
        match byte {
            b',' => words.push(Vec::new()),
            b'\\' => words.last_mut().into_iter().for_each(|w| w.push(*rest.next().unwrap_or(&b'\\'))),
            _ => words.last_mut().into_iter().for_each(|w| w.push(byte)),
        }
    }
    words.retain(|w| !w.is_empty());
    words
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::engine::GroupMay;

    fn ok(list: &str) -> Parsed {
        parse(&[list.into()], false).expect(list)
    }

    #[test]
    fn defaults_are_those_of_the_manual() {
        let p = ok("");
        assert!(p.mount.noatime && !p.mount.read_only && !p.mount.dev && !p.mount.suid && p.mount.exec);
        assert_eq!((p.store.cache_bytes, p.store.dirty_bytes), (256 << 20, 64 << 20));
        assert_eq!((p.store.snapdir, p.store.snapdir_everywhere), (SnapdirMode::Hidden, true));
    }

    #[test]
    fn options_are_applied_in_order() {
        let p = ok("ro,dev,suid,noexec,cache=writeback,snapdir=visible,no_snapdir_everywhere,commit=30");
        assert!(p.mount.read_only && p.mount.dev && p.mount.suid && !p.mount.exec);
        assert!(p.mount.writeback_cache && p.store.writeback_cache && !p.store.snapdir_everywhere);
        assert_eq!(p.store.access, OpenFor::MountReadOnly);
        assert_eq!(p.store.commit_interval, Duration::from_secs(30));
        assert!(!ok("ro,rw").mount.read_only);
        for (words, mode) in [
            ("strictatime,nodiratime", AtimeMode::Always),
            ("relatime", AtimeMode::Relative),
            ("relatime,noatime", AtimeMode::Never),
            ("noatime,nodiratime", AtimeMode::Never),
            ("nodiratime", AtimeMode::Relative),
        ] {
            let p = ok(words);
            assert_eq!((p.store.atime.mode, p.mount.noatime), (mode, mode == AtimeMode::Never), "{words}");
            assert_eq!(p.store.atime.directories, !words.contains("nodiratime"));
        }
        for name in [&b"a,b\\"[..], b"s\xff,"] {
            let mut list = OsString::from("rw,");
            list.push(option("snapshot", OsStr::from_bytes(name)));
            list.push(",rw");
            let p = parse(&[list], false).expect("it is an option");
            assert_eq!((p.snapshot.as_deref(), p.store.access), (Some(name), OpenFor::MountReadOnly));
            assert!(p.mount.read_only);
        }
        assert_eq!(ok("fsname=/a\\,b\\\\c,threads=8").mount.source, "/a,b\\c");
    }

    #[test]
    fn a_group_makes_snapshots_or_deletes_them_too() {
        let group = |list: &str| ok(list).store.snap_group().map(|group| (group.gid, group.may));
        assert_eq!(group(""), None);
        assert_eq!(group("snap_create=7"), Some((7, GroupMay::Make)));
        assert_eq!(group("snap_delete=7"), Some((7, GroupMay::MakeAndDelete)));
        assert_eq!(group("snap_create=7,snap_delete=7"), Some((7, GroupMay::MakeAndDelete)));
        assert_eq!(group("snap_create=7,snap_delete=owner"), Some((7, GroupMay::Make)));
        assert_eq!(group("snap_create=root,snap_create=owner"), None);
        assert_eq!(group("snap_create=root"), Some((0, GroupMay::Make)));
        let two = parse(&["snap_create=7,snap_delete=8".into()], false).err().unwrap_or_default();
        assert!(two.contains("two groups"), "{two}");
    }

    #[test]
    fn what_fstab_brings_is_tolerated() {
        ok("defaults,rw,auto,noauto,nofail,_netdev,user,x-systemd.automount,relatime,comment=hello,sync");
    }

    #[test]
    fn what_the_kernel_alone_has_may_change() {
        let base = ok("commit=30,relatime,allow_other,noexec");
        let change = |list: &str| parse_change(&base, &[list.into()], false);
        for list in
            ["remount,ro", "remount,exec,suid,dev", "remount,rw,commit=30,relatime,user_id=0,group_id=0", ""]
        {
            assert!(change(list).is_ok(), "{list}");
        }
        assert!(change("remount,ro").is_ok_and(|p| p.remount && p.mount.read_only && !p.mount.exec));
        for (list, key) in [
            ("remount,commit=5", "commit"),
            ("remount,noatime", "atime"),
            ("remount,ro,cache=writeback", "cache"),
            ("remount,snapdir_name=x", "snapdir_name"),
            ("remount,snapshot=a", "snapshot"),
            ("remount,snap_create=7", "snap_create"),
        ] {
            assert!(change(list).is_err_and(|e| e.contains(&format!(": {key};"))), "{list}");
        }
        assert!(change("remount,fly").is_err_and(|e| e.contains("'fly'")));
        assert!(is_remount(&["ro".into(), "rw,remount".into()]) && !is_remount(&["fsname=remount".into()]));
        let read_only = ok("ro");
        assert!(parse_change(&read_only, &["remount,rw".into()], false).is_err_and(|e| e.contains(": rw;")));
        assert!(parse_change(&read_only, &["remount".into()], false).is_ok());
    }

    #[test]
    fn the_unknown_is_named() {
        for wrong in [
            "fly",
            "snapshot=",
            "fsname=",
            "fsname",
            "snapdir_name=",
            "snapdir_name=a/b",
            "snapdir_name=..",
            "clone=",
            "clonedir=visible",
            "cache=odd",
            "threads=1",
            "commit=x",
            "cache_size=0",
            "snap_create=no such group",
            "snap_delete=",
        ] {
            let error = parse(&[wrong.into()], false).err().unwrap_or_default();
            assert!(error.contains(wrong), "{error}");
        }
        let bytes = |b: &[u8]| parse(&[OsString::from_vec(b.to_vec())], false);
        assert_eq!(
            bytes(b"fly\xff").err().as_deref(),
            Some("unknown mount option 'fly\\xff'; see snapfs mount --help")
        );
        assert_eq!(bytes(b"fsname=\xff").map(|p| p.mount.source.into_vec()), Ok(b"\xff".to_vec()));
        assert!(parse(&["fly".into()], true).is_ok());
        assert!(parse(&["cache=odd".into()], true).is_err(), "sloppy is for unknown words");
    }
}
