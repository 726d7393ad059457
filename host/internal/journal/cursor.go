package journal

import (
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
	// Have is the last record of the batch that the sink has already: it stands in the middle. 0: it has none of them.
	Have uint64
	// Gap says that the batch stands for records that the sink does not get: it is one Gap, and nobody's bytes but ours.
	Gap bool
}

// DamagedError says that a batch no longer has the checksum it was written with. A reader goes on by acknowledging Last,
// and owes its sink a Gap.
type DamagedError struct {
	Epoch       sdk.Epoch
	First, Last uint64
	Have        uint64 // as in [Batch]
}

func (e *DamagedError) Error() string {
	return fmt.Sprintf("read batch %v/%d..%d: %v", e.Epoch, e.First, e.Last, errDamaged)
}

// Cursor is the place of one sink: what it has acknowledged. It is a hint that may be a second older than the truth,
// which the sink itself knows; see [Cursor.Seek].
type Cursor struct {
	j    *Journal
	name string

	begin  place             // what stands before it was there before the sink; zero if that is not known any more
	at     place             // guarded by j.mu: everything up to here is safe in the sink
	saved  place             // guarded by j.appending: at, as the file has it
	floors map[uint64]uint64 // guarded by j.mu: later epochs' ordinals -> what the sink holds already

	dropped  Dropped  // guarded by j.mu
	given    []*given // guarded by j.mu: discarded, and its Gap not handed out yet
	call     *call    // guarded by j.mu: under way; nil: none is
	suspects Suspects
}

// Cursor returns the place of a sink, and registers the sink durably when it is new: it then starts with the oldest batch
// kept of the current epoch, or of all after an unclean stop. From then on nothing is deleted that it has not acknowledged, until [Journal.Unregister].
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
	at := j.origin(current)
	c = &Cursor{j: j, name: sink, begin: at, at: at, saved: at}
	err = j.commit(purge{}, func(tx *bolt.Tx) error { return putSealed(tx, nameCursors, []byte(sink), standing{at, at}.encode()) })
	if err != nil {
		return nil, fmt.Errorf("register sink %s: %w", sink, err)
	}
	j.mu.Lock()
	j.cursors[sink] = c
	j.mu.Unlock()
	return c, nil
}

// origin is where a new sink begins: at what the file has of this run; or, after an unclean stop or damage, at the oldest
// that it has at all, since the sink may be one whose place was lost.
func (j *Journal) origin(current run) place {
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.orphaned || !j.previous.clean {
		return place{ordinal: j.epochs[0].ordinal}
	}
	return place{current.ordinal, current.kept - 1}
}

// Sinks lists the registered sinks by name.
func (j *Journal) Sinks() []string {
	j.mu.Lock()
	defer j.mu.Unlock()
	return slices.Sorted(maps.Keys(j.cursors))
}

// Unregister forgets a sink, with what was set aside for it; what only it had not acknowledged may be deleted. Its Cursor
// must not be used afterwards.
func (j *Journal) Unregister(sink string) error {
	j.appending.Lock()
	defer j.appending.Unlock()
	if _, err := j.current(); err != nil {
		return err
	}
	j.mu.Lock()
	delete(j.cursors, sink)
	delete(j.aside, sink)
	j.mu.Unlock()
	err := j.commit(purge{}, func(tx *bolt.Tx) error {
		if err := bucket(tx, nameCursors).Delete([]byte(sink)); err != nil {
			return err
		}
		if err := deleteSuffix(bucket(tx, nameRetries), sink); err != nil {
			return err
		}
		return deletePrefix(bucket(tx, nameAside), asidePrefix(sink))
	})
	if err != nil {
		return fmt.Errorf("unregister sink %s: %w", sink, err)
	}
	return nil
}

// Next returns the first durable batch that is not acknowledged, older epochs first, and waits for one if need be. It
// returns the same batch again until Ack or Seek moves the cursor. Where records were dropped, or lost by the disk, it
// returns a batch of one Gap that has the number of the last of them; its hash fields are empty.
//
// Errors: ctx's; [ErrClosed]; a *[DamagedError]; or that the file could not be read.
func (c *Cursor) Next(ctx context.Context) (Batch, error) {
	for {
		if err := ctx.Err(); err != nil {
			return Batch{}, err
		}
		wanted, wake, err := c.wanted()
		if err != nil {
			return Batch{}, err
		}
		b, found, err := c.first(wanted)
		if errors.Is(err, errMoved) {
			continue
		}
		if found && b.Gap {
			c.handed(b)
		}
		if found || err != nil {
			return b, err
		}
		if err := c.j.wait(ctx, wake); err != nil {
			return Batch{}, err
		}
	}
}

func (c *Cursor) wanted() ([]want, <-chan struct{}, error) {
	c.j.mu.Lock()
	defer c.j.mu.Unlock()
	if c.j.closed {
		return nil, nil, ErrClosed
	}
	return c.wantedLocked(), c.j.wake, nil
}

// errMoved says that batches were dropped while they were looked for.
var errMoved = errors.New("moved")

// first finds the first batch of what is wanted. A batch that is not where memory says may have been dropped by a commit
// that memory does not show yet: then the answer is errMoved.
func (c *Cursor) first(wanted []want) (Batch, bool, error) {
	for i, w := range wanted {
		b, found, err := c.j.batchAt(w)
		if err != nil {
			return b, false, err
		}
		if found && (b.Gap || b.First <= w.after+1) {
			return b, true, nil
		}
		c.j.appending.Lock() // no commit is under way
		now, _, err := c.wanted()
		c.j.appending.Unlock()
		if err != nil {
			return Batch{}, false, err
		}
		if i >= len(now) || now[i].after != w.after || now[i].hole != w.hole || now[i].kept != w.kept {
			return Batch{}, false, errMoved
		}
		if found {
			return b, true, nil
		}
	}
	return Batch{}, false, nil
}

// want is what a cursor still has to see of one epoch: the records after a sequence, the Gap of a hole among them.
type want struct {
	run
	sink  string
	after uint64
	hole  hole // the first that comes; last is 0 when there is none
}

// wantedLocked lists the epochs that hold something for the cursor, in order.
func (c *Cursor) wantedLocked() []want {
	var wanted []want
	first := sort.Search(len(c.j.epochs), func(i int) bool { return c.j.epochs[i].ordinal >= c.at.ordinal })
	for _, r := range c.j.epochs[first:] {
		have := c.haveLocked(r.ordinal)
		w := want{run: r, sink: c.name, after: max(have, r.kept-1)}
		if h, ok := c.j.holes.next(c.name, r.ordinal, have); ok {
			w.hole = h
			if h.first <= w.after+1 {
				w.after = h.first - 1
			}
		}
		if w.after < r.last || w.hole.last > 0 {
			wanted = append(wanted, w)
		}
	}
	return wanted
}

// haveLocked is how far the cursor has come in an epoch.
func (c *Cursor) haveLocked(ordinal uint64) uint64 {
	switch {
	case ordinal < c.at.ordinal:
		return ^uint64(0)
	case ordinal == c.at.ordinal:
		return max(c.at.sequence, c.floors[ordinal])
	}
	return c.floors[ordinal]
}

// reachedLocked is the place up to which the sink needs nothing from the file: what it has, and what it is not to have.
func (c *Cursor) reachedLocked() place {
	at := c.at
	for _, r := range c.j.epochs {
		if r.ordinal < c.at.ordinal {
			continue
		}
		at = place{r.ordinal, c.haveLocked(r.ordinal)}
		for {
			h, ok := c.j.holes.next(c.name, r.ordinal, at.sequence)
			if !ok || h.first > at.sequence+1 {
				break
			}
			at.sequence = h.last
		}
		if at.sequence < r.last {
			break
		}
	}
	return at
}

// Ack says that the sink safely holds everything up to w, and w's epoch must be known. Going back is ignored. It becomes
// durable within about a second.
func (c *Cursor) Ack(w sdk.Watermark) error {
	c.j.mu.Lock()
	defer c.j.mu.Unlock()
	defer c.calledLocked()
	i := slices.IndexFunc(c.j.epochs, func(r run) bool { return r.epoch == w.Epoch })
	if i < 0 || w.Sequence > c.j.epochs[i].last {
		return fmt.Errorf("acknowledge %v/%d for %s: no such record", w.Epoch, w.Sequence, c.name)
	}
	if to := (place{c.j.epochs[i].ordinal, w.Sequence}); c.at.before(to) {
		c.at = to
		c.takenLocked()
		c.j.soilLocked()
	}
	return nil
}

// Lag is the number of records that the sink still has to get, a Gap counting as one.
func (c *Cursor) Lag() uint64 {
	c.j.mu.Lock()
	defer c.j.mu.Unlock()
	return c.lagLocked()
}

func (c *Cursor) lagLocked() (n uint64) {
	for _, w := range c.wantedLocked() {
		n += c.j.holes.due(c.name, w.ordinal, w.after, w.last)
	}
	return n
}
