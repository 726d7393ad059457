package store

import (
	"context"
	"sync"
	"time"

	"google.golang.org/protobuf/proto"

	wire "github.com/picosnitch/picosnitch/sdk/proto"
)

// reportEvery is how often a query that scans rows tells how far it is.
const reportEvery = 250 * time.Millisecond

// pager gathers rows into pages.
type pager struct {
	send    func(*wire.QueryPage) error
	page    *wire.QueryPage
	size    int
	scanned int64
	scan    int64
}

func (p *pager) row(r *wire.QueryRow) error {
	p.page.Rows = append(p.page.Rows, r)
	if p.scan == 0 {
		p.scanned += int64(r.GetMeasures().GetRows())
	}
	p.page.Scanned, p.page.Scan = p.scanned, p.scan
	return p.grew(proto.Size(r))
}

// grew notes that the page has become larger and sends it if it is large enough.
func (p *pager) grew(bytes int) error {
	if p.size += bytes; p.size < pageBytes {
		return nil
	}
	page := p.page
	p.page, p.size = &wire.QueryPage{Scanned: p.scanned, Scan: p.scan}, 0
	return p.send(page)
}

// report tells how far a scan is, in pages without rows, until stop is called. stop waits for the last one, and returns
// the error that ended the reader's interest; the context is done then too.
func (p *pager) report(ctx context.Context, scan *progress) (reporting context.Context, stop func() error) {
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
			page := &wire.QueryPage{Columns: p.page.Columns, Scanned: min(scan.scanned.Load(), scan.scan), Scan: scan.scan}
			if failed = p.send(page); failed != nil {
				cancel(failed)
				return
			}
			p.page.Columns = nil // named already
		}
	})
	return reporting, func() error {
		close(done)
		wait.Wait()
		p.scan, p.scanned = scan.scan, min(scan.scanned.Load(), scan.scan)
		p.page.Scanned, p.page.Scan = p.scanned, p.scan
		return failed
	}
}
