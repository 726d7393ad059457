package storekit

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/picosnitch/picosnitch/sdk"
	wire "github.com/picosnitch/picosnitch/sdk/proto"
)

const (
	defaultLimit = 1000
	maxLimit     = 1_000_000
)

// Limit is how many rows an answer to q has at the most.
func Limit(q *wire.Query) int {
	if n := q.GetLimit(); n > 0 {
		return int(min(n, maxLimit))
	}
	return defaultLimit
}

// Check finds what is wrong with a query for flows beside the columns that it names. The buckets are those of the query.
func Check(q *wire.Query) (Buckets, error) {
	if q.GetOthers() && q.GetBucket() != 0 {
		return Buckets{}, fmt.Errorf("%w: others cannot be asked for with a bucket", sdk.ErrQuery)
	}
	return newBuckets(q.GetBucket(), q.GetZone())
}

// CheckRecords finds what is wrong with a query for gaps or notices.
func CheckRecords(q *wire.Query) error {
	if len(q.GetBy()) > 0 || q.GetWhere() != nil || len(q.GetOrder()) > 0 || q.GetBucket() != 0 || q.GetTotals() || q.GetOthers() {
		return fmt.Errorf("%w: gaps and notices take a range, a limit and a cursor only", sdk.ErrQuery)
	}
	return nil
}

// Lookup gives the column that a query named; the error lists all that there are.
func Lookup[C any](columns map[string]C, name string) (C, error) {
	c, ok := columns[name]
	if !ok {
		return c, fmt.Errorf("%w: there is no column %q; columns are %s", sdk.ErrQuery, sdk.EscapeString(name),
			strings.Join(slices.Sorted(maps.Keys(columns)), ", "))
	}
	return c, nil
}
