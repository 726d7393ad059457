package storekit

import (
	"bytes"
	"encoding/csv"
	"encoding/json"
	"errors"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/picosnitch/picosnitch/sdk"
	wire "github.com/picosnitch/picosnitch/sdk/proto"
	"github.com/picosnitch/picosnitch/sdk/sdktest"
)

func TestASiteIsThePartOfADomainThatSomebodyRegistered(t *testing.T) {
	t.Parallel()
	for name, want := range map[string]string{
		"www.example.org": "org.example", "example.org": "org.example", "a.b.example.co.uk": "uk.co.example", "WWW.Example.ORG": "org.example",
		"co.uk": "uk.co", "localhost": "localhost", "": "", "x.github.io": "io.github.x", "a\xff.org": `org.a\xff`, "_dns.resolver.arpa": "arpa.resolver",
		"..": "..", "34.216.184.93": "", "2001:db8::1": "",
	} {
		if got := Site([]byte(name)); got != want {
			t.Errorf("%q: got %q, want %q", name, got, want)
		}
	}
}

func TestAnExecutionIsAFlowWithoutEnds(t *testing.T) {
	t.Parallel()
	e := &wire.Exec{Window: &wire.Window{End: 5}, Process: &wire.Process{Ruid: 1}, Parent: &wire.Process{Ruid: 2}, Grandparent: &wire.Process{Ruid: 3}}
	f := Flow(&wire.Record{Kind: &wire.Record_Exec{Exec: e}})
	if f.GetWindow() != e.Window || f.GetProcess() != e.Process || f.GetParent() != e.Parent || f.GetGrandparent() != e.Grandparent || f.GetSent() != 0 {
		t.Errorf("got %v", f)
	}
	if own := new(wire.Flow); Flow(&wire.Record{Kind: &wire.Record_Flow{Flow: own}}) != own || Flow(&wire.Record{}) != nil {
		t.Error("a flow is not itself, or another record is one")
	}
}

// rowsOf are the flat rows of some hostile flows.
func rowsOf() (rows [][]sdk.Value) {
	b := sdktest.NewStream(1).Next(sdktest.Hostile())
	for _, row := range sdk.Rows(b) {
		rows = append(rows, append([]sdk.Value(nil), row...))
	}
	return rows
}

func TestRowsAreWrittenSoThatTheyCanBeReadAgain(t *testing.T) {
	t.Parallel()
	var asCSV, asJSON bytes.Buffer
	c, err := NewCSV(&asCSV)
	if err != nil {
		t.Fatal(err)
	}
	j := NewJSON(&asJSON)
	var heading []string
	for _, column := range sdk.Columns() {
		heading = append(heading, column.Name)
	}
	want := [][]string{heading}
	for _, row := range rowsOf() {
		var texts []string
		for _, v := range row {
			texts = append(texts, v.String())
		}
		want = append(want, texts)
		err = errors.Join(err, c.Write(row), j.Write(row))
	}
	if err = errors.Join(err, c.Close(), j.Close()); err != nil {
		t.Fatal(err)
	}
	got, err := csv.NewReader(&asCSV).ReadAll()
	if diff := cmp.Diff(want, got); diff != "" || err != nil {
		t.Errorf("CSV: %v (-want +got):\n%s", err, diff)
	}
	lines := bytes.Split(bytes.TrimSuffix(asJSON.Bytes(), []byte("\n")), []byte("\n"))
	if len(lines) != len(want)-1 {
		t.Fatalf("%d lines of JSON, want %d", len(lines), len(want)-1)
	}
	for i, line := range lines {
		var object map[string]json.RawMessage
		if err := json.Unmarshal(line, &object); err != nil || len(object) != len(heading) {
			t.Fatalf("line %d: %d members, %v", i, len(object), err)
		}
		for at, column := range sdk.Columns() {
			var value any = new(string)
			if column.Type == sdk.Integer {
				value = new(json.Number)
			}
			err := json.Unmarshal(object[column.Name], value)
			text := ""
			switch v := value.(type) {
			case *string:
				text = *v
			case *json.Number:
				text = v.String()
			}
			if err != nil || text != want[i+1][at] {
				t.Errorf("line %d, %s: %s, %v, want %s", i, column.Name, object[column.Name], err, want[i+1][at])
			}
		}
	}
}

func TestAWriterThatTakesNoMoreIsTold(t *testing.T) {
	t.Parallel()
	full := errors.New("full")
	c, err := NewCSV(refusing{full})
	for _, w := range []RowWriter{c, NewJSON(refusing{full})} {
		if err = errors.Join(err, w.Write(rowsOf()[0]), w.Close()); !errors.Is(err, full) {
			t.Errorf("%T: got %v, want %v", w, err, full)
		}
		err = nil
	}
}

// refusing is a writer that takes nothing.
type refusing struct{ err error }

func (r refusing) Write([]byte) (int, error) { return 0, r.err }
