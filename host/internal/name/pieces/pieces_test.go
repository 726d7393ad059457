package pieces

import (
	"bytes"
	"errors"
	"math"
	"math/rand/v2"
	"testing"
)

func TestPiecesInAnyOrderGiveTheStream(t *testing.T) {
	t.Parallel()
	random := rand.New(rand.NewPCG(1, 2))
	want := make([]byte, 3000)
	for i := range want {
		want[i] = byte(random.Uint32())
	}
	for range 200 {
		b := New(len(want))
		var cuts [][2]int
		for at := 0; at < len(want); {
			end := min(at+1+random.IntN(200), len(want))
			cuts = append(cuts, [2]int{max(at-random.IntN(20), 0), end})
			at = end
		}
		random.Shuffle(len(cuts), func(i, j int) { cuts[i], cuts[j] = cuts[j], cuts[i] })
		for _, c := range cuts {
			if err := b.Add(uint64(c[0]), want[c[0]:c[1]]); err != nil {
				t.Fatal(err)
			}
		}
		if !bytes.Equal(b.Bytes(), want) {
			t.Fatalf("%d bytes of %d, or other ones", len(b.Bytes()), len(want))
		}
	}
}

func TestSkipGoesOnWithTheRest(t *testing.T) {
	t.Parallel()
	b := New(16)
	for _, p := range []struct {
		offset uint64
		data   string
	}{{0, "abcd"}, {8, "ijkl"}} {
		if err := b.Add(p.offset, []byte(p.data)); err != nil {
			t.Fatal(err)
		}
	}
	if got := string(b.Bytes()); got != "abcd" || b.Next() != 8 {
		t.Errorf("%q, next %d", got, b.Next())
	}
	b.Skip(2)
	if got := string(b.Bytes()); got != "cd" || b.Base() != 2 || b.Next() != 8 {
		t.Errorf("after 2: %q, base %d, next %d", got, b.Base(), b.Next())
	}
	b.Skip(7) // over the hole
	if got := string(b.Bytes()); got != "jkl" || b.Next() != 12 {
		t.Errorf("over the hole: %q, next %d", got, b.Next())
	}
	if err := b.Add(0, []byte("before the base, but one byte longer"[:13])); err != nil || len(b.Bytes()) != 4 {
		t.Errorf("a piece that begins before the base: %v, %q", err, b.Bytes())
	}
	b.Skip(1 << 40)
	if err := b.Add(1<<40+9, []byte("z")); err != nil || string(b.Bytes()) != "z" {
		t.Errorf("far away: %v, %q", err, b.Bytes())
	}
}

func TestHostileOffsetsAreRefused(t *testing.T) {
	t.Parallel()
	b := New(100)
	for _, offset := range []uint64{100, 101, math.MaxInt64, math.MaxUint64} {
		if err := b.Add(offset, []byte("x")); !errors.Is(err, ErrFull) {
			t.Errorf("offset %d: %v", offset, err)
		}
	}
	if err := b.Add(99, []byte("xy")); !errors.Is(err, ErrFull) {
		t.Errorf("over the end: %v", err)
	}
	if b.Size() != 0 {
		t.Errorf("refused pieces hold %d bytes", b.Size())
	}
	b = New(1000)
	var err error
	for i := uint64(1); i < 1000 && err == nil; i += 2 {
		err = b.Add(i, []byte("x"))
	}
	if !errors.Is(err, ErrFull) || len(b.spans) > maxSpans {
		t.Errorf("shredded into %d: %v", len(b.spans), err)
	}
}
