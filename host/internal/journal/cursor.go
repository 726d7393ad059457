package journal

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sort"

	bolt "go.etcd.io/bbolt"

	"github.com/picosnitch/picosnitch/sdk"
)

// maxSinkName bounds the name of a sink.
const maxSinkName = 64

// Batch is a range of records as it was journaled. Raw is the encoded wire.Batch; it belongs to the reader.
type Batch struct {
	Epoch       sdk.Epoch
	First, Last uint64
	Raw         []byte
}

// DamagedError says that a batch no longer has the checksum it was written with. A reader goes on by acknowledging Last,
// and owes its sink a Gap.
type DamagedError struct {
	Epoch       sdk.Epoch
	First, Last uint64
}

func (e *DamagedError) Error() string {
	return fmt.Sprintf("read batch %v/%d..%d: %v", e.Epoch, e.First, e.Last, errDamaged)
}

// Cursor is the place of one sink: what it has acknowledged. It is a hint that may be a second older than the truth,
// which the sink itself knows; see [Cursor.Seek].
type Cursor struct {
	j    *Journal
	name string

	at     place             // guarded by j.mu: everything up to here is safe in the sink
	saved  place             // guarded by j.appending: at, as the file has it
	floors map[uint64]uint64 // guarded by j.mu: later epochs' ordinals -> what the sink holds already
}

// Cursor returns the place of a sink, and registers the sink durably when it is new: it then starts with the oldest batch
// kept of the current epoch. From then on nothing is deleted that it has not acknowledged, until [Journal.Unregister].
// The same name gives the same Cursor.
func (j *Journal) Cursor(sink string) (*Cursor, error) {
	if sink == "" || len(sink) > maxSinkName {
		return nil, fmt.Errorf("register sink %.64q: a name has 1 to %d bytes", sink, maxSinkName)
	}
	j.appending.Lock()
	defer j.appending.Unlock()
	current, err := j.current()
	if err != nil {
		return nil, err
	}
	j.mu.Lock()
	c := j.cursors[sink]
	j.mu.Unlock()
	if c != nil {
		return c, nil
	}
	at := place{current.ordinal, current.kept - 1}
	c = &Cursor{j: j, name: sink, at: at, saved: at}
	err = j.commit(func(tx *bolt.Tx) error { return bucket(tx, nameCursors).Put([]byte(sink), at.key()) })
	if err != nil {
		return nil, fmt.Errorf("register sink %s: %w", sink, err)
	}
	j.mu.Lock()
	j.cursors[sink] = c
	j.mu.Unlock()
	return c, nil
}

// Sinks lists the registered sinks by name.
func (j *Journal) Sinks() []string {
	j.mu.Lock()
	defer j.mu.Unlock()
	return slices.Sorted(maps.Keys(j.cursors))
}

// Unregister forgets a sink; what only it had not acknowledged may be deleted. Its Cursor must not be used afterwards.
func (j *Journal) Unregister(sink string) error {
	j.appending.Lock()
	defer j.appending.Unlock()
	if _, err := j.current(); err != nil {
		return err
	}
	j.mu.Lock()
	delete(j.cursors, sink)
	j.mu.Unlock()
	err := j.commit(func(tx *bolt.Tx) error { return bucket(tx, nameCursors).Delete([]byte(sink)) })
	if err != nil {
		return fmt.Errorf("unregister sink %s: %w", sink, err)
	}
	return nil
}

// Next returns the first durable batch that is not acknowledged, older epochs first, and waits for one if need be. It
// returns the same batch again until Ack or Seek moves the cursor.
//
// Errors: ctx's; [ErrClosed]; a *[DamagedError]; or that the file could not be read.
func (c *Cursor) Next(ctx context.Context) (Batch, error) {
	for {
		if err := ctx.Err(); err != nil {
			return Batch{}, err
		}
		c.j.mu.Lock()
		wake, closed := c.j.wake, c.j.closed
		wanted := c.wantedLocked()
		c.j.mu.Unlock()
		if closed {
			return Batch{}, ErrClosed
		}
		for _, w := range wanted {
			b, found, err := c.j.batchAt(w)
			if found || err != nil {
				return b, err
			}
		}
		if err := c.j.wait(ctx, wake); err != nil {
			return Batch{}, err
		}
	}
}

// want is what a cursor still has to see of one epoch: the records after a sequence.
type want struct {
	run
	after uint64
}

// wantedLocked lists the epochs that hold records for the cursor, in order.
func (c *Cursor) wantedLocked() []want {
	var wanted []want
	first := sort.Search(len(c.j.epochs), func(i int) bool { return c.j.epochs[i].ordinal >= c.at.ordinal })
	for _, r := range c.j.epochs[first:] {
		after := max(c.floors[r.ordinal], r.kept-1)
		if r.ordinal == c.at.ordinal {
			after = max(after, c.at.sequence)
		}
		if after < r.last {
			wanted = append(wanted, want{r, after})
		}
	}
	return wanted
}

// batchAt copies the batch that holds the first wanted record.
func (j *Journal) batchAt(w want) (b Batch, found bool, err error) {
	b.Epoch = w.epoch
	err = j.view(func(tx *bolt.Tx) error {
		c := bucket(tx, nameBatches).Cursor()
		due := place{w.ordinal, w.after + 1}
		k, v := c.Seek(due.key())
		switch { // a sink may stand in the middle of a batch; it gets the whole batch again
		case k == nil:
			k, v = c.Last()
		case !bytes.Equal(k, due.key()):
			k, v = c.Prev()
		}
		if k == nil {
			return nil
		}
		at, err := parsePlace(k)
		if err != nil {
			return err
		}
		h, raw, err := parseBatch(v)
		if err != nil || at.ordinal != w.ordinal || h.last < due.sequence {
			return err
		}
		b.First, b.Last, found = at.sequence, h.last, true
		if checksum(raw) != h.sum {
			return &DamagedError{b.Epoch, b.First, b.Last}
		}
		b.Raw = slices.Clone(raw)
		return nil
	})
	if err == nil {
		return b, found, nil
	}
	if _, cerr := j.current(); errors.Is(cerr, ErrClosed) {
		return Batch{}, false, ErrClosed
	}
	return Batch{}, false, fmt.Errorf("read the journal: %w", err)
}

// Ack says that the sink safely holds everything up to w, and w's epoch must be known. Going back is ignored. It becomes
// durable within about a second.
func (c *Cursor) Ack(w sdk.Watermark) error {
	c.j.mu.Lock()
	defer c.j.mu.Unlock()
	i := slices.IndexFunc(c.j.epochs, func(r run) bool { return r.epoch == w.Epoch })
	if i < 0 || w.Sequence > c.j.epochs[i].last {
		return fmt.Errorf("acknowledge %v/%d for %s: no such record", w.Epoch, w.Sequence, c.name)
	}
	if to := (place{c.j.epochs[i].ordinal, w.Sequence}); c.at.before(to) {
		c.at = to
		c.j.soilLocked()
	}
	return nil
}

// Lag is the number of records in the file that the sink has not acknowledged.
func (c *Cursor) Lag() uint64 {
	c.j.mu.Lock()
	defer c.j.mu.Unlock()
	var n uint64
	for _, w := range c.wantedLocked() {
		n += w.last - w.after
	}
	return n
}
