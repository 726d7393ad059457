package store

import (
	"fmt"
	"math"
	"strings"
	"time"

	"github.com/picosnitch/picosnitch/sdk/storekit"
)

// maxTransitions bounds how often the clocks of a zone change in a query: twice a year for centuries.
const maxTransitions = 600

// buckets says in SQL how time is cut into the pieces of a query. The server groups longer ones by the time on the wall,
// and start makes a moment of it.
type buckets struct {
	storekit.Buckets
	ranges []offsetRange
}

// offsetRange is a span of time in which the zone has one offset.
type offsetRange struct {
	until  int64 // UTC ns, exclusive
	offset int64 // ns east of UTC
}

// reach finds the offsets of the zone for times from first to last.
func (b *buckets) reach(first, last int64) {
	for at := time.Unix(0, first).In(b.Zone); ; {
		_, seconds := at.Zone()
		_, end := at.ZoneBounds()
		r := offsetRange{until: math.MaxInt64, offset: int64(seconds) * int64(time.Second)}
		if end.IsZero() || end.After(time.Unix(0, last)) || len(b.ranges) == maxTransitions {
			b.ranges = append(b.ranges, r)
			return
		}
		r.until = end.UnixNano()
		b.ranges = append(b.ranges, r)
		at = end
	}
}

// expression is the key of the bucket that the time t lies in. All that stands in it are numbers of ours.
func (b buckets) expression(t string) string {
	offset := b.offset(t)
	local := fmt.Sprintf("(%s + %s - %d)", t, offset, b.Origin())
	// The remainder has the sign of the time, which may lie before 1970.
	key := fmt.Sprintf("(%[1]s - ((%[1]s %% %[2]d) + %[2]d) %% %[2]d + %[3]d", local, b.Width, b.Origin())
	if !b.ByClock() {
		key += " - " + offset
	}
	return key + ")"
}

// offset is the zone's offset at t.
func (b buckets) offset(t string) string {
	if len(b.ranges) == 1 {
		return fmt.Sprintf("(%d)", b.ranges[0].offset)
	}
	var text strings.Builder
	text.WriteString("(CASE")
	for _, r := range b.ranges[:len(b.ranges)-1] {
		fmt.Fprintf(&text, " WHEN %s < %d THEN %d", t, r.until, r.offset)
	}
	fmt.Fprintf(&text, " ELSE %d END)", b.ranges[len(b.ranges)-1].offset)
	return text.String()
}

// start is the moment at which the bucket with this key begins, UTC ns.
func (b buckets) start(key int64) int64 {
	if !b.ByClock() {
		return key
	}
	return b.Moment(key)
}
