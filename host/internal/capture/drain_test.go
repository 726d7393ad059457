package capture

import (
	"testing"
	"time"
)

// TestNextDue keeps windows in step, whether one ended early, in time or late.
func TestNextDue(t *testing.T) {
	t.Parallel()
	const interval = 10 * time.Second
	due := time.Unix(100, 0)
	for name, c := range map[string]struct{ now, want time.Time }{
		"early":         {time.Unix(93, 0), time.Unix(100, 0)},
		"in time":       {time.Unix(100, 0), time.Unix(110, 0)},
		"a little late": {time.Unix(104, 0), time.Unix(110, 0)},
		"a window late": {time.Unix(113, 0), time.Unix(123, 0)},
	} {
		if got := nextDue(due, c.now, interval); !got.Equal(c.want) {
			t.Errorf("%s: %v, want %v", name, got.Unix(), c.want.Unix())
		}
	}
}
