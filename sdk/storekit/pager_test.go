package storekit

import (
	"bytes"
	"errors"
	"slices"
	"testing"

	"google.golang.org/protobuf/proto"

	wire "github.com/picosnitch/picosnitch/sdk/proto"
)

func TestAnAnswerIsCutIntoPages(t *testing.T) {
	t.Parallel()
	var pages []*wire.QueryPage
	p := NewPager(func(page *wire.QueryPage) error {
		pages = append(pages, page)
		return nil
	}, "exe")
	const rows = 40
	for range rows {
		r := &wire.QueryRow{Values: []*wire.Value{Text(string(bytes.Repeat([]byte("x"), 100_000)))}, Measures: &wire.Measures{Rows: 3}}
		if err := p.Row(r); err != nil {
			t.Fatal(err)
		}
	}
	p.Page.Cursor = []byte("on")
	if err := p.End(); err != nil {
		t.Fatal(err)
	}
	var count int
	for i, page := range pages {
		count += len(page.GetRows())
		if size := proto.Size(page); size > wire.MaxPageBytes/2 || page.GetScanned() != int64(3*count) {
			t.Errorf("page %d: %d bytes, %d rows scanned", i, size, page.GetScanned())
		}
		if first, last := i == 0, i == len(pages)-1; first != slices.Equal(page.GetColumns(), []string{"exe"}) || last != (page.GetCursor() != nil) {
			t.Errorf("page %d of %d: columns %q, cursor %q", i, len(pages), page.GetColumns(), page.GetCursor())
		}
	}
	if count != rows || len(pages) != 4 {
		t.Errorf("%d rows in %d pages", count, len(pages))
	}
}

func TestAPagerTellsProgressAndNamesColumnsOnce(t *testing.T) {
	t.Parallel()
	var pages []*wire.QueryPage
	p := NewPager(func(page *wire.QueryPage) error {
		pages = append(pages, page)
		return nil
	}, "exe")
	err := errors.Join(p.Progress(5, 10), p.Progress(7, 10))
	p.Scanned(10, 10)
	if err = errors.Join(err, p.Row(&wire.QueryRow{Measures: &wire.Measures{Rows: 9}}), p.End()); err != nil {
		t.Fatal(err)
	}
	for i, want := range []*wire.QueryPage{
		{Columns: []string{"exe"}, Scanned: 5, Scan: 10}, {Scanned: 7, Scan: 10},
		{Scanned: 10, Scan: 10, Rows: []*wire.QueryRow{{Measures: &wire.Measures{Rows: 9}}}},
	} {
		if !proto.Equal(pages[i], want) {
			t.Errorf("page %d: got %v, want %v", i, pages[i], want)
		}
	}
}

func TestAPagerTakesGapsAndNotices(t *testing.T) {
	t.Parallel()
	gone := errors.New("gone")
	var got *wire.QueryPage
	p := NewPager(func(page *wire.QueryPage) error {
		got = page
		return gone
	})
	gap := &wire.Record{Kind: &wire.Record_Gap{Gap: &wire.Gap{Events: 1}}}
	notice := &wire.Record{Kind: &wire.Record_Notice{Notice: &wire.Notice{Time: 1}}}
	if err := errors.Join(p.Record(gap, 10), p.Record(notice, 10)); err != nil {
		t.Fatal(err)
	}
	if err := p.Record(gap, pageBytes); !errors.Is(err, gone) {
		t.Errorf("got %v, want the error of send", err)
	}
	if len(got.GetGaps()) != 2 || len(got.GetNotices()) != 1 || got.GetScanned() != 3 {
		t.Errorf("got %v", got)
	}
}

func TestMeasuresHaveTheOrderOfTheirNames(t *testing.T) {
	t.Parallel()
	m := Measures([]int64{1, 2, 3, 4, 5, 6, 7, 8, 99})
	fields := m.ProtoReflect().Descriptor().Fields()
	for i, name := range MeasureNames() {
		f := fields.Get(i)
		if string(f.Name()) != name || m.ProtoReflect().Get(f).Uint() != uint64(i+1) {
			t.Errorf("measure %d: %s of wire.Measures is %v, want %s and %d", i, f.Name(), m.ProtoReflect().Get(f), name, i+1)
		}
	}
}

func TestATextOfAnAnswerIsTheBytesThatWereStored(t *testing.T) {
	t.Parallel()
	for stored, want := range map[string]string{`a\x00\\`: "a\x00\\", `lone\`: `lone\`, "": ""} {
		if got := Text(stored).GetText(); string(got) != want {
			t.Errorf("%q: got %q, want %q", stored, got, want)
		}
	}
}
