#!/bin/sh
# Installs the Debian packages that tests or code generation need, and says so. Usage: deps.sh test|kernels|arm64|generate
set -eu

# need COMMAND PACKAGE...: install the packages if the command is missing.
need() {
	wanted=$1
	shift
	command -v "$wanted" >/dev/null 2>&1 || missing="$missing $*"
}

missing=
case ${1:-test} in
test)
	need sqlite3 sqlite3
	need ip iproute2
	need runc runc
	need bwrap bubblewrap
	need mkfs.ext4 e2fsprogs
	need mkfs.btrfs btrfs-progs
	need mksquashfs squashfs-tools
	need squashfuse squashfuse
	need fusermount3 fuse3
	need rpmbuild rpm
	[ -d /usr/lib/postgresql ] || missing="$missing postgresql"
	need mariadbd mariadb-server
	[ -x /usr/bin/python3 ] || missing="$missing python3"
	/usr/bin/python3 -c 'import grpc, google.protobuf, cryptography' 2>/dev/null ||
		missing="$missing python3-grpcio python3-protobuf python3-cryptography"
	[ -d /usr/share/zoneinfo ] || missing="$missing tzdata"
	;;
kernels)
	need qemu-system-x86_64 qemu-system-x86
	need depmod kmod
	need cpio cpio
	need xz xz-utils
	need sqlite3 sqlite3
	need ip iproute2
	need wg wireguard-tools
	;;
arm64)
	need qemu-system-aarch64 qemu-system-arm
	;;
generate)
	need clang-14 clang-14
	need llvm-strip-14 llvm-14
	need protoc protobuf-compiler
	[ -e /usr/include/bpf/bpf_helpers.h ] || missing="$missing libbpf-dev"
	;;
*)
	echo "usage: deps.sh test|kernels|arm64|generate" >&2
	exit 2
	;;
esac

[ -n "$missing" ] || exit 0
echo "installing:$missing"
if [ "$(id -u)" -ne 0 ]; then
	echo "deps.sh: root is needed to install these packages" >&2
	exit 1
fi
# Tests start servers of their own, in directories of their own; the packages' are not to run.
policy=/usr/sbin/policy-rc.d
if [ ! -e "$policy" ]; then
	printf '#!/bin/sh\nexit 101\n' >"$policy"
	chmod 755 "$policy"
	trap 'rm -f "$policy"' EXIT
fi
apt-get update -qq
# shellcheck disable=SC2086
DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends $missing
