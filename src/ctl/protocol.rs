//! The lines of the control channel: their shape, their bounds, and the codes of failure.
//!
//! Invariant: a line never grows beyond [`LINE_BYTES_MAX`] before it is refused, whoever sends it.

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use std::io::{self, BufRead, Read, Write};

/// Version of the protocol; a request with another one is refused with a sentence that names both.
pub(super) const VERSION: u32 = 1;
/// Longest request line, in bytes: a command line may name thousands of snapshots, and Linux has 2 MiB for one.
pub(super) const LINE_BYTES_MAX: u64 = 8 << 20;
/// The verb that every server answers itself, at once, as long as its mount is there.
pub(super) const HELLO: &str = "hello";
/// Longest answer line, in bytes: a listing of many thousand snapshots is one line.
pub(super) const ANSWER_BYTES_MAX: u64 = 256 << 20;

/// Kinds of failure that programs can tell apart.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Code {
    /// The name is taken.
    Exists,
    /// There is no such thing.
    NotFound,
    /// An argument makes no sense.
    Invalid,
    /// In use or held.
    Busy,
    /// Not allowed to this user.
    Denied,
    /// No change is possible: the mount or the store is read-only.
    ReadOnly,
    /// The store is full, or a limit of it is reached.
    NoSpace,
    /// Reading or writing the store failed.
    Io,
    /// The two sides speak different versions.
    Version,
    /// The daemon does not know the verb.
    UnknownVerb,
    /// There is no daemon to talk to.
    NotMounted,
    /// Damage was found.
    Damaged,
    /// Anything else.
    #[serde(other)]
    Other,
}

/// Why a request failed: a code for programs, a sentence for people.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Failure {
    /// For programs.
    pub code: Code,
    /// For people: what failed, with names, and what to do if that is known.
    pub message: String,
}

impl Failure {
    /// A failure with a sentence.
    pub fn new(code: Code, message: impl Into<String>) -> Failure {
        Failure { code, message: message.into() }
    }
}

impl std::fmt::Display for Failure {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Failure {}

/// The argument that says of which file system the numbers in a request are.
pub(super) const OF_DEVICE: &str = "of_device";

/// A request with the device number of the file system that the numbers of directories in it are of. A daemon whose mount
/// has another one refuses it.
pub fn of_device(mut args: Value, device: (u32, u32)) -> Value {
    args[OF_DEVICE] = json!([device.0, device.1]);
    args
}

/// A request line.
#[derive(Serialize, Deserialize)]
pub(super) struct Request {
    pub(super) version: u32,
    pub(super) verb: String,
    #[serde(default)]
    pub(super) args: Value,
}

/// An answer line.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Reply {
    Progress(Value),
    Ok(Value),
    Error(Failure),
}

/// True for the line of an answer that has more to come.
pub(super) fn is_progress(line: &[u8]) -> bool {
    line.starts_with(br#"{"progress":"#)
}

/// Sends one line.
pub(super) fn send(out: &mut impl Write, message: &impl Serialize) -> io::Result<()> {
    let mut line = serde_json::to_vec(message)?;
    line.push(b'\n');
    out.write_all(&line)
}

/// Receives one line of at most `max` bytes; `None` at the end of the stream. When nothing has come for as long as the
/// stream may be silent, `silent` decides whether to go on.
pub(super) fn receive(
    from: &mut impl BufRead,
    max: u64,
    silent: &mut dyn FnMut(io::Error) -> io::Result<()>,
) -> io::Result<Option<Vec<u8>>> {
    let mut line = Vec::new();
    loop {
        let room = (max + 1).saturating_sub(line.len() as u64);
        match from.by_ref().take(room).read_until(b'\n', &mut line) {
            Ok(_) => break,
            Err(e) if matches!(e.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut) => silent(e)?,
            Err(e) => return Err(e),
        }
    }
    if line.is_empty() {
        return Ok(None);
    }
    if line.last() == Some(&b'\n') {
        line.pop();
        return Ok(Some(line));
    }
    let what = if line.len() as u64 > max { "a line that is too long" } else { "a line that was cut off" };
    Err(io::Error::new(io::ErrorKind::InvalidData, what))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_bounded() {
        let long = [b'x'; 100];
        let receive = |from: &mut &[u8], max| receive(from, max, &mut Err);
        assert!(receive(&mut &long[..], 50).is_err_and(|e| e.to_string().contains("too long")));
        assert!(receive(&mut &b"abc"[..], 50).is_err_and(|e| e.to_string().contains("cut off")));
        assert!(receive(&mut &b"abc\n"[..], 3).is_ok_and(|l| l == Some(b"abc".to_vec())));
        assert!(receive(&mut &b""[..], 50).is_ok_and(|l| l.is_none()));
    }

    /// Says nothing twice, then the rest of the line.
    struct Halting(std::vec::IntoIter<Option<&'static [u8]>>);

    impl Read for Halting {
        fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
            match self.0.next() {
                Some(Some(bytes)) => {
                    out[..bytes.len()].copy_from_slice(bytes);
                    Ok(bytes.len())
                }
                Some(None) => Err(io::ErrorKind::WouldBlock.into()),
                None => Ok(0),
            }
        }
    }

    #[test]
    fn a_line_may_come_in_pieces_with_silence_between() {
        let parts = || {
            let parts: Vec<Option<&'static [u8]>> = vec![Some(b"ab"), None, None, Some(b"c\nd")];
            io::BufReader::new(Halting(parts.into_iter()))
        };
        let mut silences = 0;
        let mut count = |_| {
            silences += 1;
            Ok(())
        };
        assert!(receive(&mut parts(), 9, &mut count).is_ok_and(|l| l == Some(b"abc".to_vec())));
        assert_eq!(silences, 2);
        assert!(receive(&mut parts(), 9, &mut Err).is_err_and(|e| e.kind() == io::ErrorKind::WouldBlock));
    }

    #[test]
    fn answers_have_the_documented_shape() {
        let failure = Failure::new(Code::NoSpace, "full");
        let text = serde_json::to_string(&Reply::Error(failure)).unwrap_or_default();
        let more = serde_json::to_vec(&Reply::Progress(Value::Null)).unwrap_or_default();
        assert!(is_progress(&more) && !is_progress(text.as_bytes()));
        assert_eq!(text, r#"{"error":{"code":"no_space","message":"full"}}"#);
        let later: Result<Failure, _> = serde_json::from_str(r#"{"code":"from_the_future","message":"m"}"#);
        assert!(later.is_ok_and(|f| f.code == Code::Other));
    }
}
