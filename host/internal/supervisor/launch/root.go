package launch

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// enter builds the plugin's root and moves into it. The process is alone in a mount namespace of its own.
func (r *Report) enter(sandbox *Sandbox) error {
	unix.Umask(0o022)
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return fmt.Errorf("make mounts private: %w", err)
	}
	root := sandbox.Root
	const flags = unix.MS_NOSUID | unix.MS_NODEV
	if err := unix.Mount("root", root, "tmpfs", flags, "mode=0755,size=1m,nr_inodes=4k"); err != nil {
		return fmt.Errorf("mount a root on %s: %w", root, err)
	}
	if err := r.furnish(root, sandbox.Network && sandbox.Ports == nil); err != nil {
		return err
	}
	for i, m := range sandbox.Mounts {
		if err := attach(MountFD+i, root, m.Path); err != nil {
			return err
		}
	}
	if err := pivot(root); err != nil {
		return err
	}
	readOnly := unix.MountAttr{Attr_set: unix.MOUNT_ATTR_RDONLY}
	if err := unix.MountSetattr(unix.AT_FDCWD, "/", 0, &readOnly); err != nil {
		return fmt.Errorf("make the root read-only: %w", err)
	}
	r.did("file system: system programs read-only, own directory, /tmp of 16 MiB")
	r.did("own process, ipc and host name spaces")
	if !sandbox.Network {
		r.did("network: none")
	}
	return nil
}

// programs are where a system keeps what may be executed.
func programs() []string {
	return []string{"/usr", "/bin", "/sbin", "/lib", "/lib32", "/lib64", "/libx32", "/nix/store", "/gnu/store"}
}

// furnish puts what any program expects into the root; names says that it may look up names as the host does.
func (r *Report) furnish(root string, names bool) error {
	system := append(programs(), "/etc/localtime", "/etc/ld.so.cache", "/etc/alternatives", "/etc/ssl/certs", "/etc/pki",
		"/etc/ca-certificates")
	if names {
		system = append(system, "/etc/resolv.conf", "/etc/hosts", "/etc/nsswitch.conf", "/etc/services", "/etc/protocols")
	}
	for _, path := range system {
		if err := share(root, path, unix.MOUNT_ATTR_RDONLY|unix.MOUNT_ATTR_NOSUID|unix.MOUNT_ATTR_NODEV); err != nil {
			return err
		}
	}
	for _, path := range []string{"/dev/null", "/dev/zero", "/dev/urandom", "/dev/random"} {
		if err := share(root, path, unix.MOUNT_ATTR_NOSUID|unix.MOUNT_ATTR_NOEXEC); err != nil {
			return err
		}
	}
	// Interpreters open a script as /dev/fd/4.
	if err := os.Symlink("/proc/self/fd", root+"/dev/fd"); err != nil {
		return fmt.Errorf("make /dev/fd: %w", err)
	}
	for _, dir := range []string{"/proc", "/tmp"} {
		if err := os.Mkdir(root+dir, 0o755); err != nil {
			return fmt.Errorf("make %s: %w", dir, err)
		}
	}
	const flags = unix.MS_NOSUID | unix.MS_NODEV | unix.MS_NOEXEC
	if err := unix.Mount("proc", root+"/proc", "proc", flags, "subset=pid"); err != nil {
		r.missed("/proc shows more than processes: %v", err)
		if err := unix.Mount("proc", root+"/proc", "proc", flags, ""); err != nil {
			return fmt.Errorf("mount /proc: %w", err)
		}
	}
	if err := unix.Mount("tmp", root+"/tmp", "tmpfs", flags, "mode=1777,size=16m,nr_inodes=4k"); err != nil {
		return fmt.Errorf("mount /tmp: %w", err)
	}
	return nil
}

// share shows path of the host at the same place; a link stays a link, what is not there is left out.
func share(root, path string, attributes uint64) error {
	info, err := os.Lstat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("look at %s: %w", path, err)
	}
	if err := os.MkdirAll(filepath.Dir(root+path), 0o755); err != nil {
		return fmt.Errorf("make room for %s: %w", path, err)
	}
	// Links of the top directory point to what is shared too (/bin -> usr/bin); those below may point anywhere.
	if info.Mode()&fs.ModeSymlink != 0 && filepath.Dir(path) == "/" {
		return link(root, path)
	}
	tree, err := unix.OpenTree(unix.AT_FDCWD, path, unix.OPEN_TREE_CLONE|unix.OPEN_TREE_CLOEXEC|unix.AT_RECURSIVE)
	if errors.Is(err, unix.ENOENT) {
		return nil // a dangling link
	}
	if err != nil {
		return fmt.Errorf("open_tree %s: %w", path, err)
	}
	defer func() { _ = unix.Close(tree) }()
	attr := unix.MountAttr{Attr_set: attributes}
	if err := unix.MountSetattr(tree, "", unix.AT_EMPTY_PATH|unix.AT_RECURSIVE, &attr); err != nil {
		return fmt.Errorf("mount_setattr %s: %w", path, err)
	}
	return attach(tree, root, path)
}

func link(root, path string) error {
	target, err := os.Readlink(path)
	if err != nil {
		return fmt.Errorf("read link %s: %w", path, err)
	}
	if err := os.Symlink(target, root+path); err != nil {
		return fmt.Errorf("make link %s: %w", path, err)
	}
	return nil
}

// attach moves a detached mount to path below root, making a file or directory to mount on.
func attach(tree int, root, path string) error {
	var st unix.Stat_t
	if err := unix.Fstat(tree, &st); err != nil {
		return fmt.Errorf("fstat mount of %s: %w", path, err)
	}
	target := root + path
	if st.Mode&unix.S_IFMT == unix.S_IFDIR {
		if err := os.MkdirAll(target, 0o755); err != nil {
			return fmt.Errorf("make room for %s: %w", path, err)
		}
	} else if err := touch(target); err != nil {
		return fmt.Errorf("make room for %s: %w", path, err)
	}
	if err := unix.MoveMount(tree, "", unix.AT_FDCWD, target, unix.MOVE_MOUNT_F_EMPTY_PATH); err != nil {
		return fmt.Errorf("move_mount %s: %w", path, err)
	}
	return nil
}

func touch(path string) error {
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return err
	}
	file, err := os.OpenFile(path, os.O_CREATE|os.O_WRONLY, 0o444)
	if err != nil {
		return err
	}
	return file.Close()
}

// pivot makes root the root. A machine that runs from its initramfs cannot pivot: there the new root is moved over the
// old one, which without capabilities is as final.
func pivot(root string) error {
	if err := unix.Chdir(root); err != nil {
		return fmt.Errorf("enter the new root: %w", err)
	}
	err := unix.PivotRoot(".", ".")
	if errors.Is(err, unix.EINVAL) {
		if err := unix.Mount(".", "/", "", unix.MS_MOVE, ""); err != nil {
			return fmt.Errorf("move the new root: %w", err)
		}
		if err := unix.Chroot("."); err != nil {
			return fmt.Errorf("chroot: %w", err)
		}
		return unix.Chdir("/")
	}
	if err != nil {
		return fmt.Errorf("pivot_root: %w", err)
	}
	if err := unix.Unmount(".", unix.MNT_DETACH); err != nil {
		return fmt.Errorf("detach the old root: %w", err)
	}
	if err := unix.Chdir("/"); err != nil {
		return fmt.Errorf("enter the new root: %w", err)
	}
	return nil
}
