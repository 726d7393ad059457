package store

import (
	"context"
	"database/sql"
	"fmt"
	"testing"

	"github.com/picosnitch/picosnitch/sdk"
)

// open configures a store in a directory; it is drained when the test ends.
func open(t testing.TB, directory string) *Store {
	t.Helper()
	s := New()
	settings := sdk.Settings{Directory: directory, Config: []byte(`{"retention_days": 0}`), HostID: [16]byte{1}}
	if err := s.Configure(t.Context(), settings); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Drain(context.Background()); err != nil {
			t.Errorf("drain: %v", err)
		}
	})
	return s
}

// reader opens the store's file as another program would.
func reader(t testing.TB, s *Store, parameters string) *sql.DB {
	t.Helper()
	db := sql.OpenDB(connector{s.driver, dsn(s.path, parameters)})
	t.Cleanup(func() { db.Close() })
	return db
}

// value reads one value as text.
func value(t testing.TB, s *Store, text string, args ...any) string {
	t.Helper()
	var v any
	if err := s.readers.Load().QueryRowContext(t.Context(), text, args...).Scan(&v); err != nil {
		t.Fatalf("%s: %v", text, err)
	}
	return fmt.Sprint(v)
}

func wantValue(t testing.TB, s *Store, want, text string, args ...any) {
	t.Helper()
	if got := value(t, s, text, args...); got != want {
		t.Errorf("%s: got %s, want %s", text, got, want)
	}
}
