#!/bin/busybox sh
# The first process of a guest for the agent sshd: prepares the guest, runs the SSH daemon, and powers off after it.
#
# Kernel parameter: vc.address=ADDRESS/PREFIX, where the host reaches the daemon.
export PATH=/usr/sbin:/usr/bin:/sbin:/bin

if [ "$1" != rooted ]; then
	# The kernel's initramfs cannot be left by pivot_root, because it is mounted on nothing. So it is mounted on itself.
	/bin/busybox --install -s 2>/dev/null
	ln -sf dash /bin/sh
	mkdir -p /run/root /proc /sys /dev /tmp /root
	mount --bind / /run/root
	cd /run/root || exit
	/bin/busybox mount -o move . /
	exec chroot . /init rooted
fi

mount -t proc -o nosuid,nodev,noexec proc /proc
mount -t sysfs -o nosuid,nodev,noexec sysfs /sys
mount -t devtmpfs -o nosuid,noexec devtmpfs /dev
exec </dev/null >/dev/console 2>&1
mkdir -p /dev/pts /dev/shm
mount -t devpts -o nosuid,noexec,gid=5,mode=0620,ptmxmode=0666 devpts /dev/pts
mount -t tmpfs -o nosuid,nodev,mode=1777 shm /dev/shm
mount -t tmpfs -o nosuid,nodev,mode=0755 run /run
mount -t cgroup2 -o nosuid,nodev,noexec cgroup2 /sys/fs/cgroup
echo "+memory +pids" >/sys/fs/cgroup/cgroup.subtree_control
chmod 1777 /tmp
chmod 0755 / # or the daemon trusts no key below it
umask 022

while read -r module; do
	insmod "$module" || echo "init: kernel module $module cannot be loaded"
done </lib/modules/load

# The host's own interface is the last one: before it comes the one of the pod's network, if it has any.
for device in /sys/class/net/eth*; do device=${device##*/}; done
read -r parameters </proc/cmdline
for parameter in $parameters; do
	case $parameter in vc.address=*) address=${parameter#*=} ;; esac
done
ip link set lo up
ip link set "$device" up
ip address add "$address" dev "$device"

mkdir -p /run/sshd /run/ssh /run/vc-sshd/.made/tools
chmod 0700 /run/ssh /run/vc-sshd
cp /usr/lib/vc-sshd/containers.sh /run/vc-sshd/.made
cp /usr/lib/vc-sshd/launch.sh /run/vc-sshd/.made/tools
dash /run/vc-sshd/.made/containers.sh setup

# A VM may be saved while it waits here, and cloned: no key and nothing random is in it yet.
/usr/sbin/wake org.virtcontainers.wake.0 /run/ssh/host-key /run/ssh/authorized_keys || poweroff -f

/usr/sbin/sshd -D -e -f /etc/ssh/sshd_config
poweroff -f
