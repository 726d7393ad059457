package main

import (
	"fmt"
	"path/filepath"

	"github.com/picosnitch/picosnitch/host/internal/config"
	"github.com/picosnitch/picosnitch/host/internal/record"
)

// loadConfig finds a configuration to run on. Whatever is wrong with the file is told, and never stops capture.
func (d *daemon) loadConfig() error {
	last, err := record.NewDirectory(d.state.dir)
	if err != nil {
		return err
	}
	loaded := config.Store{Home: d.dir, State: last, Path: filepath.Join(d.settings.ConfigDir, config.FileName)}.Load()
	d.config, d.problems = loaded.Config, nil
	for _, problem := range loaded.Problems {
		d.log.Warn("configuration", "problem", problem.String())
		d.problems = append(d.problems, problem.String())
	}
	if len(d.problems) > 0 && loaded.Source != config.FromFile {
		d.problems = append(d.problems, fmt.Sprintf("config.json is not in force; %s is", loaded.Source))
	}
	d.log.Info("configuration", "from", loaded.Source.String())
	return nil
}
