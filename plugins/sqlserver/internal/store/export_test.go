package store

import (
	"bytes"
	"encoding/csv"
	"encoding/json"
	"errors"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/picosnitch/picosnitch/sdk"
	wire "github.com/picosnitch/picosnitch/sdk/proto"
	"github.com/picosnitch/picosnitch/sdk/sdktest"
	"github.com/picosnitch/picosnitch/test/dbserver"
)

var _ sdk.Exporter = (*Store)(nil)

func exported(t *testing.T, s *Store, r *wire.ExportRequest) []byte {
	t.Helper()
	var file bytes.Buffer
	if err := s.Export(t.Context(), r, &file); err != nil {
		t.Fatal(err)
	}
	return file.Bytes()
}

// exportsRows compares what is exported with the flat rows of the records.
func exportsRows(t *testing.T, server *dbserver.Server) {
	s := open(t, ours(t, server))
	b := batch(1, 1, append(sdktest.Hostile(), sdktest.Records(1, 15)...)...)
	for _, r := range b.GetRecords() {
		if f := r.GetFlow(); f != nil {
			f.Layer = wire.Layer_LAYER_SOCKET
		}
	}
	other := flow(0, process("/bin/a", "a", 1), 1, 2, "1.1.1.1", "")
	other.GetFlow().Layer = wire.Layer_LAYER_PACKET
	apply(t, s, b, batch(2, 1, flow(60, process("/bin/b", "b", 1), 3, 4, "1.1.1.1", ""), other))
	var want [][]string
	for _, row := range sdk.Rows(b.Batch) {
		want = append(want, texts(row))
	}
	first := &wire.ExportRequest{Format: wire.ExportFormat_EXPORT_CSV, Where: equal("epoch", b.Epoch.String())}
	got, err := csv.NewReader(bytes.NewReader(exported(t, s, first))).ReadAll()
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, got[1:]); diff != "" || got[0][3] != "exe" {
		t.Errorf("heading %q, rows (-want +got):\n%s", got[0], diff)
	}
	var line map[string]any
	late := &wire.ExportRequest{Format: wire.ExportFormat_EXPORT_JSON, Start: start + 60e9, Where: equal("epoch", "02"+strings.Repeat("0", 30))}
	if err := json.Unmarshal(exported(t, s, late), &line); err != nil || line["exe"] != "/bin/b" || line["recv"] != 4.0 {
		t.Errorf("from a minute on: %v, %v; want one row", line, err)
	}
	for _, r := range []*wire.ExportRequest{{Format: wire.ExportFormat_EXPORT_PARQUET}, {Format: wire.ExportFormat_EXPORT_CSV, Where: equal("x", "")}} {
		if err := s.Export(t.Context(), r, &bytes.Buffer{}); !errors.Is(err, sdk.ErrQuery) {
			t.Errorf("export %v: %v, want %v", r, err, sdk.ErrQuery)
		}
	}
	gone := errors.New("gone")
	if err := s.Export(t.Context(), first, refusing{gone}); !errors.Is(err, gone) {
		t.Errorf("export to a reader that is gone: %v, want %v", err, gone)
	}
	wantRows(t, s, &wire.Query{By: []string{"exe"}, Where: equal("exe", "/bin/b")}, "/bin/b 3/4/1") // the session serves on
}

func texts(row []sdk.Value) (list []string) {
	for _, v := range row {
		list = append(list, v.String())
	}
	return list
}

// refusing is a writer that takes nothing.
type refusing struct{ err error }

func (r refusing) Write([]byte) (int, error) { return 0, r.err }
