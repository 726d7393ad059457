package helper

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/picosnitch/picosnitch/host/internal/packages"
	"github.com/picosnitch/picosnitch/test/need"
)

func TestProgramOnAUsersFUSEMountIsHashedAsThatUser(t *testing.T) {
	t.Parallel()
	const uid = 51201
	program, want := sleeper(t)
	dir, _, _ := mountFUSE(t, uid, program)
	path := filepath.Join(dir, "program")
	if _, err := os.Open(path); !errors.Is(err, fs.ErrPermission) {
		t.Fatalf("root opens it: %v: the test shows nothing", err)
	}
	process := run(t, uid, path)
	link := fmt.Sprintf("/proc/%d/exe", process.Process.Pid)
	pin, err := os.OpenFile(link, unix.O_PATH, 0)
	must(t, err)
	defer pin.Close()
	pool := newPool(t, Options{})
	running := HashRequest{PID: uint32(process.Process.Pid), UID: uid, GID: uid, MaxBytes: limitBytes}
	gone := HashRequest{PID: 1 << 22, File: pin, UID: uid, GID: uid, MaxBytes: limitBytes}
	for name, ask := range map[string]HashRequest{"process": running, "path": request(uid, path), "descriptor": gone} {
		answer, err := pool.Hash(t.Context(), ask)
		if err != nil || string(answer.SHA256) != string(want[:]) {
			t.Errorf("by %s: %x, %v", name, answer.SHA256, err)
		}
		if answer.Inode != nodeProgram || answer.Ctime != 1700000000e9 || answer.Device == 0 || answer.Size == 0 {
			t.Errorf("by %s: %+v", name, answer)
		}
	}
	end(process)
	if answer, err := pool.Hash(t.Context(), gone); err != nil || string(answer.SHA256) != string(want[:]) {
		t.Errorf("after the process has ended: %x, %v", answer.SHA256, err)
	}
	if _, err := pool.Hash(t.Context(), running); !errors.Is(err, ErrGone) {
		t.Errorf("without a descriptor: %v", err)
	}
	if _, err := pool.Hash(t.Context(), request(uid+1, path)); !errors.Is(err, ErrUnreadable) {
		t.Errorf("as another user: %v", err)
	}
}

func TestProgramInItsUsersOwnNamespacesIsHashed(t *testing.T) {
	t.Parallel()
	const uid = 51215
	program, want := sleeper(t)
	dir, _, _ := mountFUSE(t, uid, program)
	cmd := exec.CommandContext(t.Context(), "unshare", "--user", "--map-root-user", "--mount", dir+"/program", "600")
	cmd.Dir = "/"
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: uid, Gid: uid}}
	must(t, cmd.Start())
	t.Cleanup(func() { end(cmd) })
	waitFor(t, "it runs", func() bool {
		exe, _ := os.Readlink(fmt.Sprintf("/proc/%d/exe", cmd.Process.Pid))
		return exe == dir+"/program"
	})
	ask := HashRequest{PID: uint32(cmd.Process.Pid), UID: uid, GID: uid, MaxBytes: limitBytes}
	answer, err := newPool(t, Options{}).Hash(t.Context(), ask)
	if err != nil || string(answer.SHA256) != string(want[:]) {
		t.Errorf("%x, %v", answer.SHA256, err)
	}
}

func TestErrorsSayWhatIsWrong(t *testing.T) {
	t.Parallel()
	const uid = 51202
	dir := place(t)
	program, _ := sleeper(t)
	mount, _, _ := mountFUSE(t, uid, program)
	must(t, unix.Mkfifo(dir+"/pipe", 0o644))
	must(t, os.Symlink("loop", dir+"/loop"))
	large := request(uid, write(t, dir+"/large", "12345", uid, 0o644))
	large.MaxBytes = 4
	pool := newPool(t, Options{})
	for name, c := range map[string]struct {
		ask  HashRequest
		want error
	}{
		"no such file":         {request(uid, dir+"/nothing"), ErrGone},
		"no such process":      {HashRequest{PID: 1 << 22, UID: uid, GID: uid, MaxBytes: 1}, ErrGone},
		"loop":                 {request(uid, dir+"/loop"), ErrGone},
		"file in the way":      {request(uid, program+"/x"), ErrGone},
		"another user's":       {request(uid, write(t, dir+"/secret", "x", 0, 0o600)), ErrUnreadable},
		"another's process":    {HashRequest{PID: uint32(os.Getpid()), UID: uid, GID: uid, MaxBytes: 1 << 30}, ErrUnreadable},
		"root is nobody":       {request(0, write(t, dir+"/his", "x", uid, 0o600)), ErrUnreadable},
		"directory":            {request(uid, dir), ErrUnreadable},
		"pipe":                 {request(uid, dir+"/pipe"), ErrUnreadable},
		"device":               {request(uid, "/dev/zero"), ErrUnreadable},
		"too large":            {large, ErrTooLarge},
		"written while read":   {request(uid, mount+"/changing"), ErrChanged},
		"relative path":        {request(uid, "x"), fs.ErrInvalid},
		"NUL":                  {request(uid, "/x\x00"), fs.ErrInvalid},
		"nothing asked":        {request(uid, ""), fs.ErrInvalid},
		"no limit":             {HashRequest{Path: "/x", UID: uid, GID: uid}, fs.ErrInvalid},
		"path far too long":    {request(uid, "/"+strings.Repeat("x", maxPath)), fs.ErrInvalid},
		"one element too long": {request(uid, "/"+strings.Repeat("x", 300)), ErrUnreadable},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if answer, err := pool.Hash(t.Context(), c.ask); !errors.Is(err, c.want) {
				t.Errorf("%+v, %v; want %v", answer, err, c.want)
			}
		})
	}
}

func TestPathsAreBytes(t *testing.T) {
	t.Parallel()
	const uid = 51203
	path := write(t, filepath.Join(place(t), "\xff\n\"\\ \u202e"), "odd", uid, 0o600)
	answer, err := newPool(t, Options{}).Hash(t.Context(), request(uid, path))
	if want := sha256.Sum256([]byte("odd")); err != nil || string(answer.SHA256) != string(want[:]) {
		t.Errorf("%x, %v", answer.SHA256, err)
	}
}

// hashing tells when Hash returned, and with what.
func hashing(ctx context.Context, pool *Pool, ask HashRequest) <-chan error {
	done := make(chan error, 1)
	go func() {
		_, err := pool.Hash(ctx, ask)
		done <- err
	}()
	return done
}

func TestHelperThatTheKernelHoldsIsAbandonedAndCounted(t *testing.T) {
	t.Parallel()
	const uid, other = 51204, 51205
	program, want := sleeper(t)
	dir, server, hung := mountFUSE(t, uid, program)
	pool := newPool(t, Options{Grace: 100 * time.Millisecond})
	ask := request(uid, dir+"/hang")
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	calls := []<-chan error{hashing(ctx, pool, ask), hashing(ctx, pool, ask)}
	awaitHung(t, hung, 2)
	calls = append(calls, hashing(t.Context(), pool, ask)) // has no place: waits, in vain
	waitFor(t, "it waits", func() bool { return pool.Stats().Waiting == 1 })
	cancel()
	var timeouts, busy int
	for _, done := range calls {
		select {
		case err := <-done:
			if errors.Is(err, ErrTimeout) {
				timeouts++
			} else if errors.Is(err, ErrBusy) {
				busy++
			}
		case <-time.After(20 * time.Second):
			t.Fatal("the call hangs")
		}
	}
	if timeouts != 2 || busy != 1 {
		t.Errorf("%d timed out, %d were refused", timeouts, busy)
	}
	s := pool.Stats()
	if s.Abandoned != 2 || s.GivenUp != 2 || s.TimedOut != 2 || s.Running != 0 || s.Refused != 1 {
		t.Errorf("%+v", s)
	}
	if _, err := pool.Hash(t.Context(), request(uid, program)); !errors.Is(err, ErrBusy) {
		t.Errorf("more of the same user: %v", err)
	}
	for range 5 {
		answer, err := pool.Hash(t.Context(), request(other, program))
		if err != nil || string(answer.SHA256) != string(want[:]) {
			t.Fatalf("another user's: %x, %v", answer.SHA256, err)
		}
	}
	end(server) // the kernel lets go
	waitFor(t, "the abandoned ended", func() bool { return pool.Stats().Abandoned == 0 })
	if s := pool.Stats(); s.Recovered != 2 {
		t.Errorf("%+v", s)
	}
	if _, err := pool.Hash(t.Context(), request(uid, program)); err != nil {
		t.Errorf("afterwards: %v", err)
	}
}

func TestStoppedServerCostsNoMoreThanTheDeadline(t *testing.T) {
	t.Parallel()
	const uid = 51206
	program, _ := sleeper(t)
	dir, server, _ := mountFUSE(t, uid, program)
	must(t, server.Process.Signal(syscall.SIGSTOP))
	pool := newPool(t, Options{Timeout: 3 * time.Second})
	select {
	case err := <-hashing(t.Context(), pool, request(uid, dir+"/program")):
		if !errors.Is(err, ErrTimeout) {
			t.Errorf("%v", err)
		}
	case <-time.After(20 * time.Second):
		t.Fatal("the call hangs")
	}
	if _, err := pool.Hash(t.Context(), request(uid, program)); err != nil {
		t.Errorf("the next: %v", err)
	}
	must(t, server.Process.Signal(syscall.SIGCONT))
	if _, err := pool.Hash(t.Context(), request(uid, dir+"/program")); err != nil {
		t.Errorf("once the server runs again: %v", err)
	}
}

func TestCallEndsWithItsContext(t *testing.T) {
	t.Parallel()
	const uid = 51207
	program, _ := sleeper(t)
	dir, server, _ := mountFUSE(t, uid, program)
	must(t, server.Process.Signal(syscall.SIGSTOP))
	pool := newPool(t, Options{})
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	if _, err := pool.Hash(ctx, request(uid, dir+"/program")); !errors.Is(err, ErrTimeout) || !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("%v", err)
	}
}

func TestCloseEndsHelpersAndSaysWhatItMustLeave(t *testing.T) {
	t.Parallel()
	const uid = 51208
	program, _ := sleeper(t)
	dir, server, hung := mountFUSE(t, uid, program)
	pool, err := New(Options{Grace: 50 * time.Millisecond, MemoryMB: memoryMB})
	must(t, err)
	stuck := hashing(t.Context(), pool, request(uid, dir+"/hang"))
	awaitHung(t, hung, 1)
	ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
	defer cancel()
	err = pool.Close(ctx)
	if err == nil || !strings.Contains(err.Error(), "1 wait for file systems") {
		t.Errorf("close: %v", err)
	}
	if err := <-stuck; !errors.Is(err, ErrClosed) {
		t.Errorf("the call under way: %v", err)
	}
	if _, err := pool.Hash(t.Context(), request(uid, program)); !errors.Is(err, ErrClosed) {
		t.Errorf("a later call: %v", err)
	}
	if err := pool.Close(t.Context()); err != nil {
		t.Errorf("second close: %v", err)
	}
	end(server)
}

func TestHostThatOthersMayNotExecuteIsNamed(t *testing.T) {
	t.Parallel()
	dir := place(t)
	program, err := os.ReadFile("/proc/self/exe")
	must(t, err)
	must(t, os.WriteFile(dir+"/host", program, 0o700))
	out, err := exec.CommandContext(t.Context(), dir+"/host", holderVerb, "/bin/true").Output()
	must(t, err)
	if !strings.Contains(string(out), "cannot be read: start helper: ") || !strings.Contains(string(out), "chmod 755") {
		t.Errorf("it says %q", out)
	}
}

func TestPackagesAreFoundWithNobodysRights(t *testing.T) {
	t.Parallel()
	need.Program(t, "dpkg-query")
	pool := newPool(t, Options{})
	owner, err := pool.Packages(t.Context(), PackagesRequest{Path: "/usr/bin/dpkg-query", MaxBytes: limitBytes})
	must(t, err)
	content, err := os.ReadFile("/usr/bin/dpkg-query")
	must(t, err)
	sum := sha256.Sum256(content)
	if owner.Manager != "dpkg" || owner.Package != "dpkg" || owner.Checksum != packages.ChecksumMatch || string(owner.SHA256) != string(sum[:]) {
		t.Errorf("%+v", owner)
	}
	path := write(t, filepath.Join(place(t), "own\xff"), "x", 0, 0o755)
	if owner, err := pool.Packages(t.Context(), PackagesRequest{Path: path, MaxBytes: limitBytes}); err != nil || owner.Owned() {
		t.Errorf("%+v, %v", owner, err)
	}
	if _, err := pool.Packages(t.Context(), PackagesRequest{Path: "relative"}); !errors.Is(err, packages.ErrPath) {
		t.Errorf("%v", err)
	}
}

func TestRPMRunsWithoutRightsToo(t *testing.T) {
	t.Parallel()
	need.Program(t, "rpmbuild")
	root := place(t)
	spec := strings.ReplaceAll("Name: picotool\nVersion: 1\nRelease: 2\nSummary: s\nLicense: l\nBuildArch: noarch\n%description\nd\n"+
		"%install\nmkdir -p %{buildroot}ROOT\nprintf tool > %{buildroot}ROOT/tool\n%files\nROOT/tool\n", "ROOT", root)
	write(t, root+"/spec", spec, 0, 0o644)
	for _, args := range [][]string{
		{"rpmbuild", "-bb", "--define", "_topdir " + root + "/top", "--dbpath", root + "/db", root + "/spec"},
		{"rpm", "--dbpath", root + "/db", "--install", "--nodeps", root + "/top/RPMS/noarch/picotool-1-2.noarch.rpm"},
	} {
		if out, err := exec.CommandContext(t.Context(), args[0], args[1:]...).CombinedOutput(); err != nil {
			t.Fatalf("%s: %v\n%s", args, err, out)
		}
	}
	pool := newPool(t, Options{Packages: packages.Options{RPMData: root + "/db"}})
	owner, err := pool.Packages(t.Context(), PackagesRequest{Path: root + "/tool", MaxBytes: limitBytes})
	if err != nil || owner.Words() != "picotool 1-2 owns it and its checksum matches" {
		t.Errorf("%+v, %v", owner, err)
	}
}
