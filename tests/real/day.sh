#!/bin/sh
# A day in the life: snapshots that are taken and thinned by themselves under load on a small disk, a mistake that is found and
# taken back, an upgrade that is tried and merged, a bad one that is rolled back while a program reads, holds, and space
# that comes back exactly as it was told.
#
#   day.sh                            with a minute of waiting for the daemon's own clock
#   SMALL=1 day.sh                    without it: half a minute, for the test command
#   WORK=DIR                          where the store goes (default: a new directory in $TMPDIR); KEEP=1 leaves it
#
# For the program alone a minute passes in each second: its clocks, of the day and of what has passed, go at sixty times the pace.
set -eu
. "$(dirname "$0")/lib.sh"

place=$(mktemp -d "${WORK:-${TMPDIR:-/tmp}}/snapfs-day.XXXXXX")
mnt=$place/mnt
trap 'ended=$?; rm -f "$place/going"; [ -z "${reader-}" ] || kill "$reader" 2> /dev/null || true; wait; tidy' EXIT
trap 'exit 130' INT TERM

# The program again, by a clock that goes faster.
cat > "$place/clock.c" << 'END'
#define _GNU_SOURCE
#include <stdlib.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

static long long number(const char *name) { return atoll(getenv(name)); }

int clock_gettime(clockid_t which, struct timespec *t) {
    if (which != CLOCK_REALTIME && which != CLOCK_BOOTTIME) return syscall(SYS_clock_gettime, which, t);
    if (syscall(SYS_clock_gettime, CLOCK_BOOTTIME, t)) return -1;
    long long boot = number("DAY_BOOT"), passed = t->tv_sec * 1000000000LL + t->tv_nsec - boot;
    long long now = (which == CLOCK_REALTIME ? number("DAY_REAL") : boot) + 60 * passed;
    t->tv_sec = now / 1000000000;
    t->tv_nsec = now % 1000000000;
    return 0;
}
END
cc -shared -fPIC -O1 -o "$place/clock.so" "$place/clock.c" || fail "the clock cannot be compiled"
DAY_REAL=$(date +%s%N)
DAY_BOOT=$(awk '{ printf "%d0000000", $1 * 100 }' /proc/uptime)
export DAY_REAL DAY_BOOT
by_the_clock=$program
program=$place/snapfs
printf '#!/bin/sh\nLD_PRELOAD=%s exec %s "$@"\n' "'$place/clock.so'" "'$by_the_clock'" > "$program"
chmod 755 "$program"

# number FILE KEY: of what a command has told in JSON, not of what is nested in it.
number() {
    sed -n "s/^  \"$2\": \([0-9]*\),\{0,1\}$/\1/p" "$1"
}

# gets CODE COMMAND...: runs it, and what it says is in $place/said.
gets() {
    code=$1
    shift
    got=0
    "$@" > "$place/said" 2>&1 || got=$?
    [ "$got" = "$code" ] || {
        cat "$place/said"
        fail "exit code $got and not $code: $*"
    }
}

# until SECONDS WHAT COMMAND...: waits until it succeeds.
until_so() {
    end=$(($(date +%s) + $1))
    what=$2
    shift 2
    until "$@"; do
        [ "$(date +%s)" -lt "$end" ] || {
            "$program" list "$mnt"
            "$program" schedule "$mnt"
            cat "$place/log" "$place/reader.out" 2> /dev/null
            fail "waited too long for $what"
        }
        sleep 0.1
    done
}

# Names of snapshots: all, and those that the schedule took.
all() {
    find "$mnt/.snapshots" -mindepth 1 -maxdepth 1 -printf '%f\n' | sort
}

automatic() {
    all | grep '^@GMT-' || true
}

# taken_after NAME: whether the newest is another.
taken_after() {
    newest=$(automatic | tail -1)
    [ -n "$newest" ] && [ "$newest" != "$1" ]
}

another() {
    last=$(automatic | tail -1)
    until_so 20 "a snapshot by the schedule" taken_after "$last"
}

# same A B: whether two files are alike, and a sentence if not.
same() {
    cmp "$1" "$2" || fail "$1 is not as $2"
}

# --- The daemon by the clock that everybody has: one snapshot in each minute.
if [ -z "${SMALL-}" ]; then
    begin=$(now_ms)
    fast=$program
    program=$by_the_clock
    start
    echo one > "$mnt/a"
    gets 0 "$program" schedule "$mnt" every=1m keep=60min
    until_so 10 "the first snapshot" taken_after ''
    echo two > "$mnt/a"
    last=$(automatic)
    until_so 75 "a snapshot of the next minute" taken_after "$last"
    [ "$(cat "$mnt/.snapshots/$last/a")" = one ] || fail "what the daemon took is not as it was"
    [ "$(cat "$mnt/.snapshots/$(automatic | tail -1)/a")" = two ] || fail "what the daemon took is not as it is"
    say "a snapshot in each minute by itself" "$begin"
    stop
    rm -rf "$place/store"
    program=$fast
fi

# --- Morning: a disk of 160 MiB, a schedule with bounds, and programs at work that write more than the disk has.
begin=$(now_ms)
truncate -s 160M "$place/store"
gets 0 "$program" init "$place/store"
start
mkdir "$mnt/doc" "$mnt/photos" "$mnt/app" "$mnt/busy" "$place/was"
seq 1 20000 > "$mnt/doc/report"
for n in 1 2 3 4 5 6; do
    head -c 1000000 /dev/urandom > "$mnt/photos/$n"
done
for n in $(seq 1 50); do
    echo "version = 1, part $n" > "$mnt/app/part$n"
done
cp -a "$mnt/doc" "$mnt/photos" "$mnt/app" "$place/was/"
gets 0 "$program" create "$mnt" morning --hold diary
gets 0 "$program" schedule "$mnt" every=1m keep=10min,24h budget=30% free=20%

: > "$place/going"
: > "$place/rolled"
# Writes and reads again what it wrote. Only a rollback may come between (the file is stale, or another).
(
    n=0
    while [ -e "$place/going" ]; do
        n=$((n + 1))
        rolled=$(cat "$place/rolled")
        automatic >> "$place/seen"
        head -c 4000000 /dev/urandom > "$place/busy"
        if cp "$place/busy" "$mnt/busy/$((n % 4))" 2> "$place/busy.err" && cmp -s "$place/busy" "$mnt/busy/$((n % 4))"; then
            echo 4000000 >> "$place/written"
        elif [ "$rolled" = "$(cat "$place/rolled")" ]; then
            echo "busy/$((n % 4)): $(cat "$place/busy.err")" >> "$place/failed"
        fi
        sleep 0.2
    done
) &
load=$!

until_so 20 "the first snapshot by the schedule" taken_after ''
good=$(automatic | head -1)
gets 0 "$program" hold "$mnt" "$good" --tag audit --for 2d

# --- A mistake: one file is overwritten, another deleted, and nobody notices for some minutes.
echo oops > "$mnt/doc/report"
rm "$mnt/photos/3"
another
another
gets 0 "$program" versions "$mnt/doc/report"
cp "$place/said" "$place/versions"
# The newest version whose content is not the mistake, by the path that is told.
found=
for version in $(grep -o '[^ ]*/doc/report$' "$place/versions"); do
    [ -n "$found" ] || [ "$(head -c 4 "$version")" = oops ] || found=$version
done
[ -n "$found" ] || {
    cat "$place/versions"
    fail "no version of the report before the mistake"
}
same "$found" "$place/was/doc/report"
gets 0 "$program" versions "$mnt/photos/3"
found=$(grep -o '[^ ]*/photos/3$' "$place/said" | head -1)
[ -n "$found" ] || fail "a deleted file has no versions"
same "$found" "$place/was/photos/3"
gets 0 "$program" log "$mnt" -n 8
grep -q '^ *- photos/3$' "$place/said" && grep -q '^ *M doc/report ' "$place/said" || {
    cat "$place/said"
    fail "the log does not tell of the mistake"
}
gets 0 "$program" restore "$mnt/doc/report" "$mnt/photos/3" --from "$good"
same "$mnt/doc/report" "$place/was/doc/report"
same "$mnt/photos/3" "$place/was/photos/3"
say "a mistake found and taken back" "$begin"

# --- Noon: an upgrade in a clone. It is wrong first, which nobody sees; then it is right, and merged under load.
begin=$(now_ms)
upgrade() { # DIR
    for n in $(seq 1 50); do
        echo "version = 2, part $n" > "$1/app/part$n"
    done
    mkdir "$1/app/new"
    mv "$1/app/part50" "$1/app/new/part50"
}
gets 7 "$program" try "$mnt" --merge -- sh -c "rm '$mnt/app/part1'; exit 7"
same "$mnt/app/part1" "$place/was/app/part1"
find "$mnt/.clones" -mindepth 1 -maxdepth 1 -exec rmdir {} +
gets 0 "$program" clone "$mnt" upgrade
upgrade "$mnt/.clones/upgrade"
same "$mnt/app/part1" "$place/was/app/part1"
echo "more" >> "$mnt/doc/report"
gets 0 "$program" merge "$mnt" upgrade --dry-run
grep -q 'app/new/part50' "$place/said" || fail "a dry run does not tell what would be merged"
gets 0 "$program" merge "$mnt" upgrade
upgrade "$place/was"
echo "more" >> "$place/was/doc/report"
diff -r "$mnt/app" "$place/was/app" || fail "the upgrade is not merged"
same "$mnt/doc/report" "$place/was/doc/report"
[ ! -e "$mnt/.clones/upgrade" ] || fail "a merged clone is still there"
say "an upgrade in a clone" "$begin"

# --- Afternoon: a bad one, in place, while a program reads. Its readers see one state or the other.
begin=$(now_ms)
gets 0 "$program" create "$mnt" before-bad
cat > "$place/reader" << 'END'
import errno, os, sys, time
path, place = sys.argv[1:]
held = open(path, "rb")
cut = False
while os.path.exists(place + "/reading"):
    try:
        with open(path, "rb") as f:
            if f.read() not in (b"version = 2, part 7\n", b"bad, part 7\n", b""):
                sys.exit("a reader has seen a mixture")
        os.pread(held.fileno(), 100, 0)
    except OSError as e: # whoever has opened it before a rollback is told so
        if e.errno not in (errno.ESTALE, errno.EIO):
            raise
        cut = True
    open(place + "/reads", "w").close()
    time.sleep(0.002)
sys.exit(0 if cut else "a file that was open went on over a rollback")
END
if command -v python3 > /dev/null 2>&1; then
    : > "$place/reading"
    python3 "$place/reader" "$mnt/app/part7" "$place" > "$place/reader.out" 2>&1 &
    reader=$!
    until_so 20 "a reader" test -e "$place/reads"
else
    echo "SKIPPED: python3 is not installed"
fi
for n in $(seq 1 49); do
    echo "bad, part $n" > "$mnt/app/part$n"
done
rm -r "$mnt/app/new"
gets 0 "$program" create "$mnt" bad
gets 0 "$program" rollback "$mnt" before-bad --force
echo once > "$place/rolled"
diff -r "$mnt/app" "$place/was/app" || fail "a rollback has not put all back"
if [ -n "${reader-}" ]; then
    rm "$place/reads"
    until_so 20 "a reader after a rollback" test -e "$place/reads"
    rm "$place/reading"
    code=0
    wait "$reader" || code=$?
    reader=
    [ "$code" = 0 ] || {
        cat "$place/reader.out"
        fail "a reader over a rollback"
    }
fi
grep -q '^bad' "$mnt/.snapshots/bad/app/part1" || fail "a snapshot that is newer than the rollback has changed"
say "a rollback while programs read and write" "$begin"

# --- Evening: more was written than the disk has, nothing failed, and what was held is there.
begin=$(now_ms)
size=$((160 << 20))
much() {
    [ "$(awk '{ sum += $1 } END { print sum + 0 }' "$place/written")" -gt "$size" ]
}
until_so 60 "as much as the disk has to be written" much
another
rm "$place/going"
wait "$load" || fail "the load"
[ ! -e "$place/failed" ] || {
    cat "$place/failed"
    fail "writes have failed, or have not been read as they were written"
}
within() {
    own=$(automatic | grep -vx "$good")
    # shellcheck disable=SC2086 # names without spaces
    held=$("$program" plan "$mnt" delete $own --json) || return 1
    held=$(echo "$held" | sed -n 's/^  "freed_bytes": \([0-9]*\),$/\1/p')
    [ "$(status free_bytes)" -ge $((size / 5)) ] && [ "$held" -le $((size * 3 / 10)) ]
}
until_so 20 "the schedule to be within its budget, and the space that is to be free" within
automatic > "$place/there"
sort -u "$place/seen" | grep -qvxFf "$place/there" || fail "nothing was thinned"
for name in morning "$good" before-bad bad; do
    [ -d "$mnt/.snapshots/$name" ] || fail "$name was to stay"
done
diff -r "$mnt/.snapshots/morning/photos" "$place/was/photos" || fail "a snapshot has changed"
gets 1 "$program" delete "$mnt" morning
grep -q diary "$place/said" || fail "it is not told which hold it is"
! rmdir "$mnt/.snapshots/$good" 2> /dev/null || fail "what was held could be removed"
say "more written than there is room" "$begin" "$(awk '{ sum += $1 } END { print int(sum / 1048576) }' "$place/written") MiB, $(automatic | wc -l) by the schedule"

# --- Night: what is told of space is what comes back.
begin=$(now_ms)
gets 0 "$program" schedule "$mnt" every=1m keep=10min,24h timer=off
# The point behind the trip wire holds what went within two minutes, and is no snapshot that could be deleted.
gets 0 "$program" set tripwire=off "$mnt"
unwatched() {
    "$program" status "$mnt" | grep -q '^tripwire: off'
}
until_so 20 "the end of the trip wire" unwatched

# parts NAME: all that space says, at rest, in $place/NAME; its parts add up, and it is what the status says.
parts() {
    "$program" space "$mnt" --json > /dev/null || fail "space"
    wait_freed 30
    "$program" space "$mnt" --json > "$place/$1" || fail "space"
    used=$(number "$place/$1" used_bytes)
    sum=0
    for key in live_bytes snapshots_bytes tables_bytes freeing_bytes; do
        sum=$((sum + $(number "$place/$1" "$key")))
    done
    [ "$sum" = "$used" ] || fail "parts of the space are $sum bytes, and $used are used"
    [ $((used + $(number "$place/$1" free_bytes))) = "$(number "$place/$1" total_bytes)" ] || fail "used and free are not all"
    [ "$used" = "$(status used_bytes)" ] || fail "space says $used bytes, and the status $(status used_bytes)"
    net=$((used - $(number "$place/$1" tables_bytes)))
}

# comes_back WANT ARGUMENTS...: deletes, and exactly that comes back by the status; the store's own tables do not count.
comes_back() {
    want=$1
    shift
    parts before
    before=$net
    gets 0 "$program" delete "$mnt" "$@"
    parts after
    [ $((before - net)) = "$want" ] || fail "$want bytes were to come back, and $((before - net)) did: delete $*"
}

# said_of NAME KEY: what space says of a snapshot or clone: exclusive, referenced or written.
said_of() {
    "$program" space "$mnt" --json | awk -v name="\"$1\"," -v key="\"$2\":" '
        $1 == "{" { is_it = 0; bytes = "" }
        $1 == key { bytes = $2; sub(",", "", bytes) }
        $1 == "\"name\":" && $2 == name { is_it = 1 }
        ($1 == "}" || $1 == "},") && is_it { print bytes; is_it = 0 }
    '
}

# planned NAME...: what a plan says.
planned() {
    "$program" plan "$mnt" delete "$@" --json > "$place/plan" || fail "plan delete $*"
    [ $(($(number "$place/plan" free_bytes) + $(number "$place/plan" freed_bytes))) = "$(number "$place/plan" free_then_bytes)" ] ||
        fail "what a plan frees is not what is free then: delete $*"
    number "$place/plan" freed_bytes
}

for n in $(seq 1 12); do
    head -c $((n * 50000)) /dev/urandom > "$mnt/busy/$((n % 4))"
    [ $((n % 3)) != 0 ] || cp --reflink=auto "$mnt/busy/1" "$mnt/busy/copy"
    gets 0 "$program" create "$mnt" "step-$n"
done
gets 0 "$program" delete "$mnt" 'step-?' --dry-run --json
told=$(number "$place/said" frees)
want=$(planned step-1 step-2 step-3 step-4 step-5 step-6 step-7 step-8 step-9)
[ "$want" -gt 0 ] || fail "nine steps hold nothing"
[ "$told" = "$want" ] || fail "a dry run says '$told' bytes, and the plan $want"
comes_back "$want" 'step-?' --wait
[ "$(all | grep -c '^step-')" = 3 ] || fail "a pattern has not met what it means"

gets 0 "$program" clone "$mnt" trial
head -c 3000000 /dev/urandom > "$mnt/.clones/trial/own"
rm -r "$mnt/.clones/trial/photos"
want=$(planned .clones/trial)
[ "$want" -ge 3000000 ] || fail "a clone of 3000000 bytes holds $want"
told=$(said_of trial exclusive)
[ "$told" = "$want" ] || fail "EXCLUSIVE of a clone is $told, and the plan says $want"
parts before
before=$net
gets 0 "$program" drop "$mnt" trial
parts after
[ $((before - net)) = "$want" ] || fail "$want bytes of a clone were to come back, and $((before - net)) did"

# Room that is asked for: by the command that is told.
gets 0 "$program" plan "$mnt" free 8M --json
want=$(number "$place/said" freed_bytes)
[ "$want" -ge $((8 << 20)) ] || fail "a plan for 8 MiB brings $want bytes"
command=$(sed -n 's/^  "command": "snapfs delete [^ ]* -- \(.*\)",\{0,1\}$/\1/p' "$place/said")
# shellcheck disable=SC2086 # names without spaces
comes_back "$want" $command --wait

# Each for itself, until none is left.
gets 0 "$program" release "$mnt" morning
gets 0 "$program" release "$mnt" "$good" --tag audit
many=0
exact=0
for name in $(all); do
    want=$(planned "$name")
    told=$(said_of "$name" exclusive)
    # It counts references: what has come back by restore shares blocks, and counts twice.
    twice=$("$program" space "$mnt" --json | sed -n 's/^  "saved_by_sharing_bytes": \([0-9]*\),$/\1/p')
    [ "$told" -ge "$want" ] && [ $((told - want)) -le "$twice" ] ||
        fail "EXCLUSIVE of $name is $told, the plan says $want, and $twice are shared"
    [ "$told" != "$want" ] || exact=$((exact + 1))
    comes_back "$want" "$name"
    many=$((many + 1))
done
[ "$(number "$place/after" snapshots_bytes)" = 0 ] || fail "without snapshots something is theirs"
diff -r "$mnt/app" "$place/was/app" && diff -r "$mnt/photos" "$place/was/photos" || fail "the live tree has changed"

# What a snapshot was written with, what it refers to, and which paths it holds alone.
gets 0 "$program" create "$mnt" first
told=$(said_of first referenced)
parts before
# Of blocks that files share each reference counts.
want=$(($(number "$place/before" live_bytes) + $(number "$place/before" saved_by_sharing_bytes)))
[ "$told" = "$want" ] || fail "REFERENCED of the only snapshot is $told, and the live tree refers to $want"
before=$net
head -c 300000 /dev/urandom > "$mnt/busy/alone"
gets 0 "$program" create "$mnt" second
told=$(said_of second written)
parts after
[ $((net - before)) = "$told" ] || fail "WRITTEN of a snapshot is $told, and $((net - before)) bytes were"
rm "$mnt/busy/alone"
gets 0 "$program" space "$mnt" --paths
grep -q 'busy/alone' "$place/said" || fail "the only path that snapshots hold alone is not told"
gets 0 "$program" space "$mnt" --paths --json
[ "$(number "$place/said" bytes)" = 303104 ] || fail "paths hold $(number "$place/said" bytes) bytes, and not 303104"
for name in first second; do
    comes_back "$(planned "$name")" "$name"
done
say "space as it was told" "$begin" "$many one by one, $exact of them by EXCLUSIVE"

stop
! grep -i 'error\|panic' "$place/log" || fail "the daemon has complained"
gets 0 "$program" check --data "$place/store"
echo "ok: day"
