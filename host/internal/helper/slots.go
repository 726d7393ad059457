package helper

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
)

// slots say who may start a helper, and when: in turn by user, then by arrival.
type slots struct {
	max, share, maxAbandoned, maxWaiting int

	mu      sync.Mutex
	closed  bool
	running int
	stats   Stats // Running, Waiting and Abandoned are filled in by snapshot
	users   map[uint32]*user
	turns   []uint32 // users who wait, next first
	waiting int
	stuck   int
}

// user is one who has helpers or waits for them.
type user struct {
	running int
	stuck   int
	waiting []*waiter
}

type waiter struct {
	granted chan error // capacity 1
}

func newSlots(o Options) *slots {
	return &slots{
		max: o.Max, share: o.Share, maxAbandoned: o.MaxAbandoned, maxWaiting: o.MaxWaiting, users: map[uint32]*user{},
	}
}

// acquire waits for a place. Its errors are ErrBusy, ErrClosed and ErrTimeout.
func (s *slots) acquire(ctx context.Context, uid uint32) (*ticket, error) {
	w, err := s.enqueue(uid)
	if err != nil {
		return nil, err
	}
	select {
	case err = <-w.granted:
	case <-ctx.Done():
		err = s.withdraw(ctx, uid, w)
	}
	if err != nil {
		return nil, err
	}
	return &ticket{slots: s, uid: uid}, nil
}

func (s *slots) enqueue(uid uint32) (*waiter, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return nil, ErrClosed
	}
	u := s.userLocked(uid)
	defer s.forgetLocked(uid)
	err := s.hungLocked(u)
	if err == nil && (s.waiting >= s.maxWaiting || len(u.waiting) >= max(s.maxWaiting/4, 1)) {
		err = fmt.Errorf("%w: the queue is full", ErrBusy)
	}
	if err != nil {
		s.stats.Refused++
		return nil, err
	}
	w := &waiter{granted: make(chan error, 1)}
	if len(u.waiting) == 0 {
		s.turns = append(s.turns, uid)
	}
	u.waiting = append(u.waiting, w)
	s.waiting++
	s.dispatchLocked()
	return w, nil
}

// hungLocked tells whether waiting is in vain: the places are held by helpers that do not end.
func (s *slots) hungLocked(u *user) error {
	switch {
	case s.stuck >= s.maxAbandoned:
		return fmt.Errorf("%w: %d hang in file systems that do not answer", ErrBusy, s.stuck)
	case u.stuck >= s.share:
		return fmt.Errorf("%w: %d of this user's hang in file systems that do not answer", ErrBusy, u.stuck)
	}
	return nil
}

// withdraw gives up waiting. The place may have come just now: then it is taken.
func (s *slots) withdraw(ctx context.Context, uid uint32, w *waiter) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	select {
	case err := <-w.granted:
		return err
	default:
	}
	u := s.userLocked(uid)
	u.waiting = slices.DeleteFunc(u.waiting, func(other *waiter) bool { return other == w })
	s.waiting--
	if len(u.waiting) == 0 {
		s.turns = slices.DeleteFunc(s.turns, func(other uint32) bool { return other == uid })
	}
	s.forgetLocked(uid)
	if cause := context.Cause(ctx); errors.Is(cause, ErrClosed) {
		return ErrClosed
	}
	return fmt.Errorf("%w: waited for a helper: %w", ErrTimeout, ctx.Err())
}

// dispatchLocked grants what can be granted.
func (s *slots) dispatchLocked() {
	for i := 0; i < len(s.turns); {
		uid := s.turns[i]
		u := s.users[uid]
		err := s.hungLocked(u)
		if err == nil && (s.running >= s.max || u.running+u.stuck >= s.share) {
			i++ // not his turn yet; whoever is behind him may have one
			continue
		}
		w := u.waiting[0]
		u.waiting = u.waiting[1:]
		s.waiting--
		s.turns = slices.Delete(s.turns, i, i+1)
		if len(u.waiting) > 0 {
			s.turns = append(s.turns, uid)
		}
		if err == nil {
			s.running++
			u.running++
		} else {
			s.stats.Refused++
			s.forgetLocked(uid)
		}
		w.granted <- err
		i = 0
	}
}

func (s *slots) userLocked(uid uint32) *user {
	u := s.users[uid]
	if u == nil {
		u = &user{}
		s.users[uid] = u
	}
	return u
}

// forgetLocked drops a user who has and wants nothing.
func (s *slots) forgetLocked(uid uint32) {
	if u := s.users[uid]; u != nil && u.running == 0 && u.stuck == 0 && len(u.waiting) == 0 {
		delete(s.users, uid)
	}
}

// close refuses everybody from now on.
func (s *slots) close() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.closed = true
}

// count changes a counter.
func (s *slots) count(change func(*Stats)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	change(&s.stats)
}

func (s *slots) snapshot() Stats {
	s.mu.Lock()
	defer s.mu.Unlock()
	stats := s.stats
	stats.Running, stats.Waiting, stats.Abandoned = s.running, s.waiting, s.stuck
	return stats
}
