#!/bin/sh
# Boots Debian's kernels in QEMU and runs the lab there, one boot a kernel.
# Usage: run.sh [6.1|6.12|all|arm64-6.1|arm64-6.12|arm64 [COMMAND...]]
# A command, as for eval, runs there instead of the lab: run.sh 6.1 ./capture.test -test.v
#
# The guest borrows this machine's files, read-only, with memory on top (init/main.go, guest.sh), so it runs the binaries
# of this tree: `make build` first. One of arm64 has Debian's programs of that machine instead (foreign.sh) and binaries
# built for it here. Kernels are Debian packages, downloaded once and kept by version in
# ${XDG_CACHE_HOME:-/var/cache}/picosnitch-kernels; what the last run left is in results/<kernel> there: lab.log,
# console.log, dmesg, cases (result, case, seconds), programs (name, verified instructions, why it was refused; both with
# tabs) and, if the guest came to its end, status; if it hung, hung and monitor.log. One that failed is kept in <kernel>.failed.
#
# PICOSNITCH_BIN  the daemon to test (bin/picosnitch), its plugins beside it
# LAB_CASES       which tests, as for go test -run (^TestLab$; of arm64-6.1 a selection)
# LAB_PATIENCE    times 30 s is what a case waits for its rows (6)
# LAB_LIMIT       seconds a kernel, from power on (720, which is what a quiet machine must keep)
set -eu

here=$(cd "$(dirname "$0")" && pwd)
tree=$(cd "$here/../.." && pwd)
cache=${XDG_CACHE_HOME:-/var/cache}/picosnitch-kernels
command=${PICOSNITCH_BIN:-$tree/bin/picosnitch}
go=${GO:-go}
limit=${LAB_LIMIT:-720}
silence=180 # seconds without a pulse, after which a guest hangs; it boots in 20

die() {
	echo "test-kernels: $*" >&2
	exit 1
}

# choose SERIES: sets the machine and its kernel's version, what apt speaks of, and how QEMU is called for it.
choose() {
	case $1 in
	arm64-*)
		arch=arm64 version=${1#arm64-} root=$work/root console=ttyAMA0
		emulator="qemu-system-aarch64 -machine virt -cpu max,pauth-impdef=on"
		"$tree/test/deps.sh" arm64
		"$here/foreign.sh" "$cache/arm64" apt
		APT_CONFIG=$cache/arm64/apt.conf
		;;
	*)
		arch=amd64 version=$1 root=/ console=ttyS0
		emulator="qemu-system-x86_64 -cpu max"
		APT_CONFIG=
		;;
	esac
	export APT_CONFIG
}

# offered: name and version of the newest kernel package of that version that apt knows, through a meta-package.
offered() {
	for meta in "linux-image-$version-$arch" "linux-image-$arch"; do
		apt-cache show --no-all-versions "$meta" 2>/dev/null |
			sed -n 's/^Depends:.*\(linux-image-[^ ,]*\) (= \([^)]*\)).*/\1 \2/p'
	done | grep "^linux-image-$version\." | head -n 1
}

# fetch SERIES: sets kernel to the directory that holds vmlinuz and lib/modules/<release>.
fetch() {
	package=$(offered)
	[ -n "$package" ] || { apt-get update -qq && package=$(offered); } || true
	if [ -z "$package" ]; then
		kernel=$(find "$cache" -maxdepth 1 -name "$1-*" 2>/dev/null | sort -V | tail -n 1)
		[ -n "$kernel" ] || die "apt offers no Debian kernel $1, and none is in $cache; bookworm and bookworm-security have it"
		echo "kernel $1: apt offers none, taking ${kernel##*/} from $cache"
		return
	fi
	name=${package% *}
	kernel=$cache/$1-${package#* }
	[ ! -e "$kernel" ] || return 0
	echo "kernel $1: downloading $name ${package#* } into $cache"
	part=$cache/part
	rm -rf "$part"
	mkdir -p "$part/tree"
	(cd "$part" && apt_download "$name=${package#* }")
	# Whole trees of drivers that no guest has make up half of it.
	dpkg-deb --fsys-tarfile "$part"/*.deb | tar -x -C "$part/tree" --exclude='*/kernel/drivers/gpu' \
		--exclude='*/kernel/drivers/media' --exclude='*/kernel/sound' ./boot ./lib/modules
	mv "$part"/tree/boot/vmlinuz-* "$part/tree/vmlinuz"
	release=$(ls "$part/tree/lib/modules")
	depmod -b "$part/tree" "$release"
	rm -rf "$part/tree/boot" "$cache/$1-"*
	mv "$part/tree" "$kernel"
	rm -rf "$part"
}

# apt_download PACKAGE=VERSION: once more with fresh lists, since a mirror keeps only the newest.
apt_download() {
	apt-get download -qq -o APT::Sandbox::User=root "$1" && return
	apt-get update -qq
	apt-get download -qq -o APT::Sandbox::User=root "$1"
}

# make_initrd KERNEL-DIRECTORY FILE: init and the modules it needs to reach the host's files.
make_initrd() {
	stage=$work/initrd
	rm -rf "$stage"
	mkdir -p "$stage/modules"
	cp "$work/init" "$stage/init"
	release=$(ls "$1/lib/modules")
	modprobe -d "$1" -S "$release" -a --show-depends virtio_pci 9p 9pnet_virtio overlay |
		sed -n 's/^insmod \([^ ]*\).*/\1/p' | awk '!seen[$0]++' >"$work/modules"
	number=100
	while read -r path; do
		number=$((number + 1))
		file=$stage/modules/$number-$(basename "$path" .xz)
		case $path in
		*.xz) xz -dc "$path" >"$file" ;;
		*) cp "$path" "$file" ;;
		esac
	done <"$work/modules"
	(cd "$stage" && find . | cpio --quiet -o -H newc) | gzip -1 >"$2"
}

# boot KERNEL-DIRECTORY OUT: runs the guest, at most $limit seconds, and shows each case as it ends.
boot() {
	: >"$2/lab.log"
	: >"$2/pulse"
	rm -f "$work"/monitor.*
	mkfifo "$work/monitor.in" "$work/monitor.out"
	# shellcheck disable=SC2086
	nice timeout -k 5 "$limit" $emulator -accel tcg,thread=multi -smp 2 -m 3072 -display none -nic none -no-reboot \
		-chardev "pipe,id=monitor,path=$work/monitor" -mon monitor -kernel "$1/vmlinuz" -initrd "$work/initrd.gz" \
		-append "console=$console panic=-1 oops=panic quiet sysrq_always_enabled" -serial "file:$2/console.log" \
		-fsdev local,id=host,path="$root",security_model=none,readonly=on,multidevs=remap \
		-device virtio-9p-pci,fsdev=host,mount_tag=host \
		-fsdev local,id=out,path="$2",security_model=none -device virtio-9p-pci,fsdev=out,mount_tag=out \
		</dev/null &
	machine=$!
	watch "$machine" "$2" &
	watcher=$!
	shown='s/^ *--- \(.*: TestLab\/.*\)/  \1/p'
	[ -z "$guest_command" ] || shown=p
	tail -n +1 -s 1 -f --pid="$machine" "$2/lab.log" | sed -u -n "$shown" || true
	wait "$machine" || echo "qemu: exit code $? (124: stopped after $limit s)"
	wait "$watcher" || true
}

# watch MACHINE OUT: ends a guest whose pulse (guest.sh) has stopped, and has it say before where it is: the tasks of its
# kernel go to the console.
watch() {
	while sleep 5 && kill -0 "$1" 2>/dev/null; do
		[ $(($(date +%s) - $(stat -c %Y "$2/pulse"))) -gt "$silence" ] || continue
		echo "kernel $(cat "$2/kernel" 2>/dev/null) hung: no pulse for $silence s" | tee "$2/hung"
		for line in "sendkey alt-sysrq-9" "sendkey alt-sysrq-l" "sendkey alt-sysrq-t" "info registers -a"; do
			echo "$line"
			sleep 5
		done >"$work/monitor.in"
		timeout 1 cat "$work/monitor.out" >"$2/monitor.log" || true
		kill "$1" && return
	done
}

# judge OUT: succeeds if the guest came to its end, every case passed and there was one.
judge() {
	if [ -n "$guest_command" ]; then
		echo "kernel $(cat "$1/kernel" 2>/dev/null || echo "not booted"): exit status $(cat "$1/status" 2>/dev/null || echo none)"
		[ "$(cat "$1/status" 2>/dev/null)" = 0 ]
		return
	fi
	sed -n 's/^ *--- \([A-Z]*\): TestLab\/\(shared\/cases\|own\)\/\([^ ]*\) (\(.*\)s)$/\1\t\3\t\4/p' "$1/lab.log" >"$1/cases"
	passed=$(grep -c '^PASS' "$1/cases" || true)
	skipped=$(grep -c '^SKIP' "$1/cases" || true)
	others=$(grep -vc '^PASS\|^SKIP' "$1/cases" || true)
	release=$(cat "$1/kernel" 2>/dev/null || echo "not booted")
	status=$(cat "$1/status" 2>/dev/null || echo none)
	echo "kernel $release: $passed cases passed, $skipped skipped for want of what this kernel lacks, $others did not; exit status $status; $(($(date +%s) - started)) s"
	[ "$status" = 0 ] && [ "$others" = 0 ] && [ "$passed" -gt 0 ] && judge_programs "$1"
}

# judge_programs OUT: prints what the verifier said; fails if a program that was taken is above the limit.
judge_programs() {
	[ -e "$1/programs" ] && sed 's/^/  program /' "$1/programs" | cut -c -200
	[ "$(cat "$1/programs.status" 2>/dev/null)" = 0 ]
}

# verdict OUT: in a few lines, which cases failed and, of a guest that did not come to its end, which were running.
verdict() {
	release=$(cat "$1/kernel" 2>/dev/null || echo "not booted")
	echo "kernel $release: exit status $(cat "$1/status" 2>/dev/null || echo "none, $(tail -n 1 "$1/console.log" | tr -cd '[:print:]' | cut -c -100)")"
	[ ! -e "$1/hung" ] || cat "$1/hung"
	echo "failed: $(sed -n 's/^FAIL\t\([^\t]*\).*/\1/p' "$1/cases" | head -n 8 | paste -s -d ' ')"
	echo "not ended: $(running "$1" | tail -n 8 | paste -s -d ' ')"
}

# running OUT: the cases that began and did not end.
running() {
	awk -F '\t' 'FILENAME == ARGV[1] { ended[$2] = 1; next } !($1 in ended) && !($1 in shown) { shown[$1] = 1; print $1 }' "$1/cases" - <<-END
		$(sed -n 's/^=== CONT  TestLab\/\(shared\/cases\|own\)\/\(.*\)$/\2/p' "$1/lab.log")
	END
}

# explain OUT: what a person needs to see of a guest that failed.
explain() {
	echo "--- programs that the kernel refuses, each loaded alone"
	grep "$(printf '\t-\t')" "$1/programs" | cut -c -400 || true
	echo "--- what daemons complained of, and how often"
	sed -n 's/^ *\(picosnitch: .*\)/\1/p; s/.*\(level=\(WARN\|ERROR\) .*\)/\1/p' "$1/lab.log" |
		sort | uniq -c | sort -rn | head -n 20
	echo "--- lab.log, without what passed (all of it: $1/lab.log)"
	grep -v -E '^=== |--- PASS|will ask again|exact after|: ready after ' "$1/lab.log" | head -n "${LAB_LINES:-150}" || true
	echo "--- the end of the console ($1/console.log)"
	tail -n 15 "$1/console.log" | tr -d '\r' || true
}

# must SERIES: what a kernel is known to have. Without it a case fails there; what is not listed may be skipped.
must() {
	known="SCTP,kTLS,vsock over loopback,MPTCP,io_uring,VXLAN,WireGuard,TUN,AF_XDP on veth,NFS,bubblewrap"
	known="$known,FUSE,loop devices,btrfs,squashfs"
	case $1 in
	6.1 | arm64-6.1) echo "$known" ;;
	*) echo "$known,SO_PEEK_OFF of TCP" ;;
	esac
}

# chosen SERIES: the cases to run, if somebody has not said which.
chosen() {
	case $1 in
	arm64-6.1) echo "TestLab/shared/cases/($kprobe_cases|name-.*|exe-.*|exec)\$" ;; # has kprobes alone
	*) echo '^TestLab$' ;;
	esac
}

# What kprobes alone are to count.
kprobe_cases='tcp[46]|tcp-(bulk|sendfile|urgent|read-and-peek)|mptcp4|mptcp-sendfile-splice|udp[46]-(connected|50-peers)'
kprobe_cases="$kprobe_cases|udp-nameless-5-peers|udp-cork|icmp-ping|icmpv6-raw|raw4|sctp4-many|uring-send-recv|threads"
kprobe_cases="$kprobe_cases|unix-and-netlink"

# lesser SERIES: the cases that run once more with kprobes; none if somebody has chosen the cases.
lesser() {
	[ "$1" = 6.1 ] && [ -z "${LAB_CASES:-}" ] || return 0
	echo "TestLab/shared/cases/($kprobe_cases)\$"
}

# build_for ARCH: what runs in the guest, into $work and, if the machine is another one, the daemon and its files too.
build_for() {
	export GOARCH="$1"
	build="$go build -trimpath -tags=grpcnotrace"
	$build -ldflags '-s -w' -o "$work/init" ./test/kernels/init
	$build -ldflags '-s -w' -o "$work/load" ./test/kernels/load
	$build -ldflags '-s -w' -o "$work/generator" ./test/lab/generator
	"$go" test -c -trimpath -ldflags '-s -w' -o "$work/lab.test" ./test/lab
	[ "$root" = / ] || build_root
}

# build_root makes the files of a guest that cannot use this machine's.
build_root() {
	rm -rf "$root"
	mkdir -p "$root$tree" "$root$work" "$root$kernel"
	"$here/foreign.sh" "$cache/arm64" root "$root"
	$build -ldflags '-s -w' -o "$root$command" ./host
	for plugin in plugins/*; do
		$build -ldflags '-s -w' -o "$root${command%/*}/plugins/picosnitch-plugin-${plugin#plugins/}" "./$plugin"
	done
	cp -R --parents test/lab host/internal/*/*/testdata host/internal/capture/kernel_bpfel.o "$root$tree"
	cp "$work/load" "$work/generator" "$work/lab.test" "$root$work"
	cp -R "$kernel/lib" "$root$kernel"
}

# run SERIES: what a run that failed left stays beside, until another one fails.
run() {
	choose "$1"
	fetch "$1"
	release=$(ls "$kernel/lib/modules")
	out=$cache/results/$1
	build_for "$arch"
	[ ! -d "$out" ] || [ "$(cat "$out/status" 2>/dev/null)" = 0 ] || { rm -rf "$out.failed" && mv "$out" "$out.failed"; }
	rm -rf "$out"
	mkdir -p "$out"
	cp "$here/guest.sh" "$out/guest.sh"
	started=$(date +%s)
	cat >"$out/env" <<END
BUILD='$work' COMMAND='$command' MODULES='$kernel/lib/modules/$release' STARTED=$started TREE='$tree'
LAB_CASES='${LAB_CASES:-$(chosen "$1")}' LESSER_CASES='$(lesser "$1")' LAB_MUST='$(must "$1")' LAB_PATIENCE=${LAB_PATIENCE:-6} LAB_TIMEOUT=$((limit - 40))s
END
	printf '%s\n' "${guest_command:-run_lab}" >"$out/command"
	make_initrd "$kernel" "$work/initrd.gz"
	echo "kernel $release (Debian ${kernel##*/"$1"-}), $(${emulator%% *} --version | head -n 1)"
	boot "$kernel" "$out"
	judge "$out" && return
	[ -n "$guest_command" ] || explain "$out"
	return 1
}

case ${1:-all} in
all) series="6.1 6.12" ;;
arm64) series="arm64-6.1 arm64-6.12" ;;
6.1 | 6.12 | arm64-6.1 | arm64-6.12) series=$1 ;;
*) echo "usage: run.sh [6.1|6.12|all|arm64-6.1|arm64-6.12|arm64 [COMMAND...]]" >&2 && exit 2 ;;
esac
[ $# -eq 0 ] || shift
guest_command=$*
[ "$(id -u)" -eq 0 ] || die "root is needed: the guest reads this machine's files"
[ -x "$command" ] || die "$command is missing: run make build first"
command=$(realpath "$command")
"$tree/test/deps.sh" kernels
mkdir -p "$cache"
exec 9>"$cache/lock"
flock 9 # one guest at a time

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
chmod 755 "$work"
cd "$tree"
export CGO_ENABLED=0

failed=
for s in $series; do
	run "$s" || failed="$failed $s"
done
for s in $failed; do
	[ -n "$guest_command" ] || verdict "$cache/results/$s" | sed 's/^/test-kernels: /'
done
[ -z "$failed" ] || die "failed on kernel$failed"
