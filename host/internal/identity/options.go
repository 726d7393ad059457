package identity

import (
	"time"

	"github.com/picosnitch/picosnitch/host/internal/capture"
	"github.com/picosnitch/picosnitch/host/internal/unit"
	wire "github.com/picosnitch/picosnitch/sdk/proto"
)

// Options bounds a [Table]. Zero values mean the defaults named.
type Options struct {
	BootID       [16]byte
	MaxProcesses int           // instances kept; 65,536
	MaxFiles     int           // descriptors kept open; 1,024
	MaxHash      int64         // bytes of a file that is still hashed; 4 GiB
	HashTimeout  time.Duration // for reading one file; 60 s
	Workers      int           // files read at the same time; 2
	ProcRoot     string        // /proc
	HostMountNS  uint32        // mount namespace in which paths need no scope; read from ProcRoot if 0
	// KernelKey tells how the kernel names the file behind a descriptor of this process. It is asked where stat shows
	// another device or inode than the kernel has (btrfs, overlayfs).
	KernelKey func(fd int) (capture.FileKey, error)
	// CgroupPath gives the path of a cgroup, "" if it is not known.
	CgroupPath func(id uint64) string
	// Unit tells which unit, container or app a process in a cgroup belongs to. It may read files, and is asked as early
	// as possible: what it looks at may be gone with the process.
	Unit func(cgroup string, facts unit.Facts) *wire.Unit
	// Now reads both clocks.
	Now func() capture.Moment
}

func (o *Options) fill() {
	setDefault(&o.MaxProcesses, 65536)
	setDefault(&o.MaxFiles, 1024)
	setDefault(&o.MaxHash, 4<<30)
	setDefault(&o.HashTimeout, time.Minute)
	setDefault(&o.Workers, 2)
	setDefault(&o.ProcRoot, "/proc")
}

func setDefault[T comparable](field *T, value T) {
	var zero T
	if *field == zero {
		*field = value
	}
}

// racy is how close to its execution a file may have been written without the change time telling it from what was
// executed: two ticks of the slowest kernel clock (decision 11).
const racy = 20 * time.Millisecond
