package logfile

import (
	"bytes"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/picosnitch/picosnitch/sdk"
	wire "github.com/picosnitch/picosnitch/sdk/proto"
	"github.com/picosnitch/picosnitch/sdk/sdktest"
)

// bench is a sink on a directory, with a stream of batches and a clock.
type bench struct {
	t      *testing.T
	dir    string
	config string
	stream *sdktest.Stream
	clock  time.Time
	sink   *Sink
	flows  int // acknowledged
}

func newBench(t *testing.T, config string) *bench {
	t.Helper()
	b := &bench{t: t, dir: t.TempDir(), config: config, stream: sdktest.NewStream(1), clock: time.Unix(1e9, 0)}
	b.restart()
	return b
}

// restart begins anew as after kill -9: nothing is closed in order.
func (b *bench) restart() map[sdk.Epoch]uint64 {
	b.t.Helper()
	b.sink = New(func() time.Time { return b.clock })
	if err := b.sink.Configure(b.t.Context(), sdk.Settings{Config: []byte(b.config), Directory: b.dir}); err != nil {
		b.t.Fatalf("configure: %v", err)
	}
	b.t.Cleanup(func() { _ = b.sink.Drain(b.t.Context()) })
	marks, err := b.sink.Watermarks(b.t.Context())
	if err != nil {
		b.t.Fatal(err)
	}
	out := map[sdk.Epoch]uint64{}
	for _, m := range marks {
		out[m.Epoch] = m.Sequence
	}
	return out
}

// batch is the stream's next, of n flows.
func (b *bench) batch(n int) *sdk.Batch {
	b.t.Helper()
	var flows []*wire.Record
	for seed := b.stream.Last; len(flows) < n; seed++ {
		for _, r := range sdktest.Records(seed, n) {
			if r.GetFlow() != nil && len(flows) < n {
				flows = append(flows, r)
			}
		}
	}
	return b.wrap(b.stream.Next(flows))
}

func (b *bench) wrap(batch *wire.Batch) *sdk.Batch {
	b.t.Helper()
	raw, err := proto.Marshal(batch)
	if err != nil {
		b.t.Fatal(err)
	}
	return &sdk.Batch{Batch: batch, Epoch: sdk.Epoch(batch.GetEpoch()), Raw: raw}
}

// store delivers a batch that must be acknowledged.
func (b *bench) store(batch *sdk.Batch) {
	b.t.Helper()
	if err := b.sink.Apply(b.t.Context(), batch); err != nil {
		b.t.Fatalf("apply: %v", err)
	}
	b.flows += len(batch.GetRecords())
}

func (b *bench) path(name string) string { return filepath.Join(b.dir, name) }

func (b *bench) read(name string) []byte {
	b.t.Helper()
	text, err := os.ReadFile(b.path(name))
	if err != nil {
		b.t.Fatal(err)
	}
	return text
}

// whole checks that all logs together hold every flow once, in lines of 17 fields.
func (b *bench) whole() {
	b.t.Helper()
	logs, err := filepath.Glob(b.path(logName + "*"))
	if err != nil {
		b.t.Fatal(err)
	}
	lines := map[string]bool{}
	total := 0
	for _, path := range logs {
		text := b.read(filepath.Base(path))
		for line := range strings.Lines(string(text)) {
			total++
			lines[line] = true
			if strings.Count(line, ",") != oldFields-1 || !strings.HasSuffix(line, "\n") {
				b.t.Errorf("%s: not a line of %d fields: %q", path, oldFields, line)
			}
		}
	}
	if total != b.flows || len(lines) != total {
		b.t.Errorf("%d lines, %d different ones, for %d flows", total, len(lines), b.flows)
	}
}

// scribble appends to a file of the directory, as a batch does that a crash cuts short.
func (b *bench) scribble(name, text string) {
	b.t.Helper()
	f, err := os.OpenFile(b.path(name), os.O_APPEND|os.O_WRONLY, 0)
	if err != nil {
		b.t.Fatal(err)
	}
	_, err = f.WriteString(text)
	if err := errors.Join(err, f.Close()); err != nil {
		b.t.Fatal(err)
	}
}

func TestTheLinesAreThoseOfTheOldLog(t *testing.T) {
	t.Parallel()
	b := newBench(t, `{}`)
	f := &wire.Flow{
		Window: &wire.Window{End: 1795280400 * 1e9, ZoneOffset: 3600}, Sent: 5, Received: 6, Layer: wire.Layer_LAYER_SOCKET,
		Local:  &wire.Endpoint{Ip: []byte{10, 0, 0, 1}, Port: 40000},
		Remote: &wire.Endpoint{Ip: []byte{192, 0, 2, 1}, Port: 443},
		Domain: &wire.Domain{Name: &wire.Text{Value: []byte("www.example.org")}},
		Process: &wire.Process{
			Name: &wire.Text{Value: []byte("a,b")}, CommandLine: &wire.Text{Value: []byte("curl\x00-H\x00x\r\ny")}, Ruid: 1000,
			Executable: &wire.Executable{Path: &wire.Text{Value: []byte("/bin/a\x00b\n,\xff\\")}, Sha256: bytes.Repeat([]byte{0xab}, 32)},
		},
	}
	packet := &wire.Flow{Layer: wire.Layer_LAYER_PACKET, Sent: 99}
	b.store(b.wrap(b.stream.Next([]*wire.Record{
		{Kind: &wire.Record_Flow{Flow: f}}, {Kind: &wire.Record_Flow{Flow: packet}}, {Kind: &wire.Record_Gap{Gap: &wire.Gap{}}},
		{Kind: &wire.Record_Exec{Exec: &wire.Exec{Window: f.Window, Process: f.Process}}},
	})))
	want := `2026-11-21 18:00:00,5,6,/bin/a\x00b\x0a\x2c\xff\\,a\x2cb,curl -H 'x\x0d\x0ay',` + strings.Repeat("ab", 32) +
		`,,,,,1000,40000,443,10.0.0.1,192.0.2.1,org.example.www` + "\n" +
		`2026-11-21 18:00:00,0,0,/bin/a\x00b\x0a\x2c\xff\\,a\x2cb,curl -H 'x\x0d\x0ay',` + strings.Repeat("ab", 32) + ",,,,,1000,-1,-1,,,\n"
	if got := string(b.read(logName)); got != want {
		t.Errorf("got  %qwant %q", got, want)
	}
	if raw, err := sdk.Unescape(`/bin/a\x00b\x0a\x2c\xff\\`); err != nil || string(raw) != "/bin/a\x00b\n,\xff\\" {
		t.Errorf("the path cannot be had back: %q, %v", raw, err)
	}
}

func TestJSONHasEveryRecord(t *testing.T) {
	t.Parallel()
	b := newBench(t, `{"format": "json"}`)
	records := append(sdktest.Records(1, 160), sdktest.Hostile()...)
	b.store(b.wrap(b.stream.Next(records)))
	lines := bytes.Split(bytes.TrimSuffix(b.read(logName), []byte{'\n'}), []byte{'\n'})
	if len(lines) != len(records) {
		t.Fatalf("%d lines for %d records", len(lines), len(records))
	}
	for i, line := range lines {
		var object struct {
			Kind string
			Seq  uint64
		}
		if err := json.Unmarshal(line, &object); err != nil || object.Kind != string(sdk.KindOf(records[i])) || object.Seq != uint64(i+1) {
			t.Errorf("line %d (%v): %s", i, err, line)
		}
	}
}

func TestWhatWasNotAcknowledgedIsCutOff(t *testing.T) {
	t.Parallel()
	b := newBench(t, `{}`)
	b.store(b.batch(10))
	for _, tail := range []string{"half a li", "a whole line\nand half a li", ""} {
		b.scribble(logName, tail)
		if marks := b.restart(); marks[b.stream.Epoch] != b.stream.Last {
			t.Fatalf("watermarks %v, want %d", marks, b.stream.Last)
		}
		b.store(b.batch(10))
		b.whole()
	}
}

func TestTheLogMayBeMovedAway(t *testing.T) {
	t.Parallel()
	b := newBench(t, `{}`)
	b.store(b.batch(10))
	for _, step := range []func(){
		func() { b.rename(logName, logName+".1") },
		func() { b.rename(logName, logName+".2"); b.write(logName, "") }, // logrotate with `create`
		func() { b.rename(logName, logName+".3"); b.restart() },
		func() { b.scribble(logName, "half a li"); b.rename(logName, logName+"-20261121"); b.restart() },
	} {
		step()
		b.store(b.batch(5))
		b.store(b.batch(5))
		b.whole()
	}
}

func (b *bench) rename(from, to string) {
	b.t.Helper()
	if err := os.Rename(b.path(from), b.path(to)); err != nil {
		b.t.Fatal(err)
	}
}

func (b *bench) write(name, text string) {
	b.t.Helper()
	if err := os.WriteFile(b.path(name), []byte(text), 0o600); err != nil {
		b.t.Fatal(err)
	}
}

func TestALogThatAnotherHandShortensIsNotFilledWithZeros(t *testing.T) {
	t.Parallel()
	b := newBench(t, `{}`)
	b.store(b.batch(10))
	for _, step := range []func(){
		func() {},              // while it is open, as copytruncate does
		func() { b.restart() }, // while it is closed
	} {
		if err := os.Truncate(b.path(logName), 0); err != nil {
			t.Fatal(err)
		}
		step()
		b.flows = 0
		b.store(b.batch(5))
		b.store(b.batch(5))
		b.restart()
		b.whole()
	}
	if err := os.Truncate(b.path(logName), 100); err != nil { // in the middle of a line
		t.Fatal(err)
	}
	b.store(b.batch(1))
	if text := b.read(logName); text[100] != '\n' || bytes.Count(text, []byte{'\n'}) != 2 || bytes.IndexByte(text, 0) >= 0 {
		t.Errorf("got %q", text)
	}
}

func TestLogsAreRotatedBySizeAndAge(t *testing.T) {
	t.Parallel()
	b := newBench(t, `{"rotate": {"size_mb": 1, "age_hours": 24, "keep": 3}}`)
	b.clock = b.clock.Add(23 * time.Hour)
	b.store(b.batch(10))
	b.restart() // does not make the log younger
	b.store(b.batch(10))
	if _, err := os.Stat(b.path(logName + ".1")); err == nil {
		t.Error("rotated before its time")
	}
	b.clock = b.clock.Add(time.Hour)
	b.store(b.batch(10))
	if n := bytes.Count(b.read(logName+".1"), []byte{'\n'}); n != 20 {
		t.Errorf("%d lines in the old log, want 20", n)
	}
	b.whole()
	b.write(logName+".9", "") // of a time when more were kept
	b.write(logName+".old", "")
	for range 12 {
		b.store(b.batch(1000))
	}
	b.restart()
	names, err := filepath.Glob(b.path(logName + "*"))
	if err != nil || len(names) != 5 { // conn.log, .1, .2, .3 and .old, which is not ours
		t.Errorf("%q, %v", names, err)
	}
	for _, name := range names {
		if info, err := os.Stat(name); err != nil || info.Size() > 1<<20 {
			t.Errorf("%s: %v, %v", name, info.Size(), err)
		}
	}
	if got := b.sink.Metrics(t.Context()); got["log_bytes"] <= 0 {
		t.Errorf("metrics %v", got)
	}
}

func TestAMarkThatIsNoneIsSetAside(t *testing.T) {
	t.Parallel()
	for _, text := range []string{"", "{", `{"offset": -1}`, `{"watermarks": [{"epoch": "x"}]}`} {
		b := newBench(t, `{}`)
		b.store(b.batch(10))
		b.write(markName, text)
		b.scribble(logName, "half a li")
		if marks := b.restart(); len(marks) != 0 {
			t.Errorf("%q: watermarks %v", text, marks)
		}
		if got := string(b.read(markName + ".bad")); got != text {
			t.Errorf("%q: set aside is %q", text, got)
		}
		if log := b.read(logName); !bytes.HasSuffix(log, []byte("half a li\n")) {
			t.Errorf("%q: the log ends with %q", text, log[len(log)-20:])
		}
	}
}

func TestWhatIsNoFileIsNotWrittenTo(t *testing.T) {
	t.Parallel()
	for name, make := range map[string]func(path string) error{
		"link":      func(path string) error { return os.Symlink("/dev/null", path) },
		"directory": func(path string) error { return os.Mkdir(path, 0o700) },
	} {
		dir := t.TempDir()
		if err := make(filepath.Join(dir, logName)); err != nil {
			t.Fatal(err)
		}
		err := New(time.Now).Configure(t.Context(), sdk.Settings{Directory: dir})
		if !errors.Is(err, sdk.ErrConfig) || !strings.Contains(err.Error(), "move it away") {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestWrongSettingsAreNamed(t *testing.T) {
	t.Parallel()
	for config, words := range map[string]string{
		`{"format": "xml"}`:           "format: want text, one of text, json",
		`{"rotate": {"keep": 0}}`:     "rotate.keep: want a whole number from 1 to 1000",
		`{"rotate": {"size": 1}}`:     "rotate.size: there is no such setting; there are: age_hours, keep, size_mb",
		`{"rotate": {"size_mb": -1}}`: "rotate.size_mb: want a whole number from 0",
	} {
		err := New(time.Now).Configure(t.Context(), sdk.Settings{Config: []byte(config), Directory: t.TempDir()})
		if !errors.Is(err, sdk.ErrConfig) || !strings.Contains(err.Error(), words) {
			t.Errorf("%s: %v, want %q", config, err, words)
		}
	}
}

func TestReadOnlyLeavesTheDirectoryAlone(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	s := New(time.Now)
	if err := errors.Join(s.Configure(t.Context(), sdk.Settings{Directory: dir, ReadOnly: true}), s.Health(t.Context()), s.Drain(t.Context())); err != nil {
		t.Error(err)
	}
	if entries, err := os.ReadDir(dir); err != nil || len(entries) != 0 {
		t.Errorf("%v, %v", entries, err)
	}
}
