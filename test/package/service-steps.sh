#!/bin/bash
# The steps of the README's "As a service" below a booted systemd, and what may happen afterwards.
# Each says in one line what it found; service.test.ts knows what it should be.
set -e
show() { systemctl show -p "$1" --value sheep; }
uri='nbd+unix:///demo?socket=/run/sheep.sock'
# Until a main process other than $1 serves.
another() { until [ "$(show ActiveState)" = active ] && [ "$(show MainPID)" != "$1" ]; do sleep 0.1; done; }

cd /usr/local/lib/node_modules/sheepdog-nbd/packaging
cp systemd/sheep.service systemd/sheep.socket /etc/systemd/system/
cp systemd/sheep.conf /etc/sysusers.d/ && systemd-sysusers 2>/dev/null
install -D -m 644 sheep.json /etc/sheep/sheep.json
sheep --check-config /etc/sheep/sheep.json
# A minute of patience is too long for a test.
mkdir /etc/systemd/system/sheep.service.d
printf '[Service]\nWatchdogSec=3\n' >/etc/systemd/system/sheep.service.d/sooner.conf
systemctl daemon-reload
systemctl enable --now sheep.socket sheep 2>/dev/null
echo "started: $(show ActiveState), $(show StatusText)"
echo "user: $(stat -c %U "/proc/$(show MainPID)")"
echo "socket: $(stat -c '%U %G %a' /run/sheep.sock)"
echo "store: $(stat -c '%U %a' /var/lib/sheep)"
echo "admin: $(collie -a unix:/run/sheep/admin.sock vdi list | awk 'NR == 2 { print $1 }')"
echo "size: $(nbdinfo --size "$uri")"

systemctl reload sheep
echo "reloaded: $(show ActiveState)"

before=$(show MainPID)
kill -9 "$before"
# The socket is there meanwhile: who comes now waits.
echo "size after a kill: $(nbdinfo --size "$uri")"
another "$before"
echo "restarts after a kill: $(show NRestarts)"

before=$(show MainPID)
kill -STOP "$before"
another "$before"
echo "restarts after it hung: $(show NRestarts)"
echo "size after it hung: $(nbdinfo --size "$uri")"

systemctl stop sheep.socket sheep
echo "stopped: $(show ActiveState), $(show Result)"
