package store

import (
	"database/sql/driver"
	"fmt"
	"sync"
	"time"

	"modernc.org/sqlite"

	"github.com/picosnitch/picosnitch/sdk/storekit"
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
		return storekit.Buckets{Width: width, Zone: zone}.Start(t), nil
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
	zone, err := storekit.Zone(name)
	if err != nil {
		return nil, err
	}
	z.known[name] = zone // bounded: there are some 600 zones
	return zone, nil
}

// floor rounds n down to a multiple of width, also below zero.
func floor(n, width int64) int64 {
	rest := n % width
	if rest < 0 {
		rest += width
	}
	return n - rest
}
