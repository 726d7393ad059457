package journal

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	berrors "go.etcd.io/bbolt/errors"
	"golang.org/x/sys/unix"
)

// ReserveName is a file beside the journal whose only purpose is the space that it takes: it is given up for places of
// sinks and deletions when the disk is full, since without those nothing could ever become free.
const ReserveName = "journal.reserve"

// reserveBytes is the size of the reserve.
const reserveBytes = 4 << 20

// ErrDisk is what every *[DiskError] is.
var ErrDisk = errors.New("the disk refuses to take more")

// DiskError says that the disk did not take what was to be written: it is full, a quota is used up, or it fails. Nothing
// was taken, and the same call may succeed later.
type DiskError struct {
	Since time.Time // of the first refusal in a row
	Cause error
}

func (e *DiskError) Error() string {
	return fmt.Sprintf("%v since %s: %v", ErrDisk, e.Since.Format(time.TimeOnly), e.Cause)
}

// Unwrap gives [ErrDisk] and the cause.
func (e *DiskError) Unwrap() []error { return []error{ErrDisk, e.Cause} }

// refused tells whether err is the disk's: no space, no quota, or an I/O error. bbolt keeps only the text of some.
func refused(err error) bool {
	if err == nil || isDamage(err) {
		return false
	}
	if errors.Is(err, berrors.ErrMaxSizeReached) || errors.Is(err, unix.EFBIG) || errors.Is(err, unix.EROFS) {
		return true
	}
	for _, cause := range []unix.Errno{unix.ENOSPC, unix.EDQUOT, unix.EIO} {
		if errors.Is(err, cause) || strings.HasSuffix(err.Error(), cause.Error()) {
			return true
		}
	}
	return false
}

// noSpace is refused for what more space would help.
func noSpace(err error) bool {
	return refused(err) && !strings.HasSuffix(err.Error(), unix.EIO.Error())
}

// disk is the state of the file system below the journal. [Journal].appending guards it.
type disk struct {
	reserve string // path; "" before open
	whole   bool   // the reserve takes its space
}

// open makes the reserve, if there is space for it.
func (d *disk) open(dir string) {
	d.reserve = filepath.Join(dir, ReserveName)
	d.whole = allocate(d.reserve) == nil
}

// Reserved tells whether the reserve in a state directory takes its space.
func Reserved(dir string) bool {
	info, err := os.Lstat(filepath.Join(dir, ReserveName))
	return err == nil && info.Size() >= reserveBytes
}

// refill makes the reserve whole again and tells whether it is.
func (d *disk) refill() bool {
	if !d.whole {
		d.whole = allocate(d.reserve) == nil
	}
	return d.whole
}

// release gives the reserve up and tells whether that made space.
func (d *disk) release() bool {
	if !d.whole {
		return false
	}
	d.whole = false
	return os.Truncate(d.reserve, 0) == nil
}

// allocate gives a file its space, or leaves it without any.
func allocate(path string) error {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|unix.O_NOFOLLOW, 0o600)
	if err != nil {
		return fmt.Errorf("open the reserve: %w", err)
	}
	if err = unix.Fallocate(int(f.Fd()), 0, 0, reserveBytes); errors.Is(err, unix.EOPNOTSUPP) {
		_, err = f.WriteAt(make([]byte, reserveBytes), 0)
	}
	if err != nil {
		err = errors.Join(fmt.Errorf("allocate the reserve: %w", err), f.Truncate(0))
	}
	return errors.Join(err, f.Close())
}
