package store

import (
	"cmp"
	"database/sql/driver"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	wire "github.com/picosnitch/picosnitch/sdk/proto"
	"github.com/picosnitch/picosnitch/sdk/storekit"
)

// Widths of roll-ups in seconds.
const (
	minuteWidth  = int64(60)
	hourWidth    = int64(3600)
	quarterWidth = 6 * hourWidth
	dayWidth     = 24 * hourWidth
)

// keepMinutes is how long roll-ups by minute are kept: those by the hour answer for what is older.
const keepMinutes = 2 * 24 * time.Hour

// family is a table of roll-ups: which keys it sums up by, and at which widths.
type family struct {
	table  string
	keys   []string
	direct []int64 // widths to which every batch adds
	wide   []int64 // wider ones, each of which is made of the one before it, see [settle]
}

// families are all of them. One with fewer rows comes first.
func families() []family {
	direct, wide := []int64{minuteWidth, hourWidth}, []int64{quarterWidth, dayWidth, 2 * dayWidth, 4 * dayWidth, 8 * dayWidth, 16 * dayWidth}
	return []family{
		{"program_sums", []string{"program"}, direct, wide},
		{"remote_sums", []string{"remote"}, direct, wide},
		{"pair_sums", []string{"program", "remote"}, []int64{dayWidth}, nil},
	}
}

// widths are all widths of the family, each a multiple of the one before it.
func (f *family) widths() []int64 { return slices.Concat(f.direct, f.wide) }

// sums are the measures in their order, see [storekit.MeasureNames].
type sums [8]int64

func (s *sums) add(o *sums) {
	for i, n := range o {
		s[i] += n
	}
}

// slot is a row of a family.
type slot struct{ width, bucket, program, remote int64 }

// tally gathers what a batch adds to the roll-ups, so that each of their rows is written once.
type tally struct {
	families []family
	sums     []map[slot]*sums // by minute, or by the smallest width of the family
	minutes  int64            // no roll-ups by minute before it, UTC ns
	settled  int64            // no wide roll-ups after it, UTC ns
}

func newTally(minutes, settled int64) *tally {
	t := &tally{families: families(), minutes: minutes, settled: settled}
	for range t.families {
		t.sums = append(t.sums, make(map[slot]*sums))
	}
	return t
}

// add counts a flow of which connections shows a row; its window ended at the time.
func (t *tally) add(ended, program, remote int64, f *wire.Flow) {
	one := sums{int64(f.GetSent()), int64(f.GetReceived()), int64(f.GetSends()), int64(f.GetReceives()),
		int64(f.GetConnects()), int64(f.GetAccepts()), int64(f.GetFailures()), 1}
	for i := range t.families {
		width := t.families[i].direct[0]
		at := slot{width, floor(seconds(ended), width), program, remote}
		switch i {
		case 0:
			at.remote = 0
		case 1:
			at.program = 0
		}
		into(t.sums[i], at).add(&one)
	}
}

func into(m map[slot]*sums, at slot) *sums {
	s, ok := m[at]
	if !ok {
		s = new(sums)
		m[at] = s
	}
	return s
}

// write adds what was gathered to the tables, in the order of their keys.
func (t *tally) write(c *conn) error {
	for i, f := range t.families {
		for _, width := range f.widths() {
			m := make(map[slot]*sums)
			for at, s := range t.sums[i] {
				at.width, at.bucket = width, floor(at.bucket, width)
				if t.kept(&f, at) {
					into(m, at).add(s)
				}
			}
			if err := writeSums(c, &f, m); err != nil {
				return fmt.Errorf("roll up into %s: %w", f.table, err)
			}
		}
	}
	return nil
}

// kept says whether there is such a row: not by the minute when it is old, nor a wide one before its span is over.
func (t *tally) kept(f *family, at slot) bool {
	switch {
	case at.width == minuteWidth:
		return at.bucket*second >= t.minutes
	case slices.Contains(f.wide, at.width):
		return at.bucket+at.width <= seconds(t.settled)
	}
	return true
}

func writeSums(c *conn, f *family, m map[slot]*sums) error {
	order := slices.Collect(maps.Keys(m))
	slices.SortFunc(order, func(a, b slot) int {
		return cmp.Or(cmp.Compare(a.bucket, b.bucket), cmp.Compare(a.program, b.program), cmp.Compare(a.remote, b.remote))
	})
	into := newInserter(c, "INSERT INTO "+f.table+" VALUES ", 2+len(f.keys)+len(sums{}), addSums(f))
	for _, at := range order {
		row := into.row()
		row = append(row, at.width, at.bucket)
		for _, k := range f.keys {
			if k == "program" {
				row = append(row, at.program)
			} else {
				row = append(row, at.remote)
			}
		}
		for _, n := range m[at] {
			row = append(row, n)
		}
		if err := into.add(row); err != nil {
			return err
		}
	}
	return into.flush()
}

// addSums ends a statement so that a row that is there already grows. A sum beyond 64 bits stays at the largest number
// rather than refuse the batch for ever.
func addSums(f *family) string {
	var list []string
	for _, m := range sumColumns() {
		list = append(list, fmt.Sprintf("%s = CAST(%s + excluded.%s AS INTEGER)", m, m, m))
	}
	return fmt.Sprintf(" ON CONFLICT (width, bucket, %s) DO UPDATE SET %s", strings.Join(f.keys, ", "), strings.Join(list, ", "))
}

// sumColumns are the names of the measures in the tables of roll-ups.
func sumColumns() []string { return storekit.MeasureNames() }

// inserter inserts rows several at a time: a statement costs as much as some rows.
type inserter struct {
	conn       *conn
	many, one  string
	width      int
	values     []driver.Value
	rowsInMany int
}

const rowsPerStatement = 16

func newInserter(c *conn, begin string, width int, end string) *inserter {
	row := "(?" + strings.Repeat(", ?", width-1) + ")"
	return &inserter{conn: c, width: width, rowsInMany: rowsPerStatement,
		one: begin + row + end, many: begin + row + strings.Repeat(", "+row, rowsPerStatement-1) + end}
}

// row is where to append the values of the next row.
func (i *inserter) row() []driver.Value { return i.values }

// add takes what row gave with a row appended.
func (i *inserter) add(values []driver.Value) error {
	i.values = values
	if len(i.values) < i.width*i.rowsInMany {
		return nil
	}
	_, err := i.conn.exec(i.many, i.values...)
	i.values = i.values[:0]
	return err
}

// flush inserts what is left.
func (i *inserter) flush() error {
	for n := 0; n < len(i.values); n += i.width {
		if _, err := i.conn.exec(i.one, i.values[n:n+i.width]...); err != nil {
			return err
		}
	}
	i.values = i.values[:0]
	return nil
}
