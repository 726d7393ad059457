package packages

import (
	"bytes"
	"errors"
	"io/fs"
	"slices"
	"strings"
)

// diversion says under which names a package would list the file.
type diversion struct {
	own    []string            // for all packages that others does not name
	others map[string][]string // package → the names for it
	// moved are names whose file was diverted to where the file is now: listed by any package but the one that diverted it.
	moved  map[string]string
	nobody bool // an administrator diverted the package's file away and put his own here
}

// diversions reads the file of three lines each: the name in packages, the name on disk, and the package whose file took the
// place, ":" for the administrator.
func (d *dpkg) diversions(names []string) (diversion, error) {
	v := diversion{own: names, others: map[string][]string{}, moved: map[string]string{}}
	text, err := d.dir.read("diversions", maxList, nil)
	if errors.Is(err, fs.ErrNotExist) {
		return v, nil
	}
	if err != nil {
		return v, err
	}
	lines := bytes.Split(text, []byte("\n"))
	for ; len(lines) >= 3; lines = lines[3:] {
		from, to, by := string(lines[0]), string(lines[1]), string(lines[2])
		if slices.Contains(names, to) {
			v.moved[from] = by
		}
		if !slices.Contains(names, from) {
			continue
		}
		if by == ":" {
			v.nobody = true
			continue
		}
		v.others[by] = names
		v.own = nil
	}
	return v, nil
}

// names are those that the package's list would have the file under.
func (v diversion) names(name string) []string {
	names := v.own
	if others, ok := v.others[name]; ok {
		names = others
	}
	if len(v.moved) == 0 {
		return names
	}
	names = slices.Clone(names)
	for from, by := range v.moved {
		if by != name {
			names = append(names, from)
		}
	}
	return names
}

// endings are the last parts of all names that any package could list the file under: one of them is in its list.
func (v diversion) endings() [][]byte {
	names := slices.Clone(v.own)
	for _, others := range v.others {
		names = append(names, others...)
	}
	for from := range v.moved {
		names = append(names, from)
	}
	var endings [][]byte
	for _, name := range names {
		ending := []byte(name[strings.LastIndexByte(name, '/')+1:])
		if !slices.ContainsFunc(endings, func(known []byte) bool { return bytes.Equal(known, ending) }) {
			endings = append(endings, ending)
		}
	}
	return endings
}
