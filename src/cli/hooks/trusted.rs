//! Files of the host that may say what is run: of root or of the daemon's own user, and writable by nobody else.
//!
//! The same is true of all directories above them, or somebody could put others in their place; who can only add something there
//! (`/tmp`) cannot. Symbolic links are not followed, and nothing that is in the store itself is read, wherever that is mounted: this
//! process serves it, and asks it for nothing.

use super::file::{self, HookFile};
use crate::fuse::mounts::{self, Mount};
use crate::names;
use crate::sys::{device_numbers, mount::fcntl, process};
use std::ffi::OsString;
use std::fs::{self, File, Metadata};
use std::io::{self, ErrorKind, Read};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Component, Path};

/// Longest file.
const FILE_BYTES_MAX: u64 = 64 << 10;
const OTHERS_WRITE: u32 = 0o022;
const STICKY: u32 = 0o1000;

/// All files in a directory, by name, and what is wrong with others. One that is not there has none. `own` are the devices that the
/// store is, `major:minor`.
pub(super) fn read_all(dir: &Path, own: &[(u32, u32)]) -> (Vec<(String, HookFile)>, Vec<String>) {
    let (mut all, mut troubles) = (Vec::new(), Vec::new());
    let listed = prove(dir, own).and_then(|is_there| match names_in(dir) {
        _ if !is_there => Ok(Vec::new()),
        Err(e) if is_roots(&e) => Ok(Vec::new()),
        found => found.map_err(|e| e.to_string()),
    });
    let names = listed.unwrap_or_else(|why| {
        troubles.push(format!("{}: hooks are not read: {why}", names::shown(dir)));
        Vec::new()
    });
    for name in names {
        let path = dir.join(&name);
        match read_file(&path, own) {
            Ok(Some(hook)) => all.push((names::shown(&name), hook)),
            Ok(None) => {}
            Err(why) => troubles.push(format!("{}: this hook is not read: {why}", names::shown(&path))),
        }
    }
    (all, troubles)
}

/// What root keeps to itself is not meant for the daemon of an ordinary user.
fn is_roots(e: &io::Error) -> bool {
    e.kind() == ErrorKind::PermissionDenied && process::effective_uid() != 0
}

/// Refuses a directory in which, or in place of which, somebody else could put something. False if there is none for this daemon.
fn prove(dir: &Path, own: &[(u32, u32)]) -> Result<bool, String> {
    let is_plain = |part: Component<'_>| matches!(part, Component::RootDir | Component::Normal(_));
    if !dir.is_absolute() || !dir.components().all(is_plain) {
        return Err("it is to be a path from the root, without '..'".into());
    }
    let mounts = mounts::all().map_err(|e| format!("what is mounted cannot be read: {e}"))?;
    let (mut trouble, all) = (None, dir.ancestors().collect::<Vec<_>>());
    // From the root, so that nothing is asked of what is not known to be elsewhere than the store.
    for above in all.into_iter().rev() {
        let told = |why: String| match above == dir {
            true => why,
            false => format!("{}: {why}", names::shown(above)),
        };
        check_mount(&mounts, above, own).map_err(told)?;
        let meta = match fs::symlink_metadata(above) {
            Err(e) if matches!(e.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) || is_roots(&e) => {
                return Ok(false);
            }
            meta => meta.map_err(|e| told(e.to_string()))?,
        };
        check_outside(&meta, own).map_err(told)?;
        // That counts only if there is one.
        let is_good = check_dir(&meta, above != dir && meta.mode() & STICKY != 0);
        trouble = trouble.or(is_good.map_err(told).err());
    }
    trouble.map_or(Ok(true), Err)
}

/// One of these directories.
fn check_dir(meta: &Metadata, others_only_add: bool) -> Result<(), String> {
    if meta.is_symlink() {
        return Err("it is a symbolic link, and none is followed".into());
    }
    if !meta.is_dir() {
        return Err("it is no directory".into());
    }
    check_trusted(meta, others_only_add)
}

/// Names of files that are meant, sorted.
fn names_in(dir: &Path) -> io::Result<Vec<OsString>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(dir)? {
        let name = entry?.file_name();
        if name.as_bytes().ends_with(b".toml") && !name.as_bytes().starts_with(b".") {
            found.push(name);
        }
    }
    found.sort();
    Ok(found)
}

/// None if it is not for this daemon to read.
fn read_file(path: &Path, own: &[(u32, u32)]) -> Result<Option<HookFile>, String> {
    let told = |e: io::Error| e.to_string();
    // What is no file is not waited for.
    let flags = fcntl::O_NOFOLLOW | fcntl::O_NONBLOCK;
    let file = match File::options().read(true).custom_flags(flags).open(path) {
        Err(e) if is_roots(&e) => return Ok(None),
        Err(_) if fs::symlink_metadata(path).is_ok_and(|meta| meta.is_symlink()) => {
            return Err("it is a symbolic link, and none is followed".into());
        }
        file => file.map_err(told)?,
    };
    let meta = file.metadata().map_err(told)?;
    if !meta.is_file() {
        return Err("it is no file".into());
    }
    check_trusted(&meta, false)?;
    check_outside(&meta, own)?;
    let mut text = String::new();
    file.take(FILE_BYTES_MAX + 1).read_to_string(&mut text).map_err(told)?;
    if text.len() as u64 > FILE_BYTES_MAX {
        return Err("it is too long".into());
    }
    file::read(&text).map(Some).map_err(|e| e.to_string())
}

/// Refuses what somebody else may have written, or put there.
fn check_trusted(meta: &Metadata, others_only_add: bool) -> Result<(), String> {
    if meta.uid() != 0 && meta.uid() != process::effective_uid() {
        return Err(format!("it belongs to user {}, and not to root or to the daemon's user", meta.uid()));
    }
    if meta.mode() & OTHERS_WRITE != 0 && !others_only_add {
        return Err("others than its owner can write to it: chmod go-w".into());
    }
    Ok(())
}

/// Refuses what is in the store, by where it is mounted: without a question to it.
fn check_mount(mounts: &[Mount], path: &Path, own: &[(u32, u32)]) -> Result<(), String> {
    refuse_own(mounts::containing_in(mounts, path).map(|mount| mount.device), own)
}

/// The same by what was found.
fn check_outside(meta: &Metadata, own: &[(u32, u32)]) -> Result<(), String> {
    refuse_own(Some(device_numbers(meta.dev())), own)
}

fn refuse_own(device: Option<(u32, u32)>, own: &[(u32, u32)]) -> Result<(), String> {
    match device {
        Some(device) if own.contains(&device) => Err("it is in the store itself".into()),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::super::hook::StateDir;
    use super::*;
    use std::os::unix::fs::{PermissionsExt, symlink};

    #[test]
    fn only_what_nobody_else_can_write_is_read() {
        let state = StateDir::new().unwrap();
        let dir = state.path().join("hooks.d");
        let read_all = |dir: &Path| read_all(dir, &[]);
        assert_eq!(read_all(&dir), (Vec::new(), Vec::new()));
        fs::create_dir(&dir).unwrap();
        let mode = |path: &Path, mode| fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
        for (name, text) in
            [("b.toml", "uuid = \"1\"\npre = \"x\""), ("a.toml", "mount = \"/m\"\npost = \"y\"")]
        {
            fs::write(dir.join(name), text).unwrap();
            mode(&dir.join(name), 0o644);
        }
        for (name, text) in [("README", "?"), (".hidden.toml", "?"), ("c.toml.bak", "?")] {
            fs::write(dir.join(name), text).unwrap();
        }
        mode(&dir, 0o755);
        let (all, troubles) = read_all(&dir);
        assert_eq!(all.iter().map(|(name, _)| &name[..]).collect::<Vec<_>>(), ["a.toml", "b.toml"]);
        assert_eq!(troubles, Vec::<String>::new());
        // What is in the store says nothing, wherever that is mounted.
        let device = device_numbers(fs::metadata(&dir).unwrap().dev());
        let (none, troubles) = super::read_all(&dir, &[(u32::MAX, 0), device]);
        assert!(none.is_empty() && troubles[0].contains("in the store itself"), "{troubles:?}");
        // Neither what others can write to, nor what leads elsewhere, is too long or says nothing that is understood.
        mode(&dir.join("a.toml"), 0o664);
        symlink(dir.join("b.toml"), dir.join("c.toml")).unwrap();
        fs::write(dir.join("d.toml"), "x".repeat(1 + FILE_BYTES_MAX as usize)).unwrap();
        fs::write(dir.join("e.toml"), "pre = 5").unwrap();
        fs::create_dir(dir.join("f.toml")).unwrap();
        for name in ["d.toml", "e.toml"] {
            mode(&dir.join(name), 0o644);
        }
        let (all, troubles) = read_all(&dir);
        assert_eq!(all.len(), 1);
        assert_eq!(troubles.len(), 5, "{troubles:?}");
        for (trouble, words) in troubles.iter().zip([
            "others than its owner",
            "c.toml: this hook is not read: it is a symbolic link",
            "too long",
            "line 1, column 7",
            "no file",
        ]) {
            assert!(trouble.contains(words), "{trouble}");
        }
        // All directories above count. Who can only add something cannot put anything in their place.
        let refused = |dir: &Path, words: &str| {
            let (all, troubles) = read_all(dir);
            assert!(all.is_empty() && troubles.len() == 1 && troubles[0].contains(words), "{troubles:?}");
        };
        for (path, changed, back) in
            [(&dir, 0o775, 0o755), (&dir, 0o1777, 0o755), (&state.path().to_path_buf(), 0o777, 0o700)]
        {
            mode(path, changed);
            refused(&dir, "chmod go-w");
            mode(path, back);
        }
        mode(state.path(), 0o1777);
        assert_eq!(read_all(&dir).0.len(), 1);
        let deep = dir.join("in/hooks.d");
        fs::create_dir_all(&deep).unwrap();
        mode(&dir, 0o777);
        refused(&deep, "hooks.d: others than its owner");
        mode(&dir, 0o755);
        // A path is taken as it is.
        symlink(&dir, state.path().join("link")).unwrap();
        refused(&state.path().join("link"), "it is a symbolic link");
        refused(&state.path().join("link/in/hooks.d"), "link: it is a symbolic link");
        refused(&dir.join("../hooks.d"), "a path from the root");
        std::os::unix::fs::lchown(&dir, Some(12345), None).map_or_else(
            |e| assert_eq!(e.kind(), ErrorKind::PermissionDenied),
            |()| refused(&dir, "belongs to user 12345"),
        );
    }
}
