#!/bin/sh
# The first process of the guest: of the initramfs as /init, of a root file system as /sbin/init.
# Makes the machine usable, then runs scripts from the second serial port, one at a time: a line is
# a number and a script in base64; what the script prints is followed by `guest: NUMBER ended STATUS`.

/bin/busybox --install -s
mount -t proc proc /proc
mount -t sysfs sysfs /sys
mount -t devtmpfs devtmpfs /dev

# Named in the order in which they need each other; a root file system has none, they are loaded.
for module in /lib/modules/*.ko; do
  [ ! -e "$module" ] || insmod "$module"
done

root=$(sed -n 's/.*\broot=\([^ ]*\).*/\1/p' /proc/cmdline)
if [ "$0" = /init ] && [ -n "$root" ]; then
  mount -t ext4 -o rw "$root" /mnt && umount /dev /sys /proc && exec switch_root /mnt /sbin/init
  echo "guest: no root file system on $root"
  poweroff -f
fi

ip link set lo up
if [ -e /sys/class/net/eth0 ]; then
  # As QEMU's user network wants it; the host's loopback is 10.0.2.2.
  ip addr add 10.0.2.15/24 dev eth0
  ip link set eth0 up
  ip route add default via 10.0.2.2
  until [ "$(cat /sys/class/net/eth0/carrier)" = 1 ]; do usleep 10000; done
fi

mount -t tmpfs tmpfs /tmp
stty -F /dev/ttyS1 raw -echo
exec </dev/ttyS1 >/dev/ttyS1
echo 'guest: ready'
while read -r number script; do
  echo "$script" | base64 -d >/tmp/script
  sh -e /tmp/script </dev/null 2>&1
  echo "guest: $number ended $?"
done
