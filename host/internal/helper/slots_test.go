package helper

import (
	"context"
	"errors"
	"slices"
	"testing"
	"testing/synctest"
	"time"
)

func newTestSlots(o Options) *slots {
	o.fill()
	return newSlots(o)
}

// line has users wait in order and records in which they are served; each gives its place back at once.
func line(t *testing.T, s *slots, uids []uint32) []uint32 {
	t.Helper()
	served := make(chan uint32, len(uids))
	for _, uid := range uids {
		go func() {
			ticket, err := s.acquire(t.Context(), uid)
			if err != nil {
				t.Errorf("user %d: %v", uid, err)
				return
			}
			served <- uid
			time.Sleep(time.Second) // of the bubble
			ticket.end()
		}()
		synctest.Wait()
	}
	var order []uint32
	for range uids {
		order = append(order, <-served)
	}
	time.Sleep(time.Minute)
	return order
}

func TestUsersAreServedInTurn(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := newTestSlots(Options{Max: 1, Share: 1})
		got := line(t, s, []uint32{1, 1, 1, 1, 2, 2, 3})
		if want := []uint32{1, 1, 2, 3, 1, 2, 1}; !slices.Equal(got, want) {
			t.Errorf("served %v, want %v", got, want)
		}
		if stats := s.snapshot(); stats.Running != 0 || stats.Waiting != 0 || len(s.users) != 0 {
			t.Errorf("%+v, %d users kept", stats, len(s.users))
		}
	})
}

func TestNobodyHasMoreThanHisShare(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := newTestSlots(Options{})
		for range 2 {
			if _, err := s.acquire(t.Context(), 1); err != nil {
				t.Fatal(err)
			}
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if _, err := s.acquire(ctx, 1); !errors.Is(err, ErrTimeout) {
			t.Errorf("a third: %v", err)
		}
		for range 2 {
			if _, err := s.acquire(t.Context(), 2); err != nil {
				t.Fatal(err)
			}
		}
		if stats := s.snapshot(); stats.Running != 4 || stats.Waiting != 0 {
			t.Errorf("%+v", stats)
		}
	})
}

func TestHungHelpersNeverGrowBeyondTheirCap(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := newTestSlots(Options{})
		var hung []*ticket
		for uid := range uint32(100) {
			for range 3 {
				if ticket, err := s.acquire(t.Context(), uid); err == nil {
					ticket.abandon()
					hung = append(hung, ticket)
				} else if !errors.Is(err, ErrBusy) {
					t.Fatal(err)
				}
			}
		}
		if len(hung) != 8 || s.snapshot().Abandoned != 8 {
			t.Errorf("%d hang, %+v", len(hung), s.snapshot())
		}
		for _, ticket := range hung {
			ticket.end()
			ticket.end() // changes nothing
		}
		if _, err := s.acquire(t.Context(), 1); err != nil || s.snapshot().Abandoned != 0 {
			t.Errorf("afterwards: %v, %+v", err, s.snapshot())
		}
	})
}

func TestWhoWaitsWhenAllHangIsRefusedAndForgotten(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := newTestSlots(Options{Max: 1, MaxAbandoned: 1})
		hung, err := s.acquire(t.Context(), 1)
		if err != nil {
			t.Fatal(err)
		}
		waits := make(chan error)
		go func() {
			_, err := s.acquire(t.Context(), 2)
			waits <- err
		}()
		synctest.Wait()
		hung.abandon()
		if err := <-waits; !errors.Is(err, ErrBusy) || len(s.users) != 1 {
			t.Errorf("%v, %d users kept", err, len(s.users))
		}
	})
}

func TestQueueIsBoundedForAllAndForEach(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := newTestSlots(Options{Max: 1, MaxWaiting: 8})
		ctx, cancel := context.WithCancel(t.Context())
		results := make(chan error, 100)
		for i := range 50 {
			go func() {
				_, err := s.acquire(ctx, uint32(i%2))
				results <- err
			}()
		}
		synctest.Wait()
		if stats := s.snapshot(); stats.Running != 1 || stats.Waiting != 4 || stats.Refused != 45 {
			t.Errorf("%+v", stats)
		}
		cancel()
		synctest.Wait()
		if stats := s.snapshot(); stats.Waiting != 0 || len(s.turns) != 0 {
			t.Errorf("%+v", stats)
		}
	})
}
