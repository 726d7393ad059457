package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

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
		return &exitError{code: exitUsage, err: err}
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

// readChoices reads which plugins the configuration speaks of. A missing file has the defaults, and so has what is wrong in
// a broken one: the daemon complains about it.
func readChoices(path string) ([]config.PluginChoice, error) {
	data, err := readBounded(path)
	if errors.Is(err, fs.ErrNotExist) {
		return config.Defaults().Plugins(), nil
	}
	if err != nil {
		return nil, err
	}
	c, _ := config.Load(data)
	return c.Plugins(), nil
}

// readBounded reads a configuration, at most one byte more than it may have: that is one too many.
func readBounded(path string) ([]byte, error) {
	file, err := os.OpenFile(path, os.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK, 0)
	if err != nil {
		return nil, fmt.Errorf("read the configuration: %w", err)
	}
	defer func() { _ = file.Close() }()
	data, err := io.ReadAll(io.LimitReader(file, config.MaxBytes+1))
	if err != nil {
		return nil, fmt.Errorf("read the configuration: %w", err)
	}
	return data, nil
}
