package helper

import "golang.org/x/sys/unix"

const auditArch = unix.AUDIT_ARCH_X86_64

// refusedHere are the older forms of refused calls, which only this machine has.
func refusedHere() []uint32 {
	return []uint32{
		unix.SYS_UNLINK, unix.SYS_RMDIR, unix.SYS_RENAME, unix.SYS_RENAMEAT, unix.SYS_LINK, unix.SYS_SYMLINK, unix.SYS_MKDIR,
		unix.SYS_MKNOD, unix.SYS_CHMOD, unix.SYS_CHOWN, unix.SYS_LCHOWN, unix.SYS_CREAT, unix.SYS_UTIME, unix.SYS_UTIMES,
		unix.SYS_FUTIMESAT,
	}
}

func forksHere() []uint32 { return []uint32{unix.SYS_FORK, unix.SYS_VFORK} }
