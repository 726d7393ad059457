package store

import (
	"context"
	"fmt"
	"strings"
	"testing"

	"github.com/picosnitch/picosnitch/sdk"
	"github.com/picosnitch/picosnitch/test/dbserver"
)

// TestStore runs on a server of each kind: first what can share one, at the same time, then what kills it.
func TestStore(t *testing.T) {
	t.Parallel()
	for kind, begin := range map[string]func(testing.TB) *dbserver.Server{
		"PostgreSQL": dbserver.PostgreSQL, "MariaDB": dbserver.MariaDB,
	} {
		t.Run(kind, func(t *testing.T) {
			t.Parallel()
			server := begin(t)
			t.Run("cases", func(t *testing.T) {
				for _, cases := range []map[string]func(*testing.T, *dbserver.Server){applyCases(), queryCases()} {
					for name, run := range cases {
						t.Run(name, func(t *testing.T) {
							t.Parallel()
							run(t, server)
						})
					}
				}
			})
			t.Run("connections that the server ended are replaced", func(t *testing.T) { connectionsEnded(t, server) })
			t.Run("a full disk is waited for", func(t *testing.T) { fullDisk(t, server) })
			t.Run("nothing is lost or stored twice when the server is killed", func(t *testing.T) { serverKilled(t, server) })
			t.Run("a server that is away at start is waited for", func(t *testing.T) { serverAway(t, server) })
		})
	}
}

// tableName is a name that no other test has.
func tableName(t testing.TB) string {
	_, name, _ := strings.Cut(t.Name(), "/cases/")
	return strings.ToLower(strings.NewReplacer(" ", "_", "/", "_", "-", "_").Replace(name))
}

// ours are settings for the administrator and a table of the test's own.
func ours(t testing.TB, s *dbserver.Server) string {
	return s.SocketConfig(fmt.Sprintf(`, "table_name": %q`, tableName(t)))
}

// open configures a store; it is drained when the test ends.
func open(t testing.TB, config string) *Store {
	t.Helper()
	s := New()
	if err := s.Configure(t.Context(), sdk.Settings{Config: []byte(config), HostID: [16]byte{1}}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Drain(context.Background()); err != nil {
			t.Errorf("drain: %v", err)
		}
	})
	return s
}

// healthy fails the test if the store says that something is wrong.
func healthy(t testing.TB, s *Store) {
	t.Helper()
	if err := s.Health(t.Context()); err != nil {
		t.Fatalf("health: %v", err)
	}
}
