package supervisor

import (
	"strings"
	"testing"

	"github.com/picosnitch/picosnitch/host/internal/supervisor/process"
)

func TestSpecsThatCannotBeMeantAreRefused(t *testing.T) {
	t.Parallel()
	good := Spec{Name: "sqlite", Path: "/x", Directory: "/d/sqlite"}
	for name, c := range map[string]struct {
		change func(*Spec)
		want   string
	}{
		"good":        {func(*Spec) {}, ""},
		"no name":     {func(s *Spec) { s.Name = "" }, "1 to 32"},
		"a path":      {func(s *Spec) { s.Name = "../x" }, "1 to 32"},
		"root":        {func(s *Spec) { s.AsOwner = true }, "never runs as root"},
		"a user":      {func(s *Spec) { s.AsOwner, s.Owner = true, process.Owner{UID: 1000, GID: 1000} }, ""},
		"relative":    {func(s *Spec) { s.Directory = "sqlite" }, "not absolute"},
		"mode":        {func(s *Spec) { s.Paths = map[string]string{"/p": "rwx"} }, "want an absolute path"},
		"dots":        {func(s *Spec) { s.Paths = map[string]string{"/p/../q": "ro"} }, "want an absolute path"},
		"everything":  {func(s *Spec) { s.Paths = map[string]string{"/": "ro"} }, "never granted"},
		"proc":        {func(s *Spec) { s.Paths = map[string]string{"/proc/1/mem": "rw"} }, "never granted"},
		"a bus":       {func(s *Spec) { s.Paths = map[string]string{"/run/user/1000/bus": "rw"} }, ""},
		"named twice": {func(s *Spec) { s.Name = "other" }, "named twice"},
	} {
		spec := good
		c.change(&spec)
		_, err := New(Options{RunDir: "/run/x"}, []Spec{spec, {Name: "other", Directory: "/d/other"}})
		if c.want == "" && err != nil || c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)) {
			t.Errorf("%s: error %v, want %q", name, err, c.want)
		}
	}
}
