#!/usr/bin/env bash
# A live demonstration: one aggregator with its books in a temporary folder, a
# recording of real nodes in last month (or, where there is none, a simulated
# month), and a few nodes live. Ctrl-C ends all of it.
#   LISTEN=127.0.0.1:9440   where the page is
#   RECORDING=DIR           folder with power.csv.gz and many-jobs/jobs.csv
set -euo pipefail
cd "$(dirname "$0")/.."
LISTEN=${LISTEN:-127.0.0.1:9440}
RECORDING=${WATTLEDGER_RECORDING:-${RECORDING:-}}
work=$(mktemp -d "${TMPDIR:-/tmp}/wattledger-run.XXXXXX")
pids=()
end() {
  trap - EXIT INT TERM
  echo
  echo "Stopping."
  for p in "${pids[@]}"; do kill -TERM "$p" 2>/dev/null || true; done
  for p in "${pids[@]}"; do wait "$p" 2>/dev/null || true; done
  rm -rf "$work"
  exit "${1:-0}"
}
trap 'end 0' INT TERM
trap 'end 1' EXIT

bin/wattledger-aggregator --data-dir "$work/books" --listen "$LISTEN" >"$work/aggregator.log" 2>&1 &
pids+=($!)
url=
for _ in $(seq 100); do
  url=$(sed -n 's/^.*\(https\{0,1\}:\/\/[^ ]*\).*$/\1/p' "$work/aggregator.log" | head -n 1)
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

job=100101
if [ -n "$RECORDING" ] && [ -f "$RECORDING/power.csv.gz" ]; then
  job=70010
  echo "Loading 57 minutes of 64 real nodes with 8 x H100 each into last month ..."
  bin/wattledger-fleet replay --power "$RECORDING/power.csv.gz" --jobs "$RECORDING/many-jobs/jobs.csv" \
    --cluster h100 --aggregator "$url" --shift last-month &
else
  echo "No recording at hand: simulating 2 hours of 12 nodes in last month ..."
  bin/wattledger-fleet simulate --nodes 12 --for 2h --seed 7 --start last-month \
    --cluster h100 --aggregator "$url" &
fi
load=$!
pids+=("$load")
wait "$load" || end 1
bin/wattledger report --url "$url" --cluster h100 || end 1
bin/wattledger audit --url "$url" --cluster h100 || end 1

echo
echo "Four simulated nodes run live as cluster \"live\"."
bin/wattledger-fleet simulate --nodes 4 --for 24h --seed 11 --start now --speed 1 \
  --cluster live --aggregator "$url" --quiet >"$work/live.log" 2>&1 &
pids+=($!)
echo
echo "  page      $url/"
echo "  metrics   $url/metrics"
echo "  report    bin/wattledger report --url $url --cluster h100"
echo "  a job     bin/wattledger job $job --url $url --cluster h100"
echo
echo "Ctrl-C ends all."
wait -n "${pids[0]}" "${pids[-1]}" || true
echo "One of the programs ended:" >&2
tail -n 5 "$work"/*.log >&2
end 1
