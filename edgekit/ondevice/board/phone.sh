#!/bin/dash
# An emulated board that is reached over adb: process 1. It has a shell of busybox and no Python, like a phone.
PATH=/usr/sbin:/usr/bin:/sbin:/bin:/system/bin
export PATH
busybox mount -t proc proc /proc
busybox mount -t sysfs sys /sys
busybox mount -t devtmpfs dev /dev
busybox mkdir -p /dev/pts /data/local/tmp /system/bin
busybox mount -t devpts devpts /dev/pts
busybox mount -t tmpfs run /run
busybox chmod 1777 /tmp
busybox chmod 755 /
busybox ip link set lo up
busybox ip addr add 10.0.2.15/24 dev eth0
busybox ip link set eth0 up
busybox ip route add default via 10.0.2.2
busybox --install -s /system/bin
export ADBD_PORT=5555 HOME=/data/local/tmp SHELL=/bin/sh
while :; do busybox setsid /usr/lib/android-sdk/platform-tools/adbd; sleep 1; done
