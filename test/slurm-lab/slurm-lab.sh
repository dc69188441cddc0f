#!/usr/bin/env bash
# A Slurm cluster of the distribution's own daemons on one machine: what jobs,
# prologs, cgroups and accounting do is tried on the real thing.
#
# The controller and each node are a host of their own: a sleep process that
# holds network, UTS and mount namespaces, so each has its own name, address,
# loopback, and where wanted its own /sys and folders. Nothing listens outside
# these namespaces. All files are below one folder, DIR.
#
#   slurm-lab.sh install            the packages (Debian, root)
#   slurm-lab.sh up      DIR        start; if it runs already, nothing happens
#   slurm-lab.sh down    DIR        stop all, by pid; DIR's files stay
#   slurm-lab.sh destroy DIR        down, and DIR goes
#   slurm-lab.sh status  DIR
#   slurm-lab.sh exec    DIR CMD... CMD on the controller's host, as root
#   slurm-lab.sh as USER DIR CMD... CMD on the controller's host, as USER
#   slurm-lab.sh node N  DIR CMD... CMD on node N (1..), as root
#   slurm-lab.sh token   DIR USER [SECONDS]   a JWT for slurmrestd
#   slurm-lab.sh curl    DIR USER PATH        GET from slurmrestd, with a JWT
#
# Settings are variables, read at the first `up` and kept in DIR/lab.env:
#   LAB_NODES=4  LAB_CPUS=16  LAB_MEM=64000  LAB_GPUS=4  LAB_GPU_TYPE=h100
#   LAB_SHARDS=0       so many gres/shard of every GPU: jobs may share one
#   LAB_DBD=1          0: no MariaDB and no slurmdbd (accounting_storage/none)
#   LAB_REST=1         0: no slurmrestd
#   LAB_CGROUP=0       v1: processes, tasks and their accounting by cgroup v1.
#                      (v2 needs a machine that mounts no v1 hierarchy: slurmd
#                      ends with "Hybrid mode is not supported".)
#   LAB_CONSTRAIN=no   yes: cgroup v1 fences devices too
#   LAB_HOOKS=DIR/hooks             prolog.sh epilog.sh ...; those that are
#                      missing are made, and write their environment down
#   LAB_OWN=""         paths of folders of which every node has its own:
#                      PATH on node N is DIR/own/nodeN/PATH
#   LAB_NET=10.213.7   first three bytes of the lab's private /24
#   LAB_USERS="alice:20001:physics bob:20002:chem carol:20003:physics"
#   LAB_ENERGY=none    AcctGatherEnergyType; pm_counters works with LAB_FAKESYS
#   LAB_FAKESYS=0      1: DIR/sys/nodeN lies over /sys of every node
set -euo pipefail

die() { echo "slurm-lab: $*" >&2; exit 1; }
say() { [ -n "${LAB_QUIET:-}" ] || echo "slurm-lab: $*" >&2; }

lab_install() {
  export DEBIAN_FRONTEND=noninteractive
  apt-get install -y --no-install-recommends munge slurmctld slurmd slurmdbd \
    slurmrestd slurm-client slurm-wlm-basic-plugins slurm-wlm-jwt-plugin \
    slurm-wlm-mysql-plugin mariadb-server iproute2 util-linux curl
}

lab_load() {
  DIR=$(readlink -m "$1")
  [ -f "$DIR/lab.env" ] && . "$DIR/lab.env"
  : "${LAB_NODES:=4}" "${LAB_CPUS:=16}" "${LAB_MEM:=64000}" "${LAB_GPUS:=4}" "${LAB_SHARDS:=0}"
  : "${LAB_GPU_TYPE:=h100}" "${LAB_DBD:=1}" "${LAB_REST:=1}" "${LAB_CGROUP:=0}"
  : "${LAB_HOOKS:=$DIR/hooks}" "${LAB_OWN:=}" "${LAB_CONSTRAIN:=no}"
  : "${LAB_NET:=10.213.7}" "${LAB_ENERGY:=none}" "${LAB_FAKESYS:=0}" "${LAB_CLUSTER:=lab}"
  : "${LAB_USERS:=alice:20001:physics bob:20002:chem carol:20003:physics}"
  : "${LAB_SLURM_USER:=slurm}" "${LAB_REST_UID:=20100}"
  RUN=$DIR/run LOG=$DIR/log ETC=$DIR/etc
  export SLURM_CONF=$ETC/slurm.conf
}

# --- processes: one pid file each; a pid counts only if it carries our mark ---
MARK=SLURM_LAB_DIR
alive() { # name
  local p; p=$(cat "$RUN/$1.pid" 2>/dev/null) || return 1
  [ -n "$p" ] && [ -r "/proc/$p/environ" ] || return 1
  { tr '\0' '\n' <"/proc/$p/environ"; } 2>/dev/null | grep -qx "$MARK=$DIR"
}
pidof_() { cat "$RUN/$1.pid"; }
gone() { # pid: no such process, or a zombie that PID 1 has yet to reap
  local st; st=$(sed 's/.*) //' "/proc/$1/stat" 2>/dev/null) || return 0
  [ "${st%% *}" = Z ] || [ -z "$st" ]
}
spawn() { # name command...   (detached, log to LOG/name.out)
  local n=$1; shift
  env "$MARK=$DIR" setsid "$@" >>"$LOG/$n.out" 2>&1 </dev/null &
  echo $! >"$RUN/$n.pid"
  disown
  local i   # until the mark shows in its environment
  for ((i = 0; i < 200; i++)); do
    alive "$n" && return 0
    ! gone "$(pidof_ "$n")" || break
    sleep 0.01
  done
  die "$n did not start (see $LOG/$n.out)"
}
inns() { # host command...   (run inside a lab host's namespaces)
  local h=$1; shift
  nsenter -t "$(pidof_ "host-$h")" -n -u -m -- "$@"
}
inns_exec() { # the same in place of this process, so that signals reach CMD
  local h=$1; shift
  exec nsenter -t "$(pidof_ "host-$h")" -n -u -m -- "$@"
}
spawn_in() { # host name command...
  # nsenter execs the command in place: the recorded pid is the daemon's
  local h=$1 n=$2; shift 2
  spawn "$n" nsenter -t "$(pidof_ "host-$h")" -n -u -m -- "$@"
}
stop_one() { # name [seconds]
  alive "$1" || { rm -f "$RUN/$1.pid"; return 0; }
  local p i; p=$(pidof_ "$1"); kill -TERM "$p" 2>/dev/null || true
  for ((i = 0; i < ${2:-10} * 20; i++)); do
    ! gone "$p" || { rm -f "$RUN/$1.pid"; return 0; }
    sleep 0.05
  done
  say "$1 ($p) did not stop: KILL"; kill -KILL "$p" 2>/dev/null || true
  rm -f "$RUN/$1.pid"
}
wait_for() { # seconds process-or-what command...
  local s=$1 what=$2 i; shift 2
  for ((i = 0; i < s * 20; i++)); do
    "$@" >/dev/null 2>&1 && return 0
    [ ! -e "$RUN/$what.pid" ] || ! gone "$(pidof_ "$what")" || die "$what has died (see $LOG/$what.out)"
    sleep 0.05
  done
  die "timed out waiting for $what (logs in $LOG)"
}

write_config() {
  local u name uid n
  # lab-private passwd/group/hosts, bind-mounted in the lab's namespaces only
  cp /etc/passwd "$ETC/passwd"; cp /etc/group "$ETC/group"
  for u in $LAB_USERS "slurmrest:$LAB_REST_UID:-"; do
    IFS=: read -r name uid _ <<<"$u"
    grep -q "^$name:" "$ETC/passwd" || {
      echo "$name:x:$uid:$uid:$name:$DIR/home/$name:/bin/bash" >>"$ETC/passwd"
      echo "$name:x:$uid:" >>"$ETC/group"; }
    mkdir -p "$DIR/home/$name"; chown "$uid:$uid" "$DIR/home/$name"
  done
  { echo "127.0.0.1 localhost"; echo "$LAB_NET.1 ctl"
    for ((n = 1; n <= LAB_NODES; n++)); do echo "$LAB_NET.$((n + 10)) node$n"; done
  } >"$ETC/hosts"

  local dbd proctrack task gather
  if [ "$LAB_DBD" = 1 ]; then
    dbd="AccountingStorageType=accounting_storage/slurmdbd
AccountingStorageHost=ctl
AccountingStoragePort=6819
AccountingStoragePass=$RUN/munge.socket
AccountingStorageEnforce=associations,limits,safe
AccountingStoreFlags=job_comment"
  else dbd="AccountingStorageType=accounting_storage/none"; fi
  case $LAB_CGROUP in
  v1) proctrack=proctrack/cgroup task=task/cgroup gather=jobacct_gather/cgroup ;;
  0) proctrack=proctrack/linuxproc task=task/none gather=jobacct_gather/linux ;;
  *) die "LAB_CGROUP: 0 or v1" ;;
  esac
  local gres="" gresnode=""
  if [ "$LAB_GPUS" -gt 0 ]; then
    gres="GresTypes=gpu"
    # (with accounting_storage/none slurmctld refuses to start with these)
    [ "$LAB_DBD" != 1 ] || gres+="
AccountingStorageTRES=gres/gpu,gres/gpu:$LAB_GPU_TYPE"
    gresnode=" Gres=gpu:$LAB_GPU_TYPE:$LAB_GPUS"
    mkdir -p "$DIR/dev"
    for ((n = 0; n < LAB_GPUS; n++)); do
      # fake character devices with NVIDIA's major: gres.conf needs a device
      # file that exists, not one that opens
      [ -e "$DIR/dev/nvidia$n" ] || mknod -m 0666 "$DIR/dev/nvidia$n" c 195 "$n" 2>/dev/null ||
        : >"$DIR/dev/nvidia$n"
    done
    echo "NodeName=node[1-$LAB_NODES] Name=gpu Type=$LAB_GPU_TYPE File=$DIR/dev/nvidia[0-$((LAB_GPUS - 1))]" >"$ETC/gres.conf"
    if [ "$LAB_SHARDS" -gt 0 ]; then
      gres=${gres/GresTypes=gpu/GresTypes=gpu,shard}
      gresnode+=",shard:$((LAB_GPUS * LAB_SHARDS))"
      echo "NodeName=node[1-$LAB_NODES] Name=shard Count=$((LAB_GPUS * LAB_SHARDS))" >>"$ETC/gres.conf"
    fi
  fi
  cat >"$ETC/slurm.conf" <<CONF
ClusterName=$LAB_CLUSTER
SlurmctldHost=ctl($LAB_NET.1)
SlurmUser=$LAB_SLURM_USER
SlurmdUser=root
AuthType=auth/munge
AuthInfo=socket=$RUN/munge.socket
CredType=cred/munge
AuthAltTypes=auth/jwt
AuthAltParameters=jwt_key=$ETC/jwt.key
StateSaveLocation=$DIR/state/ctld
SlurmdSpoolDir=$DIR/state/slurmd-%n
SlurmctldPidFile=$RUN/slurm/ctld.own.pid
SlurmdPidFile=$RUN/slurm/d-%n.own.pid
SlurmctldLogFile=$LOG/slurmctld.log
SlurmdLogFile=$LOG/slurmd-%n.log
SlurmctldDebug=verbose
SlurmdDebug=verbose
SlurmctldParameters=idle_on_node_suspend
SlurmdParameters=config_overrides
SchedulerParameters=batch_sched_delay=0,sched_min_interval=50000,bf_interval=2
SchedulerType=sched/backfill
SelectType=select/cons_tres
SelectTypeParameters=CR_Core_Memory
DefMemPerCPU=500
ProctrackType=$proctrack
TaskPlugin=$task
JobAcctGatherType=$gather
JobAcctGatherFrequency=task=2,energy=2
AcctGatherEnergyType=acct_gather_energy/$LAB_ENERGY
AcctGatherNodeFreq=2
SwitchType=switch/none
MpiDefault=none
ReturnToService=2
KillWait=5
MinJobAge=300
SlurmdTimeout=30
RebootProgram=/bin/true
JobRequeue=1
PrologFlags=Alloc
Prolog=$LAB_HOOKS/prolog.sh
Epilog=$LAB_HOOKS/epilog.sh
TaskProlog=$LAB_HOOKS/taskprolog.sh
TaskEpilog=$LAB_HOOKS/taskepilog.sh
PrologSlurmctld=$LAB_HOOKS/prolog_slurmctld.sh
EpilogSlurmctld=$LAB_HOOKS/epilog_slurmctld.sh
$gres
$dbd
CONF
  { for ((n = 1; n <= LAB_NODES; n++)); do
      echo "NodeName=node$n NodeAddr=$LAB_NET.$((n + 10)) CPUs=$LAB_CPUS Boards=1 SocketsPerBoard=2 CoresPerSocket=$((LAB_CPUS / 2)) ThreadsPerCore=1 RealMemory=$LAB_MEM$gresnode State=UNKNOWN"
    done
    echo "PartitionName=all Nodes=node[1-$LAB_NODES] Default=YES MaxTime=INFINITE State=UP"
  } >>"$ETC/slurm.conf"
  [ "$LAB_CGROUP" = 0 ] || cat >"$ETC/cgroup.conf" <<CONF
CgroupPlugin=cgroup/$LAB_CGROUP
CgroupAutomount=no
IgnoreSystemd=yes
ConstrainCores=no
ConstrainRAMSpace=yes
ConstrainDevices=$LAB_CONSTRAIN
CONF
  if [ "$LAB_DBD" = 1 ]; then
    cat >"$ETC/slurmdbd.conf" <<CONF
DbdHost=ctl
DbdAddr=$LAB_NET.1
DbdPort=6819
SlurmUser=$LAB_SLURM_USER
AuthType=auth/munge
AuthInfo=socket=$RUN/munge.socket
AuthAltTypes=auth/jwt
AuthAltParameters=jwt_key=$ETC/jwt.key
StorageType=accounting_storage/mysql
StorageHost=127.0.0.1
StoragePort=3306
StorageUser=slurm
StoragePass=slurm
StorageLoc=slurm_acct
PidFile=$RUN/slurm/dbd.own.pid
LogFile=$LOG/slurmdbd.log
DebugLevel=info
CONF
    chown "$LAB_SLURM_USER" "$ETC/slurmdbd.conf"; chmod 600 "$ETC/slurmdbd.conf"
  fi
}

# default hooks: each writes its environment to DIR/hooklog/
write_hooks() {
  mkdir -p "$LAB_HOOKS" "$DIR/hooklog"; chmod 1777 "$DIR/hooklog"
  local h
  for h in prolog epilog prolog_slurmctld epilog_slurmctld taskprolog taskepilog; do
    [ -e "$LAB_HOOKS/$h.sh" ] && continue
    cat >"$LAB_HOOKS/$h.sh" <<HOOK
#!/bin/bash
f=$DIR/hooklog/$h.\${SLURM_JOB_ID:-0}.\$(hostname).\${SLURM_PROCID:-x}.\$\$
{ echo "# \$(date +%s.%N) uid=\$(id -u) gid=\$(id -g) cwd=\$PWD host=\$(hostname) argv=\$*"; env | sort; } >"\$f" 2>&1
exit 0
HOOK
    chmod 755 "$LAB_HOOKS/$h.sh"
  done
}

host_up() { # name address
  local h=$1 a=$2
  alive "host-$h" && return 0
  local sys=
  if [ "$LAB_FAKESYS" = 1 ] && [ "$h" != ctl ]; then sys=$DIR/sys/$h; mkdir -p "$sys"; fi
  local o own=
  if [ "$h" != ctl ]; then own=$LAB_OWN; fi
  for o in $own; do   # the place must be there before something is laid over it
    mkdir -p "$DIR/own/$h$o"
    [ -d "$o" ] || { mkdir -p "$o"; echo "$o" >>"$DIR/own/made"; }
  done
  spawn "host-$h" unshare --net --uts --mount --propagation private -- bash -c '
    hostname "$1"
    mount --bind "$2/etc/passwd" /etc/passwd
    mount --bind "$2/etc/group" /etc/group
    mount --bind "$2/etc/hosts" /etc/hosts
    ip link set lo up
    if [ -n "$3" ]; then
      mkdir -p "$3.cg"    # the overlay hides /sys/fs/cgroup: bring it back
      mount --rbind /sys/fs/cgroup "$3.cg"
      mount -t overlay overlay -o "lowerdir=$3:/sys" /sys
      mount --rbind "$3.cg" /sys/fs/cgroup
      umount -l "$3.cg"
    fi
    for o in $4; do mount --bind "$2/own/$1$o" "$o"; done
    touch "$2/run/host-$1.ready"
    exec sleep infinity' host "$h" "$DIR" "$sys" "$own"
  wait_for 10 "host-$h" test -e "$RUN/host-$h.ready"
  rm -f "$RUN/host-$h.ready"
  if [ "$h" = ctl ]; then
    inns ctl sh -c "ip link add br0 type bridge; ip addr add $a/24 dev br0; ip link set br0 up"
  else
    nsenter -t "$(pidof_ host-ctl)" -n ip link add "v$h" type veth peer name eth0 netns "$(pidof_ "host-$h")"
    nsenter -t "$(pidof_ host-ctl)" -n sh -c "ip link set v$h master br0; ip link set v$h up"
    inns "$h" sh -c "ip addr add $a/24 dev eth0; ip link set eth0 up"
  fi
}

db_up() {
  alive mariadbd && return 0
  local sock=$RUN/mysql/mysql.sock owner=mysql
  mkdir -p "$RUN/mysql"; chown "$owner" "$RUN/mysql"
  if [ ! -d "$DIR/state/mysql/mysql" ]; then
    mkdir -p "$DIR/state/mysql"; chown "$owner" "$DIR/state/mysql"
    mariadb-install-db --no-defaults --datadir="$DIR/state/mysql" --user="$owner" \
      --auth-root-authentication-method=socket --skip-test-db >"$LOG/mariadb-install.out" 2>&1
  fi
  spawn_in ctl mariadbd mariadbd --no-defaults --user="$owner" --datadir="$DIR/state/mysql" \
    --socket="$sock" --bind-address=127.0.0.1 --port=3306 --pid-file="$RUN/mysql/own.pid" \
    --innodb-buffer-pool-size=256M --innodb-lock-wait-timeout=900 --innodb-flush-log-at-trx-commit=2 \
    --performance-schema=OFF
  wait_for 60 mariadbd mariadb --no-defaults -S "$sock" -e 'select 1'
  mariadb --no-defaults -S "$sock" -e "create user if not exists slurm@'127.0.0.1' identified by 'slurm';
    create user if not exists slurm@localhost identified by 'slurm';
    grant all on slurm_acct.* to slurm@'127.0.0.1'; grant all on slurm_acct.* to slurm@localhost;"
}

accounts_up() {
  [ -e "$DIR/state/accounts.done" ] && return 0
  local u name acct
  for u in $LAB_USERS; do
    IFS=: read -r name _ acct <<<"$u"
    inns ctl sacctmgr -i add account "$acct" Description="$acct" Organization=lab >/dev/null 2>&1 || true
    inns ctl sacctmgr -i add user "$name" DefaultAccount="$acct" >>"$LOG/sacctmgr.out" 2>&1
  done
  touch "$DIR/state/accounts.done"
}

lab_up() {
  [ "$(id -u)" = 0 ] || die "needs root"
  local c n
  for c in munged mungekey slurmctld slurmd nsenter unshare ip; do
    command -v "$c" >/dev/null || die "$c is missing: run '$0 install'"; done
  # slurm-wlm-emulator takes these names over; and the daemons must be started
  # by these names (slurmctld looks at its argv[0]: as slurmctld-wlm it crashes)
  for c in slurmctld slurmd slurmstepd; do
    case $(readlink -f "$(command -v $c)") in
    *emulator*) die "$c is slurm-wlm-emulator's: remove that package" ;; esac; done
  mkdir -p "$DIR"; chmod 755 "$DIR"
  setpriv --reuid 65534 --regid 65534 --clear-groups test -x "$DIR" ||
    die "every user must be able to enter $DIR (a parent is closed: mktemp -d makes 0700)"
  mkdir -p "$RUN/slurm" "$LOG" "$ETC" "$DIR/state/ctld" "$DIR/home"
  chmod 755 "$DIR" "$RUN" "$ETC" "$DIR/state" "$DIR/home"
  chown "$LAB_SLURM_USER" "$DIR/state/ctld" "$LOG" "$RUN/slurm"
  if [ ! -f "$DIR/lab.env" ]; then
    for c in NODES CPUS MEM GPUS SHARDS GPU_TYPE DBD REST CGROUP CONSTRAIN HOOKS OWN NET ENERGY FAKESYS CLUSTER USERS SLURM_USER REST_UID; do
      c=LAB_$c; printf '%s=%q\n' "$c" "${!c}"; done >"$DIR/lab.env"
    [ -f "$ETC/munge.key" ] || mungekey --create --keyfile="$ETC/munge.key" --bits=1024
    chmod 600 "$ETC/munge.key"
    (umask 077; head -c 32 /dev/urandom >"$ETC/jwt.key"); chown "$LAB_SLURM_USER" "$ETC/jwt.key"
    write_hooks; write_config
  fi
  mkdir -p "$DIR/munge"; chmod 755 "$DIR/munge"
  alive munged || { rm -f "$RUN/munge.socket"*
    spawn munged munged --foreground --force --socket="$RUN/munge.socket" --key-file="$ETC/munge.key" \
      --log-file="$DIR/munge/munged.log" --pid-file="$DIR/munge/munged.pid" --seed-file="$DIR/munge/seed"; }
  host_up ctl "$LAB_NET.1"
  for ((n = 1; n <= LAB_NODES; n++)); do host_up "node$n" "$LAB_NET.$((n + 10))"; done
  wait_for 20 munged munge -n -S "$RUN/munge.socket"
  if [ "$LAB_DBD" = 1 ]; then
    db_up
    alive slurmdbd || spawn_in ctl slurmdbd slurmdbd -D
    wait_for 60 slurmdbd inns ctl sacctmgr -n -i show cluster
    inns ctl sacctmgr -n show cluster format=cluster%40 | grep -qw "$LAB_CLUSTER" ||
      inns ctl sacctmgr -i add cluster "$LAB_CLUSTER" >/dev/null
    accounts_up
  fi
  alive slurmctld || spawn_in ctl slurmctld slurmctld -D
  for ((n = 1; n <= LAB_NODES; n++)); do
    alive "slurmd-node$n" || spawn_in "node$n" "slurmd-node$n" slurmd -D -N "node$n"
  done
  wait_for 30 slurmctld inns ctl sh -c 'scontrol ping | grep -q "is UP"'
  if [ "$LAB_REST" = 1 ] && ! alive slurmrestd; then
    mkdir -p "$RUN/rest"; chown "$LAB_REST_UID" "$RUN/rest"; rm -f "$RUN/rest/slurmrestd.sock"
    spawn_in ctl slurmrestd setpriv --reuid "$LAB_REST_UID" --regid "$LAB_REST_UID" --clear-groups \
      env SLURM_JWT=daemon slurmrestd -a rest_auth/jwt "unix:$RUN/rest/slurmrestd.sock" "$LAB_NET.1:6820"
    wait_for 20 slurmrestd test -S "$RUN/rest/slurmrestd.sock"
    chmod 666 "$RUN/rest/slurmrestd.sock"
  fi
  wait_for 60 "nodes to be idle" nodes_ready
  say "up: SLURM_CONF=$SLURM_CONF rest=unix:$RUN/rest/slurmrestd.sock"
}
nodes_ready() {
  local n; n=$(inns ctl sinfo -h -N -o '%T' -t idle,alloc,mix,comp | wc -l)
  [ "$n" -ge "$LAB_NODES" ]
}

lab_down() {
  [ -d "$RUN" ] || return 0
  local n p
  if alive slurmctld && alive host-ctl; then
    inns ctl timeout 10 scancel --state=RUNNING,PENDING,SUSPENDED -u "$(id -un)" >/dev/null 2>&1 || true
    for u in $LAB_USERS; do inns ctl timeout 10 scancel -u "${u%%:*}" >/dev/null 2>&1 || true; done
    for ((n = 0; n < 100; n++)); do
      [ -z "$(inns ctl timeout 5 squeue -h 2>/dev/null)" ] && break; sleep 0.1; done
  fi
  local all=(slurmrestd)
  for ((n = 1; n <= LAB_NODES; n++)); do all+=("slurmd-node$n"); done
  for n in "${all[@]}" slurmctld; do
    alive "$n" && kill -TERM "$(pidof_ "$n")" 2>/dev/null || true; done
  for n in "${all[@]}"; do stop_one "$n" 5; done
  stop_one slurmctld 20; stop_one slurmdbd 20; stop_one mariadbd 30; stop_one munged
  # left-overs (slurmstepd, job processes): those in the network namespaces we made
  for n in ctl $(seq -f 'node%g' 1 "$LAB_NODES"); do
    alive "host-$n" || continue
    local ns; ns=$(readlink "/proc/$(pidof_ "host-$n")/ns/net")
    for p in /proc/[0-9]*; do
      [ "$(readlink "$p/ns/net" 2>/dev/null)" = "$ns" ] || continue
      p=${p#/proc/}; [ "$p" = "$(pidof_ "host-$n")" ] || kill -KILL "$p" 2>/dev/null || true
    done
    stop_one "host-$n" 2
  done
  # empty cgroups that slurmd leaves behind
  [ "$LAB_CGROUP" != v1 ] || for ((n = 1; n <= LAB_NODES; n++)); do
    find /sys/fs/cgroup -depth -type d -path "*/slurm_node$n*" -exec rmdir {} \; 2>/dev/null || true
  done
  say "down"
}

cmd=${1:-}; shift || true
case $cmd in
install) lab_install ;;
up) lab_load "$1"; lab_up ;;
down) lab_load "$1"; lab_down ;;
destroy) lab_load "$1"; lab_down
  [ ! -f "$DIR/own/made" ] || while read -r f; do rmdir "$f" 2>/dev/null || true; done <"$DIR/own/made"
  [ ! -f "$DIR/lab.env" ] || rm -rf "$DIR" ;;
status) lab_load "$1"
  for f in "$RUN"/*.pid; do n=$(basename "$f" .pid); case $n in *.own) continue ;; esac
    alive "$n" && echo "$n $(cat "$f")" || echo "$n dead"; done
  inns ctl sinfo -N -l ;;
exec) lab_load "$1"; shift; inns_exec ctl "$@" ;;
as) u=$1; lab_load "$2"; shift 2
  id=$(grep "^$u:" "$ETC/passwd" | cut -d: -f3) || die "no user $u"
  inns_exec ctl env -i -C "$DIR/home/$u" HOME="$DIR/home/$u" USER="$u" LOGNAME="$u" \
    PATH=/usr/local/bin:/usr/bin:/bin SLURM_CONF="$SLURM_CONF" setpriv --reuid "$id" --regid "$id" --clear-groups "$@" ;;
node) n=$1; lab_load "$2"; shift 2; inns_exec "node$n" "$@" ;;
token) lab_load "$1"; inns ctl scontrol token username="$2" lifespan="${3:-3600}" | sed 's/^SLURM_JWT=//' ;;
curl) lab_load "$1"; t=$("$0" token "$1" "$2")
  curl -sS --unix-socket "$RUN/rest/slurmrestd.sock" -H "X-SLURM-USER-NAME: $2" \
    -H "X-SLURM-USER-TOKEN: $t" "http://lab$3" ;;
*) sed -n '2,/^set -/{/^set -/d;s/^# \{0,1\}//p}' "$0"; exit 2 ;;
esac
