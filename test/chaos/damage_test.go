package chaos

import (
	"errors"
	"math/rand/v2"
	"path/filepath"
	"testing"
	"time"

	"github.com/picosnitch/picosnitch/test/lab"
	"golang.org/x/sys/unix"
)

// TestDamagedJournal kills the host while records wait for a stopped sink, damages the journal, and starts the host again:
// what a store lacks, a gap names. Nothing comes twice, and nothing else is missing.
func TestDamagedJournal(t *testing.T) {
	seed := chosenSeed(t)
	t.Logf("CHAOS_SEED=%d", seed)
	l := lab.New(t, true)
	for i, d := range damages() {
		t.Run(d.Name, func(t *testing.T) {
			w := newWorld(t, l)
			w.damage(d, rand.New(rand.NewPCG(seed, uint64(i))))
			w.Traffic.finish()
			w.quiet()
			w.checkDamage()
			w.checkGaps()
			w.checkRemains()
		})
	}
}

// damage has jsonl lack a few windows that all others have, when the file is hit.
func (w *world) damage(d damage, random *rand.Rand) {
	w.Helper()
	w.later.until(time.Now().Add(2 * time.Second))
	deed := w.Diary.begin(corrupt, "", d.Name)
	v, state := w.find("jsonl")
	if v == nil {
		w.Fatalf("jsonl: %s", state)
	}
	w.must(v.signal(unix.SIGSTOP))
	w.later.until(time.Now().Add(4 * time.Second))
	w.Daemon.Kill()
	w.must(errors.Join(v.signal(unix.SIGKILL), unix.Close(v.handle))) // a stopped process would miss the host's end
	w.must(d.inflict(random, filepath.Join(w.Daemon.State, "journal.db")))
	w.Daemon.Start()
	deed.end("")
	w.later.until(time.Now().Add(2 * time.Second))
}

// quiet waits until nothing is on its way to any store any more.
func (w *world) quiet() {
	w.Helper()
	moved, was := time.Now(), -1
	for begun := time.Now(); time.Since(moved) < 5*time.Second; time.Sleep(500 * time.Millisecond) {
		all, err := w.Daemon.Plugins()
		have := 0
		for _, s := range w.Stores {
			c, err := w.read(s)
			w.must(err)
			have += len(c.Rows) + len(c.Gaps)
		}
		waiting := err != nil
		for _, p := range all {
			waiting = waiting || !p.Running() || p.Queued > 0
		}
		if waiting || have != was {
			moved, was = time.Now(), have
		}
		if time.Since(begun) > 2*patience() {
			w.Fatalf("still on the way after %v: %+v, %v", 2*patience(), all, err)
		}
	}
}

func (w *world) checkDamage() {
	w.Helper()
	truth, all := truthOf(w.Case.Wanted()), map[string]bool{}
	contents := map[string]contents{}
	for _, s := range w.Stores {
		c, err := w.read(s)
		w.must(err)
		contents[s.Plugin] = c
		for _, r := range c.Rows {
			all[r.ID] = s.Gaps
		}
	}
	delete(all, "") // the text log's
	var found []difference
	for _, s := range w.Stores {
		c := contents[s.Plugin]
		found = append(found, excess(s.Plugin, truth, c.Rows)...)
		if s.Gaps {
			found = append(found, missed(s.Plugin, c, all)...)
			found = append(found, unexplained(s.Plugin, truth, c)...)
			w.Logf("%s: %d of %d records; gaps %s", s.Plugin, len(c.Rows), len(all), list(c.Gaps))
		}
	}
	if len(found) > 0 {
		w.Errorf("%s\ndaemon:\n%s", table(found), w.Daemon.LogTail())
	}
}

func list(gaps []lab.Gap) string {
	text := ""
	for _, g := range gaps {
		text += "\n    " + g.Reason + " " + describe(g)
	}
	return text
}

func TestARecordThatNeitherStoreNorGapHasIsFound(t *testing.T) {
	t.Parallel()
	all := map[string]bool{"h/e/1": true, "h/e/2": true, "h/f/2": true}
	row := func(id string) entry { return entry{ID: id} }
	gap := func(reason, epoch string, first, last uint64) lab.Gap {
		return lab.Gap{Reason: reason, Epoch: epoch, First: first, Last: last}
	}
	for title, c := range map[string]struct {
		contents contents
		want     int
	}{
		"all there":      {contents{Rows: []entry{row("h/e/1"), row("h/e/2"), row("h/f/2")}}, 0},
		"none there":     {contents{}, 3},
		"one in a gap":   {contents{Rows: []entry{row("h/e/1"), row("h/f/2")}, Gaps: []lab.Gap{gap("journal-corrupt", "e", 2, 9)}}, 0},
		"another epoch":  {contents{Rows: []entry{row("h/e/1"), row("h/f/2")}, Gaps: []lab.Gap{gap("journal-corrupt", "f", 2, 9)}}, 1},
		"another reason": {contents{Rows: []entry{row("h/e/1"), row("h/f/2")}, Gaps: []lab.Gap{gap("queue-dropped", "e", 2, 9)}}, 1},
	} {
		if found := missed("store", c.contents, all); len(found) != c.want {
			t.Errorf("%s: want %d, have\n%s", title, c.want, table(found))
		}
	}
}

func TestMissingBytesNeedAGapOfADamagedJournal(t *testing.T) {
	t.Parallel()
	a := program{"/d/a", "a", 1}
	truth := map[program]moved{a: {Sent: 5}}
	whole, part := []entry{{"1", a, moved{Sent: 5}}}, []entry{{"1", a, moved{Sent: 4}}}
	damaged := []lab.Gap{{Reason: "journal-corrupt"}}
	if found := unexplained("store", truth, contents{Rows: whole}); len(found) > 0 {
		t.Errorf("nothing is missing:\n%s", table(found))
	}
	if found := unexplained("store", truth, contents{Rows: part, Gaps: damaged}); len(found) > 0 {
		t.Errorf("explained:\n%s", table(found))
	}
	if found := unexplained("store", truth, contents{Rows: part, Gaps: []lab.Gap{{Reason: "host-down"}}}); len(found) == 0 {
		t.Error("missing bytes are not found")
	}
}
