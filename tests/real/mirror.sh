#!/bin/sh
# A store in a directory mirrored to an image, and its daemon killed at random, again and again, with either side taken away
# before the next mount: nothing that was acknowledged may be lost.
#
#   mirror.sh                         50 kills, about a minute
#   KILLS=10 mirror.sh
#   WORK=DIR                          where the directory goes (default: a new one in $TMPDIR); KEEP=1 leaves it
#   OTHER=DIR                         where the image goes: another file system (default: a tmpfs that is mounted for it, where
#                                     that may be done, else the same)
#
# A writer appends numbered lines to a file, each with an fsync, and notes elsewhere which were acknowledged.
set -eu
. "$(dirname "$0")/lib.sh"

kills=${KILLS:-50}
place=$(mktemp -d "${WORK:-${TMPDIR:-/tmp}}/snapfs-mirror.XXXXXX")
other=$(mktemp -d "${OTHER:-${TMPDIR:-/tmp}}/snapfs-mirror.XXXXXX")
memory=
[ -n "${OTHER-}" ] || ! mount -t tmpfs -o size=2g tmpfs "$other" 2> "$place/said" || memory=1
[ "$(stat -c %d "$place")" != "$(stat -c %d "$other")" ] || echo "both sides are on one file system" >&2
mnt=$place/mnt
gone() {
    [ -z "$memory" ] || umount "$other"
    rm -rf --one-file-system "$other"
}
# The image is in use until the store is unmounted.
trap 'ended=$?; rm -f "$place/going"; wait; [ -z "${mounted-}" ] || { stop; }; gone; tidy' EXIT
trap 'exit 130' INT TERM

# A number below $1.
random() {
    echo $(($(od -An -N4 -tu4 /dev/urandom) % $1))
}

in_sync() {
    end=$(($(date +%s) + 120))
    until "$program" mirror status "$mnt" --json | grep -q '"in_sync": true'; do
        [ "$(date +%s)" -lt "$end" ] || fail "not in sync: $("$program" mirror status "$mnt")"
        sleep 0.1
    done
}

# Lines until the mount is gone or the file `going` is. What dd has returned from was acknowledged. No file is made: when
# the mount is gone the directory below it is there.
writer() {
    n=$(cat "$place/acknowledged")
    while [ -e "$place/going" ]; do
        n=$((n + 1))
        printf '%08d\n' "$n" | dd of="$mnt/lines" bs=9 seek="$((n - 1))" conv=notrunc,nocreat,fsync status=none 2> "$place/said" || return 0
        echo "$n" > "$place/acknowledged"
        [ $((n % 7)) != 0 ] || head -c $((n * 997 % 300000)) /dev/zero | tr '\0' 'x' |
            dd of="$mnt/file$((n % 20))" bs=64k conv=nocreat status=none 2> "$place/said" || return 0
    done
}

proved() {
    acknowledged=$(cat "$place/acknowledged")
    [ "$acknowledged" = 0 ] || seq -f '%08.0f' 1 "$acknowledged" > "$place/expected"
    [ "$acknowledged" = 0 ] || head -n "$acknowledged" "$mnt/lines" | cmp - "$place/expected" ||
        fail "of $acknowledged acknowledged lines some are lost"
}

echo 0 > "$place/acknowledged"
: > "$place/expected"
truncate -s 8G "$other/two.img"
begin=$(now_ms)
start
touch "$mnt/lines"
for n in $(seq 0 19); do touch "$mnt/file$n"; done
sync "$mnt/lines"
"$program" mirror attach "$mnt" "$other/two.img" --wait > "$place/said" || fail "attach"
round=0
while [ "$round" -lt "$kills" ]; do
    round=$((round + 1))
    in_sync
    : > "$place/going"
    writer &
    sleep "0.$((1 + $(random 8)))"
    kill -KILL "$(status pid)"
    rm -f "$place/going"
    wait
    while mountpoint -q "$mnt"; do sleep 0.05; done
    mounted=
    # One side is away.
    if [ "$(random 2)" = 0 ]; then
        mv "$place/store" "$place/away"
        "$program" mount "$other/two.img" "$mnt" --log "$place/log" || fail "the image alone"
        back() { mv "$place/away" "$place/store"; }
    else
        mv "$other/two.img" "$other/away"
        "$program" mount "$place/store" "$mnt" --log "$place/log" || fail "the directory alone"
        back() { mv "$other/away" "$other/two.img"; }
    fi
    mounted=1
    proved
    # It goes on alone, and is killed again every other time.
    : > "$place/going"
    writer &
    sleep 0.2
    [ $((round % 2)) = 0 ] && kill -KILL "$(status pid)"
    rm -f "$place/going"
    wait
    if [ $((round % 2)) = 0 ]; then
        while mountpoint -q "$mnt"; do sleep 0.05; done
        mounted=
    else
        stop
    fi
    back
    start
    proved
done
in_sync
proved
"$program" mirror verify "$mnt" || fail "the sides differ"
stop
for side in "$place/store" "$other/two.img"; do
    "$program" check "$side" --data > "$place/said" || fail "check of $side: $(cat "$place/said")"
done
echo "ok: $kills kills with either side away in $(($(now_ms) - begin)) ms, $(cat "$place/acknowledged") lines acknowledged, none lost"
