package process_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/picosnitch/picosnitch/host/internal/supervisor/executable"
	"github.com/picosnitch/picosnitch/host/internal/supervisor/launch"
	"github.com/picosnitch/picosnitch/host/internal/supervisor/process"
	"github.com/picosnitch/picosnitch/test/need"
)

func TestMain(m *testing.M) {
	if len(os.Args) > 1 && os.Args[1] == launch.Verb {
		os.Exit(launch.Main(os.Args[2:]))
	}
	os.Exit(m.Run())
}

// script makes a plugin of shell lines.
func script(t *testing.T, lines string) *executable.File {
	t.Helper()
	dir, err := filepath.EvalSymlinks(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(dir, "script")
	syscall.ForkLock.RLock() // a child that another test starts now would have it open for writing, and it would be busy
	err = os.WriteFile(path, []byte("#!/bin/sh\n"+lines+"\n"), 0o755)
	syscall.ForkLock.RUnlock()
	if err != nil {
		t.Fatal(err)
	}
	me := uint32(os.Geteuid())
	file, err := executable.Open(path, executable.Rules{Trust: []uint32{me}, RunAs: me})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = file.Close() })
	return file
}

func begin(t *testing.T, o process.Options) *process.Process {
	t.Helper()
	thread := process.NewThread()
	t.Cleanup(thread.Close)
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	o.Name = "plugin"
	p, err := process.Start(ctx, thread, o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		p.Kill()
		<-p.Done()
		_ = p.Stdout.Close()
		_ = p.Stderr.Close()
	})
	return p
}

func awaitEnd(t *testing.T, p *process.Process) process.Exit {
	t.Helper()
	select {
	case <-p.Done():
	case <-time.After(20 * time.Second):
		t.Fatal("it does not end")
	}
	return p.Exit()
}

func TestExitTellsStatusAndSignal(t *testing.T) {
	t.Parallel()
	if e := awaitEnd(t, begin(t, process.Options{File: script(t, "exit 7")})); e.Code != 7 || e.Signal != 0 {
		t.Errorf("exit = %v", e)
	}
	if e := awaitEnd(t, begin(t, process.Options{File: script(t, "kill -SEGV $$")})); e.Signal != syscall.SIGSEGV || e.Code != -1 {
		t.Errorf("exit = %v", e)
	}
}

func TestEnvironmentAndStreamsAreThePlugins(t *testing.T) {
	t.Parallel()
	p := begin(t, process.Options{File: script(t, `echo "$A-$HOME"; echo err >&2`), Env: []string{"A=b"}})
	out, _ := io.ReadAll(p.Stdout)
	said, _ := io.ReadAll(p.Stderr)
	if string(out) != "b-\n" || string(said) != "err\n" {
		t.Errorf("%q, %q", out, said)
	}
}

func TestKillTakesTheWholeGroup(t *testing.T) {
	t.Parallel()
	p := begin(t, process.Options{File: script(t, "sleep 60 & echo $!; wait")})
	var child int
	if _, err := fmt.Fscan(p.Stdout, &child); err != nil {
		t.Fatal(err)
	}
	p.Kill()
	awaitEnd(t, p)
	for deadline := time.Now().Add(10 * time.Second); ; time.Sleep(5 * time.Millisecond) {
		text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", child))
		if err != nil || strings.Contains(string(text), ") Z") {
			return
		}
		if time.Now().After(deadline) {
			t.Fatal("its child lives on")
		}
	}
}

func TestScriptRunsInASandboxWithItsOwnProcesses(t *testing.T) {
	t.Parallel()
	need.Root(t, "sandbox a process")
	p := begin(t, process.Options{File: script(t, `echo $$ $(id -u) $(ls /) ; ls /home /root /sys 2>&1; touch /x /usr/x 2>&1; echo tmp > /tmp/x && cat /tmp/x`),
		Env: []string{"PATH=/usr/bin:/bin"}, Sandbox: &process.Sandbox{UID: 61190, GID: 61190, Root: t.TempDir()}})
	out, _ := io.ReadAll(p.Stdout)
	text := string(out)
	if !strings.HasPrefix(text, "1 61190 ") || strings.Count(text, "No such file") != 3 || strings.Count(text, "Read-only") != 2 ||
		!strings.HasSuffix(text, "tmp\n") {
		t.Errorf("it says %q", text)
	}
}

func TestSandboxEndsWithAllItsProcesses(t *testing.T) {
	t.Parallel()
	need.Root(t, "sandbox a process")
	p := begin(t, process.Options{File: script(t, "setsid sleep 60 & setsid sleep 60 & echo started; wait"),
		Env: []string{"PATH=/usr/bin:/bin"}, Sandbox: &process.Sandbox{UID: 61191, GID: 61191, Root: t.TempDir()}})
	var word string
	if _, err := fmt.Fscan(p.Stdout, &word); err != nil {
		t.Fatal(err)
	}
	p.Kill()
	awaitEnd(t, p)
	entries, err := os.ReadDir("/proc")
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		var st unix.Stat_t
		if unix.Stat("/proc/"+e.Name(), &st) == nil && st.Uid == 61191 {
			t.Errorf("process %s lives on", e.Name())
		}
	}
}

func TestLauncherSaysWhyItCannot(t *testing.T) {
	t.Parallel()
	need.Root(t, "sandbox a process")
	thread := process.NewThread()
	defer thread.Close()
	for want, sandbox := range map[string]*process.Sandbox{
		"a plugin is never root": {Root: t.TempDir()},
		"mount a root on":        {UID: 61190, GID: 61190, Root: "/nowhere"},
	} {
		_, err := process.Start(t.Context(), thread, process.Options{Name: "plugin", File: script(t, "true"), Sandbox: sandbox})
		if !errors.Is(err, process.ErrLaunch) || !strings.Contains(err.Error(), want) {
			t.Errorf("error %v does not say %q", err, want)
		}
	}
}

func TestDirectoriesAreOpenedInTheOwnersName(t *testing.T) {
	t.Parallel()
	need.Root(t, "sandbox a process")
	owner := process.Owner{UID: 51900, GID: 51901}
	base, err := os.MkdirTemp("", "ps")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(base) })
	if dir, err := process.OpenDirectory(filepath.Join(base, "new"), owner); !errors.Is(err, os.ErrPermission) {
		t.Errorf("made %v in root's directory: %v", dir, err)
	}
	if err := os.Chown(base, 51900, 51901); err != nil {
		t.Fatal(err)
	}
	dir, err := process.OpenDirectory(filepath.Join(base, "new"), owner)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = dir.Close() }()
	var st unix.Stat_t
	if err := unix.Fstat(int(dir.Fd()), &st); err != nil || st.Uid != 51900 || st.Gid != 51901 || st.Mode&0o777 != 0o700 {
		t.Errorf("%d:%d %o, %v", st.Uid, st.Gid, st.Mode, err)
	}
	if err := os.Symlink("/etc", filepath.Join(base, "link")); err != nil {
		t.Fatal(err)
	}
	if _, err := process.OpenDirectory(filepath.Join(base, "link"), owner); err == nil {
		t.Error("a link was followed")
	}
	if _, err := process.OpenPath("/etc/shadow", owner); !errors.Is(err, os.ErrPermission) {
		t.Errorf("open /etc/shadow: %v", err)
	}
}
