package store

import (
	"fmt"
	"strings"
)

// settle makes the wide roll-ups of all spans that have ended when a window of the file ends at newest: of each width those
// that lie after what was settled before, summed up from the next narrower one. So most of them are written once, rather than
// with every batch. What comes later for a span that is settled is added by [tally.write].
func settle(c *conn, newest int64) error {
	settled, _, err := c.number("SELECT value FROM state WHERE name = 'settled'")
	if err != nil {
		return fmt.Errorf("settle roll-ups: %w", err)
	}
	before, now := seconds(settled), floor(seconds(newest), quarterWidth)
	if now <= before {
		return nil
	}
	for _, f := range families() {
		narrower := f.direct[len(f.direct)-1]
		for _, width := range f.wide {
			if _, err := c.exec(widenSQL(&f), narrower, width, floor(before, width), floor(now, width)); err != nil {
				return fmt.Errorf("settle %s: %w", f.table, err)
			}
			narrower = width
		}
	}
	if _, err := c.exec("UPDATE state SET value = ? WHERE name = 'settled'", now*second); err != nil {
		return fmt.Errorf("settle roll-ups: %w", err)
	}
	return nil
}

// widenSQL adds the rows of width ?1 whose buckets lie from ?3 on and before ?4 to those of width ?2.
func widenSQL(f *family) string {
	return fmt.Sprintf("INSERT INTO %[1]s SELECT ?2, bucket - bucket %% ?2, %[2]s, %[3]s FROM %[1]s "+
		"WHERE width = ?1 AND bucket >= ?3 AND bucket < ?4%[4]s", f.table, strings.Join(f.keys, ", "), strings.Join(sumColumns(), ", "), addSums(f))
}
