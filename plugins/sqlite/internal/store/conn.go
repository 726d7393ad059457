package store

import (
	"context"
	"database/sql/driver"
	"errors"
	"fmt"
	"io"

	"modernc.org/sqlite"
)

// conn is the one connection that writes. It uses the driver directly: database/sql costs as much per row as SQLite
// itself. It is not safe for concurrent use.
type conn struct {
	raw   driver.Conn
	stmts map[string]*stmt
}

// stmt is a prepared statement with room for its arguments, which are the same slice at every call.
type stmt struct {
	raw  driver.Stmt
	args []driver.NamedValue
}

func openConn(d *sqlite.Driver, dsn string) (*conn, error) {
	raw, err := d.Open(dsn)
	if err != nil {
		return nil, err
	}
	return &conn{raw: raw, stmts: make(map[string]*stmt)}, nil
}

// prepare gives the statement of a text, which is prepared once. The texts are constants of this package: the map
// stays small.
func (c *conn) prepare(text string) (*stmt, error) {
	if s, ok := c.stmts[text]; ok {
		return s, nil
	}
	raw, err := c.raw.Prepare(text)
	if err != nil {
		return nil, fmt.Errorf("prepare %q: %w", text, err)
	}
	s := &stmt{raw: raw}
	c.stmts[text] = s
	return s, nil
}

// bind fills the arguments; they stay valid until the next call with this statement.
func (s *stmt) bind(values []driver.Value) []driver.NamedValue {
	if len(s.args) != len(values) {
		s.args = make([]driver.NamedValue, len(values))
	}
	for i, v := range values {
		s.args[i] = driver.NamedValue{Ordinal: i + 1, Value: v}
	}
	return s.args
}

// exec runs a statement and gives the number of rows it changed. It waits for a lock of another program only as long as
// the busy timeout says and is never interrupted halfway.
func (c *conn) exec(text string, values ...driver.Value) (int64, error) {
	r, err := c.run(text, values)
	if err != nil {
		return 0, err
	}
	return r.RowsAffected()
}

// insert runs a statement and gives the id of the row it added.
func (c *conn) insert(text string, values ...driver.Value) (int64, error) {
	r, err := c.run(text, values)
	if err != nil {
		return 0, err
	}
	return r.LastInsertId()
}

func (c *conn) run(text string, values []driver.Value) (driver.Result, error) {
	s, err := c.prepare(text)
	if err != nil {
		return nil, err
	}
	return s.raw.(driver.StmtExecContext).ExecContext(context.Background(), s.bind(values))
}

// script runs statements that are used once.
func (c *conn) script(text string) error {
	_, err := c.raw.(driver.ExecerContext).ExecContext(context.Background(), text, nil)
	return err
}

// once runs a long statement that is used once, and ends it with ctx.
func (c *conn) once(ctx context.Context, text string, values ...driver.Value) error {
	named := (&stmt{}).bind(values)
	_, err := c.raw.(driver.ExecerContext).ExecContext(ctx, text, named)
	return err
}

// row reads the first row of an answer into dest; found is false when there is none.
func (c *conn) row(text string, dest []driver.Value, values ...driver.Value) (found bool, err error) {
	s, err := c.prepare(text)
	if err != nil {
		return false, err
	}
	rows, err := s.raw.(driver.StmtQueryContext).QueryContext(context.Background(), s.bind(values))
	if err != nil {
		return false, err
	}
	err = rows.Next(dest)
	if err == nil {
		// To its end: a statement with RETURNING has done its work only then.
		rest := make([]driver.Value, len(dest))
		if end := rows.Next(rest); !errors.Is(end, io.EOF) {
			err = end
		}
		return err == nil, errors.Join(err, rows.Close())
	}
	closed := rows.Close()
	if errors.Is(err, io.EOF) {
		return false, closed
	}
	return false, err
}

// number reads one number.
func (c *conn) number(text string, values ...driver.Value) (n int64, found bool, err error) {
	dest := make([]driver.Value, 1)
	found, err = c.row(text, dest, values...)
	n, _ = dest[0].(int64)
	return n, found, err
}

// blob reads one value of bytes.
func (c *conn) blob(text string, to *[]byte, values ...driver.Value) (found bool, err error) {
	dest := make([]driver.Value, 1)
	found, err = c.row(text, dest, values...)
	*to, _ = dest[0].([]byte)
	return found, err
}

// transact runs f between BEGIN IMMEDIATE and COMMIT, or rolls back when f fails.
func (c *conn) transact(f func() error) error {
	if _, err := c.exec("BEGIN IMMEDIATE"); err != nil {
		return fmt.Errorf("begin: %w", err)
	}
	err := f()
	if err == nil {
		if _, err = c.exec("COMMIT"); err == nil {
			return nil
		}
		err = fmt.Errorf("commit: %w", err)
	}
	// SQLite has rolled back by itself after some errors (disk full); a second time is refused and does no harm.
	_, _ = c.exec("ROLLBACK")
	return err
}

func (c *conn) close() error {
	var errs []error
	for _, s := range c.stmts {
		errs = append(errs, s.raw.Close())
	}
	return errors.Join(append(errs, c.raw.Close())...)
}

// each calls f with every row of an answer of the given width; the row is valid until f returns.
func (c *conn) each(ctx context.Context, text string, width int, f func(row []driver.Value) error, values ...driver.Value) error {
	s, err := c.prepare(text)
	if err != nil {
		return err
	}
	rows, err := s.raw.(driver.StmtQueryContext).QueryContext(ctx, s.bind(values))
	if err != nil {
		return err
	}
	row := make([]driver.Value, width)
	for {
		err := rows.Next(row)
		if errors.Is(err, io.EOF) {
			return rows.Close()
		}
		if err == nil {
			err = f(row)
		}
		if err != nil {
			return errors.Join(err, rows.Close())
		}
	}
}
