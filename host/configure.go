package main

import (
	"fmt"
	"path/filepath"

	"github.com/picosnitch/picosnitch/host/internal/config"
	"github.com/picosnitch/picosnitch/host/internal/record"
)

// loadConfig finds a configuration to run on. Whatever is wrong with the file is told, and never stops capture.
func (d *daemon) loadConfig() error {
	loaded, err := d.readConfig()
	if err != nil {
		return err
	}
	problems := d.problemsOf(loaded)
	if len(problems) > 0 && loaded.Source != config.FromFile {
		problems = append(problems, fmt.Sprintf("config.json is not in force, but %s", loaded.Source))
	}
	d.inForce.set(loaded.Config, problems)
	d.edited = loaded.Changed
	d.log.Info("configuration", "from", loaded.Source.String())
	return nil
}

// readConfig reads config.json, or what stands in for it.
func (d *daemon) readConfig() (config.Loaded, error) {
	last, err := record.NewDirectory(d.state.dir)
	if err != nil {
		return config.Loaded{}, err
	}
	return config.Store{Home: d.dir, State: last, Path: filepath.Join(d.settings.ConfigDir, config.FileName)}.Load(), nil
}

// problemsOf logs what is wrong with a configuration.
func (d *daemon) problemsOf(loaded config.Loaded) []string {
	var problems []string
	for _, problem := range loaded.Problems {
		d.log.Warn("configuration", "problem", problem.String())
		problems = append(problems, problem.String())
	}
	return problems
}

// recordOptions is what a configuration says about records.
func (d *daemon) recordOptions(c config.Config) record.Options {
	return record.Options{
		Addresses: c.LogAddresses, Commands: c.LogCommands, Ports: c.LogPorts, EveryExe: c.EveryExe,
		Ignore: record.Ignore(c.Ignore), Unredacted: c.Host.Redaction.Off(),
		Domains: d.names.Names,
	}
}
