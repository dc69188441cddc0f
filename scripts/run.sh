#!/usr/bin/env bash
# A live demonstration: one aggregator with its books in a temporary folder, and
# three small machines with a month of history that go on as it happens. Where a
# recording of real nodes is at hand, it is loaded into last month. Ctrl-C ends
# all of it.
#   LISTEN=127.0.0.1:9440   where the page is
#   NODES=12                of each machine
#   RECORDING=DIR           folder with power.csv.gz and many-jobs/jobs.csv
set -euo pipefail
cd "$(dirname "$0")/.."
LISTEN=${LISTEN:-127.0.0.1:9440}
NODES=${NODES:-12}
RECORDING=${WATTLEDGER_RECORDING:-${RECORDING:-}}
machines=(leonardo lumi jupiter)
work=$(mktemp -d "${TMPDIR:-/tmp}/wattledger-run.XXXXXX")
pids=()
end() {
  trap - EXIT INT TERM
  echo
  echo "Stopping."
  # the machines first, so that what they have is still booked
  for ((i = ${#pids[@]} - 1; i >= 0; i--)); do
    kill -TERM "${pids[i]}" 2>/dev/null || true
    wait "${pids[i]}" 2>/dev/null || true
  done
  rm -rf "$work"
  exit "${1:-0}"
}
trap 'end 0' INT TERM
trap 'end 1' EXIT

bin/wattledger-aggregator --data-dir "$work/books" --listen "$LISTEN" >"$work/aggregator.log" 2>&1 &
pids+=($!)
url=
for _ in $(seq 100); do
  url=$(sed -n 's/^wattledger-aggregator listens on \(http[^ ]*\)$/\1/p' "$work/aggregator.log")
  [ -z "$url" ] || break
  kill -0 "${pids[0]}" 2>/dev/null || break
  sleep 0.1
done
if [ -z "$url" ]; then
  echo "The aggregator did not start. It said:" >&2
  cat "$work/aggregator.log" >&2
  end 1
fi
echo "The books are open: $url"

echo "Booking a month of ${machines[*]}, $NODES nodes each (half a minute or so) ..."
seed=7
for m in "${machines[@]}"; do
  seed=$((seed + 1))
  bin/wattledger-fleet simulate --machine "$m" --nodes "$NODES" --seed "$seed" --history 720h --live \
    --cluster "$m" --aggregator "$url" >"$work/$m.log" 2>&1 &
  pids+=($!)
done
for m in "${machines[@]}"; do
  until grep '^history of' "$work/$m.log"; do
    for p in "${pids[@]}"; do
      kill -0 "$p" 2>/dev/null && continue
      echo "One of the programs ended:" >&2
      tail -n 5 "$work"/*.log >&2
      end 1
    done
    sleep 0.2
  done
done
recorded=
if [ -n "$RECORDING" ] && [ -f "$RECORDING/power.csv.gz" ]; then
  echo "Loading 57 minutes of 64 real nodes with 8 x H100 each into last month ..."
  bin/wattledger-fleet replay --power "$RECORDING/power.csv.gz" --jobs "$RECORDING/many-jobs/jobs.csv" \
    --cluster h100 --aggregator "$url" --shift last-month --quiet &
  pids+=($!)
  wait "$!" || end 1
  unset 'pids[-1]'
  recorded="  a record  bin/wattledger job 70010 --url $url --cluster h100"
fi

month=$(date -u +%Y-%m)
job=$(bin/wattledger jobs --url "$url" --cluster leonardo | awk 'NR > 1 && $1 ~ /^[0-9_]+$/ { print $1; exit }')
echo
bin/wattledger report --url "$url" --cluster leonardo --month "$month" | head -n 12
bin/wattledger audit --url "$url" --cluster leonardo --from -7d || end 1
echo
echo "Now they run live. Look at"
echo "  page      $url/"
echo "  metrics   $url/metrics"
echo "  PromQL    $url/api/v1/query?query=wattledger_cluster_power_watts"
echo "  Grafana   a Prometheus data source at $url"
echo "  report    bin/wattledger report --url $url --cluster lumi --month $month"
echo "  a job     bin/wattledger job $job --url $url --cluster leonardo"
[ -z "$recorded" ] || echo "$recorded"
echo
echo "Ctrl-C ends all."
wait -n "${pids[@]}" || true
echo "One of the programs ended:" >&2
tail -n 5 "$work"/*.log >&2
end 1
