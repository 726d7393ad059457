package home

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"testing"
	"time"
)

func TestAsActsWithTheUsersRights(t *testing.T) {
	t.Parallel()
	_, path := place(t)
	made, secret := filepath.Join(path, "made"), filepath.Join(t.TempDir(), "secret")
	must(t, os.WriteFile(secret, nil, 0o600))
	must(t, As(t.Context(), Owner{UID: user, GID: user}, func() error {
		if _, err := os.ReadFile(secret); !errors.Is(err, os.ErrPermission) {
			t.Errorf("root's file: %v", err)
		}
		return os.WriteFile(made, nil, 0o600)
	}))
	if st := stat(t, made); st.Uid != user || st.Gid != user {
		t.Errorf("made by %d:%d", st.Uid, st.Gid)
	}
}

func TestAsWaitsForNobodyLonger(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
	defer cancel()
	release := make(chan struct{})
	defer close(release)
	err := As(ctx, Owner{UID: uint32(os.Geteuid())}, func() error { <-release; return nil })
	if !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("%v", err)
	}
}
