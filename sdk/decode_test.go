package sdk

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

type rotation struct {
	SizeMB int `json:"size_mb" range:"0..4096" doc:"0: never"`
	Keep   int `json:"keep" range:"1..100"`
}

func (r *rotation) Validate() error {
	if r.SizeMB > 0 && r.Keep == 99 {
		return errors.New("99 is taken")
	}
	return nil
}

type peer struct {
	Port     uint16 `json:"port" range:"1.."`
	Password string `json:"password" secret:"true"`
}

type settings struct {
	Format  string            `json:"format" oneof:"text json"`
	On      bool              `json:"on"`
	Ratio   float64           `json:"ratio" range:"0..1"`
	Rotate  rotation          `json:"rotate"`
	Servers []peer            `json:"servers"`
	Labels  map[string]string `json:"labels"`
	Limit   *int              `json:"limit"`
	Bind    netip.Addr        `json:"bind"`
	Raw     json.RawMessage   `json:"raw"`
	Key     netip.Addr        `json:"key" secret:"true"`
	Hidden  string            `json:"-"`
}

func TestSettingsAreReadOverTheDefaults(t *testing.T) {
	t.Parallel()
	got := settings{Format: "text", Rotate: rotation{Keep: 7}, Hidden: "mine"}
	err := Decode([]byte(`{"on": true, "ratio": 0.5, "rotate": {"size_mb": 10}, "servers": [{"port": 1}, {"port": 65535, "password": "p"}],
		"labels": {"a": "b"}, "limit": 3, "bind": "::1", "raw": [1, {}]}`), &got)
	limit := 3
	want := settings{Format: "text", On: true, Ratio: 0.5, Rotate: rotation{SizeMB: 10, Keep: 7}, Servers: []peer{{Port: 1}, {65535, "p"}},
		Labels: map[string]string{"a": "b"}, Limit: &limit, Bind: netip.IPv6Loopback(), Raw: json.RawMessage("[1, {}]"), Hidden: "mine"}
	if diff := cmp.Diff(want, got, cmp.Comparer(func(a, b netip.Addr) bool { return a == b })); err != nil || diff != "" {
		t.Errorf("%v, -want +got:\n%s", err, diff)
	}
	for _, nothing := range []string{"", "{}", " \n"} {
		if err := Decode([]byte(nothing), &got); err != nil {
			t.Errorf("%q: %v", nothing, err)
		}
	}
}

func TestAWrongSettingIsNamedByItsPathAndNotShown(t *testing.T) {
	t.Parallel()
	for config, words := range map[string]string{
		`{"frmat": "hunter2"}`:                         "configuration: frmat: there is no such setting; there are: bind, format,",
		`{"rotate": {"sise": 1}}`:                      "rotate.sise: there is no such setting; there are: keep, size_mb",
		`{"format": "hunter2"}`:                        "format: want text, one of text, json",
		`{"format": 1}`:                                "format: want text, one of text, json, not a number",
		`{"on": "hunter2"}`:                            "on: want true or false, not text",
		`{"on": null}`:                                 "on: want true or false, not null",
		`{"ratio": 1.5}`:                               "ratio: want a number from 0 to 1",
		`{"rotate": "hunter2"}`:                        "rotate: want an object, not text",
		`{"rotate": {"keep": 0}}`:                      "rotate.keep: want a whole number from 1 to 100",
		`{"rotate": {"keep": 1.5}}`:                    "rotate.keep: want a whole number from 1 to 100",
		`{"rotate": {"keep": 99999999999999999999}}`:   "rotate.keep: want a whole number from 1 to 100",
		`{"rotate": {"size_mb": 1, "keep": 99}}`:       "rotate: 99 is taken",
		`{"servers": {"port": 1}}`:                     "servers: want a list, not an object",
		`{"servers": [{"port": 1}, {"port": 0}]}`:      "servers[1].port: want a whole number, at least 1",
		`{"servers": [{"password": {"a":"hunter2"}}]}`: "servers[0].password: want text, not an object",
		`{"servers": [true]}`:                          "servers[0]: want an object, not true or false",
		`{"labels": {"a": 1}}`:                         "labels.a: want text, not a number",
		`{"limit": "3"}`:                               "limit: want a whole number, not text",
		`{"bind": "nowhere"}`:                          "bind: ",
		`{"key": "hunter2"}`:                           "key: is not what it should be",
		`{"on": true, "on": false}`:                    "on: stands there twice",
		`{"a\nb": 1}`:                                  `a\x0ab: there is no such setting`,
		`["hunter2"]`:                                  "the settings: want an object, not a list",
		`{"on": hunter2`:                               "the settings are not a JSON object",
		`{"` + strings.Repeat("x", 300) + `": 1}`:      strings.Repeat("x", 64) + "…: there is no such setting",
		`{"Hidden": "x"}`:                              "Hidden: there is no such setting",
		`{"-": "x"}`:                                   "-: there is no such setting",
	} {
		err := Decode([]byte(config), &settings{})
		if !errors.Is(err, ErrConfig) || !strings.Contains(fmt.Sprint(err), words) {
			t.Errorf("%s: got %v, want ErrConfig with %q", config, err, words)
		}
		if strings.Contains(fmt.Sprint(err), "hunter2") {
			t.Errorf("%s: the error shows a value: %v", config, err)
		}
	}
}

func TestSettingsThatNoStructCanTakeAreADefectOfThePlugin(t *testing.T) {
	t.Parallel()
	for name, into := range map[string]any{
		"no pointer": settings{}, "no struct": new(int), "nothing": (*settings)(nil),
		"channel": &struct {
			C chan int `json:"c"`
		}{},
		"keys": &struct {
			M map[int]int `json:"c"`
		}{},
	} {
		if err := Decode([]byte(`{"c": {}}`), into); err == nil || !strings.Contains(err.Error(), "decode settings") {
			t.Errorf("%s: got %v", name, err)
		}
	}
}

func TestTheSchemaSaysWhatDecodeTakes(t *testing.T) {
	t.Parallel()
	got := Schema(&struct {
		Format   string   `json:"format" oneof:"text json"`
		Password string   `json:"password" secret:"true" doc:"of the server"`
		Rotate   rotation `json:"rotate"`
		Hosts    []string `json:"hosts"`
	}{Format: "text", Password: "hunter2", Rotate: rotation{Keep: 7}})
	const want = `{"type": "object", "additionalProperties": false, "properties": {
		"format": {"type": "string", "enum": ["text", "json"], "default": "text"},
		"password": {"type": "string", "secret": true, "description": "of the server"},
		"rotate": {"type": "object", "additionalProperties": false, "properties": {
			"size_mb": {"type": "integer", "minimum": 0, "maximum": 4096, "default": 0, "description": "0: never"},
			"keep": {"type": "integer", "minimum": 1, "maximum": 100, "default": 7}}},
		"hosts": {"type": "array", "items": {"type": "string"}}}}`
	var a, b any
	if err := errors.Join(json.Unmarshal([]byte(got), &a), json.Unmarshal([]byte(want), &b)); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(b, a); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
}

// FuzzDecode looks for input that ends the process.
func FuzzDecode(f *testing.F) {
	for _, config := range []string{`{}`, `{"servers": [{"port": 1}]}`, `{"raw": null, "labels": {"": ""}}`, "{\"\xff\": 1}", `[]`} {
		f.Add(config)
	}
	f.Fuzz(func(t *testing.T, config string) {
		err := Decode([]byte(config), &settings{})
		if err != nil && (!errors.Is(err, ErrConfig) || EscapeString(err.Error()) != strings.ReplaceAll(err.Error(), `\`, `\\`)) {
			t.Errorf("%q: %v", config, err)
		}
	})
}
