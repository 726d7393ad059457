package journal

import (
	"time"

	bolt "go.etcd.io/bbolt"
)

const (
	// lazy is how late an acknowledgement may reach the disk.
	lazy = time.Second
	// slack is how long a batch stays after everybody has it: a sink may lose its last transaction in a power cut.
	slack = time.Minute
	// maxTrim bounds the batches deleted in one commit, which an Append may be waiting for.
	maxTrim = 256
	// chance is how long a sink can take what waits for it before anything of that counts as too old.
	chance = time.Hour
	// patrol is how often an idle journal is looked after: age passes without an Append, too.
	patrol = 10 * time.Minute
)

// soilLocked tells the keeper that there is something to write.
func (j *Journal) soilLocked() {
	select {
	case j.dirty <- struct{}{}:
	default:
	}
}

// keep writes acknowledgements that no Append has taken along, and looks after a journal that nothing happens to.
func (j *Journal) keep() {
	defer close(j.stopped)
	timer, rounds := time.NewTimer(lazy), time.NewTicker(patrol)
	defer timer.Stop()
	defer rounds.Stop()
	for {
		select {
		case <-j.stop:
			return
		case <-rounds.C:
			_ = j.patrol() // Append tells the caller of a disk that refuses
			continue
		case <-j.dirty:
		}
		timer.Reset(lazy)
		select {
		case <-j.stop:
			return
		case <-timer.C:
		}
		if err := j.save(); err != nil {
			j.mu.Lock()
			j.soilLocked() // again in a second; Append tells the caller of a full disk
			j.mu.Unlock()
		}
	}
}

// save commits moved cursors, if there are any.
func (j *Journal) save() error {
	j.appending.Lock()
	defer j.appending.Unlock()
	if _, err := j.current(); err != nil || len(j.moved()) == 0 {
		return nil // Close writes them itself, and a broken journal tells whoever appends
	}
	return j.commit(purge{}, nothing)
}

// patrol drops what has become too old, and gives the disk back what a past backlog took.
func (j *Journal) patrol() error {
	j.appending.Lock()
	defer j.appending.Unlock()
	if _, err := j.current(); err != nil {
		return nil
	}
	if j.disk.refill() {
		j.accepted()
	}
	if j.overdue() {
		if err := j.commit(purge{}, nothing); err != nil {
			return err
		}
	}
	return j.compactOnline()
}

// overdue tells whether the oldest batch is too old.
func (j *Journal) overdue() (old bool) {
	limit := j.ageLimit(j.now())
	err := j.view(func(tx *bolt.Tx) error {
		_, v := bucket(tx, nameBatches).Cursor().First()
		if v == nil {
			return nil
		}
		h, _, err := parseBatch(v)
		old = h.time < limit
		return err
	})
	return old && err == nil
}

func nothing(*bolt.Tx) error { return nil }

// moved lists the cursors that the file does not have where they are. The caller holds appending.
func (j *Journal) moved() map[*Cursor]place {
	j.mu.Lock()
	defer j.mu.Unlock()
	moved := map[*Cursor]place{}
	for _, c := range j.cursors {
		if c.at != c.saved {
			moved[c] = c.at
		}
	}
	return moved
}
