package identity

import (
	"context"

	"github.com/picosnitch/picosnitch/host/internal/capture"
	wire "github.com/picosnitch/picosnitch/sdk/proto"
)

// Await asks for the hashes of what these processes, their parents and grandparents run, and waits for them, until ctx
// ends. Rows of what is still missing then are to go out as pending; Late tells the rest. For what the processes show of
// themselves it waits a moment only.
func (t *Table) Await(ctx context.Context, processes []capture.Key) {
	hashes, claims := t.wantAll(processes)
	if !waitAll(ctx, hashes) {
		return
	}
	short, cancel := context.WithTimeout(ctx, claimWait)
	defer cancel()
	waitAll(short, claims)
}

func waitAll(ctx context.Context, all []<-chan struct{}) bool {
	for _, done := range all {
		select {
		case <-done:
		case <-ctx.Done():
			return false
		}
	}
	return true
}

func (t *Table) wantAll(processes []capture.Key) (hashes, claims []<-chan struct{}) {
	t.mu.Lock()
	defer t.mu.Unlock()
	waiting := map[*executable]bool{}
	for _, key := range processes {
		n := t.nodes[key]
		if n == nil {
			continue
		}
		if claim := t.examine(n); claim != nil {
			claims = append(claims, claim)
		}
		for range generations {
			if n == nil {
				break
			}
			if n.exe != nil && n.exe.status == wire.HashStatus_HASH_PENDING {
				t.want(n)
				waiting[n.exe] = true
			}
			n = n.parent
		}
	}
	for e := range waiting {
		hashes = append(hashes, e.done)
	}
	return hashes, claims
}

// generations are in a row: the process, its parent and its grandparent.
const generations = 3
