package config

import (
	"encoding/json"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func choices(t *testing.T, data string) map[string]PluginChoice {
	t.Helper()
	c, problems := Load([]byte(data))
	if len(problems) > 0 {
		t.Fatal(problems)
	}
	out := map[string]PluginChoice{}
	for _, p := range c.Plugins() {
		out[p.Name] = p
	}
	return out
}

func enabled(choices map[string]PluginChoice) map[string]bool {
	out := map[string]bool{}
	for name, p := range choices {
		if p.Enabled {
			out[name] = true
		}
	}
	return out
}

func TestOldKeysEnableBuiltInPlugins(t *testing.T) {
	t.Parallel()
	for data, want := range map[string]map[string]bool{
		`{}`: {"sqlite": true, "notify": true, "geoip": true},
		`{"DB sql log": false, "Desktop notifications": false, "GeoIP lookup": false}`: {},
		`{"DB text log": true, "DB sql server": {"client": "psycopg"}, "VT API key": "k", "DB sql log": false,
		  "Desktop notifications": false, "GeoIP lookup": false}`: {"textlog": true, "sqlserver": true, "virustotal": true},
		`{"Plugins": {"sqlite": {"enabled": false}, "textlog": {"enabled": true}, "geoip": {}, "acme": {}, "host": {}}}`: {
			"notify": true, "textlog": true, "geoip": true, "acme": true},
	} {
		if d := cmp.Diff(want, enabled(choices(t, data))); d != "" {
			t.Errorf("%s (-want +got):\n%s", data, d)
		}
	}
}

func TestOldKeysBecomeSettings(t *testing.T) {
	t.Parallel()
	got := choices(t, `{"DB retention (days)": 7, "VT API key": "k", "VT file upload": true,
		"DB sql server": {"client": "psycopg", "port": 5432}}`)
	for name, want := range map[string]string{
		"sqlite": `{"retention_days":7}`, "textlog": `{}`, "sqlserver": `{"client":"psycopg","port":5432}`,
		"virustotal": `{"api_key":"k","file_upload":true,"request_limit_seconds":15}`,
	} {
		if string(got[name].Config) != want {
			t.Errorf("%s: %s, want %s", name, got[name].Config, want)
		}
		if got[name].Explicit || got[name].OldKey == "" {
			t.Errorf("%s: %+v", name, got[name])
		}
	}
}

func TestAnEntryOverridesFieldByField(t *testing.T) {
	t.Parallel()
	got := choices(t, `{"Plugins": {"sqlite": {"memory_mb": 64, "config": {"extra": [1]}},
		"acme": {"path": "/opt/acme", "network": ["db:5432"], "paths": {"/srv": "rw"}, "user": "alice"}}}`)
	if d := cmp.Diff(PluginChoice{
		Name: "sqlite", Enabled: true, OldKey: "DB sql log", Explicit: true, MemoryMB: 64, IdleSeconds: 300,
		Config: json.RawMessage(`{"extra":[1],"retention_days":30}`),
	}, got["sqlite"]); d != "" {
		t.Errorf("sqlite (-want +got):\n%s", d)
	}
	if d := cmp.Diff(PluginChoice{
		Name: "acme", Enabled: true, Explicit: true, Path: "/opt/acme", User: "alice", MemoryMB: 256, DiskMB: 1024, IdleSeconds: 300,
		Network: Network{Peers: []string{"db:5432"}}, Paths: map[string]string{"/srv": "rw"}, Config: json.RawMessage(`{}`),
	}, got["acme"]); d != "" {
		t.Errorf("acme (-want +got):\n%s", d)
	}
}

func TestABrokenEntryIsLeftOut(t *testing.T) {
	t.Parallel()
	c, problems := Load([]byte(`{"Plugins": {"acme": {"path": "/opt/acme", "sha265": ""}, "good": {}}}`))
	names := map[string]bool{}
	for _, p := range c.Plugins() {
		names[p.Name] = true
	}
	if names["acme"] || !names["good"] || !Broken(problems) {
		t.Errorf("%v %v", names, problems)
	}
}

func TestRedactionIsOnUnlessSwitchedOff(t *testing.T) {
	t.Parallel()
	c, _ := Load([]byte(`{"Plugins": {"host": {"config": {"redaction": {"token": false, "url": true, "password": false}}}}}`))
	if d := cmp.Diff([]string{"password", "token"}, c.Host.Redaction.Off()); d != "" {
		t.Error(d)
	}
	if off := Defaults().Host.Redaction.Off(); off != nil {
		t.Errorf("off by default: %v", off)
	}
}
