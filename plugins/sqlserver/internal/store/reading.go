package store

import (
	"context"
	"errors"
	"fmt"

	"github.com/picosnitch/picosnitch/plugins/sqlserver/internal/server"
	"github.com/picosnitch/picosnitch/sdk"
)

// answerer reads what somebody asks for, over one session and in one state of the database.
type answerer struct {
	session server.Session
	base    string
	dialect server.Dialect
	refused error // by who takes the answer: no trouble of the server
}

// refuse remembers that the one who takes the answer did not want it, and returns the error, which may be nil.
func (a *answerer) refuse(err error) error {
	if a.refused == nil {
		a.refused = err
	}
	return err
}

// reading lends f a session. An error is explained as the server's, unless the answer was refused, it wraps
// [sdk.ErrQuery], or nobody waits any more.
func (s *Store) reading(ctx context.Context, f func(*answerer) error) error {
	var refused error
	err := s.readers.Use(ctx, func(session server.Session) error {
		base, err := s.table(ctx, session)
		if err != nil {
			return err
		}
		if err := session.Begin(ctx, server.Snapshot); err != nil {
			return err
		}
		// The pool throws the session away if this fails.
		defer func() { _ = session.Rollback(context.WithoutCancel(ctx)) }()
		a := &answerer{session: session, base: base, dialect: s.server.Dialect}
		err = f(a)
		if a.refused != nil || errors.Is(err, sdk.ErrQuery) {
			refused = err
			return nil
		}
		return err
	})
	switch {
	case refused != nil:
		return refused
	case ctx.Err() != nil:
		return ctx.Err() // the server's word for it is a statement that was ended
	case err != nil:
		trouble, _ := explain(err)
		return fmt.Errorf("%s %s: %s", s.server.Name, trouble, s.server.Words(err))
	}
	return nil
}
