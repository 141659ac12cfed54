#!/bin/sh
# Published conformance suites on a real mount, in both cache modes: pjdfstest and fsx (crates), fio with verification.
#
#   conformance.sh                    a few minutes at most, for the test command
#   FSX_OPERATIONS=1000000 conformance.sh
#
# Needs root (the suites change users). The crates are installed under target/tools, at the versions below, unless they
# are there. Ends with 0 when nothing failed and the stores are clean. What it does not do: remounts read-only.
set -eu
. "$(dirname "$0")/lib.sh"

PJDFSTEST=0.2.2
FSX=0.3.2
# Of the 398 cases of pjdfstest, 13 remount and one needs a limit of links that a test can reach.
PJDFSTEST_PASSED_MIN=384

[ "$(id -u)" = 0 ] || {
    echo "SKIPPED: conformance needs root"
    exit 0
}
tools=$(cd "$(dirname "$0")/../.." && pwd)/target/tools
for crate in "pjdfstest $PJDFSTEST" "fsx $FSX"; do
    name=${crate% *}
    "$tools/bin/$name" --version 2>/dev/null | grep -qF "${crate#* }" ||
        cargo install --quiet --locked --root "$tools" --version "${crate#* }" "$name" ||
        fail "cannot install $crate"
done

place=$(mktemp -d "${WORK:-${TMPDIR:-/tmp}}/snapfs-conformance.XXXXXX")
trap tidy EXIT
trap 'exit 130' INT TERM
chmod 755 "$place" # the users of the suites must get through
mnt=$place/mnt

cat > "$place/pjdfstest.toml" <<'END'
[features]
posix_fallocate = {}
rename_ctime = {}
utime_now = {}
utimensat = {}
[settings]
naptime = 0.02
allow_remount = false
[dummy_auth]
entries = [["nobody", "nogroup"], ["games", "games"]]
END
cat > "$place/fsx.toml" <<'END'
flen = 1048576
[opsize]
max = 131072
[weights]
close_open = 1
invalidate = 1
fsync = 0.2
fdatasync = 0.2
punch_hole = 5
posix_fallocate = 3
sendfile = 3
posix_fadvise = 1
copy_file_range = 5
END

other=$place
[ ! -d /dev/shm ] || other=/dev/shm
for cache in strict writeback; do
    start -o "dev,suid,allow_other,cache=$cache"
    mkdir -p -m 777 "$mnt/pjdfstest"

    begin=$(now_ms)
    "$tools/bin/pjdfstest" -c "$place/pjdfstest.toml" -s "$other" -p "$mnt/pjdfstest" > "$place/pjdfstest.out" 2>&1 || true
    summary=$(grep '^Summary:' "$place/pjdfstest.out" || true)
    passed=$(echo "$summary" | sed -n 's/.* \([0-9]*\) passed.*/\1/p')
    if [ "${summary#Summary: 0 failed}" = "$summary" ] || [ "${passed:-0}" -lt "$PJDFSTEST_PASSED_MIN" ]; then
        grep -A8 ' FAILED$' "$place/pjdfstest.out" | head -60
        fail "pjdfstest, cache=$cache: ${summary:-no summary}"
    fi
    say "pjdfstest, cache=$cache" "$begin" "$summary"

    begin=$(now_ms)
    operations=${FSX_OPERATIONS:-20000}
    seed=${SNAPFS_SEED:-7}
    mkdir "$place/fsx"
    "$tools/bin/fsx" -q -f "$place/fsx.toml" -N "$operations" -S "$seed" -P "$place/fsx" "$mnt/fsx" > "$place/fsx.out" 2>&1 || {
        tail -40 "$place/fsx.out"
        fail "fsx, cache=$cache, seed $seed"
    }
    rm -rf "$place/fsx"
    say "fsx, cache=$cache" "$begin" "$operations operations, seed $seed"

    if command -v fio > /dev/null 2>&1; then
        for direct in 0 1; do
            begin=$(now_ms)
            fio --name=verify --directory="$mnt" --rw=randrw --bsrange=4k-64k --size=24m --numjobs=2 --direct=$direct \
                --ioengine=libaio --iodepth=8 --verify=crc32c --verify_fatal=1 --end_fsync=1 --fallocate=none \
                --group_reporting > "$place/fio.out" 2>&1 || {
                tail -40 "$place/fio.out"
                fail "fio, cache=$cache, direct=$direct"
            }
            say "fio with verification, cache=$cache, direct=$direct" "$begin"
        done
    else
        echo "SKIPPED: fio is not installed"
    fi
    stop
    "$program" check "$place/store" --data > "$place/check.out" 2>&1 || fail "cache=$cache: $(cat "$place/check.out")"
done
echo "ok: pjdfstest, fsx and fio in both cache modes, stores clean"
