package store

import (
	"context"
	"errors"
	"fmt"
	"math"
	"strings"

	"github.com/picosnitch/picosnitch/plugins/sqlserver/internal/server"
	wire "github.com/picosnitch/picosnitch/sdk/proto"
)

// maxHoles bounds the holes between batches that are looked into: a run has hardly any.
const maxHoles = 200

// strays finds rows that no batch has: somebody added them.
type strays struct {
	*witness
	host string // the one that is asked about, or ""
	runs map[run]*cover
}

// cover is what the batches of a run leave out.
type cover struct {
	holes []hole
	next  int64 // the sequence behind the last batch
}

// hole is a range of sequences between batches, both inclusive.
type hole struct{ first, last int64 }

// skip notes which sequences of a run its next batches have.
func (s *strays) skip(r run, batches []stored) {
	c := s.runs[r]
	if c == nil {
		c = &cover{next: math.MinInt64}
		s.runs[r] = c
	}
	for _, b := range batches {
		if !b.possible() || b.last < c.next {
			continue // it would hide the rest of the run
		}
		if b.first > c.next && len(c.holes) < maxHoles {
			c.holes = append(c.holes, hole{c.next, b.first - 1})
		}
		c.next = b.last + 1
	}
}

// find adds what lies in the holes, and runs that have no batch at all, to the evidence.
func (s *strays) find(ctx context.Context) error {
	found := make(map[run]*wire.BatchEvidence)
	var order []*wire.BatchEvidence
	for _, t := range tables() {
		if t.suffix == batchesTable {
			continue
		}
		runs, err := s.listed(ctx, t.suffix, s.host, "")
		if err != nil {
			return fmt.Errorf("read %s: %w", s.base+t.suffix, err)
		}
		for _, r := range runs {
			if found[r] == nil {
				found[r] = &wire.BatchEvidence{HostId: decoded(r.host), Epoch: decoded(r.epoch), State: wire.BatchEvidence_ALTERED}
				order = append(order, found[r])
			}
			if err := s.sequences(ctx, t, r, found[r]); err != nil {
				return fmt.Errorf("read %s: %w", s.base+t.suffix, err)
			}
		}
	}
	for _, e := range order {
		if len(e.Extra) == 0 {
			continue
		}
		if err := s.add(e); err != nil {
			return err
		}
	}
	return nil
}

// sequences adds the numbers of rows in the holes of a run. Below zero are gaps of the plugin's own, which no batch has.
func (s *strays) sequences(ctx context.Context, t table, r run, e *wire.BatchEvidence) error {
	c := s.runs[r]
	if c == nil {
		c = &cover{next: math.MinInt64}
	}
	var ranges []string
	for _, h := range append(c.holes, hole{c.next, math.MaxInt64}) {
		if t.suffix == gapsTable {
			h.first = max(h.first, 0)
		}
		ranges = append(ranges, fmt.Sprintf(`"seq" BETWEEN %d AND %d`, h.first, h.last))
	}
	rows, err := s.session.Query(ctx, `SELECT "seq" FROM `+server.Quote(s.base+t.suffix)+` WHERE "host_id" = $1 AND "epoch" = $2 AND (`+
		strings.Join(ranges, " OR ")+`) ORDER BY "seq" LIMIT `+fmt.Sprint(maxNamed-len(e.Extra)), r.host, r.epoch)
	if err != nil {
		return err
	}
	for rows.Next() {
		var seq int64
		if err := rows.Scan(&seq); err != nil {
			return errors.Join(err, rows.Close())
		}
		e.Extra = append(e.Extra, uint64(seq))
	}
	return rows.Close()
}
