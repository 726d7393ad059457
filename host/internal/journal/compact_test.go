package journal

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	bolt "go.etcd.io/bbolt"

	"github.com/picosnitch/picosnitch/sdk"
)

// bloated makes a journal that held 80 MiB and now holds little, and returns its directory and the clock.
func bloated(t *testing.T, dir string) (*Journal, *clock) {
	t.Helper()
	now := &clock{at: time.Unix(1700000000, 0)}
	j, err := Open(Options{Dir: dir, HostID: testHost, Now: now.now})
	must(t, err)
	c := cursor(t, j, "a")
	text := strings.Repeat("x", 10000)
	for range 16 {
		appendTo(t, j, notices(520, text), Mark{"m", []byte("1")})
	}
	must(t, c.Ack(sdk.Watermark{Epoch: j.Epoch(), Sequence: 16 * 520}))
	now.advance(slack + time.Second)
	appendTo(t, j, notices(3, "rest"))
	appendTo(t, j, nil)
	if s := stats(t, j); s.Used < compactAbove || s.Live > 1<<20 {
		t.Fatalf("%d bytes, %d live", s.Used, s.Live)
	}
	return j, now
}

func TestAFileThatIsMostlyEmptyShrinksAtStart(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	j, _ := bloated(t, dir)
	must(t, j.Close())
	must(t, os.WriteFile(filepath.Join(dir, compactName), []byte("unfinished"), 0o600))
	j = open(t, dir)
	checkSmall(t, j, dir)
}

func TestAFileThatIsMostlyEmptyShrinksWhileTheHostRuns(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	j, _ := bloated(t, dir)
	defer func() { must(t, j.Close()) }()
	must(t, j.patrol())
	if _, err := Open(Options{Dir: dir, HostID: testHost}); err == nil {
		t.Error("the file could be opened twice after its compaction")
	}
	checkSmall(t, j, dir)
}

// checkSmall checks that what the file held is there and goes on.
func checkSmall(t *testing.T, j *Journal, dir string) {
	t.Helper()
	info, err := os.Stat(filepath.Join(dir, FileName))
	must(t, err)
	if info.Size() > 1<<20 || info.Size() != stats(t, j).Used {
		t.Errorf("%d bytes are left", info.Size())
	}
	if m, _ := j.Mark("m"); string(m) != "1" {
		t.Errorf("the mark is %q", m)
	}
	appendTo(t, j, notices(1, "after"))
	equal(t, read(t, cursor(t, j, "a")), []string{"rest 0", "rest 1", "rest 2", "after 0"})
	if left, err := filepath.Glob(filepath.Join(dir, "*.compact")); err != nil || len(left) > 0 {
		t.Errorf("left: %v, %v", left, err)
	}
	must(t, j.view(func(tx *bolt.Tx) error {
		for problem := range tx.Check() {
			t.Error(problem)
		}
		return nil
	}))
}

func TestAReaderOutlivesACompaction(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	j, _ := bloated(t, dir)
	defer func() { must(t, j.Close()) }()
	c := cursor(t, j, "a")
	stop := make(chan struct{})
	ended := make(chan error)
	go func() {
		for {
			select {
			case <-stop:
				ended <- nil
				return
			default:
			}
			if _, err := c.Next(t.Context()); err != nil {
				ended <- err
				return
			}
		}
	}()
	must(t, j.patrol())
	close(stop)
	must(t, <-ended)
}
