#!/bin/sh
# A rollback while programs are at work: fio that verifies what it reads, SQLite, shells with their working directory inside, and
# a mapped file. Whoever had something open is told so, and nobody ever sees a mixture; whoever comes afterwards sees what
# was, all of it.
#
#   rollback.sh                       half a minute, for the test command
#   ROUNDS=100 rollback.sh
#   WORK=DIR                          where the store goes (default: a new directory in $TMPDIR); KEEP=1 leaves it
set -eu
. "$(dirname "$0")/lib.sh"

rounds=${ROUNDS:-10}
[ -z "${SMALL-}" ] || rounds=${ROUNDS:-3}
place=$(mktemp -d "${WORK:-${TMPDIR:-/tmp}}/snapfs-rollback.XXXXXX")
mnt=$place/mnt
trap 'ended=$?; rm -f "$place/going"; exec 8>&-; wait; tidy' EXIT
trap 'exit 130' INT TERM

# ended PID SECONDS: its exit code. Whoever still runs then hangs.
ended() {
    end=$(($(date +%s) + $2))
    while kill -0 "$1" 2> /dev/null; do
        if [ "$(date +%s)" -ge "$end" ]; then
            kill -9 "$1"
            fail "process $1 hangs after a rollback"
        fi
        sleep 0.05
    done
    code=0
    wait "$1" || code=$?
}

back() {
    "$program" rollback "$mnt" base --force > "$place/back" 2>&1 || {
        cat "$place/back"
        fail "rollback"
    }
}

# fio_job RW: verifies all that it reads, forever or once.
fio_job() {
    fio --name=job --filename="$mnt/work/fio" --size=16m --bsrange=4k-64k --rw="$1" --ioengine=psync --fallocate=none \
        --verify=crc32c --verify_fatal=1 --verify_state_save=0 "$2" "$3" --output="$place/fio.out"
}

start
mkdir "$mnt/work"
echo old > "$mnt/work/word"
head -c 65536 /dev/zero | tr '\0' o > "$mnt/work/mapped"
if command -v sqlite3 > /dev/null 2>&1; then
    sqlite3 "$mnt/work/db" 'create table t (n integer primary key, x text)' \
        "with recursive c(n) as (select 1 union all select n + 1 from c where n < 500) insert into t select n, hex(n) from c"
else
    echo "SKIPPED: sqlite3 is not installed"
fi
if command -v fio > /dev/null 2>&1; then
    fio_job write --verify_pattern=1 --end_fsync=1 > "$place/fio.out" 2>&1 || fail "fio before any rollback"
else
    echo "SKIPPED: fio is not installed"
fi
mkdir "$mnt/.snapshots/base"

# What was, by path, and with a check of each program.
is_base() {
    [ "$(cat "$mnt/work/word")" = old ] || fail "a file is not as it was"
    [ ! -e "$mnt/work/new" ] || fail "what was made later is still there"
    [ "$(tr -d o < "$mnt/work/mapped" | wc -c)" = 0 ] || fail "a mapped file is not as it was"
    if [ -e "$mnt/work/db" ]; then
        [ "$(sqlite3 "$mnt/work/db" 'pragma integrity_check; select count(*) from t')" = "ok
500" ] || fail "the database is not as it was"
    fi
    if [ -e "$mnt/work/fio" ]; then
        fio_job read --verify_only=1 --end_fsync=0 > "$place/out" 2>&1 || {
            cat "$place/out" "$place/fio.out"
            fail "what fio has written is not as it was"
        }
    fi
}

is_base
begin=$(now_ms)
for round in $(seq 1 "$rounds"); do
    : > "$place/going"
    if [ -e "$mnt/work/fio" ]; then
        # Writes, and verifies what it has written, until it is stopped.
        fio_job randwrite --time_based=1 --runtime=60 --verify_backlog=64 --do_verify=1 > "$place/fio.err" 2>&1 &
        fio=$!
    fi
    if [ -e "$mnt/work/db" ]; then
        # With its journal open as well: one that is made by name after the rollback is in what is there then.
        (
            n=1000
            echo 'pragma locking_mode = exclusive; pragma journal_mode = persist;'
            while [ -e "$place/going" ]; do
                n=$((n + 1))
                echo "insert into t values ($n, hex(randomblob(2000)));"
            done
        ) | sqlite3 -bail "$mnt/work/db" > "$place/sqlite.err" 2>&1 &
        sqlite=$!
    fi
    # A shell that is told what to do, with its working directory inside.
    rm -f "$place/asked" "$place/told"
    mkfifo "$place/asked"
    (cd "$mnt/work" && exec sh < "$place/asked" > "$place/told" 2>&1) &
    shell=$!
    exec 8> "$place/asked"
    if command -v python3 > /dev/null 2>&1; then
        # A byte that is read through the mapping after the rollback has to be an error, and never a byte of either state.
        python3 -c '
import mmap, os, sys, time
place, path = sys.argv[1:]
with open(path, "r+b") as f:
    mapped = mmap.mmap(f.fileno(), 65536)
mapped[:6] = b"mapped"
open(place + "/is_mapped", "w").close()
while True:
    for at in range(0, 65536, 4096):
        byte = mapped[at:at + 1]
        if byte not in (b"m", b"o", b"n"):
            sys.exit(f"read {byte} through the mapping at {at}")
        if at and byte == b"n":
            sys.exit("read what somebody wrote after the rollback through the mapping")
    time.sleep(0.001)
' "$place" "$mnt/work/mapped" > "$place/mapped.err" 2>&1 &
        mapped=$!
    fi
    echo new > "$mnt/work/word"
    echo new > "$mnt/work/new"
    echo 'cat word; echo ready' >&8
    for step in $(seq 1 400); do
        if grep -q ready "$place/told" 2> /dev/null && { [ -z "${mapped-}" ] || [ -e "$place/is_mapped" ]; }; then
            break
        fi
        [ "$step" != 400 ] || fail "the programs do not begin"
        sleep 0.05
    done
    # Another moment of their work in each round.
    sleep "0.$(((round * 37) % 90 + 10))"
    back
    # At once, and by whoever was there before.
    echo 'cat word; ls | sort; cat "$PWD/word"; echo more > after && cat after && rm after; echo ended' >&8
    for step in $(seq 1 400); do
        ! grep -q ended "$place/told" || break
        [ "$step" != 400 ] || fail "a shell inside hangs"
        sleep 0.05
    done
    exec 8>&-
    ended "$shell" 20
    names=$(find "$mnt/work" -mindepth 1 -maxdepth 1 ! -name 'db-*' -printf '%f\n' | sort)
    told=$(grep -v '^db-' "$place/told")
    [ "$told" = "new
ready
old
$names
old
more
ended" ] || {
        cat "$place/told"
        fail "what a shell inside sees"
    }
    rm -f "$place/going"
    if [ -n "${fio-}" ]; then
        ended "$fio" 60
        # It was cut off, which it tells; what it had verified was right until then.
        [ "$code" != 0 ] || fail "fio was not told of the rollback"
        if grep -i 'verify: bad\|verify failed\|crc32c: verify\|bad header\|bad magic' "$place/fio.out" "$place/fio.err"; then
            fail "fio has seen what it did not write"
        fi
        grep -qi 'stale\|input/output error' "$place/fio.out" "$place/fio.err" || {
            cat "$place/fio.out" "$place/fio.err"
            fail "fio was told something else"
        }
    fi
    if [ -n "${sqlite-}" ]; then
        ended "$sqlite" 60
        [ "$code" != 0 ] || fail "sqlite was not told of the rollback"
        ! grep -i 'malformed\|not a database\|corrupt' "$place/sqlite.err" || fail "sqlite has seen a mixture"
    fi
    if [ -n "${mapped-}" ]; then
        ended "$mapped" 20
        [ "$code" = 135 ] || {
            cat "$place/mapped.err"
            fail "a mapping from before ended with $code and not with SIGBUS"
        }
        rm -f "$place/is_mapped"
    fi
    is_base
done
say "$rounds rollbacks under fio, SQLite, shells and mappings" "$begin"

stop
"$program" check --data "$place/store" > "$place/check" || {
    cat "$place/check"
    fail "the store is not sound"
}
echo "ok: rollback"
