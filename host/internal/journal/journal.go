package journal

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
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
	// ErrTooLarge is wrapped by the error of Append when one record alone is larger than a batch may be.
	ErrTooLarge = errors.New("record is larger than a batch may be")
)

// Mark is a small named fact that becomes durable together with records: "generation 7 of boot B is journaled". A nil
// Value deletes the mark.
type Mark struct {
	Key   string
	Value []byte
}

// Recovered says that the file could not be read and where it lies now.
type Recovered struct {
	Path  string
	Cause error
}

// Previous describes the run before this one, from what it made durable.
type Previous struct {
	Epoch      sdk.Epoch // the last that holds records
	Last       uint64    // its last sequence, 0 when the journal holds no earlier records
	LastAppend time.Time
	Clean      bool // it closed the journal
}

// Journal is the open file. See the package comment for its promises.
type Journal struct {
	db        database
	hostID    [16]byte
	now       func() time.Time
	recovered *Recovered
	previous  Previous

	appending sync.Mutex // held for a whole Append; guards chain
	chain     [32]byte

	mu      sync.Mutex // guards all below; never held while waiting for the disk
	epochs  []run      // oldest first; the last one is this run's
	cursors map[string]*Cursor
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
}

// Open opens or creates the journal in dir, which it makes with mode 0700 if missing, and begins a new epoch. hostID goes
// into every batch. now is asked for the times of batches; tests inject it.
//
// Errors: [ErrLocked]; or the operating system's, when the directory cannot be used or is writable by others.
func Open(dir string, hostID [16]byte, now func() time.Time) (*Journal, error) {
	if err := checkDirectory(dir); err != nil {
		return nil, err
	}
	path := filepath.Join(dir, FileName)
	j, err := start(path, hostID, now)
	if isDamage(err) {
		var recovered *Recovered
		if recovered, err = setAside(path, err, now()); err != nil {
			return nil, err
		}
		if j, err = start(path, hostID, now); err == nil {
			j.recovered = recovered
		}
	}
	if err != nil {
		return nil, err
	}
	go j.keep()
	return j, nil
}

// start opens the file and begins an epoch in it.
func start(path string, hostID [16]byte, now func() time.Time) (*Journal, error) {
	db, err := openDatabase(path)
	if err != nil {
		return nil, err
	}
	j := &Journal{
		db: db, hostID: hostID, now: now,
		cursors: map[string]*Cursor{},
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
		for name, at := range l.cursors {
			j.cursors[name] = &Cursor{j: j, name: name, at: at, saved: at}
		}
		return l.start(tx, epoch)
	})
}

// Epoch is the name of this run.
func (j *Journal) Epoch() sdk.Epoch {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.epochs[len(j.epochs)-1].epoch
}

// Recovered tells whether Open had to set a damaged file aside. The caller owes its readers a Gap.
func (j *Journal) Recovered() (Recovered, bool) {
	if j.recovered == nil {
		return Recovered{}, false
	}
	return *j.recovered, true
}

// Previous describes the run before this one; false when the file was new.
func (j *Journal) Previous() (Previous, bool) { return j.previous, j.previous.Last > 0 }

// Mark returns a copy of the value that the last Append with this key made durable.
func (j *Journal) Mark(key string) ([]byte, bool) {
	var value []byte
	found := false
	err := j.view(func(tx *bolt.Tx) error {
		if v := bucket(tx, nameMarks).Get([]byte(key)); v != nil {
			value, found = append([]byte{}, v...), true
		}
		return nil
	})
	return value, found && err == nil
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
	err := j.update(func(tx *bolt.Tx) error {
		if _, err := j.tidy(tx); err != nil {
			return err
		}
		return bucket(tx, nameMeta).Delete([]byte(keyOpen))
	})
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
