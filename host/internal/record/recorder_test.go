package record

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/picosnitch/picosnitch/host/internal/capture"
	"github.com/picosnitch/picosnitch/host/internal/identity"
)

func TestExecIsRecordedIfAskedForAndNotForForks(t *testing.T) {
	t.Parallel()
	p := &capture.Process{
		Key: capture.Key{Tgid: 5, Start: 7, ExecID: 2}, Began: 2_000_000_000, Name: "x", UID: 3,
		Path: capture.Text{Value: "/bin/x"}, Arguments: capture.Text{Value: "x", Length: 9000},
	}
	o := everything()
	o.EveryExe = false
	if got := newHost(t, o).Exec(p, identity.Lineage{}); got != nil {
		t.Errorf("not asked for: %v", got)
	}
	h := newHost(t, everything())
	h.meet()
	got := h.Exec(p, identity.Lineage{}).GetExec()
	if got.Process.Id.Tgid != 5 || string(got.Process.Executable.Path.Value) != "/bin/x" || got.Process.Ruid != 3 ||
		!got.Process.CommandLine.Truncated || got.Window.Start != 2_900_000_000 || got.Window.StartBoot != 2_000_000_000 {
		t.Errorf("got %v", got)
	}
	if diff := cmp.Diff([]string{"NEW_EXECUTABLE picosnitch: x /bin/x"}, h.meet()); diff != "" {
		t.Error(diff)
	}
	if h.Exec(&capture.Process{Forked: true}, identity.Lineage{}) != nil {
		t.Error("a fork is no execution")
	}
}

func TestUnknownRedactionRuleIsRefused(t *testing.T) {
	t.Parallel()
	if _, err := New(Options{Unredacted: []string{"nope"}}, newDisk(), newDisk(), time.Now); err == nil {
		t.Error("no error")
	}
}
