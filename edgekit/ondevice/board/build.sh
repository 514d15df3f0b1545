#!/bin/sh
# Make the disk of an emulated board: build.sh SUITE PACKAGES MIRROR KEYRING FOLDER; as root, or under fakeroot.
# FOLDER/overlay is laid over the system. Made there: kernel, modules/, busybox and disk.img. Nothing is mounted.
set -eu
suite=$1 packages=$2 mirror=$3 keyring=$4 folder=$5
cd "$folder"
mmdebstrap --quiet --mode=root --arch=arm64 --variant=extract --keyring="$keyring" --include="$packages" \
    "$suite" root "$mirror"

if [ -d root/lib/modules ]; then
    cp root/boot/vmlinuz-* kernel
    mkdir modules
    for name in failover net_failover virtio virtio_ring virtio_pci_legacy_dev virtio_pci_modern_dev virtio_pci \
        virtio_net virtio_blk crc16 crc32c_generic libcrc32c mbcache jbd2 ext4; do
        find root/lib/modules -name "$name.ko" -exec cp {} modules/ \;
    done
    rm -rf --one-file-system root/boot root/lib/modules
fi
if [ -f root/bin/busybox ]; then cp root/bin/busybox busybox; fi

# what the packages' own scripts would do, which are for another processor
for name in passwd group; do cp "root/usr/share/base-passwd/$name.master" "root/etc/$name"; done
echo 'sshd:x:100:65534::/run/sshd:/usr/sbin/nologin' >>root/etc/passwd
echo 'pi:x:1000:1000::/home/pi:/bin/bash' >>root/etc/passwd
echo 'pi:x:1000:' >>root/etc/group
sed 's/:.*/:*:19000:0:99999:7:::/' root/etc/passwd >root/etc/shadow
chmod 640 root/etc/shadow
rm -rf --one-file-system root/usr/share/doc root/usr/share/man root/usr/share/locale root/var/cache root/var/lib/apt
mkdir -p root/home/pi root/proc root/sys root/dev root/run root/tmp
cp -a overlay/. root/
chown -R 0:0 root/usr/sbin/board root/etc/hosts
chown -R 1000:1000 root/home/pi
mke2fs -q -t ext4 -m 0 -E root_owner=0:0 -d root disk.img "$(($(du -sk root | cut -f1) / 1024 + 2048))M"
rm -rf --one-file-system root overlay
