package logfile

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"github.com/picosnitch/picosnitch/sdk"
)

// retryDelay is how long the host waits after a batch that could not be written.
const retryDelay = 5 * time.Second

// Sink writes conn.log. It is an [sdk.Sink].
type Sink struct {
	now func() time.Time

	config   config
	dir      string
	log      *file // nil: read-only, not configured, or lost with an error and opened anew by the next batch
	marks    *sdk.Marks
	begun    time.Time // of the log
	unsynced bool      // the directory was changed and not synced
	lines    []byte    // room for a batch

	trouble   atomic.Pointer[error] // why the last batch could not be written; nil: it was
	size      atomic.Int64          // of the log
	rotations atomic.Int64
}

// New makes a Sink that takes the time, for the age of logs, from now.
func New(now func() time.Time) *Sink { return &Sink{now: now} }

// Describe says what the plugin is.
func (*Sink) Describe() sdk.Description {
	return sdk.Description{
		Name: "textlog", Version: sdk.Version, Needs: sdk.Needs{MemoryMB: 64}, ConfigSchema: sdk.Schema(defaults()),
	}
}

// Configure opens the log and cuts off what was not acknowledged.
func (s *Sink) Configure(_ context.Context, settings sdk.Settings) error {
	s.config, s.dir = defaults(), settings.Directory
	if err := sdk.Decode(settings.Config, &s.config); err != nil {
		return err
	}
	if settings.ReadOnly {
		return nil // a log answers no queries: there is nothing to do
	}
	m, err := loadMark(s.dir)
	if errors.Is(err, errMark) {
		err = s.setAside(err)
	}
	if err != nil {
		return err
	}
	s.marks = sdk.NewMarks(m.Marks)
	if err := s.resume(m); err != nil {
		return errors.Join(err, s.closeLog())
	}
	return nil
}

// setAside moves away a mark that cannot be read: the log goes on, and the host decides what to send.
func (s *Sink) setAside(why error) error {
	slog.Warn("set aside as "+markName+".bad; a batch may stand in the log twice", "err", why)
	path := filepath.Join(s.dir, markName)
	if err := os.Rename(path, path+".bad"); err != nil {
		return fmt.Errorf("set mark aside: %w", err)
	}
	return nil
}

// resume opens the log and brings it to where the mark says that it was.
func (s *Sink) resume(m mark) error {
	f, err := openFile(s.dir)
	if err != nil {
		return err
	}
	s.log, s.begun = f, m.Begun
	switch {
	case f.is(m) && f.committed >= m.Offset:
		f.committed = m.Offset
		err = f.cut()
	case f.is(m): // shortened by another hand
		err = f.endLine()
	default:
		s.begun = s.now()
		err = errors.Join(cutMoved(s.dir, m), f.endLine())
	}
	if err == nil && !(f.is(m) && f.committed == m.Offset) { // a full disk is no hindrance where nothing changed
		err = s.commit(s.marks.List(), 0)
	}
	if err != nil {
		return err
	}
	s.size.Store(f.committed)
	s.unsynced = true // the process before may have died before it was: the host must not be told of it until it is
	return s.synced()
}

// Watermarks tells what the log holds.
func (s *Sink) Watermarks(context.Context) ([]sdk.Watermark, error) { return s.marks.List(), nil }

// Apply writes a batch. What hinders it is the disk, or a hand in the directory: the host is to come back.
func (s *Sink) Apply(_ context.Context, b *sdk.Batch) error {
	err := s.synced()
	if err == nil {
		var store bool
		if store, err = s.marks.Decide(b); !store {
			return err
		}
		err = s.store(b)
	}
	if err == nil {
		s.trouble.Store(nil)
		return nil
	}
	err = explain(err, s.dir)
	s.trouble.Store(&err)
	return &sdk.Retry{After: retryDelay, Downstream: true, Err: err}
}

// store writes the lines of a batch and commits it.
func (s *Sink) store(b *sdk.Batch) error {
	if s.config.Format == "json" {
		s.lines = appendJSON(s.lines[:0], b.Batch)
	} else {
		s.lines = appendText(s.lines[:0], b.Batch)
	}
	if err := s.ready(int64(len(s.lines))); err != nil {
		return err
	}
	if err := s.log.add(s.lines); err != nil {
		return err
	}
	if err := s.commit(s.marks.With(b), int64(len(s.lines))); err != nil {
		return err
	}
	s.marks.Stored(b)
	return s.synced()
}

// ready sees to it that the log is the one of that name, ends where it is committed, and has room for more bytes.
func (s *Sink) ready(more int64) error {
	if s.log != nil {
		if done, err := s.goOn(more); done || err != nil {
			return err
		}
	}
	f, err := openFile(s.dir)
	if err != nil {
		return err
	}
	s.log, s.begun = f, s.now()
	err = f.endLine()
	if err == nil {
		err = s.commit(s.marks.List(), 0) // so that a crash from here on finds what to cut
	}
	if err != nil {
		return errors.Join(err, s.closeLog())
	}
	return nil
}

// goOn says whether the open log takes more bytes. If it does not, it is moved away, if nobody else did that, and closed.
func (s *Sink) goOn(more int64) (bool, error) {
	moved, err := s.log.moved()
	if err == nil {
		err = s.log.settle()
	}
	due := s.config.Rotate.due(s.log.committed, more, s.begun, s.now())
	if err != nil || !moved && !due {
		return true, err
	}
	if !moved {
		if err := rotate(s.dir, s.config.Rotate.Keep); err != nil {
			return false, err
		}
		s.rotations.Add(1)
	}
	return false, s.closeLog()
}

// commit makes more bytes of the log and the watermarks what a restart finds. After an error neither is.
func (s *Sink) commit(marks []sdk.Watermark, more int64) error {
	m := mark{Device: s.log.device, Inode: s.log.inode, Offset: s.log.committed + more, Begun: s.begun, Marks: marks}
	if err := m.save(s.dir); err != nil {
		return errors.Join(err, s.log.cut())
	}
	s.log.committed, s.unsynced = m.Offset, true
	s.size.Store(m.Offset)
	return nil
}

// synced makes renames safe: nothing is acknowledged before.
func (s *Sink) synced() error {
	if !s.unsynced {
		return nil
	}
	if err := syncDir(s.dir); err != nil {
		return err
	}
	s.unsynced = false
	return nil
}

// explain adds what a person can do.
func explain(err error, dir string) error {
	switch {
	case errors.Is(err, unix.ENOSPC), errors.Is(err, unix.EDQUOT):
		return fmt.Errorf("no space left in %s; free some space, or let the log rotate: %w", dir, err)
	case errors.Is(err, unix.EROFS), errors.Is(err, unix.EACCES), errors.Is(err, unix.EPERM):
		return fmt.Errorf("%s cannot be written: %w", dir, err)
	}
	return err
}

// Health is what hindered the last batch.
func (s *Sink) Health(context.Context) error {
	if trouble := s.trouble.Load(); trouble != nil {
		return *trouble
	}
	return nil
}

// Metrics are the log's size and how often it was rotated.
func (s *Sink) Metrics(context.Context) map[string]int64 {
	return map[string]int64{"log_bytes": s.size.Load(), "rotations": s.rotations.Load()}
}

// Drain closes the log. All that was acknowledged is safe already.
func (s *Sink) Drain(context.Context) error { return s.closeLog() }

func (s *Sink) closeLog() error {
	if s.log == nil {
		return nil
	}
	f := s.log
	s.log = nil
	if err := f.Close(); err != nil {
		return fmt.Errorf("close log: %w", err)
	}
	return nil
}
