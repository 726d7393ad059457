package supervisor

import (
	"syscall"
	"testing"
	"time"

	"github.com/picosnitch/picosnitch/host/internal/journal"
	wire "github.com/picosnitch/picosnitch/sdk/proto"
)

func TestAStoppedSinkDelaysNobodyElse(t *testing.T) {
	t.Parallel()
	needRoot(t)
	const windows, each = 40, 5000 // 200,000 records
	j, err := journal.Open(journal.Options{Dir: t.TempDir(), HostID: [16]byte{1}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = j.Close() })
	cursors := map[string]*journal.Cursor{}
	for _, name := range []string{"a", "b", "stopped"} {
		if cursors[name], err = j.Cursor(name); err != nil {
			t.Fatal(err)
		}
	}
	r := runWith(t, slot(90), func(o *Options) {
		o.Epoch = j.Epoch()
		o.Feed = func(name string) (Feed, error) { return cursors[name], nil }
	}, Spec{Name: "a", Owner: someone}, Spec{Name: "b", Owner: someone}, Spec{Name: "stopped", Owner: someone})
	r.await("all running", func() bool {
		for _, s := range r.Status() {
			if s.GetState() != StateRunning {
				return false
			}
		}
		return true
	})
	pid := int(r.Status()[2].GetPid())
	if err := syscall.Kill(pid, syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	var slowest time.Duration
	for range windows {
		records := make([]*wire.Record, each)
		for i := range records {
			records[i] = &wire.Record{Kind: &wire.Record_Config{Config: &wire.Config{Time: int64(i)}}}
		}
		begun := time.Now()
		if _, _, err := j.Append(records); err != nil {
			t.Fatal(err)
		}
		slowest = max(slowest, time.Since(begun))
	}
	r.await("the others have it all", func() bool { return cursors["a"].Lag()+cursors["b"].Lag() == 0 })
	if lag := cursors["stopped"].Lag(); lag != windows*each {
		t.Errorf("the stopped sink lags %d, want %d", lag, windows*each)
	}
	t.Logf("slowest append of %d records with a sink stopped: %v", each, slowest)
	if err := syscall.Kill(pid, syscall.SIGCONT); err != nil {
		t.Fatal(err)
	}
	r.await("it catches up", func() bool { return cursors["stopped"].Lag() == 0 })
}
