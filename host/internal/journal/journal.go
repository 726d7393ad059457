package journal

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"time"

	bolt "go.etcd.io/bbolt"

	"github.com/picosnitch/picosnitch/sdk"
)

// FileName is the journal's name in the state directory.
const FileName = "journal.db"

var (
	// ErrLocked says that another process has the journal open.
	ErrLocked = errors.New("journal is in use by another picosnitch")
	// ErrClosed answers every call after Close.
	ErrClosed = errors.New("journal is closed")
	// ErrBroken says that a commit failed in a way that leaves open whether it is durable. Nothing can be appended until
	// the journal is opened again; its marks then tell what was kept.
	ErrBroken = errors.New("journal must be opened again")
	// ErrNoSink says that no sink of this name is registered.
	ErrNoSink = errors.New("no such sink")
	// ErrTooLarge is wrapped by the error of Append when one record alone is larger than a batch may be.
	ErrTooLarge = errors.New("record is larger than a batch may be")
)

// Mark is a small named fact that becomes durable together with records: "generation 7 of boot B is journaled". A nil
// Value deletes the mark.
type Mark struct {
	Key   string
	Value []byte
}

// Recovered says that the file was damaged and where it lies now. What it held that was good, Batches of it, is in the new
// one; what sinks lack of the rest they get a Gap for.
type Recovered struct {
	Path    string
	Cause   error // with what is not known
	Batches int
	Unknown []string // what is not known, each in words: how far an epoch went, where a sink stood
}

// lastRun is the run before this one, from what it made durable.
type lastRun struct {
	epoch  sdk.Epoch // the last that holds records
	last   uint64    // its last sequence, 0 when the journal holds no earlier records
	append time.Time // the last
	clean  bool      // it closed the journal
}

// Journal is the open file. See the package comment for its promises.
type Journal struct {
	o         Options
	hostID    [16]byte
	now       func() time.Time
	recovered *Recovered
	previous  lastRun
	orphaned  bool // saved from a damaged file that did not tell what the sinks have

	swap sync.RWMutex // guards db: written by a compaction only
	db   database

	appending   sync.Mutex // held for a whole Append; guards what follows
	chain       [32]byte
	disk        disk
	lastNow     time.Time // see ageLimit
	lastElapsed time.Duration
	chanceFrom  time.Duration // since when sinks had a chance to take what waits

	mu      sync.Mutex // guards all below; never held while waiting for the disk
	epochs  []run      // oldest first; the last one is this run's
	cursors map[string]*Cursor
	holes   holes
	aside   map[string]asideSum
	full    *DiskError // what the disk says since it refused; nil: it does not
	sizes   sizes
	wake    chan struct{} // closed and replaced when batches were appended
	broken  error
	closed  bool

	dirty   chan struct{} // capacity 1: cursors moved
	stop    chan struct{} // closed by Close
	stopped chan struct{} // closed when the keeper has ended
}

// run is what is known of one epoch in memory.
type run struct {
	ordinal uint64
	epoch   sdk.Epoch
	kept    uint64 // first sequence still in the file; last+1 when there is none
	last    uint64 // 0 before the first record
	owed    uint64 // only in a plan: the end of what a sink gets a Gap for
}

// Open opens or creates the journal and begins a new epoch. From a damaged file it takes over what is good.
//
// Errors: [ErrLocked]; a *[DiskError] when the disk has no space for what is good of a damaged file, which stays as it is for
// another try; or the operating system's, when the directory cannot be used or is writable by others.
func Open(o Options) (*Journal, error) {
	o.fill()
	if err := checkDirectory(o.Dir); err != nil {
		return nil, err
	}
	path := filepath.Join(o.Dir, FileName)
	j, err := start(path, o)
	if refused(err) && os.Truncate(filepath.Join(o.Dir, ReserveName), 0) == nil {
		j, err = start(path, o)
	}
	if isDamage(err) {
		var recovered *Recovered
		damage := err
		recovered, err = salvage(path, o, damage)
		if errors.Is(err, ErrDisk) && os.Truncate(filepath.Join(o.Dir, ReserveName), 0) == nil {
			recovered, err = salvage(path, o, damage)
		}
		if err != nil {
			return nil, err
		}
		if j, err = start(path, o); err == nil {
			j.recovered = recovered
			j.countDamaged()
		}
	}
	if err != nil {
		return nil, err
	}
	if err := j.compactAtStart(); err != nil {
		return nil, errors.Join(err, j.db.Close())
	}
	j.disk.open(o.Dir)
	j.measure()
	go j.keep()
	return j, nil
}

// start opens the file and begins an epoch in it.
func start(path string, o Options) (*Journal, error) {
	db, err := openDatabase(path)
	if err != nil {
		return nil, err
	}
	j := &Journal{
		o: o, db: db, hostID: o.HostID, now: o.Now,
		cursors: map[string]*Cursor{},
		aside:   map[string]asideSum{},
		wake:    make(chan struct{}),
		dirty:   make(chan struct{}, 1),
		stop:    make(chan struct{}),
		stopped: make(chan struct{}),
	}
	if err := j.begin(); err != nil {
		return nil, errors.Join(fmt.Errorf("begin an epoch in %s: %w", path, err), db.abandon())
	}
	return j, nil
}

// countDamaged counts what each sink lost with a damaged file.
func (j *Journal) countDamaged() {
	j.mu.Lock()
	defer j.mu.Unlock()
	for _, c := range j.cursors {
		for _, h := range j.holes {
			if have := c.haveLocked(h.ordinal); h.cause == CauseDamaged && h.concerns(c.name, h.ordinal, have) {
				c.dropped = c.dropped.plus(CauseDamaged, h.last-max(have, h.first-1))
			}
		}
	}
}

// begin loads what the file holds and starts this run's epoch.
func (j *Journal) begin() error {
	var epoch sdk.Epoch
	if _, err := rand.Read(epoch[:]); err != nil {
		return fmt.Errorf("make a random epoch: %w", err)
	}
	return j.update(func(tx *bolt.Tx) error {
		if err := create(tx); err != nil {
			return err
		}
		l, err := inspect(tx)
		if err != nil {
			return err
		}
		j.previous = l.previous
		j.epochs = append(l.epochs, run{ordinal: l.next, epoch: epoch, kept: 1})
		for name, s := range l.cursors {
			j.cursors[name] = &Cursor{j: j, name: name, begin: s.begin, at: s.at, saved: s.at}
		}
		j.holes, j.aside, j.orphaned = l.holes, l.aside, l.orphaned
		return l.start(tx, epoch)
	})
}

// Epoch is the name of this run.
func (j *Journal) Epoch() sdk.Epoch {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.epochs[len(j.epochs)-1].epoch
}

// Next is the sequence that Append gives the next record: of use to whoever alone appends.
func (j *Journal) Next() uint64 {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.epochs[len(j.epochs)-1].last + 1
}

// Recovered tells whether Open had to set a damaged file aside. The caller owes its readers a Gap.
func (j *Journal) Recovered() (Recovered, bool) {
	if j.recovered == nil {
		return Recovered{}, false
	}
	return *j.recovered, true
}

// Mark returns a copy of the value that the last Append with this key made durable.
func (j *Journal) Mark(key string) ([]byte, bool) {
	var value []byte
	found := false
	err := j.view(func(tx *bolt.Tx) error {
		stored := bucket(tx, nameMarks).Get([]byte(key))
		if stored == nil {
			return nil
		}
		v, err := unseal(nameMarks, []byte(key), stored)
		value, found = append([]byte{}, v...), true
		return err
	})
	if !found || err != nil {
		return nil, false
	}
	return value, true
}

// Close makes acknowledgements durable, notes that the stop was clean and closes the file. An Append under way ends
// first; calls that wait return ErrClosed. A second Close does nothing.
func (j *Journal) Close() error {
	j.mu.Lock()
	if j.closed {
		j.mu.Unlock()
		return nil
	}
	j.closed = true
	j.mu.Unlock()
	close(j.stop)
	<-j.stopped
	j.appending.Lock()
	defer j.appending.Unlock()
	if j.broken != nil { // the next start must not believe in a clean stop
		return j.db.abandon()
	}
	last := func() error {
		return j.update(func(tx *bolt.Tx) error {
			if _, err := j.tidy(tx, purge{}); err != nil {
				return err
			}
			return writeState(tx, false, false)
		})
	}
	err := last()
	if refused(err) && j.disk.release() {
		err = last()
	}
	if isDamage(err) {
		err = errors.Join(err, j.db.abandon())
	} else {
		err = errors.Join(err, j.db.Close())
	}
	if err != nil {
		return fmt.Errorf("close %s: %w", FileName, err)
	}
	return nil
}

// wait returns when batches were appended, the journal was closed or ctx ended.
func (j *Journal) wait(ctx context.Context, wake <-chan struct{}) error {
	select {
	case <-wake:
		return nil
	case <-j.stop:
		return ErrClosed
	case <-ctx.Done():
		return ctx.Err()
	}
}
