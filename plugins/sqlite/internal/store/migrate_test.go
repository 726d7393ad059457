package store

import (
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/picosnitch/picosnitch/sdk"
)

// TestAFileOfVersion100IsBroughtToThisOne uses a dump of a file that version 100 wrote: hostile texts, odd flows, and some
// traffic.
func TestAFileOfVersion100IsBroughtToThisOne(t *testing.T) {
	t.Parallel()
	directory := t.TempDir()
	makeFile(t, filepath.Join(directory, fileName), string(contents(t, "testdata/version100.sql")))
	s := open(t, directory)
	for _, b := range []*sdk.Batch{hostileBatch(), oddBatch()} {
		for r, row := range sdk.Rows(b.Batch) {
			want := make(map[string]any)
			for i, c := range sdk.Columns() {
				want[c.Name] = row[i].Any()
			}
			got := viewRow(t, s, want["epoch"], r.GetSequence())
			delete(got, "id")
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("record %d (-SDK +view):\n%s", r.GetSequence(), diff)
			}
		}
	}
	wantValue(t, s, "55", "SELECT count(*) FROM connections")
	wantValue(t, s, "2", "SELECT count(*) FROM flow_domains")
	wantSound(t, s)
	apply(t, s, batch(1, uint64(len(hostile())+1), flow(5, process("/bin/later", "later", 9), 1, 1, "1.1.1.1", "later.example.org")))
	wantValue(t, s, "56", "SELECT count(*) FROM connections")
	wantSound(t, s)
}

// wantSound checks references, pages and roll-ups.
func wantSound(t *testing.T, s *Store) {
	t.Helper()
	wantValue(t, s, "0", "SELECT count(*) FROM pragma_foreign_key_check")
	wantValue(t, s, "ok", "PRAGMA integrity_check")
	for _, f := range families() {
		for _, width := range f.widths {
			wantValue(t, s, "0", differenceSQL(f, width))
		}
	}
}
