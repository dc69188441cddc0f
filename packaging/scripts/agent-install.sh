#!/bin/sh
# After an installation or an upgrade (deb: configure, rpm: 1 or 2). A first
# installation starts nothing: the settings come first. An upgrade starts anew
# what runs.
set -e
systemd-sysusers wattledger-agent.conf
systemd-tmpfiles --create wattledger-agent.conf
if [ -d /run/systemd/system ]; then
  systemctl daemon-reload
  systemctl try-restart wattledger-agent.service
fi
