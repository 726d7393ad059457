package lab

import (
	"context"
	"database/sql"
	"encoding/hex"
	"fmt"
	"path/filepath"
	"strings"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/picosnitch/picosnitch/sdk"
	wire "github.com/picosnitch/picosnitch/sdk/proto"
)

// Gap is what the daemon says that it did not see.
type Gap struct {
	Reason, Cause          string
	Events, Sent, Received uint64
	Exe                    string // of the process that caused it; empty if it names none
	Pid                    int
	Start, End             int64  // UTC ns
	Epoch                  string // of the records that are missing, hexadecimal; empty if it is about none
	First, Last            uint64
	Sink                   string // empty: all
}

// readGaps gives all gaps of a database.
func readGaps(ctx context.Context, path string) ([]Gap, error) {
	const query = "SELECT reason, cause, events, sent, received, record FROM gaps ORDER BY id"
	return readAll(ctx, path, query, func(rows *sql.Rows) (g Gap, err error) {
		var raw []byte
		var record wire.Record
		if err := rows.Scan(&g.Reason, &g.Cause, &g.Events, &g.Sent, &g.Received, &raw); err != nil {
			return g, err
		}
		if err := proto.Unmarshal(raw, &record); err != nil {
			return g, fmt.Errorf("decode gap: %w", err)
		}
		told := record.GetGap()
		g.Start, g.End, g.Sink = told.GetStart(), told.GetEnd(), told.GetSink()
		g.Epoch, g.First, g.Last = hex.EncodeToString(told.GetEpoch()), told.GetFirst(), told.GetLast()
		process := told.GetProcess()
		g.Exe, g.Pid = sdk.Escape(process.GetExecutable().GetPath().GetValue()), int(process.GetId().GetTgid())
		return g, nil
	})
}

// CheckNamed is CheckGap for a path that may as well make rows: of a process whose rows are in no total, or a gap.
func (c *Case) CheckNamed(who Identity, word string) {
	c.Helper()
	if c.Daemon == nil {
		return
	}
	ctx, cancel := context.WithTimeout(c.Context(), Deadline())
	defer cancel()
	for end := time.Now().Add(5 * time.Second); time.Now().Before(end); time.Sleep(200 * time.Millisecond) {
		rows, err := readRows(ctx, c.Daemon.Database(), c.filter())
		if err != nil {
			c.Logf("will ask again: %v", err)
		}
		for _, row := range rows {
			if row.Key.Process == who {
				c.result, c.why = Exact, "rows of layer "+row.Layer
				return
			}
		}
	}
	c.CheckGap(who, word)
}

// CheckGap waits for a gap that names the process and, in its cause, the word. The case is one that is reported instead
// of counted.
func (c *Case) CheckGap(who Identity, word string) {
	c.Helper()
	if c.Daemon == nil {
		return
	}
	for end := time.Now().Add(Deadline()); ; time.Sleep(200 * time.Millisecond) {
		ctx, cancel := context.WithTimeout(c.Context(), Deadline())
		gaps, err := readGaps(ctx, c.Daemon.Database())
		cancel()
		for _, g := range gaps {
			if g.Exe == who.Exe && strings.Contains(strings.ToLower(g.Cause), strings.ToLower(word)) {
				c.result, c.why = Gapped, g.Cause
				return
			}
		}
		if time.Now().After(end) {
			c.why = fmt.Sprintf("no gap names %s", filepath.Base(who.Exe))
			c.Fatalf("no gap about %q names %s after %v: %+v, %v\n%s", word, who.Exe, Deadline(), gaps, err, c.Daemon.LogTail())
		}
	}
}

// CheckReceives is Check where receives may be missing from the rows if gaps of this cause account for each of them.
func (c *Case) CheckReceives(cause string) {
	c.Helper()
	for end := time.Now().Add(Deadline()); ; time.Sleep(200 * time.Millisecond) {
		ctx, cancel := context.WithTimeout(c.Context(), Deadline())
		rows, rowsErr := readRows(ctx, c.Daemon.Database(), c.filter())
		gaps, gapsErr := readGaps(ctx, c.Daemon.Database())
		cancel()
		var want, told uint64
		for _, e := range c.wanted() {
			want += e.Sums.Receives
		}
		for _, r := range rows {
			told += r.Sums.Receives
		}
		for _, g := range gaps {
			if g.Cause == cause {
				told += g.Events
			}
		}
		switch {
		case told == want && rowsErr == nil && gapsErr == nil:
			return
		case time.Now().After(end):
			c.Fatalf("rows and gaps tell of %d receives, want %d: %v %v\n%s", told, want, rowsErr, gapsErr,
				table(compare(c.wanted(), rows)))
		}
	}
}
