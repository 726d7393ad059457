package journal

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"

	bolt "go.etcd.io/bbolt"
)

// compactName is the file that a compaction fills. One found at a start was never finished.
const compactName = FileName + ".compact"

const (
	// compactAbove is the size of a file that is worth compacting, when no more than a quarter of it is in use.
	compactAbove = 64 << 20
	// compactLive bounds what is copied while the host runs: an Append may have to wait for it.
	compactLive = 8 << 20
	// compactStep bounds one transaction of the copy.
	compactStep = 4 << 20
)

// worthwhile tells whether a compaction gives much of the file back.
func (j *Journal) worthwhile() bool {
	used := j.fileSize()
	return used > compactAbove && used > 4*j.live()
}

// compactAtStart gives the disk back what a past backlog took: bbolt never does. It waits for nobody, and a disk without
// space for the copy is no error.
func (j *Journal) compactAtStart() error {
	if err := os.Remove(filepath.Join(j.o.Dir, compactName)); err != nil && !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("remove an unfinished compaction: %w", err)
	}
	if !j.worthwhile() {
		return nil
	}
	return j.compact()
}

// compactOnline is the same for a journal whose sinks have caught up. The caller holds appending.
func (j *Journal) compactOnline() error {
	if !j.worthwhile() || j.live() > compactLive || j.refusal() != nil {
		return nil
	}
	return j.compact()
}

// compact copies the file and puts the copy in its place, locked before anybody else can open it. Whenever the machine
// stops, one of the two is whole under the journal's name.
func (j *Journal) compact() error {
	path := filepath.Join(j.o.Dir, compactName)
	db, err := openDatabase(path)
	if err == nil {
		db.NoSync = true // once, at the end
		err = guard(func() error { return bolt.Compact(db.DB, j.db.DB, compactStep) })
		db.NoSync = false
		if err == nil {
			err = db.file.Sync()
		}
		if err == nil {
			return j.replace(db, path)
		}
		err = errors.Join(err, guard(db.Close))
	}
	err = errors.Join(err, os.Remove(path))
	if refused(err) || errors.Is(err, os.ErrNotExist) {
		return nil // the disk has no space for a copy
	}
	return fmt.Errorf("compact the journal: %w", err)
}

// replace makes the copy the journal.
func (j *Journal) replace(db database, path string) error {
	if err := os.Rename(path, filepath.Join(j.o.Dir, FileName)); err != nil {
		return fmt.Errorf("compact the journal: %w", errors.Join(err, guard(db.Close), os.Remove(path)))
	}
	if err := syncDirectory(j.o.Dir); err != nil {
		return err
	}
	j.swap.Lock()
	old := j.db
	j.db = db
	j.swap.Unlock()
	if err := guard(old.Close); err != nil {
		return fmt.Errorf("close the journal before its compaction: %w", err)
	}
	return nil
}
