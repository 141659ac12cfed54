//! Telling a snapshot: what differs from the base, or all of it.

use super::born::{GoneBase, tell_younger};
use super::inodes::visit_inodes;
use super::packets::PacketWriter;
use super::shares::Shares;
use super::stream_error::Result;
use super::teller::{SentStream, Teller};
use crate::format::stream::{StreamBegin, StreamEnd};
use crate::volume::{SharedContent, View};
use std::io::Write;

/// What is told.
pub struct Outgoing<'v> {
    /// What the receiver has, and the sum over it.
    pub old: Option<(&'v View, u128)>,
    /// Or what it was, which is not here any more, and the sum over the snapshot.
    pub gone: Option<(GoneBase, u128)>,
    /// The snapshot.
    pub new: &'v View,
    /// Content of the store that more than one reference reaches.
    pub shared: SharedContent,
}

/// Writes a stream; of its packets those from `begin.goes_on_at` on. `progress` is told the bytes of content so far, and
/// says whether to go on.
pub fn tell(
    what: Outgoing<'_>,
    begin: &StreamBegin,
    out: &mut dyn Write,
    progress: &mut dyn FnMut(u64) -> bool,
) -> Result<SentStream> {
    let (old, before) = what.old.map_or((None, 0), |(view, sum)| (Some(view), sum));
    let shares = Shares::between(what.shared, old, what.new)?;
    let packets = PacketWriter::begin(out, begin.stream(), begin.goes_on_at, &begin.encode())?;
    let mut teller = Teller::new(old, what.new, shares, packets, progress);
    teller.told.digest = before;
    match &what.gone {
        Some((base, digest)) => {
            tell_younger(&mut teller, base)?;
            teller.told.digest = *digest;
        }
        None => visit_inodes(old, what.new, &mut teller)?,
    }
    let Teller { packets, mut told, .. } = teller;
    let end = StreamEnd { digest: told.digest, content_bytes: told.content_bytes };
    (told.packets, told.bytes) = packets.end(&end.encode())?;
    Ok(told)
}
