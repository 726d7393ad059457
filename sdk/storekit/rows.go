package storekit

import (
	"bufio"
	"encoding/csv"
	"encoding/json"
	"io"
	"strconv"

	"github.com/picosnitch/picosnitch/sdk"
)

// RowWriter writes the rows of `connections` into a file of some format. Text stands in it as it is stored, escaped.
type RowWriter interface {
	// Write takes the values of [sdk.Columns], in order. It does not keep them.
	Write(row []sdk.Value) error
	// Close writes what is left. It does not close the file below.
	Close() error
}

// NewCSV writes CSV with a heading.
func NewCSV(w io.Writer) (RowWriter, error) {
	c := &csvRows{out: csv.NewWriter(w)}
	for _, column := range sdk.Columns() {
		c.fields = append(c.fields, column.Name)
	}
	return c, c.out.Write(c.fields)
}

type csvRows struct {
	out    *csv.Writer
	fields []string
}

func (c *csvRows) Write(row []sdk.Value) error {
	for i, v := range row {
		c.fields[i] = v.String()
	}
	return c.out.Write(c.fields)
}

func (c *csvRows) Close() error {
	c.out.Flush()
	return c.out.Error()
}

// NewJSON writes one object a line, its keys in the order of the columns.
func NewJSON(w io.Writer) RowWriter {
	j := &jsonRows{out: bufio.NewWriterSize(w, 1<<16)}
	for _, column := range sdk.Columns() {
		j.keys = append(j.keys, strconv.Quote(column.Name)+":")
	}
	return j
}

type jsonRows struct {
	out  *bufio.Writer
	keys []string
	line []byte
}

func (j *jsonRows) Write(row []sdk.Value) error {
	j.line = append(j.line[:0], '{')
	for i, v := range row {
		if i > 0 {
			j.line = append(j.line, ',')
		}
		j.line = append(j.line, j.keys[i]...)
		if v.Type() == sdk.Integer {
			j.line = strconv.AppendInt(j.line, v.Number(), 10)
			continue
		}
		text, err := json.Marshal(v.Text())
		if err != nil {
			return err
		}
		j.line = append(j.line, text...)
	}
	_, err := j.out.Write(append(j.line, '}', '\n'))
	return err
}

func (j *jsonRows) Close() error { return j.out.Flush() }
