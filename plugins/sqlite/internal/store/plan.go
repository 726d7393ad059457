package store

import (
	"context"
	"database/sql"
	"encoding/hex"
	"fmt"
	"math"
	"slices"
	"strings"
	"time"

	wire "github.com/picosnitch/picosnitch/sdk/proto"
	"github.com/picosnitch/picosnitch/sdk/storekit"
)

const (
	second    = int64(time.Second)
	everLow   = math.MinInt64 + 1
	everHigh  = math.MaxInt64
	boundless = int64(1) << 62 // beyond it a range has no end worth rounding
)

// span is a part of a query's range, and where it is read: from roll-ups of some width in seconds, or with width 0 row
// by row. Times are UTC ns, to is exclusive.
type span struct{ width, from, to int64 }

// plan says where a query is answered from: the coarsest roll-ups that know every column it names and whose edges fall on
// its own, and rows for what is left. No family: rows alone.
type plan struct {
	family *family
	spans  []span
}

// facts are what a plan depends on beside the query.
type facts struct {
	floor, minutes, settled int64 // see state
	oldest, newest          int64 // ends of the first and last window
	host                    string
	hosts                   int
}

func readFacts(ctx context.Context, tx *sql.Tx) (f facts, err error) {
	var host []byte
	err = tx.QueryRowContext(ctx, `SELECT (SELECT value FROM state WHERE name = 'floor'),
(SELECT value FROM state WHERE name = 'minutes'), (SELECT value FROM state WHERE name = 'settled'), coalesce((SELECT min(ended) FROM windows), 0),
coalesce((SELECT max(ended) FROM windows), 0), (SELECT count(DISTINCT host_id) FROM epochs),
coalesce((SELECT host_id FROM epochs LIMIT 1), x'')`).Scan(&f.floor, &f.minutes, &f.settled, &f.oldest, &f.newest, &f.hosts, &host)
	if err != nil {
		return f, fmt.Errorf("read the state: %w", err)
	}
	f.host = hex.EncodeToString(host)
	return f, nil
}

// rangeOf is the range of a query; 0 means without a beginning or end.
func rangeOf(q *wire.Query) (from, to int64) {
	from, to = q.GetStart(), q.GetEnd()
	if from == 0 {
		from = everLow
	}
	if to == 0 {
		to = everHigh
	}
	return from, to
}

// choose makes the plan of a query, and the columns in terms of the family's rows.
func choose(q *wire.Query, f facts) (plan, map[string]column, error) {
	from, to := rangeOf(q)
	rows := plan{spans: []span{{0, from, to}}}
	carried := make(map[string]column)
	for _, c := range carriedColumns() {
		carried[c.Name] = c
	}
	if f.hosts == 1 {
		carried["host_id"] = column{Column: named("host_id"), value: "'" + f.host + "'"}
	}
	bases := make(map[string]bool)
	for _, name := range append(filterColumns(q.GetWhere(), nil), q.GetBy()...) {
		c, ok := carried[name]
		if !ok {
			return rows, nil, nil
		}
		bases[c.base] = true
	}
	chosen := slices.IndexFunc(families(), func(f family) bool {
		for base := range bases {
			if base != "" && !slices.Contains(f.keys, base) {
				return false
			}
		}
		return true
	})
	fam := families()[chosen] // the last one knows both keys
	widths, err := usable(q, fam.widths(), f)
	if err != nil || len(widths) == 0 {
		return rows, nil, err
	}
	return plan{family: &fam, spans: fam.cover(from, to, widths, f)}, carried, nil
}

// filterColumns appends the columns that a filter names.
func filterColumns(f *wire.Filter, names []string) []string {
	switch k := f.GetKind().(type) {
	case *wire.Filter_Compare:
		return append(names, k.Compare.GetColumn())
	case *wire.Filter_All:
		for _, inner := range k.All.GetFilters() {
			names = filterColumns(inner, names)
		}
	case *wire.Filter_Any:
		for _, inner := range k.Any.GetFilters() {
			names = filterColumns(inner, names)
		}
	case *wire.Filter_Not:
		return filterColumns(k.Not, names)
	}
	return names
}

// usable are the widths of roll-ups whose every row lies in one bucket of the query: that needs buckets of whole widths,
// and a zone that is off UTC by whole widths wherever there are rows.
func usable(q *wire.Query, widths []int64, f facts) ([]int64, error) {
	if q.GetBucket() == 0 {
		return widths, nil
	}
	zone, err := storekit.Zone(q.GetZone())
	if err != nil {
		return nil, err
	}
	from, to := rangeOf(q)
	offsets := offsetsBetween(zone, max(from, f.oldest), min(to, f.newest))
	var list []int64
	for _, width := range widths {
		fits := width <= dayWidth && q.GetBucket()%(width*second) == 0
		for _, offset := range offsets {
			fits = fits && offset%width == 0
		}
		if fits {
			list = append(list, width)
		}
	}
	return list, nil
}

// offsetsBetween are the offsets from UTC, in seconds, that a zone has between two times, and in the two weeks around:
// a bucket begins before the first row of it.
func offsetsBetween(zone *time.Location, from, to int64) []int64 {
	const around = 14 * 24 * time.Hour
	at, end := time.Unix(0, from).Add(-around).In(zone), time.Unix(0, to).Add(around)
	var list []int64
	for {
		_, offset := at.Zone()
		if !slices.Contains(list, int64(offset)) {
			list = append(list, int64(offset))
		}
		_, next := at.ZoneBounds()
		if next.IsZero() || next.After(end) {
			return list
		}
		at = next
	}
}

// cover divides a range among roll-ups of the widths and rows.
func (f *family) cover(from, to int64, widths []int64, known facts) []span {
	if from >= to {
		return nil
	}
	if from < known.floor {
		return append([]span{{0, from, min(to, known.floor)}}, f.cover(known.floor, to, widths, known)...)
	}
	if len(widths) == 0 {
		return []span{{0, from, to}}
	}
	width, finer := widths[len(widths)-1], widths[:len(widths)-1]
	least, most := from, to
	switch {
	case width == minuteWidth:
		least = max(from, known.minutes)
	case slices.Contains(f.wide, width):
		most = min(to, known.settled)
	}
	a, b := ceil(least, width*second), floorOrEver(most, width*second)
	if a >= b {
		return f.cover(from, to, finer, known)
	}
	list := append(f.cover(from, a, finer, known), span{width, a, b})
	return append(list, f.cover(b, to, finer, known)...)
}

// ceil rounds up to a multiple of width; what is as good as endless stays.
func ceil(n, width int64) int64 {
	if n < -boundless || n > boundless {
		return n
	}
	return -floor(-n, width)
}

func floorOrEver(n, width int64) int64 {
	if n < -boundless || n > boundless {
		return n
	}
	return floor(n, width)
}

// seconds is the whole second that a time lies in.
func seconds(ns int64) int64 { return floorOrEver(ns, second) / second }

// bucketExpression is the start of the bucket that the time t lies in. In UTC it is plain arithmetic, which is ten times
// as fast as a function of ours.
func (s *statement) bucketExpression(t string, width int64, zone string) string {
	if zone != "" && zone != "UTC" {
		return fmt.Sprintf("bucket(%s, %s, %s)", t, s.bind(width), s.bind(zone))
	}
	origin, w := storekit.Buckets{Width: width}.Origin(), s.bind(width)
	return fmt.Sprintf("(%[1]s - ((%[1]s - %[2]d) %% %[3]s + %[3]s) %% %[3]s)", t, origin, w)
}

// rolled is the rows of roll-ups in the spans; keys are among the family's.
func (ask *question) rolled(spans []span, keys []string) string {
	var values []string
	for _, p := range spans {
		values = append(values, fmt.Sprintf("(%d, %d, %d)", p.width, seconds(p.from), seconds(p.to)))
	}
	columns := slices.Clone(keys)
	if ask.query.GetBucket() > 0 {
		columns = append(columns, "f.bucket * 1000000000 AS t")
	}
	for i, m := range sumColumns() {
		columns = append(columns, fmt.Sprintf("f.%s AS m%d", m, i))
	}
	return fmt.Sprintf("SELECT %s FROM (VALUES %s) s CROSS JOIN %s f ON f.width = s.column1 AND f.bucket >= s.column2 AND f.bucket < s.column3 AND %s",
		strings.Join(columns, ", "), strings.Join(values, ", "), ask.plan.family.table, ask.carriedCondition)
}

// rowsOf is the sums of the rows that meet a condition, with the keys of a family.
func (ask *question) rowsOf(condition string, keys []string, sign string) string {
	var columns, groups []string
	for _, k := range keys {
		if k == "program" {
			columns = append(columns, "(SELECT program FROM actors WHERE id = f.actor) AS program")
			groups = append(groups, "f.actor")
		} else {
			columns = append(columns, "f."+k+" AS "+k)
			groups = append(groups, "f."+k)
		}
	}
	if ask.query.GetBucket() > 0 {
		columns = append(columns, "(SELECT ended FROM windows WHERE id = f.window) AS t")
		groups = append(groups, "f.window")
	}
	for i, m := range measures() {
		sum := "count(*)"
		if m != "" {
			sum = "sum(f." + m + ")"
		}
		columns = append(columns, fmt.Sprintf("%s%s AS m%d", sign, sum, i))
	}
	return fmt.Sprintf("SELECT %s FROM flows f WHERE %s AND %s%s", strings.Join(columns, ", "), condition, ask.condition, by(groups))
}

// withinSQL is the condition on f that its window ended in a range.
func (s *statement) withinSQL(from, to int64) string {
	return fmt.Sprintf("f.window IN (SELECT id FROM windows WHERE ended >= %s AND ended < %s)", s.bind(from), s.bind(to))
}

// fromRollUps is all that a planned query sums up, before it is grouped by what its dimensions mean. What was stored after
// the first page was made is taken out again.
func (ask *question) fromRollUps(keys []string) string {
	var parts []string
	var rolled []span
	for _, p := range ask.plan.spans {
		if p.width == 0 {
			parts = append(parts, ask.rowsOf(ask.withinSQL(p.from, p.to), keys, ""))
			continue
		}
		rolled = append(rolled, p)
		if ask.continued {
			later := fmt.Sprintf("f.id > %s AND %s", ask.bind(ask.newest), ask.withinSQL(p.from, p.to))
			parts = append(parts, ask.rowsOf(later, keys, "-"))
		}
	}
	if len(rolled) > 0 {
		parts = append(parts, ask.rolled(rolled, keys))
	}
	if len(parts) == 0 { // an empty range
		parts = append(parts, ask.rowsOf("0", keys, ""))
	}
	return strings.Join(parts, " UNION ALL ")
}
