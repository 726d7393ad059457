package config

import (
	"bytes"
	"cmp"
	"encoding/json"
	"net/netip"
	"reflect"
)

// FileName is the configuration's name in the user's directory.
const FileName = "config.json"

// MaxBytes is how large a configuration may be.
const MaxBytes = 1 << 20

// Config is what config.json says. The tags are its keys, ranges are inclusive; other rules stand in the comments.
// A Config is read-only once loaded.
type Config struct {
	RetentionDays        int            `json:"DB retention (days)" range:"0..36500"`
	SQLLog               bool           `json:"DB sql log"`
	SQLServer            map[string]any `json:"DB sql server"` // client, table_name, the driver's own; numbers are json.Number
	TextLog              bool           `json:"DB text log"`
	WriteLimitSeconds    int            `json:"DB write limit (seconds)" range:"1..3600"` // length of a window
	DashScrollZoom       bool           `json:"Dash scroll zoom"`
	DashTheme            string         `json:"Dash theme"`
	DesktopNotifications bool           `json:"Desktop notifications"`
	EveryExe             bool           `json:"Every exe (not just conns)"`
	GeoIPLookup          bool           `json:"GeoIP lookup"`
	LogAddresses         bool           `json:"Log addresses"`
	LogCommands          bool           `json:"Log commands"`
	LogIgnore            []any          `json:"Log ignore"` // as written; Ignore is what it means
	LogPorts             bool           `json:"Log ports"`
	PerfPages            int            `json:"Perf ring buffer (pages)" range:"1..65536" rule:"power of two"`
	RlimitNofile         *int           `json:"Set RLIMIT_NOFILE" range:"64..1048576"` // nil: as large as allowed
	StDevMask            *int           `json:"Set st_dev mask" range:"0..4294967295"` // nil: every bit counts
	VTAPIKey             string         `json:"VT API key"`                            // secret
	VTFileUpload         bool           `json:"VT file upload"`
	VTRequestSeconds     int            `json:"VT request limit (seconds)" range:"0..86400"` // between two requests

	Entries map[string]Entry `json:"Plugins"` // as written; see Plugins for what they add up to

	Ignore Ignore `json:"-"` // from LogIgnore
	Host   Host   `json:"-"` // from Plugins.host.config
}

// Ignore says which flows make no row.
type Ignore struct {
	Hashes  [][32]byte     // SHA-256 of executables
	Domains []string       // reversed ("org.example"), lower case
	Subnets []netip.Prefix // of the remote address; masked, IPv4 as IPv4
	Ports   []uint16
}

// Host holds the settings of the host itself, which 1.0.3 did not have.
type Host struct {
	Redaction   Redaction `json:"redaction"`
	Group       string    `json:"group"`                        // whose members get every answer; "" is defaultGroup
	JournalMB   int       `json:"journal_mb" range:"16..65536"` // what sinks that are behind may keep on disk
	JournalDays int       `json:"journal_days" range:"1..3650"` // and for how long
	ReverseDNS  bool      `json:"reverse_dns"`                  // ask what addresses without a name are called
}

// Redaction says which rules take secrets out of command lines. What each of them looks for is record's to know.
type Redaction struct {
	URL      bool `json:"url"`
	Password bool `json:"password"`
	Token    bool `json:"token"`
	Header   bool `json:"header"`
	User     bool `json:"user"`
	Short    bool `json:"short"`
	Shape    bool `json:"shape"`
}

// Off lists the rules that are switched off.
func (r Redaction) Off() []string {
	var off []string
	v := reflect.ValueOf(r)
	for i := range v.NumField() {
		if !v.Field(i).Bool() {
			off = append(off, v.Type().Field(i).Tag.Get("json"))
		}
	}
	return off
}

// defaultGroup is the group whose members may ask the daemon everything, if it exists.
const defaultGroup = "picosnitch"

// defaultHost is the host whose user has said nothing.
func defaultHost() Host {
	return Host{
		Redaction: Redaction{URL: true, Password: true, Token: true, Header: true, User: true, Short: true, Shape: true},
		JournalMB: 512, JournalDays: 7,
	}
}

// GroupName is the group that counts.
func (h Host) GroupName() string { return cmp.Or(h.Group, defaultGroup) }

// Defaults is the configuration of a machine whose user has said nothing.
func Defaults() Config {
	return Config{
		RetentionDays:        30,
		SQLLog:               true,
		SQLServer:            map[string]any{},
		WriteLimitSeconds:    10,
		DashScrollZoom:       true,
		DesktopNotifications: true,
		GeoIPLookup:          true,
		LogAddresses:         true,
		LogCommands:          true,
		LogIgnore:            []any{},
		LogPorts:             true,
		PerfPages:            256,
		VTRequestSeconds:     15,
		Entries:              map[string]Entry{},
		Host:                 defaultHost(),
	}
}

// Encode writes a configuration as 1.0.3 did: indented by two, keys sorted, text as it is. It holds the secrets.
func Encode(c Config) ([]byte, error) {
	compact, err := json.Marshal(c)
	if err != nil {
		return nil, err
	}
	d := json.NewDecoder(bytes.NewReader(compact))
	d.UseNumber()
	var sorted map[string]any // encoding/json sorts the keys of maps, not those of structs
	if err := d.Decode(&sorted); err != nil {
		return nil, err
	}
	var out bytes.Buffer
	e := json.NewEncoder(&out)
	e.SetEscapeHTML(false)
	e.SetIndent("", "  ")
	if err := e.Encode(sorted); err != nil {
		return nil, err
	}
	return bytes.TrimSuffix(out.Bytes(), []byte("\n")), nil
}
