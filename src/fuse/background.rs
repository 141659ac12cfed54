//! How many requests the kernel may have under way that no program waits for: to write pages back, and to read ahead.
//!
//! Few, so that what programs wait for does not come behind thousands of others. But a write that waits for a thaw is under way as
//! well, and where all are such writes the kernel neither reads ahead nor closes files, in no line. So while some wait there may be
//! as many as the kernel can count; and while these hold much memory it begins no more by itself.
//!
//! That is said to the kernel by the control file system of FUSE, attached or not. Where that cannot be had (a daemon that is not
//! root's, on a host that has it nowhere) the bound stays as it is.

use crate::sys::namespace;
use parking_lot::Mutex;
use std::fs;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};

/// So many as a rule.
pub(super) const BACKGROUND_MAX: u16 = 64;
/// While writes wait.
const BACKGROUND_WHILE_WAITING: u32 = u16::MAX as u32;
/// While writes of so many bytes wait, none are to be begun that nobody asks for.
const WAITING_BYTES_MANY: usize = 256 << 20;

/// Where hosts have the control file system.
const CONTROL: &str = "/sys/fs/fuse/connections";
/// What a daemon without rights may ask for at most.
const PARAMETERS: &str = "/sys/module/fuse/parameters";

/// What the kernel may have under way.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Allowance {
    Usual,
    /// All that it has.
    Unbounded,
    /// All that somebody asks for.
    Asked,
}

impl Allowance {
    fn while_waiting(writes: usize, bytes: usize) -> Allowance {
        match (writes, bytes) {
            (0, _) => Allowance::Usual,
            (_, bytes) if bytes < WAITING_BYTES_MANY => Allowance::Unbounded,
            _ => Allowance::Asked,
        }
    }

    /// The bound, and from how many under way on the kernel begins none by itself.
    fn limits(self) -> [(&'static str, &'static str, u32); 2] {
        let usual = u32::from(BACKGROUND_MAX);
        let (most, threshold) = match self {
            Allowance::Usual => (usual, usual / 4 * 3),
            Allowance::Unbounded => (BACKGROUND_WHILE_WAITING, BACKGROUND_WHILE_WAITING / 4 * 3),
            Allowance::Asked => (BACKGROUND_WHILE_WAITING, usual / 4 * 3),
        };
        [
            ("max_background", "max_user_bgreq", most),
            ("congestion_threshold", "max_user_congthresh", threshold),
        ]
    }
}

/// Of one mount. Any thread. The lock is a leaf.
#[derive(Default)]
pub(super) struct BackgroundRequests(Mutex<State>);

#[derive(Default)]
struct State {
    /// The minor number of the mount's device, by which its connection is known.
    connection: Option<u32>,
    /// The control file system, if nobody has attached it.
    control: Option<OwnedFd>,
    /// What it was told last.
    told: Option<Allowance>,
    is_out_of_reach: bool,
}

impl BackgroundRequests {
    /// The connection is this.
    pub(super) fn of(&self, connection: u32) {
        self.0.lock().connection = Some(connection);
    }

    /// So many writes wait, of so many bytes together.
    pub(super) fn waiting(&self, writes: usize, bytes: usize) {
        let allowance = Allowance::while_waiting(writes, bytes);
        let mut state = self.0.lock();
        if state.is_out_of_reach || state.told.unwrap_or(Allowance::Usual) == allowance {
            return;
        }
        state.told = Some(allowance);
        if let Err(e) = state.tell(allowance) {
            log::info!("the kernel cannot be told how much it may have under way: {e}");
            state.is_out_of_reach = true;
        }
    }
}

impl State {
    fn tell(&mut self, allowance: Allowance) -> io::Result<()> {
        let dir = self.dir()?;
        for (file, bound, value) in allowance.limits() {
            let set = |value: u32| fs::write(dir.join(file), value.to_string());
            if let Err(e) = set(value) {
                // More than this takes a right.
                let most = fs::read_to_string(Path::new(PARAMETERS).join(bound)).unwrap_or_default();
                let most = most.trim().parse().ok().filter(|most| *most < value).ok_or(e)?;
                set(most)?;
            }
        }
        Ok(())
    }

    /// The directory of the connection.
    fn dir(&mut self) -> io::Result<PathBuf> {
        let connection = self.connection.ok_or(io::ErrorKind::NotConnected)?.to_string();
        let attached = Path::new(CONTROL).join(&connection);
        if attached.exists() {
            return Ok(attached);
        }
        let control = match self.control.take() {
            Some(control) => control,
            None => namespace::fuse_control()?,
        };
        let dir = PathBuf::from(format!("/proc/self/fd/{}", control.as_raw_fd())).join(connection);
        self.control = Some(control);
        Ok(dir)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_may_be_as_many_as_wait_and_more_unless_they_hold_much() {
        assert_eq!(Allowance::while_waiting(0, 0), Allowance::Usual);
        assert_eq!(Allowance::while_waiting(1, 4096), Allowance::Unbounded);
        assert_eq!(Allowance::while_waiting(300, 300 << 20), Allowance::Asked);
        for allowance in [Allowance::Usual, Allowance::Unbounded, Allowance::Asked] {
            let [(.., most), (.., threshold)] = allowance.limits();
            assert!(threshold < most && most <= u32::from(u16::MAX));
        }
        // Where there is no connection nothing is told, and nobody is held up.
        let background = BackgroundRequests::default();
        background.waiting(1, 1);
        background.waiting(0, 0);
        assert!(background.0.lock().is_out_of_reach);
    }
}
