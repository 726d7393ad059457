package store

import (
	"database/sql/driver"
	"fmt"
	"strings"
)

// firstVersion is the oldest user_version of our files that can be brought to this one.
const firstVersion = 100

// migrate brings a file to this version: its tables if it is new, step by step from an older version if it is not, and
// the views, which follow the SDK's columns. Each step is a transaction of its own.
func migrate(c *conn) error {
	found, _, err := c.number("PRAGMA user_version")
	if err != nil {
		return err
	}
	if found < firstVersion {
		return c.transact(func() error {
			if err := c.script(tables + stamp(version)); err != nil {
				return err
			}
			return createViews(c)
		})
	}
	for n, step := range steps() {
		to := firstVersion + int64(n) + 1
		if found >= to {
			continue
		}
		if err := withoutForeignKeys(c, func() error { return c.script(step + stamp(to)) }); err != nil {
			return fmt.Errorf("from version %d to %d: %w", to-1, to, err)
		}
	}
	return c.transact(func() error {
		newest, _, err := c.number("SELECT max(ended) FROM windows")
		if err != nil {
			return err
		}
		if err := settle(c, newest); err != nil {
			return err
		}
		return createViews(c)
	})
}

// stamp is the statements that write a version into a file.
func stamp(version int64) string {
	return fmt.Sprintf("\nPRAGMA application_id = %d;\nPRAGMA user_version = %d;", applicationID, version)
}

// withoutForeignKeys runs f in a transaction that may leave references open meanwhile, or that knows them to be right.
func withoutForeignKeys(c *conn, f func() error) (err error) {
	if err := c.script("PRAGMA foreign_keys = OFF"); err != nil {
		return err
	}
	defer func() {
		if on := c.script("PRAGMA foreign_keys = ON"); err == nil {
			err = on
		}
	}()
	return c.transact(f)
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
	list = append(list, "  f.id AS rowid", "  f.id AS id") // a statement for the table of 1.0.3 may name its rowid
	objects := []object{{"view", "connections", "CREATE VIEW connections AS SELECT\n" + strings.Join(list, ",\n") +
		"\nFROM flows f JOIN windows w ON w.id = f.window WHERE f.kind < 3"}}
	// A program that deletes rows by hand may have foreign keys off, so that nothing cascades.
	objects = append(objects, object{"trigger", "connections_delete", deleteTrigger()})
	for _, verb := range []string{"INSERT", "UPDATE"} {
		name := "connections_" + strings.ToLower(verb)
		objects = append(objects, object{"trigger", name, fmt.Sprintf(`CREATE TRIGGER %s
INSTEAD OF %s ON connections BEGIN
  SELECT RAISE(ABORT, 'connections is what was observed: %s is not possible; docs/schema.md tells which tables lie beneath');
END`, name, verb, verb)})
	}
	return objects, nil
}

// deleteTrigger deletes the flow of a row of the view, and takes its sums out of the roll-ups.
func deleteTrigger() string {
	var b strings.Builder
	b.WriteString("CREATE TRIGGER connections_delete\nINSTEAD OF DELETE ON connections BEGIN\n")
	for _, f := range families() {
		var less []string
		for i, m := range measures() {
			of := "1"
			if m != "" {
				of = "f." + m
			}
			less = append(less, fmt.Sprintf("%s = %s.%s - %s", sumColumns()[i], f.table, sumColumns()[i], of))
		}
		for _, width := range f.widths() {
			where := fmt.Sprintf("width = %d AND bucket = %s", width, bucketSQL("OLD.window_end", width))
			var same []string
			for _, k := range f.keys {
				value := "f.remote"
				if k == "program" {
					value = "(SELECT program FROM actors WHERE id = f.actor)"
				}
				same = append(same, fmt.Sprintf("%s.%s = %s", f.table, k, value))
			}
			fmt.Fprintf(&b, "  UPDATE %s SET %s FROM flows f\n  WHERE f.id = OLD.id AND f.kind < %d AND %s AND %s;\n", f.table,
				strings.Join(less, ", "), kindOther, where, strings.Join(same, " AND "))
			fmt.Fprintf(&b, "  DELETE FROM %s WHERE rows = 0 AND %s;\n", f.table, where)
		}
	}
	b.WriteString(`  DELETE FROM flow_domains WHERE flow = OLD.id;
  DELETE FROM flow_rare WHERE flow = OLD.id;
  DELETE FROM flows WHERE id = OLD.id;
END`)
	return b.String()
}

// bucketSQL is the expression for the bucket, in seconds, that a time in nanoseconds lies in, also before 1970.
func bucketSQL(time string, width int64) string {
	ns := width * int64(1e9)
	return fmt.Sprintf("(%[1]s - (%[1]s %% %[2]d + %[2]d) %% %[2]d) / 1000000000", time, ns)
}
