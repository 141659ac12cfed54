#!/bin/bash
# Real programs on a real mount, while snapshots come and go every half second. Each proves its own work, and in the end
# the store must be sound.
#
#   programs.sh [NAME...]             of: git cargo sqlite postgresql archives backups chroot searches (default: all)
#   CACHE=writeback programs.sh       with the other cache mode
#   REPOSITORY=URL programs.sh git    clone this one (default: one is made of the sources in cargo's registry)
#   SCALE=10 SECONDS_LONG=60 programs.sh postgresql     pgbench's scale, and how long it runs
#   SPEEDTEST_SIZE=100 programs.sh sqlite
#   WORK=DIR                          where store and copies go (default: a new directory in $TMPDIR); KEEP=1 leaves them
#
# A program that is not installed, or a download that cannot be had, is told with SKIPPED.
set -euo pipefail
. "$(dirname "$0")/lib.sh"

[ $# -gt 0 ] || set -- git cargo sqlite postgresql archives backups chroot searches
sources=$(realpath "$(dirname "$0")/../..")
place=$(mktemp -d "${WORK:-${TMPDIR:-/tmp}}/snapfs-programs.XXXXXX")
mnt=$place/mnt
past=$place/past
trap 'ended=$?; rm -f "$place/going"; wait; end_all; tidy' EXIT
trap 'exit 130' INT TERM
unset GIT_DIR GIT_WORK_TREE CARGO_TARGET_DIR CARGO_BUILD_TARGET_DIR 2>/dev/null || true
export GIT_CONFIG_GLOBAL=/dev/null GIT_CONFIG_SYSTEM=/dev/null GIT_OPTIONAL_LOCKS=0
export LC_ALL=C
root=
[ "$(id -u)" != 0 ] || root=1

# What a section started and must not outlive this script.
pg_dirs=()
end_all() {
    for dir in "${pg_dirs[@]}"; do as_pg "$pg/pg_ctl" -D "$dir" -m immediate stop >/dev/null 2>&1 || true; done
    pg_dirs=()
    ! mountpoint -q "$past" || "$program" umount "$past" || "$program" umount -l "$past"
}

# here PROGRAM PACKAGE: whether it is installed.
here() {
    command -v "$1" >/dev/null 2>&1 || { echo "SKIPPED: $1 is not installed (package $2)" && return 1; }
}

# quiet COMMAND...: what it says is shown only if it fails.
quiet() {
    "$@" >"$place/out" 2>&1 || { tail -30 "$place/out" && fail "$*"; }
}

# same WHAT A B: equal in names, kinds, modes, owners, times, links, attributes, lists and content.
same() {
    rsync -aniHAX --checksum --delete "$2/" "$3/" >"$place/differences" 2>&1 ||
        fail "$1: $(head "$place/differences")"
    [ ! -s "$place/differences" ] || fail "$1: $(wc -l <"$place/differences") differences: $(head "$place/differences")"
}

# The last 20 of a long row of snapshots. Ends when the file is gone.
snapshots_come_and_go() {
    local n=0
    while [ -e "$place/going" ]; do
        n=$((n + 1))
        mkdir "$mnt/.snapshots/auto-$n" || touch "$place/snapshots-failed"
        [ $n -le 20 ] || rmdir "$mnt/.snapshots/auto-$((n - 20))" || touch "$place/snapshots-failed"
        echo $n >"$place/snapshots"
        sleep 0.5
    done
}

a_git() {
    here git git || return 0
    local origin=${REPOSITORY-} commits
    if [ -z "$origin" ]; then
        origin=$place/origin
        git init -q -b main "$origin"
        git -C "$origin" config user.name t && git -C "$origin" config user.email t@example.org
        for crate in "${CARGO_HOME:-$HOME/.cargo}"/registry/src/*/*/; do
            cp -r "$crate" "$origin/$(basename "$crate")"
            rm -rf "$origin/$(basename "$crate")/.git"
            git -C "$origin" add -Af
            git -C "$origin" commit -qm "$(basename "$crate")"
        done
    fi
    quiet git clone --no-local "$origin" "$mnt/clone"
    quiet git -C "$mnt/clone" fsck --full
    commits=$(git -C "$mnt/clone" rev-list --count HEAD)
    quiet git -C "$mnt/clone" checkout -q "HEAD~$((commits > 200 ? 100 : commits / 2))"
    mkdir "$mnt/.snapshots/git"
    quiet git -C "$mnt/clone" checkout -q -
    quiet git -C "$mnt/clone" gc -q --prune=now
    quiet git -C "$mnt/clone" fsck --full
    [ -z "$(git -C "$mnt/clone" status --porcelain)" ] || fail "git status is not clean"
    # The snapshot is a sound repository too, as it was.
    quiet git -C "$mnt/.snapshots/git/clone" fsck --full
    [ -z "$(git -C "$mnt/.snapshots/git/clone" status --porcelain)" ] || fail "git status of the snapshot is not clean"
    echo "$commits commits, $(git -C "$mnt/clone" ls-files | wc -l) files"
    rm -rf "$mnt/clone" "$place/origin"
    rmdir "$mnt/.snapshots/git"
}

a_cargo() {
    here cargo cargo || return 0
    mkdir "$mnt/crate"
    tar -C "$sources" -c Cargo.toml Cargo.lock src tests benches | tar -C "$mnt/crate" -x
    # Not optimised: it is the files that count.
    export CARGO_PROFILE_DEV_OPT_LEVEL=0 CARGO_PROFILE_DEV_DEBUG=0 CARGO_INCREMENTAL=1
    (cd "$mnt/crate" && quiet cargo build --locked)
    "$mnt/crate/target/debug/snapfs" --version >/dev/null || fail "what was built does not run"
    (cd "$mnt/crate" && cargo build --locked >"$place/out" 2>&1)
    ! grep -q Compiling "$place/out" || fail "cargo builds again what has not changed: $(head -5 "$place/out")"
    touch "$mnt/crate/src/main.rs"
    (cd "$mnt/crate" && cargo build --locked >"$place/out" 2>&1)
    [ "$(grep -c Compiling "$place/out")" = 1 ] || fail "cargo does not build one crate again: $(cat "$place/out")"
    echo "$(find "$mnt/crate/target" | wc -l) files"
    rm -rf "$mnt/crate"
}

# The sources of the installed sqlite3, into $place/apt, from wherever apt has its packages; nothing of apt's own changes.
speedtest_sources() {
    local file
    mkdir -p "$place/apt/parts" "$place/apt/lists/partial" "$place/apt/cache/archives/partial"
    for file in /etc/apt/sources.list /etc/apt/sources.list.d/*; do
        [ ! -f "$file" ] ||
            sed 's/^deb /deb-src /; s/^Types:.*/Types: deb-src/' "$file" >"$place/apt/parts/$(basename "$file" .list).${file##*.}"
    done
    local apt=(apt-get -q -o Dir::Etc::sourcelist=/dev/null -o "Dir::Etc::sourceparts=$place/apt/parts"
        -o "Dir::State::lists=$place/apt/lists" -o "Dir::Cache=$place/apt/cache" -o APT::Sandbox::User=)
    (cd "$place/apt" && "${apt[@]}" update && "${apt[@]}" --download-only source "sqlite3=$(dpkg-query -W -f '${Version}' sqlite3)")
}

a_sqlite() {
    here sqlite3 sqlite3 && here cc build-essential && here apt-get apt || return 0
    speedtest_sources >"$place/out" 2>&1 && tar -C "$place" -xf "$place"/apt/sqlite3_*.orig.tar.* --wildcards --strip-components=2 '*/test/speedtest1.c' &&
        cc -O2 -o "$place/speedtest1" "$place/speedtest1.c" -lsqlite3 2>"$place/out" || {
        echo "SKIPPED: no speedtest1 of sqlite (sources of the package, libsqlite3-dev): $(tail -1 "$place/out")"
        return 0
    }
    for journal in delete wal; do
        "$place/speedtest1" --size "${SPEEDTEST_SIZE:-10}" --journal $journal --verify "$mnt/speed.db" >"$place/out" 2>&1 &
        local tester=$!
        sleep 1
        mkdir "$mnt/.snapshots/sqlite-$journal"
        wait $tester || { tail "$place/out" && fail "speedtest1, $journal"; }
        # Of the snapshot a database that was just being written, as after a power cut.
        mkdir "$mnt/restored"
        cp "$mnt/.snapshots/sqlite-$journal"/speed.db* "$mnt/restored"
        for db in "$mnt/speed.db" "$mnt/restored/speed.db"; do
            [ "$(sqlite3 "$db" 'PRAGMA integrity_check')" = ok ] || fail "$journal: integrity of $db"
        done
        echo "$journal: $(tail -1 "$place/out" | tr -s ' .' ' ')"
        rm -rf "$mnt/restored" "$mnt"/speed.db*
        rmdir "$mnt/.snapshots/sqlite-$journal"
    done
}

as_pg() {
    if [ $root ]; then
        (cd / && setpriv --reuid=65534 --regid=65534 --clear-groups "$@")
    else
        "$@"
    fi
}

a_postgresql() {
    pg=$(find /usr/lib/postgresql/*/bin /usr/bin -maxdepth 1 -name initdb -printf '%h\n' 2>/dev/null | head -1)
    [ "$pg" ] || { echo "SKIPPED: PostgreSQL is not installed (package postgresql)" && return 0; }
    # The way to a unix socket must be short.
    local sock=$place/s long=${SECONDS_LONG:-8} client
    mkdir "$mnt/pg" "$sock"
    [ ! $root ] || chown 65534:65534 "$mnt/pg" "$sock"
    chmod 700 "$mnt/pg" "$sock"
    pg_start() { # DIR PORT
        pg_dirs+=("$1")
        quiet as_pg "$pg/pg_ctl" -D "$1" -w -t 120 -l "$sock/log$2" -o "-k $sock -p $2 -c listen_addresses=" start
    }
    sql() { # PORT TEXT
        as_pg "$pg/psql" -X -q -t -A -h "$sock" -p "$1" -U tester -d postgres -c "$2"
    }
    quiet as_pg "$pg/initdb" -U tester -A trust -E UTF8 --locale=C --data-checksums -D "$mnt/pg"
    pg_start "$mnt/pg" 5001
    quiet as_pg "$pg/pgbench" -h "$sock" -p 5001 -U tester -q -i -s "${SCALE:-2}" postgres
    as_pg "$pg/pgbench" -h "$sock" -p 5001 -U tester -n -c 4 -j 2 -T "$long" postgres >"$place/pgbench" 2>&1 &
    client=$!
    sleep $((long / 2))
    local before after rows
    before=$(sql 5001 'SELECT count(*) FROM pgbench_history')
    mkdir "$mnt/.snapshots/running"
    after=$(sql 5001 'SELECT count(*) FROM pgbench_history')
    wait $client || { cat "$place/pgbench" && fail "pgbench"; }
    # The second server recovers what was being written when the snapshot was made. No commit is lost, none too many.
    cp -a "$mnt/.snapshots/running/pg" "$mnt/pg2"
    rm "$mnt/pg2/postmaster.pid"
    pg_start "$mnt/pg2" 5002
    grep -q 'automatic recovery in progress' "$sock/log5002" || fail "the second server had nothing to recover"
    rows=$(sql 5002 'SELECT count(*) FROM pgbench_history')
    [ "$before" -le "$rows" ] && [ "$rows" -le "$after" ] || fail "$rows transactions, not between $before and $after"
    for port in 5001 5002; do
        [ "$(sql $port 'SELECT (SELECT sum(abalance) FROM pgbench_accounts) = (SELECT sum(delta) FROM pgbench_history)
            AND (SELECT sum(tbalance) FROM pgbench_tellers) = (SELECT sum(bbalance) FROM pgbench_branches)
            AND (SELECT sum(bbalance) FROM pgbench_branches) = (SELECT sum(delta) FROM pgbench_history)')" = t ] ||
            fail "the sums of $port are not equal"
        [ ! -x "$pg/pg_amcheck" ] ||
            quiet as_pg "$pg/pg_amcheck" -h "$sock" -p $port -U tester --install-missing --heapallindexed postgres
    done
    for dir in "${pg_dirs[@]}"; do
        quiet as_pg "$pg/pg_ctl" -D "$dir" -w stop
        quiet as_pg "$pg/pg_checksums" -D "$dir" --check
    done
    pg_dirs=()
    echo "$rows transactions in the snapshot; $(grep -o 'tps = [0-9]*' "$place/pgbench")"
    rm -rf "$mnt/pg" "$mnt/pg2" "$sock"
    rmdir "$mnt/.snapshots/running"
}

# What no distribution ships, in a new directory.
make_odd_things() {
    mkdir -p "$1/dir/empty"
    head -c 300000 /dev/urandom >"$1/dir/data"
    ln "$1/dir/data" "$1/hard"
    ln -s nowhere "$1/dangling"
    mkfifo "$1/fifo"
    printf 'a name' >"$1/"$'new\nline and \xff'
    truncate -s 64M "$1/sparse"
    printf middle | dd of="$1/sparse" bs=1 seek=20000000 conv=notrunc status=none
    touch -h -d '1969-07-20 20:17:40.123456789 UTC' "$1/dangling"
    touch -d '2038-01-20 00:00:00.987654321 UTC' "$1/hard"
    printf x >"$1/set-id"
    chmod 6755 "$1/set-id"
    chmod 1777 "$1/dir"
    if [ $root ]; then
        mknod "$1/null" c 1 3
        mknod "$1/disk" b 7 99
        chown -h 1234:5678 "$1/dangling" "$1/dir/empty"
    fi
    ! here setfattr attr || setfattr -n user.colour -v "$(head -c 1500 /dev/zero | tr '\0' b)" "$1/dir/data"
    ! here setfacl acl || setfacl -m u:1234:rw,g:5678:r "$1/hard" || echo "SKIPPED: no access lists in $1"
    ! here setfacl acl || setfacl -m d:u:1234:rwx "$1/dir" || echo "SKIPPED: no access lists in $1"
    if [ $root ] && command -v setcap >/dev/null; then setcap cap_net_raw+ep "$1/set-id"; fi
}

# access_lists DIR: of all files in it, in one order.
access_lists() {
    ! command -v getfacl >/dev/null || (cd "$1" && find . ! -type l -print0 | sort -z | xargs -0 getfacl -Pn)
}

a_archives() {
    here rsync rsync || return 0
    local from=$place/from
    mkdir "$from"
    make_odd_things "$from"
    cp -a /usr/include/linux "$from/linux"
    local xattrs=(--acls --xattrs --xattrs-include='*')
    mkdir "$mnt/rsync" "$mnt/tar" "$place/back"
    rsync -aHAXS --numeric-ids "$from/" "$mnt/rsync/"
    tar -C "$from" --numeric-owner --sparse --warning=no-timestamp "${xattrs[@]}" -cf - . | tar -C "$mnt/tar" --numeric-owner "${xattrs[@]}" --warning=no-timestamp -xpf -
    mkdir "$mnt/.snapshots/copied"
    rm -rf "$mnt/rsync/linux" && printf changed >"$mnt/rsync/dir/data"
    rsync -aHAXS --numeric-ids "$mnt/.snapshots/copied/rsync/" "$place/back/rsync/"
    mkdir "$place/back/tar"
    tar -C "$mnt/tar" --numeric-owner --sparse --warning=no-timestamp "${xattrs[@]}" -cf - . |
        tar -C "$place/back/tar" --numeric-owner "${xattrs[@]}" --warning=no-timestamp -xpf -
    rsync -aHAXS --numeric-ids --delete "$from/" "$mnt/rsync/" # brings back what was changed
    access_lists "$from" >"$place/lists"
    for copy in "$mnt/rsync" "$mnt/tar" "$mnt/.snapshots/copied/rsync" "$place/back/rsync" "$place/back/tar"; do
        same "$copy" "$from" "$copy"
        [ "$(du -k "$copy/sparse" | cut -f1)" -lt 200 ] || fail "$copy: the holes are filled"
        [ "$(stat -c %h "$copy/hard")" = 2 ] || fail "$copy: the link is gone"
        access_lists "$copy" | cmp -s - "$place/lists" || fail "$copy: other access lists"
    done
    echo "$(find "$from" | wc -l) files, there and back"
    rm -rf "$mnt/rsync" "$mnt/tar" "$place/back" "$from"
    rmdir "$mnt/.snapshots/copied"
}

a_backups() {
    mkdir -p "$mnt/home" "$past"
    make_odd_things "$mnt/home"
    touch -h "$mnt/home/dangling" "$mnt/home/hard" # borg has times from 1970 to 2038 alone
    cp -a /usr/include/linux "$mnt/home/linux"
    sleep 0.1
    touch "$mnt/home/newest" # borg never trusts what has the newest ctime
    export RESTIC_PASSWORD=x RESTIC_CACHE_DIR=$place/restic-cache RESTIC_REPOSITORY=$place/restic
    export BORG_BASE_DIR=$place/borg-base BORG_REPO=$place/borg
    export BORG_UNKNOWN_UNENCRYPTED_REPO_ACCESS_IS_OK=yes
    local restic='' borg='' said
    ! here restic restic || { restic=1 && quiet restic init; }
    ! here borg borgbackup || { borg=1 && quiet borg init -e none; }
    for round in 1 2; do
        mkdir "$mnt/.snapshots/backup-$round"
        quiet "$program" mount "$place/store" "$past" --snapshot "backup-$round"
        if [ $restic ]; then
            said=$(cd "$past" && restic backup --json . | tail -1)
            [ $round = 1 ] || [[ $said == *'"files_new":0,"files_changed":0,'*'"data_blobs":0,'* ]] ||
                fail "restic finds changes: $said"
        fi
        if [ $borg ]; then
            (cd "$past" && borg create --list --filter AMCE "::$round" . >"$place/out" 2>&1) || fail "borg: $(tail "$place/out")"
            sed -i '/^A home.newest$/d' "$place/out"
            [ $round = 1 ] || [ ! -s "$place/out" ] || fail "borg finds changes: $(head "$place/out")"
        fi
        rsync -aiHAXS --delete "$past/" "$place/rsynced/" >"$place/out"
        [ $round = 1 ] || [ ! -s "$place/out" ] || fail "rsync finds changes: $(head "$place/out")"
        quiet "$program" umount "$past"
    done
    rm -rf "${mnt:?}/home"
    mkdir "$place/restored-restic" "$place/restored-borg"
    if [ $restic ]; then
        quiet restic check --read-data
        quiet restic restore latest --target "$place/restored-restic"
        # What every version of restic restores: names, links, modes, content.
        rsync -rlHpn -i --checksum --delete --no-specials "$mnt/.snapshots/backup-1/home/" "$place/restored-restic/home/" |
            sed '/^skipping non-regular/d' >"$place/out"
        [ ! -s "$place/out" ] || fail "restored by restic: $(head "$place/out")"
    fi
    if [ $borg ]; then
        quiet borg check --verify-data
        (cd "$place/restored-borg" && quiet borg extract "::2")
        same "restored by borg" "$mnt/.snapshots/backup-1/home" "$place/restored-borg/home"
    fi
    same "kept by rsync" "$mnt/.snapshots/backup-2/home" "$place/rsynced/home"
    echo "$(find "$mnt/.snapshots/backup-1" | wc -l) files"
    rmdir "$mnt/.snapshots/backup-1" "$mnt/.snapshots/backup-2"
}

a_chroot() {
    [ $root ] || { echo "SKIPPED: no root, no chroot" && return 0; }
    here debootstrap debootstrap || return 0
    local suite mirror=${MIRROR:-}
    suite=$(. /etc/os-release && echo "$VERSION_CODENAME")
    debootstrap --variant=minbase "$suite" "$mnt/root" ${mirror:+"$mirror"} >"$place/out" 2>&1 || {
        if grep -qE 'Failed getting release file|couldn.t be downloaded|Failure trying to run: mknod|No such script' "$place/out"; then
            echo "SKIPPED: debootstrap of $suite: $(tail -1 "$place/out")"
            rm -rf "$mnt/root"
            return 0
        fi
        tail -20 "$place/out"
        fail "debootstrap"
    }
    mkdir "$mnt/.snapshots/installed" "$place/over"
    local wrong
    wrong=$(chroot "$mnt/root" dpkg --verify)
    [ -z "$wrong" ] || fail "installed files differ: $wrong"
    # A container over the snapshot: changes go to another layer, and the whole of it is thrown away.
    unshare -m --propagation private bash -euc '
        cd "$1"
        mount -t tmpfs none over
        mkdir over/upper over/work over/merged
        mount -t overlay -o lowerdir=mnt/.snapshots/installed/root,upperdir=over/upper,workdir=over/work none over/merged
        mount -t proc none over/merged/proc
        chroot over/merged sh -euc "
            export PATH=/usr/sbin:/usr/bin:/sbin:/bin
            test -z \"\$(dpkg --verify)\"
            useradd -m somebody
            su somebody -c \"echo hello > ~/file; cat ~/file\"
            rm -rf /usr/share/doc
            dpkg --purge --force-all tzdata
            apt-get --version
            chown -R 12:34 /var
        "
    ' sh "$place" >"$place/out" 2>&1 || { tail "$place/out" && fail "the container"; }
    wrong=$(chroot "$mnt/root" dpkg --verify)
    [ -z "$wrong" ] || fail "the lower layer has changed: $wrong"
    echo "$(find "$mnt/root" | wc -l) files, $(chroot "$mnt/root" dpkg -l | grep -c ^ii) packages"
    rm -rf "$mnt/root"
    rmdir "$mnt/.snapshots/installed" "$place/over"
}

a_searches() {
    mkdir -p "$mnt/tree/a/b"
    echo needle-content >"$mnt/tree/a/b/needle-name"
    mkdir "$mnt/.snapshots/seen"
    local n
    for walk in "find . -name *needle*" "find . -name .snapshots" "du -a" "ls -aR" "grep -r needle-content ." "tar -c -f /dev/null -v ."; do
        # shellcheck disable=SC2086 # words
        (cd "$mnt" && $walk 2>&1) >"$place/out"
        ! grep -q '\.snapshots' "$place/out" || fail "$walk walks into the snapshots: $(grep -m3 '\.snapshots' "$place/out")"
    done
    n=$(find "$mnt" -name 'needle*' | wc -l)
    [ "$n" = 1 ] || fail "find finds $n"
    ! here rsync rsync || {
        rsync -a "$mnt/tree" "$place/copy"
        [ -z "$(find "$place/copy" -name '.snapshots')" ] || fail "rsync copies the snapshots"
        rm -rf "$place/copy"
    }
    if here updatedb plocate && here plocate plocate; then
        quiet updatedb -l no -U "$mnt" -o "$place/db" --prune-bind-mounts no --prunefs '' --prunepaths '' --prunenames ''
        [ "$(plocate -d "$place/db" -c needle-name)" = 1 ] || fail "updatedb does not see the file once"
        [ "$(plocate -d "$place/db" -c .snapshots || true)" = 0 ] || fail "updatedb walks into the snapshots"
    fi
    rm -rf "$mnt/tree"
    grep -q needle-content "$mnt/.snapshots/seen/tree/a/b/needle-name" || fail "rm -r reached the snapshot"
    rmdir "$mnt/.snapshots/seen"
}

chmod 755 "$place" # the users of some programs must get through
start -o "cache=${CACHE:-strict}${root:+,dev,suid,allow_other}"
touch "$place/going"
snapshots_come_and_go &
for name in "$@"; do
    begin=$(now_ms)
    declare -F "a_$name" >/dev/null || fail "$name: none of git cargo sqlite postgresql archives backups chroot searches"
    "a_$name" >"$place/said"
    say "$name" "$begin" "$(grep -v ^SKIPPED "$place/said" | paste -sd ';' || true)"
    ! grep ^SKIPPED "$place/said" || true
done
rm "$place/going"
wait
[ ! -e "$place/snapshots-failed" ] || fail "a snapshot could not be made or deleted"
stop
"$program" check "$place/store" --data >"$place/out" 2>&1 || fail "check: $(cat "$place/out")"
if grep -E 'ERROR|WARN|panic' "$place/log"; then fail "the daemon complained"; fi
echo "ok: real programs, beside $(cat "$place/snapshots") snapshots"
