// Package rights takes rights away for good: from the launcher, before it becomes a plugin, and from the thread that
// starts helpers.
package rights

import (
	"errors"
	"fmt"

	"golang.org/x/sys/unix"
)

// Lower sets a resource limit of this process, soft and hard, see setrlimit(2). One that is lower already stays. name is
// the limit's in errors.
func Lower(resource int, value uint64, name string) error {
	var had unix.Rlimit
	if err := unix.Prlimit(0, resource, nil, &had); err != nil {
		return fmt.Errorf("read limit of %s: %w", name, err)
	}
	value = min(value, had.Max)
	if err := unix.Prlimit(0, resource, &unix.Rlimit{Cur: value, Max: value}, nil); err != nil {
		return fmt.Errorf("limit %s: %w", name, err)
	}
	return nil
}

// DropInherited empties the ambient and the bounding set of this thread, so that nothing that it executes gains a
// capability. The thread keeps its own. It needs CAP_SETPCAP.
func DropInherited() error {
	if err := unix.Prctl(unix.PR_CAP_AMBIENT, unix.PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0); err != nil {
		return fmt.Errorf("clear ambient capabilities: %w", err)
	}
	for capability := uintptr(0); ; capability++ {
		err := unix.Prctl(unix.PR_CAPBSET_DROP, capability, 0, 0, 0)
		if errors.Is(err, unix.EINVAL) && capability > unix.CAP_SETPCAP {
			return nil // past the last one that this kernel knows
		}
		if err != nil {
			return fmt.Errorf("drop capability %d from the bounding set: %w", capability, err)
		}
	}
}
