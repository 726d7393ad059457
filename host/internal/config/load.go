package config

import (
	"fmt"
	"reflect"
	"strconv"
	"strings"
	"unicode/utf8"
)

// Load parses a configuration. What is missing has its default; what is wrong has its default too, and a Problem. It
// reads nothing but data and never panics.
func Load(data []byte) (Config, []Problem) {
	l := loader{data: data}
	c := Defaults()
	root, bad := parse(data)
	if bad != nil {
		l.report(Error, bad.at, "", bad.what, bad.hint)
		return c, l.problems
	}
	members, ok := root.value.(object)
	if !ok {
		l.wrongType(root, "", "an object: { \"key\": value, … }")
		return c, l.problems
	}
	l.fill(members, &c, "")
	c.Ignore = l.ignore(members)
	c.Host = l.host(members)
	return c, l.problems
}

// loader collects problems.
type loader struct {
	data     []byte
	problems []Problem
}

// maxKey bounds a key in a problem: the key, too, may be anything.
const maxKey = 80

func (l *loader) report(s Severity, at int, key, what, hint string) {
	line, column := l.position(at)
	if len(key) > maxKey {
		key = key[:maxKey] + "…"
	}
	l.problems = append(l.problems, Problem{
		Severity: s, File: FileName, Line: line, Column: column, Key: key, What: what, Hint: hint,
	})
}

// position turns a byte offset into line and column.
func (l *loader) position(at int) (line, column int) {
	before := string(l.data[:min(at, len(l.data))])
	start := strings.LastIndexByte(before, '\n') + 1
	return strings.Count(before, "\n") + 1, utf8.RuneCountInString(before[start:]) + 1
}

func (l *loader) wrongType(n node, key, want string) {
	l.report(Error, n.at, key, "must be "+want+", not "+n.kind(), "")
}

// fill sets the fields of the struct that into points to. path is what stands before the keys in problems. An unknown
// key is a slip of the pen at the top, where 1.0.3 had others; inside a plugin it could be a pin or a limit that does
// not hold, and is an Error.
func (l *loader) fill(members object, into any, path string) {
	v := reflect.ValueOf(into).Elem()
	fields := map[string]int{}
	for i := range v.NumField() {
		name, _, _ := strings.Cut(v.Type().Field(i).Tag.Get("json"), ",")
		if name != "-" {
			fields[name] = i
		}
	}
	seen := map[string]bool{}
	for _, m := range members {
		i, known := fields[m.key]
		switch {
		case !known:
			l.unknown(m, path, sortedKeys(fields))
		case seen[m.key]:
			l.report(Error, m.at, path+m.key, "stands here a second time", "remove one of the two")
		default:
			l.set(m.value, v.Field(i), v.Type().Field(i).Tag, path+m.key)
		}
		seen[m.key] = true
	}
}

func (l *loader) unknown(m member, path string, keys []string) {
	severity := Warning
	if path != "" {
		severity = Error
	}
	hint := ""
	if like := nearest(m.key, keys); like != "" {
		hint = fmt.Sprintf("did you mean \"%s\"?", like)
	}
	l.report(severity, m.at, path+m.key, "is not a key that picosnitch knows", hint)
}

// set stores one value in a field, if its type and range allow.
func (l *loader) set(n node, field reflect.Value, tag reflect.StructTag, key string) {
	switch into := field.Addr().Interface().(type) {
	case *bool:
		if v, ok := n.value.(bool); ok {
			*into = v
			return
		}
		l.wrongType(n, key, "true or false")
	case **bool:
		if v, ok := n.value.(bool); ok {
			*into = &v
			return
		}
		l.wrongType(n, key, "true or false")
	case *string:
		l.setString(n, into, key)
	case *int:
		if v, ok := l.integer(n, tag, key, "a whole number"); ok {
			*into = v
		}
	case **int:
		if n.value == nil {
			return
		}
		if v, ok := l.integer(n, tag, key, "a whole number or null"); ok {
			*into = &v
		}
	case *map[string]any:
		if _, ok := n.value.(object); !ok {
			l.wrongType(n, key, "an object")
			return
		}
		*into = n.plain().(map[string]any)
	case *[]any:
		if _, ok := n.value.([]node); !ok {
			l.wrongType(n, key, "a list")
			return
		}
		*into = n.plain().([]any)
	default:
		l.setPlugin(n, field, key)
	}
}

func (l *loader) setString(n node, into *string, key string) {
	v, ok := n.value.(string)
	if !ok {
		l.wrongType(n, key, "text")
		return
	}
	*into = v
}

// integer reads a whole number inside the range of its tag.
func (l *loader) integer(n node, tag reflect.StructTag, key, want string) (int, bool) {
	number, ok := n.value.(number)
	if !ok {
		l.wrongType(n, key, want)
		return 0, false
	}
	lowest, highest, _ := strings.Cut(tag.Get("range"), "..")
	low, _ := strconv.Atoi(lowest)
	high, _ := strconv.Atoi(highest)
	v, err := strconv.Atoi(string(number))
	if err != nil && strings.ContainsAny(string(number), ".eE") {
		l.report(Error, n.at, key, "must be "+want, "without a point or exponent")
		return 0, false
	}
	if err != nil || v < low || v > high {
		l.report(Error, n.at, key, fmt.Sprintf("must be from %d to %d", low, high), "")
		return 0, false
	}
	if tag.Get("rule") == "power of two" && v&(v-1) != 0 {
		l.report(Error, n.at, key, "must be a power of two", "1, 2, 4, 8, …")
		return 0, false
	}
	return v, true
}
