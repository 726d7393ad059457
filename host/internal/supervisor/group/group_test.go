package group

import (
	"fmt"
	"os"
	"os/exec"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/picosnitch/picosnitch/test/need"
)

func TestOwnGroupsAreFound(t *testing.T) {
	t.Parallel()
	const hybrid = "31 23 0:28 / /sys/fs/cgroup rw - tmpfs tmpfs rw\n" +
		"35 31 0:32 / /sys/fs/cgroup/memory rw shared:1 - cgroup cgroup rw,memory\n" +
		"40 31 0:37 / /sys/fs/cgroup/pids rw - cgroup cgroup rw,pids\n" +
		"41 31 0:38 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw\n"
	for name, c := range map[string]struct {
		mounts, own string
		want        hierarchies
	}{
		"unified": {"30 23 0:26 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw,nsdelegate\n", "0::/system.slice/picosnitch.service\n",
			hierarchies{unified: "/sys/fs/cgroup/system.slice/picosnitch.service"}},
		"hybrid": {hybrid, "8:pids:/\n4:memory:/a/b\n0::/\n",
			hierarchies{"/sys/fs/cgroup/unified", "/sys/fs/cgroup/memory/a/b", "/sys/fs/cgroup/pids"}},
		"a part of the tree": {"30 23 0:26 /docker/x /sys/fs/cgroup rw - cgroup2 cgroup2 rw\n", "0::/docker/x/y\n",
			hierarchies{unified: "/sys/fs/cgroup/y"}},
		"another part":             {"30 23 0:26 /docker/x /sys/fs/cgroup rw - cgroup2 cgroup2 rw\n", "0::/docker/xy\n", hierarchies{}},
		"outside of the namespace": {"30 23 0:26 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw\n", "0::/../other\n", hierarchies{}},
		"not mounted":              {"31 23 0:28 / /proc rw - proc proc rw\n", "0::/x\n", hierarchies{}},
		"garbage":                  {"\n-\n - \na - b c d\n", ":\n::\n", hierarchies{}},
	} {
		got, err := parse(strings.NewReader(c.mounts), strings.NewReader(c.own))
		if err != nil || got != c.want {
			t.Errorf("%s: %+v, %v; want %+v", name, got, err, c.want)
		}
	}
}

// parent is a place for groups that is removed again.
func parent(t *testing.T, name string) *Parent {
	t.Helper()
	need.Root(t, "make control groups")
	p, err := Open(fmt.Sprintf("%s-%d", name, os.Getpid()))
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// member is a process in the group.
func member(t *testing.T, g *Group, args ...string) *exec.Cmd {
	t.Helper()
	command := exec.Command(args[0], args[1:]...)
	in, err := command.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	if g.Directory() != nil {
		command.SysProcAttr = &syscall.SysProcAttr{UseCgroupFD: true, CgroupFD: int(g.Directory().Fd())}
	}
	if err := command.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = command.Process.Kill() })
	if err := g.Enter(command.Process.Pid); err != nil {
		t.Fatal(err)
	}
	if _, err := in.Write([]byte("go\n")); err != nil {
		t.Fatal(err)
	}
	return command
}

func TestGroupBoundsItsProcesses(t *testing.T) {
	t.Parallel()
	p := parent(t, "bounds")
	g := p.Make("plugin", Limits{MemoryMB: 64, Processes: 8})
	defer func() {
		if g.Close() != nil || p.Close() != nil {
			t.Error("it could not be removed")
		}
	}()
	memory, processes := g.Bounds()
	enforced, missing := g.Words()
	t.Logf("memory %v, processes %v; %q, missing %q", memory, processes, enforced, missing)
	if processes {
		out := member(t, g, "/bin/sh", "-c", "read go; for i in 1 2 3 4 5 6 7 8 9 10; do /bin/sleep 5 & done; wait")
		if err := out.Wait(); err == nil {
			t.Error("ten children were allowed, of eight")
		}
	}
	if !memory {
		return
	}
	// tail keeps what it reads until there is a line.
	glutton := member(t, g, "/bin/sh", "-c", "read go; exec /usr/bin/tail -n1 /dev/zero")
	if err := glutton.Wait(); err == nil || !strings.Contains(err.Error(), "killed") {
		t.Errorf("the glutton ended with %v", err)
	}
	if used := g.Usage(); !used.OutOfMemory || used.Peak < 32<<20 || used.Peak > 65<<20 {
		t.Errorf("usage = %+v", used)
	}
}

func TestWhatADeadHostLeftIsEnded(t *testing.T) {
	t.Parallel()
	p := parent(t, "left")
	g := p.Make("plugin", Limits{})
	left := member(t, g, "/bin/sh", "-c", "read go; exec /bin/sleep 600")
	for deadline := time.Now().Add(10 * time.Second); !slices.Contains(g.Processes(), left.Process.Pid); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			need.Have(t, "control groups that know their processes", false)
		}
	}
	gone := make(chan error, 1)
	go func() { gone <- left.Wait() }()
	again := parent(t, "left")
	select {
	case <-gone:
	case <-time.After(10 * time.Second):
		t.Error("it still runs")
	}
	if err := g.dir.Close(); g.dir != nil && err != nil {
		t.Error(err)
	}
	if err := again.Close(); err != nil {
		t.Error(err)
	}
}
