package lab

import (
	"context"
	"crypto/sha256"
	"fmt"
	"maps"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/picosnitch/picosnitch/test/lab/script"
	"github.com/picosnitch/picosnitch/test/need"
)

// execStorm runs programs that do nothing but end, as fast as two cores can, for ten seconds, which one window holds: each
// execution is a row of its own, with the program's hash and its parent.
func execStorm(t *testing.T, l *Lab) {
	need.Have(t, "amd64 (the programs are machine code)", runtime.GOARCH == "amd64")
	d := NewDaemon(t, l, 0)
	d.WriteConfig(strings.Replace(defaultConfig(), `(seconds)": 1`, `(seconds)": 10, "Every exe (not just conns)": true`, 1))
	d.Start()
	c := NewCase(t, l, d)
	source, programs := c.Start("source", c.Pair.A), c.gnats(2000)
	start := time.Now()
	r := source.must(script.Command{
		Do: script.Storm, Peers: slices.Sorted(maps.Keys(programs)), Threads: 2, Millis: 10_000,
	})
	rate := float64(r.Calls) / time.Since(start).Seconds()
	t.Logf("%d executions, %.0f a second", r.Calls, rate)
	if rate < 1000 {
		t.Errorf("only %.0f executions a second: no storm", rate)
	}
	start = time.Now()
	for ; ; time.Sleep(time.Second) {
		s, err := c.execSums(programs, source.Identity())
		if err == nil && s.right == r.Calls && s.wrong == 0 {
			break
		}
		if time.Since(start) > 2*Deadline() {
			gaps, _ := readGaps(t.Context(), d.Database())
			t.Fatalf("%d executions; rows say %+v, %v; gaps: %+v\n%s", r.Calls, s, err, gaps, d.LogTail())
		}
	}
	t.Logf("all of them in rows %v later", time.Since(start).Round(time.Millisecond))
	d.Stop()
}

// gnats makes programs of different contents that end at once; the values are their hashes.
func (c *Case) gnats(count int) map[string]string {
	c.Helper()
	dir := c.place("gnats")
	programs := make(map[string]string, count)
	for i := range count {
		path, content := filepath.Join(dir, fmt.Sprintf("gnat%05d", i)), buildGnat(uint32(i))
		if err := writeExecutable(path, content); err != nil {
			c.Fatal(err)
		}
		programs[path] = fmt.Sprintf("%x", sha256.Sum256(content))
	}
	return programs
}

// execSums counts the rows of executions.
type execSums struct {
	right, wrong uint64
	example      string // of wrong ones
}

func (c *Case) execSums(programs map[string]string, parent Identity) (s execSums, err error) {
	ctx, cancel := context.WithTimeout(c.Context(), Deadline())
	defer cancel()
	db, err := openDatabase(c.Daemon.Database())
	if err != nil {
		return s, err
	}
	defer db.Close()
	rows, err := db.QueryContext(ctx, `SELECT exe, sha256, pexe, psha256, count(*) FROM connections
		WHERE instr(exe, ?) = 1 AND lport = -1 AND rport = -1 GROUP BY exe, sha256, pexe, psha256`, filepath.Join(c.dir, "gnats"))
	if err != nil {
		return s, err
	}
	defer rows.Close()
	for rows.Next() {
		var exe, sum, above, aboveSum string
		var count uint64
		if err := rows.Scan(&exe, &sum, &above, &aboveSum, &count); err != nil {
			return s, err
		}
		if sum == programs[exe] && above == parent.Exe && aboveSum == parent.SHA256 {
			s.right += count
		} else {
			s.wrong += count
			s.example = fmt.Sprintln(exe, sum, above, aboveSum)
		}
	}
	return s, rows.Err()
}
