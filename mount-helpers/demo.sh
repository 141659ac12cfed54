#!/bin/sh
# demo.sh - snapfs in one minute: builds it, makes and mounts a store, takes a snapshot, shows what changed since.
#
# Everything happens in a temporary directory that is removed at the end.
set -eu
cd "$(dirname "$0")/.."

missing=
command -v cc >/dev/null 2>&1 || missing="$missing build-essential"
command -v fusermount3 >/dev/null 2>&1 || missing="$missing fuse3"
if [ -n "$missing" ]; then
    if [ "$(id -u)" = 0 ]; then
        apt-get update -qq
        # Word splitting is meant: a list of packages.
        # shellcheck disable=SC2086
        DEBIAN_FRONTEND=noninteractive apt-get install -y -qq $missing >/dev/null
    else
        echo "demo.sh: first run: sudo apt-get install -y$missing" >&2
        exit 1
    fi
fi
if [ ! -e /dev/fuse ]; then
    echo "demo.sh: /dev/fuse is missing; run: sudo modprobe fuse (in a container: start it with --device /dev/fuse)" >&2
    exit 1
fi

cargo build --release --quiet
snapfs=${CARGO_TARGET_DIR:-target}/release/snapfs
dir=$(mktemp -d)
mnt=$dir/mnt
cleanup() {
    if mountpoint -q "$mnt"; then "$snapfs" umount "$mnt" || "$snapfs" umount --lazy "$mnt" || true; fi
    mountpoint -q "$mnt" || rm -rf "$dir"
}
trap cleanup EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

say() { printf '\n$ %s\n' "$*"; }
run() { say "$@"; "$@"; }

mkdir "$mnt"
run "$snapfs" mount "$dir/store" "$mnt"

say "write a file and a directory of files"
printf 'one\ntwo\n' >"$mnt/notes"
mkdir "$mnt/project"
for n in 1 2 3; do echo "file $n" >"$mnt/project/$n"; done

run mkdir "$mnt/.snapshots/before"

say "change a line, add a file, remove one"
printf 'one\nTWO\n' >"$mnt/notes"
echo new >"$mnt/project/4"
rm "$mnt/project/1"

say diff -r "$mnt/.snapshots/before" "$mnt"
diff -r "$mnt/.snapshots/before" "$mnt" || [ $? = 1 ]

run ls "$mnt/.snapshots"
run "$snapfs" list "$mnt"
run cat "$mnt/.snapshots/before/project/1"
run "$snapfs" umount "$mnt"
run "$snapfs" check "$dir/store"
