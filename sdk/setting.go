package sdk

import (
	"encoding/json"
	"fmt"
	"math"
	"reflect"
	"slices"
	"strconv"
	"strings"
)

// setting is a field of a struct of settings.
type setting struct {
	name  string
	field int
	doc   string
	bounds
}

// bounds are what tags say of the values of a setting.
type bounds struct {
	least, most string // "" for none
	words       []string
	secret      bool
}

// settingsOf lists the fields of a struct that have a name in JSON.
func settingsOf(t reflect.Type) []setting {
	var all []setting
	for i := range t.NumField() {
		f := t.Field(i)
		name, _, _ := strings.Cut(f.Tag.Get("json"), ",")
		if !f.IsExported() || name == "" || name == "-" {
			continue
		}
		s := setting{name: name, field: i, doc: f.Tag.Get("doc")}
		s.least, s.most, _ = strings.Cut(f.Tag.Get("range"), "..")
		s.words = strings.Fields(f.Tag.Get("oneof"))
		s.secret = f.Tag.Get("secret") == "true"
		all = append(all, s)
	}
	return all
}

func names(settings []setting) string {
	list := make([]string, len(settings))
	for i, s := range settings {
		list[i] = s.name
	}
	slices.Sort(list)
	if len(list) == 0 {
		return "none"
	}
	return strings.Join(list, ", ")
}

// decodePlain sets a boolean, a number or a text.
func decodePlain(path string, raw json.RawMessage, into reflect.Value, b bounds) error {
	want, form := "", ""
	switch into.Kind() {
	case reflect.Bool:
		want, form = "true or false", "tf"
	case reflect.String:
		want, form = "text", `"`
	case reflect.Int, reflect.Int8, reflect.Int16, reflect.Int32, reflect.Int64,
		reflect.Uint, reflect.Uint8, reflect.Uint16, reflect.Uint32, reflect.Uint64:
		want, form = "a whole number", "-0123456789"
	case reflect.Float32, reflect.Float64:
		want, form = "a number", "-0123456789"
	default:
		return fmt.Errorf("decode settings: %s is a %s, which no setting can be", path, into.Type())
	}
	if !strings.ContainsRune(form, rune(raw[0])) {
		return settingError(path, "want %s%s, not %s", want, b.text(), kindOfJSON(raw))
	}
	if err := json.Unmarshal(raw, into.Addr().Interface()); err != nil {
		return settingError(path, "want %s%s", want, b.text()) // 1.5, or too large; err would show the value
	}
	if !b.allow(into) {
		return settingError(path, "want %s%s", want, b.text())
	}
	return nil
}

// text says the bounds in words, to follow the name of a type.
func (b bounds) text() string {
	switch {
	case len(b.words) > 0:
		return ", one of " + strings.Join(b.words, ", ")
	case b.least != "" && b.most != "":
		return " from " + b.least + " to " + b.most
	case b.least != "":
		return ", at least " + b.least
	case b.most != "":
		return ", at most " + b.most
	}
	return ""
}

// allow says whether a value keeps the bounds. A bound that is no number allows nothing: a test of the plugin finds it.
func (b bounds) allow(v reflect.Value) bool {
	switch {
	case v.Kind() == reflect.String:
		return len(b.words) == 0 || slices.Contains(b.words, v.String())
	case v.CanInt():
		least, most, ok := parseBounds(b, math.MinInt64, math.MaxInt64, func(s string) (int64, error) { return strconv.ParseInt(s, 10, 64) })
		return ok && v.Int() >= least && v.Int() <= most
	case v.CanUint():
		least, most, ok := parseBounds(b, 0, math.MaxUint64, func(s string) (uint64, error) { return strconv.ParseUint(s, 10, 64) })
		return ok && v.Uint() >= least && v.Uint() <= most
	case v.CanFloat():
		least, most, ok := parseBounds(b, math.Inf(-1), math.Inf(1), func(s string) (float64, error) { return strconv.ParseFloat(s, 64) })
		return ok && v.Float() >= least && v.Float() <= most
	}
	return true
}

func parseBounds[N any](b bounds, least, most N, parse func(string) (N, error)) (_, _ N, ok bool) {
	for _, bound := range []struct {
		text string
		to   *N
	}{{b.least, &least}, {b.most, &most}} {
		if bound.text == "" {
			continue
		}
		value, err := parse(bound.text)
		if err != nil {
			return least, most, false
		}
		*bound.to = value
	}
	return least, most, true
}
