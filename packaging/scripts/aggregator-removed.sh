#!/bin/sh
# After a removal. A purge (deb) takes away what the aggregator made, except the
# books: they are evidence, and only a person throws them away.
set -e
if [ -d /run/systemd/system ]; then
  systemctl daemon-reload
fi
if [ "${1:-}" = purge ]; then
  rm -f /etc/wattledger/tokens /etc/wattledger/tls.key
  [ ! -d /etc/wattledger ] || rmdir --ignore-fail-on-non-empty /etc/wattledger
  if [ -d /var/lib/wattledger ] && ! rmdir /var/lib/wattledger 2>/dev/null; then
    echo "wattledger-aggregator: the books in /var/lib/wattledger are kept; remove them and the user wattledger yourself" >&2
    exit 0
  fi
  if getent passwd wattledger >/dev/null; then
    userdel wattledger
  fi
  if getent group wattledger >/dev/null && ! getent passwd wattledger-agent >/dev/null; then
    groupdel wattledger
  fi
fi
