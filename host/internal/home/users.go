package home

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"time"
)

// User is an account as the system's databases have it.
type User struct {
	Name     string
	UID, GID uint32
	Home     string
}

func (u User) owner() Owner { return Owner{UID: u.UID, GID: u.GID, Home: u.Home} }

// ErrNoUser says that no account has the name or number.
var ErrNoUser = errors.New("no such user")

// Users looks accounts up. Accounts of LDAP, systemd-homed and the like are known to getent alone, so that it is asked
// first; without it the file is read.
type Users struct {
	Getent string // path of the program, "" for none
	Passwd string // path of the file
}

// SystemUsers looks where every Linux has them.
func SystemUsers() Users { return Users{Getent: "/usr/bin/getent", Passwd: "/etc/passwd"} }

// getentWait bounds a look-up: a directory server may be away.
const getentWait = 5 * time.Second

// ByUID finds an account by number, or returns [ErrNoUser].
func (s Users) ByUID(ctx context.Context, uid uint32) (User, error) {
	return s.find(ctx, strconv.FormatUint(uint64(uid), 10), func(u User) bool { return u.UID == uid })
}

// byName finds an account by name, or returns [ErrNoUser].
func (s Users) byName(ctx context.Context, name string) (User, error) {
	if strings.HasPrefix(name, "-") || strings.ContainsAny(name, ":\n\x00") {
		return User{}, fmt.Errorf("look up user: %w", ErrNoUser)
	}
	return s.find(ctx, name, func(u User) bool { return u.Name == name })
}

func (s Users) find(ctx context.Context, key string, wanted func(User) bool) (User, error) {
	for _, u := range append(s.getent(ctx, key), s.file()...) {
		if wanted(u) {
			return u, nil
		}
	}
	return User{}, fmt.Errorf("look up user %q: %w", key, ErrNoUser)
}

// all lists the accounts that can be listed; directory servers often list none.
func (s Users) all(ctx context.Context) []User {
	seen := map[uint32]bool{}
	var users []User
	for _, u := range append(s.file(), s.getent(ctx)...) {
		if !seen[u.UID] {
			seen[u.UID] = true
			users = append(users, u)
		}
	}
	return users
}

// getent asks the program, which has no environment of ours. No answer is an empty one.
func (s Users) getent(ctx context.Context, keys ...string) []User {
	if s.Getent == "" {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, getentWait)
	defer cancel()
	cmd := exec.CommandContext(ctx, s.Getent, append([]string{"passwd"}, keys...)...)
	cmd.Env = []string{"PATH=/usr/bin:/bin", "LC_ALL=C"}
	cmd.WaitDelay = time.Second
	out, err := cmd.Output()
	if err != nil {
		return nil
	}
	return parsePasswd(string(out))
}

func (s Users) file() []User {
	data, err := os.ReadFile(s.Passwd)
	if err != nil {
		return nil
	}
	return parsePasswd(string(data))
}

// parsePasswd reads lines of passwd(5) and passes over those that are none.
func parsePasswd(text string) []User {
	var users []User
	for line := range strings.Lines(text) {
		f := strings.Split(strings.TrimSuffix(line, "\n"), ":")
		if len(f) != 7 {
			continue
		}
		uid, uerr := strconv.ParseUint(f[2], 10, 32)
		gid, gerr := strconv.ParseUint(f[3], 10, 32)
		if uerr == nil && gerr == nil {
			users = append(users, User{Name: f[0], UID: uint32(uid), GID: uint32(gid), Home: f[5]})
		}
	}
	return users
}
