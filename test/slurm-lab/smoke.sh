#!/usr/bin/env bash
# What slurm-lab.sh says it does, tried on a cluster of its own (about 45 s).
#   smoke.sh [DIR]     DIR: where the lab shall be (a new temporary folder)
set -euo pipefail
L=$(dirname "$(readlink -f "$0")")/slurm-lab.sh
D=${1:-}; pass=0 fail=0
if [ -z "$D" ]; then D=$(mktemp -d); chmod 755 "$D"; D=$D/lab; fi
ok() { if eval "$2"; then pass=$((pass + 1)); else fail=$((fail + 1)); echo "FAIL: $1" >&2; fi; }
trap '"$L" destroy "$D" >/dev/null 2>&1 || true' EXIT
for n in 1 2 3 4; do
  p=$D/sys/node$n/cray/pm_counters; mkdir -p "$p" "$D/sys/node$n/class/powercap/intel-rapl:0"
  echo "1000 J 1 us" >"$p/energy"; echo "$((300 * n)) W 1 us" >"$p/power"; echo 10 >"$p/raw_scan_hz"
  echo $((1000 * n)) >"$D/sys/node$n/class/powercap/intel-rapl:0/energy_uj"
done
LAB_FAKESYS=1 LAB_ENERGY=pm_counters "$L" up "$D"
ok "up is idempotent" '"$L" up "$D" 2>/dev/null'
ok "4 idle nodes" '[ "$("$L" exec "$D" sinfo -h -N -t idle -o %n | wc -l)" = 4 ]'
ok "own host name" '[ "$("$L" node 3 "$D" hostname)" = node3 ]'
ok "own /sys" '[ "$("$L" node 3 "$D" cat /sys/class/powercap/intel-rapl:0/energy_uj)" = 3000 ]'
# node1 draws 300 W, node2 600 W ...
(for i in $(seq 60); do for n in 1 2 3 4; do
  echo "$((1000 + i * 300 * n)) J $(date +%s%6N) us" >"$D/sys/node$n/cray/pm_counters/energy"; done; sleep 1; done) 2>/dev/null & W=$!
a=$("$L" as alice "$D" sbatch --parsable -w node1 --gres=gpu:1 --wrap 'sleep 12')
b=$("$L" as bob "$D" sbatch --parsable -w node1 --gres=gpu:2 --wrap 'sleep 12')
c=$("$L" as carol "$D" sbatch --parsable -a 0-3 -n1 --comment=camp --wrap 'sleep 1')
e=$("$L" as alice "$D" sbatch --parsable -w 'node[3-4]' -N2 --exclusive --wrap 'srun sleep 10')
ok "an account one is not in is refused" '! "$L" as alice "$D" sbatch -A chem --wrap true 2>/dev/null'
sleep 3
ok "GPU indices in scontrol" '"$L" exec "$D" scontrol show job -d '"$b"' | grep -q "GRES=gpu:h100:2(IDX:1-2)"'
ok "GPU indices in the REST answer" '"$L" curl "$D" alice /slurm/v0.0.38/job/'"$b"' | grep -q "gpu:h100:2(IDX:1-2)"'
ok "GPU indices in Prolog, as root" 'grep -qx SLURM_JOB_GPUS=1,2 "$D"/hooklog/prolog.'"$b"'.node1.* && grep -q uid=0 "$D"/hooklog/prolog.'"$b"'.node1.*'
for i in $(seq 60); do [ -z "$("$L" exec "$D" squeue -h)" ] && break; sleep 0.5; done
sleep 1
ok "account in sacct" '[ "$("$L" exec "$D" sacct -X -n -P -j '"$b"' -o account)" = chem ]'
ok "array tasks in sacct" '[ "$("$L" exec "$D" sacct -X -n -P -j '"$c"' -o jobid,jobidraw,comment | grep -c "_.*camp")" = 4 ]'
j=$("$L" exec "$D" sacct -X -n -P -j "$e" -o consumedenergyraw)
ok "Slurm's own energy: 10 s at 900 W + 1200 W, got $j J" '[ "$j" -ge 16000 ] && [ "$j" -le 27000 ]'
ok "slurmdbd over REST" '"$L" curl "$D" alice /slurmdb/v0.0.38/job/'"$a"' | grep -q "\"account\": \"physics\""'
kill $W 2>/dev/null || true
"$L" down "$D"
ok "history survives down and up" '"$L" up "$D" && [ -n "$("$L" exec "$D" sacct -X -n -j '"$b"')" ]'
"$L" destroy "$D"
echo "$pass passed, $fail failed"
[ "$fail" = 0 ]
