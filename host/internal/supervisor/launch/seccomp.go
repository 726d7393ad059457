package launch

import (
	"errors"
	"fmt"
	"math"
	"unsafe"

	"golang.org/x/net/bpf"
	"golang.org/x/sys/unix"
)

// Where struct seccomp_data has what is asked for. Arguments are 64 bits wide; their low half comes first on the machines
// that we build for.
const (
	dataNumber = 0
	dataArch   = 4
	dataArgs   = 16
)

// foreignCalls begin here on x86-64: those of its 32 bit pointers ABI.
const foreignCalls = 0x40000000

// namespaces are the flags of clone that make one.
const namespaces = unix.CLONE_NEWNS | unix.CLONE_NEWCGROUP | unix.CLONE_NEWUTS | unix.CLONE_NEWIPC | unix.CLONE_NEWUSER |
	unix.CLONE_NEWPID | unix.CLONE_NEWNET

// refusedCalls are what no plugin needs: other worlds, other processes' memory, and corners of the kernel whose bugs would
// be a way out. Most need privileges that it lacks; in a user namespace of its own it would have had them.
func refusedCalls() []uint32 {
	return []uint32{
		unix.SYS_UNSHARE, unix.SYS_SETNS, unix.SYS_MOUNT, unix.SYS_UMOUNT2, unix.SYS_PIVOT_ROOT, unix.SYS_CHROOT,
		unix.SYS_MOVE_MOUNT, unix.SYS_OPEN_TREE, unix.SYS_FSOPEN, unix.SYS_FSCONFIG, unix.SYS_FSMOUNT, unix.SYS_FSPICK,
		unix.SYS_MOUNT_SETATTR, unix.SYS_BPF, unix.SYS_PTRACE, unix.SYS_PROCESS_VM_READV, unix.SYS_PROCESS_VM_WRITEV,
		unix.SYS_KCMP, unix.SYS_PIDFD_GETFD, unix.SYS_PERF_EVENT_OPEN, unix.SYS_USERFAULTFD, unix.SYS_IO_URING_SETUP,
		unix.SYS_IO_URING_ENTER, unix.SYS_IO_URING_REGISTER, unix.SYS_KEYCTL, unix.SYS_ADD_KEY, unix.SYS_REQUEST_KEY,
		unix.SYS_INIT_MODULE, unix.SYS_FINIT_MODULE, unix.SYS_DELETE_MODULE, unix.SYS_KEXEC_LOAD, unix.SYS_KEXEC_FILE_LOAD,
		unix.SYS_REBOOT, unix.SYS_SWAPON, unix.SYS_SWAPOFF, unix.SYS_ACCT, unix.SYS_QUOTACTL, unix.SYS_OPEN_BY_HANDLE_AT,
		unix.SYS_SETTIMEOFDAY, unix.SYS_CLOCK_SETTIME, unix.SYS_SETHOSTNAME, unix.SYS_SETDOMAINNAME, unix.SYS_SYSLOG,
		unix.SYS_VHANGUP, unix.SYS_FANOTIFY_INIT,
	}
}

// Answers of the filter.
const (
	allow   = bpfAnswer(unix.SECCOMP_RET_ALLOW)
	kill    = bpfAnswer(unix.SECCOMP_RET_KILL_PROCESS)
	refuse  = bpfAnswer(unix.SECCOMP_RET_ERRNO | uint32(unix.EPERM))
	unknown = bpfAnswer(unix.SECCOMP_RET_ERRNO | uint32(unix.ENOSYS))
	family  = bpfAnswer(unix.SECCOMP_RET_ERRNO | uint32(unix.EAFNOSUPPORT))
)

type bpfAnswer uint32

func (a bpfAnswer) end() bpf.Instruction { return bpf.RetConstant{Val: uint32(a)} }

// filter is the program. Each question is a jump over its answer, so that the order can be read.
func filter() []bpf.Instruction {
	load := func(offset uint32) bpf.Instruction { return bpf.LoadAbsolute{Off: offset, Size: 4} }
	unless := func(test bpf.JumpTest, value uint32) bpf.Instruction {
		return bpf.JumpIf{Cond: test, Val: value, SkipTrue: 1}
	}
	code := []bpf.Instruction{
		load(dataArch), unless(bpf.JumpEqual, auditArch), kill.end(),
		load(dataNumber), unless(bpf.JumpLessThan, foreignCalls), unknown.end(),
		unless(bpf.JumpNotEqual, unix.SYS_CLONE3), unknown.end(), // its flags cannot be seen; C libraries then use clone
	}
	for _, call := range refusedCalls() {
		code = append(code, unless(bpf.JumpNotEqual, call), refuse.end())
	}
	// of asks about the low half of an argument of one call; the number is loaded again afterwards.
	of := func(call uint32, argument uint32, questions ...bpf.Instruction) {
		code = append(code, bpf.JumpIf{Cond: bpf.JumpNotEqual, Val: call, SkipTrue: uint8(len(questions) + 2)}, load(dataArgs+8*argument))
		code = append(append(code, questions...), load(dataNumber))
	}
	of(unix.SYS_CLONE, 0, unless(bpf.JumpBitsNotSet, namespaces), refuse.end())
	of(unix.SYS_IOCTL, 1, unless(bpf.JumpNotEqual, unix.TIOCSTI), refuse.end(), unless(bpf.JumpNotEqual, tiocLinux), refuse.end())
	of(unix.SYS_SOCKET, 0,
		bpf.JumpIf{Cond: bpf.JumpEqual, Val: unix.AF_UNIX, SkipTrue: 4}, bpf.JumpIf{Cond: bpf.JumpEqual, Val: unix.AF_INET, SkipTrue: 3},
		bpf.JumpIf{Cond: bpf.JumpEqual, Val: unix.AF_INET6, SkipTrue: 2}, unless(bpf.JumpEqual, unix.AF_NETLINK), family.end())
	return append(code, allow.end())
}

// tiocLinux is TIOCLINUX, which can paste into a console.
const tiocLinux = 0x541c

// sieve lets this thread, and the plugin that it becomes, make no system call that plugins do not need. It needs
// no_new_privs. A kernel without seccomp is reported and no error.
func (r *Report) sieve() error {
	if auditArch == 0 {
		r.missed("system calls: no list for this architecture")
		return nil
	}
	raw, err := bpf.Assemble(filter())
	if err != nil {
		return fmt.Errorf("assemble the filter of system calls: %w", err)
	}
	if len(raw) > math.MaxUint16 {
		return errors.New("assemble the filter of system calls: it is too long")
	}
	code := make([]unix.SockFilter, len(raw))
	for i, in := range raw {
		code[i] = unix.SockFilter{Code: in.Op, Jt: in.Jt, Jf: in.Jf, K: in.K}
	}
	program := unix.SockFprog{Len: uint16(len(code)), Filter: &code[0]}
	err = unix.Prctl(unix.PR_SET_SECCOMP, unix.SECCOMP_MODE_FILTER, uintptr(unsafe.Pointer(&program)), 0, 0)
	if errors.Is(err, unix.EINVAL) {
		r.missed("system calls: this kernel has no seccomp")
		return nil
	}
	if err != nil {
		return fmt.Errorf("prctl SECCOMP: %w", err)
	}
	r.did("system calls: no namespaces, mounts, tracing, keys, bpf, io_uring (seccomp)")
	return nil
}
