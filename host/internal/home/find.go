package home

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"

	"golang.org/x/sys/unix"
)

// Owner is the user whose directory it is.
type Owner struct {
	UID, GID uint32
	Home     string // "" when the user has none
}

// Request is what Find goes by.
type Request struct {
	Dir    string              // --config-dir, "" when not given
	Getenv func(string) string // os.Getenv
	UID    uint32              // of this process; variables that name another user count for root only
	Users  Users
}

// below is where picosnitch keeps its files in a home.
const below = ".config/picosnitch"

// Find says which directory holds config.json and whose it is: --config-dir; PICOSNITCH_DIR; the home of SUDO_UID,
// DOAS_USER or PKEXEC_UID; the one home that already holds a config.json; HOME. A directory that was named belongs to
// whoever owns it, or, while it does not exist, to the user that the other rules give.
//
// The directory is not opened and need not exist. An error names the rule that could not be followed.
func Find(ctx context.Context, q Request) (Owner, string, error) {
	for _, named := range []struct{ rule, dir string }{
		{"--config-dir", q.Dir}, {"PICOSNITCH_DIR", q.Getenv("PICOSNITCH_DIR")},
	} {
		if named.dir != "" {
			owner, dir, err := q.named(ctx, named.dir)
			return owner, dir, wrap(named.rule, err)
		}
	}
	owner, err := q.user(ctx)
	if err != nil {
		return Owner{}, "", err
	}
	if !filepath.IsAbs(owner.Home) {
		return Owner{}, "", fmt.Errorf("find the home of uid %d: there is none; use --config-dir", owner.UID)
	}
	return owner, filepath.Join(owner.Home, below), nil
}

func wrap(rule string, err error) error {
	if err != nil {
		return fmt.Errorf("%s: %w", rule, err)
	}
	return nil
}

// named finds the owner of a directory that the caller chose.
func (q Request) named(ctx context.Context, dir string) (Owner, string, error) {
	dir, err := filepath.Abs(dir)
	if err != nil {
		return Owner{}, "", err
	}
	var st unix.Stat_t
	err = unix.Lstat(dir, &st)
	switch {
	case errors.Is(err, unix.ENOENT):
		owner, err := q.user(ctx)
		return owner, dir, err
	case err != nil:
		return Owner{}, "", fmt.Errorf("stat %s: %w", dir, err)
	case st.Mode&unix.S_IFMT != unix.S_IFDIR:
		return Owner{}, "", fmt.Errorf("%s: %w", dir, unix.ENOTDIR)
	}
	owner := Owner{UID: st.Uid, GID: st.Gid}
	if u, err := q.Users.ByUID(ctx, st.Uid); err == nil {
		owner.GID, owner.Home = u.GID, u.Home
	}
	return owner, dir, nil
}

// user finds whom the command works for.
func (q Request) user(ctx context.Context) (Owner, error) {
	if q.UID == 0 {
		owner, found, err := q.behindRoot(ctx)
		if found || err != nil {
			return owner, err
		}
		if owner, found := q.settled(ctx); found {
			return owner, nil
		}
	}
	owner := Owner{UID: q.UID, GID: uint32(os.Getegid()), Home: q.Getenv("HOME")}
	if u, err := q.Users.ByUID(ctx, q.UID); err == nil {
		owner.GID = u.GID
		if owner.Home == "" {
			owner.Home = u.Home
		}
	}
	return owner, nil
}

// behindRoot finds who became root.
func (q Request) behindRoot(ctx context.Context) (owner Owner, found bool, err error) {
	for _, variable := range []string{"SUDO_UID", "DOAS_USER", "PKEXEC_UID"} {
		value := q.Getenv(variable)
		if value == "" {
			continue
		}
		var u User
		if uid, nerr := strconv.ParseUint(value, 10, 32); nerr == nil && variable != "DOAS_USER" {
			u, err = q.Users.ByUID(ctx, uint32(uid))
		} else if variable == "DOAS_USER" {
			u, err = q.Users.byName(ctx, value)
		} else {
			err = errors.New("is not a user id")
		}
		if err != nil {
			return Owner{}, false, fmt.Errorf("%s: %w", variable, err)
		}
		return u.owner(), true, nil
	}
	return Owner{}, false, nil
}

// settled finds the one user who already has a config.json of his own. Two are none: neither is to be preferred.
func (q Request) settled(ctx context.Context) (owner Owner, found bool) {
	homes := map[string]bool{}
	for _, u := range q.Users.all(ctx) {
		var st unix.Stat_t
		path := filepath.Join(u.Home, below, "config.json")
		if !filepath.IsAbs(u.Home) || homes[u.Home] || unix.Lstat(path, &st) != nil {
			continue
		}
		homes[u.Home] = true
		if st.Mode&unix.S_IFMT != unix.S_IFREG || st.Uid != u.UID && st.Uid != 0 {
			continue
		}
		if found {
			return Owner{}, false
		}
		owner, found = u.owner(), true
	}
	return owner, found
}
