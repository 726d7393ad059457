package chaos

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// usage is what a process holds.
type usage struct {
	Files      int // open ones that are no executables
	Threads    int
	Anonymous  int // MiB of memory that is its own
	Executable int // files that are: the host keeps those of what runs, whoever runs it
}

// usageOf looks at /proc.
func usageOf(pid int) (usage, error) {
	dir := fmt.Sprintf("/proc/%d", pid)
	files, err := os.ReadDir(dir + "/fd")
	if err != nil {
		return usage{}, fmt.Errorf("count files: %w", err)
	}
	threads, err := os.ReadDir(dir + "/task")
	if err != nil {
		return usage{}, fmt.Errorf("count threads: %w", err)
	}
	status, err := os.ReadFile(dir + "/status")
	if err != nil {
		return usage{}, fmt.Errorf("look up memory: %w", err)
	}
	u := usage{Threads: len(threads)}
	for _, f := range files {
		if info, err := os.Stat(filepath.Join(dir, "fd", f.Name())); err == nil && info.Mode().IsRegular() && info.Mode()&0o111 != 0 {
			u.Executable++
			continue
		}
		u.Files++
	}
	u.Anonymous = kilobytes(status, "RssAnon") >> 10
	return u, nil
}

// kilobytes reads a line of /proc/PID/status; 0 if there is none.
func kilobytes(status []byte, key string) int {
	_, rest, _ := bytes.Cut(status, []byte("\n"+key+":"))
	field := bytes.Fields(rest)
	if len(field) == 0 {
		return 0
	}
	n, err := strconv.Atoi(string(field[0]))
	if err != nil {
		return 0
	}
	return n
}

// Room is how much more than before a host may hold and not be said to leak: caches fill, and Go starts a thread for each
// call that blocks and keeps it.
const (
	roomFiles   = 24
	roomThreads = 16
	roomMemory  = 48 // MiB
)

// leaked tells what has grown.
func leaked(before, after usage) []difference {
	var out []difference
	check := func(field string, before, after, room int) {
		if after > before+room {
			out = append(out, difference{"host", "", field, fmt.Sprintf("at most %d more than %d", room, before), fmt.Sprint(after)})
		}
	}
	check("files", before.Files, after.Files, roomFiles)
	check("threads", before.Threads, after.Threads, roomThreads)
	check("MiB", before.Anonymous, after.Anonymous, roomMemory)
	return out
}

// orphans are processes of a range of users, or of an executable below directory; none may be left when a host has ended.
func orphans(first, last int, directory string) []difference {
	var out []difference
	processes, _ := filepath.Glob("/proc/[0-9]*") // a constant pattern
	for _, dir := range processes {
		var st unix.Stat_t
		if unix.Stat(dir, &st) != nil {
			continue // ended meanwhile
		}
		exe, _ := os.Readlink(dir + "/exe")
		if int(st.Uid) < first || int(st.Uid) > last {
			if !strings.HasPrefix(exe, directory+"/") {
				continue
			}
		}
		line, _ := os.ReadFile(dir + "/cmdline")
		got := fmt.Sprintf("%s %q of user %d", filepath.Base(dir), bytes.ReplaceAll(line, []byte{0}, []byte{' '}), st.Uid)
		out = append(out, difference{"machine", exe, "process", "none", got})
	}
	return out
}
