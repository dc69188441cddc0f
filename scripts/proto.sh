#!/usr/bin/env bash
# Generates Go from internal/wire/*.proto with the pinned tools, after checking
# the definitions; the settings are beside them. The result is committed: a
# build needs none of this.
#   scripts/proto.sh           lint and generate
#   scripts/proto.sh check     lint only
set -euo pipefail
cd "$(dirname "$0")/../internal/wire"
buf() { go tool -modfile=../tools/buf/go.mod buf "$@"; }
buf lint
[ "${1:-}" = check ] || buf generate
