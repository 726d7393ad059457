package main

import (
	"bytes"
	"context"
	"log/slog"
	"sync"
	"time"

	"github.com/picosnitch/picosnitch/host/internal/helper"
	"github.com/picosnitch/picosnitch/host/internal/packages"
)

// What is asked about package owners. An upgrade changes many files at once.
const (
	ownerQueue = 64
	ownerBytes = 256 << 20       // of a file that is compared
	ownerTime  = 8 * time.Second // for one answer; the notice does not wait longer
	ownerAgain = 2 * time.Second // while the package manager is at work
)

// finder finds out whose files are; [helper.Pool] is one.
type finder interface {
	Packages(context.Context, helper.PackagesRequest) (packages.Owner, error)
}

// owners explains new hashes, one after the other, in a goroutine that close waits for.
type owners struct {
	finder    finder
	log       *slog.Logger
	questions chan ownerQuestion
	cancel    context.CancelFunc
	ended     sync.WaitGroup
}

type ownerQuestion struct {
	path   string
	sha256 []byte
	words  chan string // holds one
}

func newOwners(f finder, log *slog.Logger) *owners {
	ctx, cancel := context.WithCancel(context.Background())
	o := &owners{finder: f, log: log, questions: make(chan ownerQuestion, ownerQueue), cancel: cancel}
	o.ended.Go(func() { o.answer(ctx) })
	return o
}

func (o *owners) close() {
	o.cancel()
	o.ended.Wait()
}

// explain is record.Options.Explain.
func (o *owners) explain(path string, sha256 []byte) <-chan string {
	q := ownerQuestion{path, sha256, make(chan string, 1)}
	select {
	case o.questions <- q:
		return q.words
	default:
		return nil
	}
}

func (o *owners) answer(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case q := <-o.questions:
			q.words <- o.words(ctx, q)
		}
	}
}

// words asks until the package manager is done, but not for long.
func (o *owners) words(ctx context.Context, q ownerQuestion) string {
	ctx, cancel := context.WithTimeout(ctx, ownerTime)
	defer cancel()
	for {
		owner, err := o.finder.Packages(ctx, helper.PackagesRequest{Path: q.path, MaxBytes: ownerBytes})
		if err != nil {
			o.log.Debug("find the package of a file", "path", q.path, "error", err)
			return ""
		}
		if owner.Working {
			select {
			case <-time.After(ownerAgain):
				continue
			case <-ctx.Done():
			}
		}
		if owner.SHA256 != nil && !bytes.Equal(owner.SHA256, q.sha256) {
			return "it has been replaced since"
		}
		return owner.Words()
	}
}
