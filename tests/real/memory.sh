#!/bin/sh
# How much memory the daemon takes: many small files, then a long stream written and read.
#
#   FILES=1000000 GIB=10 LIMIT_MIB=400 WORK=DIR memory.sh
#
# Fails when the daemon was ever larger than LIMIT_MIB with cache_size=256. Never more than 2 GiB of data at a time.
set -eu
. "$(dirname "$0")/lib.sh"

place=$(mktemp -d "${WORK:-${TMPDIR:-/tmp}}/snapfs-memory.XXXXXX")
trap tidy EXIT
trap 'exit 130' INT TERM
files=${FILES:-1000000}
gib=${GIB:-10}
start -o "cache_size=256${OPTIONS:+,$OPTIONS}"

t=$(now_ms)
python3 - "$place/mnt" "$files" <<'PY'
import os, sys
root, count = sys.argv[1], int(sys.argv[2])
for n in range(count):
    if n % 1000 == 0:
        here = f"{root}/d{n // 100000}/{n // 1000}"
        os.makedirs(here)
    fd = os.open(f"{here}/{n}", os.O_CREAT | os.O_WRONLY)
    os.write(fd, b"%d\n" % n * (n % 50))
    os.close(fd)
PY
say "$files files made" "$t" "$((files * 1000 / ($(now_ms) - t + 1))) a second"
mkdir "$place/mnt/.snapshots/one"
t=$(now_ms)
find "$place/mnt" -type f -printf '%s\n' | awk '{ n++; s += $1 } END { print n, "files,", s, "bytes" }'
say "walked" "$t"

n=0
while [ $((n * 2)) -lt "$gib" ]; do
    n=$((n + 1))
    t=$(now_ms)
    openssl enc -aes-128-ctr -nosalt -K 00000000000000000000000000000000 -iv 00000000000000000000000000000000 \
        -in /dev/zero 2>/dev/null | dd of="$place/mnt/stream" bs=1M count=2048 iflag=fullblock conv=fsync 2>/dev/null
    say "2 GiB written ($n)" "$t"
    t=$(now_ms)
    cat "$place/mnt/stream" > /dev/null
    say "2 GiB read ($n)" "$t"
done
t=$(now_ms)
rm -rf "${place:?}/mnt/"*
say "all removed" "$t"
most=$(($(resident VmHWM) / 1024))
"$program" status "$place/mnt"
grep -E '^(VmHWM|VmRSS|RssAnon|RssFile|Threads)' "/proc/$(status pid)/status"
stop
echo "daemon: at most $most MiB"
[ "$most" -lt "${LIMIT_MIB:-400}" ] || fail "more than ${LIMIT_MIB:-400} MiB"
