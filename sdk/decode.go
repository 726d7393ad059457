package sdk

import (
	"bytes"
	"encoding"
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strings"
)

// Validator is a struct of settings, or a part of one, that checks what types and ranges cannot say: [Decode] calls
// Validate once its members are set, and puts the path of the part before the error. The error must not show a secret.
type Validator interface {
	Validate() error
}

// Decode reads settings, a JSON object such as [Settings].Config, into the struct that into points to. What the object
// does not name stays as it is: fill in the defaults first. The struct's fields are settings if they have a name in a tag
// json; further tags:
//
//   - range:"1..100" bounds a number, both ends included; either may be left out: range:"0.."
//   - oneof:"text json" lists the words that a text may be
//   - secret:"true" marks what no log may show; [Schema] tells the host
//   - doc:"…" describes the setting, for [Schema]
//
// Fields are booleans, numbers, text, lists, maps with text as keys, structs, pointers to these, json.RawMessage, and what
// implements encoding.TextUnmarshaler.
//
// Errors wrap [ErrConfig] and name the setting by its path ("rotate.keep", "servers[2].port") and what is expected. They do
// not show the value, which may be a secret; only what UnmarshalText and Validate say is passed on, and of the former
// nothing if the setting is marked secret. An unknown setting, one that stands there twice, a wrong type and null are errors.
// What into holds after an error is undefined.
func Decode(config []byte, into any) error {
	target := reflect.ValueOf(into)
	if target.Kind() != reflect.Pointer || target.IsNil() || target.Elem().Kind() != reflect.Struct {
		return fmt.Errorf("decode settings: into is %T, want a pointer to a struct", into)
	}
	if len(bytes.TrimSpace(config)) == 0 {
		config = []byte("{}")
	}
	if !json.Valid(config) {
		return fmt.Errorf("%w: the settings are not a JSON object", ErrConfig)
	}
	if err := decodeValue("", config, target.Elem(), bounds{}); err != nil {
		return fmt.Errorf("%w: %w", ErrConfig, err)
	}
	return nil
}

// settingError names the setting that is wrong.
func settingError(path, format string, args ...any) error {
	if path == "" {
		path = "the settings"
	}
	return fmt.Errorf("%s: %w", path, fmt.Errorf(format, args...))
}

// decodeValue sets one value. raw is valid JSON.
func decodeValue(path string, raw json.RawMessage, into reflect.Value, b bounds) error {
	raw = bytes.TrimSpace(raw)
	if into.Type() == reflect.TypeFor[json.RawMessage]() {
		into.SetBytes(bytes.Clone(raw))
		return nil
	}
	if into.Kind() == reflect.Pointer {
		if into.IsNil() {
			into.Set(reflect.New(into.Type().Elem()))
		}
		return decodeValue(path, raw, into.Elem(), b)
	}
	if text, ok := into.Addr().Interface().(encoding.TextUnmarshaler); ok {
		return decodeText(path, raw, text, b)
	}
	switch into.Kind() {
	case reflect.Struct:
		return decodeStruct(path, raw, into)
	case reflect.Map:
		return decodeMap(path, raw, into, b)
	case reflect.Slice:
		return decodeList(path, raw, into, b)
	}
	return decodePlain(path, raw, into, b)
}

func decodeText(path string, raw json.RawMessage, into encoding.TextUnmarshaler, b bounds) error {
	var text string
	if raw[0] != '"' || json.Unmarshal(raw, &text) != nil {
		return settingError(path, "want text, not %s", kindOfJSON(raw))
	}
	err := into.UnmarshalText([]byte(text))
	switch {
	case err != nil && b.secret:
		return settingError(path, "is not what it should be")
	case err != nil:
		return settingError(path, "%w", err)
	}
	return nil
}

func decodeStruct(path string, raw json.RawMessage, into reflect.Value) error {
	members, err := membersOf(path, raw)
	if err != nil {
		return err
	}
	settings := settingsOf(into.Type())
	for _, m := range members {
		at := join(path, m.name)
		i := slices.IndexFunc(settings, func(s setting) bool { return s.name == m.name })
		if i < 0 {
			return settingError(at, "there is no such setting; there are: %s", names(settings))
		}
		if err := decodeValue(at, m.value, into.Field(settings[i].field), settings[i].bounds); err != nil {
			return err
		}
	}
	if v, ok := into.Addr().Interface().(Validator); ok {
		if err := v.Validate(); err != nil {
			return settingError(path, "%w", err)
		}
	}
	return nil
}

func decodeMap(path string, raw json.RawMessage, into reflect.Value, b bounds) error {
	if into.Type().Key().Kind() != reflect.String {
		return fmt.Errorf("decode settings: %s is a %s, whose keys are no text", path, into.Type())
	}
	members, err := membersOf(path, raw)
	if err != nil {
		return err
	}
	all := reflect.MakeMapWithSize(into.Type(), len(members))
	for _, m := range members {
		value := reflect.New(into.Type().Elem()).Elem()
		if err := decodeValue(join(path, m.name), m.value, value, b); err != nil {
			return err
		}
		all.SetMapIndex(reflect.ValueOf(m.name).Convert(into.Type().Key()), value)
	}
	into.Set(all)
	return nil
}

func decodeList(path string, raw json.RawMessage, into reflect.Value, b bounds) error {
	var items []json.RawMessage
	if raw[0] != '[' || json.Unmarshal(raw, &items) != nil {
		return settingError(path, "want a list, not %s", kindOfJSON(raw))
	}
	list := reflect.MakeSlice(into.Type(), len(items), len(items))
	for i, item := range items {
		if err := decodeValue(fmt.Sprintf("%s[%d]", path, i), item, list.Index(i), b); err != nil {
			return err
		}
	}
	into.Set(list)
	return nil
}

// member is one key of an object with its value.
type member struct {
	name  string
	value json.RawMessage
}

// membersOf takes an object apart, in its order; the second of two equal names is an error.
func membersOf(path string, raw json.RawMessage) ([]member, error) {
	if raw[0] != '{' {
		return nil, settingError(path, "want an object, not %s", kindOfJSON(raw))
	}
	decoder := json.NewDecoder(bytes.NewReader(raw))
	_, err := decoder.Token() // the brace
	var members []member
	for err == nil && decoder.More() {
		var name json.Token
		if name, err = decoder.Token(); err != nil {
			break
		}
		m := member{name: fmt.Sprint(name)}
		if slices.ContainsFunc(members, func(other member) bool { return other.name == m.name }) {
			return nil, settingError(join(path, m.name), "stands there twice")
		}
		err = decoder.Decode(&m.value)
		members = append(members, m)
	}
	if err != nil {
		return nil, settingError(path, "want an object: %w", errors.New("not JSON")) // without the text
	}
	return members, nil
}

// join makes the path of a member. What somebody wrote into a file is bounded and escaped before an error shows it.
func join(path, name string) string {
	const most = 64
	if len(name) > most {
		name = name[:most] + "…"
	}
	name = EscapeString(strings.ToValidUTF8(name, "\uFFFD"))
	if path == "" {
		return name
	}
	return path + "." + name
}

// kindOfJSON says what stands there, without showing it.
func kindOfJSON(raw json.RawMessage) string {
	switch raw[0] {
	case '{':
		return "an object"
	case '[':
		return "a list"
	case '"':
		return "text"
	case 't', 'f':
		return "true or false"
	case 'n':
		return "null"
	}
	return "a number"
}
