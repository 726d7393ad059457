package lab

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"strings"

	_ "modernc.org/sqlite" // registers the driver "sqlite"
)

// Row is one row of `connections`, or of what AF_PACKET sockets moved.
type Row struct {
	ID                string // host, epoch, sequence
	Key               Key
	Sums              Sums
	Grandparent       Identity
	Direction, Result string
	Peer, Counting    string // how well the peer is known, how bytes were counted
	Layer             string // where bytes were counted
}

// Filter says which rows belong to a case: by where it ran, and by what ran, so that a row with one of them wrong is
// seen.
type Filter struct {
	Namespaces []uint64
	ExePrefix  string
}

const selectRows = `SELECT
	host_id || '/' || epoch || '/' || seq,
	CASE exe_scope WHEN '' THEN exe ELSE exe_scope || ':' || exe END, sha256, name, cmdline, pexe, psha256, pname, pcmdline, gexe, gsha256, gname, gcmdline,
	pid, uid, netns, protocol, laddr, lport, raddr, rport,
	send, recv, sends, receives, connects, accepts, failures, listens, direction, result, peer, counting, layer
	FROM `

// openDatabase opens it read-only and on a connection of its own, as any user's tool would. The caller closes it.
// os.ErrNotExist says that there is none yet.
func openDatabase(path string) (*sql.DB, error) {
	file, err := filepath.EvalSymlinks(path)
	if err != nil {
		return nil, fmt.Errorf("find %s: %w", path, err)
	}
	options := "?mode=ro&_pragma=busy_timeout(2000)"
	if _, err := os.Stat(file + "-wal"); errors.Is(err, os.ErrNotExist) {
		options += "&immutable=1" // nobody writes: leave no files of root's behind, which the plugin could not open
	}
	db, err := sql.Open("sqlite", "file:"+(&url.URL{Path: file}).EscapedPath()+options)
	if err != nil {
		return nil, fmt.Errorf("open %s: %w", path, err)
	}
	db.SetMaxOpenConns(1)
	return db, nil
}

// readRows gives what a filter lets through. A file that does not exist yet has no rows.
func readRows(ctx context.Context, path string, f Filter) ([]Row, error) {
	db, err := openDatabase(path)
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	defer db.Close()
	out, err := selectFrom(ctx, db, "connections", f)
	if err != nil {
		return nil, fmt.Errorf("query %s: %w", path, err)
	}
	packets, err := packetSource(ctx, db)
	if err != nil || packets == "" {
		return out, err
	}
	more, err := selectFrom(ctx, db, packets, f)
	if err != nil {
		return nil, fmt.Errorf("query packets of %s: %w", path, err)
	}
	return append(out, more...), nil
}

// readAll gives what a query of a database finds. A file that does not exist yet has nothing.
func readAll[T any](ctx context.Context, path, query string, scan func(*sql.Rows) (T, error)) ([]T, error) {
	db, err := openDatabase(path)
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	defer db.Close()
	out, err := selectAll(ctx, db, scan, query)
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", path, err)
	}
	return out, nil
}

func selectAll[T any](ctx context.Context, db *sql.DB, scan func(*sql.Rows) (T, error), query string, args ...any) ([]T, error) {
	rows, err := db.QueryContext(ctx, query, args...)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	var out []T
	for rows.Next() {
		r, err := scan(rows)
		if err != nil {
			return nil, err
		}
		out = append(out, r)
	}
	return out, rows.Err()
}

func selectFrom(ctx context.Context, db *sql.DB, source string, f Filter) ([]Row, error) {
	where, args := f.where()
	return selectAll(ctx, db, scan, selectRows+source+where, args...)
}

// packetSource is the view's own query, turned to the flows that the view leaves out (docs/schema.md: kind 3).
func packetSource(ctx context.Context, db *sql.DB) (string, error) {
	var text string
	err := db.QueryRowContext(ctx, "SELECT sql FROM sqlite_master WHERE type = 'view' AND name = 'connections'").Scan(&text)
	if errors.Is(err, sql.ErrNoRows) {
		return "", nil
	}
	if err != nil {
		return "", fmt.Errorf("read view: %w", err)
	}
	_, query, _ := strings.Cut(text, " AS ")
	const only = "f.kind < 3"
	if !strings.Contains(query, only) {
		return "", fmt.Errorf("the view connections does not select by %q", only)
	}
	return "(" + strings.Replace(query, only, "f.kind = 3", 1) + ")", nil
}

func (f Filter) where() (string, []any) {
	args := []any{f.ExePrefix}
	marks := make([]string, 0, len(f.Namespaces))
	for _, ns := range f.Namespaces {
		args = append(args, int64(ns))
		marks = append(marks, "?")
	}
	// A namespace's number may have been that of another daemon's canary before, or be so afterwards.
	return " WHERE instr(exe, ?) = 1 OR (netns IN (" + strings.Join(marks, ",") + ") AND name IS NOT 'picosnitch')", args
}

func scan(rows *sql.Rows) (Row, error) {
	var r Row
	k, s := &r.Key, &r.Sums
	var protocol int
	fields := []any{&r.ID}
	for _, id := range []*Identity{&k.Process, &k.Parent, &r.Grandparent} {
		for _, column := range []*string{&id.Exe, &id.SHA256, &id.Name, &id.Cmdline} {
			fields = append(fields, column)
		}
	}
	fields = append(fields, &k.Pid, &k.UID, &k.Netns, &protocol, &k.Laddr, &k.Lport, &k.Raddr, &k.Rport,
		&s.Sent, &s.Received, &s.Sends, &s.Receives, &s.Connects, &s.Accepts, &s.Failures, &s.Listens, &r.Direction, &r.Result,
		&r.Peer, &r.Counting, &r.Layer)
	if err := rows.Scan(fields...); err != nil {
		return Row{}, err
	}
	k.Protocol, k.Packet = protocolWord(protocol), r.Layer == "packet"
	if k.Packet { // which frames they were is not compared
		k.Protocol, k.Laddr, k.Lport, k.Raddr, k.Rport = "", "", -1, "", -1
	}
	return r, nil
}
