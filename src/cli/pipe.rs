//! The way on which a stream comes from a daemon, or goes to it: one more connection to its control channel, beside the request.
//!
//! Both ends have proved to each other there whose they are, as for each request, so nobody else gets a stream to see or puts
//! one in. The connection has a key, which the request tells. The bytes of a stream are not lines, and a reader or writer
//! that goes away is seen at once.

use crate::ctl::{Client, Code, Failure, Peer};
use crate::sys::random::random;
use parking_lot::Mutex;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::os::unix::net::UnixStream;

/// The verb by which a connection becomes such a way.
pub(super) const CARRY: &str = "carry";

/// Opens a way to a daemon; what is to be told in the request for the stream is its key.
pub(super) fn open(client: &Client) -> Result<(UnixStream, String), Failure> {
    let failed =
        |e: std::io::Error| Failure::new(Code::Io, format!("the way for the stream cannot be opened: {e}"));
    let number: [u8; 16] = random().map_err(failed)?;
    let key = number.iter().fold(String::new(), |key, byte| format!("{key}{byte:02x}"));
    let (_, bond) = client.begin(CARRY, json!({"key": key}))?;
    Ok((bond.into_stream().map_err(failed)?, key))
}

/// Ways that were opened to a daemon and not asked for yet. Any thread.
#[derive(Default)]
pub(super) struct Carriers(Mutex<BTreeMap<String, Peer>>);

impl Carriers {
    /// The daemon's answer to [`CARRY`]: keeps the connection until it is asked for or its other end is gone.
    pub(super) fn keep(&self, args: &Value, peer: &Peer) -> Result<Value, Failure> {
        let Some(key) = args.get("key").and_then(Value::as_str) else {
            return Err(Failure::new(Code::Invalid, "the request has no 'key'"));
        };
        let mut all = self.0.lock();
        all.retain(|_, peer| peer.is_there());
        all.insert(key.to_string(), peer.clone());
        Ok(json!({}))
    }

    /// The way that has this key, for one stream.
    pub(super) fn take(&self, key: &str) -> Result<Peer, Failure> {
        let found = self.0.lock().remove(key);
        found.ok_or_else(|| Failure::new(Code::Invalid, "there is no way for the stream: it was not opened"))
    }
}
