package capture

import (
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// bpffs is where pins live unless another mount of the BPF file system is found.
const bpffs = "/sys/fs/bpf"

// pinDir gives the root-owned directory of an instance, made if missing. Everybody may write to a BPF file system that
// was mounted without options, so one that is not root's alone is moved out of the way and reported, never used.
func pinDir(instance string, log *slog.Logger) (string, error) {
	if strings.ContainsAny(instance, "/.") {
		return "", fmt.Errorf("instance name %q: must not contain a slash or a dot", instance)
	}
	if err := mountBPF(); err != nil {
		return "", err
	}
	dir := filepath.Join(bpffs, "picosnitch-"+instance)
	for range 2 {
		err := os.Mkdir(dir, 0o700)
		if err == nil {
			return dir, nil
		}
		if !errors.Is(err, fs.ErrExist) {
			return "", fmt.Errorf("make pin directory: %w", err)
		}
		var st unix.Stat_t
		if err := unix.Lstat(dir, &st); err != nil {
			return "", fmt.Errorf("look at pin directory %s: %w", dir, err)
		}
		if st.Mode == unix.S_IFDIR|0o700 && st.Uid == 0 {
			return dir, nil
		}
		// A dot is not allowed in names of a BPF file system.
		aside := fmt.Sprintf("%s-not-ours-%d", dir, time.Now().UnixNano())
		if err := os.Rename(dir, aside); err != nil {
			return "", fmt.Errorf("move foreign pin directory aside: %w", err)
		}
		log.Warn("pin directory belonged to somebody else and was moved aside", "uid", st.Uid, "mode", fmt.Sprintf("%o", st.Mode), "now", aside)
	}
	return "", fmt.Errorf("make pin directory %s: somebody else keeps making it", dir)
}

// errClaimed says that another host has this instance: two that read one ring lose and garble what is in it.
var errClaimed = errors.New("another daemon counts with it: give this one a name of its own (--instance)")

// claim makes an instance's pins this host's until the file is closed, at the latest by its end. One that was killed a
// moment ago may hold them still.
func claim(dir string) (*os.File, error) {
	file, err := os.Open(dir)
	if err != nil {
		return nil, fmt.Errorf("open pin directory: %w", err)
	}
	for range 20 {
		err = unix.Flock(int(file.Fd()), unix.LOCK_EX|unix.LOCK_NB)
		if !errors.Is(err, unix.EWOULDBLOCK) {
			break
		}
		time.Sleep(50 * time.Millisecond)
	}
	switch {
	case errors.Is(err, unix.EWOULDBLOCK):
		err = fmt.Errorf("%w: %w", errClaimed, err)
	case err == nil:
		return file, nil
	}
	return nil, errors.Join(err, file.Close())
}

// mountBPF makes sure that a BPF file system is mounted at bpffs.
func mountBPF() error {
	var st unix.Statfs_t
	if err := unix.Statfs(bpffs, &st); err != nil {
		return fmt.Errorf("look at %s: %w", bpffs, err)
	}
	if st.Type == unix.BPF_FS_MAGIC {
		return nil
	}
	if err := unix.Mount("bpf", bpffs, "bpf", unix.MS_NOSUID|unix.MS_NODEV|unix.MS_NOEXEC, "mode=0700"); err != nil {
		return fmt.Errorf("mount BPF file system at %s: %w", bpffs, err)
	}
	return nil
}

// removePins removes a directory of pins; what they hold lives on as long as somebody has it open.
func removePins(dir string) error {
	if err := os.RemoveAll(dir); err != nil {
		return fmt.Errorf("remove pins: %w", err)
	}
	return nil
}

// removeUnused removes an instance's directory in which nothing is pinned but the control word.
func removeUnused(dir string) error {
	entries, err := os.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("list pins: %w", err)
	}
	for _, entry := range entries {
		if entry.IsDir() {
			return nil
		}
	}
	return removePins(dir)
}
