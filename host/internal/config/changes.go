package config

import (
	"bytes"
	"encoding/json"
	"reflect"
	"slices"
	"strings"
)

// Changes names the keys in which two configurations differ, sorted: `Log ports`, `Plugins.acme.sha256`, and for an entry
// that one of the two does not have `Plugins.acme`. Below `config` and `DB sql server` it names the setting. It never names
// a value.
func Changes(before, after Config) []string {
	keys := differences("", structKeys(before), structKeys(after))
	slices.Sort(keys)
	return keys
}

// structKeys are the fields of a struct by their keys, those without a value left out.
func structKeys(of any) map[string]any {
	v := reflect.ValueOf(of)
	out := map[string]any{}
	for i := range v.NumField() {
		name, options, _ := strings.Cut(v.Type().Field(i).Tag.Get("json"), ",")
		if name == "-" || options == "omitempty" && v.Field(i).IsZero() {
			continue
		}
		out[name] = v.Field(i).Interface()
	}
	return out
}

// differences compares two levels of keys. What has keys of its own is compared by those, if both have it.
func differences(path string, before, after map[string]any) []string {
	var keys []string
	all := map[string]bool{}
	for key := range before {
		all[key] = true
	}
	for key := range after {
		all[key] = true
	}
	for key := range all {
		a, hadIt := before[key]
		b, hasIt := after[key]
		switch inner, nested := below(a); {
		case hadIt != hasIt:
			keys = append(keys, path+bounded(key))
		case nested:
			other, _ := below(b)
			keys = append(keys, differences(path+bounded(key)+".", inner, other)...)
		case !equalValue(a, b):
			keys = append(keys, path+bounded(key))
		}
	}
	return keys
}

// below gives the keys inside a value, if it has any.
func below(value any) (map[string]any, bool) {
	switch v := value.(type) {
	case map[string]Entry:
		out := map[string]any{}
		for name, e := range v {
			out[name] = e
		}
		return out, true
	case Entry:
		return structKeys(v), true
	case map[string]any:
		return v, true
	case json.RawMessage:
		var members map[string]json.RawMessage
		if json.Unmarshal(v, &members) != nil {
			return nil, false
		}
		out := map[string]any{}
		for key, member := range members {
			out[key] = string(compacted(member))
		}
		return out, true
	}
	return nil, false
}

// compacted takes out the white space, in which no two configurations differ.
func compacted(raw json.RawMessage) []byte {
	var out bytes.Buffer
	if json.Compact(&out, raw) != nil {
		return raw
	}
	return out.Bytes()
}

func equalValue(a, b any) bool { return reflect.DeepEqual(a, b) }

// bounded keeps a key short: whoever wrote it may have put anything there.
func bounded(key string) string {
	if len(key) > maxKey {
		return key[:maxKey] + "…"
	}
	return key
}
