package unit

import (
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// nobody stands for a maker that cannot be told: the cgroup may be written by more than its owner.
const nobody = ^uint32(0)

// trusted tells whether only root could have made the cgroup that carries the name.
func (f *Finder) trusted(mount string, m mark) bool {
	uid, known := f.maker(mount, m.above)
	if !known {
		return m.managed
	}
	return uid == f.owner
}

// maker tells who may make cgroups in the one at path: the first owner but root of it and those above. known is false if
// they cannot be looked at, for instance because they have gone.
func (f *Finder) maker(mount, path string) (uid uint32, known bool) {
	if mount == "" {
		return 0, false
	}
	for at := 0; ; {
		var st unix.Stat_t
		if err := unix.Lstat(mount+"/"+path[:at], &st); err != nil {
			return 0, false
		}
		switch {
		case st.Uid != f.owner:
			return st.Uid, true
		case st.Mode&0o022 != 0:
			return nobody, true
		case at == len(path):
			return f.owner, true
		}
		next := strings.IndexByte(path[min(at+1, len(path)):], '/')
		if next < 0 {
			at = len(path)
		} else {
			at += next + 1
		}
	}
}

// claimant is how a claim begins: with the user who could have made it.
func (f *Finder) claimant(mount string, p place, facts Facts) string {
	if p.uid != "" {
		return "user " + p.uid + ": "
	}
	path := p.found.above
	if p.found.runtime == "" {
		path = p.unit.above
	}
	if path == "" { // nothing but the process itself says it
		return userPrefix(facts.UID)
	}
	if uid, known := f.maker(mount, path); known && uid != f.owner && uid != nobody {
		return userPrefix(uid)
	}
	return "claimed: "
}

func userPrefix(uid uint32) string { return "user " + strconv.FormatUint(uint64(uid), 10) + ": " }
