#!/usr/bin/env bash
# Runs every fuzz test of the module, one after the other, FUZZTIME each (30s,
# or a number of executions such as 10000000x).
#   scripts/fuzz.sh [PACKAGE...]      default ./...
# A failing input is kept by Go under testdata/fuzz; commit it with the mend.
set -euo pipefail
cd "$(dirname "$0")/.."
time=${FUZZTIME:-30s}
[ $# -gt 0 ] || set -- ./...

found=0 failed=()
for package in $(go list -f '{{if or .TestGoFiles .XTestGoFiles}}{{.ImportPath}}{{end}}' "$@"); do
  # `go test -list` prints the names, then a line that begins with "ok".
  list=$(go test -list '^Fuzz' "$package")
  for name in $(grep '^Fuzz' <<<"$list" || true); do
    found=$((found + 1))
    echo "== $package $name ($time)"
    go test -run '^$' -fuzz "^$name\$" -fuzztime "$time" "$package" || failed+=("$package $name")
  done
done
if [ ${#failed[@]} -gt 0 ]; then
  printf 'fuzz: FAILED %s\n' "${failed[@]}" >&2
  exit 1
fi
echo "fuzz: $found fuzz tests, none failed"
