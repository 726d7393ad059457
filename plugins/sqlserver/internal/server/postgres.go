package server

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgconn/ctxwatch"

	"github.com/picosnitch/picosnitch/sdk"
)

// closeTimeout bounds the farewell to a server that may be gone.
const closeTimeout = 2 * time.Second

// postgres is a session of PostgreSQL and what speaks its protocol.
type postgres struct {
	conn   *pgx.Conn
	tx     pgx.Tx
	noCopy bool // row security applies: PostgreSQL refuses COPY FROM then
}

// connectPostgres opens a session. Cancelling a statement tells the server too: it would go on with a long one.
func connectPostgres(ctx context.Context, config *pgx.ConnConfig) (Session, error) {
	c := config.Copy()
	c.BuildContextWatcherHandler = func(conn *pgconn.PgConn) ctxwatch.Handler {
		return &pgconn.CancelRequestContextWatcherHandler{Conn: conn, DeadlineDelay: closeTimeout}
	}
	conn, err := pgx.ConnectConfig(ctx, c)
	if err != nil {
		return nil, fmt.Errorf("connect: %w", err)
	}
	s := &postgres{conn: conn}
	if encoding := conn.PgConn().ParameterStatus("server_encoding"); encoding != "" && encoding != "UTF8" {
		s.Close()
		return nil, fmt.Errorf("%w; it has %s", ErrEncoding, encoding)
	}
	// To compile a question takes the server longer than to answer it. One that cannot compile does not know the setting.
	_, _ = conn.Exec(ctx, "SET jit = off")
	return s, nil
}

func (s *postgres) Begin(ctx context.Context, access Access) (err error) {
	options := pgx.TxOptions{}
	if access == Snapshot {
		options = pgx.TxOptions{IsoLevel: pgx.RepeatableRead, AccessMode: pgx.ReadOnly}
	}
	s.tx, err = s.conn.BeginTx(ctx, options)
	return wrap("begin", err)
}

func (s *postgres) Commit(ctx context.Context) error { return wrap("commit", s.tx.Commit(ctx)) }

func (s *postgres) Rollback(ctx context.Context) error {
	if s.conn.IsClosed() {
		return nil
	}
	err := s.tx.Rollback(ctx)
	if errors.Is(err, pgx.ErrTxClosed) {
		return nil
	}
	return wrap("roll back", err)
}

func (s *postgres) Exec(ctx context.Context, statement string, args ...any) error {
	_, err := s.conn.Exec(ctx, statement, args...)
	return err
}

func (s *postgres) Query(ctx context.Context, statement string, args ...any) (Rows, error) {
	rows, err := s.conn.Query(ctx, statement, args...)
	if err != nil {
		return nil, err
	}
	return postgresRows{rows}, nil
}

// postgresRows gives pgx's answer the method that Rows wants.
type postgresRows struct{ pgx.Rows }

func (r postgresRows) Close() error {
	r.Rows.Close()
	return r.Err()
}

// Insert copies. Where row security refuses that, the error is Unsupported; from then on rows are inserted.
func (s *postgres) Insert(ctx context.Context, table string, columns []string, values []sdk.Value) error {
	if s.noCopy {
		return s.insert(ctx, table, columns, values)
	}
	var text bytes.Buffer
	for i, v := range values {
		appendCopy(&text, v)
		if (i+1)%len(columns) == 0 {
			text.WriteByte('\n')
		} else {
			text.WriteByte('\t')
		}
	}
	_, err := s.conn.PgConn().CopyFrom(ctx, io.Reader(&text),
		"COPY "+table+` ("`+strings.Join(columns, `", "`)+`") FROM STDIN`)
	s.noCopy = err != nil && Classify(err) == Unsupported
	return err
}

// appendCopy writes a value in the text format of COPY.
func appendCopy(b *bytes.Buffer, v sdk.Value) {
	if v.Type() == sdk.Integer {
		b.Write(strconv.AppendInt(b.AvailableBuffer(), v.Number(), 10))
		return
	}
	text := v.Text()
	for {
		i := strings.IndexAny(text, "\\\t\n\r")
		if i < 0 {
			b.WriteString(text)
			return
		}
		b.WriteString(text[:i])
		b.WriteByte('\\')
		b.WriteByte(map[byte]byte{'\\': '\\', '\t': 't', '\n': 'n', '\r': 'r'}[text[i]])
		text = text[i+1:]
	}
}

// insert takes one array for each column, which costs the server far less than a parameter for each value.
func (s *postgres) insert(ctx context.Context, table string, columns []string, values []sdk.Value) error {
	arrays, marks := make([]any, len(columns)), make([]string, len(columns))
	for i := range columns {
		marks[i] = fmt.Sprintf("$%d::text[]", i+1)
		if values[i].Type() == sdk.Integer {
			marks[i] = fmt.Sprintf("$%d::bigint[]", i+1)
			arrays[i] = column(values[i:], len(columns), sdk.Value.Number)
			continue
		}
		arrays[i] = column(values[i:], len(columns), sdk.Value.Text)
	}
	return s.Exec(ctx, "INSERT INTO "+table+` ("`+strings.Join(columns, `", "`)+`") SELECT * FROM unnest(`+
		strings.Join(marks, ", ")+")", arrays...)
}

// column takes the first of every width values.
func column[T any](values []sdk.Value, width int, of func(sdk.Value) T) []T {
	list := make([]T, 0, len(values)/width+1)
	for i := 0; i < len(values); i += width {
		list = append(list, of(values[i]))
	}
	return list
}

func (s *postgres) Columns(ctx context.Context, table string) ([]string, error) {
	rows, err := s.conn.Query(ctx, "SELECT * FROM "+table+" WHERE 1 = 0", pgx.QueryExecModeDescribeExec)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	var names []string
	for _, f := range rows.FieldDescriptions() {
		names = append(names, f.Name)
	}
	rows.Close()
	return names, rows.Err()
}

func (s *postgres) Flavour() string { return "PostgreSQL" }

func (s *postgres) Broken() bool { return s.conn.IsClosed() || s.conn.PgConn().TxStatus() != 'I' }

func (s *postgres) Close() {
	ctx, cancel := context.WithTimeout(context.Background(), closeTimeout)
	defer cancel()
	_ = s.conn.Close(ctx) // the server may be gone
}

// wrap says what was tried; nil stays nil.
func wrap(what string, err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("%s: %w", what, err)
}
