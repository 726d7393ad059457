package store

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"fmt"
	"sync"
	"sync/atomic"

	wire "github.com/picosnitch/picosnitch/sdk/proto"
)

// progress is how far a scan is, in rows.
type progress struct {
	id      int64
	scan    int64 // to look at, about
	scanned atomic.Int64
}

// far says how many rows were looked at, of how many.
func (p *progress) far() (scanned, of int64) { return min(p.scanned.Load(), p.scan), p.scan }

// scans are the queries that scan rows now. Their statements call tick(id, rows) for each batch that they come to.
type scans struct {
	mu      sync.Mutex
	last    int64
	running map[int64]*progress
}

func newScans() *scans { return &scans{running: make(map[int64]*progress)} }

// tick is the function of SQL; it is always true.
func (s *scans) tick(args []driver.Value) (driver.Value, error) {
	id, _ := args[0].(int64)
	n, _ := args[1].(int64)
	s.mu.Lock()
	p := s.running[id]
	s.mu.Unlock()
	if p != nil {
		p.scanned.Add(n)
	}
	return int64(1), nil
}

// begin registers a scan; the caller ends it.
func (s *Store) begin(ctx context.Context, tx *sql.Tx, q *wire.Query) (*progress, error) {
	from, to := rangeOf(q)
	p := &progress{}
	err := tx.QueryRowContext(ctx, "SELECT coalesce(sum(stop - start + 1), 0) FROM batches WHERE newest >= ? AND oldest < ? AND stop >= start",
		from, to).Scan(&p.scan)
	if err != nil {
		return nil, fmt.Errorf("count the rows: %w", err)
	}
	s.progress.mu.Lock()
	defer s.progress.mu.Unlock()
	s.progress.last++
	p.id = s.progress.last
	s.progress.running[p.id] = p
	return p, nil
}

func (s *scans) end(p *progress) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.running, p.id)
}
