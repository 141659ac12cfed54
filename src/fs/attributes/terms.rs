//! For how long a clone is kept, how many there may be, and for how long what is deleted stays in the trash: properties of the root of a line, as extended attributes that are
//! never listed.
//!
//! They are in the record of the line and not in its tree: no snapshot has them, and a clone of the clone does not get them.

use crate::clock::{is_span, parse_span, span};
use crate::format::terms::{Expiry, Idling, THRESHOLD_FILES_MAX, Terms, Threshold};
use crate::format::{Ino, LineId};
use crate::fs::commits::Commits;
use crate::fs::heads::{Heads, Target, target};
use crate::ops::{Caller, Error, NodeId, Result, XattrMode};
use crate::volume::ReserveFor;

const PREFIX: &[u8] = b"user.snapfs.";
const SOURCE: &[u8] = b".source";
const NOTHING: &str = "none";
const ON: &str = "on";
const OFF: &str = "off";

/// One of the terms.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Term {
    /// A clone goes after so long.
    Expire,
    /// A clone goes when it was not used for so long.
    Idle,
    /// There are no more clones than so many.
    ClonesMax,
    /// What is deleted stays in the trash for so long.
    Trash,
    /// What has a snapshot be kept before much is gone.
    Tripwire,
}

/// The term of an attribute of that name, and true if where its value is from is asked for.
pub(super) fn term_of(name: &[u8]) -> Option<(Term, bool)> {
    let name = name.strip_prefix(PREFIX)?;
    let source = name.strip_suffix(SOURCE);
    let term = match source.unwrap_or(name) {
        b"expire" => Term::Expire,
        b"idle" => Term::Idle,
        b"clones_max" => Term::ClonesMax,
        b"trash" => Term::Trash,
        b"tripwire" => Term::Tripwire,
        _ => return None,
    };
    Some((term, source.is_some()))
}

impl Term {
    /// Its value if nothing was said.
    fn default(self) -> &'static str {
        if self == Term::Tripwire { ON } else { NOTHING }
    }

    fn is_of(self, line: LineId) -> bool {
        self == Term::Tripwire || matches!(self, Term::ClonesMax | Term::Trash) == (line == LineId::MAIN)
    }

    fn show(self, terms: &Terms) -> Option<String> {
        match self {
            Term::Expire => terms.expiry.map(|e| span(e.after)),
            Term::Idle => terms.idling.map(|i| span(i.after)),
            Term::ClonesMax => terms.clones_max.map(|max| max.to_string()),
            Term::Trash => terms.trash.map(span),
            Term::Tripwire => terms.tripwire.map(|threshold| match threshold {
                Threshold::Never => OFF.into(),
                Threshold::Files(files) => files.to_string(),
            }),
        }
    }

    /// The terms with this value of this one from `now` on.
    fn put(self, terms: &mut Terms, value: &[u8], now: i64) -> Result<()> {
        let text = std::str::from_utf8(value).map_err(|_| Error::Invalid)?;
        let is_something = text != NOTHING;
        let after = || parse_span(text).filter(|after| is_span(*after)).ok_or(Error::Invalid);
        match self {
            Term::Expire => {
                let expiry = |after| Expiry { after, at: now.saturating_add_unsigned(after) };
                terms.expiry = is_something.then(|| after().map(expiry)).transpose()?;
            }
            Term::Idle => {
                let idling = |after| Idling { after, used: now };
                terms.idling = is_something.then(|| after().map(idling)).transpose()?;
            }
            Term::Trash => terms.trash = is_something.then(after).transpose()?,
            Term::ClonesMax => {
                let max = || text.parse().ok().filter(|max| *max != 0).ok_or(Error::Invalid);
                terms.clones_max = is_something.then(max).transpose()?;
            }
            Term::Tripwire => {
                let files = |files: &u32| (1..=THRESHOLD_FILES_MAX).contains(files);
                terms.tripwire = match text {
                    ON | NOTHING => None,
                    OFF => Some(Threshold::Never),
                    text => Some(Threshold::Files(text.parse().ok().filter(files).ok_or(Error::Invalid)?)),
                };
            }
        }
        Ok(())
    }
}

fn line_of(heads: &Heads, node: NodeId, term: Term) -> Result<LineId> {
    match target(node) {
        Target::Live(Ino::ROOT) => {}
        _ => return Err(Error::NoAttribute),
    }
    let line = heads.line_of(node)?.line;
    if term.is_of(line) { Ok(line) } else { Err(Error::NoAttribute) }
}

/// The value of the attribute of a node.
pub(super) fn term_attribute(heads: &Heads, node: NodeId, (term, source): (Term, bool)) -> Result<Vec<u8>> {
    let line = line_of(heads, node, term)?;
    let value = term.show(&heads.volume.line(line)?.terms);
    Ok(match source {
        true if value.is_some() => "local".into(),
        true => "default".into(),
        false => value.unwrap_or_else(|| term.default().into()).into_bytes(),
    })
}

/// Sets it. Root may, and whoever may make and drop clones: the owner of the root of the mount.
pub(super) fn set_term(
    commits: &Commits,
    caller: &Caller,
    (node, term): (NodeId, Term),
    value: &[u8],
    mode: XattrMode,
) -> Result<()> {
    let heads = &commits.heads;
    let line = line_of(heads, node, term).map_err(|_| Error::NotPermitted)?;
    heads.check_writable()?;
    let owner = heads.live_inode(&heads.main(), Ino::ROOT)?.uid;
    if caller.uid != 0 && caller.uid != owner {
        return Err(Error::NotPermitted);
    }
    match (mode, term.show(&heads.volume.line(line)?.terms)) {
        (XattrMode::Create, Some(_)) => return Err(Error::Exists),
        (XattrMode::Replace, None) => return Err(Error::NoAttribute),
        _ => {}
    }
    let now = heads.clock.now().secs;
    term.put(&mut Terms::default(), value, now)?;
    commits.have_room_for_records(ReserveFor::Record)?;
    heads.volume.set_terms(line, |terms| {
        // It was proved above.
        let _ = term.put(terms, value, now);
    })?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_values() {
        assert_eq!(term_of(b"user.snapfs.expire"), Some((Term::Expire, false)));
        assert_eq!(term_of(b"user.snapfs.clones_max.source"), Some((Term::ClonesMax, true)));
        assert!(
            [&b"user.expire"[..], b"user.snapfs.", b"user.snapfs.compression"]
                .iter()
                .all(|n| term_of(n).is_none())
        );
        let mut terms = Terms::default();
        for (term, value, shown) in [
            (Term::Expire, "7d", Some("1w")),
            (Term::Idle, "90m", Some("90m")),
            (Term::ClonesMax, "12", Some("12")),
            (Term::Expire, "none", None),
        ] {
            assert_eq!(term.put(&mut terms, value.as_bytes(), 5), Ok(()));
            assert_eq!(term.show(&terms).as_deref(), shown);
        }
        assert_eq!(terms.idling, Some(Idling { after: 5400, used: 5 }));
        for (term, bad) in
            [(Term::Expire, "0d"), (Term::Idle, "soon"), (Term::ClonesMax, "0"), (Term::ClonesMax, "-1")]
        {
            assert_eq!(term.put(&mut terms, bad.as_bytes(), 5), Err(Error::Invalid));
        }
    }
}
