#!/usr/bin/env bash
# Makes deb and rpm packages of the agent, the aggregator and the command line.
#   scripts/packages.sh [FOLDER]      default bin/packages
#   VERSION=1.2.3        default: the tag, else 0.0.0~<day>.<commit>
#   SOURCE_DATE_EPOCH=N  default: of the commit. Same tree, toolchain and settings,
#                        same bytes.
set -euo pipefail
cd "$(dirname "$0")/.."
top=$PWD
out=$(readlink -m "${1:-bin/packages}")
export SOURCE_DATE_EPOCH=${SOURCE_DATE_EPOCH:-$(git log -1 --format=%ct)}
if [ -z "${VERSION:-}" ]; then
  VERSION=$(git describe --tags --exact-match --match 'v[0-9]*' 2>/dev/null || true)
  VERSION=${VERSION#v}
fi
[ -n "$VERSION" ] || VERSION=0.0.0~$(date -u -d "@$SOURCE_DATE_EPOCH" +%Y%m%d).$(git log -1 --format=%h --abbrev=12)
export VERSION
ARCH=$(go env GOARCH)
export ARCH

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
umask 022
mkdir -p "$work/bin" "$out"
go build -trimpath -ldflags='-s -w' -o "$work/bin/" ./cmd/...
go build -modfile=internal/tools/nfpm/go.mod -o "$work/nfpm" github.com/goreleaser/nfpm/v2/cmd/nfpm
# The newest glibc that any of the programs asks for.
LIBC=$(readelf -V "$work"/bin/* | grep -o 'GLIBC_[0-9][0-9.]*' | sort -Vu | tail -n 1)
export LIBC=${LIBC#GLIBC_}

tree=$work/tree
put() { # MODE FOLDER FILE...: those of the files that exist
  local mode=$1 folder=$2 f
  shift 2
  for f; do [ ! -f "$f" ] || install -D -m "$mode" -t "$tree/$folder" "$f"; done
}
for part in agent aggregator; do
  put 0755 $part/usr/bin "$work/bin/wattledger-$part"
  put 0644 $part/usr/lib/systemd/system packaging/systemd/wattledger-$part.service
  put 0644 $part/usr/lib/sysusers.d packaging/sysusers.d/wattledger-$part.conf
  put 0644 $part/usr/lib/tmpfiles.d packaging/tmpfiles.d/wattledger-$part.conf
  put 0644 $part-settings/etc/wattledger packaging/config/$part.yaml
  put 0644 $part/usr/share/doc/wattledger-$part LICENSE NOTICE
done
put 0644 agent/usr/lib/tmpfiles.d packaging/tmpfiles.d/wattledger-rapl.conf
put 0755 cli/usr/bin "$work/bin/wattledger" "$work/bin/wattledger-fleet"
put 0644 cli/usr/share/doc/wattledger LICENSE NOTICE README.md
shopt -s nullglob
for f in packaging/slurm/*; do # hooks are run, their settings are kept, the rest is read
  case $f in
  *.conf) put 0644 agent-settings/etc/wattledger "$f" ;;
  *) if [ -x "$f" ]; then put 0755 agent/usr/libexec/wattledger/slurm "$f"; else put 0644 agent/usr/share/doc/wattledger-agent/slurm "$f"; fi ;;
  esac
done
put 0644 aggregator/usr/share/wattledger/dashboards dashboards/json/*.json
put 0644 aggregator/usr/share/wattledger/alerts alerts/*.rules.yml
put 0644 aggregator/usr/share/doc/wattledger-aggregator/examples packaging/examples/*
put 0755 scripts packaging/scripts/*.sh
find "$tree" -exec touch -h -d "@$SOURCE_DATE_EPOCH" {} +

cd "$tree"
pack() { # FOLDER PACKAGE
  local config=$work/$2.yaml
  {
    cat "$top/packaging/nfpm/$2.yaml"
    echo 'contents:'
    find "$1" -type f -printf '  - {src: "%p", dst: "/%P", file_info: {mode: 0%m}}\n' | LC_ALL=C sort
    [ ! -d "$1-settings" ] || find "$1-settings" -type f -printf '  - {src: "%p", dst: "/%P", type: config|noreplace}\n' | LC_ALL=C sort
  } >"$config"
  for packager in deb rpm; do
    "$work/nfpm" package --config "$config" --packager $packager --target "$out" | sed -n 's/^created package: //p'
  done
}
pack agent wattledger-agent
pack aggregator wattledger-aggregator
pack cli wattledger
