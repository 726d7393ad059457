package sdk

import (
	"encoding"
	"encoding/json"
	"reflect"
)

// Schema is the JSON Schema of the struct that [Decode] reads, for [Description].ConfigSchema: one definition of the
// settings, their ranges, words and defaults. defaults is a struct, or a pointer to one, with the default of each setting;
// those of secrets are left out. A type that Decode cannot read has an empty schema.
func Schema(defaults any) string {
	v := reflect.ValueOf(defaults)
	for v.Kind() == reflect.Pointer && !v.IsNil() {
		v = v.Elem()
	}
	if v.Kind() != reflect.Struct {
		return ""
	}
	text, err := json.MarshalIndent(schemaOf(v.Type(), v, bounds{}), "", "  ")
	if err != nil { // a default that JSON cannot hold
		return ""
	}
	return string(text)
}

// schemaOf describes a type; value holds the default, and is not valid where there is none.
func schemaOf(t reflect.Type, value reflect.Value, b bounds) map[string]any {
	for t.Kind() == reflect.Pointer {
		t, value = t.Elem(), reflect.Value{}
	}
	if t == reflect.TypeFor[json.RawMessage]() {
		return map[string]any{}
	}
	if reflect.PointerTo(t).Implements(reflect.TypeFor[encoding.TextUnmarshaler]()) {
		return map[string]any{"type": "string"}
	}
	out := map[string]any{}
	switch t.Kind() {
	case reflect.Struct:
		return schemaOfStruct(t, value)
	case reflect.Map:
		out["type"], out["additionalProperties"] = "object", schemaOf(t.Elem(), reflect.Value{}, b)
		return out
	case reflect.Slice:
		out["type"], out["items"] = "array", schemaOf(t.Elem(), reflect.Value{}, b)
		return out
	case reflect.Bool:
		out["type"] = "boolean"
	case reflect.String:
		out["type"] = "string"
		if len(b.words) > 0 {
			out["enum"] = b.words
		}
	case reflect.Float32, reflect.Float64:
		out["type"] = "number"
	default:
		out["type"] = "integer"
	}
	if b.least != "" {
		out["minimum"] = json.Number(b.least)
	}
	if b.most != "" {
		out["maximum"] = json.Number(b.most)
	}
	if value.IsValid() && !b.secret {
		out["default"] = value.Interface()
	}
	return out
}

func schemaOfStruct(t reflect.Type, value reflect.Value) map[string]any {
	properties := map[string]any{}
	for _, s := range settingsOf(t) {
		var field reflect.Value
		if value.IsValid() {
			field = value.Field(s.field)
		}
		property := schemaOf(t.Field(s.field).Type, field, s.bounds)
		if s.doc != "" {
			property["description"] = s.doc
		}
		if s.secret {
			property["secret"] = true
		}
		properties[s.name] = property
	}
	return map[string]any{"type": "object", "additionalProperties": false, "properties": properties}
}
