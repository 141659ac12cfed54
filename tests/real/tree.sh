#!/bin/sh
# A real tree through a real mount: copied in, changed by real programs, two snapshots, everything compared with copies
# kept outside - content, times, modes, hard links, extended attributes - before and after a remount.
#
#   tree.sh [SOURCE...]     the trees to copy in (default: /usr/include, /usr/share, the cargo registry, ...)
#   SMALL=1 tree.sh         about 3,000 files, for the test command
#   COPIES=3 tree.sh        each source several times
#   WORK=DIR                where store and copies go (default: a new directory in $TMPDIR); KEEP=1 leaves them
#
# Prints figures; ends with 0 when everything is equal, clean, and the space came back. What it does not do: crashes.
set -eu
. "$(dirname "$0")/lib.sh"

place=$(mktemp -d "${WORK:-${TMPDIR:-/tmp}}/snapfs-tree.XXXXXX")
trap tidy EXIT
trap 'exit 130' INT TERM
mnt=$place/mnt
unset GIT_DIR GIT_WORK_TREE 2>/dev/null || true
export GIT_CONFIG_GLOBAL=/dev/null GIT_CONFIG_SYSTEM=/dev/null

if [ $# -eq 0 ]; then
    if [ -n "${SMALL-}" ]; then
        set -- /usr/include/linux /usr/include/asm-generic /usr/share/zoneinfo /usr/share/perl
    else
        set -- /usr/include /usr/share /usr/lib/python3 /usr/lib/python3.* "${CARGO_HOME:-$HOME/.cargo}/registry/src"
    fi
fi

# Equal in names, kinds, modes, owners, times, links, attributes and content (a 128-bit hash of every file).
compare() {
    rsync -aniHAX --checksum --delete "$2/" "$3/" > "$place/differences" 2>&1 || fail "$1: $(head "$place/differences")"
    [ ! -s "$place/differences" ] || fail "$1: $(wc -l < "$place/differences") differences: $(head "$place/differences")"
}

keep() { # the reference copy of this moment, outside the mount
    cp -a "$mnt" "$place/$1"
}

start ${OPTIONS:+-o "$OPTIONS"}
empty=$(status used_bytes)

t=$(now_ms)
mkdir "$mnt/tree"
n=0
while [ "$n" -lt "${COPIES:-1}" ]; do
    n=$((n + 1))
    for source in "$@"; do
        [ -d "$source" ] || continue
        to=$mnt/tree/$n$(echo "$source" | tr / _)
        cp -a "$source" "$to"
    done
done
files=$(find "$mnt/tree" | wc -l)
bytes=$(du -sb "$mnt/tree" | cut -f1)
say "cp -a in" "$t" "$files files, $bytes bytes"
# Things that no distribution ships.
one=$(find "$mnt/tree" -type f | sort | head -1)
ln "$one" "$mnt/hard"
mkfifo "$mnt/fifo"
mknod "$mnt/null" c 1 3 2>/dev/null || true
ln -s nowhere "$mnt/dangling"
truncate -s 5T "$mnt/sparse" && printf end | dd of="$mnt/sparse" bs=1 seek=1048576 conv=notrunc 2>/dev/null
truncate -s 3M "$mnt/sparse"
if command -v setfattr > /dev/null; then setfattr -n user.colour -v blue "$one"; fi
touch -d '1985-10-26 01:21:00.123456789 UTC' "$one"

t=$(now_ms)
mkdir "$mnt/.snapshots/one"
say "first snapshot" "$t" "pause $(status last_snapshot_pause_us) us"
t=$(now_ms)
keep ref-one
say "cp -a out" "$t"

t=$(now_ms)
find "$mnt/tree" -type f -name '*.h' -size -64k | head -"${EDITS:-5000}" | tr '\n' '\0' |
    xargs -0 -r sed -i 's/define/DEFINE/'
find "$mnt/tree" -type f -name '*.rs' | head -"${EDITS:-5000}" | tr '\n' '\0' | xargs -0 -r sed -i 's/pub fn/pub  fn/'
say "sed -i" "$t"

t=$(now_ms)
mkdir "$mnt/repo"
first=$(find "$mnt/tree" -mindepth 1 -maxdepth 1 | sort | head -1)
cp -a "$first" "$mnt/repo/sources"
(
    cd "$mnt/repo"
    git init -q -b main . && git config user.name t && git config user.email t@example.org && git config gc.auto 0
    git add -A && git commit -q -m one
    git checkout -q -b other
    find sources -type f | sort | awk 'NR % 3 == 0' | tr '\n' '\0' | xargs -0 rm -f
    git add -A && git commit -q -m two
    git checkout -q main && git checkout -q other && git checkout -q main
    git -c gc.pruneExpire=now gc -q
    git fsck --full --strict > /dev/null 2>&1 || git fsck --full
    [ -z "$(git status --porcelain)" ] || exit 9
) || fail "git"
say "git init, add, commit, checkout, gc, fsck" "$t"

if [ -n "${CRATE-}" ] && command -v cargo > /dev/null; then
    t=$(now_ms)
    cp -a "$CRATE" "$mnt/crate"
    (cd "$mnt/crate" && CARGO_TARGET_DIR=$mnt/crate/target cargo build --offline -q) || fail "cargo build"
    say "cargo build" "$t"
fi

t=$(now_ms)
find "$mnt/tree" -mindepth 2 -maxdepth 2 | sort | awk 'NR % 2 == 0' | tr '\n' '\0' | xargs -0 rm -rf
say "rm -rf of a half" "$t"

t=$(now_ms)
mkdir "$mnt/.snapshots/two"
say "second snapshot" "$t" "pause $(status last_snapshot_pause_us) us"
keep ref-two
rm -rf "$mnt/repo/.git"
mv "$mnt/repo" "$mnt/moved"
keep ref-live

for round in before after; do
    t=$(now_ms)
    compare "snapshot one, $round the remount" "$place/ref-one" "$mnt/.snapshots/one"
    compare "snapshot two, $round the remount" "$place/ref-two" "$mnt/.snapshots/two"
    compare "live tree, $round the remount" "$place/ref-live" "$mnt"
    say "compare all three, $round the remount" "$t"
    t=$(now_ms)
    "$program" check "$mnt" > /dev/null || fail "check of the live store: $("$program" check "$mnt")"
    say "check, live" "$t"
    [ $round = after ] || { stop && start ${OPTIONS:+-o "$OPTIONS"}; }
done
used=$(status used_bytes)
rmdir "$mnt/.snapshots/one" "$mnt/.snapshots/two"
t=$(now_ms)
find "$mnt" -mindepth 1 -maxdepth 1 -exec rm -rf {} +
say "rm -rf of everything" "$t"
t=$(now_ms)
wait_freed 120
sleep 6 # the last commits: what they freed is used until the next one
wait_freed 120
left=$(status used_bytes)
say "space is back" "$t" "used: empty $empty, full $used, in the end $left"
[ "$left" -le $((empty + (4 << 20))) ] || fail "$left bytes are still in use; $empty were in the beginning"
stop
"$program" check "$place/store" --data > /dev/null || fail "check: $("$program" check "$place/store")"
if grep -E 'ERROR|WARN|panic' "$place/log"; then fail "the daemon complained"; fi
echo "ok: $files files, $bytes bytes"
