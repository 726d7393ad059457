package store

import (
	"fmt"
	"math"
	"strings"
	"time"
	_ "time/tzdata" // the sandbox has no zoneinfo

	"github.com/picosnitch/picosnitch/sdk"
)

const (
	hour = int64(time.Hour)
	day  = 24 * hour
)

// maxTransitions bounds how often the clocks of a zone change in a query: twice a year for centuries.
const maxTransitions = 600

// buckets cuts time into pieces of equal length, as clocks in a zone have it. Up to an hour they are cut from the time
// with its offset, so that the hour that happens twice in autumn makes two. Longer ones begin at the same time of day the
// whole year: the server groups by the time on the wall, and start makes a moment of it. Whole days begin at midnight,
// whole weeks on Monday.
type buckets struct {
	width  int64
	zone   *time.Location
	ranges []offsetRange
}

// offsetRange is a span of time in which the zone has one offset.
type offsetRange struct {
	until  int64 // UTC ns, exclusive
	offset int64 // ns east of UTC
}

// newBuckets prepares for times from first to last. Its errors are [sdk.ErrQuery].
func newBuckets(width int64, name string, first, last int64) (buckets, error) {
	if width < 0 {
		return buckets{}, fmt.Errorf("%w: bucket %d ns is negative", sdk.ErrQuery, width)
	}
	zone, err := time.LoadLocation(name)
	if err != nil || name == "Local" {
		return buckets{}, fmt.Errorf("%w: zone %q is not known; name one such as Europe/Berlin", sdk.ErrQuery, sdk.EscapeString(name))
	}
	b := buckets{width: width, zone: zone}
	for at := time.Unix(0, first).In(zone); ; {
		_, seconds := at.Zone()
		_, end := at.ZoneBounds()
		r := offsetRange{until: math.MaxInt64, offset: int64(seconds) * int64(time.Second)}
		if end.IsZero() || end.After(time.Unix(0, last)) || len(b.ranges) == maxTransitions {
			b.ranges = append(b.ranges, r)
			return b, nil
		}
		r.until = end.UnixNano()
		b.ranges = append(b.ranges, r)
		at = end
	}
}

// origin is where buckets longer than an hour are counted from, in the time on the wall.
func (b buckets) origin() int64 {
	if b.width > hour && b.width%(7*day) == 0 {
		return 4 * day // 5 January 1970 was a Monday
	}
	return 0
}

// expression is the key of the bucket that the time t lies in. All that stands in it are numbers of ours.
func (b buckets) expression(t string) string {
	offset := b.offset(t)
	local := fmt.Sprintf("(%s + %s - %d)", t, offset, b.origin())
	// The remainder has the sign of the time, which may lie before 1970.
	key := fmt.Sprintf("(%[1]s - ((%[1]s %% %[2]d) + %[2]d) %% %[2]d + %[3]d", local, b.width, b.origin())
	if b.width <= hour {
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
	if b.width <= hour {
		return key
	}
	wall := time.Unix(0, key).UTC()
	return time.Date(wall.Year(), wall.Month(), wall.Day(), wall.Hour(), wall.Minute(), wall.Second(), wall.Nanosecond(),
		b.zone).UnixNano()
}
