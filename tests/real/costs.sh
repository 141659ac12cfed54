#!/bin/sh
# What clones, rollbacks and steps cost on a real mount, by the clock. Prints, and judges nothing: counts of device calls are
# what tests go by (tests/cost).
#
#   costs.sh                          a million files, 1000 steps: some minutes
#   SMALL=1 costs.sh                  ten thousand files, 100 steps
#   FILES=N STEPS=N KEEP_STEPS=N      another number of each
#   WORK=DIR                          where the store goes (default: a new directory in /dev/shm); KEEP=1 leaves it
set -eu
. "$(dirname "$0")/lib.sh"

files=${FILES:-1000000}
steps=${STEPS:-1000}
[ -z "${SMALL-}" ] || files=${FILES:-10000} steps=${STEPS:-100}
keep_steps=${KEEP_STEPS:-100}
place=$(mktemp -d "${WORK:-/dev/shm}/snapfs-costs.XXXXXX")
mnt=$place/mnt
trap 'ended=$?; tidy' EXIT
trap 'exit 130' INT TERM
command -v python3 > /dev/null 2>&1 || fail "python3 is needed"

# spread NAME: of the times in milliseconds, one a line, on stdin.
spread() {
    sort -n | awk -v name="$1" '{ at[NR] = $1 } END {
        printf "%-46s median %9.3f ms, %9.3f to %9.3f (%d)\n", name, at[int((NR + 1) / 2)], at[1], at[NR], NR }'
}

# The tree as a command of its own, by which each file is made with one call.
make_tree() {
    python3 -c '
import os, sys
root, files = sys.argv[1], int(sys.argv[2])
for n in range(files):
    if n % 100 == 0:
        where = f"{root}/{n // 10000}/{n // 100 % 100}"
        os.makedirs(where)
    os.close(os.open(f"{where}/{n % 100}", os.O_CREAT | os.O_WRONLY))
' "$mnt/tree" "$files"
}

# The time that the kernel takes for each, and for nothing else: each DIR-1 DIR-2 ... made or removed.
each() { # mkdir|rmdir DIR COUNT
    python3 -c '
import os, sys, time
deed, name, count = getattr(os, sys.argv[1]), sys.argv[2], int(sys.argv[3])
for n in range(count):
    begin = time.perf_counter()
    deed(f"{name}-{n}")
    print(1000 * (time.perf_counter() - begin))
' "$@"
}

# command COUNT WORD...: the time of a command, with its start.
command_times() {
    count=$1
    shift
    python3 -c '
import subprocess, sys, time
for n in range(int(sys.argv[1])):
    begin = time.perf_counter()
    subprocess.run([word.replace("@n@", str(n)) for word in sys.argv[2:]], check=True, stdout=subprocess.DEVNULL)
    print(1000 * (time.perf_counter() - begin))
' "$count" "$@"
}

uptime
start
begin=$(now_ms)
make_tree
say "$files files" "$begin"
mkdir "$mnt/.snapshots/before"
echo changed > "$mnt/tree/0/0/0"

each mkdir "$mnt/.clones/rest" 100 | spread "mkdir .clones/x, the line at rest"
each rmdir "$mnt/.clones/rest" 100 | spread "rmdir .clones/x"
python3 -c '
import os, sys, time
mnt = sys.argv[1]
for n in range(100):
    with open(f"{mnt}/tree/0/0/{n % 100}", "w") as f:
        f.write(str(n))
    begin = time.perf_counter()
    os.mkdir(f"{mnt}/.clones/changed-{n}")
    print(1000 * (time.perf_counter() - begin))
' "$mnt" | spread "mkdir .clones/x, a file written before each"
each rmdir "$mnt/.clones/changed" 100 | spread "rmdir .clones/x, each from another moment"

command_times 20 "$program" --version | spread "snapfs --version, for comparison"
command_times 10 "$program" rollback "$mnt" before | spread "snapfs rollback"
command_times 10 "$program" undo "$mnt" | spread "snapfs undo, of a rollback"

command_times "$steps" "$program" run "$mnt" --keep-steps "$keep_steps" -- sh -c "echo @n@ > $mnt/step" > "$place/steps"
head -n 100 "$place/steps" | spread "snapfs run, the first 100 of $steps"
tail -n 100 "$place/steps" | spread "snapfs run, the last 100 of $steps"
kept=$(find "$mnt/.snapshots" -mindepth 1 -maxdepth 1 -name '@step-*' | wc -l)
[ "$kept" -le "$keep_steps" ] || fail "$kept steps were kept"
say "$kept steps are kept" "$begin"
uptime
stop
echo "ok: costs"
