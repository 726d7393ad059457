package lab

import (
	"encoding/json"
	"fmt"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// transfer is what every sink can tell of a flow, however little it writes.
type transfer struct {
	Exe, Name string
	UID       int
	Raddr     string
	Rport     int
}

// moved are the bytes of a transfer.
type moved struct{ Sent, Received uint64 }

// account is what a sink holds. Windows are added up; a transfer without a byte is left out.
type account map[transfer]moved

func (a account) add(k transfer, sent, received uint64) {
	if sent+received > 0 {
		m := a[k]
		a[k] = moved{m.Sent + sent, m.Received + received}
	}
}

// truth is what the generators of a case did.
func (c *Case) truth() account {
	all := account{}
	for _, e := range c.wanted() {
		p := e.Key.Process
		all.add(transfer{p.Exe, p.Name, e.Key.UID, e.Key.Raddr, e.Key.Rport}, e.Sums.Sent, e.Sums.Received)
	}
	return all
}

// wantHash checks the hash that a line shows. One that was known only later is a record of its own, which no line is.
func (c *Case) wantHash(path, exe, sum string) {
	c.Helper()
	for _, e := range c.wanted() {
		if p := e.Key.Process; sum != "" && p.Exe == exe && p.SHA256 != sum {
			c.Errorf("%s: %s has the hash %s, not %s", path, exe, sum, p.SHA256)
			return
		}
	}
}

// flatLog reads a conn.log: every line must have the 17 fields of 1.0.3.
func (c *Case) flatLog(path string) account {
	c.Helper()
	t, prefix := c.T, c.dir+"/"
	all := account{}
	for _, line := range readLines(t, path) {
		f := strings.Split(line, ",")
		if len(f) != 17 {
			t.Errorf("%s: %d fields, not 17: %s", path, len(f), line)
			continue
		}
		if !strings.HasPrefix(f[3], prefix) {
			continue
		}
		number := func(i int) int64 {
			n, err := strconv.ParseInt(f[i], 10, 64)
			if err != nil {
				t.Errorf("%s: field %d: %v", path, i+1, err)
			}
			return n
		}
		c.wantHash(path, f[3], f[6])
		k := transfer{Exe: f[3], Name: f[4], UID: int(number(11)), Raddr: f[15], Rport: int(number(13))}
		all.add(k, uint64(number(1)), uint64(number(2)))
	}
	return all
}

// jsonLine is a flow in the files of both examples: the one in Go writes send, recv, raddr and rport, the one in Python sent,
// received, address and port.
type jsonLine struct {
	Kind, Exe, SHA256, Name, Epoch string
	Host                           string `json:"host_id"`
	Layer                          string
	UID                            int
	Seq                            uint64
	Send, Recv, Sent, Received     uint64
	Raddr, Address                 string
	Rport, Port                    int
}

// jsonLog reads lines of JSON, of which no two may have the same number.
func (c *Case) jsonLog(path string) account {
	c.Helper()
	t, prefix := c.T, c.dir+"/"
	all, seen := account{}, map[string]bool{}
	for _, text := range readLines(t, path) {
		var l jsonLine
		if err := json.Unmarshal([]byte(text), &l); err != nil {
			t.Fatalf("%s: %v: %s", path, err, text)
		}
		if l.Kind != "" && l.Kind != "flow" || !strings.HasPrefix(l.Exe, prefix) {
			continue
		}
		id := fmt.Sprintf("%s %s %d", l.Host, l.Epoch, l.Seq)
		if seen[id] {
			t.Errorf("%s: record %s comes twice", path, id)
		}
		seen[id] = true
		c.wantHash(path, l.Exe, l.SHA256)
		k := transfer{l.Exe, l.Name, l.UID, l.Raddr + l.Address, l.Rport + l.Port}
		all.add(k, l.Send+l.Sent, l.Recv+l.Received)
	}
	return all
}

// fourSinks kills four sinks of three authors, and the host meanwhile, while bytes move: each of them holds every transfer
// exactly once in the end.
func fourSinks(t *testing.T, l *Lab) {
	d := NewDaemon(t, l, ownerUID)
	d.configure(settings{"DB text log": true, "Plugins": settings{
		"jsonl":       settings{"path": goPlugin(t, "./examples/jsonl")},
		"python-sink": settings{"path": pythonSink(t)},
	}})
	d.Start()
	c := NewCase(t, l, d)
	sinks := []string{"jsonl", "python-sink", "sqlite", "textlog"}
	d.wantRunning(sinks...)
	v := newConversation(c)
	killed := map[string]int{} // whose end the host may not have told yet
	for round := range Size(4, 1) {
		for i, name := range sinks {
			p := d.WaitPlugin(name, func(p PluginStatus) bool { return p.Running() && p.Pid != killed[name] })
			v.exchange(1000*round + 100*i + 1)
			killProcess(t, p.Pid)
			killed[name] = p.Pid
			v.exchange(1000*round + 100*i + 2)
		}
		if round%2 == 1 {
			time.Sleep(time.Duration(round) * 210 * time.Millisecond) // at different points of the window
			d.Kill()
			d.Start()
		}
	}
	d.wantRunning(sinks...)
	v.exchange(77)
	v.finish()
	c.Check()
	files := func() string {
		for name, have := range map[string]account{
			"textlog":     c.flatLog(filepath.Join(d.Config, "conn.log")),
			"jsonl":       c.jsonLog(filepath.Join(d.Config, "jsonl", "records.jsonl")),
			"python-sink": c.jsonLog(filepath.Join(d.Config, "python-sink", "flows.jsonl")),
		} {
			if diff := cmp.Diff(c.truth(), have); diff != "" {
				return name + " (-moved +written):\n" + diff
			}
		}
		return ""
	}
	d.until("files of the sinks", files)
	d.Stop()
	if wrong := files(); wrong != "" {
		t.Errorf("after stop: %s", wrong)
	}
}
