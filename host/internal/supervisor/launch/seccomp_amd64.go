package launch

import "golang.org/x/sys/unix"

// auditArch is how seccomp names this architecture.
const auditArch = unix.AUDIT_ARCH_X86_64
