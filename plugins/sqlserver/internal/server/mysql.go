package server

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"fmt"
	"regexp"
	"strconv"
	"strings"

	"github.com/go-sql-driver/mysql"

	"github.com/picosnitch/picosnitch/sdk"
)

// mariadb is a session of MariaDB or MySQL.
type mariadb struct {
	db      *sql.DB
	conn    *sql.Conn
	id      int64
	flavour string
	inserts map[string]driver.Stmt // prepared, by their text
	buffer  []driver.NamedValue    // of the last INSERT
	open    bool                   // a transaction
	broken  bool
}

// connectMySQL opens a session. Its sql.DB keeps no connection of its own.
func connectMySQL(ctx context.Context, config *mysql.Config) (Session, error) {
	connector, err := mysql.NewConnector(config)
	if err != nil {
		return nil, fmt.Errorf("connect: %w", err)
	}
	s := &mariadb{db: sql.OpenDB(connector), inserts: make(map[string]driver.Stmt)}
	s.db.SetMaxIdleConns(-1)
	if s.conn, err = s.db.Conn(ctx); err != nil {
		return nil, errors.Join(fmt.Errorf("connect: %w", err), s.db.Close())
	}
	if err := s.conn.QueryRowContext(ctx, "SELECT CONNECTION_ID(), VERSION()").Scan(&s.id, &s.flavour); err != nil {
		s.Close()
		return nil, fmt.Errorf("connect: %w", err)
	}
	return s, nil
}

// sessionParams set what statements and protocol need: double quotes for identifiers, an error instead of text that is cut,
// the longest text (a command line of 4096 quotes, quoted) sorted by all of its bytes, and memory to do so.
func sessionParams() map[string]string {
	return map[string]string{
		"sql_mode":         "'STRICT_ALL_TABLES,ANSI_QUOTES,NO_ENGINE_SUBSTITUTION'",
		"max_sort_length":  "20600",
		"sort_buffer_size": "33554432",
	}
}

func (s *mariadb) Begin(ctx context.Context, access Access) error {
	set, start := "SET TRANSACTION ISOLATION LEVEL READ COMMITTED", "START TRANSACTION"
	if access == Snapshot {
		set, start = "SET TRANSACTION ISOLATION LEVEL REPEATABLE READ", "START TRANSACTION READ ONLY"
	}
	s.open = true
	if _, err := s.conn.ExecContext(ctx, set); err != nil {
		return s.note("begin", err)
	}
	_, err := s.conn.ExecContext(ctx, start)
	return s.note("begin", err)
}

func (s *mariadb) Commit(ctx context.Context) error {
	_, err := s.conn.ExecContext(ctx, "COMMIT")
	s.open = s.open && err != nil
	return s.note("commit", err)
}

func (s *mariadb) Rollback(ctx context.Context) error {
	if !s.open || s.broken {
		return nil
	}
	_, err := s.conn.ExecContext(ctx, "ROLLBACK")
	s.open = err != nil
	return s.note("roll back", err)
}

// note remembers that the session is broken: what is not an answer of the server is a matter of the connection.
func (s *mariadb) note(what string, err error) error {
	var answer *mysql.MySQLError
	if err != nil && !errors.As(err, &answer) {
		s.broken = true
	}
	return wrap(what, err)
}

func (s *mariadb) Exec(ctx context.Context, statement string, args ...any) error {
	statement, args = positional(statement, args)
	_, err := s.conn.ExecContext(ctx, statement, args...)
	return s.note("execute", err)
}

func (s *mariadb) Query(ctx context.Context, statement string, args ...any) (Rows, error) {
	statement, args = positional(statement, args)
	r := &mariadbRows{session: s, killed: make(chan struct{})}
	r.unhook = context.AfterFunc(ctx, func() {
		defer close(r.killed)
		s.kill()
	})
	var err error
	if r.Rows, err = s.conn.QueryContext(ctx, statement, args...); err != nil {
		r.wait()
		return nil, s.note("query", err)
	}
	return r, nil
}

// kill ends the session's statement at the server, which would go on with it for nobody.
func (s *mariadb) kill() {
	ctx, cancel := context.WithTimeout(context.Background(), closeTimeout)
	defer cancel()
	_, _ = s.db.ExecContext(ctx, "KILL QUERY "+strconv.FormatInt(s.id, 10)) // it may have ended
}

type mariadbRows struct {
	*sql.Rows
	session *mariadb
	unhook  func() bool
	killed  chan struct{}
}

// wait waits for kill, if it runs. What it ended is not certain then: the session is not used again.
func (r *mariadbRows) wait() {
	if !r.unhook() {
		<-r.killed
		r.session.broken = true
	}
}

func (r *mariadbRows) Close() error {
	err := r.Err()
	if closing := r.Rows.Close(); err == nil {
		err = closing
	}
	r.wait()
	return r.session.note("read", err)
}

// positional replaces $1, $2, … by question marks; no other $ stands in a statement, since no value does.
func positional(statement string, args []any) (string, []any) {
	var inOrder []any
	statement = regexp.MustCompile(`\$\d+`).ReplaceAllStringFunc(statement, func(mark string) string {
		n, err := strconv.Atoi(mark[1:])
		if err != nil || n < 1 || n > len(args) {
			return mark // the server will refuse it
		}
		inOrder = append(inOrder, args[n-1])
		return "?"
	})
	return statement, inOrder
}

// Insert goes round database/sql, whose checks of every single value would take most of the time.
func (s *mariadb) Insert(ctx context.Context, table string, columns []string, values []sdk.Value) error {
	err := s.conn.Raw(func(raw any) error {
		return chunks(values, len(columns), func(rows int, part []sdk.Value) error {
			statement, err := s.prepared(ctx, raw, insertText(table, columns, rows))
			if err != nil {
				return err
			}
			s.buffer = s.buffer[:0]
			for i, v := range part {
				s.buffer = append(s.buffer, driver.NamedValue{Ordinal: i + 1, Value: v.Any()})
			}
			_, err = statement.ExecContext(ctx, s.buffer)
			return err
		})
	})
	return s.note("insert", err)
}

// batchSizes are how many rows one INSERT takes: few different statements, each prepared once. The largest stays below the
// 65,535 parameters that the protocols allow.
func batchSizes() []int { return []int{256, 64, 16, 4, 1} }

// insertText is the INSERT of so many rows.
func insertText(table string, columns []string, rows int) string {
	row := "(" + strings.Repeat("?,", len(columns)-1) + "?)"
	return "INSERT INTO " + table + ` ("` + strings.Join(columns, `", "`) + `") VALUES ` + strings.Repeat(row+", ", rows-1) + row
}

// chunks cuts values into parts of the sizes above and calls insert for each.
func chunks(values []sdk.Value, width int, insert func(rows int, part []sdk.Value) error) error {
	for _, size := range batchSizes() {
		for len(values) >= size*width {
			if err := insert(size, values[:size*width]); err != nil {
				return err
			}
			values = values[size*width:]
		}
	}
	return nil
}

// prepared gives a prepared statement, a new one if need be.
func (s *mariadb) prepared(ctx context.Context, raw any, text string) (driver.StmtExecContext, error) {
	statement, ok := s.inserts[text]
	if !ok {
		preparer, can := raw.(driver.ConnPrepareContext)
		if !can {
			return nil, fmt.Errorf("prepare: %T cannot", raw)
		}
		var err error
		if statement, err = preparer.PrepareContext(ctx, text); err != nil {
			return nil, fmt.Errorf("prepare: %w", err)
		}
		s.inserts[text] = statement
	}
	execer, can := statement.(driver.StmtExecContext)
	if !can {
		return nil, fmt.Errorf("execute: %T cannot", statement)
	}
	return execer, nil
}

func (s *mariadb) Columns(ctx context.Context, table string) ([]string, error) {
	rows, err := s.conn.QueryContext(ctx, "SELECT * FROM "+table+" WHERE 1 = 0")
	if err != nil {
		return nil, s.note("look", err)
	}
	names, err := rows.Columns()
	return names, s.note("look", errors.Join(err, rows.Close()))
}

func (s *mariadb) Flavour() string { return s.flavour }

func (s *mariadb) Broken() bool { return s.broken || s.open }

func (s *mariadb) Close() {
	_ = s.conn.Close() // the server may be gone
	_ = s.db.Close()
}
