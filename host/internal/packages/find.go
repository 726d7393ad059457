package packages

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"strings"
)

// Options say where to look. The zero value, with a MaxBytes, is right for a real machine.
type Options struct {
	Root     string // "/"; below it lie the databases and the file
	Trust    uint32 // user whose databases are believed: root
	RPM      string // the rpm program; "/usr/bin/rpm"
	RPMData  string // directory of its database if not where rpm itself looks
	Locks    string // "/proc/locks"
	MaxBytes int64  // of a file that is still read to compare; 0: none is read
}

func (o *Options) fill() {
	if o.Root == "" {
		o.Root = "/"
	}
	if o.RPM == "" {
		o.RPM = "/usr/bin/rpm"
	}
	if o.Locks == "" {
		o.Locks = "/proc/locks"
	}
}

var (
	// ErrPath says that a path cannot be one of a package's: it is not absolute, too long or has parts such as "..".
	ErrPath = errors.New("not a path of a package's file")
	// ErrUntrusted says that a database could have been written by somebody who must not.
	ErrUntrusted = errors.New("is not root's alone")
)

// maxPath is PATH_MAX, in bytes.
const maxPath = 4096

// claim is what a database says of a file.
type claim struct {
	Owner
	want     string // checksum in lower-case hex, "" for none
	conffile bool
}

// manager is one kind of database. find gives nil if no package owns any of the names, which all mean the same file.
type manager interface {
	find(ctx context.Context, names []string) (*claim, error)
	working() bool
}

// Find tells who owns the file at path, which is its place in the host's own mount namespace without links in it. That
// nobody owns it is an answer, not an error. With an error the answer still holds what the databases that could be read say.
func Find(ctx context.Context, o Options, path string) (Owner, error) {
	o.fill()
	if !plausible(path) {
		return Owner{}, fmt.Errorf("find the owner of a file: %w", ErrPath)
	}
	names := aliases(o.Root, path)
	var errs []error
	working := false
	for _, open := range []func(Options) (manager, error){openDpkg, openPacman, openRPM} {
		m, err := open(o)
		if errors.Is(err, fs.ErrNotExist) {
			continue // not that kind of system
		}
		if err != nil {
			errs = append(errs, err)
			continue
		}
		working = working || m.working()
		found, err := m.find(ctx, names)
		if err != nil {
			errs = append(errs, err)
		}
		if found != nil {
			found.compare(ctx, o, path)
		}
		working = working || m.working() // began meanwhile
		if found != nil {
			found.Working = working
			return found.Owner, errors.Join(errs...)
		}
	}
	return Owner{Working: working}, errors.Join(errs...)
}

// plausible refuses what no database can have. A line break would end a name in all of them.
func plausible(path string) bool {
	if len(path) < 2 || len(path) > maxPath || path[0] != '/' || strings.ContainsAny(path, "\n\x00") {
		return false
	}
	for element := range strings.SplitSeq(path[1:], "/") {
		if element == "" || element == "." || element == ".." {
			return false
		}
	}
	return true
}

// compare reads the file and sets the result.
func (c *claim) compare(ctx context.Context, o Options, path string) {
	c.Checksum = ChecksumNone
	if c.want == "" || newHash(c.Algorithm) == nil {
		c.Algorithm = ""
		return
	}
	sums, err := digest(ctx, o, path, c.Algorithm)
	if err != nil {
		c.Checksum = ChecksumUnread
		return
	}
	c.SHA256 = sums.sha256
	switch {
	case sums.named == c.want:
		c.Checksum = ChecksumMatch
	case c.conffile:
		c.Checksum = ChecksumConffile
	default:
		c.Checksum = ChecksumMismatch
	}
}
