package journal

import (
	"errors"
	"slices"
	"testing"

	"google.golang.org/protobuf/proto"

	"github.com/picosnitch/picosnitch/sdk"
	wire "github.com/picosnitch/picosnitch/sdk/proto"
)

// numbered are notices with sequences.
func numbered(first, n int, text string) []*wire.Record {
	records := notices(n, text)
	for i, r := range records {
		r.Sequence = uint64(first + i)
	}
	return records
}

func TestWhatIsSetAsideSurvivesAndIsListed(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	j := open(t, dir)
	a, b := cursor(t, j, "a"), cursor(t, j, "ab")
	appendTo(t, j, notices(9, "x"))
	must(t, a.SetAside(j.Epoch(), numbered(7, 2, "late"), "too odd"),
		a.SetAside(j.Epoch(), numbered(3, 1, "early"), "odd"),
		a.SetAside(j.Epoch(), numbered(3, 1, "early"), "odd, said again"),
		b.SetAside(j.Epoch(), numbered(1, 1, "of another"), "no"),
		a.SetAside(j.Epoch(), nil, "nothing"))
	epoch := j.Epoch()
	for _, j := range []*Journal{j, open(t, crashed(t, dir))} {
		aside, err := j.Aside("a")
		must(t, err)
		if len(aside) != 2 || aside[0].Reason != "odd, said again" || aside[1].Reason != "too odd" || aside[0].Epoch != epoch ||
			len(aside[1].Records) != 2 || aside[1].Records[1].Sequence != 8 || aside[0].Time.IsZero() {
			t.Errorf("set aside: %+v", aside)
		}
		if s := stats(t, j).Sinks["a"]; s.AsideBatches != 2 || s.AsideRecords != 3 || s.AsideBytes == 0 || s.AsideDropped != 0 {
			t.Errorf("stats %+v", s)
		}
	}
}

func TestWhatIsSetAsideIsBounded(t *testing.T) {
	t.Parallel()
	j := open(t, t.TempDir())
	c := cursor(t, j, "a")
	big := notices(1, string(make([]byte, 900<<10)))
	for i := range 24 { // 21 MiB
		big[0].Sequence = uint64(1 + i)
		must(t, c.SetAside(j.Epoch(), big, "big"))
	}
	aside, err := j.Aside("a")
	must(t, err)
	s := stats(t, j).Sinks["a"]
	if s.AsideBytes > maxAsideBytes || len(aside) != s.AsideBatches || s.AsideDropped != uint64(24-len(aside)) {
		t.Errorf("%d are left, stats %+v", len(aside), s)
	}
	if len(aside) == 0 || aside[len(aside)-1].Records[0].Sequence != 24 {
		t.Error("the newest is not there")
	}
}

func TestARetryGivesNewNumbersToOneSinkOnly(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	j := open(t, dir)
	a, b := cursor(t, j, "a"), cursor(t, j, "b")
	appendTo(t, j, notices(3, "x"))
	must(t, a.SetAside(j.Epoch(), []*wire.Record{numbered(2, 1, "poison")[0]}, "odd"))
	read(t, a)
	if n, err := j.Retry("a"); n != 1 || err != nil {
		t.Fatalf("retried %d, %v", n, err)
	}
	appendTo(t, j, notices(1, "after"))
	later := open(t, crashed(t, dir))
	for name, c := range map[string]*Cursor{"at once": a, "after kill -9": cursor(t, later, "a")} {
		c.Seek([]sdk.Watermark{{Epoch: j.Epoch(), Sequence: 3}})
		batch := next(t, c)
		var decoded wire.Batch
		must(t, proto.Unmarshal(batch.Raw, &decoded))
		if batch.First != 4 || batch.Last != 4 || string(decoded.Records[0].GetNotice().GetText().GetValue()) != "poison 0" || decoded.Records[0].Sequence != 4 {
			t.Errorf("%s: a gets %v", name, &decoded)
		}
		must(t, c.Ack(sdk.Watermark{Epoch: batch.Epoch, Sequence: batch.Last}))
		equal(t, read(t, c), []string{"after 0"})
	}
	equal(t, read(t, b), []string{"x 0", "x 1", "x 2", "", "after 0"}) // an empty record, and the chain holds
	if aside, err := j.Aside("a"); len(aside) > 0 || err != nil {
		t.Errorf("still set aside: %v, %v", aside, err)
	}
	if n, err := j.Retry("a"); n != 0 || err != nil {
		t.Errorf("retried %d once more, %v", n, err)
	}
}

func TestARetryOfNobodyKeepsWhatIsSetAside(t *testing.T) {
	t.Parallel()
	j := open(t, t.TempDir())
	c := cursor(t, j, "a")
	must(t, c.SetAside(j.Epoch(), numbered(1, 1, "x"), "odd"), j.Unregister("a"))
	if n, err := j.Retry("a"); n != 0 || err != nil { // what belonged to it went with it
		t.Errorf("retried %d, %v", n, err)
	}
	if _, err := j.Retry("nobody"); err != nil {
		t.Errorf("nothing is set aside for nobody: %v", err)
	}
	if err := cursor(t, j, "b").SetAside(j.Epoch(), numbered(1, 5000, "many"), "all"); err != nil {
		t.Fatal(err)
	}
	if n, err := j.Retry("b"); n != 5000 || err != nil { // more than one batch
		t.Errorf("retried %d, %v", n, err)
	}
	if got := read(t, cursor(t, j, "b")); len(got) != 5000 || got[4999] != "many 4999" {
		t.Errorf("%d came", len(got))
	}
}

func TestSuspectsAreNarrowedDownToThePoison(t *testing.T) {
	t.Parallel()
	const size = 1000
	for name, c := range map[string]struct {
		poison []uint64
		dies   bool
		most   int // hand-overs that fail
	}{
		"one that is refused":       {[]uint64{700}, false, 11},
		"the first":                 {[]uint64{1}, false, 11},
		"the last":                  {[]uint64{size}, false, 11},
		"two":                       {[]uint64{3, 4}, false, 22},
		"three far apart":           {[]uint64{1, 500, 1000}, false, 33},
		"one that kills":            {[]uint64{700}, true, 15},
		"two that kill":             {[]uint64{10, 999}, true, 30},
		"none":                      {nil, true, 0},
		"the neighbours that kill":  {[]uint64{500, 501}, true, 30},
		"a whole row that it kills": {[]uint64{500, 501, 502, 503}, true, 60},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var p Suspects
			var blamed []uint64
			left, failures := Span{First: 1, Last: size}, 0
			for left.First <= left.Last {
				s := left
				s.Last = p.Cut(left)
				bad := slices.ContainsFunc(c.poison, func(n uint64) bool { return n >= s.First && n <= s.Last })
				switch {
				case p.Blamed(s) || bad && !c.dies && s.First == s.Last:
					blamed = append(blamed, s.First)
				case bad && c.dies:
					p.Died(s)
				case bad:
					p.Refused(s)
				}
				if failures++; bad && len(blamed) == 0 || !slices.Contains(blamed, s.First) && bad {
					continue
				}
				failures--
				p.Passed(s)
				left.First = s.Last + 1
			}
			if !slices.Equal(blamed, c.poison) || failures > c.most {
				t.Errorf("blamed %v of %v after %d failures, want at most %d", blamed, c.poison, failures, c.most)
			}
		})
	}
}

func TestDeathsByAccidentCondemnNothing(t *testing.T) {
	t.Parallel()
	var p Suspects
	s := Span{First: 1, Last: 8}
	for range 3 {
		p.Died(s)
	}
	for left := s; left.First <= left.Last; {
		part := left
		part.Last = p.Cut(left)
		if p.Blamed(part) {
			t.Fatalf("%v is blamed, and nothing was wrong with it", part)
		}
		p.Passed(part)
		left.First = part.Last + 1
	}
	other := Span{First: 9, Last: 16}
	for range 2 {
		p.Died(other)
	}
	if last := p.Cut(other); last != 16 {
		t.Errorf("cut to %d after two deaths", last)
	}
	p.Passed(other)
	p.Died(other)
	if last := p.Cut(other); last != 16 {
		t.Errorf("cut to %d after one death since it was taken", last)
	}
}

func TestCallsAfterCloseSayErrClosed(t *testing.T) {
	t.Parallel()
	j := open(t, t.TempDir())
	c := cursor(t, j, "a")
	must(t, c.SetAside(j.Epoch(), numbered(1, 1, "x"), "odd"), j.Close())
	_, discard := j.Discard(t.Context(), "a")
	_, stat := j.Stats()
	for name, err := range map[string]error{
		"set aside": c.SetAside(j.Epoch(), numbered(1, 1, "x"), "odd"), "discard": discard, "stats": stat,
	} {
		if !errors.Is(err, ErrClosed) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := j.Aside("a"); err == nil {
		t.Error("listed what is set aside from a closed file")
	}
	if _, err := j.Retry("a"); err == nil {
		t.Error("retried with a closed file")
	}
}
