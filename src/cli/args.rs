//! The command line: verbs, their arguments, their help. Parsing only.

pub(super) use super::create_args::CreateArgs;
pub(super) use super::delete_args::DeleteArgs;
pub(super) use super::freeze_args::{FreezeArgs, ThawArgs};
use super::hold_args::{HoldArgs, ReleaseArgs, UndeleteArgs};
use super::hydrate_args::HydrateArgs;
pub(super) use super::line_args::{
    CloneArgs, DropArgs, GetArgs, Json, ListArgs, MergeArgs, PromoteArgs, RebaseArgs, RenameArgs,
    RollbackArgs, RunArgs, ShowArgs, TryArgs, UndoArgs,
};
pub(super) use super::method::Method;
use super::mirror_args::MirrorArgs;
use super::property::Assignment;
use super::purge_args::PurgeArgs;
pub(super) use super::schedule_args::{PruneArgs, ScheduleArgs};
pub(super) use super::space_args::{PlanArgs, SpaceArgs};
pub(super) use super::stream_args::{ReceiveArgs, SendArgs, VerifyArgs};
use crate::format::Compression;
use clap::builder::{OsStringValueParser, TypedValueParser};
use clap::{Args, CommandFactory, Parser, Subcommand};
use std::ffi::OsString;
use std::path::{Path, PathBuf};

/// A snapshotting file system: mount a store, and every `mkdir .snapshots/NAME` keeps a picture of it.
#[derive(Parser, Debug)]
#[command(name = "snapfs", version, propagate_version = true, max_term_width = 100)]
#[command(
    after_help = "Exit codes: 0 done, 1 failed, 2 wrong usage, 3 damage or conflicts found; diff has those of diff(1).\n\
    `snapfs STORE MNT [-o OPTIONS]` is `snapfs mount` for mount(8) and fstab (32: failed)."
)]
pub(super) struct Cli {
    #[command(subcommand)]
    pub(super) verb: Verb,
}

#[derive(Subcommand, Debug)]
pub(super) enum Verb {
    /// Make a directory, an image file or a block device a store
    #[command(after_help = "Example: snapfs init /srv/data.snapfs --size 100G")]
    Init(InitArgs),
    /// Mount a store
    #[command(after_help = "Example: snapfs mount /srv/data.snapfs /data -o allow_other,commit=10\n\n\
        Options: ro, allow_other, noatime, relatime, strictatime, nodiratime, snapshot=NAME,\n\
        clone=NAME, clonedir=hidden|disabled, mirror=STORE2|alone,\n\
        cache=strict|writeback, snapdir=hidden|visible|disabled, [no_]snapdir_everywhere,\n\
        snapdir_name=NAME, snap_create=GROUP, snap_delete=GROUP, commit=SECONDS, cache_size=MIB, dirty_size=MIB, threads=N, fsname=TEXT, subtype=TEXT, and\n\
        those of mount(8): dev, suid, noexec, sync, nofail, x-...")]
    Mount(MountArgs),
    /// Unmount, and wait until the store is closed
    #[command(after_help = "Example: snapfs umount /data")]
    Umount(UmountArgs),
    /// Make a snapshot
    #[command(after_help = "Example: snapfs create /data before-upgrade --description 'Debian 12 to 13'\n\n\
        With --method clone --to STORE2 it is finished when the copy is: one that stands alone, and can be mounted. Later\n\
        copies of the line into the same store carry only what has changed since the newest that both have.\n\
        With --method background it is finished at once, and the same copy is made in the background: snapfs hydrate.\n\n\
        What each method costs and gives, and when to choose it: docs/methods.md.\n\n\
        --pre and --post are run as sh runs them, by you and not by the daemon: SNAPFS_MNT, SNAPFS_NAME, SNAPFS_HOOK (pre or\n\
        post), SNAPFS_STATE (a directory for both), and for --post SNAPFS_PRE (done, failed or none) and SNAPFS_RESULT (made\n\
        or failed). What --pre leaves running is there until --post has ended. Ready-made ones: mount-helpers/hooks.")]
    Create(CreateArgs),
    /// List the snapshots of a line, and all clones, oldest first
    #[command(
        after_help = "Example: snapfs list /data --columns name,reason,exclusive --sort -exclusive --since @-7d\n\n\
        --strip draws how many are kept of each hour, day and week, --graph sizes over time; in colour on a terminal, unless\n\
        NO_COLOR is set. For programs: snapfs list /data --json | jq -r '.[].name'"
    )]
    List(ListArgs),
    /// Show all that is known of a snapshot or clone, or how far a file with layout=cow is from home
    #[command(after_help = "Example: snapfs show /data before-upgrade\n\n\
        NAME is a snapshot of the line that MNT is in by its name or by its age (@latest, @-15m), or a clone as\n\
        .clones/NAME. Without it: snapfs show --wait /data/vm.img")]
    Show(ShowArgs),
    /// Rename a snapshot, or a clone: .clones/NAME .clones/NEW
    #[command(after_help = "Example: snapfs rename /data before-upgrade debian-13")]
    Rename(RenameArgs),
    /// Delete snapshots by name or pattern; their space comes back in the background
    #[command(after_help = "Example: snapfs delete /data 'nightly-*' --before @-30d --dry-run\n\n\
        A name is taken as it is; if there is none of that name, *, ?, [a-z], [!a-z] and \\ mean what they do in a shell. What\n\
        begins with @ was made automatically, and only a pattern that begins with @ means it: '@GMT-*'. VIEW is an age\n\
        (@-30d), a time (@2026-01-31T10:00) or a snapshot. What is in use or held stays and is told (exit code 1), and so is a\n\
        name that meets nothing. How far the space is on its way: snapfs status.\n\
        With snapfs set trash=1h /data they are in the trash for an hour, and come back by snapfs undelete; --now deletes for good,\n\
        and snapfs delete /data --trash empties it.")]
    Delete(DeleteArgs),
    /// Bring a snapshot or clone back that was deleted, while it is in the trash
    #[command(after_help = "Example: snapfs undelete /data monday\n\n\
        There is a trash once snapfs set trash=1h /data says for how long what is deleted stays in it; it is emptied before that\n\
        if space is needed. snapfs list /data --trash tells what is there. A clone is .clones/NAME. Of several of one name the last\n\
        that was deleted comes back. Patterns are as for snapfs delete: 'nightly-*', '.clones/try-*'.")]
    Undelete(UndeleteArgs),
    /// Hold a snapshot: nobody deletes it until it is released, by a command, a schedule or a file manager
    #[command(after_help = "Example: snapfs hold /data before-upgrade --tag legal --for 7d\n\n\
        It counts time that has passed, whatever is made of the clock. --list tells what else holds snapshots: copies that are\n\
        being made, what is sent of one and received against one, mounts of one alone. A clone is kept by a hold of a\n\
        snapshot of its own.")]
    Hold(HoldArgs),
    /// Release a snapshot that was held
    #[command(after_help = "Example: snapfs release /data before-upgrade --tag legal")]
    Release(ReleaseArgs),
    /// Make a clone: a writable copy of everything, at once and for nothing, at MNT/.clones/NAME
    #[command(after_help = "Example: snapfs clone /data upgrade --from monday\n\n\
        Without --from it begins as the line that MNT is in is now. VIEW is a snapshot of that line by its name,\n\
        or by its age (@latest, @-15m); or a clone as it is now: .clones/NAME.\n\
        A clone with --expire or --idle goes by itself, but not while files are open in it, it is mounted at a place of \
        its own, a clone was made from it, or a snapshot of it is mounted. Later: snapfs set expire=7d (or idle=, or none) \
        MNT/.clones/NAME. How many clones there may be: snapfs set clones_max=100 MNT.")]
    Clone(CloneArgs),
    /// Drop clones, with all that was written in them; their space comes back in the background
    #[command(after_help = "Example: snapfs drop /data upgrade")]
    Drop(DropArgs),
    /// Bring what a clone changed into the line that it was made from, all or nothing (exit code 3: conflicts)
    #[command(after_help = "Example: snapfs merge /data upgrade --dry-run\n\n\
        The clone is dropped afterwards, unless --keep. What the line changed meanwhile stays; where both changed\n\
        the same file, attributes or name, all conflicts are listed with both sides, and nothing is changed.\n\
        The line as it was stays as a snapshot (@before-merge-...). + added, - removed, M content changed,\n\
        A attributes changed, R renamed, C conflict.")]
    Merge(MergeArgs),
    /// Bring what the line changed meanwhile into a clone, all or nothing (exit code 3: conflicts)
    #[command(after_help = "Example: snapfs rebase /data upgrade\n\n\
        Afterwards the clone differs from the line by its own changes alone, and a merge brings only these.")]
    Rebase(RebaseArgs),
    /// Run a command on a clone that it sees in the place of the tree; then take over what it did, keep or drop it
    #[command(after_help = "Example: snapfs try /data -- make upgrade\n\n\
        Everybody else sees the live tree, untouched. What the command changed is shown when it and all that it\n\
        started have ended; its exit code is passed on. Without --merge, --keep or --drop it is\n\
        asked on a terminal what becomes of the clone; elsewhere it stays, and its name is told.")]
    Try(TryArgs),
    /// Make a snapshot, run a command on the live tree, and show what changed
    #[command(after_help = "Example: snapfs run /data -- make install\n\n\
        The exit code of the command is passed on. What anybody changed meanwhile is shown, as it is all one tree,\n\
        and put back by --undo-on-failure: for a command that shall not touch it there is snapfs try.")]
    Run(RunArgs),
    /// Take a line back to a snapshot, at once and while it is in use; newer snapshots stay
    #[command(after_help = "Example: snapfs rollback /data before-upgrade --dry-run\n\n\
        VIEW is a snapshot of the line that MNT is in, by its name, by its age (@latest, @prev, @-15m) or\n\
        by a time. What is there now is kept as a snapshot first, and 'snapfs undo' goes back to it. Files that\n\
        are open are stale from then on (ESTALE); while some are open for writing it is refused, unless\n\
        --force is given.")]
    Rollback(RollbackArgs),
    /// Have a clone become the line that it came from, with its snapshots
    #[command(after_help = "Example: snapfs promote /data upgrade --as before-upgrade\n\n\
        What the line had is kept as a snapshot. Programs that have files open in either notice it as they do a\n\
        rollback, and it is refused for the same reasons; 'snapfs undo' goes back.")]
    Promote(PromoteArgs),
    /// Take back what was done last to a line: a rollback, promotion, restore, merge, rebase, or a deletion that is in the trash
    #[command(after_help = "Example: snapfs undo /data --dry-run\n\n\
        After a restore, merge or rebase what was changed then becomes what it was, and what came later stays; where both\n\
        meet, nothing is changed and all of it is listed (exit code 3). After a rollback or promotion the line goes back as a whole.\n\
        It takes the snapshots that were made before and after (snapfs list); once more, and it is done again. What was deleted\n\
        last comes back if it is in the trash, and is not deleted again.")]
    Undo(UndoArgs),
    /// What changed between two views (exit code 0: nothing, 1: something, 2: trouble)
    #[command(after_help = "Example: snapfs diff /data @-1h --stat\n\n\
        A view is the name of a snapshot, @latest, @prev, an age as @-15m, a time as @2026-01-31T10:00,\n\
        @live, or .clones/NAME. + added, - removed, M content changed, A attributes changed, R renamed.")]
    Diff(DiffArgs),
    /// The versions of a file or directory that snapshots hold, newest first, and where each is
    #[command(after_help = "Example: snapfs versions /data/report.txt\n\n\
        The file is followed through renames; where another file was at the path, or is now, both are told.\n\
        PATH may be gone. FROM and TO are the first and the last snapshot of the line that hold the version;\n\
        CHANGED says in what it differs from what was before it. Of a directory its own names and attributes count.")]
    Versions(VersionsArgs),
    /// What happened to a path, or below a directory, snapshot by snapshot, newest first
    #[command(after_help = "Example: snapfs log /data/etc -n 10 --stat\n\n\
        Each change is told with the snapshot in which it shows first. + added, - removed, M content changed,\n\
        A attributes changed, R renamed.")]
    Log(LogArgs),
    /// What has changed since a view until now, and what changes from now on
    #[command(after_help = "Example: snapfs changes /data --since @-15m --follow --json\n\n\
        It ends with the mount, or when nobody reads on. VIEW is as for snapfs diff; @live is now.\n\
        + added, - removed, M content changed, A attributes changed, R renamed.")]
    Changes(ChangesArgs),
    /// Make files and subtrees what they were, sharing blocks; all or nothing, and undo takes it back
    #[command(after_help = "Example: snapfs restore /data/etc/hosts /data/src --from @-1h\n\n\
        A path becomes exactly what it was in VIEW, which is named as for diff; newer files below a directory go, and are\n\
        in the snapshot that is made before. A path may be gone. Without --from it is named in a snapshot:\n\
        snapfs restore /data/.snapshots/monday/etc/hosts. With --to a copy comes into DIR.")]
    Restore(RestoreArgs),
    /// Write a snapshot, or what it differs in from another, as a stream for another store
    #[command(
        after_help = "Example: snapfs send /data tuesday --from monday | ssh backup snapfs receive /srv/copy\n\n\
        VIEW is a snapshot by its name, its age (@latest, @-15m) or a time. With --to it goes into a store on this machine,\n\
        mounted or not. What a transfer that was cut off has brought stays for a week, and --resume goes on there; with --to\n\
        that happens by itself. Content goes as it is stored, compressed or not, with its checksums."
    )]
    Send(SendArgs),
    /// Take in a stream: whole and proved, or not at all
    #[command(after_help = "Example: snapfs receive /srv/copy < monday.stream\n\n\
        A store that is new, or has nothing in it, gets what comes as its main line. In another one it becomes a clone,\n\
        .clones/NAME, which is changed by nobody: clone or promote it. A later state of it is taken into the same line.\n\
        Nothing is to be seen before all of it is there; a stream that was received before is told, and does nothing.")]
    Receive(ReceiveArgs),
    /// Hold a snapshot against its copy in another store, by checksums (exit code 3: they differ)
    #[command(after_help = "Example: snapfs verify /data monday --with /srv/copy\n\n\
        The copy is found by what it is, whatever it is called. No content is read: snapfs scrub proves that against the\n\
        same checksums.")]
    Verify(VerifyArgs),
    /// Have snapshots be taken by themselves and thinned, or tell how that is going
    #[command(after_help = "Example: snapfs schedule /data every=15m keep=24h,7d,4w,12mo,2y free=5%\n\n\
        One is taken in each period if something has changed (always: in any case); keep= says for how many of the last\n\
        hours, days, weeks, months (mo) and years with any the newest one stays. budget= is what they may hold alone, free= what they\n\
        leave free: if need be they are thinned, coarsest first. With timer=off only 'snapfs schedule MNT --run' does it.\n\
        Several schedules have names (--name). They are in the store, and nothing that they say is ever run.")]
    Schedule(ScheduleArgs),
    /// Delete what no schedule keeps, as the daemon does by itself, or tell what that is
    #[command(after_help = "Example: snapfs prune /data --explain\n\n\
        Only snapshots that a schedule took go, and not while they are in use. --simulate 90d tells what the rules would\n\
        have kept by then.")]
    Prune(PruneArgs),
    /// Hold up all changes of a line until it is thawed or the time is over; those who read go on
    #[command(after_help = "Example: snapfs freeze /data --timeout 10s\n\n\
        What was written before is durable then, the pages of the kernel included. Snapshots and clones are made at once\n\
        meanwhile; what would change the line as a whole (rollback, merge, restore) is refused. It ends after --timeout,\n\
        whatever becomes of who asked for it; snapfs status tells who that was. A second freeze is refused.")]
    Freeze(FreezeArgs),
    /// Let the changes of a frozen line go on (exit code 1: it was not frozen, or no more)
    #[command(after_help = "Example: snapfs thaw /data\n\n\
        After snapfs freeze --all it is all lines that are thawed.")]
    Thaw(ThawArgs),
    /// What the space of a store is used for: by snapshot and clone, and as parts that add up
    #[command(after_help = "Example: snapfs space /data\n\n\
        EXCLUSIVE comes back when that alone is deleted, REFERENCED is all that it has, WRITTEN what came since the one before.\n\
        With --paths: which files and directories have the most content that only snapshots of the line that MNT is in hold.")]
    Space(SpaceArgs),
    /// What deleting something would bring back, or which snapshots to delete for a wanted amount; nothing is changed
    #[command(subcommand_required = true, after_help = "Example: snapfs plan /data delete monday tuesday")]
    Plan(PlanArgs),
    /// Set a property of files or directories
    #[command(after_help = "Example: snapfs set compression=zstd /data/logs\n\n\
        compression=off|zstd|zstd:LEVEL|inherit, LEVEL from 1 to 19. It counts for what is written from\n\
        then on, and new files and directories get it from their directory. On the root of a mount it is\n\
        for everything that has none of its own.\n\
        layout=cow|row|inherit, followed in the same way: content of files that is written over comes back to its place in\n\
        the background (cow), for disk images and databases, or stays where it was written to (row).\n\
        expire=TIME and idle=TIME (90s, 15m, 12h, 7d, 2w, or none) of a clone, MNT/.clones/NAME: when it goes by itself.\n\
        clones_max=N (or none) of MNT: how many clones there may be.\n\
        trash=TIME (or none) of MNT: for how long what is deleted can be brought back by snapfs undelete.\n\
        tripwire=on|off|FILES of MNT: when so many old files (on: 1000), or a quarter of all, are deleted or overwritten\n\
        within about a minute, a snapshot of what was there before is kept (@before-mass-deletion-...).\n\
        timeout=TIME (1s to 1h) of MNT: how long one side of a mirror may keep the other waiting before it is left out.\n\
        description=TEXT of a snapshot, MNT/.snapshots/NAME: what is said about it; nothing if TEXT is empty.")]
    Set(SetArgs),
    /// Show a property of files or directories, and where it is from
    #[command(after_help = "Example: snapfs get compression /data /data/logs\n\n\
        SOURCE is local: set there; inherited: from the directory in which it was made; store: from the\n\
        root; default: set nowhere.")]
    Get(GetArgs),
    /// How a mount is doing, or which mounts there are
    #[command(after_help = "Example: snapfs status /data")]
    Status(StatusArgs),
    /// What kind of store it is
    #[command(after_help = "Example: snapfs info /srv/data.snapfs")]
    Info(TargetArgs),
    /// Prove that a store is sound (exit code 3: it is not), or repair what can be derived
    #[command(after_help = "Example: snapfs check /srv/data.snapfs")]
    Check(CheckArgs),
    /// Get files out of a store that is damaged beyond mounting (exit code 3: not all of them)
    #[command(after_help = "Example: snapfs salvage /srv/data.snapfs /mnt/rescued")]
    Salvage(SalvageArgs),
    /// Read every block in the background, heal what has a second copy, name what is lost (exit code 3)
    #[command(after_help = "Example: snapfs scrub /data --wait\n\n\
        Without --wait it returns at once and the scrub goes on in the background; a store that is\n\
        not mounted is scrubbed to the end. A scrub survives unmounting and goes on with the next mount.")]
    Scrub(ScrubArgs),
    /// Keep a store on two devices, and make the second a store of its own at any moment
    #[command(after_help = "Example: snapfs mirror attach /data /mnt/disk2/data.snapfs --wait")]
    Mirror(MirrorArgs),
    /// Show, pause, slow down or give up copies that are made in other stores in the background
    #[command(after_help = "Example: snapfs hydrate /data monday --rate 50M\n\n\
        They are begun by snapfs create --method background --to STORE2, or by --to here for a snapshot that there is; they\n\
        go on after any crash, and when the other store was away. Until one is whole its snapshot cannot be deleted.")]
    Hydrate(HydrateArgs),
    /// Take the content of a file out of snapshots, and out of the device
    #[command(after_help = "Example: snapfs purge /data/app/.env --snapshots monday..friday --dry-run\n\n\
        For secrets that were snapshotted. The name stays, and reading it is an error (EIO). The content is written over where\n\
        it was, also in the log and in free space. Whoever else has some of the content, by cp --reflink=auto or in other\n\
        snapshots, loses it too: this is listed, and refused without --all. What a live tree or clone has is not taken: delete\n\
        it there first. Sums of the snapshots, and increments from or to them, are void then.\n\
        For root only; it cannot be undone.")]
    Purge(PurgeArgs),
}

#[derive(Args, Debug)]
pub(super) struct InitArgs {
    /// Directory, image file or block device
    pub(super) store: PathBuf,
    /// Size of an image file, or limit of a directory, such as 100G
    #[arg(long, value_parser = super::output::parse_size)]
    pub(super) size: Option<u64>,
    /// How often metadata is kept: a damaged block is healed from its second copy
    #[arg(long, value_name = "1|2", default_value_t = 2, value_parser = clap::value_parser!(u8).range(1..=2))]
    pub(super) metadata_copies: u8,
    /// Compression of content that no directory or file says otherwise of: off, zstd or zstd:LEVEL
    #[arg(long, value_name = "HOW", default_value = "off", value_parser = super::property::parse_compression)]
    pub(super) compression: Compression,
    /// Overwrite what is there
    #[arg(long)]
    pub(super) force: bool,
    #[command(flatten)]
    pub(super) json: Json,
}

#[derive(Args, Debug)]
pub(super) struct MountArgs {
    /// Directory (made if it is missing), image file or block device
    pub(super) store: PathBuf,
    /// Where: an existing directory
    #[arg(value_name = "MNT")]
    pub(super) point: PathBuf,
    /// Mount options, separated by commas
    #[arg(short = 'o', value_name = "OPTIONS")]
    pub(super) options: Vec<OsString>,
    /// Mount this snapshot, read-only, instead of the live tree; what names one in .snapshots does so here
    #[arg(long, value_name = "NAME")]
    pub(super) snapshot: Option<OsString>,
    /// Take no changes: as -o ro
    #[arg(short = 'r', long, alias = "ro")]
    pub(super) read_only: bool,
    /// Stay in the foreground
    #[arg(short = 'f', long)]
    pub(super) foreground: bool,
    /// Append messages to this file
    #[arg(long, value_name = "FILE")]
    pub(super) log: Option<PathBuf>,
    /// Let unknown options pass
    #[arg(short = 's', long)]
    pub(super) sloppy: bool,
    /// Do not touch mtab (there is none)
    #[arg(short = 'n', hide = true)]
    pub(super) no_mtab: bool,
    /// More messages
    #[arg(short = 'v', long)]
    pub(super) verbose: bool,
    /// Type, as mount(8) passes it
    #[arg(short = 't', hide = true)]
    pub(super) fstype: Option<String>,
    /// Mount namespace, as mount(8) passes it
    #[arg(short = 'N', hide = true)]
    pub(super) namespace: Option<String>,
    /// This process is the daemon that another one started and waits for. A letter alone: a word would be proposed to
    /// whoever mistypes another.
    #[arg(short = 'B', hide = true)]
    pub(super) background_child: bool,
    #[command(flatten)]
    pub(super) json: Json,
}

#[derive(Args, Debug)]
pub(super) struct UmountArgs {
    /// Mount point
    #[arg(value_name = "MNT")]
    pub(super) point: PathBuf,
    /// Seconds to wait for the store to be closed
    #[arg(long, default_value_t = 60)]
    pub(super) timeout: u64,
    /// Take it out of sight now, even if it is in use
    #[arg(short = 'l', long)]
    pub(super) lazy: bool,
    #[command(flatten)]
    pub(super) json: Json,
}

#[derive(Args, Debug)]
pub(super) struct TargetArgs {
    /// Mount point, any path in a mount, or a store
    pub(super) target: PathBuf,
    #[command(flatten)]
    pub(super) json: Json,
}

#[derive(Args, Debug)]
pub(super) struct CheckArgs {
    /// Mount point, any path in a mount, or a store
    pub(super) target: PathBuf,
    /// Also read every block of file content, once each
    #[arg(long)]
    pub(super) data: bool,
    /// Write again what is wrong and follows from the rest of a store that is not mounted
    #[arg(long)]
    pub(super) repair: bool,
    /// Only tell what --repair would do
    #[arg(long, requires = "repair")]
    pub(super) dry_run: bool,
    #[command(flatten)]
    pub(super) json: Json,
}

#[derive(Args, Debug)]
pub(super) struct SalvageArgs {
    /// Directory, image file or block device that is not mounted; nothing is written to it
    pub(super) store: PathBuf,
    /// Where files go: a new or empty directory
    #[arg(value_name = "OUT_DIR", required_unless_present = "list")]
    pub(super) out: Option<PathBuf>,
    /// List what would come out, and how well, and write nothing
    #[arg(long, conflicts_with = "out")]
    pub(super) list: bool,
    /// A snapshot instead of the live tree
    #[arg(long, value_name = "NAME")]
    pub(super) snapshot: Option<OsString>,
    /// Take the newest nodes on the device, wherever superblocks lead
    #[arg(long)]
    pub(super) scan: bool,
    /// Of several stores on the device the one with this number, as a message tells it
    #[arg(long, value_name = "HEX", value_parser = parse_fsid)]
    pub(super) fsid: Option<u64>,
    #[command(flatten)]
    pub(super) json: Json,
}

fn parse_fsid(text: &str) -> Result<u64, String> {
    u64::from_str_radix(text, 16).map_err(|_| format!("'{text}' is no hexadecimal number"))
}

#[derive(Args, Debug)]
pub(super) struct ScrubArgs {
    /// Mount point, any path in a mount, or a store
    pub(super) target: PathBuf,
    #[command(flatten)]
    pub(super) order: ScrubOrders,
    /// Bytes it reads a second at most, such as 20M; auto: less while others use the store; none: no limit
    #[arg(long, value_name = "RATE", value_parser = super::limit::parse_limit)]
    pub(super) limit: Option<u64>,
    /// Return when it has come to its end
    #[arg(long)]
    pub(super) wait: bool,
    #[command(flatten)]
    pub(super) json: Json,
}

/// What to do instead of starting one.
#[derive(Args, Debug)]
#[group(multiple = false)]
pub(super) struct ScrubOrders {
    /// How the scrub stands, or how the last one ended
    #[arg(long)]
    pub(super) status: bool,
    /// Stop reading until --resume, also over unmounting
    #[arg(long)]
    pub(super) pause: bool,
    /// Go on
    #[arg(long)]
    pub(super) resume: bool,
    /// End it
    #[arg(long)]
    pub(super) stop: bool,
}

#[derive(Args, Debug)]
pub(super) struct StatusArgs {
    /// Mount point, any path in a mount, or a mounted store; without it all mounts are listed
    pub(super) target: Option<PathBuf>,
    #[command(flatten)]
    pub(super) json: Json,
}

#[derive(Args, Debug)]
pub(super) struct DiffArgs {
    /// Mount point, a path in a mount (only what is below it is told), or a store
    pub(super) target: PathBuf,
    /// The older view
    #[arg(value_name = "A")]
    pub(super) from: OsString,
    /// The newer view
    #[arg(value_name = "B", default_value = "@live")]
    pub(super) to: OsString,
    #[command(flatten)]
    pub(super) form: DiffForm,
    /// End each path of --name-only with a zero byte, and escape nothing
    #[arg(short = '0', requires = "name_only")]
    pub(super) zero: bool,
    #[command(flatten)]
    pub(super) json: Json,
}

impl DiffArgs {
    /// For what another verb prints as a difference.
    pub(super) fn of(target: &Path, json: bool) -> DiffArgs {
        let form = DiffForm { stat: false, name_only: false, patch: false };
        let (from, to) = (OsString::new(), OsString::new());
        DiffArgs { target: target.into(), from, to, form, zero: false, json: Json { json } }
    }
}

/// What is printed instead of a line for each change.
#[derive(Args, Debug)]
#[group(multiple = false)]
pub(super) struct DiffForm {
    /// Sizes before and now, and sums
    #[arg(long)]
    pub(super) stat: bool,
    /// Nothing but paths; of what was renamed both, and those of all below it
    #[arg(long)]
    pub(super) name_only: bool,
    /// A patch for git apply or patch -p1
    #[arg(short = 'p', long)]
    pub(super) patch: bool,
}

#[derive(Args, Debug)]
pub(super) struct VersionsArgs {
    /// A file or directory in a mount, there now or not; or a store, for its root
    pub(super) path: PathBuf,
    #[command(flatten)]
    pub(super) json: Json,
}

#[derive(Args, Debug)]
pub(super) struct LogArgs {
    /// A file or directory in a mount, there now or not; or a store, for all that is in it
    pub(super) path: PathBuf,
    /// Tell of so many snapshots at most
    #[arg(short = 'n', value_name = "N")]
    pub(super) most: Option<u64>,
    /// Only what happened after this snapshot
    #[arg(long, value_name = "VIEW")]
    pub(super) since: Option<OsString>,
    /// How many changes of each kind instead of the changes
    #[arg(long)]
    pub(super) stat: bool,
    #[command(flatten)]
    pub(super) json: Json,
}

#[derive(Args, Debug)]
pub(super) struct ChangesArgs {
    /// Mount point, a path in a mount (only what is below it is told), or a store
    pub(super) target: PathBuf,
    /// The view since which
    #[arg(long, value_name = "VIEW", required_unless_present = "follow")]
    pub(super) since: Option<OsString>,
    /// Go on with what changes, until the mount ends
    #[arg(short = 'f', long)]
    pub(super) follow: bool,
    /// Look for changes so often
    #[arg(long, value_name = "SECONDS", default_value_t = 1, requires = "follow")]
    #[arg(value_parser = clap::value_parser!(u64).range(1..=super::feed::INTERVAL_SECONDS_MAX))]
    pub(super) interval: u64,
    #[command(flatten)]
    pub(super) json: Json,
}

#[derive(Args, Debug)]
pub(super) struct RestoreArgs {
    /// Files or directories in a mount, which may be gone
    #[arg(required = true, value_name = "PATH")]
    pub(super) paths: Vec<PathBuf>,
    /// What they are taken from: a snapshot by name or age, or a clone
    #[arg(long, value_name = "VIEW")]
    pub(super) from: Option<OsString>,
    /// Leave the paths alone, and put copies into this directory
    #[arg(long, value_name = "DIR")]
    pub(super) to: Option<PathBuf>,
    /// Only tell what would change, as diff does
    #[arg(long)]
    pub(super) dry_run: bool,
    #[command(flatten)]
    pub(super) json: Json,
}

#[derive(Args, Debug)]
pub(super) struct SetArgs {
    /// What is set, such as compression=zstd
    #[arg(value_name = "PROPERTY=VALUE", value_parser = OsStringValueParser::new().try_map(|arg| Assignment::from_argument(&arg)))]
    pub(super) assignment: Assignment,
    /// Files or directories in a mount
    #[arg(required = true, value_name = "PATH")]
    pub(super) paths: Vec<PathBuf>,
    #[command(flatten)]
    pub(super) json: Json,
}

/// How the program was called.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Style {
    /// `snapfs VERB ...`
    Verb,
    /// As mount(8) calls a helper: exit code 32 for a failure.
    Helper,
    /// The same with `-f`, which is "fake" there.
    FakeHelper,
}

/// Rewrites the ways in which mount(8) calls us into `snapfs mount ...`.
pub(super) fn normalise(args: Vec<OsString>) -> (Style, Vec<OsString>) {
    let name = args.first().map(PathBuf::from).unwrap_or_default();
    let name = name.file_name().unwrap_or_default();
    let insert = |mut args: Vec<OsString>| {
        args.insert(1, "mount".into());
        args
    };
    if name == "mount.snapfs" || name == "mount.fuse.snapfs" {
        let fake = args.iter().skip(1).any(|a| {
            let a = a.as_encoded_bytes();
            a.starts_with(b"-") && !a.starts_with(b"-o") && !a.starts_with(b"--") && a.contains(&b'f')
        });
        return (if fake { Style::FakeHelper } else { Style::Helper }, insert(args));
    }
    // `snapfs STORE MNT ...`: only what is clearly a path, or is there, so that a mistyped verb never makes a store.
    if args.get(1).is_some_and(|a| Cli::command().find_subcommand(a).is_some()) {
        return (Style::Verb, args);
    }
    let path = |i: usize| args.get(i).is_some_and(|a| a.as_encoded_bytes().contains(&b'/'));
    let is_there = |i: usize| args.get(i).is_some_and(|a| Path::new(a).exists());
    let (store, point) = (path(1) || is_there(1), path(2) || is_there(2));
    // mount.fuse(8) always has options, and a store that is no path in fstab.
    let options = args.get(3).is_some_and(|a| a == "-o");
    if store && point || path(2) && options { (Style::Helper, insert(args)) } else { (Style::Verb, args) }
}

/// What the program understands. The value of an option may begin with a dash, as everywhere else: what comes behind `--keep` is the
/// name to keep it under.
pub(super) fn command() -> clap::Command {
    fn taking_dashes(command: clap::Command) -> clap::Command {
        let takes = |arg: &clap::Arg| !arg.is_positional() && arg.get_action().takes_values();
        command
            .mut_args(|arg| if takes(&arg) { arg.allow_hyphen_values(true) } else { arg })
            .mut_subcommands(taking_dashes)
    }
    taking_dashes(Cli::command())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn call(text: &str) -> (Style, Vec<OsString>) {
        normalise(text.split(' ').map(Into::into).collect())
    }

    #[test]
    fn the_definitions_hold() {
        command().debug_assert();
    }

    #[test]
    fn values_of_options_may_begin_with_a_dash() {
        let parsed = |text: &str| command().try_get_matches_from(text.split(' '));
        for (line, id) in [
            ("snapfs try /m --keep -dash -- true", "keep"),
            ("snapfs try /m --keep=-dash -- true", "keep"),
            ("snapfs promote /m a --as -dash", "keep_as"),
            ("snapfs clone /m a --from -dash", "from"),
        ] {
            let matches = parsed(line).unwrap_or_else(|e| panic!("{line}: {e}"));
            let (_, verb) = matches.subcommand().unwrap();
            let value = verb.get_one::<OsString>(id);
            assert_eq!(value, Some(&OsString::from("-dash")), "{line}");
        }
        // What is no value is an option, and a name says so by what stands before it.
        assert!(parsed("snapfs drop /m -dash").is_err() && parsed("snapfs drop /m -- -dash").is_ok());
        assert!(parsed("snapfs try /m --drop -dash -- true").is_err());
    }

    #[test]
    fn every_verb_has_an_example_and_json() {
        let cli = Cli::command();
        let has_words = |verb: &&clap::Command| verb.get_subcommands().next().is_some();
        let words = cli.get_subcommands().filter(has_words).flat_map(clap::Command::get_subcommands);
        for verb in cli.get_subcommands().chain(words) {
            let help = verb.get_after_help().map(ToString::to_string).unwrap_or_default();
            assert!(help.contains("Example: snapfs "), "{}", verb.get_name());
            let has_json = verb.get_arguments().any(|a| a.get_id() == "json");
            assert!(has_json || has_words(&verb), "{}", verb.get_name());
        }
    }

    #[test]
    fn what_would_be_ignored_or_never_end_is_refused() {
        let told = |text: &str| Cli::try_parse_from(call(text).1).err().map(|e| e.to_string());
        for what in ["--clones", "--arrivals", "--trash", "--sent"] {
            for how in [
                "--columns name",
                "--sort=-name",
                "--clone c",
                "--automatic",
                "--held",
                "--since @-1d",
                "--strip",
                "--graph",
            ] {
                let told = told(&format!("snapfs list /m {what} {how}")).unwrap_or_default();
                assert!(told.contains("cannot be used with") && told.contains(what), "{what} {how}: {told}");
            }
            assert_eq!(told(&format!("snapfs list /m {what} --json")), None);
        }
        for how in ["--for 50000w", "--for 1s", "--until 2900-12-31"] {
            assert_eq!(told(&format!("snapfs hold /m s {how}")), None, "{how}");
        }
        for how in ["--for 0s", "--for 50001w", "--for 999999999w", "--until 3900-01-01"] {
            let told = told(&format!("snapfs hold /m s {how}")).unwrap_or_default();
            assert!(told.contains("50000w"), "{how}: {told}");
        }
    }

    #[test]
    fn helpers_are_recognised() {
        assert_eq!(call("/sbin/mount.fuse.snapfs /s /m -o rw").0, Style::Helper);
        assert_eq!(call("/sbin/mount.snapfs /s /m -fnv -o rw").0, Style::FakeHelper);
        assert_eq!(call("snapfs /s /m -o fs").0, Style::Helper);
        assert_eq!(call("snapfs word /m -o rw,dev").0, Style::Helper);
        assert_eq!(call("snapfs lsit /m").0, Style::Verb);
        // Relative names of what is there, as `src` and `docs` are in the directory of the tests.
        for there in ["snapfs src docs", "snapfs /s docs", "snapfs src /m", "snapfs src docs -o ro"] {
            assert_eq!(call(there).0, Style::Helper, "{there}");
        }
        for not_there in ["snapfs lsit docs", "snapfs lsit docs -o ro", "snapfs src lsit", "snapfs src"] {
            assert_eq!(call(not_there).0, Style::Verb, "{not_there}");
        }
        assert_eq!(call("snapfs mount a b").0, Style::Verb);
        let (_, args) = call("mount.snapfs /s /m -n -v -s -t fuse.snapfs -o rw");
        assert!(Cli::try_parse_from(args).is_ok());
    }
}
