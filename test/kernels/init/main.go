// Command init is the first process of a guest that borrows the host's files: it loads the modules beside it, mounts
// the host's root read-only (virtio-9p) under an overlay in memory, and runs /run/out/guest.sh inside. /run/out is a
// directory of the host that the guest may write; the script's exit code lies there, in the file "status", when the
// machine goes off. A guest that ends without that file has failed.
package main

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"

	"golang.org/x/sys/unix"
)

const (
	newRoot = "/new"
	outDir  = "/run/out" // inside newRoot; run.sh reads it from the other side
)

func main() {
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, "init:", err)
	}
	unix.Sync()
	if err := unix.Reboot(unix.LINUX_REBOOT_CMD_POWER_OFF); err != nil {
		fmt.Fprintln(os.Stderr, "init: power off:", err)
	}
}

func run() error {
	for _, step := range []func() error{loadModules, mountRoot, enterRoot} {
		if err := step(); err != nil {
			return err
		}
	}
	code, err := runScript(filepath.Join(outDir, "guest.sh"))
	if err != nil {
		return err
	}
	return writeStatus(code)
}

// loadModules loads what run.sh packed, in the order of the file names.
func loadModules() error {
	paths, err := filepath.Glob("/modules/*.ko")
	if err != nil {
		return fmt.Errorf("list modules: %w", err)
	}
	for _, path := range paths {
		if err := loadModule(path); err != nil {
			return err
		}
	}
	return nil
}

func loadModule(path string) error {
	f, err := os.Open(path)
	if err != nil {
		return fmt.Errorf("open module: %w", err)
	}
	defer f.Close()
	if err := unix.FinitModule(int(f.Fd()), "", 0); err != nil {
		return fmt.Errorf("load module %s: %w", path, err)
	}
	return nil
}

type mount struct {
	source, target, kind, data string
	flags                      uintptr
}

// mountRoot makes newRoot: the host's files below, memory on top.
func mountRoot() error {
	// 500 KiB is what virtio-9p moves at once; loose caching is right for files that nobody changes meanwhile.
	const share = "trans=virtio,version=9p2000.L,msize=512000"
	for _, m := range []mount{
		{"host", "/host", "9p", share + ",cache=loose", unix.MS_RDONLY},
		{"upper", "/upper", "tmpfs", "mode=0755", 0},
		{"overlay", newRoot, "overlay", "lowerdir=/host,upperdir=/upper/files,workdir=/upper/work", 0},
		{"run", newRoot + "/run", "tmpfs", "mode=0755", 0},
		{"out", newRoot + outDir, "9p", share + ",cache=none", 0},
	} {
		for _, dir := range []string{m.target, "/upper/files", "/upper/work"} {
			if err := os.MkdirAll(dir, 0o755); err != nil {
				return fmt.Errorf("make mount point: %w", err)
			}
		}
		if err := unix.Mount(m.source, m.target, m.kind, m.flags, m.data); err != nil {
			return fmt.Errorf("mount %s on %s: %w", m.kind, m.target, err)
		}
	}
	return nil
}

// enterRoot moves newRoot onto the root, as any initramfs does: a mere chroot would leave "/new" in every path that the
// kernel walks to its end. The first process shares its root with the kernel's own threads, so the kernel finds modprobe.
func enterRoot() error {
	if err := os.Chdir(newRoot); err != nil {
		return fmt.Errorf("enter the new root: %w", err)
	}
	if err := unix.Mount(".", "/", "", unix.MS_MOVE, ""); err != nil {
		return fmt.Errorf("move the new root onto the old one: %w", err)
	}
	if err := unix.Chroot("."); err != nil {
		return fmt.Errorf("enter the new root: %w", err)
	}
	return os.Chdir("/")
}

// runScript waits for the script and for every orphan that ends before it. Its code is that of the shell: 128 and the
// signal's number for a script that was killed.
func runScript(path string) (int, error) {
	cmd := exec.Command("/bin/sh", path)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	cmd.Env = []string{"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "HOME=/root"}
	if err := cmd.Start(); err != nil {
		return 0, fmt.Errorf("start %s: %w", path, err)
	}
	for {
		var status unix.WaitStatus
		pid, err := unix.Wait4(-1, &status, 0, nil)
		switch {
		case errors.Is(err, unix.EINTR):
		case err != nil:
			return 0, fmt.Errorf("wait for %s: %w", path, err)
		case pid != cmd.Process.Pid:
		case status.Signaled():
			return 128 + int(status.Signal()), nil
		default:
			return status.ExitStatus(), nil
		}
	}
}

func writeStatus(code int) error {
	path := filepath.Join(outDir, "status")
	if err := os.WriteFile(path, fmt.Appendln(nil, code), 0o644); err != nil {
		return fmt.Errorf("write exit status: %w", err)
	}
	return nil
}
