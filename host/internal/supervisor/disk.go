package supervisor

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"syscall"
	"time"
)

// How the use of the disk is measured.
const (
	measureEvery = 10 * time.Second
	measureSoon  = time.Second // after the start, and when it grows fast
	measureTime  = 5 * time.Second
	maxEntries   = 1 << 20
)

// errFull says that a plugin keeps more than it may.
var errFull = errors.New("disk bound reached")

// disk is what a plugin may write to, and how much.
type disk struct {
	limitMB int
	paths   []string     // directories and files granted for writing
	pids    func() []int // of the plugin's processes; nil: none
}

// check returns how much is used, in bytes, and an error that wraps errFull when that is more than is granted. What
// cannot be counted in time or is too many files counts as too much: a bound that can be dodged is none.
func (d *disk) check(ctx context.Context) (int64, error) {
	ctx, cancel := context.WithTimeout(ctx, measureTime)
	defer cancel()
	used, err := d.measure(ctx)
	limit := int64(d.limitMB) << 20
	switch {
	case err == nil && used <= limit:
		return used, nil
	case err == nil:
		return used, fmt.Errorf("%w: it keeps %d MiB, %d are granted (disk_mb): delete something or grant more", errFull, used>>20, d.limitMB)
	case errors.Is(err, context.Canceled):
		return 0, nil
	}
	return used, fmt.Errorf("%w: what it keeps cannot be measured: %w", errFull, err)
}

// measure adds up the blocks of all files, each once, and of those that are deleted and still open.
func (d *disk) measure(ctx context.Context) (int64, error) {
	c := count{ctx: ctx, seen: map[[2]uint64]bool{}}
	for _, path := range d.paths {
		if err := c.tree(path); err != nil {
			return c.bytes, err
		}
	}
	if d.pids != nil {
		for _, pid := range d.pids() {
			c.deleted(pid)
		}
	}
	return c.bytes, nil
}

// count is a measurement under way.
type count struct {
	ctx     context.Context
	bytes   int64
	entries int
	seen    map[[2]uint64]bool // device and inode of what has several names
}

// tree follows no link: names can be exchanged by the plugin at any moment, and must not lead elsewhere.
func (c *count) tree(path string) error {
	info, err := os.Lstat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	if !info.IsDir() {
		return c.add(info)
	}
	root, err := os.OpenRoot(path)
	if err != nil {
		return err
	}
	defer func() { _ = root.Close() }()
	return fs.WalkDir(root.FS(), ".", func(_ string, entry fs.DirEntry, err error) error {
		if errors.Is(err, fs.ErrNotExist) {
			return nil // deleted meanwhile
		}
		if err != nil {
			return err
		}
		info, err := entry.Info()
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		if err != nil {
			return err
		}
		return c.add(info)
	})
}

func (c *count) add(info fs.FileInfo) error {
	if c.entries++; c.entries > maxEntries {
		return fmt.Errorf("more than %d files", maxEntries)
	}
	if st, ok := info.Sys().(*syscall.Stat_t); ok {
		c.once(st)
	}
	return c.ctx.Err()
}

func (c *count) once(st *syscall.Stat_t) {
	if id := [2]uint64{st.Dev, st.Ino}; st.Nlink != 1 {
		if c.seen[id] {
			return
		}
		c.seen[id] = true
	}
	c.bytes += st.Blocks * 512
}

// deleted counts the open files of a process that have no name any more. A process that is gone has none.
func (c *count) deleted(pid int) {
	dir := filepath.Join("/proc", strconv.Itoa(pid), "fd")
	entries, err := os.ReadDir(dir)
	if err != nil {
		return
	}
	for _, e := range entries {
		info, err := os.Stat(filepath.Join(dir, e.Name()))
		if err != nil || !info.Mode().IsRegular() {
			continue
		}
		if st, ok := info.Sys().(*syscall.Stat_t); ok && st.Nlink == 0 {
			c.once(st)
		}
	}
}
