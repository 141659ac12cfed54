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
    [ $root ] || { echo "SKIPPED: no root, no namespaces of its own" && return 1; }
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
[bound]
  path = $place/bound
  shadow:snapdirseverywhere = yes
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

    mkdir "$place/bound"
    mount --bind "$mnt/share" "$place/bound"
    smbd -F -s "$place/smb.conf" >"$place/smbd.out" 2>&1 &
    started+=($!)
    until_so 20 smbd smb plain ls

    # Each share shows what the schedule has taken, of files and directories, below any directory that is shared.
    for share in plain every root bound named; do
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
    umount "$place/bound"
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
EXPORT { Export_Id = 7; Path = $mnt; Pseudo = /data; Filesystem_Id = 7.7; FSAL { Name = VFS; fsid_type = Major64; } }
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
            # This server says that there is no such directory when a name in it goes between two looks.
            until nfs-ls "$url/many$opt" >"$place/listing" 2>&1; do
                has "$(tail -1 "$place/listing")" 'READDIR.*ERR_NOENT'
            done
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
        mount -t tmpfs none "$place/ganesha" # takes the number that the device had
        start -o "dev,suid,allow_other"
        umount "$place/ganesha"
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

# --- NFS, by the kernel's server and client ---

# Few kernels that tests run on have both, and they belong to the whole machine: a kernel of its own, in a process, that sees
# the files here and changes none. What it says in the end is what was found.
a_kernel_nfs() {
    here linux.uml user-mode-linux && here rpc.nfsd nfs-kernel-server && here mount.nfs nfs-common &&
        here rpcbind rpcbind && here modprobe kmod || return 0
    [ $root ] || { echo "SKIPPED: no root, no file of another's is seen in user-mode Linux" && return 0; }
    local d=$place/uml
    mkdir -p "$d"
    cat >"$d/init" <<'END'
#!/bin/bash
export PATH=/usr/sbin:/usr/bin:/sbin:/bin LC_ALL=C
mount -t proc proc /proc
mount -t sysfs sys /sys
for dir in /mnt /run /var/lib/nfs; do mount -t tmpfs none $dir; done
mount -t devtmpfs dev /dev
mkdir -p /var/lib/nfs/{v4recovery,rpc_pipefs,sm} /mnt/kernel/lib/modules /mnt/run /mnt/store /mnt/data /mnt/nfs
touch /var/lib/nfs/{etab,rmtab,xtab}
ln -s "/usr/lib/uml/modules/$(uname -r)" /mnt/kernel/lib/modules/
for module in fuse nfsd nfsv3 nfsv4 nfs; do modprobe -d /mnt/kernel $module; done
mount -t nfsd nfsd /proc/fs/nfsd
ip link set lo up
[ -e /dev/fuse ] || mknod /dev/fuse c 10 229
chmod 700 /mnt/run
export SNAPFS_RUNTIME_DIR=/mnt/run
echo begun
bash "$(dirname "$0")/inside" 2>&1
echo o >/proc/sysrq-trigger
sleep 10
END
    chmod 755 "$d/init"
    cat >"$d/inside" <<END
program=$program
rounds=1
versions="$([ -n "${SMALL-}" ] || echo 3) 4.2"
END
    cat >>"$d/inside" <<'END'
# Lines are told as words.
is() {
    got=$(echo $3)
    [ "$2" = "$got" ] || echo "FAILED: $1: wanted '$2', got '$got'"
}
forget() { echo 3 >/proc/sys/vm/drop_caches; }
serve() {
    exportfs -o rw,no_root_squash,fsid=$([ $v = 3 ] && echo 7 || echo 0),no_subtree_check,insecure '*:/mnt/data' && rpc.nfsd 4 2>/dev/null
}
cd /mnt
"$program" mount store data || exit
mkdir -p data/d/e data/many
echo one >data/d/e/f
mkdir data/.snapshots/s
echo two >data/d/e/f
mkdir data/.clones/c
rpcbind
rpc.mountd 2>/dev/null
for v in $versions; do
    serve
    at=$([ $v = 3 ] && echo /mnt/data || echo /)
    mount -t nfs -o "vers=$v,nolock,port=2049,rsize=4096" "127.0.0.1:$at" nfs || { echo "FAILED: no mount of NFS $v" && continue; }
    is "NFS $v lists" "d many" "$(ls -A nfs | grep -v '^\.nfs' | paste -sd ' ')"
    is "read by NFS $v" "two one one two" \
        "$(cat nfs/d/e/f nfs/.snapshots/s/d/e/f nfs/d/e/.snapshots/s/f nfs/.clones/c/d/e/f | paste -sd ' ')"
    echo "by $v" >nfs/new
    mkdir "nfs/.snapshots/by-$v"
    is "a snapshot made by NFS $v" "by $v" "$(cat "nfs/.snapshots/by-$v/new")"
    echo x 2>/dev/null >nfs/.snapshots/s/d/new && echo "FAILED: NFS $v writes into the past"
    # Whoever stands in the past goes on when the server has forgotten all of it: it asks by handles.
    cd "nfs/d/.snapshots/by-$v/e"
    exec 5<f
    cd "/mnt/nfs/.snapshots/s/d"
    forget
    is "the past by NFS $v after the server forgot it" "e one" "$(ls -A; cat e/f)"
    cd "/mnt/nfs/d/.snapshots/s/e"
    forget
    is "the past of a directory by NFS $v" "f one s" "$(ls -A; cat f; ls ../.. | grep '^s$')"
    cd /mnt/nfs/.clones/c/d
    forget
    is "a clone by NFS $v" "e two" "$(ls -A; cat e/f)"
    is "an open file of the past by NFS $v" two "$(cat <&5)"
    exec 5<&-
    cd /mnt
    # Whatever comes and goes while it is listed, what stays is listed once.
    for round in $(seq $rounds); do
        for n in $(seq 120); do echo >"data/many/stays-$n"; done
        for n in $(seq 30); do echo >"data/many/goes-$n"; done
        is "listed by NFS $v" "120 of 120" "$(perl -e '
            opendir(my $dir, "nfs/many") or die; my ($n, %seen) = 0;
            while (defined(my $name = readdir $dir)) {
                $seen{$name}++; $n++;
                if ($n % 4 == 0) { unlink "data/many/goes-" . $n / 4; open(my $f, ">", "data/many/comes-$n"); }
            }
            my @stay = grep { /^stays/ } keys %seen;
            print scalar(@stay), " of ", scalar(grep { /^stays/ || $seen{$_} > 1 } keys %seen);')"
        mv nfs/many/stays-1 nfs/many/moved
        is "moved by NFS $v" "1" "$(ls data/many | grep -c moved)"
        rm -r data/many/*
    done
    # The server and the file system go and come back under a client that stands in the past and has files open.
    echo keep >nfs/keep
    echo gone >nfs/gone
    mkdir nfs/dir
    echo in >nfs/dir/in
    exec 6<nfs/keep 7<nfs/gone 8<nfs/.snapshots/s/d/e/f
    cd /mnt/nfs/.snapshots/s/d
    rpc.nfsd 0
    exportfs -ua
    exportfs -f
    "$program" umount /mnt/data || echo "FAILED: umount"
    "$program" mount /mnt/store /mnt/data || echo "FAILED: mount"
    rm /mnt/data/gone
    for n in 1 2 3; do echo another >"/mnt/data/another-$n"; done
    serve
    forget
    is "open files by NFS $v after a restart" "keep one" "$(cat <&6; cat <&8)"
    # The client may still have what it wrote itself.
    is "a deleted file by NFS $v after a restart" "" "$(cat <&7 2>/dev/null | grep -v gone)"
    is "the past by NFS $v after a restart" "e one s" "$(ls -A; cat e/f; ls ../.. | grep '^s$')"
    exec 6<&- 7<&- 8<&-
    cd /mnt
    is "a directory by NFS $v after a restart" in "$(cat nfs/dir/in)"
    # Gone is gone: never another.
    cd "nfs/.snapshots/by-$v/d"
    rmdir "/mnt/data/.snapshots/by-$v"
    mkdir "/mnt/data/.snapshots/by-$v"
    forget
    sleep 0.2
    is "a deleted snapshot by NFS $v" "" "$(ls 2>/dev/null)"
    cd /mnt
    rmdir "data/.snapshots/by-$v"
    rm -rf data/new data/keep data/dir data/another-* data/d/new
    umount -l nfs
    rpc.nfsd 0
    exportfs -ua
    exportfs -f
done
"$program" umount data && "$program" check store --data >/dev/null || echo "FAILED: the store"
echo "in user-mode Linux $(uname -r)"
echo finished
END
    timeout 120 linux.uml mem=768M rootfstype=hostfs rootflags=/ ro "init=$d/init" "uml_dir=$d" con=null con0=fd:0,fd:1 quiet \
        </dev/null >"$d/said" 2>&1 || true
    grep -q '^begun' "$d/said" || { echo "SKIPPED: user-mode Linux does not start here: $(tail -1 "$d/said")" && return 0; }
    ! grep FAILED "$d/said" >&2 || fail "in user-mode Linux"
    grep -q '^finished' "$d/said" || { tail -40 "$d/said" && fail "user-mode Linux did not finish"; }
    grep '^in ' "$d/said"
}

# --- Containers ---

# A tree to run something in, and a directory with a past to give to it.
container_root() {
    local tool
    mkdir -p "$mnt/image/bin" "$mnt/image/etc" "$mnt/image/proc" "$mnt/image/dev" "$mnt/image/tmp" "$mnt/image/data" "$mnt/volume"
    cp "$(command -v busybox)" "$mnt/image/bin/busybox"
    for tool in sh ls cat mkdir mv rm ln touch id chmod; do ln -sf busybox "$mnt/image/bin/$tool"; done
    echo 'root:x:0:0::/:/bin/sh' >"$mnt/image/etc/passwd"
    echo one >"$mnt/volume/file"
    mkdir "$mnt/.snapshots/s"
    echo two >"$mnt/volume/file"
    chmod 777 "$mnt/volume"
}

# What a container does with its volume, and what it says.
in_container='cat /data/file /data/.snapshots/s/file; ls -A /data; echo x > /data/made && mv /data/made /data/moved
    cat /data/moved; rm /data/moved; if echo x 2> /dev/null > /data/.snapshots/s/new; then echo written; fi'
said_in_container="two one file x"

a_containers() {
    here busybox busybox-static || return 0
    container_root
    local said
    if here bwrap bubblewrap; then
        # A volume, in all namespaces of its own; and the root of the container is in the mount too.
        said=$(bwrap --unshare-all --bind "$mnt/image" / --bind "$mnt/volume" /data --proc /proc --dev /dev /bin/sh -c "$in_container") ||
            fail "bwrap"
        is "in a container" "$said_in_container" "$(paste -sd ' ' <<<"$said")"
        # Any other user as well.
        if [ $root ]; then
            said=$(setpriv --reuid=65534 --regid=65534 --clear-groups bwrap --unshare-all --bind "$mnt/image" / \
                --bind "$mnt/volume" /data --proc /proc --dev /dev /bin/sh -c "$in_container" 2>&1) || fail "bwrap of a user: $said"
            is "in a container of a user" "$said_in_container" "$(paste -sd ' ' <<<"$said")"
        fi
        # And in a mount that no other user may use.
        if [ $root ] && apart && here fusermount3 fuse3; then
            # Where the device is root's alone, one that is not, here only.
            mknod -m 666 "$place/fuse" c 10 229
            mount --bind "$place/fuse" /dev/fuse
            mkdir -p "$place/user/run" "$place/user/mnt"
            chown -R 65534:65534 "$place/user"
            said=$(SNAPFS_RUNTIME_DIR=$place/user/run setpriv --reuid=65534 --regid=65534 --clear-groups sh -euc '
                chmod 700 "$2/run"
                "$1" mount "$2/store" "$2/mnt" > /dev/null
                cp -r "$3" "$2/mnt/image"
                mkdir "$2/mnt/volume"
                echo one > "$2/mnt/volume/file"
                mkdir "$2/mnt/.snapshots/s"
                echo two > "$2/mnt/volume/file"
                bwrap --unshare-all --bind "$2/mnt/image" / --bind "$2/mnt/volume" /data --proc /proc --dev /dev /bin/sh -c "$4"
                "$1" umount "$2/mnt"' sh "$program" "$place/user" "$mnt/image" "$in_container" 2>&1) || fail "a user's own: $said"
            is "in a container of a user on his own mount" "$said_in_container" "$(paste -sd ' ' <<<"$said")"
            umount /dev/fuse
        fi
        # A container that is there while snapshots come and go sees them.
        mkfifo "$place/ask" "$place/answer"
        bwrap --unshare-all --bind "$mnt/image" / --bind "$mnt/volume" /data --proc /proc --dev /dev /bin/sh -c \
            'while read -r name; do cat "/data/.snapshots/$name/file" 2>&1 || echo none; done' <"$place/ask" >"$place/answer" 2>/dev/null &
        exec 8>"$place/ask" 9<"$place/answer"
        for said in one three; do
            echo $said >"$mnt/volume/file"
            mkdir "$mnt/.snapshots/again"
            echo again >&8
            read -r got <&9
            is "a snapshot that was made outside" $said "$got"
            rmdir "$mnt/.snapshots/again"
        done
        exec 8>&- 9<&-
        rm "$place/ask" "$place/answer"
        echo two >"$mnt/volume/file"
        wait
    fi
    if [ ! $root ]; then
        echo "SKIPPED: no root, no overlay"
    else
        # The layers of a container in the mount, the one that is written too.
        mkdir -p "$mnt/upper" "$mnt/work" "$place/merged"
        if mount -t overlay overlay -o "lowerdir=$mnt/image,upperdir=$mnt/upper,workdir=$mnt/work" "$place/merged" 2>"$place/out"; then
            chroot "$place/merged" /bin/sh -euc 'echo changed > /etc/passwd; rm /bin/chmod; mv /tmp /tmp2; mkdir /tmp; touch /tmp/new
                echo one > /dev/first; ln /dev/first /dev/second; rm /dev/first; cat /dev/second; ls -A /tmp' >"$place/out" 2>&1 ||
                fail "in a merged root: $(cat "$place/out")"
            is "in a merged root" "one new" "$(paste -sd ' ' "$place/out")"
            rm "$place/merged/bin/ls"
            mv "$place/merged/etc" "$place/merged/conf"
            is "merged" "bin conf data dev proc tmp tmp2" "$(ls "$place/merged" | paste -sd ' ')"
            is "written in the upper layer" changed "$(cat "$mnt/upper/conf/passwd")"
            # The upper layer has a past as everything has.
            mkdir "$mnt/.snapshots/layers"
            umount "$place/merged"
            is "white-outs" "0 0" "$(stat -c '%t %T' "$mnt/.snapshots/layers/upper/bin/ls")"
            mount -t overlay overlay -o "lowerdir=$mnt/.snapshots/layers/upper:$mnt/image" "$place/merged"
            is "layers of the past" "changed bin conf data dev proc tmp tmp2" \
                "$(cat "$place/merged/conf/passwd" | paste -sd ' ') $(ls "$place/merged" | paste -sd ' ')"
            umount "$place/merged"
            is "the image" "root:x:0:0::/:/bin/sh" "$(cat "$mnt/image/etc/passwd")"
            rmdir "$mnt/.snapshots/layers"
        else
            echo "SKIPPED: overlay with its upper layer in the mount: $(cat "$place/out")"
        fi
        rm -rf "$mnt/upper" "$mnt/work"
    fi
    rm -r "$mnt/image" "$mnt/volume"
    rmdir "$mnt/.snapshots/s"
}

# pod DRIVER COMMAND...: podman with all that it stores in the mount.
pod() {
    local options=(--root "$mnt/podman/$1" --runroot "$place/podman/$1" --cgroup-manager=cgroupfs --events-backend=file)
    case $1 in
    fuse-overlayfs) options+=(--storage-driver=overlay --storage-opt "overlay.mount_program=$(command -v fuse-overlayfs)") ;;
    *) options+=("--storage-driver=$1") ;;
    esac
    podman "${options[@]}" "${@:2}"
}

a_podman() {
    here podman podman && here busybox busybox-static && apart || return 0
    local driver said
    container_root
    # Where control groups are of two kinds, crun refuses all.
    if [ "$(stat -f -c %T /sys/fs/cgroup)" != cgroup2fs ]; then
        { umount -R /sys/fs/cgroup && mount -t cgroup2 none /sys/fs/cgroup; } 2>"$place/out" ||
            { echo "SKIPPED: podman: no control groups: $(cat "$place/out")" && return 0; }
    fi
    for driver in vfs overlay fuse-overlayfs; do
        [ $driver != fuse-overlayfs ] || here fuse-overlayfs fuse-overlayfs || continue
        tar -C "$mnt/image" -c . | pod $driver import - box:1 >"$place/out" 2>&1 || fail "podman import, $driver: $(cat "$place/out")"
        said=$(pod $driver run --rm --network=none --cgroups=disabled --ulimit nofile=1000:1000 --ulimit nproc=1000:1000 \
            -v "$mnt/volume:/data" box:1 /bin/sh -c "echo y > /etc/y; rm /bin/id; mv /tmp /tmp2; $in_container" 2>"$place/out") ||
            fail "podman run, $driver: $(cat "$place/out")"
        is "in a container of podman, $driver" "$said_in_container" "$(paste -sd ' ' <<<"$said")"
        pod $driver rmi -f box:1 >/dev/null || fail "podman rmi, $driver"
    done
    for driver in overlay fuse-overlayfs; do
        ! mountpoint -q "$mnt/podman/$driver/overlay" || umount "$mnt/podman/$driver/overlay"
    done
    rm -r "$mnt/podman" "$mnt/image" "$mnt/volume"
    rmdir "$mnt/.snapshots/s"
}

# --- Loops and names that are out of date ---

a_loops() {
    local way n said pid
    "$program" delete "$mnt" '@*' >/dev/null 2>&1 || true # what other parts have left
    mkdir -p "$mnt/tree/a/b/c"
    echo one >"$mnt/tree/a/b/c/file"
    ln -s .snapshots/s "$mnt/past"
    ln -s "$mnt/.snapshots" "$mnt/tree/all"
    ln -s ../../.snapshots "$mnt/tree/a/up"
    mkdir "$mnt/.snapshots/s"
    echo two >"$mnt/tree/a/b/c/file"
    mkdir "$mnt/.snapshots/t"
    # What follows links goes through the past once for each link, and comes to an end.
    for way in "find -L $mnt -type f" "du -La $mnt" "ls -LaR $mnt" "grep -R one $mnt"; do
        # shellcheck disable=SC2086 # words
        timeout 60 $way >"$place/out" 2>"$place/errors" || [ $? != 124 ] || fail "$way does not end"
        ! grep -q 'Too many levels of symbolic links' "$place/errors" || fail "$way: $(head -3 "$place/errors")"
        [ "$(wc -l <"$place/out")" -lt 500 ] || fail "$way goes round: $(wc -l <"$place/out") lines"
    done
    # rsync -L remembers nothing, so it gets a link only that leads to a snapshot.
    if here rsync rsync; then
        timeout 60 rsync -aL --exclude=all --exclude=up "$mnt/" "$place/copied" >"$place/out" 2>&1 || true
        ! grep -q 'Too many levels' "$place/out" || fail "rsync -aL: $(head -3 "$place/out")"
        is "copied through a link" "one two" "$(cat "$place/copied/past/tree/a/b/c/file" "$place/copied/tree/a/b/c/file" | paste -sd ' ')"
        rm -r "$place/copied"
    fi
    # In a snapshot there is no other past, and however deep one looks it is the same.
    for way in .snapshots/s/.snapshots .snapshots/s/tree/.snapshots tree/.snapshots/s/.snapshots/s; do
        ! said=$(ls "$mnt/$way" 2>&1) || fail "there is a $way"
        has "$said" 'No such file or directory'
    done
    is "by each way" "one one one one" "$(cat "$mnt/.snapshots/s/tree/a/b/c/file" "$mnt/tree/.snapshots/s/a/b/c/file" \
        "$mnt/tree/a/b/.snapshots/s/c/file" "$mnt/tree/a/b/c/.snapshots/s/file" | paste -sd ' ')"
    # A program that stands in a snapshot that goes: nothing is there any more, and never what takes its name.
    for way in rmdir delete rename; do
        mkdir "$mnt/.snapshots/here"
        mkfifo "$place/ask"
        (
            cd "$mnt/.snapshots/here/tree/a/b"
            read -r _ <"$place/ask"
            ls -A . 2>&1 || true
            cat c/file 2>&1 || true
        ) >"$place/standing" &
        pid=$!
        exec 8>"$place/ask"
        sleep 0.2
        case $way in
        rmdir) rmdir "$mnt/.snapshots/here" ;;
        delete) "$program" delete "$mnt" here >/dev/null ;;
        rename) mv "$mnt/.snapshots/here" "$mnt/.snapshots/there" ;;
        esac
        echo new >"$mnt/tree/a/b/c/file"
        mkdir "$mnt/.snapshots/here"
        echo >&8
        exec 8>&-
        wait $pid
        if [ $way = rename ]; then
            is "who stands in a renamed snapshot" "c two" "$(paste -sd ' ' "$place/standing")"
            rmdir "$mnt/.snapshots/there"
        else
            ! grep -qE 'new|two|^c$|Too many' "$place/standing" || fail "who stands in a deleted snapshot sees: $(cat "$place/standing")"
        fi
        is "the new one" new "$(cat "$mnt/.snapshots/here/tree/a/b/c/file")"
        rmdir "$mnt/.snapshots/here"
        rm "$place/ask"
        echo two >"$mnt/tree/a/b/c/file"
    done
    # Names that come and go all the time are found by each way at once, or by none.
    for n in $(seq $((rounds * 20))); do
        echo $n >"$mnt/tree/a/b/c/file"
        mkdir "$mnt/.snapshots/name"
        is "round $n" "$n $n $n" "$(cat "$mnt/.snapshots/name/tree/a/b/c/file" "$mnt/tree/a/.snapshots/name/b/c/file" \
            "$mnt/tree/a/b/c/.snapshots/name/file" | paste -sd ' ')"
        rmdir "$mnt/.snapshots/name"
        [ ! -e "$mnt/tree/a/.snapshots/name" ] && [ ! -e "$mnt/.snapshots/name" ] || fail "a deleted snapshot is there"
    done
    rm -r "$mnt/tree" "$mnt/past"
    rmdir "$mnt/.snapshots/s" "$mnt/.snapshots/t"
}

chmod 755 "$place" # the users of some programs must get through
start -o "cache=strict${root:+,dev,suid,allow_other}"
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
