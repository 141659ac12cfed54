#!/usr/bin/env bash
# Every check of the project, as CI runs it: formatting, lints, scripts, tests. The last line is the number of tests.
#
# SNAPFS_REQUIRE_FUSE=1 makes tests fail that would otherwise be skipped for want of /dev/fuse. Arguments go to
# `cargo test`, so `tests/run.sh --lib` runs the unit tests alone.
set -euo pipefail
cd "$(dirname "$0")/.."

# Tools that tests on a real mount call. Whoever is not root is told what to run.
missing=()
need() { command -v "$1" >/dev/null 2>&1 || missing+=("$2"); }
need cc build-essential
need fusermount3 fuse3
need rsync rsync
need git git
need patch patch
need setfattr attr
need setfacl acl
need sqlite3 sqlite3
[ -x /usr/sbin/mariadbd ] || need mariadbd mariadb-server
need fio fio
need stress-ng stress-ng
need shellcheck shellcheck
need restic restic
need borg borgbackup
[ -x /usr/sbin/debootstrap ] || need debootstrap debootstrap
need plocate plocate
[ -e /usr/include/sqlite3.h ] || need no-such-header libsqlite3-dev
[ -d /usr/lib/postgresql ] || need initdb postgresql
if [ ${#missing[@]} -gt 0 ]; then
    if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null 2>&1; then
        { apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq "${missing[@]}" >/dev/null; } ||
            echo "cannot install ${missing[*]}: tests that need them say SKIPPED" >&2
    else
        echo "missing packages; run: sudo apt-get install ${missing[*]}" >&2
    fi
fi

# What tests/real/servers.sh tries the file system with; it says SKIPPED, and the package, for each that is missing.
wanted=()
want() { command -v "$1" >/dev/null 2>&1 || wanted+=("${@:2}"); }
want bwrap bubblewrap
want busybox busybox-static
want podman podman crun
want fuse-overlayfs fuse-overlayfs
want linux.uml user-mode-linux
want modprobe kmod
# Servers that would listen everywhere as soon as they are installed: only where that starts no service.
if [ -x /usr/sbin/policy-rc.d ] && ! /usr/sbin/policy-rc.d smbd start >/dev/null 2>&1; then
    want smbd samba samba-vfs-modules
    want smbclient smbclient
    want ganesha.nfsd nfs-ganesha nfs-ganesha-vfs
    want nfs-ls libnfs-utils
    [ -e /usr/include/nfsc/libnfs.h ] || want no-such-header libnfs-dev
    want rpcbind rpcbind
    want rpc.nfsd nfs-kernel-server
    want mount.nfs nfs-common
fi
if [ ${#wanted[@]} -gt 0 ] && [ $# = 0 ] && [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null 2>&1; then
    { apt-get update -qq &&
        DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${wanted[@]}" >/dev/null; } ||
        echo "cannot install ${wanted[*]}" >&2
fi
for component in rustfmt clippy; do
    name=${component/rustfmt/fmt}
    if ! cargo "$name" --version >/dev/null 2>&1; then
        rustup component add "$component"
    fi
done

# Nothing is built a second time here: to keep parts for that costs time, and code that is built in so many parts is slow.
export CARGO_INCREMENTAL=0

step() { printf '== %s\n' "$*"; }

step cargo fmt --check
cargo fmt --check

step cargo clippy
cargo clippy --quiet --all-targets -- -D warnings

if command -v shellcheck >/dev/null 2>&1; then
    step shellcheck
    { git ls-files -- '*.sh' .ci/run 'mount-helpers/*mount.fuse.snapfs' mount-helpers/agent-step 'mount-helpers/hooks/*' || true; } |
        xargs -r shellcheck --severity=warning --external-sources --source-path=SCRIPTDIR
else
    step "shellcheck is not installed, scripts are only parsed"
    for script in tests/*.sh mount-helpers/*.sh .ci/run; do bash -n "$script"; done
    for script in mount-helpers/*mount.fuse.snapfs mount-helpers/agent-step mount-helpers/hooks/*; do sh -n "$script"; done
fi

step cargo test
log=$(mktemp)
trap 'rm -f "$log"' EXIT
status=0
cargo test --no-fail-fast "$@" 2>&1 | tee "$log" || status=$?

# Real programs on a real mount: too long for libtest, and only with everything else. Each says `ok: NAME` in the end.
if [ $# = 0 ] && [ -e /dev/fuse ]; then
    export SNAPFS=${CARGO_TARGET_DIR:-target}/debug/snapfs
    for script in tree programs apps conformance churn clones rollback mirror servers day; do
        step "tests/real/$script.sh"
        if ! SMALL=1 "tests/real/$script.sh" 2>&1 | tee -a "$log"; then
            status=1
            echo "failed: $script" | tee -a "$log"
        fi
    done
fi

# libtest prints one result for each binary; a test that is a program of its own prints `ok: NAME` for each check, and
# counts as one failure if it fails.
awk '
    /^ +(Running|Doc-tests) / { told = 0 }
    /^test result:/           { told = 1; for (i = 2; i <= NF; i++) { if ($i ~ /^passed/) p += $(i-1); if ($i ~ /^failed/) f += $(i-1) } }
    /^ok: /                   { p++ }
    /^failed: /               { f++ }
    /^error: test failed/     { if (!told) f++ }
    END { printf "%d passed, %d failed\n", p, f }
' "$log"
exit "$status"
