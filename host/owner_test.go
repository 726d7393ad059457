package main

import (
	"context"
	"errors"
	"log/slog"
	"testing"
	"time"

	"github.com/picosnitch/picosnitch/host/internal/helper"
	"github.com/picosnitch/picosnitch/host/internal/packages"
)

// ownerAnswers is a finder that knows its answers by path.
type ownerAnswers map[string]packages.Owner

func (a ownerAnswers) Packages(ctx context.Context, r helper.PackagesRequest) (packages.Owner, error) {
	if r.Path == "/hangs" {
		<-ctx.Done()
		return packages.Owner{}, ctx.Err()
	}
	owner, ok := a[r.Path]
	if !ok || r.MaxBytes == 0 {
		return packages.Owner{}, errors.New("no answer")
	}
	return owner, nil
}

func TestNewHashIsExplainedByThePackageManager(t *testing.T) {
	t.Parallel()
	sum, other := []byte("12345678901234567890123456789012"), []byte("another hash, of thirty-two bytes")
	o := newOwners(ownerAnswers{
		"/usr/bin/curl": {Manager: "dpkg", Package: "curl", Version: "8", Checksum: packages.ChecksumMatch, SHA256: sum},
		"/usr/bin/swap": {Manager: "dpkg", Package: "swap", Checksum: packages.ChecksumMatch, SHA256: other},
		"/opt/own":      {},
	}, slog.New(slog.DiscardHandler))
	defer o.close()
	for path, want := range map[string]string{
		"/usr/bin/curl": "curl 8 owns it and its checksum matches", "/usr/bin/swap": "it has been replaced since",
		"/opt/own": "no package owns it", "/nobody/answers": "",
	} {
		select {
		case words := <-o.explain(path, sum):
			if words != want {
				t.Errorf("%s: %q, want %q", path, words, want)
			}
		case <-time.After(30 * time.Second):
			t.Errorf("%s: no answer", path)
		}
	}
}

func TestTooManyQuestionsAreNotTaken(t *testing.T) {
	t.Parallel()
	o := newOwners(ownerAnswers{}, slog.New(slog.DiscardHandler))
	taken := 0
	for range 10 * ownerQueue {
		if o.explain("/hangs", nil) != nil {
			taken++
		}
	}
	if taken < ownerQueue || taken > ownerQueue+1 {
		t.Errorf("%d taken, want about %d", taken, ownerQueue)
	}
	ended := make(chan struct{})
	go func() { o.close(); close(ended) }()
	select {
	case <-ended:
	case <-time.After(30 * time.Second):
		t.Fatal("close hangs with the question")
	}
}
