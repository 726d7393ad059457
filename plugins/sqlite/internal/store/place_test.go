package store

import (
	"errors"
	"os"
	"strings"
	"testing"

	"github.com/picosnitch/picosnitch/sdk"
	wire "github.com/picosnitch/picosnitch/sdk/proto"
)

func TestTheDatabaseIsBegunAnewWhenSomebodyDeletedOrReplacedIt(t *testing.T) {
	t.Parallel()
	for name, harm := range map[string]func(path string) error{
		"deleted": func(path string) error {
			return errors.Join(os.Remove(path), os.Remove(path+"-wal"), os.Remove(path+"-shm"))
		},
		"replaced": func(path string) error {
			return errors.Join(os.WriteFile(path+".new", []byte(strings.Repeat("no database ", 99)), 0o600), os.Rename(path+".new", path))
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := open(t, t.TempDir())
			f := func() *wire.Record { return flow(0, process("/bin/a", "a", 1), 1, 1, "1.1.1.1", "") }
			apply(t, s, batch(1, 1, f()))
			if err := harm(s.path); err != nil {
				t.Fatal(err)
			}
			var rewind *sdk.Rewind
			if err := s.Apply(t.Context(), batch(1, 2, f())); !errors.As(err, &rewind) || rewind.Have.Sequence != 0 {
				t.Fatalf("got %v, want to be asked for everything again", err)
			}
			apply(t, s, batch(1, 1, f()), batch(1, 2, f()))
			wantValue(t, s, "2", "SELECT count(*) FROM connections")
			other := reader(t, s, "mode=ro")
			var n int
			if err := other.QueryRow("SELECT count(*) FROM connections").Scan(&n); err != nil || n != 2 {
				t.Errorf("another program sees %d rows, %v", n, err)
			}
		})
	}
}

func TestADeletedWALLosesNothing(t *testing.T) {
	t.Parallel()
	s := open(t, t.TempDir())
	f := func() *wire.Record { return flow(0, process("/bin/a", "a", 1), 1, 1, "1.1.1.1", "") }
	apply(t, s, batch(1, 1, f()), batch(1, 2, f()))
	if err := os.Remove(s.path + "-wal"); err != nil {
		t.Fatal(err)
	}
	next := uint64(3)
	for range 2 { // what was in it may have to be sent again
		err := s.Apply(t.Context(), batch(1, next, f()))
		var rewind *sdk.Rewind
		if errors.As(err, &rewind) {
			for sequence := rewind.Have.Sequence + 1; sequence <= 3; sequence++ {
				apply(t, s, batch(1, sequence, f()))
			}
		} else if err != nil {
			t.Fatal(err)
		}
	}
	wantValue(t, s, "3", "SELECT count(*) FROM connections")
	wantSound(t, s)
}
