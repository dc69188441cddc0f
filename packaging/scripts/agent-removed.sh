#!/bin/sh
# After a removal. A purge (deb) takes away what the agent and the job hooks made:
# spool, state and edges that wait, its tokens, its user. The group goes with the last who needs it.
set -e
if [ -d /run/systemd/system ]; then
  systemctl daemon-reload
fi
if [ "${1:-}" = purge ]; then
  rm -rf /var/lib/wattledger-agent /var/lib/wattledger-edges /run/wattledger
  rm -f /etc/wattledger/agent.token /etc/wattledger/metrics.token
  [ ! -d /etc/wattledger ] || rmdir --ignore-fail-on-non-empty /etc/wattledger
  if getent passwd wattledger-agent >/dev/null; then
    userdel wattledger-agent
  fi
  if getent group wattledger >/dev/null && ! getent passwd wattledger >/dev/null; then
    groupdel wattledger
  fi
fi
