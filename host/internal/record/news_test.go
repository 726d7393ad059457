package record

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/picosnitch/picosnitch/host/internal/capture"
	"github.com/picosnitch/picosnitch/host/internal/identity"
	wire "github.com/picosnitch/picosnitch/sdk/proto"
)

func alone(p *wire.Process) identity.Lineage { return identity.Lineage{Process: p} }

func TestNewsMakeTheLinesAndNoticesOf103(t *testing.T) {
	t.Parallel()
	h := newHost(t, everything())
	bash := process(9, 1000, "/usr/bin/bash", "a-very-long-process-name", "bash")
	steps := []struct {
		lineage identity.Lineage
		notices []string
		lines   []string
	}{
		{identity.Lineage{Process: process(1, 1000, "/usr/bin/curl", "curl", "c"), Parent: bash},
			[]string{"NEW_EXECUTABLE picosnitch: curl /usr/bin/curl", "NEW_EXECUTABLE picosnitch: a-very-long-process-name /usr/bin/bash (parent)"},
			[]string{"curl             /usr/bin/curl (new name, exe)", "a-very-long-proc /usr/bin/bash (new name, exe) (parent)"}},
		{identity.Lineage{Process: process(2, 1000, "/usr/bin/curl", "curl", "c"), Parent: bash}, nil, nil},
		{alone(process(3, 1000, "/usr/bin/curl", "curl2", "c")),
			[]string{"NEW_NAME picosnitch: curl2 /usr/bin/curl"}, []string{"curl2            /usr/bin/curl (new name)"}},
		{alone(process(4, 1000, "/usr/local/bin/curl", "curl", "c")),
			[]string{"NEW_EXECUTABLE picosnitch: curl /usr/local/bin/curl"}, []string{"curl             /usr/local/bin/curl (new exe)"}},
		{alone(hashed(process(5, 1000, "/usr/bin/curl", "curl", "c"), 0xab)),
			nil, []string{"abababababababab /usr/bin/curl (new hash)"}}, // the first that is known of a known path
		{alone(hashed(process(6, 1000, "/usr/bin/curl", "curl", "c"), 0xcd)),
			[]string{"NEW_SHA256 New sha256: /usr/bin/curl"}, []string{"cdcdcdcdcdcdcdcd /usr/bin/curl (new hash)"}},
		{alone(hashed(process(7, 1000, "/bin/new", "new", "c"), 0xcd)),
			[]string{"NEW_EXECUTABLE picosnitch: new /bin/new"},
			[]string{"new              /bin/new (new name, exe)", "cdcdcdcdcdcdcdcd /bin/new (new hash)"}},
	}
	written := ""
	for i, s := range steps {
		if diff := cmp.Diff(s.notices, h.meet(s.lineage)); diff != "" {
			t.Errorf("step %d: %s", i, diff)
		}
		h.flush()
		for _, line := range s.lines {
			written += "2026-11-21 17:26:21 " + line + "\n"
		}
	}
	if diff := cmp.Diff(written, h.home.text(exeLog)); diff != "" {
		t.Error(diff)
	}
	if h.home.text(errorLog) != "" {
		t.Errorf("error.log: %s", h.home.text(errorLog))
	}
}

func TestParentsHaveMapsOfTheirOwn(t *testing.T) {
	t.Parallel()
	h := newHost(t, everything())
	h.meet(identity.Lineage{
		Process: hashed(process(1, 0, "/bin/a", "a", ""), 1), Parent: hashed(process(2, 0, "/bin/b", "b", ""), 2),
		Grandparent: process(3, 0, "/bin/c", "c", ""),
	})
	h.flush()
	want := `{
  "Executables": {
    "/bin/a": [
      "a"
    ]
  },
  "Names": {
    "a": [
      "/bin/a"
    ]
  },
  "Parent Executables": {
    "/bin/b": [
      "b"
    ]
  },
  "Parent Names": {
    "b": [
      "/bin/b"
    ]
  },
  "SHA256": {
    "/bin/a": {
      "0101010101010101010101010101010101010101010101010101010101010101": "VT Pending"
    },
    "/bin/b": {
      "0202020202020202020202020202020202020202020202020202020202020202": "VT Pending"
    }
  }
}`
	if diff := cmp.Diff(want, h.home.text(recordFile)); diff != "" {
		t.Error(diff)
	}
}

func TestPathInAnotherNamespacePretends(t *testing.T) {
	t.Parallel()
	h := newHost(t, everything())
	h.meet(alone(hashed(process(1, 0, "/usr/bin/curl", "curl", ""), 1)))
	evil := alone(scoped(hashed(process(2, 1000, "/usr/bin/curl", "curl", ""), 2), "mntns:42"))
	want := []string{"PRETENDS picosnitch: curl mntns:42:/usr/bin/curl pretends to be /usr/bin/curl"}
	if diff := cmp.Diff(want, h.meet(evil)); diff != "" {
		t.Error(diff)
	}
	if got := h.meet(evil); got != nil {
		t.Errorf("again: %q", got)
	}
	if got := h.known.hashes["/usr/bin/curl"]; len(got) != 1 {
		t.Errorf("known hashes of the host's path: %v", got)
	}
	other := alone(scoped(process(3, 1000, "/opt/own", "own", ""), "docker:abc"))
	if diff := cmp.Diff([]string{"NEW_EXECUTABLE picosnitch: own docker:abc:/opt/own"}, h.meet(other)); diff != "" {
		t.Error(diff)
	}
	h.flush()
	if !strings.Contains(h.home.text(exeLog), " mntns:42:/usr/bin/curl (new exe)\n") {
		t.Errorf("exe.log: %s", h.home.text(exeLog))
	}
}

func TestCutPathsStayApart(t *testing.T) {
	t.Parallel()
	h := newHost(t, everything())
	a, b := process(1, 0, "/long", "a", ""), process(2, 0, "/long", "a", "")
	a.Executable.Path.Truncated, a.Executable.Path.Length, a.Executable.Path.Sha256 = true, 5000, make([]byte, 32)
	if got := h.meet(alone(a), alone(b)); len(got) != 2 {
		t.Errorf("got %q", got)
	}
}

func TestFirstStartLearnsAndSaysSoOnce(t *testing.T) {
	t.Parallel()
	h := newHost(t, everything())
	h.home, h.state, h.options.Learn = newDisk(), newDisk(), 2
	h.start()
	h.flush()
	l := identity.Lineage{Process: hashed(process(1, 0, "/bin/a", "a", ""), 1), Parent: process(2, 0, "/bin/b", "b", "")}
	if got := h.meet(l); got != nil {
		t.Errorf("first window: %q", got)
	}
	h.flush()
	if h.state.text(knownFile) != "" {
		t.Error("known.json before it is learned: a crash now would mute the summary")
	}
	if diff := cmp.Diff([]string{"LEARNED picosnitch: learned 3 programs that were already there, see exe.log"},
		h.meet(alone(process(3, 0, "/bin/c", "c", "")))); diff != "" {
		t.Error(diff)
	}
	if diff := cmp.Diff([]string{"NEW_EXECUTABLE picosnitch: d /bin/d"}, h.meet(alone(process(4, 0, "/bin/d", "d", "")))); diff != "" {
		t.Error(diff)
	}
	h.flush()
	if got := strings.Count(h.home.text(exeLog), "\n"); got != 5 {
		t.Errorf("%d lines: %s", got, h.home.text(exeLog))
	}
	h.start()
	if got := h.meet(l, alone(process(3, 0, "/bin/c", "c", ""))); got != nil {
		t.Errorf("second start: %q", got)
	}
}

func TestWhatIsLearnedAtTheFirstStartIsAllInItsLog(t *testing.T) {
	t.Parallel()
	h := newHost(t, everything())
	h.home, h.state = newDisk(), newDisk()
	h.start()
	var list []identity.Lineage
	for i := range uint32(2 * exeLimit) {
		list = append(list, alone(process(i, 0, fmt.Sprintf("/bin/%d", i), "x", "")))
	}
	h.meet(list...)
	h.flush()
	if lines := strings.Count(h.home.text(exeLog), "\n"); lines != 2*exeLimit {
		t.Errorf("%d lines", lines)
	}
}

func TestFloodOfProgramsDoesNotHideAChangedOne(t *testing.T) {
	t.Parallel()
	h := newHost(t, everything())
	h.meet(alone(hashed(process(1, 1000, "/bin/known", "known", ""), 1)))
	var flood []identity.Lineage
	for i := range 2 * noticesPerUser {
		flood = append(flood, alone(process(uint32(i+2), 1000, fmt.Sprintf("/tmp/%d", i), "x", "")))
	}
	got := h.meet(append(flood, alone(hashed(process(9999, 1000, "/bin/known", "known", ""), 2)))...)
	if !slices.Contains(got, "NEW_SHA256 New sha256: /bin/known") {
		t.Errorf("%q", got)
	}
}

func TestForgedProcessIsToldWithoutItsCommandLine(t *testing.T) {
	t.Parallel()
	o := everything()
	o.Commands = false
	h := newHost(t, o)
	h.Forged(process(7, 1000, "/tmp/evil", "evil", "evil --password x"), "/bin/tr\nue")
	var found *wire.Notice
	for _, r := range h.Window(window(), whoOf()) {
		if n := r.GetNotice(); n.GetKind() == wire.NoticeKind_NOTICE_PRETENDS {
			found = n
		}
	}
	const want = "picosnitch: process 7 shows /bin/tr\nue as its program, but executes /tmp/evil"
	if string(found.GetText().GetValue()) != want || found.GetProcess().GetId().GetTgid() != 7 {
		t.Errorf("notice: %v", found)
	}
	if line := found.GetProcess().GetCommandLine(); line != nil {
		t.Errorf("command line %q", line.GetValue())
	}
	h.flush()
	if log := h.home.text(errorLog); !strings.HasSuffix(log, strings.Replace(want, "\n", `\x0a`, 1)+"\n") {
		t.Errorf("error.log: %q", log)
	}
}

func TestFloodOfProgramsIsOneNotice(t *testing.T) {
	t.Parallel()
	o := everything()
	o.Known = 8000
	h := newHost(t, o)
	var flood []identity.Lineage
	for i := range 3000 {
		flood = append(flood, alone(process(uint32(i), 1000, fmt.Sprintf("/tmp/%d", i), "x", "")))
	}
	quiet := alone(process(9999, 1001, "/bin/quiet", "quiet", ""))
	got := h.meet(append(flood, quiet)...)
	if len(got) != noticesPerUser+2 { // and the quiet one, the folded one
		t.Fatalf("%d notices: %q", len(got), got)
	}
	if diff := cmp.Diff("NEW_EXECUTABLE picosnitch: quiet /bin/quiet", got[len(got)-2]); diff != "" {
		t.Error(diff)
	}
	if diff := cmp.Diff("NEW_EXECUTABLE picosnitch: 2984 more new programs of user 1000", got[len(got)-1]); diff != "" {
		t.Error(diff)
	}
	if c := h.Counters(); c.Known != 1001 || c.KnownForgotten != 2000 || c.KnownFolded != 0 {
		t.Errorf("counters: %+v", c)
	}
	again := h.meet(flood[:1000]...) // the oldest, which were forgotten
	if len(again) != noticesPerUser || !strings.HasSuffix(again[0], "/tmp/0") {
		t.Errorf("the next window: %q", again)
	}
	h.now = h.now.Add(time.Hour)
	if diff := cmp.Diff([]string{"NEW_EXECUTABLE picosnitch: 984 more new programs of user 1000"}, h.meet()); diff != "" {
		t.Error(diff)
	}
}

func TestNewProgramsBehindAFloodAreToldAsEver(t *testing.T) {
	t.Parallel()
	o := everything()
	o.Known = 80
	h := newHost(t, o)
	firefox := alone(hashed(process(1, 1000, "/usr/bin/firefox", "firefox", ""), 1))
	h.meet(firefox)
	h.meet(firefox)
	for i := range 100 {
		h.meet(alone(process(uint32(i+2), 1000, fmt.Sprintf("/tmp/%d", i), "x", "")))
	}
	if err := h.Close(); err != nil {
		t.Fatal(err)
	}
	h.start()
	evil := alone(process(999, 1000, "/tmp/evil", "evil", ""))
	if diff := cmp.Diff([]string{"NEW_EXECUTABLE picosnitch: evil /tmp/evil"}, h.meet(evil, firefox)); diff != "" {
		t.Error(diff)
	}
	h.flush()
	if log := h.home.text(exeLog); !strings.HasSuffix(log, " evil             /tmp/evil (new name, exe)\n") {
		t.Errorf("exe.log: %s", log)
	}
	if list := h.home.text(recordFile); !strings.Contains(list, "/tmp/evil") || strings.Contains(list, `"/tmp/10"`) {
		t.Errorf("record.json: %s", list)
	}
}

func TestProgramWithoutRoomIsCountedAndSaidOnce(t *testing.T) {
	t.Parallel()
	o := everything()
	o.Known = 8
	h := newHost(t, o)
	for uid := range uint32(7) {
		h.meet(alone(process(uid, 1000+uid, fmt.Sprintf("/bin/%d", uid), "x", "")))
	}
	late := alone(hashed(process(8, 2000, "/bin/late", "late", ""), 1))
	want := []string{"ERROR there is no room for new programs of user 2000,...", "NEW_EXECUTABLE picosnitch: 1 more new programs of user 2000"}
	if diff := cmp.Diff(want, h.meet(late)); diff != "" {
		t.Error(diff)
	}
	if got := h.meet(late); got != nil || h.Counters().KnownFolded != 2 {
		t.Errorf("again: %q, %+v", got, h.Counters())
	}
}

func TestEveryWindowHasItsNotices(t *testing.T) {
	t.Parallel()
	h := newHost(t, everything())
	for i := range 3 * noticesPerUser {
		if got := h.meet(alone(process(1, 1000, fmt.Sprintf("/bin/%d", i), fmt.Sprint(i), ""))); len(got) != 1 {
			t.Fatalf("window %d: %q", i, got)
		}
	}
}

func TestVerdictsAreSaidOnceAndCleanMeansScanned(t *testing.T) {
	t.Parallel()
	h := newHost(t, everything())
	p := hashed(process(1, 0, "/bin/a", "a", ""), 0xab)
	h.meet(alone(p))
	for _, v := range []*wire.Verdict{
		{Text: "File not analyzed (no api key)"}, {Text: "{'harmless': 1}"}, {Text: "{'harmless': 1}"}, {Text: "{'malicious': 1}", Suspicious: true},
	} {
		v.Sha256 = p.Executable.Sha256
		h.Verdict(v)
	}
	if diff := cmp.Diff([]string{"SUSPICIOUS Suspicious VT results: /bin/a"}, h.meet()); diff != "" {
		t.Error(diff)
	}
	h.flush()
	stamp := "2026-11-21 17:26:21 "
	want := stamp + "a                /bin/a (new name, exe)\n" + stamp + "abababababababab /bin/a (new hash)\n" +
		stamp + "abababababababab /bin/a (clean)\n" + stamp + "abababababababab /bin/a (suspicious)\n"
	if diff := cmp.Diff(want, h.home.text(exeLog)); diff != "" {
		t.Error(diff)
	}
	if !strings.Contains(h.home.text(recordFile), `"{'malicious': 1}"`) {
		t.Errorf("record.json: %s", h.home.text(recordFile))
	}
}

func TestLateHashIsNoticed(t *testing.T) {
	t.Parallel()
	h := newHost(t, everything())
	h.meet(alone(hashed(process(1, 0, "/bin/a", "a", ""), 1)))
	h.Hashed(hashed(process(2, 0, "/bin/a", "a", ""), 2))
	if diff := cmp.Diff([]string{"NEW_SHA256 New sha256: /bin/a"}, h.meet()); diff != "" {
		t.Error(diff)
	}
}

func TestKernelThreadsAreOneProgram(t *testing.T) {
	t.Parallel()
	h := newHost(t, everything())
	var threads []identity.Lineage
	for i := range 3 {
		p := process(uint32(i+2), 0, "", fmt.Sprintf("kworker/u8:%d", i), "")
		p.Kernel = string(p.Name.Value)
		threads = append(threads, alone(p))
	}
	if diff := cmp.Diff([]string{"NEW_EXECUTABLE picosnitch: kworker kernel:kworker"}, h.meet(threads...)); diff != "" {
		t.Error(diff)
	}
}

func TestNoticesNameAncestors(t *testing.T) {
	t.Parallel()
	options := everything()
	options.Ancestors = func(id *wire.ProcessId) []*wire.Ancestor { return []*wire.Ancestor{{Tgid: id.GetTgid() + 100}} }
	h := newHost(t, options)
	w := window()
	w.Flows = append(w.Flows, capture.Flow{Process: capture.Key{Tgid: 1}, Layer: wire.Layer_LAYER_SOCKET})
	records := h.Window(w, func(*capture.Flow) identity.Lineage { return alone(process(7, 1000, "/usr/bin/curl", "curl", "c")) })
	for _, r := range records {
		if n := r.GetNotice(); n != nil && len(n.Ancestors) == 1 && n.Ancestors[0].Tgid == 107 {
			return
		}
	}
	t.Errorf("no notice with its ancestors in %v", records)
}
