package home

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"
	"golang.org/x/sys/unix"

	"github.com/picosnitch/picosnitch/test/need"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// user is a real user id without an account.
const user = 51000

// place makes a home that user owns, on a path that he can reach, and opens picosnitch's directory in it.
func place(t *testing.T) (d *Dir, path string) {
	t.Helper()
	need.Root(t, "act as another user")
	top, err := os.MkdirTemp("/tmp", "picosnitch-home-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(top) })
	homeDir := filepath.Join(top, "home")
	must(t, os.Chmod(top, 0o755), os.Mkdir(homeDir, 0o700), os.Chown(homeDir, user, user))
	path = filepath.Join(homeDir, ".config", "picosnitch")
	d, err = Open(path, Owner{UID: user, GID: user, Home: homeDir})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { must(t, d.Close()) })
	return d, path
}

func must(t *testing.T, errs ...error) {
	t.Helper()
	if err := errors.Join(errs...); err != nil {
		t.Fatal(err)
	}
}

func stat(t *testing.T, path string) unix.Stat_t {
	t.Helper()
	var st unix.Stat_t
	must(t, unix.Lstat(path, &st))
	return st
}

func TestOpenMakesDirectoriesAsTheUser(t *testing.T) {
	t.Parallel()
	_, path := place(t)
	for _, p := range []string{path, filepath.Dir(path)} {
		if st := stat(t, p); st.Uid != user || st.Gid != user || st.Mode&0o7777 != 0o700 {
			t.Errorf("%s: uid %d gid %d mode %o", p, st.Uid, st.Gid, st.Mode)
		}
	}
}

func TestFilesBelongToTheUserWithTheModeAsked(t *testing.T) {
	t.Parallel()
	d, path := place(t)
	must(t, d.WriteFile("config.json", []byte("{}"), 0o600), d.WriteFile("record.json", []byte("{}"), 0o664),
		d.Append("exe.log", []byte("a\n")), d.Append("exe.log", []byte("b\n")), d.Mkdir("sqlite", 0o750),
		d.Symlink("snitch.db", "sqlite/snitch.db"))
	for name, mode := range map[string]uint32{
		"config.json": 0o600, "record.json": 0o664, "exe.log": 0o600, "sqlite": 0o750, "snitch.db": 0o777,
	} {
		st := stat(t, filepath.Join(path, name))
		if st.Uid != user || st.Gid != user || st.Mode&0o7777 != mode {
			t.Errorf("%s: uid %d gid %d mode %o, want %d %d %o", name, st.Uid, st.Gid, st.Mode&0o7777, user, user, mode)
		}
	}
	got, err := d.ReadFile("exe.log", 100)
	if err != nil || string(got) != "a\nb\n" {
		t.Errorf("exe.log: %q, %v", got, err)
	}
	if left, _ := filepath.Glob(path + "/.*.new"); len(left) > 0 {
		t.Errorf("temporary files left: %v", left)
	}
}

func TestOnlyTheDirsThreadHasTheUsersRights(t *testing.T) {
	t.Parallel()
	d, path := place(t)
	must(t, d.WriteFile("config.json", nil, 0o600))
	tasks, err := os.ReadDir("/proc/self/task")
	must(t, err)
	var as []string
	for _, task := range tasks {
		status, _ := os.ReadFile("/proc/self/task/" + task.Name() + "/status")
		for line := range strings.SplitSeq(string(status), "\n") {
			if strings.HasPrefix(line, "Uid:") && strings.HasSuffix(line, fmt.Sprint("\t", user)) {
				as = append(as, line)
			}
		}
	}
	if len(as) == 0 {
		t.Error("no thread has the user's fsuid")
	}
	for _, line := range as {
		if f := strings.Fields(line); f[1] != "0" || f[2] != "0" || f[3] != "0" {
			t.Errorf("more than fsuid was changed: %s", line)
		}
	}
	mine := filepath.Join(path, "..", "mine")
	must(t, os.WriteFile(mine, nil, 0o600))
	if st := stat(t, mine); st.Uid != 0 {
		t.Errorf("another thread wrote as uid %d", st.Uid)
	}
}

// trap puts something into the directory and says what reading it must not give.
type trap struct {
	name   string
	set    func(t *testing.T, path string)
	append error // nil: the same as reading
}

func traps() []trap {
	return []trap{
		{name: "symlink to shadow", set: func(t *testing.T, p string) { must(t, os.Symlink("/etc/shadow", p)) }},
		{name: "symlink to zero", set: func(t *testing.T, p string) { must(t, os.Symlink("/dev/zero", p)) }},
		{name: "symlink to a file of the user", set: func(t *testing.T, p string) {
			must(t, os.WriteFile(p+".real", []byte("x"), 0o644), os.Chown(p+".real", user, user), os.Symlink(p+".real", p))
		}},
		{name: "dangling symlink", set: func(t *testing.T, p string) { must(t, os.Symlink(p+".nothing", p)) }},
		{name: "magic link", set: func(t *testing.T, p string) { must(t, os.Symlink("/proc/self/exe", p)) }},
		{name: "pipe", set: func(t *testing.T, p string) {
			must(t, unix.Mkfifo(p, 0o600), os.Chown(p, user, user))
		}},
		{name: "device", set: func(t *testing.T, p string) {
			must(t, unix.Mknod(p, unix.S_IFCHR|0o666, int(unix.Mkdev(1, 5))), os.Chmod(p, 0o666))
		}},
		{name: "hard link", set: func(t *testing.T, p string) {
			must(t, os.WriteFile(p+".other", []byte("x"), 0o666), os.Chmod(p+".other", 0o666), os.Link(p+".other", p))
		}},
		{name: "directory", set: func(t *testing.T, p string) {
			must(t, os.Mkdir(p, 0o700), os.Chown(p, user, user))
		}, append: unix.EISDIR},
	}
}

func TestTrapsAreRefusedAtOnce(t *testing.T) {
	t.Parallel()
	for _, trap := range traps() {
		t.Run(trap.name, func(t *testing.T) {
			t.Parallel()
			d, path := place(t)
			trap.set(t, filepath.Join(path, "config.json"))
			began := time.Now()
			data, err := d.ReadFile("config.json", 1<<20)
			if !errors.Is(err, ErrUnsafe) {
				t.Errorf("read: %d bytes, %v; want ErrUnsafe", len(data), err)
			}
			want := trap.append
			if want == nil {
				want = ErrUnsafe
			}
			if err := d.Append("config.json", []byte("x")); !errors.Is(err, want) {
				t.Errorf("append: %v, want %v", err, want)
			}
			if took := time.Since(began); took > patience/2 {
				t.Errorf("took %v", took)
			}
		})
	}
}

func TestAPipeWithAReaderIsNotWrittenTo(t *testing.T) {
	t.Parallel()
	d, path := place(t)
	pipe := filepath.Join(path, "exe.log")
	must(t, unix.Mkfifo(pipe, 0o600), os.Chown(pipe, user, user))
	fd, err := unix.Open(pipe, unix.O_RDONLY|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
	must(t, err)
	defer unix.Close(fd)
	if err := d.Append("exe.log", []byte("secret")); !errors.Is(err, ErrUnsafe) {
		t.Errorf("append: %v", err)
	}
	if n, _ := unix.Read(fd, make([]byte, 8)); n > 0 {
		t.Errorf("%d bytes reached the pipe", n)
	}
}

func TestWhatTheUserMayNotReadStaysUnread(t *testing.T) {
	t.Parallel()
	d, path := place(t)
	must(t, os.WriteFile(filepath.Join(path, "config.json"), []byte("root's"), 0o600))
	if _, err := d.ReadFile("config.json", 100); !errors.Is(err, fs.ErrPermission) {
		t.Errorf("got %v, want permission denied", err)
	}
}

func TestReplacingALinkLeavesItsTarget(t *testing.T) {
	t.Parallel()
	d, path := place(t)
	target := filepath.Join(path, "target")
	must(t, os.WriteFile(target, []byte("before"), 0o666), os.Chmod(target, 0o666))
	must(t, os.Symlink(target, filepath.Join(path, "config.json")))
	must(t, os.Symlink(target, filepath.Join(path, ".config.json.new")))
	must(t, d.WriteFile("config.json", []byte("new"), 0o600))
	if got, _ := os.ReadFile(target); string(got) != "before" {
		t.Errorf("the target was changed to %q", got)
	}
	if got, err := d.ReadFile("config.json", 10); err != nil || string(got) != "new" {
		t.Errorf("read %q, %v", got, err)
	}
}

func TestASwappedDirectoryIsNotFollowed(t *testing.T) {
	t.Parallel()
	d, path := place(t)
	elsewhere := path + "-elsewhere"
	must(t, os.Mkdir(elsewhere, 0o777), os.Chmod(elsewhere, 0o777))
	must(t, os.Rename(path, path+"-away"), os.Symlink(elsewhere, path))
	must(t, d.WriteFile("config.json", []byte("{}"), 0o600))
	if _, err := os.Lstat(path + "-away/config.json"); err != nil {
		t.Errorf("the open directory was left: %v", err)
	}
	if _, err := os.Lstat(elsewhere + "/config.json"); err == nil {
		t.Error("the link was followed")
	}
	if other, err := Open(path, d.Owner()); !errors.Is(err, ErrUnsafe) {
		t.Errorf("open through the link: %v, %v", other, err)
	}
}

func TestAnotherUsersDirectoryIsRefused(t *testing.T) {
	t.Parallel()
	d, path := place(t)
	must(t, os.Chown(path, 0, 0), os.Chmod(path, 0o777))
	if _, err := Open(path, d.Owner()); !errors.Is(err, ErrUnsafe) || !strings.Contains(err.Error(), "chown") {
		t.Errorf("got %v", err)
	}
}

func TestALargerFileThanAllowedIsAnError(t *testing.T) {
	t.Parallel()
	d, _ := place(t)
	must(t, d.WriteFile("config.json", make([]byte, 101), 0o600))
	if _, err := d.ReadFile("config.json", 100); !errors.Is(err, ErrTooLarge) {
		t.Errorf("got %v", err)
	}
	if got, err := d.ReadFile("config.json", 101); err != nil || len(got) != 101 {
		t.Errorf("%d bytes, %v", len(got), err)
	}
}

func TestReadersSeeOldOrNewNeverHalf(t *testing.T) {
	t.Parallel()
	d, path := place(t)
	file := filepath.Join(path, "record.json")
	content := func(i int) []byte { return bytes.Repeat([]byte{'a' + byte(i%26)}, 50000+i) }
	must(t, d.WriteFile("record.json", content(0), 0o644))
	stop := make(chan struct{})
	var readers sync.WaitGroup
	whole := func(data []byte, err error) {
		if err != nil || len(data) < 50000 || !bytes.Equal(data, content(len(data)-50000)) {
			t.Errorf("a reader saw %d bytes, %v", len(data), err)
		}
	}
	for range 2 {
		readers.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
					whole(os.ReadFile(file))
					whole(d.ReadFile("record.json", 1<<20))
				}
			}
		})
	}
	for i := range 50 {
		must(t, d.WriteFile("record.json", content(i), 0o644))
	}
	close(stop)
	readers.Wait()
}

func TestNamesAreSingleElements(t *testing.T) {
	t.Parallel()
	d, _ := place(t)
	for _, name := range []string{"", ".", "..", "a/b", "../x", "/etc/passwd", "a\x00b", strings.Repeat("n", 256)} {
		if _, err := d.ReadFile(name, 1); !errors.Is(err, fs.ErrInvalid) {
			t.Errorf("%q: %v", name, err)
		}
	}
}

func TestSymlinkIsMadeOnce(t *testing.T) {
	t.Parallel()
	d, _ := place(t)
	must(t, d.Symlink("snitch.db", "sqlite/snitch.db"), d.Symlink("snitch.db", "sqlite/snitch.db"))
	if err := d.Symlink("snitch.db", "/etc/shadow"); !errors.Is(err, fs.ErrExist) {
		t.Errorf("another target: %v", err)
	}
	info, err := d.Lstat("snitch.db")
	if err != nil || info.Mode.Type() != fs.ModeSymlink || info.Target != "sqlite/snitch.db" || info.UID != user {
		t.Errorf("lstat: %+v, %v", info, err)
	}
}

func TestRenameNeverReplaces(t *testing.T) {
	t.Parallel()
	d, _ := place(t)
	must(t, d.WriteFile("a", []byte("a"), 0o600), d.WriteFile("b", []byte("b"), 0o600))
	if err := d.Rename("a", "b"); !errors.Is(err, fs.ErrExist) {
		t.Errorf("onto a file: %v", err)
	}
	must(t, d.Rename("a", "c"))
	if _, err := d.Lstat("a"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("old name: %v", err)
	}
}

func TestRootIsAUserLikeAnyOther(t *testing.T) {
	t.Parallel()
	top := t.TempDir()
	d, err := Open(filepath.Join(top, ".config/picosnitch"), Owner{Home: top})
	must(t, err)
	must(t, d.WriteFile("config.json", []byte("{}"), 0o600))
	if got, err := d.ReadFile("config.json", 10); err != nil || string(got) != "{}" {
		t.Errorf("%q, %v", got, err)
	}
	must(t, d.Close())
	if _, err := d.ReadFile("config.json", 10); !errors.Is(err, ErrClosed) {
		t.Errorf("after close: %v", err)
	}
}

func TestMkdirKeepsOutLinksAndStrangers(t *testing.T) {
	t.Parallel()
	d, path := place(t)
	must(t, os.Symlink("/etc", filepath.Join(path, "link")), os.Mkdir(filepath.Join(path, "roots"), 0o755))
	for _, name := range []string{"link", "roots"} {
		if err := d.Mkdir(name, 0o700); !errors.Is(err, ErrUnsafe) {
			t.Errorf("mkdir %s: %v", name, err)
		}
		if f, err := d.OpenDir(name); !errors.Is(err, ErrUnsafe) {
			t.Errorf("open %s: %v, %v", name, f, err)
		}
	}
	must(t, d.Mkdir("sqlite", 0o700), d.Mkdir("sqlite", 0o700))
	f, err := d.OpenDir("sqlite")
	must(t, err)
	must(t, f.Close())
}

func TestAHungFileSystemHoldsUpNobodyForLong(t *testing.T) {
	t.Parallel()
	w, err := startWorker(Owner{})
	must(t, err)
	w.patience = 50 * time.Millisecond
	release := make(chan struct{})
	if err := w.do(func() error { <-release; return nil }); !errors.Is(err, ErrStuck) {
		t.Errorf("first caller: %v", err)
	}
	w.patience = 20 * time.Millisecond
	if err := w.do(func() error { return nil }); !errors.Is(err, ErrStuck) {
		t.Errorf("second caller: %v", err)
	}
	close(release)
	w.patience = patience
	if err := w.do(func() error { return nil }); err != nil {
		t.Errorf("after it came back: %v", err)
	}
	must(t, w.close())
}
