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

// Row is one row of `connections`.
type Row struct {
	ID                string // host, epoch, sequence
	Key               Key
	Sums              Sums
	Grandparent       Identity
	Direction, Result string
}

// Filter says which rows belong to a case: by where it ran, and by what ran, so that a row with one of them wrong is
// seen.
type Filter struct {
	Namespaces []uint64
	ExePrefix  string
}

const selectRows = `SELECT
	host_id || '/' || epoch || '/' || seq,
	exe, sha256, name, cmdline, pexe, psha256, pname, pcmdline, gexe, gsha256, gname, gcmdline,
	pid, uid, netns, protocol, laddr, lport, raddr, rport,
	send, recv, sends, receives, connects, accepts, failures, listens, direction, result
	FROM connections`

// readRows asks the database, read-only and on a connection of its own, as any user's tool would. A file that does not
// exist yet has no rows.
func readRows(ctx context.Context, path string, f Filter) ([]Row, error) {
	file, err := filepath.EvalSymlinks(path)
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil
	}
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
	defer db.Close()
	db.SetMaxOpenConns(1)
	where, args := f.where()
	rows, err := db.QueryContext(ctx, selectRows+where, args...)
	if err != nil {
		return nil, fmt.Errorf("query %s: %w", path, err)
	}
	defer rows.Close()
	var out []Row
	for rows.Next() {
		r, err := scan(rows)
		if err != nil {
			return nil, fmt.Errorf("read row of %s: %w", path, err)
		}
		out = append(out, r)
	}
	return out, rows.Err()
}

func (f Filter) where() (string, []any) {
	args := []any{f.ExePrefix}
	marks := make([]string, 0, len(f.Namespaces))
	for _, ns := range f.Namespaces {
		args = append(args, int64(ns))
		marks = append(marks, "?")
	}
	return " WHERE instr(exe, ?) = 1 OR netns IN (" + strings.Join(marks, ",") + ")", args
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
		&s.Sent, &s.Received, &s.Sends, &s.Receives, &s.Connects, &s.Accepts, &s.Failures, &s.Listens, &r.Direction, &r.Result)
	if err := rows.Scan(fields...); err != nil {
		return Row{}, err
	}
	k.Protocol = protocolWord(protocol)
	return r, nil
}
