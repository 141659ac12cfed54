//! How a file or directory is opened.

/// How a file or directory is opened.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct OpenFlags {
    /// Reading allowed.
    pub read: bool,
    /// Writing allowed.
    pub write: bool,
    /// Every write goes to the end, and the file system finds it.
    pub append: bool,
    /// Every write goes to the end, whoever finds it (`O_APPEND`).
    pub at_end: bool,
    /// Cut to nothing on open (`O_TRUNC`).
    pub truncate: bool,
    /// `O_EXCL` of a creation.
    pub exclusive: bool,
    /// `O_SYNC` or `O_DSYNC`: a write returns when it is durable.
    pub sync: bool,
    /// `O_NOATIME`: reading leaves no trace.
    pub no_atime: bool,
    /// Of a directory: what is found by name only is listed too.
    pub unlisted: bool,
}

impl OpenFlags {
    /// To read, and nothing else.
    pub const READ_ONLY: OpenFlags = OpenFlags {
        read: true,
        write: false,
        append: false,
        at_end: false,
        truncate: false,
        exclusive: false,
        sync: false,
        no_atime: false,
        unlisted: false,
    };
    /// To read and write, and nothing else.
    pub const READ_WRITE: OpenFlags = OpenFlags { write: true, ..OpenFlags::READ_ONLY };
}
