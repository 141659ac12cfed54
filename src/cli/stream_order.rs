//! Orders about streams between stores, and about what each end knows of the other.

use crate::ops::NodeId;

/// What is to be done with streams between stores.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum StreamOrder {
    /// To write one.
    Send {
        /// A node of the line.
        at: NodeId,
        /// The word for the snapshot.
        view: Vec<u8>,
        /// That for the one that the receiver has.
        from: Option<Vec<u8>>,
        /// Where to go on.
        resume: Option<String>,
    },
    /// To take one in.
    Receive {
        /// Who receives it.
        user: Option<u32>,
        /// As a clone of that name.
        as_name: Option<Vec<u8>>,
    },
    /// To write the sums over what is in a snapshot, inode by inode: number, 8 bytes, and sum, 16.
    Sums {
        /// A node of the line.
        at: NodeId,
        /// The word for the snapshot,
        view: Option<Vec<u8>>,
        /// or what it is known by in all stores.
        identity: Option<String>,
    },
    /// To tell the number that a stream would have.
    Number {
        /// A node of the line.
        at: NodeId,
        /// The word for the snapshot.
        view: Vec<u8>,
        /// That for the one that the receiver has.
        from: Option<Vec<u8>>,
    },
    /// To tell the paths of inodes of a snapshot.
    Paths {
        /// A node of the line.
        at: NodeId,
        /// The word for the snapshot.
        view: Vec<u8>,
        /// The inodes.
        inodes: Vec<u64>,
    },
    /// To tell what snapshots are known by in all stores.
    Identities {
        /// A node of the line.
        at: NodeId,
        /// Those of all lines.
        all: bool,
    },
    /// To note that another store has a snapshot.
    Note {
        /// A node of the line.
        at: NodeId,
        /// The word for the snapshot.
        view: Vec<u8>,
        /// The identity of the store.
        store: String,
        /// Where it is, if a copy is to be known there.
        path: Option<Vec<u8>>,
    },
    /// To hold a snapshot while it goes to another store, and for a week after it was cut off.
    Hold {
        /// A node of the line.
        at: NodeId,
        /// The word for the snapshot.
        view: Vec<u8>,
        /// The identity of the store.
        store: String,
        /// Where it is.
        path: Vec<u8>,
        /// Who sends it.
        user: Option<u32>,
    },
    /// To have it held for that no more.
    Release {
        /// A node of the line.
        at: NodeId,
        /// The word for the snapshot.
        view: Vec<u8>,
        /// The identity of the store.
        store: String,
    },
    /// To tell how a stream would begin.
    Begin {
        /// A node of the line.
        at: NodeId,
        /// The word for the snapshot.
        view: Vec<u8>,
        /// That for the one that the receiver has.
        from: Option<Vec<u8>>,
    },
    /// To say whether a stream that begins so would be taken.
    Offer {
        /// Its first packet, without the header.
        begin: Vec<u8>,
    },
    /// To tell what is being received, or was cut off.
    Arrivals,
    /// To give up what was received of a stream.
    Drop {
        /// Its token.
        token: String,
    },
}
