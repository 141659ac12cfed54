//! What can be chosen when a file system is opened. Parsing of mount options is not done here.

/// Which reads change access times.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum AtimeMode {
    /// None.
    Never,
    /// The first after a change, and one a day.
    Relative,
    /// All.
    Always,
}

/// Choices about access times.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct AtimeOptions {
    /// Which reads count.
    pub mode: AtimeMode,
    /// Whether listing a directory is a read.
    pub directories: bool,
}

/// The name of the virtual directory, unless another is chosen.
pub const SNAPDIR_NAME: &[u8] = b".snapshots";

/// How `.snapshots` in the root shows itself.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum SnapdirMode {
    /// Found by name, never listed.
    Hidden,
    /// Listed too.
    Visible,
    /// Not there at all: its name is one like others.
    Disabled,
}

/// A group whose members may do with snapshots of a mount what else only root and the owner of its root directory may.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct SnapGroup {
    /// It.
    pub gid: u32,
    /// What its members may do.
    pub may: GroupMay,
}

/// What members of a group may do.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum GroupMay {
    /// Make snapshots.
    Make,
    /// Rename and delete them as well.
    MakeAndDelete,
}

impl SnapGroup {
    /// The mode of `.snapshots`, which belongs to the group: the kernel holds everybody to it.
    pub(super) fn mode(self) -> u32 {
        match self.may {
            // Sticky: what is in it is moved and removed by its owner, and that of the directory.
            GroupMay::Make => 0o1775,
            GroupMay::MakeAndDelete => 0o775,
        }
    }
}

/// The name of the directory of clones in the root of each line.
pub const CLONEDIR_NAME: &[u8] = b".clones";

/// How `.clones` shows itself.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ClonedirMode {
    /// Found by name, never listed.
    Hidden,
    /// Not there at all: its name is one like others.
    Disabled,
}

/// Choices of [`Fs::open`](super::Fs::open).
#[derive(Clone, Debug)]
pub struct FsOptions {
    /// Refuses every change.
    pub read_only: bool,
    /// `.snapshots` in the root.
    pub snapdir: SnapdirMode,
    /// `.snapshots` in every other directory, never listed.
    pub snapdir_everywhere: bool,
    /// Its name, which no file can have where it is. What has it there already is out of sight.
    pub snapdir_name: Vec<u8>,
    /// Who else makes and deletes snapshots.
    pub snap_group: Option<SnapGroup>,
    /// `.clones` in the root of each line.
    pub clonedir: ClonedirMode,
    /// The clone that is at the root of the mount, in the place of the main line.
    pub root: Option<Vec<u8>>,
    /// Owner of the root of a new file system.
    pub root_uid: u32,
    /// Group of the root of a new file system.
    pub root_gid: u32,
    /// Access times.
    pub atime: AtimeOptions,
    /// The kernel collects writes, and keeps sizes and modification times of files that it knows whatever it is told.
    pub writeback_cache: bool,
    /// Before much is gone from the line at the root of the mount, a snapshot of it is kept.
    pub tripwire: bool,
    /// Delayed data is flushed when it is more than this, in bytes.
    pub dirty_bytes_max: u64,
    /// How operations that need several changes are cut.
    pub steps: Steps,
}

/// Bytes of a file that one change works on.
pub(super) const STEP_BYTES: u64 = 256 << 20;

/// How an operation that one change cannot hold is cut into several. The defaults bound what a change holds up; less is
/// for tests, which want many steps of small operations.
#[derive(Clone, Copy, Debug)]
pub struct Steps {
    /// Items that one change takes away, at least 1.
    pub items: usize,
    /// Bytes of a file that one change works on, whole blocks.
    pub bytes: u64,
    /// What happens between two changes of an operation.
    pub between: Between,
}

/// What happens between two changes of one operation.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Between {
    /// Nothing.
    Nothing,
    /// A commit, as one that its time or pressure brings can come there.
    Commit,
}

impl Default for Steps {
    fn default() -> Self {
        Steps { items: 256, bytes: STEP_BYTES, between: Between::Nothing }
    }
}

impl Default for FsOptions {
    fn default() -> Self {
        FsOptions {
            read_only: false,
            snapdir: SnapdirMode::Hidden,
            snapdir_everywhere: true,
            snapdir_name: SNAPDIR_NAME.to_vec(),
            snap_group: None,
            clonedir: ClonedirMode::Hidden,
            root: None,
            root_uid: 0,
            root_gid: 0,
            atime: AtimeOptions { mode: AtimeMode::Never, directories: true },
            writeback_cache: false,
            tripwire: false,
            dirty_bytes_max: 64 << 20,
            steps: Steps::default(),
        }
    }
}
