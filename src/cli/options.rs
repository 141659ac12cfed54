//! The text after `-o`: ours, the kernel's, and what mount(8) and fstab add by themselves.
//!
//! Everything unknown is an error that names it, unless `-s` (sloppy) asks to let it pass. A later option wins.

use super::engine::{Access, AtimeMode, SnapdirMode, StoreOptions};
use crate::fuse;
use std::time::Duration;

/// Options of a mount, taken apart.
#[derive(Clone, Debug, Default)]
pub(super) struct Parsed {
    /// Those of the mount.
    pub(super) mount: fuse::Options,
    /// Those of the store.
    pub(super) store: StoreOptions,
    /// The snapshot to mount instead of the live tree.
    pub(super) snapshot: Option<String>,
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

/// Reads the values of all `-o`, in order.
pub(super) fn parse(lists: &[String], sloppy: bool) -> Result<Parsed, String> {
    let mut parsed = Parsed::default();
    for word in lists.iter().flat_map(|list| split(list)).filter(|w| !w.is_empty()) {
        match apply(&mut parsed, &word)? {
            Known::Yes => {}
            Known::No if sloppy => log::debug!("option {word} is ignored"),
            Known::No => return Err(format!("unknown mount option '{word}'; see snapfs mount --help")),
        }
    }
    if parsed.mount.nodiratime && !parsed.atime_is_chosen {
        parsed.set_atime(AtimeMode::Relative); // who leaves directories out wants the rest
    }
    parsed.mount.read_only |= parsed.snapshot.is_some();
    if parsed.mount.read_only {
        parsed.store.access = Access::MountReadOnly;
    }
    Ok(parsed)
}

enum Known {
    Yes,
    No,
}

fn apply(parsed: &mut Parsed, word: &str) -> Result<Known, String> {
    if let Some((key, value)) = word.split_once('=')
        && let Known::Yes = apply_value(parsed, key, value)?
    {
        return Ok(Known::Yes);
    }
    let m = &mut parsed.mount;
    match word {
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
    if (key, value) == ("snapshot", "") {
        return Err("snapshot= needs a name".to_string());
    }
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
        ("commit", _) => s.commit_interval = Duration::from_secs(number(key, value, 1, 3600)?),
        ("cache_size", _) => s.cache_bytes = number(key, value, 8, 1 << 20)? << 20,
        ("dirty_size", _) => s.dirty_bytes = number(key, value, 4, 1 << 16)? << 20,
        ("threads", _) => m.threads = number(key, value, 2, 64)? as usize,
        ("snapshot", _) => parsed.snapshot = Some(value.to_string()),
        ("fsname", _) => m.source = value.to_string(),
        ("subtype", _) => m.subtype = value.to_string(),
        _ => return Ok(Known::No),
    }
    Ok(Known::Yes)
}

fn number(key: &str, value: &str, min: u64, max: u64) -> Result<u64, String> {
    match value.parse() {
        Ok(n) if (min..=max).contains(&n) => Ok(n),
        _ => Err(format!("{key}={value}: {key} is a number from {min} to {max}")),
    }
}

/// One option as it is written in a list, whatever its value has in it.
pub(super) fn option(key: &str, value: &str) -> String {
    format!("{key}={}", value.replace('\\', "\\\\").replace(',', "\\,"))
}

/// Splits at commas; a backslash takes the next character as it is (`fsname=a\,b`).
fn split(list: &str) -> Vec<String> {
    let mut words = vec![String::new()];
    let mut rest = list.chars();
    while let Some(c) = rest.next() {
        match c {
            ',' => words.push(String::new()),
            '\\' => words.last_mut().into_iter().for_each(|w| w.push(rest.next().unwrap_or('\\'))),
            _ => words.last_mut().into_iter().for_each(|w| w.push(c)),
        }
    }
    words
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ok(list: &str) -> Parsed {
        parse(&[list.to_string()], false).expect(list)
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
        assert_eq!(p.store.access, Access::MountReadOnly);
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
        let p = ok(&format!("rw,{},rw", option("snapshot", "a,b\\")));
        assert_eq!((p.snapshot.as_deref(), p.store.access), (Some("a,b\\"), Access::MountReadOnly));
        assert!(p.mount.read_only);
        assert_eq!(ok("fsname=/a\\,b\\\\c,threads=8").mount.source, "/a,b\\c");
    }

    #[test]
    fn what_fstab_brings_is_tolerated() {
        ok("defaults,rw,auto,noauto,nofail,_netdev,user,x-systemd.automount,relatime,comment=hello,sync");
    }

    #[test]
    fn the_unknown_is_named() {
        for wrong in ["fly", "snapshot=", "clone=b", "cache=odd", "threads=1", "commit=x", "cache_size=0"] {
            let error = parse(&[wrong.to_string()], false).err().unwrap_or_default();
            assert!(error.contains(wrong), "{error}");
        }
        assert!(parse(&["fly".to_string()], true).is_ok());
        assert!(parse(&["cache=odd".to_string()], true).is_err(), "sloppy is for unknown words");
    }
}
