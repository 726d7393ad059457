package sdk

import (
	"errors"
	"strings"
	"testing"
	"unicode"
	"unicode/utf8"
)

func TestEscapeLeavesOnlyWhatAScreenShows(t *testing.T) {
	t.Parallel()
	for raw, want := range map[string]string{
		"":                   "",
		"/usr/bin/curl":      "/usr/bin/curl",
		"grüße 日本":           "grüße 日本",
		`a\b`:                `a\\b`,
		`\x41`:               `\\x41`,
		"a\x00b\tc\n":        `a\x00b\x09c\x0a`,
		"\x1b[2J\x7f":        `\x1b[2J\x7f`,
		"\xff\xfe":           `\xff\xfe`,
		"\xc3":               `\xc3`,                // a character cut in two
		"\ufffd":             "\ufffd",              // a true U+FFFD is not a broken byte
		"\u202egnp.exe":      `\xe2\x80\xaegnp.exe`, // right-to-left override
		"pay\u200bpal":       `pay\xe2\x80\x8bpal`,  // zero-width space
		"a\u3164b":           `a\xe3\x85\xa4b`,      // Hangul filler: a letter that shows nothing
		"a\u00a0b":           `a\xc2\xa0b`,          // no-break space
		"\u0085":             `\xc2\x85`,            // C1 control
		"\ud7ff\xed\xa0\x80": `\xed\x9f\xbf\xed\xa0\x80`,
	} {
		if got := EscapeString(raw); got != want {
			t.Errorf("EscapeString(%q) = %s, want %s", raw, got, want)
		}
	}
}

func TestUnescapeRefusesALoneBackslash(t *testing.T) {
	t.Parallel()
	for _, text := range []string{`\`, `a\`, `\x`, `\x4`, `\xg0`, `\xFF`, `\n`, `\\\`} {
		if raw, err := Unescape(text); !errors.Is(err, ErrEscape) {
			t.Errorf("Unescape(%s) = %q, %v, want %v", text, raw, err, ErrEscape)
		}
	}
}

func FuzzEscape(f *testing.F) {
	for _, seed := range []string{"", "/usr/bin/curl", `\`, `\x00`, "\x00\xff", "\u202e", "日本\xe6", "\ufffd"} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, raw []byte) {
		text := Escape(raw)
		if back, err := Unescape(text); err != nil || string(back) != string(raw) {
			t.Fatalf("Unescape(%q) = %q, %v, want %q", text, back, err, raw)
		}
		odd := func(r rune) bool { return r != ' ' && !unicode.IsGraphic(r) }
		if !utf8.ValidString(text) || strings.ContainsFunc(text, odd) {
			t.Fatalf("Escape(%q) = %q, which no screen shows as it is", raw, text)
		}
	})
}

func FuzzUnescape(f *testing.F) {
	for _, seed := range []string{"", `\\`, `\xff`, `a\`, "\xff"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		raw, err := Unescape(text)
		if err != nil {
			return
		}
		if again, err := Unescape(Escape(raw)); err != nil || string(again) != string(raw) {
			t.Fatalf("%q unescaped gives %q, which does not survive", text, raw)
		}
	})
}
