package store

import (
	"database/sql/driver"
	"fmt"
	"strings"
)

// migrate brings a file to this version: its tables if it is new, and the views, which follow the SDK's columns.
func migrate(c *conn) error {
	return c.transact(func() error {
		found, _, err := c.number("PRAGMA user_version")
		if err != nil {
			return err
		}
		if found < version {
			script := fmt.Sprintf("%s\nPRAGMA application_id = %d;\nPRAGMA user_version = %d;", tables, applicationID, version)
			if err := c.script(script); err != nil {
				return err
			}
		}
		return createViews(c)
	})
}

// object is a view or trigger: how it is made, and how SQLite tells that it is there.
type object struct{ kind, name, sql string }

// createViews replaces the views and triggers that differ from what this version makes.
func createViews(c *conn) error {
	objects, err := viewObjects()
	if err != nil {
		return err
	}
	same := true
	for _, o := range objects {
		row := make([]driver.Value, 1)
		found, err := c.row("SELECT sql FROM sqlite_schema WHERE type = ? AND name = ?", row, o.kind, o.name)
		if err != nil {
			return err
		}
		same = same && found && row[0] == o.sql
	}
	if same {
		return nil
	}
	var script strings.Builder
	script.WriteString("DROP VIEW IF EXISTS connections;\n") // with its triggers
	for _, o := range objects {
		script.WriteString(o.sql + ";\n")
	}
	return c.script(script.String())
}

func viewObjects() ([]object, error) {
	all, err := columns()
	if err != nil {
		return nil, err
	}
	list := make([]string, 0, len(all)+1)
	for _, c := range all {
		value := c.expression()
		if c.base == "window" {
			value = c.value // of the joined table: only so do conditions on time use its indexes
		}
		list = append(list, "  "+value+" AS "+c.Name)
	}
	list = append(list, "  f.id AS id")
	objects := []object{{"view", "connections", "CREATE VIEW connections AS SELECT\n" + strings.Join(list, ",\n") +
		"\nFROM flows f JOIN windows w ON w.id = f.window WHERE f.kind < 3"}}
	// A program that deletes rows by hand may have foreign keys off, so that nothing cascades.
	objects = append(objects, object{"trigger", "connections_delete", `CREATE TRIGGER connections_delete
INSTEAD OF DELETE ON connections BEGIN
  DELETE FROM flow_domains WHERE flow = OLD.id;
  DELETE FROM flows WHERE id = OLD.id;
END`})
	for _, verb := range []string{"INSERT", "UPDATE"} {
		name := "connections_" + strings.ToLower(verb)
		objects = append(objects, object{"trigger", name, fmt.Sprintf(`CREATE TRIGGER %s
INSTEAD OF %s ON connections BEGIN
  SELECT RAISE(ABORT, 'connections is what was observed: %s is not possible; docs/schema.md tells which tables lie beneath');
END`, name, verb, verb)})
	}
	return objects, nil
}
