package store

import (
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/picosnitch/picosnitch/plugins/sqlserver/internal/server"
)

// schemaFolder has the statements for an administrator who makes the tables.
const schemaFolder = "../../schema"

// script writes the statements for a table called connections.
func script(s schema, partitioned bool) string {
	const base = "connections"
	var list []string
	for _, t := range tables() {
		end := ""
		timed := partitioned && (t.suffix == mainTable || t.suffix == otherTable)
		if timed {
			end = ` PARTITION BY RANGE ("window_end")`
		}
		list = append(list, s.create(t, base, end)...)
		if timed {
			list = append(list, `CREATE TABLE IF NOT EXISTS "`+base+t.suffix+`_default" PARTITION OF "`+base+t.suffix+`" DEFAULT`)
		}
	}
	return "-- Tables for picosnitch's plugin sqlserver, see docs/sqlserver.md. Made by: go test ./plugins/sqlserver/internal/store -run Schema -update\n\n" +
		strings.Join(append(list, s.complete(base)), ";\n\n") + ";\n"
}

func TestTheSchemaFilesAreWhatThePluginMakes(t *testing.T) {
	t.Parallel()
	for name, text := range map[string]string{
		"postgresql.sql":             script(schema{dialect: server.PostgreSQL}, false),
		"postgresql-partitioned.sql": script(schema{dialect: server.PostgreSQL}, true),
		"mariadb.sql":                "SET SESSION sql_mode = 'ANSI_QUOTES';\n" + script(schema{server.MySQL, collation("10.11-MariaDB")}, false),
		"mysql.sql":                  "SET SESSION sql_mode = 'ANSI_QUOTES';\n" + script(schema{server.MySQL, collation("8.4.0")}, false),
	} {
		path := filepath.Join(schemaFolder, name)
		if flag.Lookup("update").Value.String() == "true" {
			if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
				t.Fatal(err)
			}
		}
		if got, err := os.ReadFile(path); err != nil || string(got) != text {
			t.Errorf("%s is not up to date (%v); run: go test ./plugins/sqlserver/internal/store -run Schema -update", path, err)
		}
	}
}

// schemaFile is the contents of a schema file.
func schemaFile(t testing.TB, name string) string {
	t.Helper()
	raw, err := os.ReadFile(filepath.Join(schemaFolder, name))
	if err != nil {
		t.Fatal(err)
	}
	return string(raw)
}
