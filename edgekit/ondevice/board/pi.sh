#!/bin/dash
# An emulated board that is reached over ssh: process 1.
PATH=/usr/sbin:/usr/bin:/sbin:/bin
export PATH
mount -t proc proc /proc
mount -t sysfs sys /sys
mount -t devtmpfs dev /dev
mkdir -p /dev/pts /dev/shm
mount -t devpts devpts /dev/pts
mount -t tmpfs -o mode=1777 shm /dev/shm
mount -t tmpfs run /run
mkdir -m 755 /run/sshd
chmod 1777 /tmp
chmod 755 /
chmod 711 /etc/edgekit
chmod 600 /etc/edgekit/host_key
chmod 644 /etc/edgekit/authorized_keys
busybox ip link set lo up
busybox ip addr add 10.0.2.15/24 dev eth0
busybox ip link set eth0 up
busybox ip route add default via 10.0.2.2
while :; do /usr/sbin/sshd -D -e -f /etc/edgekit/sshd_config; sleep 1; done
