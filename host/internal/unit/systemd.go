package unit

import (
	"strconv"
	"strings"
)

// userOf is the uid in the name of a user's slice or manager, "" if it is neither.
func userOf(name string) string {
	uid, is := between(name, "user-", ".slice")
	if !is {
		uid, is = between(name, "user@", ".service")
	}
	if _, err := strconv.ParseUint(uid, 10, 32); !is || err != nil {
		return ""
	}
	return uid
}

func between(text, prefix, suffix string) (string, bool) {
	rest, has := strings.CutPrefix(text, prefix)
	if !has {
		return "", false
	}
	return strings.CutSuffix(rest, suffix)
}

// isUnit tells whether systemd could have given the name: these kinds of units have cgroups.
func isUnit(name string) bool {
	dot := strings.LastIndexByte(name, '.')
	if dot <= 0 {
		return false
	}
	switch name[dot:] {
	case ".service", ".scope", ".slice", ".mount", ".socket", ".swap":
		return true
	}
	return false
}

// isManager tells whether a cgroup of this name is made by root's own managers, which do not hand it to a user.
func isManager(name string, depth int) bool {
	if depth == 0 {
		switch name {
		case "system.slice", "machine.slice", "docker", "kubelet.slice":
			return true
		}
		return isKubepods(name)
	}
	switch name {
	case "besteffort", "burstable", "guaranteed", "kubepods":
		return true
	}
	return strings.HasSuffix(name, ".slice") || pod(name).runtime != ""
}

// decode undoes the escapes of systemd: \xNN.
func decode(name string) string {
	if !strings.Contains(name, `\x`) {
		return name
	}
	var b strings.Builder
	for i := 0; i < len(name); i++ {
		if strings.HasPrefix(name[i:], `\x`) && len(name) >= i+4 {
			if c, err := strconv.ParseUint(name[i+2:i+4], 16, 8); err == nil {
				b.WriteByte(byte(c))
				i += 3
				continue
			}
		}
		b.WriteByte(name[i])
	}
	return b.String()
}
