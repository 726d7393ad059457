package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/picosnitch/picosnitch/host/internal/api"
	wire "github.com/picosnitch/picosnitch/sdk/proto"
)

// watchable lets the daemon of a test be watched.
type watchable struct {
	backend
	pages []*wire.WatchPage
	hold  bool // until the watcher goes
	asked chan *wire.WatchRequest
}

func (w watchable) Watch(ctx context.Context, r *wire.WatchRequest, page func(*wire.WatchPage) error) error {
	w.asked <- r
	for _, p := range w.pages {
		if err := page(p); err != nil {
			return err
		}
	}
	if w.hold {
		<-ctx.Done()
		return ctx.Err()
	}
	return nil
}

func curl() *wire.Process {
	return &wire.Process{
		Id: &wire.ProcessId{Tgid: 42}, Name: &wire.Text{Value: []byte("cu\x1brl")}, Ruid: 1000,
		CommandLine: &wire.Text{Value: []byte("curl\x00a b")}, Unit: &wire.Unit{Runtime: "docker", Id: "abc"},
		Executable: &wire.Executable{Path: &wire.Text{Value: []byte("/usr/bin/curl")}, Scope: "docker:abc", Sha256: []byte{0xab}},
	}
}

func livePages() []*wire.WatchPage {
	at := time.Date(2026, 11, 21, 17, 21, 0, 0, time.UTC).UnixNano()
	return []*wire.WatchPage{{}, {
		Time: at, Lagged: 7,
		Flows: []*wire.LiveFlow{{SentRate: 4567, ReceivedRate: 1, Flow: &wire.Flow{
			Sent: 9000, Received: 2, Sends: 3, Direction: wire.Direction_DIRECTION_OUT, Result: wire.Result_RESULT_OPEN, Protocol: 6,
			Local: &wire.Endpoint{Ip: []byte{192, 0, 2, 1}, Port: 40000}, Remote: &wire.Endpoint{Ip: []byte{198, 51, 100, 7}, Port: 443},
			Domain: &wire.Domain{Name: &wire.Text{Value: []byte("www.example.org")}}, Process: curl(),
			Domains: []*wire.Domain{
				{Name: &wire.Text{Value: []byte("www.example.org")}, Source: wire.NameSource_NAME_SOURCE_SNI},
				{Name: &wire.Text{Value: []byte("ptr\x1b.example.org")}, Source: wire.NameSource_NAME_SOURCE_PTR},
			},
		}}},
		Records: []*wire.Record{
			{Kind: &wire.Record_Exec{Exec: &wire.Exec{Window: &wire.Window{Start: at}, Process: curl()}}},
			{Kind: &wire.Record_Notice{Notice: &wire.Notice{Time: at, Kind: wire.NoticeKind_NOTICE_EDITED, Text: &wire.Text{Value: []byte("a\nb")}}}},
			{Kind: &wire.Record_Gap{Gap: &wire.Gap{Start: at, End: at, Reason: wire.GapReason_GAP_SUSPENDED, Cause: "slept", Events: 2}}},
			{Kind: &wire.Record_Config{Config: &wire.Config{}}}, // of a kind that nobody asked for
		},
	}}
}

func TestEventsAreOneObjectALineForScripts(t *testing.T) {
	t.Parallel()
	needRoot(t)
	b := watchable{pages: livePages(), asked: make(chan *wire.WatchRequest, 1)}
	c, out, errs := testCall(t)
	code := c.run(t.Context(), []string{"events", "--json", "--kinds", "flows,gaps", "--interval", "2s", "--run-dir", listen(t, b)})
	if code != exitStopped || !strings.Contains(errs.String(), "picosnitch has ended") {
		t.Errorf("exit code %d, %q: the daemon ended the feed", code, errs)
	}
	r := <-b.asked
	if len(r.GetKinds()) != 2 || r.GetKinds()[1] != wire.WatchRequest_GAPS || r.GetInterval() != int64(2*time.Second) {
		t.Errorf("asked %v", r)
	}
	golden(t, "events-json", out.Bytes())
	for _, line := range strings.Split(strings.TrimSpace(out.String()), "\n") {
		var object map[string]any
		if err := json.Unmarshal([]byte(line), &object); err != nil || object["kind"] == "" || object["time"] == "" {
			t.Errorf("line %q: %v", line, err)
		}
	}
}

func TestEventsForPeople(t *testing.T) {
	t.Parallel()
	for _, e := range eventsOf(livePages()[1]) {
		line, err := eventText(e)
		if err != nil || strings.ContainsAny(line, "\n\x1b") {
			t.Errorf("%q, %v", line, err)
		}
		want := map[string]string{
			"lagged": "7 flows and records were missed", "exec": "docker:abc:/usr/bin/curl[42]  curl 'a b'", "notice": `edited: a\x0ab`,
			"gap": "suspended: slept (2 events)", "flow": "[42]  -> www.example.org:443  4.6 kB/s sent",
		}[e.kind]
		if want == "" || !strings.Contains(line, want) {
			t.Errorf("%s: %q, want %q", e.kind, line, want)
		}
	}
	for want, f := range map[string]*wire.Flow{
		"-- (no peer)":              {Remote: &wire.Endpoint{Port: -1}},
		"<- [2001:db8::1]:22":       {Direction: wire.Direction_DIRECTION_IN, Remote: &wire.Endpoint{Port: 22, Ip: []byte{0x20, 1, 0xd, 0xb8, 15: 1}}},
		"listens on 192.0.2.1:8080": {Result: wire.Result_RESULT_LISTENING, Local: &wire.Endpoint{Port: 8080, Ip: []byte{192, 0, 2, 1}}},
		"-> 192.0.2.1":              {Direction: wire.Direction_DIRECTION_OUT, Remote: &wire.Endpoint{Port: -1, Ip: []byte{192, 0, 2, 1}}},
	} {
		if got := peerText(f); got != want {
			t.Errorf("peer %q, want %q", got, want)
		}
	}
}

func TestEventsEndWhenAsked(t *testing.T) {
	t.Parallel()
	needRoot(t)
	b := watchable{pages: livePages(), hold: true, asked: make(chan *wire.WatchRequest, 1)}
	dir := listen(t, b)
	ctx, cancel := context.WithCancel(t.Context())
	c, _, errs := testCall(t)
	code := make(chan int, 1)
	go func() { code <- c.run(ctx, []string{"events", "--run-dir", dir}) }()
	<-b.asked
	cancel()
	if got := <-code; got != exitOK || errs.String() != "" {
		t.Errorf("exit code %d, %q", got, errs)
	}
}

func TestEventsTellADeadDaemonFromARefusal(t *testing.T) {
	t.Parallel()
	needRoot(t)
	dir := t.TempDir()
	b := watchable{hold: true, asked: make(chan *wire.WatchRequest, 1)}
	s, err := api.Listen(api.Options{RunDir: dir}, b)
	if err != nil {
		t.Fatal(err)
	}
	c, _, errs := testCall(t)
	code := make(chan int, 1)
	go func() { code <- c.run(t.Context(), []string{"events", "--run-dir", dir}) }()
	<-b.asked
	ctx, cancel := context.WithCancel(t.Context())
	cancel() // cut off
	if err := s.Close(ctx); err != nil {
		t.Fatal(err)
	}
	if got := <-code; got != exitStopped || !strings.Contains(errs.String(), "picosnitch has ended") {
		t.Errorf("exit code %d, %q", got, errs)
	}
	for line, want := range map[string]string{
		"events --kinds flows,x":                   `there are flows, execs, notices, gaps`,
		"events --interval 1ms":                    "want 100ms to 1m",
		"events --run-dir " + t.TempDir():          "picosnitch is not running",
		"events --run-dir " + listen(t, backend{}): "this daemon has no live feed",
	} {
		c, _, errs := testCall(t)
		if code := c.run(t.Context(), strings.Fields(line)); code == exitOK || !strings.Contains(errs.String(), want) {
			t.Errorf("%s: %d, %q", line, code, errs)
		}
	}
}

// controllable lets plugins of a test's daemon be controlled.
type controllable struct{ backend }

func (controllable) Control(_ context.Context, r *wire.ControlRequest) (string, error) {
	if r.GetPlugin() != "sqlite" {
		return "", fmt.Errorf("%w: no plugin is called %s", api.ErrQuestion, r.GetPlugin())
	}
	return "did " + r.GetAction().String(), nil
}

func (controllable) PluginLog(_ context.Context, plugin string) (*wire.PluginLogResponse, error) {
	if plugin == "quiet" {
		return &wire.PluginLogResponse{}, nil
	}
	if plugin == "broken" {
		return &wire.PluginLogResponse{Ended: []*wire.Incarnation{{Started: 1e9, Ended: 2e9, Reason: "plugin file refused"}}}, nil
	}
	if plugin != "sqlite" {
		return nil, errors.New("no such plugin")
	}
	return &wire.PluginLogResponse{
		Lines: []string{`msg="now\x1b"`},
		Ended: []*wire.Incarnation{{
			Started: 1e9, Ended: 4e9, Pid: 7, ExitCode: -1, Signal: "SIGKILL", OutOfMemory: true, Reason: "it took too much",
			PeakMemory: 300 << 20, Tail: []string{"last\nwords"},
		}},
	}, nil
}

func TestPluginsAreControlledByVerbs(t *testing.T) {
	t.Parallel()
	needRoot(t)
	dir := listen(t, controllable{})
	for _, c := range []struct {
		line, want string
		code       int
	}{
		{"plugins restart sqlite", "did RESTART\n", exitOK},
		{"plugins discard sqlite", "did DISCARD\n", exitOK},
		{"plugins retry sqlite", "did RETRY\n", exitOK},
		{"plugins retry nobody", "plugins retry: no plugin is called nobody", exitUsage},
		{"plugins restart", "picosnitch: plugins restart takes one name of a plugin (see picosnitch help plugins restart)", exitUsage},
		{"plugins restart a b", "takes one name of a plugin", exitUsage},
		{"plugins log sqlite", "pid 7 ended after 3s: signal SIGKILL, out of memory: it took too much (300 MB at most)\n    last; words\nmsg=", exitOK},
		{"plugins log broken", " could not be started: plugin file refused\n", exitOK},
		{"plugins log quiet", "it has said nothing", exitOK},
		{"plugins log nobody", "no such plugin", exitFailure},
	} {
		call, out, errs := testCall(t)
		if code := call.run(t.Context(), append(strings.Fields(c.line), "--run-dir", dir)); code != c.code {
			t.Errorf("%s: exit code %d", c.line, code)
		}
		if all := out.String() + errs.String(); !strings.Contains(all, c.want) || strings.Contains(all, "\x1b") {
			t.Errorf("%s: says %q, want %q", c.line, all, c.want)
		}
	}
	call, out, _ := testCall(t)
	call.run(t.Context(), []string{"plugins", "log", "sqlite", "--json", "--run-dir", dir})
	var a logAnswer
	if err := json.Unmarshal(out.Bytes(), &a); err != nil || len(a.Ended) != 1 || a.Ended[0].Signal != "SIGKILL" || a.Ended[0].Ended != "1970-01-01T00:00:04Z" {
		t.Errorf("plugins log --json: %v, %s", err, out)
	}
}

func TestWhatAPluginsStateMeansIsToldBelowTheTable(t *testing.T) {
	t.Parallel()
	lines := remarksOn(&wire.PluginStatus{
		Name: "sqlite", Consequence: "history is not being saved", LastError: "disk\nfull", NextStart: 1, SetAside: 2, Dropped: 3,
		DroppedBy: map[string]uint64{"journal full": 1, "backlog discarded": 2},
	})
	all := strings.Join(lines, "\n")
	for _, want := range []string{
		"sqlite: history is not being saved", "sqlite: last error: disk; full", "picosnitch plugins restart sqlite does it now",
		"2 records that it refused", "3 records do not reach it (backlog discarded: 2, journal full: 1)",
	} {
		if !strings.Contains(all, want) {
			t.Errorf("%q lacks %q", all, want)
		}
	}
	if lines := remarksOn(&wire.PluginStatus{Name: "sqlite", State: "running"}); len(lines) != 0 {
		t.Errorf("of a plugin that is well: %q", lines)
	}
}
