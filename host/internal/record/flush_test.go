package record

import (
	"errors"
	"fmt"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	wire "github.com/picosnitch/picosnitch/sdk/proto"
)

func TestRecordFileOf103GoesOn(t *testing.T) {
	t.Parallel()
	data, err := os.ReadFile("testdata/record-1.0.3.json")
	if err != nil {
		t.Fatal(err)
	}
	h := newHost(t, everything())
	h.home, h.state = newDisk(), newDisk()
	// An owner who wants his programs unlisted.
	data = append(data[:len(data)-2], `, "Seen Again": {"0": [["Executables", "/usr/bin/curl", "curl"]]}}`...)
	h.home.files[recordFile] = data
	h.start()
	known := alone(process(1, 0, "/usr/bin/curl", "curl", ""))
	want := []string{"NEW_EXECUTABLE picosnitch: new /bin/new"}
	if diff := cmp.Diff(want, h.meet(known, alone(process(2, 0, "/bin/new", "new", "")))); diff != "" {
		t.Error(diff)
	}
	if c := h.Counters(); c.Known != 2 {
		t.Errorf("%d are learned, want those that were seen", c.Known)
	}
	h.flush()
	if got := h.home.text(recordFile); !strings.Contains(got, "/tmp/odd-\xff") || !strings.Contains(got, `"/bin/new"`) {
		t.Errorf("record.json: %q", got)
	}
	if got := h.meet(); got != nil {
		t.Errorf("after the first write: %q", got)
	}
}

func TestBrokenRecordFileIsSetAside(t *testing.T) {
	t.Parallel()
	h := newHost(t, everything())
	h.home, h.state = newDisk(), newDisk()
	h.home.files[recordFile] = []byte("{\n  \"Executables\": {\"/secret\"")
	h.start()
	want := []string{"ERROR record.json:2:28: not valid JSON: expected a co...", "LEARNED picosnitch: learned 0 programs that were already there, see exe.log"}
	if diff := cmp.Diff(want, h.meet()); diff != "" {
		t.Error(diff)
	}
	h.flush()
	if got := h.home.text("record.json.broken"); !strings.Contains(got, "/secret") {
		t.Errorf("set aside: %q", got)
	}
	if got := h.home.text(errorLog); strings.Contains(got, "/secret") || !strings.Contains(got, "record.json.broken") {
		t.Errorf("error.log: %q", got)
	}
}

func TestEditIsNoticedAndMutesNothing(t *testing.T) {
	t.Parallel()
	h := newHost(t, everything())
	h.meet(alone(process(1, 0, "/bin/a", "a", "")))
	h.flush()
	good := h.home.text(recordFile)
	edit := func() {
		h.home.files[recordFile] = []byte(strings.Replace(good, `"/bin/a": [`, `"/tmp/evil": ["evil"], "/bin/a": [`, 1))
	}
	check := func(when string) {
		t.Helper()
		if diff := cmp.Diff([]string{"EDITED record.json was edited: +1 executable", "NEW_EXECUTABLE picosnitch: evil /tmp/evil"},
			h.meet(alone(process(2, 1000, "/tmp/evil", "evil", "")))); diff != "" {
			t.Errorf("%s: %s", when, diff)
		}
		h.flush()
	}
	edit()
	h.flush()
	if h.home.text(recordFile) == good {
		t.Error("looked at before the interval")
	}
	h.now = h.now.Add(30 * time.Second)
	h.flush()
	if h.home.text(recordFile) != good {
		t.Error("not written again")
	}
	check("while running")

	g := newHost(t, everything())
	g.meet(alone(process(1, 0, "/bin/a", "a", "")))
	g.flush()
	h = g
	edit()
	h.start()
	if err := h.Close(); err != nil {
		t.Fatal(err)
	}
	check("while it was down")

	delete(h.home.files, recordFile)
	h.now = h.now.Add(time.Minute)
	h.flush()
	if diff := cmp.Diff([]string{"EDITED record.json was removed"}, h.meet()); diff != "" {
		t.Error(diff)
	}
	if h.home.text(recordFile) == "" {
		t.Error("not written again")
	}
	h.home.files[recordFile] = []byte(`{"x`)
	h.now = h.now.Add(time.Minute)
	h.flush()
	if diff := cmp.Diff([]string{"EDITED record.json was edited: 1:4: not valid JSON: a string without an end"}, h.meet()); diff != "" {
		t.Error(diff)
	}
}

func TestCrashBetweenStateAndCopyIsNoEdit(t *testing.T) {
	t.Parallel()
	h := newHost(t, everything())
	h.meet(alone(process(1, 0, "/bin/a", "a", "")))
	h.flush()
	before := h.home.text(recordFile)
	h.meet(alone(process(2, 0, "/bin/b", "b", "")))
	h.flush()
	for _, copied := range []string{before, h.home.text(recordFile)} {
		h.home.files[recordFile] = []byte(copied)
		h.start()
		if err := h.Close(); err != nil {
			t.Fatal(err)
		}
		if got := h.meet(); got != nil {
			t.Errorf("got %q", got)
		}
	}
}

func TestNothingIsWrittenThatDidNotChange(t *testing.T) {
	t.Parallel()
	h := newHost(t, everything())
	l := alone(process(1, 0, "/bin/a", "a", ""))
	h.meet(l)
	h.flush()
	writes := h.home.writes + h.state.writes
	for range 5 {
		h.now = h.now.Add(time.Minute)
		h.meet(l)
		h.flush()
	}
	if got := h.home.writes + h.state.writes; got != writes {
		t.Errorf("%d more writes", got-writes)
	}
	h.meet(alone(process(1, 0, "/bin/a", "b", ""))) // a line waits: at once
	h.flush()
	if got := h.home.writes + h.state.writes; got != writes+2 {
		t.Errorf("%d more writes", got-writes)
	}
}

func TestOrderAloneIsWrittenAtTheEndOnly(t *testing.T) {
	t.Parallel()
	h := newHost(t, everything())
	h.meet(alone(process(1, 0, "/bin/a", "a", "")))
	h.flush()
	h.meet(alone(process(1, 0, "/bin/a", "a", "")))
	h.now = h.now.Add(time.Minute)
	before := h.state.text(knownFile)
	if h.flush(); h.state.text(knownFile) != before {
		t.Error("written for nothing new")
	}
	for range 2 {
		if err := h.Close(); err != nil {
			t.Fatal(err)
		}
	}
	if h.state.text(knownFile) == before || h.state.writes != 2 {
		t.Errorf("%d writes in all, at the end: %s", h.state.writes, h.state.text(knownFile))
	}
}

func TestWhatCouldNotBeWrittenIsTriedAgain(t *testing.T) {
	t.Parallel()
	h := newHost(t, everything())
	names := []string{exeLog, errorLog, recordFile}
	for _, name := range names {
		h.home.breakFile(name, true)
	}
	h.Error("one")
	h.meet(alone(process(1, 0, "/bin/a", "a", "")))
	for range 3 {
		if err := h.Flush(); !errors.Is(err, errDisk) {
			t.Fatalf("got %v", err)
		}
	}
	if diff := cmp.Diff([]string{"ERROR picosnitch write error"}, h.meet(alone(process(2, 0, "/bin/b", "b", "")))[:1]); diff != "" {
		t.Error(diff)
	}
	if !strings.Contains(h.state.text(knownFile), "/bin/a") {
		t.Error("what is known waits for the user's directory")
	}
	for _, name := range names {
		h.home.breakFile(name, false)
	}
	h.flush()
	stamp := "2026-11-21 17:26:21 "
	want := stamp + "a                /bin/a (new name, exe)\n" + stamp + "b                /bin/b (new name, exe)\n"
	if diff := cmp.Diff(want, h.home.text(exeLog)); diff != "" {
		t.Error(diff)
	}
	if diff := cmp.Diff(stamp+"one\n", h.home.text(errorLog)); diff != "" {
		t.Error(diff)
	}
	if !strings.Contains(h.home.text(recordFile), "/bin/b") {
		t.Errorf("record.json: %s", h.home.text(recordFile))
	}
}

func TestWhatCannotBeReadIsNotOverwritten(t *testing.T) {
	t.Parallel()
	h := newHost(t, everything())
	h.home, h.state = newDisk(), newDisk()
	h.home.files[recordFile] = []byte("precious")
	h.home.unread[recordFile] = true
	h.start()
	h.meet(alone(process(1, 0, "/bin/a", "a", "")))
	if err := h.Flush(); !errors.Is(err, errDisk) {
		t.Errorf("got %v", err)
	}
	if h.home.text(recordFile) != "precious" || h.state.text(knownFile) == "" {
		t.Error("record.json was overwritten or known.json was not written")
	}
	h.state.broken[knownFile] = true
	if _, err := New(h.options, h.home, h.state, time.Now); !errors.Is(err, errDisk) {
		t.Errorf("state that cannot be read: %v", err)
	}
}

func TestBrokenStateIsSetAside(t *testing.T) {
	t.Parallel()
	h := newHost(t, everything())
	h.state.files[knownFile] = []byte("{")
	h.start()
	if h.state.text(knownFile+".broken") != "{" || len(h.meet()) != 2 {
		t.Errorf("got %q", h.state.files)
	}
}

func TestMethodsRunBesideEachOther(t *testing.T) {
	t.Parallel()
	h := newHost(t, everything())
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			for i := range 50 {
				h.Error(fmt.Sprint("error ", i))
				h.Counters()
				if err := h.Close(); err != nil {
					t.Error(err)
				}
				h.Verdict(&wire.Verdict{Sha256: make([]byte, 32), Text: "x"})
			}
		})
	}
	for i := range 50 {
		h.meet(alone(process(uint32(i), 0, fmt.Sprintf("/bin/%d", i), "a", "")))
	}
	wg.Wait()
	h.flush()
	if got := strings.Count(h.home.text(exeLog), "\n"); got != 50 {
		t.Errorf("%d lines", got)
	}
}
