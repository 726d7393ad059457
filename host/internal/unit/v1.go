package unit

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"
)

// errRefused says that a file is not one to be believed.
var errRefused = errors.New("not root's own regular file")

const (
	maxCgroupFile = 64 << 10
	ticks         = 100 // of a second in /proc, USER_HZ: the same on all architectures that Go knows
	second        = 1e9
)

// V1 makes the function for Options.V1: it reads /proc/PID/cgroup below procRoot; cgroups is where the hierarchies are
// mounted, each by the name of its controllers (/sys/fs/cgroup). systemd's own hierarchy is preferred. A process that has
// gone, or whose pid is another's since, has no path.
func V1(procRoot, cgroups string) func(Facts) (mount, path string) {
	return func(facts Facts) (string, string) {
		if facts.Pid == 0 {
			return "", ""
		}
		dir := filepath.Join(procRoot, strconv.FormatUint(uint64(facts.Pid), 10))
		data, err := readBounded(filepath.Join(dir, "cgroup"), maxCgroupFile)
		if err != nil || !isInstance(dir, facts.Start) {
			return "", ""
		}
		controller, path := hierarchy(string(data))
		if path == "" {
			return "", ""
		}
		return filepath.Join(cgroups, strings.TrimPrefix(controller, "name=")), path
	}
}

// hierarchy chooses one line of /proc/PID/cgroup: number, controllers, path, separated by colons.
func hierarchy(lines string) (controllers, path string) {
	paths := map[string]string{}
	var order []string
	for line := range strings.Lines(lines) {
		fields := strings.SplitN(strings.TrimSuffix(line, "\n"), ":", 3)
		if len(fields) == 3 && fields[0] != "0" && len(fields[2]) > 1 && fields[2][0] == '/' {
			paths[fields[1]] = fields[2]
			order = append(order, fields[1])
		}
	}
	for _, controllers := range append([]string{"name=systemd", "memory", "pids"}, order...) {
		if path := paths[controllers]; path != "" {
			return controllers, path
		}
	}
	return "", ""
}

// isInstance tells whether the process of a /proc directory began at start (boot ns; 0: whichever it is).
func isInstance(dir string, start int64) bool {
	if start == 0 {
		return true
	}
	stat, err := readBounded(filepath.Join(dir, "stat"), 4096)
	if err != nil {
		return false
	}
	fields := bytes.Fields(stat[bytes.LastIndexByte(stat, ')')+1:]) // a name may hold anything
	if len(fields) < 20 {
		return false
	}
	began, err := strconv.ParseInt(string(fields[19]), 10, 64)
	return err == nil && began == start/(second/ticks)
}

// readBounded reads a file of /proc.
func readBounded(path string, limit int64) ([]byte, error) {
	file, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("read bounded: %w", err)
	}
	defer file.Close()
	data, err := io.ReadAll(io.LimitReader(file, limit))
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", path, err)
	}
	return data, nil
}
