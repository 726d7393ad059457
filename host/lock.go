package main

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"time"

	"golang.org/x/sys/unix"

	"github.com/picosnitch/picosnitch/host/internal/api"
)

// Names in the run directory.
const (
	lockName = "lock"
	pidName  = "picosnitch.pid"
	logName  = "daemon.log"
)

// oldPidFile is where 1.0.3 had its pid; scripts and titles read it.
const oldPidFile = "/run/picosnitch.pid"

// lock is the right to be the daemon of a run directory. The kernel takes it back when the process ends, however it ends.
type lock struct {
	file   *os.File
	runDir string
}

// runningError says that another daemon has the lock.
type runningError struct {
	pid  int // 0 when it cannot be seen from here
	path string
}

func (e *runningError) Error() string {
	who := "by a process that cannot be seen from here"
	if e.pid != 0 {
		who = "with pid " + strconv.Itoa(e.pid)
	}
	return fmt.Sprintf("picosnitch is already running %s (it holds %s)", who, e.path)
}

// lockGrace is how long a lock whose holder cannot be seen may still be held by a child that a killed daemon was just
// starting: it has the descriptor between fork and exec.
const lockGrace = 2 * time.Second

// acquire makes this process the daemon of a run directory, which is made if missing, and writes the pid files. If there
// is one already the error is a *[runningError]. The caller releases the lock.
func acquire(runDir string) (*lock, error) {
	for deadline := time.Now().Add(lockGrace); ; time.Sleep(10 * time.Millisecond) {
		l, err := tryAcquire(runDir)
		var running *runningError
		if !errors.As(err, &running) || running.pid != 0 || time.Now().After(deadline) {
			return l, err
		}
	}
}

func tryAcquire(runDir string) (*lock, error) {
	if err := api.MakeRunDir(runDir); err != nil {
		return nil, err
	}
	path := filepath.Join(runDir, lockName)
	// Nobody else may open it: whoever can read a file can lock it, and keep the daemon from starting.
	file, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0o600)
	if err != nil {
		return nil, fmt.Errorf("open lock: %w", err)
	}
	err = unix.FcntlFlock(file.Fd(), unix.F_OFD_SETLK, wholeFile())
	if errors.Is(err, unix.EAGAIN) || errors.Is(err, unix.EACCES) {
		_ = file.Close()
		pid, herr := holder(runDir)
		if herr != nil {
			return nil, herr
		}
		return nil, &runningError{pid: pid, path: path}
	}
	l := &lock{file: file, runDir: runDir}
	if err == nil {
		err = l.sign()
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("lock %s: %w", path, err), file.Close())
	}
	return l, nil
}

// wholeFile describes a lock of an open file description, which closing another descriptor of the file does not lose.
func wholeFile() *unix.Flock_t { return &unix.Flock_t{Type: unix.F_WRLCK, Whence: io.SeekStart} }

// sign writes the pid where it is looked for, and removes what an earlier daemon said.
func (l *lock) sign() error {
	pid := []byte(strconv.Itoa(os.Getpid()) + "\n")
	if err := l.file.Truncate(0); err != nil {
		return err
	}
	if _, err := l.file.WriteAt(pid, 0); err != nil {
		return err
	}
	if err := removeIfThere(filepath.Join(l.runDir, readyFile)); err != nil {
		return err
	}
	for _, path := range l.pidFiles() {
		if err := replace(path, pid); err != nil {
			return err
		}
	}
	return nil
}

// pidFiles are copies for people and scripts. Nothing here relies on them.
func (l *lock) pidFiles() []string {
	files := []string{filepath.Join(l.runDir, pidName)}
	if l.runDir == defaultRunDir {
		files = append(files, oldPidFile)
	}
	return files
}

// release removes the pid files, as far as they are still ours, and gives up the lock.
func (l *lock) release() error {
	err := removeIfThere(filepath.Join(l.runDir, readyFile))
	for _, path := range l.pidFiles() {
		if readPid(path) == os.Getpid() {
			err = errors.Join(err, removeIfThere(path))
		}
	}
	return errors.Join(err, l.file.Close())
}

// replace writes a file that others can read, whole or not at all.
func replace(path string, content []byte) error {
	file, err := os.CreateTemp(filepath.Dir(path), filepath.Base(path)+".")
	if err != nil {
		return err
	}
	_, err = file.Write(content)
	err = errors.Join(err, file.Chmod(0o644), file.Close())
	if err == nil {
		err = os.Rename(file.Name(), path)
	}
	if err != nil {
		return errors.Join(err, os.Remove(file.Name()))
	}
	return nil
}

func removeIfThere(path string) error {
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

// readPid reads a pid file; 0 is none.
func readPid(path string) int {
	file, err := os.Open(path)
	if err != nil {
		return 0
	}
	defer func() { _ = file.Close() }()
	text, err := io.ReadAll(io.LimitReader(file, 32))
	if err != nil {
		return 0
	}
	pid, err := strconv.Atoi(string(bytes.TrimSpace(text)))
	if err != nil || pid <= 0 {
		return 0
	}
	return pid
}

// holder gives the pid of the daemon of a run directory, 0 when there is none. Only the directory's owner may ask: for
// others the error wraps [fs.ErrPermission].
func holder(runDir string) (int, error) {
	path := filepath.Join(runDir, lockName)
	file, err := os.OpenFile(path, os.O_RDONLY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if errors.Is(err, fs.ErrNotExist) {
		return 0, nil
	}
	if err != nil {
		return 0, fmt.Errorf("look at lock: %w", err)
	}
	defer func() { _ = file.Close() }()
	for end := time.Now().Add(time.Second); ; time.Sleep(5 * time.Millisecond) {
		state := wholeFile()
		if err := unix.FcntlFlock(file.Fd(), unix.F_OFD_GETLK, state); err != nil {
			return 0, fmt.Errorf("look at lock %s: %w", path, err)
		}
		if state.Type == unix.F_UNLCK {
			return 0, nil
		}
		if pid := readPid(path); pid != 0 && hasOpen(pid, file) {
			return pid, nil
		}
		if time.Now().After(end) { // its pid is written a moment after it has the lock
			return 0, &runningError{path: path}
		}
	}
}

// hasOpen tells whether a process has a file open: a pid alone may belong to somebody else by now.
func hasOpen(pid int, file *os.File) bool {
	want, err := file.Stat()
	if err != nil {
		return false
	}
	dir := filepath.Join("/proc", strconv.Itoa(pid), "fd")
	entries, err := os.ReadDir(dir)
	if err != nil {
		return false
	}
	for _, e := range entries {
		if have, err := os.Stat(filepath.Join(dir, e.Name())); err == nil && os.SameFile(have, want) {
			return true
		}
	}
	return false
}
