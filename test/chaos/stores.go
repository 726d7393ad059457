package chaos

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"iter"
	"os"
	"strconv"
	"strings"

	"github.com/picosnitch/picosnitch/test/lab"
)

// contents is what a store has of a case.
type contents struct {
	Rows []entry
	Gaps []lab.Gap // nil where the store keeps none
	// Exact are differences in more than bytes that only sqlite is compared for: every column of every row.
	Exact []lab.Difference
}

// store is a sink that can be read.
type store struct {
	Plugin string
	Gaps   bool // it keeps them
	read   func(context.Context) (contents, error)
}

// readSQLite goes through the database as any user's tool would.
func readSQLite(ctx context.Context, c *lab.Case) (contents, error) {
	rows, err := c.Rows(ctx)
	if err != nil {
		return contents{}, err
	}
	var out contents
	for _, r := range rows {
		if r.Layer == "tunnel" || r.Layer == "interface" {
			continue
		}
		p := program{Exe: r.Key.Process.Exe, Cmdline: r.Key.Process.Cmdline, UID: r.Key.UID}
		out.Rows = append(out.Rows, entry{r.ID, p, moved{r.Sums.Sent, r.Sums.Received}})
	}
	out.Exact = lab.Compare(c.Wanted(), rows)
	out.Gaps, err = c.Gaps(ctx)
	return out, err
}

// readLog reads conn.log: 17 fields a line, no sequence and no gaps.
func readLog(path, directory string) (contents, error) {
	f, err := os.Open(path)
	if errors.Is(err, os.ErrNotExist) {
		return contents{}, nil
	}
	if err != nil {
		return contents{}, fmt.Errorf("read text log: %w", err)
	}
	defer f.Close()
	var out contents
	lines := bufio.NewScanner(f)
	lines.Buffer(nil, 1<<20)
	for n := 1; lines.Scan(); n++ {
		const send, recv, exe, cmdline, uid, all = 1, 2, 3, 5, 11, 17
		field := strings.Split(lines.Text(), ",")
		if len(field) != all {
			return contents{}, fmt.Errorf("read text log: line %d has %d fields, not %d: %q", n, len(field), all, lines.Text())
		}
		if !strings.HasPrefix(field[exe], directory+"/") {
			continue
		}
		e := entry{program: program{Exe: field[exe], Cmdline: field[cmdline]}}
		e.UID, err = strconv.Atoi(field[uid])
		e.Sent, err = number(field[send], err)
		e.Received, err = number(field[recv], err)
		if err != nil {
			return contents{}, fmt.Errorf("read text log: line %d: %w", n, err)
		}
		out.Rows = append(out.Rows, e)
	}
	return out, lines.Err()
}

// number parses text, unless there was an error before.
func number(text string, before error) (uint64, error) {
	if before != nil {
		return 0, before
	}
	return strconv.ParseUint(text, 10, 64)
}

// line is what is needed of a line of records.jsonl, or of a row of the SQL server.
type line struct {
	Kind     string `json:"kind"`
	HostID   string `json:"host_id"`
	Epoch    string `json:"epoch"`
	Seq      int64  `json:"seq"`
	Exe      string `json:"exe"`
	Cmdline  string `json:"cmdline"`
	UID      int    `json:"uid"`
	Send     uint64 `json:"send"`
	Recv     uint64 `json:"recv"`
	Layer    string `json:"layer"`
	Start    int64  `json:"start"`
	End      int64  `json:"end"`
	Reason   string `json:"reason"`
	Cause    string `json:"cause"`
	Events   uint64 `json:"events"`
	GapEpoch string `json:"gap_epoch"`
	First    uint64 `json:"first"`
	Last     uint64 `json:"last"`
	Sink     string `json:"sink"`
	Pid      int    `json:"pid"`
}

// add takes a line as a row or a gap.
func (c *contents) add(l line, directory string) {
	switch {
	case l.Kind == "gap":
		c.Gaps = append(c.Gaps, lab.Gap{
			Reason: l.Reason, Cause: l.Cause, Events: l.Events, Sent: l.Send, Received: l.Recv, Exe: l.Exe, Pid: l.Pid,
			Start: l.Start, End: l.End, Epoch: l.GapEpoch, First: l.First, Last: l.Last, Sink: l.Sink,
		})
	case l.Kind == "flow" && strings.HasPrefix(l.Exe, directory+"/") && l.Layer == "socket":
		c.Rows = append(c.Rows, entry{
			fmt.Sprint(l.HostID, "/", l.Epoch, "/", l.Seq), program{l.Exe, l.Cmdline, l.UID}, moved{l.Send, l.Recv},
		})
	}
}

// readLines reads records.jsonl up to the last commit, which is what counts.
func readLines(path, directory string) (contents, error) {
	raw, err := os.ReadFile(path)
	if errors.Is(err, os.ErrNotExist) {
		return contents{}, nil
	}
	if err != nil {
		return contents{}, fmt.Errorf("read lines: %w", err)
	}
	var out, open contents
	for l, err := range decodeLines(raw) {
		switch {
		case errors.Is(err, io.ErrUnexpectedEOF): // of a line that was not committed
			return out, nil
		case err != nil:
			return contents{}, fmt.Errorf("read lines: %w", err)
		case l.Kind == "commit":
			out.Rows, out.Gaps = append(out.Rows, open.Rows...), append(out.Gaps, open.Gaps...)
			open = contents{}
		default:
			open.add(l, directory)
		}
	}
	return out, nil
}

// decodeLines gives one object after the other, until an error.
func decodeLines(raw []byte) iter.Seq2[line, error] {
	return func(yield func(line, error) bool) {
		for decoder := json.NewDecoder(bytes.NewReader(raw)); ; {
			var l line
			err := decoder.Decode(&l)
			if errors.Is(err, io.EOF) {
				return
			}
			if err != nil {
				err = fmt.Errorf("near byte %d: %w", decoder.InputOffset(), err)
			}
			if !yield(l, err) || err != nil {
				return
			}
		}
	}
}
