package storekit

import (
	"bytes"
	"compress/gzip"
	"encoding/binary"
	"fmt"
	"io"

	"github.com/picosnitch/picosnitch/sdk"
)

// NewParquet writes Parquet: no column can be null, values stand as they are (PLAIN) in pages that are compressed by gzip,
// one page for a column and group of rows. It is written here, because a library for it is larger than a store, which has it
// in memory for a file that is made once in a while. See https://parquet.apache.org/docs/file-format/.
func NewParquet(w io.Writer) (RowWriter, error) {
	p := &parquetRows{out: w, columns: make([]bytes.Buffer, len(sdk.Columns()))}
	p.compress, _ = gzip.NewWriterLevel(nil, gzip.BestSpeed) // the level exists
	return p, p.write([]byte(parquetMagic))
}

const (
	parquetMagic = "PAR1"

	// parquetGroup is how many bytes of values make a group of rows, which waits in memory.
	parquetGroup = 16 << 20

	// Of the enumerations of parquet.thrift.
	parquetInt64, parquetBytes = 2, 6
	parquetUTF8                = 0
	parquetPlain, parquetRLE   = 0, 3
	parquetGzip                = 2
	parquetDataPage            = 0
	parquetRequired            = 0
)

type parquetRows struct {
	out      io.Writer
	at       int64          // bytes written
	columns  []bytes.Buffer // values of the group, by column
	held     int            // bytes in columns
	rows     int            // in columns
	compress *gzip.Writer
	page     bytes.Buffer // compressed
	groups   []byte       // those written, as they stand in the footer
	count    int          // of groups
	total    int64        // rows of groups
}

func (p *parquetRows) Write(row []sdk.Value) error {
	for i, v := range row {
		column := &p.columns[i]
		before := column.Len()
		if v.Type() == sdk.Integer {
			column.Write(binary.LittleEndian.AppendUint64(column.AvailableBuffer(), uint64(v.Number())))
		} else {
			column.Write(binary.LittleEndian.AppendUint32(column.AvailableBuffer(), uint32(len(v.Text()))))
			column.WriteString(v.Text())
		}
		p.held += column.Len() - before
	}
	p.rows++
	if p.held < parquetGroup {
		return nil
	}
	return p.flush()
}

// flush writes the group, and notes where it stands.
func (p *parquetRows) flush() error {
	group := thrift{out: p.groups}
	var err error
	group.inner(func(t *thrift) {
		t.list(1, thriftStruct, len(p.columns))
		for i := range p.columns {
			if err == nil {
				err = p.flushColumn(t, i)
			}
		}
		t.i64(2, int64(p.held))
		t.i64(3, int64(p.rows))
	})
	p.groups = group.out
	p.count, p.total = p.count+1, p.total+int64(p.rows)
	p.held, p.rows = 0, 0
	return err
}

// flushColumn writes the page of a column, and its place as an element of the group's list.
func (p *parquetRows) flushColumn(group *thrift, i int) error {
	values := &p.columns[i]
	p.page.Reset()
	p.compress.Reset(&p.page)
	_, _ = p.compress.Write(values.Bytes()) // into memory
	_ = p.compress.Close()
	header := thrift{}
	header.inner(func(t *thrift) {
		t.i32(1, parquetDataPage)
		t.i32(2, values.Len())
		t.i32(3, p.page.Len())
		t.field(5, thriftStruct)
		t.inner(func(t *thrift) {
			t.i32(1, p.rows)
			t.i32(2, parquetPlain)
			t.i32(3, parquetRLE)
			t.i32(4, parquetRLE)
		})
	})
	group.inner(func(t *thrift) {
		t.i64(2, 0) // of another file: none
		t.field(3, thriftStruct)
		t.inner(func(t *thrift) {
			column := sdk.Columns()[i]
			t.i32(1, parquetType(column))
			t.list(2, thriftI32, 1)
			t.out = binary.AppendVarint(t.out, parquetPlain)
			t.list(3, thriftBinary, 1)
			t.element(column.Name)
			t.i32(4, parquetGzip)
			t.i64(5, int64(p.rows))
			t.i64(6, int64(len(header.out)+values.Len()))
			t.i64(7, int64(len(header.out)+p.page.Len()))
			t.i64(9, p.at)
		})
	})
	values.Reset()
	if err := p.write(header.out); err != nil {
		return err
	}
	return p.write(p.page.Bytes())
}

func parquetType(c sdk.Column) int {
	if c.Type == sdk.Integer {
		return parquetInt64
	}
	return parquetBytes
}

// Close writes the last group and the footer: the columns, and where the groups stand.
func (p *parquetRows) Close() error {
	if p.rows > 0 {
		if err := p.flush(); err != nil {
			return err
		}
	}
	footer := thrift{}
	footer.inner(func(t *thrift) {
		t.i32(1, 1) // version
		t.list(2, thriftStruct, 1+len(p.columns))
		t.inner(func(t *thrift) {
			t.text(4, "connections")
			t.i32(5, len(p.columns))
		})
		for _, column := range sdk.Columns() {
			t.inner(func(t *thrift) { parquetColumn(t, column) })
		}
		t.i64(3, p.total)
		t.list(4, thriftStruct, p.count)
		t.out = append(t.out, p.groups...)
		t.text(6, "picosnitch")
	})
	length := binary.LittleEndian.AppendUint32(nil, uint32(len(footer.out)))
	return p.write(append(append(footer.out, length...), parquetMagic...))
}

func parquetColumn(t *thrift, c sdk.Column) {
	t.i32(1, parquetType(c))
	t.i32(3, parquetRequired)
	t.text(4, c.Name)
	if c.Type != sdk.Integer {
		t.i32(6, parquetUTF8)
	}
}

func (p *parquetRows) write(raw []byte) error {
	n, err := p.out.Write(raw)
	p.at += int64(n)
	if err != nil {
		return fmt.Errorf("write Parquet: %w", err)
	}
	return nil
}
