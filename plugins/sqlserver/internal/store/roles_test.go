package store

import (
	"os"
	"regexp"
	"strings"
	"testing"

	"github.com/picosnitch/picosnitch/sdk"
	wire "github.com/picosnitch/picosnitch/sdk/proto"
	"github.com/picosnitch/picosnitch/sdk/sdktest"
	"github.com/picosnitch/picosnitch/test/dbserver"
)

const guide = "../../../../docs/sqlserver.md"

// statements are those that stand in the guide under a name.
func statements(t testing.TB, name string) string {
	t.Helper()
	raw, err := os.ReadFile(guide)
	if err != nil {
		t.Fatal(err)
	}
	found := regexp.MustCompile("(?s)<!-- test: " + name + " -->\n```sql\n(.*?)```").FindSubmatch(raw)
	if found == nil {
		t.Fatalf("%s has no statements for %q", guide, name)
	}
	return string(found[1])
}

// another is the statements for web1 as one writes them for a second host.
func another(text string) string {
	return strings.NewReplacer("web1", "web2", "0102030405060708090a0b0c0d0e0f10", strings.Repeat("ee", 16)).Replace(text)
}

// streamOf makes batches of a host: of web1, whose id stands in the guide, or of the second one.
func streamOf(second bool) *sdktest.Stream {
	s := sdktest.NewStream(1)
	s.Host = [16]byte{1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16}
	if second {
		s.Host = [16]byte([]byte(strings.Repeat("\xee", 16)))
	}
	return s
}

func next(s *sdktest.Stream, records []*wire.Record) *sdk.Batch {
	return &sdk.Batch{Batch: s.Next(records), Epoch: s.Epoch}
}

// roles is a server that was prepared as the guide says, with the settings of its users.
type roles struct {
	server            *dbserver.Server
	web1, web2, fleet string          // settings
	line              *sdktest.Stream // of web1
	revoke, grant     string
}

func TestTheStatementsOfTheGuideKeepHostsApart(t *testing.T) {
	t.Parallel()
	for kind, prepare := range map[string]func(testing.TB) roles{"PostgreSQL": postgresRoles, "MariaDB": mariadbRoles} {
		t.Run(kind, func(t *testing.T) {
			t.Parallel()
			r := prepare(t)
			r.line = streamOf(false)
			r.hostsSeeThemselves(t)
			r.nothingCanBeChanged(t)
			r.revokedRightsAreWaitedFor(t)
			r.everythingIsSound(t)
		})
	}
}

func postgresRoles(t testing.TB) roles {
	s := dbserver.PostgreSQL(t)
	for _, text := range []string{schemaFile(t, "postgresql-partitioned.sql"), statements(t, "postgresql partition"),
		statements(t, "postgresql roles"), statements(t, "postgresql host"), another(statements(t, "postgresql host")),
		statements(t, "postgresql reader")} {
		s.SQL(text)
	}
	return roles{server: s,
		web1:   s.PostgresConfig("picosnitch_web1", "secret of web1", ""),
		web2:   s.PostgresConfig("picosnitch_web2", "secret of web2", ""),
		fleet:  s.PostgresConfig("picosnitch_reader", "secret of the reader", ""),
		revoke: "REVOKE INSERT ON connections_gaps FROM picosnitch_host",
		grant:  "GRANT INSERT ON connections_gaps TO picosnitch_host"}
}

func mariadbRoles(t testing.TB) roles {
	s := dbserver.MariaDB(t)
	for _, text := range []string{schemaFile(t, "mariadb.sql"), statements(t, "mariadb host"), another(statements(t, "mariadb host")),
		statements(t, "mariadb reader")} {
		s.SQL(text)
	}
	return roles{server: s,
		web1:   s.MariaDBConfig("picosnitch_web1", "secret of web1", `, "table_name": "web1"`),
		web2:   s.MariaDBConfig("picosnitch_web2", "secret of web2", `, "table_name": "web2"`),
		fleet:  s.MariaDBConfig("picosnitch_reader", "secret of the reader", ""),
		revoke: "REVOKE INSERT ON picosnitch.web1_gaps FROM picosnitch_web1",
		grant:  "GRANT INSERT ON picosnitch.web1_gaps TO picosnitch_web1"}
}

// hostsSeeThemselves stores as both hosts and asks as both and as the reader.
func (r *roles) hostsSeeThemselves(t *testing.T) {
	one, two, fleet := open(t, r.web1), open(t, r.web2), readOnlyStore(t, r.fleet)
	healthy(t, one)
	healthy(t, two)
	second := streamOf(true)
	theirs := next(second, sdktest.Records(2, 20))
	wantRetry(t, one.Apply(t.Context(), theirs), "denies")
	apply(t, one, next(r.line, sdktest.Records(1, 1300)))
	apply(t, two, theirs)
	for _, c := range []struct {
		name  string
		store *Store
		hosts []string
	}{{"web1", one, []string{"0102"}}, {"web2", two, []string{"eeee"}}, {"reader", fleet, []string{"0102", "eeee"}}} {
		rows, _ := ask(t, c.store, &wire.Query{By: []string{"host_id"}})
		for i, row := range rows {
			rows[i] = row[:4]
		}
		if strings.Join(rows, " ") != strings.Join(c.hosts, " ") {
			t.Errorf("%s sees the hosts %v, want %v", c.name, rows, c.hosts)
		}
	}
	wantRetry(t, open(t, r.fleet).Apply(t.Context(), next(second, sdktest.Records(5, 5))), "denies")
}

// nothingCanBeChanged tries, as a host and as the reader.
func (r *roles) nothingCanBeChanged(t *testing.T) {
	for _, config := range []string{r.web1, r.fleet} {
		s := readOnlyStore(t, config)
		session, err := s.server.Open(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		defer session.Close()
		for _, text := range []string{"UPDATE % SET send = 0", "DELETE FROM %", "DROP TABLE %", "TRUNCATE TABLE connections"} {
			if err := session.Exec(t.Context(), strings.ReplaceAll(text, "%", s.server.Table)); err == nil {
				t.Errorf("%s: was allowed", text)
			}
		}
	}
}

// revokedRightsAreWaitedFor takes a batch to a server that denies a part of it, and again after it was granted.
func (r *roles) revokedRightsAreWaitedFor(t *testing.T) {
	s := open(t, r.web1)
	b := next(r.line, sdktest.Records(4, 100))
	r.server.SQL(r.revoke)
	wantRetry(t, s.Apply(t.Context(), b), "denies")
	if err := s.Health(t.Context()); err == nil || !strings.Contains(err.Error(), "GRANT") {
		t.Errorf("health says %v", err)
	}
	r.server.SQL(r.grant)
	apply(t, s, b)
	healthy(t, s)
}

func (r *roles) everythingIsSound(t *testing.T) {
	batches := evidence(t, readOnlyStore(t, r.fleet), nil)
	for _, b := range batches {
		if b.GetState() != wire.BatchEvidence_SOUND {
			t.Errorf("evidence: %v", b)
		}
	}
	if len(batches) != 3 {
		t.Errorf("%d batches, want 3", len(batches))
	}
	if r.server.Socket == "" && r.server.SQL("SELECT count(*) > 0 FROM connections_2026_11") != "t" {
		t.Error("no row went to the partition of its month")
	}
}

// hostAlone works with no more than the guide grants to a host that has a database for itself, and without the right to
// create once it has made its tables.
func hostAlone(t *testing.T, server *dbserver.Server) {
	kind, config, revoke := "postgresql", server.PostgresConfig, "REVOKE CREATE ON SCHEMA public FROM picosnitch_alone"
	if server.Socket != "" {
		kind, config, revoke = "mariadb", server.MariaDBConfig, "REVOKE CREATE, CREATE VIEW ON picosnitch.* FROM picosnitch_alone"
	}
	server.SQL(statements(t, kind+" alone"))
	settings, line := config("picosnitch_alone", "secret", `, "table_name": "alone"`), streamOf(false)
	first := open(t, settings)
	healthy(t, first)
	apply(t, first, next(line, sdktest.Records(1, 100)))
	before := server.SQL("SELECT count(*) FROM alone_complete")
	if before == "0" {
		t.Error("the view shows nothing")
	}
	server.SQL(revoke)
	second := open(t, settings)
	healthy(t, second)
	apply(t, second, next(line, sdktest.Records(2, 100)))
	if after := server.SQL("SELECT count(*) FROM alone_complete"); after == before {
		t.Error("nothing was stored without the right to create")
	}
}
