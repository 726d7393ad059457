package store

import (
	"context"
	"sync"
	"time"

	"github.com/picosnitch/picosnitch/sdk/storekit"
)

// reportEvery is how often a query that scans rows tells how far it is.
const reportEvery = 250 * time.Millisecond

// report tells how far a scan is, in pages without rows, until stop is called. stop waits for the last one, and returns
// the error that ended the reader's interest; the context is done then too. Nothing else uses out meanwhile.
func report(ctx context.Context, out *storekit.Pager, scan *progress) (reporting context.Context, stop func() error) {
	if scan == nil || scan.scan == 0 {
		return ctx, func() error { return nil }
	}
	reporting, cancel := context.WithCancelCause(ctx)
	done := make(chan struct{})
	var wait sync.WaitGroup
	var failed error
	wait.Go(func() {
		ticker := time.NewTicker(reportEvery)
		defer ticker.Stop()
		for {
			select {
			case <-done:
				return
			case <-ctx.Done():
				return
			case <-ticker.C:
			}
			if failed = out.Progress(scan.far()); failed != nil {
				cancel(failed)
				return
			}
		}
	})
	return reporting, func() error {
		close(done)
		wait.Wait()
		out.Scanned(scan.far())
		return failed
	}
}
