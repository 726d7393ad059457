package group

import (
	"errors"
	"fmt"
	"hash/fnv"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// hostGroup is the child into which the host steps aside: with controllers on, a group has either processes or children.
const hostGroup = "host"

// Parent is where the groups of one host lie.
type Parent struct {
	unified string // our directory of each hierarchy; "" without it
	memory  string
	pids    string
	bounded []string // controllers of the unified hierarchy that are on
	missing []string // in words
}

// Open finds or makes the place for the groups of the host that instance, any text, names, and ends what an earlier host
// of that name left there. Only a kernel that cannot be read is an error; what cannot be had is told by the groups.
func Open(instance string) (*Parent, error) {
	h, err := find()
	if err != nil {
		return nil, err
	}
	sum := fnv.New64a()
	_, _ = sum.Write([]byte(instance))
	name := fmt.Sprintf("picosnitch-%016x", sum.Sum64())
	p := &Parent{}
	if h.unified != "" {
		p.openUnified(h.unified, name)
	}
	if !slices.Contains(p.bounded, "memory") {
		p.memory = p.directory(h.memory, name)
	}
	if !slices.Contains(p.bounded, "pids") {
		p.pids = p.directory(h.pids, name)
	}
	for _, dir := range []string{p.unified, p.memory, p.pids} {
		p.sweep(dir)
	}
	return p, nil
}

// openUnified switches on what controllers it may.
func (p *Parent) openUnified(own, name string) {
	base, mayBound := own, false
	switch {
	case delegated(filepath.Dir(own)) && isGroup(filepath.Dir(own)):
		base, mayBound = filepath.Dir(own), true // an earlier Open, or systemd, has put us aside already
	case delegated(own):
		mayBound = p.stepAside(own)
	case !exists("/run/systemd/system"):
		mayBound = !isGroup(own) || p.stepAside(own) // nobody else manages them; only the root may have both
	}
	if mayBound {
		enable(base)
	}
	p.unified = p.directory(base, name)
	if p.unified != "" {
		p.bounded = enable(p.unified)
	}
}

// stepAside moves this process into a child of its group.
func (p *Parent) stepAside(own string) bool {
	child := filepath.Join(own, hostGroup)
	err := os.Mkdir(child, 0o755)
	if err == nil || errors.Is(err, os.ErrExist) {
		err = write(child, "cgroup.procs", strconv.Itoa(os.Getpid()))
	}
	if err != nil {
		p.missing = append(p.missing, "control groups: "+err.Error())
	}
	return err == nil
}

// directory makes our directory in a hierarchy.
func (p *Parent) directory(base, name string) string {
	if base == "" {
		return ""
	}
	dir := filepath.Join(base, name)
	if err := os.Mkdir(dir, 0o755); err != nil && !errors.Is(err, os.ErrExist) {
		p.missing = append(p.missing, "control groups: "+err.Error())
		return ""
	}
	return dir
}

// sweep ends and removes the groups that an earlier host left.
func (p *Parent) sweep(dir string) {
	if dir == "" {
		return
	}
	entries, err := os.ReadDir(dir)
	if err != nil {
		return
	}
	for _, e := range entries {
		if !e.IsDir() {
			continue
		}
		left := filepath.Join(dir, e.Name())
		killAll(left)
		if err := remove(left); err != nil {
			p.missing = append(p.missing, "remove what an earlier host left: "+err.Error())
		}
	}
}

// Close removes our directories; all groups are closed before.
func (p *Parent) Close() error {
	var errs []error
	for _, dir := range []string{p.unified, p.memory, p.pids} {
		if dir != "" {
			errs = append(errs, remove(dir))
		}
	}
	return errors.Join(errs...)
}

// enable switches the controllers on that plugins are bounded by, for the children of dir, and returns those that are on.
func enable(dir string) (on []string) {
	available, _ := os.ReadFile(filepath.Join(dir, "cgroup.controllers"))
	for _, name := range []string{"memory", "pids"} {
		if slices.Contains(strings.Fields(string(available)), name) && write(dir, "cgroup.subtree_control", "+"+name) == nil {
			on = append(on, name)
		}
	}
	return on
}

// delegated says whether systemd has given a group away to be managed by its processes.
func delegated(dir string) bool {
	for _, name := range []string{"trusted.delegate", "user.delegate"} {
		value := make([]byte, 8)
		if n, err := unix.Getxattr(dir, name, value); err == nil && string(value[:n]) == "1" {
			return true
		}
	}
	return false
}

// isGroup is false for the root of a hierarchy.
func isGroup(dir string) bool { return exists(filepath.Join(dir, "cgroup.type")) }

func exists(path string) bool {
	_, err := os.Lstat(path)
	return err == nil
}

func write(dir, file, text string) error {
	f, err := os.OpenFile(filepath.Join(dir, file), os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	_, err = f.WriteString(text)
	return errors.Join(err, f.Close())
}

// killAll ends every process of a group.
func killAll(dir string) {
	if write(dir, "cgroup.kill", "1") == nil {
		return
	}
	for _, pid := range processes(dir) {
		_ = unix.Kill(pid, unix.SIGKILL)
	}
}

func processes(dir string) (pids []int) {
	text, _ := os.ReadFile(filepath.Join(dir, "cgroup.procs"))
	for line := range strings.FieldsSeq(string(text)) {
		if pid, err := strconv.Atoi(line); err == nil && pid > 1 {
			pids = append(pids, pid)
		}
	}
	return pids
}

// remove waits a little: killed processes leave their group only when they have gone through their exit.
func remove(dir string) error {
	const patience = 2 * time.Second
	for begun := time.Now(); ; time.Sleep(5 * time.Millisecond) {
		err := unix.Rmdir(dir)
		if err == nil || errors.Is(err, unix.ENOENT) {
			return nil
		}
		if !errors.Is(err, unix.EBUSY) || time.Since(begun) > patience {
			return fmt.Errorf("rmdir %s: %w", dir, err)
		}
	}
}
