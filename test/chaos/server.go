package chaos

import (
	"context"
	"errors"
	"fmt"
	"os/exec"
	"strings"
	"testing"

	"github.com/picosnitch/picosnitch/test/dbserver"
)

// server is a PostgreSQL server of the world's own.
type server struct{ *dbserver.Server }

// newServer starts one, until t ends.
func newServer(t *testing.T) *server {
	t.Helper()
	return &server{dbserver.PostgreSQL(t)}
}

// settings are for `DB sql server`.
func (s *server) settings() map[string]any {
	return map[string]any{
		"client": "psycopg", "host": "127.0.0.1", "port": s.Port, "user": "admin", "password": "admin", "database": "picosnitch",
		"sslmode": "require", "connect_timeout": 5,
	}
}

// read asks for the rows of a case and for all gaps, as lines of JSON.
func (s *server) read(ctx context.Context, directory string) (contents, error) {
	var out contents
	for kind, table := range map[string]string{"flow": "connections", "gap": "connections_gaps"} {
		cmd := s.Client(ctx)
		cmd.Stdin = strings.NewReader(fmt.Sprintf(`SELECT to_jsonb(r) || '{"kind":"%s"}' FROM %q r`, kind, table))
		raw, err := cmd.Output()
		if err != nil {
			return contents{}, fmt.Errorf("ask SQL server: %w%s", err, saidOf(err))
		}
		if err := out.addLines(raw, directory); err != nil {
			return contents{}, fmt.Errorf("ask SQL server: %w", err)
		}
	}
	return out, nil
}

// saidOf is what a program that failed wrote.
func saidOf(err error) string {
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		return ": " + string(exit.Stderr)
	}
	return ""
}

func (c *contents) addLines(raw []byte, directory string) error {
	for l, err := range decodeLines(raw) {
		if err != nil {
			return err
		}
		c.add(l, directory)
	}
	return nil
}
