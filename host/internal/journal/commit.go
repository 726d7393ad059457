package journal

import (
	"errors"
	"fmt"

	bolt "go.etcd.io/bbolt"
	berrors "go.etcd.io/bbolt/errors"
)

// view reads, and update writes, with bbolt's assertions turned into errors.
func (j *Journal) view(fn func(*bolt.Tx) error) error {
	j.swap.RLock()
	defer j.swap.RUnlock()
	return guard(func() error { return j.db.View(fn) })
}

func (j *Journal) update(fn func(*bolt.Tx) error) error {
	j.swap.RLock()
	defer j.swap.RUnlock()
	return guard(func() error { return j.db.Update(fn) })
}

// grow is commit for what adds to the file. While the disk refuses, it may still use what is free inside the file.
func (j *Journal) grow(bytes int64, fn func(*bolt.Tx) error) error {
	p := purge{bytes: j.excess(bytes)}
	limited := j.refusal() != nil && !j.disk.refill()
	var err error
	if limited { // else it would take the space that the reserve was given up for
		p.eager = true
		err = j.within(j.fileSize(), func() error { return j.commitOnce(p, fn) })
	} else {
		err = j.squeeze(p, bytes, fn)
	}
	switch {
	case refused(err):
		refusal := j.refuse(err)
		_ = j.commit(purge{eager: true}, nothing) // a try: it may make space for the next one
		return refusal
	case err == nil && !limited:
		j.accepted()
	}
	return err
}

// maxSqueeze is how often more is dropped for an Append that finds enough space, but in pieces.
const maxSqueeze = 4

// squeeze keeps the file within its bound though bbolt needs what belongs together in one piece. What is too large by
// itself gets its space in the end.
func (j *Journal) squeeze(p purge, bytes int64, fn func(*bolt.Tx) error) error {
	more := bytes + growth/4
	for range maxSqueeze {
		err := j.within(j.o.MaxBytes+growth+2*j.asideBytes(), func() error { return j.commitOnce(p, fn) })
		if !errors.Is(err, berrors.ErrMaxSizeReached) || j.fileSize()+bytes+growth < j.o.MaxBytes {
			return err // done, or it is not our bound that was met
		}
		if err := j.commitOnce(purge{bytes: more, eager: true}, nothing); err != nil {
			return err
		}
		p.bytes, more = 0, 2*more
	}
	return j.commitOnce(p, fn)
}

// within runs fn with a limit to the size of the file.
func (j *Journal) within(size int64, fn func() error) error {
	before := j.db.MaxSize
	if before == 0 || int64(before) > size {
		j.db.MaxSize = int(size)
	}
	defer func() { j.db.MaxSize = before }()
	return fn()
}

// commit is for what takes little or makes space: it may use the reserve.
func (j *Journal) commit(p purge, fn func(*bolt.Tx) error) error {
	err := j.commitOnce(p, fn)
	if refused(err) && j.disk.release() {
		_ = j.refuse(err)
		err = j.commitOnce(p, fn)
	}
	if refused(err) {
		return j.refuse(err)
	}
	return err
}

// commitOnce is update for what must be all or nothing. bbolt can fail after it has written the page that makes a
// transaction valid, when only the last fsync went wrong: then memory shows the new state and the disk may have either.
// Nobody can go on from there without risking a sequence given twice, so that the journal refuses to.
func (j *Journal) commitOnce(p purge, fn func(*bolt.Tx) error) error {
	var id int
	var t tidying
	err := j.update(func(tx *bolt.Tx) error {
		id = tx.ID()
		var err error
		if t, err = j.tidy(tx, p); err != nil {
			return err
		}
		if err := fn(tx); err != nil {
			return err
		}
		return writeState(tx, true, j.orphaned)
	})
	if err == nil {
		j.done(t)
		return nil
	}
	visible := errors.Is(err, errDamaged)
	verr := j.view(func(tx *bolt.Tx) error {
		visible = visible || tx.ID() >= id
		return nil
	})
	if !visible && verr == nil {
		return err
	}
	broken := fmt.Errorf("%w: %w", ErrBroken, err)
	j.mu.Lock()
	j.broken = broken
	j.mu.Unlock()
	return broken
}

// excess is how many bytes must be deleted before so many more come.
func (j *Journal) excess(bytes int64) int64 {
	// An eighth stays for what is free but in pieces, and for pages that a commit writes anew before it frees the old.
	// What is set aside has a bound of its own.
	return max(0, j.live()-j.asideBytes()+bytes-(j.o.MaxBytes-j.o.MaxBytes/8))
}

func (j *Journal) asideBytes() (n int64) {
	j.mu.Lock()
	defer j.mu.Unlock()
	for _, s := range j.aside {
		n += s.bytes
	}
	return n
}

// live is what the file holds, as of the last commit; the rest of it is free.
func (j *Journal) live() int64 {
	j.swap.RLock()
	defer j.swap.RUnlock()
	s := j.db.Stats()
	return j.pages() - int64(s.FreePageN+s.PendingPageN)*int64(j.db.Info().PageSize)
}

// pages is the size of the part of the file that has ever been used.
func (j *Journal) pages() (size int64) {
	_ = guard(func() error {
		return j.db.View(func(tx *bolt.Tx) error { size = tx.Size(); return nil })
	})
	return size
}

// refusal is what the disk says since it refused, or nil.
func (j *Journal) refusal() *DiskError {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.full
}

// refuse notes a refusal and returns the error to tell.
func (j *Journal) refuse(cause error) error {
	j.mu.Lock()
	defer j.mu.Unlock()
	e := &DiskError{Since: j.now(), Cause: cause}
	if j.full != nil {
		e.Since = j.full.Since
	}
	j.full = e
	return e
}

// accepted notes that the disk takes everything again.
func (j *Journal) accepted() {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.full = nil
}

func (j *Journal) fileSize() int64 {
	info, err := j.db.file.Stat()
	if err != nil {
		return 0
	}
	return info.Size()
}
