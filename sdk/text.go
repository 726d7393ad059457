package sdk

import (
	"errors"
	"fmt"
	"strings"
	"unicode"
	"unicode/utf8"
)

// Escape turns bytes that a process chose into text that databases, logs, JSON and terminals can hold: printable UTF-8
// stays, a backslash becomes `\\`, every other byte becomes `\xNN`. [Unescape] gives the bytes back exactly.
func Escape(raw []byte) string { return EscapeString(string(raw)) }

// EscapeString is [Escape] for bytes that are kept in a string.
func EscapeString(raw string) string {
	if !needsEscape(raw) {
		return raw
	}
	var b strings.Builder
	b.Grow(len(raw) + 16)
	for i := 0; i < len(raw); {
		r, size := utf8.DecodeRuneInString(raw[i:])
		switch {
		case r == '\\':
			b.WriteString(`\\`)
		case r == utf8.RuneError && size <= 1, !printable(r):
			for _, c := range []byte(raw[i : i+size]) {
				b.WriteString(`\x`)
				b.WriteByte(hexDigits[c>>4])
				b.WriteByte(hexDigits[c&15])
			}
		default:
			b.WriteString(raw[i : i+size])
		}
		i += size
	}
	return b.String()
}

func needsEscape(raw string) bool {
	for i := 0; i < len(raw); {
		if c := raw[i]; c < utf8.RuneSelf { // nearly everything
			if c < ' ' || c == '\\' || c == 0x7f {
				return true
			}
			i++
			continue
		}
		r, size := utf8.DecodeRuneInString(raw[i:])
		if r == utf8.RuneError && size <= 1 || !printable(r) {
			return true
		}
		i += size
	}
	return false
}

const hexDigits = "0123456789abcdef"

// printable excludes what shows nothing or turns the writing round (bidirectional overrides, zero-width joiners, fillers,
// variation selectors): it lets one name look like another.
func printable(r rune) bool {
	switch {
	case r < utf8.RuneSelf:
		return r >= ' ' && r != 0x7f
	case !unicode.IsPrint(r):
		return false
	}
	return !unicode.In(r, unicode.Cf, unicode.Other_Default_Ignorable_Code_Point, unicode.Variation_Selector)
}

// ErrEscape is wrapped by the errors of [Unescape].
var ErrEscape = errors.New("not an escaped text")

// Unescape is the inverse of [Escape]. A backslash that begins no escape gives [ErrEscape]. It takes more than this
// Escape makes, since which characters are printable differs between versions of Unicode.
func Unescape(text string) ([]byte, error) {
	out := make([]byte, 0, len(text))
	for i := 0; i < len(text); {
		if text[i] != '\\' {
			out = append(out, text[i])
			i++
			continue
		}
		rest := text[i+1:]
		switch {
		case strings.HasPrefix(rest, `\`):
			out = append(out, '\\')
			i += 2
		case len(rest) >= 3 && rest[0] == 'x' && isHex(rest[1]) && isHex(rest[2]):
			out = append(out, unhex(rest[1])<<4|unhex(rest[2]))
			i += 4
		default:
			return nil, fmt.Errorf("%w: lone backslash at byte %d", ErrEscape, i)
		}
	}
	return out, nil
}

func isHex(c byte) bool { return c >= '0' && c <= '9' || c >= 'a' && c <= 'f' }

func unhex(c byte) byte {
	if c <= '9' {
		return c - '0'
	}
	return c - 'a' + 10
}
