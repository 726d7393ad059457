package capture

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/link"
	"golang.org/x/sys/unix"
)

// libraries are where C libraries lie: glibc's, and musl's, which is its loader too.
func libraries() []string {
	return []string{
		"/lib/*/libc.so.6", "/usr/lib/*/libc.so.6", "/lib/libc.so.6", "/lib64/libc.so.6", "/usr/lib64/libc.so.6",
		"/lib/ld-musl-*.so.1", "/usr/lib/ld-musl-*.so.1",
	}
}

// maxLibraries bounds how many C libraries are probed.
const maxLibraries = 4

var errNoLibrary = errors.New("no C library found")

// probeLibraries follows getaddrinfo in the host's C libraries. The links belong to this host alone: the kernel lets
// nobody pin them, so names from getaddrinfo are missing while no host runs.
func (o *objects) probeLibraries() Hook {
	h := Hook{Sees: "names that programs ask getaddrinfo for"}
	seen := map[[2]uint64]bool{}
	err := errNoLibrary
	for _, pattern := range libraries() {
		paths, _ := filepath.Glob(pattern) // the patterns are ours, and well-formed
		for _, path := range paths {
			var st unix.Stat_t
			if unix.Stat(path, &st) != nil || st.Uid != 0 || seen[[2]uint64{st.Dev, st.Ino}] || len(seen) >= maxLibraries {
				continue
			}
			seen[[2]uint64{st.Dev, st.Ino}] = true
			if err = o.probe(path); err == nil {
				h.Way, h.Programs = "uprobe", []string{kernelProgAsk, kernelProgTold}
			}
		}
	}
	if h.Way == "" {
		h.Failures = []Failure{{Way: "uprobe", Err: err}}
	}
	return h
}

func (o *objects) probe(path string) error {
	followed, err := follow(path, 0, o.programs[kernelProgAsk], o.programs[kernelProgTold])
	if err != nil {
		return err
	}
	o.own = append(o.own, followed...)
	return nil
}

// follow attaches both probes; offset is that of getaddrinfo in the file, 0 if the file is to be asked.
func follow(path string, offset uint64, ask, tell *ebpf.Program) ([]link.Link, error) {
	library, err := link.OpenExecutable(path)
	if err != nil {
		return nil, fmt.Errorf("open C library %s: %w", path, err)
	}
	at := &link.UprobeOptions{Address: offset}
	asked, err := library.Uprobe("getaddrinfo", ask, at)
	if err != nil {
		return nil, fmt.Errorf("probe getaddrinfo in %s: %w", path, err)
	}
	told, err := library.Uretprobe("getaddrinfo", tell, at)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("probe the end of getaddrinfo in %s: %w", path, err), asked.Close())
	}
	return []link.Link{asked, told}, nil
}

// Libraries follows getaddrinfo in further C libraries. It may be used beside anything else until the Kernel ends.
func (k *Kernel) Libraries() *Libraries {
	return &Libraries{k.objects.programs[kernelProgAsk], k.objects.programs[kernelProgTold]}
}

// Libraries is what [Kernel.Libraries] gives.
type Libraries struct{ ask, tell *ebpf.Program }

// Follow attaches probes to a library in which getaddrinfo lies at an offset. Nothing of the file is read that it could
// harm a reader with. Closing what it gives detaches them.
func (l *Libraries) Follow(library *os.File, offset uint64) (io.Closer, error) {
	links, err := follow(fmt.Sprintf("/proc/self/fd/%d", library.Fd()), offset, l.ask, l.tell)
	if err != nil {
		return nil, err
	}
	return closers(links), nil
}

type closers []link.Link

// Close closes them all.
func (c closers) Close() error {
	var errs []error
	for _, l := range c {
		errs = append(errs, l.Close())
	}
	return errors.Join(errs...)
}

// HostLibrary tells whether a file is one of the host's own C libraries, which are followed from the start.
func HostLibrary(device, inode uint64) bool {
	for _, pattern := range libraries() {
		paths, _ := filepath.Glob(pattern) // the patterns are ours, and well-formed
		for _, path := range paths {
			var st unix.Stat_t
			if unix.Stat(path, &st) == nil && st.Dev == device && st.Ino == inode {
				return true
			}
		}
	}
	return false
}
