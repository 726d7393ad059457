package server

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/picosnitch/picosnitch/sdk"
)

// tableName is what `table_name` may be. It is short enough for the names that are made of it.
const tableName = `^([A-Za-z_][A-Za-z0-9_]{0,39}\.)?[A-Za-z_][A-Za-z0-9_]{0,39}$`

// Clients are the values of `client`: the Python libraries that picosnitch 1.0.3 could use. They choose the kind of server.
func Clients() []string { return []string{"mariadb", "psycopg", "psycopg2", "pymysql"} }

// Parse reads the object of `DB sql server`. Its errors are [sdk.ErrConfig], name the key and hold no value of a secret.
func Parse(raw []byte) (*Server, error) {
	var keys map[string]json.RawMessage
	if err := json.Unmarshal(raw, &keys); err != nil {
		return nil, fmt.Errorf("%w: settings of sqlserver are not a JSON object", sdk.ErrConfig)
	}
	var client string
	if err := json.Unmarshal(keys["client"], &client); err != nil || !slices.Contains(Clients(), client) {
		return nil, fmt.Errorf("%w: client must be one of %s", sdk.ErrConfig, strings.Join(Clients(), ", "))
	}
	l := &login{client: client, table: "connections", params: map[string]string{}, timeout: defaultTimeout}
	for _, key := range slices.Sorted(maps.Keys(keys)) {
		if key == "client" {
			continue
		}
		if err := l.set(key, keys[key]); err != nil {
			return nil, fmt.Errorf("%w: %w", sdk.ErrConfig, err)
		}
	}
	s, err := l.server()
	if err != nil {
		return nil, fmt.Errorf("%w: %w", sdk.ErrConfig, err)
	}
	return s, nil
}

// set takes one setting.
func (l *login) set(key string, raw json.RawMessage) error {
	for _, p := range Parameters() {
		if p.Name != key || !slices.Contains(p.Clients, l.client) {
			continue
		}
		v, err := decode(p.Type, raw)
		if err != nil {
			return fmt.Errorf("%s must be %w", key, err)
		}
		if p.Secret && v.text != "" {
			l.secrets = append(l.secrets, v.text)
		}
		if err := p.set(l, v); err != nil {
			return fmt.Errorf("%s %w", key, err)
		}
		return nil
	}
	var known []string
	for _, p := range Parameters() {
		if slices.Contains(p.Clients, l.client) {
			known = append(known, p.Name)
		}
	}
	return fmt.Errorf("with client %s there is no setting %q; there are client, %s", l.client, sdk.EscapeString(key),
		strings.Join(known, ", "))
}

// value is a setting of the type that its parameter has.
type value struct {
	text   string
	number int
	flag   bool
	object map[string]json.RawMessage // of a flag that is an object
}

// decode reads a value. As libpq and Python did, it takes a number or a truth in quotes too.
func decode(kind string, raw json.RawMessage) (v value, err error) {
	raw = bytes.TrimSpace(raw)
	word := string(raw)
	if json.Unmarshal(raw, &v.text) == nil && len(raw) > 0 && raw[0] == '"' {
		word = v.text
	} else {
		v.text = word
	}
	switch kind {
	case "string":
		if raw[0] != '"' {
			return value{}, fmt.Errorf("a text in quotes")
		}
		if strings.ContainsRune(v.text, 0) {
			return value{}, fmt.Errorf("a text without NUL")
		}
	case "integer":
		if v.number, err = strconv.Atoi(word); err != nil {
			return value{}, fmt.Errorf("a whole number")
		}
	case "boolean":
		if raw[0] == '{' && json.Unmarshal(raw, &v.object) == nil {
			v.flag = true
			return v, nil
		}
		if v.flag, err = strconv.ParseBool(word); err != nil {
			return value{}, fmt.Errorf("true or false")
		}
	}
	return v, nil
}

// setTable takes `table_name`. 1.0.3 did not quote it, so that PostgreSQL read it in lower case.
func setTable(l *login, v value) error {
	if !regexp.MustCompile(tableName).MatchString(v.text) {
		return fmt.Errorf("must be a name of letters, digits and _, at most 40, with its schema before a point if it has one")
	}
	l.table = v.text
	if l.dialect() == PostgreSQL {
		l.table = strings.ToLower(v.text)
	}
	return nil
}

// Schema is the JSON Schema of the settings.
func Schema() (string, error) {
	properties := map[string]any{
		"client": map[string]any{"enum": Clients(), "description": "kind of server: psycopg, psycopg2: PostgreSQL; mariadb, pymysql: MariaDB or MySQL"},
	}
	for _, p := range Parameters() {
		property := map[string]any{"type": p.Type, "description": p.Doc}
		if p.Type != "string" {
			property["type"] = []string{p.Type, "string"}
		}
		if p.Name == "ssl" {
			property["type"] = []string{"boolean", "string", "object"}
		}
		if p.Secret {
			property["secret"] = true
		}
		properties[p.Name] = property
	}
	raw, err := json.MarshalIndent(map[string]any{"type": "object", "required": []string{"client"},
		"additionalProperties": false, "properties": properties}, "", "  ")
	return string(raw), err
}
