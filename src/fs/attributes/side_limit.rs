//! For how long one side of a mirror may keep the other waiting: a property of the root of a mirrored store, as an extended
//! attribute that is never listed.
//!
//! It is in the labels of the sides and not in a tree: no snapshot and no clone has it, and it holds whichever side is mounted.

use crate::clock::{parse_span, span};
use crate::format::{Ino, LineId};
use crate::fs::heads::{Heads, Target, target};
use crate::limits::{SIDE_LIMIT_SECS, SIDE_LIMIT_SECS_DEFAULT};
use crate::ops::{Caller, Error, NodeId, Result, XattrMode};
use std::time::Duration;

const TIMEOUT: &[u8] = b"user.snapfs.timeout";
const TIMEOUT_SOURCE: &[u8] = b"user.snapfs.timeout.source";
const DEFAULT: Duration = Duration::from_secs(SIDE_LIMIT_SECS_DEFAULT);

/// Whether an attribute of that name is this one, or where it is from.
pub(super) fn is_side_limit(name: &[u8]) -> bool {
    name == TIMEOUT || name == TIMEOUT_SOURCE
}

/// Of a root whose store has another side, or is to have it back.
fn limit_of(heads: &Heads, node: NodeId) -> Result<Duration> {
    let is_main = match target(node) {
        Target::Live(Ino::ROOT) => heads.line_of(node)?.line == LineId::MAIN,
        _ => false,
    };
    heads.volume.side_limit().filter(|_| is_main).ok_or(Error::NoAttribute)
}

fn shown(limit: Duration) -> String {
    match limit.subsec_millis() {
        0 => span(limit.as_secs()),
        _ => format!("{}ms", limit.as_millis()),
    }
}

/// `5`, `5s` or `2m`.
fn parsed(value: &[u8]) -> Option<Duration> {
    let text = std::str::from_utf8(value).ok()?;
    let seconds = text.parse().ok().or_else(|| parse_span(text))?;
    SIDE_LIMIT_SECS.contains(&seconds).then(|| Duration::from_secs(seconds))
}

/// The value of the attribute of a node.
pub(super) fn side_limit_attribute(heads: &Heads, node: NodeId, name: &[u8]) -> Result<Vec<u8>> {
    let limit = limit_of(heads, node)?;
    Ok(match name == TIMEOUT_SOURCE {
        true if limit == DEFAULT => "default".into(),
        true => "local".into(),
        false => shown(limit).into_bytes(),
    })
}

/// Sets it; none: to what it is if nobody says. Root may, and the owner of the root of the mount.
pub(super) fn set_side_limit(
    heads: &Heads,
    caller: &Caller,
    (node, name): (NodeId, &[u8]),
    value: Option<&[u8]>,
    mode: XattrMode,
) -> Result<()> {
    limit_of(heads, node).map_err(|_| Error::NotPermitted)?;
    heads.check_writable()?;
    let owner = heads.live_inode(&heads.main(), Ino::ROOT)?.uid;
    if name != TIMEOUT || caller.uid != 0 && caller.uid != owner {
        return Err(Error::NotPermitted);
    }
    if mode == XattrMode::Create {
        return Err(Error::Exists);
    }
    let limit = value.map_or(Some(DEFAULT), parsed).ok_or(Error::Invalid)?;
    Ok(heads.volume.set_side_limit(limit)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_have_bounds_and_are_shown_as_they_are_written() {
        for (text, seconds, told) in
            [("5", 5, "5s"), ("1s", 1, "1s"), ("90s", 90, "90s"), ("60m", 3600, "1h")]
        {
            assert_eq!(parsed(text.as_bytes()), Some(Duration::from_secs(seconds)), "{text}");
            assert_eq!(shown(Duration::from_secs(seconds)), told);
        }
        for bad in ["0", "0s", "3601", "2h", "soon", "none", "", "-1", "1.5"] {
            assert_eq!(parsed(bad.as_bytes()), None, "{bad}");
        }
        assert_eq!(shown(Duration::from_millis(1500)), "1500ms");
        assert!(is_side_limit(b"user.snapfs.timeout.source") && !is_side_limit(b"user.timeout"));
    }
}
