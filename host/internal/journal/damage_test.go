package journal

import (
	"bytes"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	bolt "go.etcd.io/bbolt"
	"google.golang.org/protobuf/proto"

	"github.com/picosnitch/picosnitch/sdk"
	wire "github.com/picosnitch/picosnitch/sdk/proto"
)

// needles is the number of records in a file that filled made.
const needles = 40 * 20

// account takes everything that a sink gets and tells how many of the needles came, how many are said to be lost, and
// what else there was. No needle may come twice, out of order, or differ from what was written.
func account(t *testing.T, j *Journal, c *Cursor) (came, gone int, others []string) {
	t.Helper()
	last := map[sdk.Epoch]uint64{}
	for c.Lag() > 0 {
		b, err := c.Next(t.Context())
		if damaged := new(DamagedError); err != nil {
			if !asDamaged(err, &damaged) {
				t.Fatal(err)
			}
			gone += int(damaged.Last - damaged.First + 1)
			b = Batch{Epoch: damaged.Epoch, Last: damaged.Last}
		}
		var decoded wire.Batch
		must(t, proto.Unmarshal(b.Raw, &decoded))
		for _, r := range decoded.Records {
			first := r.Sequence
			if g := r.GetGap(); g != nil {
				first = g.First
				if b.Epoch != j.Epoch() {
					gone += int(g.Events)
				}
			} else if text := string(r.GetNotice().GetText().GetValue()); b.Epoch == j.Epoch() {
				others = append(others, text)
			} else if want := fmt.Sprintf("needle %d %d", (r.Sequence-1)/20, (r.Sequence-1)%20); text != want {
				t.Errorf("record %d is %q", r.Sequence, text)
			} else {
				came++
			}
			if first <= last[b.Epoch] {
				t.Fatalf("record %d after %d", first, last[b.Epoch]) // else it might come again for ever
			}
			last[b.Epoch] = r.Sequence
		}
		must(t, c.Ack(sdk.Watermark{Epoch: b.Epoch, Sequence: b.Last}))
	}
	return came, gone, others
}

func asDamaged(err error, to **DamagedError) bool {
	for ; err != nil; err = unwrap(err) {
		if d, ok := err.(*DamagedError); ok {
			*to = d
			return true
		}
	}
	return false
}

func unwrap(err error) error {
	u, ok := err.(interface{ Unwrap() error })
	if !ok {
		return nil
	}
	return u.Unwrap()
}

// harm is one way to damage a page of a file.
func harms() map[string]func(file []byte, page int) []byte {
	at := func(page int) int { return 4096 * page }
	return map[string]func([]byte, int) []byte{
		"zeroed":     func(d []byte, p int) []byte { clear(d[at(p):at(p+1)]); return d },
		"torn":       func(d []byte, p int) []byte { clear(d[at(p)+512 : at(p+1)]); return d },
		"cut":        func(d []byte, p int) []byte { return d[:at(p)] },
		"bit":        func(d []byte, p int) []byte { d[at(p)+40] ^= 4; return d },
		"head":       func(d []byte, p int) []byte { d[at(p)+8] ^= 0x11; d[at(p)+14] ^= 0x70; return d },
		"elsewhere":  func(d []byte, p int) []byte { copy(d[at(p):at(p+1)], d[len(d)-4096:]); return d },
		"late bytes": func(d []byte, p int) []byte { d[at(p)+4000] ^= 0xff; d[at(p)+3000] ^= 0xff; return d },
	}
}

func TestNoDamageToAPageLosesMoreThanItSays(t *testing.T) {
	t.Parallel()
	clean, err := os.ReadFile(filled(t, t.TempDir()))
	must(t, err)
	for _, name := range slices.Sorted(maps.Keys(harms())) {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			most, none := 0, 0
			pages := len(clean) / 4096
			for page := range pages {
				if name == "cut" && page == 0 {
					continue // an empty file is a new journal
				}
				dir := t.TempDir()
				must(t, os.WriteFile(filepath.Join(dir, FileName), harms()[name](bytes.Clone(clean), page), 0o600))
				j := open(t, dir)
				c := cursor(t, j, "a")
				appendTo(t, j, notices(1, "after"))
				came, gone, others := account(t, j, c)
				r, aside := j.Recovered()
				equal(t, others, []string{"after 0"})
				switch {
				case came+gone == needles: // every record is there or said to be lost
				case aside && came == 0 && gone == 0 && name == "cut" && page < 6:
					none++ // nothing is left that could be read; Recovered says so
				case aside && name == "cut" && (needles-came-gone <= 20 || page < 6) && len(r.Unknown) > 0: // an older state is the best there is
					most = max(most, needles-came-gone)
				default:
					t.Errorf("page %d: %d came, %d are said to be lost, of %d; set aside: %v", page, came, gone, needles, aside)
				}
				if gone > 0 && name != "cut" && gone > 200 {
					t.Errorf("page %d: one page takes %d records with it", page, gone)
				}
				must(t, j.Close())
			}
			t.Logf("%d pages; unknown: at most %d records, %d times everything", pages, most, none)
		})
	}
}

func TestWhatIsSavedGoesToSinksThatLackIt(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	path := filled(t, dir)
	j := open(t, dir)
	c, late := cursor(t, j, "a"), cursor(t, j, "late")
	p := j.previous
	for range 10 {
		b := next(t, c)
		must(t, c.Ack(sdk.Watermark{Epoch: b.Epoch, Sequence: b.Last}))
	}
	appendTo(t, j, notices(5, "second run"), Mark{"m", []byte("kept")})
	must(t, c.SetAside(p.epoch, notices(1, "poison"), "odd"))
	must(t, j.Close())
	damagePageOf(t, path, "needle 20 ")
	j = open(t, dir)
	r, ok := j.Recovered()
	if !ok || r.Batches == 0 {
		t.Fatalf("recovered %+v", r)
	}
	if m, ok := j.Mark("m"); !ok || string(m) != "kept" {
		t.Errorf("the mark is %q", m)
	}
	if aside, err := j.Aside("a"); len(aside) != 1 || err != nil {
		t.Errorf("set aside: %v, %v", aside, err)
	}
	texts, gaps := readAll(t, cursor(t, j, "a"))
	if len(texts) == 0 || texts[0] != "needle 10 0" || texts[len(texts)-1] != "second run 4" {
		t.Errorf("a gets %.3q", texts)
	}
	if len(gaps) != 1 || gaps[0].Reason != wire.GapReason_GAP_JOURNAL_CORRUPT || len(texts)+int(gaps[0].Events) != 30*20+5 {
		t.Errorf("%d records and the gaps %v", len(texts), gaps)
	}
	if d := stats(t, j).Sinks["a"].Dropped; d != (Dropped{Damaged: gaps[0].Events}) {
		t.Errorf("dropped %+v", d)
	}
	equal(t, read(t, cursor(t, j, late.name)), []string{"second run 0", "second run 1", "second run 2", "second run 3", "second run 4"})
}

// damagePageOf zeroes the page that holds a text, in a leaf.
func damagePageOf(t *testing.T, path, text string) {
	t.Helper()
	data, err := os.ReadFile(path)
	must(t, err)
	db, err := bolt.Open(path, 0o600, &bolt.Options{ReadOnly: true, PreLoadFreelist: true})
	must(t, err)
	damaged := 0
	must(t, db.View(func(tx *bolt.Tx) error {
		for id := 2; ; id++ {
			page, err := tx.Page(id)
			if err != nil || page == nil {
				return err
			}
			if body := data[4096*id : 4096*(id+1+page.OverflowCount)]; page.Type == "leaf" && bytes.Contains(body, []byte(text)) {
				clear(data[4096*id : 4096*id+512])
				damaged++
			}
			id += page.OverflowCount
		}
	}), db.Close())
	if damaged == 0 {
		t.Fatalf("no page holds %q", strings.TrimSpace(text))
	}
	must(t, os.WriteFile(path, data, 0o600))
}

func TestNoRandomDamageLosesMoreThanItSays(t *testing.T) {
	t.Parallel()
	clean, err := os.ReadFile(filled(t, t.TempDir()))
	must(t, err)
	random := rand.New(rand.NewPCG(7, 11)) // the same damage in every run
	for round := range 80 {
		dir, data := t.TempDir(), bytes.Clone(clean)
		for range 1 + random.IntN(12) {
			at := random.IntN(len(data))
			if round%2 == 0 { // where the structure is, not the records
				at = at&^4095 + random.IntN(80)
			}
			data[at] ^= byte(1 + random.IntN(255))
		}
		must(t, os.WriteFile(filepath.Join(dir, FileName), data, 0o600))
		j := open(t, dir)
		_, aside := j.Recovered()
		came, gone, others := account(t, j, cursor(t, j, "a"))
		if came+gone != needles || len(others) > 0 {
			t.Errorf("round %d: %d came, %d are said to be lost, of %d; others %q; set aside: %v", round, came, gone, needles, others, aside)
		}
	}
}
