package config

import (
	"os"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestChangesNameKeysAndNeverValues(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name, before, after string
		want                []string
	}{
		{"nothing", `{"Log ports": true}`, `{}`, nil},
		{"white space", `{"Plugins": {"a": {"config": {"k": [1, 2]}}}}`, `{"Plugins":{"a":{"config":{"k":[1,2]}}}}`, nil},
		{"old keys", `{"VT API key": "one"}`, `{"VT API key": "two", "Log ports": false, "Log ignore": [443]}`,
			[]string{"Log ignore", "Log ports", "VT API key"}},
		{"server", `{"DB sql server": {"client": "psycopg", "password": "a"}}`,
			`{"DB sql server": {"client": "psycopg", "password": "b", "port": 1}}`,
			[]string{"DB sql server.password", "DB sql server.port"}},
		{"plugin comes", `{}`, `{"Plugins": {"acme": {"sha256": ""}}}`, []string{"Plugins.acme"}},
		{"plugin changes", `{"Plugins": {"acme": {"path": "/a", "memory_mb": 64, "config": {"key": "s3cret"}}}}`,
			`{"Plugins": {"acme": {"path": "/b", "config": {"key": "0ther", "more": 1}}}}`,
			[]string{"Plugins.acme.config.key", "Plugins.acme.config.more", "Plugins.acme.memory_mb", "Plugins.acme.path"}},
		{"host", `{}`, `{"Plugins": {"host": {"config": {"group": "adm"}}}}`, []string{"Plugins.host"}},
		{"limits", `{"Set RLIMIT_NOFILE": 100}`, `{"Set RLIMIT_NOFILE": null}`, []string{"Set RLIMIT_NOFILE"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			before, _ := Load([]byte(c.before))
			after, _ := Load([]byte(c.after))
			got := Changes(before, after)
			if d := cmp.Diff(c.want, got); d != "" {
				t.Errorf("(-want +got):\n%s", d)
			}
			if text := strings.Join(got, ","); strings.Contains(text, "s3cret") || strings.Contains(text, "0ther") {
				t.Errorf("a value is shown: %s", text)
			}
		})
	}
}

func TestAChangeWhileTheHostWasAwayIsNoticed(t *testing.T) {
	t.Parallel()
	home, state := &folder{files: map[string]string{}}, &folder{files: map[string]string{}}
	store := Store{Home: home, State: state, Path: "config.json"}
	if got := store.Load(); got.Changed != nil {
		t.Errorf("first start: %v", got.Changed)
	}
	home.files[FileName] = `{"Log ports": false}`
	if got := store.Load(); cmp.Diff([]string{"Log ports"}, got.Changed) != "" {
		t.Errorf("after an edit: %v", got.Changed)
	}
	if got := store.Load(); got.Changed != nil {
		t.Errorf("unchanged: %v", got.Changed)
	}
	delete(home.files, FileName)
	if got := store.Load(); cmp.Diff([]string{"Log ports"}, got.Changed) != "" {
		t.Errorf("deleted: %v", got.Changed)
	}
}

func TestEverySettingIsListedWithoutSecrets(t *testing.T) {
	t.Parallel()
	c, problems := Load([]byte(`{"VT API key": "s3cret", "DB sql server": {"client": "psycopg", "host": "db", "password": "s3cret"},
		"Plugins": {"acme": {"path": "/opt/acme", "config": {"url": "https://u:s3cret@x", "on": true, "list": ["s3cret"]}}}}`))
	if len(problems) > 0 {
		t.Fatal(problems)
	}
	got := map[string]Setting{}
	for _, s := range Settings(c) {
		if strings.Contains(string(s.Value)+string(s.Default), "s3cret") {
			t.Errorf("%s shows a secret: %s", s.Key, s.Value)
		}
		if _, twice := got[s.Key]; twice {
			t.Errorf("%s is listed twice", s.Key)
		}
		got[s.Key] = s
	}
	for key, want := range map[string]string{
		"DB retention (days)": "30", "VT API key": `"********"`, "Plugins.acme.path": `"/opt/acme"`,
		"Plugins.host.config.journal_mb": "512", "Plugins.acme.config": `{"list":["********"],"on":true,"url":"********"}`,
		"DB sql server": `{"client":"psycopg","host":"db","password":"********"}`, "Plugins.sqlserver.network": `["db:5432"]`,
		"Plugins.sqlite.config": `{"retention_days":30}`, "Set st_dev mask": "null",
	} {
		if string(got[key].Value) != want {
			t.Errorf("%s: %s, want %s", key, got[key].Value, want)
		}
	}
	if got["DB retention (days)"].Range != "0 to 36500" || string(got["VT API key"].Default) != `""` {
		t.Errorf("%+v %+v", got["DB retention (days)"], got["VT API key"])
	}
}

func TestHostSettingsAndNewFieldsHaveRanges(t *testing.T) {
	t.Parallel()
	for data, want := range map[string]string{
		`{"Plugins": {"host": {"config": {"group": "a b"}}}}`:       "is not the name of a group",
		`{"Plugins": {"host": {"config": {"journal_mb": 1}}}}`:      "must be from 16 to 65536",
		`{"Plugins": {"host": {"config": {"journal_days": 9999}}}}`: "must be from 1 to 3650",
		`{"Plugins": {"host": {"config": {"reverse_dns": 1}}}}`:     "must be true or false",
		`{"Plugins": {"a": {"listen": "localhost:80"}}}`:            "must be \"address:port\"",
		`{"Plugins": {"a": {"listen": "127.0.0.1:80"}}}`:            "must be \"address:port\"",
		`{"Plugins": {"a": {"idle_seconds": 1}}}`:                   "must be from 10 to 86400",
		`{"Plugins": {"a": {"executables": "yes"}}}`:                "must be true or false",
	} {
		_, problems := Load([]byte(data))
		if len(problems) != 1 || !strings.Contains(problems[0].String(), want) || problems[0].Line != 1 {
			t.Errorf("%s: %v, want %q", data, problems, want)
		}
	}
	c, problems := Load([]byte(`{"Plugins": {"host": {"config": {"group": "wheel", "journal_mb": 64, "reverse_dns": true}}, "dash": {"listen": "[::1]:5100"}}}`))
	if len(problems) > 0 || c.Host.GroupName() != "wheel" || c.Host.JournalMB != 64 || c.Host.JournalDays != 7 || !c.Host.ReverseDNS {
		t.Errorf("%v %+v", problems, c.Host)
	}
	if Defaults().Host.GroupName() != defaultGroup {
		t.Error("no default group")
	}
	if Defaults().Host.ReverseDNS {
		t.Error("reverse DNS makes traffic that nobody ordered")
	}
}

func TestBuiltInPluginsReachTheirServerAlone(t *testing.T) {
	t.Parallel()
	for data, want := range map[string][]string{
		`{"client": "psycopg", "host": "db.example"}`:                     {"db.example:5432"},
		`{"client": "mariadb", "host": "db", "port": 3307}`:               {"db:3307"},
		`{"client": "pymysql"}`:                                           {"localhost:3306"},
		`{"client": "psycopg2", "host": "/run/postgresql"}`:               nil,
		`{"client": "pymysql", "unix_socket": "/run/mysqld/mysqld.sock"}`: nil,
		`{"client": "psycopg", "host": "a b"}`:                            nil,
	} {
		got := choices(t, `{"DB sql server": `+data+`}`)["sqlserver"].Network.Peers
		if d := cmp.Diff(want, got); d != "" {
			t.Errorf("%s (-want +got):\n%s", data, d)
		}
	}
	all := choices(t, `{"VT API key": "k", "VT file upload": true}`)
	if !all["virustotal"].Executables || all["sqlite"].Executables || !all["geoip"].OnDemand || all["sqlite"].OnDemand {
		t.Errorf("grants: %+v", all)
	}
}

// Every key stands in the document for people, with its range.
func TestTheDocumentNamesEveryKey(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile("../../../docs/config.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range Settings(Defaults()) {
		parts := strings.Split(s.Key, ".")
		key := parts[len(parts)-1]
		at := strings.Index(string(text), "| `"+key+"` |")
		if at < 0 {
			t.Errorf("docs/config.md has no row for %s", s.Key)
			continue
		}
		row, _, _ := strings.Cut(string(text)[at:], "\n")
		if !strings.Contains(row, s.Range) {
			t.Errorf("docs/config.md: %s lacks its range %q: %s", s.Key, s.Range, row)
		}
	}
}
