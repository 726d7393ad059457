package journal

import (
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	bolt "go.etcd.io/bbolt"

	"github.com/picosnitch/picosnitch/sdk"
)

// clock is a time that tests move.
type clock struct {
	mu sync.Mutex
	at time.Time
}

func (c *clock) now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.at
}

func (c *clock) advance(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.at = c.at.Add(d)
}

// stored counts the batches in the file.
func stored(t *testing.T, j *Journal) (n int) {
	t.Helper()
	must(t, j.view(func(tx *bolt.Tx) error {
		return bucket(tx, nameBatches).ForEach(func(_, _ []byte) error { n++; return nil })
	}))
	return n
}

func TestWhatEverySinkHasIsDeletedAfterTheSlack(t *testing.T) {
	t.Parallel()
	now := &clock{at: time.Unix(1700000000, 0)}
	j := openAt(t, t.TempDir(), now.now)
	a, b := cursor(t, j, "a"), cursor(t, j, "b")
	for range 5 {
		appendTo(t, j, notices(10, "x"))
	}
	read(t, a)
	must(t, b.Ack(sdk.Watermark{Epoch: j.Epoch(), Sequence: 30}))
	appendTo(t, j, nil)
	if n := stored(t, j); n != 5 {
		t.Errorf("%d batches inside the slack, want 5", n)
	}
	now.advance(slack + time.Second)
	appendTo(t, j, nil)
	if n := stored(t, j); n != 2 {
		t.Errorf("%d batches, want the 2 that b lacks", n)
	}
	if lag := b.Lag(); lag != 20 {
		t.Errorf("b lags %d, want 20", lag)
	}
	if got := read(t, b); len(got) != 20 {
		t.Errorf("b got %d records", len(got))
	}
	sought := b.Seek([]sdk.Watermark{{Epoch: j.Epoch(), Sequence: 12}})
	if len(sought.Lost) != 1 || sought.Lost[0] != (Span{j.Epoch(), 13, 30}) {
		t.Errorf("lost: %+v", sought.Lost)
	}
	if first := next(t, b).First; first != 31 {
		t.Errorf("goes on at %d, want 31", first)
	}
}

func TestTheFileDoesNotGrowWhileSinksKeepUp(t *testing.T) {
	t.Parallel()
	now := &clock{at: time.Unix(1700000000, 0)}
	dir := t.TempDir()
	j := openAt(t, dir, now.now)
	c := cursor(t, j, "a")
	size := func() int64 {
		info, err := os.Stat(filepath.Join(dir, FileName))
		must(t, err)
		return info.Size()
	}
	var early int64
	for i := range 300 {
		appendTo(t, j, notices(20, strings.Repeat("x", 1000)))
		read(t, c)
		now.advance(10 * time.Second)
		if i == 50 {
			early = size()
		}
	}
	if late := size(); late > 2*early {
		t.Errorf("%d bytes after 50 windows, %d after 300", early, late)
	}
}

func TestAcknowledgementsReachTheDiskWithoutAnAppend(t *testing.T) {
	t.Parallel()
	j := open(t, t.TempDir())
	c := cursor(t, j, "a")
	appendTo(t, j, notices(3, "x"))
	must(t, c.Ack(sdk.Watermark{Epoch: j.Epoch(), Sequence: 3}))
	deadline := time.Now().Add(30 * time.Second)
	for {
		var at place
		must(t, j.view(func(tx *bolt.Tx) (err error) {
			v, err := unseal(nameCursors, []byte("a"), bucket(tx, nameCursors).Get([]byte("a")))
			if err != nil {
				return err
			}
			stands, err := parseStanding(v)
			at = stands.at
			return err
		}))
		if at.sequence == 3 {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("cursor in the file is at %d", at.sequence)
		}
		time.Sleep(10 * time.Millisecond)
	}
}

func TestManySinksAndAppendsAtOnce(t *testing.T) {
	t.Parallel()
	const total = 200
	j := open(t, t.TempDir())
	var all sync.WaitGroup
	for _, name := range []string{"a", "b", "c"} {
		c := cursor(t, j, name)
		all.Go(func() {
			for seen := uint64(0); seen < total; {
				b, err := c.Next(t.Context())
				if err != nil || b.First != seen+1 {
					t.Errorf("%s: %d after %d, %v", name, b.First, seen, err)
					return
				}
				seen = b.Last
				if err := c.Ack(sdk.Watermark{Epoch: b.Epoch, Sequence: b.Last}); err != nil {
					t.Error(err)
				}
			}
		})
	}
	for range 2 {
		all.Go(func() {
			for range total / 4 {
				if _, _, err := j.Append(notices(2, "x")); err != nil {
					t.Error(err)
				}
			}
		})
	}
	all.Wait()
}
