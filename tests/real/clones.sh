#!/bin/sh
# Clones of real data, and many of them: thousands at once, fsx, fio, git and PostgreSQL in clones while the live tree is
# written and snapshots are made of both every second.
#
#   clones.sh                         about a minute, for the test command
#   CLONES=10000 SECONDS_EACH=60 clones.sh
#   WORK=DIR                          where the store goes (default: a new directory in $TMPDIR); KEEP=1 leaves it
#
# Each part checks what it wrote with a check of its own, and in the end the store is proved.
set -eu
. "$(dirname "$0")/lib.sh"

clones=${CLONES:-10000}
[ -z "${SMALL-}" ] || clones=${CLONES:-2000}
seconds=${SECONDS_EACH:-8}
tools=$(cd "$(dirname "$0")/../.." && pwd)/target/tools
place=$(mktemp -d "${WORK:-${TMPDIR:-/tmp}}/snapfs-clones.XXXXXX")
mnt=$place/mnt
trap 'ended=$?; rm -f "$place/going"; [ -z "${server-}" ] || $server stop -m immediate > /dev/null 2>&1 || true; wait; tidy' EXIT
trap 'exit 130' INT TERM
chmod 755 "$place"

# clone NAME: its place.
clone() {
    mkdir "$mnt/.clones/$1"
    echo "$mnt/.clones/$1"
}

# names FROM TO: c1 c2 ..., one a line.
names() {
    seq -f 'c%.0f' "$1" "$2"
}

# many CHANGED: how many clones, made of a line that is at rest or changes before each.
many() {
    begin=$(now_ms)
    first=$(resident VmRSS)
    for quarter in 1 2 3 4; do
        from=$((clones * (quarter - 1) / 4 + 1))
        to=$((clones * quarter / 4))
        if [ "$1" = changed ]; then
            for n in $(seq "$from" "$to"); do
                echo "$n" > "$mnt/counter"
                mkdir "$mnt/.clones/c$n"
            done
        else
            (cd "$mnt/.clones" && names "$from" "$to" | xargs mkdir)
        fi
        [ "$quarter" != 1 ] || quarter_kib=$(($(resident VmRSS) - first))
    done
    all_kib=$(($(resident VmRSS) - first))
    say "$clones clones of a line, $1" "$begin"
    # Four times as many take four times as much, and not sixteen times; below this much it is noise.
    [ "$all_kib" -lt $((quarter_kib * 8 + 65536)) ] || fail "memory grows faster than clones: $quarter_kib KiB, then $all_kib KiB"
    [ "$(find "$mnt/.clones" -mindepth 1 -maxdepth 1 | wc -l)" = "$clones" ] || fail "some clones are not listed"
    for n in $(seq 1 97 "$clones"); do
        echo "of $n" > "$mnt/.clones/c$n/own"
    done
    begin=$(now_ms)
    stop
    start
    say "mounted again" "$begin"
    for n in $(seq 1 97 "$clones"); do
        [ "$(cat "$mnt/.clones/c$n/own")" = "of $n" ] || fail "clone c$n has lost what was written in it"
        [ "$1" != changed ] || [ "$(cat "$mnt/.clones/c$n/counter")" = "$n" ] || fail "clone c$n is not as its line was"
        cmp -s "$mnt/data" "$mnt/.clones/c$n/data" || fail "clone c$n has other content than its line"
    done
    [ ! -e "$mnt/own" ] || fail "a clone has written into its line"
    begin=$(now_ms)
    (cd "$mnt/.clones" && names 1 "$clones" | xargs rmdir)
    [ -z "$(ls "$mnt/.clones")" ] || fail "a clone was not dropped"
    say "dropped" "$begin"
    wait_freed 120
}

# Snapshots of the main line and of a clone every second, and files of the main line, as long as $place/going is there.
churn() { # CLONE
    : > "$place/going"
    (
        n=0
        while [ -e "$place/going" ]; do
            n=$((n + 1))
            mkdir "$mnt/.snapshots/$1-$n" "$mnt/.clones/$1/.snapshots/own-$n" || : > "$place/failed"
            sleep 1
        done
    ) &
    (
        while [ -e "$place/going" ]; do
            dd if=/dev/urandom of="$mnt/data" bs=64k count=64 conv=notrunc 2> /dev/null
            cp "$mnt/data" "$mnt/copy"
            mv "$mnt/copy" "$mnt/other"
        done
    ) &
}

calm() {
    rm -f "$place/going"
    wait
    [ ! -e "$place/failed" ] || fail "a snapshot was not made"
}

start
head -c 8388608 /dev/urandom > "$mnt/data"
many 'at rest'
many changed

if [ -x "$tools/bin/fsx" ]; then
    begin=$(now_ms)
    at=$(clone fsx)
    churn fsx
    until=$(($(date +%s) + seconds))
    seed=${SNAPFS_SEED:-7}
    while [ "$(date +%s)" -lt "$until" ]; do
        mkdir "$place/fsx"
        "$tools/bin/fsx" -q -N 3000 -S "$seed" -P "$place/fsx" "$at/fsx" > "$place/fsx.out" 2>&1 || {
            tail -40 "$place/fsx.out"
            fail "fsx in a clone, seed $seed"
        }
        rm -rf "$place/fsx"
        seed=$((seed + 1))
    done
    calm
    say "fsx in a clone" "$begin" "seeds below $seed"
else
    echo "SKIPPED: fsx is not installed (tests/real/conformance.sh installs it)"
fi

if command -v fio > /dev/null 2>&1; then
    begin=$(now_ms)
    at=$(clone fio)
    churn fio
    for direct in 0 1; do
        fio --name=verify --directory="$at" --rw=randrw --bsrange=4k-64k --size=24m --numjobs=2 --direct=$direct \
            --ioengine=libaio --iodepth=8 --verify=crc32c --verify_fatal=1 --verify_state_save=0 --end_fsync=1 --fallocate=none \
            --group_reporting > "$place/fio.out" 2>&1 || {
            tail -40 "$place/fio.out"
            fail "fio in a clone, direct=$direct"
        }
    done
    calm
    say "fio with verification in a clone" "$begin"
else
    echo "SKIPPED: fio is not installed"
fi

if command -v git > /dev/null 2>&1; then
    begin=$(now_ms)
    export GIT_AUTHOR_NAME=a GIT_AUTHOR_EMAIL=a@example.org GIT_COMMITTER_NAME=a GIT_COMMITTER_EMAIL=a@example.org
    git init -q -b main "$mnt/repo"
    for n in $(seq 1 200); do
        seq "$n" $((n + 300)) > "$mnt/repo/file$n"
    done
    git -C "$mnt/repo" add .
    git -C "$mnt/repo" commit -qm first
    names 1 50 | sed 's/^/git-/' | (cd "$mnt/.clones" && xargs mkdir)
    # shellcheck disable=SC2016 # the inner shell's
    names 1 50 | xargs -P 8 -I NAME sh -euc '
        cd "$1/.clones/git-NAME/repo"
        git checkout -qb NAME
        for n in 1 2 3; do
            echo "NAME $n" >> "file$n"
            git add .
            git commit -qm "NAME $n"
        done
        git fsck --no-progress > /dev/null 2>&1
        [ -z "$(git status --porcelain)" ]
    ' sh "$mnt" || fail "git in a clone"
    for name in $(names 1 50); do
        git -C "$mnt/repo" fetch -q "$mnt/.clones/git-$name/repo" "$name:$name" || fail "git fetch from clone $name"
    done
    [ "$(git -C "$mnt/repo" branch | wc -l)" = 51 ] || fail "branches of clones are missing"
    [ "$(git -C "$mnt/repo" log --oneline c50 | wc -l)" = 4 ] || fail "commits of a clone are missing"
    [ -z "$(git -C "$mnt/repo" status --porcelain)" ] || fail "the repository of the main line has changed"
    git -C "$mnt/repo" fsck --no-progress > /dev/null 2>&1 || fail "git fsck"
    say "a git repository in 50 clones at once" "$begin"
else
    echo "SKIPPED: git is not installed"
fi

# postgres DIR PORT VERB: a server on that data, as a user that is not root.
postgres() {
    $as "$pg/pg_ctl" -D "$1" -l "$place/pg/log$2" -w -o "-p $2 -k $place/pg -c listen_addresses=''" "$3" > "$place/pg/out" 2>&1 || {
        cat "$place/pg/out" "$place/pg/log$2"
        fail "PostgreSQL does not $3 at $1"
    }
}

sql() { # PORT STATEMENT
    $as "$pg/psql" -h "$place/pg" -p "$1" -U postgres -qAtc "$2" postgres
}

pg=$(find /usr/lib/postgresql/*/bin -maxdepth 0 2> /dev/null | sort -V | tail -1)
as=
[ "$(id -u)" != 0 ] || as='setpriv --reuid 65534 --regid 65534 --clear-groups'
if [ -n "$pg" ] && [ -x "$pg/initdb" ]; then
    begin=$(now_ms)
    stop
    start -o allow_other
    mkdir "$place/pg" "$mnt/pg"
    [ -z "$as" ] || chown 65534:65534 "$place/pg" "$mnt/pg"
    $as "$pg/initdb" -D "$mnt/pg/data" -U postgres -A trust > /dev/null 2>&1 || fail initdb
    server="$as $pg/pg_ctl -D $mnt/pg/data"
    postgres "$mnt/pg/data" 5701 start
    sql 5701 'create table t (n bigserial primary key, at timestamptz default now())'
    : > "$place/going"
    (
        while [ -e "$place/going" ]; do
            sql 5701 'insert into t default values'
        done
    ) &
    for round in 1 2 3; do
        sleep 1
        before=$(sql 5701 'select count(*) from t')
        at=$(clone "pg$round")
        rm -f "$at/pg/data/postmaster.pid"
        postgres "$at/pg/data" $((5701 + round)) start
        found=$(sql $((5701 + round)) 'select count(*) from t')
        [ "$found" -ge "$before" ] || fail "the clone of a running server has $found of $before rows"
        sql $((5701 + round)) 'delete from t; insert into t default values'
        sql $((5701 + round)) 'vacuum full t'
        [ "$(sql $((5701 + round)) 'select count(*) from t')" = 1 ] || fail "PostgreSQL in a clone"
        postgres "$at/pg/data" $((5701 + round)) stop
    done
    calm
    [ "$(sql 5701 'select count(*) from t')" -ge "$before" ] || fail "the server of the main line has lost rows"
    postgres "$mnt/pg/data" 5701 stop
    server=
    say "PostgreSQL on clones of a running server" "$begin"
else
    echo "SKIPPED: PostgreSQL is not installed"
fi

stop
"$program" check --data "$place/store" > "$place/check" || {
    cat "$place/check"
    fail "the store is not sound"
}
echo "ok: clones"
