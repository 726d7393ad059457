package store

import (
	"fmt"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/picosnitch/picosnitch/sdk"
)

// TestFilesOfOlderVersionsAreBroughtToThisOne uses dumps of files that older versions wrote: hostile texts, odd flows, and
// some traffic.
func TestFilesOfOlderVersionsAreBroughtToThisOne(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		dump string
		rows int
	}{{"testdata/version100.sql", 55}, {"testdata/version101.sql", 35}, {"testdata/version102.sql", 35}} {
		t.Run(filepath.Base(c.dump), func(t *testing.T) {
			t.Parallel()
			directory := t.TempDir()
			makeFile(t, filepath.Join(directory, fileName), string(contents(t, c.dump)))
			s := open(t, directory)
			for _, b := range []*sdk.Batch{hostileBatch(), oddBatch()} {
				wantRecords(t, s, b)
			}
			wantValue(t, s, fmt.Sprint(c.rows), "SELECT count(*) FROM connections")
			wantValue(t, s, "2", "SELECT count(*) FROM flow_domains")
			wantValue(t, s, "1", "SELECT sum(rows) > 0 FROM remote_sums WHERE width = 86400")
			wantSound(t, s)
			apply(t, s, batch(1, uint64(len(hostile())+1), flow(5, process("/bin/later", "later", 9), 1, 1, "1.1.1.1", "later.example.org")))
			wantValue(t, s, fmt.Sprint(c.rows+1), "SELECT count(*) FROM connections")
			wantSound(t, s)
		})
	}
}

// wantRecords compares what the view shows of a batch with the SDK's flat rows.
func wantRecords(t *testing.T, s *Store, b *sdk.Batch) {
	t.Helper()
	for r, row := range sdk.Rows(b.Batch) {
		want := make(map[string]any)
		for i, c := range sdk.Columns() {
			want[c.Name] = row[i].Any()
		}
		got := viewRow(t, s, want["epoch"], r.GetSequence())
		delete(got, "id")
		delete(got, "rowid")
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("record %d (-SDK +view):\n%s", r.GetSequence(), diff)
		}
	}
}

// wantSound checks references, pages and roll-ups.
func wantSound(t *testing.T, s *Store) {
	t.Helper()
	wantValue(t, s, "0", "SELECT count(*) FROM pragma_foreign_key_check")
	wantValue(t, s, "ok", "PRAGMA integrity_check")
	for _, f := range families() {
		for _, width := range f.widths() {
			wantValue(t, s, "0", differenceSQL(f, width))
		}
	}
}
