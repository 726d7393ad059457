package journal

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime/debug"
	"time"

	bolt "go.etcd.io/bbolt"
	berrors "go.etcd.io/bbolt/errors"
	"golang.org/x/sys/unix"
)

// lockWait is how long a start waits for another process to let go of the file: a restart overlaps a little.
const lockWait = 2 * time.Second

// growth is by how much the file grows at a time once it is larger than that.
const growth = 1 << 20

// checkDirectory makes dir when missing and refuses one that others could write: they would own the journal.
func checkDirectory(dir string) error {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return fmt.Errorf("make state directory: %w", err)
	}
	var st unix.Stat_t
	if err := unix.Stat(dir, &st); err != nil {
		return fmt.Errorf("stat state directory %s: %w", dir, err)
	}
	if int(st.Uid) != os.Geteuid() || st.Mode&0o022 != 0 {
		return fmt.Errorf("state directory %s: owner %d, mode %04o; it must belong to uid %d with mode 0700",
			dir, st.Uid, st.Mode&0o7777, os.Geteuid())
	}
	return nil
}

// setAside renames a file that cannot be read, so that a new one can be begun.
func setAside(path string, cause error, now time.Time) (*Recovered, error) {
	aside := asideName(path, now)
	if err := os.Rename(path, aside); err != nil {
		return nil, fmt.Errorf("set %s aside (%w): %w", path, cause, err)
	}
	return &Recovered{Path: aside, Cause: cause}, nil
}

// maxDamaged is how many damaged files are kept: each may be as large as a journal.
const maxDamaged = 3

// prune removes the oldest damaged files.
func prune(path string) error {
	all, err := filepath.Glob(path + ".corrupt-*") // in order of time
	if err != nil {
		return fmt.Errorf("list damaged journals: %w", err)
	}
	for ; len(all) > maxDamaged; all = all[1:] {
		if err := os.Remove(all[0]); err != nil {
			return fmt.Errorf("remove an old damaged journal: %w", err)
		}
	}
	return nil
}

func asideName(path string, now time.Time) string {
	return path + ".corrupt-" + now.UTC().Format("20060102T150405.000000000Z")
}

// syncDirectory makes the file's name durable; bbolt only does so for its content.
func syncDirectory(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return fmt.Errorf("open state directory: %w", err)
	}
	if err := errors.Join(d.Sync(), d.Close()); err != nil {
		return fmt.Errorf("sync state directory: %w", err)
	}
	return nil
}

// database is bbolt with its file at hand.
type database struct {
	*bolt.DB
	file *os.File
}

// abandon lets go of the file, and of the lock on it, and leaves the memory map behind. It is for what bbolt panicked on:
// its own Close could wait for ever for a lock that the panic left taken.
func (d database) abandon() error { return d.file.Close() }

// openDatabase opens and checks the file at path. Its errors satisfy [isDamage] when the content is to blame.
func openDatabase(path string) (database, error) {
	var d database
	options := &bolt.Options{
		Timeout:      lockWait, // for form's sake: the lock is ours already
		FreelistType: bolt.FreelistMapType,
		OpenFile: func(name string, flag int, mode os.FileMode) (f *os.File, err error) {
			d.file, err = openLocked(name, flag, mode)
			return d.file, err
		},
	}
	err := guard(func() (err error) {
		d.DB, err = bolt.Open(path, 0o600, options)
		return err
	})
	if err == nil {
		d.AllocSize = growth
		err = guard(func() error { return check(d) })
	}
	if err == nil {
		err = syncDirectory(filepath.Dir(path))
	}
	if err == nil {
		return d, nil
	}
	if d.file != nil {
		_ = d.abandon() // bbolt closed it already, unless it panicked
	}
	return d, fmt.Errorf("open %s: %w", path, err)
}

// openLocked opens the file, takes bbolt's lock on it before bbolt does, and checks its structure.
func openLocked(name string, flag int, mode os.FileMode) (*os.File, error) {
	for {
		f, err := os.OpenFile(name, flag|unix.O_NOFOLLOW|unix.O_CLOEXEC, mode)
		if err != nil {
			return nil, err
		}
		if err = lock(f); err == nil {
			if replaced(f, name) { // by a compaction, while we waited
				_ = f.Close()
				continue
			}
			err = checkFile(f)
		}
		if err != nil {
			return nil, errors.Join(err, f.Close())
		}
		return f, nil
	}
}

// replaced tells whether the name belongs to another file by now.
func replaced(f *os.File, name string) bool {
	ours, err := f.Stat()
	if err != nil {
		return false
	}
	theirs, err := os.Lstat(name)
	return err == nil && !os.SameFile(ours, theirs)
}

func checkFile(f *os.File) error {
	info, err := f.Stat()
	if err != nil || info.Size() == 0 { // bbolt makes a new one of it
		return err
	}
	return checkStructure(f, info.Size())
}

// lock waits a little for another process to let go.
func lock(f *os.File) error {
	for deadline := time.Now().Add(lockWait); ; time.Sleep(lockWait / 40) {
		err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
		switch {
		case err == nil:
			return nil
		case !errors.Is(err, unix.EWOULDBLOCK):
			return fmt.Errorf("lock: %w", err)
		case time.Now().After(deadline):
			return ErrLocked
		}
	}
}

// check reads everything once, and has bbolt check itself after an unclean stop.
func check(d database) error {
	return d.View(func(tx *bolt.Tx) error {
		if tx.Bucket([]byte(nameMeta)) == nil {
			return nil
		}
		l, err := inspect(tx)
		if err != nil || l.previous.clean {
			return err
		}
		var first error
		for problem := range tx.Check() { // to the end: its goroutine waits for a reader
			if first == nil {
				first = fmt.Errorf("%w: %w", errDamaged, problem)
			}
		}
		return first
	})
}

// guard runs fn and turns bbolt's assertions, and faults on its memory map, into errors.
func guard(fn func() error) (err error) {
	defer debug.SetPanicOnFault(debug.SetPanicOnFault(true))
	defer func() {
		if r := recover(); r != nil {
			err = fmt.Errorf("%w: %v", errDamaged, r)
		}
	}()
	return fn()
}

// isDamage tells a file that cannot be what we wrote from an operating system that cannot read it now.
func isDamage(err error) bool {
	for _, cause := range []error{
		errDamaged, berrors.ErrInvalid, berrors.ErrChecksum, berrors.ErrVersionMismatch, berrors.ErrIncompatibleValue,
	} {
		if errors.Is(err, cause) {
			return true
		}
	}
	return false
}
