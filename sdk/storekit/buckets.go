package storekit

import (
	"fmt"
	"time"
	_ "time/tzdata" // a plugin's sandbox has no zoneinfo

	"github.com/picosnitch/picosnitch/sdk"
)

const (
	hour = int64(time.Hour)
	week = 7 * 24 * hour
)

// Buckets cuts time into pieces of equal length, as clocks in a zone have it. Up to an hour they are cut from the time with
// its offset, so that the hour that happens twice in autumn makes two. Longer ones begin at the same time of day the whole
// year: whole days at midnight, whole weeks on Monday.
type Buckets struct {
	Width int64 // ns; 0: there are none
	Zone  *time.Location
}

func newBuckets(width int64, zone string) (b Buckets, err error) {
	if width < 0 {
		return b, fmt.Errorf("%w: bucket %d ns is negative", sdk.ErrQuery, width)
	}
	b.Width = width
	b.Zone, err = Zone(zone)
	return b, err
}

// Zone is the zone that a query names, such as Europe/Berlin; "" is UTC. "Local", which is the plugin's own affair, is
// refused.
func Zone(name string) (*time.Location, error) {
	zone, err := time.LoadLocation(name)
	if err != nil || name == "Local" {
		return nil, fmt.Errorf("%w: zone %q is not known; name one such as Europe/Berlin", sdk.ErrQuery, sdk.EscapeString(name))
	}
	return zone, nil
}

// ByClock says whether buckets follow the clock on the wall, not its offset: they are longer than an hour.
func (b Buckets) ByClock() bool { return b.Width > hour }

// Origin is where buckets by the clock are counted from, in ns on the wall since 1970: a Monday if they are whole weeks.
func (b Buckets) Origin() int64 {
	if b.ByClock() && b.Width%week == 0 {
		return 4 * 24 * hour // 5 January 1970
	}
	return 0
}

// Start is the start of the bucket that a time lies in; both are ns UTC.
func (b Buckets) Start(t int64) int64 {
	_, seconds := time.Unix(0, t).In(b.Zone).Zone()
	wall := t + int64(seconds)*int64(time.Second)
	if !b.ByClock() {
		return floor(wall, b.Width) - (wall - t)
	}
	return b.Moment(floor(wall-b.Origin(), b.Width) + b.Origin())
}

// Moment is when the clock on the wall shows a time, given as ns since 1970 as if it were UTC. The answer is ns UTC.
func (b Buckets) Moment(wall int64) int64 {
	w := time.Unix(0, wall).UTC()
	return time.Date(w.Year(), w.Month(), w.Day(), w.Hour(), w.Minute(), w.Second(), w.Nanosecond(), b.Zone).UnixNano()
}

// floor rounds n down to a multiple of width, also below zero.
func floor(n, width int64) int64 {
	rest := n % width
	if rest < 0 {
		rest += width
	}
	return n - rest
}
