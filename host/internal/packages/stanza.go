package packages

import (
	"bytes"
	"strings"
)

// stanza is what dpkg's status file says of an installed package.
type stanza struct {
	version   string            // "" if it is not installed
	conffiles map[string]string // path → MD5
}

// findStanza finds the package whose files in info are called name, which has the architecture only where two may be
// installed side by side.
func findStanza(status []byte, name string) stanza {
	wanted, arch, qualified := strings.Cut(name, ":")
	head := []byte("Package: " + wanted + "\n")
	for rest := status; ; {
		i := bytes.Index(rest, head)
		if i < 0 {
			return stanza{}
		}
		if i > 0 && rest[i-1] != '\n' {
			rest = rest[i+len(head):]
			continue
		}
		text := rest[i:]
		if end := bytes.Index(text, []byte("\n\n")); end >= 0 {
			text = text[:end+1]
		}
		rest = rest[i+len(text):]
		f := fields(text)
		if !qualified || f["Architecture"] == arch {
			if s := f.stanza(); s.version != "" {
				return s
			}
		}
	}
}

type fieldMap map[string]string

// fields reads a stanza: lines of "Name: value", continued by lines that begin with a space.
func fields(text []byte) fieldMap {
	f := fieldMap{}
	name := ""
	for line := range strings.Lines(string(text)) {
		line = strings.TrimSuffix(line, "\n")
		if strings.HasPrefix(line, " ") {
			f[name] += line + "\n"
			continue
		}
		var value string
		name, value, _ = strings.Cut(line, ":")
		f[name] = strings.TrimSpace(value)
	}
	return f
}

// stanza keeps what is needed. The last word of Status is "installed", or how far the installation has come; files of a
// package that was removed but for its configuration are not its own any more.
func (f fieldMap) stanza() stanza {
	words := strings.Fields(f["Status"])
	if len(words) != 3 || words[2] == "not-installed" || words[2] == "config-files" {
		return stanza{}
	}
	s := stanza{version: f["Version"], conffiles: map[string]string{}}
	for line := range strings.Lines(f["Conffiles"]) {
		// " /etc/a path 0123… obsolete": the path may have spaces, the rest not.
		line = strings.TrimSuffix(strings.TrimSuffix(strings.TrimSpace(line), " remove-on-upgrade"), " obsolete")
		if i := strings.LastIndexByte(line, ' '); i > 0 {
			s.conffiles[line[:i]] = lowerHex([]byte(line[i+1:]))
		}
	}
	return s
}
