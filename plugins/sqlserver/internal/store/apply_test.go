package store

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/picosnitch/picosnitch/sdk"
	wire "github.com/picosnitch/picosnitch/sdk/proto"
	"github.com/picosnitch/picosnitch/sdk/sdktest"
	"github.com/picosnitch/picosnitch/test/dbserver"
)

// applyCases are about storing.
func applyCases() map[string]func(*testing.T, *dbserver.Server) {
	return map[string]func(*testing.T, *dbserver.Server){
		"every text is stored as it is escaped":       textAsEscaped,
		"the table of 1 0 3 stays as it is":           oldTableStays,
		"a foreign table is refused":                  foreignTable,
		"watermarks are the newest 64":                newestWatermarks,
		"two writers store a batch once":              twoWriters,
		"a hole that cannot be filled is noted":       holeIsNoted,
		"a batch that was answered late is found":     storedByAnother,
		"a lock in the way is waited for":             lockInTheWay,
		"rows are exported":                           exportsRows,
		"read only nothing is written":                readOnly,
		"tls and passwords":                           tlsAndPasswords,
		"tables that vanished are made again":         tablesVanished,
		"evidence":                                    evidenceFinds,
		"executions are rows without addresses":       executions,
		"a database that lacks characters is refused": lacksCharacters,
		"a host alone makes its tables":               hostAlone,
	}
}

// flat reads the rows of a store's table with the server's own client: the columns of the SDK, as text, in order.
func flat(t testing.TB, server *dbserver.Server, table string) []string {
	t.Helper()
	var parts []string
	for _, c := range sdk.Columns() {
		parts = append(parts, `hex(cast("`+c.Name+`" as char character set utf8mb4))`)
		if server.Socket == "" {
			parts[len(parts)-1] = `encode(convert_to(cast("` + c.Name + `" as text), 'UTF8'), 'hex')`
		}
	}
	list := "concat_ws('|', " + strings.Join(parts, ", ") + ")"
	mode := "SET sql_mode='ANSI_QUOTES'; "
	if server.Socket == "" {
		mode = ""
	}
	var rows []string
	for _, line := range strings.Split(server.SQL(mode+"SELECT "+list+" FROM "+table+` ORDER BY "host_id", "epoch", "seq"`), "\n") {
		var row []string
		for _, field := range strings.Split(line, "|") {
			raw, err := hex.DecodeString(field)
			if err != nil {
				t.Fatal(err)
			}
			row = append(row, string(raw))
		}
		rows = append(rows, strings.Join(row, "\t"))
	}
	return rows
}

func textAsEscaped(t *testing.T, server *dbserver.Server) {
	s := open(t, ours(t, server))
	var want []string
	records := sdktest.Hostile()
	for _, r := range records {
		if f := r.GetFlow(); f.GetLayer() == wire.Layer_LAYER_UNKNOWN {
			f.Layer = wire.Layer_LAYER_SOCKET
		}
	}
	b := batch(1, 1, records...)
	apply(t, s, b)
	for _, row := range sdk.Rows(b.Batch) {
		var texts []string
		for _, v := range row {
			texts = append(texts, v.String())
		}
		want = append(want, strings.Join(texts, "\t"))
	}
	if diff := cmp.Diff(want, flat(t, server, tableName(t))); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	// A server takes no NUL. The host escapes this field itself; should it fail to, the batch must not be stuck.
	odd := flow(0, process("/bin/a", "a", 1), 1, 1, "1.1.1.1", "")
	odd.GetFlow().Process.Unit = &wire.Unit{Name: "a\x00b"}
	apply(t, s, batch(2, 1, odd))
	wantRows(t, s, &wire.Query{By: []string{"unit"}, Where: equal("epoch", "02"+strings.Repeat("0", 30))}, "a\x00b 1/1/1")
}

const oldColumns = `contime text, send bigint, recv bigint, exe text, name text, cmdline text, sha256 text, pexe text, pname text,
pcmdline text, psha256 text, uid bigint, lport bigint, rport bigint, laddr text, raddr text, domain text`

func oldTableStays(t *testing.T, server *dbserver.Server) {
	table := tableName(t)
	server.SQL("CREATE TABLE " + table + " (" + oldColumns + ")")
	s := open(t, ours(t, server))
	healthy(t, s)
	apply(t, s, batch(1, 1, flow(0, process("/bin/a", "a", 1), 1, 2, "1.1.1.1", "")))
	if got := server.SQL("SELECT count(*) FROM " + table); got != "0" {
		t.Errorf("%s rows went to the old table", got)
	}
	wantRows(t, s, &wire.Query{By: []string{"exe"}}, "/bin/a 1/2/1")
	wantRows(t, readOnlyStore(t, ours(t, server)), &wire.Query{By: []string{"exe"}}, "/bin/a 1/2/1")
	if got := server.SQL("SELECT count(*) FROM " + table + "_2"); got != "1" {
		t.Errorf("%s rows in the new table, want 1", got)
	}
}

func foreignTable(t *testing.T, server *dbserver.Server) {
	server.SQL("CREATE TABLE " + tableName(t) + " (something text)")
	s := open(t, ours(t, server))
	wantRetry(t, s.Apply(t.Context(), batch(1, 1, flow(0, process("/bin/a", "a", 1), 1, 2, "1.1.1.1", ""))), "table_name")
	if err := s.Health(t.Context()); err == nil {
		t.Error("all is well, it says")
	}
}

// readOnlyStore opens a store to answer queries only.
func readOnlyStore(t testing.TB, config string) *Store {
	t.Helper()
	s := New()
	if err := s.Configure(t.Context(), sdk.Settings{Config: []byte(config), ReadOnly: true}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Drain(context.Background()); err != nil {
			t.Error(err)
		}
	})
	return s
}

// wantRetry checks an answer of Apply: nothing was stored, for a reason behind the plugin that names part.
func wantRetry(t testing.TB, err error, part string) {
	t.Helper()
	var retry *sdk.Retry
	if !errors.As(err, &retry) || !retry.Downstream || retry.After <= 0 || !strings.Contains(err.Error(), part) {
		t.Errorf("got %v, want a retry downstream that says %q", err, part)
	}
}

func newestWatermarks(t *testing.T, server *dbserver.Server) {
	s := open(t, ours(t, server))
	for epoch := byte(1); epoch <= 70; epoch++ {
		apply(t, s, batch(epoch, 1, flow(0, process("/bin/a", "a", 1), 1, 2, "1.1.1.1", "")))
	}
	apply(t, s, batch(2, 2, flow(0, process("/bin/a", "a", 1), 1, 2, "1.1.1.1", "")))
	apply(t, s, batchOf(9, 99, 1, flow(0, process("/bin/a", "a", 1), 1, 2, "1.1.1.1", "")))
	marks, err := s.Watermarks(t.Context())
	if err != nil || len(marks) != maxWatermarks {
		t.Fatalf("%d watermarks, %v", len(marks), err)
	}
	last := marks[len(marks)-1]
	if first := marks[0]; first.Epoch != (sdk.Epoch{8}) || last.Epoch != (sdk.Epoch{2}) || last.Sequence != 2 {
		t.Errorf("from %v to %v, want from the eighth epoch to the second, which came last", first, last)
	}
}

func twoWriters(t *testing.T, server *dbserver.Server) {
	first, second := open(t, ours(t, server)), open(t, ours(t, server))
	batches := []*sdk.Batch{}
	g := newGenerator(1)
	for range 10 {
		batches = append(batches, g.Batch(50))
	}
	var wait sync.WaitGroup
	for _, s := range []*Store{first, second} {
		wait.Go(func() {
			for _, b := range batches {
				for end := time.Now().Add(30 * time.Second); ; {
					err := s.Apply(t.Context(), b)
					if err == nil {
						break
					}
					var retry *sdk.Retry
					if !errors.As(err, &retry) || time.Now().After(end) {
						t.Errorf("apply: %v", err)
						break
					}
				}
			}
		})
	}
	wait.Wait()
	if got := server.SQL("SELECT count(*) FROM " + tableName(t)); got != "500" {
		t.Errorf("%s rows, want 500", got)
	}
}

func holeIsNoted(t *testing.T, server *dbserver.Server) {
	s := open(t, ours(t, server))
	p := process("/bin/a", "a", 1)
	apply(t, s, batch(1, 1, flow(0, p, 1, 2, "1.1.1.1", "")))
	late := batch(1, 5, flow(10, p, 1, 2, "1.1.1.1", ""))
	var rewind *sdk.Rewind
	if err := s.Apply(t.Context(), late); !errors.As(err, &rewind) || rewind.Have.Sequence != 1 {
		t.Fatalf("got %v, want a rewind to 1", err)
	}
	apply(t, s, late)
	_, page := ask(t, s, &wire.Query{What: wire.Query_GAPS})
	if got := page.GetGaps(); len(got) != 1 || got[0].GetFirst() != 2 || got[0].GetLast() != 4 || got[0].GetSink() != name {
		t.Errorf("gaps: %v", got)
	}
}

// storedByAnother is a commit whose answer was lost: the batch is there, without this session's knowledge.
func storedByAnother(t *testing.T, server *dbserver.Server) {
	s := open(t, ours(t, server))
	other := open(t, ours(t, server))
	b := batch(1, 1, flow(0, process("/bin/a", "a", 1), 1, 2, "1.1.1.1", ""))
	apply(t, other, b)
	apply(t, s, b, b)
	if got := server.SQL("SELECT count(*) FROM " + tableName(t)); got != "1" {
		t.Errorf("%s rows, want 1", got)
	}
}

// lockInTheWay holds a lock on the table in another transaction for a while.
func lockInTheWay(t *testing.T, server *dbserver.Server) {
	s := open(t, ours(t, server))
	table := tableName(t)
	apply(t, s, batch(1, 1, flow(0, process("/bin/a", "a", 1), 1, 2, "1.1.1.1", "")))
	hold := fmt.Sprintf("BEGIN; LOCK TABLE %s IN EXCLUSIVE MODE; SELECT pg_sleep(2); COMMIT;", table)
	if server.Socket != "" {
		hold = fmt.Sprintf("LOCK TABLES %s WRITE; DO SLEEP(2); UNLOCK TABLES;", table)
	}
	done := make(chan error, 1)
	go func() {
		_, err := server.Try(hold)
		done <- err
	}()
	time.Sleep(200 * time.Millisecond) // either order is right
	ctx, cancel := context.WithTimeout(t.Context(), 500*time.Millisecond)
	defer cancel()
	b := batch(1, 2, flow(0, process("/bin/a", "a", 1), 1, 2, "1.1.1.1", ""))
	if err := s.Apply(ctx, b); err != nil {
		wantRetry(t, err, "")
	}
	apply(t, s, b)
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	if got := server.SQL("SELECT count(*) FROM " + table); got != "2" {
		t.Errorf("%s rows, want 2", got)
	}
}

func readOnly(t *testing.T, server *dbserver.Server) {
	s := readOnlyStore(t, ours(t, server))
	if err := s.Query(t.Context(), &wire.Query{}, func(*wire.QueryPage) error { return nil }); err == nil {
		t.Error("a query without a table has an answer")
	}
	if err := s.Apply(t.Context(), batch(1, 1)); err == nil {
		t.Error("a batch was taken")
	}
	browser := open(t, server.SocketConfig(fmt.Sprintf(`, "browse_only": true, "table_name": %q`, tableName(t))))
	apply(t, browser, batch(1, 1, flow(0, process("/bin/a", "a", 1), 1, 2, "1.1.1.1", "")))
	healthy(t, browser)
	if out, err := server.Try("SELECT 1 FROM " + tableName(t)); err == nil {
		t.Errorf("a table was made: %s", out)
	}
}

// tlsAndPasswords logs in over the network, with the right password and with wrong ones.
func tlsAndPasswords(t *testing.T, server *dbserver.Server) {
	table := fmt.Sprintf(`, "table_name": %q`, tableName(t))
	config := server.PostgresConfig
	if server.Socket == "" {
		server.SQL("CREATE ROLE tls LOGIN PASSWORD 'pa''ss\\word \"1'; GRANT CREATE ON SCHEMA public TO tls")
	} else {
		server.SQL(`CREATE USER tls@'127.0.0.1' IDENTIFIED BY 'pa''ss\\word "1' REQUIRE SSL; GRANT ALL ON picosnitch.* TO tls@'127.0.0.1'`)
		config = server.MariaDBConfig
	}
	b := batch(1, 1, flow(0, process("/bin/a", "a", 1), 1, 2, "1.1.1.1", ""))
	s := open(t, config("tls", `pa'ss\word "1`, table))
	healthy(t, s)
	apply(t, s, b)
	wantRows(t, s, &wire.Query{}, "1/2/1")
	wrong := open(t, config("tls", "hunter2 is wrong", table))
	err := wrong.Apply(t.Context(), b)
	wantRetry(t, err, "denies")
	if strings.Contains(err.Error(), "hunter2") {
		t.Errorf("the password is in the error: %v", err)
	}
	nowhere := open(t, strings.Replace(config("tls", `pa'ss\word "1`, table), `"picosnitch"`, `"nowhere"`, 1))
	err = nowhere.Apply(t.Context(), b)
	wantRetry(t, err, "denies")
	wantRetry(t, err, "nowhere")
	// The certificate is for localhost.
	renamed := strings.NewReplacer(`"localhost"`, `"127.0.0.1"`, `"hostaddr": "127.0.0.1", `, "").Replace(config("tls", `pa'ss\word "1`, table))
	wantRetry(t, open(t, renamed).Apply(t.Context(), b), "has a certificate that is not trusted")
	other := dbserver.Authority(t)
	stranger := open(t, strings.ReplaceAll(config("tls", `pa'ss\word "1`, table), server.CA, other))
	wantRetry(t, stranger.Apply(t.Context(), b), "has a certificate that is not trusted")
}

func tablesVanished(t *testing.T, server *dbserver.Server) {
	s := open(t, ours(t, server))
	apply(t, s, batch(1, 1, flow(0, process("/bin/a", "a", 1), 1, 2, "1.1.1.1", "")))
	table := tableName(t)
	server.SQL("DROP VIEW " + table + "_complete; DROP TABLE " + table + "; DROP TABLE " + table + "_batches")
	b := batch(2, 1, flow(0, process("/bin/a", "a", 1), 1, 2, "1.1.1.1", ""))
	wantRetry(t, s.Apply(t.Context(), b), "lacks a table")
	apply(t, s, b)
	wantRows(t, s, &wire.Query{}, "1/2/1")
}

func executions(t *testing.T, server *dbserver.Server) {
	s := open(t, ours(t, server))
	apply(t, s, batch(1, 1, &wire.Record{Kind: &wire.Record_Exec{Exec: &wire.Exec{
		Window: &wire.Window{Start: start, End: start + 1}, Process: process("/bin/make", "make", 1)}}}))
	wantRows(t, s, &wire.Query{By: []string{"exe", "rport", "raddr"}}, "/bin/make -1  0/0/1")
}

// lacksCharacters is about PostgreSQL: MariaDB's tables have an encoding of their own.
func lacksCharacters(t *testing.T, server *dbserver.Server) {
	if server.Socket != "" {
		return
	}
	server.SQL("CREATE DATABASE latin ENCODING 'LATIN1' LC_COLLATE 'C' LC_CTYPE 'C' TEMPLATE template0")
	s := open(t, strings.Replace(server.SocketConfig(""), `"picosnitch"`, `"latin"`, 1))
	err := s.Apply(t.Context(), batch(1, 1, flow(0, process("/bin/a", "a", 1), 1, 2, "1.1.1.1", "")))
	wantRetry(t, err, "encoding UTF8; it has LATIN1")
	wantRetry(t, err, "does not take the rows")
}
