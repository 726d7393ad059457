package store

import (
	"database/sql/driver"
	"fmt"
	"sync"
	"time"
	_ "time/tzdata" // the sandbox has no zoneinfo

	"modernc.org/sqlite"
)

const (
	hour = int64(time.Hour)
	day  = 24 * hour
)

// newDriver makes a driver with the functions of queries: bucket(time, width, zone) is the start of the bucket that a
// time lies in, tick(id, rows) tells how far a scan is.
func newDriver(running *scans) (*sqlite.Driver, error) {
	d := &sqlite.Driver{}
	z := &zones{known: make(map[string]*time.Location)}
	err := d.RegisterDeterministicScalarFunction("bucket", 3, func(_ *sqlite.FunctionContext, args []driver.Value) (driver.Value, error) {
		t, isTime := args[0].(int64)
		width, isWidth := args[1].(int64)
		name, isName := args[2].(string)
		if !isTime || !isWidth || !isName || width <= 0 {
			return nil, fmt.Errorf("bucket(%v, %v, %v): want time, width > 0 and zone", args[0], args[1], args[2])
		}
		zone, err := z.load(name)
		if err != nil {
			return nil, err
		}
		return bucketStart(t, width, zone), nil
	})
	if err == nil {
		err = d.RegisterScalarFunction("tick", 2, func(_ *sqlite.FunctionContext, args []driver.Value) (driver.Value, error) {
			return running.tick(args)
		})
	}
	if err != nil {
		return nil, fmt.Errorf("register function: %w", err)
	}
	return d, nil
}

// zones remembers the zones that queries named.
type zones struct {
	mu    sync.Mutex
	known map[string]*time.Location
}

func (z *zones) load(name string) (*time.Location, error) {
	z.mu.Lock()
	defer z.mu.Unlock()
	if zone, ok := z.known[name]; ok {
		return zone, nil
	}
	zone, err := loadZone(name)
	if err != nil {
		return nil, err
	}
	z.known[name] = zone // bounded: there are some 600 zones
	return zone, nil
}

// loadZone is time.LoadLocation without "Local", which is the plugin's own affair.
func loadZone(name string) (*time.Location, error) {
	if name == "Local" {
		return nil, fmt.Errorf("zone %q: name one, such as Europe/Berlin", name)
	}
	return time.LoadLocation(name)
}

// bucketStart is the start of the bucket of width ns that t lies in, as clocks in the zone have it.
//
// Up to an hour, buckets are cut from the time with its offset, so that the hour that happens twice in autumn makes two
// buckets. Longer ones begin at the same time of day the whole year. Whole days begin at midnight, whole weeks on Monday.
func bucketStart(t, width int64, zone *time.Location) int64 {
	at := time.Unix(0, t).In(zone)
	_, seconds := at.Zone()
	offset := int64(seconds) * int64(time.Second)
	if width <= hour {
		return floor(t+offset, width) - offset
	}
	origin := int64(0)
	if width%(7*day) == 0 {
		origin = 4 * day // 5 January 1970 was a Monday
	}
	local := floor(t+offset-origin, width) + origin
	wall := time.Unix(0, local).UTC()
	start := time.Date(wall.Year(), wall.Month(), wall.Day(), wall.Hour(), wall.Minute(), wall.Second(), wall.Nanosecond(), zone)
	return start.UnixNano()
}

// floor rounds n down to a multiple of width, also below zero.
func floor(n, width int64) int64 {
	rest := n % width
	if rest < 0 {
		rest += width
	}
	return n - rest
}
