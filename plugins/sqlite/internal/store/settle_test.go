package store

import "testing"

func TestWideRollUpsAreMadeWhenTheirSpanIsOver(t *testing.T) {
	t.Parallel()
	s := open(t, t.TempDir())
	who := process("/bin/a", "a", 1)
	sequence := uint64(0)
	put := func(seconds int64) { // start is noon
		t.Helper()
		sequence++
		apply(t, s, batch(1, sequence, flow(seconds+dayWidth/2, who, 1, 10, "1.1.1.1", "example.org")))
	}
	days := func() string {
		t.Helper()
		return value(t, s, "SELECT coalesce(group_concat(rows, ' '), '') FROM (SELECT rows FROM program_sums WHERE width = 86400 ORDER BY bucket)")
	}
	for _, step := range []struct {
		at   int64 // of the row, seconds after a midnight
		want string
	}{
		{0, ""}, {86400 - 300, ""}, // the first day goes on
		{86400 + 60, "2"},
		{600, "3"}, // late
		{3*86400 + 60, "3 1"},
		{2 * 86400, "3 1 1"},
		{86400 * 40, "3 1 1 1"},
	} {
		put(step.at)
		if got := days(); got != step.want {
			t.Errorf("after a row at %d s: rows by day are %q, want %q", step.at, got, step.want)
		}
		wantSound(t, s)
	}
	wantValue(t, s, "7", "SELECT sum(rows) FROM program_sums WHERE width = 3600")
	wantValue(t, s, "6", "SELECT sum(rows) FROM remote_sums WHERE width = ?", 2*dayWidth)
}
