package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/spf13/cobra"

	"github.com/picosnitch/picosnitch/host/internal/config"
	"github.com/picosnitch/picosnitch/host/internal/home"
)

const configLong = `Look at config.json, without changing it: check says what is wrong with it, show lists every key with what is in force and the
default. Neither shows a secret.`

// configVerb is config.
func (c *call) configVerb() *cobra.Command {
	verb := &cobra.Command{
		Use: "config", Short: "Check config.json, or show what it says", Long: configLong,
		Example: "  picosnitch config check && sudo pkill -HUP -F /run/picosnitch.pid\n  picosnitch config show",
		RunE: func(*cobra.Command, []string) error {
			return misuse("config: check or show? (see picosnitch help config)")
		},
	}
	verb.AddCommand(c.configCheckVerb(), c.configShowVerb())
	return verb
}

func (c *call) configCheckVerb() *cobra.Command {
	return &cobra.Command{
		Use: "check", Short: "Say what is wrong with config.json",
		Long: "Say what is wrong with config.json: file, line, column, key, what, and what to do. The exit code is 1 if the daemon would not\n" +
			"take the file as it is; a warning names what it would pass over. What stands in `DB sql server` and in a plugin's config is\n" +
			"that plugin's: it says what is wrong with it when it gets it, see picosnitch plugins.",
		Example: "  picosnitch config check",
		RunE: func(cmd *cobra.Command, _ []string) error {
			_, problems, exists, err := c.readConfigFile(cmd.Context())
			if err != nil {
				return fmt.Errorf("config check: %w", err)
			}
			for _, p := range problems {
				fmt.Fprintln(c.out, p.Severity.String()+": "+p.String())
			}
			switch {
			case config.Broken(problems):
				return &exitError{code: exitFindings, err: errors.New("config check: config.json is not put into force like this")}
			case !exists:
				fmt.Fprintln(c.out, "there is no config.json: the defaults are in force")
			case len(problems) == 0:
				fmt.Fprintln(c.out, "config.json is as it should be")
			}
			return nil
		},
	}
}

const configShowLong = `List every key: the 20 of 1.0.3, the settings of the host, and each plugin that is built in or named, with what config.json
says and the default. Secrets, and any text of a plugin's settings that might be one, are ********. docs/config.md explains
the keys. With --json it is an array of {key, value, default, range}.`

func (c *call) configShowVerb() *cobra.Command {
	var asJSON bool
	verb := &cobra.Command{
		Use: "show", Short: "List every key with what is in force", Long: configShowLong,
		Example: "  picosnitch config show\n  picosnitch config show --json | jq '.[] | select(.value != .default)'",
		RunE: func(cmd *cobra.Command, _ []string) error {
			loaded, problems, _, err := c.readConfigFile(cmd.Context())
			if err != nil {
				return fmt.Errorf("config show: %w", err)
			}
			if config.Broken(problems) {
				fmt.Fprintln(c.errs, "picosnitch: config show: config.json is broken (see picosnitch config check): this is what is right in it")
			}
			settings := config.Settings(loaded)
			if asJSON {
				return writeJSON(c.out, settings)
			}
			var rows [][]string
			for _, s := range settings {
				rows = append(rows, []string{oneLine(s.Key), oneLine(string(s.Value)), oneLine(string(s.Default)), s.Range})
			}
			return writeTable(c.out, []heading{{title: "key"}, {title: "value"}, {title: "default"}, {title: "range"}}, rows)
		},
	}
	verb.Flags().BoolVar(&asJSON, "json", false, "answer as a JSON array")
	return verb
}

// readTime bounds reading a file of a user's.
const readTime = 10 * time.Second

// readConfigFile reads config.json as the daemon does, with the rights of its owner. Without one there are the defaults.
func (c *call) readConfigFile(ctx context.Context) (loaded config.Config, problems []config.Problem, exists bool, err error) {
	owner, dir, err := c.configDir(ctx)
	if err != nil {
		return config.Config{}, nil, false, err
	}
	path := filepath.Join(dir, config.FileName)
	data, err := readAs(ctx, owner, dir)
	if errors.Is(err, fs.ErrNotExist) {
		return config.Defaults(), nil, false, nil
	}
	if err != nil {
		return config.Config{}, nil, false, err
	}
	loaded, problems = config.Load(data)
	for i := range problems {
		problems[i].File = path
	}
	return loaded, problems, true, nil
}

// readAs reads config.json with the rights of owner, or of the caller, who may be somebody else.
func readAs(ctx context.Context, owner home.Owner, dir string) ([]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, readTime)
	defer cancel()
	if uid := os.Geteuid(); uid != 0 {
		owner.UID = uint32(uid)
	}
	read := make(chan []byte, 1)
	err := home.As(ctx, owner, func() error {
		data, err := home.ReadFile(filepath.Join(dir, config.FileName), config.MaxBytes)
		if err == nil {
			read <- data
		}
		return err
	})
	if err != nil {
		return nil, err
	}
	return <-read, nil
}
