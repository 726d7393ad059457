package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"github.com/picosnitch/picosnitch/host/internal/config"
	"github.com/picosnitch/picosnitch/host/internal/record"
)

func TestConfigIsCheckedAndShown(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name, content, verb, want string // content "-": no file
		code                      int
	}{
		{"good", `{"Log ports": false}`, "check", "config.json is as it should be", exitOK},
		{"missing", "-", "check", "the defaults are in force", exitOK},
		{"warning", `{"Log prots": false}`, "check", `warning: `, exitOK},
		{"broken", "{\n\"Log ports\": 7}", "check", `config.json:2:14: "Log ports" must be true or false`, exitFindings},
		{"shown", `{"Log ports": false, "VT API key": "s3cret"}`, "show", "Log ports", exitOK},
		{"shown though broken", `{"Log ports": 7}`, "show", "see picosnitch config check", exitOK},
		{"which", "-", "", "config: check or show?", exitUsage},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			if c.content != "-" {
				if err := os.WriteFile(filepath.Join(dir, "config.json"), []byte(c.content), 0o600); err != nil {
					t.Fatal(err)
				}
			}
			code, out, errs := runLine(t, "config "+c.verb+" --config-dir "+dir)
			if code != c.code || !strings.Contains(out+errs, c.want) || strings.Contains(out+errs, "s3cret") {
				t.Errorf("%d, %q, %q", code, out, errs)
			}
		})
	}
	dir := t.TempDir()
	_, out, _ := runLine(t, "config show --json --config-dir "+dir)
	var list []struct {
		Key   string `json:"key"`
		Value any    `json:"value"`
	}
	if err := json.Unmarshal([]byte(out), &list); err != nil || len(list) < 40 || list[0].Key != "DB retention (days)" || list[0].Value != 30.0 {
		t.Errorf("config show --json: %v, %d keys", err, len(list))
	}
}

func TestEveryRedactionRuleCanBeSwitchedOff(t *testing.T) {
	t.Parallel()
	for _, rule := range record.RedactionRules() {
		c, problems := config.Load(fmt.Appendf(nil, `{"Plugins": {"host": {"config": {"redaction": {%q: false}}}}}`, rule))
		if d := cmp.Diff([]string{rule}, c.Host.Redaction.Off()); d != "" || len(problems) > 0 {
			t.Errorf("%s: %s, %v", rule, d, problems)
		}
	}
}

func TestWhatTheDaemonRefusesToReadIsRefusedByCheck(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		make func(path string) error
		want string
	}{
		"link":      {func(path string) error { return os.Symlink("/dev/null", path) }, "a symbolic link"},
		"pipe":      {func(path string) error { return unix.Mkfifo(path, 0o600) }, "not a regular file"},
		"directory": {func(path string) error { return os.Mkdir(path, 0o700) }, "not a regular file"},
		"second name": {func(path string) error {
			return errors.Join(os.WriteFile(path, []byte("{}"), 0o600), os.Link(path, path+"2"))
		}, "hard link"},
		"too large": {func(path string) error { return os.WriteFile(path, make([]byte, config.MaxBytes+1), 0o600) }, "is too large"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			if err := c.make(filepath.Join(dir, config.FileName)); err != nil {
				t.Fatal(err)
			}
			code, out, errs := runLine(t, "config check --config-dir "+dir)
			if code != exitFailure || !strings.Contains(errs, c.want) {
				t.Errorf("%d, %q, %q", code, out, errs)
			}
		})
	}
}

func TestAConfigurationIsReadWithItsOwnersRights(t *testing.T) {
	t.Parallel()
	needRoot(t)
	dir := t.TempDir()
	path := filepath.Join(dir, "config.json")
	if err := os.WriteFile(path, []byte(`{}`), 0o600); err != nil { // root's, in a directory of another user's
		t.Fatal(err)
	}
	for d := dir; d != "/tmp" && d != "/"; d = filepath.Dir(d) {
		if err := os.Chmod(d, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Chown(dir, 64101, 64101); err != nil {
		t.Fatal(err)
	}
	if code, _, errs := runLine(t, "config show --config-dir "+dir); code != exitFailure || !strings.Contains(errs, "permission denied") {
		t.Errorf("%d, %q", code, errs)
	}
}
