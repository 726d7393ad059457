package config

import (
	"encoding/json"
	"maps"
	"slices"
)

// hostEntry is the entry of "Plugins" that is no plugin: its config holds the host's own settings.
const hostEntry = "host"

// Entry is one entry of "Plugins". Missing fields are nil or empty; [Config.Plugins] fills them in.
type Entry struct {
	Enabled  *bool             `json:"enabled,omitempty"`
	Path     string            `json:"path,omitempty"`   // absolute
	SHA256   string            `json:"sha256,omitempty"` // 64 hexadecimal digits, lower case
	User     string            `json:"user,omitempty"`   // "" is a user of its own; else the configuration's owner
	Network  *Network          `json:"network,omitempty"`
	Paths    map[string]string `json:"paths,omitempty"` // absolute path -> "ro" or "rw"
	MemoryMB *int              `json:"memory_mb,omitempty" range:"64..65536"`
	DiskMB   *int              `json:"disk_mb,omitempty" range:"1..1048576"`
	Config   json.RawMessage   `json:"config,omitempty"` // an object

	Listen      string `json:"listen,omitempty"`      // address:port that the host opens for it
	Executables *bool  `json:"executables,omitempty"` // it may read executables by their hash
	OnDemand    *bool  `json:"on_demand,omitempty"`   // it runs while somebody asks it, and IdleSeconds longer
	IdleSeconds *int   `json:"idle_seconds,omitempty" range:"10..86400"`
}

// Network is what a plugin may reach: nothing, with the zero value.
type Network struct {
	Host  bool     // everything that the host reaches
	Peers []string // host:port
}

// MarshalJSON writes "none", "host" or the list.
func (n Network) MarshalJSON() ([]byte, error) {
	switch {
	case n.Host:
		return []byte(`"host"`), nil
	case len(n.Peers) == 0:
		return []byte(`"none"`), nil
	}
	return json.Marshal(n.Peers)
}

// PluginChoice is one plugin that the configuration speaks of, with every default filled in.
type PluginChoice struct {
	Name     string
	Enabled  bool
	OldKey   string // the key of 1.0.3 that governs a built-in plugin; "" for others
	Explicit bool   // "Plugins" names it: a missing binary is an error then, and only a remark otherwise
	Path     string // "" where plugins are looked for
	SHA256   string // "" when not pinned
	User     string // "" a user of its own
	Network  Network
	Paths    map[string]string
	MemoryMB int
	DiskMB   int
	Config   json.RawMessage // an object; may hold secrets

	Listen      string // "" when it serves nothing
	Executables bool   // it may read executables by their hash
	OnDemand    bool
	IdleSeconds int
}

// Defaults of an entry.
const (
	defaultMemoryMB = 256
	defaultDiskMB   = 1024
	defaultIdle     = 300 // seconds
)

// Plugins lists the built-in plugins in a fixed order, enabled or not, then those of third parties by name. An entry of
// "Plugins" overrides what the old key says, field by field, and within "config" key by key.
func (c Config) Plugins() []PluginChoice {
	var choices []PluginChoice
	known := map[string]bool{hostEntry: true}
	for _, b := range c.builtins() {
		known[b.Name] = true
		choices = append(choices, override(b, c.Entries))
	}
	for _, name := range sortedKeys(c.Entries) {
		if !known[name] {
			choices = append(choices, override(PluginChoice{Name: name, Enabled: true}, c.Entries))
		}
	}
	return choices
}

// builtins is what the old keys say.
func (c Config) builtins() []PluginChoice {
	return []PluginChoice{
		{Name: "sqlite", OldKey: "DB sql log", Enabled: c.SQLLog,
			Config: settings(map[string]any{"retention_days": c.RetentionDays})},
		{Name: "textlog", OldKey: "DB text log", Enabled: c.TextLog},
		{Name: "sqlserver", OldKey: "DB sql server", Enabled: len(c.SQLServer) > 0, Config: settings(c.SQLServer),
			Network: Network{Peers: c.serverPeers()}, Paths: c.serverPaths()},
		{Name: "notify", OldKey: "Desktop notifications", Enabled: c.DesktopNotifications},
		{Name: "virustotal", OldKey: "VT API key", Enabled: c.VTAPIKey != "",
			Network: Network{Peers: []string{"www.virustotal.com:443"}}, Executables: c.VTFileUpload,
			Config: settings(map[string]any{
				"api_key": c.VTAPIKey, "file_upload": c.VTFileUpload, "request_limit_seconds": c.VTRequestSeconds,
			})},
		{Name: "geoip", OldKey: "GeoIP lookup", Enabled: c.GeoIPLookup, OnDemand: true,
			Network: Network{Peers: []string{"download.db-ip.com:443"}}},
	}
}

// override applies the entry of the choice's name, if there is one, and the defaults.
func override(p PluginChoice, entries map[string]Entry) PluginChoice {
	p.MemoryMB = defaultMemoryMB
	if p.DiskMB = defaultDiskMB; p.OldKey != "" {
		p.DiskMB = 0 // the built-in ones have bounds of their own: retention, rotation
	}
	e, explicit := entries[p.Name]
	p.Explicit = explicit
	p.Path, p.SHA256, p.User = e.Path, e.SHA256, e.User
	if len(e.Paths) > 0 {
		p.Paths = maps.Clone(p.Paths)
		if p.Paths == nil {
			p.Paths = map[string]string{}
		}
		maps.Copy(p.Paths, e.Paths)
	}
	replace(&p.Enabled, e.Enabled)
	if e.Network != nil {
		p.Network = Network{Host: e.Network.Host, Peers: slices.Clone(e.Network.Peers)}
	}
	p.Listen, p.IdleSeconds = e.Listen, defaultIdle
	replace(&p.MemoryMB, e.MemoryMB)
	replace(&p.DiskMB, e.DiskMB)
	replace(&p.IdleSeconds, e.IdleSeconds)
	replace(&p.Executables, e.Executables)
	replace(&p.OnDemand, e.OnDemand)
	p.Config = merge(p.Config, e.Config)
	return p
}

// replace takes what was written, if anything was.
func replace[T any](value *T, written *T) {
	if written != nil {
		*value = *written
	}
}

// merge lays the keys of one object over those of another. Both were parsed before, so that nothing can go wrong.
func merge(base, over json.RawMessage) json.RawMessage {
	all := map[string]json.RawMessage{}
	for _, raw := range []json.RawMessage{base, over} {
		if len(raw) > 0 {
			_ = json.Unmarshal(raw, &all)
		}
	}
	merged, _ := json.Marshal(all)
	return merged
}

// settings encodes what came out of a parsed file or is plain.
func settings(object map[string]any) json.RawMessage {
	raw, _ := json.Marshal(object)
	return raw
}

func sortedKeys[V any](m map[string]V) []string { return slices.Sorted(maps.Keys(m)) }
