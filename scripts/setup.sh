#!/usr/bin/env bash
# Installs what a fresh Debian machine lacks, and nothing else.
#   scripts/setup.sh run     what `make run` and `make build` need: a C compiler
#   scripts/setup.sh test    what `make test` needs besides: real peers to test against
#   scripts/setup.sh peers   of those, the servers that series and alerts are sent to
#   scripts/setup.sh bench   peers of the benchmarks
# Quick and silent when everything is there. Go itself is not installed here.
set -euo pipefail

run_packages=(
  gcc libc6-dev make ca-certificates # the ledger's SQLite is C
)
test_packages=(
  git patch      # mutants: a copy of the tree as it would be committed, broken
  sqlite3        # the ledger's file, read by a program that is not ours
  systemd        # systemd-analyze: our units
  systemd-container debootstrap util-linux # a real systemd to run them under
  rpm            # what our packages say to it
  openipmi ipmitool libopenipmi-dev        # a simulated management controller
  munge slurmctld slurmd slurmdbd slurmrestd slurm-client # a Slurm cluster on this machine
  slurm-wlm-basic-plugins slurm-wlm-jwt-plugin slurm-wlm-mysql-plugin mariadb-server iproute2 curl
)
peer_packages=(
  prometheus prometheus-alertmanager victoria-metrics # what series and alerts are sent to
)
bench_packages=(
  prometheus-node-exporter strace # a peer to compare the agent with, and what counts system calls
)

case ${1:-} in
run) wanted=("${run_packages[@]}") ;;
test) wanted=("${run_packages[@]}" "${test_packages[@]}" "${peer_packages[@]}") ;;
peers) wanted=("${peer_packages[@]}") ;;
bench) wanted=("${run_packages[@]}" "${bench_packages[@]}") ;;
*)
  sed -n '2,7s/^# \{0,1\}//p' "$0" >&2
  exit 2
  ;;
esac

if ! command -v go >/dev/null; then
  echo "setup: Go is missing; install the version that go.mod names (see https://go.dev/doc/install)" >&2
  exit 1
fi

if ! command -v dpkg >/dev/null; then
  # Not Debian: what counts is that the programs are there.
  servers=(prometheus prometheus-alertmanager victoria-metrics)
  case $1 in
  test) programs=(gcc make git patch sqlite3 systemd-analyze systemd-nspawn debootstrap nsenter rpm ipmi_sim ipmitool munged slurmctld slurmd slurmdbd slurmrestd sacct mariadbd ip curl "${servers[@]}") ;;
  peers) programs=("${servers[@]}") ;;
  *) programs=(gcc make) ;;
  esac
  lacking=()
  for p in "${programs[@]}"; do command -v "$p" >/dev/null || lacking+=("$p"); done
  [ ${#lacking[@]} -eq 0 ] && exit 0
  echo "setup: these programs are missing: ${lacking[*]}; install them with your system's package manager" >&2
  exit 1
fi

missing=()
for p in "${wanted[@]}"; do
  [ "$(dpkg-query -W -f '${Status}' "$p" 2>/dev/null)" = "install ok installed" ] || missing+=("$p")
done
[ ${#missing[@]} -eq 0 ] && exit 0

if [ "$(id -u)" -ne 0 ]; then
  echo "setup: these packages are missing: ${missing[*]}" >&2
  echo "setup: not root, so they are yours to install:  sudo apt-get install --no-install-recommends ${missing[*]}" >&2
  exit 1
fi
echo "setup: installing ${missing[*]}"
export DEBIAN_FRONTEND=noninteractive
log=$(mktemp)
trap 'rm -f "$log"' EXIT
if ! { apt-get update -q && apt-get install -q -y --no-install-recommends "${missing[@]}"; } >"$log" 2>&1 </dev/null; then
  tail -n 30 "$log" >&2
  echo "setup: cannot install ${missing[*]}" >&2
  exit 1
fi
