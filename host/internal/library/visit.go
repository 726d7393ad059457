package library

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"os"
	"path"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// file is a file as a process's maps name it.
type file struct {
	device, inode uint64
}

// mapped is a library that a process has mapped.
type mapped struct {
	file
	extent string // the name of its link in map_files
}

// visit follows the library of a process, if it has one.
func (l *Libraries) visit(ctx context.Context, at look) {
	proc := fmt.Sprintf("%s/%d", l.options.ProcRoot, at.pid)
	m, err := findLibrary(proc + "/maps")
	if err != nil || !l.wants(m.file, at) {
		return // gone, or linked statically: the next program of the namespace is looked at
	}
	library, err := openMapped(proc, m, at.namespace)
	if err != nil {
		return
	}
	defer library.Close()
	if err := l.follow(ctx, library, m.file, at); err != nil {
		l.options.Log.Warn("names from getaddrinfo in a container are not seen", "pid", at.pid, "error", err)
	}
}

// wants tells that a library is to be followed for a namespace. If it is already, the namespace is added to its users.
func (l *Libraries) wants(id file, at look) bool {
	known := l.options.Known(id.device, id.inode)
	l.mu.Lock()
	defer l.mu.Unlock()
	s := l.spaces[at.namespace]
	if s == nil {
		return false
	}
	f := l.followed[id]
	if f != nil {
		f.spaces[at.namespace] = true
	}
	if known || f != nil {
		s.found = true
		return false
	}
	brought := 0
	for _, f := range l.followed {
		if f.uid == at.uid && at.uid != 0 {
			brought++
		}
	}
	return brought < maxOfUser && len(l.followed) < maxFollow
}

// follow attaches probes to a library, unless its namespace has ended meanwhile.
func (l *Libraries) follow(ctx context.Context, library *os.File, id file, at look) error {
	offset, err := l.options.Symbol(ctx, library)
	if err != nil {
		return err
	}
	probes, err := l.options.Follow(library, offset)
	if err != nil {
		return err
	}
	l.mu.Lock()
	s := l.spaces[at.namespace]
	if s != nil {
		s.found = true
		l.followed[id] = &followed{probes: probes, uid: at.uid, spaces: map[uint32]bool{at.namespace: true}}
	}
	l.mu.Unlock()
	if s == nil {
		l.detach(probes)
	}
	return nil
}

var errNoLibrary = errors.New("no C library is mapped")

// findLibrary reads which C library a process runs: glibc's, or musl's, which is its loader too.
func findLibrary(maps string) (mapped, error) {
	list, err := os.Open(maps)
	if err != nil {
		return mapped{}, err
	}
	defer list.Close()
	for lines := bufio.NewScanner(list); lines.Scan(); {
		if m, ok := parseMapped(lines.Text()); ok {
			return m, nil
		}
	}
	return mapped{}, errNoLibrary
}

// parseMapped reads a line of maps: extent, rights, offset, device, inode, path.
func parseMapped(line string) (mapped, bool) {
	fields := strings.Fields(line)
	if len(fields) != 6 || !libraryName(path.Base(fields[5])) {
		return mapped{}, false
	}
	major, minor, found := strings.Cut(fields[3], ":")
	high, err := strconv.ParseUint(major, 16, 32)
	low, err2 := strconv.ParseUint(minor, 16, 32)
	inode, err3 := strconv.ParseUint(fields[4], 10, 64)
	if !found || errors.Join(err, err2, err3) != nil {
		return mapped{}, false
	}
	return mapped{file{unix.Mkdev(uint32(high), uint32(low)), inode}, fields[0]}, true
}

func libraryName(base string) bool {
	return base == "libc.so.6" || strings.HasPrefix(base, "libc-2.") || strings.HasPrefix(base, "ld-musl-")
}

// openMapped opens what a process has mapped, without asking the file system for anything.
func openMapped(proc string, m mapped, namespace uint32) (*os.File, error) {
	fd, err := unix.Open(proc+"/map_files/"+m.extent, unix.O_PATH|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("open library: %w", err)
	}
	library := os.NewFile(uintptr(fd), "library")
	if link, err := os.Readlink(proc + "/ns/mnt"); err != nil || link != fmt.Sprintf("mnt:[%d]", namespace) {
		return nil, errors.Join(fmt.Errorf("the process is another one: %w", err), library.Close())
	}
	return library, nil
}
