package chaos

import (
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/picosnitch/picosnitch/test/lab"
	"github.com/picosnitch/picosnitch/test/need"
)

// lying are stores that are not the truth, each in one way. The truth is two programs: a sent 100, b sent 7 and took 9.
func lying() map[string]struct{ text, field string } {
	const a, b = `{"kind":"flow","host_id":"h","epoch":"e","seq":1,"exe":"/d/a","cmdline":"a","uid":1,"send":100,"layer":"socket"}`,
		`{"kind":"flow","host_id":"h","epoch":"e","seq":2,"exe":"/d/b","cmdline":"b","uid":2,"send":7,"recv":9,"layer":"socket"}`
	const end = `{"kind":"commit"}`
	join := func(lines ...string) string { return strings.Join(lines, "\n") + "\n" }
	return map[string]struct{ text, field string }{
		"the truth":                {join(a, b, end), ""},
		"bytes of packets beside":  {join(a, b, strings.Replace(a, `"socket"`, `"packet"`, 1), end), ""},
		"an uncommitted row":       {join(a, b, end, strings.Replace(a, `"seq":1`, `"seq":3`, 1)), ""},
		"half a row":               {join(a, b, end) + a[:40], ""},
		"a byte too few":           {join(strings.Replace(a, "100", "99", 1), b, end), "sent"},
		"a byte too many received": {join(a, strings.Replace(b, `"recv":9`, `"recv":10`, 1), end), "received"},
		"a row missing":            {join(a, end), "sent"},
		"a row not committed":      {join(a, end, b), "sent"},
		"a row twice":              {join(a, b, b, end), "record"},
		"another user's":           {join(a, strings.Replace(b, `"uid":2`, `"uid":3`, 1), end), "program"},
		"a program that never was": {join(a, b, strings.NewReplacer("/d/a", "/d/x", `"seq":1`, `"seq":9`).Replace(a), end), "program"},
		"two rows that cancel out": {join(strings.Replace(a, "100", "93", 1), strings.Replace(b, `"send":7`, `"send":14`, 1), end), "sent"},
	}
}

func TestALyingStoreIsFound(t *testing.T) {
	t.Parallel()
	truth := map[program]moved{{"/d/a", "a", 1}: {Sent: 100}, {"/d/b", "b", 2}: {Sent: 7, Received: 9}}
	for title, lie := range lying() {
		t.Run(title, func(t *testing.T) {
			t.Parallel()
			path := filepath.Join(t.TempDir(), "records.jsonl")
			if err := os.WriteFile(path, []byte(lie.text), 0o600); err != nil {
				t.Fatal(err)
			}
			c, err := readLines(path, "/d")
			if err != nil {
				t.Fatal(err)
			}
			found := differencesOf("jsonl", truth, c.Rows)
			named := slices.ContainsFunc(found, func(d difference) bool { return d.Field == lie.field })
			if (lie.field != "") != named || lie.field == "" && len(found) > 0 {
				t.Errorf("want a difference of %q, have\n%s", lie.field, table(found))
			}
		})
	}
}

func TestOfALossOnlyWhatIsTooMuchIsExcess(t *testing.T) {
	t.Parallel()
	a := program{"/d/a", "a", 1}
	truth := map[program]moved{a: {Sent: 100}}
	for title, c := range map[string]struct {
		rows []entry
		want int
	}{
		"exact":     {[]entry{{"1", a, moved{Sent: 100}}}, 0},
		"too few":   {[]entry{{"1", a, moved{Sent: 60}}}, 0},
		"nothing":   {nil, 0},
		"too much":  {[]entry{{"1", a, moved{Sent: 60}}, {"2", a, moved{Sent: 41}}}, 1},
		"twice":     {[]entry{{"1", a, moved{Sent: 10}}, {"1", a, moved{Sent: 10}}}, 1},
		"a strange": {[]entry{{"1", program{"/d/x", "x", 1}, moved{Sent: 1}}}, 1},
	} {
		if found := excess("store", truth, c.rows); len(found) != c.want {
			t.Errorf("%s: want %d differences, have\n%s", title, c.want, table(found))
		}
	}
}

func TestATextLogIsReadByItsFields(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "conn.log")
	const good = "2026-01-01 00:00:00,5,6,/d/a,a,a --x,,,,,,42,1,2,::1,::2,\n"
	for text, ok := range map[string]bool{good: true, good + "torn,li": false, strings.Replace(good, ",5,", ",x,", 1): false} {
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		c, err := readLog(path, "/d")
		if !ok {
			if err == nil {
				t.Errorf("%q is read as %+v", text, c)
			}
			continue
		}
		if want := (entry{program: program{"/d/a", "a --x", 42}, moved: moved{5, 6}}); err != nil || len(c.Rows) != 1 || c.Rows[0] != want {
			t.Errorf("%+v, %v; want %+v", c.Rows, err, want)
		}
	}
}

func TestAGapNeedsADeedOfItsReasonAndTime(t *testing.T) {
	t.Parallel()
	noon := time.Date(2026, 1, 1, 12, 0, 0, 0, time.UTC)
	deeds := []*deed{{Kind: restartHost, From: noon, To: noon.Add(time.Minute)}}
	gap := func(reason string, from, to time.Duration) lab.Gap {
		return lab.Gap{Reason: reason, Start: noon.Add(from).UnixNano(), End: noon.Add(to).UnixNano()}
	}
	stranger, ours := gap("uncounted", 0, 0), gap("uncounted", 0, 0)
	stranger.Exe, ours.Exe = "/usr/bin/vpn", "/d/a"
	for title, c := range map[string]struct {
		gap lab.Gap
		ok  bool
	}{
		"what was done":         {gap("host-down", 0, time.Minute), true},
		"a window before":       {gap("host-down", -2*time.Second, time.Minute), true},
		"another reason":        {gap("events-lost", 0, time.Minute), false},
		"a reason nobody knows": {gap("", 0, time.Minute), false},
		"long before":           {gap("host-down", -time.Hour, 0), false},
		"long after":            {gap("host-down", 0, time.Hour), false},
		"a stranger's":          {stranger, true},
		"a generator's":         {ours, false},
	} {
		if found := unjustified("store", []lab.Gap{c.gap}, deeds, "/d"); (len(found) == 0) != c.ok {
			t.Errorf("%s: justified should be %v, have\n%s", title, c.ok, table(found))
		}
	}
}

func TestABlindTimeNeedsAGapThatCoversIt(t *testing.T) {
	t.Parallel()
	noon := time.Date(2026, 1, 1, 12, 0, 0, 0, time.UTC)
	blind := []span{{noon, noon.Add(time.Second)}}
	for title, c := range map[string]struct {
		reason   string
		from, to time.Duration
		ok       bool
	}{
		"all of it":      {"host-down", -time.Second, 2 * time.Second, true},
		"a part of it":   {"host-down", 0, time.Second / 2, false},
		"another reason": {"events-lost", -time.Second, 2 * time.Second, false},
	} {
		g := lab.Gap{Reason: c.reason, Start: noon.Add(c.from).UnixNano(), End: noon.Add(c.to).UnixNano()}
		if found := uncovered("store", []lab.Gap{g}, blind); (len(found) == 0) != c.ok {
			t.Errorf("%s: covered should be %v, have\n%s", title, c.ok, table(found))
		}
	}
}

func TestAPlanComesFromItsSeed(t *testing.T) {
	t.Parallel()
	plugins := []string{"a", "b"}
	one, same, other := newPlan(1, 10*time.Minute, allKinds(), plugins), newPlan(1, 10*time.Minute, allKinds(), plugins),
		newPlan(2, 10*time.Minute, allKinds(), plugins)
	if !slices.Equal(one, same) {
		t.Error("one seed gives two plans")
	}
	if slices.Equal(one, other) {
		t.Error("two seeds give one plan")
	}
	done := map[kind]bool{}
	var sum time.Duration
	for _, m := range one {
		done[m.Kind] = true
		sum += m.After
	}
	if sum >= 10*time.Minute {
		t.Errorf("the plan for ten minutes takes %v", sum)
	}
	if len(done) != len(allKinds()) {
		t.Errorf("ten minutes have only %v", done)
	}
}

func TestAProcessThatIsLeftIsFound(t *testing.T) {
	t.Parallel()
	need.Root(t, "start a process of another user")
	const user = 61990 // nobody's
	cmd := exec.Command("sleep", "60")
	cmd.Dir = "/"
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: user, Gid: user}, Pdeathsig: syscall.SIGKILL}
	if found := orphans(user, user, "/nonexistent"); len(found) > 0 {
		t.Fatalf("before there is one:\n%s", table(found))
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = cmd.Process.Kill(); _ = cmd.Wait() }()
	if found := orphans(user-1, user+1, "/nonexistent"); len(found) != 1 {
		t.Errorf("by user: want one, have\n%s", table(found))
	}
	if found := orphans(1, 0, filepath.Dir(cmd.Path)); len(found) == 0 {
		t.Error("by executable: not found")
	}
}

func TestAHostThatGrowsIsFound(t *testing.T) {
	t.Parallel()
	before := usage{Files: 100, Threads: 12, Anonymous: 20}
	for field, after := range map[string]usage{
		"":        {Files: 100 + roomFiles, Threads: 12, Anonymous: 5, Executable: 900},
		"files":   {Files: 101 + roomFiles, Threads: 12, Anonymous: 20},
		"threads": {Files: 1, Threads: 13 + roomThreads, Anonymous: 20},
		"MiB":     {Files: 1, Threads: 12, Anonymous: 21 + roomMemory},
	} {
		found := leaked(before, after)
		if field == "" && len(found) > 0 || field != "" && (len(found) != 1 || found[0].Field != field) {
			t.Errorf("%+v: want %q, have\n%s", after, field, table(found))
		}
	}
}
