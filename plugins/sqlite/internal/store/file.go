package store

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net/url"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"

	"github.com/picosnitch/picosnitch/sdk"
)

const (
	fileName = "snitch.db"
	// version is the user_version of our files. 1.0.3 and 2.x went up to 4.
	version = 103
	// applicationID is in the header of our files: "snch".
	applicationID = 0x736e6368
	legacyVersion = 4
)

// header is what the first 100 bytes of a SQLite file tell.
type header struct {
	wal           bool
	userVersion   uint32
	applicationID uint32
}

// errNotSQLite says that a file does not begin as a SQLite file does.
var errNotSQLite = errors.New("not a SQLite file")

// readHeader reads a file without SQLite, which would repair or checkpoint it. An empty file has a zero header.
func readHeader(path string) (header, error) {
	f, err := os.Open(path)
	if err != nil {
		return header{}, err
	}
	defer f.Close()
	raw := make([]byte, 100)
	n, err := io.ReadFull(f, raw)
	switch {
	case n == 0 && errors.Is(err, io.EOF):
		return header{}, nil
	case errors.Is(err, io.ErrUnexpectedEOF) || (err == nil && string(raw[:16]) != "SQLite format 3\x00"):
		return header{}, errNotSQLite
	case err != nil:
		return header{}, err
	}
	return header{
		wal:           raw[18] == 2,
		userVersion:   binary.BigEndian.Uint32(raw[60:]),
		applicationID: binary.BigEndian.Uint32(raw[68:]),
	}, nil
}

// dsn names a file to the driver, whatever characters its path has. Parameters follow the name.
func dsn(path, parameters string) string {
	return (&url.URL{Scheme: "file", Path: path, RawQuery: parameters}).String()
}

// beginFresh renames a file and what SQLite keeps beside it, so that a new one can take its place. It fails with
// errInUse when another process holds a lock on it. The sidecars go first: were the daemon killed in between, a journal
// of the old file must never lie beside a new one.
func beginFresh(path, target string) (string, error) {
	release, err := lockAll(path)
	if err != nil {
		return "", err
	}
	defer release()
	target, err = unused(target)
	if err != nil {
		return "", err
	}
	for _, suffix := range []string{"-journal", "-wal", "-shm", ""} {
		err := unix.Renameat2(unix.AT_FDCWD, path+suffix, unix.AT_FDCWD, target+suffix, unix.RENAME_NOREPLACE)
		if err != nil && (suffix == "" || !errors.Is(err, unix.ENOENT)) {
			return "", fmt.Errorf("rename %s to %s: %w", path+suffix, target+suffix, err)
		}
	}
	return target, nil
}

// unused gives target, or if that exists, a name with the time in it.
func unused(target string) (string, error) {
	name := target
	for range 100 {
		if _, err := os.Lstat(name); errors.Is(err, os.ErrNotExist) {
			return name, nil
		} else if err != nil {
			return "", err
		}
		name = target + time.Now().UTC().Format(".20060102T150405.000000")
	}
	return "", fmt.Errorf("no free name for %s", target)
}

// errInUse says that another process works with a file.
var errInUse = errors.New("another process has it open; stop that process first")

// lockAll takes the lock that an exclusive transaction takes, on the bytes where SQLite puts it, but without SQLite: a
// transaction would first play back a journal that belongs to the file, and so change it.
func lockAll(path string) (release func(), err error) {
	f, err := os.OpenFile(path, os.O_RDWR|unix.O_NOFOLLOW, 0)
	if err != nil {
		return nil, err
	}
	const pendingByte, length = 0x40000000, 512
	lock := unix.Flock_t{Type: unix.F_WRLCK, Whence: io.SeekStart, Start: pendingByte, Len: length}
	if err := unix.FcntlFlock(f.Fd(), unix.F_OFD_SETLK, &lock); err != nil {
		f.Close()
		if errors.Is(err, unix.EAGAIN) || errors.Is(err, unix.EACCES) {
			return nil, fmt.Errorf("%s: %w", path, errInUse)
		}
		return nil, fmt.Errorf("lock %s: %w", path, err)
	}
	if err := openElsewhere(f); err != nil {
		f.Close()
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return func() { f.Close() }, nil
}

// openElsewhere finds out whether a file is open at all, also without a lock: only then a write lease is refused. Where
// leases are not to be had (another owner, a network file system) the lock has to be enough.
func openElsewhere(f *os.File) error {
	_, err := unix.FcntlInt(f.Fd(), unix.F_SETLEASE, unix.F_WRLCK)
	if errors.Is(err, unix.EAGAIN) {
		return errInUse
	}
	if err == nil {
		_, err = unix.FcntlInt(f.Fd(), unix.F_SETLEASE, unix.F_UNLCK)
		return err
	}
	return nil
}

// setAsideLegacy looks at what lies at path and moves away a database of 1.0.3. It returns the new name, "" when nothing was
// moved. Its errors are [corrupt] at a damaged file, and ErrConfig when a person has to decide.
func setAsideLegacy(path string) (moved string, err error) {
	info, err := os.Lstat(path)
	if errors.Is(err, os.ErrNotExist) {
		return "", nil
	}
	if err != nil {
		return "", err
	}
	if !info.Mode().IsRegular() {
		return "", fmt.Errorf("%w: %s is not a regular file; move it away", sdk.ErrConfig, path)
	}
	h, err := readHeader(path)
	if err != nil {
		return "", err
	}
	if h.userVersion > legacyVersion || h.applicationID == applicationID || info.Size() == 0 {
		return "", nil // the connection that will write checks the rest
	}
	legacy, err := isLegacy(path, h)
	if err != nil || !legacy {
		return "", err
	}
	return beginFresh(path, filepath.Join(filepath.Dir(path), "snitch-1.0.3.db"))
}

// setAsideCorrupt moves a damaged file away under a name that says when.
func setAsideCorrupt(path string) (string, error) {
	return beginFresh(path, path+".corrupt-"+time.Now().UTC().Format("20060102T150405Z"))
}
