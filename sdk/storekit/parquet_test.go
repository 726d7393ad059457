package storekit

import (
	"bytes"
	"fmt"
	"io"
	"strings"
	"testing"

	"github.com/parquet-go/parquet-go"

	"github.com/picosnitch/picosnitch/sdk"
)

func parquetRow(n int) []sdk.Value {
	var row []sdk.Value
	for i, c := range sdk.Columns() {
		if c.Type == sdk.Integer {
			row = append(row, sdk.IntegerValue(int64(i-n)<<40))
		} else {
			row = append(row, sdk.TextValue(strings.Repeat(fmt.Sprint(n, c.Name), n%3*40)))
		}
	}
	return row
}

// parquetFile is a file of so many rows.
func parquetFile(t *testing.T, rows int) *parquet.File {
	t.Helper()
	var out bytes.Buffer
	w, err := NewParquet(&out)
	for n := 0; n < rows && err == nil; n++ {
		err = w.Write(parquetRow(n))
	}
	if err == nil {
		err = w.Close()
	}
	if err != nil {
		t.Fatal(err)
	}
	file, err := parquet.OpenFile(bytes.NewReader(out.Bytes()), int64(out.Len()))
	if err != nil {
		t.Fatal(err)
	}
	return file
}

func TestParquetOfSeveralGroupsReadsBack(t *testing.T) {
	t.Parallel()
	const rows = 1200
	file := parquetFile(t, rows)
	if n := len(file.RowGroups()); n < 2 {
		t.Fatalf("%d group of rows; more are wanted, for the test", n)
	}
	reader := parquet.NewGenericReader[any](file)
	defer reader.Close()
	got := make([]parquet.Row, 1)
	for n := range rows {
		if count, err := reader.ReadRows(got); count != 1 {
			t.Fatalf("row %d of %d: %v", n, rows, err)
		}
		for i, want := range parquetRow(n) {
			if got[0][i].String() != want.String() {
				t.Fatalf("row %d, %s: got %q, want %q", n, sdk.Columns()[i].Name, got[0][i], want)
			}
		}
	}
	if count, err := reader.ReadRows(got); count != 0 || err != io.EOF {
		t.Errorf("behind the last row: %d rows, %v", count, err)
	}
}

func TestParquetHasTheColumnsInOrder(t *testing.T) {
	t.Parallel()
	file := parquetFile(t, 0)
	if file.NumRows() != 0 {
		t.Errorf("%d rows", file.NumRows())
	}
	columns := file.Root().Columns()
	if len(columns) != len(sdk.Columns()) {
		t.Fatalf("%d columns", len(columns))
	}
	for i, c := range sdk.Columns() {
		kind := parquet.ByteArray
		if c.Type == sdk.Integer {
			kind = parquet.Int64
		}
		if got := columns[i]; got.Name() != c.Name || got.Type().Kind() != kind || !got.Required() {
			t.Errorf("column %d is %s, want %s, required, %v", i, got, c.Name, kind)
		}
	}
}
