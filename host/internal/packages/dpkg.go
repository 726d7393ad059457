package packages

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strings"
)

// Bounds of dpkg's files, in bytes. The largest list of Debian has 4 MB, a status file of 5,000 packages 8.
const (
	maxList   = 32 << 20
	maxStatus = 64 << 20
)

// dpkg reads /var/lib/dpkg: info/PACKAGE.list has the files of a package, info/PACKAGE.md5sums their checksums, status what
// is installed and the checksums of configuration files, diversions which files lie elsewhere than their package thinks.
type dpkg struct {
	options Options
	dir     *directory
}

func openDpkg(o Options) (manager, error) {
	dir, err := openDirectory(o.Root, "var/lib/dpkg", o.Trust)
	if err != nil {
		return nil, err
	}
	return &dpkg{options: o, dir: dir}, nil
}

func (d *dpkg) working() bool {
	return d.options.locked("var/lib/dpkg/lock") || d.options.locked("var/lib/dpkg/lock-frontend")
}

func (d *dpkg) find(ctx context.Context, names []string) (*claim, error) {
	defer d.dir.close()
	info, err := d.dir.sub("info")
	if err != nil {
		return nil, err
	}
	defer info.close()
	diverted, err := d.diversions(names)
	if err != nil {
		return nil, err
	}
	if diverted.nobody {
		return nil, nil
	}
	found, err := owners(ctx, info, diverted)
	if err != nil || len(found) == 0 {
		return nil, err
	}
	return d.best(info, found)
}

// listing is one package that lists the file.
type listing struct {
	name string // of the package's files in info: "curl", "libc6:amd64"
	path string // as listed
}

// owners reads the lists of all packages. More than one may have the file: a library of two architectures.
func owners(ctx context.Context, info *directory, diverted diversion) ([]listing, error) {
	files, err := info.names()
	if err != nil {
		return nil, err
	}
	var found []listing
	var buffer []byte
	endings := diverted.endings()
	for _, file := range files {
		name, isList := strings.CutSuffix(file, ".list")
		if !isList {
			continue
		}
		if err := ctx.Err(); err != nil {
			return found, fmt.Errorf("search dpkg's lists: %w", err)
		}
		text, err := info.read(file, maxList, buffer)
		if errors.Is(err, fs.ErrNotExist) {
			continue // removed meanwhile
		}
		if err != nil {
			return found, err
		}
		buffer = text
		if !slices.ContainsFunc(endings, func(ending []byte) bool { return bytes.Contains(text, ending) }) {
			continue // nearly all
		}
		for _, path := range diverted.names(bare(name)) {
			if hasLine(text, path) {
				found = append(found, listing{name: name, path: path})
				break
			}
		}
	}
	return found, nil
}

// bare is the package's name without its architecture.
func bare(name string) string {
	name, _, _ = strings.Cut(name, ":")
	return name
}

// hasLine tells whether text has the line, and nothing but that in it.
func hasLine(text []byte, line string) bool {
	for from := 0; ; from++ {
		i := bytes.Index(text[from:], []byte(line))
		if i < 0 {
			return false
		}
		from += i
		end := from + len(line)
		if (from == 0 || text[from-1] == '\n') && (end == len(text) || text[end] == '\n') {
			return true
		}
	}
}

// best makes the claim of the first package that has a checksum, else that of the first.
func (d *dpkg) best(info *directory, found []listing) (*claim, error) {
	status, err := d.dir.read("status", maxStatus, nil)
	if err != nil {
		return nil, err
	}
	var first *claim
	var errs []error
	for _, l := range found {
		c, err := d.claim(info, status, l)
		errs = append(errs, err)
		if c != nil && c.want != "" {
			return c, nil
		}
		if first == nil {
			first = c
		}
	}
	return first, errors.Join(errs...)
}

// claim looks a package up that lists the file. It is nil for one that was removed and left its list behind.
func (d *dpkg) claim(info *directory, status []byte, l listing) (*claim, error) {
	p := findStanza(status, l.name)
	if p.version == "" {
		return nil, nil
	}
	c := &claim{Owner: Owner{Manager: "dpkg", Package: l.name, Version: p.version, Path: l.path}}
	if sum, ok := p.conffiles[l.path]; ok {
		c.want, c.Algorithm, c.conffile = sum, "md5", true
		return c, nil
	}
	text, err := info.read(l.name+".md5sums", maxList, nil)
	if errors.Is(err, fs.ErrNotExist) {
		return c, nil
	}
	if err != nil {
		return c, err
	}
	if c.want = md5Of(text, l.path); c.want != "" {
		c.Algorithm = "md5"
	}
	return c, nil
}

// md5Of finds the checksum of a file in lines of "checksum  path/without/first/slash".
func md5Of(text []byte, path string) string {
	const hexLength = 32
	for line := range bytes.Lines(text) {
		line = bytes.TrimSuffix(line, []byte("\n"))
		if len(line) > hexLength+2 && string(line[hexLength+2:]) == path[1:] {
			return lowerHex(line[:hexLength])
		}
	}
	return ""
}

// lowerHex gives "" for what is no checksum.
func lowerHex(text []byte) string {
	sum := bytes.ToLower(text)
	for _, c := range sum {
		if (c < '0' || c > '9') && (c < 'a' || c > 'f') {
			return ""
		}
	}
	return string(sum)
}
