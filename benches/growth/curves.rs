//! The curves and tables: what each figure is called, in which unit, over what.

/// One curve; its points are figures of the same name.
pub struct Curve {
    pub id: &'static str,
    pub title: &'static str,
    pub unit: &'static str,
}

/// The curves of a subject.
pub struct Family {
    pub title: &'static str,
    /// What the points are at.
    pub axis: &'static str,
    pub curves: &'static [Curve],
}

const fn curve(id: &'static str, title: &'static str, unit: &'static str) -> Curve {
    Curve { id, title, unit }
}

/// All of them, in order.
pub const FAMILIES: [Family; 5] = [
    Family {
        title: "Files",
        axis: "files in the tree",
        curves: &[
            curve("files.make", "files made", "op/s"),
            curve("files.lstat", "lstat at random, cold", "op/s"),
            curve("files.turn", "unlinked and made again", "op/s"),
            curve("files.snapshot", "snapshot made", "ms"),
            curve("files.mount", "mount", "ms"),
            curve("files.memory", "memory of the daemon", "MiB"),
            curve("files.check", "check of the metadata", "s"),
        ],
    },
    Family {
        title: "Snapshots",
        axis: "snapshots",
        curves: &[
            curve("snapshots.make", "snapshot made", "ms"),
            curve("snapshots.delete", "snapshot in the middle deleted", "ms"),
            curve("snapshots.list", "names listed", "ms"),
            curve("snapshots.overwrite", "4 KiB overwrites", "op/s"),
            curve("snapshots.mount", "mount", "ms"),
            curve("snapshots.memory", "memory of the daemon", "MiB"),
        ],
    },
    Family {
        title: "Size of a file",
        axis: "MiB of the file",
        curves: &[
            curve("size.overwrite", "4 KiB overwrites at random", "op/s"),
            curve("size.read", "4 KiB reads at random, cold", "op/s"),
            curve("size.snapshot", "snapshot made", "ms"),
            curve("size.truncate", "truncated to 0", "ms"),
        ],
    },
    Family {
        title: "Fragmentation",
        axis: "% of the blocks overwritten, a snapshot after each 5 %",
        curves: &[
            curve("fragments.stream", "read from end to end, cold", "MB/s"),
            curve("fragments.read", "4 KiB reads at random, cold", "op/s"),
            curve("fragments.overwrite", "4 KiB overwrites at random", "op/s"),
        ],
    },
    Family {
        title: "Age",
        axis: "simulated days",
        curves: &[
            curve("age.minute", "a simulated snapshot interval", "ms"),
            curve("age.make", "files made", "op/s"),
            curve("age.overwrite", "4 KiB overwrites at random", "op/s"),
            curve("age.old", "old file read, cold", "MB/s"),
            curve("age.new", "new file read, cold", "MB/s"),
            curve("age.snapshot", "snapshot made", "ms"),
            curve("age.mount", "mount", "ms"),
            curve("age.used", "allocated", "MiB"),
            curve("age.live", "content of live files", "MiB"),
            curve("age.memory", "memory of the daemon", "MiB"),
            curve("age.check", "check of the metadata", "s"),
        ],
    },
];

/// What runs beside the foreground.
pub const BACKGROUND: [(&str, &str); 4] = [
    ("nothing", "nothing, as a control"),
    ("deletion", "deletion of large snapshots"),
    ("scrub", "scrub"),
    ("pruning", "pruning of small snapshots"),
];

/// What the foreground does.
pub const FOREGROUND: [(&str, &str); 3] =
    [("write", "4 KiB overwrite and fsync"), ("read", "4 KiB read"), ("create", "file made")];

/// The name of a figure of the table of background work.
pub fn background_id(kind: &str, call: &str, figure: &str) -> String {
    format!("background.{kind}.{call}.{figure}")
}
