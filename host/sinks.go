package main

import (
	"encoding/csv"
	"encoding/json"
	"fmt"
	"io"
	"strconv"
	"time"
)

// sink writes an answer. Values are string, int64 or uint64, in the order of the fields.
type sink interface {
	begin(fields []field)
	row(values []any) error
	// end comes last.
	end(e ending) error
}

// ending is what follows the rows. Sums belong to the fields at the end, and are nil when there are none.
type ending struct {
	totals []any
	others []any  // of the rows left out
	groups uint64 // that others sums up
	cursor string // "" when no row was left out, or others tells of them
}

// tableSink collects rows, since columns are as wide as their widest value.
type tableSink struct {
	out    io.Writer
	zone   *time.Location
	fields []field
	rows   [][]string
}

func (t *tableSink) begin(fields []field) { t.fields = fields }

func (t *tableSink) row(values []any) error {
	var cells []string
	for i, v := range values {
		if f := t.fields[i]; f.means != counted {
			cells = append(cells, t.cell(f.means, v))
		}
	}
	t.rows = append(t.rows, cells)
	return nil
}

func (t *tableSink) cell(means meaning, value any) string {
	switch v := value.(type) {
	case int64:
		if means == moment {
			return localTime(v, t.zone)
		}
		return strconv.FormatInt(v, 10)
	case uint64:
		if means == size {
			return kilobytes(v)
		}
		return strconv.FormatUint(v, 10)
	}
	return fmt.Sprint(value)
}

func (t *tableSink) end(e ending) error {
	if err := t.sums(fmt.Sprintf("%d others", e.groups), e.others); err != nil {
		return err
	}
	if err := t.sums("total", e.totals); err != nil {
		return err
	}
	var headings []heading
	for _, f := range t.fields {
		if f.means != counted {
			headings = append(headings, heading{title: f.name, right: f.means == size || f.name == "rows"})
		}
	}
	return writeTable(t.out, headings, t.rows)
}

// sums adds a row of sums behind a word, if there are any.
func (t *tableSink) sums(word string, sums []any) error {
	if sums == nil {
		return nil
	}
	blank := make([]any, len(t.fields)-len(sums))
	for i := range blank {
		blank[i] = ""
	}
	if len(blank) > 0 {
		blank[0] = word
	}
	return t.row(append(blank, sums...))
}

// csvSink writes one line a row.
type csvSink struct {
	w      *csv.Writer
	zone   *time.Location
	fields []field
	err    error // of the header
}

func newCSVSink(out io.Writer, zone *time.Location) *csvSink {
	return &csvSink{w: csv.NewWriter(out), zone: zone}
}

func (c *csvSink) begin(fields []field) {
	c.fields = fields
	names := make([]string, len(fields))
	for i, f := range fields {
		names[i] = f.name
	}
	c.err = c.w.Write(names)
}

func (c *csvSink) row(values []any) error {
	cells := make([]string, len(values))
	for i, v := range values {
		cells[i] = fmt.Sprint(forPrograms(c.fields[i].means, v, c.zone))
	}
	return c.w.Write(cells)
}

func (c *csvSink) end(ending) error {
	c.w.Flush()
	if c.err != nil {
		return c.err
	}
	return c.w.Error()
}

// forPrograms makes moments RFC 3339 and leaves the rest.
func forPrograms(means meaning, value any, zone *time.Location) any {
	if ns, ok := value.(int64); ok && means == moment {
		return instantIn(ns, zone)
	}
	return value
}

// jsonSink writes {"rows":[…],"others":{…},"others_groups":n,"totals":{…},"more":true,"cursor":"…"}, one row a line, as they
// come.
type jsonSink struct {
	out    io.Writer
	zone   *time.Location
	fields []field
	count  int
}

func (j *jsonSink) begin(fields []field) { j.fields = fields }

func (j *jsonSink) row(values []any) error {
	before := ",\n"
	if j.count == 0 {
		before = "{\"rows\":[\n"
	}
	j.count++
	object, err := j.object(j.fields, values)
	if err != nil {
		return err
	}
	_, err = io.WriteString(j.out, before+object)
	return err
}

func (j *jsonSink) end(e ending) error {
	text := "\n]"
	if j.count == 0 {
		text = "{\"rows\":[]"
	}
	for _, part := range []struct {
		name string
		sums []any
	}{{"others", e.others}, {"totals", e.totals}} {
		if part.sums == nil {
			continue
		}
		object, err := j.object(j.fields[len(j.fields)-len(part.sums):], part.sums)
		if err != nil {
			return err
		}
		text += ",\n" + strconv.Quote(part.name) + ":" + object
	}
	if e.others != nil {
		text += ",\n\"others_groups\":" + strconv.FormatUint(e.groups, 10)
	}
	if e.cursor != "" {
		text += ",\n\"more\":true,\"cursor\":" + strconv.Quote(e.cursor)
	}
	_, err := io.WriteString(j.out, text+"}\n")
	return err
}

// object keeps the order of the fields, which a map would not.
func (j *jsonSink) object(fields []field, values []any) (string, error) {
	text := "{"
	for i, v := range values {
		if i > 0 {
			text += ","
		}
		raw, err := json.Marshal(forPrograms(fields[i].means, v, j.zone))
		if err != nil {
			return "", fmt.Errorf("encode %s: %w", fields[i].name, err)
		}
		text += strconv.Quote(fields[i].name) + ":" + string(raw)
	}
	return text + "}", nil
}
