package capture

import (
	"bufio"
	"os"
	"strconv"
	"strings"
	"sync"
)

// symbols names addresses of the kernel's functions by the part of the kernel that they are of.
type symbols struct {
	path string // /proc/kallsyms

	mu    sync.Mutex
	known map[uint64]string // bounded by symbolLimit
}

const symbolLimit = 1024

func newSymbols(path string) *symbols { return &symbols{path: path, known: map[uint64]string{}} }

// name is the module that a function belongs to, or the function's own name if it is of no module; "socket" if the kernel
// does not tell. The list is read once for each address: there are few, one for each kind of socket that the kernel
// has for itself.
func (s *symbols) name(address uint64) string {
	s.mu.Lock()
	defer s.mu.Unlock()
	if name, known := s.known[address]; known {
		return name
	}
	if len(s.known) >= symbolLimit {
		clear(s.known)
	}
	name := s.find(address)
	s.known[address] = name
	return name
}

func (s *symbols) find(address uint64) string {
	const unknown = "socket"
	f, err := os.Open(s.path)
	if err != nil || address == 0 {
		return unknown
	}
	defer f.Close()
	want := strconv.FormatUint(address, 16)
	for lines := bufio.NewScanner(f); lines.Scan(); {
		fields := strings.Fields(lines.Text())
		if len(fields) < 3 || strings.TrimLeft(fields[0], "0") != want {
			continue
		}
		if len(fields) > 3 {
			return strings.Trim(fields[3], "[]")
		}
		if fields[2] == "sock_def_readable" { // what every socket begins with
			return unknown
		}
		return fields[2]
	}
	return unknown
}
