package journal

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"
	"google.golang.org/protobuf/proto"

	"github.com/picosnitch/picosnitch/sdk"
	wire "github.com/picosnitch/picosnitch/sdk/proto"
)

// childDir makes the test binary an appender that is killed. With childFull its journal is always full, and its records are
// large.
const (
	childDir  = "PICOSNITCH_JOURNAL_CHILD"
	childFull = "PICOSNITCH_JOURNAL_CHILD_FULL"
)

func TestMain(m *testing.M) {
	if dir := os.Getenv(childDir); dir != "" {
		fmt.Fprintln(os.Stderr, appendForever(dir))
		os.Exit(1)
	}
	goleak.VerifyTestMain(m)
}

// appendForever writes the last sequence of every Append to stdout once it returned.
func appendForever(dir string) error {
	o, padding := Options{Dir: dir, HostID: testHost}, ""
	if os.Getenv(childFull) != "" {
		o.MaxBytes, padding = leastMaxBytes, strings.Repeat("x", 20000)
	}
	j, err := Open(o)
	if err != nil {
		return err
	}
	if _, err := j.Cursor("a"); err != nil {
		return err
	}
	fmt.Printf("%v\n", j.Epoch())
	for i := uint64(1); ; i += 3 {
		last := strconv.FormatUint(i+2, 10)
		if _, _, err := j.Append(notices(3, fmt.Sprint(j.Epoch(), " ", i, padding)), Mark{"last", []byte(last)}); err != nil {
			return err
		}
		fmt.Println(last)
	}
}

// kill runs an appender, kills it a while after it was promised as much as that and tells what it was promised.
func kill(t *testing.T, dir string, after time.Duration, least uint64, env ...string) (epoch string, promised uint64) {
	t.Helper()
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(append(os.Environ(), childDir+"="+dir), env...)
	var errs bytes.Buffer
	cmd.Stderr = &errs
	out, err := cmd.StdoutPipe()
	must(t, err, cmd.Start())
	lines := bufio.NewScanner(out)
	if !lines.Scan() {
		t.Fatalf("the appender did not start: %s", errs.String())
	}
	epoch = lines.Text()
	var timer *time.Timer
	doom := func() { timer = time.AfterFunc(after, func() { _ = cmd.Process.Kill() }) }
	if least == 0 {
		doom()
	}
	for lines.Scan() {
		if n, err := strconv.ParseUint(lines.Text(), 10, 64); err == nil {
			promised = n
		}
		if timer == nil && promised >= least {
			doom()
		}
	}
	if timer != nil {
		timer.Stop()
	}
	_ = cmd.Wait()
	if errs.Len() > 0 {
		t.Fatalf("the appender failed: %s", errs.String())
	}
	return epoch, promised
}

func TestWhatAppendPromisedSurvivesKill(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	var want []string
	for round := range 4 {
		epoch, promised := kill(t, dir, time.Duration(30+70*round)*time.Millisecond, 0)
		j := open(t, dir)
		p := j.previous
		if promised > 0 && (p.last == 0 || p.epoch.String() != epoch || p.clean) {
			t.Errorf("previous: %+v, want epoch %s, not clean", p, epoch)
		}
		if r, damaged := j.Recovered(); damaged {
			t.Fatalf("set aside: %+v", r)
		}
		if p.last > 0 && p.epoch.String() == epoch {
			mark, _ := j.Mark("last")
			if p.last < promised || string(mark) != fmt.Sprint(p.last) {
				t.Errorf("promised %d, kept %d, mark %s", promised, p.last, mark)
			}
			for i := uint64(1); i < p.last; i += 3 {
				for n := range 3 {
					want = append(want, fmt.Sprintf("%s %d %d", epoch, i, n))
				}
			}
		}
		must(t, j.Close())
	}
	j := open(t, dir)
	equal(t, read(t, cursor(t, j, "a")), want)
	if len(want) == 0 {
		t.Error("nothing was ever appended")
	}
}

func TestAGapSurvivesKillAtAnyMoment(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	promised := map[string]uint64{}
	for round := range 4 {
		epoch, last := kill(t, dir, time.Duration(round)*3*time.Millisecond, uint64(210+30*round), childFull+"=1")
		promised[epoch] = last
	}
	j := openBounded(t, Options{Dir: dir, MaxBytes: leastMaxBytes})
	c := cursor(t, j, "a")
	seen, dropped := map[sdk.Epoch]uint64{}, uint64(0)
	for c.Lag() > 0 {
		b := next(t, c)
		first := b.First
		if b.Gap {
			var decoded wire.Batch
			must(t, proto.Unmarshal(b.Raw, &decoded))
			g := checkGap(t, "a", b, &decoded)
			first = g.First
			dropped += g.Events
		}
		if first != seen[b.Epoch]+1 {
			t.Errorf("%v: %d after %d", b.Epoch, first, seen[b.Epoch])
		}
		seen[b.Epoch] = b.Last
		must(t, c.Ack(sdk.Watermark{Epoch: b.Epoch, Sequence: b.Last}))
	}
	for epoch, last := range seen {
		if last < promised[epoch.String()] {
			t.Errorf("%v: %d were promised, and %d are accounted for", epoch, promised[epoch.String()], last)
		}
		delete(promised, epoch.String())
	}
	for epoch, last := range promised {
		if last > 0 {
			t.Errorf("%s: %d were promised, and nothing is accounted for", epoch, last)
		}
	}
	if dropped == 0 {
		t.Error("nothing was ever dropped")
	}
}

// filled makes a closed journal with some records and returns its file.
func filled(t *testing.T, dir string) string {
	t.Helper()
	j := open(t, dir)
	cursor(t, j, "a")
	for i := range 40 {
		appendTo(t, j, notices(20, fmt.Sprint("needle ", i)))
	}
	must(t, j.Close())
	return filepath.Join(dir, FileName)
}

func TestADamagedFileIsSetAside(t *testing.T) {
	t.Parallel()
	for name, damage := range map[string]func(data []byte) []byte{
		"cut to half":      func(d []byte) []byte { return d[:len(d)/2] },
		"cut to 10 bytes":  func(d []byte) []byte { return d[:10] },
		"not a database":   func(d []byte) []byte { return bytes.Repeat([]byte("picosnitch"), 5000) },
		"zeros after meta": func(d []byte) []byte { clear(d[8192:]); return d },
		"ones after meta": func(d []byte) []byte {
			for i := range d[8192:] {
				d[8192+i] = 0xff
			}
			return d
		},
		"pages shuffled": func(d []byte) []byte {
			for at := 8192; at+8192 <= len(d); at += 8192 {
				page := bytes.Clone(d[at : at+4096])
				copy(d[at:], d[at+4096:at+8192])
				copy(d[at+4096:], page)
			}
			return d
		},
		"wild numbers": func(d []byte) []byte {
			for at := 8192; at < len(d); at += 4096 {
				for i := range 64 {
					d[at+16+i] ^= byte(0x5a + i)
				}
			}
			return d
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			path := filled(t, dir)
			data, err := os.ReadFile(path)
			must(t, err)
			damaged := damage(data)
			must(t, os.WriteFile(path, damaged, 0o600))
			j := open(t, dir)
			r, ok := j.Recovered()
			if !ok || r.Cause == nil {
				t.Fatalf("not reported: %+v", r)
			}
			if kept, err := os.ReadFile(r.Path); err != nil || !bytes.Equal(kept, damaged) {
				t.Errorf("%s is not the damaged file: %v", r.Path, err)
			}
			c := cursor(t, j, "a")
			if first, _ := appendTo(t, j, notices(1, "after")); first != 1 {
				t.Errorf("first is %d", first)
			}
			came, gone, others := account(t, j, c)
			equal(t, others, []string{"after 0"})
			if came != r.Batches*20 || came+gone > needles {
				t.Errorf("%d records came of %d batches saved, %d are said to be lost", came, r.Batches, gone)
			}
			if wantSaved := name == "cut to half" || name == "wild numbers"; wantSaved != (came > 0) {
				t.Errorf("%d records were saved", came)
			}
		})
	}
}

func TestOnlyTheLatestDamagedFilesAreKept(t *testing.T) {
	t.Parallel()
	dir, now := t.TempDir(), &clock{at: time.Unix(1700000000, 0)}
	for range maxDamaged + 2 {
		must(t, os.WriteFile(filepath.Join(dir, FileName), bytes.Repeat([]byte("picosnitch"), 5000), 0o600))
		j, err := Open(Options{Dir: dir, HostID: testHost, Now: now.now})
		must(t, err, j.Close())
		now.advance(time.Second)
	}
	kept, err := filepath.Glob(filepath.Join(dir, "*.corrupt-*"))
	if err != nil || len(kept) != maxDamaged || !strings.HasSuffix(kept[0], "-20231114T221322.000000000Z") {
		t.Errorf("kept %q, %v", kept, err)
	}
}

func TestAFlippedBitInABatchIsNotDelivered(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	path := filled(t, dir)
	data, err := os.ReadFile(path)
	must(t, err)
	needles := bytes.Count(data, []byte("needle 7 3"))
	if needles == 0 {
		t.Fatal("no batch to damage")
	}
	must(t, os.WriteFile(path, bytes.ReplaceAll(data, []byte("needle 7 3"), []byte("noodle 7 3")), 0o600))
	j := open(t, dir)
	c := cursor(t, j, "a")
	for batch := range 40 {
		b, err := c.Next(t.Context())
		last := b.Last
		var damaged *DamagedError
		if errors.As(err, &damaged) != (batch == 7) {
			t.Errorf("batch %d: %v", batch, err)
		}
		if damaged != nil {
			last = damaged.Last
		}
		p := j.previous
		must(t, c.Ack(sdk.Watermark{Epoch: p.epoch, Sequence: last}))
	}
	if lag := c.Lag(); lag != 0 {
		t.Errorf("lag is %d", lag)
	}
}

func TestAnEmptyFileIsANewJournal(t *testing.T) {
	t.Parallel()
	for name, data := range map[string][]byte{"empty": {}, "missing": nil} {
		dir := t.TempDir()
		if data != nil {
			must(t, os.WriteFile(filepath.Join(dir, FileName), data, 0o600))
		}
		if _, ok := open(t, dir).Recovered(); ok {
			t.Errorf("%s file was set aside", name)
		}
	}
}

func TestNoDamageEndsTheProcess(t *testing.T) {
	t.Parallel()
	path := filled(t, t.TempDir())
	clean, err := os.ReadFile(path)
	must(t, err)
	open(t, filepath.Dir(path))
	crashed, err := os.ReadFile(path) // as kill -9 would leave it
	must(t, err)
	random := rand.New(rand.NewPCG(1, 2)) // the same damage in every run
	aside := 0
	for round := range 60 {
		dir := t.TempDir()
		data := bytes.Clone(clean)
		if round%2 == 0 {
			data = bytes.Clone(crashed)
		}
		for range 1 + random.IntN(8) {
			at := random.IntN(len(data))
			if round%3 == 0 { // where the structure is, not the records
				at = at&^4095 + random.IntN(64)
			}
			data[at] ^= byte(1 + random.IntN(255))
		}
		must(t, os.WriteFile(filepath.Join(dir, FileName), data, 0o600))
		j, err := Open(Options{Dir: dir, HostID: testHost})
		must(t, err)
		if _, ok := j.Recovered(); ok {
			aside++
		}
		c := cursor(t, j, "a")
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
		_, _ = c.Next(ctx)
		cancel()
		_, _, aerr := j.Append(notices(3, "x"))
		if cerr := j.Close(); (aerr != nil || cerr != nil) && aerr == nil {
			t.Errorf("round %d: close: %v", round, cerr)
		}
	}
	if aside == 0 || aside == 60 {
		t.Errorf("%d of 60 files were set aside", aside)
	}
}
