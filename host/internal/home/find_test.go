package home

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// accounts writes a passwd file with alice (51001) and bob (51002) and makes their homes.
func accounts(t *testing.T) (u Users, top string) {
	t.Helper()
	top = t.TempDir()
	var lines strings.Builder
	for i, name := range []string{"alice", "bob"} {
		must(t, os.MkdirAll(filepath.Join(top, name, below), 0o755))
		fmt.Fprintf(&lines, "%s:x:%d:%d:gecos:%s/%s:/bin/sh\n", name, 51001+i, 52001+i, top, name)
	}
	lines.WriteString("broken line\n")
	path := filepath.Join(top, "passwd")
	must(t, os.WriteFile(path, []byte(lines.String()), 0o644))
	return Users{Passwd: path}, top
}

// settle gives a user a config.json of his own.
func settle(t *testing.T, home string, uid int) {
	t.Helper()
	path := filepath.Join(home, below, "config.json")
	must(t, os.WriteFile(path, nil, 0o600), os.Chown(path, uid, uid))
}

func TestFindFollowsTheRulesInOrder(t *testing.T) {
	t.Parallel()
	users, top := accounts(t)
	owned := filepath.Join(top, "owned")
	must(t, os.Mkdir(owned, 0o755), os.Chown(owned, 51002, 51002))
	for _, c := range []struct {
		name, flag string
		env        map[string]string
		uid        uint32
		wantUID    uint32
		wantDir    string
	}{
		{"flag wins, its owner counts", owned, map[string]string{"PICOSNITCH_DIR": "/x", "SUDO_UID": "51001"}, 0, 51002, owned},
		{"flag, not there yet", top + "/new", map[string]string{"SUDO_UID": "51001"}, 0, 51001, top + "/new"},
		{"variable", "", map[string]string{"PICOSNITCH_DIR": owned, "SUDO_UID": "51001"}, 0, 51002, owned},
		{"sudo", "", map[string]string{"SUDO_UID": "51001", "DOAS_USER": "bob", "HOME": "/root"}, 0, 51001, top + "/alice/" + below},
		{"doas", "", map[string]string{"DOAS_USER": "bob", "PKEXEC_UID": "51001", "HOME": "/root"}, 0, 51002, top + "/bob/" + below},
		{"pkexec", "", map[string]string{"PKEXEC_UID": "51002", "HOME": "/root"}, 0, 51002, top + "/bob/" + below},
		{"home", "", map[string]string{"HOME": "/root"}, 0, 0, "/root/" + below},
		{"sudo means nothing without root", "", map[string]string{"SUDO_UID": "51002", "HOME": top + "/alice"}, 51001, 51001, top + "/alice/" + below},
		{"no HOME", "", map[string]string{}, 51001, 51001, top + "/alice/" + below},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			owner, dir, err := Find(t.Context(), Request{
				Dir: c.flag, UID: c.uid, Users: users, Getenv: func(k string) string { return c.env[k] },
			})
			if err != nil || owner.UID != c.wantUID || dir != c.wantDir {
				t.Errorf("got uid %d, %s, %v; want uid %d, %s", owner.UID, dir, err, c.wantUID, c.wantDir)
			}
		})
	}
}

func TestFindTakesTheOneHomeThatIsSettled(t *testing.T) {
	t.Parallel()
	users, top := accounts(t)
	find := func() uint32 {
		owner, _, err := Find(t.Context(), Request{Users: users, Getenv: func(k string) string {
			return map[string]string{"HOME": "/root"}[k]
		}})
		must(t, err)
		return owner.UID
	}
	must(t, os.Symlink("/etc/passwd", filepath.Join(top, "alice", below, "config.json")))
	if got := find(); got != 0 {
		t.Errorf("a link counted: uid %d", got)
	}
	settle(t, filepath.Join(top, "bob"), 51002)
	if got := find(); got != 51002 {
		t.Errorf("one settled home: uid %d", got)
	}
	must(t, os.Remove(filepath.Join(top, "alice", below, "config.json")))
	settle(t, filepath.Join(top, "alice"), 51001)
	if got := find(); got != 0 {
		t.Errorf("two settled homes: uid %d", got)
	}
}

func TestFindNamesTheRuleThatFails(t *testing.T) {
	t.Parallel()
	users, top := accounts(t)
	for variable, value := range map[string]string{
		"SUDO_UID": "abc", "PKEXEC_UID": "59999", "DOAS_USER": "--help", "PICOSNITCH_DIR": top + "/passwd",
	} {
		_, _, err := Find(t.Context(), Request{Users: users, Getenv: func(k string) string {
			return map[string]string{variable: value, "HOME": "/root"}[k]
		}})
		if err == nil || !strings.HasPrefix(err.Error(), variable+": ") {
			t.Errorf("%s=%s: %v", variable, value, err)
		}
	}
}

func TestUsersComeFromGetentToo(t *testing.T) {
	t.Parallel()
	script := filepath.Join(t.TempDir(), "getent")
	must(t, os.WriteFile(script, []byte("#!/bin/sh\n[ \"$1 $2\" = 'passwd 77' ] && echo dir:x:77:78::/home/dir:/bin/sh\n"), 0o755))
	u := Users{Getent: script, Passwd: "/nonexistent"}
	got, err := u.ByUID(t.Context(), 77)
	if err != nil || got != (User{Name: "dir", UID: 77, GID: 78, Home: "/home/dir"}) {
		t.Errorf("got %+v, %v", got, err)
	}
	if _, err := u.ByUID(t.Context(), 78); !errors.Is(err, ErrNoUser) {
		t.Errorf("unknown: %v", err)
	}
}
