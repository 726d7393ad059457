package executable

import (
	"bufio"
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// trust knows whose files may be run.
type trust struct {
	uids    []uint32
	private uint32 // an owner whose private group may write; 0: none
}

// directory checks an open directory. Others may write to a sticky one (/tmp): there, they cannot exchange what is not
// theirs, and what comes next is checked too.
func (t trust) directory(fd int, at string) error {
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return fmt.Errorf("fstat %s: %w", at, err)
	}
	if st.Mode&unix.S_ISVTX != 0 && slices.Contains(t.uids, st.Uid) {
		return nil
	}
	return t.check(&st, at)
}

func (t trust) check(st *unix.Stat_t, at string) error {
	if !slices.Contains(t.uids, st.Uid) {
		return fmt.Errorf("%w: %s belongs to uid %d, who is not trusted: chown root it", ErrRefused, at, st.Uid)
	}
	writers := st.Mode & 0o022
	if writers == 0o020 && t.private != 0 && st.Uid == t.private && st.Gid == t.private && alone(st.Gid) {
		return nil
	}
	if writers != 0 {
		return fmt.Errorf("%w: %s (mode %04o) can be written by others: chmod go-w it", ErrRefused, at, st.Mode&0o7777)
	}
	return nil
}

// alone says whether gid is a user's private group: distributions with umask 002 make every file writable by it. A group
// that cannot be looked up is not alone.
func alone(gid uint32) bool {
	file, err := os.Open("/etc/group")
	if err != nil {
		return false
	}
	defer func() { _ = file.Close() }()
	lines := bufio.NewScanner(file)
	for lines.Scan() {
		fields := strings.Split(lines.Text(), ":")
		if len(fields) == 4 && fields[2] == strconv.FormatUint(uint64(gid), 10) {
			return fields[3] == "" || fields[3] == fields[0]
		}
	}
	return false
}

// interpreter checks the program that a script names, like a plugin of root's. Links to it are resolved: /bin is one on
// most distributions.
func (f *File) interpreter() error {
	var head [256]byte
	n, _ := f.ReadAt(head[:], 0) // the whole file was just read
	rest, script := bytes.CutPrefix(head[:n], []byte("#!"))
	if f.Script = script; !script {
		return nil
	}
	line, _, _ := bytes.Cut(rest, []byte("\n"))
	words := strings.Fields(string(line))
	if len(words) == 0 || !filepath.IsAbs(words[0]) {
		return fmt.Errorf("%w: %s names no absolute path of an interpreter", ErrRefused, f.Path)
	}
	real, err := filepath.EvalSymlinks(words[0])
	if err != nil {
		return fmt.Errorf("%w: interpreter of %s: %w", ErrRefused, f.Path, err)
	}
	root := trust{uids: []uint32{0}}
	program, err := walk(real, root)
	if err != nil {
		return fmt.Errorf("interpreter of %s: %w", f.Path, err)
	}
	defer func() { _ = program.Close() }()
	var st unix.Stat_t
	if err := unix.Fstat(int(program.Fd()), &st); err != nil {
		return fmt.Errorf("fstat %s: %w", real, err)
	}
	return root.check(&st, real)
}
