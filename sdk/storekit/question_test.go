package storekit

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/picosnitch/picosnitch/sdk"
	wire "github.com/picosnitch/picosnitch/sdk/proto"
)

func TestBucketsFollowTheZone(t *testing.T) {
	t.Parallel()
	const layout = "2006-01-02 15:04 -0700"
	for _, c := range []struct {
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
		zone, err := Zone(c.zone)
		if err != nil {
			t.Fatal(err)
		}
		at, err := time.Parse(layout, c.at)
		if err != nil {
			t.Fatal(err)
		}
		got := time.Unix(0, Buckets{Width: int64(c.width), Zone: zone}.Start(at.UnixNano())).In(zone).Format(layout)
		if got != c.want {
			t.Errorf("%s in %q by %v: got %s, want %s", c.at, c.zone, c.width, got, c.want)
		}
	}
}

func TestWhatNoStoreAnswersIsRefused(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		query *wire.Query
		want  string // "": fine
	}{
		{&wire.Query{}, ""}, {&wire.Query{Bucket: 5, Zone: "Asia/Kolkata"}, ""}, {&wire.Query{Others: true}, ""},
		{&wire.Query{Bucket: -1}, "negative"}, {&wire.Query{Bucket: 5, Others: true}, "others"},
		{&wire.Query{Zone: "Mars/Olympus"}, "zone"}, {&wire.Query{Zone: "Local"}, "zone"},
	} {
		b, err := Check(test.query)
		if test.want == "" && (err != nil || b.Width != test.query.GetBucket()) ||
			test.want != "" && (!errors.Is(err, sdk.ErrQuery) || !strings.Contains(err.Error(), test.want)) {
			t.Errorf("%v: got %v, %v, want %q", test.query, b, err, test.want)
		}
	}
	for _, q := range []*wire.Query{{By: []string{"exe"}}, {Where: compare("a")}, {Bucket: 1}, {Totals: true}, {Others: true}} {
		if err := CheckRecords(q); !errors.Is(err, sdk.ErrQuery) {
			t.Errorf("%v: got %v, want %v", q, err, sdk.ErrQuery)
		}
	}
	if err := CheckRecords(&wire.Query{Start: 1, End: 2, Limit: 3, Cursor: []byte("x")}); err != nil {
		t.Error(err)
	}
}

func TestAnAnswerIsLimited(t *testing.T) {
	t.Parallel()
	for asked, want := range map[uint32]int{0: 1000, 1: 1, 1_000_000: 1_000_000, 1<<32 - 1: 1_000_000} {
		if got := Limit(&wire.Query{Limit: asked}); got != want {
			t.Errorf("%d: got %d, want %d", asked, got, want)
		}
	}
}

func TestAColumnThatIsNotThereIsSaidWithThoseThatAre(t *testing.T) {
	t.Parallel()
	columns := map[string]int{"b": 2, "a": 1}
	if c, err := Lookup(columns, "b"); c != 2 || err != nil {
		t.Errorf("got %d, %v", c, err)
	}
	if _, err := Lookup(columns, "x\n"); !errors.Is(err, sdk.ErrQuery) || !strings.Contains(err.Error(), `"x\\x0a"; columns are a, b`) {
		t.Errorf("got %v", err)
	}
}
