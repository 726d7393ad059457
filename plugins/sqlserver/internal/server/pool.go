package server

import (
	"context"
	"errors"
)

// ErrClosed is returned by a Pool that was closed.
var ErrClosed = errors.New("the pool is closed")

// Pool keeps sessions of one server for several users.
type Pool struct {
	server *Server
	places chan Session // one element a place: a session that waits, or nil where none was opened yet
	closed chan struct{}
}

// NewPool makes a pool of at most size sessions and opens none.
func NewPool(s *Server, size int) *Pool {
	p := &Pool{server: s, places: make(chan Session, size), closed: make(chan struct{})}
	for range size {
		p.places <- nil
	}
	return p
}

// Use lends a session to f, waiting for one until ctx is done. What f left open is rolled back.
func (p *Pool) Use(ctx context.Context, f func(Session) error) error {
	var session Session
	select {
	case <-p.closed:
		return ErrClosed
	case session = <-p.places:
	case <-ctx.Done():
		return ctx.Err()
	}
	defer func() { p.places <- keep(session) }()
	// One that waited may have been ended by the server meanwhile.
	if session != nil && session.Exec(ctx, "SELECT 1") != nil {
		session.Close()
		session = nil
	}
	if session == nil {
		var err error
		if session, err = p.server.Open(ctx); err != nil {
			session = nil
			return err
		}
	}
	return f(session)
}

// keep closes a session that is of no more use.
func keep(s Session) Session {
	if s != nil && s.Broken() {
		s.Close()
		return nil
	}
	return s
}

// Close waits for the sessions that are lent and closes them all. It is called once.
func (p *Pool) Close() {
	close(p.closed)
	for range cap(p.places) {
		if s := <-p.places; s != nil {
			s.Close()
		}
	}
}
