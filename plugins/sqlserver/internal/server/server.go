// Package server reaches one PostgreSQL, MariaDB or MySQL server: it reads the settings of `DB sql server`, opens sessions
// and says what an error of the server means. What is said in SQL is the business of its callers.
//
// Statements are written one way for all servers: values are $1, $2, …, identifiers stand in double quotes.
//
// # Concurrency
//
// A Server and a Pool may be used from any goroutine, a Session from one at a time. A statement on MariaDB or MySQL that
// is cancelled starts a goroutine that ends it at the server; Rows.Close waits for it.
package server

import (
	"context"
	"strings"

	"github.com/picosnitch/picosnitch/sdk"
)

// Dialect is the way in which servers differ.
type Dialect int

// MySQL is also MariaDB.
const (
	PostgreSQL Dialect = iota
	MySQL
)

// Access says what a transaction is for.
type Access int

// Write sees what others commit meanwhile; Snapshot changes nothing and sees one state.
const (
	Write Access = iota
	Snapshot
)

// Session is one connection. After an error it may be broken; what it had begun is rolled back by the server then.
type Session interface {
	// Begin begins a transaction; Rollback after Commit does nothing.
	Begin(ctx context.Context, access Access) error
	Commit(ctx context.Context) error
	Rollback(ctx context.Context) error
	// Exec runs a statement without an answer. Arguments are string or int64.
	Exec(ctx context.Context, statement string, args ...any) error
	// Query runs a statement with an answer, which must be closed before the session is used again.
	Query(ctx context.Context, statement string, args ...any) (Rows, error)
	// Insert adds rows to a table, whose name is quoted already; values has one row of columns after the other.
	Insert(ctx context.Context, table string, columns []string, values []sdk.Value) error
	// Columns lists the columns of a table or view, whose name is quoted already. No right but SELECT is needed for it.
	Columns(ctx context.Context, table string) ([]string, error)
	// Flavour is what the server calls itself.
	Flavour() string
	// Broken says that nothing can be done with the session but Close.
	Broken() bool
	Close()
}

// Rows is an answer.
type Rows interface {
	Next() bool
	// Scan takes pointers to string or int64, one for each column.
	Scan(dest ...any) error
	// Close ends reading and tells what went wrong with it.
	Close() error
}

// Server is one server with the settings to log in.
type Server struct {
	Dialect Dialect
	Table   string // setting `table_name`, valid, with its schema if it has one
	Name    string // for a person, without secrets
	Browse  bool   // setting `browse_only`: nothing is to be stored

	secrets []string
	connect func(context.Context) (Session, error)
}

// Open opens a session. The caller closes it.
func (s *Server) Open(ctx context.Context) (Session, error) { return s.connect(ctx) }

// Words are an error as a person may see it: no secret, nothing that a terminal would obey.
func (s *Server) Words(err error) string {
	text := err.Error()
	for _, secret := range s.secrets {
		text = strings.ReplaceAll(text, secret, "********")
	}
	const most = 600
	if text = sdk.EscapeString(text); len(text) > most {
		text = strings.ToValidUTF8(text[:most], "") + "…"
	}
	return text
}

// Quote makes an identifier of a table's name, which may have its schema before a point.
func Quote(table string) string {
	return `"` + strings.ReplaceAll(table, ".", `"."`) + `"`
}
