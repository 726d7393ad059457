package logfile

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/picosnitch/picosnitch/sdk"
)

// logName is the log's name, and the beginning of those of older ones.
const logName = "conn.log"

// file is the log while it is open. Every write goes to its end, wherever that is by then.
type file struct {
	*os.File
	path          string
	device, inode uint64
	committed     int64 // bytes that are safe and whole
	torn          bool  // more lies behind them, of a write that failed
}

// openFile opens or creates the log of a directory. All of it counts as committed.
func openFile(dir string) (*file, error) {
	path := filepath.Join(dir, logName)
	// O_NONBLOCK: a FIFO in the log's place must not hold the plugin.
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|os.O_APPEND|unix.O_NOFOLLOW|unix.O_NONBLOCK, 0o600)
	if errors.Is(err, unix.ELOOP) || errors.Is(err, unix.EISDIR) {
		return nil, fmt.Errorf("%w: %s is a link or a directory: move it away", sdk.ErrConfig, path)
	}
	if err != nil {
		return nil, fmt.Errorf("open log: %w", err)
	}
	var st unix.Stat_t
	if err := unix.Fstat(int(f.Fd()), &st); err != nil {
		return nil, errors.Join(fmt.Errorf("fstat log: %w", err), f.Close())
	}
	if st.Mode&unix.S_IFMT != unix.S_IFREG {
		return nil, errors.Join(fmt.Errorf("%w: %s is not a regular file: move it away", sdk.ErrConfig, path), f.Close())
	}
	return &file{File: f, path: path, device: st.Dev, inode: st.Ino, committed: st.Size}, nil
}

// is says whether the mark speaks of this log.
func (f *file) is(m mark) bool { return f.device == m.Device && f.inode == m.Inode }

// cut takes off what lies behind the committed bytes.
func (f *file) cut() error {
	if err := f.Truncate(f.committed); err != nil {
		f.torn = true
		return fmt.Errorf("cut off an unfinished batch: %w", err)
	}
	f.torn = false
	return nil
}

// add writes lines and syncs them; they are committed later. After an error none of them is in the log, or it is torn.
func (f *file) add(lines []byte) error {
	_, err := f.Write(lines)
	if err == nil {
		err = f.Sync()
	}
	if err != nil {
		return errors.Join(fmt.Errorf("write log: %w", err), f.cut())
	}
	return nil
}

// moved says whether the log's name belongs to another file by now, or to none.
func (f *file) moved() (bool, error) {
	var st unix.Stat_t
	err := unix.Lstat(f.path, &st)
	if errors.Is(err, fs.ErrNotExist) {
		return true, nil
	}
	if err != nil {
		return false, fmt.Errorf("look for the log: %w", err)
	}
	return st.Dev != f.device || st.Ino != f.inode, nil
}

// settle finds the end: behind a batch that failed it is cut, and what another hand added or took away is put up with.
func (f *file) settle() error {
	if f.torn {
		return f.cut()
	}
	info, err := f.Stat()
	if err != nil {
		return fmt.Errorf("stat log: %w", err)
	}
	if info.Size() == f.committed {
		return nil
	}
	f.committed = info.Size()
	return f.endLine()
}

// endLine ends a line that another hand, or a crash, left open.
func (f *file) endLine() error {
	if f.committed == 0 {
		return nil
	}
	var last [1]byte
	if _, err := f.ReadAt(last[:], f.committed-1); err != nil {
		return fmt.Errorf("read the log's end: %w", err)
	}
	if last[0] == '\n' {
		return nil
	}
	if err := f.add([]byte{'\n'}); err != nil {
		return err
	}
	f.committed++
	return nil
}

// cutMoved cuts the log that a mark speaks of where it lies under another name, as logrotate leaves it. Not finding it is
// no error: it may be compressed or gone.
func cutMoved(dir string, m mark) error {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return fmt.Errorf("look for the log before this one: %w", err)
	}
	for _, e := range entries {
		if !strings.HasPrefix(e.Name(), logName) {
			continue
		}
		path := filepath.Join(dir, e.Name())
		var st unix.Stat_t
		if unix.Lstat(path, &st) != nil || st.Dev != m.Device || st.Ino != m.Inode || st.Size <= m.Offset || st.Mode&unix.S_IFMT != unix.S_IFREG {
			continue
		}
		if err := os.Truncate(path, m.Offset); err != nil {
			return fmt.Errorf("cut off an unfinished batch: %w", err)
		}
	}
	return nil
}
