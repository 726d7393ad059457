package store

import (
	"fmt"
	"testing"
	"time"

	wire "github.com/picosnitch/picosnitch/sdk/proto"
	"github.com/picosnitch/picosnitch/test/dbserver"
)

// bucketsFollowTheZone stores one flow whose window ends at the time given and asks for a series.
func bucketsFollowTheZone(t *testing.T, server *dbserver.Server) {
	s := open(t, ours(t, server))
	const layout = "2006-01-02 15:04 -0700"
	for i, c := range []struct {
		zone     string
		width    time.Duration
		at, want string
	}{
		{"", 24 * time.Hour, "2026-11-21 23:59 +0000", "2026-11-21 00:00 +0000"},
		{"Europe/Berlin", 24 * time.Hour, "2026-11-21 23:30 +0000", "2026-11-22 00:00 +0100"},
		{"Europe/Berlin", 24 * time.Hour, "2026-03-29 20:00 +0200", "2026-03-29 00:00 +0100"}, // a day of 23 hours
		{"Europe/Berlin", 24 * time.Hour, "2026-10-25 23:30 +0100", "2026-10-25 00:00 +0200"}, // of 25
		{"Europe/Berlin", time.Hour, "2026-10-25 02:30 +0200", "2026-10-25 02:00 +0200"},      // the hour that comes twice
		{"Europe/Berlin", time.Hour, "2026-10-25 02:30 +0100", "2026-10-25 02:00 +0100"},
		{"Europe/Berlin", 6 * time.Hour, "2026-03-29 05:00 +0200", "2026-03-29 00:00 +0100"},
		{"Asia/Kolkata", time.Hour, "2026-01-01 10:20 +0530", "2026-01-01 10:00 +0530"},
		{"", 7 * 24 * time.Hour, "2026-11-22 12:00 +0000", "2026-11-16 00:00 +0000"}, // Monday
		{"", 5 * time.Minute, "1969-12-31 23:58 +0000", "1969-12-31 23:55 +0000"},
	} {
		at, err := time.Parse(layout, c.at)
		if err != nil {
			t.Fatal(err)
		}
		domain := fmt.Sprint("case-", i)
		r := flow(0, process("/bin/a", "a", 1), 1, 1, "1.1.1.1", domain)
		r.GetFlow().Window.End = at.UnixNano()
		apply(t, s, batch(1, uint64(i)+1, r))
		zone, err := time.LoadLocation(c.zone)
		if err != nil {
			t.Fatal(err)
		}
		q := &wire.Query{Bucket: int64(c.width), Zone: c.zone, Where: equal("domain", domain)}
		if err := s.Query(t.Context(), q, func(p *wire.QueryPage) error {
			for _, row := range p.GetRows() {
				if got := time.Unix(0, row.GetBucket()).In(zone).Format(layout); got != c.want {
					t.Errorf("%s in %q by %v: got %s, want %s", c.at, c.zone, c.width, got, c.want)
				}
			}
			if len(p.GetRows()) != 1 {
				t.Errorf("%s: %d rows", c.at, len(p.GetRows()))
			}
			return nil
		}); err != nil {
			t.Fatal(err)
		}
	}
}
