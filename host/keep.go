package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"syscall"

	"github.com/picosnitch/picosnitch/host/internal/api"
	"github.com/picosnitch/picosnitch/host/internal/home"
	"github.com/picosnitch/picosnitch/host/internal/supervisor"
)

// keep hands work the stores of the daemon, or without a daemon the named store itself, started for it. A store that is not
// to be changed is opened read-only. Errors begin with the verb; a request that no store can fulfil is the user's mistake.
func (c *call) keep(ctx context.Context, verb, store string, readOnly bool, work func(*api.Keeper) error) error {
	runDir, err := c.runDir()
	if err != nil {
		return err
	}
	client, err := api.Dial(runDir)
	switch {
	case err == nil:
		err = work(client.Keeper())
		_ = client.Close()
	case errors.Is(err, api.ErrNotRunning):
		err = c.keepAlone(ctx, cmp.Or(store, defaultStore), readOnly, work)
	}
	switch {
	case errors.Is(err, api.ErrQuestion):
		return misuse("%s: %w", verb, err)
	case err != nil:
		return fmt.Errorf("%s: %w", verb, err)
	}
	return nil
}

// keepAlone starts a store to look after it, as the owner of its files.
func (c *call) keepAlone(ctx context.Context, name string, readOnly bool, work func(*api.Keeper) error) (err error) {
	s, err := c.settings(ctx)
	if err != nil {
		return err
	}
	giveBack, err := borrow(s.Owner)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, giveBack()) }()
	spec, err := s.storeSpec(name)
	if err != nil {
		return err
	}
	store, err := supervisor.OpenStore(ctx, spec, readOnly)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, store.Close()) }()
	return work(api.NewKeeper(store.Keeper()))
}

// borrow has root go on as the owner of the history, and gives the way back, for what root itself opened before: a file
// that is to get its name in a directory of root's. What is started meanwhile cannot come back: exec takes away the saved
// user id that leads there. Anybody else stays who they are.
func borrow(owner home.Owner) (giveBack func() error, err error) {
	if os.Geteuid() != 0 || owner.UID == 0 {
		return func() error { return nil }, nil
	}
	groups, err := os.Getgroups()
	if err != nil {
		return nil, fmt.Errorf("look up the groups of root: %w", err)
	}
	uid, gid := int(owner.UID), int(owner.GID)
	rgid := os.Getgid()
	giveBack = func() error {
		err := errors.Join(syscall.Setresuid(0, 0, 0), syscall.Setresgid(rgid, rgid, rgid), syscall.Setgroups(groups))
		if err != nil {
			return fmt.Errorf("be root again: %w", err)
		}
		return nil
	}
	for _, step := range []func() error{
		func() error { return syscall.Setgroups([]int{gid}) },
		func() error { return syscall.Setresgid(gid, gid, rgid) },
		func() error { return syscall.Setresuid(uid, uid, 0) },
	} {
		if err := step(); err != nil {
			return nil, errors.Join(fmt.Errorf("become uid %d, whose history it is: %w", owner.UID, err), giveBack())
		}
	}
	return giveBack, nil
}
