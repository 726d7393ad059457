package executable

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

// ErrRefused is wrapped by every error of [Open] that only a change of the file, its directories or the configuration
// can mend.
var ErrRefused = errors.New("plugin file refused")

// maxSize bounds what is hashed before a plugin starts, in bytes: an owner who is not root can make any file.
const maxSize = 1 << 30

// Rules say whom to trust and what to expect.
type Rules struct {
	Host   string   // path of the host binary; its owner is trusted for files in its directory and in plugins/ below it
	Trust  []uint32 // owners trusted anywhere, besides root
	SHA256 string   // expected hash in hexadecimal, "" for none
	RunAs  uint32   // uid that will execute the file
}

// File is a verified executable. Its owner closes it.
type File struct {
	*os.File
	Path   string
	SHA256 [sha256.Size]byte
	Script bool // begins with #!: it is executed by name of its descriptor, which the interpreter must inherit
}

// Open verifies the file at path, an absolute one, and returns it open for reading.
//
// Errors wrap [ErrRefused], except those of a machine out of descriptors or memory.
func Open(path string, rules Rules) (*File, error) {
	if !filepath.IsAbs(path) || filepath.Clean(path) != path {
		return nil, fmt.Errorf("%w: %q is not a clean absolute path", ErrRefused, path)
	}
	trusted := trust{uids: append([]uint32{0}, rules.Trust...)}
	if owner, ok := hostOwner(rules.Host, path); ok {
		trusted.uids = append(trusted.uids, owner)
		trusted.private = owner
	}
	file, err := walk(path, trusted)
	if err != nil {
		return nil, err
	}
	f := &File{File: file, Path: path}
	if err := f.inspect(rules, trusted); err != nil {
		_ = file.Close()
		return nil, err
	}
	return f, nil
}

// hostOwner is the owner of the host binary, when path lies beside it.
func hostOwner(host, path string) (uint32, bool) {
	if host == "" {
		return 0, false
	}
	dir := filepath.Dir(host)
	if at := filepath.Dir(path); at != dir && at != filepath.Join(dir, "plugins") {
		return 0, false
	}
	var st unix.Stat_t
	if err := unix.Stat(host, &st); err != nil {
		return 0, false
	}
	return st.Uid, true
}

// walk opens path one name at a time, following no link and checking each step.
func walk(path string, trusted trust) (*os.File, error) {
	dir, err := unix.Open("/", unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("open /: %w", err)
	}
	defer func() { _ = unix.Close(dir) }()
	names := strings.Split(path[1:], "/")
	for i, name := range names[:len(names)-1] {
		at := "/" + strings.Join(names[:i+1], "/")
		next, err := unix.Openat(dir, name, unix.O_PATH|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
		if err != nil {
			return nil, refuse(at, err)
		}
		_ = unix.Close(dir)
		dir = next
		if err := trusted.directory(dir, at); err != nil {
			return nil, err
		}
	}
	// O_NONBLOCK: a FIFO in the file's place must not hold the host.
	const flags = unix.O_RDONLY | unix.O_NOFOLLOW | unix.O_NONBLOCK | unix.O_NOCTTY | unix.O_CLOEXEC
	fd, err := unix.Openat(dir, names[len(names)-1], flags, 0)
	if err != nil {
		return nil, refuse(path, err)
	}
	return os.NewFile(uintptr(fd), path), nil
}

// refuse explains an error of opening a step.
func refuse(at string, err error) error {
	switch {
	case errors.Is(err, unix.ELOOP), errors.Is(err, unix.ENOTDIR):
		return fmt.Errorf("%w: %s is a symbolic link or no directory: name the real path", ErrRefused, at)
	case errors.Is(err, unix.EMFILE), errors.Is(err, unix.ENFILE), errors.Is(err, unix.ENOMEM):
		return fmt.Errorf("open %s: %w", at, err)
	}
	return fmt.Errorf("%w: open %s: %w", ErrRefused, at, err)
}

// inspect checks the open file itself and hashes it.
func (f *File) inspect(rules Rules, trusted trust) error {
	var st unix.Stat_t
	if err := unix.Fstat(int(f.Fd()), &st); err != nil {
		return fmt.Errorf("fstat %s: %w", f.Path, err)
	}
	switch {
	case st.Mode&unix.S_IFMT != unix.S_IFREG:
		return fmt.Errorf("%w: %s is not a regular file", ErrRefused, f.Path)
	case st.Size > maxSize:
		return fmt.Errorf("%w: %s is larger than %d MiB", ErrRefused, f.Path, maxSize>>20)
	}
	if err := trusted.check(&st, f.Path); err != nil {
		return err
	}
	if !executableBy(&st, rules.RunAs) {
		return fmt.Errorf("%w: %s (mode %04o) cannot be executed by uid %d: chmod 755 it",
			ErrRefused, f.Path, st.Mode&0o7777, rules.RunAs)
	}
	hash := sha256.New()
	if _, err := io.Copy(hash, io.NewSectionReader(f.File, 0, st.Size)); err != nil {
		return fmt.Errorf("read %s: %w", f.Path, err)
	}
	hash.Sum(f.SHA256[:0])
	if want := strings.ToLower(rules.SHA256); want != "" && want != hex.EncodeToString(f.SHA256[:]) {
		return fmt.Errorf("%w: %s has sha256 %x, the configuration pins %.64q", ErrRefused, f.Path, f.SHA256, want)
	}
	return f.interpreter()
}

// executableBy leaves groups aside: plugins have none but their own.
func executableBy(st *unix.Stat_t, uid uint32) bool {
	switch uid {
	case 0:
		return st.Mode&0o111 != 0
	case st.Uid:
		return st.Mode&0o100 != 0
	}
	return st.Mode&0o001 != 0
}

// Identity tells whether the file at a path, or who could exchange it, may have changed since an earlier look.
type Identity struct {
	Device, Inode uint64
	Size          int64
	Changed       unix.Timespec
	Mode, Owner   uint32
	Above         string // every directory above it: which one, whose, and its mode
}

// Look is the identity of what lies at path; all but Above is zero when nothing can be seen there.
func Look(path string) Identity {
	var seen Identity
	var st unix.Stat_t
	if err := unix.Lstat(path, &st); err == nil {
		seen = Identity{Device: st.Dev, Inode: st.Ino, Size: st.Size, Changed: st.Ctim, Mode: st.Mode, Owner: st.Uid}
	}
	for dir := filepath.Dir(path); dir != "/" && dir != "."; dir = filepath.Dir(dir) {
		if err := unix.Lstat(dir, &st); err == nil {
			seen.Above += fmt.Sprintf("%d:%d %d %o\n", st.Dev, st.Ino, st.Uid, st.Mode)
		}
	}
	return seen
}
