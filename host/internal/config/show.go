package config

import (
	"bytes"
	"encoding/json"
	"fmt"
	"reflect"
	"slices"
	"strings"
)

// Masked stands where a value may be a secret.
const Masked = "********"

// Setting is one key with what is in force, fit to be shown to people.
type Setting struct {
	Key     string          `json:"key"`
	Value   json.RawMessage `json:"value"`   // secrets are [Masked]
	Default json.RawMessage `json:"default"` // null when there is none
	Range   string          `json:"range"`   // "" when every value of the type will do
}

// Settings lists every key that picosnitch knows, in the order of docs/config.md, with what is in force: the 20 keys, the
// host's own settings, then one line for each field of each plugin that the configuration speaks of.
func Settings(c Config) []Setting {
	defaults := Defaults()
	out := settingsOf("", c, defaults)
	out = slices.DeleteFunc(out, func(s Setting) bool { return s.Key == "Plugins" })
	out = append(out, settingsOf("Plugins.host.config.", c.Host, defaults.Host)...)
	standard := map[string]PluginChoice{}
	for _, p := range defaults.Plugins() {
		standard[p.Name] = p
	}
	for _, p := range c.Plugins() {
		before, known := standard[p.Name]
		if !known {
			before = override(PluginChoice{Name: p.Name, Enabled: true}, nil)
		}
		out = append(out, settingsOf("Plugins."+p.Name+".", shown(p), shown(before))...)
	}
	return out
}

// shownPlugin is a plugin as people write it.
type shownPlugin struct {
	Enabled     bool              `json:"enabled"`
	Path        string            `json:"path"`
	SHA256      string            `json:"sha256"`
	User        string            `json:"user"`
	Network     Network           `json:"network"`
	Paths       map[string]string `json:"paths"`
	MemoryMB    int               `json:"memory_mb" range:"64..65536"`
	DiskMB      int               `json:"disk_mb" range:"1..1048576"`
	Listen      string            `json:"listen"`
	Executables bool              `json:"executables"`
	OnDemand    bool              `json:"on_demand"`
	IdleSeconds int               `json:"idle_seconds" range:"10..86400"`
	Config      map[string]any    `json:"config"`
}

func shown(p PluginChoice) shownPlugin {
	return shownPlugin{
		Enabled: p.Enabled, Path: p.Path, SHA256: p.SHA256, User: p.User, Network: p.Network, Paths: p.Paths,
		MemoryMB: p.MemoryMB, DiskMB: p.DiskMB, Listen: p.Listen, Executables: p.Executables,
		OnDemand: p.OnDemand, IdleSeconds: p.IdleSeconds, Config: ownSettings(p),
	}
}

// ownSettings reads the settings of a plugin and masks what may be secret.
func ownSettings(p PluginChoice) map[string]any {
	var members map[string]any
	if json.Unmarshal(p.Config, &members) != nil {
		return map[string]any{}
	}
	return mask(members).(map[string]any)
}

// Secrets names the keys of config.json that hold what may be a secret.
func Secrets(c Config) []string {
	var keys []string
	note := func(key string, shown json.RawMessage) {
		if bytes.Contains(shown, []byte(Masked)) {
			keys = append(keys, key)
		}
	}
	for _, s := range settingsOf("", c, Defaults()) {
		note(s.Key, s.Value)
	}
	for _, name := range sortedKeys(c.Entries) {
		if name != hostEntry {
			note("Plugins."+name+".config", visible("config", ownSettings(PluginChoice{Config: c.Entries[name].Config})))
		}
	}
	return keys
}

// settingsOf lists the fields of a struct.
func settingsOf(path string, of, standard any) []Setting {
	v, d := reflect.ValueOf(of), reflect.ValueOf(standard)
	var out []Setting
	for i := range v.NumField() {
		tag := v.Type().Field(i).Tag
		name, _, _ := strings.Cut(tag.Get("json"), ",")
		if name == "-" {
			continue
		}
		span := strings.Replace(tag.Get("range"), "..", " to ", 1)
		if rule := tag.Get("rule"); rule != "" {
			span = rule + ", " + span
		}
		out = append(out, Setting{
			Key: path + name, Value: visible(name, v.Field(i).Interface()), Default: visible(name, d.Field(i).Interface()),
			Range: span,
		})
	}
	return out
}

// visible encodes a value without its secrets.
func visible(name string, value any) json.RawMessage {
	switch v := value.(type) {
	case map[string]any:
		value = mask(v)
	case string:
		if v != "" && name == "VT API key" {
			value = Masked
		}
	}
	var out strings.Builder
	e := json.NewEncoder(&out)
	e.SetEscapeHTML(false)
	if err := e.Encode(value); err != nil { // cannot be: every value came out of JSON, or is plain
		return json.RawMessage(fmt.Sprintf("%q", err.Error()))
	}
	return json.RawMessage(strings.TrimSuffix(out.String(), "\n"))
}

// open are the settings whose text is no secret. Of any other, text is masked: which of a plugin's settings are secrets
// is known to the plugin alone.
func open(key string) bool {
	return slices.Contains([]string{
		"client", "table_name", "host", "port", "user", "database", "dbname", "db", "charset", "sslmode", "application_name",
		"format", "unix_socket", "sslrootcert", "ssl_ca", "connect_timeout",
	}, key)
}

// mask replaces text that may be secret, at every depth.
func mask(value any) any {
	switch v := value.(type) {
	case map[string]any:
		out := map[string]any{}
		for key, member := range v {
			if _, text := member.(string); text && open(key) {
				out[key] = member
			} else {
				out[key] = mask(member)
			}
		}
		return out
	case []any:
		out := make([]any, len(v))
		for i, member := range v {
			out[i] = mask(member)
		}
		return out
	case string:
		if v != "" {
			return Masked
		}
	}
	return value
}
