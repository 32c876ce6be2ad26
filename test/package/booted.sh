#!/bin/bash
# Boots systemd in namespaces of its own, on an overlay of this machine's files, and runs a script
# there as a service. Called as root through
#   unshare --mount --pid --net --uts --ipc --cgroup --fork --kill-child booted.sh PREFIX STEPS SAID
# PREFIX   what becomes /usr/local there
# STEPS    the script; what it says goes to the file SAID, whose last line is "end STATUS"
set -e
prefix=$1 steps=$2 said=$3

mount --make-rprivate /
# What is left of it here is an empty folder beside SAID.
work=$(mktemp -d -p "$(dirname "$said")")
mount -t tmpfs none "$work"
mkdir "$work/upper" "$work/work" "$work/root"
mount -t overlay overlay -o "lowerdir=/,upperdir=$work/upper,workdir=$work/work" "$work/root"
root=$work/root

mkdir -p "$root/usr/local" "$root/etc/sysusers.d"
cp -a "$prefix/." "$root/usr/local/"
cp "$steps" "$root/root/steps.sh"
# Nothing of what this machine starts is started there.
rm -rf "$root"/etc/systemd/system/*.wants
cat >"$root/etc/systemd/system/steps.service" <<'UNIT'
[Unit]
DefaultDependencies=no
After=dbus.service
[Service]
Type=oneshot
Environment=PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin HOME=/root
ExecStart=/bin/bash -c '/bin/bash /root/steps.sh >/root/said 2>&1; echo "end $?" >>/root/said'
TimeoutStartSec=infinity
UNIT
cat >"$root/etc/systemd/system/steps.target" <<'UNIT'
[Unit]
Wants=steps.service dbus.service systemd-journald.service
UNIT

mount -t proc proc "$root/proc"
mount -t tmpfs tmpfs "$root/run"
mount -t tmpfs tmpfs "$root/tmp"
mount --rbind /dev "$root/dev"
mount -t sysfs sysfs "$root/sys"
mount -t tmpfs -o mode=755 tmpfs "$root/sys/fs/cgroup"
mount -t cgroup2 none "$root/sys/fs/cgroup"

# systemd becomes process 1 here, so somebody else has to see the end.
(
  until grep -qs '^end ' "$work/upper/root/said"; do sleep 0.1; done
  cp "$work/upper/root/said" "$said"
  kill -RTMIN+14 1 # poweroff, at once
) &
exec env -i container=lxc PATH=/usr/sbin:/usr/bin:/sbin:/bin chroot "$root" \
  /lib/systemd/systemd --unit=steps.target --log-level=warning --log-target=console --show-status=no
