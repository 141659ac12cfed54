//! What the daemon and the flusher say to each other: one order, one answer, each a line of JSON over a socket pair.
//!
//! Both ends are the same program, so there are no versions. A message is bounded: a longer one ends the line.

use crate::fuse::mounts::MountId;
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use std::io::{self, BufRead, BufReader, Read, Write};
use std::os::unix::net::UnixStream;

/// Nodes that are written back together: as many as are open at once, well below the usual limit of 1024 descriptors.
pub(in crate::fuse) const NODES_MAX: usize = 256;
/// Longest message: [`NODES_MAX`] nodes with all their digits, and some text.
const MESSAGE_BYTES_MAX: u64 = 64 << 10;

/// What the flusher is to do.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub(super) enum Order {
    /// To know which mount it is for.
    Attend(MountId),
    /// To see that the mount answers.
    Prove,
    /// To write the dirty pages of these nodes (number, generation) back, and wait for it.
    WriteBack(Vec<(u64, u64)>),
    /// To look this path of the mount up.
    LookUp(Vec<u8>),
    /// To start the write-back of everything; not to wait.
    Sync,
    /// To unmount, if it is not in use.
    Unmount,
    /// To take the mount out of sight.
    Detach,
    /// To cut the connection and take the mount out of sight.
    GiveUp,
    /// To end: nobody serves the mount any more.
    End,
}

/// What came of it.
#[derive(Clone, Default, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub(super) struct OrderAnswer {
    /// Number of the error, 0 if it has none.
    number: i32,
    /// What failed; empty if the number says it all.
    text: String,
    failed: bool,
    /// Nodes whose own mode keeps them from the flusher.
    pub(super) closed: Vec<u64>,
}

impl OrderAnswer {
    /// Of a failure.
    pub(super) fn failure(error: &io::Error) -> OrderAnswer {
        let number = error.raw_os_error();
        let text = if number.is_some() { String::new() } else { error.to_string() };
        OrderAnswer { number: number.unwrap_or(0), text, failed: true, closed: Vec::new() }
    }

    /// Of a failure with that node.
    pub(super) fn failure_of(node: u64, error: &io::Error) -> OrderAnswer {
        let text = format!("writing back inode {node}: {error}");
        OrderAnswer {
            text,
            ..OrderAnswer {
                number: error.raw_os_error().unwrap_or(0),
                failed: true,
                ..OrderAnswer::default()
            }
        }
    }

    /// The failure as the one who asked sees it.
    pub(super) fn into_result(self) -> io::Result<Vec<u64>> {
        let error = io::Error::from_raw_os_error(self.number);
        match (self.failed, self.text.is_empty(), self.number) {
            (false, ..) => Ok(self.closed),
            (true, true, _) => Err(error),
            (true, false, 0) => Err(io::Error::other(self.text)),
            (true, false, _) => Err(io::Error::new(error.kind(), self.text)),
        }
    }
}

/// Sends a message.
pub(super) fn send(mut to: &UnixStream, message: &impl Serialize) -> io::Result<()> {
    let mut line = serde_json::to_vec(message)?;
    line.push(b'\n');
    to.write_all(&line)
}

/// Receives a message; `None` when the other end is gone.
pub(super) fn receive<M: DeserializeOwned>(from: &mut BufReader<&UnixStream>) -> io::Result<Option<M>> {
    let mut line = Vec::new();
    match from.take(MESSAGE_BYTES_MAX).read_until(b'\n', &mut line) {
        Ok(0) => return Ok(None),
        Err(e) if e.kind() == io::ErrorKind::ConnectionReset => return Ok(None),
        done => done?,
    };
    Ok(Some(serde_json::from_slice(&line)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_longest_order_travels() {
        let (a, b) = UnixStream::pair().expect("a pair");
        let order = Order::WriteBack(vec![(u64::MAX, u64::MAX); NODES_MAX]);
        send(&a, &order).expect("send");
        let mut reader = BufReader::new(&b);
        assert_eq!(receive(&mut reader).expect("receive"), Some(order));
        drop(a);
        assert_eq!(receive::<Order>(&mut reader).expect("the end"), None);
    }

    #[test]
    fn failures_keep_their_kind() {
        let full = io::Error::from_raw_os_error(28);
        let seen = OrderAnswer::failure_of(7, &full).into_result().expect_err("a failure");
        assert!(seen.kind() == io::ErrorKind::StorageFull && seen.to_string().contains("inode 7"));
        let busy = io::Error::from_raw_os_error(16);
        assert_eq!(
            OrderAnswer::failure(&busy).into_result().expect_err("a failure").raw_os_error(),
            Some(16)
        );
        let said = OrderAnswer::failure(&io::Error::other("no")).into_result().expect_err("a failure");
        assert_eq!(said.to_string(), "no");
        assert!(OrderAnswer::default().into_result().is_ok());
    }
}
