#!/bin/sh
# Before a removal (deb: remove, rpm: 0); an upgrade leaves the service running.
set -e
case ${1:-} in
remove | 0)
  if [ -d /run/systemd/system ]; then
    systemctl stop wattledger-agent.service
  fi
  systemctl --quiet disable wattledger-agent.service
  ;;
esac
