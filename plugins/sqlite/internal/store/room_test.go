package store

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	wire "github.com/picosnitch/picosnitch/sdk/proto"
	"github.com/picosnitch/picosnitch/test/need"
)

// fillUp leaves no room in a directory; free makes some again.
func fillUp(t *testing.T, directory string) (free func()) {
	t.Helper()
	path := filepath.Join(directory, "ballast")
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	for err == nil {
		_, err = f.Write(make([]byte, 4096))
	}
	_ = f.Close() // its last write was refused
	return func() {
		if err := os.Remove(path); err != nil {
			t.Fatal(err)
		}
	}
}

func TestAFullDiskAtTheStartIsWaitedFor(t *testing.T) {
	t.Parallel()
	for name, before := range map[string]func(t *testing.T, s *Store, g *generator){
		"a file that was closed": func(t *testing.T, s *Store, _ *generator) {
			if err := s.Drain(t.Context()); err != nil {
				t.Fatal(err)
			}
		},
		"no file": func(t *testing.T, s *Store, g *generator) {
			if err := s.Drain(t.Context()); err != nil {
				t.Fatal(err)
			}
			if err := os.Remove(s.path); err != nil {
				t.Fatal(err)
			}
			*g = *newGenerator(1)
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			directory := need.Disk(t, "size=2m")
			g := newGenerator(1)
			first := open(t, directory)
			apply(t, first, g.Batch(10))
			before(t, first, g)
			_, err := os.Stat(first.path)
			there := err == nil
			free := fillUp(t, directory)

			s := open(t, directory)
			if err := s.Health(t.Context()); err == nil || !strings.Contains(err.Error(), "no space left") {
				t.Errorf("health: %v, want the reason", err)
			}
			marks, err := s.Watermarks(t.Context())
			if err != nil || len(marks) > 0 && marks[0].Sequence != 10 {
				t.Errorf("watermarks %v, %v", marks, err)
			}
			err = s.Query(t.Context(), &wire.Query{By: []string{"exe"}}, func(*wire.QueryPage) error { return nil })
			if there != (err == nil) || there != (len(marks) == 1) {
				t.Errorf("with a file %v: %d watermarks, query: %v", there, len(marks), err)
			}
			b := g.Batch(10)
			wantRetry(t, s.Apply(t.Context(), b), "no space left")
			free()
			apply(t, s, b)
			if err := s.Health(t.Context()); err != nil {
				t.Errorf("health with room: %v", err)
			}
			want := "10"
			if there {
				want = "20"
			}
			wantValue(t, s, want, "SELECT count(*) FROM connections")
		})
	}
}
