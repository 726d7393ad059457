package main

import (
	"errors"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/picosnitch/picosnitch/test/need"
)

// lockVariable makes the test binary hold the lock of the run directory that it names.
const lockVariable = "PICOSNITCH_TEST_LOCK"

func needRoot(t *testing.T) {
	t.Helper()
	need.Root(t, "run a daemon")
}

// holdLock is the test binary's main with lockVariable. It ends on SIGTERM, without releasing anything.
func holdLock(dir string) int {
	if _, err := acquire(dir); err != nil {
		return 1
	}
	time.Sleep(time.Minute)
	return 0
}

// holderProcess starts another process that holds the lock.
func holderProcess(t *testing.T, dir string) *exec.Cmd {
	t.Helper()
	cmd := exec.Command("/proc/self/exe")
	cmd.Env = []string{lockVariable + "=" + dir}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill() // it may have ended already
		_ = cmd.Wait()
	})
	for end := time.Now().Add(10 * time.Second); ; time.Sleep(time.Millisecond) {
		pid, err := holder(dir)
		if err == nil && pid == cmd.Process.Pid && readPid(filepath.Join(dir, pidName)) == pid { // the last that it writes
			return cmd
		}
		if time.Now().After(end) {
			t.Fatal("the other process does not hold the lock")
		}
	}
}

func TestSecondDaemonIsRefusedAndToldThePid(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	l, err := acquire(dir)
	if err != nil {
		t.Fatal(err)
	}
	_, err = acquire(dir)
	var running *runningError
	if !errors.As(err, &running) || running.pid != os.Getpid() {
		t.Errorf("second daemon: %v", err)
	}
	if got := readPid(filepath.Join(dir, pidName)); got != os.Getpid() {
		t.Errorf("pid file: %d", got)
	}
	if err := l.release(); err != nil {
		t.Error(err)
	}
	for _, name := range []string{pidName, readyFile} {
		if _, err := os.Lstat(filepath.Join(dir, name)); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("%s after release: %v", name, err)
		}
	}
	if pid, err := holder(dir); pid != 0 || err != nil {
		t.Errorf("holder after release: %d, %v", pid, err)
	}
}

func TestLockDiesWithItsHolderWhateverThePidFileSays(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	other := holderProcess(t, dir)
	if err := other.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = other.Wait() // "signal: killed" is the point
	if got := readPid(filepath.Join(dir, pidName)); got != other.Process.Pid {
		t.Errorf("pid file of the dead: %d", got)
	}
	if pid, err := holder(dir); pid != 0 || err != nil {
		t.Errorf("holder: %d, %v", pid, err)
	}
	if err := os.WriteFile(filepath.Join(dir, readyFile), nil, 0o644); err != nil {
		t.Fatal(err)
	}
	l, err := acquire(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = l.release() }()
	if _, err := os.Lstat(filepath.Join(dir, readyFile)); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("what the dead daemon said is still there: %v", err)
	}
}

func TestReleaseLeavesThePidFileOfAnother(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	l, err := acquire(dir)
	if err != nil {
		t.Fatal(err)
	}
	if err := replace(filepath.Join(dir, pidName), []byte("1\n")); err != nil {
		t.Fatal(err)
	}
	if err := l.release(); err != nil {
		t.Error(err)
	}
	if got := readPid(filepath.Join(dir, pidName)); got != 1 {
		t.Errorf("pid file: %d", got)
	}
}

func TestLockIsForItsOwnerAlone(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	l, err := acquire(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = l.release() }()
	info, err := os.Stat(filepath.Join(dir, lockName))
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("lock: %v, %v; whoever can read it can lock it", info.Mode(), err)
	}
}

func TestPidFilesThatAreNone(t *testing.T) {
	t.Parallel()
	for _, content := range []string{"", "-3", "0", "x", "12 13", strings.Repeat("1", 40)} {
		path := filepath.Join(t.TempDir(), "pid")
		if err := os.WriteFile(path, []byte(content), 0o644); err != nil {
			t.Fatal(err)
		}
		if got := readPid(path); got != 0 {
			t.Errorf("%q: %d", content, got)
		}
	}
}

func TestStopEndsTheDaemonAndWaits(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	other := holderProcess(t, dir)
	c, _, errs := testCall(t)
	ended := make(chan error, 1)
	go func() { ended <- other.Wait() }()
	if code := c.run(t.Context(), []string{"stop", "--run-dir", dir}); code != exitOK {
		t.Errorf("exit code %d: %s", code, errs)
	}
	if err := <-ended; err == nil || err.Error() != "signal: terminated" {
		t.Errorf("the daemon ended with %v", err)
	}
}

func TestStopOfNothingIsNoFailure(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	c, out, errs := testCall(t)
	if code := c.run(t.Context(), []string{"stop", "--run-dir", dir}); code != exitOK {
		t.Errorf("exit code %d", code)
	}
	if want := "pidfile " + dir + "/picosnitch.pid does not exist. picosnitch not running?\n"; errs.String() != want {
		t.Errorf("says %q, want %q", errs, want)
	}
	if want := "stopping picosnitch daemon\n"; out.String() != want {
		t.Errorf("says %q, want %q", out, want)
	}
}

func TestStopRemovesWhatAKilledDaemonLeft(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	other := holderProcess(t, dir)
	if err := other.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = other.Wait() // "signal: killed"
	c, _, errs := testCall(t)
	if code := c.run(t.Context(), []string{"stop", "--run-dir", dir}); code != exitOK {
		t.Errorf("exit code %d", code)
	}
	if want := "pidfile " + dir + "/picosnitch.pid is removed: picosnitch was not detected.\n"; errs.String() != want {
		t.Errorf("says %q, want %q", errs, want)
	}
	if pid := readPid(filepath.Join(dir, pidName)); pid != 0 {
		t.Errorf("the pid file still names %d", pid)
	}
}

func TestStatusOfADaemonThatDoesNotAnswer(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	other := holderProcess(t, dir)
	c, out, errs := testCall(t)
	if code := c.run(t.Context(), []string{"status", "--check", "--run-dir", dir}); code != exitDegraded {
		t.Errorf("exit code %d: %s", code, errs)
	}
	first := "picosnitch is currently running with pid " + strconv.Itoa(other.Process.Pid) + ".\n"
	if !strings.HasPrefix(out.String(), first) || !strings.Contains(out.String(), "it does not answer") {
		t.Errorf("says %q", out)
	}
}
