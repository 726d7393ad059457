package config

import (
	"errors"
	"fmt"
	"io/fs"
	"strings"
	"testing"
)

// folder is a directory in memory.
type folder struct {
	files map[string]string
	fail  error // of every write
	wrote []string
}

func (f *folder) ReadFile(name string, limit int64) ([]byte, error) {
	text, ok := f.files[name]
	if !ok {
		return nil, fmt.Errorf("read %s: %w", name, fs.ErrNotExist)
	}
	if text == "unsafe" {
		return nil, errors.New("read config.json: refused: a symbolic link")
	}
	return []byte(text), nil
}

func (f *folder) WriteFile(name string, data []byte, perm fs.FileMode) error {
	if f.fail != nil {
		return f.fail
	}
	f.wrote = append(f.wrote, fmt.Sprintf("%s %04o", name, perm))
	f.files[name] = string(data)
	return nil
}

func TestStoreFindsAConfigurationToRunOn(t *testing.T) {
	t.Parallel()
	const good, broken = `{"DB retention (days)": 7}`, `{"DB retention (days)": 8, "Log ports": 1}`
	for _, c := range []struct {
		name, home, last string // "-": no file
		source           Source
		days             int
		problems         int
		wroteHome        string
		wroteState       string
	}{
		{"first start", "-", "-", FromDefaults, 30, 0, "config.json 0600", "config.last.json 0600"},
		{"deleted by the user", "-", good, FromDefaults, 30, 0, "config.json 0600", "config.last.json 0600"},
		{"good", good, "-", FromFile, 7, 0, "", "config.last.json 0600"},
		{"good and unchanged", good, good, FromFile, 7, 0, "", ""},
		{"unknown key", `{"DB retention (days)": 9, "x": 1}`, "-", FromFile, 9, 1, "", "config.last.json 0600"},
		{"broken", broken, good, FromLast, 7, 1, "", ""},
		{"not JSON", "{", good, FromLast, 7, 1, "", ""},
		{"broken from the start", broken, "-", FromParts, 8, 1, "", ""},
		{"not JSON from the start", "{", "-", FromParts, 30, 1, "", ""},
		{"both broken", broken, "{", FromParts, 8, 1, "", ""},
		{"a trap", "unsafe", good, FromLast, 7, 1, "", ""},
		{"a trap from the start", "unsafe", "-", FromDefaults, 30, 1, "", ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			home, state := &folder{files: map[string]string{}}, &folder{files: map[string]string{}}
			if c.home != "-" {
				home.files[FileName] = c.home
			}
			if c.last != "-" {
				state.files[LastFileName] = c.last
			}
			got := Store{Home: home, State: state, Path: "/home/alice/.config/picosnitch/config.json"}.Load()
			if got.Source != c.source || got.Config.RetentionDays != c.days || len(got.Problems) != c.problems {
				t.Errorf("source %v, %d days, %v", got.Source, got.Config.RetentionDays, got.Problems)
			}
			for _, p := range got.Problems {
				if !strings.HasPrefix(p.String(), "/home/alice/.config/picosnitch/config.json:") {
					t.Errorf("problem %s", p)
				}
			}
			if h, s := strings.Join(home.wrote, ","), strings.Join(state.wrote, ","); h != c.wroteHome || s != c.wroteState {
				t.Errorf("wrote %q and %q", h, s)
			}
		})
	}
}

func TestAFullDiskIsAProblemAndNoMore(t *testing.T) {
	t.Parallel()
	full := &folder{files: map[string]string{}, fail: errors.New("no space left on device")}
	got := Store{Home: full, State: full, Path: "config.json"}.Load()
	if got.Source != FromDefaults || len(got.Problems) != 1 || Broken(got.Problems) {
		t.Errorf("no file: %v %v", got.Source, got.Problems)
	}
	full.files[FileName] = "{}"
	got = Store{Home: full, State: full, Path: "config.json"}.Load()
	if got.Source != FromFile || len(got.Problems) != 1 || Broken(got.Problems) {
		t.Errorf("good file: %v %v", got.Source, got.Problems)
	}
}
