package launch

import (
	"errors"
	"fmt"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Rights of Landlock, by what they are for.
const (
	onFiles = unix.LANDLOCK_ACCESS_FS_EXECUTE | unix.LANDLOCK_ACCESS_FS_WRITE_FILE | unix.LANDLOCK_ACCESS_FS_READ_FILE |
		unix.LANDLOCK_ACCESS_FS_TRUNCATE | unix.LANDLOCK_ACCESS_FS_IOCTL_DEV
	look = unix.LANDLOCK_ACCESS_FS_READ_FILE | unix.LANDLOCK_ACCESS_FS_READ_DIR
	run  = look | unix.LANDLOCK_ACCESS_FS_EXECUTE
	keep = look | unix.LANDLOCK_ACCESS_FS_WRITE_FILE | unix.LANDLOCK_ACCESS_FS_TRUNCATE | unix.LANDLOCK_ACCESS_FS_REFER |
		unix.LANDLOCK_ACCESS_FS_REMOVE_DIR | unix.LANDLOCK_ACCESS_FS_REMOVE_FILE | unix.LANDLOCK_ACCESS_FS_MAKE_DIR |
		unix.LANDLOCK_ACCESS_FS_MAKE_REG | unix.LANDLOCK_ACCESS_FS_MAKE_SOCK | unix.LANDLOCK_ACCESS_FS_MAKE_FIFO |
		unix.LANDLOCK_ACCESS_FS_MAKE_SYM
)

// What a version of Landlock's interface brought.
const (
	abiRefer    = 2
	abiTruncate = 3
	abiNetwork  = 4
	abiDevices  = 5
	abiScopes   = 6
)

// landlock is a set of rules being made.
type landlock struct {
	abi     int
	handled unix.LandlockRulesetAttr
	fd      int
}

// portRule is struct landlock_net_port_attr.
type portRule struct{ access, port uint64 }

const rulePort = 2 // LANDLOCK_RULE_NET_PORT

// confine limits this thread, and the plugin that it becomes, to the paths that it was given, whatever else should ever
// become reachable. It needs no_new_privs. A kernel without Landlock, or with less of it, is reported and no error.
func (r *Report) confine(sandbox *Sandbox) error {
	abi, _, errno := unix.Syscall(unix.SYS_LANDLOCK_CREATE_RULESET, 0, 0, unix.LANDLOCK_CREATE_RULESET_VERSION)
	if errno != 0 {
		r.missed("Landlock: this kernel has none (%v)", errno)
		return nil
	}
	l := landlock{abi: int(abi), handled: handledBy(int(abi), sandbox)}
	if err := l.create(); err != nil {
		return err
	}
	defer func() { _ = unix.Close(l.fd) }()
	if err := errors.Join(l.allowPaths(sandbox), l.allowPorts(sandbox.Ports)); err != nil {
		return err
	}
	if _, _, errno := unix.Syscall(unix.SYS_LANDLOCK_RESTRICT_SELF, uintptr(l.fd), 0, 0); errno != 0 {
		return fmt.Errorf("landlock_restrict_self: %w", errno)
	}
	r.confined(&l, sandbox)
	return nil
}

// handledBy is all that a kernel can refuse, but for what the sandbox is free to do.
func handledBy(abi int, sandbox *Sandbox) unix.LandlockRulesetAttr {
	h := unix.LandlockRulesetAttr{Handled_access_fs: unix.LANDLOCK_ACCESS_FS_MAKE_SYM<<1 - 1}
	for version, right := range map[int]uint64{
		abiRefer: unix.LANDLOCK_ACCESS_FS_REFER, abiTruncate: unix.LANDLOCK_ACCESS_FS_TRUNCATE,
		abiDevices: unix.LANDLOCK_ACCESS_FS_IOCTL_DEV,
	} {
		if abi >= version {
			h.Handled_access_fs |= right
		}
	}
	everywhere := sandbox.Network && sandbox.Ports == nil
	if abi >= abiNetwork && !everywhere {
		h.Handled_access_net = unix.LANDLOCK_ACCESS_NET_BIND_TCP | unix.LANDLOCK_ACCESS_NET_CONNECT_TCP
	}
	if abi >= abiScopes {
		h.Scoped = unix.LANDLOCK_SCOPE_SIGNAL
		if !everywhere { // abstract sockets belong to the network
			h.Scoped |= unix.LANDLOCK_SCOPE_ABSTRACT_UNIX_SOCKET
		}
	}
	return h
}

func (l *landlock) create() error {
	fd, _, errno := unix.Syscall(unix.SYS_LANDLOCK_CREATE_RULESET, uintptr(unsafe.Pointer(&l.handled)),
		unsafe.Sizeof(l.handled), 0)
	if errno != 0 {
		return fmt.Errorf("landlock_create_ruleset: %w", errno)
	}
	l.fd = int(fd)
	return nil
}

// allowPaths adds what the root was furnished with, and what is mounted into it.
func (l *landlock) allowPaths(sandbox *Sandbox) error {
	rights := map[string]uint64{
		"/": unix.LANDLOCK_ACCESS_FS_READ_DIR, "/etc": look, "/proc": look,
		"/dev": look | unix.LANDLOCK_ACCESS_FS_WRITE_FILE, "/tmp": keep,
	}
	for _, path := range programs() {
		rights[path] = run
	}
	for _, m := range sandbox.Mounts {
		rights[m.Path] = keep
		if m.ReadOnly {
			rights[m.Path] = look
		}
	}
	errs := []error{l.allow(FileFD, "the plugin", run)}
	for path, right := range rights {
		fd, err := unix.Open(path, unix.O_PATH|unix.O_CLOEXEC, 0)
		if errors.Is(err, unix.ENOENT) {
			continue
		}
		if err != nil {
			return fmt.Errorf("landlock: open %s: %w", path, err)
		}
		errs = append(errs, l.allow(fd, path, right), unix.Close(fd))
	}
	return errors.Join(errs...)
}

// allow adds one rule. A file takes only the rights that files have.
func (l *landlock) allow(fd int, path string, right uint64) error {
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return fmt.Errorf("landlock: fstat %s: %w", path, err)
	}
	if st.Mode&unix.S_IFMT != unix.S_IFDIR {
		right &= onFiles
	}
	rule := unix.LandlockPathBeneathAttr{Allowed_access: right & l.handled.Handled_access_fs, Parent_fd: int32(fd)}
	_, _, errno := unix.Syscall6(unix.SYS_LANDLOCK_ADD_RULE, uintptr(l.fd), unix.LANDLOCK_RULE_PATH_BENEATH,
		uintptr(unsafe.Pointer(&rule)), 0, 0, 0)
	if errno != 0 {
		return fmt.Errorf("landlock_add_rule %s: %w", path, errno)
	}
	return nil
}

func (l *landlock) allowPorts(ports []uint16) error {
	if l.handled.Handled_access_net == 0 {
		return nil
	}
	for _, port := range ports {
		rule := portRule{access: unix.LANDLOCK_ACCESS_NET_CONNECT_TCP, port: uint64(port)}
		_, _, errno := unix.Syscall6(unix.SYS_LANDLOCK_ADD_RULE, uintptr(l.fd), rulePort, uintptr(unsafe.Pointer(&rule)), 0, 0, 0)
		if errno != 0 {
			return fmt.Errorf("landlock_add_rule port %d: %w", port, errno)
		}
	}
	return nil
}

// confined tells what of Landlock there is.
func (r *Report) confined(l *landlock, sandbox *Sandbox) {
	text := "paths"
	if l.handled.Handled_access_net != 0 {
		text += ", TCP ports"
	}
	if l.handled.Scoped != 0 {
		text += ", signals"
	}
	if l.handled.Scoped&unix.LANDLOCK_SCOPE_ABSTRACT_UNIX_SOCKET != 0 {
		text += ", abstract sockets"
	}
	r.did("Landlock (ABI %d): %s", l.abi, text)
	if l.abi < abiScopes && sandbox.Network && sandbox.Ports != nil {
		r.missed("abstract sockets of the host can be reached (Landlock ABI %d, want %d)", l.abi, abiScopes)
	}
}
