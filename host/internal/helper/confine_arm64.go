package helper

import "golang.org/x/sys/unix"

const auditArch = unix.AUDIT_ARCH_AARCH64

// refusedHere are the older forms of refused calls, which only this machine has.
func refusedHere() []uint32 { return []uint32{unix.SYS_RENAMEAT} }

func forksHere() []uint32 { return nil }
