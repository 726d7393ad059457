package record

import (
	"bytes"
	"errors"
	"fmt"
	"strconv"
	"unicode/utf16"
	"unicode/utf8"
)

// errJSON is wrapped by the errors of decodeJSON, which say line:column.
var errJSON = errors.New("not valid JSON")

// jsonDepth bounds nesting: record.json needs three levels, and its author may be an adversary.
const jsonDepth = 16

// decodeJSON reads one JSON value into map[string]any, []any, string, bool, nil or jsonNumber. Unlike encoding/json it
// keeps the bytes of strings as they are: 1.0.3 wrote file names that are not UTF-8 raw ("surrogateescape"), and two of
// them must not become one. Of equal keys the last counts, as in Python.
func decodeJSON(data []byte) (any, error) {
	p := &jsonParser{data: data}
	v, err := p.value(0)
	if err == nil {
		if p.space(); p.at < len(data) {
			err = p.wrong("something after the end")
		}
	}
	return v, err
}

type jsonNumber string

type jsonParser struct {
	data []byte
	at   int
}

func (p *jsonParser) wrong(what string) error {
	before := p.data[:min(p.at, len(p.data))]
	line := bytes.Count(before, []byte("\n")) + 1
	column := len(before) - bytes.LastIndexByte(before, '\n')
	return fmt.Errorf("%d:%d: %w: %s", line, column, errJSON, what)
}

func (p *jsonParser) space() {
	for p.at < len(p.data) && bytes.IndexByte([]byte(" \t\r\n"), p.data[p.at]) >= 0 {
		p.at++
	}
}

// next skips space and takes c, if c is what follows.
func (p *jsonParser) next(c byte) bool {
	p.space()
	if p.at < len(p.data) && p.data[p.at] == c {
		p.at++
		return true
	}
	return false
}

func (p *jsonParser) value(depth int) (any, error) {
	if depth > jsonDepth {
		return nil, p.wrong("nested too deeply")
	}
	switch {
	case p.next('{'):
		return p.object(depth)
	case p.next('['):
		return p.array(depth)
	case p.next('"'):
		return p.text()
	}
	return p.word()
}

func (p *jsonParser) object(depth int) (any, error) {
	out := map[string]any{}
	if p.next('}') {
		return out, nil
	}
	for {
		if !p.next('"') {
			return nil, p.wrong("expected a key in quotes")
		}
		key, err := p.text()
		if err != nil {
			return nil, err
		}
		if !p.next(':') {
			return nil, p.wrong("expected a colon")
		}
		if out[key], err = p.value(depth + 1); err != nil {
			return nil, err
		}
		if p.next('}') {
			return out, nil
		}
		if !p.next(',') {
			return nil, p.wrong("expected a comma or }")
		}
	}
}

func (p *jsonParser) array(depth int) (any, error) {
	out := []any{}
	if p.next(']') {
		return out, nil
	}
	for {
		v, err := p.value(depth + 1)
		if err != nil {
			return nil, err
		}
		out = append(out, v)
		if p.next(']') {
			return out, nil
		}
		if !p.next(',') {
			return nil, p.wrong("expected a comma or ]")
		}
	}
}

// word reads a number, true, false or null.
func (p *jsonParser) word() (any, error) {
	start := p.at
	for p.at < len(p.data) && bytes.IndexByte([]byte(" \t\r\n,]}:\"[{"), p.data[p.at]) < 0 {
		p.at++
	}
	word := string(p.data[start:p.at])
	switch word {
	case "true", "false":
		return word == "true", nil
	case "null":
		return nil, nil
	}
	if _, err := strconv.ParseFloat(word, 64); err != nil || bytes.IndexByte([]byte("-0123456789"), word[0]) < 0 {
		p.at = start
		return nil, p.wrong("expected a value")
	}
	return jsonNumber(word), nil
}

// text reads a string behind its first quote.
func (p *jsonParser) text() (string, error) {
	var out []byte
	for p.at < len(p.data) {
		c := p.data[p.at]
		p.at++
		switch {
		case c == '"':
			return string(out), nil
		case c < ' ':
			p.at--
			return "", p.wrong("a control character in a string")
		case c != '\\':
			out = append(out, c)
		default:
			var err error
			if out, err = p.escape(out); err != nil {
				return "", err
			}
		}
	}
	return "", p.wrong("a string without an end")
}

func (p *jsonParser) escape(out []byte) ([]byte, error) {
	if p.at >= len(p.data) {
		return nil, p.wrong("a string without an end")
	}
	c := p.data[p.at]
	p.at++
	if i := bytes.IndexByte([]byte(`"\/bfnrt`), c); i >= 0 {
		return append(out, "\"\\/\b\f\n\r\t"[i]), nil
	}
	if c != 'u' {
		p.at--
		return nil, p.wrong("an unknown escape")
	}
	high, err := p.hex4()
	if err != nil {
		return nil, err
	}
	if utf16.IsSurrogate(high) && bytes.HasPrefix(p.data[p.at:], []byte(`\u`)) {
		back := p.at
		p.at += 2
		low, err := p.hex4()
		if err != nil {
			return nil, err
		}
		if r := utf16.DecodeRune(high, low); r != utf8.RuneError {
			return utf8.AppendRune(out, r), nil
		}
		p.at = back
	}
	if high >= 0xdc80 && high <= 0xdcff {
		return append(out, byte(high)), nil // Python's surrogateescape: one byte that is not UTF-8
	}
	return utf8.AppendRune(out, high), nil
}

func (p *jsonParser) hex4() (rune, error) {
	if p.at+4 > len(p.data) {
		return 0, p.wrong("a string without an end")
	}
	n, err := strconv.ParseUint(string(p.data[p.at:p.at+4]), 16, 16)
	if err != nil {
		return 0, p.wrong("expected four hexadecimal digits")
	}
	p.at += 4
	return rune(n), nil
}
