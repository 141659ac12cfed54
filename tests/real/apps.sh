#!/bin/bash
# The ready-made hooks with the servers that they are for: a server with its data on a mount and under load, a snapshot with
# its hook, a second server on a clone of that. What must hold in every transaction holds, every commit that was answered
# before is there, and the snapshot says that applications took part.
#
#   apps.sh [NAME...]                 of: postgresql mariadb sqlite (default: all)
#   WORK=DIR                          where the store goes (default: a new directory in $TMPDIR); KEEP=1 leaves it
#
# A server that is not installed is told with SKIPPED.
set -euo pipefail
. "$(dirname "$0")/lib.sh"

[ $# -gt 0 ] || set -- postgresql mariadb sqlite
hooks=$(realpath "$(dirname "$0")/../../mount-helpers/hooks")
place=$(mktemp -d "${WORK:-${TMPDIR:-/tmp}}/snapfs-apps.XXXXXX")
mnt=$place/mnt
# Servers run as somebody without rights, who has to find his way to them.
chmod 755 "$place"
trap 'ended=$?; rm -f "$place/going"; end_all; wait; tidy' EXIT
trap 'exit 130' INT TERM
export LC_ALL=C
root=
[ "$(id -u)" != 0 ] || root=1

# What a section started and must not outlive this script.
pg_dirs=()
servers=()
end_all() {
    for dir in "${pg_dirs[@]}"; do as_server "$pg/pg_ctl" -D "$dir" -m immediate stop >/dev/null 2>&1 || true; done
    for server in "${servers[@]}"; do kill "$server" 2>/dev/null && wait "$server" 2>/dev/null || true; done
    pg_dirs=() servers=()
}

as_server() {
    if [ $root ]; then
        (cd / && exec setpriv --reuid=65534 --regid=65534 --clear-groups "$@")
    else
        "$@"
    fi
}

# quiet COMMAND...: what it says is shown only if it fails.
quiet() {
    "$@" >"$place/out" 2>&1 || { tail -30 "$place/out" && fail "$*"; }
}

# until_it WHAT COMMAND...: tries for half a minute.
until_it() {
    local what=$1 end=$(($(date +%s) + 30))
    shift
    until "$@" >"$place/out" 2>&1; do
        [ "$(date +%s)" -lt "$end" ] || { tail "$place/out" && fail "$what"; }
        sleep 0.1
    done
}

# snapshot NAME HOOK [ARGUMENTS]: with its hook, and a clone of it.
snapshot() {
    "$program" create "$mnt" "$1" --pre "'$hooks/$2' pre ${3-}" --post "'$hooks/$2' post" || fail "$2: the snapshot"
    "$program" show "$mnt" "$1" | grep -q '^consistency: application$' || fail "$2: $("$program" show "$mnt" "$1")"
    "$program" clone "$mnt" "$1" --from "$1"
    echo "$2: $("$program" show "$mnt" "$1" | grep '^pause')"
}

# The same by a schedule: the daemon runs the hook, as a file of the host says. Its snapshot gets a clone of this name.
scheduled() { # NAME HOOK [ARGUMENTS [ENVIRONMENT]]
    local file=$SNAPFS_HOOKS_DIR/$1.toml name
    printf 'mount = "%s"\nschedule = "%s"\npre = """%s"""\npost = """%s"""\n' "$mnt" "$1" \
        "${4-} '$hooks/$2' pre ${3-}" "${4-} '$hooks/$2' post" >"$file"
    "$program" schedule "$mnt" --name "$1" every=1d keep=2d always timer=off >/dev/null
    name=$("$program" schedule "$mnt" --name "$1" --run | sed -n "s/^taken \([^ ]*\) .*/\1/p")
    [ "$name" ] || fail "$2: no snapshot of the schedule: $("$program" schedule "$mnt" --json)"
    "$program" show "$mnt" "$name" | grep -q '^consistency: application$' || fail "$2: $("$program" status "$mnt")"
    "$program" clone "$mnt" "$1" --from "$name"
    rm "$file"
}

# What it costs when the hook cannot do its work: no snapshot.
refuses() { # NAME HOOK [ARGUMENTS]
    ! "$program" create "$mnt" "$1" --pre "'$hooks/$2' pre ${3-}" --post "'$hooks/$2' post" 2>"$place/out" ||
        fail "$2: a snapshot though it failed"
    grep -q 'was not made' "$place/out" || fail "$2: $(cat "$place/out")"
    [ ! -e "$mnt/.snapshots/$1" ] || fail "$2: there is a snapshot"
}

an_postgresql() {
    pg=$(find /usr/lib/postgresql/*/bin /usr/bin -maxdepth 1 -name initdb -printf '%h\n' 2>/dev/null | head -1)
    [ "$pg" ] || { echo "SKIPPED: PostgreSQL is not installed (package postgresql)" && return 0; }
    # The way to a unix socket must be short.
    local sock=$place/s client
    mkdir "$mnt/pg" "$sock"
    [ ! $root ] || chown 65534:65534 "$mnt/pg" "$sock"
    chmod 755 "$sock"
    pg_start() { # DIR PORT
        pg_dirs+=("$1")
        quiet as_server "$pg/pg_ctl" -D "$1" -w -t 60 -l "$sock/log$2" -o "-k $sock -p $2 -c listen_addresses=" start
    }
    sql() { # PORT TEXT
        as_server "$pg/psql" -X -q -t -A -h "$sock" -p "$1" -U tester -d postgres -c "$2"
    }
    quiet as_server "$pg/initdb" -U tester -A trust -E UTF8 --locale=C --no-sync -D "$mnt/pg"
    pg_start "$mnt/pg" 5001
    quiet as_server "$pg/pgbench" -h "$sock" -p 5001 -U tester -q -i -s 1 postgres
    as_server "$pg/pgbench" -h "$sock" -p 5001 -U tester -n -c 4 -j 2 -T 4 postgres >"$place/pgbench" 2>&1 &
    client=$!
    sleep 1
    export PSQL=$pg/psql PGHOST=$sock PGPORT=5001 PGUSER=tester
    local before lsn rows redo name port=5001
    before=$(sql 5001 'SELECT count(*) FROM pgbench_history')
    lsn=$(sql 5001 'SELECT pg_current_wal_lsn()')
    snapshot pg postgresql
    scheduled pg-scheduled postgresql "" "PSQL='$PSQL' PGHOST='$PGHOST' PGPORT=$PGPORT PGUSER=$PGUSER"
    # What is elsewhere is not of the same moment.
    mkdir "$place/elsewhere"
    [ ! $root ] || chown 65534:65534 "$place/elsewhere"
    sql 5001 "CREATE TABLESPACE elsewhere LOCATION '$place/elsewhere'"
    refuses pg-elsewhere postgresql
    grep -q 'elsewhere is not in' "$place/out" || fail "postgresql: $(cat "$place/out")"
    wait $client || { cat "$place/pgbench" && fail "pgbench"; }
    for name in pg pg-scheduled; do
        local copy=$mnt/.clones/$name/pg
        port=$((port + 1))
        rm "$copy/postmaster.pid"
        redo=$(as_server "$pg/pg_controldata" -D "$copy" | sed -n "s/^Latest checkpoint's REDO location: *//p")
        [ "$(sql 5001 "SELECT '$redo'::pg_lsn >= '$lsn'::pg_lsn")" = t ] || fail "$name: no checkpoint since $lsn, but $redo"
        pg_start "$copy" "$port"
        rows=$(sql "$port" 'SELECT count(*) FROM pgbench_history')
        [ "$rows" -ge "$before" ] || fail "$name: $rows transactions of $before"
        [ "$(sql "$port" 'SELECT (SELECT sum(abalance) FROM pgbench_accounts) = (SELECT sum(delta) FROM pgbench_history)
            AND (SELECT sum(tbalance) FROM pgbench_tellers) = (SELECT sum(bbalance) FROM pgbench_branches)
            AND (SELECT sum(bbalance) FROM pgbench_branches) = (SELECT sum(delta) FROM pgbench_history)')" = t ] ||
            fail "$name: the sums are not equal"
        echo "postgresql, $name: $rows transactions in the snapshot, $before before it"
    done
    for dir in "${pg_dirs[@]}"; do quiet as_server "$pg/pg_ctl" -D "$dir" -m fast -w stop; done
    pg_dirs=()
}

an_mariadb() {
    local server install
    server=$(PATH=$PATH:/usr/sbin command -v mariadbd) && install=$(command -v mariadb-install-db) ||
        { echo "SKIPPED: MariaDB is not installed (package mariadb-server)" && return 0; }
    local data=$mnt/db sock=$place/m before rows name
    mkdir "$data" "$sock"
    [ ! $root ] || chown 65534:65534 "$data" "$sock"
    chmod 755 "$sock"
    quiet as_server "$install" --no-defaults --datadir="$data" --auth-root-authentication-method=normal --skip-test-db
    serve() { # DATA NAME
        (cd / && exec ${root:+setpriv --reuid=65534 --regid=65534 --clear-groups} "$server" --no-defaults --datadir="$1" --socket="$sock/$2" --pid-file="$sock/$2.pid" --skip-networking \
            --innodb-buffer-pool-size=32M --innodb-log-file-size=16M --key-buffer-size=8M --log-error="$sock/$2.log" 2>>"$sock/$2.said") &
        servers+=($!)
        until_it "mariadb: $(tail -3 "$sock/$2.log" 2>/dev/null)" query "$2" 'SELECT 1'
    }
    query() { # NAME TEXT
        mariadb --no-defaults --socket="$sock/$1" --user=root --batch --skip-column-names -e "$2"
    }
    serve "$data" live
    query live "CREATE DATABASE bank; USE bank;
        CREATE TABLE account (id INT PRIMARY KEY, balance INT NOT NULL) ENGINE=InnoDB;
        CREATE TABLE done (id INT AUTO_INCREMENT PRIMARY KEY) ENGINE=InnoDB;
        CREATE TABLE note (id INT AUTO_INCREMENT PRIMARY KEY, text VARCHAR(100), KEY (text)) ENGINE=MyISAM;
        INSERT INTO account SELECT seq, 1000 FROM seq_1_to_100"
    # Money goes from one to another in each transaction; notes are taken beside.
    touch "$place/going"
    while [ -e "$place/going" ]; do
        echo "START TRANSACTION; UPDATE account SET balance = balance - 1 WHERE id = $((1 + RANDOM % 100));
            UPDATE account SET balance = balance + 1 WHERE id = $((1 + RANDOM % 100)); INSERT INTO done VALUES (); COMMIT;
            INSERT INTO note (text) VALUES (MD5(RAND())), (MD5(RAND())), (MD5(RAND()));"
    done | mariadb --no-defaults --socket="$sock/live" --user=root bank >"$place/load" 2>&1 &
    servers+=($!)
    has_more() { [ "$(query live 'SELECT COUNT(*) FROM bank.done')" -gt "$1" ]; }
    until_it "mariadb: load" has_more 20
    before=$(query live 'SELECT COUNT(*) FROM bank.done')
    export MARIADB=mariadb MARIADB_OPTIONS="--no-defaults --socket=$sock/live --user=root"
    snapshot db mariadb
    scheduled db-scheduled mariadb "" "MARIADB_OPTIONS='$MARIADB_OPTIONS'"
    MARIADB_OPTIONS="--no-defaults --socket=$sock/nobody --user=root" refuses db-refused mariadb
    # It goes on, which it would not with the session still there.
    until_it "mariadb: it does not go on" has_more "$(query live 'SELECT COUNT(*) FROM bank.done')"
    rm "$place/going"
    for name in db db-scheduled; do
        serve "$mnt/.clones/$name/db" "$name"
        rows=$(query "$name" 'SELECT COUNT(*) FROM bank.done')
        [ "$rows" -ge "$before" ] || fail "mariadb: $name: $rows transactions of $before"
        [ "$(query "$name" 'SELECT SUM(balance) FROM bank.account')" = 100000 ] || fail "mariadb: $name: money came or went"
        # The table that no log guards was closed: one that was not says so.
        [ "$(query "$name" 'CHECK TABLE bank.note FAST')" = "$(printf 'bank.note\tcheck\tstatus\tTable is already up to date')" ] ||
            fail "mariadb: $name: $(query "$name" 'CHECK TABLE bank.note FAST')"
        [ "$(query "$name" 'CHECK TABLE bank.note EXTENDED' | tail -1)" = "$(printf 'bank.note\tcheck\tstatus\tOK')" ] ||
            fail "mariadb: $name: $(query "$name" 'CHECK TABLE bank.note EXTENDED')"
        echo "mariadb, $name: $rows transactions in the snapshot, $before before it"
    done
    for name in live db db-scheduled; do query $name SHUTDOWN; done
    wait "${servers[@]}" || true
    servers=()
}

an_sqlite() {
    command -v sqlite3 >/dev/null || { echo "SKIPPED: sqlite3 is not installed (package sqlite3)" && return 0; }
    local journal db before rows client name
    has_more() { [ "$(sqlite3 -cmd '.timeout 20000' "$db" 'SELECT COUNT(*) FROM done')" -gt "$1" ]; }
    for journal in delete wal; do
        db=$mnt/$journal.db
        sqlite3 "$db" "PRAGMA journal_mode=$journal; CREATE TABLE account (id INTEGER PRIMARY KEY, balance);
            CREATE TABLE done (id INTEGER PRIMARY KEY);
            WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 100) INSERT INTO account SELECT i, 1000 FROM n" >/dev/null
        touch "$place/going"
        { echo ".timeout 20000" && while [ -e "$place/going" ]; do
            echo "BEGIN IMMEDIATE; UPDATE account SET balance = balance - 1 WHERE id = $((1 + RANDOM % 100));
                UPDATE account SET balance = balance + 1 WHERE id = $((1 + RANDOM % 100)); INSERT INTO done DEFAULT VALUES; COMMIT;"
            sleep 0.01
        done; } | sqlite3 -batch -bail "$db" >"$place/load" 2>&1 &
        client=$!
        servers+=("$client")
        until_it "sqlite: load" has_more 20
        before=$(sqlite3 -cmd '.timeout 20000' "$db" 'SELECT COUNT(*) FROM done')
        snapshot "sqlite-$journal" sqlite "'$db'"
        scheduled "scheduled-$journal" sqlite "'$db'"
        refuses "sqlite-refused-$journal" sqlite "'$db' '$mnt/none.db'"
        rm "$place/going"
        wait "$client" || fail "sqlite: $(cat "$place/load")"
        servers=()
        for name in "sqlite-$journal" "scheduled-$journal"; do
            [ ! -e "$mnt/.clones/$name/$journal.db-journal" ] || fail "sqlite: a transaction was under way"
            db=$mnt/.clones/$name/$journal.db
            [ "$(sqlite3 "$db" 'PRAGMA integrity_check')" = ok ] || fail "sqlite: $journal: integrity"
            [ "$(sqlite3 "$db" 'SELECT SUM(balance) FROM account')" = 100000 ] || fail "sqlite: $journal: money came or went"
            rows=$(sqlite3 "$db" 'SELECT COUNT(*) FROM done')
            [ "$rows" -ge "$before" ] || fail "sqlite: $rows transactions of $before"
        done
        echo "sqlite, $journal: $rows transactions in the snapshot, $before before it"
    done
}

export SNAPFS_HOOKS_DIR=$place/hooks.d
mkdir -m 755 "$SNAPFS_HOOKS_DIR"
umask 022
start -o allow_other
for name in "$@"; do
    begin=$(now_ms)
    "an_$name"
    echo "ok: $name with its hook, $((($(now_ms) - begin) / 1000)) s"
done
end_all
stop
"$program" check "$place/store" --data >"$place/out" || { cat "$place/out" && fail "check"; }
