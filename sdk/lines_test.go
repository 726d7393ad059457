package sdk

import (
	"encoding/json"
	"strings"
	"testing"

	wire "github.com/picosnitch/picosnitch/sdk/proto"
)

func TestALineIsTheRowAsAnObject(t *testing.T) {
	t.Parallel()
	records := everyKind()
	hostile := &wire.Flow{Process: &wire.Process{Name: &wire.Text{Value: []byte("\x00\n\"\\\xff,é")}}}
	records = append(records, &wire.Record{Kind: &wire.Record_Flow{Flow: hostile}})
	b := &wire.Batch{HostId: make([]byte, 16), Epoch: make([]byte, 16), Records: records}
	seen := 0
	for r, line := range Lines(b) {
		seen++
		var object map[string]any
		decoder := json.NewDecoder(strings.NewReader(string(line)))
		decoder.UseNumber()
		if err := decoder.Decode(&object); err != nil || strings.ContainsAny(string(line), "\n\r\x00") {
			t.Fatalf("%v: %s", err, line)
		}
		kind, columns := KindOf(r), ColumnsOf(KindOf(r))
		if object["kind"] != string(kind) || len(object) != len(columns)+1 {
			t.Errorf("%s: %d members, want %d: %s", kind, len(object), len(columns)+1, line)
		}
		for i, v := range Row(r, b) {
			got := object[columns[i].Name]
			if number, ok := got.(json.Number); ok != (v.Type() == Integer) || ok && string(number) != v.String() || !ok && got != v.Text() {
				t.Errorf("%s.%s: got %v, want %v", kind, columns[i].Name, got, v)
			}
		}
	}
	if seen != len(records) {
		t.Errorf("%d lines for %d records", seen, len(records))
	}
}

func TestTextThatNobodyEscapedIsStillJSON(t *testing.T) {
	t.Parallel()
	var got string
	if err := json.Unmarshal(appendJSONString(nil, "a\nb\xff\"é\x1f"), &got); err != nil || got != "a\nb\ufffd\"é\x1f" {
		t.Errorf("got %q, %v", got, err)
	}
}
