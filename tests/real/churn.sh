#!/bin/sh
# Everything changes all the time, and every second there is a snapshot: none of them may ever change.
#
#   churn.sh                          20 seconds, for the test command
#   DURATION=600 CACHE=writeback churn.sh
#   FSSTRESS=PROGRAM churn.sh         the load is that of fsstress (of xfstests or LTP), not of stress-ng
#   WORK=DIR                          where the store goes (default: a new directory in $TMPDIR); KEEP=1 leaves it
#
# About 30 of the snapshots are read whole when they are new - names, kinds, modes, owners, sizes, links, times, targets,
# attributes, content - again at random moments, at the end, and after a remount. The others are deleted after a while.
set -eu
. "$(dirname "$0")/lib.sh"

load=${FSSTRESS:-stress-ng}
command -v "$load" > /dev/null 2>&1 || {
    echo "SKIPPED: $load is not installed"
    exit 0
}
place=$(mktemp -d "${WORK:-${TMPDIR:-/tmp}}/snapfs-churn.XXXXXX")
mnt=$place/mnt
trap 'ended=$?; rm -f "$place/going"; [ -z "${worker-}" ] || kill "$worker" 2>/dev/null || true; wait; tidy' EXIT
trap 'exit 130' INT TERM
duration=${DURATION:-20}
mkdir "$place/prints"

# Names in the order of their age also for ls: name NUMBER.
name() {
    printf 's%06d' "$1"
}

print() { # NAME: everything that can be read of it
    (
        cd "$mnt/.snapshots/$1"
        find . -printf '%p %y %m %U %G %n %T@ %l' \( -type d -printf '\n' -o -printf ' %s %b\n' \) | LC_ALL=C sort
        find . -type f -print0 | LC_ALL=C sort -z | xargs -0 -r cksum
        ! command -v getfattr > /dev/null || find . -type f -print0 | LC_ALL=C sort -z | xargs -0 -r getfattr -hdm - -e hex
    )
}

same_as_ever() { # NAME
    print "$1" > "$place/now" && cmp "$place/prints/$1" "$place/now" || {
        diff "$place/prints/$1" "$place/now" | head -20
        fail "snapshot $1 has changed"
    }
}

start -o "cache=${CACHE:-strict},allow_other"
mkdir "$mnt/load"
begin=$(now_ms)
touch "$place/going"
if [ -n "${FSSTRESS-}" ]; then
    while [ -e "$place/going" ]; do
        "$FSSTRESS" -d "$mnt/load" -n 2000 -p 4 -s "$(date +%s)" > /dev/null || touch "$place/failed"
        rm -rf "$mnt/load"/p*
    done &
else
    stress-ng --temp-path "$mnt/load" --timeout "${duration}s" --verify --dentry 1 --dentries 100 --rename 1 --link 1 \
        --dir 1 --dir-dirs 64 --chmod 1 --utime 1 --xattr 1 --hdd 1 --hdd-bytes 8M --hdd-opts wr-rnd,fsync \
        --fallocate 1 --fallocate-bytes 8M --iomix 1 --iomix-bytes 16M \
        > "$place/load.out" 2>&1 || touch "$place/failed" &
fi
worker=$!

# One each second; the last 30, and those that are watched, stay.
(
    n=0
    while [ -e "$place/going" ]; do
        n=$((n + 1))
        mkdir "$mnt/.snapshots/$(name $n)" || touch "$place/failed"
        old=$(name $((n - 30)))
        [ $n -le 30 ] || [ -e "$place/prints/$old" ] || rmdir "$mnt/.snapshots/$old" || touch "$place/failed"
        echo $n > "$place/count"
        sleep 1
    done
) &

end=$(($(date +%s) + duration))
watched=
turn=0
while [ "$(date +%s)" -lt "$end" ]; do
    sleep $((duration / 30 + 1))
    # shellcheck disable=SC2012 # names of our own
    newest=$(ls "$mnt/.snapshots" | tail -1)
    [ ! -e "$place/prints/$newest" ] || continue
    touch "$place/prints/$newest"
    print "$newest" > "$place/prints/$newest"
    watched="$watched $newest"
    # One of those that were there before, in turn.
    turn=$((turn + 7))
    # shellcheck disable=SC2086 # words
    set -- $watched
    shift $((turn % $#))
    same_as_ever "$1"
done
rm "$place/going"
wait
[ ! -e "$place/failed" ] || {
    [ ! -e "$place/load.out" ] || tail "$place/load.out"
    fail "the load, or a snapshot"
}
say "churn" "$begin" "$(cat "$place/count") snapshots, $(wc -l < "$place/prints/${watched##* }") lines in the last print"
begin=$(now_ms)
for name in $watched; do same_as_ever "$name"; done
stop
"$program" check "$place/store" --data > "$place/out" 2>&1 || fail "check: $(cat "$place/out")"
start -o ro
for name in $watched; do same_as_ever "$name"; done
say "snapshots are what they were" "$begin" "$(echo "$watched" | wc -w) of them"
stop
if grep -E 'ERROR|WARN|panic' "$place/log"; then fail "the daemon complained"; fi
echo "ok: churn"
