#!/usr/bin/env bash
# Breaks the code on purpose, one line at a time, and sees whether a test notices.
#   scripts/mutants.sh [PATCH...]     default test/mutants/*.patch
# A mutant is a unified diff (-p1) under a head of '#' lines:
#   # name: what it is called
#   # breaks: what goes wrong in the books when the line is like this
#   # test: ./internal/energy ./internal/attribution     whose tests must fail
# Killed: a named test fails. SURVIVED: all pass. STALE: the patch no longer
# applies, does not build, or names no test; renew it. Exit 1 if any is not killed.
set -euo pipefail
cd "$(dirname "$0")/.."
top=$PWD
[ $# -gt 0 ] || { shopt -s nullglob; set -- test/mutants/*.patch; }
[ $# -gt 0 ] || { echo "mutants: there are no patches in test/mutants" >&2; exit 1; }

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
tree=$work/tree
copy() { # the tree as it would be committed, each time afresh
  rm -rf "$tree" && mkdir "$tree"
  git ls-files -co --exclude-standard -z |
    while IFS= read -r -d '' f; do if [ -e "$f" ] || [ -L "$f" ]; then printf '%s\0' "$f"; fi; done |
    xargs -0 cp -a --parents -t "$tree" --
}
head_of() { sed -n "s/^# $2: *//p" "$1" | head -1; }

# Tests that fail without our help kill anything.
copy
clean=$(for patch; do head_of "$patch" test; done | tr ' ' '\n' | sort -u | tr '\n' ' ')
# shellcheck disable=SC2086
if [ -n "${clean// /}" ] && ! (cd "$tree" && go test $clean) >"$work/log" 2>&1; then
  tail -n 20 "$work/log" >&2
  echo "mutants: the tests fail on the code as it is" >&2
  exit 1
fi

killed=0 bad=0
verdict() { printf '%-9s %s: %s\n' "$1" "$2" "$3"; }
for patch; do
  name=$(head_of "$patch" name) breaks=$(head_of "$patch" breaks) tests=$(head_of "$patch" test)
  name=${name:-$(basename "$patch" .patch)}
  copy
  if [ -z "$tests" ]; then
    verdict STALE "$name" "$patch has no '# test:' line" && bad=$((bad + 1)) && continue
  fi
  if ! (cd "$tree" && patch -p1 --batch --forward --fuzz=0 --no-backup-if-mismatch) <"$top/$patch" >"$work/log" 2>&1; then
    verdict STALE "$name" "the patch does not apply" && sed 's/^/          /' "$work/log"
    bad=$((bad + 1)) && continue
  fi
  # A mutant that does not compile is killed by nobody's test. Reading $tests
  # as words is meant.
  # shellcheck disable=SC2086
  if ! (cd "$tree" && go test -vet=off -run '^$' $tests) >"$work/log" 2>&1; then
    verdict STALE "$name" "the broken code does not build" && tail -n 5 "$work/log" | sed 's/^/          /'
    bad=$((bad + 1)) && continue
  fi
  # shellcheck disable=SC2086
  if (cd "$tree" && go test -count=1 $tests) >"$work/log" 2>&1; then
    verdict SURVIVED "$name" "${breaks:-?} ($tests pass)"
    bad=$((bad + 1))
  else
    by=$(grep -m1 -oE '^ *--- FAIL: [^ ]+' "$work/log" | sed 's/.*: //' || true)
    verdict killed "$name" "${breaks:-?} (${by:-see log})"
    killed=$((killed + 1))
  fi
done
echo "mutants: $killed killed, $bad not"
[ "$bad" -eq 0 ]
