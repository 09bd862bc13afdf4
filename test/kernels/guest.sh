#!/bin/busybox sh
# The first process of a guest. It makes the host's file system the root, read-only under a layer of memory, gives it
# the mounts that the probes need, runs the job there, and says on the control port how far it came:
# `up` before the job, `exit STATUS` after it. The other half is machine.ts.

/bin/busybox --install -s /bin
export PATH=/bin
mount -t proc proc /proc
mount -t sysfs sys /sys
mount -t devtmpfs dev /dev

give_up() {
  echo "guest: $*" > /dev/console
  poweroff -f
}

# job/settings: series, release, project, modules
. /job/settings
while read -r module; do
  insmod "/modules/$module" || give_up "cannot load $module"
done < /modules/order

port() {
  for tries in 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20; do
    for entry in /sys/class/virtio-ports/*; do
      [ "$(cat "$entry/name" 2> /dev/null)" = "$1" ] && echo "${entry##*/}" && return
    done
    sleep 0.1
  done
}
control=$(port sonde.control)
output=$(port sonde.output)
[ -n "$control" ] && [ -n "$output" ] || give_up 'no port to the host'

mount -t virtiofs -o ro root /lower || give_up 'no root from the host'
mount -t tmpfs -o size=75% memory /upper
mkdir -p /upper/data /upper/work
mount -t overlay -o lowerdir=/lower,upperdir=/upper/data,workdir=/upper/work overlay /root \
  || give_up 'no writable layer'
cd /root || give_up 'no root'
mkdir -p proc sys dev run out "lib/modules/$release"
mount -t virtiofs out out || give_up 'no folder for results'
mount --move /proc proc
mount --move /sys sys
mount --move /dev dev
mkdir -p dev/pts dev/shm
mount -t devpts pts dev/pts
mount -t tmpfs shm dev/shm
mount -t tmpfs run run
mount -t cgroup2 cgroup2 sys/fs/cgroup
mount -t bpf bpf sys/fs/bpf
mount -t tracefs tracefs sys/kernel/tracing
mount -t debugfs debugfs sys/kernel/debug
mount -t securityfs securityfs sys/kernel/security
mount --bind "/root$modules" "/root/lib/modules/$release"
# as systemd does: cgroups that can be limited, and loop devices
echo +memory > sys/fs/cgroup/cgroup.subtree_control
for module in "lib/modules/$release/kernel/drivers/block/loop.ko"*; do [ -e "$module" ] && insmod "$module"; done

# the kernel loads modules from this root, programs from the other; both want the same files
ln -s /root/lib /lib
echo /bin/modprobe > proc/sys/kernel/modprobe
[ -x sbin/modprobe ] || { cp /bin/busybox usr/sbin/busybox; ln -s busybox usr/sbin/modprobe; }
hostname "sonde-$(echo "$series" | tr . -)"
ip link set lo up
mkdir -p run/sonde
cp /job/command run/sonde/command

echo up > "dev/$control"
chroot /root /bin/sh /run/sonde/command < dev/null > "dev/$output" 2>&1
echo "exit $?" > "dev/$control"
sync
poweroff -f
