package library

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"path"
	"strconv"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/picosnitch/picosnitch/host/internal/capture"
	"github.com/picosnitch/picosnitch/test/need"
)

// probes stand for those of capture.
type probes struct{ attached, detached atomic.Int32 }

func (p *probes) Close() error {
	p.detached.Add(1)
	return nil
}

const offset = 4711

func newLibraries(t *testing.T, p *probes, known bool) *Libraries {
	t.Helper()
	l := New(Options{
		ProcRoot: "/proc", Home: namespaceOf(t, os.Getpid()), Log: slog.New(slog.DiscardHandler),
		Known:  func(uint64, uint64) bool { return known },
		Symbol: func(context.Context, *os.File) (uint64, error) { return offset, nil },
		Follow: func(file *os.File, at uint64) (io.Closer, error) {
			if at != offset || !isLibrary(file) {
				return nil, errors.New("another file or offset")
			}
			p.attached.Add(1)
			return p, nil
		},
	})
	t.Cleanup(l.Close)
	return l
}

func isLibrary(file *os.File) bool {
	name, err := os.Readlink("/proc/self/fd/" + strconv.Itoa(int(file.Fd())))
	return err == nil && libraryName(path.Base(name))
}

func namespaceOf(t *testing.T, pid int) uint32 {
	t.Helper()
	var st unix.Stat_t
	if err := unix.Stat("/proc/"+strconv.Itoa(pid)+"/ns/mnt", &st); err != nil {
		t.Fatal(err)
	}
	return uint32(st.Ino)
}

// contained starts a program of the C library in a mount namespace of its own.
func contained(t *testing.T) *capture.Process {
	t.Helper()
	need.Root(t, "make mount namespaces")
	cmd := exec.Command("sleep", "60")
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: unix.CLONE_NEWNS}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	})
	pid := cmd.Process.Pid
	return &capture.Process{Key: capture.Key{Tgid: uint32(pid), Start: 1}, MountNS: namespaceOf(t, pid), UID: 0}
}

func await(t *testing.T, what string, n *atomic.Int32, want int32) {
	t.Helper()
	for end := time.Now().Add(30 * time.Second); n.Load() != want; time.Sleep(5 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("%s %d times, want %d", what, n.Load(), want)
		}
	}
}

func TestLibraryOfTwoNamespacesIsFollowedOnceUntilBothHaveEnded(t *testing.T) {
	t.Parallel()
	p := &probes{}
	l := newLibraries(t, p, false)
	first, second := contained(t), contained(t)
	l.Saw(first)
	l.Saw(second)
	await(t, "attached", &p.attached, 1)
	for end := time.Now().Add(30 * time.Second); !l.used(2); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("the second namespace does not use it")
		}
	}
	l.End(first.Key)
	l.End(first.Key) // nothing to it
	if n := p.detached.Load(); n != 0 || !l.used(1) {
		t.Errorf("detached %d times while it is used", n)
	}
	l.End(second.Key)
	await(t, "detached", &p.detached, 1)
	l.Close()
	if p.attached.Load() != 1 || p.detached.Load() != 1 {
		t.Errorf("attached %d, detached %d", p.attached.Load(), p.detached.Load())
	}
}

// used tells whether a library is followed for so many namespaces.
func (l *Libraries) used(spaces int) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, f := range l.followed {
		return len(f.spaces) == spaces
	}
	return false
}

func TestWhatCaptureFollowsIsLeftToIt(t *testing.T) {
	t.Parallel()
	p := &probes{}
	l := newLibraries(t, p, true)
	process := contained(t)
	l.Saw(process)
	for end := time.Now().Add(30 * time.Second); !l.found(process.MountNS); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("never looked at")
		}
	}
	if n := p.attached.Load(); n != 0 {
		t.Errorf("attached %d times", n)
	}
}

func (l *Libraries) found(namespace uint32) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.spaces[namespace] != nil && l.spaces[namespace].found
}

func TestCloseDetaches(t *testing.T) {
	t.Parallel()
	p := &probes{}
	l := newLibraries(t, p, false)
	l.Saw(contained(t))
	await(t, "attached", &p.attached, 1)
	l.Close()
	await(t, "detached", &p.detached, 1)
}

func TestProcessesOfTheHostAreNotLookedAt(t *testing.T) {
	t.Parallel()
	l := newLibraries(t, &probes{}, false)
	l.Saw(&capture.Process{Key: capture.Key{Tgid: 1}, MountNS: l.options.Home})
	l.Saw(&capture.Process{Key: capture.Key{Tgid: 2}})
	l.Saw(&capture.Process{Key: capture.Key{Tgid: 3}, MountNS: 1, Kernel: true})
	l.Saw(&capture.Process{Key: capture.Key{Tgid: 4}, MountNS: 1, Exited: 9})
	if len(l.spaces) != 0 || len(l.of) != 0 {
		t.Errorf("%d namespaces, %d processes", len(l.spaces), len(l.of))
	}
}

func TestOneUserCannotTakeAllPlaces(t *testing.T) {
	t.Parallel()
	l := newLibraries(t, &probes{}, false)
	l.spaces[7] = &space{members: 1}
	user, other, root := look{namespace: 7, uid: 1000}, look{namespace: 7, uid: 1001}, look{namespace: 7}
	for i := range uint64(maxOfUser) {
		id := file{1, i}
		if !l.wants(id, user) {
			t.Fatalf("refused the user's library %d", i)
		}
		l.followed[id] = &followed{probes: &probes{}, uid: 1000, spaces: map[uint32]bool{7: true}}
	}
	next := file{1, maxOfUser}
	if l.wants(next, user) {
		t.Error("one more of the same user")
	}
	if !l.wants(next, other) || !l.wants(next, root) {
		t.Error("others are refused")
	}
}

func TestLinesOfMaps(t *testing.T) {
	t.Parallel()
	const rest = " r-xp 00026000 fe:01 1234 "
	for line, want := range map[string]bool{
		"7f00-7f10" + rest + "                 /usr/lib/x86_64-linux-gnu/libc.so.6": true,
		"7f00-7f10" + rest + "/lib/ld-musl-x86_64.so.1":                             true,
		"7f00-7f10" + rest + "/lib/libc-2.31.so":                                    true,
		"7f00-7f10" + rest + "/lib/libcrypto.so.3":                                  false,
		"7f00-7f10" + rest + "/lib/libc.so.6 (deleted)":                             false,
		"7f00-7f10" + rest: false,
		"7f00-7f10 r-xp 00026000 zz:01 1234 /lib/libc.so.6": false,
		"7f00-7f10 r-xp 00026000 fe01 1234 /lib/libc.so.6":  false,
		"": false,
	} {
		m, ok := parseMapped(line)
		if ok != want || ok && (m.extent != "7f00-7f10" || m.inode != 1234 || m.device != unix.Mkdev(0xfe, 1)) {
			t.Errorf("%q: %+v, %t", line, m, ok)
		}
	}
}
