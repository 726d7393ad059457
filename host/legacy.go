package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"

	"github.com/picosnitch/picosnitch/host/internal/home"
)

// The database of 1.0.3 and what SQLite may keep beside it.
const (
	database     = "snitch.db"
	oldDatabase  = "snitch-1.0.3.db"
	databasePlug = "sqlite/" + database
)

// errInUse tells that another program has the old database open.
var errInUse = errors.New("another program has it open")

// linkDatabase makes snitch.db, beside config.json, a link to the database in the plugin's own directory. A file that
// stands there is the database of 1.0.3: it is set aside under another name and never written to.
func linkDatabase(dir *home.Dir) error {
	info, err := dir.Lstat(database)
	if err == nil && info.Mode.IsRegular() {
		if err := setAside(dir, info); err != nil {
			return fmt.Errorf("set %s aside as %s: %w", database, oldDatabase, err)
		}
	}
	if err := dir.Symlink(database, databasePlug); err != nil {
		return fmt.Errorf("link %s to %s: %w", database, databasePlug, err)
	}
	return nil
}

func setAside(dir *home.Dir, info home.Info) error {
	open, err := openedByAnyone(info)
	if err != nil {
		return err
	}
	if open {
		return errInUse
	}
	for _, suffix := range []string{"-wal", "-shm", "-journal", ""} {
		err := dir.Rename(database+suffix, oldDatabase+suffix)
		if err != nil && (suffix == "" || !errors.Is(err, fs.ErrNotExist)) {
			return err
		}
	}
	return nil
}

// openedByAnyone looks through the descriptors of all processes.
func openedByAnyone(info home.Info) (bool, error) {
	links, err := filepath.Glob("/proc/[0-9]*/fd/*")
	if err != nil {
		return false, fmt.Errorf("look for open files: %w", err)
	}
	for _, link := range links {
		var st unix.Stat_t
		if unix.Stat(link, &st) == nil && st.Dev == info.Device && st.Ino == info.Inode {
			return true, nil
		}
	}
	return false, nil
}

// wipe removes what an earlier run left in the run directory under a name of ours.
func wipe(path string) error {
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("remove what an earlier run left: %w", err)
	}
	return nil
}
