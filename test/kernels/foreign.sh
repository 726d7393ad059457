#!/bin/sh
# What a guest needs that is not of this machine's kind: Debian packages of arm64, kept apart from this machine's own.
# Usage: foreign.sh DIRECTORY apt      writes DIRECTORY/apt.conf; with APT_CONFIG set to it, apt speaks of arm64
#        foreign.sh DIRECTORY root TO  unpacks into TO the programs that the lab and guest.sh call
# DIRECTORY keeps lists and packages between runs. Nothing of what is unpacked is configured, or ever run here.
set -eu

dir=$1
packages="bash coreutils dash grep hostname iproute2 kmod libc-bin mount procps python3 sed sqlite3 util-linux"
packages="$packages btrfs-progs bubblewrap e2fsprogs fuse3 runc squashfs-tools squashfuse wireguard-tools"

write_config() {
	mkdir -p "$dir/lists/partial" "$dir/cache/archives/partial"
	: >"$dir/status" # as if nothing were installed: whatever a package depends on comes with it
	cat >"$dir/apt.conf" <<END
APT::Architecture "arm64";
APT::Architectures { "arm64"; };
APT::Sandbox::User "root";
Dir::State::lists "$dir/lists";
Dir::State::status "$dir/status";
Dir::Cache "$dir/cache";
END
}

unpack() {
	export APT_CONFIG="$dir/apt.conf"
	rm -f "$dir"/cache/archives/*.deb
	# shellcheck disable=SC2086
	apt-get install -y -qq --download-only --no-install-recommends $packages >/dev/null
	for part in bin sbin lib; do
		mkdir -p "$1/usr/$part"
		ln -s "usr/$part" "$1/$part"
	done
	for package in "$dir"/cache/archives/*.deb; do
		dpkg-deb --fsys-tarfile "$package" |
			tar -x -C "$1" --keep-directory-symlink --exclude=./usr/share/doc --exclude=./usr/share/man --exclude=./usr/share/locale
	done
	mkdir -p "$1/proc" "$1/sys" "$1/dev" "$1/run" "$1/root" "$1/tmp"
	chmod 1777 "$1/tmp"
	cp /etc/passwd /etc/group /etc/hosts "$1/etc/"
}

case $2 in
apt) write_config ;;
root) unpack "$3" ;;
esac
