package main

import (
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"syscall"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// patience is how long one attempt waits.
const patience = 500 * time.Millisecond

// try makes every attempt that ends by itself. The answer is how each failed; "" means that it got through.
func try(t targets) map[string]string {
	attempts := map[string]func() error{
		"abstract socket":    func() error { return connect("unix", "@"+t.Abstract) },
		"become root":        func() error { return unix.Setresuid(0, 0, 0) },
		"connect TCP":        func() error { return connect("tcp", t.TCP) },
		"gain capabilities":  gainCapabilities,
		"io_uring":           ioURing,
		"kernel keys":        func() error { _, err := unix.KeyctlGetKeyringID(unix.KEY_SPEC_SESSION_KEYRING, true); return err },
		"leave the cgroup":   leaveGroup,
		"load BPF":           loadBPF,
		"make a device":      func() error { return makeDevice(filepath.Join(t.Directory, "sda")) },
		"mount":              func() error { return mount(filepath.Join(t.Directory, "mount")) },
		"new user namespace": newUserNamespace,
		"packet socket":      packetSocket,
		"ptrace":             func() error { return trace(t.Process) },
		"raise limits":       raiseLimits,
		"read its memory":    func() error { return readMemory(t.Process) },
		"run its own file":   func() error { return runOwn(t.Directory) },
		"send UDP":           func() error { return sendUDP(t.UDP) },
		"signal":             func() error { return unix.Kill(t.Process, 0) },
		"terminal":           func() error { return terminal(t.Device) },
		"write to the system": func() error {
			const path = "/usr/escaped"
			if err := os.WriteFile(path, nil, 0o600); err != nil {
				return err
			}
			return os.Remove(path)
		},
	}
	for name, path := range t.Secrets {
		attempts[name] = func() error { _, err := os.ReadFile(path); return err }
	}
	for name, path := range t.Sockets {
		attempts[name] = func() error { return connect("unix", path) }
	}
	return perform(attempts)
}

// perform makes attempts, each on a thread of its own that is thrown away: some change the thread.
func perform(attempts map[string]func() error) map[string]string {
	results := map[string]string{}
	for name, attempt := range attempts {
		done := make(chan error, 1)
		go func() {
			runtime.LockOSThread()
			done <- attempt()
		}()
		if err := <-done; err != nil {
			results[name] = err.Error()
		} else {
			results[name] = ""
		}
	}
	return results
}

func connect(network, address string) error {
	conn, err := net.DialTimeout(network, address, patience)
	if err != nil {
		return err
	}
	return conn.Close()
}

func sendUDP(address string) error {
	conn, err := net.DialTimeout("udp", address, patience)
	if err != nil {
		return err
	}
	_, err = io.WriteString(conn, "escaped")
	return errors.Join(err, conn.Close())
}

// mount puts a file system where nobody else looks.
func mount(path string) error {
	if err := os.Mkdir(path, 0o700); err != nil {
		return err
	}
	return unix.Mount("none", path, "tmpfs", 0, "")
}

func gainCapabilities() error {
	header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var all [2]unix.CapUserData
	all[0].Effective, all[0].Permitted = 1<<unix.CAP_SYS_ADMIN, 1<<unix.CAP_SYS_ADMIN
	return unix.Capset(&header, &all[0])
}

func ioURing() error {
	var params [120]byte
	fd, _, errno := unix.Syscall(unix.SYS_IO_URING_SETUP, 1, uintptr(unsafe.Pointer(&params)), 0)
	return closeNew(fd, errno)
}

func closeNew(fd uintptr, errno unix.Errno) error {
	if errno != 0 {
		return errno
	}
	return unix.Close(int(fd))
}

// leaveGroup looks for any hierarchy, and mounts one.
func leaveGroup() error {
	found, _ := filepath.Glob("/sys/fs/cgroup/*/cgroup.procs")
	for _, path := range append(found, "/sys/fs/cgroup/cgroup.procs") {
		if os.WriteFile(path, []byte(strconv.Itoa(os.Getpid())), 0) == nil {
			return nil
		}
	}
	return fmt.Errorf("no control groups are seen, mount: %w", unix.Mount("none", "/tmp", "cgroup2", 0, ""))
}

// loadBPF makes a map: one that every user could make, unless that is switched off.
func loadBPF() error {
	attr := [18]uint32{1, 4, 4, 1} // BPF_MAP_TYPE_HASH, sizes of key and value, entries
	fd, _, errno := unix.Syscall(unix.SYS_BPF, 0, uintptr(unsafe.Pointer(&attr)), unsafe.Sizeof(attr))
	return closeNew(fd, errno)
}

func makeDevice(path string) error {
	if err := unix.Mknod(path, unix.S_IFBLK|0o600, int(unix.Mkdev(7, 0))); err != nil {
		return err
	}
	return os.Remove(path)
}

func newUserNamespace() error {
	child := exec.Command("/bin/true")
	child.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWUSER}
	return child.Run()
}

func packetSocket() error {
	fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_RAW, 0)
	if err != nil {
		return err
	}
	return unix.Close(fd)
}

// trace holds the process until this thread ends.
func trace(pid int) error { return unix.PtraceSeize(pid) }

func readMemory(pid int) error {
	file, err := os.Open("/proc/" + strconv.Itoa(pid) + "/mem")
	if err != nil {
		return err
	}
	return file.Close()
}

func raiseLimits() error {
	var limit unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_MSGQUEUE, &limit); err != nil {
		return err
	}
	limit.Max++
	return unix.Setrlimit(unix.RLIMIT_MSGQUEUE, &limit)
}

// runOwn runs a program that it wrote itself.
func runOwn(directory string) error {
	path := filepath.Join(directory, "own")
	if err := os.WriteFile(path, []byte("#!/bin/sh\nexit 0\n"), 0o755); err != nil {
		return err
	}
	return errors.Join(exec.Command(path).Run(), os.Remove(path))
}

// terminal writes to a terminal that is not its own.
func terminal(path string) error {
	file, err := os.OpenFile(path, os.O_WRONLY|unix.O_NOCTTY, 0)
	if err != nil {
		return err
	}
	_, err = file.WriteString("escaped\r\n")
	return errors.Join(err, file.Close())
}
