package group

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// hierarchies are the directories of this process's own control groups; "" for a hierarchy that is not there.
type hierarchies struct {
	unified, memory, pids string
}

// find reads where control groups are mounted, and in which this process is.
func find() (hierarchies, error) {
	mounts, err := os.Open("/proc/self/mountinfo")
	if err != nil {
		return hierarchies{}, fmt.Errorf("look for control groups: %w", err)
	}
	defer func() { _ = mounts.Close() }()
	own, err := os.Open("/proc/self/cgroup")
	if errors.Is(err, os.ErrNotExist) {
		return hierarchies{}, nil // a kernel without
	}
	if err != nil {
		return hierarchies{}, fmt.Errorf("look for control groups: %w", err)
	}
	defer func() { _ = own.Close() }()
	return parse(mounts, own)
}

// parse understands /proc/PID/mountinfo and /proc/PID/cgroup.
func parse(mounts, own io.Reader) (hierarchies, error) {
	paths := map[string]string{} // controller, "" the unified one -> path within its hierarchy
	lines := bufio.NewScanner(own)
	for lines.Scan() {
		_, rest, _ := strings.Cut(lines.Text(), ":")
		names, path, _ := strings.Cut(rest, ":")
		for name := range strings.SplitSeq(names, ",") {
			paths[name] = path
		}
	}
	var h hierarchies
	table := bufio.NewScanner(mounts)
	for table.Scan() {
		before, after, found := strings.Cut(table.Text(), " - ")
		at, kind := strings.Fields(before), strings.Fields(after)
		if !found || len(at) < 5 || len(kind) < 3 {
			continue
		}
		options := strings.Split(kind[2], ",")
		switch {
		case kind[0] == "cgroup2" && h.unified == "":
			h.unified = below(at[4], at[3], paths, "")
		case kind[0] == "cgroup" && slices.Contains(options, "memory"):
			h.memory = below(at[4], at[3], paths, "memory")
		case kind[0] == "cgroup" && slices.Contains(options, "pids"):
			h.pids = below(at[4], at[3], paths, "pids")
		}
	}
	return h, errors.Join(lines.Err(), table.Err())
}

// below is the directory of our group of a controller, whose hierarchy shows root at mount; "" if it is not to be seen.
func below(mount, root string, paths map[string]string, controller string) string {
	path, ok := paths[controller]
	if !ok || strings.HasPrefix(path, "/..") {
		return ""
	}
	rest, inside := strings.CutPrefix(path, strings.TrimSuffix(root, "/"))
	if !inside || rest != "" && rest[0] != '/' {
		return ""
	}
	return filepath.Join(mount, rest)
}
