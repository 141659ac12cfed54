//! What the processes of a trial say to each other: orders as arguments of the program, answers as lines of JSON.

use crate::sys::mount::errno;
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use std::io::{self, BufRead, Write};

/// The first argument of a program that is to be a process of a trial. Then come its order as JSON, and the command.
pub(super) const STAGE: &str = "trial-stage";

/// Whether the command sees the processes of others.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub(super) enum Processes {
    /// All that there are.
    All,
    /// Those of the trial alone.
    OfTrial,
}

/// What a process of a trial is started for. Descriptors are those that it inherits.
#[derive(Debug, Serialize, Deserialize)]
pub(super) enum StageOrder {
    Outer(OuterOrder),
    Inner(InnerOrder),
}

/// For the process outside.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct OuterOrder {
    /// The process that starts it.
    pub(super) parent: u32,
    /// Where its [`TrialReport`] goes.
    pub(super) report: i32,
    /// The connection by which the daemon knows that the trial goes on.
    pub(super) bond: i32,
    /// The file system.
    pub(super) device: (u32, u32),
    /// The slot of the line that is tried, as in the numbers of its nodes.
    pub(super) slot: u32,
    /// Its name; none for what the mount has at its root.
    pub(super) line: Option<Vec<u8>>,
    /// The clone.
    pub(super) clone: Vec<u8>,
    pub(super) processes: Processes,
}

/// For the process inside.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct InnerOrder {
    /// The process that starts it; 0 where that is out of sight.
    pub(super) parent: u32,
    /// A socket: its [`InnerWord`]s, and a line when it may go on.
    pub(super) socket: i32,
    pub(super) processes: Processes,
}

/// How a trial ended.
#[derive(Debug, Serialize, Deserialize)]
pub(super) enum TrialReport {
    /// The command and all that it started have.
    Ended(u8),
    /// There was none.
    Failed(StageFailure),
}

/// Why the command was not run: a sentence, and the exit code for it.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct StageFailure {
    pub(super) why: String,
    pub(super) code: u8,
}

/// What the inner process says.
#[derive(Debug, Serialize, Deserialize)]
pub(super) enum InnerWord {
    /// It is in its namespaces, and waits for its numbers of users.
    Apart,
    Failed(StageFailure),
}

/// Failed before the command was looked for.
pub(super) const NOT_BEGUN: u8 = 1;
/// As env(1) and shells say that a command cannot be run, and that there is none.
const NOT_RUN: u8 = 126;
const NOT_FOUND: u8 = 127;

impl StageFailure {
    pub(super) fn new(why: impl Into<String>) -> StageFailure {
        StageFailure { why: why.into(), code: NOT_BEGUN }
    }

    /// Of a kernel that gives no user namespace.
    pub(super) fn no_user_namespace(e: io::Error) -> StageFailure {
        let hint = match e.raw_os_error() {
            Some(errno::EPERM | errno::EACCES) => {
                "it is forbidden here (in a chroot or container, or by kernel.unprivileged_userns_clone or \
                 kernel.apparmor_restrict_unprivileged_userns)"
            }
            Some(errno::EINVAL) => "this kernel has none",
            _ => "no more may be made (user.max_user_namespaces)",
        };
        let what = "cannot try anything without a user namespace";
        StageFailure::new(format!("{what}: {hint}: {e}; make a clone with 'snapfs clone' instead"))
    }

    /// Of a command that cannot be started.
    pub(super) fn of_command(name: &str, e: &io::Error) -> StageFailure {
        let code = if e.kind() == io::ErrorKind::NotFound { NOT_FOUND } else { NOT_RUN };
        StageFailure { why: format!("cannot run {name}: {e}"), code }
    }
}

/// Sends one.
pub(super) fn say(to: &mut impl Write, word: &impl Serialize) -> io::Result<()> {
    to.write_all(format!("{}\n", serde_json::to_string(word)?).as_bytes())
}

/// Receives one; none at the end.
pub(super) fn hear<T: DeserializeOwned>(from: &mut impl BufRead) -> io::Result<Option<T>> {
    let mut line = String::new();
    if from.read_line(&mut line)? == 0 {
        return Ok(None);
    }
    Ok(Some(serde_json::from_str(&line)?))
}
