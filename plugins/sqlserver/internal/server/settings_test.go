package server

import (
	"errors"
	"flag"
	"fmt"
	"os"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/picosnitch/picosnitch/sdk"
)

const guide = "../../../../docs/sqlserver.md"

// settingsTable is the table of the guide.
func settingsTable() string {
	var b strings.Builder
	b.WriteString("| Setting | For | Type | Meaning |\n| --- | --- | --- | --- |\n")
	for _, p := range Parameters() {
		clients := strings.Join(p.Clients, ", ")
		if len(p.Clients) == len(Clients()) {
			clients = "all"
		}
		fmt.Fprintf(&b, "| `%s` | %s | %s | %s |\n", p.Name, clients, p.Type, p.Doc)
	}
	return b.String()
}

func TestTheGuideNamesEverySetting(t *testing.T) {
	t.Parallel()
	raw, err := os.ReadFile(guide)
	if err != nil {
		t.Fatal(err)
	}
	before, rest, found := strings.Cut(string(raw), "TestTheGuideNamesEverySetting -->\n")
	table, after, ended := strings.Cut(rest, "<!-- end of settings -->")
	if !found || !ended {
		t.Fatalf("%s has no table of settings", guide)
	}
	if flag.Lookup("update").Value.String() == "true" {
		text := before + "TestTheGuideNamesEverySetting -->\n" + settingsTable() + "<!-- end of settings -->" + after
		if err := os.WriteFile(guide, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	if table != settingsTable() {
		t.Errorf("%s is not up to date; run: go test ./plugins/sqlserver/internal/server -update", guide)
	}
}

func TestMain(m *testing.M) {
	flag.Bool("update", false, "write the guide's table anew")
	flag.Parse()
	os.Exit(m.Run())
}

func TestWrongSettingsAreNamedAndSecretsAreNot(t *testing.T) {
	t.Parallel()
	const secret = "hunter2"
	for _, c := range []struct{ config, want string }{
		{`[]`, "not a JSON object"},
		{`{}`, "client must be one of mariadb"},
		{`{"client": "oracle"}`, "client must be one of mariadb"},
		{`{"client": "psycopg", "pasword": "hunter2"}`, `no setting "pasword"; there are client, table_name`},
		{`{"client": "psycopg", "unix_socket": "/x"}`, `no setting "unix_socket"`},
		{`{"client": "pymysql", "sslmode": "require"}`, `no setting "sslmode"`},
		{`{"client": "mariadb", "charset": "utf8mb4"}`, `no setting "charset"`},
		{`{"client": "psycopg", "port": 70000}`, "port must be from 1 to 65535"},
		{`{"client": "psycopg", "port": "hunter2"}`, "port must be a whole number"},
		{`{"client": "psycopg", "password": 5}`, "password must be a text in quotes"},
		{`{"client": "psycopg", "password": null}`, "password must be a text in quotes"},
		{`{"client": "psycopg", "table_name": "x; DROP TABLE y"}`, "table_name must be a name"},
		{`{"client": "psycopg", "table_name": "a.b.c"}`, "table_name must be a name"},
		{`{"client": "psycopg", "table_name": "` + strings.Repeat("x", 41) + `"}`, "at most 40"},
		{`{"client": "psycopg", "host": "db", "password": "hunter2", "sslmode": "some"}`, "sslmode is invalid"},
		{`{"client": "psycopg", "host": "db", "password": "hunter2", "sslmode": "verify-full", "sslrootcert": "/none"}`, "/none"},
		{`{"client": "psycopg", "client_encoding": "latin1"}`, "client_encoding can only be utf8"},
		{`{"client": "pymysql", "password": "hunter2", "passwd": "other"}`, "password is there twice"},
		{`{"client": "pymysql", "ssl_ca": "/none"}`, "ssl_ca: open /none"},
		{`{"client": "pymysql", "ssl": true, "ssl_disabled": true}`, "ssl_disabled"},
		{`{"client": "pymysql", "ssl": {"ca": "/none", "verify": 1}}`, "ssl"},
		{`{"client": "mariadb", "ssl": {"ca": "/none"}}`, "ssl must be true or false"},
		{`{"client": "mariadb", "ssl_cert": "/none"}`, "of use only together"},
		{`{"client": "mariadb", "connect_timeout": -1}`, "connect_timeout must be from 0"},
		{`{"client": "pymysql", "max_allowed_packet": 5}`, "max_allowed_packet must be from"},
	} {
		_, err := Parse([]byte(c.config))
		if !errors.Is(err, sdk.ErrConfig) || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: got %v, want %q", c.config, err, c.want)
		}
		if err != nil && strings.Contains(err.Error(), secret) {
			t.Errorf("%s: the error shows a secret: %v", c.config, err)
		}
	}
}

func TestSettingsOfTheOldClientsAreUnderstood(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ config, name, table string }{
		{`{"client": "psycopg2", "host": "db", "database": "d", "user": "u", "password": "p", "table_name": "Audit.Log"}`, "PostgreSQL at db:5432", "audit.log"},
		{`{"client": "psycopg", "host": "/run/postgresql", "port": "6543", "dbname": "d", "autocommit": true}`, "PostgreSQL at /run/postgresql:6543", "connections"},
		{`{"client": "mariadb", "host": "db", "username": "u", "passwd": "p", "db": "d", "port": 3307, "table_name": "Log"}`, "MariaDB or MySQL at db:3307", "Log"},
		{`{"client": "pymysql", "unix_socket": "/run/mysqld.sock", "charset": "utf8mb4", "ssl": false, "connect_timeout": 0}`, "MariaDB or MySQL at /run/mysqld.sock", "connections"},
	} {
		s, err := Parse([]byte(c.config))
		if err != nil {
			t.Errorf("%s: %v", c.config, err)
			continue
		}
		if s.Name != c.name || s.Table != c.table {
			t.Errorf("%s: %q, table %q, want %q, %q", c.config, s.Name, s.Table, c.name, c.table)
		}
	}
}

func TestEveryClientHasEverySettingOnce(t *testing.T) {
	t.Parallel()
	for _, client := range Clients() {
		var names []string
		for _, p := range Parameters() {
			if slices.Contains(p.Clients, client) {
				names = append(names, p.Name)
			}
		}
		sorted := slices.Sorted(slices.Values(names))
		if len(slices.Compact(sorted)) != len(names) {
			t.Errorf("%s: a setting is there twice: %v", client, names)
		}
	}
}

func TestEverySettingHasAnEffect(t *testing.T) {
	t.Parallel()
	without := []string{"autocommit", "client_encoding", "charset"} // as the guide says
	samples := map[string]string{"client_encoding": `"UTF-8"`, "charset": `"utf8mb4"`, "max_allowed_packet": "2000000"}
	ofType := map[string]string{"string": `"x"`, "integer": "77", "boolean": "true"}
	for _, p := range Parameters() {
		for _, client := range p.Clients {
			fresh := func() *login { return &login{client: client, params: map[string]string{}} }
			sample, ok := samples[p.Name]
			if !ok {
				sample = ofType[p.Type]
			}
			l := fresh()
			if err := l.set(p.Name, []byte(sample)); err != nil {
				t.Errorf("%s, %s: %v", client, p.Name, err)
			}
			if secret := slices.Equal(l.secrets, []string{"x"}); secret != p.Secret {
				t.Errorf("%s: is kept as a secret: %v", p.Name, secret)
			}
			l.secrets = nil
			if none := reflect.DeepEqual(l, fresh()); none != slices.Contains(without, p.Name) {
				t.Errorf("%s, %s: is without effect: %v", client, p.Name, none)
			}
		}
	}
}

func TestWordsShowNoSecretAndNothingThatATerminalObeys(t *testing.T) {
	t.Parallel()
	s := &Server{secrets: []string{"hunter2"}}
	got := s.Words(errors.New("login hunter2\x1b[2J failed" + strings.Repeat("ä", 500)))
	if strings.Contains(got, "hunter2") || strings.Contains(got, "\x1b") || len(got) > 700 {
		t.Errorf("got %q", got)
	}
}

func TestPositionalArgumentsFollowTheStatement(t *testing.T) {
	t.Parallel()
	text, args := positional("a = $2 AND b = $1 OR c = $2 LIMIT $11", []any{"x", int64(5)})
	if want := "a = ? AND b = ? OR c = ? LIMIT $11"; text != want {
		t.Errorf("got %q, want %q", text, want)
	}
	if want := []any{int64(5), "x", int64(5)}; !slices.Equal(args, want) {
		t.Errorf("got %v, want %v", args, want)
	}
}
