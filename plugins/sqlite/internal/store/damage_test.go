package store

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/picosnitch/picosnitch/sdk"
	wire "github.com/picosnitch/picosnitch/sdk/proto"
)

// damaged is a directory with a file whose table or index of a name begins with a page of nonsense.
func damaged(t *testing.T, name string) string {
	t.Helper()
	directory := t.TempDir()
	s, err := configure(t, directory, func(s *sdk.Settings) { s.Config = []byte(`{"retention_days": 0}`) })
	if err != nil {
		t.Fatal(err)
	}
	apply(t, s, newGenerator(1).Batch(300))
	page, found, err := s.writer.conn.number("SELECT rootpage FROM sqlite_schema WHERE name = ?", name)
	if err != nil || !found {
		t.Fatalf("%s: %v, %v", name, found, err)
	}
	if err := s.Drain(t.Context()); err != nil {
		t.Fatal(err)
	}
	f, err := os.OpenFile(s.path, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if _, err := f.WriteAt(bytes.Repeat([]byte{0xee}, 4096), (page-1)*4096); err != nil {
		t.Fatal(err)
	}
	return directory
}

// wantAnew checks that the damaged file lies aside, and that the new one takes rows from the first on.
func wantAnew(t *testing.T, s *Store) {
	t.Helper()
	if aside, _ := filepath.Glob(s.path + ".corrupt-*Z"); len(aside) != 1 {
		t.Errorf("set aside: %q", aside)
	} else if err := s.Health(t.Context()); err == nil || !strings.Contains(err.Error(), "set aside as "+aside[0]) {
		t.Errorf("health: %v", err)
	}
	apply(t, s, newGenerator(1).Batch(100))
	wantValue(t, s, "100", "SELECT count(*) FROM flows")
}

func TestAFileWhoseWatermarksAreDamagedIsBegunAnew(t *testing.T) {
	t.Parallel()
	s := open(t, damaged(t, "epochs"))
	if marks, err := s.Watermarks(t.Context()); err != nil || len(marks) > 0 {
		t.Fatalf("got %v, %v, want none", marks, err)
	}
	wantAnew(t, s)
}

func TestAFileThatRetentionFindsDamagedIsBegunAnew(t *testing.T) {
	t.Parallel()
	s := open(t, damaged(t, "gaps_time"))
	for more := true; more; {
		var err error
		if more, err = s.step(t.Context(), time.Unix(0, start).Add(time.Hour)); err != nil {
			t.Fatal(err)
		}
	}
	wantAnew(t, s)
}

func TestDamageIsAFindingWhereverItLies(t *testing.T) {
	t.Parallel()
	for _, name := range []string{"epochs", "flows", "gaps_time", "sqlite_autoindex_texts_1", "program_sums"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s, err := configure(t, damaged(t, name), func(s *sdk.Settings) { s.ReadOnly = true })
			if err != nil {
				t.Fatal(err)
			}
			var findings []string
			err = s.Check(t.Context(), func(p *wire.CheckPage) error {
				findings = append(findings, p.GetFindings()...)
				return nil
			})
			if err != nil || !strings.Contains(strings.Join(findings, "\n"), "damaged") {
				t.Errorf("got %v, %q", err, findings)
			}
		})
	}
}
