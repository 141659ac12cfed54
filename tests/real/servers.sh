#!/bin/bash
# Servers and containers over a mount: Samba with Previous Versions, NFS servers and clients, containers, and what walks
# through all of the past or stands in it while it goes.
#
#   servers.sh [PART...]              of: samba nfs kernel_nfs containers podman loops (default: all)
#   SMALL=1 servers.sh                fewer rounds, for the test command
#   WORK=DIR                          where the store goes (default: a new directory in $TMPDIR); KEEP=1 leaves it
#
# As root all of it runs in namespaces of its own, with no network but its own loopback: no port of the host is taken, no
# service of the system is touched, and what was started ends with the script. A program that is not installed, or a right
# that is not there, is told with SKIPPED.
set -euo pipefail

root=
[ "$(id -u)" != 0 ] || root=1
if [ $root ] && [ -z "${SERVERS_APART-}" ]; then
    export SERVERS_APART=1
    if unshare -n -m -p --fork --mount-proc --propagation private true 2>/dev/null; then
        exec unshare -n -m -p --fork --kill-child --mount-proc --propagation private "$0" "$@"
    fi
    SERVERS_APART=no
fi
. "$(dirname "$0")/lib.sh"

[ $# -gt 0 ] || set -- samba nfs kernel_nfs containers podman loops
place=$(mktemp -d "${WORK:-${TMPDIR:-/tmp}}/snapfs-servers.XXXXXX")
mnt=$place/mnt
trap 'ended=$?; end_all; tidy' EXIT
trap 'exit 130' INT TERM
export LC_ALL=C TZ=UTC
rounds=${SMALL:+1}
rounds=${rounds:-4}

# What a part started and must not outlive this script.
started=()
end_all() {
    local pid
    for pid in "${started[@]}"; do
        kill "$pid" 2>/dev/null || true
        wait "$pid" 2>/dev/null || true
    done
    started=()
}

# here PROGRAM PACKAGE...: whether it is installed.
here() {
    command -v "$1" >/dev/null 2>&1 || { echo "SKIPPED: $1 is not installed: apt-get install ${*:2}" && return 1; }
}

# apart: whether there is a network of its own.
apart() {
    [ $root ] || { echo "SKIPPED: no root, no network of its own for servers" && return 1; }
    [ "$SERVERS_APART" = 1 ] || { echo "SKIPPED: no right to namespaces of its own" && return 1; }
    ip link set lo up
}

# until_so SECONDS WHAT COMMAND...: waits until it succeeds.
until_so() {
    local end=$(($(date +%s) + $1)) what=$2
    shift 2
    until "$@" >/dev/null 2>&1; do
        [ "$(date +%s)" -lt "$end" ] || fail "waited too long for $what: $(tail -5 "$place"/*.log 2>/dev/null)"
        sleep 0.05
    done
}

# is WHAT WANTED GOT: the same text.
is() {
    [ "$2" = "$3" ] || fail "$1: wanted '$2', got '$3'"
}

# has TEXT PATTERN...: each is a line of it, or part of one.
has() {
    local text=$1 pattern
    for pattern in "${@:2}"; do grep -q -- "$pattern" <<<"$text" || fail "no '$pattern' in: $text"; done
}

# --- Samba ---

# smb SHARE COMMANDS: what smbclient says of them.
smb() {
    smbclient -N -p 4455 -s "$place/smb.conf" "//127.0.0.1/$1" -c "$2" 2>&1
}

# shown SHARE PATH: the names of its previous versions that can be opened there, the oldest first.
shown() {
    smb "$1" "allinfo $2" | awk '/^@GMT-/ { name = $0 } /^size: / && name { print name; name = "" }' | sort
}

# taken: has what is due be taken, and prints its name.
taken() {
    "$program" schedule "$1" --run | sed -n 's/^taken \([^ ]*\) .*/\1/p'
}

a_samba() {
    here smbd samba samba-vfs-modules && here smbclient smbclient && apart || return 0
    local dir share first second third n round pids=() d=$place/samba
    for dir in private lock state cache pid ncalrpc log; do mkdir -p "$d/$dir"; done
    cat >"$place/smb.conf" <<END
[global]
  server role = standalone server
  smb ports = 4455
  disable netbios = yes
  private dir = $d/private
  lock directory = $d/lock
  state directory = $d/state
  cache directory = $d/cache
  pid directory = $d/pid
  ncalrpc dir = $d/ncalrpc
  log file = $place/smbd.log
  map to guest = Bad User
  guest account = $(id -un)
  guest ok = yes
  read only = no
  load printers = no
  printing = bsd
  printcap name = /dev/null
  disable spoolss = yes
  rpc start on demand helpers = no
  vfs objects = acl_xattr streams_xattr shadow_copy2
# The lines that docs and mount-helpers name.
[plain]
  path = $mnt/share
[every]
  path = $mnt/share
  shadow:snapdirseverywhere = yes
[root]
  path = $mnt
  shadow:snapdirseverywhere = yes
[named]
  path = $mnt/share
  shadow:snapdirseverywhere = yes
  shadow:snapprefix = .*
  shadow:delimiter = -20
  shadow:format = -%Y.%m.%d-%H.%M.%S
[clone]
  path = $mnt/.clones/try/share
  shadow:snapdirseverywhere = yes
END
    mkdir -p "$mnt/share/docs/deep" "$mnt/share/lost/below"
    echo one >"$mnt/share/docs/report"
    echo gone >"$mnt/share/gone"
    echo below >"$mnt/share/lost/below/file"
    "$program" schedule "$mnt" --name a every=1h keep=all timer=off >/dev/null
    first=$(taken "$mnt")
    echo two >"$mnt/share/docs/report"
    rm -r "$mnt/share/gone" "$mnt/share/lost"
    "$program" schedule "$mnt" --name b every=1h keep=all timer=off >/dev/null
    second=$(taken "$mnt")
    echo three >"$mnt/share/docs/report"
    mkdir "$mnt/.snapshots/monday" "$mnt/.snapshots/release-2026.01.31-10.00.00"
    mkdir "$mnt/.clones/try"
    echo tried >"$mnt/.clones/try/share/docs/report"
    "$program" schedule "$mnt/.clones/try" every=1h keep=all timer=off >/dev/null
    third=$(taken "$mnt/.clones/try")
    echo later >"$mnt/.clones/try/share/docs/report"

    smbd -F -s "$place/smb.conf" >"$place/smbd.out" 2>&1 &
    started+=($!)
    until_so 20 smbd smb plain ls

    # Each share shows what the schedule has taken, of files and directories, below any directory that is shared.
    for share in plain every root named; do
        dir=$([ $share != root ] || echo 'share\')
        n=$(printf '%s\n' "$first" "$second")
        [ $share != named ] || n=$(printf '%s\n' @GMT-2026.01.31-10.00.00 "$first" "$second")
        is "versions of a file in $share" "$n" "$(shown $share "${dir}docs\\report")"
        is "versions of a directory in $share" "$n" "$(shown $share "${dir}docs")"
        is "a file of then in $share" "one two three" "$(for way in "$first\\" "$second\\" ''; do
            smb $share "get $way${dir}docs\\report $place/got" >/dev/null
            cat "$place/got"
        done | paste -sd ' ')"
        has "$(smb $share "ls $first\\${dir}*")" ' gone ' ' lost ' ' docs '
        has "$(smb $share "ls $first\\${dir}lost\\*")" ' below '
        smb $share "get $first\\${dir}gone $place/got" >/dev/null
        is "a deleted file in $share" gone "$(cat "$place/got")"
    done
    smb named 'get @GMT-2026.01.31-10.00.00\docs\report '"$place/got" >/dev/null
    is "of a snapshot that a user has named" three "$(cat "$place/got")"
    has "$(smb plain 'ls')" ' docs '
    ! smb plain ls | grep -q snapshots || fail "a client sees .snapshots: $(smb plain ls)"

    # A clone shows its own past, and what it has from the main line.
    is "versions in a clone" "$(printf '%s\n' "$first" "$second" "$third")" "$(shown clone 'docs\report')"
    smb clone "get $third\\docs\\report $place/got" >/dev/null
    is "a file of then in a clone" tried "$(cat "$place/got")"

    # A directory that was renamed keeps its versions: they are in its own .snapshots.
    smb every 'rename docs papers' >/dev/null
    is "versions after a rename" "$(printf '%s\n' "$first" "$second")" "$(shown every 'papers\report')"
    smb every "get $first\\papers\\report $place/got" >/dev/null
    is "a file of then after a rename" one "$(cat "$place/got")"
    # Restored by the server itself; the past cannot be written.
    smb every "scopy $first\\papers\\report papers\\restored" >/dev/null
    is "restored" one "$(cat "$mnt/share/papers/restored")"
    has "$(smb every "del $first\\papers\\report" || true)" NT_STATUS_
    has "$(smb every "put $place/got $first\\papers\\new" || true)" NT_STATUS_
    is "the past" one "$(cat "$mnt/.snapshots/$first/share/docs/report")"

    # Streams, attributes of DOS and access lists are attributes of the file, then as now.
    echo stream >"$place/stream"
    smb every "put $place/stream with; put $place/stream with:extra; setmode with +h" >/dev/null
    mkdir "$mnt/.snapshots/streams-2026.02.01-10.00.00"
    smb every 'setmode with -h; del with' >/dev/null
    smb named "get @GMT-2026.02.01-10.00.00\\with:extra $place/got" >/dev/null
    is "a stream of then" stream "$(cat "$place/got")"
    has "$(smb named 'allinfo @GMT-2026.02.01-10.00.00\with')" 'attributes:.*H' ':extra:'

    # Clients at once, each with files of its own and all with one.
    for n in 1 2 3 4; do
        (
            for round in $(seq $((rounds * 4))); do
                printf '%s\n' "put $place/stream new-$n-$round" "rename new-$n-$round kept-$n-$round" \
                    "put $place/stream all" "del all"
            done >"$place/commands-$n"
            smbclient -N -p 4455 -s "$place/smb.conf" //127.0.0.1/every <"$place/commands-$n" >"$place/client-$n" 2>&1
        ) &
        pids+=($!)
    done
    for n in "${pids[@]}"; do wait "$n" || fail "a client of many"; done
    is "files of many clients" $((rounds * 16)) "$(find "$mnt/share" -name 'kept-*' -size 7c | wc -l)"
    end_all
    "$program" schedule "$mnt" --remove --name a >/dev/null
    "$program" schedule "$mnt" --remove --name b >/dev/null
    "$program" drop "$mnt" try
    rm -r "$mnt/share"
    "$program" delete "$mnt" '@GMT-*' '*' >/dev/null
}

# --- NFS, by a server in user space ---

# A client that has two files open while the server and the file system go and come back. It says what it reads.
held_open_client() {
    cat >"$place/held.c" <<'END'
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <nfsc/libnfs.h>

int main(int count, char **args) {
    struct nfs_context *nfs = nfs_init_context();
    struct nfs_url *url = nfs_parse_url_dir(nfs, args[1]);
    if (!url || nfs_mount(nfs, url->server, url->path)) return fprintf(stderr, "%s\n", nfs_get_error(nfs)), 1;
    struct nfsfh *file[16];
    for (int n = 2; n < count; n++)
        if (nfs_open(nfs, args[n], O_RDONLY, &file[n])) return fprintf(stderr, "%s\n", nfs_get_error(nfs)), 1;
    puts("open");
    fflush(stdout);
    getchar();
    for (int n = 2; n < count; n++) {
        char text[64] = "";
        struct nfs_stat_64 about;
        int got = nfs_fstat64(nfs, file[n], &about);
        if (!got) got = nfs_pread(nfs, file[n], 0, 63, text);
        if (got < 0) printf("%s\n", strstr(nfs_get_error(nfs), "NFS3ERR_STALE") ? "stale" : nfs_get_error(nfs));
        else printf("%.*s", got, text);
    }
    return 0;
}
END
    cc -o "$place/held" "$place/held.c" -lnfs
}

# The server of an NFS export, until end_all.
start_ganesha() {
    mkdir -p "$place/ganesha"
    cat >"$place/ganesha/conf" <<END
NFS_CORE_PARAM { Protocols = 3, 4; NFS_Port = 20490; MNT_Port = 20491; Enable_NLM = false; Enable_RQUOTA = false; }
NFSV4 { Graceless = true; Only_Numeric_Owners = true; RecoveryRoot = $place/ganesha; }
EXPORT_DEFAULTS { Access_Type = RW; Squash = No_Root_Squash; SecType = sys; }
EXPORT { Export_Id = 7; Path = $mnt; Pseudo = /data; Filesystem_Id = 7.7; FSAL { Name = VFS; } }
END
    rm -f "$place/ganesha.log"
    ganesha.nfsd -F -f "$place/ganesha/conf" -L "$place/ganesha.log" -p "$place/ganesha/pid" >"$place/ganesha/out" 2>&1 &
    started+=($!)
    until_so 30 ganesha.nfsd grep -q 'NFS SERVER INITIALIZED' "$place/ganesha.log"
}

a_nfs() {
    here ganesha.nfsd nfs-ganesha nfs-ganesha-vfs && here nfs-ls libnfs-utils && here rpcbind rpcbind && apart || return 0
    local v n url pid
    mount -t tmpfs none /run # for the sockets of rpcbind
    rpcbind -f >"$place/rpcbind.log" 2>&1 &
    started+=($!)
    until_so 10 rpcbind rpcinfo -p 127.0.0.1
    mkdir -p "$mnt/d/e" "$mnt/many"
    echo one >"$mnt/d/e/f"
    mkdir "$mnt/.snapshots/s"
    echo two >"$mnt/d/e/f"
    mkdir "$mnt/.clones/c"
    start_ganesha
    for v in 3 4; do
        url=$([ $v = 3 ] && echo "nfs://127.0.0.1$mnt" || echo "nfs://127.0.0.1/data")
        opt="?version=$v&nfsport=20490"
        # What is written comes back, here and there, and the past is where it always is.
        echo "by $v" >"$place/file"
        nfs-cp "$place/file" "$url/new-$v$opt" >/dev/null
        is "written by NFS $v" "by $v" "$(cat "$mnt/new-$v")"
        is "read by NFS $v" two "$(nfs-cat "$url/d/e/f$opt")"
        is "the past by NFS $v" one "$(nfs-cat "$url/.snapshots/s/d/e/f$opt")"
        is "the past of a directory by NFS $v" one "$(nfs-cat "$url/d/.snapshots/s/e/f$opt")"
        is "a clone by NFS $v" two "$(nfs-cat "$url/.clones/c/d/e/f$opt")"
        has "$(nfs-ls "$url/.snapshots$opt")" ' s$'
        ! nfs-ls "$url/$opt" | grep -q snapshots || fail "NFS $v lists .snapshots"
        ! nfs-cp "$place/file" "$url/.snapshots/s/new$opt" >/dev/null 2>&1 || fail "the past was written by NFS $v"
        # Whatever comes and goes while a directory is listed, what stays is listed once.
        (
            mkdir -p "$mnt/many"
            seq -f "$mnt/many/stays-%g" 600 | xargs touch
            touch "$place/going"
            while [ -e "$place/going" ]; do
                seq -f "$mnt/many/goes-%g" 300 | xargs touch
                seq -f "$mnt/many/goes-%g" 300 | xargs rm
            done
        ) &
        pid=$!
        until_so 20 "many files" test -e "$place/going"
        for n in $(seq $((rounds * 5))); do
            nfs-ls "$url/many$opt" >"$place/listing" 2>&1 || fail "nfs-ls by NFS $v: $(grep -vE '^[-d]' "$place/listing")"
            awk '{ print $NF }' "$place/listing" | sort >"$place/listed"
            is "listed twice by NFS $v" "" "$(uniq -d "$place/listed")"
            is "listed by NFS $v" 600 "$(grep -c stays- "$place/listed")"
        done
        rm "$place/going"
        wait $pid
        rm -r "$mnt/many"
    done
    # Handles of files outlive the server and the file system below it, and lead to no other file.
    if ! command -v cc >/dev/null || [ ! -e /usr/include/nfsc/libnfs.h ]; then
        echo "SKIPPED: no headers of libnfs: apt-get install build-essential libnfs-dev"
    else
        held_open_client
        echo keep >"$mnt/keep"
        echo gone >"$mnt/gone"
        mkfifo "$place/go"
        "$place/held" "nfs://127.0.0.1$mnt?version=3&nfsport=20490" /keep /gone /.snapshots/s/d/e/f /d/.snapshots/s/e/f \
            <"$place/go" >"$place/held.out" 2>&1 &
        pid=$!
        exec 9>"$place/go"
        until_so 20 "the client" grep -q open "$place/held.out"
        kill "${started[1]}"
        wait "${started[1]}" || true
        stop
        start -o "dev,suid,allow_other"
        rm "$mnt/gone"
        for n in $(seq 20); do echo another >"$mnt/another-$n"; done
        unset 'started[1]'
        start_ganesha
        echo >&9
        exec 9>&-
        wait $pid || fail "the client: $(cat "$place/held.out")"
        is "what is read after a restart" "open keep stale one one" "$(paste -sd ' ' "$place/held.out")"
        rm "$mnt"/another-* "$mnt/keep"
    fi
    end_all
    umount /run
    "$program" drop "$mnt" c
    rmdir "$mnt/.snapshots/s"
    rm -r "$mnt/d" "$mnt"/new-*
}

chmod 755 "$place" # the users of some programs must get through
start -o "dev,suid${root:+,allow_other}"
for name in "$@"; do
    begin=$(now_ms)
    declare -F "a_$name" >/dev/null || fail "$name: none of samba nfs kernel_nfs containers podman loops"
    "a_$name" >"$place/said"
    say "$name" "$begin" "$(grep -v ^SKIPPED "$place/said" | paste -sd ';' || true)"
    grep ^SKIPPED "$place/said" || echo "ok: servers, $name"
done
stop
"$program" check "$place/store" --data >"$place/out" 2>&1 || fail "check: $(cat "$place/out")"
if grep -E 'ERROR|WARN|panic' "$place/log"; then fail "the daemon complained"; fi
echo "ok: servers and containers leave the store sound"
