package identity

import (
	"context"
	"time"

	"github.com/picosnitch/picosnitch/host/internal/capture"
	"github.com/picosnitch/picosnitch/host/internal/unit"
	wire "github.com/picosnitch/picosnitch/sdk/proto"
)

// Options bounds a [Table]. Zero values mean the defaults named. No user has more than an eighth of what is bounded by
// processes and their text (decision 13).
type Options struct {
	BootID         [16]byte
	MaxProcesses   int           // instances kept; 65,536
	MaxExecutables int           // whose hash is remembered after the last process has gone; 16,384
	MaxText        int           // bytes of paths and command lines kept; 64 MiB: beyond it they are cut
	MaxFiles       int           // descriptors kept open; 1,024; as many more may wait to be read, and as many for their exec
	MaxHash        int64         // bytes of a file that is still hashed; 4 GiB
	HashTimeout    time.Duration // for reading one file; 60 s
	Workers        int           // files read at the same time; 2
	ProcRoot       string        // /proc
	DeviceMask     uint64        // bits of stat's device number that must be the kernel's; all
	HostMountNS    uint32        // mount namespace in which paths need no scope; read from ProcRoot if 0
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
	// Ended tells when a process instance ended, in boot ns; 0 while it runs, or if nobody knows any more.
	Ended func(capture.Key) int64
	// Follower tells of files that are executed and written to. Without it, change times tell.
	Follower Follower
	// ReadAs hashes a file that a user's program or the network serves, in a process that may be left behind. It returns
	// the file as stat showed it then; ErrTooLarge, ErrChanged, fs.ErrNotExist if it has gone, or any other error if it cannot
	// be read. Without it, such files are read like others.
	ReadAs func(ctx context.Context, f ServedFile, uid, gid uint32) (sum []byte, key capture.FileKey, err error)
}

// Follower is what [marks.Marks] does for a Table, which in turn is its sink.
type Follower interface {
	// Watch has Modified called when an open file is written to.
	Watch(fd int) error
	// Sync waits until Modified and Executed have been called for all that happened before.
	Sync(ctx context.Context) error
	// Saw is told of each execution in another mount namespace than the host's. It does not block.
	Saw(pid, namespace uint32, device uint64)
}

func (o *Options) fill() {
	setDefault(&o.MaxProcesses, 65536)
	setDefault(&o.MaxExecutables, 16384)
	setDefault(&o.MaxText, 64<<20)
	setDefault(&o.MaxFiles, 1024)
	setDefault(&o.MaxHash, 4<<30)
	setDefault(&o.HashTimeout, time.Minute)
	setDefault(&o.Workers, 2)
	setDefault(&o.ProcRoot, "/proc")
	setDefault(&o.DeviceMask, ^uint64(0))
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
