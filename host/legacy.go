package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/picosnitch/picosnitch/host/internal/home"
	"github.com/picosnitch/picosnitch/host/internal/supervisor"
)

// plugFile is a file that 1.0.3 had beside config.json, and that a plugin has in its own directory now.
type plugFile struct {
	plugin, name string
	old          string   // the file of 1.0.3 is set aside under this name
	beside       []string // suffixes of what may belong to it
	move         bool     // into the plugin's directory, for the plugin to take over
}

func plugFiles() []plugFile {
	return []plugFile{
		{plugin: "sqlite", name: "snitch.db", old: "snitch-1.0.3.db", beside: []string{"-wal", "-shm", "-journal"}, move: true},
		{plugin: "textlog", name: "conn.log", old: "conn-1.0.3.log"},
	}
}

// errInUse tells that another program has the old file open.
var errInUse = errors.New("another program has it open")

// linkFiles makes, for the plugins that run, the links beside config.json that lead to their files. What 1.0.3 left in
// their place is set aside, never written to, and named in status.
func (d *daemon) linkFiles(specs []supervisor.Spec) {
	for _, f := range plugFiles() {
		if !slices.ContainsFunc(specs, func(s supervisor.Spec) bool { return s.Name == f.plugin }) {
			continue
		}
		if err := f.link(d.dir); err != nil {
			d.fault(err.Error())
			d.log.Warn("old file", "error", err)
		}
		if _, err := d.dir.Lstat(f.old); err == nil {
			d.inForce.remark(fmt.Sprintf("%s of picosnitch 1.0.3 was set aside as %s", f.name, f.old))
		}
	}
}

// link makes name a link to the plugin's file.
func (f plugFile) link(dir *home.Dir) error {
	info, err := dir.Lstat(f.name)
	if err == nil && info.Mode.IsRegular() {
		if err := f.setAside(dir, info); err != nil {
			return fmt.Errorf("set %s aside as %s: %w", f.name, f.old, err)
		}
	}
	if old, err := dir.Lstat(f.old); f.move && err == nil && old.Mode.IsRegular() {
		if err := f.handOver(dir); err != nil {
			return fmt.Errorf("hand %s to plugin %s: %w", f.old, f.plugin, err)
		}
	}
	target := f.plugin + "/" + f.name
	if err := dir.Symlink(f.name, target); err != nil {
		return fmt.Errorf("link %s to %s: %w", f.name, target, err)
	}
	return nil
}

func (f plugFile) setAside(dir *home.Dir, info home.Info) error {
	open, err := openedByAnyone(info)
	if err != nil {
		return err
	}
	if open {
		return errInUse
	}
	for _, suffix := range append(slices.Clone(f.beside), "") {
		err := dir.Rename(f.name+suffix, f.old+suffix)
		if err != nil && (suffix == "" || !errors.Is(err, fs.ErrNotExist)) {
			return err
		}
	}
	return nil
}

// handOver moves what was set aside into the plugin's directory, the only one that it sees, and leaves a link to it. What
// belongs to the file goes first, so that a crash in between does not part them: the file is still where it was then.
func (f plugFile) handOver(dir *home.Dir) error {
	if err := dir.Mkdir(f.plugin, 0o700); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(context.Background(), handOverTime)
	defer cancel()
	path, owner := dir.Path(), dir.Owner()
	err := home.As(ctx, owner, func() error {
		from, err := unix.Open(path, unix.O_PATH|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
		if err != nil {
			return fmt.Errorf("open %s: %w", path, err)
		}
		defer func() { _ = unix.Close(from) }()
		to, err := unix.Openat(from, f.plugin, unix.O_PATH|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
		if err != nil {
			return fmt.Errorf("open %s: %w", f.plugin, err)
		}
		defer func() { _ = unix.Close(to) }()
		for _, suffix := range append(slices.Clone(f.beside), "") {
			err := unix.Renameat2(from, f.old+suffix, to, f.old+suffix, unix.RENAME_NOREPLACE)
			if err != nil && (suffix == "" || !errors.Is(err, unix.ENOENT)) {
				return fmt.Errorf("move %s into %s: %w", f.old+suffix, f.plugin, err)
			}
		}
		return nil
	})
	if err != nil {
		return err
	}
	return dir.Symlink(f.old, f.plugin+"/"+f.old)
}

// handOverTime bounds what a file system may take to rename.
const handOverTime = 10 * time.Second

// openedByAnyone looks through the descriptors of all processes. It asks no file system about them: one that a process
// serves itself, or that lies behind a network, need not answer.
func openedByAnyone(info home.Info) (bool, error) {
	files, err := filepath.Glob("/proc/[0-9]*/fdinfo/*")
	if err != nil {
		return false, fmt.Errorf("look for open files: %w", err)
	}
	for _, file := range files {
		if inodeOf(file) != info.Inode {
			continue
		}
		var st unix.Statx_t // of what the kernel remembers
		err := unix.Statx(unix.AT_FDCWD, strings.Replace(file, "/fdinfo/", "/fd/", 1), unix.AT_STATX_DONT_SYNC, unix.STATX_INO, &st)
		if err == nil && unix.Mkdev(st.Dev_major, st.Dev_minor) == info.Device && st.Ino == info.Inode {
			return true, nil
		}
	}
	return false, nil
}

// inodeOf is the inode number in a file of /proc/PID/fdinfo; 0 if the descriptor has gone.
func inodeOf(file string) (inode uint64) {
	f, err := os.Open(file)
	if err != nil {
		return 0
	}
	defer func() { _ = f.Close() }()
	head := make([]byte, 256) // what descriptors of some kinds tell besides comes after it, and is long
	n, _ := f.Read(head)
	for line := range strings.Lines(string(head[:n])) {
		if _, err := fmt.Sscanf(line, "ino: %d", &inode); err == nil {
			return inode
		}
	}
	return 0
}

// wipe removes what an earlier run left in the run directory under a name of ours.
func wipe(path string) error {
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("remove what an earlier run left: %w", err)
	}
	return nil
}
