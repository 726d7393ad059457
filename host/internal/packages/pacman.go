package packages

import (
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

// Bounds of pacman's files, in bytes.
const (
	maxDesc  = 1 << 20
	maxMtree = 64 << 20 // unpacked
)

// pacman reads /var/lib/pacman/local: one directory for each package with its name (desc), files and checksums (mtree).
type pacman struct {
	options Options
	dir     *directory
}

func openPacman(o Options) (manager, error) {
	dir, err := openDirectory(o.Root, "var/lib/pacman/local", o.Trust)
	if err != nil {
		return nil, err
	}
	return &pacman{options: o, dir: dir}, nil
}

// working tells whether the lock, which pacman makes and removes, is there.
func (p *pacman) working() bool {
	_, err := os.Lstat(filepath.Join(p.options.Root, "var/lib/pacman/db.lck"))
	return err == nil
}

func (p *pacman) find(ctx context.Context, names []string) (*claim, error) {
	defer p.dir.close()
	packages, err := p.dir.names()
	if err != nil {
		return nil, err
	}
	var errs []error
	for _, name := range packages {
		if err := ctx.Err(); err != nil {
			return nil, fmt.Errorf("search pacman's lists: %w", err)
		}
		c, err := p.look(name, names)
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			errs = append(errs, err) // one broken package hides no other
		}
		if c != nil {
			return c, errors.Join(errs...)
		}
	}
	return nil, errors.Join(errs...)
}

// look asks one package.
func (p *pacman) look(directoryName string, names []string) (*claim, error) {
	if directoryName == "ALPM_DB_VERSION" {
		return nil, nil
	}
	dir, err := p.dir.sub(directoryName)
	if err != nil {
		return nil, err
	}
	defer dir.close()
	text, err := dir.read("files", maxList, nil)
	if err != nil {
		return nil, err
	}
	for _, path := range names {
		if hasLine(text, path[1:]) {
			return pacmanClaim(dir, text, path)
		}
	}
	return nil, nil
}

// pacmanClaim says what the package knows of its file.
func pacmanClaim(dir *directory, files []byte, path string) (*claim, error) {
	desc, err := dir.read("desc", maxDesc, nil)
	if err != nil {
		return nil, err
	}
	c := &claim{Owner: Owner{Manager: "pacman", Path: path}}
	c.Package, c.Version = first(section(desc, "NAME")), first(section(desc, "VERSION"))
	for _, line := range section(files, "BACKUP") {
		name, _, _ := strings.Cut(line, "\t")
		c.conffile = c.conffile || name == path[1:]
	}
	packed, err := dir.read("mtree", maxList, nil)
	if errors.Is(err, fs.ErrNotExist) {
		return c, nil
	}
	if err != nil {
		return c, err
	}
	unpacked, err := gzip.NewReader(bytes.NewReader(packed))
	if err != nil {
		return c, fmt.Errorf("unpack mtree of %s: %w", c.Package, err)
	}
	c.Algorithm, c.want, err = mtreeSum(io.LimitReader(unpacked, maxMtree), path[1:])
	if err != nil {
		return c, fmt.Errorf("read mtree of %s: %w", c.Package, err)
	}
	return c, nil
}

// section gives the lines after "%NAME%", up to an empty one.
func section(text []byte, name string) []string {
	var lines []string
	inside := false
	for line := range strings.Lines(string(text)) {
		line = strings.TrimSuffix(line, "\n")
		switch {
		case line == "%"+name+"%":
			inside = true
		case line == "":
			inside = false
		case inside:
			lines = append(lines, line)
		}
	}
	return lines
}

func first(lines []string) string {
	if len(lines) == 0 {
		return ""
	}
	return lines[0]
}
