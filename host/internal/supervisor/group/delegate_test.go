package group

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/picosnitch/picosnitch/test/need"
)

// asideVerb makes this binary a host in a group of its own.
const asideVerb = "be-a-host"

func TestMain(m *testing.M) {
	if len(os.Args) == 2 && os.Args[1] == asideVerb {
		aside()
		return
	}
	os.Exit(m.Run())
}

// asideAnswer is where a host in a delegated group finds itself and its plugins.
type asideAnswer struct {
	Own, Groups string   // directories: the host's, and where groups of plugins are made
	Bounded     []string // by which controllers
	Words       []string // of a group
	Missing     []string
	Error       string
}

// aside opens the groups twice, as a host does whose supervisor is made anew, and tells what came of it.
func aside() {
	var a asideAnswer
	for range 2 {
		p, err := Open("aside")
		if err != nil {
			a.Error = err.Error()
			break
		}
		g := p.Make("plugin", Limits{MemoryMB: 64, Processes: 8})
		a.Words, a.Missing = g.Words()
		a.Groups, a.Bounded = p.unified, p.bounded
		if err := errors.Join(g.Close(), p.Close()); err != nil {
			a.Error = err.Error()
		}
	}
	h, _ := find()
	a.Own = h.unified
	_ = json.NewEncoder(os.Stdout).Encode(a)
}

// delegatedGroup is one that systemd would have made for a unit with Delegate=yes.
func delegatedGroup(t *testing.T) string {
	t.Helper()
	need.Root(t, "make control groups")
	own, err := find()
	need.Have(t, fmt.Sprintf("the unified hierarchy of control groups: %v", err), err == nil && own.unified != "")
	dir, err := os.MkdirTemp(own.unified, "unit-")
	need.Have(t, fmt.Sprintf("a control group that may have children: %v", err), err == nil)
	t.Cleanup(func() {
		for _, left := range []string{filepath.Join(dir, hostGroup), dir} {
			if err := remove(left); err != nil {
				t.Error(err)
			}
		}
	})
	if err := unix.Setxattr(dir, "trusted.delegate", []byte("1"), 0); err != nil {
		t.Fatal(err)
	}
	return dir
}

func TestHostStepsAsideInADelegatedGroup(t *testing.T) {
	t.Parallel()
	dir := delegatedGroup(t)
	inside, err := os.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = inside.Close() }()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	host := exec.Command(self, asideVerb)
	host.SysProcAttr = &syscall.SysProcAttr{UseCgroupFD: true, CgroupFD: int(inside.Fd())}
	text, err := host.Output()
	var a asideAnswer
	if err := errors.Join(err, json.Unmarshal(text, &a)); err != nil || a.Error != "" {
		t.Fatalf("%v, %s: %s", err, a.Error, text)
	}
	t.Logf("%+v", a)
	if a.Own != filepath.Join(dir, hostGroup) {
		t.Errorf("the host is in %s, want a child of %s", a.Own, dir)
	}
	if filepath.Dir(a.Groups) != dir {
		t.Errorf("groups of plugins lie in %s, want a child of %s", a.Groups, dir)
	}
	available, err := os.ReadFile(filepath.Join(dir, "cgroup.controllers"))
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"memory", "pids"} {
		if had := slices.Contains(strings.Fields(string(available)), name); had != slices.Contains(a.Bounded, name) {
			t.Errorf("%s: the unit has the controller: %v; its plugins are bounded by %v", name, had, a.Bounded)
		}
	}
}
