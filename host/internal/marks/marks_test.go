package marks

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/picosnitch/picosnitch/test/need"
)

// witness is a Sink that remembers.
type witness struct {
	mu        sync.Mutex
	executed  map[string]int // by content
	modified  map[uint64]int // by inode
	overflows int
	tables    int
	foreign   []Mount
	hold      chan struct{} // Executed waits for it to be closed
}

func (w *witness) Executed(_ uint32, file *os.File) {
	if w.hold != nil {
		<-w.hold
	}
	buffer := make([]byte, 64)
	n, _ := file.ReadAt(buffer, 0)
	file.Close()
	w.mu.Lock()
	defer w.mu.Unlock()
	w.executed[string(buffer[:n])]++
}

func (w *witness) Modified(_, inode uint64) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.modified[inode]++
}

func (w *witness) Overflow() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.overflows++
}

func (w *witness) Mounts([]Mount) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.tables++
}

func (w *witness) Foreign(_ uint32, mounts []Mount) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.foreign = mounts
}

func (w *witness) ask(question func() bool) func() bool {
	return func() bool {
		w.mu.Lock()
		defer w.mu.Unlock()
		return question()
	}
}

func start(t *testing.T, o Options) (*Marks, *witness) {
	t.Helper()
	need.Root(t, "mark file systems")
	m, err := Open(o)
	if err != nil {
		t.Fatal(err)
	}
	w := &witness{executed: map[string]int{}, modified: map[uint64]int{}}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		defer cancel()
		if err := m.Close(ctx); err != nil {
			t.Error(err)
		}
	})
	return m, w
}

func begin(t *testing.T, m *Marks, w *witness) {
	t.Helper()
	if err := m.Start(w); err != nil {
		t.Fatal(err)
	}
}

// script writes a program that the kernel knows by its first line; the rest of it makes it its own.
func script(t *testing.T, dir, name string) (path, content string) {
	t.Helper()
	path, content = filepath.Join(dir, name), "#!/bin/true\n#"+name+t.Name()
	content = content[:min(len(content), 64)]
	if err := os.WriteFile(path, []byte(content), 0o755); err != nil {
		t.Fatal(err)
	}
	return path, content
}

func run(t *testing.T, path string) {
	t.Helper()
	if out, err := exec.Command(path).CombinedOutput(); err != nil {
		t.Fatalf("%s: %v: %s", path, err, out)
	}
}

func mountTmpfs(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	if err := unix.Mount("tmpfs", dir, "tmpfs", 0, ""); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = unix.Unmount(dir, unix.MNT_DETACH) })
	return dir
}

func waitFor(t *testing.T, condition func() bool) {
	t.Helper()
	for deadline := time.Now().Add(30 * time.Second); !condition(); {
		if time.Now().After(deadline) {
			t.Fatal("condition not met in 30 s")
		}
		time.Sleep(2 * time.Millisecond)
	}
}

func TestExecutedFileIsHandedOverAlsoWhenItIsGone(t *testing.T) {
	t.Parallel()
	m, w := start(t, Options{})
	begin(t, m, w)
	path, content := script(t, t.TempDir(), "gone")
	run(t, path)
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	waitFor(t, w.ask(func() bool { return w.executed[content] > 0 }))
}

func TestFileSystemMountedLaterIsMarkedAndCanBeUnmounted(t *testing.T) {
	t.Parallel()
	m, w := start(t, Options{})
	begin(t, m, w)
	dir := mountTmpfs(t)
	path, content := script(t, dir, "later")
	waitFor(t, func() bool {
		run(t, path)
		return w.ask(func() bool { return w.executed[content] > 0 })()
	})
	waitFor(t, func() bool { return unix.Unmount(dir, 0) == nil })
	again := dir
	if err := unix.Mount("tmpfs", again, "tmpfs", 0, ""); err != nil { // as often as not with the same device number
		t.Fatal(err)
	}
	path, content = script(t, again, "second")
	waitFor(t, func() bool {
		run(t, path)
		return w.ask(func() bool { return w.executed[content] > 0 })()
	})
}

func TestWatchedFileIsToldWhenItIsWrittenTo(t *testing.T) {
	t.Parallel()
	m, w := start(t, Options{})
	begin(t, m, w)
	path, _ := script(t, t.TempDir(), "watched")
	file, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	if err := m.Watch(int(file.Fd())); err != nil {
		t.Fatal(err)
	}
	var st unix.Stat_t
	if err := unix.Fstat(int(file.Fd()), &st); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte("#!/bin/false"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := m.Sync(t.Context()); err != nil {
		t.Fatal(err)
	}
	if w.ask(func() bool { return w.modified[st.Ino] == 0 })() {
		t.Error("not told, though everything that happened before has been")
	}
}

func TestTooManyWatchedFilesAreAnOverflow(t *testing.T) {
	t.Parallel()
	m, w := start(t, Options{MaxWatched: 3})
	begin(t, m, w)
	dir := t.TempDir()
	for i := range 4 {
		path, _ := script(t, dir, fmt.Sprint(i))
		file, err := os.Open(path)
		if err != nil {
			t.Fatal(err)
		}
		defer file.Close()
		if err := m.Watch(int(file.Fd())); err != nil {
			t.Fatal(err)
		}
	}
	if c := m.Counters(); c.Watched != 0 || c.Unwatched != 4 || w.overflows != 1 {
		t.Errorf("%+v, told %d times", c, w.overflows)
	}
}

func TestOverflowOfTheQueueIsTold(t *testing.T) {
	t.Parallel()
	if testing.Short() {
		need.Skip(t, "executes 20,000 programs")
	}
	told := make(chan struct{}, 1)
	m, w := start(t, Options{Overflowed: func() {
		select {
		case told <- struct{}{}:
		default:
		}
	}})
	w.hold = make(chan struct{})
	begin(t, m, w)
	release := sync.OnceFunc(func() { close(w.hold) })
	defer release()
	path, _ := script(t, t.TempDir(), "many")
	overflow(t, path)
	release()
	select {
	case <-told:
	case <-time.After(30 * time.Second):
		t.Fatal("no overflow told")
	}
	if w.overflows == 0 || m.Counters().Overflows == 0 {
		t.Errorf("told %d times, %+v", w.overflows, m.Counters())
	}
}

// overflow fills the queue. Events of one file by one process are put together, so each is of a process of its own; that an
// exec fails (the file is opened, but is no program) costs less than one that succeeds.
func overflow(t *testing.T, path string) {
	t.Helper()
	if err := os.WriteFile(path, []byte("no program"), 0o755); err != nil {
		t.Fatal(err)
	}
	var running sync.WaitGroup
	for range 4 {
		running.Go(func() {
			for range 4500 {
				_, err := syscall.ForkExec(path, []string{path}, nil)
				if err == nil {
					t.Error("executed")
					return
				}
			}
		})
	}
	running.Wait()
}

func TestFileSystemOfAnotherMountNamespaceIsMarkedAtFirstSight(t *testing.T) {
	t.Parallel()
	m, w := start(t, Options{})
	begin(t, m, w)
	dir := t.TempDir()
	cmd := exec.Command("unshare", "-m", "sh", "-c", fmt.Sprintf(
		`mount -t tmpfs inside %[1]s && printf '#!/bin/true\n#inside' > %[1]s/x && chmod +x %[1]s/x && echo && while read go; do %[1]s/x; done`, dir))
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() {
		in.Close()
		_ = cmd.Wait()
	}()
	if _, err := out.Read(make([]byte, 1)); err != nil {
		t.Fatal(err)
	}
	namespace := namespaceOf("/proc", uint32(cmd.Process.Pid), "mnt")
	m.Saw(uint32(cmd.Process.Pid), namespace, 0)
	waitFor(t, w.ask(func() bool { return len(w.foreign) > 0 }))
	waitFor(t, func() bool {
		if _, err := in.Write([]byte("\n")); err != nil {
			t.Fatal(err)
		}
		return w.ask(func() bool { return w.executed["#!/bin/true\n#inside"] > 0 })()
	})
}

func TestCloseEndsEverythingAtOnce(t *testing.T) {
	t.Parallel()
	m, w := start(t, Options{})
	begin(t, m, w)
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	if err := m.Close(ctx); err != nil {
		t.Fatal(err)
	}
	m.Saw(1, 1, 1)
	if err := m.Start(w); err == nil {
		t.Error("started after it was closed")
	}
}
