package record

import (
	"bytes"
	"fmt"
	"slices"
	"unicode/utf8"
)

// encodeJSON writes map[string]any, []any and string as Python's json.dump(indent=2, sort_keys=True,
// ensure_ascii=False) does into a file opened with surrogateescape, byte for byte. Other types become null.
func encodeJSON(v any) []byte { return appendJSON(nil, v, "\n") }

func appendJSON(out []byte, v any, newline string) []byte {
	deeper := newline + "  "
	switch v := v.(type) {
	case string:
		return appendJSONText(out, v)
	case map[string]any:
		if len(v) == 0 {
			return append(out, "{}"...)
		}
		keys := make([]string, 0, len(v))
		for key := range v {
			keys = append(keys, key)
		}
		slices.SortFunc(keys, comparePython)
		for i, key := range keys {
			out = append(out, "{,"[min(i, 1)])
			out = append(appendJSONText(append(out, deeper...), key), ": "...)
			out = appendJSON(out, v[key], deeper)
		}
		return append(append(out, newline...), '}')
	case []any:
		if len(v) == 0 {
			return append(out, "[]"...)
		}
		for i, item := range v {
			out = append(append(out, "[,"[min(i, 1)]), deeper...)
			out = appendJSON(out, item, deeper)
		}
		return append(append(out, newline...), ']')
	}
	return append(out, "null"...)
}

func appendJSONText(out []byte, text string) []byte {
	out = append(out, '"')
	written := 0
	for i := range len(text) {
		c := text[i]
		if c >= ' ' && c != '"' && c != '\\' {
			continue
		}
		out = append(out, text[written:i]...)
		written = i + 1
		if j := bytes.IndexByte([]byte("\"\\\b\f\n\r\t"), c); j >= 0 {
			out = append(out, '\\', `"\bfnrt`[j])
		} else {
			out = fmt.Appendf(out, `\u%04x`, c)
		}
	}
	return append(append(out, text[written:]...), '"')
}

// comparePython orders as Python orders str: by code point, a byte that is not UTF-8 counting as U+DC80 to U+DCFF.
func comparePython(a, b string) int {
	same := 0 // paths begin alike
	for same < min(len(a), len(b)) && a[same] == b[same] && a[same] < utf8.RuneSelf {
		same++
	}
	a, b = a[same:], b[same:]
	for a != "" && b != "" {
		ra, na := pythonRune(a)
		rb, nb := pythonRune(b)
		if ra != rb {
			return int(ra) - int(rb)
		}
		a, b = a[na:], b[nb:]
	}
	return len(a) - len(b)
}

func pythonRune(s string) (rune, int) {
	r, size := utf8.DecodeRuneInString(s)
	if r == utf8.RuneError && size == 1 {
		return 0xdc00 + rune(s[0]), 1
	}
	return r, size
}
