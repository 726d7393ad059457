package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
	"time"

	"github.com/picosnitch/picosnitch/host/internal/api"
	"github.com/picosnitch/picosnitch/host/internal/config"
	"github.com/picosnitch/picosnitch/host/internal/home"
	"github.com/picosnitch/picosnitch/host/internal/supervisor"
	wire "github.com/picosnitch/picosnitch/sdk/proto"
)

// queryTime bounds a question to the history.
const queryTime = 2 * time.Minute

// defaultStore answers when nobody chose another and no daemon does the choosing.
const defaultStore = "sqlite"

// ask has the daemon answer, or without one the store itself. A question that no store can answer is the user's mistake.
func (c *call) ask(ctx context.Context, store string, q *wire.Query, page func(*wire.QueryPage) error) error {
	runDir, err := c.runDir()
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, queryTime)
	defer cancel()
	client, err := api.Dial(runDir)
	switch {
	case err == nil:
		err = client.Query(ctx, store, q, page)
		_ = client.Close()
	case errors.Is(err, api.ErrNotRunning):
		err = c.askStore(ctx, cmp.Or(store, defaultStore), q, page)
	}
	switch {
	case errors.Is(err, api.ErrQuestion):
		return misuse("query: %w", err)
	case err != nil:
		return fmt.Errorf("query: %w", err)
	}
	return nil
}

// askStore starts the store to answer one question.
func (c *call) askStore(ctx context.Context, name string, q *wire.Query, page func(*wire.QueryPage) error) error {
	s, err := c.settings(ctx)
	if err != nil {
		return err
	}
	if err := become(s.Owner); err != nil {
		return err
	}
	spec, err := s.storeSpec(name)
	if err != nil {
		return err
	}
	store, err := supervisor.OpenStore(ctx, spec, true)
	if err != nil {
		return err
	}
	err = api.Question(store.Query(ctx, q, page))
	return errors.Join(err, store.Close())
}

// become gives up root for good and goes on as the owner of the history: its files are theirs to prepare, and root
// should not fall for what it finds there. Anybody else stays who they are.
func become(owner home.Owner) error {
	if os.Geteuid() != 0 || owner.UID == 0 {
		return nil
	}
	for _, step := range []func() error{
		func() error { return syscall.Setgroups([]int{int(owner.GID)}) },
		func() error { return syscall.Setresgid(int(owner.GID), int(owner.GID), int(owner.GID)) },
		func() error { return syscall.Setresuid(int(owner.UID), int(owner.UID), int(owner.UID)) },
	} {
		if err := step(); err != nil {
			return fmt.Errorf("become uid %d, whose history it is: %w", owner.UID, err)
		}
	}
	return nil
}

// storeSpec describes the store as the configuration has it.
func (s settings) storeSpec(name string) (supervisor.Spec, error) {
	spec := supervisor.Spec{Name: name, Directory: filepath.Join(s.ConfigDir, name)}
	if !config.PluginName(name) {
		return spec, misuse("no plugin is called %.40q", name)
	}
	info, err := os.Stat(spec.Directory)
	if errors.Is(err, fs.ErrNotExist) {
		return spec, fmt.Errorf("picosnitch is not running, and there is no history of store %.40q: %w", name, err)
	}
	if err == nil && !info.IsDir() {
		err = syscall.ENOTDIR
	}
	if err != nil {
		return spec, fmt.Errorf("look for the history: %w", err)
	}
	choices, err := readChoices(filepath.Join(s.ConfigDir, config.FileName))
	if err != nil {
		return spec, err
	}
	for _, c := range choices {
		if c.Name == name {
			spec.Path, spec.SHA256, spec.MemoryMB, spec.Config = c.Path, c.SHA256, c.MemoryMB, c.Config
		}
	}
	if spec.Path == "" {
		path, found := findPlugin(s.PluginDirs, name)
		if !found {
			return spec, fmt.Errorf("plugin picosnitch-plugin-%.40s is in none of %q", name, s.PluginDirs)
		}
		spec.Path = path
	}
	return spec, nil
}

// readChoices reads which plugins the configuration speaks of. A missing file has the defaults, and so has one that the
// daemon does not take, or what is wrong in it: the daemon complains about that.
func readChoices(path string) ([]config.PluginChoice, error) {
	data, err := home.ReadFile(path, config.MaxBytes)
	switch {
	case errors.Is(err, fs.ErrNotExist), errors.Is(err, home.ErrUnsafe), errors.Is(err, home.ErrTooLarge):
		return config.Defaults().Plugins(), nil
	case err != nil:
		return nil, err
	}
	c, _ := config.Load(data)
	return c.Plugins(), nil
}
