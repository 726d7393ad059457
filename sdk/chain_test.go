package sdk

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"strings"
	"testing"

	"google.golang.org/protobuf/proto"

	wire "github.com/picosnitch/picosnitch/sdk/proto"
)

func TestTheCanonicalTextIsASCII(t *testing.T) {
	t.Parallel()
	row := []Value{TextValue("/usr/bin/cürl"), IntegerValue(-7), TextValue(""), TextValue(Escape([]byte("a\t\\\xff日b")))}
	const want = `flow	/usr/bin/c\xc3\xbcrl	-7		a\x09\\\xff\xe6\x97\xa5b`
	if got := string(AppendCanonical(nil, KindFlow, row)); got != want {
		t.Errorf("got  %q\nwant %q", got, want)
	}
}

func TestTheLeafOfAFlowIsTheHashOfItsRow(t *testing.T) {
	t.Parallel()
	r, b := someFlow()
	text := "flow"
	for _, field := range someRow() {
		text += "\t" + strings.NewReplacer("ü", `\xc3\xbc`).Replace(field[1])
	}
	if got, want := Leaf(KindFlow, Row(r, b)), sha256.Sum256([]byte(text)); got != want {
		t.Errorf("got %x, want %x, of %q", got, want, text)
	}
}

// The vectors were made by testdata/chain.py, which follows docs/wire.md and knows nothing of this package.
func TestFixedVectors(t *testing.T) {
	t.Parallel()
	r, b := someFlow()
	gap := &wire.Record{Sequence: 8, Kind: &wire.Record_Gap{Gap: &wire.Gap{Start: 1, End: 2,
		Reason: wire.GapReason_GAP_EVENTS_LOST, Cause: "ring", Events: 3}}}
	b.Records, b.Last = append(b.Records, gap, &wire.Record{Sequence: 9}), 9
	leaf := Leaf(KindFlow, Row(r, b))
	chain := Seal(b, Hash{0: 0xee})
	for name, vector := range map[string]struct {
		got  []byte
		want string
	}{
		"leaf of a flow": {leaf[:], "eb7d8bee1a709b1fad0337ace8e54a9ce69ef7c116aab23e470c82a229f527d5"},
		"root of three":  {b.Root, "f5b86f883eb1bfaa822fa3de5f30f1411cbc6e86f180290df51a61d64d559981"},
		"chain":          {chain[:], "00534c8d16b17043c386e77640066735429a8c1a35fe9f1f8adb4b641b8703eb"},
	} {
		if got := hex.EncodeToString(vector.got); got != vector.want {
			t.Errorf("%s: got %s, want %s", name, got, vector.want)
		}
	}
	if again, err := Check(b, Hash{0: 0xee}); err != nil || again != chain {
		t.Errorf("check: %x, %v, want %x", again, err, chain)
	}
}

func TestTheRootDependsOnEveryLeafAndItsPlace(t *testing.T) {
	t.Parallel()
	seen := map[Hash]string{}
	for n := range 9 {
		leaves := make([]Hash, n)
		for i := range leaves {
			leaves[i] = Hash{byte(i + 1)}
		}
		note := func(what string) {
			root := Root(leaves)
			if other, ok := seen[root]; ok {
				t.Errorf("%s has the root of %s", what, other)
			}
			seen[root] = what
		}
		note(fmt.Sprintf("%d leaves", n))
		for i := range leaves {
			leaves[i][31] = 1
			note(fmt.Sprintf("%d leaves, number %d changed", n, i))
			leaves[i][31] = 0
		}
		for i := 1; i < n; i++ {
			leaves[0], leaves[i] = leaves[i], leaves[0]
			note(fmt.Sprintf("%d leaves, first and %d exchanged", n, i))
			leaves[0], leaves[i] = leaves[i], leaves[0]
		}
	}
}

func TestCheckFindsWhatWasAltered(t *testing.T) {
	t.Parallel()
	previous := Hash{1}
	for name, alter := range map[string]func(*wire.Batch){
		"a record": func(b *wire.Batch) { b.Records[1].GetFlow().Sent++ },
		"a text": func(b *wire.Batch) {
			b.Records[1].GetFlow().Process = &wire.Process{Name: &wire.Text{Value: []byte("x")}}
		},
		"order":        func(b *wire.Batch) { b.Records[0], b.Records[1] = b.Records[1], b.Records[0] },
		"a record cut": func(b *wire.Batch) { b.Records = b.Records[:2] },
		"root":         func(b *wire.Batch) { b.Root[0]++ },
		"previous":     func(b *wire.Batch) { b.Previous[0]++ },
		"epoch":        func(b *wire.Batch) { b.Epoch[0]++ },
		"no seal":      func(b *wire.Batch) { b.Root, b.Previous = nil, nil },
	} {
		b := batchOf(3)
		Seal(b, previous)
		alter(b)
		if _, err := Check(b, previous); !errors.Is(err, ErrChain) {
			t.Errorf("%s: %v, want %v", name, err, ErrChain)
		}
	}
	b := batchOf(3)
	chain := Seal(b, previous)
	b.Last++
	if got, err := Check(b, previous); err == nil && got == chain {
		t.Error("the range is not part of the hash")
	}
}

func TestASealSurvivesTheWire(t *testing.T) {
	t.Parallel()
	b := batchOf(5)
	chain := Seal(b, Hash{})
	if !bytes.Equal(b.Previous, make([]byte, 32)) {
		t.Errorf("previous of the first batch: %x, want zeros", b.Previous)
	}
	raw, err := proto.Marshal(b)
	if err != nil {
		t.Fatal(err)
	}
	back := &wire.Batch{}
	if err := proto.Unmarshal(raw, back); err != nil {
		t.Fatal(err)
	}
	if got, err := Check(back, Hash{}); err != nil || got != chain {
		t.Errorf("got %x, %v, want %x", got, err, chain)
	}
}

func BenchmarkSeal(b *testing.B) {
	r, batch := someFlow()
	batch.Records = batch.Records[:0]
	for range 1000 {
		batch.Records = append(batch.Records, r)
	}
	b.ReportAllocs()
	for b.Loop() {
		Seal(batch, Hash{})
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/1000, "ns/record")
}

func BenchmarkRow(b *testing.B) {
	r, batch := someFlow()
	b.ReportAllocs()
	for b.Loop() {
		Row(r, batch)
	}
}

func BenchmarkCheckRecord(b *testing.B) {
	r, _ := someFlow()
	b.ReportAllocs()
	for b.Loop() {
		if err := checkRecord(r); err != nil {
			b.Fatal(err)
		}
	}
}
