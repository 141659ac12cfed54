//! In what two sides contradict each other.

/// What it is about.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum ConflictKind {
    /// Both have written the file, not the same.
    Content,
    /// Both have changed its mode, owner, flags or properties.
    Attributes,
    /// Both have changed its extended attributes.
    Xattrs,
    /// One has removed what the other has changed or given another name.
    Removal,
    /// One has removed a directory in which the other has put something.
    Below,
    /// Both have given it another name, or each has removed a name and none is left.
    Names,
    /// Both have given one name to different things.
    SameName,
    /// Each has moved a directory, and together one would be inside of itself.
    Circle,
}

impl ConflictKind {
    /// The word for it in reports.
    pub fn name(self) -> &'static str {
        match self {
            ConflictKind::Content => "content",
            ConflictKind::Attributes => "attributes",
            ConflictKind::Xattrs => "xattrs",
            ConflictKind::Removal => "removal",
            ConflictKind::Below => "below",
            ConflictKind::Names => "names",
            ConflictKind::SameName => "same-name",
            ConflictKind::Circle => "circle",
        }
    }

    /// A sentence for people, without the path.
    pub fn sentence(self) -> &'static str {
        match self {
            ConflictKind::Content => "its content was changed on both sides",
            ConflictKind::Attributes => "its mode, owner or flags were changed on both sides",
            ConflictKind::Xattrs => "its extended attributes were changed on both sides",
            ConflictKind::Removal => "removed on one side, changed or moved on the other",
            ConflictKind::Below => "removed on one side, something was put into it on the other",
            ConflictKind::Names => "moved on both sides",
            ConflictKind::SameName => "both sides have something else here",
            ConflictKind::Circle => "directories were moved into each other",
        }
    }
}

/// One of the sides of a conflict.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct ConflictEnd {
    /// Where it is there, from the root without a slash at either end; none if it is not.
    pub path: Option<Vec<u8>>,
    /// What was done to it: `content`, `attributes`, `xattrs`, `added`, `removed`, `moved`, `linked`, `unlinked`,
    /// `replaced` (another thing has the name), `filled` (something was put into it).
    pub did: Vec<&'static str>,
}

/// A contradiction, with both sides.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Conflict {
    /// What it is about.
    pub kind: ConflictKind,
    /// Where it was in the base; none if it was not there.
    pub base: Option<Vec<u8>>,
    /// The side whose changes are to be brought over.
    pub source: ConflictEnd,
    /// The side that is to get them.
    pub target: ConflictEnd,
}

impl Conflict {
    /// The path by which it is listed: where it is in the target, else in the base, else in the source.
    pub fn path(&self) -> &[u8] {
        let all = [&self.target.path, &self.base, &self.source.path];
        all.into_iter().flatten().next().map_or(b"", Vec::as_slice)
    }
}
