package main

import (
	"fmt"
	"os"

	"github.com/spf13/cobra"
)

// version is this program's.
const version = "2.0.0-dev"

// versionVerb is version.
func (c *call) versionVerb() *cobra.Command {
	return &cobra.Command{
		Use: "version", Short: "Show the version, and where the files lie",
		Long:    "Show the version and path of this program, and the directory of config.json, the history and the logs.",
		Example: "  picosnitch version",
		RunE: func(cmd *cobra.Command, _ []string) error {
			program, err := os.Executable()
			if err != nil {
				return fmt.Errorf("version: find this program: %w", err)
			}
			fmt.Fprintf(c.out, "version: %s (%s)\n", version, oneLine(program))
			_, dir, err := c.configDir(cmd.Context())
			if err != nil {
				return fmt.Errorf("version: %w", err)
			}
			fmt.Fprintf(c.out, "config and log files: %s\n", oneLine(dir))
			return nil
		},
	}
}
