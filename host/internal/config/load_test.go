package config

import (
	"fmt"
	"net/netip"
	"os"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
)

// prefixes are compared by value.
var byValue = cmpopts.EquateComparable(netip.Prefix{})

func TestDefaultsAreWrittenAs103WroteThem(t *testing.T) {
	t.Parallel()
	got, err := Encode(Defaults())
	if err != nil {
		t.Fatal(err)
	}
	want, err := os.ReadFile("testdata/defaults.json")
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(strings.TrimSuffix(string(want), "\n"), string(got)); d != "" {
		t.Errorf("-want +got:\n%s", d)
	}
}

func TestWhatIsEncodedLoadsAsItWas(t *testing.T) {
	t.Parallel()
	c := Defaults()
	c.DashTheme = `<"é\> & ` + "\u2028"
	c.LogIgnore = []any{}
	limit := 4096
	c.RlimitNofile = &limit
	yes := true
	c.Entries["acme"] = Entry{Enabled: &yes, Path: "/opt/acme", Network: &Network{Peers: []string{"db:5432"}},
		Paths: map[string]string{"/srv": "ro"}}
	data, err := Encode(c)
	if err != nil {
		t.Fatal(err)
	}
	got, problems := Load(data)
	if d := cmp.Diff(c, got, byValue); d != "" || len(problems) > 0 {
		t.Errorf("%v\n-want +got:\n%s", problems, d)
	}
	if !strings.Contains(string(data), `<\"é`) {
		t.Errorf("text was escaped:\n%s", data)
	}
}

func TestAnEmptyObjectIsTheDefaults(t *testing.T) {
	t.Parallel()
	c, problems := Load([]byte("{}"))
	if d := cmp.Diff(Defaults(), c, byValue); d != "" || len(problems) > 0 {
		t.Errorf("%v\n%s", problems, d)
	}
}

func TestProblemsSayWhereWhatAndWhatToDo(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ name, data, want string }{
		{"no comma", "{\n  \"Log ports\": true\n  \"Log commands\": true\n}", `config.json:3:3: is not JSON: unexpected character after object key:value pair (a comma, or the closing }, is missing before this)`},
		{"comma at the end", "{\n  \"Log ports\": true,\n}", `config.json:3:1: is not JSON: unexpected character looking for beginning of object key string (keys stand in double quotes, and no comma follows the last entry)`},
		{"python", `{"Log ports": True}`, `config.json:1:15: is not JSON: unexpected character looking for beginning of value (a value is true, false, null, a number, "text", a list or an object; there are no comments)`},
		{"literal", "{\n  \"Log ports\": tr }", `config.json:2:18: is not JSON: unexpected character in literal true (expecting 'u') (true, false and null are written in lower case)`},
		{"cut", "{\n  \"Log ports\": ", `config.json:2:16: is not JSON: unexpected end of JSON input (a closing quote, ] or } is missing)`},
		{"empty", "", `config.json:1:1: is not JSON: unexpected end of JSON input (a closing quote, ] or } is missing)`},
		{"two objects", "{}\n{}", `config.json:2:1: is not JSON: unexpected character after top-level value (the closing } of the whole stands too early)`},
		{"not UTF-8", "{\"Dash theme\": \"a\xff\"}", `config.json:1:18: is not UTF-8 here (save the file as UTF-8)`},
		{"byte order mark", "\xef\xbb\xbf{}", `config.json:1:1: begins with a byte order mark (save the file as UTF-8 without one)`},
		{"a list", "[]", `config.json:1:1: must be an object: { "key": value, … }, not a list`},
		{"wrong type", "{\n  \"Log ports\": \"yes\"\n}", `config.json:2:16: "Log ports" must be true or false, not text`},
		{"column in characters", `{"Dash theme": "ééé", "Log ports": 1}`, `config.json:1:36: "Log ports" must be true or false, not a number`},
		{"number as text", `{"DB retention (days)": "30"}`, `config.json:1:25: "DB retention (days)" must be a whole number, not text`},
		{"fraction", `{"DB retention (days)": 1.5}`, `config.json:1:25: "DB retention (days)" must be a whole number (without a point or exponent)`},
		{"below", `{"DB write limit (seconds)": 0}`, `config.json:1:30: "DB write limit (seconds)" must be from 1 to 3600`},
		{"above", `{"DB write limit (seconds)": 99999999999999999999}`, `config.json:1:30: "DB write limit (seconds)" must be from 1 to 3600`},
		{"negative", `{"DB retention (days)": -1}`, `config.json:1:25: "DB retention (days)" must be from 0 to 36500`},
		{"power", `{"Perf ring buffer (pages)": 100}`, `config.json:1:30: "Perf ring buffer (pages)" must be a power of two (1, 2, 4, 8, …)`},
		{"null", `{"Log ignore": null}`, `config.json:1:16: "Log ignore" must be a list, not null`},
		{"unknown", `{"DB retention (day)": 3}`, `config.json:1:2: "DB retention (day)" is not a key that picosnitch knows (did you mean "DB retention (days)"?)`},
		{"unknown, nothing like it", `{"colour": 3}`, `config.json:1:2: "colour" is not a key that picosnitch knows`},
		{"unknown, hostile", "{\"a\\u001b[31m\": 3}", `config.json:1:2: "a\x1b[31m" is not a key that picosnitch knows`},
		{"twice", `{"Log ports": true, "Log ports": false}`, `config.json:1:21: "Log ports" stands here a second time (remove one of the two)`},
		{"plugin field", `{"Plugins": {"acme": {"sha265": ""}}}`, `config.json:1:23: "Plugins.acme.sha265" is not a key that picosnitch knows (did you mean "sha256"?)`},
		{"plugin pin", `{"Plugins": {"acme": {"sha256": "abc"}}}`, `config.json:1:33: "Plugins.acme.sha256" must be 64 hexadecimal digits`},
		{"plugin path", `{"Plugins": {"acme": {"path": "../x"}}}`, `config.json:1:31: "Plugins.acme.path" must be an absolute path without . or ..`},
		{"plugin name", `{"Plugins": {"../x": {}}}`, `config.json:1:14: "Plugins.../x" is not a name (1 to 32 of a-z, 0-9 and -, not beginning with -)`},
		{"plugin network", `{"Plugins": {"acme": {"network": "all"}}}`, `config.json:1:34: "Plugins.acme.network" must be "none", "host" or a list of "host:port"`},
		{"plugin peer", `{"Plugins": {"acme": {"network": ["db"]}}}`, `config.json:1:35: "Plugins.acme.network[0]" must be "host:port"`},
		{"plugin paths", `{"Plugins": {"acme": {"paths": {"/srv": "rwx"}}}}`, `config.json:1:41: "Plugins.acme.paths./srv" must be "ro" or "rw"`},
		{"plugin root", `{"Plugins": {"acme": {"paths": {"/": "ro"}}}}`, `config.json:1:33: "Plugins.acme.paths./" must be an absolute path without . or .., and not /`},
		{"plugin memory", `{"Plugins": {"acme": {"memory_mb": 1}}}`, `config.json:1:36: "Plugins.acme.memory_mb" must be from 64 to 65536`},
		{"host", `{"Plugins": {"host": {"enabled": true}}}`, `config.json:1:23: "Plugins.host.enabled" is not a key that picosnitch knows`},
		{"host setting", `{"Plugins": {"host": {"config": {"redact": {}}}}}`, `config.json:1:34: "Plugins.host.config.redact" is not a key that picosnitch knows`},
		{"host switch", `{"Plugins": {"host": {"config": {"redaction": {"token": 1}}}}}`, `config.json:1:57: "Plugins.host.config.redaction.token" must be true or false, not a number`},
		{"redaction", `{"Plugins": {"host": {"config": {"redaction": {"tokens": false}}}}}`, `config.json:1:48: "Plugins.host.config.redaction.tokens" is not a key that picosnitch knows (did you mean "token"?)`},
		{"redaction twice", `{"Plugins": {"host": {"config": {"redaction": {"url": true, "url": false}}}}}`, `config.json:1:61: "Plugins.host.config.redaction.url" stands here a second time (remove one of the two)`},
		{"abyss", `{"DB sql server": ` + strings.Repeat("[", 20_000) + `}`, `config.json:1:10018: is nested too deeply`},
		{"deep", `{"DB sql server": ` + strings.Repeat("[", 100) + strings.Repeat("]", 100) + `}`, `config.json:1:51: is nested too deeply`},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			_, problems := Load([]byte(c.data))
			if len(problems) != 1 || problems[0].String() != c.want {
				t.Errorf("got  %v\nwant %s", problems, c.want)
			}
			isError := !strings.HasPrefix(c.name, "unknown")
			if Broken(problems) != isError {
				t.Errorf("broken: %v", Broken(problems))
			}
		})
	}
}

func TestAWrongKeyHasItsDefaultAndTheOthersCount(t *testing.T) {
	t.Parallel()
	c, problems := Load([]byte(`{"Log commands": false, "DB retention (days)": "x", "VT API key": "k"}`))
	if c.LogCommands || c.RetentionDays != 30 || c.VTAPIKey != "k" || len(problems) != 1 {
		t.Errorf("%+v %v", c, problems)
	}
}

func TestNoProblemShowsAValue(t *testing.T) {
	t.Parallel()
	const secret = "s3cretvalue"
	for _, data := range []string{
		`{"VT API key": ["` + secret + `"]}`, `{"VT API key": "` + secret + `" "x": 1}`, `{"VT API key": ` + secret + `}`,
		`{"DB sql server": "` + secret + `"}`, `{"Log ignore": ["` + secret + `!"]}`, `{"Log ignore": {"` + secret + `": 1}}`,
		`{"Plugins": {"a": {"config": "` + secret + `"}}}`, `{"Plugins": {"a": {"network": ["` + secret + `"]}}}`,
		`{"Plugins": {"a": {"user": 1, "path": "` + secret + `"}}}`, secret, `{"VT API key": "` + secret,
	} {
		_, problems := Load([]byte(data))
		if len(problems) == 0 {
			t.Errorf("%s: no problem", data)
		}
		if text := fmt.Sprintf("%v %+v", problems, problems); strings.Contains(text, secret) {
			t.Errorf("%s", text)
		}
	}
}

func TestLogIgnoreIsSortedByWhatEntriesAre(t *testing.T) {
	t.Parallel()
	hash := strings.Repeat("ab", 32)
	c, problems := Load([]byte(`{"Log ignore": [443, "8080", 0, "` + strings.ToUpper(hash) + `", "192.168.0.0/16", "10.0.0.1",
		"2001:db8::/32", "::1", "::ffff:192.0.2.0/120", "org.Example", "local", "arpa.in-addr.1", "рф.пример"]}`))
	want := Ignore{
		Hashes:  [][32]byte{[32]byte([]byte(strings.Repeat("\xab", 32)))},
		Domains: []string{"org.example", "local", "arpa.in-addr.1", "рф.пример"},
		Subnets: []netip.Prefix{
			netip.MustParsePrefix("192.168.0.0/16"), netip.MustParsePrefix("10.0.0.1/32"), netip.MustParsePrefix("2001:db8::/32"),
			netip.MustParsePrefix("::1/128"), netip.MustParsePrefix("192.0.2.0/24"),
		},
		Ports: []uint16{443, 8080, 0},
	}
	if d := cmp.Diff(want, c.Ignore, byValue); d != "" || len(problems) > 0 {
		t.Errorf("%v\n-want +got:\n%s", problems, d)
	}
}

func TestBadEntriesOfLogIgnoreAreNamedAndPassedOver(t *testing.T) {
	t.Parallel()
	for entry, want := range map[string]string{
		`65536`: "is not a port", `-1`: "is not a port", `1.5`: "is not a port", `"99999"`: "is not a port",
		`true`: "must be a port", `["a"]`: "must be a port", `"192.168.1.5/24"`: "bits after its length",
		`"192.168.1"`: "is not an address", `"1.2.3.4/40"`: "is not an address", `"fe80::1%eth0"`: "is not an address",
		`"https://example.org"`: "is not an address", `"*.example"`: "is not a domain", `""`: "is not a domain",
		`"org..example"`: "is not a domain", `"org.example."`: "is not a domain", `"a b"`: "is not a domain",
		`"` + strings.Repeat("a", 40) + `"`: "is not a SHA-256", `"::ffff:0:0/90"`: "is not",
	} {
		c, problems := Load([]byte(`{"Log ignore": [22, ` + entry + `]}`))
		if len(problems) != 1 || problems[0].Key != "Log ignore[1]" || !strings.Contains(problems[0].What, want) || problems[0].Column != 21 {
			t.Errorf("%s: %v, want %q", entry, problems, want)
		}
		if d := cmp.Diff(Ignore{Ports: []uint16{22}}, c.Ignore, byValue); d != "" || Broken(problems) {
			t.Errorf("%s: %s", entry, d)
		}
	}
}

func FuzzLoad(f *testing.F) {
	f.Add([]byte(`{"Log ignore": [443, "org.example"], "Plugins": {"host": {"config": {"redaction": {"token": false}}}}}`))
	f.Add([]byte(`{"Plugins": {"a": {"paths": {"/a": "rw"}, "network": ["a:1"], "memory_mb": 64}}}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		c, problems := Load(data)
		for _, p := range problems {
			if p.Line < 1 || p.Column < 1 || p.What == "" || strings.ContainsAny(p.String(), "\n\x1b") {
				t.Errorf("%+v", p)
			}
		}
		if Broken(problems) {
			return
		}
		again, err := Encode(c)
		if err != nil {
			t.Fatal(err)
		}
		if _, problems := Load(again); Broken(problems) {
			t.Errorf("what was encoded is broken: %v\n%s", problems, again)
		}
	})
}
