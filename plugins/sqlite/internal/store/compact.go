package store

import (
	"context"
	"errors"
	"fmt"

	wire "github.com/picosnitch/picosnitch/sdk/proto"
)

// errReadOnly answers what would change a file that was opened to be read.
var errReadOnly = errors.New("opened read-only: start the daemon, or run as the owner of the file")

// errNotOpen answers while a damaged file could not be replaced yet.
var errNotOpen = errors.New("the database is not open")

// Compact gives all free pages back to the file system, some at a time, see [sdk.Compacter]. Batches are stored in
// between.
func (s *Store) Compact(ctx context.Context, progress func(*wire.CompactProgress) error) error {
	if s.settings.ReadOnly {
		return errReadOnly
	}
	before := int64(-1)
	for {
		bytes, free, err := s.compactStep(ctx)
		if err != nil {
			return err
		}
		if before < 0 {
			before = bytes
		}
		p := &wire.CompactProgress{Before: uint64(before), After: uint64(bytes), Done: free == 0}
		if err := progress(p); err != nil || p.Done {
			return err
		}
		if err := pause(ctx, stepPause); err != nil {
			return err
		}
	}
}

// compactStep gives some pages back. bytes is the size before it, free what is left to give after it.
func (s *Store) compactStep(ctx context.Context) (bytes, free int64, err error) {
	if err := s.take(ctx); err != nil {
		return 0, 0, err
	}
	defer s.give()
	if s.writer == nil {
		return 0, 0, errNotOpen
	}
	c := s.writer.conn
	if bytes, _, err = c.number("SELECT page_count * page_size FROM pragma_page_count, pragma_page_size"); err != nil {
		return 0, 0, err
	}
	if free, _, err = c.number("PRAGMA freelist_count"); err != nil {
		return 0, 0, err
	}
	if free == 0 {
		return bytes, 0, c.script("PRAGMA wal_checkpoint(PASSIVE)")
	}
	return bytes, free, c.script(fmt.Sprintf("PRAGMA incremental_vacuum(%d)", vacuumPages))
}
