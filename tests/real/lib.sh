# shellcheck shell=bash
# What the scripts in this directory share: a mount with a bounded life, and questions to `snapfs status`.
#
# Sourced, never run. The caller sets `place` (an empty directory of its own) before it calls `start`.

program=${SNAPFS:-$(dirname "$0")/../../target/release/snapfs}
program=$(realpath "$program")
export SNAPFS_RUNTIME_DIR=

fail() {
    echo "FAILED: $*" >&2
    exit 1
}

# Mounts $place/store on $place/mnt; the arguments go to `snapfs mount`.
start() {
    mkdir -p "${place:?}/mnt" "$place/run"
    chmod 700 "$place/run"
    SNAPFS_RUNTIME_DIR=$place/run
    "$program" mount "$place/store" "$place/mnt" --log "$place/log" "$@" || fail "mount"
    mounted=1
}

stop() {
    "$program" umount "$place/mnt" || fail "umount"
    mounted=
}

# Whatever happens, nothing stays mounted, and nothing is removed through a mount.
tidy() {
    code=${ended-$?} # of the script, and not of what its trap did before this
    [ -z "${mounted-}" ] || "$program" umount "$place/mnt" || "$program" umount -l "$place/mnt" || exit 1
    [ -n "${KEEP-}" ] && exit "$code"
    mountpoint -q "$place/mnt" || rm -rf --one-file-system "$place"
    exit "$code"
}

# One number or word of the status: status KEY.
status() {
    "$program" status "$place/mnt" --json | sed -n "s/^ *\"$1\": *\"\{0,1\}\([^\",]*\)\"\{0,1\},\{0,1\}$/\1/p"
}

# KiB of the daemon that are or were resident: resident VmRSS|VmHWM.
resident() {
    awk -v key="$1:" '$1 == key { print $2 }' "/proc/$(status pid)/status"
}

# Waits until nothing is being freed any more, at most $1 seconds.
wait_freed() {
    end=$(($(date +%s) + $1))
    while [ "$(status freeing)" != false ]; do
        [ "$(date +%s)" -lt "$end" ] || fail "still freeing after $1 seconds: $("$program" status "$place/mnt")"
        sleep 0.2
    done
}

now_ms() {
    echo $(($(date +%s%N) / 1000000))
}

# say WHAT START_MS [COUNT]: prints how long a step took.
say() {
    ms=$(($(now_ms) - $2))
    printf '%-46s %7d.%03d s  rss %6s KiB, max %6s KiB %s\n' "$1" $((ms / 1000)) $((ms % 1000)) \
        "$(resident VmRSS)" "$(resident VmHWM)" "${3-}"
}
