package config

import (
	"bytes"
	"encoding/json"
	"errors"
	"strings"
	"unicode/utf8"
)

// maxDepth bounds how deep lists and objects are nested.
const maxDepth = 32

// node is a JSON value and where it stands: nil, bool, number, string, []node or object.
type node struct {
	at, end int // byte offsets
	value   any
}

// number is kept as written.
type number = json.Number

// member is one key with its value. at is where the key stands.
type member struct {
	key   string
	at    int
	value node
}

// object keeps the order and repetitions of the file.
type object []member

// find returns the first member with a key.
func (o object) find(key string) (node, bool) {
	for _, m := range o {
		if m.key == key {
			return m.value, true
		}
	}
	return node{}, false
}

// kind names a value's type for people.
func (n node) kind() string {
	switch n.value.(type) {
	case nil:
		return "null"
	case bool:
		return "true or false"
	case number:
		return "a number"
	case string:
		return "text"
	case []node:
		return "a list"
	}
	return "an object"
}

// plain strips the places.
func (n node) plain() any {
	switch v := n.value.(type) {
	case []node:
		list := make([]any, len(v))
		for i, e := range v {
			list[i] = e.plain()
		}
		return list
	case object:
		m := make(map[string]any, len(v))
		for _, e := range v {
			m[e.key] = e.value.plain()
		}
		return m
	}
	return n.value
}

// malformed says where and how data is not JSON.
type malformed struct {
	at         int
	what, hint string
}

// parse reads one JSON value and nothing after it.
func parse(data []byte) (node, *malformed) {
	if len(data) > MaxBytes {
		return node{}, &malformed{0, "is larger than 1 MiB", ""}
	}
	if bytes.HasPrefix(data, []byte("\xef\xbb\xbf")) {
		return node{}, &malformed{0, "begins with a byte order mark", "save the file as UTF-8 without one"}
	}
	for i := 0; i < len(data); {
		r, size := utf8.DecodeRune(data[i:])
		if r == utf8.RuneError && size == 1 {
			return node{}, &malformed{i, "is not UTF-8 here", "save the file as UTF-8"}
		}
		i += size
	}
	var whole json.RawMessage
	if err := json.Unmarshal(data, &whole); err != nil {
		return node{}, describe(err, len(data))
	}
	d := json.NewDecoder(bytes.NewReader(data))
	d.UseNumber()
	p := parser{data: data, d: d}
	return p.value(0)
}

// describe turns encoding/json's error into words without the character it quotes.
func describe(err error, size int) *malformed {
	m := &malformed{at: size, what: "is not JSON: " + err.Error()}
	var syntax *json.SyntaxError
	if !errors.As(err, &syntax) {
		return m
	}
	text := syntax.Error()
	if strings.HasSuffix(text, "exceeded max depth") {
		return &malformed{max(0, int(syntax.Offset)-1), "is nested too deeply", ""}
	}
	// invalid character 'x' after …; the character itself may be a quote or a space
	if rest, quoted := strings.CutPrefix(text, "invalid character '"); quoted && len(rest) > 1 {
		_, rest, _ = strings.Cut(rest[1:], "' ")
		text = "unexpected character " + rest
		m.at = max(0, int(syntax.Offset)-1)
	}
	m.what = "is not JSON: " + text
	for _, h := range []struct{ part, hint string }{
		{"looking for beginning of object key", "keys stand in double quotes, and no comma follows the last entry"},
		{"after object key:value pair", "a comma, or the closing }, is missing before this"},
		{"after object key", "a colon is missing before this"},
		{"after array element", "a comma, or the closing ], is missing before this"},
		{"looking for beginning of value", "a value is true, false, null, a number, \"text\", a list or an object; there are no comments"},
		{"in string", "text ends in the same line, and a backslash in it is written \\\\"},
		{"in literal", "true, false and null are written in lower case"},
		{"after top-level value", "the closing } of the whole stands too early"},
		{"unexpected end", "a closing quote, ] or } is missing"},
	} {
		if strings.Contains(text, h.part) {
			m.hint = h.hint
			break
		}
	}
	return m
}

// parser walks data that is known to be valid.
type parser struct {
	data []byte
	d    *json.Decoder
}

// start is where the next token begins.
func (p *parser) start() int {
	at := int(p.d.InputOffset())
	for at < len(p.data) && strings.IndexByte(" \t\r\n,:", p.data[at]) >= 0 {
		at++
	}
	return at
}

func (p *parser) value(depth int) (node, *malformed) {
	n := node{at: p.start()}
	token, err := p.d.Token()
	if err != nil {
		return n, describe(err, len(p.data))
	}
	if depth > maxDepth {
		return n, &malformed{n.at, "is nested too deeply", ""}
	}
	var bad *malformed
	switch token {
	case json.Delim('{'):
		n.value, bad = p.object(depth)
	case json.Delim('['):
		n.value, bad = p.list(depth)
	default:
		n.value = token
	}
	n.end = int(p.d.InputOffset())
	return n, bad
}

func (p *parser) object(depth int) (object, *malformed) {
	members := object{}
	for p.d.More() {
		m := member{at: p.start()}
		token, err := p.d.Token()
		if err != nil {
			return nil, describe(err, len(p.data))
		}
		m.key, _ = token.(string)
		var bad *malformed
		if m.value, bad = p.value(depth + 1); bad != nil {
			return nil, bad
		}
		members = append(members, m)
	}
	return members, p.closing()
}

func (p *parser) list(depth int) ([]node, *malformed) {
	list := []node{}
	for p.d.More() {
		n, bad := p.value(depth + 1)
		if bad != nil {
			return nil, bad
		}
		list = append(list, n)
	}
	return list, p.closing()
}

// closing reads the bracket that ends a list or object.
func (p *parser) closing() *malformed {
	if _, err := p.d.Token(); err != nil {
		return describe(err, len(p.data))
	}
	return nil
}
