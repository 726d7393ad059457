package main

import (
	"errors"
	"reflect"
	"sync"
	"time"

	"github.com/picosnitch/picosnitch/host/internal/capture"
	"github.com/picosnitch/picosnitch/host/internal/identity"
	"github.com/picosnitch/picosnitch/host/internal/record"
	wire "github.com/picosnitch/picosnitch/sdk/proto"
)

// scribe is the recorder in force. It can be replaced by one with other options between two windows; what the old one has
// counted and has to say is kept.
//
// # Concurrency
//
// use and replace belong to the pipeline, and do not meet. Everything else may be called from any goroutine.
type scribe struct {
	mu     sync.RWMutex
	now    *record.Recorder
	before record.Counters // of those that were replaced
}

func newScribe(r *record.Recorder) *scribe { return &scribe{now: r} }

func (s *scribe) use() *record.Recorder {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return s.now
}

// Error writes a line into error.log, and gives a notice.
func (s *scribe) Error(text string) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	s.now.Error(text)
}

// Note writes a line into error.log.
func (s *scribe) Note(text string) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	s.now.Note(text)
}

// Counters are totals since the start.
func (s *scribe) Counters() record.Counters {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return sumCounters(s.before, s.now.Counters())
}

// Close writes everything.
func (s *scribe) Close() error { return s.use().Close() }

// replace puts a new recorder into force, which make makes when the old one has written what it knows. It gives the notices
// that the old one had not given yet.
func (s *scribe) replace(make func() (*record.Recorder, error)) ([]*wire.Record, error) {
	old := s.use()
	saved := old.Close()
	next, err := make()
	if err != nil {
		return nil, errors.Join(err, saved)
	}
	s.mu.Lock()
	s.before = sumCounters(s.before, old.Counters())
	s.now = next
	s.mu.Unlock()
	// Nobody has the old one any more. An empty window brings out what it was going to say.
	now := capture.Moment{UTC: time.Now().UnixNano()}
	waiting := old.Window(&capture.Window{Start: now, End: now}, func(*capture.Flow) identity.Lineage { return identity.Lineage{} })
	return waiting, errors.Join(saved, old.Close())
}

// sumCounters adds what only grows; Known is the second one's.
func sumCounters(a, b record.Counters) record.Counters {
	sum, more := reflect.ValueOf(&a).Elem(), reflect.ValueOf(b)
	for i := range sum.NumField() {
		if f := sum.Field(i); f.CanUint() {
			f.SetUint(f.Uint() + more.Field(i).Uint())
		}
	}
	a.Known = b.Known
	return a
}
