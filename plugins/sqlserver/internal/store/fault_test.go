package store

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/picosnitch/picosnitch/sdk"
	wire "github.com/picosnitch/picosnitch/sdk/proto"
	"github.com/picosnitch/picosnitch/test/dbserver"
)

// deliver applies batches as the host does: again until each is acknowledged. It counts the refusals.
func deliver(t *testing.T, s *Store, batches []*sdk.Batch) (refused int) {
	for _, b := range batches {
		for end := time.Now().Add(60 * time.Second); ; {
			err := s.Apply(t.Context(), b)
			if err == nil {
				break
			}
			var retry *sdk.Retry
			if !errors.As(err, &retry) || !retry.Downstream || time.Now().After(end) {
				t.Errorf("apply %d..%d: %v", b.First, b.Last, err)
				return refused
			}
			refused++
			time.Sleep(20 * time.Millisecond)
		}
	}
	return refused
}

// serverKilled kills the server with SIGKILL again and again while batches come, until one was in the way.
func serverKilled(t *testing.T, server *dbserver.Server) {
	s := open(t, server.SocketConfig(`, "table_name": "killed"`))
	g := newGenerator(3)
	var batches []*sdk.Batch
	var sent uint64
	const count, size = 24, 500
	for range count {
		b := g.Batch(size)
		for _, r := range b.GetRecords() {
			sent += r.GetFlow().GetSent()
		}
		batches = append(batches, b)
	}
	apply(t, s, batches[0])
	done := make(chan int)
	go func() { done <- deliver(t, s, batches[1:]) }()
	for i := range 2 {
		time.Sleep(time.Duration(60+i*37) * time.Millisecond) // in the middle of some batch
		server.Kill()
		server.Start()
	}
	if refused := <-done; refused == 0 {
		t.Error("the server was killed, and no batch was in the way")
	}
	healthy(t, s)
	for statement, want := range map[string]string{
		"SELECT count(*) FROM killed":            fmt.Sprint(count * size),
		"SELECT count(DISTINCT seq) FROM killed": fmt.Sprint(count * size),
		"SELECT sum(send) FROM killed":           fmt.Sprint(sent),
	} {
		if got := server.SQL(statement); got != want {
			t.Errorf("%s: got %s, want %s", statement, got, want)
		}
	}
	for _, b := range evidence(t, s, nil) {
		if len(b.GetMissing()) > 0 || len(b.GetAltered()) > 0 {
			t.Errorf("batch %d..%d: %v", b.GetFirst(), b.GetLast(), b.GetState())
		}
	}
}

// fullDisk fills a small file system that PostgreSQL's tables lie on, and makes room again. (MariaDB 10.11 ends itself there:
// it is a server that is away.)
func fullDisk(t *testing.T, server *dbserver.Server) {
	if server.Socket != "" {
		return
	}
	disk := server.Disk(32 << 20)
	server.SQL("CREATE TABLESPACE small LOCATION '" + disk + "'")
	s := open(t, server.SocketConfig(`, "table_name": "brim", "options": "-c default_tablespace=small"`))
	healthy(t, s)
	ballast := filepath.Join(disk, "ballast")
	if err := os.WriteFile(ballast, make([]byte, 28<<20), 0o600); err != nil {
		t.Fatal(err)
	}
	g := newGenerator(4)
	var stuck *sdk.Batch
	rows := 0
	for range 40 {
		b := g.Batch(500)
		if err := s.Apply(t.Context(), b); err != nil {
			wantRetry(t, err, "has no space left")
			stuck = b
			break
		}
		rows += 500
	}
	if stuck == nil {
		t.Fatal("the disk was never full")
	}
	if err := s.Health(t.Context()); err == nil || !strings.Contains(err.Error(), "no space left") {
		t.Errorf("health says %v", err)
	}
	if err := os.Remove(ballast); err != nil {
		t.Fatal(err)
	}
	apply(t, s, stuck)
	healthy(t, s)
	if got := server.SQL("SELECT count(*) FROM brim"); got != fmt.Sprint(rows+500) {
		t.Errorf("%s rows, want %d", got, rows+500)
	}
}

// connectionsEnded ends every connection at the server, as it does itself with those that are idle for long.
func connectionsEnded(t *testing.T, server *dbserver.Server) {
	s := open(t, server.SocketConfig(`, "table_name": "ended"`))
	apply(t, s, batch(1, 1, flow(0, process("/bin/a", "a", 1), 1, 2, "1.1.1.1", "")))
	for range readers {
		wantRows(t, s, &wire.Query{}, "1/2/1")
	}
	if server.Socket == "" {
		server.SQL("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename IS NOT NULL AND pid <> pg_backend_pid()")
	} else {
		for _, id := range strings.Fields(server.SQL("SELECT id FROM information_schema.processlist WHERE user = 'root' AND id <> CONNECTION_ID()")) {
			server.SQL("KILL " + id)
		}
	}
	apply(t, s, batch(1, 2, flow(0, process("/bin/a", "a", 1), 1, 2, "1.1.1.1", "")))
	for range readers {
		wantRows(t, s, &wire.Query{}, "2/4/2")
	}
}

// serverAway configures the plugin while there is no server.
func serverAway(t *testing.T, server *dbserver.Server) {
	config := server.SocketConfig(`, "table_name": "away"`)
	first := batch(1, 1, flow(0, process("/bin/a", "a", 1), 1, 2, "1.1.1.1", ""))
	apply(t, open(t, config), first)
	server.Kill()
	s := open(t, config)
	if err := s.Health(t.Context()); err == nil || !strings.Contains(err.Error(), "does not answer") {
		t.Errorf("health says %v", err)
	}
	if marks, err := s.Watermarks(t.Context()); err != nil || len(marks) != 0 {
		t.Errorf("watermarks %v, %v: want none, since nobody knows them", marks, err)
	}
	second := batch(1, 2, flow(0, process("/bin/a", "a", 1), 1, 2, "1.1.1.1", ""))
	wantRetry(t, s.Apply(t.Context(), second), "does not answer")
	err := s.Query(t.Context(), &wire.Query{}, func(*wire.QueryPage) error { return nil })
	if err == nil || errors.Is(err, sdk.ErrQuery) || !strings.Contains(err.Error(), "does not answer") {
		t.Errorf("query: %v", err)
	}
	server.Start()
	apply(t, s, first, second)
	healthy(t, s)
	wantRows(t, s, &wire.Query{}, "2/4/2")
}
