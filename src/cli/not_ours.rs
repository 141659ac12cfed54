//! What a path is that is to be looked at, where no daemon of this user serves it and no store is: a sentence with what to do.

use super::hold::probe;
use crate::ctl::{Code, Failure, within};
use crate::device::StoreKind;
use crate::fuse::mounts;
use crate::names;
use crate::sys::mount::errno;
use crate::sys::process::user_name;
use std::fs;
use std::path::Path;
use std::time::Duration;

/// How long a file system may take to say where a path is.
const PATIENCE: Duration = Duration::from_secs(2);

/// What is at the path of a store that is to be looked at.
pub(super) fn probe_to_look(path: &Path) -> Result<StoreKind, Failure> {
    use StoreKind::{BlockDevice, DirectoryStore, ForeignDirectory, ImageFile, Missing};
    let found = match probe(path) {
        Ok(kind @ (Missing | DirectoryStore | ImageFile { .. } | BlockDevice { .. })) => return Ok(kind),
        found => found,
    };
    match of_another(path) {
        Some(refused) => Err(refused),
        None if matches!(found, Ok(ForeignDirectory { .. })) => Err(plain_directory(path)),
        None => found,
    }
}

/// A path in a mount of snapfs whose daemon this user cannot ask; none if it is in no such mount.
fn of_another(path: &Path) -> Option<Failure> {
    let wanted = path.to_path_buf();
    let real = within(PATIENCE, move || fs::canonicalize(wanted).ok()).flatten();
    let real = real.or_else(|| std::path::absolute(path).ok())?;
    let mount = mounts::containing(&real).ok().flatten().filter(mounts::Mount::is_snapfs)?;
    let (shown, point) = (names::shown(path), names::shown(&mount.point));
    let at = mount.point.clone();
    let is_dead = within(PATIENCE, move || fs::metadata(at).err().and_then(|e| e.raw_os_error()));
    let (code, why) = match (is_dead, mount.user) {
        (Some(Some(errno::ENOTCONN)), _) => (
            Code::NotMounted,
            format!("the daemon of the mount at {point} has ended; unmount it with 'snapfs umount {point}'"),
        ),
        (_, Some(user)) => {
            let user =
                user_name(user).map_or_else(|| format!("user {user}"), |name| names::shown_bytes(&name));
            let way = "what this one may read there is seen in its .snapshots and .clones, all else is for that user, or root, to ask";
            (Code::Denied, format!("this is in the mount of {user} at {point}; {way}"))
        }
        (_, None) => {
            (Code::Denied, format!("this is in the mount at {point}, whose daemon does not answer this user"))
        }
    };
    Some(Failure::new(code, format!("{shown}: {why}")))
}

/// A directory in which no store is.
fn plain_directory(path: &Path) -> Failure {
    let what = "this directory is neither in a mount of snapfs nor a store ('snapfs status' lists mounts and their stores)";
    Failure::new(Code::Invalid, format!("{}: {what}", names::shown(path)))
}
