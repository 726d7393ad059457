#!/bin/sh
# Runs in the guest, as root, inside the borrowed files of the host: mounts what a booted machine has, then runs the lab.
# init started it; run.sh wrote `env` beside it (BUILD, COMMAND, MODULES, STARTED, TREE) and reads what it leaves here.
set -eu
out=/run/out
# shellcheck source=/dev/null
. "$out/env"
uname -r >"$out/kernel"
while echo >"$out/pulse"; do sleep 10; done &

mount -t proc proc /proc
mount -t sysfs sysfs /sys
mount -t devtmpfs devtmpfs /dev
mkdir -p /dev/pts /dev/shm
mount -t devpts devpts /dev/pts
mount -t tmpfs -o mode=1777 tmpfs /dev/shm
mount -t cgroup2 cgroup2 /sys/fs/cgroup
mount -t bpf -o mode=0700 bpf /sys/fs/bpf
mount -t tracefs tracefs /sys/kernel/tracing
mount -t securityfs securityfs /sys/kernel/security

hostname picosnitch-guest
ip link set lo up
[ "$(date +%s)" -ge "$STARTED" ] || { echo "the guest's clock is wrong: $(date)"; exit 1; }

# What systemd does on a real machine. The plugins' memory bound needs it.
echo '+memory +pids' >/sys/fs/cgroup/cgroup.subtree_control
grep -qw memory /sys/fs/cgroup/cgroup.subtree_control

mkdir -p "/lib/modules/$(uname -r)"
mount --bind "$MODULES" "/lib/modules/$(uname -r)"
modprobe -a veth sctp tun macvtap wireguard vsock_loopback loop fuse btrfs squashfs

# On the overlay, whose files the kernel knows by another device and inode than stat shows; and empty, since the host's
# lab directories are none of ours.
export TMPDIR=/tmp/g
mkdir -p "$TMPDIR"
chmod 1777 "$TMPDIR"

export CI=true LAB_SIZE=small LAB_PATIENCE LAB_GENERATOR="$BUILD/generator" PICOSNITCH_BIN="$COMMAND"
export LAB_MUST LAB_RESULTS="$out/results.json"
# shellcheck disable=SC2317 # the command that is evaluated below
run_lab() {
	object=$TREE/host/internal/capture/kernel_bpfel.o
	"$BUILD/load" "$object" >"$out/programs" 2>&1 && echo 0 >"$out/programs.status"
	"$BUILD/lab.test" -test.v -test.run "$LAB_CASES" -test.timeout "$LAB_TIMEOUT" || return
	[ -z "$LESSER_CASES" ] || run_lesser
}

# run_lesser runs some of them on what the kernel is without tracepoints of calls and without fexit: arm64's 6.1.
run_lesser() {
	PICOSNITCH_LACKS="sock_send_length sock_recv_length fexit" LAB_RESULTS="" \
		"$BUILD/lab.test" -test.v -test.run "$LESSER_CASES" -test.timeout "$LAB_TIMEOUT"
}
cd "$TREE/test/lab"
code=0
eval "$(cat "$out/command")" >"$out/lab.log" 2>&1 || code=$?
dmesg >"$out/dmesg" 2>&1 || true
exit "$code"
