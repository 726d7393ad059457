package helper

import (
	"fmt"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Offsets in struct seccomp_data, linux/seccomp.h. Arguments are 64 bits wide; both machines are little-endian, so that the
// low half comes first.
const (
	offsetNumber = 0
	offsetArch   = 4
	offsetArg0   = 16
	offsetArg1   = 24
)

// needs are what some helpers need and others do not.
type needs struct {
	programs bool // to run one (rpm)
	resolver bool // to ask one: TCP and UDP sockets that connect
}

// confine forbids this whole process what no helper needs: name spaces, other processes' memory, changes to files; and unless
// it is said to need them, sockets and new processes. The calls fail with EPERM, in programs that it starts too.
func confine(n needs) error {
	filter := program(n)
	p := unix.SockFprog{Len: uint16(len(filter)), Filter: &filter[0]}
	// TSYNC: for the threads that the runtime has made already, too.
	_, _, errno := unix.Syscall(unix.SYS_SECCOMP, unix.SECCOMP_SET_MODE_FILTER, unix.SECCOMP_FILTER_FLAG_TSYNC,
		uintptr(unsafe.Pointer(&p)))
	if errno != 0 {
		return fmt.Errorf("seccomp: %w", errno)
	}
	return nil
}

// refused are the calls that every machine has and no helper needs.
func refused() []uint32 {
	return append([]uint32{
		unix.SYS_SOCKETPAIR, unix.SYS_BIND, unix.SYS_LISTEN, unix.SYS_SENDTO, unix.SYS_SENDMSG, unix.SYS_SENDMMSG,
		unix.SYS_PTRACE, unix.SYS_PROCESS_VM_READV, unix.SYS_PROCESS_VM_WRITEV, unix.SYS_PIDFD_GETFD, unix.SYS_KCMP,
		unix.SYS_UNSHARE, unix.SYS_SETNS, unix.SYS_MOUNT, unix.SYS_UMOUNT2, unix.SYS_PIVOT_ROOT, unix.SYS_CHROOT,
		unix.SYS_OPEN_TREE, unix.SYS_MOVE_MOUNT, unix.SYS_FSOPEN, unix.SYS_FSCONFIG, unix.SYS_FSMOUNT, unix.SYS_MOUNT_SETATTR,
		unix.SYS_BPF, unix.SYS_PERF_EVENT_OPEN, unix.SYS_USERFAULTFD, unix.SYS_IO_URING_SETUP, unix.SYS_IO_URING_ENTER,
		unix.SYS_IO_URING_REGISTER, unix.SYS_ADD_KEY, unix.SYS_REQUEST_KEY, unix.SYS_KEYCTL, unix.SYS_MEMFD_CREATE,
		unix.SYS_UNLINKAT, unix.SYS_RENAMEAT2, unix.SYS_LINKAT, unix.SYS_SYMLINKAT, unix.SYS_MKDIRAT, unix.SYS_MKNODAT,
		unix.SYS_FCHMOD, unix.SYS_FCHMODAT, unix.SYS_FCHMODAT2, unix.SYS_FCHOWN, unix.SYS_FCHOWNAT, unix.SYS_TRUNCATE,
		unix.SYS_FTRUNCATE, unix.SYS_FALLOCATE, unix.SYS_SETXATTR, unix.SYS_FSETXATTR, unix.SYS_UTIMENSAT,
		unix.SYS_OPEN_BY_HANDLE_AT, unix.SYS_FANOTIFY_INIT,
	}, refusedHere()...)
}

// program is the filter: each refused call jumps to the refusal at the end, all else is allowed.
func program(n needs) []unix.SockFilter {
	numbers := refused()
	if !n.resolver {
		numbers = append(numbers, unix.SYS_SOCKET, unix.SYS_CONNECT)
	}
	if !n.programs {
		numbers = append(numbers, unix.SYS_EXECVE, unix.SYS_EXECVEAT)
		numbers = append(numbers, forksHere()...)
	}
	p := []unix.SockFilter{
		load(offsetArch), jump(unix.BPF_JEQ, auditArch, 1, 0), result(unix.SECCOMP_RET_KILL_PROCESS), // 32-bit calls
		load(offsetNumber), jump(unix.BPF_JGE, x32, 0, 1), result(unix.SECCOMP_RET_KILL_PROCESS),
	}
	for _, number := range numbers {
		p = append(p, jump(unix.BPF_JEQ, number, 0, 1), result(unix.SECCOMP_RET_ERRNO|uint32(unix.EPERM)))
	}
	if n.resolver {
		p = append(p, internetSocket()...)
	}
	if !n.programs {
		p = append(p,
			// Its flags lie in memory, where a filter cannot look: whoever tries it falls back to clone.
			jump(unix.BPF_JEQ, unix.SYS_CLONE3, 0, 1), result(unix.SECCOMP_RET_ERRNO|uint32(unix.ENOSYS)),
			jump(unix.BPF_JEQ, unix.SYS_CLONE, 0, 3), load(offsetArg0), jump(unix.BPF_JSET, unix.CLONE_THREAD, 1, 0),
			result(unix.SECCOMP_RET_ERRNO|uint32(unix.EPERM)),
		)
	}
	return append(p, result(unix.SECCOMP_RET_ALLOW))
}

// internetSocket decides on socket(2), and passes over every other call.
func internetSocket() []unix.SockFilter {
	const kind = 0xf // the other bits of a socket's type are flags
	return []unix.SockFilter{
		jump(unix.BPF_JEQ, unix.SYS_SOCKET, 0, 9),
		load(offsetArg0), jump(unix.BPF_JEQ, unix.AF_INET, 1, 0), jump(unix.BPF_JEQ, unix.AF_INET6, 0, 4),
		load(offsetArg1), {Code: unix.BPF_ALU | unix.BPF_AND | unix.BPF_K, K: kind},
		jump(unix.BPF_JEQ, unix.SOCK_STREAM, 2, 0), jump(unix.BPF_JEQ, unix.SOCK_DGRAM, 1, 0),
		result(unix.SECCOMP_RET_ERRNO | uint32(unix.EPERM)),
		result(unix.SECCOMP_RET_ALLOW),
	}
}

// x32 marks the numbers of amd64's second table.
const x32 = 0x40000000

func load(offset uint32) unix.SockFilter {
	return unix.SockFilter{Code: unix.BPF_LD | unix.BPF_W | unix.BPF_ABS, K: offset}
}

func jump(test uint16, value uint32, ifTrue, ifFalse uint8) unix.SockFilter {
	return unix.SockFilter{Code: unix.BPF_JMP | test | unix.BPF_K, Jt: ifTrue, Jf: ifFalse, K: value}
}

func result(value uint32) unix.SockFilter {
	return unix.SockFilter{Code: unix.BPF_RET | unix.BPF_K, K: value}
}
