package unit

import (
	"os"
	"strings"
	"testing"
	"unicode"
	"unicode/utf8"
)

func FuzzFind(f *testing.F) {
	for _, path := range []string{
		"/", "/system.slice/cron.service", "/docker/" + id64, "/kubepods/pod" + podID + "/" + id64, "/lxc/x", "/a//b",
		"/user.slice/user-1000.slice/user@1000.service/app.slice/app-flatpak-org.x-1.scope", "/snap.a.b-" + podID + ".scope",
		`/system.slice/a\x0a\x.service`, "/system.slice/x/../y.scope", "/kubepods.slice:cri-containerd:" + id64,
	} {
		f.Add(path, `{"ID":"`+id64+`","Name":"/web"}`)
	}
	root := f.TempDir()
	finder := New(Options{Root: root, CgroupRoot: root})
	finder.owner = uint32(os.Getuid())
	state := root + "/" + dockerState
	if err := os.MkdirAll(strings.TrimSuffix(state, "/config.v2.json"), 0o755); err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, path, json string) {
		if err := os.WriteFile(state, []byte(json), 0o600); err != nil {
			t.Fatal(err)
		}
		clear(finder.cache)
		u := finder.Find(path, Facts{UID: 7})
		if u == nil {
			return
		}
		for _, text := range []string{u.Id, u.Name, u.Runtime, u.Source} {
			if !utf8.ValidString(text) || len(text) > 4*maxText+64 || strings.ContainsFunc(text, unicode.IsControl) {
				t.Errorf("text %q", text)
			}
		}
		if u.Id == "" || u.Runtime == "" || u.Source == "" {
			t.Errorf("incomplete: %v", u)
		}
		inUser := strings.HasPrefix(strings.Trim(path, "/")+"/", "user.slice/")
		if u.Verified && (inUser || strings.HasPrefix(u.Id, "user ") && !strings.Contains(path, "user ")) {
			t.Errorf("%q is verified: %v", path, u)
		}
		if !u.Verified && !strings.HasPrefix(u.Id, "user ") && !strings.HasPrefix(u.Id, "claimed: ") {
			t.Errorf("%q is a claim without a claimant: %v", path, u)
		}
	})
}
