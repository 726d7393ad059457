package doctor

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"reflect"
	"strings"

	"github.com/picosnitch/picosnitch/host/internal/config"
	"github.com/picosnitch/picosnitch/host/internal/home"
	"github.com/picosnitch/picosnitch/sdk"
)

// Config is what config.json is worth.
type Config struct {
	Path     string    `json:"path"`
	Exists   bool      `json:"exists"`
	Broken   bool      `json:"broken"`  // it is not in force: the last good one is, or what is right in it
	Changed  []string  `json:"changed"` // keys that do not have their default; values may be secret
	Problems []Mistake `json:"problems"`
	Exposed  []string  `json:"exposed,omitempty"` // keys that may hold secrets, in a file that every user may read
	Error    string    `json:"error,omitempty"`   // why it could not be read
	Denied   bool      `json:"denied,omitempty"`
}

// Mistake is something in config.json that cannot be meant.
type Mistake struct {
	Severity string `json:"severity"` // "warning" or "error"
	File     string `json:"file"`
	Line     int    `json:"line"` // from 1; 0 when it has no place
	Column   int    `json:"column"`
	Key      string `json:"key"` // "" for the whole file
	What     string `json:"what"`
	Hint     string `json:"hint"`
	Text     string `json:"text"` // file:line:column: key what (hint)
}

// loadedConfig is a configuration and what other facts need of it.
type loadedConfig struct {
	fact      Config
	choices   []config.PluginChoice
	ringPages int
	files     *int // RLIMIT_NOFILE to be set
}

// lookConfig reads config.json as a start does, with the rights of its owner, and leaves everything as it is.
func lookConfig(o Options) loadedConfig {
	path := filepath.Join(o.ConfigDir, config.FileName)
	fact := Config{Path: sdk.EscapeString(path), Changed: []string{}, Problems: []Mistake{}}
	c := config.Defaults()
	data, err := readConfig(o.ConfigDir, o.Owner)
	switch {
	case errors.Is(err, fs.ErrNotExist):
	case err != nil:
		fact.Exists, fact.Error, fact.Denied = true, saidError(err), errors.Is(err, fs.ErrPermission)
	default:
		var problems []config.Problem
		c, problems = config.Load(data)
		fact.Exists, fact.Broken, fact.Changed = true, config.Broken(problems), changed(c)
		for _, p := range problems {
			p.File = path
			fact.Problems = append(fact.Problems, mistake(p))
		}
		if info, err := os.Lstat(path); err == nil && info.Mode()&0o004 != 0 {
			fact.Exposed = config.Secrets(c)
		}
	}
	return loadedConfig{fact: fact, choices: c.Plugins(), ringPages: c.PerfPages, files: c.RlimitNofile}
}

// readConfig opens the directory only if there is one, since opening would make it.
func readConfig(path string, owner home.Owner) ([]byte, error) {
	if _, err := os.Lstat(path); err != nil {
		return nil, err
	}
	dir, err := home.Open(path, owner)
	if err != nil {
		return nil, err
	}
	data, err := dir.ReadFile(config.FileName, config.MaxBytes)
	return data, errors.Join(err, dir.Close())
}

func mistake(p config.Problem) Mistake {
	return Mistake{
		Severity: p.Severity.String(), File: sdk.EscapeString(p.File), Line: p.Line, Column: p.Column,
		Key: sdk.EscapeString(p.Key), What: said(p.What), Hint: said(p.Hint), Text: p.String(),
	}
}

// changed lists the keys whose values are not the defaults.
func changed(c config.Config) []string {
	keys := []string{}
	have, usual := reflect.ValueOf(c), reflect.ValueOf(config.Defaults())
	for i := range have.NumField() {
		key, _, _ := strings.Cut(have.Type().Field(i).Tag.Get("json"), ",")
		if key != "-" && !reflect.DeepEqual(have.Field(i).Interface(), usual.Field(i).Interface()) {
			keys = append(keys, key)
		}
	}
	return keys
}

func judgeConfig(f Facts) []Finding {
	c := f.Config
	switch {
	case c.Denied && f.Privileges.UID != 0:
		return []Finding{warning("config", "cannot be read without root: "+c.Error, "sudo picosnitch doctor")}
	case c.Error != "":
		return []Finding{problem("config", "cannot be read, so the last good one or the defaults count: "+c.Error,
			"make it a plain file, of the directory's owner")}
	case !c.Exists:
		return []Finding{ok("config", c.Path+" does not exist: the defaults count, and the first start writes them there")}
	case len(c.Problems)+len(c.Exposed) == 0:
		return []Finding{ok("config", fmt.Sprintf("%s has no mistake, and %s", c.Path, number(len(c.Changed), "key")+" that differ from the defaults"))}
	}
	return judgeMistakes(c)
}

func judgeMistakes(c Config) []Finding {
	var findings []Finding
	if len(c.Exposed) > 0 {
		findings = append(findings, warning("config", fmt.Sprintf("%s holds what may be secret (%s), and its mode lets every user read it",
			c.Path, said(strings.Join(c.Exposed, ", "))), "chmod 600 "+c.Path))
	}
	for _, m := range c.Problems {
		if m.Severity == config.Error.String() {
			findings = append(findings, problem("config", m.Text,
				"correct it; until then the last good configuration counts, or what is right in this one"))
		} else {
			findings = append(findings, warning("config", m.Text, "correct or remove it; it is passed over"))
		}
	}
	return findings
}
