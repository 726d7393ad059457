package unit

import (
	"strings"

	"github.com/picosnitch/picosnitch/sdk"
)

const (
	maxPath     = 4096 // bytes of a cgroup path that are looked at
	maxElements = 64
	maxOther    = 8
	maxName     = 255 // of one element, NAME_MAX
)

// mark is one thing that a cgroup path names. The zero value names nothing.
type mark struct {
	runtime   string
	id        string // raw, as are all texts here
	name      string
	container bool   // runtimes keep state about it
	monitor   bool   // not in the container: the runtime's own process beside it
	weak      bool   // means something only if the runtime's state says so
	path      string // of the cgroup that carries the name
	above     string // the cgroup in which it was made: whoever owns that and those above could have made it
	managed   bool   // above consists of what root's own managers make
}

// label is the name to show.
func (m mark) label() string {
	if !m.monitor {
		return m.name
	}
	return strings.TrimPrefix(m.name+" (monitor)", " ")
}

// place is what a cgroup path says.
type place struct {
	user  bool   // below a user's own cgroups
	uid   string // that user's, "" if the path does not tell
	found mark   // container, pod or app: the outermost
	unit  mark   // systemd unit: below a user's cgroups the innermost, elsewhere the outermost that is no slice
	other []mark // names of no known form, outermost first, of which a runtime's state may know one
}

// parse reads a cgroup path. A path that no cgroup can have says nothing.
func parse(path string) place {
	s := scanner{managed: true}
	path = trimmed(path)
	for rest, at := path, 0; rest != ""; {
		element, after, more := strings.Cut(rest, "/")
		if element == "" || element == "." || element == ".." || len(element) > maxName {
			return place{}
		}
		end := at + len(element)
		s.next(element, path[:end], path[:max(at-1, 0)])
		if s.found.runtime != "" || s.depth >= maxElements || !more {
			break
		}
		rest, at = after, end+1
	}
	return s.finish()
}

// trimmed is the path without its leading slash and without the mark of a removed cgroup.
func trimmed(path string) string {
	path = strings.Trim(strings.TrimSuffix(path, " (deleted)"), "/")
	if len(path) > maxPath {
		path = path[:strings.LastIndexByte(path[:maxPath], '/')+1]
		path = strings.TrimSuffix(path, "/")
	}
	return path
}

// scanner goes down a path.
type scanner struct {
	place
	depth   int
	managed bool // so far
	settled bool // the unit is not a slice: nothing below is systemd's own
	kube    bool // below the kubelet's cgroups
	pod     mark
	parent  string
}

func (s *scanner) next(element, path, above string) {
	name := strings.TrimPrefix(element, "_") // systemd puts it before names that the kernel could use
	s.zone(name)
	s.kube = s.kube || isKubepods(name)
	m := container(name, s.parent, s.kube, s.depth)
	m.path, m.above, m.managed = path, above, s.managed && !s.settled
	if p := pod(name); s.kube && p.runtime != "" {
		s.pod = p
		s.pod.path, s.pod.above, s.pod.managed = m.path, m.above, m.managed
	}
	manager := isManager(name, s.depth)
	switch {
	case m.runtime != "":
		s.found = m
		if s.found.runtime == runtimeKubernetes {
			s.found.name = s.pod.id
		}
	case isUnit(name):
		s.unitAt(name, path, above)
	case !s.settled && !manager && len(s.other) < maxOther:
		s.other = append(s.other, mark{
			runtime: runtimeRunc, id: element, container: true, weak: true, path: path, above: above, managed: s.managed,
		})
	}
	s.managed = s.managed && manager
	s.parent = name
	s.depth++
}

// zone notes where the cgroups of a user begin. Below a unit of the system's the names are no longer systemd's.
func (s *scanner) zone(name string) {
	if s.settled && !s.user {
		return
	}
	uid := userOf(name)
	if uid != "" || s.depth == 0 && (name == "user.slice" || name == "user") {
		s.user = true
	}
	if s.uid == "" {
		s.uid = uid
	}
}

func (s *scanner) unitAt(name, path, above string) {
	slice := strings.HasSuffix(name, ".slice")
	if s.settled && (!s.user || slice) {
		return
	}
	s.unit = mark{runtime: runtimeSystemd, id: name, name: decode(name), path: path, above: above, managed: s.managed}
	s.settled = s.settled || !slice
}

func (s *scanner) finish() place {
	if s.found.runtime == "" {
		s.found = s.pod
	}
	return s.place
}

// escaped makes raw text fit for the wire, where it must be UTF-8, and for whoever reads it.
func escaped(raw string) string { return sdk.EscapeString(raw[:min(len(raw), maxText)]) }

// maxText bounds a name before it is escaped. Names of a pod's containers have three parts.
const maxText = 3 * maxName
