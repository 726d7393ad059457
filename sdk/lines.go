package sdk

import (
	"iter"
	"strconv"
	"unicode/utf8"

	wire "github.com/picosnitch/picosnitch/sdk/proto"
)

// Lines gives the records of a batch one after the other, each as one JSON object without a line break: "kind" first, then
// the columns of [ColumnsOf] in their order. The bytes hold until the next turn only.
func Lines(b *wire.Batch) iter.Seq2[*wire.Record, []byte] {
	return func(yield func(*wire.Record, []byte) bool) {
		keys := map[Kind][]string{}
		var line []byte
		for r, row := range Rows(b) {
			kind := KindOf(r)
			if keys[kind] == nil {
				keys[kind] = jsonKeys(kind)
			}
			if line = appendObject(line[:0], kind, keys[kind], row); !yield(r, line) {
				return
			}
		}
	}
}

// jsonKeys are the names of a kind's columns, ready to stand before their values.
func jsonKeys(kind Kind) []string {
	columns := ColumnsOf(kind)
	keys := make([]string, len(columns))
	for i, c := range columns {
		keys[i] = `,"` + c.Name + `":`
	}
	return keys
}

func appendObject(line []byte, kind Kind, keys []string, row []Value) []byte {
	line = append(line, `{"kind":"`...)
	line = append(line, kind...)
	line = append(line, '"')
	for i, v := range row {
		line = append(line, keys[i]...)
		if v.integer {
			line = strconv.AppendInt(line, v.number, 10)
		} else {
			line = appendJSONString(line, v.text)
		}
	}
	return append(line, '}')
}

// appendJSONString quotes text. A [Row]'s is escaped, so that JSON minds only quotes and backslashes in it; the rest is for
// values that somebody made by hand.
func appendJSONString(line []byte, text string) []byte {
	line = append(line, '"')
	for i := 0; i < len(text); i++ {
		switch c := text[i]; {
		case c == '"' || c == '\\':
			line = append(line, '\\', c)
		case c < ' ':
			line = append(line, '\\', 'u', '0', '0', hexDigits[c>>4], hexDigits[c&15])
		case c >= utf8.RuneSelf:
			r, size := utf8.DecodeRuneInString(text[i:])
			line = utf8.AppendRune(line, r) // U+FFFD for what is no UTF-8
			i += size - 1
		default:
			line = append(line, c)
		}
	}
	return append(line, '"')
}
