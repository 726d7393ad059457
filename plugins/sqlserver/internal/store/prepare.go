package store

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"

	"github.com/picosnitch/picosnitch/plugins/sqlserver/internal/server"
	"github.com/picosnitch/picosnitch/sdk"
)

// errForeign says that a table of our name is another one's.
var errForeign = errors.New("is not a table of this version of picosnitch")

// nextSuffix is added to the name of the main table when one of picosnitch 1.0.3 has it.
const nextSuffix = "_2"

// prepare finds the tables, or makes them, and returns the name of the main one.
func prepare(ctx context.Context, s server.Session, srv *server.Server) (base string, err error) {
	base = srv.Table
	existing, err := columnsOf(ctx, s, base)
	if err != nil && server.Classify(err) != server.NoTable {
		return "", fmt.Errorf("look at table %s: %w", base, err)
	}
	if isOld(existing) {
		base += nextSuffix
		slog.Warn("sqlserver: the table is of picosnitch 1.0.3 and stays as it is, new rows go to another one",
			"table", srv.Table, "now", base)
	}
	missing := false
	for _, t := range tables() {
		have, err := columnsOf(ctx, s, base+t.suffix)
		switch {
		case err != nil && server.Classify(err) == server.NoTable:
			missing = true
			continue
		case err != nil:
			return "", fmt.Errorf("look at table %s: %w", base+t.suffix, err)
		}
		for _, name := range t.names() {
			if !slices.Contains(have, name) {
				return "", fmt.Errorf("table %s %w: it has no column %s; choose another `table_name`, or rename the table",
					base+t.suffix, errForeign, name)
			}
		}
	}
	if !missing {
		return base, nil
	}
	return base, create(ctx, s, srv.Dialect, base)
}

// isOld recognises the table of picosnitch 1.0.3: its 17 columns, and no other.
func isOld(columns []string) bool {
	const old = 17
	if len(columns) != old {
		return false
	}
	for _, c := range sdk.Columns()[:old] {
		if !slices.Contains(columns, c.Name) {
			return false
		}
	}
	return true
}

// create makes what is missing.
func create(ctx context.Context, s server.Session, d server.Dialect, base string) error {
	sch := schema{dialect: d, collation: collation(s.Flavour())}
	for _, t := range tables() {
		if _, err := columnsOf(ctx, s, base+t.suffix); err == nil {
			continue // an index could only be added by its owner
		}
		for _, statement := range sch.create(t, base, "") {
			if err := s.Exec(ctx, statement); err != nil {
				return fmt.Errorf("create table %s: %w", base+t.suffix, err)
			}
		}
	}
	// Rows can do without the view, and MariaDB has a right of its own for it.
	if err := s.Exec(ctx, sch.complete(base)); err != nil {
		slog.Warn("sqlserver: a view was not made, and is only for people", "view", base+completeView, "error", err)
	}
	return nil
}

// collation compares bytes, spaces at the end included. MariaDB and MySQL have no name for it in common.
func collation(flavour string) string {
	if strings.Contains(strings.ToLower(flavour), "mariadb") {
		return "utf8mb4_nopad_bin"
	}
	return "utf8mb4_0900_bin"
}

// columnsOf lists the columns of a table or view.
func columnsOf(ctx context.Context, s server.Session, table string) ([]string, error) {
	return s.Columns(ctx, server.Quote(table))
}
