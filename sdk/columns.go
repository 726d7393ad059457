package sdk

import (
	"iter"
	"strconv"

	wire "github.com/picosnitch/picosnitch/sdk/proto"
)

// Kind names a kind of record. The word also begins the record's canonical text, see [Leaf].
type Kind string

// The kinds of records of wire version 1. A record of a kind that this SDK does not know is [KindUnknown].
const (
	KindUnknown      Kind = "unknown"
	KindFlow         Kind = "flow"
	KindExec         Kind = "exec"
	KindListen       Kind = "listen"
	KindName         Kind = "name"
	KindNotice       Kind = "notice"
	KindGap          Kind = "gap"
	KindVerdict      Kind = "verdict"
	KindHashResolved Kind = "hash_resolved"
	KindConfig       Kind = "config"
)

// KindOf tells the kind of a record.
func KindOf(r *wire.Record) Kind {
	switch r.GetKind().(type) {
	case *wire.Record_Flow:
		return KindFlow
	case *wire.Record_Exec:
		return KindExec
	case *wire.Record_Listen:
		return KindListen
	case *wire.Record_Name:
		return KindName
	case *wire.Record_Notice:
		return KindNotice
	case *wire.Record_Gap:
		return KindGap
	case *wire.Record_Verdict:
		return KindVerdict
	case *wire.Record_HashResolved:
		return KindHashResolved
	case *wire.Record_Config:
		return KindConfig
	}
	return KindUnknown
}

// Type is the type of a column; the words are also SQL's.
type Type string

// Text is always valid printable UTF-8 without a line break, see [Escape]. Integer is 64 bits with a sign: an unsigned
// number beyond that (an inode that a file system made up) wraps round and is negative.
const (
	Text    Type = "text"
	Integer Type = "integer"
)

// Column describes one column of a flat row.
type Column struct {
	Name string
	Type Type
	Doc  string
}

// Columns are those of `connections`: the flat form of a Flow. The first 17 are those of picosnitch 1.0.3. Within wire
// version 1 neither names, order nor meaning change: the hash chain is made of them.
func Columns() []Column { return ColumnsOf(KindFlow) }

// ColumnsOf are the columns of the flat form of a kind.
func ColumnsOf(kind Kind) []Column {
	entries := entriesOf(kind)
	columns := make([]Column, len(entries))
	for i, e := range entries {
		columns[i] = Column{Name: e.name, Type: e.kind(), Doc: e.doc}
	}
	return columns
}

// Value is one field of a flat row.
type Value struct {
	text    string
	number  int64
	integer bool
}

// TextValue is a field of a [Text] column; text is taken as it stands in a database, escaped.
func TextValue(text string) Value { return Value{text: text} }

// IntegerValue is a field of an [Integer] column.
func IntegerValue(number int64) Value { return Value{number: number, integer: true} }

// Type tells which of Text and Number holds.
func (v Value) Type() Type {
	if v.integer {
		return Integer
	}
	return Text
}

// Text is the field of a [Text] column, else "".
func (v Value) Text() string { return v.text }

// Number is the field of an [Integer] column, else 0.
func (v Value) Number() int64 { return v.number }

// Any is a string or an int64, as database/sql takes it.
func (v Value) Any() any {
	if v.integer {
		return v.number
	}
	return v.text
}

// String is the field as a log shows it.
func (v Value) String() string {
	if v.integer {
		return strconv.FormatInt(v.number, 10)
	}
	return v.text
}

// Row flattens a record of the batch b into the values of ColumnsOf(KindOf(r)). The caller owns the slice. For a whole
// batch [Rows] is several times as fast.
func Row(r *wire.Record, b *wire.Batch) []Value {
	return newFlattener(b).row(r, nil)
}

// Rows flattens the records of a batch one after the other, as [Row] does. The slice holds until the next turn only.
func Rows(b *wire.Batch) iter.Seq2[*wire.Record, []Value] {
	return func(yield func(*wire.Record, []Value) bool) {
		f := newFlattener(b)
		var row []Value
		for _, r := range b.GetRecords() {
			row = f.row(r, row[:0])
			if !yield(r, row) {
				return
			}
		}
	}
}

// entry is a column with the way to its value: text or number is set.
type entry struct {
	name   string
	doc    string
	text   func(*view) string
	number func(*view) int64
}

func (e entry) kind() Type {
	if e.number != nil {
		return Integer
	}
	return Text
}

func entriesOf(kind Kind) []entry {
	switch kind {
	case KindFlow:
		return flowEntries()
	case KindExec:
		return execEntries()
	case KindListen:
		return listenEntries()
	case KindName:
		return nameEntries()
	case KindNotice:
		return noticeEntries()
	case KindGap:
		return gapEntries()
	case KindVerdict:
		return verdictEntries()
	case KindHashResolved:
		return hashResolvedEntries()
	case KindConfig:
		return configEntries()
	}
	return pick("host_id", "epoch", "seq")
}

// flattener keeps what the records of a batch have in common.
type flattener struct {
	view    view
	entries map[Kind][]entry
}

func newFlattener(b *wire.Batch) *flattener {
	return &flattener{
		view:    view{host: hexText(b.GetHostId()), epoch: hexText(b.GetEpoch())},
		entries: map[Kind][]entry{},
	}
}

// row appends the values of r.
func (f *flattener) row(r *wire.Record, row []Value) []Value {
	kind := KindOf(r)
	entries, ok := f.entries[kind]
	if !ok {
		entries = entriesOf(kind)
		f.entries[kind] = entries
	}
	f.view.set(r)
	for i := range entries {
		if e := &entries[i]; e.number != nil {
			row = append(row, IntegerValue(e.number(&f.view)))
		} else {
			row = append(row, TextValue(e.text(&f.view)))
		}
	}
	return row
}
